/* SPDX-License-Identifier: MIT */
/*
 * Send: from an item to a record in a worker's call ring, and waking who sleeps. All under the pool's lock.
 */
#ifndef PP_POOL_SEND_H
#define PP_POOL_SEND_H

#include "pool/workers.h"

/* Sends an item: 0, -EAGAIN (no room now), or an errno that fails this item alone. The worker is to be woken by
 * pp__worker_wake_sent. */
int pp__worker_send(struct pp__worker *worker, struct pp__item *item);

/* The same, and the worker is woken. */
int pp__worker_send_alone(struct pp__worker *worker, struct pp__item *item);

/*
 * Sends a duty, INIT or LEAVE: `function` with `size` bytes at `arg`, the pool's initializer or finalizer, or NULL:
 * nothing is to be run. 0, -EAGAIN (no room now), or an errno. The worker is not woken.
 */
int pp__worker_send_duty(struct pp__worker *worker, enum pp__record_type type, pp_function *function, const void *arg,
                         size_t size);

/* Wakes those that were sent something, each once. */
void pp__worker_wake_sent(pp_pool *pool);

/* Whether it says that it does, in a sleep for which it was not rung yet. */
bool pp__worker_sleeps(const struct pp__worker *worker);

/* Whether it slept last on the processor of the calling thread, where it likes to be woken; a hint. */
bool pp__worker_slept_here(const struct pp__worker *worker);

/* Whether it sleeps though it has begun a call: it waits for room for a result. A hint. */
bool pp__worker_wants_room(const struct pp__worker *worker);

/* Wakes it if it sleeps; after anything was sent or consumed. */
void pp__worker_wake(struct pp__worker *worker);

/* Wakes it even if it says that it does not sleep. True: it slept. */
bool pp__worker_ring(struct pp__worker *worker);

#endif
