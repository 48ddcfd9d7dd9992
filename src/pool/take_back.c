/* SPDX-License-Identifier: MIT */
#include "pool/take_back.h"

#include "base/atomic.h"
#include "base/clock.h"
#include "base/seam.h"
#include "pool/argument.h"
#include "pool/collect.h"
#include "pool/dispatch.h"
#include "pool/end.h"
#include "pool/recycle.h"

bool pp__worker_lost_slot(const struct pp__worker *worker, const struct pp__item *item)
{
    uint64_t word = pp__worker_slot_word(worker, item);
    return word != worker->slots[item->slot].before && (word >> 2) - item->id >= pp__item_count(item);
}

static bool take(struct pp__worker *worker, const struct pp__item *item, uint64_t before, uint64_t id)
{
    PP_FAULT("take_back.before");
    if (!pp__slot_take(&worker->result_side->slots[item->slot], before, id))
        return false;
    worker->slots[item->slot].taken = true;
    return true;
}

/* Against pp__begin (worker_run.h): one of the two wins. */
static bool take_unbegun(struct pp__worker *worker, const struct pp__item *item)
{
    return take(worker, item, worker->slots[item->slot].before, pp__item_next_id(item));
}

/* Against pp__begin: the worker then begins nothing behind `id`, which it has begun last. */
static bool take_rest(struct pp__worker *worker, const struct pp__item *item, uint64_t id)
{
    return take(worker, item, pp__slot_word(id, PP__SLOT_BEGUN), id);
}

/* Not begun at all, or a chunk between two elements: the one before was taken in, and its slot says that the next has
 * not begun. */
bool pp__worker_take_back(struct pp__worker *worker, struct pp__item *item)
{
    bool between = pp__item_next(item) > 0 && !worker->poisoned;
    if (!take_unbegun(worker, item) && !(between && take_rest(worker, item, pp__item_next_id(item) - 1)))
        return false;
    if ((!item->plain || item->lends) && pp__item_next(item) == 0)
        pp__argument_doubt_brought(worker, item);
    pp__worker_detach(worker, item);
    pp__recycle_refund(worker, pp__item_count(item) - pp__item_next(item));
    return true;
}

/* From the youngest on, so that what is left is a prefix. */
void pp__worker_take_back_most(struct pp__worker *worker, uint32_t left)
{
    while (worker->count > left) {
        struct pp__item *item = pp__container(worker->items.previous, struct pp__item, link);
        if (!pp__worker_take_back(worker, item))
            break;
        pp__pending_insert(worker->pool, item);
    }
}

void pp__worker_take_back_all(struct pp__worker *worker)
{
    pp__worker_take_back_most(worker, 0);
}

void pp__worker_note_stuck(struct pp__worker *worker)
{
    worker->stuck_end = worker->calls.published;
    worker->stuck_since = pp__now();
    pp__worker_place(worker);
}

void pp__worker_give_up(struct pp__worker *worker)
{
    pp__worker_take_back_all(worker);
    if (worker->count == 0)
        pp__worker_note_stuck(worker);
    pp__pool_log(worker->pool, "worker %d (pid %d) does not begin its calls, others get them", worker->number,
                 (int)worker->pid);
}

bool pp__worker_is_stuck(struct pp__worker *worker)
{
    if (worker->stuck_end && pp__ring_passed(&worker->calls, worker->stuck_end)) {
        worker->stuck_end = 0;
        pp__worker_place(worker);
    }
    return worker->stuck_end != 0;
}

bool pp__worker_set_aside(struct pp__worker *worker)
{
    if (worker->count == 0)
        pp__worker_note_stuck(worker);
    return pp__worker_is_stuck(worker);
}

struct pp__item *pp__worker_running(struct pp__worker *worker, uint64_t *id, uint64_t *begun_at)
{
    if (worker->count == 0)
        return NULL;
    struct pp__item *item = pp__container(worker->items.next, struct pp__item, link);
    uint64_t word = pp__worker_slot_word(worker, item);
    uint64_t begun = pp__load_relaxed(&worker->result_side->begun_at[item->slot]);
    uint64_t earliest = pp__worker_front_since(worker, item);
    uint64_t now = pp__now();
    uint64_t last = (word >> 2) - item->id; /* of those that have begun, together perhaps */
    if ((word & 3) == PP__SLOT_READY || last < pp__item_next(item) || last >= pp__item_count(item)) /* or older ids */
        return NULL;
    *id = pp__item_next_id(item);
    *begun_at = begun >= pp__worker_sent_at(worker, item) && begun <= now ? begun : earliest;
    return item;
}

/* The worker may step on between the look and the cas, and may be ahead of the results that were taken in; it is not
 * followed for ever. */
void pp__worker_stop_chunk(struct pp__worker *worker, struct pp__item *item)
{
    for (int tries = 0; tries < 64; tries++) {
        uint64_t word = pp__worker_slot_word(worker, item), at = (word >> 2) - item->id;
        if ((word & 3) != PP__SLOT_BEGUN || at < pp__item_next(item) || at >= pp__item_end(item) - 1)
            return;
        if (take_rest(worker, item, word >> 2)) {
            item->x.end = (uint32_t)at + 1;
            return;
        }
    }
}

void pp__worker_stop_chunks(struct pp__worker *worker)
{
    for (struct pp__link *link = worker->items.next; link != &worker->items; link = link->next)
        pp__worker_stop_chunk(worker, pp__container(link, struct pp__item, link));
}

/*
 * Whether the worker runs the item's next element, and can run nothing behind it any more. Between seeing that an
 * element runs and a kill, it can end and another begin. So: what has not begun goes back, what has ended is taken in,
 * the chunk is stopped behind the element; only if that still runs is the worker to be killed.
 */
bool pp__worker_corner(struct pp__worker *worker, struct pp__item *item)
{
    uint64_t target = pp__item_next_id(item);
    uint32_t slot = item->slot;
    pp__worker_take_back_all(worker);
    if (worker->count == 0) { /* it was between two elements */
        pp__worker_note_stuck(worker);
        return false;
    }
    /* Results of the elements below it were published before: one with a time limit is begun alone, and so is a call.
     */
    uint64_t at = pp__worker_slot_word(worker, item) >> 2;
    pp__collect_worker(worker);
    if (worker->poisoned || worker->slots[slot].item != item || pp__item_next_id(item) != target)
        return false;
    if (at != target || &item->link != worker->items.next) {
        pp__worker_poison(worker, "a slot that is not the one of the call it runs");
        return false;
    }
    bool last = pp__item_end(item) == pp__item_next(item) + 1; /* or stopped there */
    if (!last && !take_rest(worker, item, target)) {
        if (pp__worker_slot_word(worker, item) >> 2 == target)
            pp__worker_poison(worker, "a slot that was not taken back");
        return false; /* else it went on, and the kill would hit the element behind */
    }
    if (!item->plain)
        item->x.end = item->x.next + 1;
    return true;
}
