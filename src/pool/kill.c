/* SPDX-License-Identifier: MIT */
/* Killing on request: one running call, or all workers of a pool. Any thread; nothing here waits for a death. */
#include "base/cancel.h"
#include "base/error.h"
#include "pool/dispatch.h"
#include "pool/end.h"
#include "pool/future.h"
#include "pool/inline.h"
#include "pool/pool.h"
#include "pool/workers.h"
#include "process/owner.h"

#include <errno.h>

static int ended(const pp_future *future)
{
    return pp__future_state(future) == PP_FINISHED ? -EALREADY : 0;
}

/* One that a worker has begun, as far as known. Under the lock. */
static int kill_running(pp_future *future)
{
    struct pp__item *item = &future->item;
    pp__worker_kill_on_request(item->worker, item);
    if (!item->worker && !pp__future_is_done(future))
        pp__future_give_up(future);       /* its slot said once more that it has not begun */
    pp__dispatch(pp__item_pool(item));    /* what waited behind it moves on */
    pp__wait_attend(pp__item_pool(item)); /* somebody is to hear of the death */
    return pp__future_is_done(future) ? ended(future) : 0;
}

/* Under the lock. */
static int kill_call(pp_future *future)
{
    struct pp__item *item = &future->item;
    int code = pp__future_cancel(future);
    if (code != -EBUSY)
        return code;
    if (item->promised || pp__inline_runs(pp__item_pool(item), item))
        return -ENOTSUP;
    return pp__future_give_up(future) ? 0 : kill_running(future);
}

int pp_future_kill(pp_future *future)
{
    PP__NO_CANCELLATION();
    if (!future)
        return pp__fail(-EINVAL, "pp_future_kill: no future");
    if (!pp__pool_is_own(pp__future_pool(future)))
        return pp__owner_refuse();
    pp__pool_lock(pp__future_pool(future));
    int code = kill_call(future);
    pp__pool_unlock(pp__future_pool(future));
    if (code)
        pp__fail(code, "call %llu %s", (unsigned long long)future->item.id,
                 code == -EALREADY ? "has ended" : "runs in this process, which is not killed for it");
    return code;
}

static void doom(struct pp__worker *worker)
{
    worker->doomed = true;
}

/* A worker without a call goes as told, or dies on its way. */
static int end_workers(pp_pool *pool, void (*end)(struct pp__worker *worker), const char *caller)
{
    if (!pool)
        return pp__fail(-EINVAL, "%s: no pool", caller);
    if (!pp__pool_is_own(pool))
        return pp__owner_refuse();
    pp__pool_lock(pool);
    pp__pool_begin_shutdown(pool, true);
    pp__workers_each(pool, doom);
    pp__workers_each(pool, end);
    if (!pool->ended)
        pp__wait_attend(pool);
    pp__pool_unlock(pool);
    return 0;
}

int pp_pool_terminate(pp_pool *pool)
{
    PP__NO_CANCELLATION();
    return end_workers(pool, pp__worker_terminate, "pp_pool_terminate");
}

int pp_pool_kill(pp_pool *pool)
{
    PP__NO_CANCELLATION();
    return end_workers(pool, pp__worker_kill, "pp_pool_kill");
}
