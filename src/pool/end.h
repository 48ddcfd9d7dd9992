/* SPDX-License-Identifier: MIT */
/*
 * The end of a worker: it is told to leave, or killed, and what its end means for the calls that it had. The zygote
 * kills and reaps. Under the pool's lock.
 */
#ifndef PP_POOL_END_H
#define PP_POOL_END_H

#include "pool/workers.h"

/* The procedure for a call that has outlived its timeout: whatever else it has goes back, then it is killed. */
void pp__worker_kill_call(struct pp__worker *worker, struct pp__item *item);

/* The same for one that has begun and that the program wants dead, unless it has ended meanwhile. */
void pp__worker_kill_on_request(struct pp__worker *worker, struct pp__item *item);

/* It wrote garbage, which `what` names: what it has not begun goes back, and it is killed. */
void pp__worker_poison(struct pp__worker *worker, const char *what);

/* Asks the zygote for its death. */
void pp__worker_kill(struct pp__worker *worker);

/* Asks the zygote to send it SIGTERM: it may end by that, at any moment, or go on. */
void pp__worker_terminate(struct pp__worker *worker);

/* Tells it to leave. */
void pp__worker_dismiss(struct pp__worker *worker);

/* It has ended, as waitid says; its results have been collected. */
void pp__worker_ended(struct pp__worker *worker, int code, int status);

/* It could not be started. */
void pp__worker_failed(struct pp__worker *worker, int error);

/* Before its initializer it met want of memory or descriptors (`error`): it is killed, which is as a start that failed.
 */
void pp__worker_give_back(struct pp__worker *worker, int error);

/* Frees it, its process gone or given up. */
void pp__worker_free(struct pp__worker *worker);

/* Frees those that have ended. */
void pp__workers_dispose(pp_pool *pool);

#endif
