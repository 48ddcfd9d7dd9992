/* SPDX-License-Identifier: MIT */
/* Maps of inline pools. */
#include "inline_kit.h"

EITHER(a_map_gives_each_result)
{
    static const size_t chunk_sizes[] = {1, 7, 1024};
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    for (uint32_t round = 0; round < 6; round++) {
        struct feed feed = {.count = 2000};
        pp_map *map =
            open_feed(pool, &feed, (pp_map_options){.chunk_size = chunk_sizes[round % 3], .unordered = round / 3});
        for (uint32_t i = 0; i < 2000; i++) {
            pp_map_result result = next_fed(map, &feed);
            CHECK_INT(result.index, i);
            check_square(&result, i);
        }
        CHECK_INT(end_of(map), 0);
        CHECK_INT(feed.asked, 2001);
        CHECK(feed.most <= 8 * chunk_sizes[round % 3]);
        pp_map_close(map);
        check_runs(0, 2000, round + 1);
    }
    pp_pool_destroy(pool);
}

TEST(a_chunk_of_65536_elements_is_a_chunk)
{
    board_make();
    struct feed feed = {.count = MOST_ELEMENTS};
    pp_pool *pool = inline_pool((pp_pool_options){0});
    pp_map *map = open_feed(pool, &feed, (pp_map_options){.chunk_size = 65536});
    for (uint32_t i = 0; i < MOST_ELEMENTS; i++) {
        pp_map_result result = next_fed(map, &feed);
        check_square(&result, i);
    }
    CHECK_INT(end_of(map), 0);
    pp_map_close(map);
    pp_pool_destroy(pool);
}

TEST(a_map_runs_no_further_than_it_is_asked)
{
    board_make();
    struct feed feed = {.count = 2000};
    pp_pool *pool = inline_pool((pp_pool_options){.max_workers = 2});
    pp_map *map = open_feed(pool, &feed, (pp_map_options){.chunk_size = 100});
    for (uint32_t i = 0; i < 50; i++) {
        next_fed(map, &feed);
        CHECK_INT(runs_between(0, 2000), i + 1);
    }
    pp_map_close(map);
    expect_usable(pool);
    CHECK_INT(runs_between(0, 2000), 50);
    pp_pool_destroy(pool);
}

TEST(failed_elements_fail_alone_and_fail_fast_ends_a_map)
{
    static const size_t chunk_sizes[] = {1, 7, 1024};
    board_make();
    pp_pool *pool = inline_pool((pp_pool_options){0});
    behave(10, FAIL);
    for (uint32_t round = 0; round < 6; round++) {
        bool fast = round >= 3;
        struct feed feed = {.count = 100};
        pp_map *map =
            open_feed(pool, &feed,
                      (pp_map_options){.chunk_size = chunk_sizes[round % 3], .fail_fast = fast, .max_in_flight = 60});
        uint32_t end = fast ? 11 : 100;
        for (uint32_t i = 0; i < end; i++) {
            pp_map_result result = next_fed(map, &feed);
            CHECK_INT(result.index, i);
            if (i == 10)
                check_failed(&result, PP_ERROR_TASK, -EREMOTEIO);
            else
                check_square(&result, i);
        }
        CHECK_INT(end_of(map), 0);
        pp_map_close(map);
        expect_usable(pool);
        check_runs(0, 11, round + 1);
        check_runs(11, 100, round < 3 ? round + 1 : 3);
    }
    pp_pool_destroy(pool);
}

TEST(a_parallel_loop_is_a_loop)
{
    enum { COUNT = 2000 };
    static uint32_t in[COUNT], out[COUNT];
    board_make();
    pp_pool *pool = inline_pool((pp_pool_options){0});
    for (uint32_t i = 0; i < COUNT; i++)
        in[i] = i;
    behave(7, FAIL);
    behave(1900, FAIL);
    out[7] = 4711;
    CHECK_INT(pp_map_array(pool, act, in, COUNT, 4, out, 4, NULL), 2);
    CHECK_STR(pp_last_error(), "element 7: element 7 refuses");
    for (uint32_t i = 0; i < COUNT; i++)
        CHECK(out[i] == (i == 7 ? 4711 : i == 1900 ? 0 : i * i));
    CHECK_INT(pp_map_array(pool, act, in, COUNT, 4, out, 4, &(pp_map_options){.fail_fast = 1}), COUNT - 7);
    check_runs(8, COUNT, 1);
    pp_pool_destroy(pool);
}

TEST(inputs_and_results_of_a_map_are_of_any_size)
{
    pp_map *map;
    pp_map_result result;
    static char elements[5][700001];
    pp_pool *pool = inline_pool((pp_pool_options){0});
    for (int i = 0; i < 5; i++)
        memset(elements[i], i + 1, sizeof elements[i]);
    CHECK_OK(pp_map_open_array(pool, reflect, elements, 5, sizeof *elements, &(pp_map_options){.chunk_size = 3}, &map));
    for (int i = 0; i < 5; i++) {
        result = next_of(map);
        CHECK_INT(result.code, 0);
        CHECK_INT(result.size, sizeof *elements);
        CHECK_INT(memcmp(result.input, elements[i], sizeof *elements), 0);
        for (size_t k = 0; k < result.size; k++)
            CHECK(((const char *)result.data)[k] == ((i + 1) ^ 0x55));
    }
    CHECK_INT(end_of(map), 0);
    pp_map_close(map);
    pp_pool_destroy(pool);
}

static pp_future *the_future;

static void *wait_for_the_future(void *unused)
{
    (void)unused;
    CHECK_OK(pp_future_wait(the_future, -1));
    return NULL;
}

/* Another thread, which waits for a call behind the map's, runs the map's second element when the map is closed. */
TEST(what_has_not_begun_when_a_map_is_closed_never_runs)
{
    static const size_t chunk_sizes[] = {1, 7, 50};
    enum { COUNT = 50 };
    board_make();
    behave(1, WAIT);
    for (int i = 0; i < 3; i++) {
        struct feed feed = {.count = COUNT};
        pp_pool *pool = inline_pool((pp_pool_options){.max_workers = 1});
        uint32_t before = runs_between(0, COUNT);
        atomic_store(word(GATE), 0);
        atomic_store(word(BEGUN), 0);
        pp_map *map = open_feed(pool, &feed, (pp_map_options){.chunk_size = chunk_sizes[i], .max_in_flight = COUNT});
        next_fed(map, &feed); /* now all are pulled, and one has run */
        the_future = submit(pool, nothing, NULL, 0);
        pthread_t thread = start_thread(wait_for_the_future, NULL);
        until(read_word(BEGUN) == 1);
        pp_map_close(map);
        open_gate(GATE);
        join_thread(thread);
        CHECK_INT(runs_between(0, COUNT), before + 2);
        pp_future_unref(the_future);
        pp_pool_destroy(pool);
        CHECK_INT(runs_between(0, COUNT), before + 2);
    }
}

static void *wait_cancelled(void *unused)
{
    (void)unused;
    CHECK_OK(pp_future_wait(the_future, -1));
    CHECK_INT(pp_future_state(the_future), PP_CANCELLED_AND_NOTIFIED);
    return NULL;
}

/* The chunk whose second element runs in another thread loses those behind it. */
TEST(a_shutdown_that_cancels_ends_a_chunk_behind_the_element_that_runs)
{
    static const size_t chunk_sizes[] = {1, 7, 50};
    enum { COUNT = 50 };
    board_make();
    for (int i = 0; i < 3; i++) {
        struct feed feed = {.count = COUNT};
        pp_pool *pool = inline_pool((pp_pool_options){.max_workers = 1});
        uint32_t before = runs_between(0, COUNT);
        atomic_store(word(GATE), 0);
        atomic_store(word(BEGUN), 0);
        behave(1, WAIT);
        pp_map *map = open_feed(pool, &feed, (pp_map_options){.chunk_size = chunk_sizes[i], .max_in_flight = COUNT});
        next_fed(map, &feed);
        the_future = submit(pool, nothing, NULL, 0);
        pthread_t thread = start_thread(wait_cancelled, NULL);
        until(read_word(BEGUN) == 1);
        CHECK_INT(pp_pool_shutdown(pool, PP_CANCEL_PENDING, 0), -ETIMEDOUT);
        open_gate(GATE);
        join_thread(thread);
        pp_map_result result = next_fed(map, &feed);
        check_square(&result, 1);
        while (feed.given < feed.pulled) {
            result = next_fed(map, &feed);
            check_failed(&result, PP_ERROR_CANCELLED, -ECANCELED);
        }
        CHECK_INT(runs_between(0, COUNT), before + 2);
        pp_map_close(map);
        CHECK_INT(pp_pool_shutdown(pool, 0, -1), 0);
        pp_future_unref(the_future);
        pp_pool_destroy(pool);
    }
}
