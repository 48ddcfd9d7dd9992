/* SPDX-License-Identifier: MIT */
/* Bare processes that hand each other messages through shared memory, and nothing else. */
#ifndef PP_BENCH_RAW_H
#define PP_BENCH_RAW_H

#include "bench.h"

#include <linux/futex.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

/* A child that ends with its parent; 0 there. */
pid_t raw_start_child(void);
void raw_end_child(pid_t pid);

/* How often who waits looks before it sleeps in futex: for ever, or for about as long as a wake takes. */
extern unsigned raw_spins;
enum { RAW_NEVER_SLEEPS = ~0u, RAW_SOME_SPINS = 200 };

/* "spin", "sleep" or "both" */
void raw_set_spins(const char *how);

/* A count of messages that grows by one with each, behind what it counts. */
struct raw_count {
    _Alignas(64) _Atomic uint32_t count;
    _Atomic uint32_t sleeps;
};

static inline void raw_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static inline void raw_sleep_while(struct raw_count *c, uint32_t count)
{
    atomic_store(&c->sleeps, 1);
    while (atomic_load(&c->count) == count)
        syscall(SYS_futex, &c->count, FUTEX_WAIT, count, NULL, NULL, 0);
    atomic_store(&c->sleeps, 0);
}

static inline void raw_wait_while(struct raw_count *c, uint32_t count)
{
    for (unsigned i = 0; i < raw_spins || raw_spins == RAW_NEVER_SLEEPS; i++) {
        if (atomic_load_explicit(&c->count, memory_order_acquire) != count)
            return;
        raw_relax();
    }
    raw_sleep_while(c, count);
}

static inline void raw_wake(struct raw_count *c)
{
    if (atomic_load(&c->sleeps))
        syscall(SYS_futex, &c->count, FUTEX_WAKE, 1, NULL, NULL, 0);
}

/* By the only one that counts it up. */
static inline void raw_publish(struct raw_count *c, uint32_t count)
{
    if (raw_spins == RAW_NEVER_SLEEPS) {
        atomic_store_explicit(&c->count, count, memory_order_release);
        return;
    }
    atomic_store(&c->count, count);
    raw_wake(c);
}

/* By one of several. */
static inline void raw_ring(struct raw_count *c)
{
    atomic_fetch_add(&c->count, 1);
    raw_wake(c);
}

/* raw_rings.c: many calls at once */
void raw_stream(char **params), raw_chunks(char **params);

#endif
