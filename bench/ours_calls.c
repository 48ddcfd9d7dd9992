/* SPDX-License-Identifier: MIT */
/* What calls of procpool cost that others do not have, or have not in this form. */
#include "ours.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROUNDS 3

/* ------------------------------------------------------------------------------------------------------- map */

struct map {
    unsigned count, nanoseconds;
    bool in_buffers;
    pp_map_options options;
    struct bench_arg *args; /* in memory of the program's own, or in buffers that workers have mapped too */
    struct bench_answer *answers;
};

static void open_arrays(struct map *map, const struct bench_split *split)
{
    size_t in_size = split->count * sizeof *map->args, out_size = split->count * sizeof *map->answers;
    if (map->in_buffers) {
        ours_must(pp_buffer_create(in_size, &map->options.in_buffer));
        ours_must(pp_buffer_create_shared(out_size, &map->options.out_buffer));
        map->args = pp_buffer_data(map->options.in_buffer);
        map->answers = pp_buffer_data(map->options.out_buffer);
    } else {
        map->args = bench_alloc(in_size);
        map->answers = bench_alloc(out_size);
    }
    memcpy(map->args, split->args, in_size);
}

static void close_arrays(struct map *map)
{
    if (!map->in_buffers) {
        bench_unmap(map->args, map->count * sizeof *map->args);
        bench_unmap(map->answers, map->count * sizeof *map->answers);
    }
    pp_buffer_unref(map->options.in_buffer);
    pp_buffer_unref(map->options.out_buffer);
}

static double time_map(struct map *map)
{
    memset(map->answers, 0, map->count * sizeof *map->answers);
    uint64_t begin = bench_now();
    ssize_t failed = pp_map_array(ours, ours_serve, map->args, map->count, sizeof *map->args, map->answers,
                                  sizeof *map->answers, &map->options);
    double took = (double)(bench_now() - begin);
    ours_must((int)failed);
    int32_t self = getpid();
    for (size_t i = 0; i < map->count; i++) {
        bench_check(&map->args[i], &map->answers[i]);
        if (map->answers[i].pid <= 0 || map->answers[i].pid == self)
            bench_fail("an element ran in the owner");
    }
    return took;
}

/* The first time workers map the arrays, as the split's processes do before their go. */
static void run_map(void *data)
{
    struct map *map = data;
    double percents[ROUNDS], times[ROUNDS], half;
    struct bench_split split;
    bench_split_open(&split, map->count, bench_steps(map->nanoseconds));
    open_arrays(map, &split);
    double first = time_map(map);
    for (int i = 0; i < ROUNDS; i++) {
        half = bench_split_run(&split);
        times[i] = time_map(map);
        percents[i] = half / times[i] * 100;
    }
    bench_report("percent", bench_median(percents, ROUNDS), "%");
    bench_report("first", half / first * 100, "%");
    bench_report("rate", map->count / bench_median(times, ROUNDS) * 1e3, "M/s");
    close_arrays(map);
    bench_split_close(&split);
}

/* elements, nanoseconds of work in each, elements in a chunk (0: found by measuring), "private" or "buffers" */
void ours_map(char **params)
{
    struct map map = {0};
    map.count = bench_number(&params);
    map.nanoseconds = bench_number(&params);
    map.options.chunk_size = bench_number(&params);
    map.in_buffers = strcmp(bench_text(&params), "buffers") == 0;
    pool_run(2, run_map, &map);
}

/* ------------------------------------------------------------------------------------------------------ echo */

static int echo(pp_task *task, const void *arg, size_t size)
{
    return pp_task_return(task, arg, size);
}

static int who(pp_task *task, const void *arg, size_t size)
{
    int32_t pid = getpid();
    (void)arg;
    (void)size;
    return pp_task_return(task, &pid, sizeof pid);
}

static void check_worker(void)
{
    int32_t pid;
    pp_future *future;
    ours_must(pp_submit(ours, who, NULL, 0, &future));
    ours_must(pp_future_result(future, -1, &pid, sizeof pid, NULL));
    pp_future_unref(future);
    if (pid == getpid())
        bench_fail("a call ran in the owner");
}

/* What a task that was lent a buffer has seen of it. */
struct seen {
    uint64_t ends;
    int32_t pid;
};

static int look(pp_task *task, const void *arg, size_t size)
{
    const char *data = pp_task_buffer(task, 0, &size);
    (void)arg;
    if (!data)
        return pp_task_fail(task, -EINVAL, "%s", pp_last_error());
    static int32_t me; /* a system call takes as long as much of a call */
    me = me ? me : getpid();
    struct seen seen = {bench_ends(data, size), me};
    return pp_task_return(task, &seen, sizeof seen);
}

static uint64_t time_lending(pp_buffer *buffer, int32_t owner)
{
    struct seen seen;
    pp_future *future;
    pp_call call = {.function = look, .buffers = &buffer, .buffer_count = 1};
    uint64_t begin = bench_now();
    ours_must(pp_submit_call(ours, &call, &future));
    ours_must(pp_future_result(future, -1, &seen, sizeof seen, NULL));
    uint64_t took = bench_now() - begin;
    if (seen.ends != bench_ends(pp_buffer_data(buffer), pp_buffer_size(buffer)))
        bench_fail("another buffer was seen");
    if (seen.pid == owner)
        bench_fail("a call ran in the owner");
    pp_future_unref(future);
    return took;
}

static uint64_t time_echo(const char *data, size_t size)
{
    const void *back;
    size_t back_size;
    pp_future *future;
    uint64_t begin = bench_now();
    ours_must(pp_submit(ours, echo, data, size, &future));
    ours_must(pp_future_view(future, -1, &back, &back_size));
    uint64_t took = bench_now() - begin;
    if (back_size != size || memcmp(back, data, size) != 0)
        bench_fail("a wrong echo");
    pp_future_unref(future);
    return took;
}

struct echo {
    size_t size;
    unsigned count;
};

/* From the caller's memory, read in place when it is back. */
static void run_echo(void *param)
{
    const struct echo *e = param;
    uint64_t *times = bench_alloc(e->count * sizeof *times);
    char *data = bench_alloc(e->size);
    check_worker();
    for (unsigned i = 0, warm = bench_warm_echoes(e->size); i < warm + e->count; i++) {
        memset(data, (int)('a' + i % 26), e->size);
        uint64_t took = time_echo(data, e->size);
        if (i >= warm)
            times[i - warm] = took;
    }
    check_worker();
    bench_report("p50", bench_percentile(times, e->count, 50) / 1e6, "ms");
}

/* A buffer is lent to calls that give back what is at its ends. */
static void run_lending(void *param)
{
    const struct echo *e = param;
    uint64_t *times = bench_alloc(e->count * sizeof *times);
    pp_buffer *buffer;
    ours_must(pp_buffer_create(e->size, &buffer));
    char *data = pp_buffer_data(buffer);
    int32_t owner = getpid();
    for (unsigned i = 0, warm = bench_warm_echoes(e->size); i < warm + e->count; i++) {
        data[0] = data[e->size - 1] = (char)('a' + i % 26);
        uint64_t took = time_lending(buffer, owner);
        if (i >= warm)
            times[i - warm] = took;
    }
    pp_buffer_unref(buffer);
    bench_report("p50", bench_percentile(times, e->count, 50) / 1e6, "ms");
}

static void run_with_size(char **params, void (*run)(void *))
{
    struct echo e = {0};
    e.size = bench_number(&params);
    e.count = bench_number(&params);
    pool_run(1, run, &e);
}

/* bytes, calls */
void ours_echo(char **params)
{
    run_with_size(params, run_echo);
}

/* bytes, calls */
void ours_mapping(char **params)
{
    run_with_size(params, run_lending);
}
