/* SPDX-License-Identifier: MIT */
/* Submitting: order, ids, calls one by one and many at once, and any number of functions. */
#include "call_kit.h"

#include "lost_kit.h"

enum { BEGUN, GATE, RUNS, SEQUENCE, FIRST_CALL = 1024 };

/* ---------------------------------------------------------------------------------------------- order */

/* Writes down when it began, as a number. */
static int note_turn(pp_task *task, const void *arg, size_t size)
{
    uint32_t call;
    (void)task;
    CHECK(size >= sizeof call);
    memcpy(&call, arg, sizeof call);
    atomic_store(word(FIRST_CALL + call), atomic_fetch_add(word(SEQUENCE), 1));
    return 0;
}

static void submit_turns(pp_pool *pool, uint32_t first, uint32_t count, size_t largest)
{
    char *argument = calloc(1, largest);
    for (uint32_t i = first; i < first + count; i++) {
        memcpy(argument, &i, sizeof i);
        size_t size = i % 7 == 0 ? largest : sizeof i;
        CHECK_OK(pp_submit(pool, note_turn, argument, size, NULL));
    }
    free(argument);
}

/* Calls that wait in the queue, and calls that come while others run; small ones, and ones that travel outside the
 * ring. */
BOTH(one_worker_begins_calls_in_the_order_of_their_submits)
{
    enum { CALLS = 2000 };
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    pp_future *running;
    occupy(pool, BEGUN, GATE, 1, &running);
    submit_turns(pool, 0, CALLS / 2, 40000);
    open_gate(GATE);
    submit_turns(pool, CALLS / 2, CALLS / 2, 40000);
    pp_future_unref(running);
    pp_pool_destroy(pool);
    CHECK_INT(read_word(SEQUENCE), CALLS);
    for (uint32_t i = 0; i < CALLS; i++)
        CHECK_INT(read_word(FIRST_CALL + i), i);
}

struct submitter {
    pp_pool *pool;
    uint64_t ids[500];
};

static void *submit_and_note_ids(void *argument)
{
    struct submitter *me = argument;
    for (int i = 0; i < 500; i++) {
        pp_future *future = submit(me->pool, nothing, NULL, 0);
        me->ids[i] = pp_future_id(future);
        pp_future_unref(future);
    }
    return NULL;
}

BOTH(ids_grow_in_each_thread_and_are_unique_in_all)
{
    pp_pool *pool = kit_pool(method, 2);
    static struct submitter submitters[4];
    static uint64_t all[2000];
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        submitters[i].pool = pool;
        threads[i] = start_thread(submit_and_note_ids, &submitters[i]);
    }
    for (int i = 0; i < 4; i++) {
        join_thread(threads[i]);
        for (int j = 1; j < 500; j++)
            CHECK(submitters[i].ids[j] > submitters[i].ids[j - 1]);
        memcpy(all + 500 * i, submitters[i].ids, sizeof submitters[i].ids);
    }
    qsort(all, 2000, sizeof *all, by_value);
    for (int i = 1; i < 2000; i++)
        CHECK(all[i] != all[i - 1]);
    pp_pool_destroy(pool);
}

BOTH(the_argument_is_copied_before_the_submit_returns)
{
    static const size_t sizes[] = {4, 1000, 16384, 100000, 3 << 20};
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    pp_future *running, *futures[5];
    occupy(pool, BEGUN, GATE, 1, &running);
    char *argument = malloc(3 << 20);
    for (int i = 0; i < 5; i++) {
        memset(argument, 'a' + i, sizes[i]);
        futures[i] = submit(pool, echo, argument, sizes[i]);
        memset(argument, 'z', sizes[i]);
    }
    free(argument);
    open_gate(GATE);
    for (int i = 0; i < 5; i++) {
        const char *data;
        size_t size;
        CHECK_OK(pp_future_view(futures[i], -1, (const void **)&data, &size));
        CHECK(size == sizes[i] && data[0] == 'a' + i && memcmp(data, data + 1, size - 1) == 0);
        pp_future_unref(futures[i]);
    }
    pp_future_unref(running);
    pp_pool_destroy(pool);
}

/* ----------------------------------------------------------------------------------------- submit_many */

BOTH(many_calls_are_submitted_in_order)
{
    enum { CALLS = 500 };
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    static uint32_t arguments[CALLS];
    static pp_call calls[CALLS];
    static pp_future *futures[CALLS];
    for (uint32_t i = 0; i < CALLS; i++) {
        arguments[i] = i;
        calls[i] = (pp_call){.function = note_turn, .arg = &arguments[i], .size = sizeof arguments[i]};
    }
    CHECK_INT(pp_submit_many(pool, calls, CALLS, futures), CALLS);
    for (uint32_t i = 1; i < CALLS; i++)
        CHECK(pp_future_id(futures[i]) > pp_future_id(futures[i - 1]));
    for (uint32_t i = 0; i < CALLS; i++) {
        expect_end(futures[i], 0);
        CHECK_INT(read_word(FIRST_CALL + i), i);
    }
    CHECK_INT(pp_submit_many(pool, calls, CALLS, NULL), CALLS);
    CHECK_INT(pp_submit_many(pool, NULL, 0, NULL), 0);
    CHECK_INT(pp_submit_many(pool, calls, 0, futures), 0);
    pp_pool_destroy(pool);
    CHECK_INT(read_word(SEQUENCE), 2 * CALLS);
}

/* A function of which the pool has not heard before note_turn ran. */
static int note_turn_too(pp_task *task, const void *arg, size_t size)
{
    return note_turn(task, arg, size);
}

/* Small calls are put into the queue some at a time; a large one, or one whose function has to be looked up, comes
 * between such batches. */
BOTH(many_calls_of_all_sizes_and_functions_are_submitted_in_order)
{
    enum { CALLS = 500, LARGE = 40000 };
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    static uint32_t arguments[CALLS][LARGE / sizeof(uint32_t)];
    static pp_call calls[CALLS];
    for (uint32_t i = 0; i < CALLS; i++) {
        arguments[i][0] = i;
        calls[i] = (pp_call){.function = i < CALLS / 3 || i % 2 ? note_turn : note_turn_too,
                             .arg = arguments[i],
                             .size = i % 71 == 3 ? LARGE : sizeof **arguments};
    }
    CHECK_INT(pp_submit_many(pool, calls, CALLS, NULL), CALLS);
    calls[CALLS - 1].size = SIZE_MAX;
    CHECK_INT(pp_submit_many(pool, calls + CALLS - 100, 100, NULL), 99);
    pp_pool_destroy(pool);
    CHECK_INT(read_word(SEQUENCE), CALLS + 99);
    for (uint32_t i = 0; i < CALLS - 100; i++)
        CHECK_INT(read_word(FIRST_CALL + i), i);
}

static int last_for_long(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    sleep(1000);
    return 0;
}

/* The one that has it is in the middle of those that came together, and nobody waits. */
BOTH(a_timeout_among_many_calls_is_kept_though_nobody_waits)
{
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    uint32_t place = RUNS;
    pp_future *futures[30];
    pp_call calls[30];
    for (int i = 0; i < 30; i++)
        calls[i] = (pp_call){.function = count_run, .arg = &place, .size = sizeof place, .timeout = 60000};
    calls[17] = (pp_call){.function = last_for_long, .timeout = 50};
    expect_usable(pool);
    usleep(50000); /* the manager sleeps */
    CHECK_INT(pp_submit_many(pool, calls, 30, futures), 30);
    while (pp_future_state(futures[17]) != PP_FINISHED)
        usleep(1000);
    for (int i = 0; i < 30; i++)
        expect_end(futures[i], i == 17 ? -ETIME : 0);
    pp_pool_destroy(pool);
}

BOTH(of_many_calls_the_first_ones_are_accepted_up_to_a_bad_one)
{
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    uint32_t place = RUNS;
    pp_future *untouched = (pp_future *)pool, *futures[4] = {untouched, untouched, untouched, untouched};
    pp_call calls[4];
    for (int i = 0; i < 4; i++)
        calls[i] = (pp_call){.function = count_run, .arg = &place, .size = sizeof place};
    calls[2].retries = 1001;
    CHECK_INT(pp_submit_many(pool, calls, 4, futures), 2);
    CHECK_HAS(pp_last_error(), "1001");
    CHECK(futures[2] == untouched && futures[3] == untouched);
    expect_end(futures[0], 0);
    expect_end(futures[1], 0);
    CHECK_INT(pp_submit_many(pool, calls + 2, 2, futures + 2), -EINVAL);
    CHECK(futures[2] == untouched);
    pp_pool_destroy(pool);
    CHECK_INT(read_word(RUNS), 2);
}

/* ------------------------------------------------------------------------------------------- pp_call */

/* Dies in its first runs, as many as the second word of the argument says. */
static int die_at_first(pp_task *task, const void *arg, size_t size)
{
    uint32_t words[2];
    CHECK_INT(size, sizeof words);
    memcpy(words, arg, sizeof words);
    uint32_t runs = atomic_fetch_add(word(words[0]), 1) + 1;
    if (runs <= words[1])
        raise(SIGKILL);
    return pp_task_return(task, &runs, sizeof runs);
}

static void check_retries(pp_pool *pool, uint32_t place, uint32_t deaths, uint32_t retries)
{
    uint32_t words[2] = {place, deaths};
    pp_future *future;
    pp_call call = {.function = die_at_first, .arg = words, .size = sizeof words, .retries = retries};
    CHECK_OK(pp_submit_call(pool, &call, &future));
    if (deaths <= retries) {
        CHECK_INT(result_u32(future), deaths + 1);
    } else {
        const pp_error *error;
        CHECK_OK(pp_future_error(future, -1, &error));
        CHECK(error != NULL);
        CHECK_INT(error->kind, PP_ERROR_CRASH);
        CHECK_INT(error->tries, retries + 1);
        for (uint32_t i = retries; i > 0; i--) {
            error = error->earlier;
            CHECK(error != NULL && error->tries == i && error->kind == PP_ERROR_CRASH);
        }
        CHECK(error->earlier == NULL);
        CHECK_INT(read_word(place), retries + 1);
    }
    pp_future_unref(future);
}

BOTH(a_call_is_begun_again_as_often_as_its_retries_allow)
{
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    uint32_t place = FIRST_CALL;
    for (uint32_t deaths = 0; deaths < 4; deaths++)
        for (uint32_t retries = 0; retries < 4; retries++)
            check_retries(pool, place++, deaths, retries);
    expect_usable(pool);
    pp_pool_destroy(pool);
}

BOTH(the_largest_retries_and_timeout_are_accepted)
{
    pp_pool *pool = kit_pool(method, 1);
    pp_future *future;
    pp_call call = {.function = nothing, .retries = 1000, .timeout = UINT32_MAX};
    CHECK_OK(pp_submit_call(pool, &call, &future));
    expect_end(future, 0);
    pp_pool_destroy(pool);
}

/* Nobody waits for it, so the manager must see to its timeout. The second worker's call is not touched. */
BOTH(a_timeout_ends_its_call_while_nobody_waits)
{
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    struct gated never = {.begun = BEGUN, .gate = RUNS};
    pp_future *running, *future;
    pp_call call = {.function = gated, .arg = &never, .size = sizeof never, .timeout = 20};
    occupy(pool, BEGUN, GATE, 1, &running);
    CHECK_OK(pp_submit_call(pool, &call, &future));
    until(pp_future_state(future) == PP_FINISHED);
    expect_end(future, -ETIME);
    CHECK_INT(pp_future_state(running), PP_RUNNING);
    open_gate(GATE);
    CHECK_INT(result_u32(running), 0);
    pp_future_unref(running);
    pp_pool_destroy(pool);
}

/* -------------------------------------------------------------------------------------- many functions */

#define TASK(n)                                                                                                        \
    static int task_##n(pp_task *task, const void *arg, size_t size)                                                   \
    {                                                                                                                  \
        (void)arg, (void)size;                                                                                         \
        return pp_task_return(task, &(uint32_t){n}, sizeof(uint32_t));                                                 \
    }
#define TEN(n)                                                                                                         \
    TASK(n##0) TASK(n##1) TASK(n##2) TASK(n##3) TASK(n##4) TASK(n##5) TASK(n##6) TASK(n##7) TASK(n##8) TASK(n##9)
TEN(1)
TEN(2)
TEN(3)
TEN(4)
#define NAME(n) task_##n
#define TEN_NAMES(n)                                                                                                   \
    NAME(n##0), NAME(n##1), NAME(n##2), NAME(n##3), NAME(n##4), NAME(n##5), NAME(n##6), NAME(n##7), NAME(n##8),        \
        NAME(n##9)

BOTH(a_pool_runs_any_number_of_functions)
{
    static pp_function *const functions[] = {TEN_NAMES(1), TEN_NAMES(2), TEN_NAMES(3), TEN_NAMES(4)};
    pp_pool *pool = kit_pool(method, 2);
    pp_future *futures[40];
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 40; i++)
            futures[i] = submit(pool, functions[i], NULL, 0);
        for (uint32_t i = 0; i < 40; i++) {
            CHECK_INT(result_u32(futures[i]), 10 + i);
            pp_future_unref(futures[i]);
        }
    }
    pp_pool_destroy(pool);
}
