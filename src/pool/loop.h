/* SPDX-License-Identifier: MIT */
/*
 * A pool in the host program's event loop. It has no thread: the loop takes the manager's place, which counts as asleep
 * (armed) between one pp_pool_dispatch and the next.
 *
 * The loop watches one descriptor, an epoll set around three others: the pool's own set, as the manager would sleep in
 * it; a timer, for what is due next; and a wake, for what only the loop's thread is to do: callbacks, lines of the log,
 * and the duty of collecting when a thread that waited has left it.
 */
#ifndef PP_POOL_LOOP_H
#define PP_POOL_LOOP_H

#include "pool/pool.h"

/* In place of the pool's threads. 0 or what kept a descriptor from being made. */
int pp__loop_create(pp_pool *pool);

/* The loop is to call pp_pool_dispatch. Under the lock. */
void pp__loop_wake(pp_pool *pool);

/* Whether the calling thread is in pp_pool_dispatch, or the pool has ended: then it runs callbacks and hands out the
 * log. Under the lock. */
bool pp__loop_is_here(const pp_pool *pool);

/* What a dispatch does, but for callbacks and lines of the log, for a thread that waits for futures of several pools.
 * Under the lock. */
void pp__loop_collect(pp_pool *pool);

/* No more dispatches: the descriptors are closed, `pool->loop` is NULL. Under the lock. */
void pp__loop_destroy(pp_pool *pool);

#endif
