/* SPDX-License-Identifier: MIT */
/* Done callbacks: when they run, in which thread and order, and that nothing of the pool waits for them. */
#include "callbacks_kit.h"

/* -------------------------------------------------------------------------------------- when and in what order */

BOTH(callbacks_run_once_in_order_on_a_thread_of_the_pools)
{
    board_make();
    pp_future *future;
    pp_pool *pool = kit_pool(method, 1);
    occupy(pool, BEGUN, GATE, 1, &future);
    for (int i = 0; i < 5; i++)
        add_note(future, i);
    CHECK_INT(noted, 0);
    open_gate(GATE);
    until(noted == 5);
    for (int i = 0; i < 5; i++) {
        CHECK(notes[i].future == future);
        CHECK_INT(notes[i].number, i);
        CHECK_INT(notes[i].code, 0);
        CHECK_STR(notes[i].thread_name, "pp-callbacks");
    }
    pp_future_unref(future);
    pp_pool_destroy(pool);
    CHECK_INT(noted, 5);
}

EACH(a_callback_of_a_done_future_runs_before_the_add_returns)
{
    pp_pool *pool = kit_pool(method, 1);
    pp_future *future = submit_u32(pool, echo, 1);
    CHECK_OK(pp_future_wait(future, -1));
    for (int i = 0; i < 3; i++) {
        add_note(future, i);
        CHECK_INT(noted, i + 1);
        CHECK(notes[i].future == future && notes[i].number == i && pthread_equal(notes[i].thread, pthread_self()));
    }
    pp_pool_destroy(pool);
    add_note(future, 3);
    CHECK_INT(noted, 4);
    pp_future_unref(future);
}

BOTH(a_callback_of_a_done_future_comes_after_those_that_have_not_returned)
{
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    pp_future *future = submit_held(pool);
    CHECK_OK(pp_future_add_callback(future, wait_at_the_gate, NULL));
    let_go();
    until(read_word(BLOCKED) == 1);
    CHECK_INT(pp_future_state(future), PP_FINISHED);
    add_note(future, 1);
    add_note(future, 2);
    CHECK_INT(noted, 0);
    open_gate(GATE);
    until(noted == 3);
    for (int i = 0; i < 3; i++)
        CHECK_INT(notes[i].number, i);
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

#define ROW 50

EACH(futures_call_back_in_the_order_in_which_they_are_done)
{
    board_make();
    pp_future *futures[ROW];
    pp_pool *pool = kit_pool(method, 1);
    for (uint32_t i = 0; i < ROW; i++)
        futures[i] = submit_gated(pool, BEGUN, GATE, i);
    for (int i = ROW; i-- > 0;)
        add_note(futures[i], i);
    open_gate(GATE);
    CHECK_OK(pp_pool_shutdown(pool, 0, -1));
    CHECK_INT(noted, ROW);
    for (int i = 0; i < ROW; i++) {
        CHECK_INT(notes[i].number, i);
        pp_future_unref(futures[i]);
    }
    pp_pool_destroy(pool);
}

/* The manager delivers. */
BOTH(callbacks_run_though_no_thread_waits)
{
    pp_pool *pool = kit_pool(method, 1);
    for (uint32_t i = 0; i < 30; i++) {
        pp_future *future = submit_u32(pool, echo, i);
        add_note(future, i);
        pp_future_unref(future);
        until(noted == i + 1);
        if (i % 3 == 0)
            test_sleep_ms(10);
        else if (i % 3 == 1)
            expect_usable(pool);
    }
    pp_pool_destroy(pool);
}

/* ------------------------------------------------------------------------------------- however a call ends */

EACH(a_failed_call_calls_back)
{
    pp_pool *pool = kit_pool(method, 1);
    pp_future *future = submit(pool, refuse, NULL, 0);
    add_note(future, 1);
    CHECK_OK(pp_future_wait(future, -1));
    until(noted == 1);
    CHECK_INT(notes[0].code, -EREMOTEIO);
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

BOTH(a_call_calls_back_however_it_ends)
{
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    struct gated slow = {.begun = BEGUN, .gate = NEVER};
    pp_call call = {.function = gated, .arg = &slow, .size = sizeof slow, .timeout = 50};
    pp_future *running, *futures[3];
    occupy(pool, BEGUN, GATE, 1, &running);
    CHECK_OK(pp_submit_call(pool, &call, &futures[0]));
    futures[1] = submit(pool, crash, NULL, 0);
    futures[2] = submit_u32(pool, echo, 1);
    for (int i = 0; i < 3; i++)
        add_note(futures[i], i);
    CHECK_OK(pp_future_cancel(futures[2]));
    until(noted == 1);
    CHECK_INT(notes[0].code, -ECANCELED);
    open_gate(GATE);
    until(noted == 3);
    CHECK_INT(notes[1].code, -ETIME);
    CHECK_INT(notes[2].code, -EOWNERDEAD);
    expect_usable(pool);
    expect_end(running, 0);
    for (int i = 0; i < 3; i++)
        pp_future_unref(futures[i]);
    pp_pool_destroy(pool);
}

BOTH(all_call_back_when_their_pool_breaks)
{
    board_make();
    pp_pool *pool = kit_pool_with(method, (pp_pool_options){.max_workers = 1, .on_crash = PP_BREAK_POOL});
    pp_future *running;
    occupy(pool, BEGUN, GATE, 1, &running);
    for (int i = 0; i < 20; i++) {
        pp_future *future = i == 0 ? submit(pool, crash, NULL, 0) : submit_gated(pool, BEGUN, NEVER, 1);
        add_note(future, i);
        pp_future_unref(future);
    }
    open_gate(GATE);
    until(noted == 20);
    for (int i = 0; i < 20; i++) {
        CHECK(notes[i].code == -ENOTRECOVERABLE || (notes[i].code == -EOWNERDEAD && notes[i].number == 0));
        CHECK(strcmp(notes[i].thread_name, "pp-callbacks") == 0);
    }
    pp_future_unref(running);
    pp_pool_destroy(pool);
}

BOTH(a_shutdown_that_cancels_calls_back)
{
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    pp_future *running;
    occupy(pool, BEGUN, GATE, 1, &running);
    add_note(running, 0);
    for (int i = 1; i < 10; i++) {
        pp_future *future = submit_u32(pool, echo, 1);
        add_note(future, i);
        pp_future_unref(future);
    }
    CHECK_INT(pp_pool_shutdown(pool, PP_CANCEL_PENDING, 0), -ETIMEDOUT);
    until(noted == 9);
    open_gate(GATE);
    CHECK_OK(pp_pool_shutdown(pool, 0, -1));
    CHECK_INT(noted, 10);
    for (int i = 0; i < 10; i++)
        CHECK_INT(notes[i].code, i < 9 ? -ECANCELED : 0);
    pp_future_unref(running);
    pp_pool_destroy(pool);
}

/* ------------------------------------------------------------------------------------------------ many */

#define STREAM 10000

static _Atomic uint32_t seen[STREAM], seen_in_all;

static void see(pp_future *future, void *context)
{
    _Atomic uint32_t *mine = context;
    CHECK_INT(result_u32(future), mine - seen);
    atomic_fetch_add(mine, 1);
    atomic_fetch_add(&seen_in_all, 1);
}

static void stream(pp_start_method method, uint32_t kept_each)
{
    static pp_future *kept[STREAM];
    pp_pool *pool = kit_pool(method, 2);
    for (uint32_t i = 0; i < STREAM; i++) {
        pp_future *future = submit_u32(pool, echo, i);
        CHECK_OK(pp_future_add_callback(future, see, &seen[i]));
        if (i % kept_each)
            pp_future_unref(future);
        else
            kept[i] = future;
    }
    for (uint32_t i = 0; i < STREAM; i += kept_each)
        expect_end(kept[i], 0);
    if (method != PP_START_INLINE)
        until(seen_in_all == STREAM);
    pp_pool_destroy(pool);
    for (uint32_t i = 0; i < STREAM; i++)
        CHECK_INT(seen[i], 1);
}

BOTH_WITHIN(ten_thousand_futures_call_back_while_results_stream, 60)
{
    stream(method, 1);
}

BOTH_WITHIN(ten_thousand_futures_call_back_though_most_were_given_up, 60)
{
    stream(method, 100);
}

TEST_WITHIN(ten_thousand_futures_call_back_inline, 60)
{
    stream(PP_START_INLINE, 100);
}

#define ADDERS 8
#define ADDS 300

static struct adder {
    pp_future *future;
    _Atomic uint32_t calls;
    struct add {
        struct adder *adder;
        uint32_t number;
    } adds[ADDS];
} adders[ADDERS];

/* One adder's are called one after the other, here or on the pool's thread. */
static void count_in_order(pp_future *future, void *context)
{
    const struct add *this = context;
    CHECK(future == this->adder->future);
    CHECK_INT(this->adder->calls, this->number);
    this->adder->calls++;
}

static void *add_many(void *argument)
{
    struct adder *adder = argument;
    for (uint32_t i = 0; i < ADDS; i++) {
        adder->adds[i] = (struct add){.adder = adder, .number = i};
        CHECK_OK(pp_future_add_callback(adder->future, count_in_order, &adder->adds[i]));
        if (i == ADDS / 2)
            add(BEGUN);
    }
    return NULL;
}

static void add_from_many_threads(pp_future *future)
{
    pthread_t threads[ADDERS];
    for (int i = 0; i < ADDERS; i++) {
        adders[i].future = future;
        adders[i].calls = 0;
        threads[i] = start_thread(add_many, &adders[i]);
    }
    until(read_word(BEGUN) >= 2); /* the call's begin, or another one's, and an adder's middle */
    open_gate(GATE);
    for (int i = 0; i < ADDERS; i++)
        join_thread(threads[i]);
}

BOTH_WITHIN(callbacks_that_eight_threads_add_while_the_future_ends_run_once_each, 60)
{
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    for (int round = 0; round < 10; round++) {
        pp_future *future;
        atomic_store(word(GATE), 0);
        atomic_store(word(BEGUN), 0);
        occupy(pool, BEGUN, GATE, 1, &future);
        add_from_many_threads(future);
        for (int i = 0; i < ADDERS; i++)
            until(adders[i].calls == ADDS);
        pp_future_unref(future);
    }
    pp_pool_destroy(pool);
    for (int i = 0; i < ADDERS; i++)
        CHECK_INT(adders[i].calls, ADDS);
}

/* ------------------------------------------------------------------------------------ nothing waits for one */

BOTH_WITHIN(a_callback_that_blocks_delays_no_timeout_no_crash_and_no_restart, 30)
{
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    struct gated slow = {.begun = BEGUN, .gate = NEVER};
    pp_call call = {.function = gated, .arg = &slow, .size = sizeof slow, .timeout = 50};
    pp_future *future = submit_held(pool), *other;
    CHECK_OK(pp_future_add_callback(future, wait_at_the_gate, NULL));
    let_go();
    until(read_word(BLOCKED) == 1);
    for (int i = 0; i < 3; i++) {
        CHECK_OK(pp_submit_call(pool, &call, &other));
        expect_end(other, -ETIME);
        expect_end(submit(pool, crash, NULL, 0), -EOWNERDEAD);
        expect_usable(pool);
    }
    CHECK_INT(noted, 0);
    open_gate(GATE);
    pp_future_unref(future);
    pp_pool_destroy(pool);
    CHECK_INT(noted, 1);
}

BOTH(futures_are_done_behind_a_callback_that_blocks)
{
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    pp_future *first = submit_held(pool), *second = submit_u32(pool, echo, 1);
    CHECK_OK(pp_future_add_callback(first, wait_at_the_gate, NULL));
    add_note(second, 2);
    let_go();
    CHECK_OK(pp_future_wait(second, -1));
    CHECK_INT(noted, 0);
    open_gate(GATE);
    until(noted == 2);
    CHECK_INT(notes[1].number, 2);
    pp_future_unref(first);
    pp_future_unref(second);
    pp_pool_destroy(pool);
}
