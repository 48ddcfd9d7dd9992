/* SPDX-License-Identifier: MIT */
/*
 * Want of memory and descriptors at every place: each allocation and system call of a scenario fails in turn, once. The
 * call that met it works or fails with a clear error, nothing is lost or hangs, and the pool goes on.
 *
 * needs: seams
 */
#include "call_kit.h"
#include "want_kit.h"

#include <stdarg.h>

enum { BEGUN, GATE, RUNS };

/* ------------------------------------------------------------------------------------------ the failures */

static _Atomic bool spare_recvmsg;

static void *failing_realloc(void *memory, size_t size)
{
    return fails(ENOMEM) ? NULL : real.realloc(memory, size);
}

static int failing_fallocate(int fd, off_t from, off_t size)
{
    return fails(ENOSPC) ? ENOSPC : real.posix_fallocate(fd, from, size);
}

/* Asking for seals can't fail; adding them can, while a child that the host forked still has the memory mapped. */
static int failing_fcntl(int fd, int command, ...)
{
    va_list arguments;
    va_start(arguments, command);
    long value = va_arg(arguments, long);
    va_end(arguments);
    if (command != F_GET_SEALS && fails(command == F_ADD_SEALS ? EBUSY : EMFILE))
        return -1;
    return real.fcntl(fd, command, value);
}

static int failing_epoll_create1(int flags)
{
    return fails(EMFILE) ? -1 : real.epoll_create1(flags);
}

static ssize_t failing_recvmsg(int socket, struct msghdr *message, int flags)
{
    return !atomic_load(&spare_recvmsg) && fails(ENOMEM) ? -1 : real.recvmsg(socket, message, flags);
}

static int failing_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                                  void *argument)
{
    return fails(EAGAIN) ? EAGAIN : real.pthread_create(thread, attributes, run, argument);
}

/* In every process, images of the forkserver included. */
__attribute__((constructor)) static void put_hooks(void)
{
    real = pp__sys;
    pp__sys.malloc = failing_malloc;
    pp__sys.calloc = failing_calloc;
    pp__sys.realloc = failing_realloc;
    pp__sys.mmap = failing_mmap;
    pp__sys.memfd_create = failing_memfd_create;
    pp__sys.posix_fallocate = failing_fallocate;
    pp__sys.fcntl = failing_fcntl;
    pp__sys.socketpair = failing_socketpair;
    pp__sys.eventfd = failing_eventfd;
    pp__sys.epoll_create1 = failing_epoll_create1;
    pp__sys.epoll_ctl = failing_epoll_ctl;
    pp__sys.sendmsg = failing_sendmsg;
    pp__sys.recvmsg = failing_recvmsg;
    pp__sys.pthread_create = failing_pthread_create;
}

/* The scenario ran once without a failure, after several with one. */
static void check_all_met(bool met)
{
    CHECK(!met);
    CHECK(last_armed > 1);
}

/* The most steps that a scenario can have; it is over when a round met no failure. */
#define MOST 2000

/* --------------------------------------------------------------------------------- what may come of it */

static bool is_want(int code)
{
    return code == -ENOMEM || code == -EMFILE || code == -ENFILE || code == -EAGAIN || code == -ENOBUFS ||
           code == -EBUSY;
}

static int check_code(int code)
{
    if (code < 0 && !(is_want(code) && *pp_last_error()))
        harness_fail(__FILE__, __LINE__, "an error that tells of no want: %d (%s): %s", code, strerror(-code),
                     pp_last_error());
    return code;
}

/* A result of so many bytes, or an error that says why it did not travel. */
static void check_end(pp_future *future, size_t bytes)
{
    const pp_error *error;
    const void *data;
    size_t size;
    CHECK_OK(pp_future_error(future, -1, &error));
    if (error) {
        CHECK_INT(error->kind, PP_ERROR_TRAVEL);
        CHECK(*error->message);
        CHECK(is_want(error->task_code));
    } else {
        CHECK_OK(pp_future_view(future, 0, &data, &size));
        CHECK_INT(size, bytes);
    }
    pp_future_unref(future);
}

/* ---------------------------------------------------------------------------------------------- create */

static int set_state(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    pp_task_set_state(task, "state");
    return 0;
}

BOTH_WITHIN(a_pool_is_made_whole_or_not_at_all, 60)
{
    pp_pool *pool;
    char argument[20000] = "";
    bool met = true;
    pp_pool_destroy(kit_pool(method, 2));
    int before = count_fds();
    for (long n = 1; met && n < MOST; n++) {
        pp_pool_options options = {.start_method = method,
                                   .max_workers = 2,
                                   .initializer = set_state,
                                   .initializer_arg = argument,
                                   .initializer_arg_size = sizeof argument,
                                   .finalizer = nothing,
                                   .finalizer_arg = argument,
                                   .finalizer_arg_size = 5};
        pool = NULL;
        arm(n);
        int code = check_code(pp_pool_create(&options, &pool));
        met = disarm();
        CHECK((code == 0) == (pool != NULL));
        if (pool) {
            expect_usable(pool);
            pp_pool_destroy(pool);
        }
        until(count_fds() == before);
    }
    check_all_met(met);
}

/* ----------------------------------------------------------------------------------------------- calls */

static const size_t sizes[] = {0, 10, 20000, 3 << 20};
#define SIZES (sizeof sizes / sizeof *sizes)

/* One call of each size, both ways, and another with wishes. */
static void call_with_all_sizes(pp_pool *pool, const char *argument)
{
    pp_future *futures[2 * SIZES];
    int codes[2 * SIZES];
    for (size_t i = 0; i < 2 * SIZES; i++) {
        pp_call call = {.function = echo, .arg = argument, .size = sizes[i % SIZES]};
        if (i >= SIZES) {
            call.priority = (int)i;
            call.deadline = 100000;
        }
        codes[i] = check_code(pp_submit_call(pool, &call, &futures[i]));
    }
    for (size_t i = 0; i < 2 * SIZES; i++)
        if (codes[i] == 0)
            check_end(futures[i], sizes[i % SIZES]);
}

static char *large_argument(void)
{
    return calloc(1, sizes[SIZES - 1]);
}

BOTH_WITHIN(calls_on_a_pool_that_runs_meet_every_want, 60)
{
    pp_pool *pool = kit_pool(method, 1);
    char *argument = large_argument();
    bool met = true;
    atomic_store(&spare_recvmsg, true);
    call_with_all_sizes(pool, argument);
    int before = count_fds();
    for (long n = 1; met && n < MOST; n++) {
        arm(n);
        call_with_all_sizes(pool, argument);
        met = disarm();
        expect_usable(pool);
        until(count_fds() == before);
    }
    check_all_met(met);
    free(argument);
    pp_pool_destroy(pool);
}

/* Workers that can't be started are started later: the calls wait, and none fails for it but one that itself finds no
 * memory. */
BOTH_WITHIN(calls_on_a_new_pool_meet_every_want, 60)
{
    char *argument = large_argument();
    bool met = true;
    atomic_store(&spare_recvmsg, true);
    pp_pool_destroy(kit_pool(method, 2));
    int before = count_fds();
    for (long n = 1; met && n < MOST; n++) {
        pp_pool *pool = kit_pool_with(method, (pp_pool_options){.max_workers = 2,
                                                                .initializer = set_state,
                                                                .initializer_arg = argument,
                                                                .initializer_arg_size = 20000});
        arm(n);
        call_with_all_sizes(pool, argument);
        met = disarm();
        expect_usable(pool);
        pp_pool_destroy(pool);
        until(count_fds() == before);
    }
    check_all_met(met);
    free(argument);
}

/* What the socket loses may break the pool, since nothing is known any more; that is said, and nothing hangs. */
BOTH_WITHIN(a_message_that_is_lost_ends_calls_with_a_cause, 60)
{
    char *argument = large_argument();
    bool met = true;
    pp_pool_destroy(kit_pool(method, 2));
    int before = count_fds();
    for (long n = 1; met && n < MOST; n++) {
        pp_pool *pool = kit_pool(method, 2);
        arm(n);
        for (size_t i = 0; i < SIZES; i++) {
            pp_future *future;
            int code = pp_submit(pool, echo, argument, sizes[i], &future);
            CHECK(code == 0 || code == -ENOTRECOVERABLE || is_want(code));
            if (code)
                continue;
            code = pp_future_wait(future, -1);
            CHECK_OK(code);
            pp_future_unref(future);
        }
        met = disarm();
        pp_pool_destroy(pool);
        until(count_fds() == before);
    }
    check_all_met(met);
    free(argument);
}

/* A worker's death, and what is made of it, without memory. */
BOTH_WITHIN(a_death_is_told_without_memory_too, 60)
{
    pp_pool *pool = kit_pool(method, 1);
    bool met = true;
    atomic_store(&spare_recvmsg, true);
    for (long n = 1; met && n < MOST; n++) {
        pp_future *future = NULL;
        const pp_error *error;
        expect_usable(pool);
        arm(n);
        int code = check_code(pp_submit(pool, crash, NULL, 0, &future));
        if (code == 0)
            CHECK_OK(pp_future_error(future, -1, &error));
        met = disarm();
        if (code)
            continue;
        CHECK(error != NULL && *error->message && error->function != NULL);
        if (strstr(error->message, "no memory to say more"))
            CHECK_INT(error->signal, 0); /* it stands for all such calls, so it tells of none */
        CHECK(error->kind == PP_ERROR_CRASH || (error->kind == PP_ERROR_TRAVEL && is_want(error->task_code)));
        pp_future_unref(future);
    }
    check_all_met(met);
    pp_pool_destroy(pool);
}

BOTH_WITHIN(a_failure_is_told_without_memory_too, 60)
{
    pp_pool *pool = kit_pool(method, 1);
    bool met = true;
    atomic_store(&spare_recvmsg, true);
    for (long n = 1; met && n < MOST; n++) {
        pp_future *future = NULL;
        const pp_error *error;
        expect_usable(pool);
        arm(n);
        int code = check_code(pp_submit(pool, refuse, NULL, 0, &future));
        if (code == 0)
            CHECK_OK(pp_future_error(future, -1, &error));
        met = disarm();
        if (code)
            continue;
        CHECK(error != NULL && *error->message);
        CHECK_INT(pp_future_result(future, 0, NULL, 0, NULL), error->code);
        CHECK(error->kind == PP_ERROR_TASK || (error->kind == PP_ERROR_TRAVEL && is_want(error->task_code)));
        pp_future_unref(future);
    }
    check_all_met(met);
    pp_pool_destroy(pool);
}

/* Cancelling and shutting down end without memory. */
BOTH_WITHIN(a_pool_ends_whatever_it_can_not_have, 60)
{
    board_make();
    bool met = true;
    atomic_store(&spare_recvmsg, true);
    int before = 0;
    for (long n = 1; met && n < MOST; n++) {
        pp_pool *pool = kit_pool_with(
            method,
            (pp_pool_options){.max_workers = 1, .finalizer = nothing, .finalizer_arg = "abc", .finalizer_arg_size = 3});
        pp_future *running, *pending[4];
        atomic_store(word(GATE), 0);
        occupy(pool, BEGUN, GATE, 1, &running);
        for (int i = 0; i < 4; i++)
            pending[i] = submit_u32(pool, count_run, RUNS);
        arm(n);
        CHECK_INT(pp_future_cancel(pending[0]), 0);
        CHECK_INT(pp_pool_shutdown(pool, PP_CANCEL_PENDING, 0), -ETIMEDOUT);
        open_gate(GATE);
        CHECK_OK(pp_pool_shutdown(pool, 0, -1));
        met = disarm();
        pp_pool_destroy(pool);
        pp_future_unref(running);
        for (int i = 0; i < 4; i++)
            expect_end(pending[i], -ECANCELED);
        before = before ? before : count_fds();
        until(count_fds() == before);
    }
    check_all_met(met);
    CHECK_INT(read_word(RUNS), 0);
}

/* ------------------------------------------------------------------- callbacks and futures of the program's */

static _Atomic uint32_t called;

static void count_call(pp_future *future, void *context)
{
    (void)future, (void)context;
    called++;
}

#define FUTURES 40 /* more than a table has at first */

/* How many callbacks were accepted: they are called, and the others are not. */
static uint32_t add_callbacks(pp_future *futures[FUTURES])
{
    uint32_t added = 0;
    for (int i = 0; i < FUTURES; i++)
        added += check_code(pp_future_add_callback(futures[i], count_call, NULL)) == 0;
    return added;
}

static bool call_back_with_failure(pp_start_method method, long n)
{
    pp_pool *pool = kit_pool(method, 1);
    pp_future *futures[FUTURES];
    atomic_store(word(GATE), 0);
    called = 0;
    for (uint32_t i = 0; i < FUTURES; i++)
        futures[i] = submit_gated(pool, BEGUN, GATE, i);
    arm(n);
    uint32_t added = add_callbacks(futures);
    bool met = disarm();
    CHECK(added + 1 >= FUTURES);
    added += add_callbacks(futures);
    CHECK(added >= 2 * FUTURES - 1);
    open_gate(GATE);
    for (uint32_t i = 0; i < FUTURES; i++)
        CHECK_INT(result_u32(futures[i]), i);
    pp_pool_destroy(pool);
    CHECK_INT(called, added);
    for (uint32_t i = 0; i < FUTURES; i++)
        pp_future_unref(futures[i]);
    return met;
}

static void call_back_with_each_failure(pp_start_method method)
{
    bool met = true;
    board_make();
    atomic_store(&spare_recvmsg, true);
    pp_pool_destroy(kit_pool(method, 1));
    int before = count_fds();
    for (long n = 1; met && n < MOST; n++) {
        met = call_back_with_failure(method, n);
        until(count_fds() == before);
    }
    check_all_met(met);
}

BOTH_WITHIN(a_callback_is_added_whole_or_not_at_all, 60)
{
    call_back_with_each_failure(method);
}

TEST_WITHIN(a_callback_of_an_inline_pool_is_added_whole_or_not_at_all, 60)
{
    call_back_with_each_failure(PP_START_INLINE);
}

/* Each step of a program future's life, with what it could not have: it can be tried again. */
static bool complete_with_failure(pp_pool *pool, long n, const char *data, size_t size)
{
    const pp_error *error;
    pp_future *futures[3] = {NULL};
    arm(n);
    for (int i = 0; i < 3; i++)
        if (check_code(pp_future_create(pool, &futures[i])) != 0) {
            CHECK(futures[i] == NULL);
            CHECK_OK(pp_future_create(pool, &futures[i]));
        }
    if (check_code(pp_future_set_result(futures[0], data, size)) != 0) {
        CHECK_INT(pp_future_state(futures[0]), PP_PENDING);
        CHECK_INT(pp_future_set_result(futures[0], data, size), 0);
    }
    CHECK_INT(pp_future_set_error(futures[1], -ENOTSUP, "text"), 0);
    CHECK_INT(pp_future_cancel(futures[2]), 0);
    bool met = disarm();
    check_end(futures[0], size);
    for (int i = 1; i < 3; i++) {
        CHECK_OK(pp_future_error(futures[i], 0, &error));
        CHECK(error != NULL && *error->message && error->code == (i == 1 ? -EREMOTEIO : -ECANCELED));
        pp_future_unref(futures[i]);
    }
    return met;
}

BOTH_WITHIN(a_program_future_meets_every_want, 60)
{
    char *data = large_argument();
    for (size_t i = 0; i < SIZES; i++) {
        bool met = true;
        for (long n = 1; met && n < MOST; n++) {
            pp_pool *pool = kit_pool(method, 1); /* so that its first futures need memory, too */
            met = complete_with_failure(pool, n, data, sizes[i]);
            expect_usable(pool);
            pp_pool_destroy(pool);
        }
        check_all_met(met);
    }
    free(data);
}

/* ------------------------------------------------------------------------------------------------ maps */

#define INPUTS 40

static char map_input[INPUTS][30000];

static int give_input(void *context, pp_map_input *input)
{
    uint32_t *next = context;
    if (*next == INPUTS)
        return 0;
    *input = (pp_map_input){.data = map_input[*next], .size = *next % 8 ? 10 : 30000, .tag = map_input[*next]};
    ++*next;
    return 1;
}

static void check_map_result(const pp_map_result *result, bool seen[INPUTS])
{
    CHECK(result->index < INPUTS && !seen[result->index]);
    seen[result->index] = true;
    CHECK(result->tag == map_input[result->index]);
    if (result->code == 0) {
        CHECK_INT(result->size, result->index % 8 ? 10 : 30000);
        CHECK(memcmp(result->data, map_input[result->index], result->size) == 0);
    } else {
        CHECK_INT(result->code, -EBADMSG);
        CHECK(*result->error->message && is_want(result->error->task_code));
    }
}

/* Whatever a step could not have, the next one goes on; each input comes back once. */
static bool map_with_failure(pp_pool *pool, long n, size_t chunk_size)
{
    pp_map *map = NULL;
    pp_map_result result;
    pp_map_options options = {.chunk_size = chunk_size, .unordered = n % 2};
    uint32_t next = 0, given = 0;
    bool seen[INPUTS] = {false};
    arm(n);
    int got = check_code(pp_map_open(pool, echo, give_input, &next, &options, &map));
    while (map && (got = check_code(pp_map_next(map, -1, &result))) != 0) {
        if (got != 1)
            continue;
        check_map_result(&result, seen);
        given++;
    }
    bool met = disarm();
    CHECK(map == NULL || given == INPUTS);
    pp_map_close(map);
    return met;
}

/* Both workers are there: one that came later would have descriptors of its own. */
static pp_pool *pool_of_two(pp_start_method method)
{
    pp_future *running[2];
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    occupy(pool, BEGUN, GATE, 2, running);
    open_gate(GATE);
    for (int i = 0; i < 2; i++)
        expect_end(running[i], 0);
    return pool;
}

static void map_with_each_failure(pp_start_method method, size_t chunk_size)
{
    pp_pool *pool = pool_of_two(method);
    bool met = true;
    atomic_store(&spare_recvmsg, true);
    for (uint32_t i = 0; i < INPUTS; i++)
        memset(map_input[i], (int)i, sizeof map_input[i]);
    map_with_failure(pool, 0, chunk_size);
    int before = count_fds();
    for (long n = 1; met && n < MOST; n++) {
        met = map_with_failure(pool, n, chunk_size);
        expect_usable(pool);
        until(count_fds() <= before);
    }
    check_all_met(met);
    pp_pool_destroy(pool);
}

BOTH_WITHIN(a_map_of_single_inputs_loses_nothing_for_want, 60)
{
    map_with_each_failure(method, 1);
}

BOTH_WITHIN(a_map_of_chunks_loses_nothing_for_want, 60)
{
    map_with_each_failure(method, 7);
}

BOTH_WITHIN(a_parallel_loop_ends_whatever_it_can_not_have, 60)
{
    pp_pool *pool = kit_pool(method, 2);
    uint32_t inputs[100], outputs[100];
    bool met = true;
    atomic_store(&spare_recvmsg, true);
    for (uint32_t i = 0; i < 100; i++)
        inputs[i] = i;
    for (long n = 1; met && n < MOST; n++) {
        memset(outputs, 0xff, sizeof outputs);
        arm(n);
        ssize_t failed = pp_map_array(pool, echo, inputs, 100, 4, outputs, 4, NULL);
        met = disarm();
        check_code(failed < 0 ? (int)failed : 0);
        int missing = 0;
        for (uint32_t i = 0; i < 100; i++) {
            CHECK(outputs[i] == i || outputs[i] == UINT32_MAX);
            missing += outputs[i] != i;
        }
        CHECK(failed < 0 || missing == failed);
        expect_usable(pool);
    }
    check_all_met(met);
    pp_pool_destroy(pool);
}

/* ----------------------------------------------------------------------------------------- many futures */

/* Of several pools: both are refused as a whole, or do all that they are to do. */
static void have_all(pp_future *const *futures, size_t count)
{
    const size_t last = count - 1; /* which is a promise, and not kept */
    pp_completed *completed = NULL;
    pp_future *future;
    unsigned char done[9];
    memset(done, 7, sizeof done);
    int code = (int)pp_wait(futures, count, PP_ALL_COMPLETED, 0, done);
    if (code == -ETIMEDOUT)
        CHECK(done[0] == 1 && done[last - 1] == 1 && done[last] == 0);
    else
        CHECK(check_code(code) == -ENOMEM && done[0] == 7);
    code = check_code(pp_as_completed(futures, last, &completed));
    CHECK((code == 0) == (completed != NULL));
    CHECK(code == 0 || code == -ENOMEM);
    for (size_t i = 0; completed && i < last; i++)
        CHECK_INT(pp_completed_next(completed, -1, &future, NULL), 1);
    pp_completed_close(completed);
}

BOTH_WITHIN(many_futures_are_awaited_whole_or_not_at_all, 60)
{
    enum { POOLS = 3, COUNT = 8 };
    pp_pool *pools[POOLS];
    pp_future *futures[COUNT + 1];
    bool met = true;
    for (int i = 0; i < POOLS; i++)
        pools[i] = kit_pool(method, 1);
    CHECK_OK(pp_future_create(pools[0], &futures[COUNT]));
    for (long n = 1; met && n < MOST; n++) {
        for (uint32_t i = 0; i < COUNT; i++) {
            futures[i] = submit_u32(pools[i % POOLS], echo, i);
            CHECK_OK(pp_future_wait(futures[i], -1));
        }
        arm(n);
        have_all(futures, COUNT + 1);
        met = disarm();
        for (uint32_t i = 0; i < COUNT; i++) {
            CHECK_INT(result_u32(futures[i]), i);
            pp_future_unref(futures[i]);
        }
    }
    check_all_met(met);
    CHECK_INT(last_armed, 2 * (3 + 2 * POOLS) + 1); /* each of both has a group of three parts, and two for each pool */
    pp_future_unref(futures[COUNT]);
    for (int i = 0; i < POOLS; i++)
        pp_pool_destroy(pools[i]);
}

/* -------------------------------------------------------------------------------------- in the worker */

/* Arms the failure in the worker that runs it, from the next call on. */
static int arm_here(pp_task *task, const void *arg, size_t size)
{
    uint32_t n;
    (void)task;
    CHECK_INT(size, sizeof n);
    memcpy(&n, arg, sizeof n);
    atomic_store(&spare_recvmsg, true);
    arm((long)n);
    return 0;
}

static int disarm_here(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    uint32_t met = disarm();
    return pp_task_return(task, &met, sizeof met);
}

/* Returns 1 MiB made in place, and 100 KiB copied before, which that replaces. */
static int make_large(pp_task *task, const void *arg, size_t size)
{
    static char bytes[100000];
    (void)arg, (void)size;
    int code = pp_task_return(task, bytes, sizeof bytes);
    if (code)
        return code;
    char *room = pp_task_reserve(task, 1 << 20);
    if (!room)
        return -ENOMEM;
    memset(room, 'x', 1 << 20);
    return 0;
}

/* A result that finds no room is a failure to travel, or the task's own error, as it chooses. */
static void check_end_in_worker(pp_future *future, size_t bytes)
{
    const pp_error *error;
    CHECK_OK(pp_future_error(future, -1, &error));
    if (error && error->kind == PP_ERROR_TASK) {
        CHECK(is_want(error->task_code));
        pp_future_unref(future);
        return;
    }
    check_end(future, bytes);
}

BOTH_WITHIN(a_worker_meets_every_want, 60)
{
    pp_pool *pool = kit_pool(method, 1);
    char *argument = large_argument();
    uint32_t met = 1;
    for (uint32_t n = 1; met && n < MOST; n++) {
        last_armed = n;
        expect_end(submit_u32(pool, arm_here, n), 0);
        for (size_t i = 0; i < SIZES; i++)
            check_end_in_worker(submit(pool, echo, argument, sizes[i]), sizes[i]);
        check_end_in_worker(submit(pool, make_large, NULL, 0), 1 << 20);
        pp_future *future = submit(pool, disarm_here, NULL, 0);
        met = result_u32(future);
        pp_future_unref(future);
    }
    check_all_met(met);
    free(argument);
    pp_pool_destroy(pool);
}
