/* SPDX-License-Identifier: MIT */
/*
 * Sleeping on words that several processes share. Who is to wake may die before it does, so no sleep is longer than
 * PP__SLEEP_BOUND: what is waited for is looked at again after each.
 */
#ifndef PP_SYNC_BELL_H
#define PP_SYNC_BELL_H

#include "base/clock.h"

#include <stdatomic.h>
#include <stdint.h>

#define PP__SLEEP_BOUND (50 * PP__MILLISECOND)

/*
 * Sleeps while *word is `value`, for the bound at most. 0: look again; -ETIMEDOUT: `deadline` had passed before,
 * nothing was slept; -EINTR: a signal handler ran that interrupts waits. `hold`: the wait's; NULL: no signal ends it.
 */
struct pp__hold;
int pp__sleep(const _Atomic uint32_t *word, uint32_t value, uint64_t deadline, struct pp__hold *hold);

/*
 * Bit 0: somebody may sleep; the rest counts rings. Written by all. The sleeper listens, looks again at what it waits
 * for, and sleeps on what listening gave; who changed what is waited for rings. Zero to begin with.
 */
struct pp__bell {
    _Atomic uint32_t word;
};

uint32_t pp__bell_listen(struct pp__bell *bell);

/* Wakes one of those who listened. All others must listen again, or ring, before they leave what the woken one waited
 * for to others. */
void pp__bell_ring(struct pp__bell *bell);

#endif
