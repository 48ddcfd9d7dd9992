/* SPDX-License-Identifier: MIT */
#include "pool/lost.h"

#include "base/atomic.h"
#include "base/fd.h"
#include "pool/log.h"
#include "pool/workers.h"

void pp__lost_count(pp_pool *pool, const char *what)
{
    if (pool->lost_wakes++ == 0)
        pp__pool_log(pool,
                     "a wake was lost: %s. It was made up for after some milliseconds, but is a defect of the library",
                     what);
}

/* One that has rung since the sleep has ended; or somebody else was told, and does not have the lock yet. */
static bool may_have_rung(const pp_pool *pool)
{
    struct pollfd set = {.fd = pool->epoll, .events = POLLIN};
    return pool->in_epoll > 0 || pp__fd_look(&set, 1) != 0;
}

/*
 * A worker publishes, rings, and then says that it sleeps; and says that it does not before it publishes more. So where
 * it says so behind a look that saw a result, it has rung for that result, or never will.
 */
static bool has_not_rung(struct pp__worker *worker, uint64_t below)
{
    return !worker->poisoned && worker->pid != 0 && worker->count > 0 &&
           pp__item_next_id(pp__container(worker->items.next, struct pp__item, link)) < below &&
           pp__ring_waiting(&worker->results) &&
           pp__load_relaxed(&worker->result_side->sleeping) != 0 /* behind the acquire in pp__ring_waiting */ &&
           !may_have_rung(worker->pool);
}

void pp__lost_look(pp_pool *pool, uint64_t below)
{
    for (struct pp__link *link = pool->active.next; link != &pool->active; link = link->next) {
        if (!has_not_rung(pp__container(link, struct pp__worker, place), below))
            continue;
        pp__lost_count(pool, "that of who takes results, for one of a worker that sleeps now");
        return;
    }
}
