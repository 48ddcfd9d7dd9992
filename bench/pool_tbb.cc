/* SPDX-License-Identifier: MIT */
/* oneTBB: enqueue hands calls over to an arena's threads; task_group lets who waits run them too (BENCH_TBB_GROUP). */
#include "pool.h"

#include <cstdio>
#include <tbb/global_control.h>
#include <tbb/task_arena.h>
#include <tbb/task_group.h>
#include <tbb/version.h>
#include <unistd.h>

extern "C" {
extern const bool pool_has_processes = false;
extern const struct bench_workload pool_own_workloads[] = {{nullptr, nullptr}};
}

static int32_t self;

void pool_begin(void)
{
    self = getpid();
}

#ifdef BENCH_TBB_GROUP

static tbb::task_group *group;

void pool_version(void)
{
    std::printf("oneTBB %s, task_group\n", TBB_runtime_version());
}

/* The caller is one of the threads; workers as many as elsewhere. */
void pool_run(unsigned workers, void (*body)(void *), void *data)
{
    tbb::global_control limit(tbb::global_control::max_allowed_parallelism, workers + 1);
    tbb::task_arena arena(static_cast<int>(workers) + 1, 1);
    arena.execute([=] {
        tbb::task_group tasks;
        group = &tasks;
        body(data);
        tasks.wait();
    });
}

void pool_submit(struct bench_job *job)
{
    group->run([job] {
        bench_serve(&job->arg, self, &job->answer);
        __atomic_store_n(&job->state, 1, __ATOMIC_RELEASE);
    });
}

/* For all calls; there is no waiting for one. */
void pool_wait(struct bench_job *job)
{
    if (!__atomic_load_n(&job->state, __ATOMIC_ACQUIRE))
        group->wait();
}

#else

static tbb::task_arena *arena;

void pool_version(void)
{
    std::printf("oneTBB %s, enqueue\n", TBB_runtime_version());
}

void pool_run(unsigned workers, void (*body)(void *), void *data)
{
    tbb::global_control limit(tbb::global_control::max_allowed_parallelism, workers + 1);
    tbb::task_arena threads(static_cast<int>(workers), 0);
    arena = &threads;
    body(data);
}

void pool_submit(struct bench_job *job)
{
    arena->enqueue([job] {
        bench_serve(&job->arg, self, &job->answer);
        bench_job_done(job);
    });
}

void pool_wait(struct bench_job *job)
{
    bench_job_await(job);
}

#endif
