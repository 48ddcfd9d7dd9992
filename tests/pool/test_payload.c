/* SPDX-License-Identifier: MIT */
/* Arguments and results of every size, from nothing to more than any ring holds. */
#include "call_kit.h"

BOTH(nothing_comes_back_as_nothing)
{
    size_t size = 1;
    pp_pool *pool = kit_pool(method, 1);
    pp_future *future = submit(pool, echo, NULL, 0);
    CHECK_OK(pp_future_result(future, -1, NULL, 0, &size));
    CHECK_INT(size, 0);
    pp_future_unref(future);
    pp_pool_destroy(pool);
}
