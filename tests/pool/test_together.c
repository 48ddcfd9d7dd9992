/* SPDX-License-Identifier: MIT */
/*
 * Elements that are very short are begun some at a time. What one of them does is its own affair all the same.
 *
 * How short they are is nothing that a machine can be relied on for, so the clock stands still in this program's
 * workers when it is told to.
 */
#include "map_kit.h"

#include <sys/syscall.h>
#include <time.h>

enum { ELEMENTS = 2000, ODD = 1500, TOGETHER = 16, STILL = FIRST_BEHAVIOUR - 1 };

static pid_t owner;

/* In libc's place for all that is linked here. */
int clock_gettime(clockid_t clock, struct timespec *time)
{
    static struct timespec stands;
    if (owner == 0 || getpid() == owner || !read_word(STILL))
        return (int)syscall(SYS_clock_gettime, clock, time);
    if (stands.tv_sec == 0 && syscall(SYS_clock_gettime, clock, &stands) != 0)
        return -1;
    *time = stands;
    return 0;
}

static pp_pool *still_pool(pp_pool_options options)
{
    board_make();
    owner = getpid();
    atomic_store(word(STILL), 1);
    return kit_pool_with(PP_START_FORK, options);
}

static pp_map *open_numbers(pp_pool *pool, pp_function *function, uint32_t from, uint32_t count, pp_map_options options)
{
    static uint32_t numbers[ELEMENTS];
    pp_map *map;
    for (uint32_t i = 0; i < count; i++)
        numbers[i] = from + i;
    options.chunk_size = count;
    CHECK_OK(pp_map_open_array(pool, function, numbers, count, sizeof *numbers, &options, &map));
    return map;
}

static pp_map *open_chunk(pp_pool *pool, enum behaviour odd, pp_map_options options)
{
    behave(ODD, odd);
    return open_numbers(pool, act, 0, ELEMENTS, options);
}

/* As act, but ODD closes all that it can, the worker's socket with it, and has a result that needs one. */
static int act_and_close(pp_task *task, const void *arg, size_t size)
{
    uint32_t number;
    memcpy(&number, arg, sizeof number);
    int code = act(task, arg, size);
    if (code || number != ODD)
        return code;
    void *result = pp_task_reserve(task, 1 << 20);
    close_range(3, ~0u, 0);
    return result ? 0 : -ENOMEM;
}

/* Another function. */
static int act_too(pp_task *task, const void *arg, size_t size)
{
    return act(task, arg, size);
}

/* All but ODD give their result, and each has run once. */
static void expect_odd(pp_map *map, pp_error_kind kind, int code)
{
    for (uint32_t i = 0; i < ELEMENTS; i++) {
        pp_map_result result = next_of(map);
        CHECK_INT(result.index, i);
        if (i == ODD && code)
            check_failed(&result, kind, code);
        else
            check_square(&result, i);
    }
    CHECK_INT(end_of(map), 0);
    pp_map_close(map);
    check_runs(0, ELEMENTS, 1);
}

TEST(a_crash_among_elements_that_were_begun_together_costs_the_one_that_ran)
{
    pp_pool *pool = still_pool((pp_pool_options){.max_workers = 1});
    expect_odd(open_chunk(pool, CRASH, (pp_map_options){0}), PP_ERROR_CRASH, -EOWNERDEAD);
    pp_pool_destroy(pool);
}

TEST(an_element_that_closes_what_its_worker_needs_costs_itself_and_none_that_was_begun_with_it)
{
    pp_pool *pool = still_pool((pp_pool_options){.max_workers = 1, .on_crash = PP_BREAK_POOL});
    expect_odd(open_numbers(pool, act_and_close, 0, ELEMENTS, (pp_map_options){0}), PP_ERROR_TRAVEL, -EBADMSG);
    expect_usable(pool);
    pp_pool_destroy(pool);
}

TEST(a_pool_that_breaks_for_a_crash_does_so_for_one_among_elements_that_were_begun_together)
{
    pp_pool *pool = still_pool((pp_pool_options){.max_workers = 1, .on_crash = PP_BREAK_POOL});
    pp_map *map = open_chunk(pool, CRASH, (pp_map_options){0});
    pp_map_result result;
    do
        result = next_of(map);
    while (!result.code);
    CHECK_INT(result.index, ODD);
    CHECK_INT(result.code, -ENOTRECOVERABLE);
    pp_map_close(map);
    pp_pool_destroy(pool);
}

TEST(a_map_that_is_closed_runs_no_more_than_what_was_begun_together)
{
    pp_pool *pool = still_pool((pp_pool_options){.max_workers = 1});
    pp_map *map = open_chunk(pool, WAIT, (pp_map_options){0});
    for (uint32_t i = 0; i < ODD; i++)
        next_of(map);
    until(read_word(BEGUN) == 1);
    pp_map_close(map);
    open_gate(GATE);
    expect_usable(pool);
    pp_pool_destroy(pool);
    uint32_t with = runs_between(ODD + 1, ELEMENTS);
    CHECK(with > 0); /* or none was begun with it */
    CHECK(with < TOGETHER);
    check_runs(0, ODD + with + 1, 1);
}

TEST(that_elements_of_one_function_are_short_says_nothing_of_anothers)
{
    pp_pool *pool = still_pool((pp_pool_options){.max_workers = 1});
    expect_odd(open_chunk(pool, ANSWER, (pp_map_options){0}), 0, 0);
    behave(ELEMENTS, WAIT);
    pp_map *map = open_numbers(pool, act_too, ELEMENTS, TOGETHER, (pp_map_options){0});
    pp_map_result result;
    CHECK_INT(pp_map_next(map, 0, &result), -ETIMEDOUT);
    until(read_word(BEGUN) == 1);
    pp_map_close(map);
    open_gate(GATE);
    expect_usable(pool);
    pp_pool_destroy(pool);
    CHECK_INT(runs_between(ELEMENTS, ELEMENTS + TOGETHER), 1);
}

TEST(elements_with_a_time_limit_are_begun_one_by_one)
{
    pp_pool *pool = still_pool((pp_pool_options){.max_workers = 1});
    expect_odd(open_chunk(pool, HANG, (pp_map_options){.timeout = 200}), PP_ERROR_TIMEOUT, -ETIME);
    pp_pool_destroy(pool);
}
