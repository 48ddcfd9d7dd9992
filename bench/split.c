/* SPDX-License-Identifier: MIT */
/* Work split in two halves over two bare processes: what no pool can be faster than. */
#include "bench.h"

#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PARTS = 2 };

/* Children count up `ready`, the parent then sets `go`. Each notes when its last call is over: what comes behind, the
 * end of a process that has much memory mapped, is no work of the split's. */
struct gate {
    _Atomic uint32_t ready, go;
    uint64_t ends[PARTS];
};

void bench_split_open(struct bench_split *split, size_t count, uint32_t steps)
{
    split->count = count;
    split->args = bench_share(count * sizeof *split->args);
    split->answers = bench_share(count * sizeof *split->answers);
    for (size_t i = 0; i < count; i++)
        split->args[i] = (struct bench_arg){.n = i, .steps = steps};
}

void bench_split_close(struct bench_split *split)
{
    bench_unmap(split->args, split->count * sizeof *split->args);
    bench_unmap(split->answers, split->count * sizeof *split->answers);
}

/* A fork maps shared memory page by page as it is used; that is over before the go. */
static void touch(struct bench_split *split, size_t begin, size_t end)
{
    volatile uint64_t sum = 0;
    for (size_t i = begin; i < end; i += 256) {
        sum = sum + split->args[i].n;
        split->answers[i].value = 0;
    }
}

static _Noreturn void serve_part(struct bench_split *split, unsigned part, struct gate *gate)
{
    int32_t pid = getpid();
    size_t begin = split->count * part / PARTS, end = split->count * (part + 1) / PARTS;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    touch(split, begin, end);
    atomic_fetch_add(&gate->ready, 1);
    while (!atomic_load(&gate->go))
        sched_yield();
    for (size_t i = begin; i < end; i++)
        bench_serve(&split->args[i], pid, &split->answers[i]);
    gate->ends[part] = bench_now();
    _exit(0);
}

static pid_t start_part(struct bench_split *split, unsigned part, struct gate *gate)
{
    pid_t pid = fork();
    if (pid < 0)
        bench_fail("no process can be made");
    if (pid == 0)
        serve_part(split, part, gate);
    return pid;
}

static void wait_for(pid_t pid)
{
    int status;
    if (waitpid(pid, &status, 0) != pid || status != 0)
        bench_fail("a half of the split was not done");
}

double bench_split_run(struct bench_split *split)
{
    struct gate *gate = bench_share(sizeof *gate);
    pid_t pids[PARTS];
    uint64_t end = 0;
    for (unsigned part = 0; part < PARTS; part++)
        pids[part] = start_part(split, part, gate);
    while (atomic_load(&gate->ready) < PARTS)
        sched_yield();
    uint64_t begin = bench_now();
    atomic_store(&gate->go, 1);
    for (unsigned part = 0; part < PARTS; part++) {
        wait_for(pids[part]);
        end = gate->ends[part] > end ? gate->ends[part] : end;
    }
    for (size_t i = 0; i < split->count; i++)
        bench_check(&split->args[i], &split->answers[i]);
    bench_unmap(gate, sizeof *gate);
    return (double)(end - begin);
}
