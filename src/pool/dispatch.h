/* SPDX-License-Identifier: MIT */
/* Dispatch: from the pending queue into call rings. Never blocks. Under the pool's lock. */
#ifndef PP_POOL_DISPATCH_H
#define PP_POOL_DISPATCH_H

#include "pool/wish.h"

/* Sends what can be sent and starts the workers that are missing for the rest. */
void pp__dispatch(pp_pool *pool);

/* Sends a plain or simple item that was just added and is not in the queue, where nothing else is to be done. False: it
 * is to be put there, and pp__dispatch called. No cancellation point. */
bool pp__dispatch_single(pp_pool *pool, struct pp__item *item);

/* Nothing is to be done but to send what comes. */
static inline bool pp__dispatch_is_quiet(const pp_pool *pool)
{
    return pool->pending_count == 0 && !pool->cancelling && !pool->broken && !pool->is_inline && !pool->recycle_due &&
           !pool->wishes && pool->alive >= pool->options.min_workers && pp__list_empty(&pool->blocked);
}

/* A worker that waits for calls and would get the next one, or NULL. */
struct pp__worker *pp__dispatch_idle(const pp_pool *pool);

/* Puts an item (new, or taken back) into the pending queue by its priority and id. */
void pp__pending_insert(pp_pool *pool, struct pp__item *item);
void pp__pending_remove(pp_pool *pool, struct pp__item *item);

/* Whose turn it is; NULL: nothing is pending. */
static inline struct pp__item *pp__pending_first(const pp_pool *pool)
{
    if (pool->wishes)
        return pp__wishes_first(pool);
    return pp__list_empty(&pool->pending) ? NULL : pp__container(pool->pending.next, struct pp__item, link);
}

/* A worker could not be started, for this errno: the next try comes after a pause that grows; the pool breaks when that
 * goes on for too long and no worker is alive. */
void pp__dispatch_start_failed(pp_pool *pool, int error);

/* An element has run for so many ns: depth follows. A moving mean; the first measure counts whole. */
static inline void pp__dispatch_learn(pp_pool *pool, uint64_t run_time)
{
    uint64_t mean = pool->mean_run;
    pool->mean_run = mean == 0 ? run_time + 1 : mean - mean / 8 + run_time / 8 + 1;
}

/* Calls are trivial that are over before the next one can be submitted, ns. One worker keeps up with all of these, and
 * falls behind only while it is woken or has lost its processor. */
#define PP__TRIVIAL 300

static inline bool pp__dispatch_is_trivial(const pp_pool *pool)
{
    return pool->mean_run < PP__TRIVIAL;
}

/* Calls queued behind one that has outlasted what depth was reckoned with go back to the pending queue. Returns when to
 * look again, or PP__NEVER. */
uint64_t pp__dispatch_rebalance(pp_pool *pool, uint64_t now);

#endif
