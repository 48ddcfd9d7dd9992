/* SPDX-License-Identifier: MIT */
/*
 * What each function refuses, with which error; outputs stay as they were, and pp_last_error() says why. Options,
 * forked children and limits are in files of their own; what only want of memory or descriptors provokes call by call
 * is in test_errors_seams.c.
 */
#include "errors_kit.h"

/* ------------------------------------------------------------------------------------------- the text */

static void *look_at_a_threads_own_error(void *unused)
{
    (void)unused;
    CHECK_STR(pp_last_error(), "");
    CHECK_INT(pp_future_state(NULL), -EINVAL);
    CHECK_HAS(pp_last_error(), "pp_future_state");
    return NULL;
}

TEST(the_last_error_is_empty_at_first_and_each_threads_own)
{
    CHECK_STR(pp_last_error(), "");
    CHECK_INT(pp_future_cancel(NULL), -EINVAL);
    CHECK_HAS(pp_last_error(), "pp_future_cancel");
    join_thread(start_thread(look_at_a_threads_own_error, NULL));
    CHECK_HAS(pp_last_error(), "pp_future_cancel");
}

TEST(the_version_is_that_of_the_header)
{
    char version[32];
    snprintf(version, sizeof version, "%d.%d.%d", PP_VERSION_MAJOR, PP_VERSION_MINOR, PP_VERSION_PATCH);
    CHECK_STR(pp_version(), version);
}

/* ------------------------------------------------------------------------------------------- no handle */

static void no_callback(pp_future *future, void *context)
{
    (void)future, (void)context;
    harness_fail(__FILE__, __LINE__, "a callback that was refused is called");
}

TEST(without_a_handle_each_function_refuses_or_does_nothing)
{
    pp_future *future = UNTOUCHED(pp_future);
    pp_map *map = UNTOUCHED(pp_map);
    pp_map_result result;
    pp_call call = {.function = nothing};
    REFUSED(pp_submit(NULL, nothing, NULL, 0, &future), -EINVAL);
    REFUSED(pp_submit_call(NULL, &call, &future), -EINVAL);
    REFUSED(pp_submit_many(NULL, &call, 1, &future), -EINVAL);
    REFUSED(pp_pool_shutdown(NULL, 0, 0), -EINVAL);
    REFUSED(pp_map_open(NULL, nothing, (pp_map_source *)1, NULL, NULL, &map), -EINVAL);
    REFUSED(pp_map_open_array(NULL, nothing, "a", 1, 1, NULL, &map), -EINVAL);
    REFUSED(pp_map_next(NULL, 0, &result), -EINVAL);
    REFUSED(pp_map_array(NULL, nothing, "a", 1, 1, (char[1]){0}, 1, NULL), -EINVAL);
    REFUSED(pp_launcher_create(NULL, NULL), -EINVAL);
    REFUSED(pp_pool_create(NULL, NULL), -EINVAL);
    REFUSED(pp_completed_next(NULL, 0, &future, NULL), -EINVAL);
    REFUSED(pp_future_create(NULL, &future), -EINVAL);
    REFUSED(pp_future_add_callback(NULL, no_callback, NULL), -EINVAL);
    REFUSED(pp_future_set_running_or_notify_cancel(NULL), -EINVAL);
    REFUSED(pp_future_set_result(NULL, "a", 1), -EINVAL);
    REFUSED(pp_future_set_error(NULL, -EIO, "text"), -EINVAL);
    CHECK(future == UNTOUCHED(pp_future) && map == UNTOUCHED(pp_map));
    CHECK(pp_launcher_ref(NULL) == NULL);
    pp_launcher_unref(NULL);
    pp_pool_destroy(NULL);
    pp_pool_release(NULL);
    pp_map_close(NULL);
    pp_completed_close(NULL);
    pp_free(NULL);
    pp_cleanup_pool(&(pp_pool *){NULL});
}

TEST(without_a_task_the_task_functions_refuse_or_give_nothing)
{
    REFUSED(pp_task_return(NULL, "a", 1), -EINVAL);
    REFUSED(pp_task_fail(NULL, -EIO, "text"), -EINVAL);
    REFUSED(pp_task_worker(NULL), -EINVAL);
    REFUSED(pp_task_reserve(NULL, 1) == NULL, 1);
    CHECK_INT(pp_task_id(NULL), 0);
    CHECK_INT(pp_task_seed(NULL), 0);
    CHECK(pp_task_state(NULL) == NULL);
    pp_task_set_state(NULL, "x");
}

/* --------------------------------------------------------------------------------------------- submits */

static void refuse_call(pp_pool *pool, pp_call call)
{
    pp_future *future = UNTOUCHED(pp_future);
    REFUSED(pp_submit_call(pool, &call, &future), -EINVAL);
    REFUSED(pp_submit_many(pool, &call, 1, &future), -EINVAL);
    CHECK(future == UNTOUCHED(pp_future));
    REFUSED(pp_submit_call(pool, &call, NULL), -EINVAL);
}

BOTH(bad_calls_are_refused)
{
    pp_pool *pool = kit_pool(method, 1);
    pp_future *future = UNTOUCHED(pp_future);
    static int data;
    pp_function *no_code;
    void *address = &data;
    memcpy(&no_code, &address, sizeof no_code);
    refuse_call(pool, (pp_call){.function = NULL});
    refuse_call(pool, (pp_call){.function = echo, .size = 1});
    refuse_call(pool, (pp_call){.function = echo, .arg = "a", .size = SIZE_MAX});
    refuse_call(pool, (pp_call){.function = echo, .arg = "a", .size = SIZE_MAX / 2});
    refuse_call(pool, (pp_call){.function = homeless_function()});
    refuse_call(pool, (pp_call){.function = no_code});
    refuse_call(pool, (pp_call){.function = echo, .retries = 1001});
    for (int i = 0; i < 4; i++) {
        pp_call call = {.function = echo};
        call.reserved[i] = 9;
        refuse_call(pool, call);
    }
    REFUSED(pp_submit(pool, NULL, NULL, 0, &future), -EINVAL);
    REFUSED(pp_submit(pool, echo, NULL, 1, &future), -EINVAL);
    REFUSED(pp_submit(pool, homeless_function(), NULL, 0, &future), -EINVAL);
    REFUSED(pp_submit_call(pool, NULL, &future), -EINVAL);
    REFUSED(pp_submit_many(pool, NULL, 1, &future), -EINVAL);
    const pp_call single = {.function = echo};
    REFUSED(pp_submit_many(pool, &single, SIZE_MAX / sizeof single, &future), -EINVAL);
    CHECK(future == UNTOUCHED(pp_future));
    expect_usable(pool);
    pp_pool_destroy(pool);
}

BOTH(an_argument_that_no_memory_holds_is_refused)
{
    pp_pool *pool = kit_pool(method, 1);
    pp_future *future = UNTOUCHED(pp_future);
    REFUSED(pp_submit(pool, echo, "a", (size_t)1 << 46, &future), -ENOMEM);
    REFUSED(pp_submit(pool, echo, "a", (size_t)1 << 61, &future), -ENOMEM);
    CHECK(future == UNTOUCHED(pp_future));
    expect_usable(pool);
    pp_pool_destroy(pool);
}

BOTH(places_for_a_result_that_are_missing_are_refused)
{
    pp_pool *pool = kit_pool(method, 1);
    pp_future *future = submit_u32(pool, echo, 1);
    const void *data = UNTOUCHED(void);
    void *taken = UNTOUCHED(void);
    size_t size = 5;
    REFUSED(pp_future_result(future, -1, NULL, 4, NULL), -EINVAL);
    REFUSED(pp_future_result(future, -1, NULL, 4, &size), -EINVAL);
    REFUSED(pp_future_view(future, -1, NULL, &size), -EINVAL);
    REFUSED(pp_future_view(future, -1, &data, NULL), -EINVAL);
    REFUSED(pp_future_take(future, -1, NULL, &size), -EINVAL);
    REFUSED(pp_future_take(future, -1, &taken, NULL), -EINVAL);
    REFUSED(pp_future_error(future, -1, NULL), -EINVAL);
    CHECK(size == 5 && data == UNTOUCHED(void) && taken == UNTOUCHED(void));
    CHECK_INT(result_u32(future), 1);
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

BOTH(bad_lists_of_futures_are_refused)
{
    pp_pool *pool = kit_pool(method, 1);
    pp_future *future = submit_u32(pool, echo, 1), *next = UNTOUCHED(pp_future);
    pp_future *const list[] = {future, NULL, future};
    pp_completed *completed = UNTOUCHED(pp_completed);
    unsigned char done[3] = {7, 7, 7};
    REFUSED(pp_wait(NULL, 1, PP_ALL_COMPLETED, -1, done), -EINVAL);
    REFUSED(pp_wait(list, 3, PP_ALL_COMPLETED, -1, done), -EINVAL);
    CHECK_HAS(pp_last_error(), "future 1 of 3");
    CHECK_OK(pp_future_wait(future, -1));
    REFUSED(pp_wait(list, 3, PP_FIRST_COMPLETED, -1, done), -EINVAL);
    REFUSED(pp_wait(list, SIZE_MAX, PP_ALL_COMPLETED, -1, done), -EINVAL);
    REFUSED(pp_wait(list, SIZE_MAX / sizeof *list, PP_ALL_COMPLETED, -1, done), -EINVAL);
    REFUSED(pp_wait(list, 1, (pp_when)3, -1, done), -EINVAL);
    REFUSED(pp_wait(list, 1, (pp_when)-1, -1, done), -EINVAL);
    REFUSED(pp_wait(NULL, 0, (pp_when)3, -1, NULL), -EINVAL);
    REFUSED(pp_as_completed(NULL, 1, &completed), -EINVAL);
    REFUSED(pp_as_completed(list, 3, &completed), -EINVAL);
    REFUSED(pp_as_completed(list, 1, NULL), -EINVAL);
    REFUSED(pp_as_completed(NULL, 0, NULL), -EINVAL);
    CHECK(completed == UNTOUCHED(pp_completed) && done[0] == 7 && done[1] == 7 && done[2] == 7);
    CHECK_OK(pp_as_completed(list, 1, &completed));
    REFUSED(pp_completed_next(completed, -1, NULL, NULL), -EINVAL);
    CHECK_INT(pp_completed_next(completed, -1, &next, NULL), 1);
    CHECK(next == future);
    pp_completed_close(completed);
    CHECK_INT(result_u32(future), 1);
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

BOTH(what_a_program_future_can_not_be_given_is_refused)
{
    pp_pool *pool = kit_pool(method, 1);
    pp_future *future, *call = submit_u32(pool, echo, 1);
    REFUSED(pp_future_create(pool, NULL), -EINVAL);
    CHECK_OK(pp_future_create(pool, &future));
    REFUSED(pp_future_add_callback(future, NULL, NULL), -EINVAL);
    REFUSED(pp_future_set_result(future, NULL, 1), -EINVAL);
    REFUSED(pp_future_set_result(future, "a", SIZE_MAX), -ENOMEM);
    REFUSED(pp_future_set_error(future, 0, "text"), -EINVAL);
    CHECK_INT(pp_future_state(future), PP_PENDING);
    REFUSED(pp_future_set_running_or_notify_cancel(call), -EINVAL);
    REFUSED(pp_future_set_result(call, "a", 1), -EINVAL);
    REFUSED(pp_future_set_error(call, -EIO, "text"), -EINVAL);
    CHECK_INT(pp_future_set_result(future, NULL, 0), 0);
    REFUSED(pp_future_set_running_or_notify_cancel(future), -EINVAL);
    REFUSED(pp_future_set_result(future, NULL, 0), -EINVAL);
    REFUSED(pp_future_set_error(future, -EIO, NULL), -EINVAL);
    CHECK_INT(result_u32(call), 1);
    pp_future_unref(future);
    pp_future_unref(call);
    pp_pool_destroy(pool);
}

BOTH(an_unknown_shutdown_flag_is_refused_and_shuts_nothing)
{
    pp_pool *pool = kit_pool(method, 1);
    REFUSED(pp_pool_shutdown(pool, 2, -1), -EINVAL);
    REFUSED(pp_pool_shutdown(pool, PP_CANCEL_PENDING | 0x80000000u, -1), -EINVAL);
    expect_usable(pool);
    pp_pool_destroy(pool);
}

/* ------------------------------------------------------------------------------------------------ maps */

static void refuse_map(pp_pool *pool, pp_function *function, pp_map_options options)
{
    pp_map *map = UNTOUCHED(pp_map);
    char outputs[3] = "xy";
    REFUSED(pp_map_open(pool, function, no_input, NULL, &options, &map), -EINVAL);
    REFUSED(pp_map_open_array(pool, function, "abc", 3, 1, &options, &map), -EINVAL);
    CHECK(map == UNTOUCHED(pp_map));
    REFUSED(pp_map_array(pool, function, "abc", 3, 1, outputs, 1, &options), -EINVAL);
    CHECK_STR(outputs, "xy");
}

BOTH(bad_maps_are_refused)
{
    pp_pool *pool = kit_pool(method, 1);
    pp_map *map = UNTOUCHED(pp_map);
    refuse_map(pool, NULL, (pp_map_options){0});
    refuse_map(pool, homeless_function(), (pp_map_options){0});
    refuse_map(pool, echo, (pp_map_options){.chunk_size = 65537});
    refuse_map(pool, echo, (pp_map_options){.retries = 1001});
    refuse_map(pool, echo, (pp_map_options){.unordered = 2});
    CHECK_HAS(pp_last_error(), "unordered is 2");
    refuse_map(pool, echo, (pp_map_options){.fail_fast = -1});
    CHECK_HAS(pp_last_error(), "fail_fast is -1");
    for (int i = 0; i < 2; i++) {
        pp_map_options options = {0};
        options.reserved[i] = 1;
        refuse_map(pool, echo, options);
    }
    REFUSED(pp_map_open(pool, echo, NULL, NULL, NULL, &map), -EINVAL);
    REFUSED(pp_map_open(pool, echo, no_input, NULL, NULL, NULL), -EINVAL);
    REFUSED(pp_map_open_array(pool, echo, NULL, 1, 1, NULL, &map), -EINVAL);
    REFUSED(pp_map_open_array(pool, echo, "a", 1, 1, NULL, NULL), -EINVAL);
    REFUSED(pp_map_array(pool, echo, NULL, 1, 1, (char[1]){0}, 1, NULL), -EINVAL);
    REFUSED(pp_map_array(pool, echo, "a", 1, 1, NULL, 1, NULL), -EINVAL);
    CHECK(map == UNTOUCHED(pp_map));
    CHECK_OK(pp_map_open(pool, echo, no_input, NULL, NULL, &map));
    REFUSED(pp_map_next(map, 0, NULL), -EINVAL);
    pp_map_close(map);
    pp_pool_destroy(pool);
}

/* ------------------------------------------------------------------------------------- broken and shut */

static pp_pool *broken_pool(pp_start_method method)
{
    pp_pool *pool = kit_pool_with(method, (pp_pool_options){.max_workers = 1, .on_crash = PP_BREAK_POOL});
    expect_end(submit(pool, crash, NULL, 0), -ENOTRECOVERABLE);
    return pool;
}

static void expect_refusing(pp_pool *pool, int code)
{
    pp_future *future = UNTOUCHED(pp_future);
    pp_map *map = UNTOUCHED(pp_map);
    pp_call call = {.function = nothing};
    REFUSED(pp_submit(pool, nothing, NULL, 0, &future), code);
    REFUSED(pp_submit_call(pool, &call, &future), code);
    REFUSED(pp_submit_many(pool, &call, 1, &future), code);
    REFUSED(pp_map_open(pool, echo, no_input, NULL, NULL, &map), code);
    REFUSED(pp_map_open_array(pool, echo, "abc", 3, 1, NULL, &map), code);
    REFUSED(pp_map_array(pool, echo, "abc", 3, 1, (char[3]){0}, 1, NULL), code);
    CHECK(future == UNTOUCHED(pp_future) && map == UNTOUCHED(pp_map));
    REFUSED(pp_submit(pool, NULL, NULL, 0, &future), -EINVAL); /* what is wrong in itself is told first */
}

BOTH(broken_wins_over_shut)
{
    pp_pool *pool = broken_pool(method), *shut = kit_pool(method, 1);
    expect_refusing(pool, -ENOTRECOVERABLE);
    CHECK_HAS(pp_last_error(), "function");
    CHECK_OK(pp_pool_shutdown(pool, 0, -1));
    expect_refusing(pool, -ENOTRECOVERABLE);
    CHECK_OK(pp_pool_shutdown(shut, 0, -1));
    expect_refusing(shut, -ESHUTDOWN);
    pp_pool_destroy(pool);
    pp_pool_destroy(shut);
}

BOTH(a_launcher_whose_process_is_gone_makes_no_pools)
{
    pp_launcher *launcher;
    pp_pool *pool, *none = UNTOUCHED(pp_pool);
    pid_t pids[2];
    CHECK_OK(pp_launcher_create(&(pp_launcher_options){.start_method = method}, &launcher));
    CHECK_OK(pp_pool_create(&(pp_pool_options){.launcher = launcher, .max_workers = 1}, &pool));
    pp_future *future = submit(pool, who, NULL, 0);
    CHECK_OK(pp_future_result(future, -1, pids, sizeof pids, NULL));
    pp_future_unref(future);
    CHECK_INT(kill(pids[1], SIGKILL), 0);
    until(!test_process_alive(pids[1]));
    REFUSED(pp_pool_create(&(pp_pool_options){.launcher = launcher}, &none), -EPIPE);
    CHECK(none == UNTOUCHED(pp_pool));
    until(pp_submit(pool, nothing, NULL, 0, NULL) == -ENOTRECOVERABLE);
    CHECK(*pp_last_error());
    pp_pool_destroy(pool);
    pp_launcher_unref(launcher);
}
