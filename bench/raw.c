/* SPDX-License-Identifier: MIT */
/* The limits: two processes with one slot of shared memory each way and nothing else, bare forks, deaths and copies. */
#include "raw.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

/* -------------------------------------------------------------------------------------------------- processes */

pid_t raw_start_child(void)
{
    pid_t pid = fork();
    if (pid < 0)
        bench_fail("no process can be made");
    if (pid == 0)
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    return pid;
}

void raw_end_child(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

/* ----------------------------------------------------------------------------------------------------- a slot */

unsigned raw_spins;

void raw_set_spins(const char *how)
{
    raw_spins = strcmp(how, "spin") == 0 ? RAW_NEVER_SLEEPS : strcmp(how, "sleep") == 0 ? 0 : RAW_SOME_SPINS;
}

/* Written by one side, read by the other. */
struct slot {
    struct raw_count count;
    union {
        struct bench_arg arg;
        struct bench_answer answer;
    };
};

static struct {
    struct slot there, back;
} * page;

static _Noreturn void serve_page(void)
{
    int32_t pid = getpid();
    for (uint32_t served = 0;; served++) {
        raw_wait_while(&page->there.count, served);
        bench_serve(&page->there.arg, pid, &page->back.answer);
        raw_publish(&page->back.count, served + 1);
    }
}

static uint64_t call(uint32_t n, pid_t server)
{
    struct bench_arg arg = {.n = n};
    uint64_t begin = bench_now();
    page->there.arg = arg;
    raw_publish(&page->there.count, n + 1);
    raw_wait_while(&page->back.count, n);
    struct bench_answer answer = page->back.answer;
    uint64_t took = bench_now() - begin;
    bench_check(&arg, &answer);
    if (answer.pid != server)
        bench_fail("the answer came from another process");
    return took;
}

/* spin|sleep|both, calls, microseconds between them */
static void round_trip(char **params)
{
    raw_set_spins(bench_text(&params));
    unsigned count = bench_number(&params), pause = bench_number(&params), warm = count / 10;
    uint64_t *times = bench_alloc(count * sizeof *times);
    page = bench_share(sizeof *page);
    pid_t server = raw_start_child();
    if (server == 0)
        serve_page();
    for (uint32_t n = 0; n < warm; n++)
        call(n, server);
    for (uint32_t i = 0; i < count; i++) {
        if (pause)
            bench_sleep(pause * 1000);
        times[i] = call(warm + i, server);
    }
    raw_end_child(server);
    bench_report("p50", bench_percentile(times, count, 50) / 1e3, "us");
    bench_report("p99", bench_percentile(times, count, 99) / 1e3, "us");
}

/* ------------------------------------------------------------------------------------------------------ copies */

/* What lies between the caller and the process that serves it. */
struct area {
    char *data;         /* the caller's own */
    char *there, *back; /* shared */
    size_t size;
    bool copies; /* or only `there` is used */
    pid_t server;
};

/* Serves calls for ever; and the time that call `n` takes, which is checked. */
typedef void area_server(const struct area *area);
typedef uint64_t area_call(const struct area *area, uint32_t n);

static void serve_copies(const struct area *area)
{
    for (uint32_t served = 0;; served++) {
        raw_wait_while(&page->there.count, served);
        memcpy(area->back, area->there, area->size);
        raw_publish(&page->back.count, served + 1);
    }
}

static uint64_t time_copies(const struct area *area, uint32_t n)
{
    memset(area->data, (int)('a' + n % 26), area->size);
    uint64_t begin = bench_now();
    memcpy(area->there, area->data, area->size);
    raw_publish(&page->there.count, n + 1);
    raw_wait_while(&page->back.count, n);
    uint64_t took = bench_now() - begin;
    if (memcmp(area->data, area->back, area->size) != 0)
        bench_fail("a wrong echo");
    return took;
}

static void serve_mapping(const struct area *area)
{
    int32_t pid = getpid();
    for (uint32_t served = 0;; served++) {
        raw_wait_while(&page->there.count, served);
        page->back.answer = (struct bench_answer){bench_ends(area->there, area->size), 0, pid};
        raw_publish(&page->back.count, served + 1);
    }
}

static uint64_t time_mapping(const struct area *area, uint32_t n)
{
    area->there[0] = area->there[area->size - 1] = (char)('a' + n % 26);
    uint64_t begin = bench_now();
    raw_publish(&page->there.count, n + 1);
    raw_wait_while(&page->back.count, n);
    uint64_t took = bench_now() - begin;
    if (page->back.answer.value != bench_ends(area->there, area->size) || page->back.answer.pid != area->server)
        bench_fail("something else was handed over");
    return took;
}

static void time_calls(struct area *area, char **params, area_server *serve, area_call *one)
{
    area->size = bench_number(&params);
    unsigned count = bench_number(&params), warm = bench_warm_echoes(area->size);
    uint64_t *times = bench_alloc(count * sizeof *times);
    raw_set_spins("both");
    page = bench_share(sizeof *page);
    area->there = bench_share(area->size);
    if (area->copies) {
        area->data = bench_alloc(area->size);
        area->back = bench_share(area->size);
    }
    area->server = raw_start_child();
    if (area->server == 0)
        serve(area);
    for (uint32_t n = 0; n < warm; n++)
        one(area, n);
    for (uint32_t i = 0; i < count; i++)
        times[i] = one(area, warm + i);
    raw_end_child(area->server);
    bench_report("p50", bench_percentile(times, count, 50) / 1e6, "ms");
}

/* bytes, calls: into warm shared memory, there by the caller and back by the other process, read in place: two copies
 */
static void echo(char **params)
{
    time_calls(&(struct area){.copies = true}, params, serve_copies, time_copies);
}

/* bytes, calls: memory that both have mapped is handed over, and what is at its ends comes back */
static void mapping(char **params)
{
    time_calls(&(struct area){.copies = false}, params, serve_mapping, time_mapping);
}

/* bytes, times */
static void copy(char **params)
{
    size_t size = bench_number(&params);
    unsigned count = bench_number(&params);
    char *from = bench_alloc(size), *to = bench_share(size);
    memset(from, 'a', size);
    memcpy(to, from, size);
    uint64_t begin = bench_now();
    for (unsigned i = 0; i < count; i++) {
        memcpy(to, from, size);
        __asm__ volatile("" ::: "memory");
    }
    bench_report("rate", (double)size * count / (double)(bench_now() - begin), "GB/s");
}

/* -------------------------------------------------------------------------------------------- forks and deaths */

static uint64_t time_fork(void)
{
    int status;
    uint64_t begin = bench_now();
    pid_t pid = raw_start_child();
    if (pid == 0)
        _exit(0);
    waitpid(pid, &status, 0);
    return bench_now() - begin;
}

static void time_forks(const char *name, uint64_t *times, unsigned count, uint64_t rest)
{
    for (unsigned i = 0; i < count; i++) {
        if (rest)
            bench_sleep(rest);
        times[i] = time_fork();
    }
    bench_report(name, bench_percentile(times, count, 50) / 1e6, "ms");
}

/* mebibytes resident, forks; in a row, and each behind a rest, when less is in the caches */
static void fork_wait(char **params)
{
    bench_make_resident(bench_number(&params));
    unsigned count = bench_number(&params);
    uint64_t *times = bench_alloc(count * sizeof *times);
    time_forks("in_a_row", times, count, 0);
    time_forks("rested", times, count < 60 ? count : 60, BENCH_REST);
}

static uint64_t time_kill(void)
{
    pid_t pid = raw_start_child();
    while (pid == 0)
        pause();
    struct pollfd end = {.fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN};
    if (end.fd < 0)
        bench_fail("no pidfd can be had");
    bench_sleep(1000000);
    uint64_t begin = bench_now();
    kill(pid, SIGKILL);
    poll(&end, 1, -1);
    uint64_t took = bench_now() - begin;
    waitpid(pid, NULL, 0);
    close(end.fd);
    return took;
}

/* MiB that are resident before, kills */
static void kill_poll(char **params)
{
    bench_make_resident(bench_number(&params));
    unsigned count = bench_number(&params);
    uint64_t *times = bench_alloc(count * sizeof *times);
    for (unsigned i = 0; i < count; i++)
        times[i] = time_kill();
    bench_report("failed", bench_percentile(times, count, 50) / 1e6, "ms");
}

int main(int argc, char **argv)
{
    static const struct bench_workload workloads[] = {
        {"round_trip", round_trip}, {"echo", echo},         {"mapping", mapping},   {"copy", copy}, {"fork", fork_wait},
        {"kill", kill_poll},        {"stream", raw_stream}, {"chunks", raw_chunks}, {NULL, NULL}};
    return bench_main(argc, argv, workloads, NULL);
}
