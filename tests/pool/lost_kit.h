/* SPDX-License-Identifier: MIT */
/* Included behind all others: no pool that the program destroys may have lost a wake. Each would be made up for by a
 * sleep's bound, and seen by nobody. */
#ifndef PP_TESTS_LOST_KIT_H
#define PP_TESTS_LOST_KIT_H

#include "harness.h"

#include "pool/pool.h"

static inline void destroy_without_lost_wake(pp_pool *pool)
{
    if (pool && pp__pool_is_own(pool)) {
        pp__pool_lock(pool);
        uint64_t lost = pool->lost_wakes;
        pp__pool_unlock(pool);
        CHECK_INT(lost, 0);
    }
    pp_pool_destroy(pool);
}

#define pp_pool_destroy(pool) destroy_without_lost_wake(pool)

#endif
