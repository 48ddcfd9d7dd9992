/* SPDX-License-Identifier: MIT */
#include "base/interrupt.h"

#include "base/atomic.h"
#include "base/futex.h"
#include "base/seam.h"

#include <errno.h>
#include <stddef.h>

/* What a program's own instructions raise: it interrupts no sleep, though crash handlers for it rarely ask for
 * restarting. */
static bool is_fault(int number)
{
    return number == SIGSEGV || number == SIGBUS || number == SIGFPE || number == SIGILL || number == SIGTRAP ||
           number == SIGSYS || number == SIGABRT;
}

/* Its handler does not ask for restarting. */
static bool interrupts(int number)
{
    struct sigaction action;
    return !is_fault(number) && sigaction(number, NULL, &action) == 0 && action.sa_handler != SIG_DFL &&
           action.sa_handler != SIG_IGN && !(action.sa_flags & SA_RESTART);
}

/*
 * epoll_wait and a futex with a timeout come back with EINTR after any handler, SA_RESTART or not. Where every handler
 * that the program has, but those for faults, asks for restarting, the wait goes on.
 */
bool pp__wait_goes_on(void)
{
    for (int number = 1; number < NSIG; number++)
        if (interrupts(number))
            return false;
    return true;
}

/* Signals whose handlers interrupt a wait. To ask for all costs more than a short wait does, so what was found is kept
 * for a while, for all threads. */
static uint64_t interrupting(void)
{
    static _Atomic uint64_t found, renewed_at; /* relaxed: each of the two is a hint */
    uint64_t now = pp__now_coarse(), set = 0;
    if (now - pp__load_relaxed(&renewed_at) < PP__HOLD_RENEW)
        return pp__load_relaxed(&found);
    for (int number = 1; number < NSIG; number++)
        if (interrupts(number))
            set |= UINT64_C(1) << (number - 1);
    pp__store_relaxed(&found, set);
    pp__store_relaxed(&renewed_at, now);
    return set;
}

static void to_set(uint64_t signals, sigset_t *set)
{
    sigemptyset(set);
    for (; signals; signals &= signals - 1)
        sigaddset(set, __builtin_ctzll(signals) + 1);
}

/* Those that the program itself had blocked interrupt nothing, and stay so. */
static uint64_t without(uint64_t signals, const sigset_t *set)
{
    uint64_t left = signals;
    for (; signals; signals &= signals - 1)
        if (sigismember(set, __builtin_ctzll(signals) + 1))
            left &= ~(signals & -signals);
    return left;
}

void pp__hold_off(struct pp__hold *hold)
{
    sigset_t set, before;
    uint64_t wanted = hold ? interrupting() : 0;
    if (!hold || (wanted & ~hold->asked) == 0)
        return;
    to_set(wanted, &set);
    pthread_sigmask(SIG_BLOCK, &set, &before);
    if (!hold->held)
        hold->before = before;
    hold->asked |= wanted;
    hold->held |= without(wanted, &hold->before);
    hold->looked_at = pp__now_coarse();
}

int pp__hold_poll(struct pp__hold *hold, struct pollfd *set, size_t count, int milliseconds)
{
    struct timespec limit = {.tv_sec = milliseconds / 1000, .tv_nsec = (long)(milliseconds % 1000) * 1000000};
    if (milliseconds != 0)
        pp__hold_off(hold);
    return PP_SYS(ppoll)(set, count, milliseconds < 0 ? NULL : &limit, pp__hold_mask(hold));
}

static bool has_come(struct pp__hold *hold)
{
    sigset_t pending;
    if (!hold->held)
        return false;
    hold->looked_at = pp__now_coarse();
    return sigpending(&pending) == 0 && without(hold->held, &pending) != hold->held;
}

int pp__hold_futex(struct pp__hold *hold, const _Atomic uint32_t *word, uint32_t value, uint64_t deadline, bool shared)
{
    if (!hold)
        return pp__futex_wait(word, value, deadline, shared);
    bool come = has_come(hold);
    pp__hold_end(hold);
    if (come && !pp__wait_goes_on())
        return -EINTR;
    int error = pp__futex_wait(word, value, deadline, shared);
    pp__hold_off(hold);
    return error;
}

int pp__hold_look(struct pp__hold *hold)
{
    if (!pp__hold_is_due(hold) || !has_come(hold))
        return 0;
    pp__hold_end(hold);
    return pp__wait_goes_on() ? 0 : -EINTR;
}

void pp__hold_end(struct pp__hold *hold)
{
    if (!hold->held)
        return;
    hold->asked = hold->held = 0;
    pthread_sigmask(SIG_SETMASK, &hold->before, NULL);
}
