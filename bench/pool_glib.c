/* SPDX-License-Identifier: MIT */
/* GLib's GThreadPool: threads that sleep on a queue. */
#include "pool.h"

#include <glib.h>
#include <stdio.h>
#include <unistd.h>

const bool pool_has_processes = false;
const struct bench_workload pool_own_workloads[] = {{NULL, NULL}};

static GThreadPool *pool;
static int32_t self;

static void serve(gpointer data, gpointer unused)
{
    struct bench_job *job = data;
    (void)unused;
    bench_serve(&job->arg, self, &job->answer);
    bench_job_done(job);
}

void pool_begin(void)
{
    self = getpid();
}

void pool_version(void)
{
    printf("GLib %u.%u.%u\n", glib_major_version, glib_minor_version, glib_micro_version);
}

void pool_run(unsigned workers, void (*body)(void *), void *data)
{
    pool = g_thread_pool_new(serve, NULL, (gint)workers, TRUE, NULL);
    if (!pool)
        bench_fail("no pool can be made");
    body(data);
    g_thread_pool_free(pool, FALSE, TRUE);
}

void pool_submit(struct bench_job *job)
{
    g_thread_pool_push(pool, job, NULL);
}

void pool_wait(struct bench_job *job)
{
    bench_job_await(job);
}
