/* SPDX-License-Identifier: MIT */
/* A signal while a thread waits for many futures or steps through them, and a thread that is cancelled meanwhile. */
#include "signal_kit.h"

#include "many_kit.h"

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
