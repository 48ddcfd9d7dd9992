/* SPDX-License-Identifier: MIT */
/* needs: seams. Threads that submit side by side take turns. */
#include "base/seam.h"
#include "call_kit.h"
#include "pool/contention.h"

#include <limits.h>

/* As a submit that finds somebody in there. */
static void find_taken(pp_pool *pool)
{
    pp__contention_lock(pool);
    pp__pool_unlock(pool);
}

static void *submit_one(void *pool)
{
    expect_end(submit(pool, nothing, NULL, 0), 0);
    return NULL;
}

static void let_another_submit(pp_pool *pool)
{
    join_thread(start_thread(submit_one, pool));
}

/* Turns that were left to others from now on. */
static void count_turns(void)
{
    pp__fault_arm("contention.turn", UINT_MAX, PP__FAULT_KILL);
}

TEST(who_finds_others_in_there_twice_in_a_row_leaves_them_a_turn)
{
    pp_pool *pool = kit_pool(PP_START_FORK, 1);
    let_another_submit(pool);
    count_turns();
    find_taken(pool);
    CHECK_INT(pp__fault_hits(), 0);
    while (pp__fault_hits() == 0) /* one may come long behind the other */
        find_taken(pool);
    find_taken(pool);
    CHECK_INT(pp__fault_hits(), 1);
    for (int i = 0; i < 20; i++) {
        test_sleep_ms(1);
        find_taken(pool);
    }
    CHECK_INT(pp__fault_hits(), 1);
    pp__fault_disarm();
    pp_pool_destroy(pool);
}

static void leave_no_turn(pp_pool *pool)
{
    count_turns();
    for (int i = 0; i < 1000; i++)
        find_taken(pool);
    CHECK_INT(pp__fault_hits(), 0);
    pp__fault_disarm();
    pp_pool_destroy(pool);
}

TEST(who_submits_alone_leaves_no_turn_to_those_that_wait)
{
    pp_pool *pool = kit_pool(PP_START_FORK, 1);
    let_another_submit(pool);
    submit_one(pool);
    leave_no_turn(pool);
}

TEST(in_a_pool_of_an_event_loop_nobody_leaves_a_turn)
{
    pp_pool *pool = kit_pool_with(PP_START_FORK, (pp_pool_options){.max_workers = 1, .event_loop = 1});
    let_another_submit(pool);
    leave_no_turn(pool);
}
