/* SPDX-License-Identifier: MIT */
/* Map: what is pulled when, in which order results come, and what a step waits for. */
#include "map_kit.h"
#include "map_sizes_kit.h"

#include "lost_kit.h"

enum { MANY = 3000 };

/* ------------------------------------------------------------------------------------------ all of them */

BOTH(an_empty_array_maps_to_nothing)
{
    pp_map *map;
    pp_pool *pool = kit_pool(method, 2);
    CHECK_OK(pp_map_open_array(pool, echo, NULL, 0, sizeof(int), NULL, &map));
    CHECK_INT(end_of(map), 0);
    CHECK_INT(end_of(map), 0);
    pp_map_close(map);
    pp_pool_destroy(pool);
}

BOTH(a_source_that_ends_at_once_maps_to_nothing_and_is_asked_once)
{
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    EACH_CHUNK_SIZE(size)
    {
        struct feed feed = {0};
        pp_map *map = open_feed(pool, &feed, (pp_map_options){.chunk_size = size});
        CHECK_INT(feed.asked, 0);
        for (int i = 0; i < 3; i++)
            CHECK_INT(end_of(map), 0);
        CHECK_INT(feed.asked, 1);
        pp_map_close(map);
    }
    pp_pool_destroy(pool);
}

static void check_all(pp_map *map, struct feed *feed, bool unordered)
{
    static bool seen[MANY];
    memset(seen, 0, sizeof seen);
    for (uint32_t i = 0; i < MANY; i++) {
        pp_map_result result = feed ? next_fed(map, feed) : next_of(map);
        CHECK(result.index < MANY && !seen[result.index]);
        seen[result.index] = true;
        check_square(&result, (uint32_t)result.index);
        if (!unordered)
            CHECK_INT(result.index, i);
        if (!feed)
            CHECK(result.tag == NULL);
    }
    CHECK_INT(end_of(map), 0);
}

static void map_all(pp_start_method method, bool unordered)
{
    board_make();
    uint32_t round = 0, *numbers = make_numbers(MANY);
    pp_pool *pool = kit_pool(method, 2);
    EACH_CHUNK_SIZE(size)
    {
        const pp_map_options options = {.chunk_size = size, .unordered = unordered};
        struct feed feed = {.count = MANY};
        pp_map *map = open_feed(pool, &feed, options);
        check_all(map, &feed, unordered);
        CHECK_INT(feed.asked, MANY + 1);
        pp_map_close(map);
        check_runs(0, MANY, ++round);
        CHECK_OK(pp_map_open_array(pool, act, numbers, MANY, sizeof *numbers, &options, &map));
        check_all(map, NULL, unordered);
        pp_map_close(map);
        check_runs(0, MANY, ++round);
    }
    pp_pool_destroy(pool);
    free(numbers);
}

BOTH(each_input_gives_its_result_in_order_with_its_index_tag_and_bytes)
{
    map_all(method, false);
}

BOTH(each_input_gives_its_result_once_when_order_does_not_matter)
{
    map_all(method, true);
}

/* ------------------------------------------------------------------------------------------------ lazily */

/* `at_once`: what the first step pulls; `most`: what is ever pulled and not given out. */
static void check_bound(pp_pool *pool, pp_map_options options, uint32_t at_once, uint32_t most)
{
    struct feed feed = {.count = 500};
    pp_map *map = open_feed(pool, &feed, options);
    CHECK_INT(feed.pulled, 0);
    next_fed(map, &feed);
    CHECK_INT(feed.pulled, at_once);
    while (feed.given < 500)
        next_fed(map, &feed);
    CHECK_INT(feed.most, most);
    CHECK_INT(end_of(map), 0);
    pp_map_close(map);
}

BOTH(no_more_is_pulled_than_may_be_in_flight)
{
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    for (int unordered = 0; unordered < 2; unordered++) {
        const pp_map_options o = {.chunk_size = 1, .unordered = unordered};
        pp_map_options options = o;
        check_bound(pool, options, 8, 8); /* four chunks for each of two workers */
        options.chunk_size = 5;
        check_bound(pool, options, 40, 40);
        options.max_in_flight = 25;
        check_bound(pool, options, 25, 25);
        options.max_in_flight = 29; /* no room for a sixth chunk until one is given out but for an input */
        check_bound(pool, options, 25, 29);
        options.max_in_flight = 3; /* one chunk always */
        check_bound(pool, options, 5, 5);
        options = o;
        options.max_in_flight = 1;
        check_bound(pool, options, 1, 1);
        options.max_in_flight = 100;
        check_bound(pool, options, 100, 100);
    }
    pp_pool_destroy(pool);
}

/* However often it is asked and whatever its workers do. */
BOTH(nothing_is_pulled_while_what_was_pulled_is_not_given_out)
{
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    struct feed feed = {.count = 1000};
    pp_map_result result;
    behave_all(0, 1000, WAIT);
    pp_map *map = open_feed(pool, &feed, (pp_map_options){.chunk_size = 3, .max_in_flight = 30});
    for (int i = 0; i < 50; i++) {
        CHECK_INT(pp_map_next(map, 0, &result), -ETIMEDOUT);
        CHECK_INT(feed.pulled, 30);
    }
    open_gate(GATE);
    while (feed.given < 1000)
        next_fed(map, &feed);
    CHECK_INT(feed.most, 30);
    pp_map_close(map);
    pp_pool_destroy(pool);
}

BOTH(an_endless_source_can_be_left_at_any_time)
{
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    EACH_CHUNK_SIZE(size)
    {
        struct feed feed = {.count = UINT32_MAX};
        pp_map *map = open_feed(pool, &feed, (pp_map_options){.chunk_size = size, .max_in_flight = 2048});
        for (uint32_t i = 0; i < 2500; i++) {
            pp_map_result result = next_fed(map, &feed);
            check_square(&result, i);
        }
        CHECK(feed.most <= 2048);
        pp_map_close(map);
        expect_usable(pool);
    }
    pp_pool_destroy(pool);
}

/* ------------------------------------------------------------------------------------------------- order */

BOTH(unordered_results_pass_one_that_takes_long)
{
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    EACH_CHUNK_SIZE(size)
    {
        uint32_t count = (uint32_t)size * 4;
        struct feed feed = {.count = count};
        atomic_store(word(GATE), 0);
        behave(0, WAIT);
        pp_map *map =
            open_feed(pool, &feed, (pp_map_options){.chunk_size = size, .unordered = 1, .max_in_flight = count});
        for (uint32_t i = 0; i < count - size; i++) {
            pp_map_result result = next_fed(map, &feed);
            CHECK(result.index >= size);
        }
        open_gate(GATE);
        for (uint32_t i = 0; i < size; i++)
            CHECK_INT(next_fed(map, &feed).index, i);
        CHECK_INT(end_of(map), 0);
        pp_map_close(map);
    }
    pp_pool_destroy(pool);
}

BOTH(ordered_results_wait_for_one_that_takes_long)
{
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    EACH_CHUNK_SIZE(size)
    {
        uint32_t count = (uint32_t)size * 4, before = runs_between((uint32_t)size, count);
        struct feed feed = {.count = count};
        pp_map_result result;
        atomic_store(word(GATE), 0);
        behave(0, WAIT);
        pp_map *map = open_feed(pool, &feed, (pp_map_options){.chunk_size = size, .max_in_flight = count});
        do /* until all the others have run */
            CHECK_INT(pp_map_next(map, 1, &result), -ETIMEDOUT);
        while (runs_between((uint32_t)size, count) < before + count - size);
        CHECK_INT(pp_map_next(map, 0, &result), -ETIMEDOUT);
        open_gate(GATE);
        for (uint32_t i = 0; i < count; i++)
            CHECK_INT(next_fed(map, &feed).index, i);
        CHECK_INT(end_of(map), 0);
        pp_map_close(map);
    }
    pp_pool_destroy(pool);
}

/* A chunk's results are given out while the chunk still runs. */
BOTH(results_of_a_chunk_come_one_by_one)
{
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    for (int unordered = 0; unordered < 2; unordered++) {
        struct feed feed = {.count = 50};
        pp_map_result result;
        atomic_store(word(GATE), 0);
        behave(30, WAIT);
        pp_map *map = open_feed(pool, &feed, (pp_map_options){.chunk_size = 50, .unordered = unordered});
        for (uint32_t i = 0; i < 30; i++)
            CHECK_INT(next_fed(map, &feed).index, i);
        CHECK_INT(pp_map_next(map, 0, &result), -ETIMEDOUT);
        open_gate(GATE);
        for (uint32_t i = 30; i < 50; i++)
            CHECK_INT(next_fed(map, &feed).index, i);
        pp_map_close(map);
    }
    pp_pool_destroy(pool);
}

/* --------------------------------------------------------------------------------------------- waiting */

BOTH(a_step_that_runs_out_of_time_loses_nothing)
{
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    EACH_CHUNK_SIZE(size)
    {
        struct feed feed = {.count = 100};
        pp_map_result result = {.index = 4711};
        atomic_store(word(GATE), 0);
        behave(0, WAIT);
        pp_map *map = open_feed(pool, &feed, (pp_map_options){.chunk_size = size});
        CHECK_INT(pp_map_next(map, 0, &result), -ETIMEDOUT);
        CHECK(*pp_last_error());
        CHECK_INT(pp_map_next(map, 20, &result), -ETIMEDOUT);
        CHECK_INT(result.index, 4711);
        open_gate(GATE);
        for (uint32_t i = 0; i < 100; i++) {
            int got;
            while ((got = pp_map_next(map, (int)(i % 3), &result)) == -ETIMEDOUT) {
            }
            CHECK_INT(got, 1);
            CHECK_INT(result.index, i);
            check_square(&result, i);
        }
        CHECK_INT(pp_map_next(map, 0, &result), 0);
        pp_map_close(map);
    }
    pp_pool_destroy(pool);
}

static void on_signal(int number)
{
    (void)number;
}

struct pest {
    pthread_t victim;
    atomic_bool stop;
};

static void *send_signals(void *context)
{
    struct pest *pest = context;
    while (!atomic_load(&pest->stop)) {
        pthread_kill(pest->victim, SIGUSR1);
        test_sleep_ms(1);
    }
    return NULL;
}

BOTH(a_signal_interrupts_a_step_and_nothing_is_lost)
{
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    struct feed feed = {.count = 100};
    struct sigaction action = {.sa_handler = on_signal};
    struct pest pest = {.victim = pthread_self()};
    pp_map_result result;
    behave(50, WAIT);
    CHECK_INT(sigaction(SIGUSR1, &action, NULL), 0);
    pthread_t thread = start_thread(send_signals, &pest);
    pp_map *map = open_feed(pool, &feed, (pp_map_options){.chunk_size = 7});
    for (uint32_t i = 0, interrupted = 0; i < 100;) {
        int got = pp_map_next(map, -1, &result);
        if (got == -EINTR) {
            if (i == 50 && ++interrupted == 3)
                open_gate(GATE);
            continue;
        }
        CHECK_INT(got, 1);
        CHECK(i != 50 || interrupted >= 3);
        check_square(&result, i++);
    }
    atomic_store(&pest.stop, true);
    join_thread(thread);
    CHECK_INT(end_of(map), 0);
    pp_map_close(map);
    pp_pool_destroy(pool);
}
