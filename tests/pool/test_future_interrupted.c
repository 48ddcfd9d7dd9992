/* SPDX-License-Identifier: MIT */
/* Threads whose waits run out, or are interrupted, and threads that are cancelled: nobody's answer is lost. */
#include "crew_kit.h"
#include "signal_kit.h"

enum { BEGUN, GATE };

/* ----------------------------------------------------------------------------------------------- timeouts */

static uint32_t wait_in_pieces(pp_future *future, uint32_t salt)
{
    uint32_t value = 0;
    int code;
    do {
        int timeout = (int)(salt++ % 4) - 1; /* -1, 0, 1, 2 */
        code = pp_future_result(future, timeout, &value, sizeof value, NULL);
        CHECK(code == 0 || code == -EINTR || (code == -ETIMEDOUT && timeout >= 0));
    } while (code != 0);
    return value;
}

static void *call_and_wait_in_pieces(void *argument)
{
    struct crew *crew = argument;
    uint32_t me = atomic_fetch_add(&crew->next, 1);
    for (uint32_t i = 0; i < ROUNDS; i++) {
        pp_future *future = submit_u32(crew->pool, echo, me << 16 | i);
        CHECK_INT(wait_in_pieces(future, me + i), me << 16 | i);
        pp_future_unref(future);
    }
    atomic_fetch_add(&crew->finished, 1);
    return NULL;
}

BOTH(threads_whose_waits_run_out_lose_nothing)
{
    struct crew crew = {.pool = kit_pool(method, 2)};
    start_crew(&crew, call_and_wait_in_pieces);
    join_crew(&crew);
    pp_pool_destroy(crew.pool);
}

/* ----------------------------------------------------------------------------------------------- signals */

struct waiter {
    pp_future *future;
    int timeout;
    pthread_t thread;
    _Atomic bool done;
    int code;
};

static void *wait_once(void *argument)
{
    struct waiter *waiter = argument;
    waiter->code = pp_future_wait(waiter->future, waiter->timeout);
    atomic_store(&waiter->done, true);
    return NULL;
}

/* Each for a call of its own, behind a gate: one without end, one for an hour. */
static void start_waiters(pp_pool *pool, pp_future *futures[2], struct waiter waiters[2])
{
    occupy(pool, BEGUN, GATE, 2, futures);
    for (int i = 0; i < 2; i++) {
        waiters[i] = (struct waiter){.future = futures[i], .timeout = i ? -1 : 3600000};
        waiters[i].thread = start_thread(wait_once, &waiters[i]);
    }
}

static bool kill_until_done(struct waiter *waiter, int number)
{
    if (!atomic_load(&waiter->done))
        pthread_kill(waiter->thread, number);
    return atomic_load(&waiter->done);
}

/* One of the two collects and the other sleeps on its own word; both are interrupted, and then both get their answers.
 */
BOTH(a_signal_interrupts_a_wait_and_the_call_goes_on)
{
    board_make();
    install(SIGUSR1, 0);
    pp_pool *pool = kit_pool(method, 2);
    pp_future *futures[2];
    struct waiter waiters[2];
    start_waiters(pool, futures, waiters);
    for (int i = 2; i-- > 0;) {
        until(kill_until_done(&waiters[i], SIGUSR1));
        CHECK_INT(waiters[i].code, -EINTR);
        join_thread(waiters[i].thread);
    }
    open_gate(GATE);
    for (uint32_t i = 0; i < 2; i++) {
        CHECK_INT(result_u32(futures[i]), i);
        pp_future_unref(futures[i]);
    }
    pp_pool_destroy(pool);
}

static int nap(pp_task *task, const void *arg, size_t size)
{
    test_sleep_ms(5);
    return echo(task, arg, size);
}

static void *wait_behind(void *argument)
{
    test_sleep_ms(1);
    return wait_once(argument);
}

/*
 * Who collects leaves when its time is up, and stays away; who sleeps beside it has to take over. No manager does it in
 * its stead, as the pool is an event loop's, and each sleep's own bound, 100 ms, would be too late for so many rounds.
 */
BOTH(who_waits_on_takes_over_from_who_collected_and_left)
{
    pp_pool *pool = kit_pool_with(method, (pp_pool_options){.max_workers = 1, .event_loop = 1});
    for (uint32_t i = 0; i < ROUNDS / 2; i++) {
        struct waiter waiter = {.future = submit_u32(pool, nap, i), .timeout = -1};
        pthread_t thread = start_thread(wait_behind, &waiter);
        int code = pp_future_wait(waiter.future, 3);
        CHECK(code == 0 || code == -ETIMEDOUT);
        join_thread(thread);
        CHECK_INT(waiter.code, 0);
        CHECK_INT(result_u32(waiter.future), i);
        pp_future_unref(waiter.future);
    }
    pp_pool_destroy(pool);
}

/* Returns when the waiter has run `count` handlers more. */
static void shower(struct waiter *waiter, int number, uint32_t count)
{
    uint32_t end = atomic_load(&handled) + count;
    while (atomic_load(&handled) < end) {
        pthread_kill(waiter->thread, number);
        test_sleep_ms(1);
    }
}

BOTH(a_handler_that_asks_for_restarting_does_not_interrupt)
{
    board_make();
    install(SIGUSR2, SA_RESTART);
    install(SIGSEGV, SA_RESETHAND); /* a crash handler interrupts no wait, so it does not count */
    pp_pool *pool = kit_pool(method, 2);
    pp_future *futures[2];
    struct waiter waiters[2];
    start_waiters(pool, futures, waiters);
    for (int i = 0; i < 2; i++)
        shower(&waiters[i], SIGUSR2, 10);
    CHECK(!atomic_load(&waiters[0].done) && !atomic_load(&waiters[1].done));
    open_gate(GATE);
    for (int i = 0; i < 2; i++) {
        join_thread(waiters[i].thread);
        CHECK_INT(waiters[i].code, 0);
        pp_future_unref(futures[i]);
    }
    pp_pool_destroy(pool);
}

BOTH(a_wait_under_signals_still_runs_out)
{
    board_make();
    install(SIGUSR2, SA_RESTART);
    pp_pool *pool = kit_pool(method, 1);
    struct waiter waiter = {.timeout = 30};
    occupy(pool, BEGUN, GATE, 1, &waiter.future);
    waiter.thread = start_thread(wait_once, &waiter);
    until(kill_until_done(&waiter, SIGUSR2));
    CHECK_INT(waiter.code, -ETIMEDOUT);
    join_thread(waiter.thread);
    open_gate(GATE);
    pp_future_unref(waiter.future);
    pp_pool_destroy(pool);
}

/* Some handlers restart and some do not: a wait may come back with -EINTR, and can be made again. */
BOTH(threads_under_a_storm_of_signals_lose_no_answer)
{
    install(SIGUSR1, 0);
    install(SIGUSR2, SA_RESTART);
    struct crew crew = {.pool = kit_pool(method, 2)};
    do {
        start_crew(&crew, call_and_wait_in_pieces);
        for (uint32_t i = 0; atomic_load(&crew.finished) < THREADS; i++) {
            pthread_kill(crew.threads[i % THREADS], i % 3 ? SIGUSR1 : SIGUSR2);
            if (i % 16 == 0)
                test_sleep_ms(1);
        }
        join_crew(&crew);
    } while (atomic_load(&handled) == 0); /* they may be done before the first signal comes */
    pp_pool_destroy(crew.pool);
}

/* ------------------------------------------------------------------------------------------- cancellation */

struct cancelled {
    pp_future *future;
    int code;
};

static void *wait_and_be_cancelled(void *argument)
{
    struct cancelled *me = argument;
    me->code = pp_future_wait(me->future, -1);
    pthread_testcancel();
    me->code = 1;
    return NULL;
}

BOTH(a_thread_that_is_cancelled_while_it_waits_leaves_nothing_locked)
{
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    struct cancelled me = {.code = -1};
    void *end = NULL;
    occupy(pool, BEGUN, GATE, 1, &me.future);
    pthread_t thread = start_thread(wait_and_be_cancelled, &me);
    CHECK_INT(pthread_cancel(thread), 0);
    expect_usable(pool);
    CHECK_INT(pp_future_wait(me.future, 1), -ETIMEDOUT);
    open_gate(GATE);
    CHECK_INT(pthread_join(thread, &end), 0);
    CHECK(end == PTHREAD_CANCELED);
    CHECK_INT(me.code, 0);
    CHECK_INT(result_u32(me.future), 0);
    pp_future_unref(me.future);
    pp_pool_destroy(pool);
}

static void *submit_cancelled(void *pool)
{
    CHECK_INT(pthread_cancel(pthread_self()), 0);
    CHECK_OK(pp_submit(pool, nothing, NULL, 0, NULL));
    pthread_testcancel();
    return NULL;
}

static void *wait_for_promise(void *promise)
{
    CHECK_OK(pp_future_wait(promise, -1));
    return NULL;
}

static void *call_until_told(void *argument)
{
    struct crew *crew = argument;
    for (uint32_t i = 0; !atomic_load(&crew->counted); i++) {
        pp_future *future = submit_u32(crew->pool, echo, i);
        CHECK_INT(result_u32(future), i);
        pp_future_unref(future);
    }
    return NULL;
}

/* The first call starts workers. Then one sleeps and one looks beside it, so that a call makes who submits it wake
 * them.
 */
BOTH(a_thread_that_is_cancelled_as_it_submits_leaves_nothing_locked)
{
    struct crew crew = {.pool = kit_pool(method, 3)};
    pp_future *promise;
    void *end = NULL;
    CHECK_INT(pthread_join(start_thread(submit_cancelled, crew.pool), &end), 0);
    expect_usable(crew.pool);
    CHECK_OK(pp_future_create(crew.pool, &promise));
    pthread_t sleeper = start_thread(wait_for_promise, promise), caller = start_thread(call_until_told, &crew);
    for (int i = 0; i < 1000; i++) {
        pthread_t thread = start_thread(submit_cancelled, crew.pool);
        CHECK_INT(pthread_join(thread, &end), 0);
        CHECK(end == PTHREAD_CANCELED);
    }
    atomic_store(&crew.counted, 1);
    join_thread(caller);
    CHECK_OK(pp_future_set_result(promise, NULL, 0));
    join_thread(sleeper);
    pp_future_unref(promise);
    CHECK_OK(pp_pool_shutdown(crew.pool, 0, -1));
    pp_pool_destroy(crew.pool);
}
