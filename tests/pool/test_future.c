/* SPDX-License-Identifier: MIT */
/* Futures: what can be asked of one, by how many threads, and for how long. */
#include "call_kit.h"

enum { BEGUN, GATE, RUNS, STOP };

/* -------------------------------------------------------------------------------------------- states */

BOTH(a_future_is_pending_then_running_then_finished)
{
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    pp_future *first, *second;
    occupy(pool, BEGUN, GATE, 1, &first);
    second = submit_u32(pool, echo, 5);
    CHECK_INT(pp_future_state(first), PP_RUNNING);
    CHECK_INT(pp_future_state(second), PP_PENDING);
    open_gate(GATE);
    CHECK_OK(pp_future_wait(second, -1));
    CHECK_INT(pp_future_state(first), PP_FINISHED);
    CHECK_INT(pp_future_state(second), PP_FINISHED);
    pp_future_unref(first);
    pp_future_unref(second);
    pp_pool_destroy(pool);
}

BOTH(asking_for_the_state_again_and_again_sees_the_end)
{
    pp_pool *pool = kit_pool(method, 1);
    for (int i = 0; i < 50; i++) {
        pp_future *future = submit(pool, nothing, NULL, 0);
        until(pp_future_state(future) == PP_FINISHED);
        pp_future_unref(future);
    }
    pp_pool_destroy(pool);
}

static int tell_id(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    uint64_t id = pp_task_id(task);
    return pp_task_return(task, &id, sizeof id);
}

BOTH(the_future_and_the_task_agree_on_the_calls_id)
{
    pp_pool *pool = kit_pool(method, 2);
    for (int i = 0; i < 20; i++) {
        uint64_t id = UINT64_MAX;
        pp_future *future = submit(pool, tell_id, NULL, 0);
        CHECK_OK(pp_future_result(future, -1, &id, sizeof id, NULL));
        CHECK_INT(id, pp_future_id(future));
        pp_future_unref(future);
    }
    pp_pool_destroy(pool);
}

BOTH(looking_does_not_wait)
{
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    pp_future *future;
    const void *data = pool;
    void *taken = pool;
    const pp_error *error = (const pp_error *)pool;
    size_t size = 77;
    occupy(pool, BEGUN, GATE, 1, &future);
    CHECK_INT(pp_future_wait(future, 0), -ETIMEDOUT);
    CHECK_INT(pp_future_result(future, 0, &size, sizeof size, NULL), -ETIMEDOUT);
    CHECK_INT(pp_future_view(future, 1, &data, &size), -ETIMEDOUT);
    CHECK_INT(pp_future_take(future, 1, &taken, &size), -ETIMEDOUT);
    CHECK_INT(pp_future_error(future, 1, &error), -ETIMEDOUT);
    CHECK(*pp_last_error());
    CHECK(data == pool && taken == pool && error == (const pp_error *)pool && size == 77);
    open_gate(GATE);
    CHECK_INT(result_u32(future), 0);
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

/* ------------------------------------------------------------------------------------------- results */

BOTH(a_result_is_copied_when_it_fits_and_its_size_told_when_not)
{
    pp_pool *pool = kit_pool(method, 1);
    char buffer[16] = "untouched......";
    size_t size = 99;
    pp_future *future = submit(pool, echo, "hello", 5);
    CHECK_INT(pp_future_result(future, -1, buffer, 4, NULL), -EMSGSIZE);
    CHECK_INT(pp_future_result(future, -1, buffer, 6, NULL), -EMSGSIZE);
    CHECK_INT(size, 99);
    CHECK_INT(pp_future_result(future, -1, buffer, 4, &size), -EMSGSIZE);
    CHECK_INT(size, 5);
    CHECK_STR(buffer, "untouched......");
    CHECK(*pp_last_error());
    size = 99;
    CHECK_OK(pp_future_result(future, -1, buffer, sizeof buffer, &size));
    CHECK_INT(size, 5);
    CHECK_STR(buffer, "helloched......");
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

BOTH(a_result_can_be_read_many_times_in_each_way)
{
    pp_pool *pool = kit_pool(method, 1);
    pp_future *future = submit(pool, echo, "abc", 3);
    for (int i = 0; i < 3; i++) {
        char buffer[3];
        const void *data;
        const pp_error *error = (const pp_error *)pool;
        size_t size;
        CHECK_OK(pp_future_wait(future, -1));
        CHECK_OK(pp_future_result(future, -1, buffer, 3, NULL));
        CHECK(memcmp(buffer, "abc", 3) == 0);
        CHECK_OK(pp_future_view(future, 0, &data, &size));
        CHECK(size == 3 && memcmp(data, "abc", 4) == 0);
        CHECK_OK(pp_future_error(future, 0, &error));
        CHECK(error == NULL);
    }
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

BOTH(a_result_may_have_no_bytes)
{
    pp_pool *pool = kit_pool(method, 1);
    pp_function *const functions[] = {nothing, echo};
    for (size_t i = 0; i < 2; i++) {
        pp_future *future = submit(pool, functions[i], NULL, 0);
        const void *data = NULL;
        void *taken = NULL;
        size_t size = 1;
        CHECK_OK(pp_future_result(future, -1, NULL, 0, NULL));
        CHECK_OK(pp_future_result(future, -1, NULL, 0, &size));
        CHECK_INT(size, 0);
        CHECK_OK(pp_future_view(future, -1, &data, &size));
        CHECK(data != NULL && size == 0 && *(const char *)data == 0);
        CHECK_OK(pp_future_take(future, -1, &taken, &size));
        CHECK(taken != NULL && size == 0 && *(char *)taken == 0);
        pp_free(taken);
        pp_future_unref(future);
    }
    pp_pool_destroy(pool);
}

static void take_once(pp_pool *pool, size_t bytes)
{
    char *argument = calloc(1, bytes);
    memset(argument, 7, bytes);
    pp_future *future = submit(pool, echo, argument, bytes);
    void *taken = NULL, *again = pool;
    const void *data = pool;
    size_t size = 0, other = 88;
    CHECK_OK(pp_future_take(future, -1, &taken, &size));
    CHECK_INT(pp_future_take(future, -1, &again, &other), -ENODATA);
    CHECK_INT(pp_future_view(future, -1, &data, &other), -ENODATA);
    CHECK_INT(pp_future_result(future, -1, argument, bytes, NULL), -ENODATA);
    CHECK(*pp_last_error());
    CHECK(again == pool && data == pool && other == 88);
    CHECK_OK(pp_future_wait(future, 0));
    CHECK_INT(pp_future_state(future), PP_FINISHED);
    pp_future_unref(future);
    CHECK(size == bytes && memcmp(taken, argument, bytes) == 0);
    memset(taken, 1, bytes); /* it is the caller's, to write too */
    pp_free(taken);
    free(argument);
}

BOTH(a_result_is_taken_once_and_outlives_its_future)
{
    pp_pool *pool = kit_pool(method, 1);
    take_once(pool, 3);
    take_once(pool, 40000);
    take_once(pool, 3 << 20);
    pp_free(NULL);
    pp_pool_destroy(pool);
}

/* Small results lie in the future itself, larger ones do not: the caller sees no difference. */
BOTH(a_taken_result_of_any_small_size_is_the_callers_after_future_and_pool_are_gone)
{
    static const size_t sizes[] = {0, 1, 16, 31, 32, 47, 48, 49, 64};
    enum { COUNT = sizeof sizes / sizeof *sizes };
    unsigned char argument[64], *taken[COUNT];
    pp_future *futures[COUNT];
    pp_pool *pool = kit_pool(method, 1);
    memset(argument, 7, sizeof argument);
    for (int i = 0; i < COUNT; i++)
        futures[i] = submit(pool, echo, argument, sizes[i]);
    for (int i = 0; i < COUNT; i++) {
        void *data = NULL;
        size_t size = 99;
        CHECK_OK(pp_future_take(futures[i], -1, &data, &size));
        CHECK_INT(size, sizes[i]);
        CHECK_INT((uintptr_t)data % 16, 0);
        taken[i] = data;
        pp_future_unref(futures[i]);
    }
    for (int i = 0; i < COUNT; i++)
        pp_future_unref(submit(pool, echo, argument, i)); /* what was given back is used again */
    pp_pool_destroy(pool);
    for (int i = 0; i < COUNT; i++) {
        CHECK(memcmp(taken[i], argument, sizes[i]) == 0);
        CHECK_INT(taken[i][sizes[i]], 0);
        memset(taken[i], 1, sizes[i] + 1);
        pp_free(taken[i]);
    }
}

/* -------------------------------------------------------------------------------- alignment and the NUL */

/* The first byte says how the result is given back. */
static int check_argument(pp_task *task, const void *arg, size_t size)
{
    const unsigned char *bytes = arg;
    if ((uintptr_t)arg % 16 != 0)
        return pp_task_fail(task, -EFAULT, "the argument of %zu bytes is not aligned", size);
    if (bytes[size] != 0)
        return pp_task_fail(task, -EFAULT, "no NUL behind the argument of %zu bytes", size);
    for (size_t i = 1; i < size; i++)
        if (bytes[i] != 0xff)
            return pp_task_fail(task, -EFAULT, "byte %zu of %zu is %d", i, size, bytes[i]);
    if (size == 0 || bytes[0] == 0)
        return pp_task_return(task, arg, size);
    unsigned char *room = pp_task_reserve(task, size);
    if (!room || (uintptr_t)room % 16 != 0)
        return pp_task_fail(task, -EFAULT, "no aligned room for %zu bytes", size);
    memcpy(room, arg, size);
    return 0;
}

static void check_alignment(pp_pool *pool, size_t bytes, bool reserve)
{
    unsigned char *argument = malloc(bytes + 1);
    memset(argument, 0xff, bytes + 1);
    argument[0] = reserve;
    pp_future *future = submit(pool, check_argument, argument, bytes);
    const void *data;
    void *taken;
    size_t size;
    CHECK_OK(pp_future_view(future, -1, &data, &size));
    CHECK_INT(size, bytes);
    CHECK_INT((uintptr_t)data % 16, 0);
    CHECK_INT(((const char *)data)[bytes], 0);
    CHECK(memcmp(data, argument, bytes) == 0);
    CHECK_OK(pp_future_take(future, -1, &taken, &size));
    CHECK_INT((uintptr_t)taken % 16, 0);
    CHECK_INT(((char *)taken)[bytes], 0);
    pp_free(taken);
    pp_future_unref(future);
    free(argument);
}

/* From large to small, so that what is behind a small one is what a larger one left there. */
BOTH(arguments_and_results_are_aligned_and_followed_by_a_nul)
{
    static const size_t large[] = {(1 << 20) + 1, 1 << 20, 70000, 65536, 16400, 16385, 16384, 16383};
    pp_pool *pool = kit_pool(method, 1);
    for (size_t i = 0; i < sizeof large / sizeof *large; i++) {
        check_alignment(pool, large[i], false);
        check_alignment(pool, large[i], true);
    }
    for (size_t bytes = 70; bytes-- > 0;) {
        check_alignment(pool, bytes, false);
        check_alignment(pool, bytes, true);
    }
    pp_pool_destroy(pool);
}

/* ----------------------------------------------------------------------------- how a task gives its result */

static int give_in_turn(pp_task *task, const void *arg, size_t size)
{
    const char *way = arg;
    (void)size;
    char *room;
    if (strcmp(way, "twice") == 0) {
        pp_task_return(task, "first, and longer", 17);
        return pp_task_return(task, "second", 6);
    }
    if (strcmp(way, "reserve over return") == 0) {
        pp_task_return(task, "first, and longer", 17);
        memcpy(pp_task_reserve(task, 6), "second", 6);
        return 0;
    }
    if (strcmp(way, "return over large") == 0) {
        memset(pp_task_reserve(task, 1 << 20), 1, 1 << 20);
        return pp_task_return(task, "second", 6);
    }
    if (strcmp(way, "large over large") == 0) {
        memset(pp_task_reserve(task, 100000), 1, 100000);
        room = pp_task_reserve(task, 50000);
        memset(room, 0, 50000);
        memcpy(room, "second", 6);
        return 0;
    }
    room = pp_task_reserve(task, 12); /* "part of itself" */
    memcpy(room, "first second", 12);
    return pp_task_return(task, room + 6, 6);
}

BOTH(a_later_result_replaces_an_earlier_one)
{
    static const char *const ways[] = {"twice", "reserve over return", "return over large", "large over large",
                                       "part of itself"};
    pp_pool *pool = kit_pool(method, 1);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        pp_future *future = submit(pool, give_in_turn, ways[i], strlen(ways[i]));
        const void *data;
        size_t size;
        CHECK_OK(pp_future_view(future, -1, &data, &size));
        CHECK_STR(data, "second");
        CHECK_INT(size, strcmp(ways[i], "large over large") == 0 ? 50000 : 6);
        pp_future_unref(future);
    }
    pp_pool_destroy(pool);
}

static int return_part_of_large(pp_task *task, const void *arg, size_t size)
{
    char *room = pp_task_reserve(task, 200000);
    (void)arg, (void)size;
    memset(room, 'x', 200000);
    memcpy(room + 100000, "tail", 4);
    return pp_task_return(task, room + 100000, 50000);
}

BOTH(a_result_may_be_made_of_a_part_of_the_large_one_it_replaces)
{
    pp_pool *pool = kit_pool(method, 1);
    pp_future *future = submit(pool, return_part_of_large, NULL, 0);
    const void *data;
    size_t size;
    CHECK_OK(pp_future_view(future, -1, &data, &size));
    CHECK_INT(size, 50000);
    CHECK(memcmp(data, "tailxxxx", 8) == 0);
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

static int return_badly(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    int codes[3] = {pp_task_return(task, NULL, 3), *pp_last_error() != 0, pp_task_return(task, NULL, 0)};
    return pp_task_return(task, codes, sizeof codes);
}

BOTH(a_result_without_data_is_refused_in_the_task)
{
    pp_pool *pool = kit_pool(method, 1);
    pp_future *future = submit(pool, return_badly, NULL, 0);
    int codes[3];
    CHECK_OK(pp_future_result(future, -1, codes, sizeof codes, NULL));
    CHECK_INT(codes[0], -EINVAL);
    CHECK_INT(codes[1], 1);
    CHECK_INT(codes[2], 0);
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

/* -------------------------------------------------------------------------------------------- failures */

static int fail_as_told(pp_task *task, const void *arg, size_t size)
{
    int how;
    CHECK_INT(size, sizeof how);
    memcpy(&how, arg, sizeof how);
    pp_task_return(task, "not seen", 8);
    switch (how) {
    case 0:
        return pp_task_fail(task, -ERANGE, "bad input %d", 42);
    case 1:
        return pp_task_fail(task, 0, "nothing");
    case 2:
        return -EDOM;
    case 3:
        return 7;
    case 4:
        pp_task_fail(task, 33, "said so, then returned 0");
        return 0;
    case 5:
        pp_task_fail(task, -EPERM, "first");
        return pp_task_fail(task, -ENOSYS, "second");
    default:
        return pp_task_fail(task, -E2BIG, "%01500d", 0);
    }
}

static const pp_error *failure_of(pp_future *future)
{
    const pp_error *error = NULL;
    CHECK_INT(pp_future_result(future, -1, NULL, 0, NULL), -EREMOTEIO);
    CHECK(*pp_last_error());
    CHECK_OK(pp_future_error(future, 0, &error));
    CHECK(error != NULL);
    CHECK_INT(error->kind, PP_ERROR_TASK);
    CHECK_INT(error->code, -EREMOTEIO);
    CHECK_INT(error->call_id, pp_future_id(future));
    CHECK_INT(error->worker, 0);
    CHECK(error->pid > 0);
    CHECK_INT(error->signal, 0);
    CHECK_INT(error->status, -1);
    CHECK_INT(error->tries, 1);
    CHECK(error->earlier == NULL);
    CHECK_STR(error->function, "fail_as_told");
    return error;
}

BOTH(a_failed_call_tells_code_message_function_and_place)
{
    static const int codes[] = {-ERANGE, -EIO, -EDOM, 7, 33, -ENOSYS, -E2BIG};
    static const char *const texts[] = {"bad input 42", "nothing", "-33", "7", "said so, then returned 0",
                                        "second",       "000"};
    pp_pool *pool = kit_pool(method, 1);
    for (int how = 0; how < 7; how++) {
        pp_future *future = submit(pool, fail_as_told, &how, sizeof how);
        const pp_error *error = failure_of(future);
        CHECK_INT(error->task_code, codes[how]);
        CHECK_HAS(error->message, texts[how]);
        if (how == 6)
            CHECK_INT(strlen(error->message), 1023);
        pp_future_unref(future);
    }
    expect_usable(pool);
    pp_pool_destroy(pool);
}

/* ------------------------------------------------------------------------------------------ references */

BOTH(a_result_stays_until_the_last_reference_is_given_back)
{
    pp_pool *pool = kit_pool(method, 1);
    pp_future *future = submit_u32(pool, echo, 17);
    CHECK(pp_future_ref(future) == future);
    CHECK(pp_future_ref(future) == future);
    pp_future_unref(future);
    CHECK_INT(result_u32(future), 17);
    pp_future_unref(future);
    CHECK_INT(result_u32(future), 17);
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

BOTH(futures_outlive_their_pool)
{
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    pp_future *good = submit_u32(pool, echo, 3), *bad = submit(pool, refuse, NULL, 0), *waits, *cancelled;
    const pp_error *error;
    expect_usable(pool);
    CHECK_OK(pp_future_wait(good, -1));
    CHECK_OK(pp_future_wait(bad, -1));
    occupy(pool, BEGUN, GATE, 1, &waits);
    occupy(pool, BEGUN, GATE, 1, &cancelled);
    pp_future_unref(cancelled);
    cancelled = submit(pool, nothing, NULL, 0);
    CHECK_OK(pp_future_cancel(cancelled));
    open_gate(GATE);
    pp_pool_destroy(pool);
    CHECK_INT(result_u32(good), 3);
    CHECK_INT(result_u32(waits), 0);
    CHECK_INT(pp_future_cancel(good), -EALREADY);
    CHECK_INT(pp_future_state(good), PP_FINISHED);
    CHECK_OK(pp_future_error(bad, -1, &error));
    CHECK_STR(error->message, "refused");
    CHECK_INT(pp_future_cancel(cancelled), 0);
    CHECK_INT(pp_future_wait(cancelled, -1), 0);
    pp_future_unref(good);
    pp_future_unref(bad);
    pp_future_unref(waits);
    pp_future_unref(cancelled);
}

BOTH(a_call_without_a_future_runs_too)
{
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    uint32_t place = RUNS;
    for (int i = 0; i < 100; i++)
        CHECK_OK(pp_submit(pool, count_run, &place, sizeof place, NULL));
    until(read_word(RUNS) == 100);
    pp_pool_destroy(pool);
    CHECK_INT(read_word(RUNS), 100);
}

BOTH(giving_a_future_up_early_cancels_nothing)
{
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    pp_future *running;
    occupy(pool, BEGUN, GATE, 1, &running);
    for (int i = 0; i < 20; i++)
        pp_future_unref(submit_u32(pool, count_run, RUNS));
    pp_future_unref(running);
    open_gate(GATE);
    pp_pool_destroy(pool);
    CHECK_INT(read_word(RUNS), 20);
}

BOTH(results_nobody_waits_for_are_taken_in_however_many)
{
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    uint32_t place = RUNS;
    for (int i = 0; i < 20000; i++)
        CHECK_OK(pp_submit(pool, count_run, &place, sizeof place, NULL));
    until(read_word(RUNS) == 20000);
    pp_pool_destroy(pool);
}

TEST(a_null_future_is_refused_or_ignored)
{
    const void *data;
    void *taken;
    const pp_error *error;
    size_t size;
    CHECK_INT(pp_future_wait(NULL, 0), -EINVAL);
    CHECK_INT(pp_future_result(NULL, 0, NULL, 0, NULL), -EINVAL);
    CHECK_INT(pp_future_view(NULL, 0, &data, &size), -EINVAL);
    CHECK_INT(pp_future_take(NULL, 0, &taken, &size), -EINVAL);
    CHECK_INT(pp_future_error(NULL, 0, &error), -EINVAL);
    CHECK_INT(pp_future_cancel(NULL), -EINVAL);
    CHECK_INT(pp_future_state(NULL), -EINVAL);
    CHECK_INT(pp_future_id(NULL), 0);
    CHECK(pp_future_ref(NULL) == NULL);
    CHECK(*pp_last_error());
    pp_future_unref(NULL);
    pp_future *none = NULL;
    pp_cleanup_future(&none);
}

BOTH(a_scope_gives_its_future_and_its_pool_back)
{
    board_make();
    {
        PP_CLEANUP_POOL pp_pool *pool = kit_pool(method, 1);
        PP_CLEANUP_FUTURE pp_future *future = submit_u32(pool, count_run, RUNS);
        CHECK(future != NULL);
    }
    CHECK_INT(read_word(RUNS), 1);
}
