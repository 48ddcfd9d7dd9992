/* SPDX-License-Identifier: MIT */
/*
 * What a signal handler that ran means for who slept. And how none is missed: a wait consists of several sleeps, and a
 * handler that runs between two of them leaves nothing that would tell. So a wait that has slept holds such signals off
 * until its end, and lets them in during its sleeps alone: in one step with falling asleep where the system call has a
 * mask, else by two more calls, one before and one behind it. They may not be held off in a sleep itself, however short
 * it is: one that is sent to the process would go to another thread, and interrupt nothing. A program whose handlers
 * all ask for restarting has nothing to hold off, and its waits make no system call for it.
 */
#ifndef PP_BASE_INTERRUPT_H
#define PP_BASE_INTERRUPT_H

#include "base/clock.h"

#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

/* Whether a wait that a signal handler interrupted goes on. */
bool pp__wait_goes_on(void);

/* A handler counts from so long after it was installed at the latest. */
#define PP__HOLD_RENEW (100 * PP__MILLISECOND)

/* Of one wait, on its thread's stack. Of signals, bit 0 is number 1. */
struct pp__hold {
    uint64_t asked;     /* those that it was to hold off */
    uint64_t held;      /* of them, those that were not blocked before; 0: `before` is not set */
    uint64_t looked_at; /* by the coarse clock */
    sigset_t before;
};

static inline void pp__hold_begin(struct pp__hold *hold)
{
    hold->asked = hold->held = hold->looked_at = 0;
}

/* Before each sleep that has a mask. NULL: a wait that no signal ends. */
void pp__hold_off(struct pp__hold *hold);

/* The mask with which to sleep (epoll_pwait, ppoll), so that they come in; NULL: the thread's own. */
static inline const sigset_t *pp__hold_mask(const struct pp__hold *hold)
{
    return hold && hold->held ? &hold->before : NULL;
}

/*
 * pp__futex_wait that lets them in: also -EINTR if one has come before. One that comes in the moment between the calls
 * is missed: after they are let in and before it sleeps, or after it has woken and before they are held off.
 */
int pp__hold_futex(struct pp__hold *hold, const _Atomic uint32_t *word, uint32_t value, uint64_t deadline, bool shared);

/* poll(2) that lets them in. */
int pp__hold_poll(struct pp__hold *hold, struct pollfd *set, size_t count, int milliseconds);

/* Whether the last look was some milliseconds ago. */
static inline bool pp__hold_is_due(const struct pp__hold *hold)
{
    return hold->held && pp__now_coarse() != hold->looked_at;
}

/* After a sleep, or so, when it is due: lets in what has come. -EINTR if that interrupts the wait, else 0. */
int pp__hold_look(struct pp__hold *hold);

/* At the wait's end, and before anything of the user's runs: the mask is what it was. */
void pp__hold_end(struct pp__hold *hold);

#endif
