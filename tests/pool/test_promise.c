/* SPDX-License-Identifier: MIT */
/* Futures that the program completes itself: the five states and the ways between them, and all that is as with futures
 * of calls. */
#include "call_kit.h"

enum { BEGUN, GATE };

static pp_future *promise(pp_pool *pool)
{
    pp_future *future = NULL;
    CHECK_OK(pp_future_create(pool, &future));
    CHECK(future != NULL);
    CHECK_INT(pp_future_state(future), PP_PENDING);
    return future;
}

static void set_u32(pp_future *future, uint32_t value)
{
    CHECK_INT(pp_future_set_result(future, &value, sizeof value), 0);
}

/* -------------------------------------------------------------------------------------------- states */

static int begin(pp_future *future)
{
    return pp_future_set_running_or_notify_cancel(future);
}

static int succeed(pp_future *future)
{
    uint32_t value = 7;
    return pp_future_set_result(future, &value, sizeof value);
}

static int fail(pp_future *future)
{
    return pp_future_set_error(future, -ENOENT, "no such thing");
}

/* A future in this state. */
static pp_future *promise_in(pp_pool *pool, pp_future_status state)
{
    pp_future *future = promise(pool);
    if (state == PP_RUNNING)
        CHECK_INT(begin(future), 1);
    if (state == PP_CANCELLED || state == PP_CANCELLED_AND_NOTIFIED)
        CHECK_INT(pp_future_cancel(future), 0);
    if (state == PP_CANCELLED_AND_NOTIFIED)
        CHECK_INT(begin(future), 0);
    if (state == PP_FINISHED)
        CHECK_INT(succeed(future), 0);
    CHECK_INT(pp_future_state(future), state);
    return future;
}

static const struct transition {
    int (*act)(pp_future *future);
    struct {
        int code, state;
    } from[5];
} transitions[] = {
    {begin,
     {{1, PP_RUNNING},
      {-EINVAL, PP_RUNNING},
      {0, PP_CANCELLED_AND_NOTIFIED},
      {-EINVAL, PP_CANCELLED_AND_NOTIFIED},
      {-EINVAL, PP_FINISHED}}},
    {succeed,
     {{0, PP_FINISHED},
      {0, PP_FINISHED},
      {-EINVAL, PP_CANCELLED},
      {-EINVAL, PP_CANCELLED_AND_NOTIFIED},
      {-EINVAL, PP_FINISHED}}},
    {fail,
     {{0, PP_FINISHED},
      {0, PP_FINISHED},
      {-EINVAL, PP_CANCELLED},
      {-EINVAL, PP_CANCELLED_AND_NOTIFIED},
      {-EINVAL, PP_FINISHED}}},
    {pp_future_cancel,
     {{0, PP_CANCELLED},
      {-EBUSY, PP_RUNNING},
      {0, PP_CANCELLED},
      {0, PP_CANCELLED_AND_NOTIFIED},
      {-EALREADY, PP_FINISHED}}},
};

EACH(each_act_in_each_state_does_what_the_model_says_or_is_refused)
{
    static const char *const names[] = {"pending", "running", "cancelled", "cancelled", "finished"};
    pp_pool *pool = kit_pool(method, 1);
    for (size_t i = 0; i < sizeof transitions / sizeof *transitions; i++) {
        for (int state = PP_PENDING; state <= PP_FINISHED; state++) {
            pp_future *future = promise_in(pool, state);
            CHECK_INT(transitions[i].act(future), transitions[i].from[state].code);
            CHECK_INT(pp_future_state(future), transitions[i].from[state].state);
            if (transitions[i].from[state].code == -EINVAL)
                CHECK_HAS(pp_last_error(), names[state]);
            pp_future_unref(future);
        }
    }
    pp_pool_destroy(pool);
}

EACH(a_refused_act_leaves_the_outcome)
{
    uint32_t value = 8;
    const pp_error *error;
    pp_pool *pool = kit_pool(method, 1);
    pp_future *future = promise_in(pool, PP_FINISHED);
    CHECK_INT(pp_future_set_result(future, &value, sizeof value), -EINVAL);
    char *large = harness_keep(calloc(1, 1 << 20));
    CHECK_INT(pp_future_set_result(future, large, 1 << 20), -EINVAL);
    CHECK_INT(fail(future), -EINVAL);
    CHECK_INT(result_u32(future), 7);
    pp_future_unref(future);
    future = promise_in(pool, PP_CANCELLED);
    CHECK_INT(succeed(future), -EINVAL);
    CHECK_OK(pp_future_error(future, 0, &error));
    CHECK_INT(error->kind, PP_ERROR_CANCELLED);
    CHECK_INT(pp_future_result(future, 0, &value, sizeof value, NULL), -ECANCELED);
    pp_future_unref(future);
    free(large);
    pp_pool_destroy(pool);
}

EACH(the_future_of_a_submitted_call_is_its_pools)
{
    pp_pool *pool = kit_pool(method, 1);
    pp_future *future = submit_u32(pool, echo, 5);
    for (int i = 0; i < 2; i++) {
        CHECK_INT(begin(future), -EINVAL);
        CHECK_INT(succeed(future), -EINVAL);
        CHECK_INT(fail(future), -EINVAL);
        CHECK_HAS(pp_last_error(), "submitted");
        CHECK_INT(result_u32(future), 5);
    }
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

/* ------------------------------------------------------------------------------------------ outcomes */

EACH(results_of_any_size_are_copied_and_read_in_each_way)
{
    static const size_t sizes[] = {0, 1, 47, 48, 49, 5000, 1 << 20};
    pp_pool *pool = kit_pool(method, 1);
    char *data = malloc(1 << 20), *copy = malloc(1 << 20);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t size = sizes[i], have = 77;
        const void *view;
        void *taken;
        pp_future *future = promise(pool);
        memset(data, 'a' + (int)i, size);
        CHECK_INT(pp_future_set_result(future, size ? data : NULL, size), 0);
        memset(data, 'x', size);
        CHECK_OK(pp_future_result(future, 0, copy, 1 << 20, &have));
        CHECK_INT(have, size);
        memset(data, 'a' + (int)i, size);
        CHECK(memcmp(copy, data, size) == 0);
        CHECK_OK(pp_future_view(future, 0, &view, &have));
        CHECK(have == size && memcmp(view, data, size) == 0 && ((const char *)view)[size] == 0);
        CHECK_INT((uintptr_t)view % 16, 0);
        CHECK_OK(pp_future_take(future, 0, &taken, &have));
        CHECK(have == size && memcmp(taken, data, size) == 0 && ((char *)taken)[size] == 0);
        CHECK_INT(pp_future_take(future, 0, &taken, &have), -ENODATA);
        pp_future_unref(future);
        memset(taken, 'y', size);
        pp_free(taken);
    }
    free(data);
    free(copy);
    pp_pool_destroy(pool);
}

EACH(an_error_has_code_and_message)
{
    char long_text[3000];
    const pp_error *error;
    pp_pool *pool = kit_pool(method, 1);
    memset(long_text, 'l', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = 0;
    const char *const messages[] = {"it went %s", NULL, long_text};
    for (int i = 0; i < 3; i++) {
        pp_future *future = promise(pool);
        CHECK_INT(pp_future_set_error(future, i - 5, messages[i]), 0);
        CHECK_INT(pp_future_state(future), PP_FINISHED);
        CHECK_INT(pp_future_result(future, 0, NULL, 0, NULL), -EREMOTEIO);
        CHECK_OK(pp_future_error(future, 0, &error));
        CHECK_INT(error->kind, PP_ERROR_TASK);
        CHECK_INT(error->code, -EREMOTEIO);
        CHECK_INT(error->task_code, i - 5);
        CHECK_INT(error->call_id, pp_future_id(future));
        CHECK(error->worker == -1 && error->status == -1 && error->pid == 0 && error->signal == 0);
        CHECK(error->tries == 0 && error->run_time == 0 && error->earlier == NULL);
        CHECK_STR(error->function, "");
        if (i == 2)
            CHECK(strlen(error->message) == 1023 && strncmp(error->message, long_text, 1023) == 0);
        else
            CHECK_STR(error->message, i ? "" : "it went %s");
        pp_future_unref(future);
    }
    pp_pool_destroy(pool);
}

EACH(ids_are_of_one_kind_with_those_of_calls)
{
    pp_pool *pool = kit_pool(method, 1);
    for (uint64_t i = 0; i < 100; i++) {
        pp_future *future = i % 3 ? promise(pool) : submit_u32(pool, echo, 1);
        CHECK_INT(pp_future_id(future), i);
        if (i % 3 == 0)
            CHECK_INT(result_u32(future), 1);
        pp_future_unref(future);
    }
    pp_pool_destroy(pool);
}

/* ------------------------------------------------------------------------------------------- waiting */

#define WAITERS 6

static _Atomic uint32_t waiting;

struct wait {
    pp_future *future;
    int code; /* that it is to end with */
};

static void *wait_for_it(void *argument)
{
    const struct wait *wait = argument;
    const pp_error *error;
    waiting++;
    CHECK_OK(pp_future_error(wait->future, -1, &error));
    CHECK_INT(error ? error->code : 0, wait->code);
    return NULL;
}

static void *wait_in_a_group(void *argument)
{
    const struct wait *wait = argument;
    waiting++;
    CHECK_INT(pp_wait(&wait->future, 1, PP_ALL_COMPLETED, -1, NULL), 1);
    return NULL;
}

/* Several threads wait, each in one of two ways, and `act` ends all their waits. */
static void wait_in_threads(pp_pool *pool, int (*act)(pp_future *future), int code)
{
    pthread_t threads[WAITERS];
    struct wait wait = {.future = promise(pool), .code = code};
    waiting = 0;
    for (int i = 0; i < WAITERS; i++)
        threads[i] = start_thread(i % 2 ? wait_for_it : wait_in_a_group, &wait);
    until(waiting == WAITERS);
    CHECK_INT(pp_future_wait(wait.future, 30), -ETIMEDOUT);
    CHECK_INT(pp_wait(&wait.future, 1, PP_ALL_COMPLETED, 10, NULL), -ETIMEDOUT);
    double begun = test_seconds();
    CHECK_INT(act(wait.future), 0);
    for (int i = 0; i < WAITERS; i++)
        join_thread(threads[i]);
    CHECK(test_seconds() - begun < 5 * harness_scale());
    pp_future_unref(wait.future);
}

EACH(completing_wakes_all_who_wait)
{
    pp_pool *pool = kit_pool(method, 1);
    wait_in_threads(pool, succeed, 0);
    wait_in_threads(pool, fail, -EREMOTEIO);
    expect_usable(pool);
    wait_in_threads(pool, succeed, 0);
    pp_pool_destroy(pool);
}

EACH(cancelling_wakes_all_who_wait)
{
    pp_pool *pool = kit_pool(method, 1);
    wait_in_threads(pool, pp_future_cancel, -ECANCELED);
    pp_pool_destroy(pool);
}

/* While others wait for calls of the same pool, and the workers are busy. */
BOTH(completing_wakes_who_waits_beside_calls)
{
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    struct wait call = {.code = 0};
    occupy(pool, BEGUN, GATE, 1, &call.future);
    pthread_t thread = start_thread(wait_for_it, &call);
    until(waiting == 1);
    wait_in_threads(pool, succeed, 0);
    open_gate(GATE);
    join_thread(thread);
    pp_future_unref(call.future);
    pp_pool_destroy(pool);
}

static void *complete_later(void *future)
{
    test_sleep_ms(5);
    set_u32(future, 3);
    return NULL;
}

EACH(one_that_another_thread_completes_in_time_is_waited_for)
{
    pp_pool *pool = kit_pool(method, 1);
    for (int i = 0; i < 20; i++) {
        pp_future *future = promise(pool);
        pthread_t thread = start_thread(complete_later, future);
        if (i % 2)
            CHECK_OK(pp_future_wait(future, 10000));
        CHECK_INT(result_u32(future), 3);
        join_thread(thread);
        pp_future_unref(future);
    }
    pp_pool_destroy(pool);
}

#define MIXED 9

/* Program futures of one pool, calls of that and of another. */
static void mix(pp_pool *pool, pp_pool *other, pp_future *futures[MIXED])
{
    for (uint32_t i = 0; i < MIXED; i++)
        futures[i] = i % 3 == 0 ? promise(pool) : submit_u32(i % 3 == 1 ? pool : other, echo, i);
}

EACH(groups_wait_for_program_futures_and_calls_of_several_pools)
{
    pp_pool *other = kit_sibling(PP_START_FORK, (pp_pool_options){.max_workers = 1});
    pp_pool *pool = kit_sibling(method, (pp_pool_options){.max_workers = 1});
    pp_future *futures[MIXED];
    unsigned char done[MIXED];
    mix(pool, other, futures);
    CHECK_INT(pp_wait(futures, MIXED, PP_ALL_COMPLETED, 100, done), -ETIMEDOUT);
    for (int i = 0; i < MIXED; i += 3)
        CHECK_INT(done[i], 0);
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        threads[i] = start_thread(complete_later, futures[3 * i]);
    CHECK_INT(pp_wait(futures, MIXED, PP_ALL_COMPLETED, -1, done), MIXED);
    for (int i = 0; i < 3; i++)
        join_thread(threads[i]);
    for (uint32_t i = 0; i < MIXED; i++) {
        CHECK_INT(result_u32(futures[i]), i % 3 ? i : 3);
        pp_future_unref(futures[i]);
    }
    pp_pool_destroy(other);
    pp_pool_destroy(pool);
}

EACH(program_futures_are_given_out_as_they_complete)
{
    pp_pool *other = kit_sibling(PP_START_FORK, (pp_pool_options){.max_workers = 1});
    pp_pool *pool = kit_sibling(method, (pp_pool_options){.max_workers = 1});
    pp_future *futures[MIXED], *future;
    pp_completed *completed;
    size_t index;
    mix(pool, other, futures);
    CHECK_OK(pp_as_completed(futures, MIXED, &completed));
    for (int i = 0; i < 6; i++) {
        CHECK_INT(pp_completed_next(completed, -1, &future, &index), 1);
        CHECK(index % 3 != 0 && future == futures[index]);
    }
    CHECK_INT(pp_completed_next(completed, 20, &future, &index), -ETIMEDOUT);
    for (size_t i = 6; i < MIXED; i -= 3) {
        if (i == 3)
            CHECK_OK(pp_future_cancel(futures[i]));
        else
            set_u32(futures[i], 3);
        CHECK_INT(pp_completed_next(completed, -1, &future, &index), 1);
        CHECK_INT(index, i);
    }
    CHECK_INT(pp_completed_next(completed, -1, &future, &index), 0);
    pp_completed_close(completed);
    for (int i = 0; i < MIXED; i++)
        pp_future_unref(futures[i]);
    pp_pool_destroy(other);
    pp_pool_destroy(pool);
}

#define RACERS 4

static _Atomic uint32_t won, lined_up;

static void *race(void *future)
{
    static _Atomic int next;
    int (*const acts[])(pp_future *) = {succeed, fail, pp_future_cancel};
    int (*act)(pp_future *) = acts[next++ % 3];
    lined_up++;
    while (lined_up % RACERS)
        sched_yield();
    if (act != pp_future_cancel)
        won += act(future) == 0;
    else if (pp_future_cancel(future) == 0)
        CHECK_INT(pp_future_state(future), PP_CANCELLED);
    return NULL;
}

EACH(of_many_that_complete_a_future_one_does)
{
    pp_pool *pool = kit_pool(method, 1);
    for (int round = 0; round < 50; round++) {
        pthread_t threads[RACERS];
        pp_future *future = promise(pool);
        won = 0;
        for (int i = 0; i < RACERS; i++)
            threads[i] = start_thread(race, future);
        for (int i = 0; i < RACERS; i++)
            join_thread(threads[i]);
        int state = pp_future_state(future);
        CHECK(state == PP_FINISHED || state == PP_CANCELLED);
        CHECK_INT(won, state == PP_FINISHED);
        pp_future_unref(future);
    }
    pp_pool_destroy(pool);
}

/* ----------------------------------------------------------------------------------------- callbacks */

static _Atomic uint32_t calls;
static pthread_t called_in;

static void count(pp_future *future, void *expected)
{
    const pp_error *error;
    CHECK_OK(pp_future_error(future, 0, &error));
    CHECK_INT(error ? error->code : 0, *(int *)expected);
    called_in = pthread_self();
    calls++;
}

static int codes[] = {0, -EREMOTEIO, -ECANCELED};

EACH(program_futures_call_back)
{
    int (*const acts[])(pp_future *) = {succeed, fail, pp_future_cancel};
    pp_pool *pool = kit_pool(method, 1);
    for (uint32_t i = 0; i < 3; i++) {
        pp_future *future = promise(pool);
        CHECK_OK(pp_future_add_callback(future, count, &codes[i]));
        CHECK_INT(calls, 2 * i);
        CHECK_INT(acts[i](future), 0);
        until(calls == 2 * i + 1);
        CHECK_OK(pp_future_add_callback(future, count, &codes[i]));
        until(calls == 2 * i + 2);
        if (i == 2) { /* that it is noticed is no second end */
            CHECK_INT(begin(future), 0);
            test_sleep_ms(10);
        }
        pp_future_unref(future);
    }
    pp_pool_destroy(pool);
    CHECK_INT(calls, 6);
}

static void give_up(pp_future *future, void *unused)
{
    (void)unused;
    pp_future_unref(future);
    calls++;
}

/* ------------------------------------------------------------------------------------------- the end */

EACH(no_pool_waits_for_a_program_future)
{
    pp_pool *pool = kit_pool(method, 1);
    pp_future *future = promise(pool), *running = promise_in(pool, PP_RUNNING);
    CHECK_OK(pp_future_add_callback(future, count, &codes[0]));
    CHECK_OK(pp_pool_shutdown(pool, 0, -1));
    pp_pool_destroy(pool);
    CHECK_INT(pp_future_state(future), PP_PENDING);
    CHECK_INT(pp_future_wait(future, 10), -ETIMEDOUT);
    set_u32(running, 1);
    CHECK_INT(calls, 0);
    set_u32(future, 2);
    CHECK_INT(calls, 1); /* there is no other thread any more */
    CHECK(pthread_equal(called_in, pthread_self()));
    CHECK_INT(result_u32(future), 2);
    pp_future_unref(future);
    pp_future_unref(running);
}

EACH(program_futures_are_made_waited_for_and_completed_after_the_pools_end)
{
    pp_pool *pool = kit_pool(method, 1);
    expect_usable(pool);
    pp_future *before = promise(pool);
    CHECK_OK(pp_future_add_callback(before, count, &codes[0]));
    CHECK_OK(pp_pool_shutdown(pool, 0, -1));
    wait_in_threads(pool, succeed, 0);
    wait_in_threads(pool, pp_future_cancel, -ECANCELED);
    set_u32(before, 1);
    pp_future *after = promise(pool);
    CHECK_OK(pp_future_add_callback(after, count, &codes[0]));
    pp_pool_destroy(pool);
    pthread_t thread = start_thread(complete_later, after);
    CHECK_INT(result_u32(after), 3);
    join_thread(thread);
    CHECK_INT(calls, 2);
    pp_future_unref(before);
    pp_future_unref(after);
}

/* Threads of a pool whose last thread and descriptor are gone wait for what the program does. */
BOTH(who_waits_while_the_pool_ends_is_woken_behind_its_end)
{
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    pthread_t threads[WAITERS];
    struct wait wait = {.future = promise(pool)};
    pp_future *running;
    occupy(pool, BEGUN, GATE, 1, &running);
    for (int i = 0; i < WAITERS; i++)
        threads[i] = start_thread(i % 2 ? wait_for_it : wait_in_a_group, &wait);
    until(waiting == WAITERS);
    CHECK_INT(pp_pool_shutdown(pool, 0, 10), -ETIMEDOUT);
    open_gate(GATE);
    CHECK_OK(pp_pool_shutdown(pool, 0, -1));
    pp_pool_destroy(pool);
    set_u32(wait.future, 1);
    for (int i = 0; i < WAITERS; i++)
        join_thread(threads[i]);
    pp_future_unref(running);
    pp_future_unref(wait.future);
}

EACH(the_last_reference_to_all_may_go_in_a_callback)
{
    for (uint32_t i = 0; i < 4; i++) {
        pp_pool *pool = kit_pool(method, 1);
        pp_future *future = promise(pool);
        if (i % 2)
            CHECK_OK(pp_future_add_callback(future, give_up, NULL));
        if (i < 2)
            pp_pool_destroy(pool);
        else
            pp_pool_release(pool);
        if (i % 2 == 0)
            CHECK_OK(pp_future_add_callback(future, give_up, NULL));
        if (i == 3)
            CHECK_OK(pp_future_cancel(future));
        else
            set_u32(future, 1);
        until(calls == i + 1);
    }
}

EACH(pending_ones_may_be_given_up_before_and_after_their_pool)
{
    pp_pool *pool = kit_pool(method, 1);
    pp_future_unref(promise(pool));
    pp_future_unref(promise_in(pool, PP_RUNNING));
    pp_future *future = promise(pool), *twice = pp_future_ref(future);
    pp_future_unref(future);
    CHECK_INT(pp_future_state(twice), PP_PENDING);
    pp_future_ref(twice);
    pp_pool_destroy(pool);
    pp_future_unref(twice);
    CHECK_INT(pp_future_state(twice), PP_PENDING);
    pp_future_unref(twice);
}

BOTH(a_broken_pool_leaves_program_futures_alone)
{
    pp_pool *pool = kit_pool_with(method, (pp_pool_options){.max_workers = 1, .on_crash = PP_BREAK_POOL});
    pp_future *future = promise(pool);
    pp_future *call = submit(pool, crash, NULL, 0);
    CHECK_OK(pp_future_wait(call, -1));
    until(pp_submit(pool, nothing, NULL, 0, NULL) == -ENOTRECOVERABLE);
    CHECK_INT(pp_future_state(future), PP_PENDING);
    set_u32(future, 4);
    CHECK_INT(result_u32(future), 4);
    pp_future_unref(call);
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

/* ------------------------------------------------------------------------------------------------ inline */

static pp_future *the_future;

/* Another thread completes what the task waits for: no deadlock. */
static int wait_for_the_future(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    pthread_t thread = start_thread(complete_later, the_future);
    CHECK_INT(pp_wait(&the_future, 1, PP_ALL_COMPLETED, -1, NULL), 1);
    uint32_t value = result_u32(the_future);
    join_thread(thread);
    return pp_task_return(task, &value, sizeof value);
}

static int find_no_way_out(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    CHECK_INT(pp_future_wait(the_future, -1), -EDEADLK);
    return 0;
}

TEST(a_task_of_an_inline_pool_may_wait_for_what_another_thread_completes)
{
    pp_pool *pool = kit_pool(PP_START_INLINE, 1);
    the_future = promise(pool);
    pp_future *call = submit(pool, wait_for_the_future, NULL, 0);
    CHECK_INT(result_u32(call), 3);
    pp_future_unref(call);
    pp_future_unref(the_future);
    pp_future_unref(promise(pool)); /* none is left, however they went: a task that waits for itself is told so again */
    CHECK_OK(pp_future_cancel(call = promise(pool)));
    pp_future_unref(call);
    the_future = submit(pool, find_no_way_out, NULL, 0);
    CHECK_OK(pp_future_wait(the_future, -1));
    pp_future_unref(the_future);
    pp_pool_destroy(pool);
}
