/* SPDX-License-Identifier: MIT */
/* Many futures at once, of inline pools and of workers besides: who waits runs what has not begun. */
#include "many_kit.h"

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
