/* SPDX-License-Identifier: MIT */
/* The limits: two processes with one slot of shared memory each way and nothing else, bare forks, deaths and copies. */
#include "bench.h"

#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* -------------------------------------------------------------------------------------------------- processes */

static pid_t start_child(void)
{
    pid_t pid = fork();
    if (pid < 0)
        bench_fail("no process can be made");
    if (pid == 0)
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    return pid;
}

static void end_child(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

/* ----------------------------------------------------------------------------------------------------- a slot */

/* How often who waits looks before it sleeps in futex: for ever, or for about as long as a wake takes. */
static unsigned spins;
enum { NEVER_SLEEPS = ~0u, SOME_SPINS = 200 };

/* Written by one side, read by the other. `count` is stored last and grows by one with each message. */
struct slot {
    _Alignas(64) _Atomic uint32_t count;
    _Atomic uint32_t sleeps;
    union {
        struct bench_arg arg;
        struct bench_answer answer;
    };
};

static struct {
    struct slot there, back;
} * page;

static void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void sleep_while(struct slot *slot, uint32_t count)
{
    atomic_store(&slot->sleeps, 1);
    while (atomic_load(&slot->count) == count)
        syscall(SYS_futex, &slot->count, FUTEX_WAIT, count, NULL, NULL, 0);
    atomic_store(&slot->sleeps, 0);
}

static void wait_while(struct slot *slot, uint32_t count)
{
    for (unsigned i = 0; i < spins || spins == NEVER_SLEEPS; i++) {
        if (atomic_load_explicit(&slot->count, memory_order_acquire) != count)
            return;
        relax();
    }
    sleep_while(slot, count);
}

static void publish(struct slot *slot, uint32_t count)
{
    if (spins == NEVER_SLEEPS) {
        atomic_store_explicit(&slot->count, count, memory_order_release);
        return;
    }
    atomic_store(&slot->count, count);
    if (atomic_load(&slot->sleeps))
        syscall(SYS_futex, &slot->count, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static _Noreturn void serve_page(void)
{
    int32_t pid = getpid();
    for (uint32_t served = 0;; served++) {
        wait_while(&page->there, served);
        bench_serve(&page->there.arg, pid, &page->back.answer);
        publish(&page->back, served + 1);
    }
}

static uint64_t call(uint32_t n, pid_t server)
{
    struct bench_arg arg = {.n = n};
    uint64_t begin = bench_now();
    page->there.arg = arg;
    publish(&page->there, n + 1);
    wait_while(&page->back, n);
    struct bench_answer answer = page->back.answer;
    uint64_t took = bench_now() - begin;
    bench_check(&arg, &answer);
    if (answer.pid != server)
        bench_fail("the answer came from another process");
    return took;
}

static void set_spins(const char *how)
{
    spins = strcmp(how, "spin") == 0 ? NEVER_SLEEPS : strcmp(how, "sleep") == 0 ? 0 : SOME_SPINS;
}

/* spin|sleep|both, calls, microseconds between them */
static void round_trip(char **params)
{
    set_spins(bench_text(&params));
    unsigned count = bench_number(&params), pause = bench_number(&params), warm = count / 10;
    uint64_t *times = bench_alloc(count * sizeof *times);
    page = bench_share(sizeof *page);
    pid_t server = start_child();
    if (server == 0)
        serve_page();
    for (uint32_t n = 0; n < warm; n++)
        call(n, server);
    for (uint32_t i = 0; i < count; i++) {
        if (pause)
            bench_sleep(pause * 1000);
        times[i] = call(warm + i, server);
    }
    end_child(server);
    bench_report("p50", bench_percentile(times, count, 50) / 1e3, "us");
    bench_report("p99", bench_percentile(times, count, 99) / 1e3, "us");
}

/* ------------------------------------------------------------------------------------------------------ copies */

struct area {
    char *there, *back;
    size_t size;
    bool copies;
};

static _Noreturn void serve_area(const struct area *area)
{
    for (uint32_t served = 0;; served++) {
        wait_while(&page->there, served);
        if (area->copies)
            memcpy(area->back, area->there, area->size);
        publish(&page->back, served + 1);
    }
}

static void time_echoes(const struct area *area, unsigned count)
{
    uint64_t *times = bench_alloc(count * sizeof *times);
    char *data = bench_alloc(area->size);
    for (uint32_t i = 0, warm = bench_warm_echoes(area->size); i < warm + count; i++) {
        memset(data, (int)('a' + i % 26), area->size);
        if (!area->copies)
            memcpy(area->there, data, area->size);
        uint64_t begin = bench_now();
        if (area->copies)
            memcpy(area->there, data, area->size);
        publish(&page->there, i + 1);
        wait_while(&page->back, i);
        if (i >= warm)
            times[i - warm] = bench_now() - begin;
        if (memcmp(data, area->copies ? area->back : area->there, area->size) != 0)
            bench_fail("a wrong echo");
    }
    bench_report("p50", bench_percentile(times, count, 50) / 1e6, "ms");
}

/* Into warm shared memory, there by the caller and back by the other process, read in place: two copies. Or none. */
static void run_echo(size_t size, unsigned count, bool copies)
{
    struct area area = {bench_share(size), bench_share(size), size, copies};
    set_spins("both");
    page = bench_share(sizeof *page);
    pid_t server = start_child();
    if (server == 0)
        serve_area(&area);
    time_echoes(&area, count);
    end_child(server);
}

/* bytes, calls */
static void echo(char **params)
{
    size_t size = bench_number(&params);
    run_echo(size, bench_number(&params), true);
}

static void mapping(char **params)
{
    size_t size = bench_number(&params);
    run_echo(size, bench_number(&params), false);
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
    pid_t pid = start_child();
    if (pid == 0)
        _exit(0);
    waitpid(pid, &status, 0);
    return bench_now() - begin;
}

/* mebibytes resident, forks */
static void fork_wait(char **params)
{
    bench_make_resident(bench_number(&params));
    unsigned count = bench_number(&params);
    uint64_t *times = bench_alloc(count * sizeof *times);
    for (unsigned i = 0; i < count; i++)
        times[i] = time_fork();
    bench_report("p50", bench_percentile(times, count, 50) / 1e6, "ms");
}

static uint64_t time_kill(void)
{
    pid_t pid = start_child();
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

/* kills */
static void kill_poll(char **params)
{
    unsigned count = bench_number(&params);
    uint64_t *times = bench_alloc(count * sizeof *times);
    for (unsigned i = 0; i < count; i++)
        times[i] = time_kill();
    bench_report("failed", bench_percentile(times, count, 50) / 1e6, "ms");
}

int main(int argc, char **argv)
{
    static const struct bench_workload workloads[] = {
        {"round_trip", round_trip}, {"echo", echo},      {"mapping", mapping}, {"copy", copy},
        {"fork", fork_wait},        {"kill", kill_poll}, {NULL, NULL}};
    return bench_main(argc, argv, workloads, NULL);
}
