/* SPDX-License-Identifier: MIT */
/*
 * Wakes that were lost. Each sleep with work outstanding has a bound, so that a lost wake costs some milliseconds; but
 * it is a defect, and is counted: when a sleep ends by its bound, and finds what should have ended it, and nobody can
 * be on the way to do so. What came in the same moment is no such thing. All under the pool's lock.
 */
#ifndef PP_POOL_LOST_H
#define PP_POOL_LOST_H

#include "pool/pool.h"

/* Counts one in pool->lost_wakes. The first is told to the log. `what` was to be told to whom: for that line. */
void pp__lost_count(pp_pool *pool, const char *what);

/* The collector's sleep, for which workers were to ring for results of ids `below` that, if not for others too, has
 * ended by its bound, and nobody has asked for anything else since. */
void pp__lost_look(pp_pool *pool, uint64_t below);

#endif
