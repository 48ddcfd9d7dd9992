/* SPDX-License-Identifier: MIT */
/*
 * The log: lines are queued under the pool's lock and handed to the user's function by a thread of their own, which
 * ends with the pool and is joined by pp_pool_destroy. So a function that takes its time delays lines and nothing else.
 * An inline pool makes no thread: there whoever unlocks the pool hands them out. In a pool of an event loop a dispatch
 * does, and errands are run by threads that wait, too.
 */
#ifndef PP_POOL_LOG_H
#define PP_POOL_LOG_H

#include "pool/pool.h"

/* Queues how a finalizer ended. False: there is no memory for that. Under the lock. */
struct pp__finalized;
bool pp__log_finalized(pp_pool *pool, struct pp__finalized *end);

/* Whether there is a log function, one for finalizers, or a starter. */
bool pp__log_is_needed(const pp_pool *pool);

/* Starts the thread, if it is needed. 0 or a negative errno. */
int pp__log_start(pp_pool *pool);

/* Under the lock: there are lines, or the pool has ended. */
void pp__log_wake(pp_pool *pool);

/* After the end, not under the lock: waits until the last line was handed out. */
void pp__log_join(pp_pool *pool);

/* Instead of that: the thread ends by itself. */
void pp__log_detach(pp_pool *pool);

/* Runs the errands and hands out what is queued, releasing the lock at each line. */
void pp__log_hand_out(pp_pool *pool);

/* In a pool of an event loop, where nobody may be dispatching: runs one errand, the lock released meanwhile. False:
 * there is none, or another thread is at them. */
bool pp__log_run_errand(pp_pool *pool);

/* Frees what was never handed out. */
void pp__log_free(pp_pool *pool);

#endif
