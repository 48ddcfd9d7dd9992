/* SPDX-License-Identifier: MIT */
/*
 * The standby: a worker's process that is there before it is needed, so that what follows a death costs no fork. It has
 * its channel and waits in it, but has no number and has run nothing; it is in no list that is looked through while
 * calls run. When a worker is to be started, it gets its number, runs the initializer and is that worker.
 *
 * It is made by the manager, a moment after it was found missing: what had to be replaced comes first. Where workers
 * die in a row it is made at once.
 */
#ifndef PP_POOL_STANDBY_H
#define PP_POOL_STANDBY_H

#include "pool/workers.h"

/* A worker has died: one is kept from now on, unless the options forbid it. */
void pp__standby_keep(pp_pool *pool);

/* Has one made if there is to be one and there is none. */
void pp__standby_consider(pp_pool *pool);

/* When the manager is to call pp__standby_make; PP__NEVER: it has not to. */
uint64_t pp__standby_due(const pp_pool *pool);

/* Releases the lock meanwhile. */
void pp__standby_make(pp_pool *pool);

/* Makes it the worker with that number, which is not seated yet. 0, or an errno and it is gone. */
int pp__standby_take(pp_pool *pool, int number, struct pp__worker **taken);

/* It is being killed. */
void pp__standby_give_up(pp_pool *pool);

/* Its process has ended or could not be made; `how`: NULL, as it was to. Frees it. */
void pp__standby_lost(struct pp__worker *worker, const char *how);

#endif
