/* SPDX-License-Identifier: MIT */
/* Maps whose chunks are sized by measuring, and maps that have a time for the whole. */
#include "map_kit.h"

enum { SHORT_ONES = 200, LONG_ONES = 1200, PER_CHUNK_OF_ONE = 8 }; /* four for each of two workers */

static int nap(pp_task *task, const void *arg, size_t size)
{
    uint32_t element;
    memcpy(&element, arg, sizeof element);
    if (element >= read_word(GATE))
        test_sleep_ms(1);
    return act(task, arg, size);
}

/* Elements below `first_long` are short. */
static pp_map *open_naps(pp_pool *pool, struct feed *feed, uint32_t first_long, pp_map_options options)
{
    pp_map *map;
    atomic_store(word(GATE), first_long);
    CHECK_OK(pp_map_open(pool, nap, feed_next, feed, &options, &map));
    return map;
}

static void give_until(pp_map *map, struct feed *feed, uint32_t given)
{
    while (feed->given < given) {
        uint32_t next = feed->given;
        pp_map_result result = next_fed(map, feed);
        check_square(&result, next);
    }
}

/* -------------------------------------------------------------------------------------------- measured */

BOTH(short_calls_travel_together_without_being_told)
{
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    struct feed feed = {.count = 20000};
    pp_map *map = open_feed(pool, &feed, (pp_map_options){0});
    give_until(map, &feed, 1);
    CHECK_INT(feed.most, PER_CHUNK_OF_ONE);
    give_until(map, &feed, feed.count);
    CHECK(feed.most > 4 * PER_CHUNK_OF_ONE);
    CHECK_INT(end_of(map), 0);
    pp_map_close(map);
    check_runs(0, feed.count, 1);
    pp_pool_destroy(pool);
}

BOTH(long_calls_travel_alone_without_being_told)
{
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    struct feed feed = {.count = SHORT_ONES};
    pp_map *map = open_naps(pool, &feed, 0, (pp_map_options){0});
    give_until(map, &feed, feed.count);
    CHECK_INT(feed.most, PER_CHUNK_OF_ONE);
    pp_map_close(map);
    pp_pool_destroy(pool);
}

BOTH(calls_that_become_long_travel_alone_again)
{
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    struct feed feed = {.count = SHORT_ONES + LONG_ONES};
    pp_map *map = open_naps(pool, &feed, SHORT_ONES, (pp_map_options){0});
    give_until(map, &feed, 2 * SHORT_ONES); /* chunks so far were no larger than a quarter of the short ones */
    feed.most = 0;
    give_until(map, &feed, feed.count);
    CHECK(feed.most <= PER_CHUNK_OF_ONE);
    pp_map_close(map);
    pp_pool_destroy(pool);
}

BOTH(no_more_is_in_flight_than_was_allowed_however_short_calls_are)
{
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    struct feed feed = {.count = 20000};
    pp_map *map = open_feed(pool, &feed, (pp_map_options){.max_in_flight = 50});
    give_until(map, &feed, feed.count);
    CHECK(feed.most > PER_CHUNK_OF_ONE && feed.most <= 50);
    pp_map_close(map);
    pp_pool_destroy(pool);
}

/* From SHORT_ONES on each input takes its time, and comes only once those some way before it were begun. */
static int slow_next(void *context, pp_map_input *input)
{
    struct feed *feed = context;
    if (feed->pulled > SHORT_ONES)
        test_sleep_ms(1);
    if (feed->pulled > SHORT_ONES + 2)
        until(runs_of(feed->pulled - 3) > 0);
    return feed_next(feed, input);
}

BOTH(inputs_of_a_slow_source_are_not_kept_waiting_for_others)
{
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    struct feed feed = {.count = 2 * SHORT_ONES};
    pp_map *map;
    CHECK_OK(pp_map_open(pool, act, slow_next, &feed, NULL, &map));
    give_until(map, &feed, feed.count);
    CHECK_INT(end_of(map), 0);
    pp_map_close(map);
    pp_pool_destroy(pool);
}

static int crash_in_thousand(pp_task *task, const void *arg, size_t size)
{
    uint32_t element;
    memcpy(&element, arg, sizeof element);
    if (element % 1000 == 999)
        raise(SIGKILL);
    return act(task, arg, size);
}

BOTH(a_crash_costs_one_element_of_a_chunk_that_was_measured)
{
    board_make();
    uint32_t count = 10000, crashed = 0, *numbers = make_numbers(count);
    pp_pool *pool = kit_pool(method, 2);
    pp_map *map;
    CHECK_OK(pp_map_open_array(pool, crash_in_thousand, numbers, count, sizeof *numbers, NULL, &map));
    for (uint32_t i = 0; i < count; i++) {
        pp_map_result result = next_of(map);
        CHECK_INT(result.index, i);
        if (i % 1000 == 999)
            check_failed(&result, PP_ERROR_CRASH, -EOWNERDEAD);
        else
            check_square(&result, i);
        crashed += result.code != 0;
    }
    CHECK_INT(crashed, count / 1000);
    CHECK_INT(end_of(map), 0);
    pp_map_close(map);
    pp_pool_destroy(pool);
    free(numbers);
}

/* -------------------------------------------------------------------------------------- time for the whole */

/* Steps until it is over: how many results there were before. */
static uint32_t give_until_over(pp_map *map)
{
    pp_map_result result;
    uint32_t given = 0;
    int got;
    while ((got = pp_map_next(map, -1, &result)) == 1)
        given++;
    CHECK_INT(got, -ETIME);
    CHECK_HAS(pp_last_error(), "the map was not done within");
    return given;
}

BOTH(a_map_that_is_not_done_in_its_time_ends)
{
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    struct feed feed = {.count = 100};
    behave(5, HANG);
    pp_map *map = open_feed(pool, &feed, (pp_map_options){.chunk_size = 1, .total_timeout = 300 * harness_scale()});
    CHECK_INT(give_until_over(map), 5);
    CHECK_INT(end_of(map), 0);
    CHECK_INT(end_of(map), 0);
    uint32_t pulled = feed.pulled;
    CHECK(pulled < 20); /* eight in flight, and five given out */
    pp_map_close(map);
    CHECK_INT(feed.pulled, pulled);
    CHECK_OK(pp_pool_kill(pool));
    pp_pool_destroy(pool);
}

BOTH(results_that_are_there_when_a_maps_time_ends_are_given_out)
{
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    struct feed feed = {.count = 100};
    pp_map *map = open_feed(
        pool, &feed, (pp_map_options){.chunk_size = 10, .max_in_flight = 40, .total_timeout = 500 * harness_scale()});
    pp_map_result result = next_fed(map, &feed);
    check_square(&result, 0);
    until(runs_between(0, 40) == 40);
    test_sleep_ms(600 * harness_scale());
    for (uint32_t i = 1; i < 40; i++) {
        result = next_of(map);
        check_square(&result, i);
    }
    CHECK_INT(end_of(map), -ETIME);
    CHECK_INT(feed.pulled, 40);
    CHECK_INT(end_of(map), 0);
    pp_map_close(map);
    CHECK_INT(runs_between(0, 100), 40);
    pp_pool_destroy(pool);
}

BOTH(a_map_that_was_pulled_to_its_end_is_not_late_for_want_of_looking)
{
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    struct feed feed = {.count = 4};
    pp_map *map = open_feed(pool, &feed, (pp_map_options){.max_in_flight = 10, .total_timeout = 500 * harness_scale()});
    next_fed(map, &feed);
    until(runs_between(0, 4) == 4);
    test_sleep_ms(600 * harness_scale());
    for (uint32_t i = 1; i < 4; i++) {
        pp_map_result result = next_of(map);
        check_square(&result, i);
    }
    CHECK_INT(end_of(map), 0);
    pp_map_close(map);
    pp_pool_destroy(pool);
}

/* The shorter of the two counts, and the longer goes on counting. */
BOTH(a_step_runs_out_before_its_map_does)
{
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    struct feed feed = {.count = 1};
    pp_map_result result;
    behave(0, HANG);
    pp_map *map = open_feed(pool, &feed, (pp_map_options){.total_timeout = 1000 * harness_scale()});
    CHECK_INT(pp_map_next(map, 0, &result), -ETIMEDOUT);
    CHECK_INT(pp_map_next(map, 20, &result), -ETIMEDOUT);
    CHECK_INT(pp_map_next(map, -1, &result), -ETIME);
    CHECK_INT(pp_map_next(map, -1, &result), 0);
    pp_map_close(map);
    CHECK_OK(pp_pool_kill(pool));
    pp_pool_destroy(pool);
}

BOTH(a_loop_that_is_not_done_in_its_time_fails)
{
    board_make();
    uint32_t numbers[8], squares[8];
    for (uint32_t i = 0; i < 8; i++)
        numbers[i] = i;
    pp_pool *pool = kit_pool(method, 2);
    behave(3, HANG);
    const pp_map_options options = {.total_timeout = 200};
    CHECK_INT(pp_map_array(pool, act, numbers, 8, sizeof *numbers, squares, sizeof *squares, &options), -ETIME);
    CHECK_OK(pp_pool_kill(pool));
    pp_pool_destroy(pool);
}
