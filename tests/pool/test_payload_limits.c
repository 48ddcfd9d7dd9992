/* SPDX-License-Identifier: MIT */
/* Many large arguments and results, and large ones where descriptors, files or memory are short. */
#include "payload_kit.h"

#include <sys/resource.h>

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
