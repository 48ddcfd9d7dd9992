/* SPDX-License-Identifier: MIT */
#ifndef PP_POOL_FUTURE_H
#define PP_POOL_FUTURE_H

#include "base/atomic.h"
#include "pool/item.h"
#include "procpool.h"

/*
 * A submitted call: its work item and its future are one, in the pool's slab. The item holds one reference until it has
 * ended, the submitter another if it wanted a future.
 *
 * Everything but refs, state and id under the pool's lock; state is written there with release, and what came before it
 * (outcome) stays as it is and may be read without the lock by who saw PP_FINISHED with acquire. The id is there before
 * anybody has it.
 */
struct pp_future {
    struct pp__item item;
};

static inline pp_pool *pp__future_pool(const pp_future *future)
{
    return pp__item_pool(&future->item);
}

/* A call of a function of the pool's from the slab, under the lock: NULL without memory. `wanted`: somebody gets its
 * future. The item is zeroed but for what makes it this call's. */
pp_future *pp__future_create(pp_pool *pool, const struct pp__function *function, bool wanted);

static inline int pp__future_state(const pp_future *future)
{
    return pp__load_acquire(&future->item.state) & ~PP__TAKEN; /* pairs with the store in finish: the outcome is seen */
}

static inline bool pp__future_is_done(const pp_future *future)
{
    return pp__future_state(future) > PP_RUNNING;
}

/* Makes one that is just created the program's own, and sets its id. */
void pp__future_promise(pp_future *future, uint64_t id);

/* A promised one, pending or cancelled, is running from now on, or cancelled and notified. Under the lock. */
void pp__future_begin(pp_future *future);

/* A call in an inline pool's queue that nothing but its callbacks is left to want; and its end, once the pool's handle
 * is gone too. Under the lock. */
bool pp__future_is_forsaken(const struct pp__item *item);
void pp__future_cancel_forsaken(struct pp__item *item);

/* The outcome of the item's call. Under the lock. */
void pp__future_deliver(struct pp__item *item, struct pp__outcome outcome);

/* The end of a plain call, whose result of `size` bytes lies at `data`, a block or its room: as pp__item_deliver, but
 * that nothing is left to be written for another try. Under the lock; the item is gone. */
void pp__future_end_plain(struct pp__item *item, void *data, size_t size);

/* What the worker has done meanwhile is taken in: nobody else may be looking. Under the lock. */
void pp__future_refresh(pp_future *future);

/* As pp_future_cancel, without a text for its failures. Under the lock. */
int pp__future_cancel(pp_future *future);

/* One that waits to be tried again is not: it ends with the error of its last try. False: it has begun. Under the lock.
 */
bool pp__future_give_up(pp_future *future);

/* The item has ended: gives up its reference. */
void pp__future_item_ended(struct pp__item *item);

#endif
