/* SPDX-License-Identifier: MIT */
/*
 * The end of the program: a list of this process's live pools, which exit(3) shuts at its start, where that is seen,
 * and a handler of its that waits for them, or kills, as each was told.
 */
#ifndef PP_POOL_EXIT_H
#define PP_POOL_EXIT_H

#include "pool/pool.h"

/* At the start of exit(3). */
void pp__exit_start(void);

/* Before a pool is made. 0, -ENOMEM, or -ESHUTDOWN: the program exits. */
int pp__exit_prepare(void);

/* It has been made, and is live. False: the program exits meanwhile. */
bool pp__exit_enter(pp_pool *pool);

/* It is not any more. Not under its lock. Does nothing for one that never was. */
void pp__exit_leave(pp_pool *pool);

#endif
