/* SPDX-License-Identifier: MIT */
/*
 * Workers that go before they have to: after so many calls, with so much memory, idle for so long, or as there may be
 * fewer of them.
 *
 * One that has had its calls is succeeded: its successor, with the same number, is started before and waits, ready,
 * until the last call has ended; then it takes the place and the predecessor is told to leave. So no two run calls
 * under one number, but the one may finalize while the other runs.
 *
 * One that is withdrawn gets no more calls; with a place it waits for its successor, without one only for the end of
 * what it has begun.
 */
#ifndef PP_POOL_RECYCLE_H
#define PP_POOL_RECYCLE_H

#include "pool/workers.h"

/* It has got a number; it is ready (its state says for what); it is gone, and has no place any more. */
void pp__recycle_begin(struct pp__worker *worker);
void pp__recycle_ready(struct pp__worker *worker);
void pp__recycle_gone(struct pp__worker *worker);

/* It was sent so many calls that somebody is to look. */
void pp__recycle_look(struct pp__worker *worker);

/* So many of them were taken back. */
void pp__recycle_refund(struct pp__worker *worker, uint32_t calls);

/* Takes its place from a worker that is not to be succeeded: what it has not begun goes back. */
void pp__recycle_retire(struct pp__worker *worker);

/* Starts successors, hands places over, tells workers to leave; when recycle_due says so. */
void pp__recycle(pp_pool *pool);

/* Looks who has been idle for too long, and at the memory of those that were not. When to do so again. */
uint64_t pp__recycle_run(pp_pool *pool, uint64_t now);

#endif
