/* SPDX-License-Identifier: MIT */
/* needs: seams */
/*
 * A chunk's results gather in a run that its worker publishes later. They are there all the same: wherever the worker
 * dies or stops, the elements that had ended have their results, and no other element has lost anything.
 */
#include "map_kit.h"

#include "base/seam.h"

enum { ELEMENTS = 24 };

#define EMPTY UINT32_MAX
#define GROWING (UINT32_MAX - 1)

struct element {
    uint32_t number;
    uint32_t size; /* of its result; EMPTY: nothing; GROWING: as many bytes as its number */
};

static size_t size_of(uint32_t number, uint32_t size)
{
    return size == EMPTY ? 0 : size == GROWING ? number : size;
}

/* Byte k of element i's result. */
static unsigned char byte_of(uint32_t i, size_t k)
{
    return (unsigned char)(i * 37 + k * 11 + 1);
}

/* Counts itself and gives a pattern. */
static int give_pattern(pp_task *task, const void *arg, size_t size)
{
    struct element element;
    CHECK_INT(size, sizeof element);
    memcpy(&element, arg, sizeof element);
    add(FIRST_RUN + element.number);
    size_t bytes = size_of(element.number, element.size);
    unsigned char *result = pp_task_reserve(task, bytes);
    CHECK(result != NULL);
    for (size_t k = 0; k < bytes; k++)
        result[k] = byte_of(element.number, k);
    return 0;
}

static const struct element *elements_of(uint32_t size)
{
    static struct element elements[ELEMENTS];
    for (uint32_t i = 0; i < ELEMENTS; i++)
        elements[i] = (struct element){i, size};
    return elements;
}

static pp_map *open_elements(pp_pool *pool, uint32_t size, uint32_t retries)
{
    pp_map *map;
    CHECK_OK(pp_map_open_array(pool, give_pattern, elements_of(size), ELEMENTS, sizeof(struct element),
                               &(pp_map_options){.chunk_size = ELEMENTS, .retries = retries}, &map));
    return map;
}

static void check_pattern(const pp_map_result *result, uint32_t i, uint32_t size)
{
    const unsigned char *data = result->data;
    if (result->code)
        harness_fail(__FILE__, __LINE__, "element %u failed: %s", i, result->error->message);
    CHECK_INT(result->size, size_of(i, size));
    CHECK(is_aligned(data));
    CHECK_INT(data[result->size], 0);
    for (size_t k = 0; k < result->size; k++)
        if (data[k] != byte_of(i, k))
            harness_fail(__FILE__, __LINE__, "byte %zu of element %u is %u", k, i, data[k]);
}

/* A place where a worker dies for the n-th time that it is reached, and what that costs element n - 1. */
struct place {
    const char *name;
    bool fails;
};

static void die_at(struct place place, unsigned n, uint32_t size, uint32_t retries)
{
    uint32_t lost = place.fails ? n - 1 : ELEMENTS;
    pp__fault_arm(place.name, n, PP__FAULT_KILL);
    pp_pool *pool = kit_pool(PP_START_FORK, 1);
    pp_map *map = open_elements(pool, size, retries);
    for (uint32_t i = 0; i < ELEMENTS; i++) {
        pp_map_result result = next_of(map);
        CHECK_INT(result.index, i);
        if (i == lost && retries == 0)
            check_failed(&result, PP_ERROR_CRASH, -EOWNERDEAD);
        else
            check_pattern(&result, i, size);
    }
    CHECK_INT(end_of(map), 0);
    CHECK(pp__fault_hits() >= n);
    pp__fault_disarm();
    pp_map_close(map);
    pp_pool_destroy(pool);
    for (uint32_t i = 0; i < ELEMENTS; i++) {
        bool begun = i != lost || strcmp(place.name, "worker.begin.after") != 0;
        CHECK_INT(runs_of(i), begun + (i == lost && retries > 0));
        atomic_store(word(FIRST_RUN + i), 0);
    }
}

/* The last element's result may be one that travels alone, for which there is another place. */
static void die_everywhere(uint32_t size)
{
    static const struct place places[] = {{"worker.begin.before", false},
                                          {"worker.begin.after", true},
                                          {"worker.append.before", true},
                                          {"worker.append.after", false}};
    unsigned step = TEST_ON_VALGRIND ? 5 : 1; /* an odd one: with retries and without */
    board_make();
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        for (unsigned n = 1; n < ELEMENTS; n += step)
            die_at(places[i], n, size, n % 2);
}

TEST_WITHIN(a_worker_that_dies_in_a_run_of_small_results_loses_the_element_that_ran, 120)
{
    die_everywhere(4);
}

TEST_WITHIN(a_worker_that_dies_in_a_run_of_results_without_bytes_loses_the_element_that_ran, 120)
{
    die_everywhere(EMPTY);
}

TEST_WITHIN(a_worker_that_dies_among_results_of_many_sizes_loses_the_element_that_ran, 120)
{
    die_everywhere(GROWING);
}

TEST_WITHIN(a_worker_that_dies_in_one_of_the_runs_that_a_chunk_fills_loses_the_element_that_ran, 120)
{
    die_everywhere(1000); /* eight of them fill one */
}

/* Whatever of it was published by then: all results were written before. */
TEST_WITHIN(a_worker_that_dies_while_it_publishes_a_run_loses_nothing_of_it, 120)
{
    static const char *const names[] = {"worker.publish.before", "worker.publish.after"};
    board_make();
    for (int i = 0; i < 2; i++) {
        for (unsigned n = 2; n < 5; n++) { /* the first one says that it is ready */
            pp__fault_arm(names[i], n, PP__FAULT_KILL);
            pp_pool *pool = kit_pool(PP_START_FORK, 1);
            pp_map *map = open_elements(pool, 1000, 0);
            uint32_t failed = 0;
            for (uint32_t k = 0; k < ELEMENTS; k++) {
                pp_map_result result = next_of(map);
                failed += result.code != 0;
                if (result.code)
                    check_failed(&result, PP_ERROR_CRASH, -EOWNERDEAD);
                else
                    check_pattern(&result, k, 1000);
            }
            CHECK(failed <= 1); /* one that travelled alone */
            pp__fault_disarm();
            pp_map_close(map);
            pp_pool_destroy(pool);
        }
    }
}

/* ------------------------------------------------------------------------------------ stopped, and looked into */

enum { PID = GATE + 1, FIRST_GATE };

static int give_at_gate(pp_task *task, const void *arg, size_t size)
{
    struct element element;
    CHECK_INT(size, sizeof element);
    memcpy(&element, arg, sizeof element);
    atomic_store(word(PID), (uint32_t)getpid());
    wait_at(FIRST_GATE + element.number);
    return give_pattern(task, arg, size);
}

/* Each result is taken while the next element waits: some while their run is open, and that is published later. */
BOTH(results_are_given_out_while_the_next_element_runs)
{
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    pp_map *map;
    CHECK_OK(pp_map_open_array(pool, give_at_gate, elements_of(4), ELEMENTS, sizeof(struct element),
                               &(pp_map_options){.chunk_size = ELEMENTS}, &map));
    for (uint32_t i = 0; i < ELEMENTS; i++) {
        open_gate(FIRST_GATE + i);
        pp_map_result result = next_of(map);
        check_pattern(&result, i, 4);
    }
    CHECK_INT(end_of(map), 0);
    check_runs(0, ELEMENTS, 1);
    pp_map_close(map);
    pp_pool_destroy(pool);
}

static int tell_pid(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    uint32_t pid = (uint32_t)getpid();
    return pp_task_return(task, &pid, sizeof pid);
}

static uint32_t pid_of_worker(pp_pool *pool)
{
    uint32_t pid;
    pp_future *future;
    CHECK_OK(pp_submit(pool, tell_pid, NULL, 0, &future));
    CHECK_OK(pp_future_result(future, -1, &pid, sizeof pid, NULL));
    pp_future_unref(future);
    return pid;
}

/* Stops the only worker at the n-th time at `place`: so many results are there, and no more before it goes on. */
static void stop_at(const char *place, unsigned n, uint32_t there)
{
    pp_pool *pool = kit_pool(PP_START_FORK, 1);
    pp_map_result result;
    uint32_t pid = pid_of_worker(pool);
    pp__fault_arm(place, n, PP__FAULT_STOP);
    pp_map *map = open_elements(pool, 8, 0);
    for (uint32_t i = 0; i < ELEMENTS; i++) {
        if (i == there) {
            until(pp__fault_hits() == n);
            CHECK_INT(pp_map_next(map, 20, &result), -ETIMEDOUT);
            kill((pid_t)pid, SIGCONT);
        }
        result = next_of(map);
        check_pattern(&result, i, 8);
    }
    CHECK_INT(end_of(map), 0);
    pp_map_close(map);
    CHECK_INT(pid_of_worker(pool), pid);
    pp_pool_destroy(pool);
}

TEST(a_worker_that_is_stopped_in_a_run_has_given_what_it_had_written_and_goes_on)
{
    board_make();
    stop_at("worker.append.before", 5, 4);
    stop_at("worker.append.after", 5, 5);
    stop_at("worker.begin.before", 7, 6);
    check_runs(0, ELEMENTS, 3);
}

/* The rest of its chunk is taken back, and when it goes on it publishes what nobody waits for any more. */
TEST(a_run_that_was_looked_into_is_published_when_its_chunk_has_gone)
{
    board_make();
    pp_pool *pool = kit_pool(PP_START_FORK, 1);
    uint32_t pid = pid_of_worker(pool);
    pp__fault_arm("worker.begin.before", 4, PP__FAULT_STOP);
    pp_map *map = open_elements(pool, 8, 0);
    for (uint32_t i = 0; i < 3; i++) {
        pp_map_result result = next_of(map);
        check_pattern(&result, i, 8);
    }
    until(pp__fault_hits() == 4);
    pp_map_close(map);
    kill((pid_t)pid, SIGCONT);
    CHECK_INT(pid_of_worker(pool), pid);
    pp_pool_destroy(pool);
    check_runs(0, 3, 1);
    check_runs(3, ELEMENTS, 0);
}

/* ------------------------------------------------------------------------------------------- killed at any moment */

enum { MANY = 60000, KILLS = 40 };

static _Atomic bool mapped;
static _Atomic uint32_t kills;

static void *kill_now_and_then(void *unused)
{
    while (!mapped && kills < KILLS) {
        uint32_t pid = atomic_exchange(word(PID), 0);
        if (pid && kill((pid_t)pid, SIGKILL) == 0)
            kills++;
        test_sleep_ms(2);
    }
    return unused;
}

/* Says who it is, so that somebody may kill it, and works for a moment. */
static int give_square(pp_task *task, const void *arg, size_t size)
{
    uint32_t i;
    CHECK_INT(size, sizeof i);
    memcpy(&i, arg, sizeof i);
    add(FIRST_RUN + i);
    atomic_store(word(PID), (uint32_t)getpid());
    for (volatile uint32_t k = 0; k < 300; k++) {
    }
    uint32_t square = i * i;
    return pp_task_return(task, &square, sizeof square);
}

BOTH_WITHIN(workers_killed_at_any_moment_cost_an_element_each_at_most, 120)
{
    board_make();
    uint32_t *numbers = make_numbers(MANY), failed = 0;
    pp_pool *pool = kit_pool(method, 2);
    pp_map *map;
    CHECK_OK(pp_map_open_array(pool, give_square, numbers, MANY, sizeof *numbers, &(pp_map_options){.chunk_size = 1024},
                               &map));
    pthread_t killer = start_thread(kill_now_and_then, NULL);
    for (uint32_t i = 0; i < MANY; i++) {
        pp_map_result result = next_of(map);
        CHECK_INT(result.index, i);
        CHECK(runs_of(i) <= 1);
        failed += result.code != 0;
        if (result.code)
            check_failed(&result, PP_ERROR_CRASH, -EOWNERDEAD);
        else
            check_square(&result, i);
    }
    mapped = true;
    join_thread(killer);
    CHECK_INT(end_of(map), 0);
    CHECK(failed <= kills);
    pp_map_close(map);
    pp_pool_destroy(pool);
    free(numbers);
}
