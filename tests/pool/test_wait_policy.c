/* SPDX-License-Identifier: MIT */
/* What waiting costs, and that a pool whose waits only sleep works like any other. */
#include "map_kit.h"

#include <sys/resource.h>

#include "lost_kit.h"

static pp_pool *open_sleeper(pp_start_method method, int workers)
{
    return kit_pool_with(method, (pp_pool_options){.max_workers = workers, .wait = PP_WAIT_SLEEP});
}

/* ---------------------------------------------------------------------------------------- it works like any other */

BOTH(calls_are_answered_where_waits_only_sleep)
{
    enum { COUNT = 300 };
    pp_future *futures[COUNT];
    board_make();
    pp_pool *pool = open_sleeper(method, 2);
    for (uint32_t i = 0; i < COUNT; i++) /* one after the other */
        expect_usable(pool);
    for (uint32_t i = 0; i < COUNT; i++) /* all at once */
        futures[i] = submit_u32(pool, echo, i);
    for (uint32_t i = 0; i < COUNT; i++) {
        CHECK_INT(result_u32(futures[i]), i);
        pp_future_unref(futures[i]);
    }
    pp_future *bad = submit(pool, crash, NULL, 0);
    expect_end(bad, -EOWNERDEAD);
    expect_usable(pool);
    pp_pool_destroy(pool);
}

BOTH(maps_give_all_results_where_waits_only_sleep)
{
    enum { COUNT = 1000 };
    board_make();
    pp_pool *pool = open_sleeper(method, 2);
    uint32_t *numbers = make_numbers(COUNT);
    for (size_t size = 1; size <= 64; size *= 8) {
        pp_map *map;
        CHECK_OK(
            pp_map_open_array(pool, act, numbers, COUNT, sizeof *numbers, &(pp_map_options){.chunk_size = size}, &map));
        for (uint32_t i = 0; i < COUNT; i++) {
            pp_map_result result = next_of(map);
            CHECK_INT(result.index, i);
            check_square(&result, i);
        }
        CHECK_INT(end_of(map), 0);
        pp_map_close(map);
    }
    pp_pool_destroy(pool);
    free(numbers);
}

BOTH(calls_are_cancelled_where_waits_only_sleep)
{
    enum { COUNT = 100 };
    pp_future *running, *behind[COUNT];
    board_make();
    pp_pool *pool = open_sleeper(method, 1);
    occupy(pool, BEGUN, GATE, 1, &running);
    for (uint32_t i = 0; i < COUNT; i++)
        behind[i] = submit_u32(pool, count_run, FIRST_RUN);
    CHECK_INT(pp_future_cancel(running), -EBUSY);
    for (uint32_t i = 0; i < COUNT; i += 2)
        CHECK_OK(pp_future_cancel(behind[i]));
    open_gate(GATE);
    for (uint32_t i = 0; i < COUNT; i++)
        expect_end(behind[i], i % 2 ? 0 : -ECANCELED);
    expect_end(running, 0);
    CHECK_INT(read_word(FIRST_RUN), COUNT / 2);
    pp_pool_destroy(pool);
}

/* --------------------------------------------------------------------------------------------- what it costs */

/* Seconds of processor time: this process's, and the worker's. */
static double time_spent(pid_t worker)
{
    struct rusage usage;
    struct timespec its = {0};
    clockid_t clock;
    CHECK_INT(getrusage(RUSAGE_SELF, &usage), 0);
    CHECK_INT(clock_getcpuclockid(worker, &clock), 0);
    CHECK_INT(clock_gettime(clock, &its), 0);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + its.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6 + (double)its.tv_nsec / 1e9;
}

static int doze(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    test_sleep_ms(200);
    return 0;
}

/* The elements of a chunk sleep, too: who waits for each of them looks now and then. */
static void wait_in_a_map(pp_pool *pool)
{
    static const uint32_t numbers[2] = {0};
    pp_map *map;
    pp_map_result result;
    const pp_map_options options = {.chunk_size = 2};
    CHECK_OK(pp_map_open_array(pool, doze, numbers, 2, sizeof *numbers, &options, &map));
    while (pp_map_next(map, -1, &result) == 1)
        CHECK_INT(result.code, 0);
    pp_map_close(map);
}

static void wait_for_a_call(pp_pool *pool)
{
    expect_end(submit(pool, doze, NULL, 0), 0);
}

static void wait_for_nothing(pp_pool *pool)
{
    (void)pool;
    test_sleep_ms(200);
}

static void check_thrift(pp_start_method method, void (*wait)(pp_pool *pool))
{
    for (pp_wait_policy policy = PP_WAIT_ADAPTIVE; policy <= PP_WAIT_SLEEP; policy++) {
        pid_t pids[2];
        pp_pool *pool = kit_pool_with(method, (pp_pool_options){.max_workers = 1, .wait = policy});
        for (int i = 0; i < 200; i++) /* until it has learned what waiting is good for */
            expect_usable(pool);
        pp_future *future = submit(pool, who, NULL, 0);
        CHECK_OK(pp_future_result(future, -1, pids, sizeof pids, NULL));
        pp_future_unref(future);
        double begun = test_seconds(), before = time_spent(pids[0]);
        wait(pool);
        double spent = time_spent(pids[0]) - before, elapsed = test_seconds() - begun;
        printf("policy %d: %.6f s of %.6f s\n", (int)policy, spent, elapsed);
        CHECK(spent < elapsed / 2);
        pp_pool_destroy(pool);
    }
}

BOTH(an_idle_pool_spends_next_to_no_processor_time)
{
    check_thrift(method, wait_for_nothing);
}

BOTH(waiting_for_a_call_that_sleeps_spends_next_to_no_processor_time)
{
    check_thrift(method, wait_for_a_call);
}

BOTH(waiting_for_a_map_whose_elements_sleep_spends_next_to_no_processor_time)
{
    check_thrift(method, wait_in_a_map);
}
