/* SPDX-License-Identifier: MIT */
/* For tests of the inline method: each can make its pools by the option or by the environment. */
#ifndef PP_TESTS_POOL_INLINE_KIT_H
#define PP_TESTS_POOL_INLINE_KIT_H

#include "map_kit.h"

static inline pp_pool *inline_pool(pp_pool_options options)
{
    pp_pool *pool = NULL;
    options.start_method = PP_START_INLINE;
    CHECK_OK(pp_pool_create(&options, &pool));
    return pool;
}

static inline const pp_error *error_of(pp_future *future)
{
    const pp_error *error = NULL;
    CHECK_OK(pp_future_error(future, -1, &error));
    CHECK(error != NULL);
    return error;
}

/* Its bytes, changed; they have the room that is promised. */
static inline int reflect(pp_task *task, const void *arg, size_t size)
{
    const unsigned char *from = arg;
    CHECK(is_aligned(arg));
    CHECK_INT(from[size], 0);
    unsigned char *to = pp_task_reserve(task, size);
    CHECK(to != NULL && is_aligned(to));
    for (size_t k = 0; k < size; k++)
        to[k] = from[k] ^ 0x55;
    return 0;
}

/* The same test twice: with the option, and with the environment overriding another one. */
#define EITHER(name)                                                                                                   \
    static void either__##name(pp_start_method method);                                                                \
    TEST(name)                                                                                                         \
    {                                                                                                                  \
        either__##name(PP_START_INLINE);                                                                               \
    }                                                                                                                  \
    TEST(name##_by_the_environment)                                                                                    \
    {                                                                                                                  \
        setenv("PROCPOOL_START", "inline", 1);                                                                         \
        either__##name(PP_START_FORK);                                                                                 \
    }                                                                                                                  \
    static void either__##name(pp_start_method method)

#endif
