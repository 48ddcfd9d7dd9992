/* SPDX-License-Identifier: MIT */
/*
 * Workers that write garbage wherever they can into their side of the channel. It costs calls of such a worker at most,
 * never one of another, and never the pool.
 */
#include "channel_kit.h"
#include "vandal_kit.h"

#include <limits.h>

/* ---------------------------------------------------------------------------------------------- what it can't */

/* 0, or the number of the attempt that was not refused. */
static int try_to_write(const char *name, size_t size)
{
    char protection[5];
    char *place = find_mapping(name, protection);
    if (!place || strcmp(protection, "r--s") != 0)
        return 1;
    if (mprotect(place, size, PROT_READ | PROT_WRITE) == 0 || errno != EACCES)
        return 2;
    int memory = open("/proc/self/mem", O_RDWR);
    if (memory < 0)
        return 0;
    return pwrite(memory, "garbage", 7, (off_t)(uintptr_t)place) > 0 ? 3 : 0;
}

static int task_try_to_write(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    int failed = try_to_write("procpool-calls", sizeof(struct pp__call_side));
    if (!failed)
        failed = 10 * try_to_write("procpool-page", PP__PAGE_SIZE);
    return pp_task_return(task, &failed, sizeof failed);
}

BOTH(what_the_owner_writes_can_not_be_made_writable)
{
    pp_pool *pool = open_workers(1, method);
    CHECK_INT(take_int(submit(pool, task_try_to_write, NULL, 0)), 0);
    CHECK_INT(take_int(submit_int(pool, task_square, 7)), 49);
    pp_pool_destroy(pool);
}

/* ------------------------------------------------------------------------------------- garbage in the channel */

/* MARK: of the record that the owner waits for. MARKS: of all that can be one's. */
enum region { TAIL, HEAD, SLEEPING, SLOTS, BEGUN_AT, OPEN, MARK, MARKS, RING, ALL, REGIONS };
enum pattern { ZEROS, ONES, FORWARD, RANDOM, RANDOM_ALIGNED, PATTERNS };
enum { COMBINATIONS = REGIONS * PATTERNS };
enum duration { ONCE, LASTING, LATER, DURATIONS };

struct vandal {
    enum region region;
    enum pattern pattern;
    enum duration duration;
    unsigned seed;
};

static uint64_t pattern_word(struct vandal *vandal, uint64_t before)
{
    uint64_t random =
        (uint64_t)rand_r(&vandal->seed) << 40 ^ (uint64_t)rand_r(&vandal->seed) << 20 ^ (uint64_t)rand_r(&vandal->seed);
    switch (vandal->pattern) {
    case ZEROS:
        return 0;
    case ONES:
        return ~UINT64_C(0);
    case FORWARD:
        return before + 16;
    case RANDOM:
        return random;
    default:
        return random % PP__RING_BYTES / 16 * 16;
    }
}

static void fill(struct vandal *vandal, volatile void *place, size_t size)
{
    volatile uint64_t *words = place;
    for (size_t i = 0; i < size / sizeof *words; i++)
        words[i] = pattern_word(vandal, words[i]);
}

static void fill_mark(struct vandal *vandal, struct pp__header *header)
{
    uint32_t before = atomic_load_explicit(&header->mark, memory_order_relaxed);
    atomic_store_explicit(&header->mark, (uint32_t)pattern_word(vandal, before), memory_order_relaxed);
}

static void scribble(struct vandal *vandal)
{
    struct pp__result_side *side = result_side();
    switch (vandal->region) {
    case TAIL:
        fill(vandal, &side->result_tail, sizeof side->result_tail);
        break;
    case HEAD:
        fill(vandal, &side->call_head, sizeof side->call_head);
        break;
    case SLEEPING:
        fill(vandal, &side->sleeping, 8);
        break;
    case SLOTS:
        fill(vandal, side->slots, sizeof side->slots);
        break;
    case BEGUN_AT:
        fill(vandal, side->begun_at, sizeof side->begun_at);
        break;
    case OPEN:
        fill(vandal, &side->open, sizeof side->open);
        break;
    case MARK:
        fill_mark(vandal, next_header());
        break;
    case MARKS:
        for (uint32_t at = 0; at < PP__RING_BYTES; at += PP__RING_ALIGN)
            fill_mark(vandal, header_at(at));
        break;
    case RING:
        fill(vandal, side->results, sizeof side->results);
        break;
    default:
        fill(vandal, side, sizeof *side);
        break;
    }
}

static struct vandal lasting;

/* Until somebody kills the process; sometimes there is a pause in which the channel is used. */
static void *scribble_on(void *unused)
{
    (void)unused;
    if (lasting.duration == LATER)
        test_sleep_ms(5);
    for (;;) {
        for (int i = 0; i < 100; i++)
            scribble(&lasting);
        struct timespec pause = {.tv_nsec = rand_r(&lasting.seed) % 100000};
        nanosleep(&pause, NULL);
    }
    return NULL;
}

/* So that others lie behind this call, if the owner sends them at all: a moment. */
static void await_followers(void)
{
    uint64_t before = atomic_load(&call_side()->call_tail);
    for (int i = 0; i < 100 && atomic_load(&call_side()->call_tail) < before + 4 * 128; i++) {
        struct timespec pause = {.tv_nsec = 5000};
        nanosleep(&pause, NULL);
    }
}

static void vandalize(const struct vandal *vandal)
{
    lasting = *vandal;
    note_vandal();
    if (vandal->duration == ONCE) {
        scribble(&lasting);
    } else {
        pthread_t thread;
        CHECK_INT(pthread_create(&thread, NULL, scribble_on, NULL), 0);
        pthread_detach(thread);
    }
}

static int task_vandal(pp_task *task, const void *arg, size_t size)
{
    int answer = 42;
    CHECK_INT(size, sizeof lasting);
    await_followers();
    vandalize(arg);
    return pp_task_return(task, &answer, sizeof answer);
}

/* One that goes on writing may write over its own result. Threads can't be made there under thread sanitizer: then it
 * dies of that. */
static void check_vandal(pp_future *future, enum duration duration)
{
    const pp_error *error;
    CHECK_OK(pp_future_error(future, -1, &error));
    if (!error && duration == ONCE)
        CHECK_INT(take_int(future), 42);
    else if (!error)
        pp_future_unref(future);
    else if (error->kind == PP_ERROR_CRASH && KIT_TSAN)
        pp_future_unref(future);
    else
        drop_failed(future, PP_ERROR_PROTOCOL);
}

static void run_vandal(pp_pool *pool, const struct vandal *vandal)
{
    enum { AROUND = 20 };
    pp_future *before[AROUND], *after[AROUND];
    warm_up(pool);
    for (int i = 0; i < AROUND; i++)
        before[i] = submit_int(pool, task_innocent, i);
    pp_future *bad = submit(pool, task_vandal, vandal, sizeof *vandal);
    for (int i = 0; i < AROUND; i++)
        after[i] = submit_int(pool, task_innocent, 1000 + i);
    for (int i = 0; i < AROUND; i++)
        check_innocent(before[i], i);
    check_vandal(bad, vandal->duration);
    for (int i = 0; i < AROUND; i++)
        check_innocent(after[i], 1000 + i);
    if (vandal->duration == LATER)
        test_sleep_ms(6); /* it is idle when it begins; whatever comes of it is checked with the next */
    warm_up(pool);
}

/* Every `step`th of `count` combinations; after REGIONS * PATTERNS of them they come again with other random numbers.
 */
static void run_vandals(pp_start_method method, int workers, enum duration duration, unsigned count, unsigned step)
{
    if (duration == LASTING && KIT_TSAN)
        LEFT_OUT("thread sanitizer ends the worker, whose second thread races with it on purpose");
    pp_pool *pool = open_workers(workers, method);
    for (unsigned seed = 0; seed < count; seed += step) {
        struct vandal vandal = {
            .region = seed % REGIONS, .pattern = seed / REGIONS % PATTERNS, .duration = duration, .seed = seed + 1};
        printf("region %d, pattern %d, duration %d, seed %u\n", (int)vandal.region, (int)vandal.pattern,
               (int)vandal.duration, vandal.seed);
        fflush(stdout);
        run_vandal(pool, &vandal);
    }
    pp_pool_destroy(pool);
}

BOTH_WITHIN(garbage_written_once_costs_its_worker_at_most, 60)
{
    for (int workers = 1; workers <= 2; workers++)
        run_vandals(method, workers, ONCE, COMBINATIONS, 3);
}

BOTH_WITHIN(garbage_written_all_the_time_costs_its_worker_at_most, 60)
{
    run_vandals(method, 1, LASTING, COMBINATIONS, 3);
}

BOTH_WITHIN(garbage_written_beside_another_worker_leaves_that_alone, 60)
{
    run_vandals(method, 2, LASTING, COMBINATIONS, 3);
}

BOTH_WITHIN(garbage_written_by_an_idle_worker_costs_its_worker_at_most, 60)
{
    run_vandals(method, 2, LATER, COMBINATIONS, 3);
}

static int init_garbling(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)size;
    vandalize(arg);
    return 0;
}

static void expect_all_of(pp_pool *pool, pid_t pid)
{
    int in[100], out[100];
    for (int i = 0; i < 100; i++) {
        in[i] = i;
        CHECK_INT(take_int(submit_int(pool, task_square, i)), i * i);
    }
    CHECK_INT(
        pp_map_array(pool, task_square, in, 100, sizeof *in, out, sizeof *out, &(pp_map_options){.chunk_size = 30}), 0);
    for (int i = 0; i < 100; i++)
        CHECK_INT(out[i], i * i);
    CHECK_INT(pid_of(pool), pid);
}

/* How far it says that it has published is a number that the owner does without, unless it says that there is more than
 * there is. */
BOTH_WITHIN(garbage_in_its_tail_alone_costs_nothing, 30)
{
    struct vandal vandal = {.region = TAIL, .pattern = ONES, .seed = 1};
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 1,
                                                .initializer = init_garbling,
                                                .initializer_arg = &vandal,
                                                .initializer_arg_size = sizeof vandal},
                              method);
    pid_t pid = pid_of(pool);
    enum duration durations = KIT_TSAN ? LASTING : DURATIONS; /* it ends workers whose second thread races */
    for (vandal.duration = ONCE; vandal.duration < durations; vandal.duration++)
        for (vandal.pattern = ZEROS; vandal.pattern < PATTERNS; vandal.pattern++) {
            if (vandal.pattern == FORWARD || vandal.pattern == RANDOM_ALIGNED)
                continue; /* which may say so */
            CHECK_INT(take_int(submit(pool, task_vandal, &vandal, sizeof vandal)), 42);
            if (vandal.duration == LATER)
                test_sleep_ms(6);
            expect_all_of(pool, pid);
        }
    pp_pool_destroy(pool);
}

/* ------------------------------------------------------------------------------ garbage in the middle of a chunk */

enum { ELEMENTS = 60, EVIL = 25 };

struct in_chunk {
    int number;
    struct vandal vandal; /* of element EVIL */
};

/* Says on the board who ran it. */
static int task_in_chunk(pp_task *task, const void *arg, size_t size)
{
    struct in_chunk in;
    CHECK_INT(size, sizeof in);
    memcpy(&in, arg, sizeof in);
    shared()->runs[VANDALS + in.number] = (uint32_t)getpid();
    if (in.number == EVIL)
        vandalize(&in.vandal);
    return task_square(task, &in.number, sizeof in.number);
}

/* Right, or from a worker that wrote garbage. */
static void check_in_chunk(const pp_map_result *result)
{
    int number = (int)result->index, square = -1;
    pid_t pid = result->error ? result->error->pid : (pid_t)shared()->runs[VANDALS + number];
    if (!result->error && result->size == sizeof square)
        memcpy(&square, result->data, sizeof square);
    if ((result->error && result->error->kind != PP_ERROR_PROTOCOL) || (square != number * number && !was_vandal(pid)))
        harness_fail(__FILE__, __LINE__, "element %d is %d, in pid %d: %s\n%s", number, square, (int)pid,
                     result->error ? result->error->message : "",
                     result->error ? pp_error_backtrace(result->error) : "");
}

/* An element that is said to have ended may never run, so who is to blame is the only worker. */
static void run_chunk_vandal(pp_pool *pool, const struct vandal *vandal)
{
    struct in_chunk in[ELEMENTS];
    bool seen[ELEMENTS] = {false};
    pp_map_result result;
    pp_map *map;
    warm_up(pool);
    for (int i = 0; i < ELEMENTS; i++) {
        in[i] = (struct in_chunk){i, *vandal};
        shared()->runs[VANDALS + i] = shared()->runs[(shared()->words[0] + VANDALS - 1) % VANDALS];
    }
    CHECK_OK(pp_map_open_array(pool, task_in_chunk, in, ELEMENTS, sizeof *in,
                               &(pp_map_options){.chunk_size = ELEMENTS / 2}, &map));
    for (int i = 0; i < ELEMENTS; i++) {
        CHECK_INT(pp_map_next(map, -1, &result), 1);
        CHECK(!seen[result.index]);
        seen[result.index] = true;
        check_in_chunk(&result);
    }
    CHECK_INT(pp_map_next(map, -1, &result), 0);
    pp_map_close(map);
    warm_up(pool);
}

static void run_chunk_vandals(pp_start_method method, enum duration duration, unsigned count)
{
    if (duration == LASTING && KIT_TSAN)
        LEFT_OUT("thread sanitizer ends the worker, whose second thread races with it on purpose");
    pp_pool *pool = open_workers(1, method);
    for (unsigned seed = 0; seed < count; seed++) {
        struct vandal vandal = {
            .region = seed % REGIONS, .pattern = seed / REGIONS % PATTERNS, .duration = duration, .seed = seed + 1};
        printf("region %d, pattern %d, duration %d, in a chunk\n", (int)vandal.region, (int)vandal.pattern,
               (int)vandal.duration);
        fflush(stdout);
        run_chunk_vandal(pool, &vandal);
    }
    pp_pool_destroy(pool);
}

BOTH_WITHIN(garbage_written_in_a_chunk_costs_its_worker_at_most, 60)
{
    run_chunk_vandals(method, ONCE, COMBINATIONS);
}

BOTH_WITHIN(garbage_written_all_the_time_in_a_chunk_costs_its_worker_at_most, 60)
{
    run_chunk_vandals(method, LASTING, COMBINATIONS);
}

/* The run that is open; NULL: there is none. */
static struct pp__run_record *open_run(void)
{
    struct pp__header *header = next_header();
    return header->type == PP__RECORD_RUN ? (struct pp__run_record *)(void *)(header + 1) : NULL;
}

/* Says of its chunk's results that they are in place, as soon as there are some. */
static int claim_place(pp_task *task, const void *arg, size_t size)
{
    struct pp__run_record *run = open_run();
    if (run)
        run->in_place = 1;
    return pp_task_return(task, arg, size);
}

/* Of a chunk whose results are in place: that they have another size. */
static int claim_size(pp_task *task, const void *arg, size_t size)
{
    struct pp__run_record *run = open_run();
    if (run)
        run->each = 2 * sizeof(int);
    return pp_task_return(task, arg, size);
}

BOTH(results_in_place_have_the_size_that_was_said)
{
    pp_pool *pool = open_workers(1, method);
    pp_buffer *buffer;
    CHECK_OK(pp_buffer_create_shared(ELEMENTS * sizeof(int), &buffer));
    int in[ELEMENTS], *out = pp_buffer_data(buffer);
    for (int i = 0; i < ELEMENTS; i++)
        in[i] = out[i] = i + 1;
    ssize_t failed = pp_map_array(pool, claim_size, in, ELEMENTS, sizeof *in, out, sizeof *out,
                                  &(pp_map_options){.chunk_size = ELEMENTS, .out_buffer = buffer});
    CHECK(failed > 0 && failed <= ELEMENTS);
    for (int i = 0; i < ELEMENTS; i++)
        CHECK_INT(out[i], i + 1);
    warm_up(pool);
    pp_buffer_unref(buffer);
    pp_pool_destroy(pool);
}

BOTH(results_are_taken_from_no_place_that_was_not_given)
{
    int in[ELEMENTS], failed = 0;
    pp_map_result result;
    pp_map *map;
    pp_pool *pool = open_workers(1, method);
    for (int i = 0; i < ELEMENTS; i++)
        in[i] = i;
    CHECK_OK(pp_map_open_array(pool, claim_place, in, ELEMENTS, sizeof *in, &(pp_map_options){.chunk_size = ELEMENTS},
                               &map));
    for (int i = 0; i < ELEMENTS; i++) {
        CHECK_INT(pp_map_next(map, -1, &result), 1);
        failed += result.code != 0;
        if (result.code)
            CHECK_INT(result.error->kind, PP_ERROR_PROTOCOL);
        else
            CHECK_INT(read_int(result.data), i);
    }
    CHECK(failed > 0);
    pp_map_close(map);
    warm_up(pool);
    pp_pool_destroy(pool);
}

/* Its rings are as empty at first as they are when everything is zero. */
BOTH(a_worker_that_was_a_standby_is_found_out_when_it_wipes_everything)
{
    if (KIT_TSAN)
        LEFT_OUT("thread sanitizer ends the worker, whose second thread races with it on purpose");
    pp_pool *pool = open_workers(1, method);
    pid_t zygote = zygote_of(pool);
    for (unsigned seed = 1; seed <= 5; seed++) {
        struct vandal vandal = {.region = ALL, .pattern = ZEROS, .duration = LASTING, .seed = seed};
        pp_future *death = submit(pool, crash, NULL, 0); /* perhaps of the last vandal, which is found out only now */
        const pp_error *error;
        CHECK_OK(pp_future_error(death, -1, &error));
        CHECK(error && (error->kind == PP_ERROR_CRASH || error->kind == PP_ERROR_PROTOCOL));
        pp_future_unref(death);
        until(count_descendants_named(zygote, "pp-standby") == 1);
        run_chunk_vandal(pool, &vandal);
    }
    pp_pool_destroy(pool);
}

/* Results of elements that have not run, beyond the chunk, or before it: what is said of the open run. */
static int task_boast(pp_task *task, const void *arg, size_t size)
{
    int number, by;
    CHECK_INT(size, 2 * sizeof(int));
    memcpy(&number, arg, sizeof number);
    memcpy(&by, (const char *)arg + sizeof number, sizeof by);
    if (number == 3 && shared()->words[1]++ == 0) {
        struct pp__result_side *side = result_side();
        shared()->pid[1] = getpid();
        atomic_store(&side->open, atomic_load(&side->open) + (uint64_t)(int64_t)by);
        gate_wait(1);
    }
    return task_square(task, &number, sizeof number);
}

BOTH(a_worker_that_boasts_of_results_of_elements_that_have_not_run_ends_each_of_them_once)
{
    static const int steps[] = {1, 2, 3, 8, 100, -1, -3, INT_MIN};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        int in[8][2], ended = 0;
        pp_map_result result;
        pp_map *map;
        pp_pool *pool = open_workers(1, method);
        warm_up(pool);
        shared()->words[1] = 0;
        for (int k = 0; k < 8; k++)
            memcpy(in[k], (int[]){k, steps[i]}, sizeof in[k]);
        CHECK_OK(pp_map_open_array(pool, task_boast, in, 8, sizeof *in, &(pp_map_options){.chunk_size = 8}, &map));
        while (pp_map_next(map, 50, &result) == 1)
            CHECK_INT(result.index, ended++);
        gate_open(1);
        while (pp_map_next(map, -1, &result) == 1)
            CHECK_INT(result.index, ended++);
        CHECK_INT(ended, 8);
        pp_map_close(map);
        warm_up(pool);
        pp_pool_destroy(pool);
    }
}

/* Where all takes longer, under sanitizers and valgrind, a seventh of them is run. */
static void run_all_vandals(pp_start_method method)
{
    unsigned step = harness_scale() > 1 ? 7 : 1; /* has no divisor in common with COMBINATIONS: all are among them */
    for (int workers = 1; workers <= 3; workers++)
        for (enum duration duration = ONCE; duration < DURATIONS; duration++)
            run_vandals(method, workers, duration, 10 * COMBINATIONS, step);
}

SLOW_TEST_WITHIN(garbage_of_many_seeds_under_fork, 2400)
{
    run_all_vandals(PP_START_FORK);
}

SLOW_TEST_WITHIN(garbage_of_many_seeds_under_forkserver, 2400)
{
    run_all_vandals(PP_START_FORKSERVER);
}

/* Garbage where nothing was published yet, and never a word that it is ready. */
static int init_vandal(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)size;
    shared()->words[1]++;
    vandalize(arg);
    gate_wait(0); /* which nobody opens */
    return 0;
}

BOTH(garbage_before_the_first_call_breaks_the_pool_after_a_few_workers)
{
    struct vandal vandal = {.region = MARK, .pattern = ONES, .duration = ONCE, .seed = 1};
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 1,
                                                .initializer = init_vandal,
                                                .initializer_arg = &vandal,
                                                .initializer_arg_size = sizeof vandal},
                              method);
    pp_future *future = submit_int(pool, task_square, 3);
    CHECK_HAS(error_of(future, PP_ERROR_BROKEN)->message, "garbage");
    CHECK_INT(shared()->words[1], 3);
    pp_future_unref(future);
    pp_pool_destroy(pool);
}
