/* SPDX-License-Identifier: MIT */
/*
 * What a call in another process costs, beside what would be used by hand in its place. All workloads run in turn, then all
 * of them again: a machine that becomes slower for a while slows all of them, so ratios are taken within a pass. Printed are medians
 * over the passes, in brackets the least and the greatest.
 *
 *     procpool_bench            seven passes
 *     procpool_bench --quick    three short ones
 *     procpool_bench --sizes    start methods and the owner's size; takes 1 GiB of memory
 */
#include "bench.h"

#include <procpool.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#define PASSES 7
#define QUICK_PASSES 3

unsigned bench_divisor = 1;

struct workload {
    const char *group; /* with the unit; NULL: as before */
    const char *name;
    bench_run *run;
    int digits;
    double values[PASSES];
    double ratios[PASSES]; /* to the first of its group, in the same pass */
};

static struct workload workloads[] = {
    {"one call and its result, back to back (microseconds)", "procpool", pools_round_trip, 1, {0}, {0}},
    {NULL, "a thread, by mutex and condition", byhand_thread_round_trip, 1, {0}, {0}},
    {NULL, "a process, by two futexes in shared memory", byhand_process_round_trip, 1, {0}, {0}},
    {NULL, "fork and wait for each call", byhand_fork_each, 1, {0}, {0}},
    {"many calls, a future for each (thousands a second)", "procpool, two workers", pools_stream, 0, {0}, {0}},
    {NULL, "two threads, by a queue with mutex and condition", byhand_threads_stream, 0, {0}, {0}},
    {"map in chunks of 1,024, empty calls (thousands a second)", "procpool, two workers", pools_map_empty, 0, {0}, {0}},
    {"map in chunks of 1,024, calls of about 1 us (thousands a second)",
     "procpool, two workers",
     pools_map_grind,
     0,
     {0},
     {0}},
    {NULL, "two threads, a half for each", byhand_threads_split, 0, {0}, {0}},
    {"to the first result (milliseconds)", "procpool, a launcher made before", pools_first_early, 2, {0}, {0}},
    {NULL, "procpool, its own launcher, forkserver", pools_first_forkserver, 2, {0}, {0}},
    {NULL, "procpool, its own launcher, fork", pools_first_fork, 2, {0}, {0}},
    {NULL, "a new thread", byhand_thread_first, 2, {0}, {0}},
    {NULL, "fork", byhand_fork_first, 2, {0}, {0}},
    {"kill -9 of a busy worker (milliseconds)", "procpool, until its future has failed", pools_kill, 2, {0}, {0}},
    {NULL, "procpool, until its successor has given a result", pools_kill_next, 2, {0}, {0}},
    {NULL, "fork and waitpid, until it is known", byhand_kill, 2, {0}, {0}},
};

#define COUNT (sizeof workloads / sizeof *workloads)

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_median(double *values, size_t count)
{
    qsort(values, count, sizeof *values, compare);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

_Noreturn void bench_fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "procpool_bench: ");
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    va_end(arguments);
    exit(1);
}

static void run_pass(int pass)
{
    double first = 1;
    for (size_t i = 0; i < COUNT; i++) {
        struct workload *w = &workloads[i];
        w->values[pass] = w->run();
        if (w->group)
            first = w->values[pass];
        w->ratios[pass] = w->values[pass] / first;
    }
}

static void print(struct workload *w, int passes)
{
    if (w->group)
        printf("\n%s\n", w->group);
    double median = bench_median(w->values, (size_t)passes);
    double ratio = bench_median(w->ratios, (size_t)passes);
    printf("    %-50s %10.*f  (%.*f to %.*f)", w->name, w->digits, median, w->digits, w->values[0], w->digits,
           w->values[passes - 1]);
    if (!w->group)
        printf("  x %.2f", ratio);
    printf("\n");
}

static void print_head(int passes)
{
    struct utsname system;
    uname(&system);
    printf("procpool %s, %s %s %s, %d usable processors\n", pp_version(), system.sysname, system.release,
           system.machine, pp_usable_processors());
    printf("medians of %d interleaved passes (least to greatest); x: ratio to the group's first line within a pass\n",
           passes);
}

static void run_all(int passes)
{
    print_head(passes);
    for (int pass = 0; pass < passes; pass++)
        run_pass(pass);
    for (size_t i = 0; i < COUNT; i++)
        print(&workloads[i], passes);
}

int main(int argc, char **argv)
{
    pp_worker_main();
    bool quick = argc == 2 && strcmp(argv[1], "--quick") == 0;
    bool sizes = argc == 2 && strcmp(argv[1], "--sizes") == 0;
    if (argc > 2 || (argc == 2 && !quick && !sizes)) {
        fprintf(stderr, "usage: procpool_bench [--quick | --sizes]\n");
        return 2;
    }
    if (sizes) {
        pools_sizes();
        return 0;
    }
    if (quick)
        bench_divisor = 5;
    pools_open();
    run_all(quick ? QUICK_PASSES : PASSES);
    pools_close();
    return 0;
}
