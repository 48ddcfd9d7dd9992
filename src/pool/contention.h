/* SPDX-License-Identifier: MIT */
/*
 * The pool's lock, for threads that submit one small call after another. Where several do so side by side, each holds
 * it for a tenth of a microsecond, and to bring it to another processor with all that it guards takes ten times as
 * long. So they take turns: who finds it taken time and again leaves it to the others for a while, which get more done
 * in that than all would together. Nobody has to end the while, and nobody waits for who has it.
 */
#ifndef PP_POOL_CONTENTION_H
#define PP_POOL_CONTENTION_H

#include "pool/pool.h"

/* When it was found taken. No cancellation point. */
void pp__contention_lock(pp_pool *pool);

static inline void pp__pool_lock_in_turn(pp_pool *pool)
{
    if (pthread_mutex_trylock(&pool->lock) != 0)
        pp__contention_lock(pool);
}

#endif
