/* SPDX-License-Identifier: MIT */
/* The workloads that every pool can do, ours and the others, through what pool.h asks of an adapter. */
#include "pool.h"

#include <linux/futex.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORKERS 2

/* --------------------------------------------------------------------------------------------------- futures */

enum { JOB_OPEN, JOB_DONE, JOB_AWAITED };

void bench_job_done(struct bench_job *job)
{
    if (__atomic_exchange_n(&job->state, JOB_DONE, __ATOMIC_ACQ_REL) == JOB_AWAITED)
        syscall(SYS_futex, &job->state, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

void bench_job_await(struct bench_job *job)
{
    uint32_t open = JOB_OPEN;
    if (!__atomic_compare_exchange_n(&job->state, &open, JOB_AWAITED, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        return;
    while (__atomic_load_n(&job->state, __ATOMIC_ACQUIRE) != JOB_DONE)
        syscall(SYS_futex, &job->state, FUTEX_WAIT_PRIVATE, JOB_AWAITED, NULL, NULL, 0);
}

/* ------------------------------------------------------------------------------------------------------ jobs */

void pool_make_jobs(struct bench_job *jobs, size_t count, uint32_t steps)
{
    for (size_t i = 0; i < count; i++)
        jobs[i] = (struct bench_job){.arg = {.n = i, .steps = steps}};
}

void pool_check_jobs(const struct bench_job *jobs, size_t count)
{
    int32_t self = getpid();
    for (size_t i = 0; i < count; i++) {
        bench_check(&jobs[i].arg, &jobs[i].answer);
        if (jobs[i].answer.pid <= 0 || (jobs[i].answer.pid != self) != pool_has_processes)
            bench_fail("a call ran in process %d, asked for by %d", jobs[i].answer.pid, self);
    }
}

void pool_stream(struct bench_job *jobs, size_t count)
{
    for (size_t i = 0; i < count; i++)
        pool_submit(&jobs[i]);
    for (size_t i = 0; i < count; i++)
        pool_wait(&jobs[i]);
}

/* So that all workers have started and memory is in use. */
static void warm_up(struct bench_job *jobs, size_t count, uint32_t steps)
{
    pool_make_jobs(jobs, count, steps);
    pool_stream(jobs, count);
    pool_check_jobs(jobs, count);
}

/* ------------------------------------------------------------------------------------------------ round trips */

struct round_trip {
    unsigned count, pause;
};

static void run_round_trip(void *data)
{
    const struct round_trip *r = data;
    uint64_t *times = bench_alloc(r->count * sizeof *times);
    struct bench_job *jobs = bench_alloc(r->count * sizeof *jobs);
    warm_up(jobs, r->count / 10 + 1, 0);
    pool_make_jobs(jobs, r->count, 0);
    for (unsigned i = 0; i < r->count; i++) {
        if (r->pause)
            bench_sleep(r->pause * 1000u);
        uint64_t begin = bench_now();
        pool_submit(&jobs[i]);
        pool_wait(&jobs[i]);
        times[i] = bench_now() - begin;
    }
    pool_check_jobs(jobs, r->count);
    bench_report("p50", bench_percentile(times, r->count, 50) / 1e3, "us");
    bench_report("p99", bench_percentile(times, r->count, 99) / 1e3, "us");
}

/* calls, microseconds between them */
void pool_round_trip(char **params)
{
    struct round_trip r = {0};
    r.count = bench_number(&params);
    r.pause = bench_number(&params);
    pool_run(WORKERS, run_round_trip, &r);
}

/* ---------------------------------------------------------------------------------------------------- streams */

#define STREAM_NS 200000000

static uint64_t time_stream(struct bench_job *jobs, size_t count)
{
    pool_make_jobs(jobs, count, 0);
    uint64_t begin = bench_now();
    pool_stream(jobs, count);
    uint64_t took = bench_now() - begin;
    pool_check_jobs(jobs, count);
    return took;
}

/* The first one brings the memory for so many into use: what it is had from the kernel, and from the machine below, for
 * is told apart. Few pending calls are measured many times. */
static void run_stream(void *data)
{
    size_t count = *(unsigned *)data;
    unsigned rounds = 0;
    struct bench_job *jobs = bench_alloc(count * sizeof *jobs);
    warm_up(jobs, count < 20000 ? count : 20000, 0);
    uint64_t first = time_stream(jobs, count), took = 0;
    for (; took < STREAM_NS && (rounds == 0 || rounds * count < 1000000); rounds++)
        took += time_stream(jobs, count);
    bench_report("rate", (double)count * rounds / (double)took * 1e3, "M/s");
    bench_report("first", (double)count / (double)first * 1e3, "M/s");
}

/* calls */
static void stream(char **params)
{
    unsigned count = bench_number(&params);
    pool_run(WORKERS, run_stream, &count);
}

/* --------------------------------------------------------------------------------------------------- busy calls */

#define ROUNDS 5 /* in turn with the split, and the median of them */

struct busy {
    unsigned microseconds, count;
};

static double time_busy(struct bench_job *jobs, unsigned count, uint32_t steps)
{
    pool_make_jobs(jobs, count, steps);
    uint64_t begin = bench_now();
    pool_stream(jobs, count);
    double took = (double)(bench_now() - begin);
    pool_check_jobs(jobs, count);
    return took;
}

static void run_busy(void *data)
{
    const struct busy *busy = data;
    uint32_t steps = bench_steps(busy->microseconds * 1e3);
    struct bench_job *jobs = bench_alloc(busy->count * sizeof *jobs);
    struct bench_split split;
    double percents[ROUNDS], times[ROUNDS];
    bench_split_open(&split, busy->count, steps);
    warm_up(jobs, busy->count < 100 ? busy->count : 100, 0);
    for (int i = 0; i < ROUNDS; i++) {
        double half = bench_split_run(&split);
        times[i] = time_busy(jobs, busy->count, steps);
        percents[i] = half / times[i] * 100;
    }
    bench_report("percent", bench_median(percents, ROUNDS), "%");
    bench_report("time", bench_median(times, ROUNDS) / 1e6, "ms");
}

/* microseconds, calls */
static void busy(char **params)
{
    struct busy b = {0};
    b.microseconds = bench_number(&params);
    b.count = bench_number(&params);
    pool_run(WORKERS, run_busy, &b);
}

/* ------------------------------------------------------------------------------------------- long and short calls */

#define LONG_US 10000
#define SHORT_NS 5000
#define MIXED_GAP_NS 105000 /* the mean call, so half of what two workers can do */

/* One in a hundred, at places that look random and are the same for all. */
static bool is_long(uint64_t i)
{
    i = (i + 1) * 0x9e3779b97f4a7c15u;
    i = (i ^ i >> 30) * 0xbf58476d1ce4e5b9u;
    i = (i ^ i >> 27) * 0x94d049bb133111ebu;
    return (i ^ i >> 31) % 100 == 0;
}

/* Those that sleep do so from the beginning, so that the machine's processors are never short. */
static void run_mixed(void *data)
{
    size_t count = *(unsigned *)data, shorts = 0;
    uint32_t steps = bench_steps(SHORT_NS);
    struct bench_job *jobs = bench_alloc(count * sizeof *jobs);
    uint64_t *submitted = bench_alloc(count * sizeof *submitted);
    warm_up(jobs, 100, 0);
    pool_make_jobs(jobs, count, steps | BENCH_STAMP);
    uint64_t begin = bench_now();
    for (size_t i = 0; i < count; i++) {
        if (is_long(i))
            jobs[i].arg.pause = LONG_US;
        bench_sleep_until(begin + i * MIXED_GAP_NS);
        submitted[i] = bench_now();
        pool_submit(&jobs[i]);
    }
    for (size_t i = 0; i < count; i++)
        pool_wait(&jobs[i]);
    pool_check_jobs(jobs, count);
    for (size_t i = 0; i < count; i++)
        if (!is_long(i))
            submitted[shorts++] = jobs[i].answer.value - submitted[i];
    bench_report("p50", bench_percentile(submitted, shorts, 50) / 1e6, "ms");
    bench_report("p99", bench_percentile(submitted, shorts, 99) / 1e6, "ms");
}

/* calls */
static void mixed(char **params)
{
    unsigned count = bench_number(&params);
    pool_run(WORKERS, run_mixed, &count);
}

/* ----------------------------------------------------------------------------------------------------- memory */

int pool_gate[2] = {-1, -1};

void pool_open_gate(void)
{
    if (pipe(pool_gate) != 0)
        bench_fail("no pipe can be made");
}

void pool_pass_gate(unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (write(pool_gate[1], "", 1) != 1)
            bench_fail("a pipe can't be written");
}

/* What the pool keeps for each pending call, besides the caller's own job. */
static void run_memory(void *data)
{
    size_t count = *(unsigned *)data;
    struct bench_job *jobs = bench_alloc((count + WORKERS) * sizeof *jobs);
    pool_make_jobs(jobs, count + WORKERS, 0);
    for (int i = 0; i < WORKERS; i++) {
        jobs[i].arg.pause = -pool_gate[0];
        pool_submit(&jobs[i]);
    }
    bench_sleep(50000000);
    size_t resident = bench_resident(), allocated = mallinfo2().uordblks + mallinfo2().hblkhd;
    for (size_t i = 0; i < count; i++)
        pool_submit(&jobs[WORKERS + i]);
    bench_report("resident", (double)(bench_resident() - resident) / (double)count, "B");
    bench_report("allocated", (double)(mallinfo2().uordblks + mallinfo2().hblkhd - allocated) / (double)count, "B");
    pool_pass_gate(WORKERS);
    for (size_t i = 0; i < count + WORKERS; i++)
        pool_wait(&jobs[i]);
    pool_check_jobs(jobs, count + WORKERS);
}

/* pending calls */
static void memory(char **params)
{
    unsigned count = bench_number(&params);
    pool_open_gate();
    pool_run(WORKERS, run_memory, &count);
}

/* ------------------------------------------------------------------------------------------------------- echo */

#define WARM_ECHOES 3

/* What a call of threads reads, and where it leaves its answer. */
struct echo {
    size_t size;
    unsigned count;
    char *data, *there, *back;
};

/* Copied in by the caller, and by the call to where the answer is read: as often as between processes. */
static uint64_t time_echo(const struct echo *e, unsigned n)
{
    struct bench_copy copy = {e->back, e->there, e->size};
    struct bench_job job = {.arg = {.n = (uintptr_t)&copy, .steps = BENCH_COPY}};
    memset(e->data, (int)('a' + n % 26), e->size);
    uint64_t begin = bench_now();
    memcpy(e->there, e->data, e->size);
    pool_submit(&job);
    pool_wait(&job);
    uint64_t took = bench_now() - begin;
    pool_check_jobs(&job, 1);
    if (memcmp(e->back, e->data, e->size) != 0)
        bench_fail("a wrong echo");
    return took;
}

static void run_echo(void *data)
{
    const struct echo *e = data;
    uint64_t *times = bench_alloc(e->count * sizeof *times);
    for (unsigned i = 0; i < WARM_ECHOES; i++)
        time_echo(e, i);
    for (unsigned i = 0; i < e->count; i++)
        times[i] = time_echo(e, i + WARM_ECHOES);
    bench_report("p50", bench_percentile(times, e->count, 50) / 1e6, "ms");
}

/* bytes, calls */
static void echo(char **params)
{
    struct echo e = {0};
    e.size = bench_number(&params);
    e.count = bench_number(&params);
    e.data = bench_alloc(e.size);
    e.there = bench_alloc(e.size);
    e.back = bench_alloc(e.size);
    pool_run(1, run_echo, &e);
}

/* ------------------------------------------------------------------------------------------------------ starts */

struct start {
    uint64_t begin, *took;
};

static void run_start(void *data)
{
    const struct start *start = data;
    struct bench_job job;
    pool_make_jobs(&job, 1, 0);
    pool_submit(&job);
    pool_wait(&job);
    *start->took = bench_now() - start->begin;
    pool_check_jobs(&job, 1);
}

/* In a process of its own, since some keep their threads for the next pool. */
static void time_start(uint64_t *took)
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        pool_begin(); /* who it is */
        struct start start = {bench_now(), took};
        pool_run(WORKERS, run_start, &start);
        _exit(0);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
        bench_fail("no pool was started");
}

/* how often: from nothing to the first result */
static void start(char **params)
{
    unsigned count = bench_number(&params);
    uint64_t *times = bench_share(count * sizeof *times);
    for (unsigned i = 0; i < count; i++)
        time_start(&times[i]);
    bench_report("p50", bench_percentile(times, count, 50) / 1e6, "ms");
}

/* ------------------------------------------------------------------------------------------------------- main */

static void version(char **params)
{
    (void)params;
    pool_version();
}

int main(int argc, char **argv)
{
    static const struct bench_workload workloads[] = {{"version", version}, {"round_trip", pool_round_trip},
                                                      {"stream", stream},   {"busy", busy},
                                                      {"mixed", mixed},     {"memory", memory},
                                                      {"echo", echo},       {"start", start},
                                                      {NULL, NULL}};
    pool_begin();
    return bench_main(argc, argv, pool_own_workloads, workloads);
}
