/* SPDX-License-Identifier: MIT */
/* A running call is asked to stop, and tells how far it is. */
#include "processes_kit.h"

/* Until it is asked to stop; returns how often it looked. */
static int task_polite(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    int looks = 1;
    shared()->pid[0] = getpid();
    shared()->arrived[0]++;
    for (; !pp_task_cancelled(task); looks++)
        test_sleep_ms(1);
    shared()->words[1] = shared()->words[0];
    return pp_task_return(task, &looks, sizeof looks);
}

static pp_future *start_polite(pp_pool *pool, uint32_t retries)
{
    pp_future *future;
    shared()->arrived[0] = 0;
    CHECK_OK(pp_submit_call(pool, &(pp_call){.function = task_polite, .retries = retries}, &future));
    gate_wait_arrived(0, 1);
    return future;
}

BOTH(a_running_call_that_is_asked_to_stop_ends_as_it_likes)
{
    pp_pool *pool = open_workers(1, method);
    for (int i = 1; i <= 20; i++) {
        pp_future *future = start_polite(pool, 0), *behind = submit_int(pool, task_square, i);
        CHECK_INT(pp_future_wait(future, 0), -ETIMEDOUT);
        shared()->words[0] = i;                   /* what was done before is seen */
        CHECK_OK(pp_future_request_stop(behind)); /* which would run as soon as the other one has ended */
        CHECK_OK(pp_future_request_stop(future));
        CHECK(take_int(future) > 0);
        CHECK_INT(shared()->words[1], i);
        drop_failed(behind, PP_ERROR_CANCELLED);
    }
    pp_pool_destroy(pool);
}

static int task_is_cancelled(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    int cancelled = pp_task_cancelled(task);
    return pp_task_return(task, &cancelled, sizeof cancelled);
}

EACH(other_calls_are_not_asked)
{
    pp_future *first, *stopped = NULL;
    share();
    pp_pool *pool = open_workers(1, method);
    first = submit(pool, task_is_cancelled, NULL, 0);
    CHECK_INT(take_int(first), 0);
    if (method != PP_START_INLINE) {
        stopped = start_polite(pool, 0);
        CHECK_OK(pp_future_request_stop(stopped));
        take_int(stopped);
    }
    for (int i = 0; i < 10; i++)
        CHECK_INT(take_int(submit(pool, task_is_cancelled, NULL, 0)), 0);
    pp_pool_destroy(pool);
}

BOTH(one_that_has_ended_is_not_asked)
{
    pp_pool *pool = open_workers(1, method);
    pp_future *future = submit_int(pool, task_square, 3);
    CHECK_OK(pp_future_wait(future, -1));
    CHECK_INT(pp_future_request_stop(future), -EALREADY);
    CHECK_HAS(pp_last_error(), "has ended");
    CHECK_INT(take_int(future), 9);
    pp_pool_destroy(pool);
}

BOTH(a_call_that_was_asked_to_stop_is_not_tried_again)
{
    pp_pool *pool = open_workers(1, method);
    pp_future *future = submit_int(pool, task_gate, 5);
    pp_future_unref(future);
    gate_open(5);
    future = start_polite(pool, 5);
    stop_and_see(shared()->pid[0]);
    CHECK_OK(pp_future_request_stop(future));
    kill(shared()->pid[0], SIGKILL);
    CHECK_INT(error_of(future, PP_ERROR_CRASH)->tries, 1);
    CHECK_INT(shared()->arrived[0], 1);
    pp_future_unref(future);
    expect_usable(pool);
    pp_pool_destroy(pool);
}

BOTH(a_call_that_waits_to_be_tried_again_and_is_to_stop_ends_with_its_last_error)
{
    pp_future *future;
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 1, .initializer = wait_in_second}, method);
    CHECK_OK(pp_submit_call(pool, &(pp_call){.function = crash, .retries = 3}, &future));
    gate_wait_arrived(1, 1);
    CHECK_OK(pp_future_request_stop(future));
    CHECK_INT(error_of(future, PP_ERROR_CRASH)->tries, 1);
    pp_future_unref(future);
    gate_open(1);
    pp_pool_destroy(pool);
}

static int cancelled_in_duty(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    pp_task_progress(task, 77);
    shared()->words[2] += 1 + 100 * pp_task_cancelled(task);
    return 0;
}

/* Call 0 has the id of a duty. */
BOTH(initializers_and_finalizers_are_not_asked_and_tell_nothing)
{
    uint64_t progress;
    pp_pool *pool = open_pool(
        (pp_pool_options){.max_workers = 1, .initializer = cancelled_in_duty, .finalizer = cancelled_in_duty}, method);
    pp_future *future = start_polite(pool, 0);
    CHECK_INT(pp_future_id(future), 0);
    CHECK_OK(pp_future_progress(future, &progress));
    CHECK_INT(progress, 0);
    CHECK_OK(pp_future_request_stop(future));
    take_int(future);
    pp_pool_destroy(pool);
    CHECK_INT(shared()->words[2], 2);
}

/* ------------------------------------------------------------------------------------------- progress */

/* Tells a thousand times its argument, and then what it finds on the board, until gate 1 opens. */
static int task_tell(pp_task *task, const void *arg, size_t size)
{
    (void)size;
    shared()->arrived[0]++;
    wait_at(30000);
    for (uint64_t told = 1000 * (uint64_t)read_int(arg); !shared()->gates[1]; test_sleep_ms(1)) {
        pp_task_progress(task, told);
        if (shared()->words[3])
            told = (uint64_t)shared()->words[3];
    }
    return pp_task_return(task, arg, sizeof(int));
}

static uint64_t progress_of(pp_future *future)
{
    uint64_t progress = 4711;
    CHECK_OK(pp_future_progress(future, &progress));
    return progress;
}

BOTH(a_running_call_tells_how_far_it_is)
{
    pp_pool *pool = open_workers(1, method);
    for (int i = 1; i <= 10; i++) {
        shared()->arrived[0] = shared()->gates[1] = 0;
        shared()->words[3] = 0;
        atomic_store(word(30000), 0);
        pp_future *future = submit_int(pool, task_tell, i), *pending = submit_int(pool, task_square, i);
        uint64_t progress = 4711;
        gate_wait_arrived(0, 1);
        CHECK_INT(progress_of(future), 0); /* not what the call before has told */
        open_gate(30000);
        until(progress_of(future) == 1000 * (uint64_t)i);
        shared()->words[3] = INT64_MAX;
        until(progress_of(future) == INT64_MAX);
        CHECK_INT(progress_of(pending), 0);
        gate_open(1);
        CHECK_INT(take_int(pending), i * i);
        CHECK_INT(pp_future_progress(future, &progress), -EALREADY);
        CHECK_INT(progress, 4711);
        CHECK_INT(take_int(future), i);
    }
    pp_pool_destroy(pool);
}

/* Each tells only values of its own. */
static int task_tell_much(pp_task *task, const void *arg, size_t size)
{
    uint64_t mine = (uint64_t)read_int(arg);
    (void)size;
    for (uint64_t i = 1; i <= 20; i++)
        pp_task_progress(task, mine << 32 | i);
    return 0;
}

BOTH_WITHIN(a_value_is_always_that_of_the_call_it_is_asked_of, 60)
{
    enum { CALLS = 64 };
    uint64_t seen = 0;
    pp_pool *pool = open_workers(1, method);
    for (int round = 0, rounds = 100 / (int)harness_scale(); round < rounds; round++) {
        pp_future *futures[CALLS];
        for (int i = 0; i < CALLS; i++)
            futures[i] = submit_int(pool, task_tell_much, i + 1);
        for (int i = 0; i < CALLS; i++) {
            uint64_t progress, before = 0;
            while (pp_future_progress(futures[i], &progress) == 0) {
                CHECK(progress == 0 || (progress >> 32 == (uint64_t)i + 1 && (uint32_t)progress <= 20));
                CHECK(progress >= before);
                before = progress;
                seen += progress > 0;
            }
            expect_end(futures[i], 0);
        }
    }
    (void)seen;
    pp_pool_destroy(pool);
}

/* --------------------------------------------------------------------------------------------- inline */

static pp_future *inner, *outer;
static pp_pool *inline_pool;

static int task_inner(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    pp_task_progress(task, 5);
    CHECK_INT(progress_of(inner), 5);
    CHECK_INT(progress_of(outer), 3);
    CHECK_INT(pp_task_cancelled(task), 0);
    CHECK_OK(pp_future_request_stop(outer));
    CHECK_INT(pp_task_cancelled(task), 0);
    CHECK_OK(pp_future_request_stop(inner));
    CHECK_INT(pp_task_cancelled(task), 1);
    return pp_task_return(task, &(int){1}, sizeof(int));
}

static int task_outer(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    CHECK_INT(progress_of(outer), 0);
    pp_task_progress(task, 3);
    inner = submit(inline_pool, task_inner, NULL, 0);
    CHECK_INT(pp_task_cancelled(task), 0);
    CHECK_INT(take_int(inner), 1);
    CHECK_INT(pp_task_cancelled(task), 1);
    CHECK_INT(progress_of(outer), 3);
    return pp_task_return(task, &(int){2}, sizeof(int));
}

TEST(calls_inside_calls_of_an_inline_pool_have_words_of_their_own)
{
    inline_pool = kit_pool(PP_START_INLINE, 1);
    outer = submit(inline_pool, task_outer, NULL, 0);
    CHECK_INT(take_int(outer), 2);
    pp_pool_destroy(inline_pool);
}

/* --------------------------------------------------------------------------------------------- refusals */

TEST(a_future_of_the_programs_own_is_not_asked_and_tells_nothing)
{
    pp_future *future;
    pp_pool *pool = kit_pool(PP_START_INLINE, 1);
    CHECK_OK(pp_future_create(pool, &future));
    CHECK_INT(progress_of(future), 0);
    CHECK_INT(pp_future_set_running_or_notify_cancel(future), 1);
    CHECK_INT(pp_future_request_stop(future), -ENOTSUP);
    CHECK_HAS(pp_last_error(), "program's own");
    CHECK_INT(progress_of(future), 0);
    CHECK_OK(pp_future_set_result(future, NULL, 0));
    CHECK_INT(pp_future_request_stop(future), -EALREADY);
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

TEST(nothing_and_a_forked_child_are_refused)
{
    uint64_t progress;
    CHECK_INT(pp_future_request_stop(NULL), -EINVAL);
    CHECK_HAS(pp_last_error(), "pp_future_request_stop");
    CHECK_INT(pp_future_progress(NULL, &progress), -EINVAL);
    CHECK_INT(pp_task_cancelled(NULL), 0);
    pp_task_progress(NULL, 1);
    pp_pool *pool = open_workers(1, PP_START_FORK);
    pp_future *future = start_polite(pool, 0);
    CHECK_INT(pp_future_progress(future, NULL), -EINVAL);
    CHECK_HAS(pp_last_error(), "pp_future_progress");
    pid_t child = fork();
    if (child == 0)
        _exit(pp_future_request_stop(future) == -EPERM && pp_future_progress(future, &progress) == -EPERM ? 0 : 1);
    CHECK_INT(wait_for(child), 0);
    CHECK_OK(pp_future_request_stop(future));
    take_int(future);
    pp_pool_destroy(pool);
}
