/* SPDX-License-Identifier: MIT */
/*
 * What a sleeper wants to be woken for by several others, as the owner of a pool by its workers: one word, `epoch << 3
 * | way | mode`, that the sleeper writes. Each sleep is a new epoch, and who rings does so at most once for each. Of
 * what has an id, that below another word is rung for besides; the sleeper, and others of its side while it sleeps,
 * raise that.
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
    PP__WANT_RESULT     /* no sleep has this: of results there are more, and each is asked for by its id */
};

struct pp__wanted {
    _Atomic uint64_t word;
    _Atomic uint64_t below; /* where the mode is not NOTHING: ring for every result of an id below this */
};

#define PP__WANT_NO_ID UINT64_MAX

/* How the sleeper is woken. */
enum pp__want_way {
    PP__WANT_BELL = 0,
    PP__WANT_CALL = 4 /* by its futex */
};

/* The sleeper's side: what is looked at behind this was published before, or its ringer sees the word. */
static inline void pp__want_raise(struct pp__wanted *wanted, uint64_t below)
{
    pp__store_relaxed(&wanted->below, below);
    pp__fence_ordered(WANT_SLEEPER_FENCE); /* the words before the look; pairs with the fence in pp__want_unrung */
}

/* Sleeper: the same of both words. Who sees one of them from before this rings once too often, or is looked at. */
static inline void pp__want_ask(struct pp__wanted *wanted, uint64_t epoch, enum pp__want mode, enum pp__want_way way,
                                uint64_t below)
{
    pp__store_relaxed(&wanted->word, epoch << 3 | (uint64_t)way | (uint64_t)mode);
    pp__want_raise(wanted, below);
}

/* Sleeper, awake again. It looks at everything before the next sleep, so this is behind no fence. */
static inline void pp__want_nothing(struct pp__wanted *wanted, uint64_t epoch)
{
    pp__store_relaxed(&wanted->word, epoch << 3 | PP__WANT_NOTHING);
}

/* What the sleeper asked for last. */
static inline enum pp__want pp__want_mode(const struct pp__wanted *wanted)
{
    return (enum pp__want)(pp__load_relaxed(&wanted->word) & 3);
}

/* Ringer: whether a sleep that it was not rung for yet asks for `mode` or more, or for `id`; then it is, *rung being
 * the ringer's own. */
static inline bool pp__want_unrung(const struct pp__wanted *wanted, enum pp__want mode, uint64_t id, uint64_t *rung)
{
    /* What was published before the look; pairs with the fence in pp__want_raise. */
    pp__fence_ordered(WANT_RINGER_FENCE);
    uint64_t word = pp__load_relaxed(&wanted->word);
    bool asked = (word & 3) >= (uint64_t)mode || id < pp__load_relaxed(&wanted->below);
    if ((word & 3) == PP__WANT_NOTHING || !asked || word >> 3 == *rung)
        return false;
    *rung = word >> 3;
    return true;
}

/* Ringer, behind a fence as in pp__want_unrung. A sleep that began since has looked at what was published before. */
static inline enum pp__want_way pp__want_way(const struct pp__wanted *wanted)
{
    return (enum pp__want_way)(pp__load_relaxed(&wanted->word) & PP__WANT_CALL);
}

#endif
