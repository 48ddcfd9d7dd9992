/* SPDX-License-Identifier: MIT */
/*
 * A group of futures, perhaps of several pools, that one thread waits for: pp_wait and pp_as_completed.
 *
 * Each pool knows its groups. A future in one is marked (`waited_for`), so that its end is told to the pool's groups and those of all others cost
 * nothing. A group finds its future by a table of its own, so that each end costs the same however many there are.
 */
#ifndef PP_POOL_GROUP_H
#define PP_POOL_GROUP_H

#include "pool/item.h"

/* A future of the pool, one that was marked, has ended. Under the pool's lock. */
void pp__groups_note(pp_pool *pool, struct pp__item *item);

/* Threads that wait for futures of this inline pool and others are to look whether there is something to run. Under the pool's lock. */
void pp__groups_rouse(pp_pool *pool);

#endif
