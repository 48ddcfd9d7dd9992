/* SPDX-License-Identifier: MIT */
/* What a map's source may do: call and map itself, pause, fail, and give more than there are descriptors for. */
#include "map_kit.h"
#include "map_sizes_kit.h"

#include <sys/resource.h>

#include "lost_kit.h"

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
