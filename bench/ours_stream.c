/* SPDX-License-Identifier: MIT */
/* Streams of procpool alone: submitted as arrays, and what the pool's own thread does meanwhile. */
#include "ours.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS 5

/* ------------------------------------------------------------------------------------------------------ arrays */

struct arrays {
    unsigned calls, each;
};

static void submit_array(struct bench_job *jobs, pp_call *calls, pp_future **futures, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        calls[i] = (pp_call){.function = ours_serve, .arg = &jobs[i].arg, .size = sizeof jobs[i].arg};
    if (pp_submit_many(ours, calls, count, futures) != (ssize_t)count)
        bench_fail("%s", pp_last_error());
    for (unsigned i = 0; i < count; i++)
        jobs[i].handle = futures[i];
}

static uint64_t time_arrays(const struct arrays *arrays, struct bench_job *jobs)
{
    pp_call *calls = bench_alloc(arrays->each * sizeof *calls);
    pp_future **futures = bench_alloc(arrays->each * sizeof *futures);
    pool_make_jobs(jobs, arrays->calls, 0);
    uint64_t begin = bench_now();
    for (unsigned i = 0; i < arrays->calls; i += arrays->each)
        submit_array(jobs + i, calls, futures, arrays->each < arrays->calls - i ? arrays->each : arrays->calls - i);
    for (unsigned i = 0; i < arrays->calls; i++)
        pool_wait(&jobs[i]);
    uint64_t took = bench_now() - begin;
    pool_check_jobs(jobs, arrays->calls);
    bench_unmap(calls, arrays->each * sizeof *calls);
    bench_unmap(futures, arrays->each * sizeof *futures);
    return took;
}

/* The first one brings memory into use; of the others the median counts. */
static void run_arrays(void *data)
{
    const struct arrays *arrays = data;
    struct bench_job *jobs = bench_alloc(arrays->calls * sizeof *jobs);
    double rates[ROUNDS];
    time_arrays(arrays, jobs);
    for (int i = 0; i < ROUNDS; i++)
        rates[i] = arrays->calls / (double)time_arrays(arrays, jobs) * 1e3;
    bench_report("rate", bench_median(rates, ROUNDS), "M/s");
}

/* calls, so many of them in an array */
void ours_arrays(char **params)
{
    struct arrays arrays = {0};
    arrays.calls = bench_number(&params);
    arrays.each = bench_number(&params);
    pool_run(2, run_arrays, &arrays);
}

/* ----------------------------------------------------------------------------------------------------- manager */

/* What the manager has had. */
struct had {
    double ns, sleeps;
};

/* What is behind `key` in a line of a file of a thread's; that lasts until the next one. */
static const char *text_in(const char *thread, const char *file, const char *key)
{
    static char line[300];
    char path[300];
    const char *found = NULL;
    snprintf(path, sizeof path, "/proc/self/task/%s/%s", thread, file);
    FILE *f = fopen(path, "r");
    while (f && !found && fgets(line, sizeof line, f))
        found = strncmp(line, key, strlen(key)) == 0 ? line + strlen(key) : NULL;
    if (f)
        fclose(f);
    if (!found)
        bench_fail("%s of a thread can't be read", file);
    return found;
}

static struct had manager_had(void)
{
    struct had had = {-1, -1};
    DIR *threads = opendir("/proc/self/task");
    for (const struct dirent *entry; threads && (entry = readdir(threads));)
        if (entry->d_name[0] != '.' && strcmp(text_in(entry->d_name, "comm", ""), "pp-manager\n") == 0) {
            had.ns = strtod(text_in(entry->d_name, "schedstat", ""), NULL);
            had.sleeps = strtod(text_in(entry->d_name, "status", "voluntary_ctxt_switches:"), NULL);
        }
    if (threads)
        closedir(threads);
    if (had.ns < 0)
        bench_fail("there is no manager");
    return had;
}

/* While streams go on, of which the first brings memory into use: the manager's part of a processor, and how often it
 * goes to sleep. */
static void run_manager(void *data)
{
    unsigned count = *(unsigned *)data;
    struct bench_job *jobs = bench_alloc(count * sizeof *jobs);
    struct had all = {0};
    double took = 0;
    for (int i = -1; i < ROUNDS; i++) {
        pool_make_jobs(jobs, count, 0);
        struct had before = manager_had();
        uint64_t begin = bench_now();
        pool_stream(jobs, count);
        double round = (double)(bench_now() - begin);
        struct had after = manager_had();
        pool_check_jobs(jobs, count);
        if (i < 0)
            continue;
        took += round;
        all.ns += after.ns - before.ns;
        all.sleeps += after.sleeps - before.sleeps;
    }
    bench_report("manager", all.ns / took * 100, "%");
    bench_report("sleeps", all.sleeps / count / ROUNDS * 1e6, "per_million");
}

/* calls */
void ours_manager(char **params)
{
    unsigned count = bench_number(&params);
    pool_run(2, run_manager, &count);
}
