/* SPDX-License-Identifier: MIT */
/* What a terminal's keys do to the owner alone, and not to its workers. */
#include "call_kit.h"

#include <pty.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>

enum { BEGUN, GATE, SIGNALS, READY, STOPPED, GO_ON, RUNS = 1024 };

typedef void owner_function(pp_start_method method);

static void count_signal(int number)
{
    (void)number;
    add(SIGNALS);
}

static uint32_t state_of_job(int status)
{
    return WIFSIGNALED(status) ? 128 + (uint32_t)WTERMSIG(status) : (uint32_t)WEXITSTATUS(status);
}

/* As a shell does: the job in the foreground, and, once it has stopped and is to go on, there again. Ends as the job
 * has ended. */
static _Noreturn void be_shell(int terminal, owner_function *owner, pp_start_method method)
{
    int status;
    signal(SIGTTOU, SIG_IGN);
    CHECK(setsid() > 0 && ioctl(terminal, TIOCSCTTY, 0) == 0);
    pid_t job = fork();
    CHECK(job >= 0);
    setpgid(job, job);
    if (job == 0) {
        CHECK_INT(tcsetpgrp(terminal, getpid()), 0);
        signal(SIGTTOU, SIG_DFL);
        CHECK_INT(dup2(terminal, STDIN_FILENO), STDIN_FILENO);
        owner(method);
        _exit(0);
    }
    for (;;) {
        CHECK_INT(waitpid(job, &status, WUNTRACED), job);
        if (!WIFSTOPPED(status))
            _exit((int)state_of_job(status));
        CHECK_INT(tcsetpgrp(terminal, getpgrp()), 0);
        add(STOPPED);
        wait_at(GO_ON);
        CHECK_INT(tcsetpgrp(terminal, job), 0);
        CHECK_INT(kill(-job, SIGCONT), 0);
    }
}

/* The shell with its job on a new terminal, of which *master is the other side. */
static pid_t open_terminal(owner_function *owner, pp_start_method method, int *master)
{
    int slave;
    board_make();
    CHECK_INT(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    CHECK_INT(openpty(master, &slave, NULL, NULL, NULL), 0);
    pid_t shell = fork();
    CHECK(shell >= 0);
    if (shell == 0) {
        close(*master);
        be_shell(slave, owner, method);
    }
    close(slave);
    return shell;
}

static void press(int master, char key)
{
    CHECK_INT(write(master, &key, 1), 1);
}

/* Waits for the shell and all else there is: nothing stays. How the job has ended. */
static int end_of_job(pid_t shell)
{
    int status = -1, one;
    for (pid_t pid; (pid = waitpid(-1, &one, __WALL)) > 0 || errno == EINTR;)
        if (pid == shell)
            status = one;
    CHECK_INT(errno, ECHILD);
    CHECK(WIFEXITED(status));
    return WEXITSTATUS(status);
}

enum { JOB_CALLS = 200 };

/* Two calls at a gate and many behind them; all are done, each once, whatever happens meanwhile. */
static void run_calls(pp_start_method method)
{
    static pp_future *futures[JOB_CALLS];
    pp_pool *pool = kit_pool(method, 2);
    occupy(pool, BEGUN, GATE, 2, futures);
    for (uint32_t i = 2; i < JOB_CALLS; i++)
        futures[i] = submit_u32(pool, count_run, RUNS + i);
    add(READY);
    for (uint32_t i = 0; i < JOB_CALLS; i++)
        CHECK_INT(result_u32(futures[i]), i < 2 ? i : RUNS + i);
    for (uint32_t i = 0; i < JOB_CALLS; i++) {
        CHECK_INT(read_word(RUNS + i), i < 2 ? 0 : 1);
        pp_future_unref(futures[i]);
    }
    pp_pool_destroy(pool);
}

static void run_calls_and_catch(pp_start_method method)
{
    struct sigaction action = {.sa_handler = count_signal, .sa_flags = SA_RESTART};
    CHECK_INT(sigaction(SIGINT, &action, NULL), 0);
    run_calls(method);
}

BOTH(ctrl_c_that_the_owner_catches_fails_no_call)
{
    int master;
    pid_t shell = open_terminal(run_calls_and_catch, method, &master);
    until(read_word(READY));
    for (uint32_t i = 1; i <= 3; i++) {
        press(master, 3);
        until(read_word(SIGNALS) == i);
    }
    open_gate(GATE);
    CHECK_INT(end_of_job(shell), 0);
    CHECK_INT(read_word(SIGNALS), 3);
}

BOTH(ctrl_c_that_ends_the_owner_ends_all_of_its_processes)
{
    int master;
    pid_t shell = open_terminal(run_calls, method, &master);
    until(read_word(READY));
    press(master, 3);
    CHECK_INT(end_of_job(shell), 128 + SIGINT);
}

/* What runs goes on while the owner stands still, and is there when that goes on. */
BOTH(ctrl_z_and_then_fg_lose_nothing)
{
    int master;
    if (TEST_ON_VALGRIND)
        LEFT_OUT("valgrind does not stop at SIGTSTP");
    pid_t shell = open_terminal(run_calls, method, &master);
    until(read_word(READY));
    press(master, 26);
    until(read_word(STOPPED) == 1);
    open_gate(GATE);
    test_sleep_ms(50);
    open_gate(GO_ON);
    CHECK_INT(end_of_job(shell), 0);
    CHECK_INT(read_word(STOPPED), 1);
}
