/* SPDX-License-Identifier: MIT */
/* procpool. Every answer tells which process made it, and none may be this one. */
#include "ours.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const bool pool_has_processes = true;
const struct bench_workload pool_own_workloads[] = {{"asleep", ours_asleep},
                                                    {"map", ours_map},
                                                    {"echo", ours_echo},
                                                    {"start", ours_start},
                                                    {"crash", ours_crash},
                                                    {"kill", ours_kill},
                                                    {"workers", ours_workers},
                                                    {"threads", ours_threads},
                                                    {"waiters", ours_waiters},
                                                    {"pending", ours_pending},
                                                    {"completed", ours_completed},
                                                    {"waited", ours_waited},
                                                    {"beside", ours_beside},
                                                    {"mapping", ours_mapping},
                                                    {"arrays", ours_arrays},
                                                    {"manager", ours_manager},
                                                    {NULL, NULL}};

pp_pool *ours;
static pp_wait_policy wait_policy;

/* -------------------------------------------------------------------------------------------------- in a worker */

static int32_t worker_pid; /* 0 in the owner */

int ours_begin(pp_task *task, const void *arg, size_t size)
{
    (void)task;
    (void)arg;
    (void)size;
    worker_pid = getpid();
    return 0;
}

int ours_serve(pp_task *task, const void *arg, size_t size)
{
    struct bench_arg in;
    struct bench_answer out;
    if (size != sizeof in)
        return pp_task_fail(task, -EINVAL, "%zu bytes", size);
    memcpy(&in, arg, sizeof in);
    bench_serve(&in, worker_pid, &out);
    return pp_task_return(task, &out, sizeof out);
}

/* --------------------------------------------------------------------------------------------------- in the owner */

void ours_must(int code)
{
    if (code != 0)
        bench_fail("%s", pp_last_error());
}

pp_pool *ours_make(unsigned workers, pp_launcher *launcher)
{
    pp_pool *made;
    pp_pool_options options = {
        .max_workers = (int)workers, .wait = wait_policy, .launcher = launcher, .initializer = ours_begin};
    if (!launcher && pool_gate[0] >= 0) {
        options.inherit_fds = pool_gate;
        options.inherit_fd_count = 1;
    }
    ours_must(pp_pool_create(&options, &made));
    return made;
}

void pool_begin(void)
{
    pp_worker_main();
}

void pool_version(void)
{
    printf("procpool %s\n", pp_version());
}

void pool_run(unsigned workers, void (*body)(void *), void *data)
{
    ours = ours_make(workers, NULL);
    body(data);
    pp_pool_destroy(ours);
}

void pool_submit(struct bench_job *job)
{
    pp_future *future;
    ours_must(pp_submit(ours, ours_serve, &job->arg, sizeof job->arg, &future));
    job->handle = future;
}

void pool_wait(struct bench_job *job)
{
    ours_must(pp_future_result(job->handle, -1, &job->answer, sizeof job->answer, NULL));
    pp_future_unref(job->handle);
}

void ours_occupy(struct bench_job *jobs, unsigned workers)
{
    pool_make_jobs(jobs, workers, BENCH_STAMP);
    for (unsigned i = 0; i < workers; i++) {
        jobs[i].arg.pause = -pool_gate[0];
        pool_submit(&jobs[i]);
    }
    for (unsigned i = 0; i < workers; i++)
        while (pp_future_state(jobs[i].handle) == PP_PENDING)
            bench_sleep(100000);
}

/* As round_trip, with the policy under which everybody sleeps at once. */
void ours_asleep(char **params)
{
    wait_policy = PP_WAIT_SLEEP;
    pool_round_trip(params);
}
