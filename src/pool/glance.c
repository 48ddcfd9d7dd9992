/* SPDX-License-Identifier: MIT */
#include "pool/glance.h"

#include "base/cancel.h"
#include "base/error.h"
#include "base/seam.h"
#include "base/spin.h"
#include "pool/collect.h"
#include "pool/dispatch.h"
#include "pool/exit_start.h"
#include "pool/future.h"
#include "shm/segment.h"

#include <errno.h>
#include <stdlib.h>

/* Some microseconds, for which no clock is read. */
#define LOOKS 256

/* Addresses of a result side, a worker's or, in the pool's list, nobody's. NULL: it was not there yet. `next` of a
 * worker's is another that it has. */
struct pp__site {
    struct pp__site *next;
    void *memory;
};

static struct pp__worker *busy_one(const pp_pool *pool)
{
    for (struct pp__link *link = pool->active.next; link != &pool->active; link = link->next) {
        struct pp__worker *worker = pp__container(link, struct pp__worker, place);
        if (worker->count > 0)
            return worker;
    }
    return NULL;
}

/* Whether nothing follows from the end of its call but that, and it ends as most do. */
static bool take_plain(pp_pool *pool, struct pp__worker *worker)
{
    if (pool->outstanding != 1 || worker->state != PP__WORKER_READY || worker->withdrawn || pool->shut ||
        !pp__dispatch_is_quiet(pool))
        return false;
    const struct pp__item *item = pp__container(worker->items.next, struct pp__item, link);
    return !item->waited_for && !item->has_callbacks && pp__collect_plain(worker);
}

static void take(pp_pool *pool)
{
    pp__pool_lock(pool);
    struct pp__worker *worker = busy_one(pool);
    if (!worker || !take_plain(pool, worker)) {
        PP__NO_CANCELLATION();
        pp__collect(pool);
    }
    pp__pool_unlock(pool);
}

/* Relaxed: what is seen is looked at again under the lock. */
bool pp__glance(const pp_future *future)
{
    pp_pool *pool = pp__future_pool(future);
    const _Atomic uint32_t *mark = pp__load_relaxed(&pool->glance);
    if (!mark || pp__load_relaxed(&pool->glance_id) != future->item.id)
        return false;
    pp__exit_watch_once();
    for (int looks = 0; pp__load_relaxed(mark) == 0; looks++) {
        if (looks == LOOKS)
            return false;
        if (pp__future_is_done(future))
            return true; /* another thread has taken it */
        pp__spin_rest();
    }
    take(pool);
    return pp__future_is_done(future);
}

struct pp__site *pp__glance_site(pp_pool *pool)
{
    struct pp__site *site = pool->sites;
    if (!site)
        return PP_SYS(calloc)(1, sizeof *site);
    pool->sites = site->next;
    site->next = NULL;
    return site;
}

/* Where it can't be put there, it stays where it is, and has the site too. */
int pp__glance_settle(struct pp__worker *worker)
{
    struct pp__site *site = worker->site;
    if (!site->memory) {
        site->memory = worker->result_side;
    } else if (pp__segment_move(worker->result_side, sizeof *worker->result_side, site->memory)) {
        worker->result_side = site->memory;
    } else {
        struct pp__site *own = PP_SYS(malloc)(sizeof *own);
        if (!own)
            return pp__fail(-ENOMEM, "no memory for a worker");
        *own = (struct pp__site){.next = site, .memory = worker->result_side};
        worker->site = own;
    }
    return 0;
}

/* What was not settled nobody has looked at. */
void pp__glance_vacate(struct pp__worker *worker)
{
    struct pp__site *site = worker->site, *last = site;
    if (worker->result_side == site->memory)
        pp__segment_vacate(site->memory, sizeof *worker->result_side);
    else
        pp__segment_unmap(worker->result_side, sizeof *worker->result_side);
    if (!site->memory) {
        free(site);
        return;
    }
    while (last->next)
        last = last->next;
    last->next = worker->pool->sites;
    worker->pool->sites = site;
}

void pp__glance_free(pp_pool *pool)
{
    struct pp__site *site;
    while ((site = pool->sites)) {
        pool->sites = site->next;
        pp__segment_unmap(site->memory, sizeof(struct pp__result_side));
        free(site);
    }
}
