/* SPDX-License-Identifier: MIT */
/* How processes end with others: with their handle, their owner, the program's exit and the process that started them;
 * and what the host sees of them. */
#include "process_kit.h"
#include "signal_kit.h"

#if KIT_TSAN
/* Owners that are killed, or exit, join nothing. */
const char *__tsan_default_options(void);
__attribute__((visibility("default"))) const char *__tsan_default_options(void)
{
    return "report_thread_leaks=0";
}
#endif

BOTH(the_last_reference_takes_a_process_along_that_runs)
{
    pp_process *process = start_int(method, run_deaf, 0);
    pid_t pid = pp_process_pid(process);
    gate_wait_arrived(0, 1);
    CHECK(pp_process_ref(process) == process);
    pp_process_unref(process);
    CHECK_INT(pp_process_is_alive(process), 1);
    pp_process_unref(process);
    wait_until(is_gone(pid), 10);
}

BOTH(processes_that_end_leave_nothing_behind)
{
    CHECK_INT(finish_process(start_int(method, run_return, 0)), 0);
    int before = count_fds(), threads = settled_thread_count();
    for (int i = 0; i < 5; i++) {
        pp_process *process = start_int(method, run_hang, 0);
        CHECK_INT(finish_process(start_int(method, run_return, 0)), 0);
        pp_process_unref(process);
    }
    CHECK_INT(count_fds(), before);
    wait_until(thread_count() <= threads, 10);
    wait_until(count_descendants_named(getppid(), "pp-") == 0, 10);
    wait_until(count_descendants_named(getppid(), "Process-") == 0, 10);
}

static void *start_and_end_some(void *launcher)
{
    const pp_process_options options = {.launcher = launcher};
    for (int i = 0; i < 20; i++) {
        int value = i;
        pp_process *process = start_with(PP_START_DEFAULT, options, run_return, &value, sizeof value);
        CHECK_INT(finish_process(process), i);
    }
    return NULL;
}

BOTH(threads_start_and_end_processes_of_their_own)
{
    pp_launcher *launcher = launcher_of(method);
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        threads[i] = start_thread(start_and_end_some, launcher);
    for (int i = 0; i < 3; i++)
        join_thread(threads[i]);
    pp_launcher_unref(launcher);
}

/* ----------------------------------------------------------------------------------------- the owner's end */

static void own_two(pp_start_method method)
{
    const pp_process_options options = {.launcher = launcher_of(method), .daemon = 1};
    pp_process *deaf = start_with(method, options, run_deaf, NULL, 0);
    pp_process *stopped = start_with(method, options, run_hang, NULL, 0);
    gate_wait_arrived(0, 2);
    stop_and_see(pp_process_pid(stopped));
    shared()->pid[0] = pp_process_pid(deaf);
    shared()->pid[1] = pp_process_pid(stopped);
    shared()->pid[2] = parent_of(shared()->pid[0]);
}

/* A child of the owner's has copies of all that it has, and lives on. */
static void own_two_and_a_child(pp_start_method method)
{
    own_two(method);
    pid_t child = fork();
    if (child == 0) {
        gate_wait(14);
        _exit(0);
    }
    shared()->pid[3] = child;
}

static void kill_owner(void (*own)(pp_start_method method), pp_start_method method)
{
    pid_t owner = start_owner(own, method);
    gate_wait_arrived(15, 1);
    for (int i = 0; i < 3; i++)
        CHECK(test_process_alive(shared()->pid[i]));
    kill(owner, SIGKILL);
    CHECK(WIFSIGNALED(wait_for(owner)));
    for (int i = 0; i < 3; i++)
        wait_until(is_gone(shared()->pid[i]), 10);
}

BOTH(no_daemon_outlives_its_owner)
{
    kill_owner(own_two, method);
}

BOTH(no_daemon_outlives_its_owner_though_a_child_of_that_lives_on)
{
    kill_owner(own_two_and_a_child, method);
    CHECK(test_process_alive(shared()->pid[3]));
    gate_open(14);
    wait_until(is_gone(shared()->pid[3]), 10);
}

static void own_two_and_kill_the_zygote(pp_start_method method)
{
    own_two(method);
    kill(shared()->pid[2], SIGKILL);
}

BOTH(no_daemon_outlives_what_has_started_it)
{
    pid_t owner = start_owner(own_two_and_kill_the_zygote, method);
    gate_wait_arrived(15, 1);
    for (int i = 0; i < 3; i++)
        wait_until(is_gone(shared()->pid[i]), 10);
    kill(owner, SIGKILL);
    wait_for(owner);
}

BOTH(a_daemon_whose_starter_has_died_has_ended_in_a_way_that_nobody_saw)
{
    int code = 4711;
    pp_error error;
    pp_process *process = start_with(method, (pp_process_options){.daemon = 1}, run_hang, NULL, 0);
    gate_wait_arrived(0, 1);
    pid_t zygote = parent_of(pp_process_pid(process));
    kill(zygote, SIGKILL);
    CHECK_OK(pp_process_join(process, -1));
    CHECK_INT(pp_process_is_alive(process), 0);
    CHECK_INT(pp_process_exit_code(process, &code), -ENODATA);
    CHECK_INT(code, 4711);
    CHECK_OK(pp_process_error(process, &error));
    CHECK_INT(error.kind, PP_ERROR_CRASH);
    CHECK_INT(error.status, -1);
    CHECK_HAS(error.message, "was killed as the process that ");
    CHECK_OK(pp_process_kill(process));
    wait_until(is_gone(pp_process_pid(process)), 10);
    CHECK(is_readable(pp_process_fd(process)));
    CHECK_OK(pp_process_close(process));
}

BOTH(of_a_launcher_whose_process_has_died_none_is_started)
{
    pp_launcher *launcher = launcher_of(method);
    pp_process_options options = {.launcher = launcher};
    pp_process *process = start_with(method, options, run_gate, &(int){1}, sizeof(int)), *second = NULL;
    pid_t zygote = parent_of(pp_process_pid(process));
    kill(zygote, SIGKILL);
    wait_until(is_gone(zygote), 10);
    CHECK_INT(pp_process_start(run_return, NULL, 0, &options, &second), -EPIPE);
    CHECK(second == NULL);
    pp_process_unref(process);
    pp_launcher_unref(launcher);
}

/* --------------------------------------------------------------------------------------- the program's exit */

static int run_nap(void *arg, size_t size)
{
    (void)arg, (void)size;
    test_sleep_ms(30);
    shared()->arrived[1]++;
    return 0;
}

static void leave_both_kinds(pp_start_method method)
{
    pp_process *daemon = start_with(method, (pp_process_options){.daemon = 1}, run_deaf, NULL, 0);
    gate_wait_arrived(0, 1);
    shared()->pid[0] = pp_process_pid(daemon);
    for (int i = 0; i < 3; i++)
        shared()->pid[1 + i] = pp_process_pid(start_int(method, run_nap, 0));
    exit(4);
}

BOTH(a_program_that_ends_awaits_its_processes_and_kills_its_daemons)
{
    CHECK_INT(wait_for(start_owner(leave_both_kinds, method)), 4 << 8);
    CHECK_INT(shared()->arrived[1], 3);
    for (int i = 0; i < 4; i++)
        wait_until(is_gone(shared()->pid[i]), 10);
}

static int refusal;

static void start_late(void)
{
    pp_process *process = NULL;
    refusal = pp_process_start(run_return, NULL, 0, NULL, &process);
    _exit(refusal == -ESHUTDOWN ? 0 : 1);
}

static void start_in_a_handler(pp_start_method method)
{
    atexit(start_late); /* runs behind the one that is registered with the process */
    finish_process(start_int(method, run_return, 0));
    exit(2);
}

BOTH(when_the_program_exits_no_process_is_started)
{
    CHECK_INT(wait_for(start_owner(start_in_a_handler, method)), 0);
}

/* ------------------------------------------------------------------------------------------------ the host */

BOTH(a_host_that_waits_for_any_child_sees_no_process)
{
    install(SIGCHLD, SA_RESTART);
    pp_process *process = start_int(method, run_hang, 0);
    gate_wait_arrived(0, 1);
    CHECK(wait(NULL) == -1 && errno == ECHILD);
    CHECK_OK(pp_process_kill(process));
    CHECK_INT(code_of(process), -SIGKILL);
    CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
    pp_process_unref(process);
    if (!KIT_TSAN && !TEST_ON_VALGRIND) /* there the helper that makes a zygote is a plain fork */
        CHECK_INT(handled, 0);
}
