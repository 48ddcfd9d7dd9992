/* SPDX-License-Identifier: MIT */
/* What starts and deaths of procpool's workers take. */
#include "ours.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void call(struct bench_job *job, uint64_t n)
{
    *job = (struct bench_job){.arg = {.n = n}};
    pool_submit(job);
    pool_wait(job);
}

/* ------------------------------------------------------------------------------------------------------ starts */

static pp_launcher *make_launcher(const char *method)
{
    pp_launcher *launcher;
    pp_start_method start = strcmp(method, "fork") == 0 ? PP_START_FORK : PP_START_FORKSERVER;
    ours_must(pp_launcher_create(&(pp_launcher_options){.start_method = start}, &launcher));
    return launcher;
}

/* ns: from nothing but a launcher to the first result, and of the pool's end. */
struct life {
    uint64_t first, destroyed;
};

/* Of the launcher nothing was asked for `rest` ns. */
static struct life time_start(pp_launcher *launcher, uint64_t n, uint64_t rest)
{
    struct bench_job job;
    struct life life;
    if (rest)
        bench_sleep(rest);
    uint64_t begin = bench_now();
    ours = ours_make(2, launcher);
    call(&job, n);
    life.first = bench_now() - begin;
    pool_check_jobs(&job, 1);
    begin = bench_now();
    pp_pool_destroy(ours);
    life.destroyed = bench_now() - begin;
    return life;
}

static void report_times(const char *metric, uint64_t *times, unsigned count)
{
    bench_report(metric, bench_percentile(times, count, 50) / 1e6, "ms");
}

/* A launcher that has rested has a process forked ahead, one that is asked for pools in a row has not. */
static void time_starts(pp_launcher *launcher, unsigned count, uint64_t rest)
{
    uint64_t *first = bench_alloc(count * sizeof *first), *destroyed = bench_alloc(count * sizeof *destroyed);
    time_start(launcher, 0, rest); /* warms up */
    for (unsigned i = 0; i < count; i++) {
        struct life life = time_start(launcher, i, rest);
        first[i] = life.first;
        destroyed[i] = life.destroyed;
    }
    report_times(rest ? "first" : "first_in_a_row", first, count);
    report_times(rest ? "destroyed" : "destroyed_in_a_row", destroyed, count);
}

/* Runs it with a launcher that is made when so many mebibytes are resident, or before. */
static void with_launcher(char **params, void (*run)(pp_launcher *launcher, unsigned count))
{
    const char *method = bench_text(&params);
    unsigned mebibytes = bench_number(&params);
    bool before = strcmp(bench_text(&params), "before") == 0;
    unsigned count = bench_number(&params);
    bench_make_resident(before ? mebibytes : 0);
    pp_launcher *launcher = make_launcher(method);
    bench_make_resident(before ? 0 : mebibytes);
    run(launcher, count);
    pp_launcher_unref(launcher);
}

static void run_starts(pp_launcher *launcher, unsigned count)
{
    time_starts(launcher, count, BENCH_REST);
    time_starts(launcher, count, 0);
}

/* fork|forkserver, mebibytes made resident, before|after the launcher, how often */
void ours_start(char **params)
{
    with_launcher(params, run_starts);
}

/* ------------------------------------------------------------------------------------------------------ deaths */

static int die(pp_task *task, const void *arg, size_t size)
{
    (void)arg;
    (void)size;
    kill(getpid(), SIGKILL);
    return pp_task_fail(task, -1, "survived");
}

/* Waits for the death of the call's worker. */
static void await_death(pp_future *future, pid_t pid)
{
    const pp_error *error;
    ours_must(pp_future_error(future, -1, &error));
    if (!error || error->kind != PP_ERROR_CRASH || error->signal != SIGKILL || error->pid != pid)
        bench_fail("the call failed in another way than by its worker's death");
}

/* ns: from the submit of a call that crashes to its failure, from there to the next result, by the worker's successor,
 * and both together. What is forked ahead may be in the way of the report as well as of the result. */
struct crash {
    uint64_t failed, replaced, next;
};

/* The crash comes after `pause` ns. */
static struct crash time_crash(uint64_t n, uint64_t pause)
{
    struct bench_job before, after;
    struct crash crash;
    pp_future *future;
    call(&before, n);
    if (pause)
        bench_sleep(pause);
    uint64_t begin = bench_now();
    ours_must(pp_submit(ours, die, NULL, 0, &future));
    await_death(future, before.answer.pid);
    crash.failed = bench_now() - begin;
    call(&after, n);
    crash.next = bench_now() - begin;
    crash.replaced = crash.next - crash.failed;
    pool_check_jobs(&after, 1);
    if (after.answer.pid == before.answer.pid)
        bench_fail("the worker lives");
    pp_future_unref(future);
    return crash;
}

/* Crashes so far apart find a standby worker, those in a row one that is in the making. */
#define APART 10000000

static void time_crashes(pp_launcher *launcher, unsigned count, uint64_t pause)
{
    uint64_t *failed = bench_alloc(count * sizeof *failed), *replaced = bench_alloc(count * sizeof *replaced);
    uint64_t *next = bench_alloc(count * sizeof *next);
    ours = ours_make(1, launcher);
    for (unsigned i = 0; i < count; i++) {
        struct crash crash = time_crash(i, pause);
        failed[i] = crash.failed;
        replaced[i] = crash.replaced;
        next[i] = crash.next;
    }
    pp_pool_destroy(ours);
    report_times(pause ? "failed" : "failed_in_a_row", failed, count);
    report_times(pause ? "replaced" : "replaced_in_a_row", replaced, count);
    report_times(pause ? "next" : "next_in_a_row", next, count);
}

static void run_crashes(pp_launcher *launcher, unsigned count)
{
    time_crashes(launcher, count, APART);
    time_crashes(launcher, count, 0);
}

/* as start: of crashes of the only worker */
void ours_crash(char **params)
{
    with_launcher(params, run_crashes);
}

/* From a kill to the failure, and from there to the next result. */
struct death {
    uint64_t failed, next;
};

static struct death time_kill(uint64_t n)
{
    struct bench_job before, busy = {.arg = {.n = n, .pause = 60000000}}, after;
    struct death death;
    call(&before, n);
    pool_submit(&busy);
    while (pp_future_state(busy.handle) != PP_RUNNING)
        bench_sleep(100000);
    bench_sleep(1000000);
    uint64_t begin = bench_now();
    kill(before.answer.pid, SIGKILL);
    await_death(busy.handle, before.answer.pid);
    death.failed = bench_now() - begin;
    call(&after, n);
    death.next = bench_now() - begin - death.failed;
    pool_check_jobs(&after, 1);
    pp_future_unref(busy.handle);
    return death;
}

static void run_kills(void *data)
{
    unsigned count = *(unsigned *)data;
    uint64_t *failed = bench_alloc(count * sizeof *failed), *next = bench_alloc(count * sizeof *next);
    for (unsigned i = 0; i < count; i++) {
        struct death death = time_kill(i);
        failed[i] = death.failed;
        next[i] = death.next;
    }
    bench_report("failed", bench_percentile(failed, count, 50) / 1e6, "ms");
    bench_report("next", bench_percentile(next, count, 50) / 1e6, "ms");
}

/* kills */
void ours_kill(char **params)
{
    unsigned count = bench_number(&params);
    pool_run(1, run_kills, &count);
}
