/* SPDX-License-Identifier: MIT */
/* A live pool gets another number of workers. Any thread. */
#include "base/cancel.h"
#include "base/error.h"
#include "base/seam.h"
#include "pool/dispatch.h"
#include "pool/limits.h"
#include "pool/recycle.h"
#include "process/owner.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The places never become fewer. */
static int make_places(pp_pool *pool, int count)
{
    if (count <= pool->places)
        return 0;
    struct pp__worker **grown = PP_SYS(calloc)((size_t)count, sizeof *grown);
    if (!grown)
        return pp__fail(-ENOMEM, "no memory for a pool of %d workers", count);
    memcpy(grown, pool->workers, (size_t)pool->places * sizeof *grown);
    free(pool->workers);
    pool->workers = grown;
    pool->places = count;
    return 0;
}

/*
 * One that still runs what it had when its place was taken from it gets that back: no other may run under its number.
 * One that has had its calls, or has grown too large, only waits there for a successor.
 */
static void reinstate(struct pp__worker *worker)
{
    pp_pool *pool = worker->pool;
    bool may = worker->state == PP__WORKER_READY || (worker->state == PP__WORKER_STARTING && !worker->predecessor);
    if (worker->seated || !may || worker->number >= pool->max_workers || pool->workers[worker->number])
        return;
    worker->withdrawn = worker->budget <= 0 || worker->overgrown;
    worker->wants_successor |= worker->withdrawn;
    if (!worker->withdrawn && pool->options.max_tasks)
        worker->look_at = worker->budget; /* at the next call: it may have been past its last one */
    pp__worker_seat(worker);
    pp__worker_place(worker);
}

/* Before those that have nothing to run, as one that was started to succeed it. */
static void reinstate_busy(struct pp__worker *worker)
{
    if (worker->count > 0)
        reinstate(worker);
}

static int resize(pp_pool *pool, int count)
{
    int error = pp__pool_accepts(pool);
    if (!error && count < pool->options.min_workers)
        error = pp__fail(-EINVAL, "max_workers can't be %d, as min_workers is %d", count, pool->options.min_workers);
    if (!error)
        error = make_places(pool, count);
    if (error)
        return error;
    pool->max_workers = count;
    if (pool->page)
        pp__store_relaxed(&pool->page->shelf_most, 0); /* until the next large payload, which shares anew */
    for (int i = count; i < pool->places; i++)
        if (pool->workers[i])
            pp__recycle_retire(pool->workers[i]);
    pp__workers_each(pool, reinstate_busy);
    pp__workers_each(pool, reinstate);
    pp__dispatch(pool);
    pp__wait_attend(pool);
    return 0;
}

int pp_pool_resize(pp_pool *pool, int max_workers)
{
    PP__NO_CANCELLATION();
    if (!pool)
        return pp__fail(-EINVAL, "pp_pool_resize: no pool");
    if (max_workers < 0 || max_workers > PP__MAX_WORKERS)
        return pp__fail(-EINVAL, "max_workers is %d; it must be 0 (the default) to %d", max_workers, PP__MAX_WORKERS);
    if (!pp__pool_is_own(pool))
        return pp__owner_refuse();
    int count = max_workers ? max_workers : pp_usable_processors();
    count = count < PP__MAX_WORKERS ? count : PP__MAX_WORKERS;
    pp__pool_lock(pool);
    int more = pool->is_inline ? 0 : count - pool->max_workers;
    pp_launcher *launcher = more > 0 ? pp_launcher_ref(pool->launcher) : NULL; /* NULL: the pool has ended */
    pp__pool_unlock(pool);
    int error = launcher ? pp__limits_check(&pool->options, launcher, more, 0) : 0; /* reads files: without the lock */
    pp_launcher_unref(launcher);
    if (error)
        return error;
    pp__pool_lock(pool);
    error = resize(pool, count);
    pp__pool_unlock(pool);
    return error;
}
