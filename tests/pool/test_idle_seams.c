/* SPDX-License-Identifier: MIT */
/*
 * A worker that shares its processor with who waits for it.
 *
 * needs: seams
 */
#include "call_kit.h"

#include "base/seam.h"

#include <sched.h>
#include <unistd.h>

enum { MOVES };

/* By the library, in a worker, which has the owner's seams by the fork. */
static int counting_setaffinity(pid_t pid, size_t size, const cpu_set_t *set)
{
    atomic_fetch_add(word(MOVES), 1);
    return sched_setaffinity(pid, size, set);
}

static cpu_set_t all_processors(void)
{
    cpu_set_t all;
    memset(&all, 0xff, sizeof all);
    return all;
}

static cpu_set_t this_processor(void)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET((size_t)sched_getcpu(), &one);
    return one;
}

/* In the worker: to where its owner is, and it may leave at once, or must stay. */
struct place {
    cpu_set_t owners;
    int stays;
};

static int task_come(pp_task *task, const void *arg, size_t size)
{
    struct place place;
    cpu_set_t all = all_processors();
    memcpy(&place, arg, size);
    if (sched_setaffinity(0, sizeof place.owners, &place.owners) != 0 ||
        (!place.stays && sched_setaffinity(0, sizeof all, &all) != 0))
        return pp_task_fail(task, -errno, "sched_setaffinity");
    return 0;
}

static int task_count(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    cpu_set_t now;
    sched_getaffinity(0, sizeof now, &now);
    uint32_t count = (uint32_t)CPU_COUNT(&now);
    return pp_task_return(task, &count, sizeof count);
}

static uint32_t processors_of_worker(pp_pool *pool)
{
    pp_future *future = submit(pool, task_count, NULL, 0);
    uint32_t count = result_u32(future);
    pp_future_unref(future);
    return count;
}

static pp_pool *open_counted(pp_wait_policy wait)
{
    board_make();
    pp__sys.sched_setaffinity = counting_setaffinity;
    return kit_pool_with(PP_START_FORK, (pp_pool_options){.max_workers = 1, .wait = wait});
}

/* The worker comes to the processor of this thread, which stays there; then calls follow each other. */
static void meet(pp_pool *pool, int stays)
{
    struct place place = {.owners = this_processor(), .stays = stays};
    CHECK_INT(sched_setaffinity(0, sizeof place.owners, &place.owners), 0);
    expect_end(submit(pool, task_come, &place, sizeof place), 0);
    for (int i = 0; i < 50; i++)
        expect_usable(pool);
}

static bool has_one_processor(void)
{
    return sysconf(_SC_NPROCESSORS_ONLN) < 2 || pp_usable_processors() < 2;
}

TEST(between_calls_a_worker_leaves_the_processor_of_who_waits_and_may_run_anywhere_still)
{
    if (has_one_processor())
        LEFT_OUT("one processor");
    pp_pool *pool = open_counted(PP_WAIT_ADAPTIVE);
    do
        meet(pool, 0);
    while (read_word(MOVES) < 2);
    CHECK_INT(processors_of_worker(pool), sysconf(_SC_NPROCESSORS_ONLN));
    CHECK_INT(read_word(MOVES) % 2, 0); /* there, and free again */
    pp_pool_destroy(pool);
}

TEST(a_worker_that_may_not_run_anywhere_stays_where_it_may)
{
    if (has_one_processor())
        LEFT_OUT("one processor");
    pp_pool *pool = open_counted(PP_WAIT_ADAPTIVE);
    for (int i = 0; i < 50; i++)
        meet(pool, 1);
    CHECK_INT(processors_of_worker(pool), 1);
    CHECK_INT(read_word(MOVES), 0);
    pp_pool_destroy(pool);
}

TEST(where_waits_only_sleep_nobody_moves)
{
    pp_pool *pool = open_counted(PP_WAIT_SLEEP);
    for (int i = 0; i < 50; i++)
        meet(pool, 0);
    CHECK_INT(read_word(MOVES), 0);
    pp_pool_destroy(pool);
}
