/* SPDX-License-Identifier: MIT */
/* The end of inline pools, and what runs at their beginning and their end. */
#include "inline_kit.h"

/* ----------------------------------------------------------------------------------------------- the end */

EITHER(a_shutdown_runs_what_was_accepted_and_takes_no_more)
{
    board_make();
    pp_future *futures[10];
    pp_pool *pool = kit_pool(method, 1);
    for (uint32_t i = 0; i < 10; i++)
        futures[i] = submit_u32(pool, count_run, FIRST_RUN + i);
    CHECK_INT(pp_pool_shutdown(pool, 0, -1), 0);
    check_runs(0, 10, 1);
    CHECK_INT(pp_submit(pool, nothing, NULL, 0, NULL), -ESHUTDOWN);
    CHECK_INT(pp_pool_shutdown(pool, 0, 0), 0);
    for (uint32_t i = 0; i < 10; i++) {
        CHECK_INT(pp_future_state(futures[i]), PP_FINISHED);
        expect_end(futures[i], 0);
    }
    pp_pool_destroy(pool);
}

TEST(destroying_runs_what_was_accepted_with_or_without_futures)
{
    board_make();
    pp_pool *pool = inline_pool((pp_pool_options){0});
    for (uint32_t i = 0; i < 10; i++) {
        uint32_t run = FIRST_RUN + i;
        CHECK_OK(pp_submit(pool, count_run, &run, sizeof run, NULL));
    }
    pp_pool_destroy(pool);
    check_runs(0, 10, 1);
}

TEST(a_shutdown_that_cancels_runs_nothing_more)
{
    board_make();
    pp_future *futures[10];
    pp_pool *pool = inline_pool((pp_pool_options){0});
    for (uint32_t i = 0; i < 10; i++)
        futures[i] = submit_u32(pool, count_run, FIRST_RUN + i);
    CHECK_OK(pp_future_wait(futures[2], -1));
    CHECK_INT(pp_pool_shutdown(pool, PP_CANCEL_PENDING, -1), 0);
    for (uint32_t i = 0; i < 10; i++) {
        expect_end(futures[i], i <= 2 ? 0 : -ECANCELED);
        CHECK_INT(runs_of(i), i <= 2);
    }
    pp_pool_destroy(pool);
}

TEST(a_shutdown_can_run_out_of_time_and_be_called_again)
{
    board_make();
    pp_pool *pool = inline_pool((pp_pool_options){0});
    for (uint32_t i = 0; i < 3; i++)
        CHECK_OK(pp_submit(pool, count_run, &(uint32_t){FIRST_RUN + i}, sizeof(uint32_t), NULL));
    CHECK_INT(pp_pool_shutdown(pool, 0, 0), -ETIMEDOUT);
    CHECK_INT(pp_submit(pool, nothing, NULL, 0, NULL), -ESHUTDOWN);
    CHECK_INT(pp_pool_shutdown(pool, 0, -1), 0);
    check_runs(0, 3, 1);
    pp_pool_destroy(pool);
}

/* Nobody but who waits runs calls: after a release those are the holders of futures. */
EITHER(futures_of_a_released_pool_still_run)
{
    board_make();
    pp_future *futures[5];
    pp_pool *pool = kit_pool(method, 1);
    for (uint32_t i = 0; i < 5; i++)
        futures[i] = submit_u32(pool, count_run, FIRST_RUN + i);
    pp_pool_release(pool);
    for (uint32_t i = 0; i < 5; i++) {
        CHECK_INT(result_u32(futures[i]), FIRST_RUN + i);
        pp_future_unref(futures[i]);
    }
    check_runs(0, 5, 1);
}

TEST(futures_of_a_released_pool_may_be_given_up_unwaited)
{
    board_make();
    pp_pool *pool = inline_pool((pp_pool_options){0});
    for (uint32_t i = 0; i < 5; i++)
        pp_future_unref(submit_u32(pool, count_run, FIRST_RUN + i));
    pp_pool_release(pool);
    CHECK(runs_between(0, 5) == 0 || runs_between(0, 5) == 5);
}

static void *give_up(void *future)
{
    pp_future_unref(future);
    return NULL;
}

/* The last of several holders to give a future up, in whatever order, leaves nothing behind. */
TEST(futures_of_a_released_pool_are_given_up_by_several_threads)
{
    board_make();
    for (int round = 0; round < 50; round++) {
        pthread_t threads[3];
        pp_pool *pool = inline_pool((pp_pool_options){0});
        pp_future *future = submit_u32(pool, count_run, FIRST_RUN);
        pp_pool_release(pool);
        for (int i = 0; i < 3; i++)
            threads[i] = start_thread(give_up, pp_future_ref(future));
        if (round % 2)
            CHECK_OK(pp_future_wait(future, -1));
        pp_future_unref(future);
        for (int i = 0; i < 3; i++)
            join_thread(threads[i]);
    }
    CHECK_INT(runs_of(0), 25);
}

static pp_future *the_future;

static int give_up_itself(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    pp_future_unref(the_future);
    add(FIRST_RUN);
    return 0;
}

TEST(a_running_call_may_give_up_its_own_future)
{
    board_make();
    pp_pool *pool = inline_pool((pp_pool_options){0});
    the_future = submit(pool, give_up_itself, NULL, 0);
    expect_usable(pool);
    CHECK_INT(runs_of(0), 1);
    pp_pool_destroy(pool);
}

TEST(a_map_of_a_released_pool_goes_on)
{
    board_make();
    struct feed feed = {.count = 100};
    pp_pool *pool = inline_pool((pp_pool_options){0});
    pp_map *map = open_feed(pool, &feed, (pp_map_options){.chunk_size = 7, .max_in_flight = 21});
    next_fed(map, &feed);
    pp_pool_release(pool);
    while (feed.given < feed.pulled) {
        pp_map_result result = next_fed(map, &feed);
        check_square(&result, feed.given - 1);
    }
    CHECK_INT(feed.pulled, 21);
    CHECK_INT(end_of(map), -ESHUTDOWN);
    CHECK_INT(end_of(map), 0);
    pp_map_close(map);
}

/* ------------------------------------------------------------------------------- initializer and finalizer */

enum { STARTED = 100, FINISHED = 101 };

static int start(pp_task *task, const void *arg, size_t size)
{
    CHECK_INT(size, 6);
    CHECK_STR((const char *)arg, "hello");
    add(STARTED);
    CHECK(pp_task_state(task) == NULL);
    pp_task_set_state(task, malloc(10));
    return 0;
}

static int finish(pp_task *task, const void *arg, size_t size)
{
    CHECK_INT(size, 4);
    CHECK_STR((const char *)arg, "bye");
    add(FINISHED);
    free(pp_task_state(task));
    return 0;
}

static int has_state(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    return pp_task_state(task) ? 0 : -ENOENT;
}

static pp_pool_options duties(void)
{
    return (pp_pool_options){.initializer = start,
                             .initializer_arg = "hello",
                             .initializer_arg_size = 6,
                             .finalizer = finish,
                             .finalizer_arg = "bye",
                             .finalizer_arg_size = 4};
}

EITHER(the_initializer_runs_once_before_the_first_call_and_the_finalizer_once_at_the_end)
{
    board_make();
    pp_pool *pool = kit_pool_with(method, duties());
    pp_future *first = submit(pool, has_state, NULL, 0), *second = submit(pool, has_state, NULL, 0);
    CHECK_INT(read_word(STARTED), 0);
    expect_end(first, 0);
    CHECK_INT(read_word(STARTED), 1);
    expect_end(second, 0);
    CHECK_INT(read_word(FINISHED), 0);
    CHECK_INT(pp_pool_shutdown(pool, 0, -1), 0);
    CHECK_INT(read_word(FINISHED), 1);
    CHECK_INT(pp_pool_shutdown(pool, 0, -1), 0);
    pp_pool_destroy(pool);
    CHECK_INT(read_word(STARTED), 1);
    CHECK_INT(read_word(FINISHED), 1);
}

TEST(a_pool_without_calls_runs_neither_initializer_nor_finalizer)
{
    board_make();
    pp_pool_destroy(inline_pool(duties()));
    pp_pool *pool = inline_pool(duties());
    pp_future *future = submit(pool, has_state, NULL, 0);
    CHECK_INT(pp_future_cancel(future), 0);
    pp_future_unref(future);
    pp_pool_destroy(pool);
    CHECK_INT(read_word(STARTED), 0);
    CHECK_INT(read_word(FINISHED), 0);
}

TEST(destroying_runs_the_finalizer_behind_the_last_call)
{
    board_make();
    pp_pool *pool = inline_pool(duties());
    CHECK_OK(pp_submit(pool, has_state, NULL, 0, NULL));
    CHECK_OK(pp_submit(pool, has_state, NULL, 0, NULL));
    pp_pool_destroy(pool);
    CHECK_INT(read_word(STARTED), 1);
    CHECK_INT(read_word(FINISHED), 1);
}

TEST(a_released_pool_runs_its_finalizer_behind_the_last_call)
{
    board_make();
    for (uint32_t i = 1; i <= 2; i++) {
        pp_pool *pool = inline_pool(duties());
        pp_future *first = submit(pool, has_state, NULL, 0), *second = submit(pool, has_state, NULL, 0);
        expect_end(first, 0);
        if (i == 2)
            CHECK_OK(pp_future_wait(second, -1));
        pp_pool_release(pool);
        CHECK_INT(read_word(FINISHED), i == 2 ? 2 : 0);
        expect_end(second, 0);
        CHECK_INT(read_word(FINISHED), i);
    }
}

static int fail_at_start(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    add(STARTED);
    return pp_task_fail(task, -ENXIO, "no such luck");
}

EITHER(an_initializer_that_fails_breaks_the_pool)
{
    board_make();
    pp_future *futures[3];
    pp_pool_options options = duties();
    options.initializer = fail_at_start;
    pp_pool *pool = kit_pool_with(method, options);
    for (int i = 0; i < 3; i++)
        futures[i] = submit_u32(pool, count_run, FIRST_RUN);
    for (int i = 0; i < 3; i++) {
        const pp_error *error = error_of(futures[i]);
        CHECK_INT(error->kind, PP_ERROR_BROKEN);
        CHECK_INT(error->code, -ENOTRECOVERABLE);
        CHECK_INT(error->task_code, -ENXIO);
        CHECK_HAS(error->message, "no such luck");
        pp_future_unref(futures[i]);
    }
    CHECK_INT(pp_submit(pool, nothing, NULL, 0, NULL), -ENOTRECOVERABLE);
    CHECK_INT(pp_pool_shutdown(pool, 0, -1), 0);
    pp_pool_destroy(pool);
    CHECK_INT(read_word(STARTED), 1);
    CHECK_INT(read_word(FINISHED), 0);
    CHECK_INT(runs_of(0), 0);
}

static int finish_at_gate(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    add(BEGUN);
    wait_at(GATE);
    add(FINISHED);
    return 0;
}

static void *shut_down(void *pool)
{
    CHECK_INT(pp_pool_shutdown(pool, 0, -1), 0);
    CHECK_INT(read_word(FINISHED), 1);
    return NULL;
}

/* The pool has ended when its finalizer has, also for those who did not run it. */
TEST(a_shutdown_waits_for_a_finalizer_that_another_thread_runs)
{
    board_make();
    pp_pool *pool = inline_pool((pp_pool_options){.finalizer = finish_at_gate});
    expect_usable(pool);
    pthread_t first = start_thread(shut_down, pool);
    until(read_word(BEGUN) == 1);
    CHECK_INT(pp_pool_shutdown(pool, 0, 0), -ETIMEDOUT);
    pthread_t second = start_thread(shut_down, pool);
    open_gate(GATE);
    join_thread(first);
    join_thread(second);
    pp_pool_destroy(pool);
    CHECK_INT(read_word(FINISHED), 1);
}
