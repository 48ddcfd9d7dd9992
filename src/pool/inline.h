/* SPDX-License-Identifier: MIT */
/* The inline method: calls run in the owner, in a thread that waits. No isolation, no timeouts, no processes. */
#ifndef PP_POOL_INLINE_H
#define PP_POOL_INLINE_H

#include "pool/pool.h"

struct pp__inline;

/* 0 or -ENOMEM. */
int pp__inline_create(pp_pool *pool);
void pp__inline_destroy(pp_pool *pool);

/* What a running call and its owner tell each other, as in the channel of a worker. */
struct pp__inline_words {
    struct pp__inline_words *outer; /* of the call inside which this one runs */
    uint64_t id;
    _Atomic uint64_t stop;
    struct pp__progress progress;
    struct pp__carried *carried; /* descriptors that it has and gives back; NULL: an element of a map */
};

/* Those of the call `id`, which runs. Under the lock. */
struct pp__inline_words *pp__inline_words(const pp_pool *pool, uint64_t id);

/* Whether an element of `item` runs now. Under the lock. */
bool pp__inline_runs(const pp_pool *pool, const struct pp__item *item);

/*
 * Runs one element of the first pending item, the lock released meanwhile: true. False: there is none, or another
 * thread runs one; a thread that runs one itself may run others in it.
 */
bool pp__inline_step(pp_pool *pool);

/* Runs the finalizer, once, when the last call has ended. Under the lock, released meanwhile. False: another thread
 * runs something, and ends the pool after it. */
bool pp__inline_finish(pp_pool *pool);

/* Whether this very thread runs an element of this pool, and nothing is left to the program to complete: then what it
 * waits for can't come from elsewhere. */
bool pp__inline_is_stuck(const pp_pool *pool);

#endif
