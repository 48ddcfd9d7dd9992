/* SPDX-License-Identifier: MIT */
/*
 * Start method fork in an owner whose other threads are in malloc, stdio, the loader and the resolver all the time: whatever lock of libc's they
 * hold at the moment of the fork, no worker must meet it held.
 */
#include "call_kit.h"

TEST(a_pool_works_in_an_owner_without_other_threads)
{
    pp_pool *pool = kit_pool(PP_START_FORK, 1);
    expect_usable(pool);
    pp_pool_destroy(pool);
}
