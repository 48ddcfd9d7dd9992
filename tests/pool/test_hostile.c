/* SPDX-License-Identifier: MIT */
/*
 * Workers that write garbage wherever they can: into their side of the channel, into the library's descriptors. It
 * costs calls of such a worker at most, never one of another, and never the pool.
 */
#include "channel_kit.h"
#include "processes_kit.h"

#include "base/clock.h"
#include "pool/future.h"
#include "pool/workers.h"

#include <limits.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

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

#define VANDALS 4096 /* of shared()->runs: processes that wrote garbage; behind them, who ran innocent calls */

static void note_vandal(void)
{
    shared()->runs[shared()->words[0]++ % VANDALS] = (uint32_t)getpid();
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

static bool was_vandal(pid_t pid)
{
    for (int i = 0; i < VANDALS; i++)
        if (shared()->runs[i] == (uint32_t)pid)
            return true;
    return false;
}

/* Says on the board who ran it. */
static int task_innocent(pp_task *task, const void *arg, size_t size)
{
    shared()->runs[VANDALS + read_int(arg)] = (uint32_t)getpid();
    return task_square(task, arg, size);
}

/* Thread sanitizer ends a worker whose second thread races with it on purpose. */
static bool has_raced(const pp_error *error)
{
    return KIT_TSAN && error && error->kind == PP_ERROR_CRASH && error->status == 66 && was_vandal(error->pid);
}

/* The right result, unless it came, or did not come, from a worker that wrote garbage. */
static void check_innocent(pp_future *future, int index)
{
    const pp_error *error;
    int square = -1;
    CHECK_OK(pp_future_error(future, -1, &error));
    pid_t pid = error ? error->pid : (pid_t)shared()->runs[VANDALS + index];
    if (!error)
        CHECK_OK(pp_future_result(future, 0, &square, sizeof square, NULL));
    if ((error && error->kind != PP_ERROR_PROTOCOL && !has_raced(error)) ||
        (square != index * index && !was_vandal(pid)))
        harness_fail(__FILE__, __LINE__, "result %d, kind %d in pid %d: %s", square, error ? (int)error->kind : 0,
                     (int)pid, error ? error->message : "");
    pp_future_unref(future);
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

static void warm_up(pp_pool *pool)
{
    pp_future *futures[30];
    for (int i = 0; i < 30; i++)
        futures[i] = submit_int(pool, task_innocent, i);
    for (int i = 0; i < 30; i++)
        check_innocent(futures[i], i);
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

/* ---------------------------------------------------------------------------------------- its own slots, and a hang */

/* FIRST_READY: for an element whose chunk begins with the one before. */
enum lie {
    ALL_ONES,
    ALL_ZEROS,
    TAKEN,
    BEGUN,
    READY_AGAIN,
    FIRST_READY,
    ELEMENT_BEFORE,
    ELEMENT_BEFORE_TAKEN,
    AS_BEFORE,
    LIES = AS_BEFORE
};

/* What is said of this call, or element, by a lie that does not depend on what was there. */
static uint64_t lie_of(enum lie lie, uint64_t id)
{
    const uint64_t words[LIES] = {[ALL_ONES] = UINT64_MAX,
                                  [ALL_ZEROS] = 0,
                                  [TAKEN] = pp__slot_word(id, PP__SLOT_TAKEN),
                                  [BEGUN] = pp__slot_word(id, PP__SLOT_BEGUN),
                                  [READY_AGAIN] = pp__slot_word(id, PP__SLOT_READY),
                                  [FIRST_READY] = pp__slot_word(id - 1, PP__SLOT_READY),
                                  [ELEMENT_BEFORE] = pp__slot_word(id - 1, PP__SLOT_BEGUN),
                                  [ELEMENT_BEFORE_TAKEN] = pp__slot_word(id - 1, PP__SLOT_TAKEN)};
    return words[lie];
}

static uint64_t noted[PP__SLOTS];

/* For lies AS_BEFORE of the calls behind this one. */
static int task_note_slots(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    for (unsigned i = 0; i < PP__SLOTS; i++)
        noted[i] = atomic_load(&result_side()->slots[i]);
    return 0;
}

static void overwrite_slots(enum lie lie)
{
    struct pp__result_side *side = result_side();
    for (unsigned i = 0; i < PP__SLOTS; i++)
        atomic_store(&side->slots[i], lie == AS_BEFORE ? noted[i] : lie_of(lie, atomic_load(&side->slots[i]) >> 2));
}

/* A worker whose next calls get slots in which there was none before, or each was used, and says so. */
enum slots { FRESH, USED };

static pp_pool *open_with_slots(pp_start_method method, enum slots slots)
{
    pp_pool *pool = open_workers(1, method);
    warm_up(pool);
    for (unsigned i = 0; slots == USED && i < PP__SLOTS; i += 30)
        warm_up(pool);
    if (slots == USED)
        expect_end(submit(pool, task_note_slots, NULL, 0), 0);
    return pool;
}

struct liar {
    enum lie lie;
    bool stops;
    int run; /* the word that grows at each begin */
};

/* Lies and never ends, at the first try. */
static int task_lie(pp_task *task, const void *arg, size_t size)
{
    struct liar liar;
    CHECK_INT(size, sizeof liar);
    memcpy(&liar, arg, sizeof liar);
    if (shared()->words[liar.run]++ > 0)
        return task_pid(task, NULL, 0);
    shared()->pid[liar.run] = getpid();
    overwrite_slots(liar.lie);
    if (liar.stops)
        raise(SIGSTOP);
    for (;;)
        pause();
}

static pp_future *submit_liar(pp_pool *pool, struct liar liar)
{
    pp_future *future;
    const pp_call call = {.function = task_lie, .arg = &liar, .size = sizeof liar, .timeout = 100 * harness_scale()};
    CHECK_OK(pp_submit_call(pool, &call, &future));
    return future;
}

static void lie_and_hang_in(pp_start_method method, enum lie lie, enum slots slots)
{
    int run = 1 + (int)slots;
    pp_pool *pool = open_with_slots(method, slots);
    pp_future *bad = submit_liar(pool, (struct liar){.lie = lie, .run = run});
    const pp_error *error;
    CHECK_OK(pp_future_wait(bad, 5000 * (int)harness_scale()));
    CHECK_OK(pp_future_error(bad, 0, &error));
    CHECK(error && (error->kind == PP_ERROR_TIMEOUT || error->kind == PP_ERROR_PROTOCOL));
    CHECK_INT(error->pid, shared()->pid[run]);
    CHECK(!test_process_alive(shared()->pid[run]));
    pp_future_unref(bad);
    warm_up(pool);
    CHECK_INT(shared()->words[run], 1);
    pp_pool_destroy(pool);
}

static void lie_and_hang(pp_start_method method, enum lie lie)
{
    for (enum slots slots = FRESH; slots <= USED; slots++)
        lie_and_hang_in(method, lie, slots);
}

BOTH(a_worker_that_fills_its_slots_with_ones_and_hangs_is_killed_at_the_calls_timeout)
{
    lie_and_hang(method, ALL_ONES);
}

BOTH(a_worker_that_clears_its_slots_and_hangs_is_killed_at_the_calls_timeout)
{
    lie_and_hang(method, ALL_ZEROS);
}

BOTH(a_worker_that_says_its_call_was_taken_back_and_hangs_is_killed_at_the_calls_timeout)
{
    lie_and_hang(method, TAKEN);
}

/* In a slot that was used the owner does not say so: that it has not begun looks otherwise. */
BOTH(a_worker_that_says_its_call_was_just_given_to_it_and_hangs_is_killed_at_the_calls_timeout)
{
    lie_and_hang_in(method, READY_AGAIN, USED);
}

/* What neither side can have written there. It hangs, and its call has all the time that it wants. */
BOTH(a_running_call_whose_slot_is_of_another_costs_its_worker)
{
    static const enum lie lies[] = {ALL_ONES, ALL_ZEROS, ELEMENT_BEFORE, ELEMENT_BEFORE_TAKEN};
    for (int i = 0; i < 4; i++) {
        for (enum slots slots = FRESH; slots <= USED; slots++) {
            int run = 1 + 2 * i + (int)slots;
            const struct liar liar = {.lie = lies[i], .run = run};
            pp_pool *pool = open_with_slots(method, slots);
            pp_future *bad = submit(pool, task_lie, &liar, sizeof liar);
            const pp_error *error = error_of(bad, PP_ERROR_PROTOCOL);
            CHECK_HAS(error->message, "a slot of no call that it has");
            CHECK_INT(error->pid, shared()->pid[run]);
            pp_future_unref(bad);
            warm_up(pool);
            CHECK_INT(shared()->words[run], 1);
            pp_pool_destroy(pool);
        }
    }
}

/* Lies of itself alone, and goes on. */
static int task_lie_and_return(pp_task *task, const void *arg, size_t size)
{
    uint64_t id = pp_task_id(task);
    atomic_store(&result_side()->slots[slot_of(id)], lie_of((enum lie)read_int(arg), id));
    return task_pid(task, NULL, size);
}

/* Who says how a call ended had to begin it. */
BOTH(a_result_counts_whatever_its_slot_says)
{
    for (enum slots slots = FRESH; slots <= USED; slots++) {
        pp_pool *pool = open_with_slots(method, slots);
        pid_t pid = pid_of(pool);
        for (int lie = ALL_ONES; lie < LIES; lie++)
            CHECK_INT(take_int(submit_int(pool, task_lie_and_return, lie)), pid);
        warm_up(pool);
        CHECK_INT(pid_of(pool), pid);
        pp_pool_destroy(pool);
    }
}

/* Only those with a run of their own lie. */
static int task_may_lie(pp_task *task, const void *arg, size_t size)
{
    struct liar liar;
    CHECK_INT(size, sizeof liar);
    memcpy(&liar, arg, sizeof liar);
    return liar.run ? task_lie(task, arg, size) : task_pid(task, NULL, 0);
}

enum { CHUNK = 6, LYING = 1, MOST_RUNS = 8 };

/* A chunk, one element of which lies; for a pool whose ids are far from 0. */
static pp_map *open_lying_chunk(pp_pool *pool, enum lie lie, int run, unsigned timeout)
{
    static struct liar liars[MOST_RUNS][CHUNK];
    const pp_map_options options = {.chunk_size = CHUNK, .timeout = timeout * harness_scale()};
    pp_map *map;
    CHECK(run <= MOST_RUNS);
    liars[run - 1][LYING] = (struct liar){.lie = lie, .run = run};
    CHECK_OK(pp_map_open_array(pool, task_may_lie, liars[run - 1], CHUNK, sizeof **liars, &options, &map));
    return map;
}

static void lie_in_a_chunk(pp_start_method method, enum lie lie)
{
    pp_map_result result;
    for (enum slots slots = FRESH; slots <= USED; slots++) {
        int run = 1 + (int)slots;
        pp_pool *pool = open_with_slots(method, slots);
        pp_map *map = open_lying_chunk(pool, lie, run, 300);
        for (int i = 0; i < CHUNK; i++) {
            CHECK_INT(pp_map_next(map, 5000 * (int)harness_scale(), &result), 1);
            if (i == LYING)
                CHECK(result.code == -ETIME || result.code == -EPROTO);
            else
                CHECK_INT(result.code, 0);
        }
        pp_map_close(map);
        CHECK(!test_process_alive(shared()->pid[run]));
        CHECK_INT(shared()->words[run], 1);
        pp_pool_destroy(pool);
    }
}

BOTH(a_worker_that_fills_its_slots_with_ones_in_a_chunk_and_hangs_is_killed_at_the_elements_timeout)
{
    lie_in_a_chunk(method, ALL_ONES);
}

BOTH(a_worker_that_clears_its_slots_in_a_chunk_and_hangs_is_killed_at_the_elements_timeout)
{
    lie_in_a_chunk(method, ALL_ZEROS);
}

BOTH(a_worker_that_says_the_element_before_was_taken_back_and_hangs_is_killed_at_the_elements_timeout)
{
    lie_in_a_chunk(method, ELEMENT_BEFORE_TAKEN);
}

BOTH(a_worker_that_says_its_element_was_taken_back_and_hangs_is_killed_at_the_elements_timeout)
{
    lie_in_a_chunk(method, TAKEN);
}

BOTH(a_worker_that_says_its_element_was_just_given_to_it_and_hangs_is_killed_at_the_elements_timeout)
{
    lie_in_a_chunk(method, READY_AGAIN);
}

BOTH(a_running_element_whose_slot_is_of_another_costs_its_worker)
{
    pp_map_result result;
    for (enum lie lie = ALL_ONES; lie <= ALL_ZEROS; lie++) {
        for (enum slots slots = FRESH; slots <= USED; slots++) {
            int run = 1 + 2 * (int)lie + (int)slots;
            pp_pool *pool = open_with_slots(method, slots);
            pp_map *map = open_lying_chunk(pool, lie, run, 0);
            for (int i = 0; i < CHUNK; i++) {
                CHECK_INT(pp_map_next(map, 5000 * (int)harness_scale(), &result), 1);
                CHECK_INT(result.code, i == LYING ? -EPROTO : 0);
                if (i == LYING)
                    CHECK_HAS(result.error->message, "a slot of no call that it has");
            }
            pp_map_close(map);
            CHECK_INT(shared()->words[run], 1);
            pp_pool_destroy(pool);
        }
    }
}

/* It looks as if it had never begun: so nobody can tell it from one that is stopped, and it has the time that those
 * have. */
BOTH_WITHIN(a_worker_that_says_it_has_not_begun_and_never_goes_on_loses_call_and_place, 20)
{
    pp_pool *pools[4];
    pp_future *futures[4];
    for (int i = 0; i < 4; i++) {
        enum slots slots = i / 2 ? USED : FRESH;
        pools[i] = open_with_slots(method, slots);
        futures[i] = submit_liar(
            pools[i],
            (struct liar){.lie = slots == FRESH ? READY_AGAIN : AS_BEFORE, .stops = i % 2 == 1, .run = 1 + i});
    }
    for (int i = 0; i < 4; i++) {
        CHECK_OK(pp_future_wait(futures[i], 10000 * (int)harness_scale()));
        CHECK(take_int(futures[i]) != shared()->pid[1 + i]);
        CHECK(!test_process_alive(shared()->pid[1 + i]));
        CHECK_INT(shared()->words[1 + i], 2);
        pp_pool_destroy(pools[i]);
    }
}

/* The same in a chunk, of which it says that it has not begun it, or that it is still at the element before. */
BOTH_WITHIN(a_worker_that_says_it_has_not_begun_an_element_and_never_goes_on_loses_chunk_and_place, 20)
{
    static const struct {
        enum lie lie;
        enum slots slots;
    } cases[] = {{FIRST_READY, FRESH}, {ELEMENT_BEFORE, FRESH}, {AS_BEFORE, USED}, {ELEMENT_BEFORE, USED}};
    pp_map_result result;
    pp_pool *pools[4];
    pp_map *maps[4];
    for (int i = 0; i < 4; i++) {
        pools[i] = open_with_slots(method, cases[i].slots);
        maps[i] = open_lying_chunk(pools[i], cases[i].lie, 1 + i, 300);
        CHECK_INT(pp_map_next(maps[i], -1, &result), 1); /* and what is behind is sent */
    }
    for (int i = 0; i < 4; i++) {
        for (int k = 1; k < CHUNK; k++) {
            CHECK_INT(pp_map_next(maps[i], 10000 * (int)harness_scale(), &result), 1);
            CHECK_INT(result.code, 0);
        }
        CHECK(!test_process_alive(shared()->pid[1 + i]));
        CHECK_INT(shared()->words[1 + i], 2);
        pp_map_close(maps[i]);
        pp_pool_destroy(pools[i]);
    }
}

/* ------------------------------------------------------------------------------------ slots of calls that wait */

enum { WAITING = 5, RUNNING_GATE = 2 };

/* Says on the board how often it ran. */
static int task_tally(pp_task *task, const void *arg, size_t size)
{
    (void)size;
    shared()->number[read_int(arg)]++;
    return task_pid(task, NULL, 0);
}

/* Calls that the only worker has behind one that waits at the gate, under the pool's lock from here on. Now and then it
 * has been waiting for too long for others to be sent. */
static struct pp__worker *queue_and_lock(pp_pool *pool, int count, pp_future **running, pp_future **waiting)
{
    for (;;) {
        shared()->gates[RUNNING_GATE] = 0;
        pp__pool_lock(pool);
        pool->mean_run = 250000; /* so many fit */
        pp__pool_unlock(pool);
        *running = submit_int(pool, task_gate, RUNNING_GATE);
        for (int i = 0; i < count; i++)
            waiting[i] = submit_int(pool, task_tally, i);
        pp__pool_lock(pool);
        struct pp__worker *worker = pool->workers[0];
        if (worker && worker->count == (uint32_t)count + 1)
            return worker;
        pp__pool_unlock(pool);
        gate_open(RUNNING_GATE);
        CHECK(take_int(*running) > 0);
        for (int i = 0; i < count; i++)
            CHECK(take_int(waiting[i]) > 0);
        memset(shared()->number, 0, sizeof shared()->number);
    }
}

static void overwrite_waiting(struct pp__worker *worker, enum lie lie)
{
    for (struct pp__link *link = worker->items.next->next; link != &worker->items; link = link->next) {
        const struct pp__item *item = pp__container(link, struct pp__item, link);
        atomic_store(&worker->result_side->slots[item->slot], lie_of(lie, item->id));
    }
}

static void lie_of_waiting(pp_pool *pool, enum lie lie)
{
    pp_future *running, *waiting[WAITING];
    struct pp__worker *worker = queue_and_lock(pool, WAITING, &running, waiting);
    struct pp__item *last = pp__container(worker->items.previous, struct pp__item, link);
    uint64_t end = worker->slots[last->slot].end;
    overwrite_waiting(worker, lie);
    for (int i = 0; i < WAITING; i++)
        CHECK_INT(pp__future_cancel(waiting[i]), -EBUSY); /* it may have begun */
    gate_open(RUNNING_GATE);
    wait_until(pp__ring_passed(&worker->calls, end), 10); /* before the timers look */
    pp__pool_unlock(pool);
    pid_t pid = take_int(running);
    for (int i = 0; i < WAITING; i++) {
        CHECK_INT(take_int(waiting[i]), pid);
        CHECK_INT(shared()->number[i], 1);
        shared()->number[i] = 0;
    }
    CHECK_INT(pid_of(pool), pid);
}

/* They are its worker's, which is honest from then on. */
BOTH(calls_whose_slots_were_overwritten_before_they_began_run_all_the_same)
{
    static const enum lie lies[] = {ALL_ONES, ALL_ZEROS, BEGUN, READY_AGAIN, ELEMENT_BEFORE};
    for (enum slots slots = FRESH; slots <= USED; slots++) {
        pp_pool *pool = open_with_slots(method, slots);
        for (size_t i = 0; i < sizeof lies / sizeof *lies; i++)
            if (slots == USED || lies[i] != READY_AGAIN) /* which would be no lie */
                lie_of_waiting(pool, lies[i]);
        pp_pool_destroy(pool);
    }
}

/* Nothing else keeps a worker from beginning. */
BOTH(a_call_that_only_its_worker_says_was_taken_back_costs_the_worker)
{
    for (int i = 0; i < 4; i++) {
        pp_future *running, *waiting;
        pp_pool *pool = open_with_slots(method, i / 2 == 0 ? FRESH : USED);
        struct pp__worker *worker = queue_and_lock(pool, 1, &running, &waiting);
        overwrite_waiting(worker, i % 2 == 0 ? TAKEN : ELEMENT_BEFORE_TAKEN);
        pp__pool_unlock(pool);
        gate_open(RUNNING_GATE);
        pid_t pid = take_int(running);
        const pp_error *error = error_of(waiting, PP_ERROR_PROTOCOL);
        CHECK_HAS(error->message, "it passed over a call");
        CHECK_INT(error->pid, pid);
        CHECK_INT(shared()->number[0], 0);
        pp_future_unref(waiting);
        CHECK(pid_of(pool) != pid);
        pp_pool_destroy(pool);
    }
}

/* A call that its worker has, which is stopped; under the pool's lock from here on. */
static struct pp__worker *stop_and_lock(pp_pool *pool, pp_future **waiting)
{
    pid_t pid = pid_of(pool);
    CHECK_INT(kill(pid, SIGSTOP), 0);
    until(test_process_state(pid, NULL, NULL) == 'T');
    *waiting = submit_int(pool, task_tally, 0);
    pp__pool_lock(pool);
    struct pp__worker *worker = pool->workers[0];
    CHECK_INT(worker->pid, pid);
    CHECK_INT(worker->count, 1);
    return worker;
}

/* Nobody can tell then that it has not begun. */
BOTH(a_call_whose_slot_was_overwritten_and_that_never_begins_costs_the_worker)
{
    for (enum slots slots = FRESH; slots <= USED; slots++) {
        pp_future *waiting;
        pp_pool *pool = open_with_slots(method, slots);
        struct pp__worker *worker = stop_and_lock(pool, &waiting);
        pid_t pid = worker->pid;
        const struct pp__item *item = pp__container(worker->items.next, struct pp__item, link);
        atomic_store(&worker->result_side->slots[item->slot], lie_of(ALL_ONES, item->id));
        pp__pool_unlock(pool);
        const pp_error *error = error_of(waiting, PP_ERROR_PROTOCOL);
        CHECK_HAS(error->message, "a slot of no call that it has");
        CHECK_INT(error->pid, pid);
        CHECK_INT(shared()->number[0], 0);
        pp_future_unref(waiting);
        CHECK(pid_of(pool) != pid);
        pp_pool_destroy(pool);
    }
}

/* For longer than any lie about it is believed. */
BOTH(a_call_that_does_not_begin_for_a_while_costs_nothing)
{
    for (enum slots slots = FRESH; slots <= USED; slots++) {
        pp_future *waiting;
        pp_pool *pool = open_with_slots(method, slots);
        pid_t pid = stop_and_lock(pool, &waiting)->pid;
        pp__pool_unlock(pool);
        CHECK_INT(pp_future_wait(waiting, 300), -ETIMEDOUT);
        CHECK_INT(pp_future_state(waiting), PP_PENDING);
        CHECK_INT(kill(pid, SIGCONT), 0);
        CHECK_INT(take_int(waiting), pid);
        pp_pool_destroy(pool);
    }
}

/* ------------------------------------------------------------------------------------------- descriptors */

enum mischief { SEND_SOME, SEND_UNTIL_FULL, TAKE_ALL, SHUT_DOWN, CLOSE_SOCKET, FILL_EVENTS, EMPTY_EVENTS, MISCHIEFS };

static bool is_socket(int fd)
{
    int type;
    socklen_t size = sizeof type;
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0;
}

static void harm_socket(int fd, enum mischief mischief)
{
    char junk[200] = "junk";
    if (mischief == SEND_SOME)
        for (int i = 0; i < 5; i++)
            send(fd, junk, (size_t)(1 + i * 40), MSG_DONTWAIT | MSG_NOSIGNAL);
    while (mischief == SEND_UNTIL_FULL && send(fd, junk, sizeof junk, MSG_DONTWAIT | MSG_NOSIGNAL) > 0) {
    }
    while (mischief == TAKE_ALL && recv(fd, junk, sizeof junk, MSG_DONTWAIT) > 0) {
    }
    if (mischief == SHUT_DOWN)
        shutdown(fd, SHUT_RDWR);
    if (mischief == CLOSE_SOCKET)
        close(fd);
}

static void harm_events(int fd, enum mischief mischief)
{
    uint64_t most = UINT64_MAX - 1;
    if (mischief == FILL_EVENTS)
        CHECK(write(fd, &most, sizeof most) > 0 || errno == EAGAIN);
    if (mischief == EMPTY_EVENTS)
        CHECK(read(fd, &most, sizeof most) > 0 || errno == EAGAIN);
}

/* Whatever lies at 200 and above is the library's. Returns how many there are. */
static int task_harm_descriptors(pp_task *task, const void *arg, size_t size)
{
    enum mischief mischief;
    int count = 0;
    note_vandal();
    CHECK_INT(size, sizeof mischief);
    memcpy(&mischief, arg, size);
    for (int fd = 200; fd < 1000; fd++) {
        if (fcntl(fd, F_GETFD) < 0)
            continue;
        count++;
        if (is_socket(fd))
            harm_socket(fd, mischief);
        else
            harm_events(fd, mischief);
    }
    return pp_task_return(task, &count, sizeof count);
}

#define LARGE 200000

/* A large argument and a large result go through the socket. */
static pp_future *submit_large(pp_pool *pool, int index)
{
    static char data[LARGE];
    memset(data, index, sizeof data);
    return submit(pool, echo, data, sizeof data);
}

/* True if it succeeded, with the right result; it fails only in a worker whose descriptors were harmed. */
static bool check_large(pp_future *future, int index)
{
    const pp_error *error;
    const void *data;
    size_t size;
    CHECK_OK(pp_future_error(future, -1, &error));
    if (error) {
        CHECK_INT(error->tries, 1);
        if (!was_vandal(error->pid))
            harness_fail(__FILE__, __LINE__, "kind %d: %s", (int)error->kind, error->message);
        pp_future_unref(future);
        return false;
    }
    CHECK_OK(pp_future_view(future, 0, &data, &size));
    CHECK_INT(size, LARGE);
    for (size_t i = 0; i < size; i += 1000)
        CHECK_INT(((const char *)data)[i], index);
    pp_future_unref(future);
    return true;
}

/*
 * Harm, then large calls, many at once and one by one: each ends, and a harmed worker fails the first one for which it
 * needs what was harmed, at the latest. With a buffer for each call it needs no socket, and may have none from the last
 * time.
 */
static void run_mischief(pp_pool *pool, enum mischief mischief, int workers)
{
    pp_future *futures[20];
    int failed = 0;
    pp_future *bad = submit(pool, task_harm_descriptors, &mischief, sizeof mischief);
    for (int i = 0; i < 20; i++)
        futures[i] = submit_large(pool, i);
    int found = take_int(bad);
    CHECK(found == 2 || found == 1);
    for (int i = 0; i < 20; i++)
        check_large(futures[i], i);
    for (int i = 0; i < 10; i++)
        failed += !check_large(submit_large(pool, i), i);
    CHECK(failed <= workers);
    for (int i = 0; i < 20; i++)
        CHECK_INT(take_int(submit_int(pool, task_square, i)), i * i);
}

BOTH_WITHIN(junk_in_the_librarys_descriptors_costs_few_calls, 30)
{
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 1, .close_fds = 1}, method);
    for (enum mischief mischief = 0; mischief < MISCHIEFS; mischief++) {
        printf("mischief %d\n", (int)mischief);
        fflush(stdout);
        for (int i = 0; i < 5; i++)
            run_mischief(pool, mischief, 1);
    }
    pp_pool_destroy(pool);
}

BOTH_WITHIN(junk_in_one_workers_descriptors_leaves_the_others_alone, 30)
{
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 3, .close_fds = 1}, method);
    for (int i = 0; i < 3 * MISCHIEFS; i++)
        run_mischief(pool, (enum mischief)(i % MISCHIEFS), 3);
    pp_pool_destroy(pool);
}

/* ----------------------------------------------------------------------------------------- buffers it has not */

struct forgery {
    uint32_t flags;
    uint64_t size;
};

/* Publishes a result that says where it lies, and waits for what comes of it. */
static int task_forge(pp_task *task, const void *arg, size_t size)
{
    struct forgery forgery;
    uint64_t id = pp_task_id(task);
    CHECK_INT(size, sizeof forgery);
    memcpy(&forgery, arg, size);
    const struct pp__result_record result = {
        .slot = slot_of(id), .type = PP__OUTCOME_RESULT, .flags = forgery.flags, .size = forgery.size};
    forge_result(id, &result, NULL, 0);
    pause_for_ever();
}

static pp_future *submit_size(pp_pool *pool, size_t size)
{
    void *data = calloc(1, size);
    pp_future *future = submit(pool, echo, data, size);
    free(data);
    CHECK_OK(pp_future_wait(future, -1));
    return future;
}

/* One is shown to the user all the time, in place 0; what was in place 1 has come back. */
BOTH(a_result_in_a_buffer_that_its_worker_has_not_costs_the_worker)
{
    static const struct forgery forgeries[] = {
        {PP__BIG | PP__KEPT | 0 << PP__PLACE_SHIFT, 1000},
        {PP__BIG | PP__KEPT | 0 << PP__PLACE_SHIFT, 1 << 20},
        {PP__BIG | PP__KEPT | PP__FRESH | 0 << PP__PLACE_SHIFT, 1000},
        {PP__BIG | PP__KEPT | PP__FRESH | 1 << PP__PLACE_SHIFT, 1000},
        {PP__BIG | PP__KEPT | 1 << PP__PLACE_SHIFT, 1 << 30},
        {PP__BIG | PP__KEPT | 1 << PP__PLACE_SHIFT, UINT64_MAX},
        {PP__BIG | PP__KEPT | 2 << PP__PLACE_SHIFT, 1000},
        {PP__BIG | PP__KEPT | PP__PLACES << PP__PLACE_SHIFT, 1000},
        {PP__BIG | PP__KEPT | UINT32_MAX << PP__PLACE_SHIFT, 1000},
        {PP__BIG | PP__KEPT | PP__FRESH | UINT32_MAX << PP__PLACE_SHIFT, 1000},
        {PP__BIG, 1 << 20},
    };
    pp_pool *pool = open_workers(1, method);
    for (size_t i = 0; i < sizeof forgeries / sizeof *forgeries; i++) {
        const void *data;
        size_t size;
        pp_future *shown = submit_size(pool, 1 << 20);
        pp_future_unref(submit_size(pool, 2 << 20));
        drop_failed(submit(pool, task_forge, &forgeries[i], sizeof forgeries[i]), PP_ERROR_PROTOCOL);
        CHECK_INT(take_int(submit_int(pool, task_square, 7)), 49);
        CHECK_OK(pp_future_view(shown, 0, &data, &size));
        CHECK_INT(size, 1 << 20);
        CHECK_INT(((const char *)data)[size - 1], 0);
        pp_future_unref(shown);
    }
    pp_pool_destroy(pool);
}

/* --------------------------------------------------------------------------------------- records that can't be */

/* Publishes a result that takes as much as its mark says. */
static int task_forge_mark(pp_task *task, const void *arg, size_t size)
{
    uint32_t mark;
    struct pp__header *header = next_header();
    CHECK_INT(size, sizeof mark);
    memcpy(&mark, arg, size);
    const struct pp__result_record result = {
        .slot = slot_of(pp_task_id(task)), .type = PP__OUTCOME_RESULT, .size = mark - 1 - sizeof result};
    header->type = PP__RECORD_RESULT;
    header->id = pp_task_id(task);
    memcpy(header + 1, &result, sizeof result);
    atomic_store(&header->mark, mark);
    pause_for_ever();
}

BOTH(a_result_that_is_larger_than_any_record_costs_the_worker)
{
    static const uint32_t marks[] = {PP__RING_BYTES / 2, PP__RING_BYTES, UINT32_MAX - 64, UINT32_MAX - 16, UINT32_MAX};
    pp_pool *pool = open_workers(1, method);
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++) {
        pp_future *future = submit(pool, task_forge_mark, &marks[i], sizeof marks[i]);
        CHECK_HAS(error_of(future, PP_ERROR_PROTOCOL)->message, "a broken ring");
        pp_future_unref(future);
        CHECK_INT(take_int(submit_int(pool, task_square, 7)), 49);
    }
    pp_pool_destroy(pool);
}

/* Publishes a large result behind the library's back, and when that was taken a small one as all do. */
static int task_forge_and_go_on(pp_task *task, const void *arg, size_t size)
{
    static const char data[900];
    const struct pp__result_record result = {
        .slot = slot_of(pp_task_id(task)), .type = PP__OUTCOME_RESULT, .size = sizeof data};
    uint64_t tail = atomic_load(&result_side()->result_tail);
    (void)arg, (void)size;
    forge_result(pp_task_id(task), &result, data, sizeof data);
    while (atomic_load(&call_side()->result_head) <= tail)
        test_sleep_ms(1);
    return task_pid(task, NULL, 0);
}

/* The owner looks for the next one far behind where it will be. A worker whose output is captured looks where that is.
 */
static void misplace_results(pp_pool *pool)
{
    for (int i = 0; i < 5; i++) {
        const void *data;
        size_t size;
        pid_t pid = pid_of(pool);
        pp_future *future = submit(pool, task_forge_and_go_on, NULL, 0);
        CHECK_OK(pp_future_view(future, -1, &data, &size));
        CHECK_INT(size, 900);
        pp_future_unref(future);
        const pp_error *error;
        future = submit(pool, task_pid, NULL, 0);
        CHECK_OK(pp_future_error(future, -1, &error));
        if (error) {
            CHECK_INT(error->kind, PP_ERROR_PROTOCOL);
            CHECK_INT(error->pid, pid);
            pp_future_unref(future);
        } else {
            CHECK(take_int(future) != pid); /* it was found out before */
        }
    }
    CHECK_INT(take_int(submit_int(pool, task_square, 7)), 49);
    pp_pool_destroy(pool);
}

BOTH(a_worker_whose_results_lie_where_nobody_looks_is_found_out_by_its_next_call)
{
    misplace_results(open_workers(1, method));
    misplace_results(open_pool((pp_pool_options){.max_workers = 1, .capture = PP_STDOUT}, method));
}

/* Each result is a record of its own, and together they are more than a ring holds. */
enum { SPOILT_ELEMENTS = 120, SPOILT_SIZE = 2000 };

static int return_large(pp_task *task, int number)
{
    static char data[SPOILT_SIZE];
    memcpy(data, &number, sizeof number);
    return pp_task_return(task, data, sizeof data);
}

/* Element 1's first try: what the owner then takes for its result makes it look where others will lie. */
static int task_forge_in_a_chunk(pp_task *task, const void *arg, size_t size)
{
    static const char data[500];
    int number;
    CHECK_INT(size, sizeof number);
    memcpy(&number, arg, size);
    if (number == 1 && shared()->words[1]++ == 0) {
        uint64_t tail = atomic_load(&result_side()->result_tail);
        wait_until(atomic_load(&call_side()->result_head) == tail, 10);
        const struct pp__result_record result = {
            .slot = slot_of(pp_task_id(task)), .type = PP__OUTCOME_RESULT, .size = sizeof data};
        forge_result(pp_task_id(task), &result, data, sizeof data);
        wait_until(atomic_load(&call_side()->result_head) > tail, 10);
    }
    return return_large(task, number);
}

/* Element 1 takes element 0's result away, if it was not read yet. */
static int task_erase_in_a_chunk(pp_task *task, const void *arg, size_t size)
{
    int number;
    CHECK_INT(size, sizeof number);
    memcpy(&number, arg, size);
    if (number == 0)
        test_sleep_ms(20); /* so that nobody looks at just this moment */
    if (number == 1 && shared()->words[1]++ == 0 &&
        atomic_load(&call_side()->result_head) != atomic_load(&result_side()->result_tail))
        atomic_store(&header_at(atomic_load(&call_side()->result_head))->mark, 0);
    return return_large(task, number);
}

static void spoil_a_chunk(pp_start_method method, pp_function *spoil)
{
    int numbers[SPOILT_ELEMENTS], ended = 0;
    const pp_map_options options = {.chunk_size = SPOILT_ELEMENTS, .max_in_flight = SPOILT_ELEMENTS};
    pp_map_result result;
    pp_map *map;
    pp_pool *pool = open_workers(1, method);
    warm_up(pool);
    for (int i = 0; i < SPOILT_ELEMENTS; i++)
        numbers[i] = i;
    CHECK_OK(pp_map_open_array(pool, spoil, numbers, SPOILT_ELEMENTS, sizeof *numbers, &options, &map));
    int code;
    while ((code = pp_map_next(map, 10000 * (int)harness_scale(), &result)) == 1) {
        CHECK(result.code == 0 || result.code == -EPROTO);
        ended++;
    }
    CHECK_INT(code, 0);
    CHECK_INT(ended, SPOILT_ELEMENTS);
    pp_map_close(map);
    CHECK_INT(take_int(submit_int(pool, task_square, 7)), 49);
    pp_pool_destroy(pool);
}

BOTH_WITHIN(a_worker_whose_results_lie_where_nobody_looks_is_found_out_in_a_chunk, 60)
{
    spoil_a_chunk(method, task_forge_in_a_chunk);
}

BOTH_WITHIN(a_result_that_was_erased_is_missed_in_a_chunk, 60)
{
    spoil_a_chunk(method, task_erase_in_a_chunk);
}

static void *erase_the_first_mark(void *unused)
{
    uint64_t begun = pp__now();
    while (pp__now() - begun < 200 * PP__MILLISECOND)
        atomic_store_explicit(&header_at(0)->mark, 0, memory_order_relaxed);
    return unused;
}

/* The first worker's thread erases that it is ready. */
static int init_erasing(pp_task *task, const void *arg, size_t size)
{
    pthread_t thread;
    (void)task, (void)arg, (void)size;
    if (shared()->words[1]++ == 0) {
        CHECK_INT(pthread_create(&thread, NULL, erase_the_first_mark, NULL), 0);
        test_sleep_ms(20);
    }
    return 0;
}

BOTH(a_worker_whose_word_that_it_is_ready_was_erased_is_replaced)
{
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 1, .initializer = init_erasing}, method);
    CHECK_INT(take_int(submit_int(pool, task_square, 3)), 9);
    pp_pool_destroy(pool);
}
