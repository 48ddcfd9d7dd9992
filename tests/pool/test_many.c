/* SPDX-License-Identifier: MIT */
/*
 * Many futures at once, of one pool and of several: pp_wait and pp_as_completed.
 *
 * A wake that is lost is made up for after 100 ms, so what is to come at once is asked for so often that this would
 * miss the time limit.
 */
#include "signal_kit.h"

#include <malloc.h>

#include "lost_kit.h"

enum { BEGUN, RUNS, GATE, GATES = 100 };

#define MOST 64
#define ROUNDS (KIT_TSAN || KIT_ASAN || TEST_ON_VALGRIND ? 40u : 300u)

/* ------------------------------------------------------------------------------------------ the field */

/* Futures of several pools in turn; each waits at a gate of its own, and its result is its number. */
struct field {
    pp_pool *pools[3];
    size_t pool_count;
    pp_future *futures[MOST];
    size_t count;
};

static int gated_refusal(pp_task *task, const void *arg, size_t size)
{
    int code = gated(task, arg, size);
    return code ? code : pp_task_fail(task, -ENOTSUP, "refused at the gate");
}

static int gated_crash(pp_task *task, const void *arg, size_t size)
{
    int code = gated(task, arg, size);
    raise(SIGKILL);
    return code;
}

static void add_gated(struct field *field, pp_function *function)
{
    uint32_t i = (uint32_t)field->count;
    struct gated g = {.begun = BEGUN, .gate = GATES + i, .value = i};
    field->futures[field->count++] = submit(field->pools[i % field->pool_count], function, &g, sizeof g);
}

static struct field open_pools(pp_start_method method, size_t pools, int workers)
{
    struct field field = {.pool_count = pools};
    for (size_t i = 0; i < pools; i++)
        field.pools[i] = kit_sibling(method, (pp_pool_options){.max_workers = workers});
    return field;
}

static struct field open_field(pp_start_method method, size_t pools, size_t count)
{
    struct field field = open_pools(method, pools, (int)count);
    for (size_t i = 0; i < count; i++)
        add_gated(&field, gated);
    return field;
}

static void open_gates(const struct field *field)
{
    for (uint32_t i = 0; i < field->count; i++)
        open_gate(GATES + i);
}

static void forget_futures(struct field *field)
{
    for (size_t i = 0; i < field->count; i++)
        pp_future_unref(field->futures[i]);
    field->count = 0;
}

static void close_field(struct field *field)
{
    open_gates(field);
    forget_futures(field);
    for (size_t i = 0; i < field->pool_count; i++)
        pp_pool_destroy(field->pools[i]);
}

/* One test for one pool, two and three. */
#define ONE_TO_THREE(name)                                                                                             \
    static void some__##name(pp_start_method method, size_t pools);                                                    \
    BOTH(name##_of_one_pool)                                                                                           \
    {                                                                                                                  \
        board_make();                                                                                                  \
        some__##name(method, 1);                                                                                       \
    }                                                                                                                  \
    BOTH(name##_of_two_pools)                                                                                          \
    {                                                                                                                  \
        board_make();                                                                                                  \
        some__##name(method, 2);                                                                                       \
    }                                                                                                                  \
    BOTH(name##_of_three_pools)                                                                                        \
    {                                                                                                                  \
        board_make();                                                                                                  \
        some__##name(method, 3);                                                                                       \
    }                                                                                                                  \
    static void some__##name(pp_start_method method, size_t pools)

static void expect_done(const unsigned char *done, const char *expected)
{
    for (size_t i = 0; expected[i]; i++)
        if (done[i] != expected[i] - '0')
            harness_fail(__FILE__, __LINE__, "done[%zu] is %d, expected %s", i, done[i], expected);
}

/* ----------------------------------------------------------------------------------- a waiting thread */

struct waiting {
    pp_future *const *futures;
    size_t count;
    pp_when when;
    int timeout;
    unsigned char done[MOST];
    ssize_t code;
    _Atomic bool back;
    pthread_t thread;
};

static void *run_wait(void *argument)
{
    struct waiting *waiting = argument;
    waiting->code = pp_wait(waiting->futures, waiting->count, waiting->when, waiting->timeout, waiting->done);
    atomic_store(&waiting->back, true);
    return NULL;
}

static void start_wait(struct waiting *waiting, const struct field *field, pp_when when)
{
    *waiting = (struct waiting){.futures = field->futures, .count = field->count, .when = when, .timeout = -1};
    memset(waiting->done, 7, sizeof waiting->done);
    waiting->thread = start_thread(run_wait, waiting);
}

static void finish_wait(struct waiting *waiting, ssize_t code, const char *done)
{
    join_thread(waiting->thread);
    CHECK_INT(waiting->code, code);
    expect_done(waiting->done, done);
    CHECK_INT(waiting->done[waiting->count], 7);
}

/* It has had the time to come back, and has not. */
static void expect_waits(struct waiting *waiting)
{
    test_sleep_ms(10);
    CHECK(!atomic_load(&waiting->back));
}

static void let_end(const struct field *field, uint32_t i)
{
    open_gate(GATES + i);
    until(pp_future_state(field->futures[i]) == PP_FINISHED);
}

/* ------------------------------------------------------------------------------------------ conditions */

ONE_TO_THREE(all_futures_are_awaited)
{
    struct field field = open_field(method, pools, 6);
    struct waiting waiting;
    start_wait(&waiting, &field, PP_ALL_COMPLETED);
    for (uint32_t i = 1; i < 6; i++)
        let_end(&field, i);
    expect_waits(&waiting);
    open_gate(GATES);
    finish_wait(&waiting, 6, "111111");
    CHECK_INT(pp_wait(field.futures, 6, PP_ALL_COMPLETED, 0, NULL), 6);
    close_field(&field);
}

ONE_TO_THREE(the_first_future_is_awaited)
{
    struct field field = open_field(method, pools, 6);
    struct waiting waiting;
    start_wait(&waiting, &field, PP_FIRST_COMPLETED);
    expect_waits(&waiting);
    open_gate(GATES + 4);
    finish_wait(&waiting, 1, "000010");
    start_wait(&waiting, &field, PP_FIRST_COMPLETED); /* one that is done already counts */
    finish_wait(&waiting, 1, "000010");
    let_end(&field, 1);
    CHECK_INT(pp_wait(field.futures, 6, PP_FIRST_COMPLETED, -1, NULL), 2);
    close_field(&field);
}

/* Neither a result nor a cancelled call is a failure. */
ONE_TO_THREE(the_first_failed_future_is_awaited)
{
    struct field field = open_pools(method, pools, 1);
    struct waiting waiting;
    for (size_t i = 0; i < 3 * pools; i++)
        add_gated(&field, i / pools == 1 ? gated_refusal : gated);
    until(read_word(BEGUN) == pools);
    start_wait(&waiting, &field, PP_FIRST_FAILED);
    for (uint32_t i = 0; i < pools; i++) {
        CHECK_OK(pp_future_cancel(field.futures[2 * pools + i]));
        let_end(&field, i);
    }
    expect_waits(&waiting);
    open_gate(GATES + (uint32_t)pools);
    finish_wait(&waiting, 2 * (ssize_t)pools + 1, pools == 1 ? "111" : pools == 2 ? "111011" : "111100111");
    CHECK_INT(pp_wait(field.futures, field.count, PP_FIRST_FAILED, 0, NULL), 2 * pools + 1);
    close_field(&field);
}

ONE_TO_THREE(all_futures_are_awaited_where_none_fails)
{
    struct field field = open_field(method, pools, 6);
    struct waiting waiting;
    start_wait(&waiting, &field, PP_FIRST_FAILED);
    for (uint32_t i = 0; i < 5; i++)
        let_end(&field, i);
    expect_waits(&waiting);
    open_gate(GATES + 5);
    finish_wait(&waiting, 6, "111111");
    close_field(&field);
}

ONE_TO_THREE(a_worker_that_crashes_is_a_failure)
{
    struct field field = open_pools(method, pools, 3);
    struct waiting first, all;
    for (size_t i = 0; i < 6; i++)
        add_gated(&field, i == 4 ? gated_crash : gated);
    until(read_word(BEGUN) >= (pools == 1 ? 3 : 6));
    if (pools == 1)
        for (uint32_t i = 0; i < 3; i++)
            open_gate(GATES + i);
    start_wait(&first, &field, PP_FIRST_FAILED);
    start_wait(&all, &field, PP_ALL_COMPLETED);
    open_gate(GATES + 4);
    join_thread(first.thread);
    CHECK(first.code > 0 && first.done[4] == 1 && first.done[5] == 0);
    CHECK(!atomic_load(&all.back));
    open_gates(&field);
    finish_wait(&all, 6, "111111");
    expect_end(pp_future_ref(field.futures[4]), -EOWNERDEAD);
    close_field(&field);
}

/* ------------------------------------------------------------------------------- timeouts and odd lists */

ONE_TO_THREE(a_wait_that_runs_out_tells_what_is_done_and_loses_nothing)
{
    struct field field = open_field(method, pools, 5);
    static const int timeouts[] = {0, 50};
    let_end(&field, 2);
    for (int i = 0; i < 2; i++) {
        unsigned char done[6] = {7, 7, 7, 7, 7, 7};
        double begun = test_seconds();
        CHECK_INT(pp_wait(field.futures, 5, PP_ALL_COMPLETED, timeouts[i], done), -ETIMEDOUT);
        CHECK(test_seconds() - begun >= timeouts[i] / 1e3);
        CHECK(*pp_last_error());
        expect_done(done, "00100");
        CHECK_INT(done[5], 7);
        CHECK_INT(pp_wait(field.futures, 5, PP_FIRST_FAILED, timeouts[i], NULL), -ETIMEDOUT);
        CHECK_INT(pp_wait(field.futures, 2, PP_FIRST_COMPLETED, timeouts[i], NULL), -ETIMEDOUT);
    }
    open_gates(&field);
    CHECK_INT(pp_wait(field.futures, 5, PP_ALL_COMPLETED, -1, NULL), 5);
    for (uint32_t i = 0; i < 5; i++)
        CHECK_INT(result_u32(field.futures[i]), i);
    close_field(&field);
}

/* Each worker has begun its second call, so the result of its first one lies there. */
ONE_TO_THREE(a_look_sees_what_has_come)
{
    struct field field = open_pools(method, pools, 1);
    pp_future *behind[3];
    for (uint32_t round = 1; round <= ROUNDS; round++) {
        atomic_store(word(GATE), 0);
        for (size_t i = 0; i < pools; i++) {
            field.futures[i] = submit_u32(field.pools[i], echo, 1);
            behind[i] = submit_gated(field.pools[i], BEGUN, GATE, 2);
        }
        while (read_word(BEGUN) < round * pools)
            sched_yield(); /* nobody has the time to take it in before */
        CHECK_INT(pp_wait(field.futures, pools, PP_ALL_COMPLETED, 0, NULL), pools);
        open_gate(GATE);
        for (size_t i = 0; i < pools; i++) {
            CHECK_INT(result_u32(behind[i]), 2);
            pp_future_unref(behind[i]);
            pp_future_unref(field.futures[i]);
        }
    }
    close_field(&field);
}

ONE_TO_THREE(a_future_that_stands_there_more_than_once_counts_each_time)
{
    struct field field = open_field(method, pools, 3);
    pp_future *a = field.futures[0], *b = field.futures[1], *c = field.futures[2];
    pp_future *const list[] = {b, a, b, b, c, a};
    unsigned char done[6];
    let_end(&field, 1);
    CHECK_INT(pp_wait(list, 6, PP_FIRST_COMPLETED, -1, done), 3);
    expect_done(done, "101100");
    CHECK_INT(pp_wait(list, 6, PP_ALL_COMPLETED, 0, done), -ETIMEDOUT);
    open_gates(&field);
    CHECK_INT(pp_wait(list, 6, PP_ALL_COMPLETED, -1, done), 6);
    expect_done(done, "111111");
    close_field(&field);
}

TEST(of_no_futures_nothing_is_awaited)
{
    pp_completed *completed;
    pp_future *future = NULL;
    unsigned char done = 7;
    for (pp_when when = PP_ALL_COMPLETED; when <= PP_FIRST_FAILED; when++) {
        CHECK_INT(pp_wait(NULL, 0, when, -1, NULL), 0);
        CHECK_INT(pp_wait(&future, 0, when, -1, &done), 0);
    }
    CHECK_INT(done, 7);
    CHECK_OK(pp_as_completed(NULL, 0, &completed));
    CHECK_INT(pp_completed_next(completed, -1, &future, NULL), 0);
    CHECK_INT(pp_completed_next(completed, -1, &future, NULL), 0);
    CHECK(future == NULL);
    pp_completed_close(completed);
}

/* ------------------------------------------------------------------------------------ a wake comes at once */

/* Three short calls, and their answers. */
static void call_and_wait(struct field *field, uint32_t round)
{
    for (uint32_t i = 0; i < 3; i++)
        field->futures[field->count++] = submit_u32(field->pools[i % field->pool_count], echo, round + i);
    CHECK_INT(pp_wait(field->futures, 3, round % 2 ? PP_ALL_COMPLETED : PP_FIRST_FAILED, -1, NULL), 3);
    for (uint32_t i = 0; i < 3; i++)
        CHECK_INT(result_u32(field->futures[i]), round + i);
    forget_futures(field);
}

ONE_TO_THREE(answers_wake_who_waits_at_once)
{
    struct field field = open_pools(method, pools, 2);
    for (uint32_t round = 0; round < ROUNDS; round++)
        call_and_wait(&field, round);
    close_field(&field);
}

static void *wait_for_the_gate(void *future)
{
    CHECK_INT(result_u32(future), 7);
    return NULL;
}

/* The other has the duty to collect, and finds what this one waits for. */
ONE_TO_THREE(answers_wake_who_waits_while_another_collects)
{
    struct field field = open_pools(method, pools, 2);
    pp_future *gate = submit_gated(field.pools[0], BEGUN, GATE, 7);
    pthread_t thread = start_thread(wait_for_the_gate, gate);
    until(read_word(BEGUN) == 1);
    for (uint32_t round = 0; round < ROUNDS; round++)
        call_and_wait(&field, round);
    open_gate(GATE);
    join_thread(thread);
    pp_future_unref(gate);
    close_field(&field);
}

static int last_a_little(pp_task *task, const void *arg, size_t size)
{
    usleep(200);
    return pp_task_return(task, arg, size);
}

/* After a thread has collected the manager naps for 5 ms: not while another thread waits for this pool and others. */
BOTH(a_manager_collects_at_once_for_who_waits_for_two_pools)
{
    struct field field = open_pools(method, 2, 1);
    for (uint32_t round = 0; round < 10 * ROUNDS; round++) {
        for (uint32_t i = 0; i < 2; i++)
            expect_usable(field.pools[i]);
        for (uint32_t i = 0; i < 2; i++)
            field.futures[field.count++] = submit_u32(field.pools[i], last_a_little, i);
        CHECK_INT(pp_wait(field.futures, 2, PP_ALL_COMPLETED, -1, NULL), 2);
        forget_futures(&field);
    }
    close_field(&field);
}

/* ---------------------------------------------------------------------------- a pool ends, a call is cancelled */

static void *destroy_pool(void *pool)
{
    pp_pool_destroy(pool);
    return NULL;
}

ONE_TO_THREE(a_pool_may_be_destroyed_while_somebody_waits)
{
    for (uint32_t round = 0; round < 10; round++) {
        struct field field = open_field(method, pools, 3);
        struct waiting waiting;
        start_wait(&waiting, &field, round % 2 ? PP_ALL_COMPLETED : PP_FIRST_FAILED);
        pthread_t thread = start_thread(destroy_pool, field.pools[0]);
        if (round % 3 == 0)
            test_sleep_ms(2);
        open_gates(&field);
        join_thread(thread);
        finish_wait(&waiting, 3, "111");
        CHECK_INT(pp_wait(field.futures, 3, PP_ALL_COMPLETED, 0, NULL), 3); /* of a pool that has ended, too */
        forget_futures(&field);
        field.pools[0] = kit_sibling(method, (pp_pool_options){.max_workers = 1});
        close_field(&field);
        for (uint32_t i = 0; i < 3; i++)
            atomic_store(word(GATES + i), 0);
    }
}

/* The first pool has one worker more than is needed, for the call that breaks it. */
ONE_TO_THREE(a_pool_that_breaks_ends_its_futures_and_no_others)
{
    struct field field = {.pool_count = pools};
    struct waiting first, all;
    for (size_t i = 0; i < pools; i++)
        field.pools[i] = kit_sibling(method, (pp_pool_options){.max_workers = 4, .on_crash = PP_BREAK_POOL});
    for (size_t i = 0; i < 3; i++)
        add_gated(&field, gated);
    until(read_word(BEGUN) == 3);
    start_wait(&first, &field, PP_FIRST_FAILED);
    start_wait(&all, &field, PP_ALL_COMPLETED);
    expect_end(submit(field.pools[0], crash, NULL, 0), -ENOTRECOVERABLE);
    join_thread(first.thread);
    CHECK(first.code > 0 && first.done[0] == 1);
    expect_end(pp_future_ref(field.futures[0]), -ENOTRECOVERABLE);
    if (pools > 1) {
        CHECK_INT(pp_future_state(field.futures[1]), PP_RUNNING);
        expect_waits(&all);
    }
    open_gates(&field);
    finish_wait(&all, 3, "111");
    close_field(&field);
}

ONE_TO_THREE(a_parent_of_workers_that_is_killed_ends_the_wait)
{
    struct field field = open_field(method, pools, 3);
    struct waiting waiting;
    pid_t pids[2];
    until(read_word(BEGUN) == 3);
    start_wait(&waiting, &field, PP_FIRST_FAILED);
    pp_pool *pool = field.pools[pools - 1];
    pp_future *future = submit(pool, who, NULL, 0);
    open_gate(GATES + (uint32_t)pools - 1);
    CHECK_OK(pp_future_result(future, -1, pids, sizeof pids, NULL));
    pp_future_unref(future);
    pp_future *broken = submit_gated(pool, BEGUN, GATE, 1);
    until(read_word(BEGUN) == 4);
    pp_future *const list[] = {field.futures[0], broken};
    CHECK_INT(kill(pids[1], SIGKILL), 0);
    CHECK(pp_wait(list, 2, PP_FIRST_FAILED, -1, NULL) > 0);
    expect_end(broken, -ENOTRECOVERABLE);
    open_gates(&field);
    join_thread(waiting.thread);
    CHECK(waiting.code > 0);
    close_field(&field);
}

/* Behind calls that run, what waits is cancelled. */
ONE_TO_THREE(cancelling_ends_a_wait)
{
    struct field field = open_pools(method, pools, 1);
    pp_future *running[3];
    struct waiting first, all;
    for (size_t i = 0; i < pools; i++)
        occupy(field.pools[i], BEGUN, GATE, 1, &running[i]);
    for (size_t i = 0; i < 6; i++)
        add_gated(&field, gated);
    start_wait(&first, &field, PP_FIRST_COMPLETED);
    start_wait(&all, &field, PP_ALL_COMPLETED);
    expect_waits(&first);
    CHECK_OK(pp_future_cancel(field.futures[3]));
    finish_wait(&first, 1, "000100");
    expect_waits(&all);
    for (size_t i = 0; i < 6; i++)
        CHECK_OK(pp_future_cancel(field.futures[i]));
    finish_wait(&all, 6, "111111");
    open_gate(GATE);
    for (size_t i = 0; i < pools; i++)
        expect_end(running[i], 0);
    close_field(&field);
}

/* --------------------------------------------------------------------------------------- as they complete */

static pp_future *next(pp_completed *completed, size_t index)
{
    pp_future *future = NULL;
    size_t at = SIZE_MAX;
    CHECK_INT(pp_completed_next(completed, -1, &future, &at), 1);
    CHECK_INT(at, index);
    return future;
}

static void expect_nothing_yet(pp_completed *completed)
{
    pp_future *future = NULL;
    size_t at = 55;
    CHECK_INT(pp_completed_next(completed, 0, &future, &at), -ETIMEDOUT);
    CHECK_INT(pp_completed_next(completed, 5, &future, &at), -ETIMEDOUT);
    CHECK(*pp_last_error());
    CHECK(future == NULL && at == 55);
}

static void expect_no_more(pp_completed *completed)
{
    pp_future *future = NULL;
    size_t at = 55;
    for (int i = 0; i < 3; i++)
        CHECK_INT(pp_completed_next(completed, -1, &future, &at), 0);
    CHECK(future == NULL && at == 55);
}

ONE_TO_THREE(futures_come_in_the_order_of_their_ends)
{
    static const uint32_t order[] = {3, 0, 5, 4, 1, 2};
    struct field field = open_field(method, pools, 6);
    pp_completed *completed;
    CHECK_OK(pp_as_completed(field.futures, 6, &completed));
    for (int i = 0; i < 6; i++) {
        expect_nothing_yet(completed);
        open_gate(GATES + order[i]);
        pp_future *future = next(completed, order[i]);
        CHECK(future == field.futures[order[i]]);
        CHECK_INT(result_u32(future), order[i]);
    }
    expect_no_more(completed);
    pp_completed_close(completed);
    close_field(&field);
}

ONE_TO_THREE(futures_that_are_done_before_come_first_and_each_once)
{
    struct field field = open_field(method, pools, 4);
    pp_future **f = field.futures;
    pp_future *list[] = {f[2], f[0], f[0], f[3], f[2], f[1], f[0]};
    pp_completed *completed;
    let_end(&field, 3);
    let_end(&field, 0);
    CHECK_OK(pp_as_completed(list, 7, &completed));
    memset(list, 0x5a, sizeof list); /* it is not needed any more */
    pp_future *future = NULL;
    bool seen[4] = {false};
    for (int i = 0; i < 2; i++) {
        CHECK_INT(pp_completed_next(completed, 0, &future, NULL), 1);
        seen[result_u32(future)] = true;
    }
    CHECK(seen[0] && seen[3]);
    expect_nothing_yet(completed);
    open_gate(GATES + 2);
    CHECK(next(completed, 0) == f[2]);
    open_gate(GATES + 1);
    CHECK(next(completed, 5) == f[1]);
    expect_no_more(completed);
    pp_completed_close(completed);
    close_field(&field);
}

ONE_TO_THREE(a_close_in_the_middle_forgets_the_rest_which_goes_on)
{
    struct field field = open_field(method, pools, 6);
    pp_completed *completed;
    for (uint32_t closed_after = 0; closed_after < 6; closed_after++) {
        CHECK_OK(pp_as_completed(field.futures, 6, &completed));
        for (uint32_t i = 0; i < closed_after; i++) {
            open_gate(GATES + i);
            pp_future *future;
            CHECK_INT(pp_completed_next(completed, -1, &future, NULL), 1);
        }
        pp_completed_close(completed);
    }
    pp_completed_close(NULL);
    open_gate(GATES + 5);
    for (uint32_t i = 0; i < 6; i++)
        CHECK_INT(result_u32(field.futures[i]), i);
    close_field(&field);
}

/* ------------------------------------------------------------------------------------------- references */

#define LARGE (200u << 10) /* such results are copied into a block of memory that malloc maps for them */
#define LARGE_COUNT 12

static int return_large(pp_task *task, const void *arg, size_t size)
{
    char *room = pp_task_reserve(task, LARGE);
    CHECK(room != NULL);
    memset(room, 'x', LARGE);
    memcpy(room, arg, size);
    return 0;
}

static size_t blocks_before;

static int count_results(void)
{
    return (int)(mallinfo2().hblks - blocks_before);
}

static void submit_large(struct field *field)
{
    if (KIT_TSAN || KIT_ASAN || TEST_ON_VALGRIND)
        LEFT_OUT("another malloc, which does not tell what it has given out");
    CHECK_INT(mallopt(M_MMAP_THRESHOLD, 128 << 10), 1);
    blocks_before = mallinfo2().hblks;
    for (uint32_t i = 0; i < LARGE_COUNT; i++)
        field->futures[field->count++] =
            submit(field->pools[i % field->pool_count], return_large, &(uint32_t){i}, sizeof(uint32_t));
    CHECK_INT(pp_wait(field->futures, LARGE_COUNT, PP_ALL_COMPLETED, -1, NULL), LARGE_COUNT);
    CHECK_INT(count_results(), LARGE_COUNT);
}

/* Nobody else has a reference: each future is there until the next step, and no longer. */
ONE_TO_THREE(what_was_given_out_is_freed_at_the_next_step)
{
    struct field field = open_pools(method, pools, 2);
    pp_completed *completed;
    submit_large(&field);
    CHECK_OK(pp_as_completed(field.futures, LARGE_COUNT, &completed));
    forget_futures(&field);
    CHECK_INT(count_results(), LARGE_COUNT);
    for (int i = 0; i < LARGE_COUNT; i++) {
        pp_future *future;
        size_t index, size;
        const char *data;
        CHECK_INT(pp_completed_next(completed, -1, &future, &index), 1);
        CHECK_INT(count_results(), LARGE_COUNT - i);
        CHECK_OK(pp_future_view(future, 0, (const void **)&data, &size));
        CHECK(size == LARGE && memcmp(data, &(uint32_t){(uint32_t)index}, 4) == 0 && data[LARGE - 1] == 'x');
    }
    expect_no_more(completed);
    CHECK_INT(count_results(), 0);
    pp_completed_close(completed);
    close_field(&field);
}

ONE_TO_THREE(a_close_frees_what_was_not_given_out_and_a_reference_of_ones_own_keeps)
{
    struct field field = open_pools(method, pools, 2);
    pp_completed *completed;
    pp_future *future, *last;
    submit_large(&field);
    CHECK_OK(pp_as_completed(field.futures, LARGE_COUNT, &completed));
    forget_futures(&field);
    CHECK_INT(pp_completed_next(completed, -1, &future, NULL), 1);
    CHECK(pp_future_ref(future) == future);
    CHECK_INT(pp_completed_next(completed, -1, &last, NULL), 1);
    CHECK_INT(count_results(), LARGE_COUNT);
    pp_completed_close(completed);
    CHECK_INT(count_results(), 1);
    pp_future_unref(future);
    CHECK_INT(count_results(), 0);
    close_field(&field);
}

/* What is called later takes the places of futures that were given out. */
ONE_TO_THREE(a_new_future_is_not_taken_for_one_that_was_given_out)
{
    enum { COUNT = 64 };
    struct field field = open_pools(method, pools, 1);
    pp_completed *completed;
    bool seen[COUNT] = {false};
    for (uint32_t i = 0; i < COUNT; i++)
        field.futures[field.count++] = submit_u32(field.pools[i % pools], echo, i);
    CHECK_OK(pp_as_completed(field.futures, COUNT, &completed));
    forget_futures(&field);
    for (int i = 0; i < COUNT; i++) {
        pp_future *future;
        size_t index;
        CHECK_INT(pp_completed_next(completed, -1, &future, &index), 1);
        CHECK(index < COUNT && !seen[index]);
        seen[index] = true;
        CHECK_INT(result_u32(future), index);
        for (size_t k = 0; k < pools; k++)
            expect_usable(field.pools[k]);
    }
    expect_no_more(completed);
    for (uint32_t i = 0; i < COUNT; i++)
        field.futures[field.count++] = submit_u32(field.pools[i % pools], echo, i);
    pp_completed_close(completed);
    for (uint32_t i = 0; i < 2 * COUNT; i++)
        expect_usable(field.pools[i % pools]);
    for (uint32_t i = 0; i < COUNT; i++)
        CHECK_INT(result_u32(field.futures[i]), i); /* not given back along with those that had its place */
    forget_futures(&field);
    close_field(&field);
}

/* ------------------------------------------------------------------------------------------------ many */

#define MANY (KIT_TSAN || KIT_ASAN || TEST_ON_VALGRIND ? 10000u : 100000u)

/* Were a step to look at all of them, or to wake somebody, it would not be done in time. */
static void have_many(struct field *field, bool done_before)
{
    uint32_t sum = 0;
    pp_completed *completed;
    pp_future *future, **futures = calloc(MANY, sizeof *futures);
    bool *seen = calloc(MANY, sizeof *seen);
    for (uint32_t i = 0; i < MANY; i++)
        futures[i] = submit_u32(field->pools[i % field->pool_count], echo, i);
    if (done_before)
        CHECK_INT(pp_wait(futures, MANY, PP_ALL_COMPLETED, -1, NULL), MANY);
    CHECK_OK(pp_as_completed(futures, MANY, &completed));
    for (uint32_t i = 0; i < MANY; i++)
        pp_future_unref(futures[i]);
    for (size_t index; pp_completed_next(completed, -1, &future, &index) == 1; sum++) {
        CHECK(index < MANY && !seen[index]);
        seen[index] = true;
        CHECK_INT(result_u32(future), index);
    }
    CHECK_INT(sum, MANY);
    pp_completed_close(completed);
    free(futures);
    free(seen);
}

ONE_TO_THREE(a_hundred_thousand_come_one_by_one)
{
    struct field field = open_pools(method, pools, 2);
    have_many(&field, false);
    close_field(&field);
}

ONE_TO_THREE(a_hundred_thousand_that_are_done_come_one_by_one)
{
    struct field field = open_pools(method, pools, 2);
    have_many(&field, true);
    close_field(&field);
}

#define FEW 80u
#define ALL (FEW * FEW)

/* Which of all is listed: the last first, no two of them as far from each other as two others. */
static uint32_t place_in_all(size_t index)
{
    uint32_t i = FEW - 1 - (uint32_t)index;
    return i * i;
}

/* Those of each pool behind a gated one, so that all are pending. */
static pp_future **have_all_pending(struct field *field, pp_future **listed)
{
    pp_future **futures = calloc(ALL, sizeof *futures);
    for (size_t i = 0; i < field->pool_count; i++)
        add_gated(field, gated);
    for (uint32_t i = 0; i < ALL; i++)
        futures[i] = submit_u32(field->pools[i % field->pool_count], echo, i);
    for (uint32_t i = 0; i < FEW; i++)
        listed[i] = futures[place_in_all(i)];
    return futures;
}

static void expect_few(pp_completed *completed)
{
    bool seen[FEW] = {false};
    pp_future *future;
    for (size_t sum = 0, index; sum < FEW; sum++) {
        CHECK_INT(pp_completed_next(completed, -1, &future, &index), 1);
        CHECK(index < FEW && !seen[index]);
        seen[index] = true;
        CHECK_INT(result_u32(future), place_in_all(index));
    }
    expect_no_more(completed);
    pp_completed_close(completed);
}

ONE_TO_THREE(few_out_of_many_come_one_by_one)
{
    struct field field = open_pools(method, pools, 1);
    pp_completed *completed;
    pp_future *listed[FEW], **futures = have_all_pending(&field, listed);
    CHECK_OK(pp_as_completed(listed, FEW, &completed));
    expect_nothing_yet(completed);
    open_gates(&field);
    expect_few(completed);
    CHECK_INT(pp_wait(futures, ALL, PP_ALL_COMPLETED, -1, NULL), ALL);
    CHECK_OK(pp_as_completed(listed, FEW, &completed));
    expect_few(completed);
    for (uint32_t i = 0; i < ALL; i++)
        pp_future_unref(futures[i]);
    free(futures);
    close_field(&field);
}

/* --------------------------------------------------------------------------------------- many threads */

#define THREADS 8
#define SHARED 2000u

struct crew {
    pp_pool *pools[2];
    pp_future *futures[SHARED];
    _Atomic uint32_t next;
    _Atomic bool over;
    pthread_t threads[THREADS];
};

static void open_crew(struct crew *crew, pp_start_method method, size_t pools, uint32_t count)
{
    for (size_t i = 0; i < pools; i++)
        crew->pools[i] = kit_sibling(method, (pp_pool_options){.max_workers = 2});
    for (uint32_t i = 0; i < count; i++)
        crew->futures[i] = submit_u32(crew->pools[i % pools], echo, i);
}

static void run_crew(struct crew *crew, int threads, void *(*run)(void *))
{
    for (int i = 0; i < threads; i++)
        crew->threads[i] = start_thread(run, crew);
    for (int i = 0; i < threads; i++)
        join_thread(crew->threads[i]);
}

static void close_crew(struct crew *crew, size_t pools, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        pp_future_unref(crew->futures[i]);
    for (size_t i = 0; i < pools; i++)
        pp_pool_destroy(crew->pools[i]);
}

static void *have_all(void *argument)
{
    struct crew *crew = argument;
    pp_completed *completed;
    bool seen[SHARED] = {false};
    uint32_t sum = 0;
    size_t index;
    CHECK_OK(pp_as_completed(crew->futures, SHARED, &completed));
    for (pp_future *future; pp_completed_next(completed, -1, &future, &index) == 1; sum++) {
        CHECK(!seen[index] && future == crew->futures[index]);
        seen[index] = true;
        CHECK_INT(result_u32(future), index);
    }
    CHECK_INT(sum, SHARED);
    pp_completed_close(completed);
    return NULL;
}

BOTH(two_threads_have_the_same_futures_of_one_pool)
{
    struct crew crew = {0};
    open_crew(&crew, method, 1, SHARED);
    run_crew(&crew, 2, have_all);
    close_crew(&crew, 1, SHARED);
}

BOTH(two_threads_have_the_same_futures_of_two_pools)
{
    struct crew crew = {0};
    open_crew(&crew, method, 2, SHARED);
    run_crew(&crew, 2, have_all);
    close_crew(&crew, 2, SHARED);
}

/* A quarter of them each, half of which is the neighbour's too. */
static void *wait_for_some(void *argument)
{
    struct crew *crew = argument;
    uint32_t from = atomic_fetch_add(&crew->next, 1) * (SHARED / 10);
    unsigned char done[SHARED / 4];
    ssize_t sum = 0;
    for (int salt = 0; sum < (ssize_t)(SHARED / 4); salt++) {
        pp_when when = salt % 2 ? PP_ALL_COMPLETED : PP_FIRST_COMPLETED;
        int timeout = salt % 4 - 1; /* -1, 0, 1, 2 */
        memset(done, 7, sizeof done);
        sum = pp_wait(&crew->futures[from], SHARED / 4, when, timeout, done);
        CHECK(sum > 0 || (sum == -ETIMEDOUT && timeout >= 0));
        ssize_t told = 0;
        for (uint32_t i = 0; i < SHARED / 4; i++) {
            CHECK(done[i] <= 1);
            told += done[i];
            CHECK(!done[i] || pp_future_state(crew->futures[from + i]) == PP_FINISHED);
        }
        CHECK(sum < 0 || told == sum);
        if (salt % 4 == 3) /* all of them: no need to look so often */
            CHECK_INT(sum = pp_wait(&crew->futures[from], SHARED / 4, PP_ALL_COMPLETED, -1, NULL), SHARED / 4);
    }
    return NULL;
}

BOTH(eight_threads_wait_for_lists_that_overlap_of_one_pool)
{
    struct crew crew = {0};
    open_crew(&crew, method, 1, SHARED);
    run_crew(&crew, THREADS, wait_for_some);
    close_crew(&crew, 1, SHARED);
}

BOTH(eight_threads_wait_for_lists_that_overlap_of_two_pools)
{
    struct crew crew = {0};
    open_crew(&crew, method, 2, SHARED);
    run_crew(&crew, THREADS, wait_for_some);
    close_crew(&crew, 2, SHARED);
}

static void *keep_collecting(void *argument)
{
    struct crew *crew = argument;
    while (!atomic_load(&crew->over))
        for (int i = 0; i < 2; i++)
            expect_usable(crew->pools[i]);
    return NULL;
}

/* Ends come while the futures are marked: before the mark, or after it. */
BOTH(an_end_that_comes_while_a_wait_begins_is_seen)
{
    struct crew crew = {0};
    open_crew(&crew, method, 2, 0);
    pthread_t thread = start_thread(keep_collecting, &crew);
    for (uint32_t round = 0; round < ROUNDS / 10; round++) {
        size_t pools = 1 + round % 2;
        for (uint32_t i = 0; i < SHARED; i++)
            crew.futures[i] = submit_u32(crew.pools[i % pools], echo, i);
        CHECK_INT(pp_wait(crew.futures, SHARED, PP_ALL_COMPLETED, -1, NULL), SHARED);
        for (uint32_t i = 0; i < SHARED; i++)
            pp_future_unref(crew.futures[i]);
    }
    atomic_store(&crew.over, true);
    join_thread(thread);
    close_crew(&crew, 2, 0);
}

/* ------------------------------------------------------------------------------------------------ signals */

static bool kill_until_back(struct waiting *waiting, int number)
{
    if (!atomic_load(&waiting->back))
        pthread_kill(waiting->thread, number);
    return atomic_load(&waiting->back);
}

ONE_TO_THREE(a_signal_interrupts_a_wait_which_can_be_made_again)
{
    struct field field = open_field(method, pools, 3);
    struct waiting waiting;
    install(SIGUSR1, 0);
    let_end(&field, 1);
    start_wait(&waiting, &field, PP_ALL_COMPLETED);
    until(kill_until_back(&waiting, SIGUSR1));
    finish_wait(&waiting, -EINTR, "010");
    start_wait(&waiting, &field, PP_ALL_COMPLETED);
    open_gates(&field);
    finish_wait(&waiting, 3, "111");
    close_field(&field);
}

ONE_TO_THREE(a_handler_that_asks_for_restarting_does_not_interrupt_a_wait)
{
    struct field field = open_field(method, pools, 3);
    struct waiting waiting;
    install(SIGUSR2, SA_RESTART);
    start_wait(&waiting, &field, PP_ALL_COMPLETED);
    while (atomic_load(&handled) < 10) {
        pthread_kill(waiting.thread, SIGUSR2);
        test_sleep_ms(1);
    }
    CHECK(!atomic_load(&waiting.back));
    open_gates(&field);
    finish_wait(&waiting, 3, "111");
    close_field(&field);
}

struct stepping {
    struct field *field;
    _Atomic bool back;
    pthread_t thread;
};

static void *step_interrupted(void *argument)
{
    struct stepping *stepping = argument;
    pp_completed *completed;
    pp_future *future = NULL;
    size_t index = 55;
    CHECK_OK(pp_as_completed(stepping->field->futures, 2, &completed));
    CHECK(next(completed, 1) == stepping->field->futures[1]);
    CHECK_INT(pp_completed_next(completed, -1, &future, &index), -EINTR);
    CHECK(*pp_last_error());
    CHECK(future == NULL && index == 55);
    atomic_store(&stepping->back, true);
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    CHECK(next(completed, 0) == stepping->field->futures[0]);
    expect_no_more(completed);
    pp_completed_close(completed);
    return NULL;
}

ONE_TO_THREE(a_signal_interrupts_a_step_which_can_be_made_again)
{
    struct field field = open_field(method, pools, 2);
    struct stepping stepping = {.field = &field};
    install(SIGUSR1, 0);
    let_end(&field, 1);
    stepping.thread = start_thread(step_interrupted, &stepping);
    while (!atomic_load(&stepping.back)) {
        pthread_kill(stepping.thread, SIGUSR1);
        test_sleep_ms(1);
    }
    open_gates(&field);
    join_thread(stepping.thread);
    close_field(&field);
}

struct cancelled {
    const struct field *field;
    ssize_t code;
};

static void *wait_and_be_cancelled(void *argument)
{
    struct cancelled *me = argument;
    me->code = pp_wait(me->field->futures, me->field->count, PP_ALL_COMPLETED, -1, NULL);
    pthread_testcancel();
    me->code = -1;
    return NULL;
}

ONE_TO_THREE(a_thread_that_is_cancelled_while_it_waits_comes_back_first)
{
    struct field field = open_field(method, pools, 3);
    struct cancelled me = {.field = &field};
    void *end = NULL;
    pthread_t thread = start_thread(wait_and_be_cancelled, &me);
    test_sleep_ms(5);
    CHECK_INT(pthread_cancel(thread), 0);
    open_gates(&field);
    CHECK_INT(pthread_join(thread, &end), 0);
    CHECK(end == PTHREAD_CANCELED);
    CHECK_INT(me.code, 3);
    close_field(&field);
}

/* ------------------------------------------------------------------------------------------ inline pools */

/* What runs in the waiting thread opens the gate of what runs in a worker. */
static int open_one(pp_task *task, const void *arg, size_t size)
{
    uint32_t gate;
    CHECK_INT(size, sizeof gate);
    memcpy(&gate, arg, sizeof gate);
    open_gate(gate);
    return pp_task_return(task, &gate, sizeof gate);
}

/* The last pool is inline. */
static struct field open_mixed(pp_start_method method)
{
    struct field field = open_pools(method, 1, 3);
    field.pools[field.pool_count++] = kit_pool(PP_START_INLINE, 1);
    return field;
}

static void add_inline(struct field *field, pp_function *function, uint32_t value)
{
    field->futures[field->count++] = submit_u32(field->pools[1], function, value);
}

static void add_worker(struct field *field, pp_function *function)
{
    struct gated g = {.begun = BEGUN, .gate = GATES + (uint32_t)field->count, .value = (uint32_t)field->count};
    field->futures[field->count++] = submit(field->pools[0], function, &g, sizeof g);
}

BOTH(all_futures_are_awaited_of_workers_and_an_inline_pool)
{
    board_make();
    for (uint32_t round = 0; round < ROUNDS; round++) {
        static struct field field;
        unsigned char done[3];
        if (round == 0)
            field = open_mixed(method);
        atomic_store(word(GATES), 0);
        add_worker(&field, gated);
        add_inline(&field, echo, 1);
        add_inline(&field, open_one, GATES);
        CHECK_INT(pp_wait(field.futures, 3, round % 2 ? PP_ALL_COMPLETED : PP_FIRST_FAILED, -1, done), 3);
        expect_done(done, "111");
        forget_futures(&field);
        if (round == ROUNDS - 1)
            close_field(&field);
    }
}

BOTH(the_first_future_is_awaited_of_workers_and_an_inline_pool)
{
    board_make();
    struct field field = open_mixed(method);
    unsigned char done[4];
    add_worker(&field, gated);
    add_inline(&field, echo, 1);
    add_inline(&field, open_one, GATES);
    add_worker(&field, gated);
    CHECK_INT(pp_wait(field.futures, 4, PP_FIRST_COMPLETED, -1, done), 1);
    expect_done(done, "0100"); /* the other one has not run */
    CHECK_INT(read_word(GATES), 0);
    pp_future *const list[] = {field.futures[0], field.futures[2]};
    open_gate(GATES);
    CHECK_OK(pp_future_wait(field.futures[0], -1));
    CHECK_INT(pp_wait(list, 2, PP_FIRST_COMPLETED, -1, done), 1);
    expect_done(done, "10");
    close_field(&field);
}

BOTH(the_first_failed_future_is_awaited_of_workers_and_an_inline_pool)
{
    board_make();
    struct field field = open_mixed(method);
    unsigned char done[6];
    add_inline(&field, echo, 1);
    add_inline(&field, echo, 1);
    add_worker(&field, gated_refusal);
    add_inline(&field, open_one, GATES + 2);
    add_worker(&field, gated);
    CHECK_OK(pp_future_cancel(field.futures[1]));
    CHECK_INT(pp_wait(field.futures, 5, PP_FIRST_FAILED, -1, done), 4);
    expect_done(done, "11110");
    add_inline(&field, refuse, 0);
    pp_future *const list[] = {field.futures[4], field.futures[5]};
    CHECK_INT(pp_wait(list, 2, PP_FIRST_FAILED, -1, done), 1);
    expect_done(done, "01");
    close_field(&field);
}

/* These two, whichever is first: a worker may be quicker with its end than the inline call that let it go. */
static void expect_both(pp_completed *completed, const struct field *field, size_t one, size_t other)
{
    pp_future *future = NULL;
    size_t at = SIZE_MAX;
    CHECK_INT(pp_completed_next(completed, -1, &future, &at), 1);
    CHECK(at == one || at == other);
    CHECK(future == field->futures[at]);
    size_t left = one + other - at;
    CHECK(next(completed, left) == field->futures[left]);
}

BOTH(futures_of_workers_and_an_inline_pool_come_as_they_end)
{
    board_make();
    struct field field = open_mixed(method);
    pp_completed *completed;
    add_worker(&field, gated);
    add_inline(&field, echo, 1);
    add_worker(&field, gated);
    add_inline(&field, open_one, GATES);
    CHECK_OK(pp_as_completed(field.futures, 4, &completed));
    CHECK(next(completed, 1) == field.futures[1]);
    expect_both(completed, &field, 0, 3);
    expect_nothing_yet(completed);
    open_gate(GATES + 2);
    CHECK(next(completed, 2) == field.futures[2]);
    expect_no_more(completed);
    pp_completed_close(completed);
    close_field(&field);
}

TEST(a_look_at_two_inline_pools_runs_one_call)
{
    board_make();
    pp_pool *pools[] = {kit_pool(PP_START_INLINE, 1), kit_pool(PP_START_INLINE, 1)};
    pp_future *futures[4];
    for (uint32_t i = 0; i < 4; i++)
        futures[i] = submit_u32(pools[i % 2], count_run, RUNS);
    for (uint32_t i = 0; i < 3; i++) {
        CHECK_INT(pp_wait(futures, 4, PP_ALL_COMPLETED, 0, NULL), -ETIMEDOUT);
        CHECK_INT(read_word(RUNS), i + 1);
    }
    CHECK_INT(pp_wait(futures, 4, PP_ALL_COMPLETED, 0, NULL), 4);
    for (uint32_t i = 0; i < 4; i++)
        expect_end(futures[i], 0);
    for (int i = 0; i < 2; i++)
        pp_pool_destroy(pools[i]);
}

/* ------------------------------------------------------------------------ threads that share inline pools */

static pp_pool *inline_pools[2];

static void *wait_for_one(void *future)
{
    CHECK_OK(pp_future_wait(future, -1));
    return NULL;
}

static void *wait_for_pair(void *futures)
{
    CHECK_INT(pp_wait(futures, 2, PP_ALL_COMPLETED, -1, NULL), 2);
    return NULL;
}

/*
 * One thread runs the first call; the other waits for the second one, which it has to run when that thread is done.
 * Which of them waits for one future and which for two of both pools is told by `first_pair` and `second_pair`.
 */
static void hand_on(bool first_pair, bool second_pair, uint32_t round)
{
    pp_future *first[2], *second[2];
    first[1] = submit_u32(inline_pools[1], echo, 1);
    second[1] = pp_future_ref(first[1]);
    CHECK_OK(pp_future_wait(first[1], -1));
    first[0] = submit_gated(inline_pools[0], BEGUN, GATES + round, 1);
    pthread_t one = start_thread(first_pair ? wait_for_pair : wait_for_one, first_pair ? (void *)first : first[0]);
    until(read_word(BEGUN) == round + 1);
    second[0] = submit_u32(inline_pools[0], echo, 1);
    pthread_t other =
        start_thread(second_pair ? wait_for_pair : wait_for_one, second_pair ? (void *)second : second[0]);
    test_sleep_ms(2); /* it sleeps, most times */
    open_gate(GATES + round);
    join_thread(one);
    join_thread(other);
    for (int i = 0; i < 2; i++) {
        pp_future_unref(first[i]);
        pp_future_unref(second[i]);
    }
}

static void hand_on_often(bool first_pair, bool second_pair)
{
    board_make();
    for (int i = 0; i < 2; i++)
        inline_pools[i] = kit_pool(PP_START_INLINE, 1);
    for (uint32_t round = 0; round < ROUNDS; round++)
        hand_on(first_pair, second_pair, round);
    for (int i = 0; i < 2; i++)
        pp_pool_destroy(inline_pools[i]);
}

TEST(who_waits_for_one_hands_an_inline_pool_on_to_who_waits_for_two)
{
    hand_on_often(false, true);
}

TEST(who_waits_for_two_hands_an_inline_pool_on_to_who_waits_for_one)
{
    hand_on_often(true, false);
}

TEST(who_waits_for_two_hands_an_inline_pool_on_to_who_waits_for_two)
{
    hand_on_often(true, true);
}

/* ------------------------------------------------------------------------------ waits within inline tasks */

static struct field mixed;

static int wait_for_both(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    pp_future *futures[] = {submit_u32(mixed.pools[1], echo, 4), submit_u32(mixed.pools[0], echo, 5)};
    CHECK_INT(pp_wait(futures, 2, PP_ALL_COMPLETED, -1, NULL), 2);
    uint32_t sum = result_u32(futures[0]) + result_u32(futures[1]);
    for (int i = 0; i < 2; i++)
        pp_future_unref(futures[i]);
    return pp_task_return(task, &sum, sizeof sum);
}

BOTH(an_inline_task_may_wait_for_its_own_pool_and_for_workers)
{
    mixed = open_mixed(method);
    pp_future *future = submit(mixed.pools[1], wait_for_both, NULL, 0);
    CHECK_INT(result_u32(future), 9);
    pp_future_unref(future);
    pp_pool_destroy(mixed.pools[0]);
    pp_pool_destroy(mixed.pools[1]);
}

/* It waits for itself: alone, and with one that is done, and with one that is not done yet. */
static int wait_for_itself(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    pp_completed *completed;
    pp_future *future = NULL;
    unsigned char done[2] = {7, 7};
    CHECK_INT(pp_wait(mixed.futures, 1, PP_ALL_COMPLETED, -1, done), -EDEADLK);
    CHECK(*pp_last_error());
    CHECK_INT(pp_wait(mixed.futures, 1, PP_FIRST_FAILED, 0, done), -EDEADLK);
    CHECK_INT(done[0], 7);
    mixed.futures[1] = submit_u32(mixed.pools[0], echo, 8);
    CHECK_INT(pp_wait(mixed.futures, 2, PP_FIRST_COMPLETED, -1, done), 1);
    expect_done(done, "01");
    CHECK_INT(pp_wait(mixed.futures, 2, PP_ALL_COMPLETED, -1, done), -EDEADLK);
    pp_future_unref(mixed.futures[1]);
    mixed.futures[1] = submit_u32(mixed.pools[0], echo, 8);
    CHECK_INT(pp_wait(mixed.futures, 2, PP_ALL_COMPLETED, -1, done), -EDEADLK);
    CHECK_OK(pp_as_completed(mixed.futures, 2, &completed));
    CHECK(next(completed, 1) == mixed.futures[1]);
    CHECK_INT(pp_completed_next(completed, -1, &future, NULL), -EDEADLK);
    CHECK(future == NULL && *pp_last_error());
    pp_completed_close(completed);
    pp_future_unref(mixed.futures[1]);
    return 0;
}

BOTH(an_inline_task_that_waits_for_itself_among_others_is_told_so)
{
    mixed = open_mixed(method);
    mixed.futures[0] = submit(mixed.pools[1], wait_for_itself, NULL, 0);
    expect_end(mixed.futures[0], 0);
    pp_pool_destroy(mixed.pools[0]);
    pp_pool_destroy(mixed.pools[1]);
}
