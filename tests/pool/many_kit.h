/* SPDX-License-Identifier: MIT */
/* For tests of many futures at once: fields of calls at gates, of one pool and of several, threads that wait for them,
 * and steps from one that is done to the next. */
#ifndef PP_TESTS_POOL_MANY_KIT_H
#define PP_TESTS_POOL_MANY_KIT_H

#include "call_kit.h"

#include "lost_kit.h"

enum { BEGUN, RUNS, GATE, GATES = 100 };

#define MOST 64

/* A wake that is lost is made up for after 100 ms, so what is to come at once is asked for so often that this would
 * miss the time limit. */
#define ROUNDS (KIT_TSAN || KIT_ASAN || TEST_ON_VALGRIND ? 40u : 300u)

/* ------------------------------------------------------------------------------------------ the field */

/* Futures of several pools in turn; each waits at a gate of its own, and its result is its number. */
struct field {
    pp_pool *pools[3];
    size_t pool_count;
    pp_future *futures[MOST];
    size_t count;
};

static inline int gated_refusal(pp_task *task, const void *arg, size_t size)
{
    int code = gated(task, arg, size);
    return code ? code : pp_task_fail(task, -ENOTSUP, "refused at the gate");
}

static inline void add_gated(struct field *field, pp_function *function)
{
    uint32_t i = (uint32_t)field->count;
    struct gated g = {.begun = BEGUN, .gate = GATES + i, .value = i};
    field->futures[field->count++] = submit(field->pools[i % field->pool_count], function, &g, sizeof g);
}

static inline struct field open_pools(pp_start_method method, size_t pools, int workers)
{
    struct field field = {.pool_count = pools};
    for (size_t i = 0; i < pools; i++)
        field.pools[i] = kit_sibling(method, (pp_pool_options){.max_workers = workers});
    return field;
}

static inline struct field open_field(pp_start_method method, size_t pools, size_t count)
{
    struct field field = open_pools(method, pools, (int)count);
    for (size_t i = 0; i < count; i++)
        add_gated(&field, gated);
    return field;
}

static inline void open_gates(const struct field *field)
{
    for (uint32_t i = 0; i < field->count; i++)
        open_gate(GATES + i);
}

static inline void forget_futures(struct field *field)
{
    for (size_t i = 0; i < field->count; i++)
        pp_future_unref(field->futures[i]);
    field->count = 0;
}

static inline void close_field(struct field *field)
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

static inline void expect_done(const unsigned char *done, const char *expected)
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

static inline void *run_wait(void *argument)
{
    struct waiting *waiting = argument;
    waiting->code = pp_wait(waiting->futures, waiting->count, waiting->when, waiting->timeout, waiting->done);
    atomic_store(&waiting->back, true);
    return NULL;
}

static inline void start_wait(struct waiting *waiting, const struct field *field, pp_when when)
{
    *waiting = (struct waiting){.futures = field->futures, .count = field->count, .when = when, .timeout = -1};
    memset(waiting->done, 7, sizeof waiting->done);
    waiting->thread = start_thread(run_wait, waiting);
}

static inline void finish_wait(struct waiting *waiting, ssize_t code, const char *done)
{
    join_thread(waiting->thread);
    CHECK_INT(waiting->code, code);
    expect_done(waiting->done, done);
    CHECK_INT(waiting->done[waiting->count], 7);
}

/* It has had the time to come back, and has not. */
static inline void expect_waits(struct waiting *waiting)
{
    test_sleep_ms(10);
    CHECK(!atomic_load(&waiting->back));
}

static inline void let_end(const struct field *field, uint32_t i)
{
    open_gate(GATES + i);
    until(pp_future_state(field->futures[i]) == PP_FINISHED);
}

/* -------------------------------------------------------------------------------------------------- steps */

static inline pp_future *next(pp_completed *completed, size_t index)
{
    pp_future *future = NULL;
    size_t at = SIZE_MAX;
    CHECK_INT(pp_completed_next(completed, -1, &future, &at), 1);
    CHECK_INT(at, index);
    return future;
}

static inline void expect_nothing_yet(pp_completed *completed)
{
    pp_future *future = NULL;
    size_t at = 55;
    CHECK_INT(pp_completed_next(completed, 0, &future, &at), -ETIMEDOUT);
    CHECK_INT(pp_completed_next(completed, 5, &future, &at), -ETIMEDOUT);
    CHECK(*pp_last_error());
    CHECK(future == NULL && at == 55);
}

static inline void expect_no_more(pp_completed *completed)
{
    pp_future *future = NULL;
    size_t at = 55;
    for (int i = 0; i < 3; i++)
        CHECK_INT(pp_completed_next(completed, -1, &future, &at), 0);
    CHECK(future == NULL && at == 55);
}

#endif
