/* SPDX-License-Identifier: MIT */
/*
 * Large arguments in buffers of the worker that gets them. A call for which a worker is idle is written straight into a
 * buffer on that worker's shelf, its home, and lies only there; what was gathered elsewhere is copied into one when it
 * is sent. A buffer that a worker has mapped never carries another worker's arguments: a call that goes to another
 * worker than its home, or outlives it, moves into memory of its own.
 *
 * Under the pool's lock, but for pp__loan_open and pp__loan_elements.
 */
#ifndef PP_POOL_ARGUMENT_H
#define PP_POOL_ARGUMENT_H

#include "pool/pool.h"

/* A buffer on the shelf of a worker to which a thread writes before its call exists. The worker may end meanwhile. */
struct pp__loan {
    uint64_t worker; /* its serial */
    int place;
    void *memory;
    size_t room;
    int fd;         /* not sent yet, or -1 */
    uint64_t ahead; /* ns before all is written that the worker is to be woken; 0: it would not wait for the call */
};

/* Takes one for elements of `size` bytes, if a worker is idle, and makes its memory if there is none. Takes the lock
 * for a moment. */
bool pp__loan_open(pp_pool *pool, uint64_t size, struct pp__loan *loan);

/* Where they are to be written, with pp__item_add. */
void *pp__loan_elements(const struct pp__loan *loan);

/* Wakes the worker: its call is about to come. Takes the lock for a moment. */
void pp__loan_announce(pp_pool *pool, const struct pp__loan *loan);

/* Whether the worker is still there, and would get it at once if it is too large to be copied elsewhere. */
bool pp__loan_stands(pp_pool *pool, const struct pp__loan *loan);

/* It stands, and is what `item`, a call's, has from now on: elements of `size` bytes. */
void pp__loan_turn_over(pp_pool *pool, const struct pp__loan *loan, struct pp__item *item, uint64_t size);

/* It is not used. */
void pp__loan_close(pp_pool *pool, const struct pp__loan *loan);

/* Before `item` is sent to the worker: its large elements lie on that one's shelf (1, item->place), or have to be sent
 * by item->fd or as a copy (0); or an errno that fails this item alone. */
int pp__argument_arrange(struct pp__worker *worker, struct pp__item *item);

/* An item with a place is no longer the worker's: a copy there is not needed. */
void pp__argument_withdraw(struct pp__worker *worker, struct pp__item *item);

/* The worker may not have got what was sent with the item. */
void pp__argument_doubt(struct pp__worker *worker, const struct pp__item *item);

/* The item is taken back before it has begun: where what was sent with it has not come, nobody will tell. */
void pp__argument_doubt_brought(struct pp__worker *worker, const struct pp__item *item);

/* The item leaves its home. */
void pp__argument_leave(struct pp__item *item);

/* The worker goes: what is to be sent to others moves. */
void pp__argument_evacuate(struct pp__worker *worker);

#endif
