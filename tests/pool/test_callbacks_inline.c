/* SPDX-License-Identifier: MIT */
/* Done callbacks of inline pools, which have no thread for them. */
#include "callbacks_kit.h"

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
