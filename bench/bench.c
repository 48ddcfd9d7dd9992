/* SPDX-License-Identifier: MIT */
/* What all programs of the bench share. */
#include "bench.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

static const char *workload_name = "bench";

/* ------------------------------------------------------------------------------------------------- the call */

/* What a call has come to is a part of the next one's start, if only nothing: the processor begins no work while that
 * before it still runs, so that calls in a row take as long as each of them alone. */
static volatile uint32_t last, none;

static uint32_t grind(uint32_t n, uint32_t steps)
{
    n += last & none;
    for (uint32_t i = 0; i < steps; i++) {
        n = n * 1664525u + 1013904223u;
        __asm__ volatile("" : "+r"(n)); /* one after the other */
    }
    last = n;
    return n;
}

static void pause_as_told(int32_t pause)
{
    char byte;
    if (pause > 0)
        bench_sleep((uint64_t)pause * 1000);
    while (pause < 0 && read(-pause, &byte, 1) < 0 && errno == EINTR)
        ;
}

static void copy_as_told(uint64_t n)
{
    const struct bench_copy *copy = (const void *)(uintptr_t)n;
    memcpy(copy->to, copy->from, copy->size);
}

static inline void serve(const struct bench_arg *arg, int32_t pid, struct bench_answer *answer)
{
    answer->value = arg->steps & BENCH_STAMP ? bench_now() : arg->n * arg->n;
    answer->check = grind((uint32_t)arg->n, arg->steps & ~BENCH_FLAGS);
    answer->pid = pid;
}

/* Apart, for the sake of short ones that only work. */
__attribute__((noinline)) static void serve_behind(const struct bench_arg *arg, int32_t pid,
                                                   struct bench_answer *answer)
{
    if (arg->pause != 0)
        pause_as_told(arg->pause);
    if (arg->steps & BENCH_COPY)
        copy_as_told(arg->n);
    serve(arg, pid, answer);
}

void bench_serve(const struct bench_arg *arg, int32_t pid, struct bench_answer *answer)
{
    if (arg->pause != 0 || arg->steps & BENCH_COPY)
        serve_behind(arg, pid, answer);
    else
        serve(arg, pid, answer);
}

void bench_check(const struct bench_arg *arg, const struct bench_answer *answer)
{
    uint32_t steps = arg->steps & ~BENCH_FLAGS;
    if (!(arg->steps & BENCH_STAMP) && answer->value != arg->n * arg->n)
        bench_fail("a wrong answer to call %llu", (unsigned long long)arg->n);
    if ((steps == 0 || arg->n % 509 == 0) && answer->check != grind((uint32_t)arg->n, steps))
        bench_fail("the work of call %llu was not done", (unsigned long long)arg->n);
}

static double time_step(void)
{
    enum { STEPS = 100000 };
    uint64_t begin = bench_now();
    grind(1, STEPS);
    return (double)(bench_now() - begin) / STEPS;
}

uint32_t bench_steps(double nanoseconds)
{
    double times[20];
    for (int i = 0; i < 20; i++)
        times[i] = time_step();
    return (uint32_t)(nanoseconds / bench_least(times, 20) + 0.5);
}

/* -------------------------------------------------------------------------------------------------- clocks */

uint64_t bench_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void bench_sleep_until(uint64_t when)
{
    struct timespec t = {(time_t)(when / 1000000000u), (long)(when % 1000000000u)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
        ;
}

void bench_sleep(uint64_t nanoseconds)
{
    bench_sleep_until(bench_now() + nanoseconds);
}

/* ------------------------------------------------------------------------------------------------- figures */

static int compare_times(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

double bench_percentile(uint64_t *times, size_t count, double percent)
{
    qsort(times, count, sizeof *times, compare_times);
    size_t at = (size_t)((double)count * percent / 100);
    return (double)times[at < count ? at : count - 1];
}

double bench_least(const double *values, size_t count)
{
    double least = values[0];
    for (size_t i = 1; i < count; i++)
        least = values[i] < least ? values[i] : least;
    return least;
}

static int compare_values(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_median(double *values, size_t count)
{
    qsort(values, count, sizeof *values, compare_values);
    return values[count / 2];
}

/* ------------------------------------------------------------------------------------------------- memory */

static void *map_memory(size_t size, int flags)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_POPULATE | flags, -1, 0);
    if (memory == MAP_FAILED)
        bench_fail("no memory: %zu bytes", size);
    return memory;
}

void *bench_alloc(size_t size)
{
    return map_memory(size, MAP_PRIVATE);
}

void *bench_share(size_t size)
{
    return map_memory(size, MAP_SHARED);
}

void bench_unmap(void *memory, size_t size)
{
    munmap(memory, size);
}

size_t bench_resident(void)
{
    unsigned long total, resident;
    FILE *file = fopen("/proc/self/statm", "re");
    if (!file || fscanf(file, "%lu %lu", &total, &resident) != 2)
        bench_fail("/proc/self/statm can't be read");
    fclose(file);
    return resident * (size_t)sysconf(_SC_PAGESIZE);
}

void *bench_make_resident(unsigned mebibytes)
{
    size_t size = (size_t)mebibytes << 20;
    if (size == 0)
        return NULL;
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_PRIVATE, -1, 0);
    if (memory == MAP_FAILED)
        bench_fail("no memory: %u MiB", mebibytes);
    madvise(memory, size, MADV_NOHUGEPAGE);
    return memset(memory, 1, size);
}

/* ------------------------------------------------------------------------------------------------ programs */

static const struct bench_workload *find(const struct bench_workload *table, const char *name)
{
    for (; table && table->name; table++)
        if (strcmp(table->name, name) == 0)
            return table;
    return NULL;
}

int bench_main(int argc, char **argv, const struct bench_workload *some, const struct bench_workload *more)
{
    const struct bench_workload *workload = argc > 1 ? find(some, argv[1]) : NULL;
    if (!workload && argc > 1)
        workload = find(more, argv[1]);
    if (!workload) {
        fprintf(stderr, "usage: %s WORKLOAD [PARAMETER...]\n", argv[0]);
        return 2;
    }
    workload_name = workload->name;
    prctl(PR_SET_TIMERSLACK, 1);
    workload->run(argv + 2);
    return fflush(stdout) == 0 ? 0 : 1;
}

const char *bench_text(char ***params)
{
    if (!**params)
        bench_fail("%s: a parameter is missing", workload_name);
    return *(*params)++;
}

unsigned bench_number(char ***params)
{
    return (unsigned)strtoul(bench_text(params), NULL, 10);
}

void bench_report(const char *metric, double value, const char *unit)
{
    printf("%s %s %.6g %s\n", workload_name, metric, value, unit);
}

static _Noreturn void end_with(int status, const char *format, va_list arguments)
{
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    exit(status);
}

void bench_fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    end_with(1, format, arguments);
}

void bench_missing(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    end_with(77, format, arguments);
}
