/* SPDX-License-Identifier: MIT */
/* Submit: from a function and its argument to a work item and its future. Any thread. */
#include "base/cancel.h"
#include "base/clock.h"
#include "base/error.h"
#include "pool/collect.h"
#include "pool/dispatch.h"
#include "pool/function.h"
#include "pool/future.h"
#include "pool/pool.h"
#include "process/owner.h"

#include <errno.h>

#define MOST_RETRIES 1000

int pp__pool_accepts(pp_pool *pool)
{
    if (pool->broken)
        return pp__fail(-ENOTRECOVERABLE, "the pool is broken: %s", pool->broken_text);
    if (pool->shut)
        return pp__fail(-ESHUTDOWN, "the pool has been shut down");
    return 0;
}

/* A call that was queued behind another is looked at after so long at the latest: that one may last. */
#define LOOK_BEHIND (10 * PP__MILLISECOND)
/* Results are taken by who submits, so many calls after the last time: what workers have done counts no more against them. */
#define HELP_EACH 32

/*
 * Makes sure that somebody looks after what could not be sent (workers that run dry), after a new timeout and after a call behind another, and
 * that no sleep with work outstanding is without a bound: there may be a worker to be started later, or one that does not begin its call.
 */
static void attend(pp_pool *pool, uint32_t timeout)
{
    struct pp__collector *c = &pool->collector;
    if (pool->pending_count > 0)
        pp__collect_ask(pool);
    if (!c->asleep) {
        if (pool->pending_count > 0)
            pp__wait_attend(pool);
        return;
    }
    uint64_t due = PP__NEVER - 1;
    if (timeout || pool->queued)
        due = pp__now_coarse() + (pool->queued ? LOOK_BEHIND : timeout * PP__MILLISECOND);
    if (c->wake_at <= due)
        return;
    c->wake_at = 0; /* it comes, and sees what comes after this too */
    pp__wait_attend(pool);
}

/* A map may find its pool shut or broken since it was asked: the item then ends as all that was outstanding did. */
static bool fail_late(pp_pool *pool, struct pp__item *item)
{
    if (pool->broken)
        pp__item_fail(item, PP_ERROR_BROKEN, pool->broken_error, pool->broken_text);
    else if (pool->shut)
        pp__item_fail(item, PP_ERROR_CANCELLED, 0, "the pool has been shut down");
    return pool->broken || pool->shut;
}

void pp__pool_submit_item(pp_pool *pool, struct pp__item *item)
{
    uint32_t timeout = item->timeout;
    item->pool = pool;
    item->id = pool->next_id;
    pool->next_id += item->count;
    pool->outstanding++;
    if (fail_late(pool, item))
        return;
    if (++pool->unlooked >= HELP_EACH)
        pp__collect_help(pool);
    pp__pending_insert(pool, item);
    pp__dispatch(pool); /* it may fail, and so be gone */
    attend(pool, timeout);
}

static int check(const pp_call *call)
{
    if (!call->function)
        return pp__fail(-EINVAL, "no function");
    if (!call->arg && call->size > 0)
        return pp__fail(-EINVAL, "the argument is NULL and its size is %zu", call->size);
    if (call->size > PTRDIFF_MAX / 2)
        return pp__fail(-EINVAL, "an argument of %zu bytes is larger than any memory", call->size);
    if (call->retries > MOST_RETRIES)
        return pp__fail(-EINVAL, "retries is %u; it must be at most %d", call->retries, MOST_RETRIES);
    for (size_t i = 0; i < sizeof call->reserved / sizeof *call->reserved; i++)
        if (call->reserved[i])
            return pp__fail(-EINVAL, "a reserved word is not zero: the call must be zeroed before it is filled");
    return 0;
}

static int make_item(const pp_pool *pool, const pp_call *call, struct pp__item **made)
{
    struct pp__item *item;
    int error = pp__item_create(1, pp__element_room(call->size), pool->is_inline, &item);
    if (error)
        return error;
    pp__item_add(item->elements, call->arg, call->size);
    error = pp__item_seal(item);
    if (error) {
        pp__item_free(item);
        return error;
    }
    item->deliver = pp__future_deliver;
    item->timeout = call->timeout;
    item->retries = call->retries;
    *made = item;
    return 0;
}

/* The function's entry, asking the loader once if it is new. */
static int find_function(pp_pool *pool, pp_function *function, const struct pp__function **entry)
{
    pp__pool_lock(pool);
    int error = pp__pool_accepts(pool);
    if (!error)
        *entry = pp__functions_find(pool->functions, function);
    pp__pool_unlock(pool);
    return error || *entry ? error : pp__functions_resolve(pool, function, entry);
}

static int enqueue(pp_pool *pool, struct pp__item *item, pp_future *future)
{
    pp__pool_lock(pool);
    int error = pp__pool_accepts(pool);
    if (!error) {
        if (future)
            future->id = pool->next_id;
        pp__pool_submit_item(pool, item);
    }
    pp__pool_unlock(pool);
    return error;
}

static int submit(pp_pool *pool, const pp_call *call, pp_future **result)
{
    const struct pp__function *function = NULL;
    struct pp__item *item = NULL;
    int error = check(call);
    if (!error)
        error = find_function(pool, call->function, &function);
    if (!error)
        error = make_item(pool, call, &item);
    if (error)
        return error;
    item->function = function;
    pp_future *future = result ? pp__future_create(pool, item) : NULL;
    error = result && !future ? -ENOMEM : enqueue(pool, item, future);
    if (error) {
        pp__future_discard(future);
        pp__item_free(item);
        return error;
    }
    if (result)
        *result = future;
    return 0;
}

int pp_submit_call(pp_pool *pool, const pp_call *call, pp_future **future)
{
    PP__NO_CANCELLATION();
    if (!pool || !call)
        return pp__fail(-EINVAL, "no %s", pool ? "call" : "pool");
    if (!pp__pool_is_own(pool))
        return pp__owner_refuse();
    return submit(pool, call, future);
}

int pp_submit(pp_pool *pool, pp_function *function, const void *arg, size_t size, pp_future **future)
{
    return pp_submit_call(pool, &(pp_call){.function = function, .arg = arg, .size = size}, future);
}

ssize_t pp_submit_many(pp_pool *pool, const pp_call *calls, size_t count, pp_future **futures)
{
    PP__NO_CANCELLATION();
    if (!pool || (!calls && count > 0))
        return pp__fail(-EINVAL, "no %s", pool ? "calls" : "pool");
    if (!pp__pool_is_own(pool))
        return pp__owner_refuse();
    for (size_t i = 0; i < count; i++) {
        int error = submit(pool, &calls[i], futures ? &futures[i] : NULL);
        if (error)
            return i > 0 ? (ssize_t)i : error;
    }
    return (ssize_t)count;
}
