/* SPDX-License-Identifier: MIT */
/* The inline method: the same calls, run in the owner when somebody waits. Nothing runs before; nothing is isolated. */
#include "inline_kit.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

/* -------------------------------------------------------------------------------------------- where and when */

EITHER(a_call_runs_in_the_owner)
{
    pid_t pids[2];
    pp_pool *pool = kit_pool(method, 2);
    CHECK_INT(count_descendants_named(getpid(), ""), 0);
    pp_future *future = submit(pool, who, NULL, 0);
    CHECK_OK(pp_future_result(future, -1, pids, sizeof pids, NULL));
    CHECK_INT(pids[0], getpid());
    CHECK_INT(count_descendants_named(getpid(), ""), 0);
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

TEST(an_inline_pool_makes_no_process_no_thread_and_no_descriptor)
{
    board_make();
    int fds = count_fds(), threads = thread_count();
    pp_pool *pool = inline_pool((pp_pool_options){.max_workers = 4});
    for (uint32_t i = 0; i < 10; i++)
        expect_usable(pool);
    CHECK_INT(count_descendants_named(getpid(), ""), 0);
    CHECK_INT(thread_count(), threads);
    CHECK_INT(count_fds(), fds);
    pp_pool_destroy(pool);
    CHECK_INT(count_fds(), fds);
}

static pthread_t ran_in;

static int note_thread(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    ran_in = pthread_self();
    return 0;
}

EITHER(calls_run_when_somebody_waits_in_that_thread_and_in_order)
{
    board_make();
    pp_future *futures[10];
    pp_pool *pool = kit_pool(method, 2);
    for (uint32_t i = 0; i < 10; i++)
        futures[i] = submit_u32(pool, count_run, FIRST_RUN + i);
    for (uint32_t i = 0; i < 10; i++)
        CHECK_INT(pp_future_state(futures[i]), PP_PENDING);
    CHECK_INT(runs_between(0, 10), 0);
    CHECK_OK(pp_future_wait(futures[4], -1));
    for (uint32_t i = 0; i < 10; i++) {
        CHECK_INT(runs_of(i), i <= 4);
        CHECK_INT(pp_future_state(futures[i]), i <= 4 ? PP_FINISHED : PP_PENDING);
    }
    for (uint32_t i = 0; i < 10; i++) {
        CHECK_INT(result_u32(futures[i]), FIRST_RUN + i);
        pp_future_unref(futures[i]);
    }
    pp_future *future = submit(pool, note_thread, NULL, 0);
    CHECK_OK(pp_future_wait(future, -1));
    CHECK(pthread_equal(ran_in, pthread_self()));
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

/* Waiting is all that makes progress, so a look makes some too. */
TEST(a_look_at_a_future_runs_one_call)
{
    board_make();
    pp_future *futures[3];
    pp_pool *pool = inline_pool((pp_pool_options){0});
    for (uint32_t i = 0; i < 3; i++)
        futures[i] = submit_u32(pool, count_run, FIRST_RUN + i);
    CHECK_INT(pp_future_wait(futures[2], 0), -ETIMEDOUT);
    CHECK_INT(pp_future_wait(futures[2], 0), -ETIMEDOUT);
    CHECK_OK(pp_future_wait(futures[2], 0));
    for (int i = 0; i < 3; i++)
        expect_end(futures[i], 0);
    pp_pool_destroy(pool);
}

/* ---------------------------------------------------------------------------------------------- outcomes */

static int just_return(pp_task *task, const void *arg, size_t size)
{
    (void)task;
    int code;
    CHECK_INT(size, sizeof code);
    memcpy(&code, arg, sizeof code);
    return code;
}

EITHER(a_task_that_fails_fails_its_future_alone)
{
    pp_pool *pool = kit_pool(method, 2);
    pp_future *future = submit(pool, refuse, NULL, 0);
    const pp_error *error = error_of(future);
    CHECK_INT(error->kind, PP_ERROR_TASK);
    CHECK_INT(error->code, -EREMOTEIO);
    CHECK_INT(error->task_code, -ENOTSUP);
    CHECK_STR(error->message, "refused");
    CHECK_STR(error->function, "refuse");
    CHECK_INT(error->call_id, pp_future_id(future));
    CHECK_INT(error->pid, getpid());
    CHECK_INT(error->worker, 0);
    CHECK_INT(error->tries, 1);
    CHECK(error->earlier == NULL);
    CHECK_INT(pp_future_result(future, -1, NULL, 0, NULL), -EREMOTEIO);
    CHECK_HAS(pp_last_error(), "refused");
    pp_future_unref(future);
    int code = -ERANGE;
    future = submit(pool, just_return, &code, sizeof code);
    CHECK_INT(error_of(future)->task_code, -ERANGE);
    pp_future_unref(future);
    expect_usable(pool);
    pp_pool_destroy(pool);
}

static int without_room(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    return pp_task_return(task, "", (size_t)1 << 62);
}

TEST(a_result_without_room_can_not_travel)
{
    if (KIT_ASAN || KIT_TSAN)
        LEFT_OUT("the sanitizer ends a process that asks for so much memory");
    pp_pool *pool = inline_pool((pp_pool_options){0});
    pp_future *future = submit(pool, without_room, NULL, 0);
    const pp_error *error = error_of(future);
    CHECK_INT(error->kind, PP_ERROR_TRAVEL);
    CHECK_INT(error->code, -EBADMSG);
    CHECK_INT(error->task_code, -ENOMEM);
    CHECK(*error->message);
    pp_future_unref(future);
    expect_usable(pool);
    pp_pool_destroy(pool);
}

static unsigned char byte_of(size_t size, size_t k)
{
    return (unsigned char)(size + k * 7 + (k >> 8) * 3);
}

EITHER(arguments_and_results_are_of_any_size)
{
    static const size_t sizes[] = {0, 1, 15, 16, 17, 16383, 16384, 16385, 65536, MIB - 1, MIB, MIB + 1, 20 * MIB + 3};
    pp_pool *pool = kit_pool(method, 2);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t size = sizes[i], have;
        unsigned char *data = malloc(size + 1);
        const unsigned char *result;
        for (size_t k = 0; k < size; k++)
            data[k] = byte_of(size, k);
        pp_future *future = submit(pool, reflect, data, size);
        memset(data, 0, size);
        CHECK_OK(pp_future_view(future, -1, (const void **)&result, &have));
        CHECK_INT(have, size);
        CHECK(is_aligned(result));
        CHECK_INT(result[size], 0);
        for (size_t k = 0; k < size; k++)
            if (result[k] != (byte_of(size, k) ^ 0x55))
                harness_fail(__FILE__, __LINE__, "byte %zu of %zu is wrong", k, size);
        free(data);
        pp_future_unref(future);
    }
    pp_pool_destroy(pool);
}

TEST(a_taken_result_outlives_its_pool)
{
    void *small_one, *large_one;
    size_t size;
    pp_pool *pool = inline_pool((pp_pool_options){0});
    pp_future *small = submit(pool, echo, "abc", 4), *large;
    char *data = calloc(1, 2 * MIB);
    large = submit(pool, echo, data, 2 * MIB);
    free(data);
    CHECK_OK(pp_future_take(large, -1, &large_one, &size));
    CHECK_INT(size, 2 * MIB);
    CHECK_OK(pp_future_take(small, -1, &small_one, &size));
    CHECK_INT(pp_future_take(small, -1, &small_one, &size), -ENODATA);
    pp_future_unref(small);
    pp_future_unref(large);
    pp_pool_destroy(pool);
    CHECK_STR((char *)small_one, "abc");
    memset(large_one, 0xff, 2 * MIB);
    pp_free(small_one);
    pp_free(large_one);
}

static int about_itself(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    uint64_t words[3] = {pp_task_id(task), pp_task_seed(task), (uint64_t)pp_task_worker(task)};
    return pp_task_return(task, words, sizeof words);
}

/* The seeds are those of the other methods. */
TEST(a_task_knows_its_call_and_has_the_seed_that_it_has_in_a_process)
{
    uint64_t words[2][3];
    for (int i = 0; i < 2; i++) {
        pp_pool *pool =
            kit_pool_with(i ? PP_START_FORK : PP_START_INLINE, (pp_pool_options){.max_workers = 1, .seed = 5});
        pp_future *first = submit(pool, nothing, NULL, 0), *future = submit(pool, about_itself, NULL, 0);
        CHECK_OK(pp_future_result(future, -1, words[i], sizeof words[i], NULL));
        CHECK_INT(words[i][0], pp_future_id(future));
        CHECK_INT(words[i][2], 0);
        pp_future_unref(first);
        pp_future_unref(future);
        pp_pool_destroy(pool);
    }
    CHECK_INT(memcmp(words[0], words[1], sizeof words[0]), 0);
}

/* It can't be kept from running on in the owner. */
TEST(a_timeout_and_retries_are_allowed_and_do_nothing)
{
    board_make();
    pp_future *future;
    pp_pool *pool = inline_pool((pp_pool_options){0});
    uint32_t run = FIRST_RUN;
    const pp_call call = {.function = count_run, .arg = &run, .size = sizeof run, .timeout = 1, .retries = 3};
    CHECK_OK(pp_submit_call(pool, &call, &future));
    test_sleep_ms(5);
    CHECK_INT(result_u32(future), FIRST_RUN);
    CHECK_INT(runs_of(0), 1);
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

/* ----------------------------------------------------------------------------------------------- cancel */

EITHER(what_is_cancelled_never_runs)
{
    board_make();
    pp_future *futures[10];
    pp_pool *pool = kit_pool(method, 1);
    for (uint32_t i = 0; i < 10; i++)
        futures[i] = submit_u32(pool, count_run, FIRST_RUN + i);
    for (uint32_t i = 0; i < 10; i += 2) {
        CHECK_INT(pp_future_cancel(futures[i]), 0);
        CHECK_INT(pp_future_cancel(futures[i]), 0);
    }
    for (uint32_t i = 0; i < 10; i++) {
        expect_end(pp_future_ref(futures[i]), i % 2 ? 0 : -ECANCELED);
        CHECK_INT(runs_of(i), i % 2);
        CHECK_INT(pp_future_cancel(futures[i]), i % 2 ? -EALREADY : 0);
        pp_future_unref(futures[i]);
    }
    pp_pool_destroy(pool);
}

/* A task has its pool and its own future through these. */
static pp_pool *the_pool;
static pp_future *the_future, *the_other;

static int cancel_itself(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    CHECK_INT(pp_future_state(the_future), PP_RUNNING);
    CHECK_INT(pp_future_cancel(the_future), -EBUSY);
    CHECK_INT(pp_future_cancel(the_other), 0);
    return 0;
}

TEST(a_running_call_is_not_cancelled_and_can_cancel_another)
{
    board_make();
    pp_pool *pool = inline_pool((pp_pool_options){0});
    the_future = submit(pool, cancel_itself, NULL, 0);
    the_other = submit_u32(pool, count_run, FIRST_RUN);
    expect_end(the_future, 0);
    expect_end(the_other, -ECANCELED);
    CHECK_INT(runs_of(0), 0);
    pp_pool_destroy(pool);
}

/* -------------------------------------------------------------------------------------- nested waits */

static int factorial(pp_task *task, const void *arg, size_t size)
{
    uint32_t n, rest = 1;
    CHECK_INT(size, sizeof n);
    memcpy(&n, arg, sizeof n);
    if (n > 1) {
        pp_future *future = submit_u32(the_pool, factorial, n - 1);
        rest = result_u32(future);
        pp_future_unref(future);
    }
    rest *= n;
    return pp_task_return(task, &rest, sizeof rest);
}

EITHER(a_task_may_wait_for_a_call_of_its_own_pool)
{
    the_pool = kit_pool(method, 1);
    pp_future *future = submit_u32(the_pool, factorial, 10);
    CHECK_INT(result_u32(future), 3628800);
    pp_future_unref(future);
    pp_pool_destroy(the_pool);
}

/* The outer task's result, given before the wait, is not the inner one's. */
static int give_then_wait(pp_task *task, const void *arg, size_t size)
{
    uint32_t depth;
    CHECK_INT(size, sizeof depth);
    memcpy(&depth, arg, sizeof depth);
    CHECK_INT(pp_task_return(task, &depth, sizeof depth), 0);
    if (depth == 0)
        return pp_task_fail(task, -EDOM, "the innermost fails");
    uint64_t id = pp_task_id(task);
    pp_future *future = submit_u32(the_pool, give_then_wait, depth - 1);
    expect_end(future, depth == 1 ? -EREMOTEIO : 0);
    CHECK_INT(pp_task_id(task), id);
    return 0;
}

TEST(nested_tasks_have_results_and_failures_of_their_own)
{
    the_pool = inline_pool((pp_pool_options){0});
    pp_future *future = submit_u32(the_pool, give_then_wait, 5);
    CHECK_INT(result_u32(future), 5);
    pp_future_unref(future);
    pp_pool_destroy(the_pool);
}

static int wait_for_itself(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    const void *data;
    size_t have;
    const pp_error *error;
    CHECK_INT(pp_future_wait(the_future, -1), -EDEADLK);
    CHECK(*pp_last_error());
    CHECK_INT(pp_future_wait(the_future, 0), -EDEADLK);
    CHECK_INT(pp_future_result(the_future, -1, NULL, 0, &have), -EDEADLK);
    CHECK_INT(pp_future_view(the_future, -1, &data, &have), -EDEADLK);
    CHECK_INT(pp_future_error(the_future, -1, &error), -EDEADLK);
    CHECK_INT(pp_pool_shutdown(the_pool, 0, -1), -EDEADLK);
    return pp_task_return(task, "so be it", 9);
}

EITHER(a_task_that_waits_for_itself_is_told_so)
{
    char text[9];
    the_pool = kit_pool(method, 1);
    the_future = submit(the_pool, wait_for_itself, NULL, 0);
    CHECK_OK(pp_future_result(the_future, -1, text, sizeof text, NULL));
    CHECK_STR(text, "so be it");
    pp_future_unref(the_future);
    pp_pool_destroy(the_pool);
}

static int wait_for_the_other(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    return pp_future_wait(the_future, -1) == -EDEADLK ? 0 : -EPROTO;
}

static int call_one_that_waits_for_me(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    expect_end(submit(the_pool, wait_for_the_other, NULL, 0), 0);
    return 0;
}

TEST(two_tasks_that_wait_for_each_other_are_told_so)
{
    the_pool = inline_pool((pp_pool_options){0});
    the_future = submit(the_pool, call_one_that_waits_for_me, NULL, 0);
    expect_end(the_future, 0);
    pp_pool_destroy(the_pool);
}

static int map_inside(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    uint32_t numbers[20], squares[20], sum = 0;
    for (uint32_t i = 0; i < 20; i++)
        numbers[i] = i;
    CHECK_INT(pp_map_array(the_pool, act, numbers, 20, 4, squares, 4, NULL), 0);
    for (uint32_t i = 0; i < 20; i++)
        sum += squares[i];
    return pp_task_return(task, &sum, sizeof sum);
}

TEST(a_task_may_map_in_its_own_pool)
{
    board_make();
    the_pool = inline_pool((pp_pool_options){0});
    pp_future *future = submit(the_pool, map_inside, NULL, 0);
    CHECK_INT(result_u32(future), 2470);
    pp_future_unref(future);
    pp_pool_destroy(the_pool);
}

/* ---------------------------------------------------------------------------------------------- the method */

TEST(an_inline_launcher_serves_several_pools)
{
    board_make();
    pp_launcher *launcher;
    pp_pool *pools[3];
    CHECK_OK(pp_launcher_create(&(pp_launcher_options){.start_method = PP_START_INLINE}, &launcher));
    for (int i = 0; i < 3; i++)
        CHECK_OK(pp_pool_create(&(pp_pool_options){.launcher = launcher}, &pools[i]));
    pp_launcher_unref(launcher);
    for (uint32_t i = 0; i < 30; i++) {
        pid_t pids[2];
        pp_future *future = submit(pools[i % 3], who, NULL, 0);
        CHECK_OK(pp_future_result(future, -1, pids, sizeof pids, NULL));
        CHECK_INT(pids[0], getpid());
        pp_future_unref(future);
    }
    for (int i = 0; i < 3; i++)
        pp_pool_destroy(pools[i]);
}

/* A task of one inline pool may wait for calls of another, whose tasks may wait for calls of the first. */
static pp_pool *pools[2];

static int ping_pong(pp_task *task, const void *arg, size_t size)
{
    uint32_t n, below = 0;
    CHECK_INT(size, sizeof n);
    memcpy(&n, arg, sizeof n);
    if (n > 0) {
        pp_future *future = submit_u32(pools[n % 2], ping_pong, n - 1);
        below = result_u32(future);
        pp_future_unref(future);
    }
    below++;
    return pp_task_return(task, &below, sizeof below);
}

TEST(tasks_of_two_inline_pools_wait_for_each_other)
{
    for (int i = 0; i < 2; i++)
        pools[i] = inline_pool((pp_pool_options){0});
    pp_future *future = submit_u32(pools[0], ping_pong, 20);
    CHECK_INT(result_u32(future), 21);
    pp_future_unref(future);
    for (int i = 0; i < 2; i++)
        pp_pool_destroy(pools[i]);
}

TEST(a_forked_child_can_do_nothing_with_an_inline_pool)
{
    pp_pool *pool = inline_pool((pp_pool_options){0});
    pp_future *future = submit_u32(pool, echo, 3);
    pid_t child = fork();
    if (child == 0) {
        CHECK_INT(pp_future_wait(future, -1), -EPERM);
        CHECK_INT(pp_submit(pool, nothing, NULL, 0, NULL), -EPERM);
        CHECK_INT(pp_pool_shutdown(pool, 0, -1), -EPERM);
        pp_pool_destroy(pool);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK_INT(status, 0);
    CHECK_INT(result_u32(future), 3);
    pp_future_unref(future);
    pp_pool_destroy(pool);
}
