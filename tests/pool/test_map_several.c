/* SPDX-License-Identifier: MIT */
/* Several maps that share a pool, in one thread and in several. */
#include "base/clock.h"
#include "map_kit.h"

#include "lost_kit.h"

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
