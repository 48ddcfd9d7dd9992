/* SPDX-License-Identifier: MIT */
/* Map: what is pulled when, in which order results come, and how a map ends. */
#include "base/clock.h"
#include "map_kit.h"

#include <sys/resource.h>

#include "lost_kit.h"

enum { MANY = 3000 };

static const size_t chunk_sizes[] = {1, 7, 1024};
#define EACH_CHUNK_SIZE(size) for (size_t each = 0, size; each < 3 && (size = chunk_sizes[each], true); each++)

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

/* ------------------------------------------------------------------------------------------------ sources */

/* Its caller's thread runs it, with no lock that the pool needs. */
struct caller {
    pp_pool *pool;
    pthread_t thread;
    uint32_t pulled, last;
    pp_map *other;
};

static int next_by_calling(void *context, pp_map_input *input)
{
    struct caller *caller = context;
    CHECK(pthread_equal(caller->thread, pthread_self()));
    if (caller->pulled == 20)
        return 0;
    pp_future *future = submit_u32(caller->pool, echo, caller->pulled);
    CHECK_INT(result_u32(future), caller->pulled);
    pp_future_unref(future);
    CHECK_INT(next_of(caller->other).index, caller->pulled);
    caller->last = caller->pulled++;
    *input = (pp_map_input){.data = &caller->last, .size = sizeof caller->last};
    return 1;
}

BOTH(a_source_may_call_and_map_in_the_same_pool)
{
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    struct feed feed = {.count = 20};
    struct caller caller = {
        .pool = pool, .thread = pthread_self(), .other = open_feed(pool, &feed, (pp_map_options){0})};
    pp_map *map;
    CHECK_OK(pp_map_open(pool, echo, next_by_calling, &caller, NULL, &map));
    for (uint32_t i = 0; i < 20; i++) {
        pp_map_result result = next_of(map);
        CHECK_INT(value_of(&result), i);
    }
    CHECK_INT(end_of(map), 0);
    pp_map_close(map);
    pp_map_close(caller.other);
    pp_pool_destroy(pool);
}

BOTH(a_source_without_input_now_is_asked_again_at_the_next_step)
{
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    pp_map_result result;
    EACH_CHUNK_SIZE(size)
    {
        struct feed feed = {.count = 10, .pauses = 3};
        pp_map *map = open_feed(pool, &feed, (pp_map_options){.chunk_size = size});
        for (uint32_t i = 1; i <= 3; i++) {
            CHECK_INT(pp_map_next(map, -1, &result), -EAGAIN);
            CHECK(*pp_last_error());
            CHECK_INT(feed.asked, i);
        }
        for (uint32_t i = 0; i < 10; i++)
            CHECK_INT(next_fed(map, &feed).index, i);
        feed.pauses = 2;
        feed.pause_at = 10;
        pp_map_close(map);
    }
    pp_pool_destroy(pool);
}

/* What it gave before travels, though it is not a whole chunk. Each step asks until the source says so, and not beyond.
 */
BOTH(what_came_before_a_pause_does_not_wait_for_more)
{
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    EACH_CHUNK_SIZE(size)
    {
        struct feed feed = {.count = 20, .pauses = 1000000, .pause_at = 3};
        pp_map *map = open_feed(pool, &feed, (pp_map_options){.chunk_size = size, .max_in_flight = 2048});
        for (uint32_t i = 0; i < 3; i++) {
            pp_map_result result = next_fed(map, &feed);
            check_square(&result, i);
            CHECK_INT(feed.asked, 4 + i);
        }
        CHECK_INT(end_of(map), -EAGAIN);
        CHECK_INT(feed.asked, 7);
        feed.pauses = 0;
        for (uint32_t i = 3; i < 20; i++)
            CHECK_INT(next_fed(map, &feed).index, i);
        CHECK_INT(end_of(map), 0);
        pp_map_close(map);
    }
    pp_pool_destroy(pool);
}

static void check_source_end(pp_pool *pool, size_t chunk_size, uint32_t count, int end, int expected)
{
    struct feed feed = {.count = count, .end = end};
    pp_map *map = open_feed(pool, &feed, (pp_map_options){.chunk_size = chunk_size});
    for (uint32_t i = 0; i < count; i++) {
        pp_map_result result = next_fed(map, &feed);
        check_square(&result, i);
    }
    CHECK_INT(end_of(map), expected);
    CHECK_HAS(pp_last_error(), "the map's source returned");
    CHECK_INT(end_of(map), 0);
    CHECK_INT(end_of(map), 0);
    CHECK_INT(feed.asked, count + 1);
    pp_map_close(map);
}

BOTH(a_sources_error_is_told_once_after_all_results)
{
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    EACH_CHUNK_SIZE(size)
    {
        check_source_end(pool, size, 0, -ENOENT, -ENOENT);
        check_source_end(pool, size, 1, -EIO, -EIO);
        check_source_end(pool, size, 100, -ETIMEDOUT, -ETIMEDOUT);
        check_source_end(pool, size, 100, -1000000, -1000000);
    }
    pp_pool_destroy(pool);
}

BOTH(a_source_that_returns_an_odd_number_has_failed)
{
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    EACH_CHUNK_SIZE(size)
    {
        check_source_end(pool, size, 0, 2, -EINVAL);
        check_source_end(pool, size, 10, 4711, -EINVAL);
    }
    pp_pool_destroy(pool);
}

struct mapper {
    pp_pool *pool;
    pp_map_options options;
    uint32_t count;
};

static void *map_squares(void *context)
{
    struct mapper *mapper = context;
    struct feed feed = {.count = mapper->count};
    pp_map *map = open_feed(mapper->pool, &feed, mapper->options);
    for (uint32_t i = 0; i < mapper->count; i++) {
        pp_map_result result = next_fed(map, &feed);
        check_square(&result, (uint32_t)result.index);
        CHECK(mapper->options.unordered || result.index == i);
    }
    CHECK_INT(end_of(map), 0);
    pp_map_close(map);
    return NULL;
}

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
    CHECK_INT(pp_map_next(map, 0, &result), -ETIMEDOUT);
    until(read_word(BEGUN) == 1);
    CHECK_INT(next_fed(map, &feed).index, 0); /* it takes all in that there are, and gives one of them */
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

/* ---------------------------------------------------------------------------------------------- scarcity */

enum { LARGE = (1 << 20) + 100 };

struct large_feed {
    uint32_t count, pulled;
    unsigned char bytes[LARGE];
};

static int next_large(void *context, pp_map_input *input)
{
    struct large_feed *feed = context;
    if (feed->pulled == feed->count)
        return 0;
    memcpy(feed->bytes, &feed->pulled, sizeof feed->pulled);
    memset(feed->bytes + LARGE - 4, (int)feed->pulled, 4);
    feed->pulled++;
    *input = (pp_map_input){.data = feed->bytes, .size = LARGE};
    return 1;
}

static void limit_descriptors(rlim_t most)
{
    struct rlimit limit;
    CHECK_INT(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = most;
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

/* Each waits in a descriptor of its own, and there are not enough for all that may be in flight. */
BOTH_WITHIN(a_map_whose_inputs_use_up_the_descriptors_goes_on_with_fewer_in_flight, 60)
{
    static struct large_feed feed = {.count = 300};
    board_make();
    pp_map *map;
    pp_pool *pool = kit_pool(method, 2);
    pp_map_result early;
    expect_usable(pool);
    limit_descriptors(300);
    behave_all(0, 2, WAIT);
    CHECK_OK(pp_map_open(pool, act, next_large, &feed, &(pp_map_options){.max_in_flight = 300}, &map));
    for (int i = 0; i < 3; i++)
        CHECK_INT(pp_map_next(map, 0, &early), -ETIMEDOUT);
    CHECK(feed.pulled > 2 && feed.pulled < 300);
    open_gate(GATE);
    for (uint32_t i = 0; i < 300; i++) {
        pp_map_result result = next_of(map);
        CHECK_INT(result.index, i);
        CHECK_INT(result.code, 0);
        CHECK_INT(value_of(&result), i * i);
        CHECK_INT(result.input_size, LARGE);
        CHECK_INT(memcmp(result.input, &i, sizeof i), 0);
        CHECK_INT(((const unsigned char *)result.input)[LARGE - 1], i % 256);
    }
    CHECK_INT(end_of(map), 0);
    pp_map_close(map);
    pp_pool_destroy(pool);
}

/* ------------------------------------------------------------------------------------------ several maps */

BOTH(two_maps_share_a_pool_in_one_thread)
{
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    struct feed feeds[2] = {{.count = 1000}, {.count = 1000}};
    pp_map *maps[2] = {open_feed(pool, &feeds[0], (pp_map_options){.chunk_size = 3}),
                       open_feed(pool, &feeds[1], (pp_map_options){.chunk_size = 50, .unordered = 1})};
    for (uint32_t i = 0; i < 1000; i++) {
        pp_map_result first = next_fed(maps[0], &feeds[0]), second = next_fed(maps[1], &feeds[1]);
        check_square(&first, i);
        check_square(&second, (uint32_t)second.index);
    }
    for (int i = 0; i < 2; i++) {
        CHECK_INT(end_of(maps[i]), 0);
        pp_map_close(maps[i]);
    }
    check_runs(0, 1000, 2);
    pp_pool_destroy(pool);
}

static void burn(uint32_t microseconds)
{
    for (uint64_t end = pp__now() + microseconds * PP__MICROSECOND; pp__now() < end;) {
    }
}

static int work(pp_task *task, const void *arg, size_t size)
{
    uint32_t microseconds;
    CHECK(size >= sizeof microseconds);
    memcpy(&microseconds, arg, sizeof microseconds);
    burn(microseconds);
    return pp_task_return(task, arg, sizeof microseconds);
}

struct younger {
    pp_pool *pool;
    _Atomic bool go;
    uint32_t given;
    uint32_t arg[750];
};

/* Two short elements, later two that are long and large; then it rests, when all have been sent. */
static int give_some(void *context, pp_map_input *input)
{
    struct younger *younger = context;
    bool large = younger->given >= 2;
    if (younger->given == 2)
        burn(80);
    if (younger->given == 4) {
        test_sleep_ms(6);
        return 0;
    }
    younger->arg[0] = large ? 150 : 30;
    younger->given++;
    input->data = younger->arg;
    input->size = large ? sizeof younger->arg : sizeof *younger->arg;
    return 1;
}

static void *map_younger(void *argument)
{
    struct younger *younger = argument;
    pp_map *map;
    pp_map_result result;
    while (!atomic_load(&younger->go)) {
    }
    burn(100);
    CHECK_OK(pp_map_open(younger->pool, work, give_some, younger,
                         &(pp_map_options){.chunk_size = 2, .max_in_flight = 1000}, &map));
    while (pp_map_next(map, -1, &result) == 1) {
    }
    pp_map_close(map);
    return NULL;
}

#define OLDER 40u

/*
 * One thread sleeps for results of a chunk, and another sends two more, which nobody waits for, behind that, so that
 * the end of the first one is none to ring for by itself. Its worker has nothing left when all three are through, and
 * rings for the oldest. It takes some rounds until all this meets.
 */
BOTH(a_chunk_that_somebody_sleeps_for_is_told_of_behind_younger_ones)
{
    pp_pool *pool = kit_pool(method, 1);
    uint32_t times[OLDER];
    for (uint32_t i = 0; i < OLDER; i++)
        times[i] = 40;
    for (int round = 0; round < 120; round++) {
        struct younger younger = {.pool = pool};
        pthread_t thread = start_thread(map_younger, &younger);
        pp_map *map;
        CHECK_OK(
            pp_map_open_array(pool, work, times, OLDER, sizeof *times, &(pp_map_options){.chunk_size = OLDER}, &map));
        for (uint32_t i = 0; i < OLDER; i++) {
            next_of(map);
            atomic_store(&younger.go, true);
        }
        pp_map_close(map);
        join_thread(thread);
    }
    pp_pool_destroy(pool);
}

BOTH(maps_of_several_threads_share_a_pool)
{
    enum { THREADS = 4, COUNT = 1500 };
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    struct mapper mappers[THREADS];
    pthread_t threads[THREADS];
    for (uint32_t i = 0; i < THREADS; i++) {
        mappers[i] = (struct mapper){pool, {.chunk_size = 1 + 6 * i, .unordered = i % 2}, COUNT};
        threads[i] = start_thread(map_squares, &mappers[i]);
    }
    for (int i = 0; i < THREADS; i++)
        join_thread(threads[i]);
    check_runs(0, COUNT, THREADS);
    pp_pool_destroy(pool);
}

/* A map may be used by one thread after the other. */
BOTH(a_closed_map_leaves_the_others_alone)
{
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    for (int round = 0; round < 20; round++) {
        struct feed feeds[2] = {{.count = 300}, {.count = 300}};
        pp_map *maps[2] = {open_feed(pool, &feeds[0], (pp_map_options){.chunk_size = 40}),
                           open_feed(pool, &feeds[1], (pp_map_options){.chunk_size = 7})};
        for (uint32_t i = 0; i < 20; i++) {
            next_fed(maps[0], &feeds[0]);
            next_fed(maps[1], &feeds[1]);
        }
        pp_map_close(maps[round % 2]);
        struct feed *left = &feeds[1 - round % 2];
        while (left->given < 300) {
            pp_map_result result = next_fed(maps[1 - round % 2], left);
            check_square(&result, left->given - 1);
        }
        CHECK_INT(end_of(maps[1 - round % 2]), 0);
        pp_map_close(maps[1 - round % 2]);
    }
    pp_pool_destroy(pool);
}

/* --------------------------------------------------------------------------------------------- misuse */

BOTH(a_map_is_refused_for_what_it_was_not_given)
{
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    pp_map *const untouched = (pp_map *)pool;
    pp_map *map = untouched;
    pp_map_result result;
    uint32_t number = 1;
    struct feed feed = {0};
    CHECK_INT(pp_map_open(NULL, act, feed_next, &feed, NULL, &map), -EINVAL);
    CHECK_INT(pp_map_open(pool, NULL, feed_next, &feed, NULL, &map), -EINVAL);
    CHECK_INT(pp_map_open(pool, act, NULL, &feed, NULL, &map), -EINVAL);
    CHECK_INT(pp_map_open(pool, act, feed_next, &feed, NULL, NULL), -EINVAL);
    CHECK_INT(pp_map_open_array(pool, act, NULL, 1, 4, NULL, &map), -EINVAL);
    CHECK_INT(pp_map_open_array(pool, act, &number, 1, 4, NULL, NULL), -EINVAL);
    CHECK_INT(pp_map_open_array(pool, act, &number, SIZE_MAX, 4, NULL, &map), -EINVAL);
    CHECK_INT(pp_map_open_array(pool, act, &number, 2, SIZE_MAX / 2 + 1, NULL, &map), -EINVAL); /* 0 bytes, it seems */
    CHECK_INT(pp_map_open(pool, act, feed_next, &feed, &(pp_map_options){.chunk_size = 65537}, &map), -EINVAL);
    CHECK_HAS(pp_last_error(), "65536");
    CHECK_INT(pp_map_open(pool, act, feed_next, &feed, &(pp_map_options){.retries = 1001}, &map), -EINVAL);
    CHECK_HAS(pp_last_error(), "1000");
    for (int i = 0; i < 2; i++) {
        pp_map_options options = {0};
        options.reserved[i] = 1;
        CHECK_INT(pp_map_open(pool, act, feed_next, &feed, &options, &map), -EINVAL);
        CHECK_HAS(pp_last_error(), "reserved");
    }
    CHECK(map == untouched);
    CHECK_INT(pp_map_next(NULL, 0, &result), -EINVAL);
    map = open_feed(pool, &feed, (pp_map_options){.chunk_size = 65536, .retries = 1000});
    CHECK_INT(pp_map_next(map, 0, NULL), -EINVAL);
    CHECK_INT(end_of(map), 0);
    pp_map_close(map);
    pp_pool_destroy(pool);
}

static int no_data(void *context, pp_map_input *input)
{
    (void)context;
    input->size = 10;
    return 1;
}

static int endless_data(void *context, pp_map_input *input)
{
    *input = (pp_map_input){.data = context, .size = SIZE_MAX - 8};
    return 1;
}

static void check_bad_input(pp_pool *pool, pp_map_source *source, size_t chunk_size)
{
    pp_map *map;
    int context = 0;
    CHECK_OK(pp_map_open(pool, echo, source, &context, &(pp_map_options){.chunk_size = chunk_size}, &map));
    CHECK_INT(end_of(map), -EINVAL);
    CHECK_HAS(pp_last_error(), "the map's source gave");
    CHECK_INT(end_of(map), 0);
    pp_map_close(map);
}

BOTH(an_input_that_can_not_be_ends_the_map)
{
    pp_pool *pool = kit_pool(method, 1);
    EACH_CHUNK_SIZE(size)
    {
        check_bad_input(pool, no_data, size);
        check_bad_input(pool, endless_data, size);
    }
    pp_pool_destroy(pool);
}

/* The bytes of one empty element are nowhere. */
BOTH(elements_of_no_bytes_are_elements_too)
{
    pp_map *map;
    pp_pool *pool = kit_pool(method, 2);
    EACH_CHUNK_SIZE(size)
    {
        CHECK_OK(pp_map_open_array(pool, echo, NULL, 100, 0, &(pp_map_options){.chunk_size = size}, &map));
        for (uint32_t i = 0; i < 100; i++) {
            pp_map_result result = next_of(map);
            CHECK_INT(result.index, i);
            CHECK_INT(result.code, 0);
            CHECK_INT(result.size, 0);
            CHECK_INT(result.input_size, 0);
            CHECK(result.data != NULL && result.input != NULL);
        }
        CHECK_INT(end_of(map), 0);
        pp_map_close(map);
    }
    pp_pool_destroy(pool);
}

TEST(a_forked_child_can_do_nothing_with_its_parents_map)
{
    board_make();
    pp_pool *pool = kit_pool(PP_START_FORK, 2);
    struct feed feed = {.count = 100};
    pp_map *map = open_feed(pool, &feed, (pp_map_options){.chunk_size = 7});
    next_fed(map, &feed);
    pid_t child = fork();
    if (child == 0) {
        pp_map_result result;
        pp_map *other;
        CHECK_INT(pp_map_next(map, -1, &result), -EPERM);
        CHECK_INT(pp_map_open(pool, act, feed_next, &feed, NULL, &other), -EPERM);
        CHECK_INT(pp_map_open_array(pool, act, &feed, 1, 1, NULL, &other), -EPERM);
        CHECK_INT(pp_map_array(pool, act, &feed, 1, 1, &feed, 1, NULL), -EPERM);
        pp_map_close(map);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK_INT(status, 0);
    while (feed.given < 100) {
        pp_map_result result = next_fed(map, &feed);
        check_square(&result, feed.given - 1);
    }
    CHECK_INT(end_of(map), 0);
    pp_map_close(map);
    pp_pool_destroy(pool);
}
