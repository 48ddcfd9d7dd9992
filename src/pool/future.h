/* SPDX-License-Identifier: MIT */
#ifndef PP_POOL_FUTURE_H
#define PP_POOL_FUTURE_H

#include "pool/item.h"
#include "pool/wait.h"
#include "procpool.h"

#include <assert.h>
#include <stdalign.h>
#include <stdatomic.h>

/*
 * A submitted call: its work item and its future, in one place of the pool's slab. The item holds one reference until it has ended, the submitter
 * another if it wanted a future.
 *
 * Everything but refs and state under the pool's lock; state is written there with release, and what came before it (id, outcome) may be read
 * without the lock by who saw PP_FINISHED with acquire.
 */
struct pp_future {
    _Atomic uint32_t refs;
    _Atomic int state; /* PP_PENDING until it is done: whether it runs is asked of the worker's slot */
    struct pp__item item;
    struct pp__subject subject;
    struct pp__outcome outcome;
    bool taken;
    bool holds_pool; /* it is somebody's, and keeps the pool's struct */
    /* A small argument's element, and when that is not needed any more a small result. */
    alignas(16) unsigned char room[PP__ROOM];
};

static_assert(sizeof(struct pp_future) <= 256, "a pending call costs no more memory");

/* A call from the slab, under the lock: NULL without memory. `wanted`: somebody gets its future. The item is zeroed but for what makes it this call's. */
pp_future *pp__future_create(pp_pool *pool, bool wanted);

/* The item has ended: gives up its reference. */
void pp__future_item_ended(struct pp__item *item);

#endif
