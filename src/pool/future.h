/* SPDX-License-Identifier: MIT */
#ifndef PP_POOL_FUTURE_H
#define PP_POOL_FUTURE_H

#include "pool/item.h"
#include "pool/wait.h"
#include "procpool.h"

#include <stdatomic.h>

/* Everything but refs and state under the pool's lock; state is written there with release, and what came before it
 * (id, outcome) may be read without the lock by who saw PP_FINISHED with acquire. */
struct pp_future {
    _Atomic uint32_t refs;
    _Atomic int state; /* PP_PENDING until it is done: whether it runs is asked of the worker's slot */
    pp_pool *pool;
    uint64_t id;
    struct pp__item *item; /* NULL once done */
    struct pp__subject subject;
    struct pp__outcome outcome;
    bool taken;
};

/* A future with one reference, for `item`, which takes another; NULL without memory. */
pp_future *pp__future_create(pp_pool *pool, struct pp__item *item);

/* What an item with a future (or without any, receiver NULL) has as `deliver`. */
extern pp__deliver *const pp__future_deliver;

/* Gives both references back, for a submit that was refused. */
void pp__future_discard(pp_future *future);

#endif
