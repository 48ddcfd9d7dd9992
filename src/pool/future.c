/* SPDX-License-Identifier: MIT */
/* Futures: what the submitter holds. Any thread; a future keeps the pool's struct, not its processes. */
#include "pool/future.h"

#include "base/atomic.h"
#include "base/cancel.h"
#include "base/clock.h"
#include "base/copy.h"
#include "base/error.h"
#include "base/seam.h"
#include "pool/block.h"
#include "pool/callbacks.h"
#include "pool/collect.h"
#include "pool/descriptors.h"
#include "pool/dispatch.h"
#include "pool/glance.h"
#include "pool/group.h"
#include "pool/inline.h"
#include "pool/output.h"
#include "pool/pool.h"
#include "pool/take_back.h"
#include "pool/workers.h"
#include "process/owner.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool is_done(const void *future)
{
    return pp__future_is_done(future);
}

/* Of one that is done. */
static bool is_taken(const pp_future *future)
{
    return pp__load_acquire(&future->item.state) & PP__TAKEN; /* pairs with the store in pp_future_take */
}

/* What may lie in the future itself. */
static void drop_data(pp_future *future, void *data)
{
    if (data != future->item.room)
        pp__block_free(data);
}

/* What few have. */
__attribute__((noinline)) static void drop_beside(pp_future *future)
{
    PP__NO_CANCELLATION(); /* descriptors are closed */
    if (future->item.keeps)
        pp__wish_free(future->item.kept);
    if (future->item.has_back)
        pp__descriptors_free(future->item.back);
}

static inline __attribute__((always_inline)) void destroy(pp_future *future)
{
    pp_pool *pool = pp__future_pool(future);
    bool wanted = future->item.wanted, is_inline = pool->is_inline;
    if (future->item.outcome.code)
        pp__error_free(future->item.outcome.error);
    else if (!is_taken(future))
        drop_data(future, future->item.outcome.data);
    if (future->item.keeps || future->item.has_back)
        drop_beside(future);
    bool stays = pp__slab_give(&pool->calls, future);
    if (is_inline ? wanted : !stays)
        pp__pool_unref(pool);
}

/* Release: what this thread did with it comes before the free; acquire: the one that frees sees all of it. So it pairs
 * with itself in another thread. */
static inline __attribute__((always_inline)) void drop(pp_future *future)
{
    if (atomic_load_explicit(&future->item.refs, memory_order_acquire) == 1 || /* nobody is there who could change it */
        atomic_fetch_sub_explicit(&future->item.refs, 1, memory_order_acq_rel) == 1)
        destroy(future);
}

/* The item has one reference, its callbacks another. What runs ends by itself. */
bool pp__future_is_forsaken(const struct pp__item *item)
{
    const pp_future *future = pp__container(item, pp_future, item);
    return item->in_future && item->has_callbacks && !item->promised && !item->runs && !is_done(future) &&
           pp__load_relaxed(&item->refs) == 2; /* who could add one has one */
}

void pp__future_cancel_forsaken(struct pp__item *item)
{
    pp__pending_remove(pp__item_pool(item), item);
    pp__item_fail(item, PP_ERROR_CANCELLED, 0, "its pool was released, and nobody is left to wait for it");
}

/*
 * A call that only a waiting thread runs, and for which nobody can wait any more, must not keep its pool: it is
 * nobody's from now on. Or, if it has callbacks and nobody will wait for the pool either, it is cancelled, for them to
 * be called.
 */
__attribute__((noinline)) static void drop_inline(pp_future *future)
{
    PP__NO_CANCELLATION();
    pp_pool *pool = pp__future_pool(future);
    pp__pool_ref(pool);
    pp__pool_lock(pool);
    uint32_t before =
        atomic_fetch_sub_explicit(&future->item.refs, 1, memory_order_acq_rel); /* pairs with that in drop */
    bool promised = future->item.promised, open = !is_done(future);
    bool unheld = before == 2 && open && !promised && future->item.wanted;
    if (unheld)
        future->item.wanted = false;
    else if (before == 1 && open && promised)
        pool->promised--;
    else if (before == 3 && pool->released && pp__future_is_forsaken(&future->item)) {
        pp__future_cancel_forsaken(&future->item);
        pp__pool_settle(pool);
    }
    pp__pool_unlock(pool);
    if (before == 1)
        destroy(future);
    if (unheld)
        pp__pool_unref(pool);
    pp__pool_unref(pool);
}

/* Under the lock, behind its outcome. */
static inline void finish(struct pp__item *item, uint8_t state)
{
    pp__store_release(&item->state, state); /* pairs with the load in pp__future_state */
    if (item->promised && pp__item_pool(item)->is_inline)
        pp__item_pool(item)->promised--;
    if (item->waited_for) {
        pp__subject_wake(&pp__item_pool(item)->futures, pp__item_pool(item), item);
        pp__groups_note(pp__item_pool(item), item);
    }
    if (item->has_callbacks)
        pp__callbacks_due(pp__item_pool(item), pp__container(item, pp_future, item));
}

/* Where nobody wants it, it goes with the item's own reference, which is given up when this has returned. */
void pp__future_deliver(struct pp__item *item, struct pp__outcome outcome)
{
    item->outcome = outcome;
    finish(item, outcome.code == -ECANCELED ? PP_CANCELLED_AND_NOTIFIED : PP_FINISHED);
}

void pp__future_end_plain(struct pp__item *item, void *data, size_t size)
{
    pp_pool *pool = pp__item_pool(item);
    pp__item_forget_tries(item);
    pool->delivered++;
    /* One by one: a struct that is made and copied at once would be loaded before its stores have reached the cache. */
    item->outcome.code = 0;
    item->outcome.data = data;
    item->outcome.size = size;
    finish(item, PP_FINISHED);
    pool->outstanding--;
    pp__future_item_ended(item);
}

pp_future *pp__future_create(pp_pool *pool, const struct pp__function *function, bool wanted)
{
    bool fresh;
    pp_future *future = pp__slab_take(&pool->calls, &fresh);
    if (!future) {
        pp__fail(-ENOMEM, "no memory for a call");
        return NULL;
    }
    memset(future, 0, offsetof(struct pp_future, item.room));
    pp__store_relaxed(&future->item.refs,
                      wanted ? 2 : 1); /* it is handed out with the lock's release, or by the submitter itself */
    future->item.function = function;
    future->item.in_future = true;
    future->item.wanted = wanted;
    if (pool->is_inline ? wanted : fresh)
        pp__pool_ref(pool);
    return future;
}

/* No item's end will give a reference up. */
void pp__future_promise(pp_future *future, uint64_t id)
{
    pp__store_relaxed(&future->item.refs, 1); /* handed out as in pp__future_create */
    future->item.promised = true;
    future->item.plain = true;
    future->item.id = id;
    if (pp__future_pool(future)->is_inline)
        pp__future_pool(future)->promised++;
}

void pp__future_begin(pp_future *future)
{
    uint8_t state = pp__future_is_done(future) ? PP_CANCELLED_AND_NOTIFIED : PP_RUNNING;
    pp__store_release(&future->item.state, state); /* pairs with the load in pp__future_state */
}

static int cancel_promised(struct pp__item *item)
{
    if (pp__future_state(pp__container(item, pp_future, item)) == PP_RUNNING)
        return -EBUSY;
    pp_error *error = pp__item_error(item, PP_ERROR_CANCELLED, 0, NULL, 0, "cancelled before it began");
    item->outcome = (struct pp__outcome){.code = error->code, .error = error};
    finish(item, PP_CANCELLED);
    return 0;
}

/* Whoever holds the lock has a reference to the pool: what is given back here is never the last one. */
void pp__future_item_ended(struct pp__item *item)
{
    drop(pp__container(item, pp_future, item));
}

pp_future *pp_future_ref(pp_future *future)
{
    if (future && pp__pool_is_own(pp__future_pool(future)))
        atomic_fetch_add_explicit(&future->item.refs, 1, memory_order_relaxed);
    return future;
}

void pp_future_unref(pp_future *future)
{
    if (!future || !pp__pool_is_own(pp__future_pool(future)))
        return;
    if (pp__future_pool(future)->is_inline)
        drop_inline(future);
    else
        drop(future);
}

void pp_cleanup_future(pp_future **future)
{
    pp_future_unref(*future);
}

/* ------------------------------------------------------------------------------------------ waiting */

/* The lock is held on success. */
static int sleep_until_done(pp_future *future, int timeout)
{
    PP__NO_CANCELLATION();
    uint64_t deadline = pp__deadline(timeout);
    pp_pool *pool = pp__future_pool(future);
    pp__pool_lock(pool);
    future->item.waited_for = true;
    int error = pp__wait(pool, &pool->futures, is_done, future, deadline, false);
    if (!error)
        return 0;
    pp__pool_unlock(pool);
    if (error == -ETIMEDOUT)
        return pp__fail(error, "call %llu is not done after %d ms", (unsigned long long)future->item.id, timeout);
    if (error == -EINTR)
        return pp__fail(error, "waiting for call %llu was interrupted by a signal",
                        (unsigned long long)future->item.id);
    return error;
}

/* Apart, for the sake of those that are done. */
__attribute__((noinline)) static int wait_longer(pp_future *future, int timeout, const char *caller)
{
    if (!future)
        return pp__fail(-EINVAL, "%s: no future", caller);
    if (!pp__pool_is_own(pp__future_pool(future)))
        return pp__owner_refuse();
    if (timeout != 0 && pp__glance(future))
        return 0;
    int error = sleep_until_done(future, timeout);
    if (!error)
        pp__pool_unlock(pp__future_pool(future));
    return error;
}

static inline int wait_done(pp_future *future, int timeout, const char *caller)
{
    if (!future || !pp__pool_is_own(pp__future_pool(future)) || !is_done(future))
        return wait_longer(future, timeout, caller);
    return 0;
}

int pp_future_wait(pp_future *future, int timeout)
{
    return wait_done(future, timeout, "pp_future_wait");
}

static int refuse_result(const pp_future *future)
{
    if (!future->item.outcome.code)
        return pp__fail(-ENODATA, "the result of call %llu was taken", (unsigned long long)future->item.id);
    const pp_error *e = future->item.outcome.error;
    return pp__fail(future->item.outcome.code, "call %llu, %s: %s", (unsigned long long)future->item.id, e->function,
                    e->message);
}

/* Waits for a result that can be read. */
static inline int await_result(pp_future *future, int timeout, const char *caller)
{
    int error = wait_done(future, timeout, caller);
    if (error)
        return error;
    return future->item.outcome.code || is_taken(future) ? refuse_result(future) : 0;
}

/* What lies in the future itself is there as long as that is; elsewhere it may be taken meanwhile, which the lock keeps
 * off. */
static int copy_result(pp_future *future, void *buffer, size_t size)
{
    const void *data = future->item.outcome.data;
    if (data == future->item.room) {
        pp__copy_few(buffer, data, size);
        return 0;
    }
    pp__pool_lock(pp__future_pool(future));
    bool there = !is_taken(future);
    if (there && size > 0)
        memcpy(buffer, data, size);
    pp__pool_unlock(pp__future_pool(future));
    return there ? 0 : refuse_result(future);
}

int pp_future_result(pp_future *future, int timeout, void *buffer, size_t capacity, size_t *size)
{
    if (!buffer && capacity > 0)
        return pp__fail(-EINVAL, "pp_future_result: no buffer");
    int error = await_result(future, timeout, "pp_future_result");
    if (error)
        return error;
    size_t have = future->item.outcome.size;
    bool fits = size ? have <= capacity : have == capacity;
    if (fits)
        error = copy_result(future, buffer, have);
    if (size && !error)
        *size = have;
    return fits ? error : pp__fail(-EMSGSIZE, "the result has %zu bytes, the buffer %zu", have, capacity);
}

int pp_future_view(pp_future *future, int timeout, const void **data, size_t *size)
{
    if (!data || !size)
        return pp__fail(-EINVAL, "pp_future_view: no place for the result");
    int error = await_result(future, timeout, "pp_future_view");
    if (error)
        return error;
    *data = future->item.outcome.data;
    *size = future->item.outcome.size;
    return 0;
}

/* Private memory of its own with the result, moved out of the future if it lies there; NULL without memory. */
static void *move_out(pp_future *future)
{
    void *data = future->item.outcome.data;
    if (data != future->item.room)
        return pp__block_own(data) == 0 ? data : NULL;
    void *copy = pp__block_allocate(future->item.outcome.size);
    if (copy)
        memcpy(copy, data, future->item.outcome.size);
    return copy;
}

int pp_future_take(pp_future *future, int timeout, void **data, size_t *size)
{
    if (!data || !size)
        return pp__fail(-EINVAL, "pp_future_take: no place for the result");
    int error = await_result(future, timeout, "pp_future_take");
    if (error)
        return error;
    pp__pool_lock(pp__future_pool(future));
    bool there = !is_taken(future);
    void *moved = there ? move_out(future) : NULL;
    if (moved) {
        *data = moved;
        *size = future->item.outcome.size;
        pp__store_release(&future->item.state, PP_FINISHED | PP__TAKEN); /* pairs with the load in is_taken */
    }
    pp__pool_unlock(pp__future_pool(future));
    if (!there)
        return refuse_result(future);
    return moved ? 0 : pp__fail(-ENOMEM, "no memory for a result of %zu bytes", future->item.outcome.size);
}

/* The lock: a call is done some moments before its future has the output. */
int pp_future_output(pp_future *future, int timeout, pp_stream stream, pp_output *output)
{
    if (!output)
        return pp__fail(-EINVAL, "pp_future_output: no place for the output");
    int error = wait_done(future, timeout, "pp_future_output");
    if (!error)
        error = pp__output_is_captured(pp__future_pool(future), stream);
    if (error)
        return error;
    if (future->item.promised)
        return pp__fail(-ENOTSUP, "call %llu is the program's own", (unsigned long long)future->item.id);
    pp__pool_lock(pp__future_pool(future));
    error = pp__output_show(future->item.keeps ? future->item.kept->output : NULL, stream, output);
    pp__pool_unlock(pp__future_pool(future));
    return error;
}

int pp_future_error(pp_future *future, int timeout, const pp_error **error)
{
    if (!error)
        return pp__fail(-EINVAL, "pp_future_error: no place for the error");
    int code = wait_done(future, timeout, "pp_future_error");
    if (code)
        return code;
    *error = future->item.outcome.code ? future->item.outcome.error : NULL;
    return 0;
}

/* -------------------------------------------------------------------------------- state and cancel */

void pp__future_refresh(pp_future *future)
{
    if (!is_done(future) && future->item.worker)
        pp__collect_worker(future->item.worker);
}

static bool has_begun(const struct pp__item *item)
{
    return item->worker && !pp__worker_unbegun(item->worker, item);
}

int pp_future_state(pp_future *future)
{
    PP__NO_CANCELLATION();
    if (!future)
        return pp__fail(-EINVAL, "pp_future_state: no future");
    if (!pp__pool_is_own(pp__future_pool(future)))
        return pp__owner_refuse();
    if (is_done(future))
        return pp__future_state(future);
    pp__pool_lock(pp__future_pool(future));
    pp__future_refresh(future);
    int state = pp__future_state(future);
    if (state == PP_PENDING && (has_begun(&future->item) || pp__inline_runs(pp__future_pool(future), &future->item)))
        state = PP_RUNNING;
    pp__pool_unlock(pp__future_pool(future));
    return state;
}

int pp__future_cancel(pp_future *future)
{
    pp__future_refresh(future);
    if (is_done(future))
        return pp__future_state(future) == PP_FINISHED ? -EALREADY : 0;
    struct pp__item *item = &future->item;
    if (item->promised)
        return cancel_promised(item);
    if (pp__inline_runs(pp__future_pool(future), item) || item->tries > 0)
        return -EBUSY;
    if (!item->worker)
        pp__pending_remove(pp__future_pool(future), item);
    else if (!pp__worker_take_back(item->worker, item))
        return -EBUSY;
    pp__item_fail(item, PP_ERROR_CANCELLED, 0, "cancelled before it began");
    pp__dispatch(pp__future_pool(future)); /* the worker may have room now */
    pp__pool_settle(pp__future_pool(future));
    return 0;
}

bool pp__future_give_up(pp_future *future)
{
    struct pp__item *item = &future->item;
    pp_pool *pool = pp__item_pool(item);
    if (!item->worker)
        pp__pending_remove(pool, item);
    else if (!pp__worker_take_back(item->worker, item))
        return false;
    pp__item_cancel(item, "cancelled before it was tried again");
    pp__dispatch(pool);
    pp__pool_settle(pool);
    return true;
}

int pp_future_cancel(pp_future *future)
{
    PP__NO_CANCELLATION();
    if (!future)
        return pp__fail(-EINVAL, "pp_future_cancel: no future");
    if (!pp__pool_is_own(pp__future_pool(future)))
        return pp__owner_refuse();
    pp__pool_lock(pp__future_pool(future));
    int code = pp__future_cancel(future);
    pp__pool_unlock(pp__future_pool(future));
    if (code)
        pp__fail(code, "call %llu has %s", (unsigned long long)future->item.id, code == -EBUSY ? "begun" : "ended");
    return code;
}

uint64_t pp_future_id(const pp_future *future)
{
    return future ? future->item.id : 0;
}
