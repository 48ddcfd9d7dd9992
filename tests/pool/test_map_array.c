/* SPDX-License-Identifier: MIT */
/* pp_map_array, the parallel loop: results in place, failures counted, the one with the lowest index told. */
#include "map_kit.h"

#include "lost_kit.h"

enum { COUNT = 3000 };
static const uint32_t UNTOUCHED = 0xeeeeeeee;

struct loop {
    uint32_t in[COUNT], out[COUNT];
};

static struct loop *make_loop(void)
{
    static struct loop loop;
    for (uint32_t i = 0; i < COUNT; i++) {
        loop.in[i] = i;
        loop.out[i] = UNTOUCHED;
    }
    return &loop;
}

static ssize_t run_loop(pp_pool *pool, pp_function *function, struct loop *loop, uint32_t count, pp_map_options options)
{
    return pp_map_array(pool, function, loop->in, count, sizeof *loop->in, loop->out, sizeof *loop->out, &options);
}

/* Element i has its square, unless it is one of those that fail. */
static void check_outputs(const struct loop *loop, uint32_t from, uint32_t to, bool (*fails)(uint32_t i))
{
    for (uint32_t i = from; i < to; i++) {
        uint32_t expected = fails && fails(i) ? UNTOUCHED : i * i;
        if (loop->out[i] != expected)
            harness_fail(__FILE__, __LINE__, "output %u is %u, not %u", i, loop->out[i], expected);
    }
}

BOTH(a_loop_writes_each_result_in_its_place)
{
    static const size_t chunk_sizes[] = {0, 1, 7, 1024, 65536};
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    for (uint32_t i = 0; i < 5; i++) {
        struct loop *loop = make_loop();
        CHECK_INT(run_loop(pool, act, loop, COUNT, (pp_map_options){.chunk_size = chunk_sizes[i]}), 0);
        check_outputs(loop, 0, COUNT, NULL);
        check_runs(0, COUNT, i + 1);
    }
    struct loop *loop = make_loop();
    CHECK_INT(pp_map_array(pool, act, loop->in, 10, 4, loop->out, 4, NULL), 0);
    check_outputs(loop, 0, 10, NULL);
    CHECK_INT(loop->out[10], UNTOUCHED);
    pp_pool_destroy(pool);
}

BOTH(loops_over_few_elements_are_loops)
{
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    for (uint32_t count = 0; count < 40; count++) {
        struct loop *loop = make_loop();
        CHECK_INT(run_loop(pool, act, loop, count, (pp_map_options){0}), 0);
        check_outputs(loop, 0, count, NULL);
        CHECK_INT(loop->out[count], UNTOUCHED);
    }
    CHECK_INT(pp_map_array(pool, act, NULL, 0, 4, NULL, 4, NULL), 0);
    pp_pool_destroy(pool);
}

static int count_and_return_nothing(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    add(FIRST_RUN);
    return 0;
}

BOTH(elements_and_results_may_be_of_no_bytes)
{
    board_make();
    struct loop *loop = make_loop();
    pp_pool *pool = kit_pool(method, 2);
    CHECK_INT(pp_map_array(pool, count_and_return_nothing, NULL, 500, 0, NULL, 0, NULL), 0);
    CHECK_INT(runs_of(0), 500);
    CHECK_INT(pp_map_array(pool, count_and_return_nothing, loop->in, 500, 4, NULL, 0, NULL), 0);
    CHECK_INT(runs_of(0), 1000);
    CHECK_INT(pp_map_array(pool, count_and_return_nothing, loop->in, 500, 4, loop->out, 4, NULL), 500);
    CHECK_HAS(pp_last_error(), "element 0: its result has 0 bytes and not 4");
    CHECK_INT(loop->out[0], UNTOUCHED);
    pp_pool_destroy(pool);
}

/* ------------------------------------------------------------------------------------------- failures */

BOTH(failed_elements_are_counted_and_their_outputs_left_alone)
{
    static const enum behaviour ways[] = {FAIL, CRASH, EXIT};
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    for (int way = 0; way < 3; way++) {
        uint32_t count = ways[way] == FAIL ? COUNT : 300, failures = 0;
        struct loop *loop = make_loop();
        for (uint32_t i = 0; i < count; i++) {
            behave(i, one_in_nine(i) ? ways[way] : ANSWER);
            failures += one_in_nine(i);
        }
        CHECK_INT(run_loop(pool, act, loop, count, (pp_map_options){0}), failures);
        CHECK_HAS(pp_last_error(), "element 5: ");
        CHECK_HAS(pp_last_error(), way == 0 ? "element 5 refuses" : way == 1 ? "signal 9" : "exited with status 0");
        check_outputs(loop, 0, count, one_in_nine);
    }
    pp_pool_destroy(pool);
}

/* Element 3 fails only after element 50 has. */
static int fail_late(pp_task *task, const void *arg, size_t size)
{
    uint32_t i;
    CHECK_INT(size, sizeof i);
    memcpy(&i, arg, sizeof i);
    while (i == 3 && runs_of(50) == 0)
        test_sleep_ms(1);
    return act(task, arg, size);
}

BOTH(the_failure_that_is_told_is_the_one_with_the_lowest_index)
{
    board_make();
    struct loop *loop = make_loop();
    pp_pool *pool = kit_pool(method, 2);
    behave(3, FAIL);
    behave(50, FAIL);
    behave(70, FAIL);
    CHECK_INT(run_loop(pool, fail_late, loop, 100, (pp_map_options){.max_in_flight = 100}), 3);
    CHECK_STR(pp_last_error(), "element 3: element 3 refuses");
    pp_pool_destroy(pool);
}

BOTH(a_result_of_another_size_is_a_failure_of_its_element)
{
    board_make();
    struct loop *loop = make_loop();
    pp_pool *pool = kit_pool(method, 2);
    CHECK_INT(run_loop(pool, misfit, loop, COUNT, (pp_map_options){0}), COUNT / 9);
    CHECK_HAS(pp_last_error(), "element 5: its result has 3 bytes and not 4");
    check_outputs(loop, 0, COUNT, one_in_nine);
    check_runs(0, COUNT, 1);
    pp_pool_destroy(pool);
}

/* One worker, so that the elements run in order. What had been pulled when the failure was seen may have run. */
static void check_fail_fast(pp_pool *pool, pp_function *function, size_t chunk_size, const char *text)
{
    struct loop *loop = make_loop();
    uint32_t before = runs_between(0, COUNT);
    ssize_t failed = run_loop(pool, function, loop, COUNT,
                              (pp_map_options){.chunk_size = chunk_size, .max_in_flight = 50, .fail_fast = 1});
    CHECK_HAS(pp_last_error(), text);
    check_outputs(loop, 0, 5, NULL);
    CHECK_INT(loop->out[5], UNTOUCHED);
    ssize_t written = 0;
    for (uint32_t i = 0; i < COUNT; i++)
        written += loop->out[i] != UNTOUCHED;
    CHECK_INT(failed, COUNT - written);
    expect_usable(pool);
    CHECK(runs_between(0, COUNT) - before <= 5 + 50);
}

BOTH(with_fail_fast_elements_that_never_ran_count_as_failed)
{
    static const size_t chunk_sizes[] = {1, 7, 50};
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    for (int i = 0; i < 3; i++) {
        behave(5, FAIL);
        check_fail_fast(pool, act, chunk_sizes[i], "element 5: element 5 refuses");
        behave(5, CRASH);
        check_fail_fast(pool, act, chunk_sizes[i], "element 5: its worker");
        check_fail_fast(pool, misfit, chunk_sizes[i], "element 5: its result has 3 bytes");
    }
    pp_pool_destroy(pool);
}

BOTH(elements_that_crash_once_are_tried_again)
{
    board_make();
    struct loop *loop = make_loop();
    pp_pool *pool = kit_pool(method, 2);
    for (uint32_t i = 0; i < 300; i += 30)
        behave(i, CRASH_AT_FIRST);
    CHECK_INT(run_loop(pool, act, loop, 300, (pp_map_options){.retries = 1}), 0);
    check_outputs(loop, 0, 300, NULL);
    for (uint32_t i = 0; i < 300; i++)
        CHECK_INT(runs_of(i), i % 30 == 0 ? 2 : 1);
    pp_pool_destroy(pool);
}

BOTH(an_element_that_hangs_fails_by_its_timeout)
{
    board_make();
    struct loop *loop = make_loop();
    pp_pool *pool = kit_pool(method, 2);
    behave(0, HANG);
    ssize_t failed = run_loop(pool, act, loop, 300, (pp_map_options){.timeout = 100 * harness_scale()});
    CHECK(failed >= 1); /* more only if the machine kept others from running for so long */
    CHECK_HAS(pp_last_error(), "element 0: outlived its timeout");
    CHECK_INT(loop->out[0], UNTOUCHED);
    for (uint32_t i = 1; i < 300; i++)
        CHECK(loop->out[i] == i * i || (failed-- > 1 && loop->out[i] == UNTOUCHED));
    pp_pool_destroy(pool);
}

/* ------------------------------------------------------------------------------------ refused and broken */

BOTH(a_loop_is_refused_for_what_it_was_not_given)
{
    board_make();
    struct loop *loop = make_loop();
    pp_pool *pool = kit_pool(method, 1);
    CHECK_INT(pp_map_array(NULL, act, loop->in, 1, 4, loop->out, 4, NULL), -EINVAL);
    CHECK_INT(pp_map_array(pool, NULL, loop->in, 1, 4, loop->out, 4, NULL), -EINVAL);
    CHECK_INT(pp_map_array(pool, act, NULL, 1, 4, loop->out, 4, NULL), -EINVAL);
    CHECK_INT(pp_map_array(pool, act, loop->in, 1, 4, NULL, 4, NULL), -EINVAL);
    CHECK_INT(run_loop(pool, act, loop, 1, (pp_map_options){.chunk_size = 65537}), -EINVAL);
    CHECK_INT(run_loop(pool, act, loop, 1, (pp_map_options){.retries = 1001}), -EINVAL);
    CHECK_INT(run_loop(pool, act, loop, 1, (pp_map_options){.reserved = {0, 1}}), -EINVAL);
    CHECK(*pp_last_error());
    CHECK_INT(pp_map_array(pool, act, loop->in, SIZE_MAX, 4, NULL, 0, NULL), -EINVAL);
    CHECK_INT(pp_map_array(pool, act, loop->in, SIZE_MAX / 4 + 2, 4, NULL, 0, NULL), -EINVAL); /* 4 bytes, it seems */
    CHECK_HAS(pp_last_error(), "elements of 4 bytes are larger than any memory");
    CHECK_INT(pp_map_array(pool, act, loop->in, 3, SIZE_MAX / 4, loop->out, 4, NULL), -EINVAL);
    CHECK_INT(pp_map_array(pool, act, NULL, SIZE_MAX / 8 + 1, 0, loop->out, 8, NULL), -EINVAL);
    CHECK_HAS(pp_last_error(), "outputs of 8 bytes are larger than any memory");
    CHECK_INT(pp_map_array(pool, act, NULL, SIZE_MAX, 0, NULL, 0, NULL), -EINVAL); /* more than can be told of */
    CHECK_INT(runs_between(0, COUNT), 0);
    int got = pp_pool_shutdown(pool, 0, -1);
    CHECK_INT(got, 0);
    CHECK_INT(run_loop(pool, act, loop, 1, (pp_map_options){0}), -ESHUTDOWN);
    CHECK_INT(loop->out[0], UNTOUCHED);
    pp_pool_destroy(pool);
}

BOTH(a_pool_that_breaks_ends_a_loop)
{
    board_make();
    struct loop *loop = make_loop();
    pp_pool *pool = kit_pool_with(method, (pp_pool_options){.max_workers = 2, .on_crash = PP_BREAK_POOL});
    behave(100, CRASH);
    behave_all(150, COUNT, WAIT); /* so that the rest is not pulled before the death is known */
    CHECK_INT(run_loop(pool, act, loop, COUNT, (pp_map_options){.max_in_flight = 50}), -ENOTRECOVERABLE);
    CHECK_HAS(pp_last_error(), "while it ran call");
    for (uint32_t i = 0; i < COUNT; i++)
        CHECK(loop->out[i] == UNTOUCHED || (loop->out[i] == i * i && i != 100));
    CHECK_INT(run_loop(pool, act, loop, 1, (pp_map_options){0}), -ENOTRECOVERABLE);
    pp_pool_destroy(pool);
}

static void on_signal(int number)
{
    (void)number;
}

/* Element 0 waits for the gate, which opens only after the loop was interrupted. */
static void *interrupt_when_begun(void *victim)
{
    until(read_word(BEGUN) == 1);
    while (!read_word(GATE)) {
        pthread_kill(*(pthread_t *)victim, SIGUSR1);
        test_sleep_ms(1);
    }
    return NULL;
}

BOTH(a_signal_ends_a_loop_and_what_has_not_begun_never_runs)
{
    board_make();
    struct loop *loop = make_loop();
    struct sigaction action = {.sa_handler = on_signal};
    pthread_t self = pthread_self();
    pp_pool *pool = kit_pool(method, 1);
    behave(0, WAIT);
    CHECK_INT(sigaction(SIGUSR1, &action, NULL), 0);
    pthread_t thread = start_thread(interrupt_when_begun, &self);
    CHECK_INT(run_loop(pool, act, loop, COUNT, (pp_map_options){.chunk_size = 7}), -EINTR);
    open_gate(GATE);
    join_thread(thread);
    expect_usable(pool);
    CHECK_INT(runs_between(0, COUNT), 1);
    pp_pool_destroy(pool);
}

/* A loop that is interrupted while element 10 of its first chunk runs. Whether those before it had been taken in. */
static bool interrupt_at_ten(pp_pool *pool, struct loop *loop)
{
    pthread_t self = pthread_self();
    atomic_store(word(BEGUN), 0);
    atomic_store(word(GATE), 0);
    pthread_t thread = start_thread(interrupt_when_begun, &self);
    CHECK_INT(run_loop(pool, act, loop, COUNT, (pp_map_options){.chunk_size = 64}), -EINTR);
    bool taken = loop->out[9] != UNTOUCHED;
    make_loop();
    open_gate(GATE);
    join_thread(thread);
    return taken;
}

BOTH(what_runs_on_behind_a_loop_that_ended_early_is_written_nowhere)
{
    board_make();
    struct loop *loop = make_loop();
    struct sigaction action = {.sa_handler = on_signal};
    pp_pool *pool = kit_pool(method, 1);
    behave(10, WAIT);
    CHECK_INT(sigaction(SIGUSR1, &action, NULL), 0);
    bool taken = false;
    while (!taken) { /* the signal may come before the thread has looked */
        taken = interrupt_at_ten(pool, loop);
        expect_usable(pool);
        for (uint32_t i = 0; i < COUNT; i++)
            CHECK_INT(loop->out[i], UNTOUCHED);
    }
    pp_pool_destroy(pool);
}

struct looper {
    pp_pool *pool;
    uint32_t in[500], out[500];
};

static void *run_many(void *context)
{
    struct looper *l = context;
    for (int round = 0; round < 4; round++) {
        for (uint32_t i = 0; i < 500; i++) {
            l->in[i] = i;
            l->out[i] = UNTOUCHED;
        }
        CHECK_INT(pp_map_array(l->pool, act, l->in, 500, 4, l->out, 4, NULL), 0);
        for (uint32_t i = 0; i < 500; i++)
            CHECK_INT(l->out[i], i * i);
    }
    return NULL;
}

BOTH(loops_of_several_threads_share_a_pool)
{
    enum { THREADS = 4 };
    static struct looper loopers[THREADS];
    pthread_t threads[THREADS];
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    for (int i = 0; i < THREADS; i++) {
        loopers[i].pool = pool;
        threads[i] = start_thread(run_many, &loopers[i]);
    }
    for (int i = 0; i < THREADS; i++)
        join_thread(threads[i]);
    check_runs(0, 500, THREADS * 4);
    pp_pool_destroy(pool);
}

enum { UNWANTED = 3000 };

static void *submit_unwanted(void *pool)
{
    for (uint32_t i = 0; i < UNWANTED; i++) {
        uint32_t number = COUNT + i;
        CHECK_OK(pp_submit(pool, act, &number, sizeof number, NULL));
    }
    return NULL;
}

/* Who runs a loop keeps the manager asleep, but not for longer. */
BOTH(calls_that_nobody_waits_for_go_on_beside_a_loop_and_behind_it)
{
    board_make();
    struct loop *loop = make_loop();
    pp_pool *pool = kit_pool(method, 1);
    pthread_t thread = start_thread(submit_unwanted, pool);
    while (runs_between(COUNT, COUNT + UNWANTED) < UNWANTED / 2)
        CHECK_INT(run_loop(pool, act, loop, 100, (pp_map_options){.chunk_size = 10}), 0);
    join_thread(thread);
    until(runs_between(COUNT, COUNT + UNWANTED) == UNWANTED);
    pp_pool_destroy(pool);
}
