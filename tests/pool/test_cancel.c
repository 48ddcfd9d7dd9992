/* SPDX-License-Identifier: MIT */
/*
 * Cancel: a call that it takes back never runs, and one that it cannot take back ran once. What ran is counted on the
 * board, a word for each call, so both are seen after the pool has gone.
 */
#include "call_kit.h"

enum { BEGUN, GATE, RUNS, FIRST_CALL = 1024 };

static bool is_cancelled(pp_future *future)
{
    int state = pp_future_state(future);
    return state == PP_CANCELLED || state == PP_CANCELLED_AND_NOTIFIED;
}

static void check_cancelled(pp_future *future)
{
    const pp_error *error = NULL;
    const void *data;
    size_t size;
    CHECK(is_cancelled(future));
    CHECK_OK(pp_future_wait(future, 0));
    CHECK_INT(pp_future_result(future, 0, NULL, 0, NULL), -ECANCELED);
    CHECK(*pp_last_error());
    CHECK_INT(pp_future_view(future, 0, &data, &size), -ECANCELED);
    CHECK_OK(pp_future_error(future, 0, &error));
    CHECK(error != NULL);
    CHECK_INT(error->kind, PP_ERROR_CANCELLED);
    CHECK_INT(error->code, -ECANCELED);
    CHECK_INT(error->call_id, pp_future_id(future));
    CHECK_INT(error->worker, -1);
    CHECK_INT(error->tries, 0);
    CHECK(*error->message);
}

/* ------------------------------------------------------------------------------------------ each state */

BOTH(a_pending_call_is_cancelled_for_good)
{
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    pp_future *running, *pending;
    occupy(pool, BEGUN, GATE, 1, &running);
    pending = submit_u32(pool, count_run, RUNS);
    CHECK_INT(pp_future_cancel(pending), 0);
    check_cancelled(pending);
    CHECK_INT(pp_future_cancel(pending), 0);
    open_gate(GATE);
    CHECK_INT(result_u32(running), 0);
    expect_usable(pool);
    check_cancelled(pending);
    pp_future_unref(running);
    pp_future_unref(pending);
    pp_pool_destroy(pool);
    CHECK_INT(read_word(RUNS), 0);
}

BOTH(a_running_call_is_not_cancelled_and_a_finished_one_neither)
{
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    pp_future *future, *failed = submit(pool, refuse, NULL, 0);
    occupy(pool, BEGUN, GATE, 1, &future);
    CHECK_INT(pp_future_cancel(future), -EBUSY);
    CHECK(*pp_last_error());
    CHECK_INT(pp_future_state(future), PP_RUNNING);
    open_gate(GATE);
    CHECK_INT(result_u32(future), 0);
    CHECK_INT(pp_future_cancel(future), -EALREADY);
    CHECK(*pp_last_error());
    CHECK_INT(result_u32(future), 0);
    CHECK_INT(pp_future_cancel(failed), -EALREADY);
    pp_future_unref(future);
    pp_future_unref(failed);
    pp_pool_destroy(pool);
}

BOTH(a_call_is_cancelled_before_there_is_a_worker)
{
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    for (int i = 0; i < 20; i++) {
        pp_future *future = submit_gated(pool, BEGUN, GATE, 0);
        int code = pp_future_cancel(future);
        CHECK(code == 0 || code == -EBUSY);
        if (code == 0)
            check_cancelled(future);
        pp_future_unref(future);
        if (code != 0)
            break;
    }
    open_gate(GATE);
    pp_pool_destroy(pool);
}

/* Quick calls teach the pool that calls are short, so that it queues the next ones behind the one that runs. */
static void teach_that_calls_are_short(pp_pool *pool)
{
    for (int i = 0; i < 100; i++)
        expect_end(submit(pool, nothing, NULL, 0), 0);
}

BOTH(a_call_that_a_worker_has_and_has_not_begun_is_cancelled)
{
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    for (uint32_t round = 0; round < 20; round++) {
        pp_future *running, *behind[8];
        teach_that_calls_are_short(pool);
        atomic_store(word(GATE), 0);
        occupy(pool, BEGUN, GATE, 1, &running);
        for (int i = 0; i < 8; i++)
            behind[i] = submit_u32(pool, count_run, RUNS);
        for (int i = 8; i-- > 0;)
            CHECK_INT(pp_future_cancel(behind[i]), 0);
        open_gate(GATE);
        CHECK_INT(result_u32(running), 0);
        for (int i = 0; i < 8; i++) {
            check_cancelled(behind[i]);
            pp_future_unref(behind[i]);
        }
        pp_future_unref(running);
    }
    pp_pool_destroy(pool);
    CHECK_INT(read_word(RUNS), 0);
}

/* Their arguments went ahead through the worker's socket, and must not be taken for those of the calls that follow. */
BOTH(cancelled_calls_with_large_arguments_leave_the_next_ones_their_own)
{
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    size_t bytes = 100000;
    uint32_t *argument = calloc(1, bytes);
    for (uint32_t round = 0; round < 20; round++) {
        pp_future *running, *calls[6];
        teach_that_calls_are_short(pool);
        atomic_store(word(GATE), 0);
        occupy(pool, BEGUN, GATE, 1, &running);
        for (uint32_t i = 0; i < 6; i++) {
            argument[0] = argument[bytes / 4 - 1] = round * 10 + i;
            calls[i] = submit(pool, echo, argument, bytes);
        }
        for (int i = 0; i < 6; i += 2)
            CHECK_INT(pp_future_cancel(calls[i]), 0);
        open_gate(GATE);
        for (uint32_t i = 1; i < 6; i += 2) {
            CHECK_OK(pp_future_result(calls[i], -1, argument, bytes, NULL));
            CHECK(argument[0] == round * 10 + i && argument[bytes / 4 - 1] == round * 10 + i);
        }
        for (int i = 0; i < 6; i++)
            pp_future_unref(calls[i]);
        pp_future_unref(running);
    }
    free(argument);
    pp_pool_destroy(pool);
}

/* More than a ring has room for, and than there are places for calls in it. */
BOTH(thousands_of_calls_are_cancelled_behind_one_that_runs)
{
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    pp_future *running;
    char argument[200] = "";
    teach_that_calls_are_short(pool);
    occupy(pool, BEGUN, GATE, 1, &running);
    for (int i = 0; i < 3000; i++) {
        pp_future *future = submit(pool, echo, argument, i % 2 ? 0 : sizeof argument);
        CHECK_INT(pp_future_cancel(future), 0);
        pp_future_unref(future);
    }
    open_gate(GATE);
    CHECK_INT(result_u32(running), 0);
    pp_future_unref(running);
    expect_usable(pool);
    pp_pool_destroy(pool);
}

BOTH(the_last_call_of_a_shut_pool_is_cancelled_and_the_pool_ends)
{
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    pp_future *running, *pending;
    occupy(pool, BEGUN, GATE, 1, &running);
    pending = submit_u32(pool, count_run, RUNS);
    CHECK_INT(pp_pool_shutdown(pool, 0, 0), -ETIMEDOUT);
    open_gate(GATE);
    int code = pp_future_cancel(pending);
    CHECK_OK(pp_pool_shutdown(pool, 0, -1));
    CHECK_INT(read_word(RUNS), code == 0 ? 0 : 1);
    pp_future_unref(running);
    pp_future_unref(pending);
    pp_pool_destroy(pool);
}

/* ---------------------------------------------------------------------------------------------- waiters */

#define THREADS 8

static void *wait_for_the_end(void *future)
{
    uint32_t value;
    CHECK_INT(pp_future_result(future, -1, &value, sizeof value, NULL), -ECANCELED);
    return NULL;
}

static void *cancel_one(void *future)
{
    return (void *)(intptr_t)pp_future_cancel(future);
}

static void *wait_for_the_gate(void *future)
{
    CHECK_INT(result_u32(future), 0);
    return NULL;
}

/*
 * The gate is closed until all of them have come back, and the thread that waits for it collects, so they sleep on
 * their own words. So many rounds that those in which they only look again by themselves take too long.
 */
BOTH(cancelling_wakes_every_waiter_at_once)
{
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    pp_future *running;
    pthread_t collector, threads[THREADS];
    occupy(pool, BEGUN, GATE, 1, &running);
    collector = start_thread(wait_for_the_gate, running);
    for (int round = 0; round < TEST_ROUNDS(200, 60); round++) {
        pp_future *pending = submit_u32(pool, count_run, RUNS);
        for (int i = 0; i < THREADS; i++)
            threads[i] = start_thread(wait_for_the_end, pending);
        CHECK_INT(pp_future_cancel(pending), 0);
        for (int i = 0; i < THREADS; i++)
            join_thread(threads[i]);
        pp_future_unref(pending);
    }
    open_gate(GATE);
    join_thread(collector);
    pp_future_unref(running);
    pp_pool_destroy(pool);
    CHECK_INT(read_word(RUNS), 0);
}

BOTH(threads_that_cancel_one_call_at_once_hear_the_same)
{
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    for (uint32_t round = 0; round < 200; round++) {
        pthread_t threads[3];
        int cancelled = 0;
        pp_future *future = submit_u32(pool, count_run, FIRST_CALL + round);
        for (int i = 0; i < 3; i++)
            threads[i] = start_thread(cancel_one, future);
        for (int i = 0; i < 3; i++) {
            void *code;
            CHECK_INT(pthread_join(threads[i], &code), 0);
            cancelled += code == NULL;
        }
        CHECK(cancelled == 0 || cancelled == 3);
        CHECK_OK(pp_future_wait(future, -1));
        CHECK_INT(is_cancelled(future), cancelled == 3);
        CHECK_INT(read_word(FIRST_CALL + round), cancelled == 0);
        pp_future_unref(future);
    }
    pp_pool_destroy(pool);
}

/* --------------------------------------------------------------------------------------------- the race */

#define BATCH 48u
#define ENOUGH 1000u

struct race {
    pp_start_method method;
    uint32_t calls, ran, cancelled;
    bool was_cancelled[BOARD_WORDS];
};

static struct race race;

static void settle(uint32_t call, pp_future *future, bool cancelled)
{
    CHECK_OK(pp_future_wait(future, -1));
    CHECK_INT(is_cancelled(future), cancelled);
    if (!cancelled)
        CHECK_INT(result_u32(future), FIRST_CALL + call);
    race.was_cancelled[call] = cancelled;
    race.cancelled += cancelled;
    race.ran += !cancelled;
    pp_future_unref(future);
}

/* A batch goes in and is cancelled while workers begin it: forwards or backwards, at once or when some call in it has
 * ended. */
static void run_batch(pp_pool *pool, uint32_t round)
{
    pp_future *futures[BATCH];
    bool cancelled[BATCH];
    for (uint32_t i = 0; i < BATCH; i++)
        futures[i] = submit_u32(pool, count_run, FIRST_CALL + race.calls + i);
    if (round % 2)
        CHECK_OK(pp_future_wait(futures[round / 2 % BATCH], -1));
    for (uint32_t i = 0; i < BATCH; i++) {
        uint32_t which = round % 4 < 2 ? i : BATCH - 1 - i;
        int code = pp_future_cancel(futures[which]);
        CHECK(code == 0 || code == -EBUSY || code == -EALREADY);
        cancelled[which] = code == 0;
    }
    for (uint32_t i = 0; i < BATCH; i++)
        settle(race.calls + i, futures[i], cancelled[i]);
    race.calls += BATCH;
}

static void check_board(void)
{
    for (uint32_t i = 0; i < race.calls; i++)
        if (read_word(FIRST_CALL + i) != !race.was_cancelled[i])
            harness_fail(__FILE__, __LINE__, "call %u ran %u times, and its cancel said %s", i,
                         read_word(FIRST_CALL + i), race.was_cancelled[i] ? "it never will" : "it has begun");
}

/* When the board has no more words it starts anew with another pool. */
BOTH_WITHIN(in_a_race_with_the_workers_each_call_either_runs_once_or_never, 60)
{
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    for (uint32_t round = 0; race.ran < ENOUGH || race.cancelled < ENOUGH; round++) {
        run_batch(pool, round);
        if (FIRST_CALL + race.calls + BATCH <= BOARD_WORDS)
            continue;
        pp_pool_destroy(pool);
        check_board();
        for (uint32_t i = 0; i < race.calls; i++)
            atomic_store(word(FIRST_CALL + i), 0);
        race.calls = 0;
        pool = kit_pool(method, 2);
    }
    pp_pool_destroy(pool);
    check_board();
}

/* The same with the pool's end: a part has begun, the rest is cancelled. */
static void run_pool(pp_start_method method, uint32_t count, uint32_t wait_for)
{
    pp_pool *pool = kit_pool(method, 2);
    pp_future **futures = calloc(count, sizeof *futures);
    for (uint32_t i = 0; i < count; i++)
        futures[i] = submit_u32(pool, count_run, FIRST_CALL + race.calls + i);
    CHECK_OK(pp_future_wait(futures[wait_for], -1));
    CHECK_OK(pp_pool_shutdown(pool, PP_CANCEL_PENDING, -1));
    for (uint32_t i = 0; i < count; i++)
        settle(race.calls + i, futures[i], is_cancelled(futures[i]));
    race.calls += count;
    free(futures);
    pp_pool_destroy(pool);
}

BOTH_WITHIN(a_shutdown_that_cancels_races_likewise, 60)
{
    board_make();
    for (uint32_t round = 0; race.ran < ENOUGH || race.cancelled < ENOUGH; round++) {
        CHECK(FIRST_CALL + race.calls + 400 <= BOARD_WORDS);
        run_pool(method, 400, round * 40 % 400);
    }
    check_board();
}
