/* SPDX-License-Identifier: MIT */
/*
 * How finalizers end, as the program is told. A function is called for each rather than kept for who asks: workers come
 * and go in a pool's life, and after its end there is nobody to be asked. It is called by the thread that hands out the
 * log.
 */
#ifndef PP_POOL_FINALIZED_H
#define PP_POOL_FINALIZED_H

#include "pool/item.h"

/* The duty itself, as an item with which results are received and errors made. */
struct pp__item pp__finalized_duty(pp_pool *pool);

/* Queues an outcome, which it takes over. Under the lock. */
void pp__finalized_add(pp_pool *pool, int worker, pid_t pid, struct pp__outcome outcome);

/* The worker has gone without an answer, as `how` says. Under the lock. */
void pp__finalized_lost(struct pp__worker *worker, int code, int status, const char *how);

/* Without the lock. Frees it. */
struct pp__finalized;
void pp__finalized_hand_out(const pp_pool *pool, struct pp__finalized *end);
void pp__finalized_free(struct pp__finalized *end);

#endif
