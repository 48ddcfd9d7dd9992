/* SPDX-License-Identifier: MIT */
/* The inline method's ends: shutdown, cancel and close while calls wait, and while another thread runs one. */
#include "call_kit.h"

enum { BEGUN, GATE, RUNS, STARTED, FINALIZED };

static int note_start(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    add(STARTED);
    return 0;
}

static int note_end(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    add(FINALIZED);
    return 0;
}

static pp_pool *pool_with_duties(void)
{
    return kit_pool_with(PP_START_INLINE, (pp_pool_options){.initializer = note_start, .finalizer = note_end});
}

TEST(a_shutdown_runs_what_was_accepted_and_then_the_finalizer)
{
    board_make();
    pp_pool *pool = pool_with_duties();
    pp_future *futures[10];
    for (int i = 0; i < 10; i++)
        futures[i] = submit_u32(pool, count_run, RUNS);
    CHECK_OK(pp_pool_shutdown(pool, 0, -1));
    CHECK_INT(read_word(RUNS), 10);
    CHECK_INT(read_word(STARTED), 1);
    CHECK_INT(read_word(FINALIZED), 1);
    for (int i = 0; i < 10; i++)
        expect_end(futures[i], 0);
    CHECK_INT(pp_submit(pool, nothing, NULL, 0, NULL), -ESHUTDOWN);
    pp_pool_destroy(pool);
    CHECK_INT(read_word(FINALIZED), 1);
}

TEST(a_destroy_runs_what_was_accepted_also_without_futures)
{
    board_make();
    pp_pool *pool = pool_with_duties();
    uint32_t place = RUNS;
    for (int i = 0; i < 10; i++)
        CHECK_OK(pp_submit(pool, count_run, &place, sizeof place, NULL));
    pp_pool_destroy(pool);
    CHECK_INT(read_word(RUNS), 10);
    CHECK_INT(read_word(FINALIZED), 1);
}

TEST(a_shutdown_that_cancels_runs_nothing)
{
    board_make();
    pp_pool *pool = pool_with_duties();
    pp_future *futures[10];
    for (int i = 0; i < 10; i++)
        futures[i] = submit_u32(pool, count_run, RUNS);
    CHECK_OK(pp_pool_shutdown(pool, PP_CANCEL_PENDING, 0));
    for (int i = 0; i < 10; i++)
        expect_end(futures[i], -ECANCELED);
    pp_pool_destroy(pool);
    CHECK_INT(read_word(RUNS), 0);
    CHECK_INT(read_word(STARTED), 0);
    CHECK_INT(read_word(FINALIZED), 0);
}

/* ---------------------------------------------------------------------------- while another thread runs one */

static void *wait_done(void *future)
{
    CHECK_OK(pp_future_wait(future, -1));
    return NULL;
}

TEST(a_shutdown_waits_for_the_call_that_another_thread_runs)
{
    board_make();
    pp_pool *pool = pool_with_duties();
    pp_future *running = submit_gated(pool, BEGUN, GATE, 3), *pending = submit_u32(pool, count_run, RUNS);
    pthread_t thread = start_thread(wait_done, running);
    until(read_word(BEGUN) == 1);
    CHECK_INT(pp_future_state(running), PP_RUNNING);
    CHECK_INT(pp_future_cancel(running), -EBUSY);
    CHECK_INT(pp_pool_shutdown(pool, 0, 10), -ETIMEDOUT);
    CHECK_INT(pp_pool_shutdown(pool, PP_CANCEL_PENDING, 10), -ETIMEDOUT);
    CHECK_INT(read_word(FINALIZED), 0);
    open_gate(GATE);
    CHECK_OK(pp_pool_shutdown(pool, 0, -1));
    CHECK_INT(read_word(FINALIZED), 1);
    join_thread(thread);
    CHECK_INT(result_u32(running), 3);
    expect_end(pending, -ECANCELED);
    pp_future_unref(running);
    pp_pool_destroy(pool);
    CHECK_INT(read_word(RUNS), 0);
}

/* The first element of the chunk waits at the gate, the others are counted. */
static int first_waits(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)size;
    if (*(const char *)arg == 'w') {
        add(BEGUN);
        wait_at(GATE);
    } else {
        add(RUNS);
    }
    return 0;
}

static void *run_other(void *future)
{
    CHECK_OK(pp_future_wait(future, -1));
    return NULL;
}

/* A map's chunk is submitted by a step in this thread, and run by another that waits for a call behind it. */
static pp_map *map_that_another_thread_runs(pp_pool *pool, pp_future **behind, pthread_t *thread)
{
    static const pp_map_options options = {.chunk_size = 10};
    pp_map *map;
    pp_future *own = submit_gated(pool, BEGUN, GATE + 100, 0);
    open_gate(GATE + 100);
    CHECK_OK(pp_map_open_array(pool, first_waits, "w123456789", 10, 1, &options, &map));
    pp_map_result result;
    CHECK_INT(pp_map_next(map, 0, &result), -ETIMEDOUT); /* pulls the chunk, and runs the call before it */
    expect_end(own, 0);
    *behind = submit_u32(pool, echo, 8);
    *thread = start_thread(run_other, *behind);
    until(read_word(BEGUN) == 2);
    return map;
}

TEST(a_map_closed_while_its_chunk_runs_stops_behind_the_element)
{
    board_make();
    pp_pool *pool = kit_pool(PP_START_INLINE, 1);
    pp_future *behind;
    pthread_t thread;
    pp_map *map = map_that_another_thread_runs(pool, &behind, &thread);
    pp_map_close(map);
    open_gate(GATE);
    join_thread(thread);
    CHECK_INT(result_u32(behind), 8);
    pp_future_unref(behind);
    pp_pool_destroy(pool);
    CHECK_INT(read_word(RUNS), 0);
}

TEST(a_shutdown_that_cancels_stops_a_chunk_behind_the_element_that_runs)
{
    board_make();
    pp_pool *pool = kit_pool(PP_START_INLINE, 1);
    pp_future *behind;
    pthread_t thread;
    pp_map_result result;
    pp_map *map = map_that_another_thread_runs(pool, &behind, &thread);
    CHECK_INT(pp_pool_shutdown(pool, PP_CANCEL_PENDING, 0), -ETIMEDOUT);
    open_gate(GATE);
    join_thread(thread);
    CHECK_OK(pp_pool_shutdown(pool, 0, -1));
    for (int i = 0; i < 10; i++) {
        CHECK_INT(pp_map_next(map, -1, &result), 1);
        CHECK_INT(result.code, i == 0 ? 0 : -ECANCELED);
    }
    CHECK_INT(pp_map_next(map, -1, &result), 0);
    pp_map_close(map);
    expect_end(behind, -ECANCELED);
    pp_pool_destroy(pool);
    CHECK_INT(read_word(RUNS), 0);
}

static int start_slowly(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    add(STARTED);
    wait_at(GATE);
    return 0;
}

/* The initializer's call is cancelled meanwhile: nothing is outstanding, but the finalizer must not run beside it. */
TEST(a_pool_shut_while_its_initializer_runs_ends_behind_it)
{
    board_make();
    pp_pool *pool =
        kit_pool_with(PP_START_INLINE, (pp_pool_options){.initializer = start_slowly, .finalizer = note_end});
    pp_future *future = submit_u32(pool, count_run, RUNS);
    pthread_t thread = start_thread(wait_done, future);
    until(read_word(STARTED) == 1);
    CHECK_INT(pp_future_cancel(future), 0);
    CHECK_INT(pp_pool_shutdown(pool, 0, 10), -ETIMEDOUT);
    CHECK_INT(read_word(FINALIZED), 0);
    open_gate(GATE);
    CHECK_OK(pp_pool_shutdown(pool, 0, -1));
    join_thread(thread);
    expect_end(future, -ECANCELED);
    pp_pool_destroy(pool);
    CHECK_INT(read_word(RUNS), 0);
    CHECK_INT(read_word(FINALIZED), 1);
}

/* ------------------------------------------------------------------------------------------ many threads */

static void *submit_and_wait(void *pool)
{
    for (uint32_t i = 0; i < 200; i++) {
        pp_future *future = submit_u32(pool, echo, i);
        CHECK_INT(result_u32(future), i);
        pp_future_unref(future);
    }
    return NULL;
}

TEST(eight_threads_run_each_others_calls)
{
    pp_pool *pool = kit_pool(PP_START_INLINE, 1);
    pthread_t threads[8];
    for (int i = 0; i < 8; i++)
        threads[i] = start_thread(submit_and_wait, pool);
    for (int i = 0; i < 8; i++)
        join_thread(threads[i]);
    pp_pool_destroy(pool);
}

/* ------------------------------------------------------------------------------------------ inside a task */

static int call_more(pp_task *task, const void *arg, size_t size)
{
    pp_pool *pool;
    CHECK_INT(size, sizeof pool);
    memcpy(&pool, arg, sizeof pool);
    pp_future *future = submit_u32(pool, echo, 11);
    uint32_t value = result_u32(future);
    pp_future_unref(future);
    return pp_task_return(task, &value, sizeof value);
}

TEST(a_task_may_call_and_wait_in_its_own_pool)
{
    pp_pool *pool = kit_pool(PP_START_INLINE, 1);
    pp_future *future = submit(pool, call_more, &pool, sizeof pool);
    CHECK_INT(result_u32(future), 11);
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

static pp_future *own_future;

static int wait_for_itself(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    int code = pp_future_wait(own_future, -1);
    return pp_task_return(task, &code, sizeof code);
}

TEST(a_task_that_waits_for_itself_is_told_so)
{
    pp_pool *pool = kit_pool(PP_START_INLINE, 1);
    own_future = submit(pool, wait_for_itself, NULL, 0);
    CHECK_INT((int)result_u32(own_future), -EDEADLK);
    pp_future_unref(own_future);
    expect_usable(pool);
    pp_pool_destroy(pool);
}
