/* SPDX-License-Identifier: MIT */
/* What done callbacks may do, up to ending their own pool, and how a pool's end waits for them. */
#include "callbacks_kit.h"

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
