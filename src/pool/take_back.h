/* SPDX-License-Identifier: MIT */
/*
 * Take back: what a worker was sent and has not begun, and what follows where it does not begin or where what it runs
 * is to end. All under the pool's lock.
 */
#ifndef PP_POOL_TAKE_BACK_H
#define PP_POOL_TAKE_BACK_H

#include "pool/workers.h"

/* Whether it has certainly not begun the item: the slot still says so. */
static inline bool pp__worker_unbegun(const struct pp__worker *worker, const struct pp__item *item)
{
    return pp__worker_slot_word(worker, item) == worker->slots[item->slot].before;
}

/* Whether the item's slot says what neither side can have written there: it is never seen to begin. */
bool pp__worker_lost_slot(const struct pp__worker *worker, const struct pp__item *item);

/* Takes an item back that it has not begun: true, and it belongs to nobody. */
bool pp__worker_take_back(struct pp__worker *worker, struct pp__item *item);

/* Takes back all that it has not begun, into the pending queue; or as much of that as leaves it `left` calls. */
void pp__worker_take_back_all(struct pp__worker *worker);
void pp__worker_take_back_most(struct pp__worker *worker, uint32_t left);

/* It does not begin what it was given: its calls go back, and it gets none before it has gone on. */
void pp__worker_give_up(struct pp__worker *worker);
bool pp__worker_is_stuck(struct pp__worker *worker);

/* What its ring has now is in its way: it gets nothing before it has passed that. */
void pp__worker_note_stuck(struct pp__worker *worker);

/* It had no room for an item. True: it has no calls either, so what was taken back fills its ring and slots, and it
 * gets none before it has passed that; another worker is to be asked. */
bool pp__worker_set_aside(struct pp__worker *worker);

/* The item of which an element runs, with *id and *begun_at as far as plausible; NULL if none has begun. */
struct pp__item *pp__worker_running(struct pp__worker *worker, uint64_t *id, uint64_t *begun_at);

/* A chunk that has begun ends behind the last element that was begun, and the rest goes back when that has ended. To be
 * called when taking back has failed. */
void pp__worker_stop_chunk(struct pp__worker *worker, struct pp__item *item);

/* The same for all that it has begun. */
void pp__worker_stop_chunks(struct pp__worker *worker);

/* Before a kill for the item's next element: true when that runs and nothing behind it can. All that the worker has not
 * begun goes back, what has ended is collected, and the item may have ended so. */
bool pp__worker_corner(struct pp__worker *worker, struct pp__item *item);

#endif
