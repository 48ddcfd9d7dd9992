/* SPDX-License-Identifier: MIT */
/* For tests of what functions refuse: that it is told, and nothing written. */
#ifndef PP_TESTS_POOL_ERRORS_KIT_H
#define PP_TESTS_POOL_ERRORS_KIT_H

#include "call_kit.h"

/* The call fails with this code, and leaves a text of its own. */
#define REFUSED(expression, expected)                                                                                  \
    do {                                                                                                               \
        CHECK_INT(pp_future_wait(NULL, 0), -EINVAL);                                                                   \
        char refused_before[64];                                                                                       \
        snprintf(refused_before, sizeof refused_before, "%s", pp_last_error());                                        \
        CHECK_INT(expression, expected);                                                                               \
        CHECK(*pp_last_error() && strcmp(pp_last_error(), refused_before) != 0);                                       \
    } while (0)

/* Never valid, never written. */
#define UNTOUCHED(type) ((type *)(uintptr_t)0x5a5a5a50)

/* A function in no file: the loader knows nothing of it. */
static inline pp_function *homeless_function(void)
{
    void *memory = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pp_function *function;
    CHECK(memory != MAP_FAILED);
    memcpy(&function, &memory, sizeof function);
    return function;
}

static inline void refuse_pool(pp_pool_options options, int code)
{
    pp_pool *pool = UNTOUCHED(pp_pool);
    REFUSED(pp_pool_create(&options, &pool), code);
    CHECK(pool == UNTOUCHED(pp_pool));
}

static inline int no_input(void *context, pp_map_input *input)
{
    (void)context, (void)input;
    return 0;
}

#endif
