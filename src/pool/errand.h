/* SPDX-License-Identifier: MIT */
/*
 * Errands: calls of a launcher's starter (pp_starter), for workers that the program itself has started. They wait in
 * the pool's list and are run by whoever hands out the log, or (in a pool of an event loop) waits for something that
 * may need them, one at a time and without the lock.
 */
#ifndef PP_POOL_ERRAND_H
#define PP_POOL_ERRAND_H

#include "pool/pool.h"

struct pp__report;

/* The zygote has an invitation for the worker: the program is to have it followed. Under the lock. */
void pp__errand_start(struct pp__worker *worker, const struct pp__report *report);

/* The worker is gone, or is not waited for any more. Under the lock. */
void pp__errand_stop(struct pp__worker *worker);

/* Runs the next one, the lock released meanwhile. False: there is none. */
bool pp__errand_run(pp_pool *pool);

/* Frees what was never run. */
void pp__errands_free(pp_pool *pool);

#endif
