/* SPDX-License-Identifier: MIT */
/* Arguments and results of every size, from nothing to more than any ring holds; and what becomes of large ones. */
#include "payload_kit.h"

#include <sys/resource.h>

#ifdef PP_SEAMS
#include "base/seam.h"
#endif

enum { BEGUN, GATE, LEFT, FIRST_RUN = 1024 };

/* ------------------------------------------------------------------------------------------- all sizes */

static const size_t sizes[] = {0,       1,       2,       7,       8,       15,      16,     17,    1000,    16335,
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

static int fail_with_a_result(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    CHECK(pp_task_reserve(task, 3 * MIB) != NULL);
    return pp_task_fail(task, -EDOM, "and yet it failed");
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

/* ------------------------------------------------------------------------------------------------ many */

static void limit(int resource, rlim_t most)
{
    struct rlimit now;
    CHECK_INT(getrlimit((__rlimit_resource_t)resource, &now), 0);
    now.rlim_cur = most;
    CHECK_INT(setrlimit((__rlimit_resource_t)resource, &now), 0);
}

/* Two thousand wait, and there are a few dozen descriptors in owner and workers: none is held for what waits, nor for
 * what has come. */
BOTH_WITHIN(two_thousand_large_calls_need_no_two_thousand_descriptors, 60)
{
    enum { COUNT = 2000, SIZE = 100 << 10 };
    static pp_future *futures[COUNT];
    limit(RLIMIT_NOFILE, 256);
    pp_pool *pool = kit_pool(method, 2);
    void *data = make(SIZE, SIZE);
    for (int i = 0; i < COUNT; i++)
        futures[i] = submit(pool, reflect, data, SIZE);
    for (int i = 0; i < COUNT; i++)
        CHECK_OK(pp_future_wait(futures[i], -1));
    for (int i = 0; i < COUNT; i++)
        check_result(futures[i], SIZE + 1, SIZE);
    free(data);
    pp_pool_destroy(pool);
}

static int count_own(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    uint32_t counts[2] = {(uint32_t)count_fds(), 0};
    FILE *maps = fopen("/proc/self/maps", "re");
    CHECK(maps != NULL);
    for (int c; (c = fgetc(maps)) != EOF;)
        counts[1] += c == '\n';
    fclose(maps);
    return pp_task_return(task, counts, sizeof counts);
}

static void count_in_worker(pp_pool *pool, uint32_t counts[2])
{
    pp_future *future = submit(pool, count_own, NULL, 0);
    CHECK_OK(pp_future_result(future, -1, counts, 2 * sizeof *counts, NULL));
    pp_future_unref(future);
}

static uint32_t count_own_maps(void)
{
    uint32_t count = 0;
    FILE *maps = fopen("/proc/self/maps", "re");
    CHECK(maps != NULL);
    for (int c; (c = fgetc(maps)) != EOF;)
        count += c == '\n';
    fclose(maps);
    return count;
}

/* A few mappings come and go with the allocator's moods: not one for each call. */
BOTH_WITHIN(large_calls_leave_no_descriptors_and_no_mappings_behind, 60)
{
    enum { ROUNDS = 60, MOODS = 50 };
    uint32_t before[2], after[2];
    pp_pool *pool = kit_pool(method, 1);
    check_result(transmit(pool, reflect, 2 * MIB), 2 * MIB + 1, 2 * MIB);
    count_in_worker(pool, before);
    int fds = count_fds();
    uint32_t maps = count_own_maps();
    for (int i = 0; i < ROUNDS; i++) {
        check_result(transmit(pool, reflect, 100 * KIB), 100 * KIB + 1, 100 * KIB);
        check_result(transmit(pool, reflect, 2 * MIB), 2 * MIB + 1, 2 * MIB);
        expect_end(submit(pool, fail_with_a_result, NULL, 0), -EREMOTEIO);
    }
    count_in_worker(pool, after);
    CHECK_INT(after[0], before[0]);
    CHECK(after[1] < before[1] + MOODS);
    CHECK_INT(count_fds(), fds);
    CHECK(count_own_maps() < maps + MOODS);
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

/* ------------------------------------------------------------------------------------------------ limits */

BOTH(an_argument_larger_than_any_file_may_be_is_refused)
{
    void *data = make(0, 3 * MIB);
    pp_future *const untouched = data;
    pp_future *future = untouched;
    pp_pool *pool = kit_pool(method, 1);
    expect_usable(pool);
    limit(RLIMIT_FSIZE, 2 * MIB);
    CHECK_INT(pp_submit(pool, swallow, data, 3 * MIB, &future), -EFBIG);
    CHECK_HAS(pp_last_error(), "RLIMIT_FSIZE");
    CHECK(future == untouched);
    check_result(transmit(pool, reflect, 3 * MIB / 2), 3 * MIB / 2 + 1, 3 * MIB / 2);
    limit(RLIMIT_FSIZE, 50 * KIB); /* what waits on the heap meets the limit when it is sent */
    pp_future *late = transmit(pool, swallow, 100 * KIB);
    error_of(late, PP_ERROR_TRAVEL, -EFBIG, "RLIMIT_FSIZE");
    pp_future_unref(late);
    check_result(transmit(pool, reflect, 40 * KIB), 40 * KIB + 1, 40 * KIB);
    check_result(transmit(pool, reflect, 100), 101, 100);
    limit(RLIMIT_FSIZE, RLIM_INFINITY);
    check_result(transmit(pool, reflect, 3 * MIB), 3 * MIB + 1, 3 * MIB);
    pp_pool_destroy(pool);
    free(data);
}

/* Tries a result of 100 KiB under a limit, in each way; the last time it makes do with a small one. */
static int give_above_limit(pp_task *task, const void *arg, size_t size)
{
    struct rlimit before;
    uint32_t way;
    CHECK_INT(size, sizeof way);
    memcpy(&way, arg, sizeof way);
    CHECK_INT(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit(RLIMIT_FSIZE, 50 * KIB);
    void *data = make(1, 100 * KIB);
    int code = way == 0 ? pp_task_return(task, data, 100 * KIB) : pp_task_reserve(task, 100 * KIB) ? 0 : -EFBIG;
    if (code != -EFBIG)
        return pp_task_fail(task, -ENOTSUP, "it had room: %d", code);
    CHECK_HAS(pp_last_error(), "RLIMIT_FSIZE");
    free(data);
    CHECK_INT(setrlimit(RLIMIT_FSIZE, &before), 0);
    return way == 2 ? pp_task_return(task, "none", 4) : -EFBIG;
}

BOTH(a_result_larger_than_any_file_may_be_fails_its_call_alone)
{
    pp_pool *pool = kit_pool(method, 1);
    for (uint32_t way = 0; way < 2; way++) {
        pp_future *future = submit_u32(pool, give_above_limit, way);
        const pp_error *error = error_of(future, PP_ERROR_TRAVEL, -EFBIG, "RLIMIT_FSIZE");
        CHECK_INT(error->code, -EBADMSG);
        CHECK_INT(error->tries, 1);
        CHECK_STR(error->function, "give_above_limit");
        CHECK(error->pid > 0);
        pp_future_unref(future);
        check_result(ask(pool, 100 * KIB), 100 * KIB, 100 * KIB);
    }
    char text[5] = "";
    pp_future *future = submit_u32(pool, give_above_limit, 2);
    CHECK_OK(pp_future_result(future, -1, text, 4, NULL));
    CHECK_STR(text, "none");
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

/* A limit that was there before owner and workers. */
BOTH(a_low_file_size_limit_from_the_beginning_costs_only_what_is_too_large)
{
    limit(RLIMIT_FSIZE, 1 * MIB);
    void *data = make(2 * MIB, 2 * MIB);
    pp_future *future;
    pp_pool *pool = kit_pool(method, 2);
    for (int i = 0; i < 3; i++) {
        CHECK_INT(pp_submit(pool, swallow, data, 2 * MIB, &future), -EFBIG);
        future = ask(pool, 2 * MIB);
        error_of(future, PP_ERROR_TASK, -ENOBUFS, "RLIMIT_FSIZE");
        pp_future_unref(future);
        check_result(transmit(pool, reflect, 500 * KIB), 500 * KIB + 1, 500 * KIB);
    }
    pp_pool_destroy(pool);
    free(data);
}

static int take_all_descriptors(int *fds)
{
    int count = 0;
    for (int fd; (fd = dup(0)) >= 0;)
        fds[count++] = fd;
    CHECK_INT(errno, EMFILE);
    return count;
}

/*
 * Nothing is left for a large argument or result; small calls go on, and large ones when there are descriptors again. A
 * new pool each time: what has buffers needs no descriptors.
 */
BOTH(without_descriptors_large_calls_fail_and_small_ones_go_on)
{
    int fds[300];
    void *data = make(2 * MIB, 2 * MIB);
    pp_future *future;
    limit(RLIMIT_NOFILE, 256);
    for (int round = 0; round < 3; round++) {
        pp_pool *pool = kit_pool(method, 1);
        expect_usable(pool);
        int count = take_all_descriptors(fds);
        CHECK_INT(pp_submit(pool, swallow, data, 2 * MIB, &future), -EMFILE);
        CHECK_HAS(pp_last_error(), "RLIMIT_NOFILE");
        future = transmit(pool, swallow, 100 * KIB);
        error_of(future, PP_ERROR_TRAVEL, -EMFILE, "RLIMIT_NOFILE");
        pp_future_unref(future);
        future = ask(pool, 100 * KIB);
        error_of(future, PP_ERROR_TRAVEL, -EMFILE, "open files");
        pp_future_unref(future);
        expect_usable(pool);
        while (count > 0)
            close(fds[--count]);
        check_result(transmit(pool, reflect, 2 * MIB), 2 * MIB + 1, 2 * MIB);
        check_result(transmit(pool, reflect, 100 * KIB), 100 * KIB + 1, 100 * KIB);
        pp_pool_destroy(pool);
    }
    free(data);
}

BOTH(large_calls_for_which_there_are_buffers_need_no_descriptors)
{
    int fds[300];
    pp_pool *pool = kit_pool(method, 1);
    for (int round = 0; round < 3; round++) {
        check_result(transmit(pool, reflect, 2 * MIB), 2 * MIB + 1, 2 * MIB);
        check_result(transmit(pool, reflect, 100 * KIB), 100 * KIB + 1, 100 * KIB);
    }
    limit(RLIMIT_NOFILE, 256);
    int count = take_all_descriptors(fds);
    for (int round = 0; round < 20; round++) {
        check_result(transmit(pool, reflect, 2 * MIB), 2 * MIB + 1, 2 * MIB);
        check_result(transmit(pool, reflect, 100 * KIB), 100 * KIB + 1, 100 * KIB);
    }
    while (count > 0)
        close(fds[--count]);
    pp_pool_destroy(pool);
}

static int give_without_descriptors(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    int fds[300];
    limit(RLIMIT_NOFILE, 256);
    int count = take_all_descriptors(fds);
    void *data = make(1, 100 * KIB);
    int code = pp_task_return(task, data, 100 * KIB);
    free(data);
    while (count > 0)
        close(fds[--count]);
    return code;
}

BOTH(a_worker_without_descriptors_can_not_give_a_large_result)
{
    for (int i = 0; i < 3; i++) {
        pp_pool *pool = kit_pool(method, 1);
        pp_future *future = submit(pool, give_without_descriptors, NULL, 0);
        error_of(future, PP_ERROR_TRAVEL, -EMFILE, "RLIMIT_NOFILE");
        pp_future_unref(future);
        check_result(ask(pool, 100 * KIB), 100 * KIB, 100 * KIB);
        pp_pool_destroy(pool);
    }
}

/* All of a worker's descriptors are gone from one call to the next: the argument of the next one can't be received. */
static int keep_all_descriptors(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    static int fds[300];
    limit(RLIMIT_NOFILE, 256);
    take_all_descriptors(fds);
    return 0;
}

static int free_descriptors(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    limit(RLIMIT_NOFILE, 1024);
    return 0;
}

BOTH(a_worker_without_descriptors_can_not_get_a_large_argument)
{
    pp_pool *pool = kit_pool(method, 1);
    expect_end(submit(pool, keep_all_descriptors, NULL, 0), 0);
    for (int i = 0; i < 3; i++) {
        pp_future *future = transmit(pool, swallow, 100 * KIB);
        error_of(future, PP_ERROR_TRAVEL, -EMFILE, "argument");
        pp_future_unref(future);
        expect_usable(pool);
    }
    expect_end(submit(pool, free_descriptors, NULL, 0), 0);
    for (int i = 0; i < 3; i++)
        check_result(transmit(pool, reflect, 100 * KIB), 100 * KIB + 1, 100 * KIB);
    pp_pool_destroy(pool);
}

/* A process has only so many mappings (vm.max_map_count); all but `left` are made here, of pages that can't be joined.
 */
static void use_up_mappings(size_t left)
{
    size_t most = 0, page = (size_t)sysconf(_SC_PAGESIZE);
    FILE *file = fopen("/proc/sys/vm/max_map_count", "re");
    CHECK(file && fscanf(file, "%zu", &most) == 1);
    fclose(file);
    if (most > 200000)
        LEFT_OUT("vm.max_map_count is too large to be used up");
    most -= count_own_maps() + left;
    char *memory = mmap(NULL, most * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(memory != MAP_FAILED);
    for (size_t i = 1; i < most; i += 2)
        CHECK_INT(mprotect(memory + i * page, page, PROT_READ), 0);
}

BOTH(results_of_some_kibibytes_are_held_in_any_number)
{
    enum { COUNT = 1000 };
    static pp_future *futures[COUNT];
    if (KIT_ASAN || KIT_TSAN || TEST_ON_VALGRIND)
        LEFT_OUT("the tool's own allocator needs mappings");
    pp_pool *pool = kit_pool(method, 1);
    expect_usable(pool);
    use_up_mappings(200);
    for (size_t i = 0; i < COUNT; i++)
        futures[i] = ask(pool, 17000 + i);
    for (size_t i = 0; i < COUNT; i++)
        CHECK_OK(pp_future_wait(futures[i], -1));
    for (size_t i = 0; i < COUNT; i++)
        check_result(futures[i], 17000 + i, 17000 + i);
    pp_pool_destroy(pool);
}

BOTH(more_than_the_machine_has_is_refused_at_once)
{
    pp_future *future;
    pp_pool *pool = kit_pool(method, 1);
    const char byte = 0;
    CHECK_INT(pp_submit(pool, swallow, &byte, (size_t)1 << 60, &future), -ENOMEM);
    CHECK(*pp_last_error());
    CHECK_INT(pp_submit(pool, swallow, &byte, SIZE_MAX, &future), -EINVAL);
    CHECK_INT(pp_submit(pool, swallow, &byte, SIZE_MAX - 100, &future), -EINVAL);
    CHECK_INT(pp_submit(pool, swallow, NULL, 1, &future), -EINVAL);
    static const size_t impossible[] = {(size_t)1 << 60, SIZE_MAX, SIZE_MAX - 1, SIZE_MAX - 16, SIZE_MAX / 2 + 1};
    for (int i = 0; i < 5; i++) {
        future = ask(pool, impossible[i]);
        error_of(future, PP_ERROR_TASK, -ENOBUFS, "no room");
        pp_future_unref(future);
    }
    expect_usable(pool);
    pp_pool_destroy(pool);
}
