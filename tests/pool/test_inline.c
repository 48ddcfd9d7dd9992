/* SPDX-License-Identifier: MIT */
/* The inline method: the same calls, run in the owner. */
#include "call_kit.h"

TEST(an_inline_call_runs_in_the_owners_process)
{
    pid_t pids[2];
    pp_pool *pool = kit_pool(PP_START_INLINE, 2);
    pp_future *future = submit(pool, who, NULL, 0);
    CHECK_OK(pp_future_result(future, -1, pids, sizeof pids, NULL));
    CHECK_INT(pids[0], getpid());
    pp_future_unref(future);
    pp_pool_destroy(pool);
}
