/* SPDX-License-Identifier: MIT */
/*
 * What a sleeper wants to be woken for by several others, as the owner of a pool by its workers: one word, `epoch << 3
 * | way | mode`, that the sleeper writes. Each sleep is a new epoch, and who rings does so at most once for each.
 *
 *   sleeper   pp__want_ask, looks at all that it waits for, sleeps on bells (eventfds) or a futex, pp__want_nothing
 *   ringer    publishes, pp__want_unrung, and if so rings, pp__want_way
 *
 * Each side writes, fences and looks at what the other writes: either the sleeper finds what was published or the
 * ringer what is wanted.
 */
#ifndef PP_SHM_WANT_H
#define PP_SHM_WANT_H

#include "base/atomic.h"

/* Each can be weakened from outside, so that a test can show that it is needed. */
#ifndef WANT_SLEEPER_FENCE
#define WANT_SLEEPER_FENCE memory_order_seq_cst
#endif
#ifndef WANT_RINGER_FENCE
#define WANT_RINGER_FENCE memory_order_seq_cst
#endif

enum pp__want {
    PP__WANT_NOTHING,   /* somebody is collecting */
    PP__WANT_ROOM,      /* ring when the result ring is half full */
    PP__WANT_ATTENTION, /* and when the call ring ran dry, or half of its chunks are done: there is more */
    PP__WANT_EVERY      /* ring for every result */
};

/* How the sleeper is woken. */
enum pp__want_way {
    PP__WANT_BELL = 0,
    PP__WANT_CALL = 4 /* by its futex */
};

/* Sleeper: what is looked at behind this was published before, or its ringer sees the word. */
static inline void pp__want_ask(_Atomic uint64_t *want, uint64_t epoch, enum pp__want mode, enum pp__want_way way)
{
    pp__store_relaxed(want, epoch << 3 | (uint64_t)way | (uint64_t)mode);
    pp__fence_ordered(WANT_SLEEPER_FENCE); /* the word before the look; pairs with the fence in pp__want_unrung */
}

/* Sleeper, awake again. It looks at everything before the next sleep, so this is behind no fence. */
static inline void pp__want_nothing(_Atomic uint64_t *want, uint64_t epoch)
{
    pp__store_relaxed(want, epoch << 3 | PP__WANT_NOTHING);
}

/* What the sleeper asked for last. */
static inline enum pp__want pp__want_mode(const _Atomic uint64_t *want)
{
    return (enum pp__want)(pp__load_relaxed(want) & 3);
}

/* Ringer: whether a sleep asks for `mode` or more that it was not rung for yet; then it is, *rung being the ringer's
 * own. */
static inline bool pp__want_unrung(const _Atomic uint64_t *want, enum pp__want mode, uint64_t *rung)
{
    pp__fence_ordered(WANT_RINGER_FENCE); /* what was published before the look; pairs with the fence in pp__want_ask */
    uint64_t word = pp__load_relaxed(want);
    if ((word & 3) < (uint64_t)mode || word >> 3 == *rung)
        return false;
    *rung = word >> 3;
    return true;
}

/* Ringer, behind a fence as in pp__want_unrung. A sleep that began since has looked at what was published before. */
static inline enum pp__want_way pp__want_way(const _Atomic uint64_t *want)
{
    return (enum pp__want_way)(pp__load_relaxed(want) & PP__WANT_CALL);
}

#endif
