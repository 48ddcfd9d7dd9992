/* SPDX-License-Identifier: MIT */
/* libuv's work queue: threads that sleep on a queue; the loop runs in who waits. */
#include "pool.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <uv.h>

const bool pool_has_processes = false;
const struct bench_workload pool_own_workloads[] = {{NULL, NULL}};

static uv_loop_t *loop;
static int32_t self;

static void serve(uv_work_t *work)
{
    struct bench_job *job = work->data;
    bench_serve(&job->arg, self, &job->answer);
}

static void note_end(uv_work_t *work, int status)
{
    struct bench_job *job = work->data;
    if (status != 0)
        bench_fail("%s", uv_strerror(status));
    job->state = 1;
    free(work);
}

void pool_begin(void)
{
    self = getpid();
}

void pool_version(void)
{
    printf("libuv %s\n", uv_version_string());
}

void pool_run(unsigned workers, void (*body)(void *), void *data)
{
    char number[16];
    snprintf(number, sizeof number, "%u", workers);
    setenv("UV_THREADPOOL_SIZE", number, 1);
    loop = uv_default_loop();
    body(data);
    uv_loop_close(loop);
}

void pool_submit(struct bench_job *job)
{
    uv_work_t *work = malloc(sizeof *work);
    if (!work)
        bench_fail("no memory");
    work->data = job;
    if (uv_queue_work(loop, work, serve, note_end) != 0)
        bench_fail("libuv refused a call");
}

void pool_wait(struct bench_job *job)
{
    while (!job->state)
        uv_run(loop, UV_RUN_ONCE);
}
