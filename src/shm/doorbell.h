/* SPDX-License-Identifier: MIT */
/*
 * The doorbell of a side that sleeps on a futex, as a worker does for want of calls or of room. Two words:
 *
 *   bell       written by who rings: another number at each ring, never 0
 *   sleeping   written by the sleeper: the bell's number on which it sleeps or is about to, 0 while it is awake. Who
 * rings never clears it: it could erase the mark of the next sleep. A mark that is an earlier number is that of a sleep
 * that was rung already.
 *
 *   sleeper   pp__doorbell_lie_down, looks at what it waits for, pp__futex_wait on the number, pp__doorbell_get_up
 *   ringer    publishes, pp__doorbell_published, pp__doorbell_unrung, and if so pp__doorbell_ring
 *
 * Each side writes, fences and looks at what the other writes: whichever fence comes first, the side of the other sees
 * it. So either the sleeper finds what was published or the ringer finds the mark. The bell itself orders nothing. A
 * sleeper that has read a number sees what was published before that was rung, as there is a fence on either side
 * between the two words; and a number that is stored before the kernel is asked to wake is seen by a sleeper that comes
 * late.
 */
#ifndef PP_SHM_DOORBELL_H
#define PP_SHM_DOORBELL_H

#include "base/atomic.h"
#include "base/futex.h"

/* Each can be weakened from outside, so that a test can show that it is needed. */
#ifndef DOORBELL_SLEEPER_FENCE
#define DOORBELL_SLEEPER_FENCE memory_order_seq_cst
#endif
#ifndef DOORBELL_RINGER_FENCE
#define DOORBELL_RINGER_FENCE memory_order_seq_cst
#endif

/* The ringer's own. */
struct pp__doorbell_rung {
    uint32_t number; /* our own copy of the bell: the shared one is never read back */
    uint32_t before; /* the last number but one */
};

/* Before the two meet. */
static inline void pp__doorbell_init(_Atomic uint32_t *bell, struct pp__doorbell_rung *rung)
{
    *rung = (struct pp__doorbell_rung){.number = 1};
    pp__store_relaxed(bell, 1);
}

/* Sleeper: the number on which to sleep, if it then finds nothing. */
static inline uint32_t pp__doorbell_lie_down(const _Atomic uint32_t *bell, _Atomic uint32_t *sleeping)
{
    uint32_t number = pp__load_relaxed(bell);
    pp__store_relaxed(sleeping, number);
    pp__fence_ordered(DOORBELL_SLEEPER_FENCE); /* the mark before the look; pairs with pp__doorbell_published */
    return number;
}

static inline void pp__doorbell_get_up(_Atomic uint32_t *sleeping)
{
    pp__store_relaxed(sleeping, 0);
}

/* Ringer: what was published before is so before the look, and before the bell. */
static inline void pp__doorbell_published(void)
{
    pp__fence_ordered(DOORBELL_RINGER_FENCE); /* pairs with the fence in pp__doorbell_lie_down */
}

/* Ringer: whether somebody says that it sleeps, in a sleep for which it was not rung yet. */
static inline bool pp__doorbell_unrung(const _Atomic uint32_t *sleeping, const struct pp__doorbell_rung *rung)
{
    uint32_t on = pp__load_relaxed(sleeping);
    return on != 0 && on != rung->before; /* garbage too: better rung in vain */
}

/* Ringer. True: the sleeper slept. */
static inline bool pp__doorbell_ring(_Atomic uint32_t *bell, struct pp__doorbell_rung *rung)
{
    rung->before = rung->number;
    if (++rung->number == 0)
        rung->number = 1;
    pp__store_relaxed(bell, rung->number);
    return pp__futex_wake(bell, 1, true) > 0;
}

#endif
