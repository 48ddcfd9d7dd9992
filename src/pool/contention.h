/* SPDX-License-Identifier: MIT */
/*
 * The pool's lock, for threads that submit one small call after another. Where several do so side by side, each holds
 * it for a tenth of a microsecond, and to bring it to another processor with all that it guards takes ten times as
 * long. So they take turns: who finds it taken time and again, and that another one submits, leaves it to the others
 * for a while, which get more done in that than all would together. Nobody has to end the while, and nobody waits for
 * who has it.
 */
#ifndef PP_POOL_CONTENTION_H
#define PP_POOL_CONTENTION_H

#include "base/atomic.h"
#include "pool/pool.h"

extern _Thread_local uint64_t pp__contention_found_at __attribute__((tls_model("initial-exec"), visibility("hidden")));

/* The calling thread. One whose memory lies 2^38 bytes from its own is taken for it, and leaves it no turn. */
static inline uint32_t pp__contention_self(void)
{
    return (uint32_t)((uintptr_t)&pp__contention_found_at >> 6);
}

/* When it was found taken. No cancellation point. */
void pp__contention_lock(pp_pool *pool);

static inline void pp__pool_lock_in_turn(pp_pool *pool)
{
    if (pthread_mutex_trylock(&pool->lock) != 0)
        pp__contention_lock(pool);
    pp__store_relaxed(&pool->submitter, pp__contention_self()); /* for is_anothers_turn: a guess is good enough */
}

#endif
