/* SPDX-License-Identifier: MIT */
/* Done callbacks: when they run, in which thread and order, what they may do, and that nothing of the pool waits for
 * them. */
#include "call_kit.h"

#include <sys/prctl.h>

enum { BEGUN, GATE, HELD, BLOCKED, NEVER };

/* ------------------------------------------------------------------------------------------------ notes */

#define MOST_NOTES 16384

static struct note {
    pp_future *future;
    intptr_t number;
    pthread_t thread;
    char thread_name[16];
    int code; /* of its future */
} notes[MOST_NOTES];

static _Atomic uint32_t taken, noted; /* places in notes, and those that are written */

/* A callback: writes the next note. */
static void note(pp_future *future, void *number)
{
    struct note *n = &notes[atomic_fetch_add(&taken, 1)];
    const pp_error *error;
    n->future = future;
    n->number = (intptr_t)number;
    n->thread = pthread_self();
    prctl(PR_GET_NAME, n->thread_name);
    CHECK_OK(pp_future_error(future, 0, &error));
    n->code = error ? error->code : 0;
    atomic_fetch_add(&noted, 1);
}

static void add_note(pp_future *future, intptr_t number)
{
    CHECK_OK(
        pp_future_add_callback(future, note, (void *)number)); /* NOLINT(performance-no-int-to-ptr): read as a number */
}

static void wait_at_the_gate(pp_future *future, void *number)
{
    add(BLOCKED);
    wait_at(GATE);
    note(future, number);
}

/* A call that is not done before let_go. */
static pp_future *submit_held(pp_pool *pool)
{
    return submit_gated(pool, BEGUN, HELD, 1);
}

static void let_go(void)
{
    open_gate(HELD);
}

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

/* ----------------------------------------------------------------------------------------- what one may do */

static pp_pool *the_pool;

/* The last reference goes before the callback returns. */
static void submit_the_next(pp_future *future, void *context)
{
    (void)context;
    uint32_t value = result_u32(future);
    pp_future_unref(future);
    if (value > 0) {
        pp_future *next = submit_u32(the_pool, echo, value - 1);
        CHECK_OK(pp_future_add_callback(next, submit_the_next, NULL));
    } else {
        add(BEGUN);
    }
}

BOTH(a_callback_may_submit_the_next_call_and_give_its_future_up)
{
    board_make();
    the_pool = kit_pool(method, 1);
    pp_future *future = submit_u32(the_pool, echo, 200);
    CHECK_OK(pp_future_add_callback(future, submit_the_next, NULL));
    until(read_word(BEGUN) == 1);
    pp_pool_destroy(the_pool);
}

TEST(a_callback_of_an_inline_pool_may_submit_the_next_call)
{
    board_make();
    the_pool = kit_pool(PP_START_INLINE, 1);
    pp_future *future = submit_u32(the_pool, echo, 200);
    CHECK_OK(pp_future_add_callback(future, submit_the_next, NULL));
    until((expect_usable(the_pool), read_word(BEGUN) == 1));
    pp_pool_destroy(the_pool);
}

static void give_up(pp_future *future, void *context)
{
    pp_future_unref(future);
    CHECK_INT(pp_future_state(future), PP_FINISHED); /* it has the future for as long as it runs */
    ++*(int *)context;
}

EACH(a_callback_may_give_up_the_last_reference_also_where_it_is_added)
{
    int calls = 0;
    pp_pool *pool = kit_pool(method, 1);
    pp_future *future = submit_u32(pool, echo, 1);
    CHECK_OK(pp_future_wait(future, -1));
    pp_pool_destroy(pool); /* now the future keeps what is left of it */
    CHECK_OK(pp_future_add_callback(future, give_up, &calls));
    CHECK_INT(calls, 1);
}

static void add_more(pp_future *future, void *other)
{
    add_note(future, 2);
    CHECK_INT(noted, 0);
    if (other) {
        add_note(other, 1);
        CHECK_INT(noted, 1);
        CHECK(pthread_equal(notes[0].thread, pthread_self()));
    }
}

EACH(a_callback_may_add_to_its_own_and_to_other_futures)
{
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    pp_future *done = submit_u32(pool, echo, 1);
    CHECK_OK(pp_future_wait(done, -1));
    pp_future *future = submit_held(pool);
    CHECK_OK(pp_future_add_callback(future, add_more, done));
    let_go();
    CHECK_OK(pp_future_wait(future, -1));
    until(noted == 2);
    CHECK_INT(notes[1].number, 2);
    pp_future_unref(done);
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

static void cancel_and_wait(pp_future *future, void *other)
{
    CHECK_OK(pp_future_cancel(other));
    CHECK_INT(pp_future_state(other), PP_CANCELLED_AND_NOTIFIED);
    open_gate(GATE);
    expect_usable(the_pool);
    note(future, NULL);
}

BOTH(a_callback_may_cancel_and_wait)
{
    board_make();
    the_pool = kit_pool(method, 1);
    pp_future *first = submit_held(the_pool), *second = submit_gated(the_pool, BEGUN, GATE, 2),
              *other = submit_u32(the_pool, echo, 1);
    CHECK_OK(pp_future_add_callback(first, cancel_and_wait, other));
    let_go();
    until(noted == 1);
    expect_end(first, 0);
    expect_end(second, 0);
    expect_end(other, -ECANCELED);
    pp_pool_destroy(the_pool);
}

/* ------------------------------------------------------------------------------------------- the pool's end */

static void shut_down(pp_future *future, void *context)
{
    (void)context;
    CHECK_INT(pp_pool_shutdown(the_pool, 0, -1), -EDEADLK);
    CHECK_INT(pp_pool_shutdown(the_pool, PP_CANCEL_PENDING, 1000), -EDEADLK);
    CHECK_HAS(pp_last_error(), "callback");
    pp_future *later = submit_u32(the_pool, echo, 1); /* so nothing has changed */
    int code = pp_pool_shutdown(the_pool, 0, 0);
    CHECK(code == -ETIMEDOUT || code == 0);
    CHECK_INT(pp_submit(the_pool, echo, NULL, 0, NULL), -ESHUTDOWN);
    expect_end(later, 0);
    note(future, NULL);
}

EACH(a_callback_may_shut_its_pool_down_but_not_wait_for_it)
{
    board_make();
    the_pool = kit_pool(method, 1);
    pp_future *future = submit_held(the_pool);
    CHECK_OK(pp_future_add_callback(future, shut_down, NULL));
    let_go();
    CHECK_OK(pp_future_wait(future, -1));
    until(noted == 1);
    CHECK_OK(pp_pool_shutdown(the_pool, 0, -1));
    pp_future_unref(future);
    pp_pool_destroy(the_pool);
}

static void destroy_the_pool(pp_future *future, void *context)
{
    (void)context;
    pp_pool_destroy(the_pool);
    CHECK_HAS(pp_last_error(), "callback");
    note(future, NULL);
}

EACH(a_callback_may_destroy_its_pool_which_then_ends_by_itself)
{
    board_make();
    pp_pool_destroy(kit_pool(method, 1));
    int threads = settled_thread_count(), fds = count_fds();
    for (uint32_t round = 0; round < (TEST_ON_VALGRIND ? 3 : 10); round++) { /* there, a start takes a second or two */
        the_pool = kit_pool(method, 1);
        atomic_store(word(HELD), 0);
        pp_future *future = submit_held(the_pool), *behind = submit_u32(the_pool, echo, 2);
        CHECK_OK(pp_future_add_callback(future, destroy_the_pool, NULL));
        let_go();
        CHECK_OK(pp_future_wait(future, -1));
        until(noted == round + 1);
        CHECK_INT(result_u32(behind), 2);
        add_note(behind, 0);
        atomic_fetch_sub(&noted, 1);
        pp_future_unref(behind);
        pp_future_unref(future);
    }
    until(thread_count() == threads && count_fds() == fds);
}

static void destroy_another(pp_future *future, void *other)
{
    pp_pool_destroy(other);
    note(future, NULL);
}

EACH(a_callback_may_destroy_another_pool)
{
    pp_pool *pool = kit_sibling(method, (pp_pool_options){.max_workers = 1});
    pp_pool *other = kit_sibling(method, (pp_pool_options){.max_workers = 1});
    pp_future *future = submit_u32(pool, echo, 1);
    expect_usable(other);
    CHECK_OK(pp_future_add_callback(future, destroy_another, other));
    CHECK_OK(pp_future_wait(future, -1));
    pp_pool_destroy(pool);
    CHECK_INT(noted, 1);
    pp_future_unref(future);
}

static void *shut_down_in_a_thread(void *pool)
{
    CHECK_OK(pp_pool_shutdown(pool, 0, -1));
    CHECK_INT(noted, 1);
    return NULL;
}

BOTH(a_shutdown_waits_for_callbacks_that_are_due)
{
    board_make();
    pthread_t threads[3];
    pp_pool *pool = kit_pool(method, 1);
    pp_future *future = submit_held(pool);
    CHECK_OK(pp_future_add_callback(future, wait_at_the_gate, NULL));
    let_go();
    for (int i = 0; i < 3; i++)
        threads[i] = start_thread(shut_down_in_a_thread, pool);
    until(pp_future_state(future) == PP_FINISHED);
    CHECK_INT(pp_pool_shutdown(pool, 0, 100), -ETIMEDOUT);
    open_gate(GATE);
    CHECK_OK(pp_pool_shutdown(pool, 0, -1));
    CHECK_INT(noted, 1);
    for (int i = 0; i < 3; i++)
        join_thread(threads[i]);
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

static void take_a_while(pp_future *future, void *number)
{
    test_sleep_ms(20);
    note(future, number);
}

EACH(destroying_waits_for_callbacks_that_are_due)
{
    pp_pool *pool = kit_pool(method, 2);
    for (uint32_t i = 0; i < 10; i++) {
        pp_future *future = submit_u32(pool, echo, i);
        CHECK_OK(pp_future_add_callback(future, take_a_while, NULL));
        pp_future_unref(future);
    }
    pp_pool_destroy(pool);
    CHECK_INT(noted, 10);
}

BOTH(callbacks_of_a_released_pool_run)
{
    board_make();
    pp_pool_destroy(kit_pool(method, 1));
    int threads = settled_thread_count(), fds = count_fds();
    pp_pool *pool = kit_pool(method, 1);
    pp_future *future, *later;
    occupy(pool, BEGUN, GATE, 1, &future);
    later = submit_u32(pool, echo, 1);
    add_note(future, 0);
    pp_pool_release(pool);
    add_note(later, 1);
    pp_future_unref(future);
    pp_future_unref(later);
    open_gate(GATE);
    until(noted == 2);
    CHECK(notes[0].number == 0 && notes[1].number == 1);
    until(thread_count() == threads && count_fds() == fds);
}

/* The first callback, and with it the thread, after the release. */
BOTH(a_first_callback_after_the_release_runs)
{
    board_make();
    pp_pool_destroy(kit_pool(method, 1));
    int threads = settled_thread_count();
    pp_pool *pool = kit_pool(method, 1);
    pp_future *future;
    occupy(pool, BEGUN, GATE, 1, &future);
    pp_pool_release(pool);
    add_note(future, 0);
    pp_future_unref(future);
    open_gate(GATE);
    until(noted == 1);
    until(thread_count() == threads);
}

BOTH(pools_with_callbacks_leave_no_thread_and_no_descriptor)
{
    pp_pool_destroy(kit_pool(method, 1));
    int threads = settled_thread_count(), fds = count_fds();
    for (uint32_t i = 0; i < (TEST_ON_VALGRIND ? 6 : 20); i++) {
        pp_pool *pool = kit_pool(method, 1);
        pp_future *future = submit_u32(pool, echo, i);
        add_note(future, i);
        if (i % 2)
            pp_future_unref(future);
        if (i % 3)
            pp_pool_destroy(pool);
        else
            pp_pool_release(pool);
        until(noted == i + 1);
        if (i % 2 == 0)
            pp_future_unref(future);
    }
    until(thread_count() == threads && count_fds() == fds);
}

/* A child has none of the threads, and whatever lock they hold it leaves alone. */
BOTH(a_child_that_is_forked_while_callbacks_run_calls_none_and_harms_nothing)
{
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    pp_future *first = submit_held(pool), *second = submit_u32(pool, echo, 1);
    CHECK_OK(pp_future_add_callback(first, wait_at_the_gate, NULL));
    add_note(second, 1);
    let_go();
    until(read_word(BLOCKED) == 1);
    pid_t child = fork();
    if (child == 0) {
        CHECK_INT(pp_future_add_callback(first, note, NULL), -EPERM);
        CHECK_INT(pp_future_wait(second, -1), -EPERM);
        pp_future_unref(first);
        pp_pool_destroy(pool);
        CHECK_INT(noted, 0);
        if (KIT_ASAN)
            _exit(0); /* it would take for a leak what threads have that are not here */
        exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK_INT(status, 0);
    open_gate(GATE);
    pp_future_unref(first);
    pp_future_unref(second);
    pp_pool_destroy(pool);
    CHECK_INT(noted, 2);
}

/* ------------------------------------------------------------------------------------------------ inline */

TEST(an_inline_pool_makes_no_thread_for_callbacks)
{
    pp_pool *pool = kit_pool(PP_START_INLINE, 1);
    int threads = thread_count();
    pp_future *future = submit_u32(pool, echo, 1);
    add_note(future, 1);
    add_note(future, 2);
    CHECK_INT(noted, 0);
    CHECK_OK(pp_future_wait(future, -1));
    CHECK_INT(noted, 2);
    CHECK(notes[0].number == 1 && notes[1].number == 2);
    CHECK(pthread_equal(notes[0].thread, pthread_self()) && pthread_equal(notes[1].thread, pthread_self()));
    CHECK_INT(thread_count(), threads);
    pp_future_unref(future);
    future = submit_u32(pool, echo, 1);
    add_note(future, 3);
    CHECK_OK(pp_future_cancel(future));
    CHECK_INT(noted, 3);
    CHECK_INT(notes[2].code, -ECANCELED);
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

static void *wait_in_a_thread(void *future)
{
    CHECK_OK(pp_future_wait(future, -1));
    return NULL;
}

/* One at a time: the thread that runs one runs what becomes due meanwhile, too. */
TEST(a_callback_of_an_inline_pool_that_blocks_stops_no_other_thread)
{
    board_make();
    pp_pool *pool = kit_pool(PP_START_INLINE, 1);
    pp_future *first = submit_u32(pool, echo, 1), *second = submit_u32(pool, echo, 2);
    CHECK_OK(pp_future_add_callback(first, wait_at_the_gate, NULL));
    add_note(second, 2);
    pthread_t thread = start_thread(wait_in_a_thread, first);
    until(read_word(BLOCKED) == 1);
    CHECK_INT(result_u32(second), 2);
    CHECK_INT(noted, 0);
    CHECK_INT(pp_pool_shutdown(pool, 0, 20), -ETIMEDOUT);
    open_gate(GATE);
    CHECK_OK(pp_pool_shutdown(pool, 0, -1));
    CHECK_INT(noted, 2);
    CHECK(notes[0].number == 0 && notes[1].number == 2 && pthread_equal(notes[0].thread, notes[1].thread));
    join_thread(thread);
    pp_future_unref(first);
    pp_future_unref(second);
    pp_pool_destroy(pool);
}

/* Nobody could ever wait for them. */
TEST(calls_that_only_their_callbacks_want_are_cancelled_when_an_inline_pool_is_released)
{
    board_make();
    pp_pool *pool = kit_pool(PP_START_INLINE, 1);
    pp_future *kept = submit_u32(pool, count_run, BEGUN), *dropped = submit_u32(pool, count_run, BEGUN),
              *late = submit_u32(pool, count_run, BEGUN);
    add_note(kept, 0);
    add_note(dropped, 1);
    add_note(late, 2);
    pp_future_unref(dropped);
    CHECK_INT(noted, 0);
    pp_pool_release(pool);
    CHECK_INT(noted, 1);
    pp_future_unref(pp_future_ref(late));
    CHECK_INT(noted, 1);
    pp_future_unref(late);
    CHECK_INT(noted, 2);
    CHECK_INT(result_u32(kept), BEGUN);
    CHECK_INT(noted, 3);
    pp_future_unref(kept);
    CHECK(notes[0].number == 1 && notes[1].number == 2 && notes[2].number == 0);
    CHECK(notes[0].code == -ECANCELED && notes[1].code == -ECANCELED && notes[2].code == 0);
    CHECK_INT(read_word(BEGUN), 1);
}

TEST(the_last_call_of_a_released_inline_pool_is_given_up_with_a_callback)
{
    for (int i = 0; i < 2; i++) {
        pp_pool *pool = kit_pool(PP_START_INLINE, 1);
        pp_future *future = submit_u32(pool, echo, 1);
        add_note(future, i);
        if (i)
            pp_future_unref(future);
        pp_pool_release(pool);
        if (!i)
            pp_future_unref(future);
        CHECK_INT(noted, i + 1);
    }
}
