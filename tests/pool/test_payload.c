/* SPDX-License-Identifier: MIT */
/* Arguments and results of every size, from nothing to more than any ring holds; and what becomes of large ones. */
#include "payload_kit.h"

#ifdef PP_SEAMS
#include "base/seam.h"
#endif

enum { BEGUN, GATE, LEFT, FIRST_RUN = 1024 };

/* ------------------------------------------------------------------------------------------- all sizes */

static const size_t sizes[] = {0,       1,       2,       7,       8,       15,      16,     17,    46,      47,
                               48,      49,      63,      64,      65,      254,     255,    256,   1000,    16335,
                               16336,   16337,   16351,   16352,   16353,   16367,   16368,  16369, 16383,   16384,
                               16385,   32700,   32768,   65519,   65520,   65535,   65536,  65537, 1048543, 1048544,
                               1048558, 1048559, 1048560, 1048575, 1048576, 1048577, 3000001};
#define SIZES (sizeof sizes / sizeof *sizes)

BOTH(every_size_travels_both_ways)
{
    pp_pool *pool = kit_pool(method, 2);
    for (size_t i = 0; i < SIZES; i++) {
        check_result(transmit(pool, reflect, sizes[i]), sizes[i] + 1, sizes[i]);
        check_result(transmit(pool, reflect_copy, sizes[i]), sizes[i] + 1, sizes[i]);
        check_result(transmit(pool, echo, sizes[i]), sizes[i], sizes[i]);
    }
    pp_pool_destroy(pool);
}

BOTH(every_size_travels_one_way)
{
    pp_pool *pool = kit_pool(method, 2);
    for (size_t i = 0; i < SIZES; i++) {
        check_result(transmit(pool, swallow, sizes[i]), 0, 0);
        check_result(ask(pool, sizes[i]), sizes[i], sizes[i]);
    }
    pp_pool_destroy(pool);
}

/* A result of the size that the argument, of any size, begins with. */
static int give_behind(pp_task *task, const void *arg, size_t size)
{
    uint64_t wanted;
    memcpy(&wanted, arg, sizeof wanted);
    check_pattern((const char *)arg + 16, size, size - 16);
    void *result = make(wanted, wanted);
    int code = pp_task_return(task, result, wanted);
    free(result);
    return code;
}

static pp_future *ask_behind(pp_pool *pool, size_t size, uint64_t wanted)
{
    pp_future *future;
    char *data = calloc(1, size + 8);
    CHECK(data != NULL);
    memcpy(data, &wanted, sizeof wanted);
    fill(data + 16, size, size - 16);
    CHECK_OK(pp_submit(pool, give_behind, data, size, &future));
    free(data);
    return future;
}

/* What an argument needs is what its result may lie in, if it is as large, or not. Results outlive their futures. */
BOTH(results_of_any_size_come_for_arguments_of_any_size)
{
    static const size_t given[] = {16, 47, 48, 64, 100, 1000, 5000, 16000};
    static const size_t wanted[] = {0, 47, 48, 49, 63, 64, 99, 100, 101, 490, 1000, 1010, 2000, 5000, 16000};
    enum { GIVEN = sizeof given / sizeof *given, WANTED = sizeof wanted / sizeof *wanted };
    pp_future *futures[GIVEN][WANTED];
    pp_pool *pool = kit_pool(method, 2);
    for (size_t i = 0; i < GIVEN; i++)
        for (size_t j = 0; j < WANTED; j++)
            check_result(ask_behind(pool, given[i], wanted[j]), wanted[j], wanted[j]);
    for (size_t i = 0; i < GIVEN; i++)
        for (size_t j = 0; j < WANTED; j++)
            futures[i][j] = ask_behind(pool, given[i], wanted[j]);
    for (size_t i = 0; i < GIVEN; i++)
        for (size_t j = 0; j < WANTED; j++) {
            void *data;
            size_t size;
            CHECK_OK(pp_future_take(futures[i][j], -1, &data, &size));
            pp_future_unref(futures[i][j]);
            CHECK_INT(size, wanted[j]);
            check_pattern(data, wanted[j], size);
            memset(data, 0xdd, size + 1);
            pp_free(data);
        }
    pp_pool_destroy(pool);
}

BOTH_WITHIN(sixty_four_mebibytes_travel_both_ways, 60)
{
    pp_pool *pool = kit_pool(method, 1);
    size_t size = 64 * MIB + 1;
    check_result(transmit(pool, reflect, size), size + 1, size);
    pp_pool_destroy(pool);
}

SLOW_TEST_WITHIN(a_gibibyte_travels_both_ways, 300)
{
    pp_pool *pool = kit_pool(PP_START_FORKSERVER, 1);
    size_t size = 1024 * MIB + 3;
    check_result(transmit(pool, reflect, size), size + 1, size);
    check_result(transmit(pool, echo, size), size, size);
    pp_pool_destroy(pool);
}

/* Small and large ones mix in the rings, many at a time. */
BOTH(large_and_small_calls_mix)
{
    enum { COUNT = 3000 };
    static pp_future *futures[COUNT];
    static size_t wanted[COUNT];
    uint64_t random = 4711;
    pp_pool *pool = kit_pool(method, 2);
    for (int i = 0; i < COUNT; i++) {
        random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        unsigned kind = (random >> 33) % 100;
        wanted[i] = (random >> 40) % (kind < 80 ? 200 : kind < 95 ? 20000 : kind < 99 ? 100000 : 1500000);
        futures[i] = i % 3 ? transmit(pool, i % 3 == 1 ? reflect : reflect_copy, wanted[i]) : ask(pool, wanted[i]);
    }
    for (int i = 0; i < COUNT; i++)
        check_result(futures[i], wanted[i] + (i % 3 != 0), wanted[i]);
    pp_pool_destroy(pool);
}

/* ------------------------------------------------------------------------------------ what a result shows */

BOTH(a_large_result_is_copied_only_where_it_fits)
{
    static const size_t large[] = {16385, 100 * KIB, 2 * MIB};
    pp_pool *pool = kit_pool(method, 1);
    for (int i = 0; i < 3; i++) {
        size_t size = large[i], have = 0;
        pp_future *future = ask(pool, size);
        unsigned char *buffer = calloc(1, size + 16);
        CHECK_INT(pp_future_result(future, -1, buffer, size - 1, &have), -EMSGSIZE);
        CHECK_INT(have, size);
        CHECK_INT(buffer[0], 0);
        CHECK_INT(pp_future_result(future, -1, buffer, size + 1, NULL), -EMSGSIZE);
        CHECK_INT(pp_future_result(future, -1, NULL, 0, &have), -EMSGSIZE);
        CHECK_INT(buffer[0], 0);
        for (int again = 0; again < 2; again++) {
            CHECK_OK(pp_future_result(future, -1, buffer, size + 16, &have));
            CHECK_INT(have, size);
            CHECK(is_pattern(buffer, size, size));
            memset(buffer, 0, size);
        }
        CHECK_OK(pp_future_result(future, -1, buffer, size, NULL));
        CHECK(is_pattern(buffer, size, size));
        free(buffer);
        check_result(future, size, size);
    }
    pp_pool_destroy(pool);
}

BOTH(a_result_that_was_taken_can_be_written_to_and_outlives_future_and_pool)
{
    static const size_t taken_sizes[] = {0, 100, 16384, 16385, 100 * KIB, 3 * MIB};
    void *data[6];
    pp_pool *pool = kit_pool(method, 1);
    for (int i = 0; i < 6; i++) {
        size_t size = taken_sizes[i], have = 1;
        const void *view;
        pp_future *future = ask(pool, size);
        CHECK_OK(pp_future_view(future, -1, &view, &have));
        CHECK_OK(pp_future_take(future, -1, &data[i], &have));
        CHECK(data[i] == view || size < 48); /* what lies in the future itself is copied out */
        CHECK_INT(have, size);
        CHECK_INT(pp_future_take(future, -1, (void **)&view, &have), -ENODATA);
        CHECK_INT(pp_future_view(future, -1, &view, &have), -ENODATA);
        CHECK_INT(pp_future_result(future, -1, NULL, 0, &have), -ENODATA);
        CHECK_INT(pp_future_state(future), PP_FINISHED);
        pp_future_unref(future);
        fill(data[i], size + 5, size);
    }
    pp_pool_destroy(pool);
    for (int i = 0; i < 6; i++) {
        check_pattern(data[i], taken_sizes[i] + 5, taken_sizes[i]);
        pp_free(data[i]);
    }
    pp_free(NULL);
}

BOTH(a_result_in_place_outlives_its_worker_and_its_pool)
{
    static const size_t kept_sizes[] = {100, 16385, 3 * MIB};
    pp_future *futures[3];
    const void *data[3];
    size_t size;
    pp_pool *pool = kit_pool(method, 1);
    for (int i = 0; i < 3; i++) {
        futures[i] = ask(pool, kept_sizes[i]);
        CHECK_OK(pp_future_view(futures[i], -1, &data[i], &size));
    }
    expect_end(submit(pool, crash, NULL, 0), -EOWNERDEAD);
    for (int i = 0; i < 30; i++)
        check_result(ask(pool, kept_sizes[i % 3] + 1), kept_sizes[i % 3] + 1, kept_sizes[i % 3] + 1);
    pp_pool_destroy(pool);
    for (int i = 0; i < 3; i++) {
        check_pattern(data[i], kept_sizes[i], kept_sizes[i]);
        pp_future_unref(futures[i]);
    }
}

BOTH(a_buffer_that_is_used_often_shows_each_result)
{
    pp_pool *pool = kit_pool(method, 1);
    pp_future *kept = ask(pool, 2 * MIB);
    for (uint32_t i = 1; i <= 50; i++) {
        pp_future *next = ask(pool, 2 * MIB + i);
        check_result(kept, 2 * MIB + i - 1, 2 * MIB + i - 1);
        kept = next;
    }
    check_result(kept, 2 * MIB + 50, 2 * MIB + 50);
    pp_pool_destroy(pool);
}

/* Only the last of many counts, whatever was given before. */
static int change_mind(pp_task *task, const void *arg, size_t size)
{
    static const size_t steps[] = {10, 100 * KIB, 20, 16385, 3 * MIB, 16384, 0, 200 * KIB};
    uint32_t count;
    CHECK_INT(size, sizeof count);
    memcpy(&count, arg, sizeof count);
    for (uint32_t i = 0; i < count; i++) {
        size_t wanted = steps[i % 8];
        void *data = make(wanted, wanted);
        if (i % 3 == 2)
            fill(pp_task_reserve(task, wanted), wanted, wanted);
        else
            CHECK_INT(pp_task_return(task, data, wanted), 0);
        free(data);
    }
    return 0;
}

BOTH(the_last_result_that_a_task_gives_is_its_result)
{
    static const size_t last[] = {0, 10, 100 * KIB, 20, 16385, 3 * MIB, 16384, 0, 200 * KIB};
    pp_pool *pool = kit_pool(method, 1);
    for (uint32_t i = 1; i <= 8; i++)
        check_result(submit_u32(pool, change_mind, i), last[i], last[i]);
    check_result(submit_u32(pool, change_mind, 64), last[8], last[8]);
    pp_pool_destroy(pool);
}

BOTH(a_large_result_of_a_task_that_fails_is_dropped)
{
    pp_pool *pool = kit_pool(method, 1);
    for (int i = 0; i < 20; i++) {
        pp_future *future = submit(pool, fail_with_a_result, NULL, 0);
        error_of(future, PP_ERROR_TASK, -EDOM, "and yet it failed");
        pp_future_unref(future);
        check_result(ask(pool, 100 * KIB), 100 * KIB, 100 * KIB);
    }
    pp_pool_destroy(pool);
}

/* -------------------------------------------------------------------------------- cancelled, moved, retried */

/* The argument's first words: which word of the board counts the run; the rest is a pattern. */
struct counted {
    uint64_t run;
    uint64_t seed;
};

static int count_large(pp_task *task, const void *arg, size_t size)
{
    const struct counted *counted = arg;
    CHECK(size >= sizeof *counted);
    add((uint32_t)counted->run);
    check_pattern(counted + 1, counted->seed, size - sizeof *counted);
    return pp_task_return(task, arg, size);
}

static int crash_at_first(pp_task *task, const void *arg, size_t size)
{
    const struct counted *counted = arg;
    if (read_word((uint32_t)counted->run) == 0) {
        check_pattern(counted + 1, counted->seed, size - sizeof *counted);
        add((uint32_t)counted->run);
        raise(SIGKILL);
    }
    return count_large(task, arg, size);
}

/* Of `size` bytes in all. */
static pp_future *transmit_counted(pp_pool *pool, pp_function *function, uint32_t run, size_t size, uint32_t retries)
{
    pp_future *future;
    struct counted *data = malloc(size + 8);
    CHECK(data != NULL);
    *data = (struct counted){.run = run, .seed = run};
    fill(data + 1, run, size - sizeof *data);
    const pp_call call = {.function = function, .arg = data, .size = size, .retries = retries};
    CHECK_OK(pp_submit_call(pool, &call, &future));
    free(data);
    return future;
}

static void check_counted(pp_future *future, uint32_t run, size_t size)
{
    const void *data;
    size_t have;
    CHECK_OK(pp_future_view(future, -1, &data, &have));
    CHECK_INT(have, size);
    CHECK_INT(((const struct counted *)data)->run, run);
    CHECK(is_pattern((const char *)data + sizeof(struct counted), run, size - sizeof(struct counted)));
    pp_future_unref(future);
}

/* The pool learns that calls are short, so that the next ones queue behind one that runs, in its worker's ring. */
static void teach_that_calls_are_short(pp_pool *pool)
{
    for (int i = 0; i < 100; i++)
        expect_end(submit(pool, nothing, NULL, 0), 0);
}

static size_t large_size(uint32_t i)
{
    static const size_t some[] = {100 << 10, 200, 2 << 20, 16385, 16000};
    return some[i % 5];
}

/* Those that are taken back had sent their descriptors ahead: what is left must not get another one's. */
BOTH(large_calls_that_are_cancelled_leave_the_others_theirs)
{
    enum { COUNT = 20 };
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    for (uint32_t round = 0; round < 8; round++) {
        pp_future *running, *futures[COUNT];
        uint32_t first = FIRST_RUN + round * COUNT;
        teach_that_calls_are_short(pool);
        atomic_store(word(GATE), 0);
        occupy(pool, BEGUN, GATE, 1, &running);
        for (uint32_t i = 0; i < COUNT; i++)
            futures[i] = transmit_counted(pool, count_large, first + i, large_size(i), 0);
        for (uint32_t i = 0; i < COUNT; i++)
            if ((i * 7 + round) % 3 == 0)
                CHECK_INT(pp_future_cancel(futures[i]), 0);
        open_gate(GATE);
        for (uint32_t i = 0; i < COUNT; i++) {
            bool cancelled = (i * 7 + round) % 3 == 0;
            if (cancelled)
                expect_end(futures[i], -ECANCELED);
            else
                check_counted(futures[i], first + i, large_size(i));
        }
        pp_future_unref(running);
    }
    pp_pool_destroy(pool);
    for (uint32_t i = 0; i < 8 * COUNT; i++)
        CHECK_INT(read_word(FIRST_RUN + i), (i % COUNT * 7 + i / COUNT) % 3 != 0);
}

static int crash_at_gate(pp_task *task, const void *arg, size_t size)
{
    add(BEGUN);
    wait_at(GATE);
    return crash(task, arg, size);
}

BOTH(large_calls_behind_one_that_crashes_move_to_another_worker)
{
    enum { COUNT = 20 };
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    for (uint32_t round = 0; round < 5; round++) {
        pp_future *futures[COUNT];
        uint32_t first = FIRST_RUN + round * COUNT;
        teach_that_calls_are_short(pool);
        atomic_store(word(GATE), 0);
        pp_future *crashing = submit(pool, crash_at_gate, NULL, 0);
        until(read_word(BEGUN) == round + 1);
        for (uint32_t i = 0; i < COUNT; i++)
            futures[i] = transmit_counted(pool, count_large, first + i, large_size(i), 0);
        open_gate(GATE);
        expect_end(crashing, -EOWNERDEAD);
        for (uint32_t i = 0; i < COUNT; i++)
            check_counted(futures[i], first + i, large_size(i));
    }
    pp_pool_destroy(pool);
    for (uint32_t i = 0; i < 5 * COUNT; i++)
        CHECK_INT(read_word(FIRST_RUN + i), 1);
}

BOTH(a_large_call_is_tried_again_with_its_argument)
{
    enum { COUNT = 10 };
    board_make();
    pp_future *futures[COUNT];
    pp_pool *pool = kit_pool(method, 2);
    for (uint32_t i = 0; i < COUNT; i++)
        futures[i] = transmit_counted(pool, crash_at_first, FIRST_RUN + i, large_size(i), 1);
    for (uint32_t i = 0; i < COUNT; i++)
        check_counted(futures[i], FIRST_RUN + i, large_size(i));
    for (uint32_t i = 0; i < COUNT; i++)
        CHECK_INT(read_word(FIRST_RUN + i), 2);
    pp_pool_destroy(pool);
}

BOTH(large_arguments_are_the_owners_to_keep_when_the_pool_shuts_down)
{
    board_make();
    pp_future *running, *futures[20];
    pp_pool *pool = kit_pool(method, 1);
    occupy(pool, BEGUN, GATE, 1, &running);
    for (uint32_t i = 0; i < 20; i++)
        futures[i] = transmit_counted(pool, count_large, FIRST_RUN + i, large_size(i), 0);
    CHECK_INT(pp_pool_shutdown(pool, PP_CANCEL_PENDING, 0), -ETIMEDOUT);
    open_gate(GATE);
    for (uint32_t i = 0; i < 20; i++)
        expect_end(futures[i], -ECANCELED);
    expect_end(running, 0);
    pp_pool_destroy(pool);
    for (uint32_t i = 0; i < 20; i++)
        CHECK_INT(read_word(FIRST_RUN + i), 0);
}

/* ---------------------------------------------------------------------- a worker that dies behind its result */

static void *die_at_gate(void *unused)
{
    (void)unused;
    add(BEGUN);
    wait_at(GATE);
    raise(SIGKILL);
    return NULL;
}

/* The worker lives on for as long as the gate is shut. */
static int give_and_die_later(pp_task *task, const void *arg, size_t size)
{
    pthread_t thread;
    CHECK_INT(pthread_create(&thread, NULL, die_at_gate, NULL), 0);
    return give(task, arg, size);
}

BOTH(a_large_result_outlives_a_worker_that_dies_right_after_it)
{
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    for (uint32_t round = 1; round <= 5; round++) {
        uint64_t size = round * MIB;
        atomic_store(word(GATE), 0);
        pp_future *future = submit(pool, give_and_die_later, &size, sizeof size);
        CHECK_OK(pp_future_wait(future, -1));
        until(read_word(BEGUN) == round);
        open_gate(GATE);
        pp_future *next = ask(pool, 100 * KIB); /* on the next worker, or on this one while it can */
        const pp_error *error;
        CHECK_OK(pp_future_error(next, -1, &error));
        CHECK(!error || error->kind == PP_ERROR_CRASH);
        pp_future_unref(next);
        check_result(future, size, size);
    }
    pp_pool_destroy(pool);
}

BOTH(a_large_result_and_a_crash_behind_it_come_each_as_what_it_is)
{
    pp_pool *pool = kit_pool(method, 1);
    for (int round = 0; round < 20; round++) {
        pp_future *futures[6];
        for (int i = 0; i < 6; i++)
            futures[i] = i % 2 ? submit(pool, crash, NULL, 0) : ask(pool, (size_t)(i + 1) * 100 * KIB);
        for (int i = 5; i >= 0; i--) {
            if (i % 2)
                expect_end(futures[i], -EOWNERDEAD);
            else
                check_result(futures[i], (size_t)(i + 1) * 100 * KIB, (size_t)(i + 1) * 100 * KIB);
        }
    }
    pp_pool_destroy(pool);
}

#ifdef PP_SEAMS
/* Its descriptor is sent and its record never comes: that is no result, and nothing of it meets the next one. */
TEST(a_worker_that_dies_between_sending_a_result_and_saying_so_has_given_none)
{
    pp_pool *pool = kit_pool(PP_START_FORK, 1);
    expect_usable(pool);
    for (int round = 0; round < 5; round++) {
        pp__fault_arm("worker.publish.before", 1, PP__FAULT_KILL);
        expect_end(ask(pool, 2 * MIB), -EOWNERDEAD);
        pp__fault_disarm();
        check_result(ask(pool, 100 * KIB), 100 * KIB, 100 * KIB);
    }
    pp_pool_destroy(pool);
}

TEST(a_worker_that_dies_when_it_has_said_so_has_given_its_result)
{
    pp_pool *pool = kit_pool(PP_START_FORK, 1);
    expect_usable(pool);
    for (int round = 0; round < 5; round++) {
        pp__fault_arm("worker.publish.after", 1, PP__FAULT_KILL);
        check_result(ask(pool, 2 * MIB), 2 * MIB, 2 * MIB);
        pp__fault_disarm();
        check_result(ask(pool, 100 * KIB), 100 * KIB, 100 * KIB);
    }
    pp_pool_destroy(pool);
}
#endif

/* ---------------------------------------------------------------------------------- arguments of the duties */

static int check_at_start(pp_task *task, const void *arg, size_t size)
{
    (void)task;
    check_pattern(arg, size, size);
    add(BEGUN);
    return 0;
}

static int check_at_end(pp_task *task, const void *arg, size_t size)
{
    (void)task;
    check_pattern(arg, size, size);
    add(LEFT);
    return 0;
}

BOTH(initializer_and_finalizer_get_arguments_of_every_size)
{
    board_make();
    for (size_t i = 0; i < SIZES; i += 3) {
        void *first = make(sizes[i], sizes[i]), *last = make(sizes[SIZES - 1 - i], sizes[SIZES - 1 - i]);
        atomic_store(word(BEGUN), 0);
        atomic_store(word(LEFT), 0);
        pp_pool *pool = kit_pool_with(method, (pp_pool_options){.max_workers = 1,
                                                                .initializer = check_at_start,
                                                                .initializer_arg = first,
                                                                .initializer_arg_size = sizes[i],
                                                                .finalizer = check_at_end,
                                                                .finalizer_arg = last,
                                                                .finalizer_arg_size = sizes[SIZES - 1 - i]});
        memset(first, 0xdd, sizes[i]);
        memset(last, 0xdd, sizes[SIZES - 1 - i]);
        free(first);
        free(last);
        expect_usable(pool);
        expect_end(submit(pool, crash, NULL, 0), -EOWNERDEAD);
        expect_usable(pool);
        CHECK_INT(read_word(BEGUN), 2);
        pp_pool_destroy(pool);
        CHECK_INT(read_word(LEFT), 1);
    }
}

/* What initializer and finalizer give as a result nobody takes: it does not meet the first call's. */
BOTH(large_results_of_initializer_and_finalizer_go_nowhere)
{
    uint64_t wanted = 300 * KIB;
    pp_pool *pool = kit_pool_with(method, (pp_pool_options){.max_workers = 1,
                                                            .initializer = give,
                                                            .initializer_arg = &wanted,
                                                            .initializer_arg_size = sizeof wanted,
                                                            .finalizer = give,
                                                            .finalizer_arg = &wanted,
                                                            .finalizer_arg_size = sizeof wanted});
    check_result(ask(pool, 200 * KIB), 200 * KIB, 200 * KIB);
    check_result(ask(pool, 2 * MIB), 2 * MIB, 2 * MIB);
    check_result(ask(pool, 10), 10, 10);
    pp_pool_destroy(pool);
}
