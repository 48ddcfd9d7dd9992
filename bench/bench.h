/* SPDX-License-Identifier: MIT */
/*
 * What is measured. A workload does its work once, checks every result, and returns one figure in the unit of its group;
 * byhand.c has those without the library, pools.c those with it.
 */
#ifndef PP_BENCH_H
#define PP_BENCH_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

/* How much work: the full amount is divided by it. */
extern unsigned bench_divisor;

typedef double bench_run(void);

/* The work of one call, the same everywhere. */
static inline uint32_t bench_square(uint32_t n)
{
    return n * n;
}

/* About a microsecond of it. */
static inline uint32_t bench_grind(uint32_t n)
{
    for (int i = 0; i < 500; i++)
        n = n * 1664525u + 1013904223u;
    return n;
}

static inline double bench_now(void) /* seconds */
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Sorts. */
double bench_median(double *values, size_t count);

/* Prints and ends the program with status 1. */
_Noreturn void bench_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* byhand.c */
bench_run byhand_thread_round_trip, byhand_process_round_trip, byhand_fork_each;
bench_run byhand_threads_stream, byhand_threads_split;
bench_run byhand_thread_first, byhand_fork_first, byhand_kill;

/* pools.c */
void pools_open(void); /* early: makes the launcher that most of them use */
void pools_close(void);
bench_run pools_round_trip, pools_stream, pools_map_empty, pools_map_grind;
bench_run pools_first_early, pools_first_forkserver, pools_first_fork;
bench_run pools_kill, pools_kill_next;
void pools_sizes(void); /* prints a table of its own */

#endif
