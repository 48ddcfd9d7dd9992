/* SPDX-License-Identifier: MIT */
/* Futures in many threads: who collects changes hands all the time, and nobody's answer is lost. */
#include "base/clock.h"
#include "crew_kit.h"

#include "lost_kit.h"

#include <sys/resource.h>

enum { BEGUN, GATE, RUNS, GATES = 100 };

/* ------------------------------------------------------------------------------- one future, many threads */

static void *use_one(void *argument)
{
    struct crew *crew = argument;
    pp_future *future = pp_future_ref(crew->future);
    const pp_error *error;
    const void *data;
    size_t size;
    pthread_barrier_wait(&crew->barrier);
    int state = pp_future_state(future), code = pp_future_cancel(future);
    CHECK(state == PP_RUNNING || state == PP_FINISHED);
    CHECK(code == -EALREADY || (code == -EBUSY && state == PP_RUNNING));
    CHECK_OK(pp_future_wait(future, -1));
    CHECK_OK(pp_future_error(future, -1, &error));
    CHECK(error == NULL);
    CHECK_OK(pp_future_view(future, -1, &data, &size));
    CHECK_INT(size, 4);
    CHECK_INT(result_u32(future), 21);
    CHECK_INT(pp_future_state(future), PP_FINISHED);
    CHECK_INT(pp_future_cancel(future), -EALREADY);
    pp_future_unref(future);
    return NULL;
}

BOTH(eight_threads_use_one_future_at_once)
{
    board_make();
    struct crew crew = {.pool = kit_pool(method, 1)};
    pthread_barrier_init(&crew.barrier, NULL, THREADS + 1);
    for (uint32_t round = 0; round < 50; round++) {
        crew.future = submit_gated(crew.pool, BEGUN, GATES + round, 21);
        until(read_word(BEGUN) == round + 1);
        start_crew(&crew, use_one);
        pthread_barrier_wait(&crew.barrier);
        open_gate(GATES + round);
        join_crew(&crew);
        pp_future_unref(crew.future);
    }
    pp_pool_destroy(crew.pool);
}

static void *take_one(void *argument)
{
    struct crew *crew = argument;
    void *data;
    size_t size;
    int code = pp_future_take(crew->future, -1, &data, &size);
    CHECK(code == 0 || code == -ENODATA);
    if (code == 0) {
        atomic_fetch_add(&crew->counted, 1);
        CHECK_STR(data, "precious");
        pp_free(data);
    }
    return NULL;
}

BOTH(of_eight_threads_that_take_a_result_one_gets_it)
{
    struct crew crew = {.pool = kit_pool(method, 1)};
    for (uint32_t round = 0; round < 50; round++) {
        crew.future = submit(crew.pool, echo, "precious", 8);
        start_crew(&crew, take_one);
        join_crew(&crew);
        CHECK_INT(atomic_load(&crew.counted), round + 1);
        pp_future_unref(crew.future);
    }
    pp_pool_destroy(crew.pool);
}

/* ---------------------------------------------------------------------------- many futures, many threads */

static void *call_and_wait(void *argument)
{
    struct crew *crew = argument;
    uint32_t me = atomic_fetch_add(&crew->next, 1);
    for (uint32_t i = 0; i < ROUNDS; i++) {
        pp_future *future = submit_u32(crew->pool, echo, me << 16 | i);
        CHECK_INT(result_u32(future), me << 16 | i);
        pp_future_unref(future);
    }
    return NULL;
}

BOTH(eight_threads_wait_for_answers_of_their_own)
{
    struct crew crew = {.pool = kit_pool(method, 3)};
    start_crew(&crew, call_and_wait);
    join_crew(&crew);
    pp_pool_destroy(crew.pool);
}

static void call_some(struct crew *crew, uint32_t calls)
{
    for (uint32_t i = 0; i < calls; i++) {
        pp_future *future = submit_u32(crew->pool, echo, i);
        CHECK_INT(result_u32(future), i);
        pp_future_unref(future);
    }
}

#define TURN_CALLS 500u
#define TURN_ROUNDS 8u

static void *call_and_count_switches(void *argument)
{
    struct crew *crew = argument;
    struct rusage before, after;
    CHECK_INT(getrusage(RUSAGE_THREAD, &before), 0);
    call_some(crew, TURN_CALLS);
    CHECK_INT(getrusage(RUSAGE_THREAD, &after), 0);
    atomic_fetch_add(&crew->counted, (uint32_t)(after.ru_nvcsw - before.ru_nvcsw));
    return NULL;
}

/* Were each to sleep until it is woken for its result, that would be one switch for each call, but in a few rounds.
 * Beside other work in the machine there may be some; so it is tried again. */
BOTH(threads_that_outnumber_the_processors_take_turns)
{
    if (pp_usable_processors() < 2 || pp_usable_processors() > THREADS)
        LEFT_OUT("one processor, or as many as threads");
    if (KIT_TSAN || KIT_ASAN)
        LEFT_OUT("with a sanitizer a call is not short beside a wake");
    struct crew crew = {.pool = kit_pool(method, 2)};
    do {
        atomic_store(&crew.counted, 0);
        for (unsigned i = 0; i < TURN_ROUNDS; i++) {
            start_crew(&crew, call_and_count_switches);
            join_crew(&crew);
        }
    } while (atomic_load(&crew.counted) > TURN_ROUNDS * THREADS * TURN_CALLS / 4);
    pp_pool_destroy(crew.pool);
}

static void *call_and_go(void *argument)
{
    call_some(argument, ROUNDS);
    return NULL;
}

/* Whoever has the turn goes away with it, and the others come back by themselves. Were they to sleep until they are
 * woken, or as long as one that is, that would be 100 ms each time. */
BOTH(a_turn_is_over_when_its_thread_has_gone)
{
    struct crew crew = {.pool = kit_pool(method, 2)};
    for (int i = 0; i < 200; i++) {
        start_crew(&crew, call_and_go);
        join_crew(&crew);
    }
    pp_pool_destroy(crew.pool);
}

static void *wait_for_mine(void *argument)
{
    struct crew *crew = argument;
    uint32_t me = atomic_fetch_add(&crew->next, 1);
    pp_future *future = submit_gated(crew->pool, BEGUN, GATES + me, me);
    pthread_barrier_wait(&crew->barrier);
    CHECK_INT(result_u32(future), me);
    atomic_fetch_or(&crew->counted, 1u << me);
    pp_future_unref(future);
    return NULL;
}

/* Each must come back before the next call ends: so whoever collects wakes the right one and passes the duty on when it
 * leaves. */
static void let_end_in_this_order(pp_start_method method, const int order[THREADS])
{
    struct crew crew = {.pool = kit_pool(method, THREADS)};
    uint32_t begun_before = read_word(BEGUN);
    pthread_barrier_init(&crew.barrier, NULL, THREADS + 1);
    for (uint32_t i = 0; i < THREADS; i++)
        atomic_store(word(GATES + i), 0);
    start_crew(&crew, wait_for_mine);
    pthread_barrier_wait(&crew.barrier);
    until(read_word(BEGUN) == begun_before + THREADS);
    for (int i = 0; i < THREADS; i++) {
        open_gate(GATES + (uint32_t)order[i]);
        until(atomic_load(&crew.counted) & 1u << order[i]);
    }
    join_crew(&crew);
    pp_pool_destroy(crew.pool);
}

BOTH(answers_reach_their_threads_in_whatever_order_they_come)
{
    static const int orders[3][THREADS] = {
        {0, 1, 2, 3, 4, 5, 6, 7}, {7, 6, 5, 4, 3, 2, 1, 0}, {3, 7, 0, 5, 1, 6, 2, 4}};
    board_make();
    for (int i = 0; i < 3; i++)
        let_end_in_this_order(method, orders[i]);
}

static void *wait_for_the_gate(void *argument)
{
    struct crew *crew = argument;
    CHECK_INT(result_u32(crew->future), 7);
    return NULL;
}

/* Once the other thread collects it does so until the gate opens. Were it not to wake this one, each round would take
 * until this one looks again by itself. */
BOTH(a_thread_gets_its_answers_while_another_collects)
{
    board_make();
    struct crew crew = {.pool = kit_pool(method, 2)};
    crew.future = submit_gated(crew.pool, BEGUN, GATE, 7);
    pthread_t thread = start_thread(wait_for_the_gate, &crew);
    call_and_wait(&crew);
    open_gate(GATE);
    join_thread(thread);
    pp_future_unref(crew.future);
    pp_pool_destroy(crew.pool);
}

static void *wait_for_call(void *argument)
{
    CHECK_OK(pp_future_wait(argument, -1));
    return NULL;
}

/*
 * A thread sleeps with the duty, for the second of two calls. This one waits for the first, and sees it end by itself;
 * then nobody is awake. Were the sleeper not to be rung for its own behind that, each round would take until it looks
 * by itself.
 */
BOTH(who_sleeps_hears_of_its_call_behind_another_that_looked_beside_it)
{
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    for (uint32_t i = 0; i < 2 * ROUNDS; i += 2) {
        pp_future *first = submit_gated(pool, BEGUN, GATES + i, i);
        pp_future *second = submit_gated(pool, BEGUN, GATES + i + 1, i + 1);
        pthread_t thread = start_thread(wait_for_call, second);
        until(read_word(BEGUN) == i + 1);
        test_sleep_ms(2); /* so that it sleeps */
        open_gate(GATES + i);
        CHECK_INT(result_u32(first), i);
        until(read_word(BEGUN) == i + 2);
        open_gate(GATES + i + 1);
        join_thread(thread);
        CHECK_INT(result_u32(second), i + 1);
        pp_future_unref(first);
        pp_future_unref(second);
    }
    pp_pool_destroy(pool);
}

struct kept {
    pp_future *promise;
    uint32_t gate;
    _Atomic uint32_t go;
};

/* A moment after it was let go, when that thread looks for its answer. */
static void *keep_promise(void *argument)
{
    struct kept *kept = argument;
    for (uint64_t at = 0; !at || pp__now() < at;)
        if (!at && atomic_load(&kept->go))
            at = pp__now() + UINT64_C(2000) * (kept->gate % 10);
    CHECK_OK(pp_future_set_result(kept->promise, NULL, 0));
    return NULL;
}

static void *open_when_kept(void *argument)
{
    const struct kept *kept = argument;
    CHECK_OK(pp_future_wait(kept->promise, -1));
    open_gate(kept->gate);
    return NULL;
}

/* The same with what the program completes itself, for which no worker rings: the answer comes when the sleeper was
 * told. */
BOTH(who_sleeps_hears_of_a_promise_while_another_looks_beside_it)
{
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    for (uint32_t i = 0; i < ROUNDS; i++) {
        struct kept kept = {.gate = GATES + i};
        CHECK_OK(pp_future_create(pool, &kept.promise));
        pp_future *future = submit_gated(pool, BEGUN, kept.gate, i);
        until(read_word(BEGUN) == i + 1);
        pthread_t sleeper = start_thread(open_when_kept, &kept), keeper = start_thread(keep_promise, &kept);
        test_sleep_ms(2); /* so that it sleeps */
        atomic_store(&kept.go, 1);
        CHECK_INT(result_u32(future), i);
        join_thread(keeper);
        join_thread(sleeper);
        pp_future_unref(kept.promise);
        pp_future_unref(future);
    }
    pp_pool_destroy(pool);
}

/* ------------------------------------------------------------------------- younger than the collector's sleep */

struct sleeper {
    pp_future *promise;
    pthread_t thread;
    long switches; /* how often it gave its processor up while it waited */
};

static void *sleep_for_promise(void *argument)
{
    struct sleeper *sleeper = argument;
    struct rusage before, after;
    CHECK_INT(getrusage(RUSAGE_THREAD, &before), 0);
    CHECK_OK(pp_future_wait(sleeper->promise, -1));
    CHECK_INT(getrusage(RUSAGE_THREAD, &after), 0);
    sleeper->switches = after.ru_nvcsw - before.ru_nvcsw;
    return NULL;
}

/* A thread that has the duty, and sleeps, until the end. */
static void put_to_sleep(pp_pool *pool, struct sleeper *sleeper)
{
    CHECK_OK(pp_future_create(pool, &sleeper->promise));
    sleeper->thread = start_thread(sleep_for_promise, sleeper);
    test_sleep_ms(5);
}

static void wake_up(struct sleeper *sleeper)
{
    CHECK_OK(pp_future_set_result(sleeper->promise, NULL, 0));
    join_thread(sleeper->thread);
    pp_future_unref(sleeper->promise);
}

#define YOUNGER 200

/* Each has its result before anybody looks for it, and no worker rings for that. */
BOTH(who_sleeps_is_not_woken_by_younger_calls_of_others)
{
    pp_pool *pool = kit_pool(method, 1);
    struct sleeper sleeper;
    put_to_sleep(pool, &sleeper);
    for (uint32_t i = 0; i < YOUNGER; i++) {
        pp_future *future = submit_u32(pool, echo, i);
        test_sleep_ms(1);
        CHECK_INT(result_u32(future), i);
        pp_future_unref(future);
    }
    wake_up(&sleeper);
    CHECK(sleeper.switches < YOUNGER / 2);
    pp_pool_destroy(pool);
}

static void *open_later(void *gate)
{
    test_sleep_ms(2);
    open_gate((uint32_t)(uintptr_t)gate);
    return NULL;
}

/* Two sleep, and the worker has to ring for the one that came later. Were it not to, each round would take until the
 * other one looks by itself. */
BOTH(who_sleeps_is_woken_for_a_younger_call_that_another_sleeps_for)
{
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    struct sleeper sleeper;
    put_to_sleep(pool, &sleeper);
    for (uint32_t i = 0; i < YOUNGER; i++) {
        pp_future *future = submit_gated(pool, BEGUN, GATES + i, i);
        pthread_t thread = start_thread(open_later, (void *)(uintptr_t)(GATES + i));
        CHECK_INT(result_u32(future), i);
        join_thread(thread);
        pp_future_unref(future);
    }
    wake_up(&sleeper);
    pp_pool_destroy(pool);
}

static void count_call(pp_future *future, void *context)
{
    (void)future;
    atomic_fetch_add((_Atomic uint32_t *)context, 1);
}

/* The same for a callback. */
BOTH(who_sleeps_is_woken_for_a_younger_call_with_a_callback)
{
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    _Atomic uint32_t called = 0;
    struct sleeper sleeper;
    put_to_sleep(pool, &sleeper);
    for (uint32_t i = 0; i < YOUNGER; i++) {
        pp_future *future = submit_gated(pool, BEGUN, GATES + i, i);
        CHECK_OK(pp_future_add_callback(future, count_call, &called));
        until(read_word(BEGUN) == i + 1);
        open_gate(GATES + i);
        until(atomic_load(&called) == i + 1);
        pp_future_unref(future);
    }
    wake_up(&sleeper);
    pp_pool_destroy(pool);
}

/* ------------------------------------------------------------------------------------ the manager collects */

/* The call has begun before anybody waits, so the manager is the one that collects when the waiter comes. */
BOTH(a_waiter_that_comes_while_the_manager_collects_gets_its_answer)
{
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    for (uint32_t i = 0; i < ROUNDS; i++) {
        pp_future *future = submit_gated(pool, BEGUN, GATES + i, i);
        until(read_word(BEGUN) == i + 1);
        if (i % 2)
            open_gate(GATES + i);
        CHECK_INT(pp_future_wait(future, i % 2 ? -1 : 0), i % 2 ? 0 : -ETIMEDOUT);
        open_gate(GATES + i);
        CHECK_INT(result_u32(future), i);
        pp_future_unref(future);
    }
    pp_pool_destroy(pool);
}

static void *submit_and_forget(void *argument)
{
    struct crew *crew = argument;
    uint32_t place = RUNS;
    for (uint32_t i = 0; i < ROUNDS; i++)
        CHECK_OK(pp_submit(crew->pool, count_run, &place, sizeof place, NULL));
    return NULL;
}

BOTH(waiting_threads_and_calls_nobody_waits_for_get_on_together)
{
    board_make();
    struct crew waiting = {.pool = kit_pool(method, 2)}, forgetting = {.pool = waiting.pool};
    start_crew(&forgetting, submit_and_forget);
    start_crew(&waiting, call_and_wait);
    join_crew(&waiting);
    join_crew(&forgetting);
    until(read_word(RUNS) == THREADS * ROUNDS);
    pp_pool_destroy(waiting.pool);
}
