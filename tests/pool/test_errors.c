/* SPDX-License-Identifier: MIT */
/*
 * What each function refuses, with which error; outputs stay as they were, and pp_last_error() says why. What only want
 * of memory or descriptors provokes call by call is in test_errors_seams.c.
 */
#include "call_kit.h"

#include <sys/resource.h>

enum { BEGUN, GATE, RUNS };

/* The call fails with this code, and leaves a text of its own. */
#define REFUSED(expression, expected)                                                                                  \
    do {                                                                                                               \
        CHECK_INT(pp_future_wait(NULL, 0), -EINVAL);                                                                   \
        char refused_before[64];                                                                                       \
        snprintf(refused_before, sizeof refused_before, "%s", pp_last_error());                                        \
        CHECK_INT(expression, expected);                                                                               \
        CHECK(*pp_last_error() && strcmp(pp_last_error(), refused_before) != 0);                                       \
    } while (0)

/* Never valid, never written. */
#define UNTOUCHED(type) ((type *)(uintptr_t)0x5a5a5a50)

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

/* -------------------------------------------------------------------------------------------- options */

/* A function in no file: the loader knows nothing of it. */
static pp_function *homeless_function(void)
{
    void *memory = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pp_function *function;
    CHECK(memory != MAP_FAILED);
    memcpy(&function, &memory, sizeof function);
    return function;
}

static void refuse_launcher(pp_launcher_options options, int code)
{
    pp_launcher *launcher = UNTOUCHED(pp_launcher);
    REFUSED(pp_launcher_create(&options, &launcher), code);
    CHECK(launcher == UNTOUCHED(pp_launcher));
}

TEST(bad_launcher_options_are_refused)
{
    static const char *const missing[] = {"/nonexistent/libnothing.so", NULL}, *const no_library[] = {"/etc/passwd",
                                                                                                      NULL};
    int closed = open("/dev/null", O_RDONLY);
    close(closed);
    refuse_launcher((pp_launcher_options){.start_method = (pp_start_method)99}, -EINVAL);
    refuse_launcher((pp_launcher_options){.start_method = (pp_start_method)-1}, -EINVAL);
    refuse_launcher((pp_launcher_options){.inherit_fd_count = 1}, -EINVAL);
    refuse_launcher((pp_launcher_options){.inherit_fds = (int[]){1, closed}, .inherit_fd_count = 2}, -EBADF);
    refuse_launcher((pp_launcher_options){.inherit_fds = (int[]){-1}, .inherit_fd_count = 1}, -EBADF);
    refuse_launcher((pp_launcher_options){.start_method = PP_START_FORK, .preload = missing}, -EINVAL);
    refuse_launcher((pp_launcher_options){.start_method = PP_START_FORKSERVER, .preload = missing}, -ENOENT);
    CHECK_HAS(pp_last_error(), "libnothing.so");
    refuse_launcher((pp_launcher_options){.start_method = PP_START_FORKSERVER, .preload = no_library}, -ELIBBAD);
    for (int i = 0; i < 4; i++) {
        pp_launcher_options options = {0};
        options.reserved[i] = 1;
        refuse_launcher(options, -EINVAL);
    }
}

static void refuse_pool(pp_pool_options options, int code)
{
    pp_pool *pool = UNTOUCHED(pp_pool);
    REFUSED(pp_pool_create(&options, &pool), code);
    CHECK(pool == UNTOUCHED(pp_pool));
}

TEST(bad_pool_options_are_refused)
{
    int before = count_fds();
    refuse_pool((pp_pool_options){.max_workers = -1}, -EINVAL);
    refuse_pool((pp_pool_options){.max_workers = 1025}, -EINVAL);
    CHECK_HAS(pp_last_error(), "1024");
    refuse_pool((pp_pool_options){.on_crash = (pp_crash_rule)2}, -EINVAL);
    refuse_pool((pp_pool_options){.wait = (pp_wait_policy)2}, -EINVAL);
    CHECK_HAS(pp_last_error(), "wait");
    refuse_pool((pp_pool_options){.wait = (pp_wait_policy)-1}, -EINVAL);
    refuse_pool((pp_pool_options){.start_method = (pp_start_method)77}, -EINVAL);
    refuse_pool((pp_pool_options){.stack_size = 65535}, -EINVAL);
    refuse_pool((pp_pool_options){.stack_size = SIZE_MAX}, -EINVAL);
    refuse_pool((pp_pool_options){.stack_size = (size_t)1 << 50}, -EINVAL);
    refuse_pool((pp_pool_options){.initializer = nothing, .initializer_arg_size = 1}, -EINVAL);
    refuse_pool((pp_pool_options){.finalizer = nothing, .finalizer_arg_size = 1}, -EINVAL);
    refuse_pool((pp_pool_options){.initializer = homeless_function()}, -EINVAL);
    refuse_pool((pp_pool_options){.finalizer = homeless_function()}, -EINVAL);
    refuse_pool((pp_pool_options){.inherit_fds = (int[]){-5}, .inherit_fd_count = 1}, -EBADF);
    for (int i = 0; i < 4; i++) {
        pp_pool_options options = {0};
        options.reserved[i] = UINT64_C(1) << 40;
        refuse_pool(options, -EINVAL);
    }
    until(count_fds() == before);
}

/* What only switches something on may mean more one day. */
static void refuse_switches(int value)
{
    refuse_pool((pp_pool_options){.event_loop = value}, -EINVAL);
    CHECK_HAS(pp_last_error(), "event_loop is");
    refuse_pool((pp_pool_options){.backtraces = value}, -EINVAL);
    CHECK_HAS(pp_last_error(), "backtraces is");
    refuse_pool((pp_pool_options){.pin = value}, -EINVAL);
    CHECK_HAS(pp_last_error(), "pin is");
    refuse_pool((pp_pool_options){.close_fds = value}, -EINVAL);
    CHECK_HAS(pp_last_error(), "close_fds is");
    refuse_launcher((pp_launcher_options){.close_fds = value}, -EINVAL);
    CHECK_HAS(pp_last_error(), "close_fds is");
    refuse_launcher((pp_launcher_options){.no_spare = value}, -EINVAL);
    CHECK_HAS(pp_last_error(), "no_spare is");
}

TEST(a_switch_of_a_pool_or_launcher_is_0_or_1)
{
    refuse_switches(2);
    refuse_switches(-1);
}

TEST(a_launcher_and_options_of_one_are_refused_together)
{
    pp_launcher *launcher;
    int fds[] = {1};
    CHECK_OK(pp_launcher_create(NULL, &launcher));
    refuse_pool((pp_pool_options){.launcher = launcher, .start_method = PP_START_FORK}, -EINVAL);
    refuse_pool((pp_pool_options){.launcher = launcher, .inherit_fds = fds}, -EINVAL);
    refuse_pool((pp_pool_options){.launcher = launcher, .inherit_fd_count = 1}, -EINVAL);
    refuse_pool((pp_pool_options){.launcher = launcher, .close_fds = 1}, -EINVAL);
    pp_pool *pool;
    CHECK_OK(pp_pool_create(&(pp_pool_options){.launcher = launcher}, &pool));
    CHECK(pp_launcher_ref(launcher) == launcher);
    pp_launcher_unref(launcher);
    pp_launcher_unref(launcher);
    expect_usable(pool);
    pp_pool_destroy(pool);
}

TEST(defaults_and_extremes_are_accepted)
{
    pp_pool *pool;
    CHECK_OK(pp_pool_create(NULL, &pool));
    expect_usable(pool);
    pp_pool_destroy(pool);
    CHECK_OK(pp_pool_create(&(pp_pool_options){.max_workers = 1024, .stack_size = 65536}, &pool));
    expect_usable(pool);
    pp_pool_destroy(pool);
}

/* -------------------------------------------------------------------------------------- the environment */

TEST(an_unknown_start_method_in_the_environment_is_refused)
{
    setenv("PROCPOOL_START", "sideways", 1);
    refuse_pool((pp_pool_options){0}, -EINVAL);
    CHECK_HAS(pp_last_error(), "sideways");
    refuse_launcher((pp_launcher_options){0}, -EINVAL);
}

static pid_t pid_of_a_worker(pp_pool *pool)
{
    pid_t pids[2];
    pp_future *future = submit(pool, who, NULL, 0);
    CHECK_OK(pp_future_result(future, -1, pids, sizeof pids, NULL));
    pp_future_unref(future);
    return pids[0];
}

TEST(the_environment_overrides_the_start_method)
{
    static const char *const names[] = {"fork", "forkserver", "inline"};
    for (int i = 0; i < 3; i++) {
        setenv("PROCPOOL_START", names[i], 1);
        pp_pool *pool = kit_pool(i == 2 ? PP_START_FORK : PP_START_INLINE, 1);
        CHECK_INT(pid_of_a_worker(pool) == getpid(), i == 2);
        pp_pool_destroy(pool);
    }
}

TEST(an_empty_start_method_in_the_environment_counts_as_unset)
{
    setenv("PROCPOOL_START", "", 1);
    for (pp_start_method method = PP_START_DEFAULT; method <= PP_START_INLINE; method++) {
        pp_pool *pool = kit_pool(method, 1);
        CHECK_INT(pid_of_a_worker(pool) == getpid(), method == PP_START_INLINE);
        pp_pool_destroy(pool);
    }
}

/* Runs itself again, as a program whose main does not call pp_worker_main. */
TEST(the_forkserver_needs_a_call_of_pp_worker_main)
{
    if (!getenv("PP_TEST_NO_WORKER_MAIN")) {
        char path[4096];
        setenv("PP_TEST_NO_WORKER_MAIN", "1", 1);
        execl(test_program(path), "again", "--run", __func__ + strlen("test__"), NULL);
    }
    CHECK(getenv("PP_TEST_NO_WORKER_MAIN") != NULL);
    refuse_pool((pp_pool_options){.start_method = PP_START_FORKSERVER}, -ENOSYS);
    CHECK_HAS(pp_last_error(), "pp_worker_main");
    refuse_launcher((pp_launcher_options){.start_method = PP_START_FORKSERVER}, -ENOSYS);
    pp_pool *pool;
    CHECK_OK(pp_pool_create(NULL, &pool)); /* by fork */
    expect_usable(pool);
    pp_pool_destroy(pool);
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

static int no_input(void *context, pp_map_input *input)
{
    (void)context, (void)input;
    return 0;
}

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

/* ------------------------------------------------------------------------------------- a forked child */

struct heritage {
    pp_launcher *launcher;
    pp_pool *pool;
    pp_future *done, *running;
    pp_map *map;
    pp_completed *completed, *completed_of_two;
    void *taken;
};

static void try_futures(pp_future *future)
{
    uint32_t value = 5;
    const void *data = UNTOUCHED(void);
    void *taken = UNTOUCHED(void);
    const pp_error *error = UNTOUCHED(pp_error);
    size_t size = 5;
    REFUSED(pp_future_wait(future, -1), -EPERM);
    REFUSED(pp_future_result(future, -1, &value, sizeof value, NULL), -EPERM);
    REFUSED(pp_future_view(future, -1, &data, &size), -EPERM);
    REFUSED(pp_future_take(future, -1, &taken, &size), -EPERM);
    REFUSED(pp_future_error(future, -1, &error), -EPERM);
    REFUSED(pp_future_cancel(future), -EPERM);
    REFUSED(pp_future_state(future), -EPERM);
    CHECK(value == 5 && data == UNTOUCHED(void) && taken == UNTOUCHED(void) && error == UNTOUCHED(pp_error) &&
          size == 5);
    CHECK(pp_future_ref(future) == future);
    pp_future_unref(future);
    pp_future_unref(future);
    pp_future_unref(future);
}

static void try_many_futures(const struct heritage *h)
{
    pp_future *const list[] = {h->done, h->running};
    pp_future *future = UNTOUCHED(pp_future);
    pp_completed *completed = UNTOUCHED(pp_completed);
    unsigned char done[2] = {7, 7};
    size_t index = 5;
    REFUSED(pp_wait(list, 1, PP_ALL_COMPLETED, -1, done), -EPERM);
    REFUSED(pp_wait(list, 2, PP_FIRST_COMPLETED, 0, done), -EPERM);
    REFUSED(pp_as_completed(list, 2, &completed), -EPERM);
    REFUSED(pp_completed_next(h->completed, -1, &future, &index), -EPERM);
    REFUSED(pp_completed_next(h->completed_of_two, -1, &future, &index), -EPERM);
    pp_completed_close(h->completed);
    pp_completed_close(h->completed_of_two);
    CHECK(future == UNTOUCHED(pp_future) && completed == UNTOUCHED(pp_completed));
    CHECK(done[0] == 7 && done[1] == 7 && index == 5);
}

static void try_everything(const struct heritage *h)
{
    pp_launcher *launcher = UNTOUCHED(pp_launcher);
    pp_pool *pool = UNTOUCHED(pp_pool);
    pp_future *future = UNTOUCHED(pp_future);
    pp_map *map = UNTOUCHED(pp_map);
    pp_call call = {.function = nothing};
    pp_map_result result;
    REFUSED(pp_launcher_create(NULL, &launcher), -EPERM);
    REFUSED(pp_pool_create(NULL, &pool), -EPERM);
    REFUSED(pp_pool_create(&(pp_pool_options){.launcher = h->launcher}, &pool), -EPERM);
    REFUSED(pp_submit(h->pool, nothing, NULL, 0, &future), -EPERM);
    REFUSED(pp_submit_call(h->pool, &call, &future), -EPERM);
    REFUSED(pp_submit_many(h->pool, &call, 1, &future), -EPERM);
    REFUSED(pp_map_open(h->pool, echo, no_input, NULL, NULL, &map), -EPERM);
    REFUSED(pp_map_open_array(h->pool, echo, "abc", 3, 1, NULL, &map), -EPERM);
    REFUSED(pp_map_next(h->map, -1, &result), -EPERM);
    REFUSED(pp_map_array(h->pool, echo, "abc", 3, 1, (char[3]){0}, 1, NULL), -EPERM);
    REFUSED(pp_pool_shutdown(h->pool, PP_CANCEL_PENDING, -1), -EPERM);
    try_futures(h->done);
    try_futures(h->running);
    try_many_futures(h);
    pp_map_close(h->map);
    pp_pool_release(h->pool);
    pp_pool_destroy(h->pool);
    CHECK(pp_launcher_ref(h->launcher) == h->launcher);
    pp_launcher_unref(h->launcher);
    pp_launcher_unref(h->launcher);
    pp_launcher_unref(h->launcher);
    CHECK(pp_usable_processors() >= 1);
    CHECK(pp_future_id(h->done) == 1);
    CHECK(launcher == UNTOUCHED(pp_launcher) && pool == UNTOUCHED(pp_pool) && future == UNTOUCHED(pp_future) &&
          map == UNTOUCHED(pp_map));
}

/* Also the child's child, and exit's handlers run there as everywhere. */
static void fork_and_try(const struct heritage *h, int depth)
{
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        try_everything(h);
        if (depth > 1)
            fork_and_try(h, depth - 1);
        pp_free(h->taken); /* each process has its own copy of it */
        exit(0);
    }
    int status;
    CHECK_INT(waitpid(child, &status, 0), child);
    CHECK_INT(status, 0);
}

BOTH(in_a_child_that_the_host_forks_every_function_refuses_and_touches_nothing)
{
    board_make();
    struct heritage h;
    size_t size;
    CHECK_OK(pp_launcher_create(&(pp_launcher_options){.start_method = method}, &h.launcher));
    h.pool = kit_sibling(method, (pp_pool_options){.max_workers = 1});
    pp_future *first = submit_u32(h.pool, echo, 9);
    CHECK_OK(pp_future_take(first, -1, &h.taken, &size));
    h.done = submit_u32(h.pool, echo, 42);
    CHECK_INT(result_u32(h.done), 42);
    occupy(h.pool, BEGUN, GATE, 1, &h.running);
    CHECK_OK(pp_map_open_array(h.pool, echo, "abc", 3, 1, NULL, &h.map));
    pp_pool *other = kit_sibling(method, (pp_pool_options){.max_workers = 1});
    pp_future *apart = submit_u32(other, echo, 3), *next;
    CHECK_OK(pp_as_completed((pp_future *[]){h.running, h.done}, 2, &h.completed));
    CHECK_OK(pp_future_wait(apart, -1)); /* no other thread of this process is busy when it forks */
    CHECK_OK(pp_as_completed((pp_future *[]){h.running, apart}, 2, &h.completed_of_two));
    CHECK_INT(pp_completed_next(h.completed, -1, &next, NULL), 1);
    CHECK(next == h.done);
    fork_and_try(&h, 2);

    pp_map_result result;
    CHECK_INT(pp_future_state(h.running), PP_RUNNING);
    CHECK_INT(pp_map_next(h.map, 0, &result), -ETIMEDOUT);
    open_gate(GATE);
    CHECK_INT(pp_completed_next(h.completed, -1, &next, NULL), 1);
    CHECK(next == h.running);
    CHECK_INT(pp_completed_next(h.completed, -1, &next, NULL), 0);
    for (int i = 0; i < 2; i++)
        CHECK_INT(pp_completed_next(h.completed_of_two, -1, &next, NULL), 1);
    pp_completed_close(h.completed);
    pp_completed_close(h.completed_of_two);
    CHECK_INT(result_u32(h.running), 0);
    CHECK_INT(result_u32(h.done), 42);
    for (int i = 0; i < 3; i++) {
        CHECK_INT(pp_map_next(h.map, -1, &result), 1);
        CHECK(result.code == 0 && *(const char *)result.data == "abc"[i]);
    }
    CHECK_INT(pp_map_next(h.map, -1, &result), 0);
    pp_map_close(h.map);
    pp_future_unref(first);
    pp_future_unref(h.done);
    pp_future_unref(h.running);
    pp_future_unref(apart);
    pp_pool_destroy(other);
    expect_usable(h.pool);
    pp_pool_destroy(h.pool);
    pp_launcher_unref(h.launcher);
    CHECK_INT(*(uint32_t *)h.taken, 9);
    pp_free(h.taken);
}

TEST(a_child_forked_before_the_library_was_used_may_use_it)
{
    pid_t child = fork();
    if (child == 0) {
        pp_pool *pool = kit_pool(PP_START_FORK, 1);
        expect_usable(pool);
        pp_pool_destroy(pool);
        exit(0);
    }
    int status;
    CHECK_INT(waitpid(child, &status, 0), child);
    CHECK_INT(status, 0);
    pp_pool *pool = kit_pool(PP_START_FORK, 1);
    expect_usable(pool);
    pp_pool_destroy(pool);
}

/* ---------------------------------------------------------------------------------------------- limits */

static rlim_t set_limit(int resource, rlim_t limit)
{
    struct rlimit have;
    CHECK_INT(getrlimit((__rlimit_resource_t)resource, &have), 0);
    rlim_t before = have.rlim_cur;
    have.rlim_cur = limit;
    CHECK_INT(setrlimit((__rlimit_resource_t)resource, &have), 0);
    return before;
}

/* A new launcher keeps the limit that there was at its birth, so it is only made. */
static void make_launcher(pp_start_method method, rlim_t limit)
{
    pp_launcher *launcher = UNTOUCHED(pp_launcher);
    rlim_t before = set_limit(RLIMIT_NOFILE, limit);
    int code = pp_launcher_create(&(pp_launcher_options){.start_method = method}, &launcher);
    set_limit(RLIMIT_NOFILE, before);
    CHECK(code == 0 || *pp_last_error());
    if (code == 0)
        pp_launcher_unref(launcher);
    else if (code != -EAGAIN) /* that is the new process, which found none for itself */
        CHECK_INT(code, -EMFILE);
    CHECK((code != 0) == (launcher == UNTOUCHED(pp_launcher)));
}

/* A pool either is refused, or works as soon as there are more descriptors. */
static void make_pool(pp_launcher *launcher, rlim_t limit)
{
    pp_pool *pool = UNTOUCHED(pp_pool);
    rlim_t before = set_limit(RLIMIT_NOFILE, limit);
    int code = pp_pool_create(&(pp_pool_options){.launcher = launcher, .max_workers = 2}, &pool);
    if (code != 0) {
        set_limit(RLIMIT_NOFILE, before);
        CHECK_INT(code, -EMFILE);
        CHECK_HAS(pp_last_error(), "RLIMIT_NOFILE");
        CHECK(pool == UNTOUCHED(pp_pool));
        return;
    }
    pp_future *future = submit_u32(pool, echo, 8);
    code = pp_future_wait(future, 20);
    CHECK(code == 0 || code == -ETIMEDOUT);
    set_limit(RLIMIT_NOFILE, before);
    CHECK_INT(result_u32(future), 8);
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

BOTH_WITHIN(where_descriptors_run_out_it_is_said_or_goes_on_later, 60)
{
    pp_launcher *launcher;
    CHECK_OK(pp_launcher_create(&(pp_launcher_options){.start_method = method}, &launcher));
    make_pool(launcher, 1024);
    int before = count_fds();
    rlim_t used = (rlim_t)before - 3; /* ".", ".." and the directory itself are counted too */
    for (rlim_t more = 0; more < 16; more++) {
        make_pool(launcher, used + more);
        make_launcher(method, used + more);
        until(count_fds() == before);
    }
    pp_launcher_unref(launcher);
}

static int return_much(pp_task *task, const void *arg, size_t size)
{
    struct gated g;
    CHECK_INT(size, sizeof g);
    memcpy(&g, arg, sizeof g);
    add(g.begun);
    wait_at(g.gate);
    char *room = pp_task_reserve(task, g.value);
    return room ? 0 : -EMFILE;
}

/* The lowest descriptors are taken, so that nothing new can be opened below the limit. */
static void take_descriptors(void)
{
    int fd;
    do
        fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    while (fd >= 0 && fd < 60);
    CHECK(fd >= 0);
}

BOTH(what_is_large_and_finds_no_descriptor_fails_alone)
{
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    struct gated g = {.begun = BEGUN, .gate = GATE, .value = 3 << 20};
    char *argument = calloc(1, 3 << 20);
    pp_future *future = submit(pool, return_much, &g, sizeof g), *refused = UNTOUCHED(pp_future), *medium;
    const pp_error *error;
    until(read_word(BEGUN) == 1);
    take_descriptors();
    rlim_t before = set_limit(RLIMIT_NOFILE, 60);
    REFUSED(pp_submit(pool, echo, argument, 3 << 20, &refused), -EMFILE);
    CHECK(refused == UNTOUCHED(pp_future));
    medium = submit(pool, echo, argument, 100000); /* needs none while it waits */
    open_gate(GATE);
    CHECK_OK(pp_future_error(future, -1, &error));
    CHECK(error != NULL && error->kind == PP_ERROR_TRAVEL && *error->message);
    CHECK_INT(error->task_code, -EMFILE);
    CHECK_OK(pp_future_error(medium, -1, &error));
    CHECK(error != NULL && error->kind == PP_ERROR_TRAVEL && *error->message);
    CHECK_INT(error->task_code, -EMFILE);
    expect_usable(pool);
    set_limit(RLIMIT_NOFILE, before);
    pp_future_unref(future);
    pp_future_unref(medium);
    expect_end(submit(pool, echo, argument, 3 << 20), 0);
    free(argument);
    pp_pool_destroy(pool);
}

BOTH(a_file_size_limit_is_named_and_raises_no_signal)
{
    pp_pool *pool = kit_pool(method, 1);
    char *argument = calloc(1, 2 << 20);
    pp_future *future = UNTOUCHED(pp_future);
    expect_usable(pool);
    rlim_t before = set_limit(RLIMIT_FSIZE, 1 << 20);
    REFUSED(pp_submit(pool, echo, argument, 2 << 20, &future), -EFBIG);
    CHECK_HAS(pp_last_error(), "RLIMIT_FSIZE");
    CHECK(future == UNTOUCHED(pp_future));
    expect_usable(pool);
    set_limit(RLIMIT_FSIZE, before);
    expect_end(submit(pool, echo, argument, 2 << 20), 0);
    free(argument);
    pp_pool_destroy(pool);
}

static int return_bytes(pp_task *task, const void *arg, size_t size)
{
    uint32_t bytes;
    CHECK_INT(size, sizeof bytes);
    memcpy(&bytes, arg, sizeof bytes);
    static char room[2 << 20];
    return pp_task_return(task, room, bytes);
}

/* The limit is the workers' own. */
BOTH(a_result_above_the_workers_file_size_limit_fails_to_travel)
{
    rlim_t before = set_limit(RLIMIT_FSIZE, 1 << 20);
    pp_pool *pool = kit_pool(method, 1);
    const pp_error *error;
    expect_usable(pool);
    set_limit(RLIMIT_FSIZE, before);
    pp_future *future = submit_u32(pool, return_bytes, 2 << 20);
    CHECK_INT(pp_future_result(future, -1, NULL, 0, NULL), -EBADMSG);
    CHECK_OK(pp_future_error(future, 0, &error));
    CHECK_INT(error->kind, PP_ERROR_TRAVEL);
    CHECK_INT(error->task_code, -EFBIG);
    CHECK_HAS(error->message, "RLIMIT_FSIZE");
    pp_future_unref(future);
    expect_end(submit_u32(pool, return_bytes, 1 << 19), 0);
    pp_pool_destroy(pool);
}

TEST(a_pool_that_no_file_size_allows_is_refused)
{
    for (rlim_t limit = 1000; limit < 100000; limit *= 60) { /* less than a page, and than a side of a channel */
        rlim_t before = set_limit(RLIMIT_FSIZE, limit);
        refuse_pool((pp_pool_options){.start_method = PP_START_FORK}, -EFBIG);
        CHECK_HAS(pp_last_error(), "RLIMIT_FSIZE");
        set_limit(RLIMIT_FSIZE, before);
    }
}

/* The pool's page fits below the limit and a worker's channel does not. */
BOTH(workers_that_a_limit_keeps_from_starting_start_when_it_is_raised)
{
    pp_pool *pool = kit_pool(method, 1);
    rlim_t before = set_limit(RLIMIT_FSIZE, 10000);
    pp_future *future = submit_u32(pool, echo, 6);
    CHECK_INT(pp_future_wait(future, 30), -ETIMEDOUT);
    CHECK_INT(pp_future_state(future), PP_PENDING);
    set_limit(RLIMIT_FSIZE, before);
    CHECK_INT(result_u32(future), 6);
    pp_future_unref(future);
    pp_pool_destroy(pool);
}
