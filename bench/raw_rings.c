/* SPDX-License-Identifier: MIT */
/* The limits of many calls at once: rings between bare processes, with no pool, lock, cancellation or care about
 * deaths. */
#include "raw.h"

#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------------------------------------ one by one */

#define RING 1024u

/* Each side writes one half, and the other's count tells it how far it may go. */
struct ring {
    struct raw_count asked, answered; /* how many, of all */
    struct {
        _Alignas(64) struct bench_arg arg;
    } args[RING];
    struct {
        _Alignas(64) struct bench_answer answer;
    } answers[RING];
};

static _Noreturn void serve_ring(struct ring *ring)
{
    int32_t pid = getpid();
    for (uint32_t served = 0;; served++) {
        raw_wait_while(&ring->asked, served);
        bench_serve(&ring->args[served % RING].arg, pid, &ring->answers[served % RING].answer);
        raw_publish(&ring->answered, served + 1);
    }
}

/* Takes what is answered of calls from `taken` on; how many are then taken. */
static uint32_t take_answers(struct ring *ring, const struct bench_arg *args, uint32_t taken, pid_t server)
{
    uint32_t answered = atomic_load_explicit(&ring->answered.count, memory_order_acquire);
    for (; taken != answered; taken++) {
        struct bench_answer answer = ring->answers[taken % RING].answer;
        bench_check(&args[taken], &answer);
        if (answer.pid != server)
            bench_fail("the answer came from another process");
    }
    return taken;
}

/* calls: handed over one by one to a process, both of them spinning, and taken as they are answered */
void raw_stream(char **params)
{
    unsigned count = bench_number(&params);
    struct bench_arg *args = bench_alloc(count * sizeof *args);
    struct ring *ring = bench_share(sizeof *ring);
    raw_set_spins("spin");
    pid_t server = raw_start_child();
    if (server == 0)
        serve_ring(ring);
    for (uint32_t i = 0; i < count; i++)
        args[i].n = i;
    uint64_t begin = bench_now();
    for (uint32_t asked = 0, taken = 0; taken < count;) {
        if (asked < count && asked - taken < RING) {
            ring->args[asked % RING].arg = args[asked];
            raw_publish(&ring->asked, ++asked);
        }
        if (asked == count || asked - taken == RING)
            taken = take_answers(ring, args, taken, server);
    }
    uint64_t took = bench_now() - begin;
    raw_end_child(server);
    bench_report("rate", count / (double)took * 1e3, "M/s");
}

/* -------------------------------------------------------------------------------------------------- in chunks */

enum { WORKERS = 2, TRAYS = 3, CHUNK = 1024, ROUNDS = 5 };

/* What lies between the owner and one worker. */
struct desk {
    struct raw_count given, done; /* chunks, of all */
    struct tray {
        _Alignas(64) struct bench_arg args[CHUNK];
        struct bench_answer answers[CHUNK];
    } trays[TRAYS];
};

struct office {
    struct raw_count bell; /* rung by a worker that has done all that it had, or every second chunk */
    struct desk desks[WORKERS];
};

static _Noreturn void serve_desk(struct office *office, struct desk *desk)
{
    int32_t pid = getpid();
    for (uint32_t done = 0;; done++) {
        raw_wait_while(&desk->given, done);
        struct tray *tray = &desk->trays[done % TRAYS];
        for (unsigned i = 0; i < CHUNK; i++)
            bench_serve(&tray->args[i], pid, &tray->answers[i]);
        atomic_store(&desk->done.count, done + 1);
        if (done % 2 || atomic_load(&desk->given.count) == done + 1)
            raw_ring(&office->bell);
    }
}

/* One worker's: takes what is done and gives what there is room for. Chunk `n` of the desk is `mine[n]` of all. */
struct dealing {
    struct desk *desk;
    uint32_t given, taken;
    size_t mine[TRAYS];
};

static void take_done(struct dealing *d, struct bench_split *split)
{
    for (uint32_t done = atomic_load(&d->desk->done.count); d->taken != done; d->taken++)
        memcpy(split->answers + d->mine[d->taken % TRAYS] * CHUNK, d->desk->trays[d->taken % TRAYS].answers,
               CHUNK * sizeof *split->answers);
}

static void give_more(struct dealing *d, struct bench_split *split, size_t *next)
{
    for (; *next < split->count / CHUNK && d->given - d->taken < TRAYS; ++*next) {
        d->mine[d->given % TRAYS] = *next;
        memcpy(d->desk->trays[d->given % TRAYS].args, split->args + *next * CHUNK, CHUNK * sizeof *split->args);
        raw_publish(&d->desk->given, ++d->given);
    }
}

static double time_chunks(struct office *office, struct dealing *dealings, struct bench_split *split)
{
    size_t next = 0, chunks = split->count / CHUNK;
    uint64_t begin = bench_now();
    for (;;) {
        uint32_t rung = atomic_load(&office->bell.count);
        bool all = next == chunks;
        for (unsigned i = 0; i < WORKERS; i++) {
            take_done(&dealings[i], split);
            give_more(&dealings[i], split, &next);
            all = all && dealings[i].taken == dealings[i].given;
        }
        if (all && next == chunks)
            return (double)(bench_now() - begin);
        raw_wait_while(&office->bell, rung);
    }
}

/* elements, nanoseconds of work in each: dealt to two processes in chunks by a third, which sleeps in between */
void raw_chunks(char **params)
{
    struct bench_split split;
    double ratios[ROUNDS];
    size_t count = bench_number(&params) / CHUNK * CHUNK;
    bench_split_open(&split, count, bench_steps(bench_number(&params)));
    struct office *office = bench_share(sizeof *office);
    struct dealing dealings[WORKERS] = {{.desk = &office->desks[0]}, {.desk = &office->desks[1]}};
    pid_t pids[WORKERS];
    raw_set_spins("sleep");
    for (unsigned i = 0; i < WORKERS; i++)
        if ((pids[i] = raw_start_child()) == 0)
            serve_desk(office, &office->desks[i]);
    for (int i = 0; i < ROUNDS; i++) {
        double half = bench_split_run(&split);
        memset(split.answers, 0, count * sizeof *split.answers);
        ratios[i] = half / time_chunks(office, dealings, &split) * 100;
        for (size_t k = 0; k < count; k++)
            bench_check(&split.args[k], &split.answers[k]);
    }
    for (unsigned i = 0; i < WORKERS; i++)
        raw_end_child(pids[i]);
    bench_report("percent", bench_median(ratios, ROUNDS), "%");
}
