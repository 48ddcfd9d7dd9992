/* SPDX-License-Identifier: MIT */
/* What the tests of queues share. */
#ifndef TESTS_SYNC_QUEUE_KIT_H
#define TESTS_SYNC_QUEUE_KIT_H

#include "sync_kit.h"

#define KIT_ENOUGH (5000 * (int)harness_scale()) /* ms in which what has to happen does */

static inline pp_queue *kit_queue(size_t max_items, size_t max_bytes)
{
    pp_queue *queue;
    CHECK_OK(pp_queue_create(&(pp_queue_options){.max_items = max_items, .max_bytes = max_bytes}, &queue));
    return queue;
}

static inline pp_queue *kit_joinable(size_t max_items)
{
    pp_queue *queue;
    CHECK_OK(pp_queue_create(&(pp_queue_options){.max_items = max_items, .joinable = 1}, &queue));
    return queue;
}

static inline void kit_put(pp_queue *queue, int number)
{
    CHECK_OK(pp_queue_put(queue, &number, sizeof number, KIT_ENOUGH));
}

static inline int kit_get(pp_queue *queue)
{
    int number;
    CHECK_OK(pp_queue_get(queue, KIT_ENOUGH, &number, sizeof number, NULL));
    return number;
}

/* A message of `size` bytes that can be told from others, and whether it is that. */
static inline void kit_fill(unsigned char *bytes, size_t size, uint64_t seed)
{
    for (size_t i = 0; i < size; i++) {
        seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        bytes[i] = (unsigned char)(seed >> 56);
    }
}

static inline bool kit_filled(const unsigned char *bytes, size_t size, uint64_t seed)
{
    unsigned char expected;
    for (size_t i = 0; i < size; i++) {
        seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        expected = (unsigned char)(seed >> 56);
        if (bytes[i] != expected)
            return false;
    }
    return true;
}

#endif
