/* SPDX-License-Identifier: MIT */
/* A pool's workers: how many there are, what they are set up with, and what a task knows of its own. */
#include "call_kit.h"

#include "lost_kit.h"

enum { BEGUN, GATE, STARTED };

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

/* ----------------------------------------------------------------------------------- number and seed */

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

/* ------------------------------------------------------------------------------------------------ the stack */

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
