/* SPDX-License-Identifier: MIT */
/* What must not hold others up: a log function that takes its time, a worker that is stopped, a call that is tried for
 * ever. */
#include "call_kit.h"

/* ---------------------------------------------------------------------------------------------- the log */

struct log {
    _Atomic int lines;
    _Atomic int entered; /* the log function has been called at all */
    _Atomic int gate;    /* it waits for this */
    _Atomic int over;    /* the pool was destroyed: no line may come any more */
};

static void slow_log(void *data, const char *line)
{
    struct log *log = data;
    CHECK(*line);
    CHECK(!atomic_load(&log->over));
    atomic_fetch_add(&log->entered, 1);
    while (!atomic_load(&log->gate))
        test_sleep_ms(1);
    atomic_fetch_add(&log->lines, 1);
}

static int hang(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    while (read_word(9) == 0)
        test_sleep_ms(10);
    return 0;
}

BOTH(a_log_function_that_takes_its_time_delays_no_result_no_timeout_and_no_restart)
{
    static struct log log;
    board_make();
    pp_pool *pool = kit_pool_with(method, (pp_pool_options){.max_workers = 1, .log = slow_log, .log_data = &log});
    pp_future *future;
    expect_end(submit(pool, crash, NULL, 0), -EOWNERDEAD);
    until(atomic_load(&log.entered) == 1);
    CHECK_OK(pp_submit_call(pool, &(pp_call){.function = hang, .timeout = 20}, &future));
    expect_end(future, -ETIME);
    expect_usable(pool);
    CHECK_INT(atomic_load(&log.lines), 0);
    atomic_store(&log.gate, 1);
    pp_pool_destroy(pool);
    CHECK(atomic_load(&log.lines) >= 5); /* three starts, a crash, a kill */
    atomic_store(&log.over, 1);
}

/* -------------------------------------------------------------------------------------------- stopped */

BOTH(a_stopped_idle_worker_does_not_hold_up_the_end_of_its_pool)
{
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    pid_t pids[2];
    pp_future *future = submit(pool, who, NULL, 0);
    CHECK_OK(pp_future_result(future, -1, pids, sizeof pids, NULL));
    pp_future_unref(future);
    CHECK_OK(kill(pids[0], SIGSTOP));
    pp_pool_destroy(pool);
    CHECK(!test_process_alive(pids[0]));
}

static int count_end(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    test_sleep_ms(1500);
    add(0);
    return 0;
}

BOTH(a_finalizer_that_takes_its_time_is_left_to_run)
{
    board_make();
    pp_pool *pool = kit_pool_with(method, (pp_pool_options){.max_workers = 1, .finalizer = count_end});
    expect_usable(pool);
    pp_pool_destroy(pool);
    CHECK_INT(read_word(0), 1);
}

/* --------------------------------------------------------------------------------------------- retries */

BOTH(a_call_that_waits_to_be_tried_again_has_begun)
{
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    pp_future *future;
    const pp_error *error;
    CHECK_OK(pp_submit_call(pool, &(pp_call){.function = crash, .retries = 1000}, &future));
    CHECK_INT(pp_future_wait(future, 50), -ETIMEDOUT);
    for (int i = 0; i < 1000; i++) {
        int code = pp_future_cancel(future);
        CHECK(code == -EBUSY || (i == 0 && code == 0)); /* on a slow machine it may not have begun yet */
        if (code == 0)
            break;
    }
    CHECK_OK(pp_pool_shutdown(pool, PP_CANCEL_PENDING, -1));
    CHECK_OK(pp_future_error(future, 0, &error));
    CHECK(error && (error->kind == PP_ERROR_CRASH || error->kind == PP_ERROR_CANCELLED));
    CHECK(error->kind == PP_ERROR_CANCELLED ? error->tries == 0 : error->tries > 0);
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

BOTH(an_argument_larger_than_any_memory_is_refused)
{
    pp_pool *pool;
    (void)method;
    pp_pool_options options = {.initializer = nothing, .initializer_arg = "", .initializer_arg_size = SIZE_MAX};
    CHECK_INT(pp_pool_create(&options, &pool), -EINVAL);
    options = (pp_pool_options){.finalizer = nothing, .finalizer_arg = "", .finalizer_arg_size = SIZE_MAX};
    CHECK_INT(pp_pool_create(&options, &pool), -EINVAL);
}
