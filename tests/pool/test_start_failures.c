/* SPDX-License-Identifier: MIT */
/*
 * Workers that can't be started, and processes that end or stop at the worst places: fewer workers, later ones, and each call ends
 * exactly once.
 *
 * needs: seams
 */
#include "call_kit.h"

#include "base/seam.h"

static pid_t no_fork(void)
{
    errno = EAGAIN;
    return -1;
}

TEST(a_pool_whose_launcher_cannot_be_forked_is_refused_and_the_next_one_is_not)
{
    pp_pool *pool = NULL;
    pp__sys.fork = no_fork;
    CHECK_INT(pp_pool_create(&(pp_pool_options){.start_method = PP_START_FORK}, &pool), -EAGAIN);
    CHECK(pool == NULL);
    CHECK_HAS(pp_last_error(), "fork");
    pp__sys.fork = fork;
    pool = kit_pool(PP_START_FORK, 1);
    expect_usable(pool);
    pp_pool_destroy(pool);
}
