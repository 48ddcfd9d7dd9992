/* SPDX-License-Identifier: MIT */
/* std::async: a thread for each call, so for fewer calls at a time. */
#include "pool.h"

#include <cstdio>
#include <future>
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

void pool_version(void)
{
    std::printf("std::async of g++ %s\n", __VERSION__);
}

void pool_run(unsigned, void (*body)(void *), void *data)
{
    body(data);
}

void pool_submit(struct bench_job *job)
{
    auto serve = [job] { bench_serve(&job->arg, self, &job->answer); };
    job->handle = new std::future<void>(std::async(std::launch::async, serve));
}

void pool_wait(struct bench_job *job)
{
    auto *future = static_cast<std::future<void> *>(job->handle);
    future->get();
    delete future;
}
