/* SPDX-License-Identifier: MIT */
/* Options of launchers and pools, and what the environment says of them: what is refused, and what is accepted. */
#include "errors_kit.h"

/* -------------------------------------------------------------------------------------------- options */

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
