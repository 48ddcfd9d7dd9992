/* SPDX-License-Identifier: MIT */
/* The workloads that use the library. Every result tells which process made it, and none may come from the owner. */
#include "bench.h"

#include <errno.h>
#include <procpool.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define ROUND_TRIPS 5000
#define STREAM 50000
#define MAP_EMPTY 1000000
#define MAP_GRIND 100000
#define FIRSTS 15
#define KILLS 5
#define CHUNK 1024

struct answer {
    uint32_t value;
    int32_t pid;
};

static pp_launcher *launcher;
static pp_pool *pool;
static int32_t worker_pid; /* 0 in the owner */

/* ---------------------------------------------------------------------------------------------- in a worker */

static int note_pid(pp_task *task, const void *arg, size_t size)
{
    (void)task;
    (void)arg;
    (void)size;
    worker_pid = getpid();
    return 0;
}

static int square(pp_task *task, const void *arg, size_t size)
{
    uint32_t n;
    if (size != sizeof n)
        return pp_task_fail(task, -EINVAL, "%zu bytes", size);
    memcpy(&n, arg, sizeof n);
    return pp_task_return(task, &(struct answer){bench_square(n), worker_pid}, sizeof(struct answer));
}

static int grind(pp_task *task, const void *arg, size_t size)
{
    uint32_t n;
    if (size != sizeof n)
        return pp_task_fail(task, -EINVAL, "%zu bytes", size);
    memcpy(&n, arg, sizeof n);
    return pp_task_return(task, &(struct answer){bench_grind(n), worker_pid}, sizeof(struct answer));
}

static int sleep_long(pp_task *task, const void *arg, size_t size)
{
    (void)arg;
    (void)size;
    sleep(60);
    return pp_task_fail(task, -EIO, "nobody killed it");
}

/* ----------------------------------------------------------------------------------------------- in the owner */

static void must(int code)
{
    if (code != 0)
        bench_fail("%s", pp_last_error());
}

static void check(const struct answer *answer, uint32_t expected)
{
    if (answer->value != expected)
        bench_fail("a wrong result: %u instead of %u", answer->value, expected);
    if (answer->pid == 0 || answer->pid == getpid())
        bench_fail("a call ran in the owner");
}

static pp_pool *make_pool(pp_launcher *from, pp_start_method method, int workers)
{
    pp_pool *made;
    must(pp_pool_create(
        &(pp_pool_options){.max_workers = workers, .launcher = from, .start_method = method, .initializer = note_pid},
        &made));
    return made;
}

void pools_open(void)
{
    must(pp_launcher_create(&(pp_launcher_options){.start_method = PP_START_FORKSERVER}, &launcher));
    pool = make_pool(launcher, PP_START_DEFAULT, 2);
}

void pools_close(void)
{
    pp_pool_destroy(pool);
    pp_launcher_unref(launcher);
}

static struct answer call(pp_pool *in, uint32_t n)
{
    pp_future *future;
    struct answer answer;
    must(pp_submit(in, square, &n, sizeof n, &future));
    must(pp_future_result(future, -1, &answer, sizeof answer, NULL));
    pp_future_unref(future);
    return answer;
}

double pools_round_trip(void)
{
    unsigned count = ROUND_TRIPS / bench_divisor;
    double *times = calloc(count, sizeof *times);
    for (uint32_t i = 0; i < count; i++) {
        double begin = bench_now();
        struct answer answer = call(pool, i);
        times[i] = bench_now() - begin;
        check(&answer, i * i);
    }
    double median = bench_median(times, count) * 1e6;
    free(times);
    return median;
}

double pools_stream(void)
{
    unsigned count = STREAM / bench_divisor;
    pp_future **futures = calloc(count, sizeof(pp_future *));
    struct answer answer;
    double begin = bench_now();
    for (uint32_t i = 0; i < count; i++)
        must(pp_submit(pool, square, &i, sizeof i, &futures[i]));
    for (uint32_t i = 0; i < count; i++) {
        must(pp_future_result(futures[i], -1, &answer, sizeof answer, NULL));
        pp_future_unref(futures[i]);
        check(&answer, i * i);
    }
    double took = bench_now() - begin;
    free(futures);
    return count / took / 1e3;
}

static double map(pp_function *function, uint32_t (*expected)(uint32_t), size_t count)
{
    uint32_t *inputs = calloc(count, sizeof *inputs);
    struct answer *outputs = calloc(count, sizeof *outputs);
    for (size_t i = 0; i < count; i++)
        inputs[i] = (uint32_t)i;
    double begin = bench_now();
    ssize_t failed = pp_map_array(pool, function, inputs, count, sizeof *inputs, outputs, sizeof *outputs,
                                  &(pp_map_options){.chunk_size = CHUNK});
    double took = bench_now() - begin;
    must((int)failed);
    for (size_t i = 0; i < count; i++)
        check(&outputs[i], expected(inputs[i]));
    free(inputs);
    free(outputs);
    return (double)count / took / 1e3;
}

double pools_map_empty(void)
{
    return map(square, bench_square, MAP_EMPTY / bench_divisor);
}

double pools_map_grind(void)
{
    return map(grind, bench_grind, MAP_GRIND / bench_divisor);
}

/* ------------------------------------------------------------------------------------------- the first result */

static double time_first(pp_launcher *from, pp_start_method method)
{
    double times[FIRSTS];
    for (uint32_t i = 0; i < FIRSTS; i++) {
        double begin = bench_now();
        pp_pool *made = make_pool(from, method, 2);
        struct answer answer = call(made, i);
        times[i] = bench_now() - begin;
        check(&answer, i * i);
        pp_pool_destroy(made);
    }
    return bench_median(times, FIRSTS) * 1e3;
}

double pools_first_early(void)
{
    return time_first(launcher, PP_START_DEFAULT);
}

double pools_first_forkserver(void)
{
    return time_first(NULL, PP_START_FORKSERVER);
}

double pools_first_fork(void)
{
    return time_first(NULL, PP_START_FORK);
}

/* --------------------------------------------------------------------------------------------------- a death */

/* Kills the only worker of `in` while it runs a call; the times until the future has failed, and until another call has a result. */
static void kill_once(pp_pool *in, double *failed, double *next)
{
    pp_future *future;
    const pp_error *error;
    struct answer before = call(in, 1);
    must(pp_submit(in, sleep_long, NULL, 0, &future));
    while (pp_future_state(future) != PP_RUNNING)
        usleep(100);
    double begin = bench_now();
    kill(before.pid, SIGKILL);
    must(pp_future_error(future, -1, &error));
    *failed = bench_now() - begin;
    struct answer after = call(in, 2);
    *next = bench_now() - begin;
    if (!error || error->kind != PP_ERROR_CRASH || error->signal != SIGKILL || error->pid != before.pid)
        bench_fail("the killed call failed in another way than by that");
    check(&after, 4);
    if (after.pid == before.pid)
        bench_fail("the killed worker lives");
    pp_future_unref(future);
}

static double time_kills(int until_next)
{
    double failed[KILLS], next[KILLS];
    pp_pool *made = make_pool(launcher, PP_START_DEFAULT, 1);
    for (int i = 0; i < KILLS; i++)
        kill_once(made, &failed[i], &next[i]);
    pp_pool_destroy(made);
    return bench_median(until_next ? next : failed, KILLS) * 1e3;
}

double pools_kill(void)
{
    return time_kills(0);
}

double pools_kill_next(void)
{
    return time_kills(1);
}

/* --------------------------------------------------------------------------------------------------- sizes */

#define REPEATS 9

struct start_costs {
    double launcher[REPEATS], first[REPEATS], touch[REPEATS]; /* milliseconds */
};

/* Writes to a sixteenth of the pages while the zygote, which may share them, lives. */
static double touch(char *memory, size_t size)
{
    double begin = bench_now();
    for (size_t i = 0; i < size / 16; i += 4096)
        memory[i]++;
    return (bench_now() - begin) * 16e3;
}

static void measure_start(pp_start_method method, char *memory, size_t size, struct start_costs *costs)
{
    for (int i = 0; i < REPEATS; i++) {
        pp_launcher *made;
        double begin = bench_now();
        must(pp_launcher_create(&(pp_launcher_options){.start_method = method}, &made));
        costs->launcher[i] = (bench_now() - begin) * 1e3;
        pp_pool *from = make_pool(made, PP_START_DEFAULT, 1);
        begin = bench_now();
        struct answer answer = call(from, 3);
        costs->first[i] = (bench_now() - begin) * 1e3;
        check(&answer, 9);
        costs->touch[i] = touch(memory, size);
        pp_pool_destroy(from);
        pp_launcher_unref(made);
    }
}

static void print_sizes(size_t megabytes, const char *method, struct start_costs *costs)
{
    printf("%6zu  %-10s  %8.2f", megabytes, method, bench_median(costs->launcher, REPEATS));
    printf(" (%.2f to %.2f)", costs->launcher[0], costs->launcher[REPEATS - 1]);
    printf("  %8.2f", bench_median(costs->first, REPEATS));
    printf(" (%.2f to %.2f)", costs->first[0], costs->first[REPEATS - 1]);
    printf("  %8.1f\n", bench_median(costs->touch, REPEATS));
}

void pools_sizes(void)
{
    static const size_t sizes[] = {1, 64, 256, 1024};
    struct start_costs costs;
    printf("milliseconds, medians of %d (least to greatest), pages of 4 KiB\n", REPEATS);
    printf("   MiB  method      making a launcher  worker and first result  writing to all pages afterwards\n");
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t size = sizes[i] << 20;
        char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED)
            bench_fail("no memory");
        madvise(memory, size, MADV_NOHUGEPAGE);
        memset(memory, 1, size);
        measure_start(PP_START_FORK, memory, size, &costs);
        print_sizes(sizes[i], "fork", &costs);
        measure_start(PP_START_FORKSERVER, memory, size, &costs);
        print_sizes(sizes[i], "forkserver", &costs);
        munmap(memory, size);
    }
}
