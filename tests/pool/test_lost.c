/* SPDX-License-Identifier: MIT */
/* A wake that is lost costs some milliseconds, is counted and told once. What is to wake is kept from it here by hand.
 */
#include "call_kit.h"

#include "base/atomic.h"
#include "pool/pool.h"
#include "pool/workers.h"

enum { BEGUN, GATES = 100 };

static _Atomic uint32_t told;

static void log_line(void *context, const char *text)
{
    (void)context;
    if (strstr(text, "a wake was lost"))
        atomic_fetch_add(&told, 1);
}

static pp_pool *open_pool(pp_start_method method, int workers)
{
    board_make();
    return kit_pool_with(method, (pp_pool_options){.max_workers = workers, .log = log_line});
}

static uint64_t lost(pp_pool *pool)
{
    pp__pool_lock(pool);
    uint64_t count = pool->lost_wakes;
    pp__pool_unlock(pool);
    return count;
}

static void check_lost(pp_pool *pool, uint64_t count)
{
    CHECK_INT(lost(pool), count);
    pp_pool_destroy(pool);
    CHECK_INT(atomic_load(&told), count > 0);
}

static void *wait_for_future(void *future)
{
    CHECK_OK(pp_future_wait(future, -1));
    return NULL;
}

/* Whoever collects sleeps; `waiting`: a thread that waits, and hears of each result. */
static bool is_asleep(pp_pool *pool, bool waiting)
{
    pp__pool_lock(pool);
    bool asleep = pool->collector.asleep && (pool->collector.waiter != NULL) == waiting;
    pp__pool_unlock(pool);
    return asleep;
}

static bool others_wait(pp_pool *pool)
{
    pp__pool_lock(pool);
    bool some = !pp__list_empty(&pool->collector.waiters);
    pp__pool_unlock(pool);
    return some;
}

/* Takes from the workers' sight that somebody sleeps, the epoch being the same. */
static void hide_sleep(pp_pool *pool)
{
    pp__pool_lock(pool);
    uint64_t want = pp__load_relaxed(&pool->page->wanted.word);
    pp__store_relaxed(&pool->page->wanted.word, want & ~UINT64_C(3));
    pp__pool_unlock(pool);
}

/* The collector's sleep may have ended just before, and the worker rings as ever. */
static void lose_result(pp_pool *pool, uint32_t gate)
{
    pp_future *future;
    occupy(pool, BEGUN, gate, 1, &future);
    pthread_t thread = start_thread(wait_for_future, future);
    until(is_asleep(pool, true));
    hide_sleep(pool);
    open_gate(gate);
    join_thread(thread);
    pp_future_unref(future);
}

BOTH(a_result_that_wakes_nobody_is_counted)
{
    pp_pool *pool = open_pool(method, 1);
    for (uint32_t gate = GATES; lost(pool) < 2; gate++)
        lose_result(pool, gate);
    check_lost(pool, 2);
}

static uint32_t call(pp_pool *pool, uint32_t value)
{
    pp_future *future = submit_u32(pool, echo, value);
    uint32_t result = result_u32(future);
    pp_future_unref(future);
    return result;
}

/* As if it had been rung. */
static bool hide_sleeping_worker(pp_pool *pool)
{
    pp__pool_lock(pool);
    struct pp__worker *worker = pool->workers[0];
    uint32_t on = pp__load_relaxed(&worker->result_side->sleeping);
    worker->rung.before = on;
    pp__pool_unlock(pool);
    return on != 0;
}

BOTH(a_call_for_which_its_worker_is_not_woken_is_counted)
{
    pp_pool *pool = open_pool(method, 1);
    call(pool, 1);
    while (lost(pool) == 0) { /* it may only have been about to sleep, and looks once more */
        until(hide_sleeping_worker(pool));
        CHECK_INT(call(pool, 2), 2);
    }
    check_lost(pool, 1);
}

/* The last to wait is not told of the end of its future, and nobody else gives it the duty meanwhile. */
BOTH(a_thread_that_is_not_told_what_it_waits_for_is_counted)
{
    pp_future *futures[2];
    pthread_t threads[2];
    pp_pool *pool = open_pool(method, 2);
    for (uint32_t i = 0; i < 2; i++) {
        occupy(pool, BEGUN, GATES + i, 1, &futures[i]);
        threads[i] = start_thread(wait_for_future, futures[i]);
        until(i == 0 ? is_asleep(pool, true) : others_wait(pool));
    }
    pp__pool_lock(pool);
    pp__list_remove(pool->futures.waiters.previous);
    pp__pool_unlock(pool);
    for (uint32_t i = 2; i-- > 0;) {
        open_gate(GATES + i);
        join_thread(threads[i]);
        pp_future_unref(futures[i]);
    }
    check_lost(pool, 1);
}

/* Neither of who collects nor of who waits beside. */
BOTH(sleeps_that_find_nothing_are_not_counted)
{
    pp_future *futures[2];
    pp_pool *pool = open_pool(method, 2);
    occupy(pool, BEGUN, GATES, 2, futures);
    pthread_t thread = start_thread(wait_for_future, futures[1]);
    until(is_asleep(pool, true));
    CHECK_INT(pp_future_wait(futures[0], 350), -ETIMEDOUT);
    open_gate(GATES);
    join_thread(thread);
    CHECK_INT(result_u32(futures[0]), 0);
    pp_future_unref(futures[0]);
    pp_future_unref(futures[1]);
    check_lost(pool, 0);
}
