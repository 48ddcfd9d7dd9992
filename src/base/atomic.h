/* SPDX-License-Identifier: MIT */
/*
 * The atomic operations that the library uses, each defined in words. At every use a comment names the line on the
 * other side with which it pairs.
 *
 *   load_relaxed     the value, and nothing about anything else
 *   load_acquire     sees all that was written before the store_release (or cas) whose value it read
 *   store_relaxed    the value, some time
 *   store_release    all that was written before is seen by who reads the value with load_acquire
 *   cas              if *word is `expected`, makes it `desired`, with the order given; else nothing, relaxed
 *   fence            nothing moves across it in either direction, stores before loads included
 *
 * The variants with an order take it from a macro at the head of the using file, so that a test can build a mutant
 * in which that one order is weaker.
 */
#ifndef PP_BASE_ATOMIC_H
#define PP_BASE_ATOMIC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define pp__load_relaxed(word) atomic_load_explicit((word), memory_order_relaxed)
#define pp__load_acquire(word) atomic_load_explicit((word), memory_order_acquire)
#define pp__load_ordered(word, order) atomic_load_explicit((word), (order))
#define pp__store_relaxed(word, value) atomic_store_explicit((word), (value), memory_order_relaxed)
#define pp__store_release(word, value) atomic_store_explicit((word), (value), memory_order_release)
#define pp__store_ordered(word, value, order) atomic_store_explicit((word), (value), (order))

static inline bool pp__cas_u64(_Atomic uint64_t *word, uint64_t expected, uint64_t desired, memory_order order)
{
    return atomic_compare_exchange_strong_explicit(word, &expected, desired, order, memory_order_relaxed);
}

/* One more reference unless there is none left. Relaxed: who asks keeps the memory there, and nothing else is seen. */
static inline bool pp__try_ref(_Atomic uint32_t *references)
{
    uint32_t have = pp__load_relaxed(references);
    while (have > 0 && !atomic_compare_exchange_weak_explicit(references, &have, have + 1, memory_order_relaxed,
                                                              memory_order_relaxed)) {
    }
    return have > 0;
}

/* Asks for the cache line of an address, which need not be valid, to be written to soon. GCC's builtin asks for it to
 * be read, where it may not assume this instruction; processors without it take it for none. */
static inline void pp__prefetch_to_write(const void *line)
{
#if defined(__x86_64__)
    __asm__ volatile("prefetchw %0" : : "m"(*(const char *)line));
#else
    __builtin_prefetch(line, 1);
#endif
}

#if defined(__SANITIZE_THREAD__)
#define PP_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define PP_TSAN 1
#endif
#endif

static inline void pp__fence_ordered(memory_order order)
{
#ifdef PP_TSAN
    /* Thread sanitizer does not know fences; a locked operation on a word of our own is as strong on our machines. */
    static _Atomic int word;
    atomic_fetch_add_explicit(&word, 1, order);
#else
    atomic_thread_fence(order);
#endif
}

static inline void pp__fence(void)
{
    pp__fence_ordered(memory_order_seq_cst);
}

#endif
