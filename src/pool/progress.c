/* SPDX-License-Identifier: MIT */
/* What a running call and its owner tell each other: that it is to stop, and how far it is. The task's side is in
 * task.c. Any thread. */
#include "base/atomic.h"
#include "base/cancel.h"
#include "base/error.h"
#include "pool/future.h"
#include "pool/inline.h"
#include "pool/pool.h"
#include "pool/workers.h"
#include "process/owner.h"

#include <errno.h>

static int check(const pp_future *future, const void *place, const char *caller)
{
    if (!future || !place)
        return pp__fail(-EINVAL, "%s: no %s", caller, future ? "place for the progress" : "future");
    return pp__pool_is_own(pp__future_pool(future)) ? 0 : pp__owner_refuse();
}

/* ----------------------------------------------------------------------------------------------- stop */

/* Under the lock; it runs. */
static void ask_to_stop(struct pp__item *item)
{
    _Atomic uint64_t *word =
        item->worker ? &item->worker->call_side->stop : &pp__inline_words(pp__item_pool(item), item->id)->stop;
    item->stopping = true;
    pp__store_release(word, item->id + 1); /* pairs with the load in pp_task_cancelled (task.c) */
}

/* Under the lock. */
static int request_stop(pp_future *future)
{
    struct pp__item *item = &future->item;
    int code = pp__future_cancel(future);
    if (code != -EBUSY)
        return code;
    if (item->promised)
        return -ENOTSUP;
    if (pp__inline_runs(pp__item_pool(item), item) || !pp__future_give_up(future))
        ask_to_stop(item);
    return 0;
}

int pp_future_request_stop(pp_future *future)
{
    PP__NO_CANCELLATION();
    int code = check(future, future, "pp_future_request_stop");
    if (code)
        return code;
    pp__pool_lock(pp__future_pool(future));
    code = request_stop(future);
    pp__pool_unlock(pp__future_pool(future));
    if (code)
        pp__fail(code, "call %llu %s", (unsigned long long)future->item.id,
                 code == -EALREADY ? "has ended" : "is the program's own");
    return code;
}

/* ------------------------------------------------------------------------------------------- progress */

/*
 * The call's own value, if it has not ended when its worker's results are taken in after this. Whatever a broken worker
 * writes is a number. Each load pairs with its store in pp_task_progress (task.c): a value of a later call would show
 * the result of this one.
 */
static uint64_t read_progress(const struct pp__item *item)
{
    const struct pp__progress *progress = NULL;
    if (item->worker)
        progress = &item->worker->result_side->progress;
    else if (pp__inline_runs(pp__item_pool(item), item))
        progress = &pp__inline_words(pp__item_pool(item), item->id)->progress;
    if (!progress || pp__load_acquire(&progress->id) != item->id + 1)
        return 0;
    return pp__load_acquire(&progress->value);
}

/* Under the lock. */
static int look_at_progress(pp_future *future, uint64_t *value)
{
    *value = pp__future_is_done(future) ? 0 : read_progress(&future->item);
    pp__future_refresh(future);
    return pp__future_is_done(future) ? -EALREADY : 0;
}

int pp_future_progress(pp_future *future, uint64_t *progress)
{
    PP__NO_CANCELLATION();
    uint64_t value;
    int code = check(future, progress, "pp_future_progress");
    if (code)
        return code;
    pp__pool_lock(pp__future_pool(future));
    code = look_at_progress(future, &value);
    pp__pool_unlock(pp__future_pool(future));
    if (code)
        return pp__fail(code, "call %llu has ended", (unsigned long long)future->item.id);
    *progress = value;
    return 0;
}
