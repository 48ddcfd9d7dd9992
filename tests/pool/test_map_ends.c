/* SPDX-License-Identifier: MIT */
/* How a map ends before all is mapped: at the first failure, when it is closed, and with a pool that takes no more
 * inputs. */
#include "map_kit.h"
#include "map_sizes_kit.h"

#include "lost_kit.h"

/* ----------------------------------------------------------------------------------------- an early end */

/* The one that fails, one that runs when that is told (or does not), and those behind it, which never do. */
static void fail_fast(pp_start_method method, enum behaviour how, pp_error_kind kind, int code)
{
    board_make();
    uint32_t round = 0;
    EACH_CHUNK_SIZE(size)
    {
        pp_pool *pool = kit_pool(method, 1);
        struct feed feed = {.count = 2000};
        behave(4, how);
        behave(5, WAIT);
        atomic_store(word(GATE), 0);
        pp_map *map =
            open_feed(pool, &feed, (pp_map_options){.chunk_size = size, .fail_fast = 1, .max_in_flight = 1500});
        for (uint32_t i = 0; i < 4; i++) {
            pp_map_result result = next_fed(map, &feed);
            check_square(&result, i);
        }
        pp_map_result result = next_fed(map, &feed);
        CHECK_INT(result.index, 4);
        check_failed(&result, kind, code);
        for (int i = 0; i < 3; i++)
            CHECK_INT(end_of(map), 0);
        pp_map_close(map);
        open_gate(GATE);
        pp_pool_destroy(pool);
        round++;
        check_runs(0, 5, round);
        CHECK(runs_of(5) <= round);
        check_runs(6, 2000, 0);
    }
}

BOTH(fail_fast_gives_nothing_after_the_first_task_that_fails)
{
    fail_fast(method, FAIL, PP_ERROR_TASK, -EREMOTEIO);
}

BOTH(fail_fast_gives_nothing_after_the_first_crash)
{
    fail_fast(method, CRASH, PP_ERROR_CRASH, -EOWNERDEAD);
}

BOTH(without_fail_fast_a_failed_element_is_a_result_among_others)
{
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    for (uint32_t i = 0; i < 200; i++)
        behave(i, i % 5 == 1 ? FAIL : ANSWER);
    EACH_CHUNK_SIZE(size)
    {
        struct feed feed = {.count = 200};
        pp_map *map = open_feed(pool, &feed, (pp_map_options){.chunk_size = size});
        for (uint32_t i = 0; i < 200; i++) {
            pp_map_result result = next_fed(map, &feed);
            CHECK_INT(result.index, i);
            if (i % 5 != 1) {
                check_square(&result, i);
                continue;
            }
            char text[64];
            check_failed(&result, PP_ERROR_TASK, -EREMOTEIO);
            snprintf(text, sizeof text, "element %u refuses", i);
            CHECK_STR(result.error->message, text);
            CHECK_INT(result.error->task_code, -EDOM);
            CHECK_STR(result.error->function, "act");
            CHECK_INT(result.error->tries, 1);
            CHECK_INT(memcmp(result.input, &i, sizeof i), 0);
        }
        CHECK_INT(end_of(map), 0);
        pp_map_close(map);
    }
    pp_pool_destroy(pool);
}

/* Two run and wait; those behind them, in their chunks, in rings and pending, never do. Closing does not wait for the
 * two. */
BOTH(what_has_not_begun_when_a_map_is_closed_never_runs)
{
    board_make();
    uint32_t round = 0;
    behave_all(0, 2048, WAIT);
    EACH_CHUNK_SIZE(size)
    {
        pp_pool *pool = kit_pool(method, 2);
        struct feed feed = {.count = 2048};
        pp_map_result result;
        atomic_store(word(GATE), 0);
        atomic_store(word(BEGUN), 0);
        pp_map *map = open_feed(pool, &feed, (pp_map_options){.chunk_size = size, .max_in_flight = 2048});
        CHECK_INT(pp_map_next(map, 0, &result), -ETIMEDOUT);
        until(read_word(BEGUN) == 2);
        pp_map_close(map);
        open_gate(GATE);
        pp_pool_destroy(pool);
        round += 2;
        CHECK_INT(runs_between(0, 2048), round);
    }
}

/* A pool that has learnt that calls are short puts several into each ring. */
BOTH(what_lies_in_rings_when_a_map_is_closed_never_runs)
{
    board_make();
    for (uint32_t round = 1; round <= 10; round++) {
        pp_pool *pool = kit_pool(method, 2);
        struct mapper quick = {pool, {0}, 500};
        struct feed feed = {.count = 500};
        pp_map_result result;
        behave_all(0, 500, ANSWER);
        map_squares(&quick);
        behave_all(0, 500, WAIT);
        atomic_store(word(GATE), 0);
        atomic_store(word(BEGUN), 0);
        pp_map *map = open_feed(pool, &feed, (pp_map_options){.max_in_flight = 500});
        CHECK_INT(pp_map_next(map, 0, &result), -ETIMEDOUT);
        until(read_word(BEGUN) == 2);
        pp_map_close(map);
        open_gate(GATE);
        pp_pool_destroy(pool);
        CHECK_INT(runs_between(0, 500), 502 * round);
    }
}

BOTH(a_map_is_closed_with_results_that_nobody_took)
{
    board_make();
    EACH_CHUNK_SIZE(size)
    {
        pp_pool *pool = kit_pool(method, 2);
        struct feed feed = {.count = 2048};
        pp_map *map = open_feed(pool, &feed, (pp_map_options){.chunk_size = size, .max_in_flight = 2048});
        uint32_t before = runs_between(0, 2048);
        next_fed(map, &feed);
        until(runs_between(0, 2048) == before + feed.pulled);
        if (each % 2) {
            pp_pool_destroy(pool);
            pp_map_close(map);
        } else {
            pp_map_close(map);
            pp_pool_destroy(pool);
        }
    }
}

BOTH(a_map_is_closed_with_results_that_nobody_took_of_a_chunk_that_still_runs)
{
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    struct feed feed = {.count = 50};
    pp_map_result result;
    behave(30, WAIT);
    pp_map *map = open_feed(pool, &feed, (pp_map_options){.chunk_size = 50});
    int got =
        pp_map_next(map, 0, &result); /* it sends the chunk, and finds what there is if it is held up behind that */
    CHECK(got == -ETIMEDOUT || got == 1);
    until(read_word(BEGUN) == 1);
    CHECK_INT(next_fed(map, &feed).index, got == 1); /* it takes all in that there are, and gives one of them */
    pp_map_close(map);
    open_gate(GATE);
    pp_pool_destroy(pool);
    CHECK_INT(runs_between(0, 50), 31);
}

BOTH(a_map_is_closed_before_anything_was_asked_of_it)
{
    board_make();
    struct feed feed = {.count = 10};
    pp_pool *pool = kit_pool(method, 2);
    pp_map_close(open_feed(pool, &feed, (pp_map_options){0}));
    CHECK_INT(feed.asked, 0);
    pp_map *map = open_feed(pool, &feed, (pp_map_options){0});
    pp_pool_destroy(pool);
    pp_map_close(map);
    pp_map_close(NULL);
}

/* ------------------------------------------------------------------------- a pool that takes no more inputs */

/* What was pulled and not yet given out gives its results; then comes the error, once. */
static void check_refused(pp_map *map, struct feed *feed, int error)
{
    uint32_t pulled = feed->pulled;
    pp_map_result result;
    int got;
    while ((got = pp_map_next(map, -1, &result)) == 1) {
        CHECK_INT(result.index, feed->given);
        feed->given++;
    }
    CHECK_INT(feed->given, pulled);
    CHECK_INT(feed->pulled, pulled);
    CHECK_INT(got, error);
    CHECK(*pp_last_error());
    CHECK_INT(end_of(map), 0);
    CHECK_INT(end_of(map), 0);
}

BOTH(a_pool_that_is_shut_down_gives_all_that_it_had_accepted_and_then_says_so)
{
    board_make();
    EACH_CHUNK_SIZE(size)
    {
        pp_pool *pool = kit_pool(method, 2);
        struct feed feed = {.count = 50000};
        pp_map *map = open_feed(pool, &feed, (pp_map_options){.chunk_size = size});
        for (uint32_t i = 0; i < 20; i++)
            next_fed(map, &feed);
        int got = pp_pool_shutdown(pool, 0, 0);
        CHECK(got == 0 || got == -ETIMEDOUT);
        while (feed.given < feed.pulled) {
            pp_map_result result = next_of(map);
            check_square(&result, feed.given++);
        }
        check_refused(map, &feed, -ESHUTDOWN);
        pp_map_close(map);
        CHECK_INT(pp_map_open(pool, act, feed_next, &feed, NULL, &map), -ESHUTDOWN);
        pp_pool_destroy(pool);
    }
}

BOTH(a_shutdown_that_cancels_fails_the_inputs_that_had_not_begun)
{
    board_make();
    EACH_CHUNK_SIZE(size)
    {
        pp_pool *pool = kit_pool(method, 1);
        struct feed feed = {.count = 5000};
        behave(3, WAIT);
        atomic_store(word(GATE), 0);
        atomic_store(word(BEGUN), 0);
        pp_map *map = open_feed(pool, &feed, (pp_map_options){.chunk_size = size, .max_in_flight = 2048});
        for (uint32_t i = 0; i < 3; i++)
            next_fed(map, &feed);
        until(read_word(BEGUN) == 1);
        CHECK_INT(pp_pool_shutdown(pool, PP_CANCEL_PENDING, 0), -ETIMEDOUT);
        open_gate(GATE);
        pp_map_result result = next_fed(map, &feed);
        check_square(&result, 3);
        while (feed.given < feed.pulled) {
            uint32_t i = feed.given;
            result = next_fed(map, &feed);
            CHECK_INT(result.index, i);
            check_failed(&result, PP_ERROR_CANCELLED, -ECANCELED);
            CHECK_INT(runs_of(i), 0);
        }
        check_refused(map, &feed, -ESHUTDOWN);
        pp_map_close(map);
        pp_pool_destroy(pool);
    }
}

BOTH(a_pool_that_breaks_gives_a_result_for_each_input_and_then_says_so)
{
    board_make();
    EACH_CHUNK_SIZE(size)
    {
        pp_pool *pool = kit_pool_with(method, (pp_pool_options){.max_workers = 2, .on_crash = PP_BREAK_POOL});
        struct feed feed = {.count = 5000};
        behave(10, CRASH);
        pp_map *map = open_feed(pool, &feed, (pp_map_options){.chunk_size = size, .max_in_flight = 2048});
        for (uint32_t i = 0; i < 10; i++) {
            pp_map_result result = next_fed(map, &feed);
            CHECK_INT(result.index, i);
            if (result.code)
                check_failed(&result, PP_ERROR_BROKEN, -ENOTRECOVERABLE);
            else
                check_square(&result, i);
        }
        pp_map_result result = next_fed(map, &feed);
        CHECK_INT(result.index, 10);
        check_failed(&result, PP_ERROR_BROKEN, -ENOTRECOVERABLE);
        CHECK_HAS(result.error->message, "act");
        check_refused(map, &feed, -ENOTRECOVERABLE);
        CHECK_HAS(pp_last_error(), "while it ran call 1");
        pp_map_close(map);
        CHECK_INT(pp_map_open(pool, act, feed_next, &feed, NULL, &map), -ENOTRECOVERABLE);
        pp_pool_destroy(pool);
    }
}

/* Nothing further is refused, so there is nothing to say. */
BOTH(a_map_that_had_pulled_all_ends_well_though_its_pool_was_shut_down)
{
    board_make();
    uint32_t *numbers = make_numbers(50);
    pp_pool *pool = kit_pool(method, 2);
    pp_map *map;
    CHECK_OK(pp_map_open_array(pool, act, numbers, 50, sizeof *numbers, &(pp_map_options){.max_in_flight = 100}, &map));
    next_of(map);
    pp_pool_destroy(pool);
    for (uint32_t i = 1; i < 50; i++) {
        pp_map_result result = next_of(map);
        check_square(&result, i);
    }
    CHECK_INT(end_of(map), 0);
    pp_map_close(map);
    free(numbers);
}

BOTH(a_map_outlives_a_pool_that_was_released)
{
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    struct feed feed = {.count = 1000};
    pp_map *map = open_feed(pool, &feed, (pp_map_options){.chunk_size = 7});
    next_fed(map, &feed);
    pp_pool_release(pool);
    check_refused(map, &feed, -ESHUTDOWN);
    pp_map_close(map);
}

static void *destroy(void *pool)
{
    pp_pool_destroy(pool);
    return NULL;
}

/*
 * One thread is in pp_map_next while another destroys the pool: it gets all that was accepted. What had been pulled
 * when the pool was shut down, and was not yet submitted, comes back too: cancelled.
 */
BOTH(a_pool_is_destroyed_while_a_thread_maps)
{
    board_make();
    for (uint32_t round = 0; round < 10; round++) {
        pp_pool *pool = kit_pool(method, 2);
        struct feed feed = {.count = UINT32_MAX};
        pp_map *map = open_feed(pool, &feed, (pp_map_options){.chunk_size = 1 + round % 3, .unordered = round % 2});
        for (uint32_t i = 0; i < round * 5; i++)
            next_fed(map, &feed);
        pthread_t thread = start_thread(destroy, pool);
        pp_map_result result;
        int got;
        uint32_t cancelled = 0;
        while ((got = pp_map_next(map, -1, &result)) == 1) {
            if (result.code) {
                check_failed(&result, PP_ERROR_CANCELLED, -ECANCELED);
                cancelled++;
            }
            feed.given++;
        }
        CHECK(cancelled <= 1 + round % 3);
        CHECK_INT(got, -ESHUTDOWN);
        CHECK_INT(feed.given, feed.pulled);
        join_thread(thread);
        CHECK_INT(end_of(map), 0);
        pp_map_close(map);
    }
}
