/* SPDX-License-Identifier: MIT */
/* Which functions can be tasks, and that a worker runs the very function that was submitted or none. */
#include "call_kit.h"

BOTH(a_static_function_runs)
{
    pp_pool *pool = kit_pool(method, 1);
    expect_usable(pool);
    pp_pool_destroy(pool);
}
