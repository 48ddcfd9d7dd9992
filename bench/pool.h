/* SPDX-License-Identifier: MIT */
/* What a pool has to do to be measured: the adapters implement this, pool.c has the workloads, the same for all. */
#ifndef PP_BENCH_POOL_H
#define PP_BENCH_POOL_H

#include "bench.h"

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* One call; the caller keeps it until it has been waited for. */
struct bench_job {
    struct bench_arg arg;
    struct bench_answer answer; /* there when pool_wait has returned */
    void *handle;               /* the adapter's */
    uint32_t state;             /* see below; 0 before the submit */
};

extern const bool pool_has_processes;                    /* calls run in other processes than this one */
extern const struct bench_workload pool_own_workloads[]; /* in place of pool.c's of the same name */

void pool_begin(void);   /* first thing in a process that makes pools */
void pool_version(void); /* prints name and version */

/* Runs body(data) while there is a pool with so many workers. */
void pool_run(unsigned workers, void (*body)(void *), void *data);

void pool_submit(struct bench_job *job);
void pool_wait(struct bench_job *job); /* each job is waited for once, in the order of the submits */

/* ---------------------------------------------------------------------------------- workloads for adapters */

void pool_round_trip(char **params);

void pool_make_jobs(struct bench_job *jobs, size_t count, uint32_t steps);
void pool_check_jobs(const struct bench_job *jobs, size_t count);
void pool_stream(struct bench_job *jobs, size_t count); /* submits all, waits for all */

/* A pipe, opened before pool_run: calls whose pause is -pool_gate[0] last until they are let through. -1: none. */
extern int pool_gate[2];
void pool_open_gate(void);
void pool_pass_gate(unsigned count);

/* The cheapest future there is, for pools that have none: a word, and a futex if somebody sleeps. */
void bench_job_done(struct bench_job *job);
void bench_job_await(struct bench_job *job);

#ifdef __cplusplus
}
#endif

#endif
