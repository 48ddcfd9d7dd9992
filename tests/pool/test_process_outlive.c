/* SPDX-License-Identifier: MIT */
/* Processes that are no daemons go on when their owner is killed, or what has started them is; daemons start none, and
 * a pool's workers none that outlive them. */
#include "process_kit.h"

#include <sys/syscall.h>

/* Says that it has begun, waits at gate 1, and ends in its own way. */
static void mark_exit(void)
{
    shared()->words[1]++;
}

static int run_to_its_end(void *arg, size_t size)
{
    (void)size;
    CHECK_INT(atexit(mark_exit), 0);
    shared()->pid[0] = getpid();
    gate_wait(1);
    shared()->words[0] = read_int(arg);
    printf("written at the end");
    return 0;
}

static void end_owner(pid_t owner)
{
    kill(owner, SIGKILL);
    CHECK(WIFSIGNALED(wait_for(owner)));
}

/* What was to be killed by the end of the zygote is dying by the time when that is gone. */
static void check_that_it_goes_on(pid_t zygote)
{
    pid_t pid = shared()->pid[0];
    wait_until(is_gone(zygote), 10);
    CHECK(test_process_alive(pid));
    CHECK_INT(shared()->words[0], 0);
    gate_open(1);
    wait_until(is_gone(pid), 10);
    CHECK_INT(shared()->words[0], 23);
    CHECK_INT(shared()->words[1], 1);
}

static void own_one(pp_start_method method)
{
    pp_process *process = start_int(method, run_to_its_end, 23);
    gate_wait_arrived(1, 1);
    shared()->pid[1] = parent_of(pp_process_pid(process));
}

BOTH(a_process_outlives_its_killed_owner_and_ends_by_itself)
{
    end_owner(start_owner_and_wait(own_one, method));
    check_that_it_goes_on(shared()->pid[1]);
}

BOTH(a_process_outlives_its_owner_and_what_has_started_it_killed_together)
{
    pid_t owner = start_owner_and_wait(own_one, method);
    kill(shared()->pid[1], SIGSTOP); /* so that it does nothing between the two */
    kill(owner, SIGKILL);
    kill(shared()->pid[1], SIGKILL);
    wait_for(owner);
    check_that_it_goes_on(shared()->pid[1]);
}

static pid_t own_by_command(const char *const *command)
{
    pp_launcher *launcher = NULL;
    CHECK_OK(pp_launcher_create(
        &(pp_launcher_options){.command = command, .inherit_fds = board_fds, .inherit_fd_count = 1}, &launcher));
    start_with(PP_START_SPAWN, (pp_process_options){.launcher = launcher}, run_to_its_end, &(int){23}, sizeof(int));
    gate_wait_arrived(1, 1);
    return parent_of(shared()->pid[0]);
}

static void own_by_nice(pp_start_method method)
{
    (void)method;
    shared()->pid[1] = own_by_command((const char *const[]){"nice", "{}", NULL});
}

/* The process is a child of a shell that waits for it. */
static void own_by_shell(pp_start_method method)
{
    (void)method;
    shared()->pid[1] = parent_of(own_by_command((const char *const[]){"sh", "-c", "\"$0\"; true", "{}", NULL}));
}

static void outlives_by(void (*own)(pp_start_method method))
{
    pid_t owner = start_owner_and_wait(own, PP_START_SPAWN);
    end_owner(owner);
    check_that_it_goes_on(shared()->pid[1]);
}

TEST(a_process_that_a_command_became_outlives_its_owner)
{
    outlives_by(own_by_nice);
}

TEST(a_process_that_a_command_has_started_outlives_its_owner)
{
    outlives_by(own_by_shell);
}

/* --------------------------------------------------------------------------------- without what started it */

static pp_process *start_and_kill_zygote(pp_start_method method, pp_process_function *function, int value)
{
    pp_process *process = start_int(method, function, value);
    pid_t zygote = parent_of(pp_process_pid(process));
    kill(zygote, SIGKILL);
    wait_until(is_gone(zygote), 10);
    return process;
}

BOTH(a_process_goes_on_without_what_has_started_it_and_can_be_awaited)
{
    if (TEST_ON_VALGRIND)
        LEFT_OUT("on valgrind there are no pidfds");
    int code = 4711;
    pp_error error;
    pp_process *process = start_and_kill_zygote(method, run_to_its_end, 23);
    gate_wait_arrived(1, 1);
    CHECK_INT(pp_process_is_alive(process), 1);
    CHECK(!is_readable(pp_process_fd(process)));
    CHECK_INT(pp_process_join(process, 20), -ETIMEDOUT);
    gate_open(1);
    CHECK_OK(pp_process_join(process, -1));
    CHECK_INT(pp_process_is_alive(process), 0);
    CHECK(is_readable(pp_process_fd(process)));
    CHECK_INT(shared()->words[1], 1);
    CHECK_INT(pp_process_exit_code(process, &code), -ENODATA);
    CHECK_INT(code, 4711);
    CHECK_OK(pp_process_error(process, &error));
    CHECK_HAS(error.message, "ended in an unknown way, as the process that ");
    CHECK_OK(pp_process_close(process));
    wait_until(is_gone(shared()->pid[0]), 10);
}

BOTH(a_process_can_be_ended_without_what_has_started_it)
{
    if (TEST_ON_VALGRIND)
        LEFT_OUT("on valgrind there are no pidfds");
    pp_process *one = start_and_kill_zygote(method, run_deaf, 0);
    pp_process *two = start_and_kill_zygote(method, run_hang, 0);
    pp_process *three = start_and_kill_zygote(method, run_hang, 0);
    pid_t pid = pp_process_pid(three);
    gate_wait_arrived(0, 3);
    CHECK_OK(pp_process_terminate(one));
    CHECK_INT(pp_process_join(one, 30), -ETIMEDOUT);
    CHECK_OK(pp_process_kill(one));
    CHECK_OK(pp_process_join(one, -1));
    stop_and_see(pp_process_pid(two));
    CHECK_OK(pp_process_terminate(two));
    CHECK_OK(pp_process_join(two, -1));
    CHECK_OK(pp_process_close(one));
    CHECK_OK(pp_process_close(two));
    pp_process_unref(three);
    wait_until(is_gone(pid), 10);
}

static void leave_without_a_zygote(pp_start_method method)
{
    start_and_kill_zygote(method, run_to_its_end, 23);
    shared()->arrived[2]++;
    exit(6);
}

BOTH(a_program_that_ends_awaits_a_process_whose_starter_has_died)
{
    if (TEST_ON_VALGRIND)
        LEFT_OUT("on valgrind there are no pidfds");
    share();
    fflush(stdout);
    pid_t owner = fork();
    if (owner == 0)
        leave_without_a_zygote(method);
    gate_wait_arrived(1, 1);
    gate_wait_arrived(2, 1);
    CHECK_INT(waitpid(owner, NULL, WNOHANG), 0);
    gate_open(1);
    CHECK_INT(wait_for(owner), 6 << 8);
    CHECK_INT(shared()->words[0], 23);
}

/* ---------------------------------------------------------------------------------------------- the sentinel */

BOTH(the_sentinel_is_a_pidfd_with_which_signals_can_be_sent)
{
    if (TEST_ON_VALGRIND)
        LEFT_OUT("on valgrind there are no pidfds");
    pp_process *process = start_int(method, run_hang, 0);
    gate_wait_arrived(0, 1);
    CHECK_INT(syscall(SYS_pidfd_send_signal, pp_process_fd(process), 0, NULL, 0), 0);
    CHECK_INT(syscall(SYS_pidfd_send_signal, pp_process_fd(process), SIGUSR1, NULL, 0), 0);
    CHECK_INT(finish_process(process), -SIGUSR1);
}

/* It can tell nothing, and is not asked before somebody wants to know more. */
BOTH(an_end_shows_though_what_started_the_process_is_stopped_and_is_told_when_asked_for)
{
    if (TEST_ON_VALGRIND)
        LEFT_OUT("on valgrind there are no pidfds");
    pp_process *process = start_int(method, run_gate, 1);
    gate_wait_arrived(1, 1);
    pid_t zygote = parent_of(pp_process_pid(process));
    stop_and_see(zygote);
    gate_open(1);
    struct pollfd watched = {.fd = pp_process_fd(process), .events = POLLIN};
    CHECK_INT(poll(&watched, 1, -1), 1);
    CHECK_INT(pp_process_is_alive(process), 0);
    CHECK_OK(pp_process_join(process, 0));
    CHECK(is_stopped(zygote));
    CHECK_INT(finish_process(process), 0);
}

/* -------------------------------------------------------------------------------------- what may start what */

static int run_as_daemon(void *arg, size_t size)
{
    pp_process *process = NULL;
    pp_launcher *launcher = NULL;
    pp_pool *pool = NULL;
    pp_start_method method = (pp_start_method)read_int(arg);
    CHECK_INT(pp_process_start(run_return, arg, size, &(pp_process_options){.start_method = method}, &process), -EPERM);
    CHECK_HAS(pp_last_error(), "is a daemon, which may start no processes");
    CHECK_INT(pp_launcher_create(&(pp_launcher_options){.start_method = method}, &launcher), -EPERM);
    CHECK_INT(pp_pool_create(&(pp_pool_options){.max_workers = 1, .start_method = method}, &pool), -EPERM);
    CHECK(!process && !launcher && !pool);
    CHECK_OK(pp_pool_create(&(pp_pool_options){.start_method = PP_START_INLINE}, &pool));
    CHECK_INT(take_int(submit_int(pool, task_square, 5)), 25);
    pp_pool_destroy(pool);
    return 9;
}

BOTH(a_daemon_may_start_no_processes)
{
    int value = (int)method;
    pp_process_options options = {.daemon = 1};
    CHECK_INT(finish_process(start_with(method, options, run_as_daemon, &value, sizeof value)), 9);
}

static int run_forking_daemon(void *arg, size_t size)
{
    pid_t child = fork();
    if (child == 0)
        _exit(run_as_daemon(arg, size));
    return WEXITSTATUS(wait_for(child));
}

BOTH(a_child_that_a_daemon_forks_may_start_none_either)
{
    int value = (int)method;
    pp_process_options options = {.daemon = 1};
    CHECK_INT(finish_process(start_with(method, options, run_forking_daemon, &value, sizeof value)), 9);
}

/* In a process that a task has started: it starts one more. */
static int run_start_one_more(void *arg, size_t size)
{
    pp_process *process = start_with((pp_start_method)read_int(arg), (pp_process_options){0}, run_deaf, NULL, 0);
    shared()->pid[2] = pp_process_pid(process);
    return run_deaf(arg, size);
}

static int task_start_processes(pp_task *task, const void *arg, size_t size)
{
    (void)task;
    pp_process *process =
        start_with((pp_start_method)read_int(arg), (pp_process_options){0}, run_start_one_more, arg, size);
    shared()->pid[1] = pp_process_pid(process);
    gate_wait_arrived(0, 2);
    shared()->pid[0] = getpid();
    gate_wait(15); /* which nobody opens */
    return 0;
}

static void own_pool(pp_start_method method)
{
    submit_int(open_workers(1, method), task_start_processes, (int)method);
    gate_wait_arrived(15, 1);
}

BOTH(what_a_pools_worker_has_started_ends_with_it)
{
    share();
    fflush(stdout);
    pid_t owner = fork();
    if (owner == 0) {
        own_pool(method);
        gate_wait(14);
    }
    gate_wait_arrived(14, 1);
    end_owner(owner);
    for (int i = 0; i < 3; i++)
        wait_until(is_gone(shared()->pid[i]), 10);
}
