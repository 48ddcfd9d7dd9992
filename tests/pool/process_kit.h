/* SPDX-License-Identifier: MIT */
/* For tests of pp_process: starts that see the board, and short words for what is asked of a process. */
#ifndef PP_TESTS_POOL_PROCESS_KIT_H
#define PP_TESTS_POOL_PROCESS_KIT_H

#include "processes_kit.h"

#include <poll.h>

/* With these options, the method and the board's descriptor added. */
static inline pp_process *start_with(pp_start_method method, pp_process_options options, pp_process_function *function,
                                     const void *arg, size_t size)
{
    pp_process *process = NULL;
    share();
    if (!options.launcher) {
        options.start_method = method;
        options.inherit_fds = board_fds;
        options.inherit_fd_count = 1;
    }
    CHECK_OK(pp_process_start(function, arg, size, &options, &process));
    CHECK(process != NULL);
    return process;
}

static inline pp_process *start_int(pp_start_method method, pp_process_function *function, int value)
{
    return start_with(method, (pp_process_options){0}, function, &value, sizeof value);
}

/* A launcher whose processes see the board. */
static inline pp_launcher *launcher_of(pp_start_method method)
{
    pp_launcher *launcher = NULL;
    share();
    CHECK_OK(pp_launcher_create(
        &(pp_launcher_options){.start_method = method, .inherit_fds = board_fds, .inherit_fd_count = 1}, &launcher));
    return launcher;
}

/* Waits for its end; the exit code. */
static inline int code_of(pp_process *process)
{
    int code = 12345;
    CHECK_OK(pp_process_join(process, -1));
    CHECK_OK(pp_process_exit_code(process, &code));
    return code;
}

/* The same, and it is given up. */
static inline int finish_process(pp_process *process)
{
    int code = code_of(process);
    CHECK_OK(pp_process_close(process));
    return code;
}

static inline bool is_readable(int fd)
{
    struct pollfd watched = {.fd = fd, .events = POLLIN};
    int count = poll(&watched, 1, 0);
    CHECK(count >= 0);
    return count == 1 && watched.revents & POLLIN;
}

/* What processes run. */
static inline int run_return(void *arg, size_t size)
{
    (void)size;
    return read_int(arg);
}

/* Waits at the gate that its argument names. */
static inline int run_gate(void *arg, size_t size)
{
    (void)size;
    gate_wait(read_int(arg));
    return 0;
}

static inline int run_hang(void *arg, size_t size)
{
    (void)arg, (void)size;
    shared()->arrived[0]++;
    pause_for_ever();
}

/* Blocks and ignores all signals. */
static inline int run_deaf(void *arg, size_t size)
{
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    for (int i = 1; i < NSIG; i++)
        signal(i, SIG_IGN);
    return run_hang(arg, size);
}

/* A thread that sends the given one SIGUSR1 again and again, until gate 14 is open. */
static inline void *signal_main(void *thread)
{
    while (!shared()->gates[14]) {
        pthread_kill(*(pthread_t *)thread, SIGUSR1);
        test_sleep_ms(2);
    }
    return NULL;
}

#endif
