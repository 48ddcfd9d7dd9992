/* SPDX-License-Identifier: MIT */
/* Many futures at once, of one pool and of several: pp_wait. */
#include "many_kit.h"

static int gated_crash(pp_task *task, const void *arg, size_t size)
{
    int code = gated(task, arg, size);
    raise(SIGKILL);
    return code;
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

/* Of 200 every 64th is done, then every 32nd, and so on: few, many, and all. */
TEST(each_that_is_done_is_told_however_many_are)
{
    enum { COUNT = 200 };
    pp_pool *pool = kit_pool(PP_START_FORK, 1);
    pp_future *futures[COUNT];
    unsigned char done[COUNT];
    for (int i = 0; i < COUNT; i++)
        CHECK_OK(pp_future_create(pool, &futures[i]));
    for (int step = 64, ended = 0; step > 0; step /= 2) {
        for (int i = 0; i < COUNT; i++)
            if (pp_future_state(futures[i]) == PP_PENDING && i % step == 0) {
                CHECK_OK(pp_future_set_result(futures[i], NULL, 0));
                ended++;
            }
        memset(done, 7, sizeof done);
        CHECK_INT(pp_wait(futures, COUNT, PP_FIRST_COMPLETED, -1, done), ended);
        for (int i = 0; i < COUNT; i++)
            CHECK_INT(done[i], i % step == 0);
    }
    for (int i = 0; i < COUNT; i++)
        pp_future_unref(futures[i]);
    pp_pool_destroy(pool);
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
