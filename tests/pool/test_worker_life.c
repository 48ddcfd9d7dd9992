/* SPDX-License-Identifier: MIT */
/* Workers that take too long to start or to leave. */
#include "processes_kit.h"

/* Never comes back, whatever it gets. */
_Noreturn static int hang(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    shared()->words[0]++;
    for (;;)
        pause();
}

static int hang_at_gate(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    gate_wait(5);
    return 0;
}

static char lines[8192];

static void keep_line(void *data, const char *line)
{
    (void)data;
    size_t used = strlen(lines);
    snprintf(lines + used, sizeof lines - used, "%s\n", line);
}

/* ---------------------------------------------------------------------------------------------- starting */

/* Long enough for a worker to have begun with its initializer. */
static uint32_t start_time(void)
{
    return 1000 * harness_scale();
}

BOTH(an_initializer_that_hangs_breaks_the_pool_with_its_cause)
{
    pp_future *futures[4];
    pp_pool *pool =
        open_pool((pp_pool_options){.max_workers = 2, .initializer = hang, .start_timeout = start_time()}, method);
    for (int i = 0; i < 4; i++)
        futures[i] = submit_int(pool, task_square, i);
    for (int i = 0; i < 4; i++) {
        const pp_error *error = error_of(futures[i], PP_ERROR_BROKEN);
        CHECK_INT(error->task_code, ETIMEDOUT);
        CHECK_HAS(error->message, "start_timeout");
        CHECK_HAS(error->message, "initializer");
        pp_future_unref(futures[i]);
    }
    CHECK(shared()->words[0] <= 2); /* no others were started for them */
    CHECK_INT(pp_submit(pool, task_square, NULL, 0, &futures[0]), -ENOTRECOVERABLE);
    CHECK_OK(pp_pool_shutdown(pool, 0, -1));
    pp_pool_destroy(pool);
}

BOTH(a_shutdown_does_not_wait_for_an_initializer_longer_than_start_timeout)
{
    pp_pool *pool =
        open_pool((pp_pool_options){.max_workers = 1, .initializer = hang, .start_timeout = start_time()}, method);
    pp_future *future = submit_int(pool, task_square, 1);
    wait_until(shared()->words[0] == 1, 60);
    CHECK_OK(pp_future_cancel(future));
    CHECK_OK(pp_pool_shutdown(pool, 0, -1));
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

BOTH(an_initializer_that_takes_its_time_is_waited_for)
{
    pp_pool *pool =
        open_pool((pp_pool_options){.max_workers = 1, .initializer = hang_at_gate, .start_timeout = 600000}, method);
    pp_future *future = submit_int(pool, task_square, 3);
    gate_wait_arrived(5, 1);
    CHECK_INT(pp_future_wait(future, 50), -ETIMEDOUT);
    gate_open(5);
    CHECK_INT(take_int(future), 9);
    pp_pool_destroy(pool);
}

/* Only the start has a limit: what runs afterwards does not. */
BOTH(a_worker_that_was_ready_in_time_may_take_longer_for_a_call)
{
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 1, .start_timeout = 2 * start_time()}, method);
    pp_future *future = submit_int(pool, task_gate, 5);
    gate_wait_arrived(5, 1);
    test_sleep_ms(2 * start_time() + 200);
    gate_open(5);
    CHECK(take_int(future) > 0);
    pp_pool_destroy(pool);
}

/* ----------------------------------------------------------------------------------------------- leaving */

BOTH(a_finalizer_that_hangs_is_killed_and_the_pool_ends)
{
    pp_pool *pool = open_pool(
        (pp_pool_options){.max_workers = 2, .finalizer = hang, .finalizer_timeout = 300, .log = keep_line}, method);
    pid_t pids[2];
    start_workers(pool, 0, 2, pids);
    pp_pool_destroy(pool);
    CHECK_INT(shared()->words[0], 2);
    CHECK(is_gone(pids[0]) && is_gone(pids[1]));
    CHECK_HAS(lines, "finalizer_timeout");
}

BOTH(a_finalizer_that_is_done_in_time_is_left_to_run)
{
    pp_pool *pool =
        open_pool((pp_pool_options){.max_workers = 1, .finalizer = hang_at_gate, .finalizer_timeout = 600000}, method);
    CHECK_INT(take_int(submit_int(pool, task_square, 3)), 9);
    CHECK_INT(pp_pool_shutdown(pool, 0, 0), -ETIMEDOUT);
    gate_wait_arrived(5, 1);
    CHECK_INT(pp_pool_shutdown(pool, 0, 1300), -ETIMEDOUT); /* longer than one that does not begin to leave is given */
    gate_open(5);
    pp_pool_destroy(pool);
}
