/* SPDX-License-Identifier: MIT */
/* Futures that the program completes itself: no call stands behind them, all else is as with those of calls. */
#include "base/cancel.h"
#include "base/error.h"
#include "pool/block.h"
#include "pool/future.h"
#include "pool/pool.h"
#include "process/owner.h"

#include <errno.h>
#include <string.h>

static const char *name_of(int state)
{
    static const char *const names[] = {[PP_PENDING] = "pending",
                                        [PP_RUNNING] = "running",
                                        [PP_CANCELLED] = "cancelled",
                                        [PP_CANCELLED_AND_NOTIFIED] = "cancelled",
                                        [PP_FINISHED] = "finished"};
    return names[state];
}

int pp_future_create(pp_pool *pool, pp_future **future)
{
    PP__NO_CANCELLATION();
    if (!pool || !future)
        return pp__fail(-EINVAL, "pp_future_create: no %s", pool ? "place for the future" : "pool");
    if (!pp__pool_is_own(pool))
        return pp__owner_refuse();
    pp__pool_lock(pool);
    pp_future *created = pp__future_create(pool, &pool->promise, true);
    if (created)
        pp__future_promise(created, pool->next_id++);
    pp__pool_unlock(pool);
    if (!created)
        return -ENOMEM;
    *future = created;
    return 0;
}

static int check(const pp_future *future, const char *caller)
{
    if (!future)
        return pp__fail(-EINVAL, "%s: no future", caller);
    if (!pp__pool_is_own(pp__future_pool(future)))
        return pp__owner_refuse();
    return 0;
}

/* The program's own future, in one of two states. Under the lock. */
static int check_state(const pp_future *future, int state, int other, const char *what)
{
    int now = pp__future_state(future);
    if (!future->item.promised)
        return pp__fail(-EINVAL, "future %llu is that of a submitted call and %s by its pool",
                        (unsigned long long)future->item.id, what);
    if (now != state && now != other)
        return pp__fail(-EINVAL, "future %llu is %s and can't be %s", (unsigned long long)future->item.id, name_of(now),
                        what);
    return 0;
}

/* Under the lock. */
static int begin(pp_future *future)
{
    int error = check_state(future, PP_PENDING, PP_CANCELLED, "begun");
    if (error)
        return error;
    pp__future_begin(future);
    return pp__future_state(future) == PP_RUNNING;
}

int pp_future_set_running_or_notify_cancel(pp_future *future)
{
    PP__NO_CANCELLATION();
    int error = check(future, "pp_future_set_running_or_notify_cancel");
    if (error)
        return error;
    pp__pool_lock(pp__future_pool(future));
    int begun = begin(future);
    pp__pool_unlock(pp__future_pool(future));
    return begun;
}

static int copy_large(const void *data, size_t size, void **block)
{
    *block = pp__block_allocate(size);
    if (!*block)
        return pp__fail(-ENOMEM, "no memory for a result of %zu bytes", size);
    memcpy(*block, data, size);
    return 0;
}

/* `block`: a copy of a large result. Under the lock. */
static int finish(pp_future *future, const void *data, size_t size, void *block)
{
    int error = check_state(future, PP_PENDING, PP_RUNNING, "finished");
    if (error)
        return error;
    char *copy = block;
    if (!copy) {
        copy = pp__item_room(&future->item, size);
        if (size > 0)
            memcpy(copy, data, size);
        copy[size] = 0;
    }
    pp__future_deliver(&future->item, (struct pp__outcome){.data = copy, .size = size});
    return 0;
}

int pp_future_set_result(pp_future *future, const void *data, size_t size)
{
    PP__NO_CANCELLATION();
    int error = check(future, "pp_future_set_result");
    if (!error && !data && size > 0)
        error = pp__fail(-EINVAL, "the result is NULL and its size is %zu", size);
    void *block = NULL;
    if (!error && size >= PP__ROOM)
        error = copy_large(data, size, &block); /* not under the lock, which is held for short */
    if (error)
        return error;
    pp_pool *pool = pp__future_pool(future);
    pp__pool_lock(pool);
    error = finish(future, data, size, block);
    pp__pool_unlock(pool);
    if (error)
        pp__block_free(block);
    return error;
}

/* Under the lock. */
static int fail(pp_future *future, int code, const char *message)
{
    int refused = check_state(future, PP_PENDING, PP_RUNNING, "finished");
    if (refused)
        return refused;
    pp_error *error = pp__item_error(&future->item, PP_ERROR_TASK, code, NULL, 0, "%s", message ? message : "");
    pp__future_deliver(&future->item, (struct pp__outcome){.code = error->code, .error = error});
    return 0;
}

int pp_future_set_error(pp_future *future, int code, const char *message)
{
    PP__NO_CANCELLATION();
    int error = check(future, "pp_future_set_error");
    if (!error && code == 0)
        error = pp__fail(-EINVAL, "an error with the code 0");
    if (error)
        return error;
    pp__pool_lock(pp__future_pool(future));
    error = fail(future, code, message);
    pp__pool_unlock(pp__future_pool(future));
    return error;
}
