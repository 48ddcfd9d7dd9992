/* SPDX-License-Identifier: MIT */
#include "interrupt.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#define TICK_US 20000
#define PATIENCE 100 /* ticks until the program is taken for stuck */
#define INSISTING 15 /* ticks after which a second signal is meant: timeout(1) and shells send the first one twice */

static volatile sig_atomic_t caught;
static volatile sig_atomic_t ticks;

_Noreturn void interrupt_die(int signal_number)
{
    sigset_t only;
    sigemptyset(&only);
    sigaddset(&only, signal_number);
    signal(signal_number, SIG_DFL);
    sigprocmask(SIG_UNBLOCK, &only, NULL);
    raise(signal_number);
    _exit(128 + signal_number);
}

/* As much as can be told in a signal handler: whoever is stuck knows what was done, but may hold libc's locks. */
static void tell(void)
{
    const char *line = caught == SIGINT    ? "procpool: interrupted by SIGINT\n"
                       : caught == SIGTERM ? "procpool: interrupted by SIGTERM\n"
                                           : "procpool: interrupted by SIGHUP\n";
    ssize_t written = write(STDERR_FILENO, line, strlen(line));
    (void)written;
}

/*
 * Its only work is to interrupt what blocks: a signal that arrives just before a call sleeps would else be missed. The
 * last tick tells; should that block, a tick within this one (SA_NODEFER) ends the program.
 */
static void on_tick(int signal_number)
{
    int error = errno;
    (void)signal_number;
    ticks = ticks + 1;
    if (ticks == PATIENCE)
        tell();
    if (ticks >= PATIENCE)
        interrupt_die(caught);
    errno = error;
}

static void on_signal(int signal_number)
{
    struct itimerval every = {.it_interval.tv_usec = TICK_US, .it_value.tv_usec = TICK_US};
    if (caught == 0) {
        caught = signal_number;
        setitimer(ITIMER_REAL, &every, NULL);
    } else if (ticks > INSISTING) {
        interrupt_die(signal_number);
    }
}

static void install(int signal_number, void (*handler)(int))
{
    struct sigaction now;
    struct sigaction ours = {.sa_handler = handler}; /* no SA_RESTART: what blocks returns */
    ours.sa_flags = signal_number == SIGALRM ? SA_NODEFER : 0;
    sigemptyset(&ours.sa_mask);
    if (sigaction(signal_number, NULL, &now) == 0 && now.sa_handler == SIG_IGN && signal_number != SIGALRM)
        return;
    sigaction(signal_number, &ours, NULL);
}

void interrupt_install(void)
{
    sigset_t tick;
    sigemptyset(&tick);
    sigaddset(&tick, SIGALRM);
    install(SIGALRM, on_tick);
    install(SIGINT, on_signal);
    install(SIGTERM, on_signal);
    install(SIGHUP, on_signal);
    sigprocmask(SIG_UNBLOCK, &tick, NULL);
}

int interrupt_signal(void)
{
    return caught;
}
