/* SPDX-License-Identifier: MIT */
/* Calls that are killed on request. */
#include "processes_kit.h"

#include <time.h>

static int task_hang_stopped(pp_task *task, const void *arg, size_t size)
{
    shared()->pid[0] = getpid();
    shared()->arrived[0]++;
    raise(SIGSTOP);
    return task_hang(task, arg, size);
}

static pp_future *start_hanging(pp_pool *pool, pp_function *function, uint32_t retries)
{
    pp_future *future;
    CHECK_OK(pp_submit_call(pool, &(pp_call){.function = function, .retries = retries}, &future));
    gate_wait_arrived(0, 1);
    return future;
}

static void expect_killed(pp_future *future)
{
    const pp_error *error = error_of(future, PP_ERROR_CRASH);
    CHECK_INT(error->code, -EOWNERDEAD);
    CHECK_INT(error->signal, SIGKILL);
    CHECK_INT(error->pid, shared()->pid[0]);
    CHECK_INT(error->tries, 1);
    CHECK(error->earlier == NULL);
    CHECK_HAS(error->message, "killed on request");
    wait_until(is_gone(shared()->pid[0]), 10);
    CHECK_INT(pp_future_kill(future), -EALREADY);
    CHECK_HAS(pp_last_error(), "has ended");
    pp_future_unref(future);
}

/* Calls before and behind it, with one worker and with two. */
static void kill_among_others(pp_start_method method, pp_function *function)
{
    for (int workers = 1; workers <= 2; workers++) {
        pp_pool *pool = open_workers(workers, method);
        pp_future *before = submit_int(pool, task_square, 3), *after[10];
        shared()->arrived[0] = 0;
        pp_future *killed = start_hanging(pool, function, 0);
        for (int i = 0; i < 10; i++)
            after[i] = submit_int(pool, task_square, i);
        CHECK_OK(pp_future_kill(killed));
        expect_killed(killed);
        CHECK_INT(take_int(before), 9);
        for (int i = 0; i < 10; i++)
            CHECK_INT(take_int(after[i]), i * i);
        pp_pool_destroy(pool);
    }
}

BOTH(a_running_call_is_killed_alone)
{
    kill_among_others(method, task_hang);
}

BOTH(a_call_that_blocks_all_signals_is_killed)
{
    kill_among_others(method, task_hang_deaf);
}

BOTH(a_call_whose_worker_is_stopped_is_killed)
{
    kill_among_others(method, task_hang_stopped);
}

/* Nobody waits: the pool itself must hear of the death. */
BOTH(a_kill_strikes_though_nobody_waits)
{
    pp_pool *pool = open_workers(1, method);
    pp_future *future = start_hanging(pool, task_hang, 0);
    CHECK_OK(pp_future_kill(future));
    int again = pp_future_kill(future); /* it dies, or has died */
    CHECK(again == 0 || again == -EALREADY);
    wait_until(pp_future_state(future) == PP_FINISHED, 10);
    expect_killed(future);
    pp_pool_destroy(pool);
}

BOTH(a_killed_call_is_not_tried_again)
{
    pp_pool *pool = open_workers(1, method);
    pp_future *future = start_hanging(pool, task_hang, 5);
    CHECK_OK(pp_future_kill(future));
    expect_killed(future);
    CHECK_INT(take_int(submit_int(pool, task_square, 4)), 16);
    CHECK_INT(shared()->arrived[0], 1);
    pp_pool_destroy(pool);
}

BOTH(the_models_rule_is_not_about_kills_on_request)
{
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 2, .on_crash = PP_BREAK_POOL}, method);
    pp_future *future = start_hanging(pool, task_hang, 0);
    CHECK_OK(pp_future_kill(future));
    expect_killed(future);
    CHECK_INT(take_int(submit_int(pool, task_square, 4)), 16);
    pp_pool_destroy(pool);
}

BOTH(killing_a_call_that_has_not_begun_cancels_it)
{
    pp_pool *pool = open_workers(1, method);
    pp_future *running = submit_int(pool, task_gate, 1);
    gate_wait_arrived(1, 1);
    pp_future *pending = submit_int(pool, task_square, 3);
    CHECK_OK(pp_future_kill(pending));
    CHECK_INT(pp_future_state(pending), PP_CANCELLED_AND_NOTIFIED);
    CHECK_OK(pp_future_kill(pending));
    drop_failed(pending, PP_ERROR_CANCELLED);
    gate_open(1);
    take_int(running);
    pp_pool_destroy(pool);
}

BOTH(a_call_that_has_ended_keeps_its_result)
{
    pp_pool *pool = open_workers(1, method);
    pp_future *future = submit_int(pool, task_square, 3);
    CHECK_OK(pp_future_wait(future, -1));
    CHECK_INT(pp_future_kill(future), -EALREADY);
    CHECK_INT(take_int(future), 9);
    pp_pool_destroy(pool);
}

/* What has ended has a result, whatever the owner had seen of it; what runs behind it is not what was meant. */
BOTH(the_call_behind_one_that_has_ended_is_not_killed)
{
    pp_pool *pool = open_workers(1, method);
    for (int i = 0; i < 50; i++)
        take_int(submit_int(pool, task_square, i)); /* how long they take is known: several travel together */
    pp_future *first = submit_int(pool, task_gate, 1), *second = submit_int(pool, task_gate, 2);
    gate_wait_arrived(1, 1);
    gate_open(1);
    gate_wait_arrived(2, 1);
    CHECK_INT(pp_future_kill(first), -EALREADY);
    gate_open(2);
    CHECK_INT(take_int(first), take_int(second));
    pp_pool_destroy(pool);
}

static void spin_for(uint64_t microseconds)
{
    struct timespec begun, now;
    clock_gettime(CLOCK_MONOTONIC, &begun);
    do
        clock_gettime(CLOCK_MONOTONIC, &now);
    while ((uint64_t)(now.tv_sec - begun.tv_sec) * 1000000 + (uint64_t)(now.tv_nsec / 1000) <
           microseconds + (uint64_t)(begun.tv_nsec / 1000));
}

/* As count_run, and takes less time than a kill needs to arrive. */
static int count_short(pp_task *task, const void *arg, size_t size)
{
    spin_for(20);
    return count_run(task, arg, size);
}

/* A short call among short calls, killed at whatever moment: the others run once each and succeed. */
BOTH_WITHIN(a_kill_at_any_moment_touches_no_other_call, 60)
{
    enum { CALLS = 16 };
    pp_pool *pool = open_workers(1, method);
    uint64_t random = 1;
    for (int round = 0, rounds = 300 / (int)harness_scale(); round < rounds; round++) {
        pp_future *futures[CALLS];
        random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
        int target = (int)(random >> 33) % CALLS;
        for (uint32_t i = 0; i < CALLS; i++)
            atomic_store(&shared()->runs[i], 0);
        for (uint32_t i = 0; i < CALLS; i++)
            futures[i] = submit_u32(pool, count_short, i);
        while (random >> 63 && pp_future_state(futures[target]) == PP_PENDING) {
        }
        spin_for((random >> 40) % 25);
        int code = pp_future_kill(futures[target]);
        CHECK(code == 0 || code == -EALREADY);
        for (int i = 0; i < CALLS; i++) {
            const pp_error *error;
            CHECK_OK(pp_future_error(futures[i], -1, &error));
            if (error && i != target)
                harness_fail(__FILE__, __LINE__, "call %d failed beside %d: %s", i, target, error->message);
            CHECK(!error || error->kind == PP_ERROR_CRASH || error->kind == PP_ERROR_CANCELLED);
            CHECK(code == 0 || !error);
            CHECK(shared()->runs[i] <= 1 && (error || shared()->runs[i] == 1));
            pp_future_unref(futures[i]);
        }
    }
    pp_pool_destroy(pool);
}

static void *kill_it(void *future)
{
    int code = pp_future_kill(future);
    CHECK(code == 0 || code == -EALREADY);
    return NULL;
}

BOTH(eight_threads_kill_one_call)
{
    pthread_t threads[8];
    pp_pool *pool = open_workers(2, method);
    pp_future *future = start_hanging(pool, task_hang, 0);
    for (int i = 0; i < 8; i++)
        threads[i] = start_thread(kill_it, future);
    for (int i = 0; i < 8; i++)
        join_thread(threads[i]);
    expect_killed(future);
    CHECK_INT(take_int(submit_int(pool, task_square, 4)), 16);
    pp_pool_destroy(pool);
}

/* ---------------------------------------------------------------------------------------- between tries */

BOTH(a_call_that_waits_to_be_tried_again_ends_with_its_last_error)
{
    pp_future *future;
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 1, .initializer = wait_in_second}, method);
    CHECK_OK(pp_submit_call(pool, &(pp_call){.function = crash, .retries = 3}, &future));
    gate_wait_arrived(1, 1);
    CHECK_INT(pp_future_cancel(future), -EBUSY);
    CHECK_OK(pp_future_kill(future));
    const pp_error *error = error_of(future, PP_ERROR_CRASH);
    CHECK_INT(error->tries, 1);
    pp_future_unref(future);
    gate_open(1);
    CHECK_INT(take_int(submit_int(pool, task_square, 4)), 16);
    pp_pool_destroy(pool);
}

/* ------------------------------------------------------------------------------------ what can't be killed */

static int kill_self(pp_task *task, const void *arg, size_t size)
{
    pp_future *self;
    CHECK_INT(size, sizeof self);
    memcpy(&self, *(pp_future * *const *)arg, sizeof self);
    int code = pp_future_kill(self);
    return pp_task_return(task, &code, sizeof code);
}

TEST(an_inline_call_that_runs_is_not_killed)
{
    pp_future *future = NULL, **place = &future;
    pp_pool *pool = kit_pool(PP_START_INLINE, 1);
    CHECK_OK(pp_submit(pool, kill_self, &place, sizeof place, &future));
    CHECK_INT(take_int(future), -ENOTSUP);
    pp_pool_destroy(pool);
}

TEST(a_future_that_the_program_completes_is_not_killed_once_it_runs)
{
    pp_future *pending, *running;
    pp_pool *pool = kit_pool(PP_START_INLINE, 1);
    CHECK_OK(pp_future_create(pool, &pending));
    CHECK_OK(pp_future_create(pool, &running));
    CHECK_INT(pp_future_set_running_or_notify_cancel(running), 1);
    CHECK_INT(pp_future_kill(running), -ENOTSUP);
    CHECK_HAS(pp_last_error(), "runs in this process");
    CHECK_OK(pp_future_set_result(running, NULL, 0));
    CHECK_INT(pp_future_kill(running), -EALREADY);
    CHECK_OK(pp_future_kill(pending));
    CHECK_INT(pp_future_state(pending), PP_CANCELLED);
    pp_future_unref(pending);
    pp_future_unref(running);
    pp_pool_destroy(pool);
}

TEST(no_future_and_a_forked_child_are_refused)
{
    CHECK_INT(pp_future_kill(NULL), -EINVAL);
    pp_pool *pool = open_workers(1, PP_START_FORK);
    pp_future *future = start_hanging(pool, task_hang, 0);
    pid_t child = fork();
    if (child == 0)
        _exit(pp_future_kill(future) == -EPERM ? 0 : 1);
    CHECK_INT(wait_for(child), 0);
    CHECK_OK(pp_future_kill(future));
    expect_killed(future);
    pp_pool_destroy(pool);
}
