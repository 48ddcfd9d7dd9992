/* SPDX-License-Identifier: MIT */
/* Pools that get another number of workers while they work. */
#include "processes_kit.h"

#include <time.h>

#include "lost_kit.h"

enum { GATE = 1, ENDS = 40 };

static int note_end(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    shared()->words[ENDS]++;
    return 0;
}

/* Runs alone under its number, waits at the gate, and tells that. */
static int task_number(pp_task *task, const void *arg, size_t size)
{
    int number = pp_task_worker(task);
    if (shared()->number[number]++ != 0)
        return pp_task_fail(task, -EBUSY, "two run as worker %d", number);
    if (size > 0)
        gate_wait(read_int(arg));
    shared()->number[number]--;
    return pp_task_return(task, &number, sizeof number);
}

static void occupy_numbers(pp_pool *pool, int gate, int count, pp_future **futures)
{
    for (int i = 0; i < count; i++)
        futures[i] = submit_int(pool, task_number, gate);
    gate_wait_arrived(gate, (uint32_t)count);
}

BOTH(a_pool_that_grows_runs_more_at_once)
{
    pp_future *futures[4];
    pp_pool *pool = open_workers(1, method);
    for (int i = 0; i < 4; i++)
        futures[i] = submit_int(pool, task_number, GATE);
    gate_wait_arrived(GATE, 1);
    test_sleep_ms(20);
    CHECK_INT(shared()->arrived[GATE], 1);
    CHECK_OK(pp_pool_resize(pool, 4));
    gate_wait_arrived(GATE, 4);
    gate_open(GATE);
    for (int i = 0; i < 4; i++)
        CHECK(take_int(futures[i]) < 4);
    pp_pool_destroy(pool);
}

BOTH(a_pool_that_shrinks_lets_what_runs_end_and_gives_what_waits_to_others)
{
    pp_future *running[4], *waiting[40];
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 4, .finalizer = note_end}, method);
    occupy_numbers(pool, GATE, 4, running);
    for (int i = 0; i < 40; i++)
        waiting[i] = submit(pool, task_number, NULL, 0);
    CHECK_OK(pp_pool_resize(pool, 1));
    CHECK_INT(shared()->words[ENDS], 0);
    for (int i = 0; i < 4; i++)
        CHECK_INT(pp_future_state(running[i]), PP_RUNNING);
    gate_open(GATE);
    for (int i = 0; i < 4; i++)
        CHECK(take_int(running[i]) < 4);
    for (int i = 0; i < 40; i++)
        CHECK_INT(take_int(waiting[i]), 0);
    until(shared()->words[ENDS] == 3);
    CHECK_INT(take_int(submit(pool, task_number, NULL, 0)), 0);
    pp_pool_destroy(pool);
    CHECK_INT(shared()->words[ENDS], 4);
}

BOTH(idle_workers_that_are_too_many_leave)
{
    pid_t pids[3];
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 3, .finalizer = note_end}, method);
    start_workers(pool, GATE, 3, pids);
    CHECK_OK(pp_pool_resize(pool, 2));
    until(is_gone(pids[0]) + is_gone(pids[1]) + is_gone(pids[2]) == 1);
    CHECK_INT(shared()->words[ENDS], 1);
    pp_pool_destroy(pool);
}

/* Those that still run are the workers of their numbers again. */
BOTH(a_pool_that_shrinks_and_grows_again_has_each_number_once)
{
    pp_future *first[3], *second[3];
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 3, .finalizer = note_end}, method);
    occupy_numbers(pool, GATE, 3, first);
    CHECK_OK(pp_pool_resize(pool, 1));
    CHECK_OK(pp_pool_resize(pool, 3));
    for (int i = 0; i < 3; i++)
        second[i] = submit(pool, task_number, NULL, 0);
    test_sleep_ms(20);
    gate_open(GATE);
    for (int i = 0; i < 3; i++) {
        CHECK(take_int(first[i]) < 3);
        CHECK(take_int(second[i]) < 3);
    }
    CHECK_INT(shared()->words[ENDS], 0);
    pp_pool_destroy(pool);
    CHECK_INT(shared()->words[ENDS], 3);
}

static void shrink_and_grow_after_last_calls(pp_start_method method, bool successors_ready)
{
    pp_future *first[2], *second[4];
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 2, .max_tasks = 1}, method);
    occupy_numbers(pool, GATE, 2, first);
    if (successors_ready)
        CHECK_INT(pp_future_wait(first[0], 300), -ETIMEDOUT); /* meanwhile they are started */
    CHECK_OK(pp_pool_resize(pool, 1));
    CHECK_OK(pp_pool_resize(pool, 2));
    for (int i = 0; i < 4; i++)
        second[i] = submit(pool, task_number, NULL, 0);
    CHECK_INT(pp_future_wait(second[0], 300), -ETIMEDOUT);
    gate_open(GATE);
    for (int i = 0; i < 2; i++)
        CHECK(take_int(first[i]) < 2);
    for (int i = 0; i < 4; i++)
        CHECK(take_int(second[i]) < 2);
    pp_pool_destroy(pool);
}

/* Each number is still that of the worker which runs its last call. */
BOTH(a_pool_that_shrinks_and_grows_again_has_each_number_once_though_its_workers_have_had_their_calls)
{
    shrink_and_grow_after_last_calls(method, false);
}

/* A successor that was on its way, or ready, does not get the place before it. */
BOTH(a_pool_that_shrinks_and_grows_again_has_each_number_once_though_successors_are_ready)
{
    shrink_and_grow_after_last_calls(method, true);
}

/* The worker that is too many has begun a chunk: it ends the element that runs, the rest is run by the other. */
static int task_in_chunk(pp_task *task, const void *arg, size_t size)
{
    int number = pp_task_worker(task), value = read_int(arg);
    (void)size;
    if (value % 50 == 0)
        gate_wait(GATE);
    shared()->runs[value] = (uint32_t)number + 1;
    return pp_task_return(task, &value, sizeof value);
}

BOTH(a_chunk_of_a_worker_that_is_too_many_goes_on_elsewhere)
{
    int inputs[100];
    pp_map *map;
    pp_map_result result;
    pp_pool *pool = open_workers(2, method);
    pid_t pids[2];
    start_workers(pool, 2, 2, pids);
    for (int i = 0; i < 100; i++)
        inputs[i] = i;
    CHECK_OK(
        pp_map_open_array(pool, task_in_chunk, inputs, 100, sizeof *inputs, &(pp_map_options){.chunk_size = 50}, &map));
    CHECK_INT(pp_map_next(map, 10, &result), -ETIMEDOUT);
    gate_wait_arrived(GATE, 2);
    CHECK_OK(pp_pool_resize(pool, 1));
    gate_open(GATE);
    for (int i = 0; i < 100; i++) {
        CHECK_INT(pp_map_next(map, -1, &result), 1);
        CHECK_INT(result.code, 0);
        CHECK_INT(read_int(result.data), i);
    }
    pp_map_close(map);
    int by_second = 0;
    for (int i = 0; i < 100; i++)
        by_second += shared()->runs[i] == 2;
    CHECK_INT(by_second, 1);
    pp_pool_destroy(pool);
}

static int64_t microseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000) + now.tv_nsec / 1000;
}

struct begin {
    int64_t at;
    int worker;
};

static int task_begin(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    struct begin begin = {microseconds(), pp_task_worker(task)};
    while (microseconds() < begin.at + 50)
        sched_yield();
    return pp_task_return(task, &begin, sizeof begin);
}

/* How many calls worker 1 has begun after the pool was to have but one. The first may have been begun before that, and
 * have said so afterwards. */
static int begun_too_late(pp_pool *pool, pp_future **futures, int count)
{
    int late = 0;
    CHECK_OK(pp_pool_resize(pool, 1));
    int64_t resized = microseconds();
    for (int i = 0; i < count; i++) {
        struct begin begin;
        CHECK_OK(pp_future_result(futures[i], -1, &begin, sizeof begin, NULL));
        late += begin.worker == 1 && begin.at > resized;
        pp_future_unref(futures[i]);
    }
    return late;
}

BOTH_WITHIN(short_calls_that_were_handed_to_a_worker_that_is_too_many_run_elsewhere, 60)
{
    pp_future *futures[100];
    pp_pool *pool = open_workers(2, method);
    for (int round = 0; round < 20; round++) {
        CHECK_OK(pp_pool_resize(pool, 2));
        for (int i = 0; i < 100; i++)
            futures[i] = submit(pool, task_begin, NULL, 0);
        until(pp_future_state(futures[10]) == PP_FINISHED);
        CHECK(begun_too_late(pool, futures, 100) <= 1);
    }
    pp_pool_destroy(pool);
}

static _Atomic bool over;

static void *resize_always(void *pool)
{
    for (int i = 0; !over; i++) {
        CHECK_OK(pp_pool_resize(pool, 1 + i % 4));
        test_sleep_ms((unsigned)i % 3);
    }
    return NULL;
}

BOTH_WITHIN(no_call_is_lost_while_the_number_changes_all_the_time, 60)
{
    pp_pool *pool = open_pool(
        (pp_pool_options){.max_workers = 2, .max_tasks = 40, .idle_timeout = 2, .finalizer = note_end}, method);
    pthread_t thread = start_thread(resize_always, pool);
    for (int round = 0; round < TEST_ROUNDS(40, 6); round++) {
        pp_future *futures[50];
        for (int i = 0; i < 50; i++)
            futures[i] = i == 25 && round % 4 == 0 ? submit(pool, crash, NULL, 0) : submit_int(pool, task_square, i);
        for (int i = 0; i < 50; i++) {
            if (i == 25 && round % 4 == 0)
                drop_failed(futures[i], PP_ERROR_CRASH);
            else
                CHECK_INT(take_int(futures[i]), i * i);
        }
    }
    over = true;
    join_thread(thread);
    pp_pool_destroy(pool);
}

BOTH(numbers_that_can_not_be_are_refused_and_nothing_changes)
{
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 2, .min_workers = 2}, method);
    CHECK_INT(pp_pool_resize(NULL, 1), -EINVAL);
    CHECK_INT(pp_pool_resize(pool, -1), -EINVAL);
    CHECK_INT(pp_pool_resize(pool, 1025), -EINVAL);
    CHECK_HAS(pp_last_error(), "max_workers");
    CHECK_INT(pp_pool_resize(pool, 1), -EINVAL);
    CHECK_HAS(pp_last_error(), "min_workers");
    CHECK_OK(pp_pool_resize(pool, 1024));
    CHECK_INT(take_int(submit_int(pool, task_square, 3)), 9);
    CHECK_OK(pp_pool_shutdown(pool, 0, -1));
    CHECK_INT(pp_pool_resize(pool, 2), -ESHUTDOWN);
    pp_pool_destroy(pool);
}

BOTH(a_broken_pool_and_a_forked_childs_keep_their_number)
{
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 1, .on_crash = PP_BREAK_POOL}, method);
    pid_t child = fork();
    if (child == 0)
        _exit(pp_pool_resize(pool, 2) == -EPERM ? 0 : 1);
    CHECK_INT(wait_for(child), 0);
    drop_failed(submit(pool, crash, NULL, 0), PP_ERROR_BROKEN);
    CHECK_INT(pp_pool_resize(pool, 2), -ENOTRECOVERABLE);
    pp_pool_destroy(pool);
}

/* What max_workers of 0 means. */
BOTH(without_a_number_there_are_as_many_workers_as_usable_processors)
{
    pp_future *futures[64];
    int usable = pp_usable_processors() < 8 ? pp_usable_processors() : 8;
    pp_pool *pool = open_workers(1, method);
    CHECK_OK(pp_pool_resize(pool, 0));
    occupy_numbers(pool, GATE, usable, futures);
    gate_open(GATE);
    for (int i = 0; i < usable; i++)
        CHECK(take_int(futures[i]) < usable || usable == 8);
    pp_pool_destroy(pool);
}

TEST(an_inline_pool_has_nothing_to_resize)
{
    pp_pool *pool = kit_pool(PP_START_INLINE, 1);
    CHECK_OK(pp_pool_resize(pool, 4));
    expect_usable(pool);
    pp_pool_destroy(pool);
}
