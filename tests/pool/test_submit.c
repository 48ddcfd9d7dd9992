/* SPDX-License-Identifier: MIT */
/* Submitting: order, ids, what a task knows of itself, how many workers there are, and what the log tells. */
#include "call_kit.h"

#include "lost_kit.h"

enum { BEGUN, GATE, RUNS, SEQUENCE, STARTED, FIRST_CALL = 1024 };

/* ---------------------------------------------------------------------------------------------- order */

/* Writes down when it began, as a number. */
static int note_turn(pp_task *task, const void *arg, size_t size)
{
    uint32_t call;
    (void)task;
    CHECK(size >= sizeof call);
    memcpy(&call, arg, sizeof call);
    atomic_store(word(FIRST_CALL + call), atomic_fetch_add(word(SEQUENCE), 1));
    return 0;
}

static void submit_turns(pp_pool *pool, uint32_t first, uint32_t count, size_t largest)
{
    char *argument = calloc(1, largest);
    for (uint32_t i = first; i < first + count; i++) {
        memcpy(argument, &i, sizeof i);
        size_t size = i % 7 == 0 ? largest : sizeof i;
        CHECK_OK(pp_submit(pool, note_turn, argument, size, NULL));
    }
    free(argument);
}

/* Calls that wait in the queue, and calls that come while others run; small ones, and ones that travel outside the
 * ring. */
BOTH(one_worker_begins_calls_in_the_order_of_their_submits)
{
    enum { CALLS = 2000 };
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    pp_future *running;
    occupy(pool, BEGUN, GATE, 1, &running);
    submit_turns(pool, 0, CALLS / 2, 40000);
    open_gate(GATE);
    submit_turns(pool, CALLS / 2, CALLS / 2, 40000);
    pp_future_unref(running);
    pp_pool_destroy(pool);
    CHECK_INT(read_word(SEQUENCE), CALLS);
    for (uint32_t i = 0; i < CALLS; i++)
        CHECK_INT(read_word(FIRST_CALL + i), i);
}

struct submitter {
    pp_pool *pool;
    uint64_t ids[500];
};

static void *submit_and_note_ids(void *argument)
{
    struct submitter *me = argument;
    for (int i = 0; i < 500; i++) {
        pp_future *future = submit(me->pool, nothing, NULL, 0);
        me->ids[i] = pp_future_id(future);
        pp_future_unref(future);
    }
    return NULL;
}

static int by_value(const void *left, const void *right)
{
    const uint64_t *l = left, *r = right;
    return (*l > *r) - (*l < *r);
}

BOTH(ids_grow_in_each_thread_and_are_unique_in_all)
{
    pp_pool *pool = kit_pool(method, 2);
    static struct submitter submitters[4];
    static uint64_t all[2000];
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        submitters[i].pool = pool;
        threads[i] = start_thread(submit_and_note_ids, &submitters[i]);
    }
    for (int i = 0; i < 4; i++) {
        join_thread(threads[i]);
        for (int j = 1; j < 500; j++)
            CHECK(submitters[i].ids[j] > submitters[i].ids[j - 1]);
        memcpy(all + 500 * i, submitters[i].ids, sizeof submitters[i].ids);
    }
    qsort(all, 2000, sizeof *all, by_value);
    for (int i = 1; i < 2000; i++)
        CHECK(all[i] != all[i - 1]);
    pp_pool_destroy(pool);
}

BOTH(the_argument_is_copied_before_the_submit_returns)
{
    static const size_t sizes[] = {4, 1000, 16384, 100000, 3 << 20};
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    pp_future *running, *futures[5];
    occupy(pool, BEGUN, GATE, 1, &running);
    char *argument = malloc(3 << 20);
    for (int i = 0; i < 5; i++) {
        memset(argument, 'a' + i, sizes[i]);
        futures[i] = submit(pool, echo, argument, sizes[i]);
        memset(argument, 'z', sizes[i]);
    }
    free(argument);
    open_gate(GATE);
    for (int i = 0; i < 5; i++) {
        const char *data;
        size_t size;
        CHECK_OK(pp_future_view(futures[i], -1, (const void **)&data, &size));
        CHECK(size == sizes[i] && data[0] == 'a' + i && memcmp(data, data + 1, size - 1) == 0);
        pp_future_unref(futures[i]);
    }
    pp_future_unref(running);
    pp_pool_destroy(pool);
}

/* ----------------------------------------------------------------------------------------- submit_many */

BOTH(many_calls_are_submitted_in_order)
{
    enum { CALLS = 500 };
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    static uint32_t arguments[CALLS];
    static pp_call calls[CALLS];
    static pp_future *futures[CALLS];
    for (uint32_t i = 0; i < CALLS; i++) {
        arguments[i] = i;
        calls[i] = (pp_call){.function = note_turn, .arg = &arguments[i], .size = sizeof arguments[i]};
    }
    CHECK_INT(pp_submit_many(pool, calls, CALLS, futures), CALLS);
    for (uint32_t i = 1; i < CALLS; i++)
        CHECK(pp_future_id(futures[i]) > pp_future_id(futures[i - 1]));
    for (uint32_t i = 0; i < CALLS; i++) {
        expect_end(futures[i], 0);
        CHECK_INT(read_word(FIRST_CALL + i), i);
    }
    CHECK_INT(pp_submit_many(pool, calls, CALLS, NULL), CALLS);
    CHECK_INT(pp_submit_many(pool, NULL, 0, NULL), 0);
    CHECK_INT(pp_submit_many(pool, calls, 0, futures), 0);
    pp_pool_destroy(pool);
    CHECK_INT(read_word(SEQUENCE), 2 * CALLS);
}

/* A function of which the pool has not heard before note_turn ran. */
static int note_turn_too(pp_task *task, const void *arg, size_t size)
{
    return note_turn(task, arg, size);
}

/* Small calls are put into the queue some at a time; a large one, or one whose function has to be looked up, comes
 * between such batches. */
BOTH(many_calls_of_all_sizes_and_functions_are_submitted_in_order)
{
    enum { CALLS = 500, LARGE = 40000 };
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    static uint32_t arguments[CALLS][LARGE / sizeof(uint32_t)];
    static pp_call calls[CALLS];
    for (uint32_t i = 0; i < CALLS; i++) {
        arguments[i][0] = i;
        calls[i] = (pp_call){.function = i < CALLS / 3 || i % 2 ? note_turn : note_turn_too,
                             .arg = arguments[i],
                             .size = i % 71 == 3 ? LARGE : sizeof **arguments};
    }
    CHECK_INT(pp_submit_many(pool, calls, CALLS, NULL), CALLS);
    calls[CALLS - 1].size = SIZE_MAX;
    CHECK_INT(pp_submit_many(pool, calls + CALLS - 100, 100, NULL), 99);
    pp_pool_destroy(pool);
    CHECK_INT(read_word(SEQUENCE), CALLS + 99);
    for (uint32_t i = 0; i < CALLS - 100; i++)
        CHECK_INT(read_word(FIRST_CALL + i), i);
}

static int last_for_long(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    sleep(1000);
    return 0;
}

/* The one that has it is in the middle of those that came together, and nobody waits. */
BOTH(a_timeout_among_many_calls_is_kept_though_nobody_waits)
{
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    uint32_t place = RUNS;
    pp_future *futures[30];
    pp_call calls[30];
    for (int i = 0; i < 30; i++)
        calls[i] = (pp_call){.function = count_run, .arg = &place, .size = sizeof place, .timeout = 60000};
    calls[17] = (pp_call){.function = last_for_long, .timeout = 50};
    expect_usable(pool);
    usleep(50000); /* the manager sleeps */
    CHECK_INT(pp_submit_many(pool, calls, 30, futures), 30);
    while (pp_future_state(futures[17]) != PP_FINISHED)
        usleep(1000);
    for (int i = 0; i < 30; i++)
        expect_end(futures[i], i == 17 ? -ETIME : 0);
    pp_pool_destroy(pool);
}

BOTH(of_many_calls_the_first_ones_are_accepted_up_to_a_bad_one)
{
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    uint32_t place = RUNS;
    pp_future *untouched = (pp_future *)pool, *futures[4] = {untouched, untouched, untouched, untouched};
    pp_call calls[4];
    for (int i = 0; i < 4; i++)
        calls[i] = (pp_call){.function = count_run, .arg = &place, .size = sizeof place};
    calls[2].retries = 1001;
    CHECK_INT(pp_submit_many(pool, calls, 4, futures), 2);
    CHECK_HAS(pp_last_error(), "1001");
    CHECK(futures[2] == untouched && futures[3] == untouched);
    expect_end(futures[0], 0);
    expect_end(futures[1], 0);
    CHECK_INT(pp_submit_many(pool, calls + 2, 2, futures + 2), -EINVAL);
    CHECK(futures[2] == untouched);
    pp_pool_destroy(pool);
    CHECK_INT(read_word(RUNS), 2);
}

/* ------------------------------------------------------------------------------------------- pp_call */

/* Dies in its first runs, as many as the second word of the argument says. */
static int die_at_first(pp_task *task, const void *arg, size_t size)
{
    uint32_t words[2];
    CHECK_INT(size, sizeof words);
    memcpy(words, arg, sizeof words);
    uint32_t runs = atomic_fetch_add(word(words[0]), 1) + 1;
    if (runs <= words[1])
        raise(SIGKILL);
    return pp_task_return(task, &runs, sizeof runs);
}

static void check_retries(pp_pool *pool, uint32_t place, uint32_t deaths, uint32_t retries)
{
    uint32_t words[2] = {place, deaths};
    pp_future *future;
    pp_call call = {.function = die_at_first, .arg = words, .size = sizeof words, .retries = retries};
    CHECK_OK(pp_submit_call(pool, &call, &future));
    if (deaths <= retries) {
        CHECK_INT(result_u32(future), deaths + 1);
    } else {
        const pp_error *error;
        CHECK_OK(pp_future_error(future, -1, &error));
        CHECK(error != NULL);
        CHECK_INT(error->kind, PP_ERROR_CRASH);
        CHECK_INT(error->tries, retries + 1);
        for (uint32_t i = retries; i > 0; i--) {
            error = error->earlier;
            CHECK(error != NULL && error->tries == i && error->kind == PP_ERROR_CRASH);
        }
        CHECK(error->earlier == NULL);
        CHECK_INT(read_word(place), retries + 1);
    }
    pp_future_unref(future);
}

BOTH(a_call_is_begun_again_as_often_as_its_retries_allow)
{
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    uint32_t place = FIRST_CALL;
    for (uint32_t deaths = 0; deaths < 4; deaths++)
        for (uint32_t retries = 0; retries < 4; retries++)
            check_retries(pool, place++, deaths, retries);
    expect_usable(pool);
    pp_pool_destroy(pool);
}

BOTH(the_largest_retries_and_timeout_are_accepted)
{
    pp_pool *pool = kit_pool(method, 1);
    pp_future *future;
    pp_call call = {.function = nothing, .retries = 1000, .timeout = UINT32_MAX};
    CHECK_OK(pp_submit_call(pool, &call, &future));
    expect_end(future, 0);
    pp_pool_destroy(pool);
}

/* Nobody waits for it, so the manager must see to its timeout. The second worker's call is not touched. */
BOTH(a_timeout_ends_its_call_while_nobody_waits)
{
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    struct gated never = {.begun = BEGUN, .gate = RUNS};
    pp_future *running, *future;
    pp_call call = {.function = gated, .arg = &never, .size = sizeof never, .timeout = 20};
    occupy(pool, BEGUN, GATE, 1, &running);
    CHECK_OK(pp_submit_call(pool, &call, &future));
    until(pp_future_state(future) == PP_FINISHED);
    expect_end(future, -ETIME);
    CHECK_INT(pp_future_state(running), PP_RUNNING);
    open_gate(GATE);
    CHECK_INT(result_u32(running), 0);
    pp_future_unref(running);
    pp_pool_destroy(pool);
}

/* ---------------------------------------------------------------------------------- initializer and state */

struct setup {
    uint32_t magic;
    char text[60000]; /* larger than what lies in a record */
};

static int set_up(pp_task *task, const void *arg, size_t size)
{
    const struct setup *setup = arg;
    add(STARTED);
    if (size != sizeof *setup || setup->magic != 77 || pp_task_state(task))
        return pp_task_fail(task, -EINVAL, "the initializer got %zu bytes", size);
    char *state = strdup(setup->text);
    pp_task_set_state(task, state);
    return 0;
}

static int tell_state(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    struct gated waits = {.begun = BEGUN, .gate = GATE};
    gated(task, &waits, sizeof waits);
    const char *state = pp_task_state(task);
    return state ? pp_task_return(task, state, strlen(state)) : pp_task_fail(task, -ENOENT, "no state");
}

/* Each worker is held until all have begun, so that all of them were set up. */
BOTH(the_initializer_runs_once_in_each_worker_before_its_first_call)
{
    board_make();
    static struct setup setup = {.magic = 77, .text = "hello from the initializer"};
    pp_pool *pool = kit_pool_with(method, (pp_pool_options){.max_workers = 3,
                                                            .initializer = set_up,
                                                            .initializer_arg = &setup,
                                                            .initializer_arg_size = sizeof setup});
    setup.magic = 0; /* it was copied */
    for (int round = 0; round < 2; round++) {
        pp_future *futures[3];
        for (int i = 0; i < 3; i++)
            futures[i] = submit(pool, tell_state, NULL, 0);
        until(read_word(BEGUN) == 3u * ((uint32_t)round + 1));
        open_gate(GATE);
        for (int i = 0; i < 3; i++) {
            const void *data;
            size_t size;
            CHECK_OK(pp_future_view(futures[i], -1, &data, &size));
            CHECK_STR(data, "hello from the initializer");
            pp_future_unref(futures[i]);
        }
        atomic_store(word(GATE), 0);
    }
    CHECK_INT(read_word(STARTED), 3);
    pp_pool_destroy(pool);
}

static int count_in_state(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    uint32_t count = (uint32_t)(uintptr_t)pp_task_state(task) + 1;
    pp_task_set_state(task, (void *)(uintptr_t)count);
    return pp_task_return(task, &count, sizeof count);
}

BOTH(a_workers_state_stays_from_call_to_call)
{
    pp_pool *pool = kit_pool(method, 1);
    for (uint32_t i = 1; i <= 20; i++) {
        pp_future *future = submit(pool, count_in_state, NULL, 0);
        CHECK_INT(result_u32(future), i);
        pp_future_unref(future);
    }
    pp_pool_destroy(pool);
}

BOTH(an_initializer_that_fails_breaks_the_pool_and_its_cause_is_told)
{
    board_make();
    pp_pool *pool = kit_pool_with(method, (pp_pool_options){.max_workers = 2, .initializer = refuse});
    pp_future *future, *refused = (pp_future *)pool;
    const pp_error *error;
    CHECK_OK(pp_submit(pool, nothing, NULL, 0, &future));
    CHECK_INT(pp_future_result(future, -1, NULL, 0, NULL), -ENOTRECOVERABLE);
    CHECK_OK(pp_future_error(future, 0, &error));
    CHECK_INT(error->kind, PP_ERROR_BROKEN);
    CHECK_INT(error->task_code, -ENOTSUP);
    CHECK_HAS(error->message, "refused");
    CHECK_INT(pp_submit(pool, nothing, NULL, 0, &refused), -ENOTRECOVERABLE);
    CHECK_HAS(pp_last_error(), "refused");
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

/* ----------------------------------------------------------------------------------- worker number and seed */

static int tell_worker(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    uint32_t number = (uint32_t)pp_task_worker(task);
    add(BEGUN);
    wait_at(GATE);
    return pp_task_return(task, &number, sizeof number);
}

BOTH(workers_that_run_at_once_have_the_numbers_from_0_to_the_last)
{
    board_make();
    pp_pool *pool = kit_pool(method, 4);
    pp_future *futures[4];
    unsigned seen = 0;
    for (int i = 0; i < 4; i++)
        futures[i] = submit(pool, tell_worker, NULL, 0);
    until(read_word(BEGUN) == 4);
    open_gate(GATE);
    for (int i = 0; i < 4; i++) {
        seen |= 1u << result_u32(futures[i]);
        pp_future_unref(futures[i]);
    }
    CHECK_INT(seen, 0xf);
    pp_pool_destroy(pool);
}

static int tell_seed(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    uint64_t seed = pp_task_seed(task);
    return pp_task_return(task, &seed, sizeof seed);
}

/* The seeds of 500 calls of a pool with this seed. */
static void collect_seeds(pp_start_method method, uint64_t seed, int workers, uint64_t seeds[500])
{
    pp_pool *pool = kit_pool_with(method, (pp_pool_options){.max_workers = workers, .seed = seed});
    static pp_future *futures[500];
    for (int i = 0; i < 500; i++)
        futures[i] = submit(pool, tell_seed, NULL, 0);
    for (int i = 0; i < 500; i++) {
        CHECK_OK(pp_future_result(futures[i], -1, &seeds[i], sizeof seeds[i], NULL));
        pp_future_unref(futures[i]);
    }
    pp_pool_destroy(pool);
}

BOTH(a_tasks_seed_depends_on_the_pools_seed_and_the_call_alone)
{
    static uint64_t seeds[6][500], all[2500];
    collect_seeds(method, 1, 1, seeds[0]);
    collect_seeds(method, 1, 3, seeds[1]);
    collect_seeds(method, 2, 2, seeds[2]);
    collect_seeds(method, 0, 1, seeds[3]);
    collect_seeds(method, 0, 1, seeds[4]);
    CHECK(memcmp(seeds[0], seeds[1], sizeof seeds[0]) == 0);
    memcpy(all, seeds[0], sizeof seeds[0]);
    memcpy(all + 500, seeds[2], 3 * sizeof seeds[2]);
    qsort(all, 2000, sizeof *all, by_value);
    for (int i = 1; i < 2000; i++)
        CHECK(all[i] != all[i - 1]);
}

/* --------------------------------------------------------------------------------------- how many workers */

/* The pids of `count` calls' workers that ran one after the other, or all submitted at once; how many differ. */
static int count_workers(pp_pool *pool, int count, bool at_once)
{
    pp_future *futures[100];
    pid_t seen[100], pids[2];
    int distinct = 0;
    for (int i = 0; i < count; i++) {
        futures[i] = submit(pool, who, NULL, 0);
        if (!at_once)
            CHECK_OK(pp_future_wait(futures[i], -1));
    }
    for (int i = 0; i < count; i++) {
        int j = 0;
        CHECK_OK(pp_future_result(futures[i], -1, pids, sizeof pids, NULL));
        while (j < distinct && seen[j] != pids[0])
            j++;
        if (j == distinct)
            seen[distinct++] = pids[0];
        pp_future_unref(futures[i]);
    }
    return distinct;
}

static int note_start(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    add(STARTED);
    return 0;
}

BOTH(an_idle_worker_is_used_again_before_another_is_started)
{
    board_make();
    pp_pool *pool = kit_pool_with(method, (pp_pool_options){.max_workers = 8, .initializer = note_start});
    CHECK_INT(count_workers(pool, 100, false), 1);
    pp_pool_destroy(pool);
    CHECK_INT(read_word(STARTED), 1);
}

BOTH(without_a_number_there_are_as_many_workers_as_usable_processors)
{
    cpu_set_t all, one;
    board_make();
    CHECK_INT(sched_getaffinity(0, sizeof all, &all), 0);
    CHECK(pp_usable_processors() >= 1 && pp_usable_processors() <= CPU_COUNT(&all));
    CPU_ZERO(&one);
    for (int cpu = 0; CPU_COUNT(&one) == 0; cpu++)
        if (CPU_ISSET(cpu, &all))
            CPU_SET(cpu, &one);
    CHECK_INT(sched_setaffinity(0, sizeof one, &one), 0);
    CHECK_INT(pp_usable_processors(), 1);
    pp_pool *pool = kit_sibling(method, (pp_pool_options){0});
    pp_pool *three = kit_sibling(method, (pp_pool_options){.max_workers = 3});
    pp_future *running[4];
    occupy(three, BEGUN, GATE, 3, running);
    occupy(pool, BEGUN, GATE, 1, running + 3);
    for (int i = 0; i < 50; i++)
        pp_future_unref(submit(pool, nothing, NULL, 0));
    open_gate(GATE);
    CHECK_INT(count_workers(pool, 100, true), 1);
    for (int i = 0; i < 4; i++)
        pp_future_unref(running[i]);
    pp_pool_destroy(pool);
    pp_pool_destroy(three);
}

BOTH(there_are_never_more_workers_than_allowed)
{
    pp_pool *pool = kit_pool(method, 3);
    CHECK(count_workers(pool, 100, true) <= 3);
    pp_pool_destroy(pool);
}

/* ------------------------------------------------------------------------------------------- the log */

static struct log {
    _Atomic int inside, lines;
    pthread_mutex_t lock;
    char text[8192];
} kept_log = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void keep(void *data, const char *line)
{
    struct log *kept = data;
    CHECK_INT(atomic_fetch_add(&kept->inside, 1), 0); /* one at a time */
    CHECK(strchr(line, '\n') == NULL && *line);
    pthread_mutex_lock(&kept->lock);
    size_t used = strlen(kept->text);
    snprintf(kept->text + used, sizeof kept->text - used, "%s\n", line);
    pthread_mutex_unlock(&kept->lock);
    atomic_fetch_add(&kept->lines, 1);
    atomic_fetch_sub(&kept->inside, 1);
}

static bool log_has(const char *part)
{
    pthread_mutex_lock(&kept_log.lock);
    bool has = strstr(kept_log.text, part) != NULL;
    pthread_mutex_unlock(&kept_log.lock);
    return has;
}

BOTH(the_log_tells_of_starts_deaths_and_replacements)
{
    pp_pool *pool = kit_pool_with(method, (pp_pool_options){.max_workers = 1, .log = keep, .log_data = &kept_log});
    char line[64];
    pid_t first[2], second[2];
    pp_future *future = submit(pool, who, NULL, 0);
    CHECK_OK(pp_future_result(future, -1, first, sizeof first, NULL));
    pp_future_unref(future);
    expect_end(submit(pool, crash, NULL, 0), -EOWNERDEAD);
    future = submit(pool, who, NULL, 0);
    CHECK_OK(pp_future_result(future, -1, second, sizeof second, NULL));
    pp_future_unref(future);
    pp_pool_destroy(pool);
    snprintf(line, sizeof line, "worker 0 started (pid %d)", first[0]);
    CHECK(log_has(line));
    snprintf(line, sizeof line, "worker 0 (pid %d) was killed by signal 9", first[0]);
    CHECK(log_has(line));
    snprintf(line, sizeof line, "worker 0 started (pid %d)", second[0]);
    CHECK(log_has(line));
}

static void keep_slowly(void *data, const char *line)
{
    struct log *kept = data;
    CHECK_INT(atomic_fetch_add(&kept->inside, 1), 0);
    test_sleep_ms(1);
    atomic_fetch_sub(&kept->inside, 1);
    keep(data, line);
}

static void *crash_often(void *pool)
{
    for (int i = 0; i < 8; i++)
        expect_end(submit(pool, crash, NULL, 0), -EOWNERDEAD);
    return NULL;
}

BOTH(a_slow_log_function_gets_one_line_at_a_time)
{
    pp_pool *pool =
        kit_pool_with(method, (pp_pool_options){.max_workers = 2, .log = keep_slowly, .log_data = &kept_log});
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        threads[i] = start_thread(crash_often, pool);
    for (int i = 0; i < 4; i++)
        join_thread(threads[i]);
    pp_pool_destroy(pool);
    CHECK(atomic_load(&kept_log.lines) >= 64);
}

BOTH(no_worker_is_started_before_there_is_a_call)
{
    pp_pool *pool = kit_pool_with(method, (pp_pool_options){.max_workers = 2, .log = keep, .log_data = &kept_log});
    test_sleep_ms(50); /* it would have been started and told of by then, mostly */
    CHECK_INT(atomic_load(&kept_log.lines), 0);
    expect_usable(pool);
    pp_pool_destroy(pool);
    CHECK(log_has("worker 0 started"));
}

BOTH(the_log_tells_why_a_pool_broke)
{
    board_make();
    pp_pool *pool = kit_pool_with(
        method, (pp_pool_options){.max_workers = 2, .on_crash = PP_BREAK_POOL, .log = keep, .log_data = &kept_log});
    pp_future *running;
    occupy(pool, BEGUN, GATE, 1, &running);
    expect_end(submit(pool, crash, NULL, 0), -ENOTRECOVERABLE);
    expect_end(running, -ENOTRECOVERABLE);
    pp_pool_destroy(pool);
    CHECK(log_has("broken"));
    CHECK(log_has("signal 9"));
}

/* -------------------------------------------------------------------------------------- many functions */

#define TASK(n)                                                                                                        \
    static int task_##n(pp_task *task, const void *arg, size_t size)                                                   \
    {                                                                                                                  \
        (void)arg, (void)size;                                                                                         \
        return pp_task_return(task, &(uint32_t){n}, sizeof(uint32_t));                                                 \
    }
#define TEN(n)                                                                                                         \
    TASK(n##0) TASK(n##1) TASK(n##2) TASK(n##3) TASK(n##4) TASK(n##5) TASK(n##6) TASK(n##7) TASK(n##8) TASK(n##9)
TEN(1)
TEN(2)
TEN(3)
TEN(4)
#define NAME(n) task_##n
#define TEN_NAMES(n)                                                                                                   \
    NAME(n##0), NAME(n##1), NAME(n##2), NAME(n##3), NAME(n##4), NAME(n##5), NAME(n##6), NAME(n##7), NAME(n##8),        \
        NAME(n##9)

BOTH(a_pool_runs_any_number_of_functions)
{
    static pp_function *const functions[] = {TEN_NAMES(1), TEN_NAMES(2), TEN_NAMES(3), TEN_NAMES(4)};
    pp_pool *pool = kit_pool(method, 2);
    pp_future *futures[40];
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 40; i++)
            futures[i] = submit(pool, functions[i], NULL, 0);
        for (uint32_t i = 0; i < 40; i++) {
            CHECK_INT(result_u32(futures[i]), 10 + i);
            pp_future_unref(futures[i]);
        }
    }
    pp_pool_destroy(pool);
}

/* ----------------------------------------------------------------------------------------------- the rest */

static int use_stack(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    volatile char room[12 << 20];
    for (size_t i = 0; i < sizeof room; i += 1024)
        room[i] = 1;
    return pp_task_return(task, (const void *)room, 1);
}

BOTH(tasks_have_the_stack_that_was_asked_for)
{
    pp_pool *pool = kit_pool_with(method, (pp_pool_options){.max_workers = 1, .stack_size = 32 << 20});
    /* Thread sanitizer runs tasks on the main thread's stack; valgrind takes so large a frame for a change of stacks.
     */
    if (!KIT_TSAN && !TEST_ON_VALGRIND)
        expect_end(submit(pool, use_stack, NULL, 0), 0);
    pp_pool_destroy(pool);
    pool = kit_pool_with(method, (pp_pool_options){.max_workers = 1, .stack_size = 64 << 10});
    expect_usable(pool);
    pp_pool_destroy(pool);
}

static int print(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)size;
    printf("%s\n", (const char *)arg);
    return 0;
}

BOTH(what_a_task_printed_is_there_before_its_result_and_only_once)
{
    char text[512] = "", expected[512] = "";
    int out = memfd_create("out", MFD_CLOEXEC);
    CHECK(out >= 0 && fcntl(out, F_SETFL, O_APPEND) == 0 && dup2(out, STDOUT_FILENO) == STDOUT_FILENO);
    if (!KIT_TSAN) /* its _exit flushes, and the zygote is made by a fork that ends so */
        printf("the owner's own line");
    pp_pool *pool = kit_pool(method, 1);
    for (int i = 0; i < 10; i++) {
        snprintf(expected + strlen(expected), 32, "line %d\n", i);
        char *line = strrchr(expected, 'l');
        expect_end(submit(pool, print, line, strcspn(line, "\n")), 0);
        CHECK(pread(out, text, sizeof text - 1, 0) >= 0);
        CHECK_STR(text, expected);
    }
    pp_pool_destroy(pool);
}
