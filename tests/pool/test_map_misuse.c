/* SPDX-License-Identifier: MIT */
/* Maps that can not be: what is refused, and inputs that are none. */
#include "map_kit.h"
#include "map_sizes_kit.h"

#include "lost_kit.h"

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
