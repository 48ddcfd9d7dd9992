/* SPDX-License-Identifier: MIT */
/* Buffers that were not used for a while are given up, on both sides, and files of output emptied. Under the pool's
 * lock. */
#ifndef PP_POOL_TIDY_H
#define PP_POOL_TIDY_H

#include "pool/pool.h"

/* A buffer was used, or output told: some time from now it is looked whether it was used again. */
void pp__tidy_later(pp_pool *pool);

/* Gives up what was not used between two looks. Returns when to look again, or PP__NEVER. */
uint64_t pp__tidy(pp_pool *pool, uint64_t now);

#endif
