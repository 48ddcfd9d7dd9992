/* SPDX-License-Identifier: MIT */
/* For tests of workers that write garbage: who did is on the board, and innocent calls beside them end well, or in such
 * a worker. */
#ifndef PP_TESTS_POOL_VANDAL_KIT_H
#define PP_TESTS_POOL_VANDAL_KIT_H

#include "processes_kit.h"

#define VANDALS 4096 /* of shared()->runs: processes that wrote garbage; behind them, who ran innocent calls */

static inline void note_vandal(void)
{
    shared()->runs[shared()->words[0]++ % VANDALS] = (uint32_t)getpid();
}

static inline bool was_vandal(pid_t pid)
{
    for (int i = 0; i < VANDALS; i++)
        if (shared()->runs[i] == (uint32_t)pid)
            return true;
    return false;
}

/* Says on the board who ran it. */
static inline int task_innocent(pp_task *task, const void *arg, size_t size)
{
    shared()->runs[VANDALS + read_int(arg)] = (uint32_t)getpid();
    return task_square(task, arg, size);
}

/* Thread sanitizer ends a worker whose second thread races with it on purpose. */
static inline bool has_raced(const pp_error *error)
{
    return KIT_TSAN && error && error->kind == PP_ERROR_CRASH && error->status == 66 && was_vandal(error->pid);
}

/* The right result, unless it came, or did not come, from a worker that wrote garbage. */
static inline void check_innocent(pp_future *future, int index)
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

static inline void warm_up(pp_pool *pool)
{
    pp_future *futures[30];
    for (int i = 0; i < 30; i++)
        futures[i] = submit_int(pool, task_innocent, i);
    for (int i = 0; i < 30; i++)
        check_innocent(futures[i], i);
}

#endif
