/* SPDX-License-Identifier: MIT */
/*
 * A call with a deadline that is a while in being submitted.
 *
 * needs: seams
 */
#include "processes_kit.h"

#include "base/clock.h"
#include "base/seam.h"
#include "pool/collect.h"
#include "pool/wish.h"

#define LARGE 4096 /* does not lie in the item */

static void *slow_malloc(size_t size)
{
    if (size >= LARGE) {
        pp__sys.malloc = malloc; /* once */
        test_sleep_ms(50);
    }
    return malloc(size);
}

/* Who sleeps would come back in time for a deadline that begins when the call is in the queue, but not for this one,
 * which began with the submit. False: it was too late for all that. */
static bool is_told_in_time(pp_pool *pool)
{
    static const char arg[LARGE];
    uint64_t next;
    pp_future *future;
    pp__pool_lock(pool);
    pool->mean_run = 0; /* nothing is queued behind what the worker runs */
    do
        pp__collect_arm(pool, &next);
    while (pool->collector.wake_at < pp__now() + 99 * PP__MILLISECOND);
    uint64_t wakes = pool->collector.wake_at;
    pp__pool_unlock(pool);
    pp__sys.malloc = slow_malloc;
    pp_call call = {.function = task_square, .arg = arg, .size = LARGE, .deadline = 60};
    CHECK_OK(pp_submit_call(pool, &call, &future));
    pp__pool_lock(pool);
    bool fair = pool->pending_count == 1 && wakes > pp__wishes_due(pool);
    CHECK(!fair || pool->collector.kicked);
    pp__collect_events(pool);
    pp__pool_unlock(pool);
    pp_future_cancel(future);
    CHECK_OK(pp_future_wait(future, -1));
    pp_future_unref(future);
    return fair;
}

BOTH(who_sleeps_is_told_of_what_is_left_until_a_deadline)
{
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 1, .event_loop = 1}, method);
    pp_future *running = submit_int(pool, task_gate, 1);
    while (shared()->arrived[1] == 0)
        CHECK_INT(pp_future_wait(running, 1), -ETIMEDOUT);
    while (!is_told_in_time(pool)) {
    }
    gate_open(1);
    CHECK(take_int(running) > 0);
    pp_pool_destroy(pool);
}
