/* SPDX-License-Identifier: MIT */
/* What tests of large arguments and results share: patterns, and tasks that check and make them. */
#ifndef PP_TESTS_PAYLOAD_KIT_H
#define PP_TESTS_PAYLOAD_KIT_H

#include "call_kit.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

/* ------------------------------------------------------------------------------------------- patterns */

/* Word k of a pattern. Every byte of it is different from that of another seed somewhere within 256 bytes. */
static inline uint64_t pattern(uint64_t seed, size_t k)
{
    return (seed + 1) * UINT64_C(0x9e3779b97f4a7c15) ^ (k + 1) * UINT64_C(0xbf58476d1ce4e5b9);
}

static inline void fill(void *data, uint64_t seed, size_t size)
{
    size_t words = size / 8;
    uint64_t *to = data, last = pattern(seed, words);
    for (size_t k = 0; k < words; k++)
        to[k] = pattern(seed, k);
    memcpy(to + words, &last, size % 8);
}

static inline bool is_pattern(const void *data, uint64_t seed, size_t size)
{
    size_t words = size / 8;
    const uint64_t *from = data;
    uint64_t last = pattern(seed, words);
    for (size_t k = 0; k < words; k++)
        if (from[k] != pattern(seed, k))
            return false;
    return memcmp(from + words, &last, size % 8) == 0;
}

static inline void check_pattern(const void *data, uint64_t seed, size_t size)
{
    if (!is_pattern(data, seed, size))
        harness_fail(__FILE__, __LINE__, "%zu bytes are not as they were sent (%llu)", size, (unsigned long long)seed);
    CHECK((uintptr_t)data % 16 == 0);
    CHECK_INT(((const char *)data)[size], 0);
}

static inline void *make(uint64_t seed, size_t size)
{
    void *data = malloc(size + 8);
    CHECK(data != NULL);
    fill(data, seed, size);
    return data;
}

/* --------------------------------------------------------------------------------------------- tasks */

/* The argument, a pattern of its size, comes back as the pattern of its size plus 1. */
static inline int reflect(pp_task *task, const void *arg, size_t size)
{
    check_pattern(arg, size, size);
    void *result = pp_task_reserve(task, size);
    CHECK(result != NULL);
    CHECK((uintptr_t)result % 16 == 0);
    fill(result, size + 1, size);
    return 0;
}

static inline int reflect_copy(pp_task *task, const void *arg, size_t size)
{
    check_pattern(arg, size, size);
    void *result = make(size + 1, size);
    int code = pp_task_return(task, result, size);
    free(result);
    return code;
}

static inline int swallow(pp_task *task, const void *arg, size_t size)
{
    (void)task;
    check_pattern(arg, size, size);
    return 0;
}

/* A result as large as the argument says: the pattern of that number. */
static inline int give(pp_task *task, const void *arg, size_t size)
{
    uint64_t wanted;
    CHECK_INT(size, sizeof wanted);
    memcpy(&wanted, arg, sizeof wanted);
    void *result = pp_task_reserve(task, wanted);
    if (!result)
        return pp_task_fail(task, -ENOBUFS, "no room: %s", pp_last_error());
    fill(result, wanted, wanted);
    return 0;
}

/* ----------------------------------------------------------------------------------------- short forms */

static inline pp_future *transmit_with(pp_pool *pool, pp_function *function, size_t size, uint32_t retries)
{
    pp_future *future;
    void *data = make(size, size);
    const pp_call call = {.function = function, .arg = data, .size = size, .retries = retries};
    CHECK_OK(pp_submit_call(pool, &call, &future));
    memset(data, 0xdd, size); /* it was copied */
    free(data);
    return future;
}

static inline pp_future *transmit(pp_pool *pool, pp_function *function, size_t size)
{
    return transmit_with(pool, function, size, 0);
}

static inline pp_future *ask(pp_pool *pool, size_t size)
{
    uint64_t wanted = size;
    return submit(pool, give, &wanted, sizeof wanted);
}

/* The result is a pattern; the future is given back. */
static inline void check_result(pp_future *future, uint64_t seed, size_t size)
{
    const void *data;
    size_t have;
    CHECK_OK(pp_future_view(future, -1, &data, &have));
    CHECK_INT(have, size);
    check_pattern(data, seed, size);
    pp_future_unref(future);
}

static inline int fail_with_a_result(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    CHECK(pp_task_reserve(task, 3 * MIB) != NULL);
    return pp_task_fail(task, -EDOM, "and yet it failed");
}

static inline const pp_error *error_of(pp_future *future, pp_error_kind kind, int task_code, const char *text)
{
    const pp_error *error = NULL;
    CHECK_OK(pp_future_error(future, -1, &error));
    CHECK(error != NULL);
    CHECK_INT(error->kind, kind);
    CHECK_INT(error->task_code, task_code);
    CHECK_HAS(error->message, text);
    return error;
}

#endif
