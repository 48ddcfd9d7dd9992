/* SPDX-License-Identifier: MIT */
/*
 * A worker that shares its processor with who waits for it.
 *
 * needs: seams
 */
#include "call_kit.h"

#include "base/seam.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>

enum { SETS, LAST_SIZE, LAST_ONE, LOOKS, CALLED };

/* By the library, in a worker, which has the owner's seams by the fork. */
static int counting_setaffinity(pid_t pid, size_t size, const cpu_set_t *set)
{
    atomic_fetch_add(word(SETS), 1);
    atomic_store(word(LAST_SIZE), (uint32_t)CPU_COUNT(set));
    for (size_t i = 0; CPU_COUNT(set) == 1 && i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, set))
            atomic_store(word(LAST_ONE), (uint32_t)i);
    return sched_setaffinity(pid, size, set);
}

static int counting_getaffinity(pid_t pid, size_t size, cpu_set_t *set)
{
    atomic_fetch_add(word(LOOKS), 1);
    return sched_getaffinity(pid, size, set);
}

/* Every second time, when a worker has set that it may run anywhere, there is one processor more than before. */
static int growing_getaffinity(pid_t pid, size_t size, cpu_set_t *set)
{
    int result = sched_getaffinity(pid, size, set);
    if (atomic_fetch_add(word(LOOKS), 1) % 2 == 1)
        CPU_SET(1000, set);
    return result;
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
    return take_u32(submit(pool, task_count, NULL, 0));
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

/* One that this container has besides that of this thread. */
static int other_processor(void)
{
    cpu_set_t own, all = all_processors();
    int other = 0;
    CHECK_INT(sched_getaffinity(0, sizeof own, &own), 0);
    CHECK(sched_setaffinity(0, sizeof all, &all) == 0 && sched_getaffinity(0, sizeof all, &all) == 0);
    CHECK_INT(sched_setaffinity(0, sizeof own, &own), 0);
    while (!CPU_ISSET((size_t)other, &all) || other == sched_getcpu())
        other++;
    return other;
}

/* That this container has, before any of them is left. */
static int count_processors(void)
{
    cpu_set_t all = all_processors();
    CHECK_INT(sched_setaffinity(0, sizeof all, &all), 0);
    CHECK_INT(sched_getaffinity(0, sizeof all, &all), 0);
    return CPU_COUNT(&all);
}

/* With one, nobody spins, nor moves whatever the code says. */
static void need_two_processors(void)
{
    if (pp_usable_processors() < 2)
        LEFT_OUT("one processor");
}

TEST(between_calls_a_worker_leaves_the_processor_of_who_waits_and_may_run_anywhere_still)
{
    need_two_processors();
    int count = count_processors();
    pp_pool *pool = open_counted(PP_WAIT_ADAPTIVE);
    do
        meet(pool, 0);
    while (read_word(SETS) == 0);
    CHECK_INT(processors_of_worker(pool), count);
    CHECK_INT(read_word(SETS) % 2, 0);                      /* there, and free again: */
    CHECK_INT(read_word(LAST_SIZE), 8 * sizeof(cpu_set_t)); /* on all that there can ever be */
    pp_pool_destroy(pool);
}

TEST(a_worker_that_was_told_where_it_may_run_may_run_there_behind_a_move)
{
    need_two_processors();
    int count = count_processors();
    pp_pool *pool = open_counted(PP_WAIT_ADAPTIVE); /* which has looked, and does not again */
    pp__sys.sched_getaffinity = growing_getaffinity;
    pp_pool_destroy(pool);
    pool = kit_pool_with(PP_START_FORK, (pp_pool_options){.max_workers = 1});
    *word(LOOKS) = 0;
    do
        meet(pool, 0);
    while (read_word(SETS) == 0);
    expect_usable(pool);
    CHECK_INT(read_word(SETS) % 3, 0);
    CHECK_INT(read_word(LAST_SIZE), count);
    pp_pool_destroy(pool);
}

TEST(a_worker_that_may_run_on_one_processor_stays_there)
{
    need_two_processors();
    pp_pool *pool = open_counted(PP_WAIT_ADAPTIVE);
    for (int i = 0; i < 50; i++)
        meet(pool, 1);
    CHECK_INT(processors_of_worker(pool), 1);
    CHECK_INT(read_word(SETS), 0);
    pp_pool_destroy(pool);
}

/* ------------------------------------------------------------------------------------------ where nobody spins */

static pid_t owners_pid;

/* All of the owner run on a processor, none of a worker do: it need not be where the kernel likes to wake it. */
static int getcpu_of_two(void)
{
    return getpid() == owners_pid ? sched_getcpu() : -2;
}

static pp_pool *open_parted(int workers)
{
    owners_pid = getpid();
    pp__sys.sched_getcpu = getcpu_of_two;
    board_make();
    pp__sys.sched_setaffinity = counting_setaffinity;
    return kit_pool_with(PP_START_FORK, (pp_pool_options){.max_workers = workers, .wait = PP_WAIT_SLEEP});
}

static int task_last(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    test_sleep_ms(5);
    return 0;
}

TEST(where_nobody_spins_a_worker_comes_to_the_processor_of_who_waits_at_once)
{
    need_two_processors();
    if (TEST_ON_VALGRIND)
        LEFT_OUT("under valgrind a thread takes too long between a wake and its sleep");
    int count = count_processors();
    pp_pool *pool = open_parted(1);
    cpu_set_t own = this_processor();
    CHECK_INT(sched_setaffinity(0, sizeof own, &own), 0);
    while (read_word(SETS) == 0)
        expect_usable(pool);
    CHECK_INT(processors_of_worker(pool), count);
    pp_pool_destroy(pool);
    CHECK_INT(read_word(LAST_ONE), sched_getcpu());
    CHECK_INT(read_word(SETS) % 2, 0);                      /* there, and free again: */
    CHECK_INT(read_word(LAST_SIZE), 8 * sizeof(cpu_set_t)); /* on all that there can ever be */
}

/* One call for each worker, which are waited for so much later. */
static void call_all(pp_pool *pool, int workers, unsigned pause)
{
    pp_future *futures[2];
    for (int i = 0; i < workers; i++)
        futures[i] = submit(pool, task_last, NULL, 0);
    if (pause)
        test_sleep_ms(pause);
    for (int i = 0; i < workers; i++)
        expect_end(futures[i], 0);
}

/* A worker that was not ready when its call came is woken by who waits for that, and may come. What was set by then. */
static uint32_t warm_up(pp_pool *pool, int workers)
{
    call_all(pool, workers, 1);
    call_all(pool, workers, 1);
    return read_word(SETS);
}

static void check_none_comes(int workers, unsigned pause)
{
    need_two_processors();
    pp_pool *pool = open_parted(workers);
    uint32_t sets = warm_up(pool, workers);
    for (int i = 0; i < 50; i++)
        call_all(pool, workers, pause);
    CHECK_INT(read_word(SETS), sets);
    pp_pool_destroy(pool);
}

TEST(a_worker_does_not_come_to_one_who_does_something_else_before_it_waits)
{
    check_none_comes(1, 1);
}

TEST(workers_that_run_side_by_side_do_not_come)
{
    check_none_comes(2, 0);
}

/* In the worker: on the processor with this number alone, from now on. */
static int task_stay(pp_task *task, const void *arg, size_t size)
{
    cpu_set_t one;
    int processor;
    memcpy(&processor, arg, size);
    CPU_ZERO(&one);
    CPU_SET((size_t)processor, &one);
    return sched_setaffinity(0, sizeof one, &one) == 0 ? 0 : pp_task_fail(task, -errno, "sched_setaffinity");
}

TEST(a_worker_that_may_run_elsewhere_alone_does_not_come)
{
    need_two_processors();
    pp_pool *pool = open_parted(1);
    cpu_set_t own = this_processor();
    CHECK_INT(sched_setaffinity(0, sizeof own, &own), 0);
    int other = other_processor();
    expect_end(submit(pool, task_stay, &other, sizeof other), 0);
    uint32_t sets = warm_up(pool, 1);
    for (int i = 0; i < 500; i++)
        expect_usable(pool);
    CHECK_INT(read_word(SETS), sets);
    CHECK_INT(processors_of_worker(pool), 1);
    pp_pool_destroy(pool);
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Here it never is where it is to be, so that no move was worth anything. */
TEST(moves_that_are_no_use_are_few_but_tried_again)
{
    need_two_processors();
    if (TEST_ON_VALGRIND)
        LEFT_OUT("under valgrind a thread takes too long between a wake and its sleep");
    pp_pool *pool = open_parted(1);
    double begun = seconds();
    uint32_t moves = 0;
    while (moves <= 100) {
        for (int i = 0; i < 100; i++)
            expect_usable(pool);
        moves = read_word(SETS) / 2;
        CHECK(moves <= 32 * (uint32_t)((seconds() - begun) * 10 + 2));
    }
    pp_pool_destroy(pool);
}

static void note_call(pp_future *future, void *context)
{
    (void)future, (void)context;
    add(CALLED);
}

/* Calls for whose ends no thread of the program waits: the pool's own takes them, which sleeps in between. */
static void call_back(pp_pool *pool)
{
    for (int i = 0; i < 20; i++) {
        uint32_t before = read_word(CALLED);
        pp_future *future = submit(pool, task_last, NULL, 0);
        CHECK_OK(pp_future_add_callback(future, note_call, NULL));
        pp_future_unref(future);
        until(read_word(CALLED) > before);
    }
}

TEST(a_worker_does_not_come_to_one_who_waits_no_more)
{
    need_two_processors();
    if (TEST_ON_VALGRIND)
        LEFT_OUT("under valgrind a thread takes too long between a wake and its sleep");
    pp_pool *pool = open_parted(1);
    while (read_word(SETS) == 0)
        expect_usable(pool);
    call_back(pool);
    uint32_t sets = read_word(SETS);
    call_back(pool);
    CHECK_INT(read_word(SETS), sets);
    pp_pool_destroy(pool);
}

/* What the library asks and sets in the worker while that runs on `processor` alone and this thread on its own. */
static void check_stays(pp_wait_policy policy, int processor)
{
    pp_pool_options options = {.max_workers = 1, .wait = policy, .processors = &processor, .processor_count = 1};
    pp_pool *pool = kit_pool_with(PP_START_FORK, options);
    expect_usable(pool);
    uint32_t before = read_word(SETS) + read_word(LOOKS);
    for (int i = 0; i < 500; i++)
        expect_usable(pool);
    CHECK_INT(read_word(SETS) + read_word(LOOKS), before);
    pp_pool_destroy(pool);
}

TEST(a_pinned_worker_neither_leaves_nor_comes)
{
    need_two_processors();
    board_make();
    pp__sys.sched_getaffinity = counting_getaffinity;
    pp__sys.sched_setaffinity = counting_setaffinity;
    cpu_set_t own = this_processor();
    CHECK_INT(sched_setaffinity(0, sizeof own, &own), 0);
    check_stays(PP_WAIT_ADAPTIVE, sched_getcpu());
    check_stays(PP_WAIT_SLEEP, other_processor());
}

/* In the process that starts workers, and so in all of them: whoever calls it dies. */
static void filter_setaffinity(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_sched_setaffinity, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {.len = sizeof code / sizeof *code, .filter = code};
    CHECK_INT(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0)
        LEFT_OUT("no seccomp");
}

/* The owner sets nothing either, so the worker is beside it, or elsewhere, as the kernel likes. */
TEST(under_a_filter_of_system_calls_that_kills_for_it_nobody_moves)
{
    need_two_processors();
    pp_pool *pool = open_counted(PP_WAIT_ADAPTIVE);
    pp_pool_destroy(pool);
    filter_setaffinity();
    for (int i = 0; i < 20; i++) {
        pp_wait_policy wait = i % 2 ? PP_WAIT_SLEEP : PP_WAIT_ADAPTIVE;
        pool = kit_pool_with(PP_START_FORK, (pp_pool_options){.max_workers = 1, .wait = wait});
        for (int k = 0; k < (wait == PP_WAIT_SLEEP ? 50 : 1000); k++)
            expect_usable(pool);
        pp_pool_destroy(pool);
    }
    CHECK_INT(read_word(SETS), 0);
}
