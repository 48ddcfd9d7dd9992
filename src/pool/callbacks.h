/* SPDX-License-Identifier: MIT */
/*
 * Done callbacks: functions of the program's that are called once when a future is done. They run on a thread of their
 * own, one at a time, so one that takes its time delays callbacks and nothing else. An inline pool makes no thread:
 * there whoever unlocks the pool runs them; and so it is, for what the program completes itself, when a pool has ended.
 *
 * Futures that have some are found by a table, so that those that have none cost nothing.
 */
#ifndef PP_POOL_CALLBACKS_H
#define PP_POOL_CALLBACKS_H

#include "pool/pool.h"

/* A future with callbacks is done. Under the lock. */
void pp__callbacks_due(pp_pool *pool, pp_future *future);

/* Whether there are some to be run by who is about to unlock the pool. Under the lock. */
bool pp__callbacks_are_mine(const pp_pool *pool);

/* Runs what is due, releasing the lock meanwhile. The caller has a reference to the pool that no callback can give up.
 */
void pp__callbacks_run(pp_pool *pool);

/* Makes the thread that runs them, if there is to be one. 0 or why it can't be made. Under the lock. */
int pp__callbacks_need_thread(pp_pool *pool);

/* Whether this thread is in a callback of this pool. */
bool pp__callbacks_are_running_here(pp_pool *pool);

/* Whether all have returned that are due. Under the lock. */
bool pp__callbacks_are_over(const pp_pool *pool);

/* The pool has ended: the thread ends when it has run what is due. Under the lock. */
void pp__callbacks_wake(pp_pool *pool);

/* After the end, not under the lock: waits until the last due one has run. Or, instead, the thread ends by itself. */
void pp__callbacks_join(pp_pool *pool);
void pp__callbacks_detach(pp_pool *pool);

/* Frees the table, in which nothing is: each entry keeps its future, and so the pool. */
void pp__callbacks_free(pp_pool *pool);

#endif
