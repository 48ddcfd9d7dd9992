/* SPDX-License-Identifier: MIT */
/*
 * The start of a worker: its channel, its number, its process. Called by dispatch for want of workers, by recycle.c for
 * a successor and by standby.c for one ahead of need. Under the pool's lock, but where it says otherwise.
 */
#ifndef PP_POOL_START_H
#define PP_POOL_START_H

#include "pool/workers.h"

/* One more in the first free place: the standby, or a new one. 0, -EAGAIN (later again) or an errno for want of
 * descriptors or memory. */
int pp__worker_start(pp_pool *pool);

/*
 * The steps of that. A worker that nobody knows yet; its channel and what of it travels to the process (this not under
 * the lock, too); then it is one of the others (pp__worker_enlist); a number, which it is told with the initializer to
 * run, so that it is STARTING; its process; and the descriptors closed.
 */
struct pp__worker *pp__worker_create(pp_pool *pool);
int pp__worker_open_channel(struct pp__worker *worker, int fds[PP__FD_COUNT]);
int pp__worker_begin(struct pp__worker *worker, int number);
int pp__worker_launch(struct pp__worker *worker, int fds[PP__FD_COUNT]);
void pp__worker_close_fds(const int fds[PP__FD_COUNT]);

/* One of the others, with that number. 0 or as pp__worker_start. */
int pp__worker_start_other(pp_pool *pool, int number, struct pp__worker **started);

/* It is ready for calls: after READY, or at once where there is nothing to be done before. */
void pp__worker_is_ready(struct pp__worker *worker);

#endif
