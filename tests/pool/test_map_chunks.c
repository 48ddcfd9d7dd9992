/* SPDX-License-Identifier: MIT */
/* Chunks: inputs travel together, and yet each fails alone and none runs twice. */
#include "map_kit.h"

#include <sys/resource.h>

#include "lost_kit.h"

enum { WHOLE = 1024 };

/* --------------------------------------------------------------------- one bad element of a whole chunk */

static pp_map *open_numbers(pp_pool *pool, const uint32_t *numbers, uint32_t count, pp_map_options options)
{
    pp_map *map;
    CHECK_OK(pp_map_open_array(pool, act, numbers, count, sizeof *numbers, &options, &map));
    return map;
}

/* A machine that keeps an innocent element from running for as long as a timeout may cost it: then its error says so.
 */
static bool is_late(const pp_map_result *result, uint32_t timeout)
{
    return timeout && result->code == -ETIME && result->error->run_time >= timeout * UINT64_C(1000000);
}

static void check_tries(const pp_error *error, uint32_t tries)
{
    for (uint32_t try = tries; try > 0; try--) {
        CHECK(error != NULL);
        CHECK_INT(error->tries, try);
        error = error->earlier;
    }
    CHECK(error == NULL);
}

/* What the bad element of each case does, and how it fails. */
struct evil {
    enum behaviour how;
    pp_error_kind kind;
    int code;
    uint32_t timeout;
    bool again; /* its failure is one after which it may be tried again */
};

static void check_chunk(pp_start_method method, const struct evil *evil, uint32_t bad, uint32_t retries)
{
    pp_pool *pool = kit_pool(method, 2);
    uint32_t *numbers = make_numbers(WHOLE);
    uint32_t tries = evil->again ? 1 + retries : 1, late = 0;
    behave(bad, evil->how);
    pp_map *map = open_numbers(
        pool, numbers, WHOLE,
        (pp_map_options){.chunk_size = WHOLE, .timeout = evil->timeout * harness_scale(), .retries = retries});
    for (uint32_t i = 0; i < WHOLE; i++) {
        pp_map_result result = next_of(map);
        CHECK_INT(result.index, i);
        if (i == bad) {
            check_failed(&result, evil->kind, evil->code);
            check_tries(result.error, tries);
            CHECK_STR(result.error->function, "act");
            CHECK_INT(runs_of(i), tries);
        } else if (is_late(&result, evil->timeout * harness_scale())) {
            CHECK(++late <= 1 + WHOLE / 100);
        } else {
            check_square(&result, i);
            CHECK(runs_of(i) == 1 || (evil->timeout && runs_of(i) <= 1 + retries));
        }
    }
    CHECK_INT(end_of(map), 0);
    pp_map_close(map);
    expect_usable(pool);
    pp_pool_destroy(pool);
    behave(bad, ANSWER);
    for (uint32_t i = 0; i < WHOLE; i++)
        atomic_store(word(FIRST_RUN + i), 0);
    free(numbers);
}

static void check_chunks(pp_start_method method, struct evil evil)
{
    static const uint32_t places[] = {0, WHOLE / 2, WHOLE - 1};
    board_make();
    for (int place = 0; place < 3; place++)
        for (uint32_t retries = 0; retries < 2; retries++)
            check_chunk(method, &evil, places[place], retries);
}

BOTH(an_error_costs_one_element_of_a_chunk)
{
    check_chunks(method, (struct evil){FAIL, PP_ERROR_TASK, -EREMOTEIO, 0, false});
}

BOTH(a_crash_costs_one_element_of_a_chunk)
{
    check_chunks(method, (struct evil){CRASH, PP_ERROR_CRASH, -EOWNERDEAD, 0, true});
}

BOTH(an_exit_costs_one_element_of_a_chunk)
{
    check_chunks(method, (struct evil){EXIT, PP_ERROR_CRASH, -EOWNERDEAD, 0, true});
}

BOTH_WITHIN(a_hang_costs_one_element_of_a_chunk, 30)
{
    check_chunks(method, (struct evil){HANG, PP_ERROR_TIMEOUT, -ETIME, 60, true});
}

BOTH(an_element_that_crashes_once_is_right_at_the_second_try)
{
    static const uint32_t places[] = {0, 1, WHOLE / 2, WHOLE - 1};
    board_make();
    uint32_t *numbers = make_numbers(WHOLE);
    for (int place = 0; place < 4; place++) {
        pp_pool *pool = kit_pool(method, 2);
        behave(places[place], CRASH_AT_FIRST);
        pp_map *map =
            open_numbers(pool, numbers, WHOLE, (pp_map_options){.chunk_size = WHOLE, .retries = 1, .unordered = 1});
        for (uint32_t i = 0; i < WHOLE; i++) {
            pp_map_result result = next_of(map);
            CHECK_INT(result.index, i);
            check_square(&result, i);
            CHECK_INT(runs_of(i), i == places[place] ? 2 : 1);
        }
        CHECK_INT(end_of(map), 0);
        pp_map_close(map);
        pp_pool_destroy(pool);
        behave(places[place], ANSWER);
        for (uint32_t i = 0; i < WHOLE; i++)
            atomic_store(word(FIRST_RUN + i), 0);
    }
    free(numbers);
}

/* ------------------------------------------------------------------------------------ many bad elements */

/* How element i of a mixture behaves. */
static enum behaviour mixed(uint32_t i)
{
    static const enum behaviour kinds[] = {ANSWER, CRASH,          ANSWER, ANSWER, FAIL,
                                           EXIT,   CRASH_AT_FIRST, ANSWER, ANSWER, ANSWER};
    return i % 7 == 3 ? kinds[i / 7 % 10] : ANSWER;
}

static void check_mixed(const pp_map_result *result, uint32_t i, uint32_t retries)
{
    switch (mixed(i)) {
    case CRASH:
    case EXIT:
        check_failed(result, PP_ERROR_CRASH, -EOWNERDEAD);
        check_tries(result->error, 1 + retries);
        CHECK_INT(runs_of(i), 1 + retries);
        break;
    case CRASH_AT_FIRST:
        CHECK_INT(runs_of(i), retries ? 2 : 1);
        if (retries)
            check_square(result, i);
        else
            check_failed(result, PP_ERROR_CRASH, -EOWNERDEAD);
        break;
    case FAIL:
        check_failed(result, PP_ERROR_TASK, -EREMOTEIO);
        CHECK_INT(runs_of(i), 1);
        break;
    default:
        check_square(result, i);
        CHECK_INT(runs_of(i), 1);
    }
}

static void map_mixture(pp_start_method method, size_t chunk_size, uint32_t retries)
{
    enum { COUNT = 2000 };
    board_make();
    static bool seen[COUNT];
    uint32_t *numbers = make_numbers(COUNT);
    pp_pool *pool = kit_pool(method, 2);
    for (uint32_t i = 0; i < COUNT; i++)
        behave(i, mixed(i));
    pp_map *map = open_numbers(pool, numbers, COUNT,
                               (pp_map_options){.chunk_size = chunk_size, .retries = retries, .unordered = 1});
    for (uint32_t i = 0; i < COUNT; i++) {
        pp_map_result result = next_of(map);
        CHECK(!seen[result.index]);
        seen[result.index] = true;
        check_mixed(&result, (uint32_t)result.index, retries);
    }
    CHECK_INT(end_of(map), 0);
    pp_map_close(map);
    pp_pool_destroy(pool);
    free(numbers);
}

BOTH_WITHIN(a_hundred_crashes_cost_a_hundred_elements_one_by_one, 60)
{
    map_mixture(method, 1, 0);
}

BOTH_WITHIN(a_hundred_crashes_cost_a_hundred_elements_of_small_chunks, 60)
{
    map_mixture(method, 7, 1);
}

BOTH_WITHIN(a_hundred_crashes_cost_a_hundred_elements_of_large_chunks, 60)
{
    map_mixture(method, WHOLE, 0);
}

/* The chunk's owner loses its worker at each element; the pool is not broken by that. */
BOTH_WITHIN(a_chunk_in_which_every_element_crashes_is_a_chunk_of_errors, 60)
{
    enum { COUNT = 60 };
    board_make();
    uint32_t *numbers = make_numbers(COUNT);
    pp_pool *pool = kit_pool(method, 1);
    behave_all(0, COUNT, CRASH);
    pp_map *map = open_numbers(pool, numbers, COUNT, (pp_map_options){.chunk_size = COUNT});
    for (uint32_t i = 0; i < COUNT; i++) {
        pp_map_result result = next_of(map);
        CHECK_INT(result.index, i);
        check_failed(&result, PP_ERROR_CRASH, -EOWNERDEAD);
        CHECK_INT(result.error->signal, SIGKILL);
    }
    CHECK_INT(end_of(map), 0);
    check_runs(0, COUNT, 1);
    pp_map_close(map);
    pp_pool_destroy(pool);
    free(numbers);
}

/* Elements behind the one that crashed begin in another process, those before it were in the same. */
static int task_pid_or_crash(pp_task *task, const void *arg, size_t size)
{
    uint32_t i;
    pid_t pid = getpid();
    CHECK_INT(size, sizeof i);
    memcpy(&i, arg, sizeof i);
    if (i == 20)
        abort();
    return pp_task_return(task, &pid, sizeof pid);
}

BOTH(the_error_of_an_element_names_the_process_that_ran_those_before_it)
{
    uint32_t *numbers = make_numbers(40);
    pp_map *map;
    pid_t pids[40] = {0};
    pp_pool *pool = kit_pool(method, 1);
    CHECK_OK(pp_map_open_array(pool, task_pid_or_crash, numbers, 40, sizeof *numbers,
                               &(pp_map_options){.chunk_size = 40}, &map));
    for (uint32_t i = 0; i < 40; i++) {
        pp_map_result result = next_of(map);
        if (i != 20) {
            CHECK_INT(result.code, 0);
            pids[i] = (pid_t)value_of(&result);
            CHECK_INT(pids[i], i < 20 ? pids[0] : i > 21 ? pids[21] : pids[i]);
            continue;
        }
        check_failed(&result, PP_ERROR_CRASH, -EOWNERDEAD);
        CHECK_INT(result.error->signal, SIGABRT);
        CHECK_INT(result.error->pid, pids[0]);
        CHECK_INT(result.error->worker, 0);
        CHECK_STR(result.error->function, "task_pid_or_crash");
    }
    CHECK(pids[21] != pids[0]);
    pp_map_close(map);
    pp_pool_destroy(pool);
    free(numbers);
}

/* ---------------------------------------------------------------------------------- ids and large chunks */

static int task_id(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    uint64_t words[2] = {pp_task_id(task), pp_task_seed(task)};
    return pp_task_return(task, words, sizeof words);
}

/* The seeds are those that single calls with these ids would have. */
BOTH(each_element_is_a_call_with_an_id_of_its_own)
{
    enum { COUNT = 100 };
    uint64_t words[COUNT][2], single[2], last = 0;
    for (int chunked = 0; chunked < 2; chunked++) {
        pp_map *map;
        pp_pool *pool = kit_pool_with(method, (pp_pool_options){.max_workers = 2, .seed = 4711});
        CHECK_OK(
            pp_map_open_array(pool, task_id, NULL, COUNT, 0, &(pp_map_options){.chunk_size = chunked ? 9 : 1}, &map));
        for (int i = 0; i < COUNT; i++) {
            pp_map_result result = next_of(map);
            CHECK_INT(result.size, sizeof words[i]);
            if (chunked) {
                CHECK_INT(memcmp(words[i], result.data, result.size), 0);
                continue;
            }
            memcpy(words[i], result.data, result.size);
            CHECK(i == 0 || words[i][0] > last);
            CHECK(i == 0 || words[i][1] != words[i - 1][1]);
            last = words[i][0];
        }
        pp_map_close(map);
        pp_future *future = submit(pool, task_id, NULL, 0);
        CHECK_OK(pp_future_result(future, -1, single, sizeof single, NULL));
        CHECK(single[0] > last);
        CHECK_INT(pp_future_id(future), single[0]);
        pp_future_unref(future);
        pp_pool_destroy(pool);
    }
}

BOTH(a_chunk_of_65536_elements_is_a_chunk)
{
    board_make();
    uint32_t *numbers = make_numbers(MOST_ELEMENTS);
    pp_pool *pool = kit_pool(method, 2);
    behave(40000, CRASH);
    pp_map *map = open_numbers(pool, numbers, MOST_ELEMENTS, (pp_map_options){.chunk_size = 65536});
    for (uint32_t i = 0; i < MOST_ELEMENTS; i++) {
        pp_map_result result = next_of(map);
        CHECK_INT(result.index, i);
        if (i == 40000)
            check_failed(&result, PP_ERROR_CRASH, -EOWNERDEAD);
        else
            check_square(&result, i);
    }
    CHECK_INT(end_of(map), 0);
    check_runs(0, MOST_ELEMENTS, 1);
    pp_map_close(map);
    pp_pool_destroy(pool);
    free(numbers);
}

/* The pool takes the results in by itself: the ring holds few of them. */
BOTH(a_chunk_goes_on_while_nobody_asks_for_its_results)
{
    enum { COUNT = 20000 };
    board_make();
    uint32_t *numbers = make_numbers(COUNT);
    pp_pool *pool = kit_pool(method, 1);
    pp_map *map = open_numbers(pool, numbers, COUNT, (pp_map_options){.chunk_size = COUNT});
    pp_map_result result = next_of(map);
    check_square(&result, 0);
    until(runs_between(0, COUNT) == COUNT);
    for (uint32_t i = 1; i < COUNT; i++) {
        result = next_of(map);
        check_square(&result, i);
    }
    CHECK_INT(end_of(map), 0);
    pp_map_close(map);
    pp_pool_destroy(pool);
    free(numbers);
}

/* ---------------------------------------------------------------------------------------- sizes in chunks */

/* Byte k of what belongs to element i. */
static unsigned char pattern(uint32_t i, size_t k)
{
    return (unsigned char)(i * 31 + k * 7 + (k >> 8) * 13 + (k >> 16));
}

static void fill_pattern(unsigned char *bytes, uint32_t i, size_t size)
{
    for (size_t k = 0; k < size; k++)
        bytes[k] = pattern(i, k);
}

static void check_pattern(const void *data, uint32_t i, size_t size)
{
    const unsigned char *bytes = data;
    for (size_t k = 0; k < size; k++)
        if (bytes[k] != pattern(i, k))
            harness_fail(__FILE__, __LINE__, "byte %zu of %zu of element %u is %u, not %u", k, size, i, bytes[k],
                         pattern(i, k));
}

/* The input: an element's number, the size of the result that is wished for, and a pattern. */
struct wish {
    uint32_t element;
    uint32_t size;
    unsigned char bytes[];
};

static int grant(pp_task *task, const void *arg, size_t size)
{
    const struct wish *wish = arg;
    CHECK(size >= sizeof *wish);
    CHECK((uintptr_t)arg % 16 == 0);
    CHECK_INT(((const char *)arg)[size], 0);
    add(FIRST_RUN + wish->element);
    check_pattern(wish->bytes, wish->element, size - sizeof *wish);
    if (read_word(FIRST_BEHAVIOUR + wish->element) == CRASH)
        raise(SIGKILL);
    unsigned char *result = pp_task_reserve(task, wish->size);
    CHECK(result != NULL);
    fill_pattern(result, wish->element + 1, wish->size);
    return 0;
}

/* Wishes, with sizes that two functions of the number give. */
struct wishes {
    uint32_t count, next;
    size_t (*in)(uint32_t i), (*out)(uint32_t i);
    struct wish *wish;
};

static int next_wish(void *context, pp_map_input *input)
{
    struct wishes *wishes = context;
    uint32_t i = wishes->next;
    free(wishes->wish);
    wishes->wish = NULL;
    if (i == wishes->count)
        return 0;
    size_t size = wishes->in(i);
    wishes->wish = malloc(sizeof *wishes->wish + size);
    CHECK(wishes->wish != NULL);
    *wishes->wish = (struct wish){.element = i, .size = (uint32_t)wishes->out(i)};
    fill_pattern(wishes->wish->bytes, i, size);
    wishes->next++;
    *input = (pp_map_input){.data = wishes->wish, .size = sizeof *wishes->wish + size};
    return 1;
}

static void check_wish(const struct wishes *wishes, const pp_map_result *result, uint32_t i)
{
    const struct wish *wish = result->input;
    CHECK_INT(result->input_size, sizeof *wish + wishes->in(i));
    CHECK_INT(wish->element, i);
    check_pattern(wish->bytes, i, wishes->in(i));
    CHECK_INT(runs_of(i), 1);
    if (read_word(FIRST_BEHAVIOUR + i) == CRASH) {
        check_failed(result, PP_ERROR_CRASH, -EOWNERDEAD);
        return;
    }
    CHECK_INT(result->code, 0);
    CHECK_INT(result->size, wishes->out(i));
    CHECK(is_aligned(result->data));
    CHECK_INT(((const char *)result->data)[result->size], 0);
    check_pattern(result->data, i + 1, result->size);
}

static void map_wishes(pp_pool *pool, struct wishes wishes, pp_map_options options)
{
    pp_map *map;
    CHECK_OK(pp_map_open(pool, grant, next_wish, &wishes, &options, &map));
    for (uint32_t i = 0; i < wishes.count; i++) {
        pp_map_result result = next_of(map);
        CHECK(options.unordered || result.index == i);
        check_wish(&wishes, &result, (uint32_t)result.index);
    }
    CHECK_INT(end_of(map), 0);
    pp_map_close(map);
    for (uint32_t i = 0; i < wishes.count; i++)
        atomic_store(word(FIRST_RUN + i), 0);
}

static size_t none(uint32_t i)
{
    (void)i;
    return 0;
}

static size_t growing(uint32_t i) /* to more than 1 MiB, by way of all the edges */
{
    static const size_t sizes[] = {0,     1,     7,     8,      9,      15,      16,      17,
                                   100,   1000,  4095,  4096,   16300,  16352,   16384,   16385,
                                   32768, 65536, 70000, 131072, 300000, 1048576, 1048600, 1200000};
    return sizes[i % 24];
}

static size_t ring_and_more(uint32_t i)
{
    static const size_t sizes[] = {70000, 16384, 16385, 65536, 200000, 10};
    return sizes[i % 6];
}

static size_t small(uint32_t i)
{
    return 9000 + i;
}

static void map_sizes(pp_start_method method, uint32_t count, size_t (*in)(uint32_t), size_t (*out)(uint32_t))
{
    static const size_t chunk_sizes[] = {1, 5, WHOLE};
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    for (int i = 0; i < 3; i++) {
        const struct wishes wishes = {.count = count, .in = in, .out = out};
        map_wishes(pool, wishes, (pp_map_options){.chunk_size = chunk_sizes[i], .unordered = i % 2});
    }
    pp_pool_destroy(pool);
}

BOTH(inputs_of_growing_sizes_travel_in_chunks)
{
    map_sizes(method, 30, growing, none);
}

BOTH(results_of_growing_sizes_come_from_chunks)
{
    map_sizes(method, 30, none, growing);
}

/* One chunk's results fill the ring many times over, and each needs a good part of it. */
BOTH(a_chunk_gives_more_results_than_its_ring_holds)
{
    map_sizes(method, 600, none, small);
}

BOTH(results_larger_than_a_ring_come_from_chunks_with_small_ones_between_them)
{
    map_sizes(method, 100, none, ring_and_more);
}

static size_t twenty_thousand(uint32_t i)
{
    return 20000 + i;
}

/* Each result passes in a descriptor, and is none any more when it has come: neither end runs out of them. */
BOTH_WITHIN(a_chunk_gives_more_large_results_than_there_are_descriptors, 60)
{
    struct rlimit limit;
    board_make();
    CHECK_INT(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = 256;
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &limit), 0);
    pp_pool *pool = kit_pool(method, 2);
    map_wishes(pool, (struct wishes){.count = 1200, .in = none, .out = twenty_thousand},
               (pp_map_options){.chunk_size = 600, .max_in_flight = 1200});
    pp_pool_destroy(pool);
}

/* Inputs that lie in memory of their own are sent again to the worker that goes on. */
BOTH(a_crash_in_a_chunk_of_large_inputs_costs_one_element)
{
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    for (uint32_t i = 3; i < 24; i += 10)
        behave(i, CRASH);
    for (int round = 0; round < 2; round++)
        map_wishes(pool, (struct wishes){.count = 26, .in = growing, .out = growing},
                   (pp_map_options){.chunk_size = round ? 26 : 1});
    pp_pool_destroy(pool);
}

/* ---------------------------------------------------------------------------------------- results that can't travel */

/* The element's result has no room in the worker; the next one has. */
static int too_large(pp_task *task, const void *arg, size_t size)
{
    uint32_t i;
    CHECK_INT(size, sizeof i);
    memcpy(&i, arg, sizeof i);
    if (i % 5 != 2)
        return pp_task_return(task, &i, sizeof i);
    return pp_task_reserve(task, (size_t)1 << 60) ? 0 : pp_task_return(task, "", (size_t)1 << 60);
}

BOTH(a_result_that_can_not_travel_fails_its_element_alone)
{
    uint32_t *numbers = make_numbers(50);
    pp_map *map;
    pp_pool *pool = kit_pool(method, 2);
    CHECK_OK(
        pp_map_open_array(pool, too_large, numbers, 50, sizeof *numbers, &(pp_map_options){.chunk_size = 20}, &map));
    for (uint32_t i = 0; i < 50; i++) {
        pp_map_result result = next_of(map);
        if (i % 5 == 2) {
            check_failed(&result, PP_ERROR_TRAVEL, -EBADMSG);
            CHECK_INT(result.error->task_code, -ENOMEM);
        } else {
            CHECK_INT(result.code, 0);
            CHECK_INT(value_of(&result), i);
        }
    }
    CHECK_INT(end_of(map), 0);
    pp_map_close(map);
    pp_pool_destroy(pool);
    free(numbers);
}
