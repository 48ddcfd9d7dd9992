/* SPDX-License-Identifier: MIT */
/*
 * The inline method: the same calls, run in the owner when somebody waits. Nothing runs before; nothing is isolated.
 * Each test can make its pools by the option or by the environment.
 */
#include "map_kit.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

static pp_pool *inline_pool(pp_pool_options options)
{
    pp_pool *pool = NULL;
    options.start_method = PP_START_INLINE;
    CHECK_OK(pp_pool_create(&options, &pool));
    return pool;
}

/* The same test twice: with the option, and with the environment overriding another one. */
#define EITHER(name)                                                                                                   \
    static void either__##name(pp_start_method method);                                                                \
    TEST(name)                                                                                                         \
    {                                                                                                                  \
        either__##name(PP_START_INLINE);                                                                               \
    }                                                                                                                  \
    TEST(name##_by_the_environment)                                                                                    \
    {                                                                                                                  \
        setenv("PROCPOOL_START", "inline", 1);                                                                         \
        either__##name(PP_START_FORK);                                                                                 \
    }                                                                                                                  \
    static void either__##name(pp_start_method method)

/* -------------------------------------------------------------------------------------------- where and when */

EITHER(a_call_runs_in_the_owner)
{
    pid_t pids[2];
    pp_pool *pool = kit_pool(method, 2);
    CHECK_INT(count_descendants_named(getpid(), ""), 0);
    pp_future *future = submit(pool, who, NULL, 0);
    CHECK_OK(pp_future_result(future, -1, pids, sizeof pids, NULL));
    CHECK_INT(pids[0], getpid());
    CHECK_INT(count_descendants_named(getpid(), ""), 0);
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

TEST(an_inline_pool_makes_no_process_no_thread_and_no_descriptor)
{
    board_make();
    int fds = count_fds(), threads = thread_count();
    pp_pool *pool = inline_pool((pp_pool_options){.max_workers = 4});
    for (uint32_t i = 0; i < 10; i++)
        expect_usable(pool);
    CHECK_INT(count_descendants_named(getpid(), ""), 0);
    CHECK_INT(thread_count(), threads);
    CHECK_INT(count_fds(), fds);
    pp_pool_destroy(pool);
    CHECK_INT(count_fds(), fds);
}

static pthread_t ran_in;

static int note_thread(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    ran_in = pthread_self();
    return 0;
}

EITHER(calls_run_when_somebody_waits_in_that_thread_and_in_order)
{
    board_make();
    pp_future *futures[10];
    pp_pool *pool = kit_pool(method, 2);
    for (uint32_t i = 0; i < 10; i++)
        futures[i] = submit_u32(pool, count_run, FIRST_RUN + i);
    for (uint32_t i = 0; i < 10; i++)
        CHECK_INT(pp_future_state(futures[i]), PP_PENDING);
    CHECK_INT(runs_between(0, 10), 0);
    CHECK_OK(pp_future_wait(futures[4], -1));
    for (uint32_t i = 0; i < 10; i++) {
        CHECK_INT(runs_of(i), i <= 4);
        CHECK_INT(pp_future_state(futures[i]), i <= 4 ? PP_FINISHED : PP_PENDING);
    }
    for (uint32_t i = 0; i < 10; i++) {
        CHECK_INT(result_u32(futures[i]), FIRST_RUN + i);
        pp_future_unref(futures[i]);
    }
    pp_future *future = submit(pool, note_thread, NULL, 0);
    CHECK_OK(pp_future_wait(future, -1));
    CHECK(pthread_equal(ran_in, pthread_self()));
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

/* Waiting is all that makes progress, so a look makes some too. */
TEST(a_look_at_a_future_runs_one_call)
{
    board_make();
    pp_future *futures[3];
    pp_pool *pool = inline_pool((pp_pool_options){0});
    for (uint32_t i = 0; i < 3; i++)
        futures[i] = submit_u32(pool, count_run, FIRST_RUN + i);
    CHECK_INT(pp_future_wait(futures[2], 0), -ETIMEDOUT);
    CHECK_INT(pp_future_wait(futures[2], 0), -ETIMEDOUT);
    CHECK_OK(pp_future_wait(futures[2], 0));
    for (int i = 0; i < 3; i++)
        expect_end(futures[i], 0);
    pp_pool_destroy(pool);
}

/* ---------------------------------------------------------------------------------------------- outcomes */

static int just_return(pp_task *task, const void *arg, size_t size)
{
    (void)task;
    int code;
    CHECK_INT(size, sizeof code);
    memcpy(&code, arg, sizeof code);
    return code;
}

static const pp_error *error_of(pp_future *future)
{
    const pp_error *error = NULL;
    CHECK_OK(pp_future_error(future, -1, &error));
    CHECK(error != NULL);
    return error;
}

EITHER(a_task_that_fails_fails_its_future_alone)
{
    pp_pool *pool = kit_pool(method, 2);
    pp_future *future = submit(pool, refuse, NULL, 0);
    const pp_error *error = error_of(future);
    CHECK_INT(error->kind, PP_ERROR_TASK);
    CHECK_INT(error->code, -EREMOTEIO);
    CHECK_INT(error->task_code, -ENOTSUP);
    CHECK_STR(error->message, "refused");
    CHECK_STR(error->function, "refuse");
    CHECK_INT(error->call_id, pp_future_id(future));
    CHECK_INT(error->pid, getpid());
    CHECK_INT(error->worker, 0);
    CHECK_INT(error->tries, 1);
    CHECK(error->earlier == NULL);
    CHECK_INT(pp_future_result(future, -1, NULL, 0, NULL), -EREMOTEIO);
    CHECK_HAS(pp_last_error(), "refused");
    pp_future_unref(future);
    int code = -ERANGE;
    future = submit(pool, just_return, &code, sizeof code);
    CHECK_INT(error_of(future)->task_code, -ERANGE);
    pp_future_unref(future);
    expect_usable(pool);
    pp_pool_destroy(pool);
}

static int without_room(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    return pp_task_return(task, "", (size_t)1 << 62);
}

TEST(a_result_without_room_can_not_travel)
{
    if (KIT_ASAN || KIT_TSAN)
        LEFT_OUT("the sanitizer ends a process that asks for so much memory");
    pp_pool *pool = inline_pool((pp_pool_options){0});
    pp_future *future = submit(pool, without_room, NULL, 0);
    const pp_error *error = error_of(future);
    CHECK_INT(error->kind, PP_ERROR_TRAVEL);
    CHECK_INT(error->code, -EBADMSG);
    CHECK_INT(error->task_code, -ENOMEM);
    CHECK(*error->message);
    pp_future_unref(future);
    expect_usable(pool);
    pp_pool_destroy(pool);
}

static unsigned char byte_of(size_t size, size_t k)
{
    return (unsigned char)(size + k * 7 + (k >> 8) * 3);
}

static int reflect(pp_task *task, const void *arg, size_t size)
{
    const unsigned char *from = arg;
    CHECK(is_aligned(arg));
    CHECK_INT(from[size], 0);
    unsigned char *to = pp_task_reserve(task, size);
    CHECK(to != NULL && is_aligned(to));
    for (size_t k = 0; k < size; k++)
        to[k] = from[k] ^ 0x55;
    return 0;
}

EITHER(arguments_and_results_are_of_any_size)
{
    static const size_t sizes[] = {0, 1, 15, 16, 17, 16383, 16384, 16385, 65536, MIB - 1, MIB, MIB + 1, 20 * MIB + 3};
    pp_pool *pool = kit_pool(method, 2);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t size = sizes[i], have;
        unsigned char *data = malloc(size + 1);
        const unsigned char *result;
        for (size_t k = 0; k < size; k++)
            data[k] = byte_of(size, k);
        pp_future *future = submit(pool, reflect, data, size);
        memset(data, 0, size);
        CHECK_OK(pp_future_view(future, -1, (const void **)&result, &have));
        CHECK_INT(have, size);
        CHECK(is_aligned(result));
        CHECK_INT(result[size], 0);
        for (size_t k = 0; k < size; k++)
            if (result[k] != (byte_of(size, k) ^ 0x55))
                harness_fail(__FILE__, __LINE__, "byte %zu of %zu is wrong", k, size);
        free(data);
        pp_future_unref(future);
    }
    pp_pool_destroy(pool);
}

TEST(a_taken_result_outlives_its_pool)
{
    void *small_one, *large_one;
    size_t size;
    pp_pool *pool = inline_pool((pp_pool_options){0});
    pp_future *small = submit(pool, echo, "abc", 4), *large;
    char *data = calloc(1, 2 * MIB);
    large = submit(pool, echo, data, 2 * MIB);
    free(data);
    CHECK_OK(pp_future_take(large, -1, &large_one, &size));
    CHECK_INT(size, 2 * MIB);
    CHECK_OK(pp_future_take(small, -1, &small_one, &size));
    CHECK_INT(pp_future_take(small, -1, &small_one, &size), -ENODATA);
    pp_future_unref(small);
    pp_future_unref(large);
    pp_pool_destroy(pool);
    CHECK_STR((char *)small_one, "abc");
    memset(large_one, 0xff, 2 * MIB);
    pp_free(small_one);
    pp_free(large_one);
}

static int about_itself(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    uint64_t words[3] = {pp_task_id(task), pp_task_seed(task), (uint64_t)pp_task_worker(task)};
    return pp_task_return(task, words, sizeof words);
}

/* The seeds are those of the other methods. */
TEST(a_task_knows_its_call_and_has_the_seed_that_it_has_in_a_process)
{
    uint64_t words[2][3];
    for (int i = 0; i < 2; i++) {
        pp_pool *pool =
            kit_pool_with(i ? PP_START_FORK : PP_START_INLINE, (pp_pool_options){.max_workers = 1, .seed = 5});
        pp_future *first = submit(pool, nothing, NULL, 0), *future = submit(pool, about_itself, NULL, 0);
        CHECK_OK(pp_future_result(future, -1, words[i], sizeof words[i], NULL));
        CHECK_INT(words[i][0], pp_future_id(future));
        CHECK_INT(words[i][2], 0);
        pp_future_unref(first);
        pp_future_unref(future);
        pp_pool_destroy(pool);
    }
    CHECK_INT(memcmp(words[0], words[1], sizeof words[0]), 0);
}

/* It can't be kept from running on in the owner. */
TEST(a_timeout_and_retries_are_allowed_and_do_nothing)
{
    board_make();
    pp_future *future;
    pp_pool *pool = inline_pool((pp_pool_options){0});
    uint32_t run = FIRST_RUN;
    const pp_call call = {.function = count_run, .arg = &run, .size = sizeof run, .timeout = 1, .retries = 3};
    CHECK_OK(pp_submit_call(pool, &call, &future));
    test_sleep_ms(5);
    CHECK_INT(result_u32(future), FIRST_RUN);
    CHECK_INT(runs_of(0), 1);
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

/* ----------------------------------------------------------------------------------------------- cancel */

EITHER(what_is_cancelled_never_runs)
{
    board_make();
    pp_future *futures[10];
    pp_pool *pool = kit_pool(method, 1);
    for (uint32_t i = 0; i < 10; i++)
        futures[i] = submit_u32(pool, count_run, FIRST_RUN + i);
    for (uint32_t i = 0; i < 10; i += 2) {
        CHECK_INT(pp_future_cancel(futures[i]), 0);
        CHECK_INT(pp_future_cancel(futures[i]), 0);
    }
    for (uint32_t i = 0; i < 10; i++) {
        expect_end(pp_future_ref(futures[i]), i % 2 ? 0 : -ECANCELED);
        CHECK_INT(runs_of(i), i % 2);
        CHECK_INT(pp_future_cancel(futures[i]), i % 2 ? -EALREADY : 0);
        pp_future_unref(futures[i]);
    }
    pp_pool_destroy(pool);
}

/* A task has its pool and its own future through these. */
static pp_pool *the_pool;
static pp_future *the_future, *the_other;

static int cancel_itself(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    CHECK_INT(pp_future_state(the_future), PP_RUNNING);
    CHECK_INT(pp_future_cancel(the_future), -EBUSY);
    CHECK_INT(pp_future_cancel(the_other), 0);
    return 0;
}

TEST(a_running_call_is_not_cancelled_and_can_cancel_another)
{
    board_make();
    pp_pool *pool = inline_pool((pp_pool_options){0});
    the_future = submit(pool, cancel_itself, NULL, 0);
    the_other = submit_u32(pool, count_run, FIRST_RUN);
    expect_end(the_future, 0);
    expect_end(the_other, -ECANCELED);
    CHECK_INT(runs_of(0), 0);
    pp_pool_destroy(pool);
}

/* -------------------------------------------------------------------------------------- nested waits */

static int factorial(pp_task *task, const void *arg, size_t size)
{
    uint32_t n, rest = 1;
    CHECK_INT(size, sizeof n);
    memcpy(&n, arg, sizeof n);
    if (n > 1) {
        pp_future *future = submit_u32(the_pool, factorial, n - 1);
        rest = result_u32(future);
        pp_future_unref(future);
    }
    rest *= n;
    return pp_task_return(task, &rest, sizeof rest);
}

EITHER(a_task_may_wait_for_a_call_of_its_own_pool)
{
    the_pool = kit_pool(method, 1);
    pp_future *future = submit_u32(the_pool, factorial, 10);
    CHECK_INT(result_u32(future), 3628800);
    pp_future_unref(future);
    pp_pool_destroy(the_pool);
}

/* The outer task's result, given before the wait, is not the inner one's. */
static int give_then_wait(pp_task *task, const void *arg, size_t size)
{
    uint32_t depth;
    CHECK_INT(size, sizeof depth);
    memcpy(&depth, arg, sizeof depth);
    CHECK_INT(pp_task_return(task, &depth, sizeof depth), 0);
    if (depth == 0)
        return pp_task_fail(task, -EDOM, "the innermost fails");
    uint64_t id = pp_task_id(task);
    pp_future *future = submit_u32(the_pool, give_then_wait, depth - 1);
    expect_end(future, depth == 1 ? -EREMOTEIO : 0);
    CHECK_INT(pp_task_id(task), id);
    return 0;
}

TEST(nested_tasks_have_results_and_failures_of_their_own)
{
    the_pool = inline_pool((pp_pool_options){0});
    pp_future *future = submit_u32(the_pool, give_then_wait, 5);
    CHECK_INT(result_u32(future), 5);
    pp_future_unref(future);
    pp_pool_destroy(the_pool);
}

static int wait_for_itself(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    const void *data;
    size_t have;
    const pp_error *error;
    CHECK_INT(pp_future_wait(the_future, -1), -EDEADLK);
    CHECK(*pp_last_error());
    CHECK_INT(pp_future_wait(the_future, 0), -EDEADLK);
    CHECK_INT(pp_future_result(the_future, -1, NULL, 0, &have), -EDEADLK);
    CHECK_INT(pp_future_view(the_future, -1, &data, &have), -EDEADLK);
    CHECK_INT(pp_future_error(the_future, -1, &error), -EDEADLK);
    CHECK_INT(pp_pool_shutdown(the_pool, 0, -1), -EDEADLK);
    return pp_task_return(task, "so be it", 9);
}

EITHER(a_task_that_waits_for_itself_is_told_so)
{
    char text[9];
    the_pool = kit_pool(method, 1);
    the_future = submit(the_pool, wait_for_itself, NULL, 0);
    CHECK_OK(pp_future_result(the_future, -1, text, sizeof text, NULL));
    CHECK_STR(text, "so be it");
    pp_future_unref(the_future);
    pp_pool_destroy(the_pool);
}

static int wait_for_the_other(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    return pp_future_wait(the_future, -1) == -EDEADLK ? 0 : -EPROTO;
}

static int call_one_that_waits_for_me(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    expect_end(submit(the_pool, wait_for_the_other, NULL, 0), 0);
    return 0;
}

TEST(two_tasks_that_wait_for_each_other_are_told_so)
{
    the_pool = inline_pool((pp_pool_options){0});
    the_future = submit(the_pool, call_one_that_waits_for_me, NULL, 0);
    expect_end(the_future, 0);
    pp_pool_destroy(the_pool);
}

static int map_inside(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    uint32_t numbers[20], squares[20], sum = 0;
    for (uint32_t i = 0; i < 20; i++)
        numbers[i] = i;
    CHECK_INT(pp_map_array(the_pool, act, numbers, 20, 4, squares, 4, NULL), 0);
    for (uint32_t i = 0; i < 20; i++)
        sum += squares[i];
    return pp_task_return(task, &sum, sizeof sum);
}

TEST(a_task_may_map_in_its_own_pool)
{
    board_make();
    the_pool = inline_pool((pp_pool_options){0});
    pp_future *future = submit(the_pool, map_inside, NULL, 0);
    CHECK_INT(result_u32(future), 2470);
    pp_future_unref(future);
    pp_pool_destroy(the_pool);
}

/* ------------------------------------------------------------------------------------------------- map */

EITHER(a_map_gives_each_result)
{
    static const size_t chunk_sizes[] = {1, 7, 1024};
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    for (uint32_t round = 0; round < 6; round++) {
        struct feed feed = {.count = 2000};
        pp_map *map =
            open_feed(pool, &feed, (pp_map_options){.chunk_size = chunk_sizes[round % 3], .unordered = round / 3});
        for (uint32_t i = 0; i < 2000; i++) {
            pp_map_result result = next_fed(map, &feed);
            CHECK_INT(result.index, i);
            check_square(&result, i);
        }
        CHECK_INT(end_of(map), 0);
        CHECK_INT(feed.asked, 2001);
        CHECK(feed.most <= 8 * chunk_sizes[round % 3]);
        pp_map_close(map);
        check_runs(0, 2000, round + 1);
    }
    pp_pool_destroy(pool);
}

TEST(a_chunk_of_65536_elements_is_a_chunk)
{
    board_make();
    struct feed feed = {.count = MOST_ELEMENTS};
    pp_pool *pool = inline_pool((pp_pool_options){0});
    pp_map *map = open_feed(pool, &feed, (pp_map_options){.chunk_size = 65536});
    for (uint32_t i = 0; i < MOST_ELEMENTS; i++) {
        pp_map_result result = next_fed(map, &feed);
        check_square(&result, i);
    }
    CHECK_INT(end_of(map), 0);
    pp_map_close(map);
    pp_pool_destroy(pool);
}

TEST(a_map_runs_no_further_than_it_is_asked)
{
    board_make();
    struct feed feed = {.count = 2000};
    pp_pool *pool = inline_pool((pp_pool_options){.max_workers = 2});
    pp_map *map = open_feed(pool, &feed, (pp_map_options){.chunk_size = 100});
    for (uint32_t i = 0; i < 50; i++) {
        next_fed(map, &feed);
        CHECK_INT(runs_between(0, 2000), i + 1);
    }
    pp_map_close(map);
    expect_usable(pool);
    CHECK_INT(runs_between(0, 2000), 50);
    pp_pool_destroy(pool);
}

TEST(failed_elements_fail_alone_and_fail_fast_ends_a_map)
{
    static const size_t chunk_sizes[] = {1, 7, 1024};
    board_make();
    pp_pool *pool = inline_pool((pp_pool_options){0});
    behave(10, FAIL);
    for (uint32_t round = 0; round < 6; round++) {
        bool fast = round >= 3;
        struct feed feed = {.count = 100};
        pp_map *map =
            open_feed(pool, &feed,
                      (pp_map_options){.chunk_size = chunk_sizes[round % 3], .fail_fast = fast, .max_in_flight = 60});
        uint32_t end = fast ? 11 : 100;
        for (uint32_t i = 0; i < end; i++) {
            pp_map_result result = next_fed(map, &feed);
            CHECK_INT(result.index, i);
            if (i == 10)
                check_failed(&result, PP_ERROR_TASK, -EREMOTEIO);
            else
                check_square(&result, i);
        }
        CHECK_INT(end_of(map), 0);
        pp_map_close(map);
        expect_usable(pool);
        check_runs(0, 11, round + 1);
        check_runs(11, 100, round < 3 ? round + 1 : 3);
    }
    pp_pool_destroy(pool);
}

TEST(a_parallel_loop_is_a_loop)
{
    enum { COUNT = 2000 };
    static uint32_t in[COUNT], out[COUNT];
    board_make();
    pp_pool *pool = inline_pool((pp_pool_options){0});
    for (uint32_t i = 0; i < COUNT; i++)
        in[i] = i;
    behave(7, FAIL);
    behave(1900, FAIL);
    out[7] = 4711;
    CHECK_INT(pp_map_array(pool, act, in, COUNT, 4, out, 4, NULL), 2);
    CHECK_STR(pp_last_error(), "element 7: element 7 refuses");
    for (uint32_t i = 0; i < COUNT; i++)
        CHECK(out[i] == (i == 7 ? 4711 : i == 1900 ? 0 : i * i));
    CHECK_INT(pp_map_array(pool, act, in, COUNT, 4, out, 4, &(pp_map_options){.fail_fast = 1}), COUNT - 7);
    check_runs(8, COUNT, 1);
    pp_pool_destroy(pool);
}

TEST(inputs_and_results_of_a_map_are_of_any_size)
{
    pp_map *map;
    pp_map_result result;
    static char elements[5][700001];
    pp_pool *pool = inline_pool((pp_pool_options){0});
    for (int i = 0; i < 5; i++)
        memset(elements[i], i + 1, sizeof elements[i]);
    CHECK_OK(pp_map_open_array(pool, reflect, elements, 5, sizeof *elements, &(pp_map_options){.chunk_size = 3}, &map));
    for (int i = 0; i < 5; i++) {
        result = next_of(map);
        CHECK_INT(result.code, 0);
        CHECK_INT(result.size, sizeof *elements);
        CHECK_INT(memcmp(result.input, elements[i], sizeof *elements), 0);
        for (size_t k = 0; k < result.size; k++)
            CHECK(((const char *)result.data)[k] == ((i + 1) ^ 0x55));
    }
    CHECK_INT(end_of(map), 0);
    pp_map_close(map);
    pp_pool_destroy(pool);
}

static void *wait_for_the_future(void *unused)
{
    (void)unused;
    CHECK_OK(pp_future_wait(the_future, -1));
    return NULL;
}

/* Another thread, which waits for a call behind the map's, runs the map's second element when the map is closed. */
TEST(what_has_not_begun_when_a_map_is_closed_never_runs)
{
    static const size_t chunk_sizes[] = {1, 7, 50};
    enum { COUNT = 50 };
    board_make();
    behave(1, WAIT);
    for (int i = 0; i < 3; i++) {
        struct feed feed = {.count = COUNT};
        pp_pool *pool = inline_pool((pp_pool_options){.max_workers = 1});
        uint32_t before = runs_between(0, COUNT);
        atomic_store(word(GATE), 0);
        atomic_store(word(BEGUN), 0);
        pp_map *map = open_feed(pool, &feed, (pp_map_options){.chunk_size = chunk_sizes[i], .max_in_flight = COUNT});
        next_fed(map, &feed); /* now all are pulled, and one has run */
        the_future = submit(pool, nothing, NULL, 0);
        pthread_t thread = start_thread(wait_for_the_future, NULL);
        until(read_word(BEGUN) == 1);
        pp_map_close(map);
        open_gate(GATE);
        join_thread(thread);
        CHECK_INT(runs_between(0, COUNT), before + 2);
        pp_future_unref(the_future);
        pp_pool_destroy(pool);
        CHECK_INT(runs_between(0, COUNT), before + 2);
    }
}

static void *wait_cancelled(void *unused)
{
    (void)unused;
    CHECK_OK(pp_future_wait(the_future, -1));
    CHECK_INT(pp_future_state(the_future), PP_CANCELLED_AND_NOTIFIED);
    return NULL;
}

/* The chunk whose second element runs in another thread loses those behind it. */
TEST(a_shutdown_that_cancels_ends_a_chunk_behind_the_element_that_runs)
{
    static const size_t chunk_sizes[] = {1, 7, 50};
    enum { COUNT = 50 };
    board_make();
    for (int i = 0; i < 3; i++) {
        struct feed feed = {.count = COUNT};
        pp_pool *pool = inline_pool((pp_pool_options){.max_workers = 1});
        uint32_t before = runs_between(0, COUNT);
        atomic_store(word(GATE), 0);
        atomic_store(word(BEGUN), 0);
        behave(1, WAIT);
        pp_map *map = open_feed(pool, &feed, (pp_map_options){.chunk_size = chunk_sizes[i], .max_in_flight = COUNT});
        next_fed(map, &feed);
        the_future = submit(pool, nothing, NULL, 0);
        pthread_t thread = start_thread(wait_cancelled, NULL);
        until(read_word(BEGUN) == 1);
        CHECK_INT(pp_pool_shutdown(pool, PP_CANCEL_PENDING, 0), -ETIMEDOUT);
        open_gate(GATE);
        join_thread(thread);
        pp_map_result result = next_fed(map, &feed);
        check_square(&result, 1);
        while (feed.given < feed.pulled) {
            result = next_fed(map, &feed);
            check_failed(&result, PP_ERROR_CANCELLED, -ECANCELED);
        }
        CHECK_INT(runs_between(0, COUNT), before + 2);
        pp_map_close(map);
        CHECK_INT(pp_pool_shutdown(pool, 0, -1), 0);
        pp_future_unref(the_future);
        pp_pool_destroy(pool);
    }
}

/* ----------------------------------------------------------------------------------------------- the end */

EITHER(a_shutdown_runs_what_was_accepted_and_takes_no_more)
{
    board_make();
    pp_future *futures[10];
    pp_pool *pool = kit_pool(method, 1);
    for (uint32_t i = 0; i < 10; i++)
        futures[i] = submit_u32(pool, count_run, FIRST_RUN + i);
    CHECK_INT(pp_pool_shutdown(pool, 0, -1), 0);
    check_runs(0, 10, 1);
    CHECK_INT(pp_submit(pool, nothing, NULL, 0, NULL), -ESHUTDOWN);
    CHECK_INT(pp_pool_shutdown(pool, 0, 0), 0);
    for (uint32_t i = 0; i < 10; i++) {
        CHECK_INT(pp_future_state(futures[i]), PP_FINISHED);
        expect_end(futures[i], 0);
    }
    pp_pool_destroy(pool);
}

TEST(destroying_runs_what_was_accepted_with_or_without_futures)
{
    board_make();
    pp_pool *pool = inline_pool((pp_pool_options){0});
    for (uint32_t i = 0; i < 10; i++) {
        uint32_t run = FIRST_RUN + i;
        CHECK_OK(pp_submit(pool, count_run, &run, sizeof run, NULL));
    }
    pp_pool_destroy(pool);
    check_runs(0, 10, 1);
}

TEST(a_shutdown_that_cancels_runs_nothing_more)
{
    board_make();
    pp_future *futures[10];
    pp_pool *pool = inline_pool((pp_pool_options){0});
    for (uint32_t i = 0; i < 10; i++)
        futures[i] = submit_u32(pool, count_run, FIRST_RUN + i);
    CHECK_OK(pp_future_wait(futures[2], -1));
    CHECK_INT(pp_pool_shutdown(pool, PP_CANCEL_PENDING, -1), 0);
    for (uint32_t i = 0; i < 10; i++) {
        expect_end(futures[i], i <= 2 ? 0 : -ECANCELED);
        CHECK_INT(runs_of(i), i <= 2);
    }
    pp_pool_destroy(pool);
}

TEST(a_shutdown_can_run_out_of_time_and_be_called_again)
{
    board_make();
    pp_pool *pool = inline_pool((pp_pool_options){0});
    for (uint32_t i = 0; i < 3; i++)
        CHECK_OK(pp_submit(pool, count_run, &(uint32_t){FIRST_RUN + i}, sizeof(uint32_t), NULL));
    CHECK_INT(pp_pool_shutdown(pool, 0, 0), -ETIMEDOUT);
    CHECK_INT(pp_submit(pool, nothing, NULL, 0, NULL), -ESHUTDOWN);
    CHECK_INT(pp_pool_shutdown(pool, 0, -1), 0);
    check_runs(0, 3, 1);
    pp_pool_destroy(pool);
}

/* Nobody but who waits runs calls: after a release those are the holders of futures. */
EITHER(futures_of_a_released_pool_still_run)
{
    board_make();
    pp_future *futures[5];
    pp_pool *pool = kit_pool(method, 1);
    for (uint32_t i = 0; i < 5; i++)
        futures[i] = submit_u32(pool, count_run, FIRST_RUN + i);
    pp_pool_release(pool);
    for (uint32_t i = 0; i < 5; i++) {
        CHECK_INT(result_u32(futures[i]), FIRST_RUN + i);
        pp_future_unref(futures[i]);
    }
    check_runs(0, 5, 1);
}

TEST(futures_of_a_released_pool_may_be_given_up_unwaited)
{
    board_make();
    pp_pool *pool = inline_pool((pp_pool_options){0});
    for (uint32_t i = 0; i < 5; i++)
        pp_future_unref(submit_u32(pool, count_run, FIRST_RUN + i));
    pp_pool_release(pool);
    CHECK(runs_between(0, 5) == 0 || runs_between(0, 5) == 5);
}

static void *give_up(void *future)
{
    pp_future_unref(future);
    return NULL;
}

/* The last of several holders to give a future up, in whatever order, leaves nothing behind. */
TEST(futures_of_a_released_pool_are_given_up_by_several_threads)
{
    board_make();
    for (int round = 0; round < 50; round++) {
        pthread_t threads[3];
        pp_pool *pool = inline_pool((pp_pool_options){0});
        pp_future *future = submit_u32(pool, count_run, FIRST_RUN);
        pp_pool_release(pool);
        for (int i = 0; i < 3; i++)
            threads[i] = start_thread(give_up, pp_future_ref(future));
        if (round % 2)
            CHECK_OK(pp_future_wait(future, -1));
        pp_future_unref(future);
        for (int i = 0; i < 3; i++)
            join_thread(threads[i]);
    }
    CHECK_INT(runs_of(0), 25);
}

static int give_up_itself(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    pp_future_unref(the_future);
    add(FIRST_RUN);
    return 0;
}

TEST(a_running_call_may_give_up_its_own_future)
{
    board_make();
    pp_pool *pool = inline_pool((pp_pool_options){0});
    the_future = submit(pool, give_up_itself, NULL, 0);
    expect_usable(pool);
    CHECK_INT(runs_of(0), 1);
    pp_pool_destroy(pool);
}

TEST(a_map_of_a_released_pool_goes_on)
{
    board_make();
    struct feed feed = {.count = 100};
    pp_pool *pool = inline_pool((pp_pool_options){0});
    pp_map *map = open_feed(pool, &feed, (pp_map_options){.chunk_size = 7, .max_in_flight = 21});
    next_fed(map, &feed);
    pp_pool_release(pool);
    while (feed.given < feed.pulled) {
        pp_map_result result = next_fed(map, &feed);
        check_square(&result, feed.given - 1);
    }
    CHECK_INT(feed.pulled, 21);
    CHECK_INT(end_of(map), -ESHUTDOWN);
    CHECK_INT(end_of(map), 0);
    pp_map_close(map);
}

/* ------------------------------------------------------------------------------- initializer and finalizer */

enum { STARTED = 100, FINISHED = 101 };

static int start(pp_task *task, const void *arg, size_t size)
{
    CHECK_INT(size, 6);
    CHECK_STR((const char *)arg, "hello");
    add(STARTED);
    CHECK(pp_task_state(task) == NULL);
    pp_task_set_state(task, malloc(10));
    return 0;
}

static int finish(pp_task *task, const void *arg, size_t size)
{
    CHECK_INT(size, 4);
    CHECK_STR((const char *)arg, "bye");
    add(FINISHED);
    free(pp_task_state(task));
    return 0;
}

static int has_state(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    return pp_task_state(task) ? 0 : -ENOENT;
}

static pp_pool_options duties(void)
{
    return (pp_pool_options){.initializer = start,
                             .initializer_arg = "hello",
                             .initializer_arg_size = 6,
                             .finalizer = finish,
                             .finalizer_arg = "bye",
                             .finalizer_arg_size = 4};
}

EITHER(the_initializer_runs_once_before_the_first_call_and_the_finalizer_once_at_the_end)
{
    board_make();
    pp_pool *pool = kit_pool_with(method, duties());
    pp_future *first = submit(pool, has_state, NULL, 0), *second = submit(pool, has_state, NULL, 0);
    CHECK_INT(read_word(STARTED), 0);
    expect_end(first, 0);
    CHECK_INT(read_word(STARTED), 1);
    expect_end(second, 0);
    CHECK_INT(read_word(FINISHED), 0);
    CHECK_INT(pp_pool_shutdown(pool, 0, -1), 0);
    CHECK_INT(read_word(FINISHED), 1);
    CHECK_INT(pp_pool_shutdown(pool, 0, -1), 0);
    pp_pool_destroy(pool);
    CHECK_INT(read_word(STARTED), 1);
    CHECK_INT(read_word(FINISHED), 1);
}

TEST(a_pool_without_calls_runs_neither_initializer_nor_finalizer)
{
    board_make();
    pp_pool_destroy(inline_pool(duties()));
    pp_pool *pool = inline_pool(duties());
    pp_future *future = submit(pool, has_state, NULL, 0);
    CHECK_INT(pp_future_cancel(future), 0);
    pp_future_unref(future);
    pp_pool_destroy(pool);
    CHECK_INT(read_word(STARTED), 0);
    CHECK_INT(read_word(FINISHED), 0);
}

TEST(destroying_runs_the_finalizer_behind_the_last_call)
{
    board_make();
    pp_pool *pool = inline_pool(duties());
    CHECK_OK(pp_submit(pool, has_state, NULL, 0, NULL));
    CHECK_OK(pp_submit(pool, has_state, NULL, 0, NULL));
    pp_pool_destroy(pool);
    CHECK_INT(read_word(STARTED), 1);
    CHECK_INT(read_word(FINISHED), 1);
}

TEST(a_released_pool_runs_its_finalizer_behind_the_last_call)
{
    board_make();
    for (uint32_t i = 1; i <= 2; i++) {
        pp_pool *pool = inline_pool(duties());
        pp_future *first = submit(pool, has_state, NULL, 0), *second = submit(pool, has_state, NULL, 0);
        expect_end(first, 0);
        if (i == 2)
            CHECK_OK(pp_future_wait(second, -1));
        pp_pool_release(pool);
        CHECK_INT(read_word(FINISHED), i == 2 ? 2 : 0);
        expect_end(second, 0);
        CHECK_INT(read_word(FINISHED), i);
    }
}

static int fail_at_start(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    add(STARTED);
    return pp_task_fail(task, -ENXIO, "no such luck");
}

EITHER(an_initializer_that_fails_breaks_the_pool)
{
    board_make();
    pp_future *futures[3];
    pp_pool_options options = duties();
    options.initializer = fail_at_start;
    pp_pool *pool = kit_pool_with(method, options);
    for (int i = 0; i < 3; i++)
        futures[i] = submit_u32(pool, count_run, FIRST_RUN);
    for (int i = 0; i < 3; i++) {
        const pp_error *error = error_of(futures[i]);
        CHECK_INT(error->kind, PP_ERROR_BROKEN);
        CHECK_INT(error->code, -ENOTRECOVERABLE);
        CHECK_INT(error->task_code, -ENXIO);
        CHECK_HAS(error->message, "no such luck");
        pp_future_unref(futures[i]);
    }
    CHECK_INT(pp_submit(pool, nothing, NULL, 0, NULL), -ENOTRECOVERABLE);
    CHECK_INT(pp_pool_shutdown(pool, 0, -1), 0);
    pp_pool_destroy(pool);
    CHECK_INT(read_word(STARTED), 1);
    CHECK_INT(read_word(FINISHED), 0);
    CHECK_INT(runs_of(0), 0);
}

static int finish_at_gate(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    add(BEGUN);
    wait_at(GATE);
    add(FINISHED);
    return 0;
}

static void *shut_down(void *pool)
{
    CHECK_INT(pp_pool_shutdown(pool, 0, -1), 0);
    CHECK_INT(read_word(FINISHED), 1);
    return NULL;
}

/* The pool has ended when its finalizer has, also for those who did not run it. */
TEST(a_shutdown_waits_for_a_finalizer_that_another_thread_runs)
{
    board_make();
    pp_pool *pool = inline_pool((pp_pool_options){.finalizer = finish_at_gate});
    expect_usable(pool);
    pthread_t first = start_thread(shut_down, pool);
    until(read_word(BEGUN) == 1);
    CHECK_INT(pp_pool_shutdown(pool, 0, 0), -ETIMEDOUT);
    pthread_t second = start_thread(shut_down, pool);
    open_gate(GATE);
    join_thread(first);
    join_thread(second);
    pp_pool_destroy(pool);
    CHECK_INT(read_word(FINISHED), 1);
}

/* ---------------------------------------------------------------------------------------------- threads */

struct caller {
    pp_pool *pool;
    uint32_t number;
};

static void *call_many(void *context)
{
    const struct caller *caller = context;
    for (uint32_t i = 0; i < 300; i++) {
        pp_future *future = submit_u32(caller->pool, count_run, FIRST_RUN + caller->number * 300 + i);
        CHECK_INT(result_u32(future), FIRST_RUN + caller->number * 300 + i);
        pp_future_unref(future);
    }
    return NULL;
}

EITHER(several_threads_call_and_wait)
{
    enum { THREADS = 4 };
    struct caller callers[THREADS];
    pthread_t threads[THREADS];
    board_make();
    pp_pool *pool = kit_pool(method, 4);
    for (uint32_t i = 0; i < THREADS; i++) {
        callers[i] = (struct caller){pool, i};
        threads[i] = start_thread(call_many, &callers[i]);
    }
    for (int i = 0; i < THREADS; i++)
        join_thread(threads[i]);
    check_runs(0, THREADS * 300, 1);
    pp_pool_destroy(pool);
}

static int inside; /* without a lock: the method runs one call at a time */

static int alone(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    CHECK_INT(inside, 0);
    inside++;
    sched_yield();
    inside--;
    return 0;
}

static void *call_alone(void *pool)
{
    for (int i = 0; i < 300; i++)
        expect_end(submit(pool, alone, NULL, 0), 0);
    return NULL;
}

TEST(one_call_runs_at_a_time_whoever_waits)
{
    pthread_t threads[4];
    pp_pool *pool = inline_pool((pp_pool_options){.max_workers = 4});
    for (int i = 0; i < 4; i++)
        threads[i] = start_thread(call_alone, pool);
    for (int i = 0; i < 4; i++)
        join_thread(threads[i]);
    pp_pool_destroy(pool);
}

static void *wait_for_gated(void *future)
{
    CHECK_INT(result_u32(future), 5);
    return NULL;
}

/* Another thread runs it: this one sleeps, in time, and can be interrupted in its turn by nothing but its end. */
TEST(a_call_that_another_thread_runs_is_waited_for)
{
    board_make();
    pp_pool *pool = inline_pool((pp_pool_options){0});
    pp_future *gate = submit_gated(pool, BEGUN, GATE, 5), *behind = submit_u32(pool, echo, 6);
    pthread_t thread = start_thread(wait_for_gated, gate);
    until(read_word(BEGUN) == 1);
    CHECK_INT(pp_future_state(gate), PP_RUNNING);
    CHECK_INT(pp_future_cancel(gate), -EBUSY);
    CHECK_INT(pp_future_state(behind), PP_PENDING);
    CHECK_INT(pp_future_wait(behind, 10), -ETIMEDOUT);
    CHECK_INT(pp_future_wait(gate, 0), -ETIMEDOUT);
    open_gate(GATE);
    CHECK_INT(result_u32(gate), 5);
    CHECK_INT(result_u32(behind), 6);
    join_thread(thread);
    pp_future_unref(gate);
    pp_future_unref(behind);
    pp_pool_destroy(pool);
}

static void on_signal(int number)
{
    (void)number;
}

static void *interrupt(void *victim)
{
    while (!read_word(GATE)) {
        pthread_kill(*(pthread_t *)victim, SIGUSR1);
        test_sleep_ms(1);
    }
    return NULL;
}

TEST(who_waits_for_a_call_that_another_thread_runs_can_be_interrupted)
{
    board_make();
    pthread_t self = pthread_self();
    struct sigaction action = {.sa_handler = on_signal};
    CHECK_INT(sigaction(SIGUSR1, &action, NULL), 0);
    pp_pool *pool = inline_pool((pp_pool_options){0});
    pp_future *gate = submit_gated(pool, BEGUN, GATE, 5);
    pthread_t thread = start_thread(wait_for_gated, gate);
    until(read_word(BEGUN) == 1);
    pthread_t pest = start_thread(interrupt, &self);
    CHECK_INT(pp_future_wait(gate, -1), -EINTR);
    open_gate(GATE);
    join_thread(pest);
    CHECK_INT(result_u32(gate), 5);
    join_thread(thread);
    pp_future_unref(gate);
    pp_pool_destroy(pool);
}

/* ---------------------------------------------------------------------------------------------- the method */

TEST(an_inline_launcher_serves_several_pools)
{
    board_make();
    pp_launcher *launcher;
    pp_pool *pools[3];
    CHECK_OK(pp_launcher_create(&(pp_launcher_options){.start_method = PP_START_INLINE}, &launcher));
    for (int i = 0; i < 3; i++)
        CHECK_OK(pp_pool_create(&(pp_pool_options){.launcher = launcher}, &pools[i]));
    pp_launcher_unref(launcher);
    for (uint32_t i = 0; i < 30; i++) {
        pid_t pids[2];
        pp_future *future = submit(pools[i % 3], who, NULL, 0);
        CHECK_OK(pp_future_result(future, -1, pids, sizeof pids, NULL));
        CHECK_INT(pids[0], getpid());
        pp_future_unref(future);
    }
    for (int i = 0; i < 3; i++)
        pp_pool_destroy(pools[i]);
}

/* A task of one inline pool may wait for calls of another, whose tasks may wait for calls of the first. */
static pp_pool *pools[2];

static int ping_pong(pp_task *task, const void *arg, size_t size)
{
    uint32_t n, below = 0;
    CHECK_INT(size, sizeof n);
    memcpy(&n, arg, sizeof n);
    if (n > 0) {
        pp_future *future = submit_u32(pools[n % 2], ping_pong, n - 1);
        below = result_u32(future);
        pp_future_unref(future);
    }
    below++;
    return pp_task_return(task, &below, sizeof below);
}

TEST(tasks_of_two_inline_pools_wait_for_each_other)
{
    for (int i = 0; i < 2; i++)
        pools[i] = inline_pool((pp_pool_options){0});
    pp_future *future = submit_u32(pools[0], ping_pong, 20);
    CHECK_INT(result_u32(future), 21);
    pp_future_unref(future);
    for (int i = 0; i < 2; i++)
        pp_pool_destroy(pools[i]);
}

TEST(a_forked_child_can_do_nothing_with_an_inline_pool)
{
    pp_pool *pool = inline_pool((pp_pool_options){0});
    pp_future *future = submit_u32(pool, echo, 3);
    pid_t child = fork();
    if (child == 0) {
        CHECK_INT(pp_future_wait(future, -1), -EPERM);
        CHECK_INT(pp_submit(pool, nothing, NULL, 0, NULL), -EPERM);
        CHECK_INT(pp_pool_shutdown(pool, 0, -1), -EPERM);
        pp_pool_destroy(pool);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK_INT(status, 0);
    CHECK_INT(result_u32(future), 3);
    pp_future_unref(future);
    pp_pool_destroy(pool);
}
