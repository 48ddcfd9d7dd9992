/* SPDX-License-Identifier: MIT */
/* Futures: what the submitter holds. Any thread; a future keeps the pool's struct, not its processes. */
#include "pool/future.h"

#include "base/atomic.h"
#include "base/cancel.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/seam.h"
#include "pool/block.h"
#include "pool/collect.h"
#include "pool/dispatch.h"
#include "pool/inline.h"
#include "pool/pool.h"
#include "pool/workers.h"
#include "process/owner.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool is_done(const void *future)
{
    const pp_future *f = future;
    return pp__load_acquire(&f->state) != PP_PENDING; /* pairs with the store in deliver: the outcome is seen */
}

static void destroy(pp_future *future)
{
    pp_pool *pool = future->pool;
    pp__block_free(future->outcome.data);
    pp__error_free(future->outcome.error);
    free(future);
    pp__pool_unref(pool);
}

/* Release: what this thread did with it comes before the free; acquire: the one that frees sees all of it. */
static void drop(pp_future *future, uint32_t references)
{
    if (atomic_fetch_sub_explicit(&future->refs, references, memory_order_acq_rel) == references)
        destroy(future);
}

/* A call that only a waiting thread runs, and for which nobody can wait any more, must not keep its pool: it has no future from now on. */
static void drop_inline(pp_future *future)
{
    pp_pool *pool = future->pool;
    pp__pool_ref(pool);
    pp__pool_lock(pool);
    uint32_t before = atomic_fetch_sub_explicit(&future->refs, 1, memory_order_acq_rel); /* as in drop */
    bool unheld = before == 2 && future->item;
    if (unheld)
        future->item->receiver = NULL;
    pp__pool_unlock(pool);
    if (before == 1 || unheld)
        destroy(future);
    pp__pool_unref(pool);
}

/* Under the lock. The references to the pool that this gives back are never the last: whoever holds the lock has one. */
static void deliver(struct pp__item *item, uint32_t index, struct pp__outcome outcome)
{
    (void)index;
    pp_future *future = item->receiver;
    if (!future) {
        pp__block_free(outcome.data);
        pp__error_free(outcome.error);
        return;
    }
    future->outcome = outcome;
    future->item = NULL;
    int state = outcome.code == -ECANCELED ? PP_CANCELLED_AND_NOTIFIED : PP_FINISHED;
    pp__store_release(&future->state, state); /* pairs with the load in is_done */
    pp__subject_wake(&future->subject, item->pool);
    drop(future, 1);
}

pp_future *pp__future_create(pp_pool *pool, struct pp__item *item)
{
    pp_future *future = PP_SYS(calloc)(1, sizeof *future);
    if (!future) {
        pp__fail(-ENOMEM, "no memory for a future");
        return NULL;
    }
    pp__store_relaxed(&future->refs, 2);
    pp__subject_init(&future->subject);
    future->pool = pool;
    future->item = item;
    item->receiver = future;
    pp__pool_ref(pool);
    return future;
}

void pp__future_discard(pp_future *future)
{
    if (!future)
        return;
    drop(future, 2);
}

pp__deliver *const pp__future_deliver = deliver;

pp_future *pp_future_ref(pp_future *future)
{
    if (future && pp__pool_is_own(future->pool))
        atomic_fetch_add_explicit(&future->refs, 1, memory_order_relaxed);
    return future;
}

void pp_future_unref(pp_future *future)
{
    if (!future || !pp__pool_is_own(future->pool))
        return;
    if (future->pool->is_inline)
        drop_inline(future);
    else
        drop(future, 1);
}

void pp_cleanup_future(pp_future **future)
{
    pp_future_unref(*future);
}

/* ------------------------------------------------------------------------------------------ waiting */

static int wait_done(pp_future *future, int timeout, const char *caller)
{
    PP__NO_CANCELLATION();
    if (!future)
        return pp__fail(-EINVAL, "%s: no future", caller);
    if (!pp__pool_is_own(future->pool))
        return pp__owner_refuse();
    if (is_done(future))
        return 0;
    uint64_t deadline = pp__deadline(timeout);
    pp__pool_lock(future->pool);
    int error = pp__wait(future->pool, &future->subject, is_done, future, deadline, false);
    pp__pool_unlock(future->pool);
    if (error == -ETIMEDOUT)
        return pp__fail(error, "call %llu is not done after %d ms", (unsigned long long)future->id, timeout);
    if (error == -EINTR)
        return pp__fail(error, "waiting for call %llu was interrupted by a signal", (unsigned long long)future->id);
    return error;
}

int pp_future_wait(pp_future *future, int timeout)
{
    return wait_done(future, timeout, "pp_future_wait");
}

/* Waits for a result that can be read: the lock is held on success. */
static int lock_result(pp_future *future, int timeout, const char *caller)
{
    int error = wait_done(future, timeout, caller);
    if (error)
        return error;
    if (future->outcome.code) {
        const pp_error *e = future->outcome.error;
        return pp__fail(future->outcome.code, "call %llu, %s: %s", (unsigned long long)future->id, e->function,
                        e->message);
    }
    pp__pool_lock(future->pool);
    if (!future->taken)
        return 0;
    pp__pool_unlock(future->pool);
    return pp__fail(-ENODATA, "the result of call %llu was taken", (unsigned long long)future->id);
}

int pp_future_result(pp_future *future, int timeout, void *buffer, size_t capacity, size_t *size)
{
    if (!buffer && capacity > 0)
        return pp__fail(-EINVAL, "pp_future_result: no buffer");
    int error = lock_result(future, timeout, "pp_future_result");
    if (error)
        return error;
    size_t have = future->outcome.size;
    bool fits = size ? have <= capacity : have == capacity;
    if (fits && have > 0)
        memcpy(buffer, future->outcome.data, have);
    pp__pool_unlock(future->pool);
    if (size)
        *size = have;
    return fits ? 0 : pp__fail(-EMSGSIZE, "the result has %zu bytes, the buffer %zu", have, capacity);
}

int pp_future_view(pp_future *future, int timeout, const void **data, size_t *size)
{
    if (!data || !size)
        return pp__fail(-EINVAL, "pp_future_view: no place for the result");
    int error = lock_result(future, timeout, "pp_future_view");
    if (error)
        return error;
    *data = future->outcome.data;
    *size = future->outcome.size;
    pp__pool_unlock(future->pool);
    return 0;
}

int pp_future_take(pp_future *future, int timeout, void **data, size_t *size)
{
    if (!data || !size)
        return pp__fail(-EINVAL, "pp_future_take: no place for the result");
    int error = lock_result(future, timeout, "pp_future_take");
    if (error)
        return error;
    *data = future->outcome.data;
    *size = future->outcome.size;
    future->outcome.data = NULL;
    future->taken = true;
    pp__pool_unlock(future->pool);
    return 0;
}

int pp_future_error(pp_future *future, int timeout, const pp_error **error)
{
    if (!error)
        return pp__fail(-EINVAL, "pp_future_error: no place for the error");
    int code = wait_done(future, timeout, "pp_future_error");
    if (code)
        return code;
    *error = future->outcome.error;
    return 0;
}

/* -------------------------------------------------------------------------------- state and cancel */

/* What the worker has done meanwhile, taken in: nobody else may be looking. */
static void refresh(pp_future *future)
{
    if (future->item && future->item->worker)
        pp__collect_worker(future->pool, future->item->worker);
}

static bool has_begun(const struct pp__item *item)
{
    return item && item->worker && !pp__worker_unbegun(item->worker, item);
}

int pp_future_state(pp_future *future)
{
    PP__NO_CANCELLATION();
    if (!future)
        return pp__fail(-EINVAL, "pp_future_state: no future");
    if (!pp__pool_is_own(future->pool))
        return pp__owner_refuse();
    if (is_done(future))
        return pp__load_acquire(&future->state);
    pp__pool_lock(future->pool);
    refresh(future);
    int state = is_done(future) ? pp__load_acquire(&future->state) : PP_PENDING;
    if (state == PP_PENDING && (has_begun(future->item) || pp__inline_runs(future->pool, future->item)))
        state = PP_RUNNING;
    pp__pool_unlock(future->pool);
    return state;
}

/* Under the lock. */
static int cancel(pp_future *future)
{
    refresh(future);
    if (is_done(future))
        return pp__load_acquire(&future->state) == PP_FINISHED ? -EALREADY : 0;
    struct pp__item *item = future->item;
    if (pp__inline_runs(future->pool, item) || item->tries > 0)
        return -EBUSY;
    if (!item->worker)
        pp__pending_remove(future->pool, item);
    else if (!pp__worker_take_back(item->worker, item))
        return -EBUSY;
    pp__item_fail(item, PP_ERROR_CANCELLED, 0, "cancelled before it began");
    pp__dispatch(future->pool); /* the worker may have room now */
    pp__pool_settle(future->pool);
    return 0;
}

int pp_future_cancel(pp_future *future)
{
    PP__NO_CANCELLATION();
    if (!future)
        return pp__fail(-EINVAL, "pp_future_cancel: no future");
    if (!pp__pool_is_own(future->pool))
        return pp__owner_refuse();
    pp__pool_lock(future->pool);
    int code = cancel(future);
    pp__pool_unlock(future->pool);
    if (code)
        pp__fail(code, "call %llu has %s", (unsigned long long)future->id, code == -EBUSY ? "begun" : "ended");
    return code;
}

uint64_t pp_future_id(const pp_future *future)
{
    return future ? future->id : 0;
}
