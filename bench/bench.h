/* SPDX-License-Identifier: MIT */
/*
 * What all programs of the bench share: the call that they make, clocks, figures, output. A program runs one workload
 * and prints lines of "workload metric value unit"; run.py runs the programs in turn and makes the table.
 *
 * Exit status: 0 measured, 1 failed, 77 not to be had here (the last line of stderr says why).
 */
#ifndef PP_BENCH_H
#define PP_BENCH_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define PP_BENCH_NORETURN [[noreturn]]
extern "C" {
#else
#define PP_BENCH_NORETURN _Noreturn
#endif

/* ------------------------------------------------------------------------------------------------- the call */

/* What a call carries there: 16 bytes, empty ones too. */
struct bench_arg {
    uint64_t n;     /* BENCH_COPY: the address, in this process, of a copy to be made */
    uint32_t steps; /* of work; BENCH_STAMP: the answer's value is the time of the begin, behind the pause */
    int32_t pause;  /* above 0: microseconds to sleep; below: reads a byte from descriptor -pause */
};

#define BENCH_STAMP 0x80000000u
#define BENCH_COPY 0x40000000u
#define BENCH_FLAGS (BENCH_STAMP | BENCH_COPY)

struct bench_copy {
    void *to;
    const void *from;
    size_t size;
};

/* And back. */
struct bench_answer {
    uint64_t value; /* the square of n */
    uint32_t check; /* what the work came to */
    int32_t pid;    /* the process that made it */
};

void bench_serve(const struct bench_arg *arg, int32_t pid, struct bench_answer *answer);

/* Fails the program unless the answer fits; the work itself is done again for one call in some hundreds. */
void bench_check(const struct bench_arg *arg, const struct bench_answer *answer);

/* How many steps last so long, by the clock. */
uint32_t bench_steps(double nanoseconds);

/* -------------------------------------------------------------------------------------------------- clocks */

uint64_t bench_now(void); /* nanoseconds */

/* ns: what is timed behind so long a rest finds little of its own in the caches. */
#define BENCH_REST 20000000

void bench_sleep_until(uint64_t when);
void bench_sleep(uint64_t nanoseconds);

/* ------------------------------------------------------------------------------------------------- figures */

/* Of unsorted nanoseconds, which it sorts. */
double bench_percentile(uint64_t *times, size_t count, double percent);
double bench_least(const double *values, size_t count);
double bench_median(double *values, size_t count); /* which it sorts */

/* ------------------------------------------------------------------------------------------------- memory */

void *bench_alloc(size_t size);                /* private, zero, every page in use */
void *bench_share(size_t size);                /* shared with forked children, likewise */
void bench_unmap(void *memory, size_t size);   /* either */
size_t bench_resident(void);                   /* of this process, bytes */
void *bench_make_resident(unsigned mebibytes); /* pages of 4 KiB; NULL for none */

/* How many echoes of this size warm up: memory comes into use, and is arranged for being used again. */
static inline unsigned bench_warm_echoes(size_t size)
{
    return size < (size_t)1 << 30 ? 20 : 1;
}

/* The first and the last byte of memory that is handed over. */
static inline uint64_t bench_ends(const char *memory, size_t size)
{
    return (uint64_t)(unsigned char)memory[0] << 8 | (unsigned char)memory[size - 1];
}

/* ----------------------------------------------------------------------------------- two bare processes */

/* So many calls, the same for all, and room for their answers, in shared memory. */
struct bench_split {
    size_t count;
    struct bench_arg *args;
    struct bench_answer *answers;
};

void bench_split_open(struct bench_split *split, size_t count, uint32_t steps);
void bench_split_close(struct bench_split *split);

/* Each of two forked processes serves a half; nanoseconds from the go, when both are ready, to the end of the later
 * one's last call. */
double bench_split_run(struct bench_split *split);

/* ------------------------------------------------------------------------------------------------ programs */

struct bench_workload {
    const char *name; /* NULL ends a table */
    void (*run)(char **params);
};

/* Runs the workload that the command line names, of two tables (or one and NULL). Returns the exit status. */
int bench_main(int argc, char **argv, const struct bench_workload *some, const struct bench_workload *more);

/* Takes the next parameter, or fails if there is none. */
const char *bench_text(char ***params);
unsigned bench_number(char ***params);

void bench_report(const char *metric, double value, const char *unit);
PP_BENCH_NORETURN void bench_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
PP_BENCH_NORETURN void bench_missing(const char *format, ...) __attribute__((format(printf, 1, 2)));

#ifdef __cplusplus
}
#endif

#endif
