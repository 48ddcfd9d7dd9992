/* SPDX-License-Identifier: MIT */
/* The process that starts workers dies: the pool is broken with that cause, the workers are gone, and nothing hangs. Or
 * it is stopped, and goes on. */
#include "processes_kit.h"

#define CAUSE "the process that starts workers"

static void wait_until_gone(const pid_t *pids, int count)
{
    for (int i = 0; i < count; i++)
        wait_until(is_gone(pids[i]), 10);
}

static void check_refused(pp_pool *pool)
{
    pp_future *none = NULL;
    CHECK_INT(pp_submit(pool, nothing, NULL, 0, &none), -ENOTRECOVERABLE);
    CHECK_HAS(pp_last_error(), CAUSE);
    CHECK(none == NULL);
}

static void check_broken(pp_future *future)
{
    const pp_error *error = error_of(future, PP_ERROR_BROKEN);
    CHECK_INT(error->code, -ENOTRECOVERABLE);
    CHECK_HAS(error->message, CAUSE);
    pp_future_unref(future);
}

BOTH(calls_running_and_waiting_fail_with_the_cause)
{
    pp_future *futures[30];
    pid_t pids[3];
    pp_pool *pool = open_workers(3, method);
    pp_future *early = submit_int(pool, task_square, 5);
    start_workers(pool, 0, 3, pids);
    pid_t zygote = parent_of(pids[0]);
    for (int i = 0; i < 30; i++)
        futures[i] = submit_int(pool, task_gate, 1);
    gate_wait_arrived(1, 3);
    kill(zygote, SIGKILL);
    for (int i = 0; i < 30; i++)
        check_broken(futures[i]);
    check_refused(pool);
    wait_until_gone(pids, 3);
    wait_until_gone(&zygote, 1);
    CHECK_INT(take_int(early), 25);
    CHECK_INT(pp_pool_shutdown(pool, 0, -1), 0);
    pp_pool_destroy(pool);
}

static int task_gate_deaf(pp_task *task, const void *arg, size_t size)
{
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    return task_gate(task, arg, size);
}

BOTH(workers_that_block_all_signals_or_are_stopped_are_gone_too)
{
    pp_future *futures[2];
    pp_pool *pool = open_workers(2, method);
    pid_t zygote = zygote_of(pool);
    futures[0] = submit_int(pool, task_gate_deaf, 1);
    futures[1] = submit_int(pool, task_gate_deaf, 1);
    gate_wait_arrived(1, 2);
    pid_t pids[2] = {children_of(zygote, 0), children_of(zygote, 1)};
    stop_and_see(pids[1]);
    kill(zygote, SIGKILL);
    check_broken(futures[0]);
    check_broken(futures[1]);
    wait_until_gone(pids, 2);
    pp_pool_destroy(pool);
}

/* Nobody waits for anything: the pool itself notices. */
BOTH(an_idle_pool_notices)
{
    pid_t pids[2];
    pp_pool *pool = open_workers(2, method);
    start_workers(pool, 0, 2, pids);
    kill(parent_of(pids[0]), SIGKILL);
    wait_until_gone(pids, 2);
    wait_until(pp_submit(pool, nothing, NULL, 0, NULL) == -ENOTRECOVERABLE, 10);
    check_refused(pool);
    pp_pool_destroy(pool);
}

BOTH(a_pool_that_nobody_used_yet_notices)
{
    pp_launcher *launcher;
    share();
    CHECK_OK(pp_launcher_create(
        &(pp_launcher_options){.start_method = method, .inherit_fds = board_fds, .inherit_fd_count = 1}, &launcher));
    pp_pool *helper = open_pool((pp_pool_options){.launcher = launcher, .max_workers = 1}, 0);
    pp_pool *unused = open_pool((pp_pool_options){.launcher = launcher, .max_workers = 1}, 0);
    kill(zygote_of(helper), SIGKILL);
    wait_until(pp_submit(unused, nothing, NULL, 0, NULL) == -ENOTRECOVERABLE, 10);
    check_refused(unused);
    pp_pool_destroy(unused);
    pp_pool_destroy(helper);
    pp_launcher_unref(launcher);
}

/* All pools of the launcher break, none of another; and the launcher makes no pool any more. */
BOTH(pools_of_the_same_launcher_break_and_no_other)
{
    pp_launcher *launcher;
    pp_future *futures[2];
    pp_pool *none = NULL, *pools[2];
    share();
    CHECK_OK(pp_launcher_create(
        &(pp_launcher_options){.start_method = method, .inherit_fds = board_fds, .inherit_fd_count = 1}, &launcher));
    pp_pool *other = open_workers(1, method);
    for (int i = 0; i < 2; i++) {
        pools[i] = open_pool((pp_pool_options){.launcher = launcher, .max_workers = 1}, 0);
        futures[i] = submit_int(pools[i], echo, i);
        CHECK_INT(take_int(futures[i]), i);
    }
    kill(zygote_of(pools[0]), SIGKILL);
    for (int i = 0; i < 2; i++)
        wait_until(pp_submit(pools[i], nothing, NULL, 0, NULL) == -ENOTRECOVERABLE, 10);
    while (pp_pool_create(&(pp_pool_options){.launcher = launcher}, &none) == 0) {
        pp_pool_destroy(none); /* a process that ends closes one descriptor after the other */
        none = NULL;
    }
    CHECK_HAS(pp_last_error(), CAUSE);
    CHECK(none == NULL);
    CHECK_INT(take_int(submit_int(other, echo, 3)), 3);
    for (int i = 0; i < 2; i++)
        pp_pool_destroy(pools[i]);
    pp_pool_destroy(other);
    pp_launcher_unref(launcher);
}

static void *shut_down(void *pool)
{
    CHECK_INT(pp_pool_shutdown(pool, 0, -1), 0);
    return NULL;
}

BOTH(a_shutdown_that_waits_for_a_call_comes_to_its_end)
{
    pp_pool *pool = open_workers(1, method);
    pid_t zygote = zygote_of(pool);
    pp_future *future = submit_int(pool, task_gate, 1);
    gate_wait_arrived(1, 1);
    pthread_t thread = start_thread(shut_down, pool);
    wait_until(pp_submit(pool, nothing, NULL, 0, NULL) == -ESHUTDOWN, 10);
    kill(zygote, SIGKILL);
    join_thread(thread);
    check_broken(future);
    pp_pool_destroy(pool);
}

BOTH(a_map_ends)
{
    int inputs[100];
    pp_map *map;
    pp_map_result result;
    pp_pool *pool = open_workers(2, method);
    pid_t zygote = zygote_of(pool);
    for (int i = 0; i < 100; i++)
        inputs[i] = i < 10 ? 0 : 1;
    gate_open(0);
    CHECK_OK(pp_map_open_array(pool, task_gate, inputs, 100, sizeof *inputs, NULL, &map));
    for (int i = 0; i < 10; i++) {
        CHECK_INT(pp_map_next(map, -1, &result), 1);
        CHECK_INT(result.code, 0);
    }
    gate_wait_arrived(1, 2);
    kill(zygote, SIGKILL);
    int got;
    while ((got = pp_map_next(map, -1, &result)) == 1)
        CHECK_INT(result.code, -ENOTRECOVERABLE);
    CHECK_INT(got, -ENOTRECOVERABLE);
    CHECK_INT(pp_map_next(map, -1, &result), 0);
    pp_map_close(map);
    pp_pool_destroy(pool);
}

/* At whatever moment: while workers are started, work, are killed for timeouts, leave. Each call ends, and so does the
 * pool. */
static void kill_zygote_at(pp_start_method method, unsigned microseconds)
{
    enum { COUNT = 60 };
    pp_future *futures[COUNT];
    ssize_t accepted = 0;
    pp_launcher *launcher;
    share();
    CHECK_OK(pp_launcher_create(
        &(pp_launcher_options){.start_method = method, .inherit_fds = board_fds, .inherit_fd_count = 1}, &launcher));
    pp_pool *helper = open_pool((pp_pool_options){.launcher = launcher, .max_workers = 1}, 0);
    pp_pool *pool = open_pool((pp_pool_options){.launcher = launcher, .max_workers = 8}, 0);
    pid_t zygote = zygote_of(helper);
    for (; accepted < COUNT / 2; accepted++)
        futures[accepted] = submit_int(pool, task_square, (int)accepted);
    nanosleep(&(struct timespec){.tv_nsec = microseconds * 1000l}, NULL);
    kill(zygote, SIGKILL);
    for (; accepted < COUNT; accepted++)
        if (pp_submit(pool, task_square, &(int){(int)accepted}, sizeof(int), &futures[accepted]) != 0)
            break;
    for (ssize_t i = 0; i < accepted; i++) {
        const pp_error *error;
        CHECK_OK(pp_future_error(futures[i], -1, &error));
        if (error)
            check_broken(futures[i]);
        else
            CHECK_INT(take_int(futures[i]), i * i);
    }
    pp_pool_destroy(pool);
    pp_pool_destroy(helper);
    pp_launcher_unref(launcher);
    wait_until(is_gone(zygote), 10);
}

BOTH_WITHIN(at_whatever_moment_it_dies_each_call_ends_and_nothing_is_left, 60)
{
    for (unsigned i = 0; i < 60; i++)
        kill_zygote_at(method, i * i * 5);
}

/* --------------------------------------------------------------------------------------- stopped, not dead */

static void stop(pid_t pid)
{
    stop_and_see(pid);
}

static void check_named_zygote(pid_t pid)
{
    char name[64];
    CHECK(test_process_state(pid, NULL, name) != 0);
    CHECK_STR(name, "pp-zygote");
}

BOTH(a_stopped_one_goes_on_to_end_a_call_that_hangs)
{
    pp_future *late;
    pp_pool *pool = open_workers(1, method);
    pid_t zygote = zygote_of(pool);
    check_named_zygote(zygote);
    stop(zygote);
    CHECK_OK(pp_submit_call(pool, &(pp_call){.function = task_hang, .timeout = 50 * harness_scale()}, &late));
    CHECK_OK(pp_future_wait(late, 5000 * (int)harness_scale()));
    drop_failed(late, PP_ERROR_TIMEOUT);
    CHECK(!test_process_alive(shared()->pid[0]));
    CHECK_INT(take_int(submit_int(pool, task_square, 3)), 9);
    pp_pool_destroy(pool);
}

BOTH(a_stopped_one_goes_on_to_start_a_worker)
{
    pid_t pid;
    pp_pool *pool = open_workers(2, method);
    start_workers(pool, 0, 1, &pid);
    pp_future *first = submit_int(pool, task_gate, 1);
    gate_wait_arrived(1, 1);
    stop(parent_of(pid));
    pp_future *second = submit_int(pool, task_square, 3);
    CHECK_OK(pp_future_wait(second, 5000 * (int)harness_scale()));
    CHECK_INT(take_int(second), 9);
    gate_open(1);
    CHECK_INT(take_int(first), pid);
    pp_pool_destroy(pool);
}

BOTH(a_stopped_one_does_not_hold_up_the_end_of_a_pool_whose_call_hangs)
{
    pp_future *late;
    pp_pool *pool = open_workers(1, method);
    pid_t zygote = zygote_of(pool);
    stop(zygote);
    CHECK_OK(pp_submit_call(pool, &(pp_call){.function = task_hang, .timeout = 50 * harness_scale()}, &late));
    pp_pool_destroy(pool);
    drop_failed(late, PP_ERROR_TIMEOUT);
    wait_until(is_gone(zygote), 10);
}

BOTH(a_stopped_one_does_not_hold_up_the_end_of_its_pool)
{
    pp_pool *pool = open_workers(2, method);
    pid_t zygote = zygote_of(pool);
    stop(zygote);
    CHECK_OK(pp_pool_shutdown(pool, 0, 5000 * (int)harness_scale()));
    pp_pool_destroy(pool);
    wait_until(is_gone(zygote), 10);
}
