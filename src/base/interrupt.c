/* SPDX-License-Identifier: MIT */
#include "base/interrupt.h"

#include <signal.h>
#include <stddef.h>

/* What a program's own instructions raise: it interrupts no sleep, though crash handlers for it rarely ask for restarting. */
static bool is_fault(int number)
{
    return number == SIGSEGV || number == SIGBUS || number == SIGFPE || number == SIGILL || number == SIGTRAP ||
           number == SIGSYS || number == SIGABRT;
}

/*
 * epoll_wait and a futex with a timeout come back with EINTR after any handler, SA_RESTART or not. Where every handler that the
 * program has, but those for faults, asks for restarting, the wait goes on.
 */
bool pp__wait_goes_on(void)
{
    for (int number = 1; number < NSIG; number++) {
        struct sigaction action;
        if (is_fault(number) || sigaction(number, NULL, &action) != 0 || action.sa_handler == SIG_DFL ||
            action.sa_handler == SIG_IGN)
            continue;
        if (!(action.sa_flags & SA_RESTART))
            return false;
    }
    return true;
}
