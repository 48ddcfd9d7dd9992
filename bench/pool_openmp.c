/* SPDX-License-Identifier: MIT */
/* OpenMP tasks. Who waits helps, and past some number of pending tasks who submits runs them at once. */
#include "pool.h"

#include <omp.h>
#include <stdio.h>
#include <unistd.h>

const bool pool_has_processes = false;
const struct bench_workload pool_own_workloads[] = {{NULL, NULL}};

static int32_t self;

void pool_begin(void)
{
    self = getpid();
}

void pool_version(void)
{
    printf("OpenMP %d (libgomp of gcc %s)\n", _OPENMP, __VERSION__);
}

/* The caller is one of the threads; workers as many as elsewhere. */
void pool_run(unsigned workers, void (*body)(void *), void *data)
{
#pragma omp parallel num_threads(workers + 1)
#pragma omp single
    body(data);
}

void pool_submit(struct bench_job *job)
{
#pragma omp task firstprivate(job)
    {
        bench_serve(&job->arg, self, &job->answer);
        __atomic_store_n(&job->state, 1, __ATOMIC_RELEASE);
    }
}

/* For all tasks; there is no waiting for one. */
void pool_wait(struct bench_job *job)
{
    if (!__atomic_load_n(&job->state, __ATOMIC_ACQUIRE)) {
#pragma omp taskwait
    }
}
