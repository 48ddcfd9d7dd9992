/* SPDX-License-Identifier: MIT */
/* Tasks that make pools, processes and threads of their own. */
#include "call_kit.h"

enum { PIDS, GATE = 16, LIVING, THREADS, DONE };

/* ------------------------------------------------------------------------------------------------ pools */

struct depth {
    int method;
    uint32_t left;
    bool stays; /* the deepest waits at the gate */
};

/* As many pools, one in the other, as are left; each level adds one. The process of each is on the board. */
static int deeper(pp_task *task, const void *arg, size_t size)
{
    struct depth depth;
    uint32_t sum = 0;
    CHECK_INT(size, sizeof depth);
    memcpy(&depth, arg, sizeof depth);
    atomic_store(word(PIDS + depth.left), (uint32_t)getpid());
    if (depth.left == 0 && depth.stays) {
        add(LIVING);
        wait_at(GATE);
    }
    if (depth.left > 0) {
        depth.left--;
        pp_pool *pool = kit_pool((pp_start_method)depth.method, 2);
        pp_future *future = submit(pool, deeper, &depth, sizeof depth), *other = submit_u32(pool, echo, 100);
        int error = pp_future_result(future, -1, &sum, sizeof sum, NULL);
        if (error == 0)
            CHECK_INT(result_u32(other), 100);
        else
            error = pp_task_fail(task, -EIO, "level %u: %s", depth.left, pp_last_error());
        pp_future_unref(future);
        pp_future_unref(other);
        pp_pool_destroy(pool);
        if (error != 0)
            return error;
    }
    sum++;
    return pp_task_return(task, &sum, sizeof sum);
}

BOTH_WITHIN(pools_inside_tasks_inside_pools_work_three_deep, 30)
{
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    struct depth depth = {.method = method, .left = 3};
    for (int round = 0; round < 3; round++) {
        pp_future *future = submit(pool, deeper, &depth, sizeof depth);
        CHECK_INT(result_u32(future), 4);
        pp_future_unref(future);
    }
    CHECK(read_word(PIDS) != read_word(PIDS + 1) && read_word(PIDS + 1) != read_word(PIDS + 2));
    pp_pool_destroy(pool);
    until(count_descendants_named(getppid(), "pp-") == 0);
}

BOTH_WITHIN(of_nested_pools_all_below_a_worker_that_dies_are_gone, 30)
{
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    struct depth depth = {.method = method, .left = 3, .stays = true};
    pp_future *future = submit(pool, deeper, &depth, sizeof depth);
    until(read_word(LIVING) == 1);
    pid_t pids[4];
    for (uint32_t i = 0; i < 4; i++)
        pids[i] = (pid_t)read_word(PIDS + i);
    kill(pids[3], SIGKILL);
    expect_end(future, -EOWNERDEAD);
    for (int i = 0; i < 4; i++)
        until(!test_process_alive(pids[i]));
    expect_usable(pool);
    pp_pool_destroy(pool);
}

BOTH_WITHIN(a_crash_inside_a_nested_pool_is_told_outside, 30)
{
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    struct depth depth = {.method = method, .left = 2, .stays = true};
    pp_future *future = submit(pool, deeper, &depth, sizeof depth);
    const pp_error *error;
    until(read_word(LIVING) == 1);
    kill((pid_t)read_word(PIDS), SIGKILL);
    CHECK_OK(pp_future_error(future, -1, &error));
    CHECK_INT(error->kind, PP_ERROR_TASK);
    CHECK_HAS(error->message, "level 1: ");
    CHECK_HAS(error->message, "level 0: ");
    CHECK_HAS(error->message, "killed by signal 9");
    pp_future_unref(future);
    expect_usable(pool);
    pp_pool_destroy(pool);
}

/* -------------------------------------------------------------------------------------------- processes */

/* The child outlives the call. With an argument, in a process group of its own. */
static int fork_by_hand(pp_task *task, const void *arg, size_t size)
{
    (void)arg;
    pid_t child = fork();
    if (child == 0) {
        if (size > 0)
            setpgid(0, 0);
        add(LIVING);
        wait_at(GATE);
        add(DONE);
        _exit(0);
    }
    return pp_task_return(task, &child, sizeof child);
}

static pid_t run_fork(pp_pool *pool, bool leaves_group)
{
    pid_t child;
    uint32_t before = read_word(LIVING);
    pp_future *future = submit(pool, fork_by_hand, "", leaves_group);
    CHECK_OK(pp_future_result(future, -1, &child, sizeof child, NULL));
    pp_future_unref(future);
    until(read_word(LIVING) == before + 1);
    return child;
}

BOTH(a_task_may_fork_and_its_child_lives_on_as_long_as_the_worker)
{
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    pid_t child = run_fork(pool, false);
    for (int i = 0; i < 100; i++)
        expect_usable(pool);
    CHECK(test_process_alive(child));
    pp_pool_destroy(pool);
    until(!test_process_alive(child));
    CHECK_INT(read_word(DONE), 0);
}

BOTH(a_child_that_leaves_the_workers_group_lives_on_without_it)
{
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    pid_t child = run_fork(pool, true);
    pp_pool_destroy(pool);
    CHECK(test_process_alive(child));
    open_gate(GATE);
    until(read_word(DONE) == 1);
    until(!test_process_alive(child));
}

/* It keeps the worker's descriptors and memory, and is not the worker: the death of that is noticed all the same. */
BOTH(a_worker_that_dies_beside_its_own_child_is_buried)
{
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    pid_t child = run_fork(pool, true);
    expect_end(submit(pool, crash, NULL, 0), -EOWNERDEAD);
    expect_usable(pool);
    CHECK(test_process_alive(child));
    pp_pool_destroy(pool);
    open_gate(GATE);
    until(!test_process_alive(child));
}

/* A child by vfork and exec, as system(3) and popen(3) make it. */
static int run_a_command(pp_task *task, const void *arg, size_t size)
{
    uint32_t status = (uint32_t)system("exit 7");
    (void)arg, (void)size;
    status = (uint32_t)WEXITSTATUS((int)status);
    return pp_task_return(task, &status, sizeof status);
}

BOTH(a_task_may_run_a_command_and_wait_for_it)
{
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    for (int i = 0; i < 10; i++) {
        pp_future *future = submit(pool, run_a_command, NULL, 0);
        CHECK_INT(result_u32(future), 7);
        pp_future_unref(future);
    }
    pp_pool_destroy(pool);
}

/* ---------------------------------------------------------------------------------------------- threads */

static void *add_thousand(void *unused)
{
    for (int i = 0; i < 1000; i++)
        add(THREADS);
    return unused;
}

static int work_in_threads(pp_task *task, const void *arg, size_t size)
{
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        threads[i] = start_thread(add_thousand, NULL);
    for (int i = 0; i < 4; i++)
        join_thread(threads[i]);
    return pp_task_return(task, arg, size);
}

static void *stay(void *unused)
{
    add(LIVING);
    wait_at(GATE);
    add(DONE);
    return unused;
}

static int leave_a_thread(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    pthread_detach(start_thread(stay, NULL));
    pid_t pid = getpid();
    return pp_task_return(task, &pid, sizeof pid);
}

BOTH(a_task_may_work_in_threads)
{
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    pp_future *futures[8];
    for (uint32_t i = 0; i < 8; i++)
        futures[i] = submit_u32(pool, work_in_threads, i);
    for (uint32_t i = 0; i < 8; i++) {
        CHECK_INT(result_u32(futures[i]), i);
        pp_future_unref(futures[i]);
    }
    CHECK_INT(read_word(THREADS), 32000);
    pp_pool_destroy(pool);
}

BOTH(threads_that_a_task_leaves_behind_go_on_beside_other_calls_and_go_with_the_worker)
{
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    pid_t pid;
    pp_future *future = submit(pool, leave_a_thread, NULL, 0);
    CHECK_OK(pp_future_result(future, -1, &pid, sizeof pid, NULL));
    pp_future_unref(future);
    until(read_word(LIVING) == 1);
    expect_usable(pool);
    open_gate(GATE);
    until(read_word(DONE) == 1);
    atomic_store(word(GATE), 0);
    expect_end(submit(pool, leave_a_thread, NULL, 0), 0);
    until(read_word(LIVING) == 2);
    pp_pool_destroy(pool); /* does not wait for it */
    CHECK_INT(read_word(DONE), 1);
    CHECK(!test_process_alive(pid));
}
