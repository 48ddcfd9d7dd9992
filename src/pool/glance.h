/* SPDX-License-Identifier: MIT */
/*
 * A glance: who waits for the only call that there is, of a worker that is awake, looks for its result before it takes
 * the lock, and takes that without taking the duty (wait.h). So one call after the other costs the lock twice, once to
 * submit and once to collect, and the manager sleeps on in epoll meanwhile, as nobody relieves it.
 *
 * What is looked at without the lock lies in a worker's channel, and the worker may end meanwhile: so the addresses of
 * its result side stay readable for as long as the pool is there. They are the next worker's then, so that there are as
 * many of them as there were workers at one time.
 */
#ifndef PP_POOL_GLANCE_H
#define PP_POOL_GLANCE_H

#include "base/atomic.h"
#include "pool/workers.h"

/* The worker has got its only call. Under the lock; relaxed, for the loads in pp__glance: a hint, which is right until
 * more calls are sent, and of which either half may be older. */
static inline void pp__glance_at(const struct pp__worker *worker, bool sleeps)
{
    pp_pool *pool = worker->pool;
    bool alone = !sleeps && pool->busy == 1 && pool->processors > 1 && pool->collector.impatient == 0 &&
                 pool->spin_limit >= PP__SPIN_MAX / 2;
    pp__store_relaxed(&pool->glance, alone ? pp__ring_mark(&worker->results) : NULL);
    pp__store_relaxed(&pool->glance_id, pp__container(worker->items.next, struct pp__item, link)->id);
}

/* Looks for some microseconds: whether the future is done. */
bool pp__glance(const pp_future *future);

/*
 * The addresses of a new worker's result side, those of an ended one's if there are some, or NULL without memory; under
 * the lock. That side, which was just mapped, is put there, without the lock, or if that can't be (a filter that
 * refuses mremap), it stays where it is, and has addresses of its own besides: 0 or -ENOMEM. At the worker's end
 * nothing is left of it but the addresses; under the lock. All of them go at the pool's very end.
 */
struct pp__site *pp__glance_site(pp_pool *pool);
int pp__glance_settle(struct pp__worker *worker);
void pp__glance_vacate(struct pp__worker *worker);
void pp__glance_free(pp_pool *pool);

#endif
