/* SPDX-License-Identifier: MIT */
/* Inline pools whose calls several threads wait for. */
#include "inline_kit.h"

struct caller {
    pp_pool *pool;
    uint32_t number;
};

static void *call_many(void *context)
{
    const struct caller *caller = context;
    for (uint32_t i = 0; i < 300; i++) {
        pp_future *future = submit_u32(caller->pool, count_run, FIRST_RUN + caller->number * 300 + i);
        CHECK_INT(result_u32(future), FIRST_RUN + caller->number * 300 + i);
        pp_future_unref(future);
    }
    return NULL;
}

EITHER(several_threads_call_and_wait)
{
    enum { THREADS = 4 };
    struct caller callers[THREADS];
    pthread_t threads[THREADS];
    board_make();
    pp_pool *pool = kit_pool(method, 4);
    for (uint32_t i = 0; i < THREADS; i++) {
        callers[i] = (struct caller){pool, i};
        threads[i] = start_thread(call_many, &callers[i]);
    }
    for (int i = 0; i < THREADS; i++)
        join_thread(threads[i]);
    check_runs(0, THREADS * 300, 1);
    pp_pool_destroy(pool);
}

static int inside; /* without a lock: the method runs one call at a time */

static int alone(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    CHECK_INT(inside, 0);
    inside++;
    sched_yield();
    inside--;
    return 0;
}

static void *call_alone(void *pool)
{
    for (int i = 0; i < 300; i++)
        expect_end(submit(pool, alone, NULL, 0), 0);
    return NULL;
}

TEST(one_call_runs_at_a_time_whoever_waits)
{
    pthread_t threads[4];
    pp_pool *pool = inline_pool((pp_pool_options){.max_workers = 4});
    for (int i = 0; i < 4; i++)
        threads[i] = start_thread(call_alone, pool);
    for (int i = 0; i < 4; i++)
        join_thread(threads[i]);
    pp_pool_destroy(pool);
}

static void *wait_for_gated(void *future)
{
    CHECK_INT(result_u32(future), 5);
    return NULL;
}

/* Another thread runs it: this one sleeps, in time, and can be interrupted in its turn by nothing but its end. */
TEST(a_call_that_another_thread_runs_is_waited_for)
{
    board_make();
    pp_pool *pool = inline_pool((pp_pool_options){0});
    pp_future *gate = submit_gated(pool, BEGUN, GATE, 5), *behind = submit_u32(pool, echo, 6);
    pthread_t thread = start_thread(wait_for_gated, gate);
    until(read_word(BEGUN) == 1);
    CHECK_INT(pp_future_state(gate), PP_RUNNING);
    CHECK_INT(pp_future_cancel(gate), -EBUSY);
    CHECK_INT(pp_future_state(behind), PP_PENDING);
    CHECK_INT(pp_future_wait(behind, 10), -ETIMEDOUT);
    CHECK_INT(pp_future_wait(gate, 0), -ETIMEDOUT);
    open_gate(GATE);
    CHECK_INT(result_u32(gate), 5);
    CHECK_INT(result_u32(behind), 6);
    join_thread(thread);
    pp_future_unref(gate);
    pp_future_unref(behind);
    pp_pool_destroy(pool);
}

static void on_signal(int number)
{
    (void)number;
}

static void *interrupt(void *victim)
{
    while (!read_word(GATE)) {
        pthread_kill(*(pthread_t *)victim, SIGUSR1);
        test_sleep_ms(1);
    }
    return NULL;
}

TEST(who_waits_for_a_call_that_another_thread_runs_can_be_interrupted)
{
    board_make();
    pthread_t self = pthread_self();
    struct sigaction action = {.sa_handler = on_signal};
    CHECK_INT(sigaction(SIGUSR1, &action, NULL), 0);
    pp_pool *pool = inline_pool((pp_pool_options){0});
    pp_future *gate = submit_gated(pool, BEGUN, GATE, 5);
    pthread_t thread = start_thread(wait_for_gated, gate);
    until(read_word(BEGUN) == 1);
    pthread_t pest = start_thread(interrupt, &self);
    CHECK_INT(pp_future_wait(gate, -1), -EINTR);
    open_gate(GATE);
    join_thread(pest);
    CHECK_INT(result_u32(gate), 5);
    join_thread(thread);
    pp_future_unref(gate);
    pp_pool_destroy(pool);
}
