/* SPDX-License-Identifier: MIT */
/* Submit: from a function and its argument to a work item and its future. Any thread. */
#include "base/cancel.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/seam.h"
#include "pool/argument.h"
#include "pool/buffer.h"
#include "pool/collect.h"
#include "pool/contention.h"
#include "pool/dispatch.h"
#include "pool/exit_start.h"
#include "pool/function.h"
#include "pool/future.h"
#include "pool/pool.h"
#include "pool/room.h"
#include "pool/wish.h"
#include "process/owner.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int pp__pool_accepts(pp_pool *pool)
{
    if (pool->broken)
        return pp__fail(-ENOTRECOVERABLE, "the pool is broken: %s", pool->broken_text);
    if (pool->shut)
        return pp__fail(-ESHUTDOWN, "the pool has been shut down");
    return 0;
}

/* Who sleeps is told of a call behind another, as that one may last, unless it comes back within so long; then it does
 * so more often (LOOK_BEHIND, collect.c). */
#define TELL_BEHIND (10 * PP__MILLISECOND)
/* Results are taken by who submits, so many calls after the last time: what workers have done counts no more against
 * them, and who is through is seen to be. Of trivial ones with small results more gather. */
#define HELP_EACH 32
#define HELP_EACH_TRIVIAL 96
/* So many calls of an array are put into the queue before they are sent, all with one fence and at most one wake for
 * each worker. */
#define BATCH 64

/* Whether a time is that near. The coarse clock is up to two ticks late: a sleep that has just begun would seem to end
 * too late by it, and be told of that again and again. */
static bool is_within(uint64_t time, uint64_t wait)
{
    if (wait == PP__NEVER)
        return time < PP__NEVER;
    return time <= pp__now_coarse() + wait || time <= pp__now() + wait;
}

/*
 * Makes sure that somebody looks after what could not be sent (workers that run dry, calls that are to begin before
 * their deadline), after a new timeout and after a call behind another, and that no sleep with work outstanding is
 * without a bound: there may be a worker to be started later, or one that does not begin its call.
 */
static void attend(pp_pool *pool, uint32_t timeout)
{
    struct pp__collector *c = &pool->collector;
    if (pool->pending_count > 0)
        pp__collect_ask(pool);
    if (!c->asleep) {
        if (pool->pending_count > 0)
            pp__wait_attend_pending(pool);
        return;
    }
    uint64_t wait = timeout ? timeout * PP__MILLISECOND : PP__NEVER;
    if (pool->queued && !c->told_of_queued && wait > TELL_BEHIND)
        wait = TELL_BEHIND;
    c->told_of_queued |= pool->queued;
    if (is_within(c->wake_at, wait) && c->wake_at <= pp__wishes_due(pool))
        return;
    c->wake_at = 0; /* it comes, and sees what comes after this too */
    pp__wait_attend(pool);
}

/* Whether somebody is to look after what was sent (attend): something came back, or it is news for who sleeps, as the
 * first call behind another since, as one with a timeout, or as the first at all. */
static inline bool is_news(const pp_pool *pool, uint32_t timeout)
{
    const struct pp__collector *c = &pool->collector;
    return pool->pending_count > 0 ||
           (c->asleep && (timeout > 0 || (pool->queued && !c->told_of_queued) || c->wake_at == PP__NEVER));
}

/* A map may find its pool shut or broken since it was asked: the item then does not run. */
static bool fail_late(pp_pool *pool, struct pp__item *item)
{
    if (pool->broken)
        pp__item_fail(item, PP_ERROR_BROKEN, pool->broken_error, pool->broken_text);
    else if (pool->shut)
        pp__item_fail(item, PP_ERROR_CANCELLED, 0, "the pool has been shut down");
    return pool->broken || pool->shut;
}

static void help(pp_pool *pool)
{
    PP__NO_CANCELLATION();
    pp__collect_results(pool); /* which may find that the pool is to break */
}

/* Gives an item its number. False: it has ended, as the pool takes no calls any more. */
static inline bool add(pp_pool *pool, struct pp__item *item)
{
    if (++pool->unlooked >= (pool->gathers ? HELP_EACH_TRIVIAL : HELP_EACH))
        help(pool);
    item->id = pool->next_id;
    pool->next_id += pp__item_count(item);
    pool->outstanding++;
    return !(pool->broken || pool->shut) || !fail_late(pool, item);
}

/* Sends what is in the queue. `timeout`: the shortest of theirs. Cancellation is put off. */
static void send_queued(pp_pool *pool, uint32_t timeout)
{
    pp__dispatch(pool); /* some may fail, and so be gone */
    attend(pool, timeout);
}

static void send_item(pp_pool *pool, struct pp__item *item, uint32_t timeout)
{
    PP__NO_CANCELLATION();
    pp__pending_insert(pool, item);
    send_queued(pool, timeout);
}

__attribute__((noinline)) static void tell(pp_pool *pool, uint32_t timeout)
{
    PP__NO_CANCELLATION();
    attend(pool, timeout);
}

/* As send_item, for one that is plain or simple. */
static inline void send_single(pp_pool *pool, struct pp__item *item, uint32_t timeout)
{
    if (!pp__dispatch_single(pool, item))
        send_item(pool, item, timeout);
    else if (is_news(pool, timeout))
        tell(pool, timeout);
}

void pp__pool_submit_item(pp_pool *pool, struct pp__item *item)
{
    uint32_t timeout = item->timeout;
    if (add(pool, item))
        send_item(pool, item, timeout);
}

static int check(const pp_call *call)
{
    if (!call->function)
        return pp__fail(-EINVAL, "no function");
    if (!call->arg && call->size > 0)
        return pp__fail(-EINVAL, "the argument is NULL and its size is %zu", call->size);
    if (call->size > PTRDIFF_MAX / 2)
        return pp__fail(-EINVAL, "an argument of %zu bytes is larger than any memory", call->size);
    if (call->retries > PP__MOST_RETRIES)
        return pp__fail(-EINVAL, "retries is %u; it must be at most %u", call->retries, PP__MOST_RETRIES);
    if (call->priority < -PP__PRIORITY_MAX || call->priority > PP__PRIORITY_MAX)
        return pp__fail(-EINVAL, "priority is %d; it must be from %d to %d", call->priority, -PP__PRIORITY_MAX,
                        PP__PRIORITY_MAX);
    const uint64_t *reserved = call->reserved;
    static_assert(sizeof call->reserved == 4 * sizeof *reserved, "all of them");
    if (reserved[0] | reserved[1] | reserved[2] | reserved[3])
        return pp__fail(-EINVAL, "a reserved word is not zero: the call must be zeroed before it is filled");
    return 0;
}

__attribute__((noinline)) static int look_up(pp_pool *pool, pp_function *function, const struct pp__function **entry)
{
    PP__NO_CANCELLATION();
    int error = pp__pool_accepts(pool);
    if (!error)
        *entry = pp__functions_find(pool->functions, function);
    if (!error && !*entry) {
        pp__pool_unlock(pool);
        error = pp__functions_resolve(pool, function, entry);
        pp__pool_lock(pool);
        if (!error)
            error = pp__pool_accepts(pool);
    }
    if (!error)
        pool->called = *entry;
    return error;
}

/* The function's entry, asking the loader, without the lock, if it is new. Under the lock. */
static inline int find_function(pp_pool *pool, pp_function *function, const struct pp__function **entry)
{
    *entry = pool->called;
    if (*entry && (*entry)->function == function && !pool->broken && !pool->shut)
        return 0;
    return look_up(pool, function, entry);
}

/* An argument for which no worker has a buffer: made ready without the lock. */
static int open_large(const pp_pool *pool, const pp_call *call, struct pp__item *large)
{
    int error = pp__item_open(large, 1, pp__element_room(call->size), pool->is_inline);
    if (error)
        return error;
    pp__item_add(large->x.elements, call->arg, call->size);
    error = pp__item_seal(large);
    if (error)
        pp__item_close(large);
    return error;
}

/* Where an argument is, if it is not beside its item, one of the first two; and what is wished for such a call, or
 * NULL. */
struct large {
    const struct pp__item *item;
    const struct pp__loan *loan;
    struct pp__wish *wish;
};

static void fill_large(struct pp__item *item, const pp_call *call, struct large large)
{
    pp__list_init(&item->link);
    item->timeout = call->timeout;
    item->retries = call->retries & PP__RETRIES_MASK; /* as it is: it was checked */
    if (large.item)
        item->x = large.item->x;
    else
        pp__loan_turn_over(pp__item_pool(item), large.loan, item, pp__element_room(call->size));
    if (large.wish)
        pp__wish_give(pp__item_pool(item), large.wish, item);
}

/* The worker whose buffer it is has ended. */
#define LOST 1

/* From a call to an item in the queue. Under the lock. */
static int enqueue_large(pp_pool *pool, const pp_call *call, struct large large, pp_future **result)
{
    const struct pp__function *function = NULL;
    int error = find_function(pool, call->function, &function);
    if (!error && pool->options.max_pending)
        error = pp__room_wait(pool);
    if (error)
        return error;
    if (large.loan && !pp__loan_stands(pool, large.loan))
        return LOST;
    if (large.wish && (error = pp__wish_admit(pool, large.wish)) != 0)
        return error;
    pp_future *future = pp__future_create(pool, function, result != NULL);
    if (!future)
        return -ENOMEM;
    fill_large(&future->item, call, large);
    if (add(pool, &future->item)) /* without a future it may be gone */
        pp__pending_insert(pool, &future->item);
    if (result)
        *result = future;
    return 0;
}

/* A call that has no wishes, and an argument that lies in its item; or one that travels in its record, for which the
 * item has memory of its own, perhaps with buffers. */
struct small {
    pp_function *function;
    const void *arg;
    size_t size;
    uint32_t timeout, retries;
};

static inline bool is_small(const pp_pool *pool, const pp_call *call)
{
    return call->size < PP__ROOM && !pp__wish_is_in(pool, call);
}

/* Small, with buffers that lie in its item too. */
static inline bool is_lending(const pp_pool *pool, const pp_call *call)
{
    return call->buffer_count <= PP__LENT_MOST && call->size < PP__LENDING_ROOM && pp__wish_is_to_lend(pool, call);
}

/* Its element, with its header and a NUL, travels in a record. */
static inline bool is_middling(const pp_pool *pool, const pp_call *call)
{
    static_assert(PP__INLINE_MAX % 16 == 0, "the padding behind an element makes it no larger than that");
    return call->size < PP__INLINE_MAX - sizeof(struct pp__element) &&
           (!pp__wish_is_in(pool, call) || pp__wish_is_to_lend(pool, call));
}

static inline struct small small_of(const pp_call *call)
{
    return (struct small){call->function, call->arg, call->size, call->timeout, call->retries};
}

/* What one has that is not that small, or has buffers with it. */
struct beside {
    const pp_call *lending; /* it has these, and is small; or NULL */
    void *elements;         /* the item's on success */
    struct pp__wish *wish;  /* the same; or NULL */
};

/* From a small call to an item that is numbered; NULL in *item: it has ended. `beside`: NULL: it is that small. Under
 * the lock. */
static inline __attribute__((always_inline)) int
create_small(pp_pool *pool, struct small call, const struct beside *beside, pp_future **result, struct pp__item **item)
{
    const struct pp__function *function = NULL;
    int error = find_function(pool, call.function, &function);
    if (!error && pool->options.max_pending)
        error = pp__room_wait(pool);
    if (error)
        return error;
    pp_future *future = pp__future_create(pool, function, result != NULL);
    if (!future)
        return -ENOMEM;
    future->item.timeout = call.timeout;
    future->item.retries = call.retries & PP__RETRIES_MASK;
    if (!beside || beside->lending)
        pp__item_fill(&future->item, call.arg, call.size);
    else
        pp__item_lay(&future->item, beside->elements, pp__element_room(call.size));
    if (beside && beside->lending)
        pp__item_lend(&future->item, beside->lending->buffers, beside->lending->buffer_count);
    else if (beside && beside->wish)
        pp__wish_give(pool, beside->wish, &future->item);
    if (result)
        *result = future;
    *item = add(pool, &future->item) ? &future->item : NULL;
    return 0;
}

static uint32_t sooner(uint32_t one, uint32_t other)
{
    return one == 0 || (other > 0 && other < one) ? other : one;
}

/* The last bytes of a large argument are copied in pieces, to see how long the rest will take. */
#define LAST ((size_t)1 << 20)
#define PIECE ((size_t)32 << 10)

/* The worker is woken when the rest takes as long as that does, at the latest before the last piece; of an argument
 * that is a single one, by its call. */
static void fill_loan(pp_pool *pool, const struct pp__loan *loan, const pp_call *call)
{
    char *bytes = pp__item_bytes(pp__loan_elements(loan));
    size_t begin = call->size > LAST ? call->size - LAST : 0, done = begin;
    if (begin > 0)
        memcpy(bytes, call->arg, begin);
    uint64_t begun = pp__now();
    for (bool told = loan->ahead == 0; !told && call->size - done > PIECE;) {
        memcpy(bytes + done, (const char *)call->arg + done, PIECE);
        done += PIECE;
        size_t left = call->size - done;
        told = left <= PIECE || (pp__now() - begun) * left / (done - begin) <= loan->ahead;
        if (told)
            pp__loan_announce(pool, loan);
    }
    pp__item_add_rest(pp__loan_elements(loan), call->arg, call->size, done);
}

/* Straight into a buffer of the worker that will get it, if there is one. True: it was; *error says how that ended. */
static bool submit_lent(pp_pool *pool, const pp_call *call, struct pp__wish *wish, pp_future **result, int *error)
{
    struct pp__loan loan;
    uint64_t size = pp__element_room(call->size);
    if (size <= PP__INLINE_MAX || !pp__loan_open(pool, size, &loan))
        return false;
    fill_loan(pool, &loan, call);
    pp__pool_lock(pool);
    *error = enqueue_large(pool, call, (struct large){.loan = &loan, .wish = wish}, result);
    if (*error)
        pp__loan_close(pool, &loan);
    else
        send_queued(pool, call->timeout);
    pp__pool_unlock(pool);
    return *error != LOST;
}

static int submit_copied(pp_pool *pool, const pp_call *call, struct pp__wish *wish, pp_future **result)
{
    struct pp__item large = {0};
    int error = open_large(pool, call, &large);
    if (error)
        return error;
    pp__pool_lock(pool);
    error = enqueue_large(pool, call, (struct large){.item = &large, .wish = wish}, result);
    if (!error)
        send_queued(pool, call->timeout);
    pp__pool_unlock(pool);
    if (error)
        pp__item_close(&large);
    return error;
}

__attribute__((noinline)) static int submit_large(pp_pool *pool, const pp_call *call, pp_future **result)
{
    PP__NO_CANCELLATION();
    struct pp__wish *wish;
    int error = pp__wish_create(pool, call, &wish);
    if (error)
        return error;
    if (!submit_lent(pool, call, wish, result, &error))
        error = submit_copied(pool, call, wish, result);
    if (error)
        pp__wish_free(wish);
    return error;
}

static inline __attribute__((always_inline)) int submit_single(pp_pool *pool, struct small call,
                                                               const struct beside *beside, pp_future **result)
{
    struct pp__item *item;
    pp__pool_lock_in_turn(pool);
    int error = create_small(pool, call, beside, result, &item);
    if (!error && item)
        send_single(pool, item, call.timeout);
    pp__pool_unlock(pool);
    return error;
}

static inline __attribute__((always_inline)) int submit_small(pp_pool *pool, struct small call, pp_future **result)
{
    return submit_single(pool, call, NULL, result);
}

static int lay_beside(const pp_pool *pool, const pp_call *call, struct beside *beside)
{
    int error = pp__wish_create(pool, call, &beside->wish);
    if (error)
        return error;
    size_t room = pp__element_room(call->size);
    beside->elements = PP_SYS(malloc)(room);
    if (!beside->elements) {
        pp__wish_free(beside->wish);
        return pp__fail(-ENOMEM, "no memory for arguments of %zu bytes", room);
    }
    pp__item_add(beside->elements, call->arg, call->size);
    return 0;
}

/* Apart, for the sake of those that are small. */
__attribute__((noinline)) static int submit_middling(pp_pool *pool, const pp_call *call, pp_future **result)
{
    struct beside beside = {0};
    int error = lay_beside(pool, call, &beside);
    if (error)
        return error;
    error = submit_single(pool, small_of(call), &beside, result);
    if (error) {
        free(beside.elements);
        pp__wish_free(beside.wish);
    }
    return error;
}

__attribute__((noinline)) static int submit_lending(pp_pool *pool, const pp_call *call, pp_future **result)
{
    int error = pp__buffers_check(call);
    return error ? error : submit_single(pool, small_of(call), &(struct beside){.lending = call}, result);
}

static inline __attribute__((always_inline)) int submit_checked(pp_pool *pool, const pp_call *call, pp_future **result)
{
    return is_small(pool, call)      ? submit_small(pool, small_of(call), result)
           : is_lending(pool, call)  ? submit_lending(pool, call, result)
           : is_middling(pool, call) ? submit_middling(pool, call, result)
                                     : submit_large(pool, call, result);
}

/* Any call that was checked. Who waits for room may be in here when another thread releases the pool. */
static int submit_any(pp_pool *pool, const pp_call *call, pp_future **result)
{
    PP__NO_CANCELLATION();
    bool bounded = pool->options.max_pending > 0;
    if (bounded)
        pp__pool_ref(pool);
    int error = submit_checked(pool, call, result);
    if (bounded)
        pp__pool_unref(pool);
    return error;
}

int pp_submit_call(pp_pool *pool, const pp_call *call, pp_future **future)
{
    pp__exit_watch_once();
    if (!pool || !call)
        return pp__fail(-EINVAL, "no %s", pool ? "call" : "pool");
    if (!pp__pool_is_own(pool))
        return pp__owner_refuse();
    int error = check(call);
    if (error)
        return error;
    return pool->options.max_pending ? submit_any(pool, call, future) : submit_checked(pool, call, future);
}

/* Apart, for the sake of those that are small. */
__attribute__((noinline)) static int submit_other(pp_pool *pool, pp_function *function, const void *arg, size_t size,
                                                  pp_future **future)
{
    return pp_submit_call(pool, &(pp_call){.function = function, .arg = arg, .size = size}, future);
}

/* The way of a small call has no cancellation point but where it is put off, with buffers or without, and asks for
 * nothing twice. */
int pp_submit(pp_pool *pool, pp_function *function, const void *arg, size_t size, pp_future **future)
{
    if (!pool || !pp__pool_is_own(pool) || !function || (!arg && size > 0) || size >= PP__ROOM ||
        pool->options.max_pending || pool->options.capture)
        return submit_other(pool, function, arg, size, future);
    pp__exit_watch_once();
    return submit_small(pool, (struct small){.function = function, .arg = arg, .size = size}, future);
}

/*
 * Calls whose arguments are small and whose functions are known, or the first one whatever it is like. Returns how many
 * were accepted; *error is why not the next one, or 0.
 */
static size_t submit_batch(pp_pool *pool, const pp_call *calls, size_t count, pp_future **futures, int *error)
{
    size_t done = 0;
    uint32_t timeout = 0;
    *error = check(&calls[0]);
    if (!*error)
        *error = submit_any(pool, &calls[0], futures);
    if (*error)
        return 0;
    pp__pool_lock(pool);
    for (done = 1; done < count; done++) {
        const pp_call *call = &calls[done];
        *error = check(call);
        if (*error || !is_small(pool, call) || !pp__functions_find(pool->functions, call->function))
            break;
        if (pool->options.max_pending && !pp__room_is_there(pool))
            break; /* the next batch waits, when these have been sent */
        struct pp__item *item;
        *error = create_small(pool, small_of(call), NULL, futures ? &futures[done] : NULL, &item);
        if (*error)
            break;
        if (item)
            pp__pending_insert(pool, item);
        timeout = sooner(timeout, call->timeout);
    }
    send_queued(pool, timeout);
    pp__pool_unlock(pool);
    return done;
}

static ssize_t submit_all(pp_pool *pool, const pp_call *calls, size_t count, pp_future **futures)
{
    for (size_t i = 0; i < count;) {
        int error;
        size_t most = count - i < BATCH ? count - i : BATCH;
        i += submit_batch(pool, calls + i, most, futures ? futures + i : NULL, &error);
        if (error)
            return i > 0 ? (ssize_t)i : error;
    }
    return (ssize_t)count;
}

ssize_t pp_submit_many(pp_pool *pool, const pp_call *calls, size_t count, pp_future **futures)
{
    PP__NO_CANCELLATION();
    pp__exit_watch_once();
    if (!pool || (!calls && count > 0))
        return pp__fail(-EINVAL, "no %s", pool ? "calls" : "pool");
    if (count > PTRDIFF_MAX / sizeof *calls)
        return pp__fail(-EINVAL, "%zu calls are more than any memory has room for", count);
    if (!pp__pool_is_own(pool))
        return pp__owner_refuse();
    if (!pool->options.max_pending)
        return submit_all(pool, calls, count, futures);
    pp__pool_ref(pool); /* as in submit_any */
    ssize_t done = submit_all(pool, calls, count, futures);
    pp__pool_unref(pool);
    return done;
}
