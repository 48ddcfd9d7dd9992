/* SPDX-License-Identifier: MIT */
/* needs: seams */
/* Pools in an event loop that are given up where no thread can be made to go on with them. */
#include "call_kit.h"

#include "base/seam.h"

#include <poll.h>

enum { RUNS, CALLS = 5 };

static int no_thread(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument)
{
    (void)thread, (void)attributes, (void)run, (void)argument;
    return EAGAIN;
}

static void release(pp_future *future, void *pool)
{
    (void)future;
    pp_pool_release(pool);
}

static void destroy(pp_future *future, void *pool)
{
    (void)future;
    pp_pool_destroy(pool);
}

static void release_in_own_dispatch(pp_future *future, void *pool)
{
    (void)future;
    pp_pool_release(pool);
    CHECK(pp_pool_dispatch(pool) < 0);
}

static _Atomic int called;

static void note_call(pp_future *future, void *context)
{
    (void)future, (void)context;
    called++;
}

/* All calls are run, and all callbacks called, before the dispatch returns. */
static void give_up(pp_start_method method, pp_callback *way)
{
    pp_future *futures[CALLS];
    board_make();
    called = 0;
    pp_pool *pool = kit_pool_with(method, (pp_pool_options){.max_workers = 1, .event_loop = 1});
    pp_future *first = submit_u32(pool, echo, 1);
    CHECK_OK(pp_future_add_callback(first, way, pool));
    CHECK_OK(pp_future_wait(first, -1));
    for (int i = 0; i < CALLS; i++) {
        futures[i] = submit_u32(pool, count_run, RUNS);
        CHECK_OK(pp_future_add_callback(futures[i], note_call, NULL));
    }
    pp__sys.pthread_create = no_thread;
    CHECK_INT(pp_pool_dispatch(pool), 0);
    CHECK_INT(read_word(RUNS), CALLS);
    CHECK_INT(called, CALLS);
    for (int i = 0; i < CALLS; i++) {
        CHECK_INT(pp_future_state(futures[i]), PP_FINISHED);
        pp_future_unref(futures[i]);
    }
    pp_future_unref(first);
    until(count_descendants_named(getppid(), "pp-") == 0);
}

BOTH(a_pool_that_a_callback_releases_has_its_calls_run_though_no_thread_can_be_made)
{
    give_up(method, release);
}

BOTH(a_pool_that_a_callback_destroys_has_its_calls_run_though_no_thread_can_be_made)
{
    give_up(method, destroy);
}

BOTH(a_callback_that_dispatches_what_it_has_released_does_not_wait_for_itself)
{
    give_up(method, release_in_own_dispatch);
}
