/* SPDX-License-Identifier: MIT */
/*
 * What address sanitizer and valgrind must be told when a process goes on on another stack, never to return; nothing in other builds.
 * Valgrind's header is optional: in a build without it, its memcheck complains of the switch.
 */
#ifndef PP_PROCESS_SANITIZER_H
#define PP_PROCESS_SANITIZER_H

#include "base/atomic.h" /* PP_TSAN */

#include <stddef.h>

#if defined(__SANITIZE_ADDRESS__)
#define PP_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define PP_ASAN 1
#endif
#endif

#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#define PP_ON_VALGRIND RUNNING_ON_VALGRIND
#else
#define PP_ON_VALGRIND 0
#define VALGRIND_STACK_REGISTER(start, end) (0)
#endif

#ifdef PP_ASAN
#include <sanitizer/common_interface_defs.h>

static inline void pp__sanitizer_to_stack(const void *stack, size_t size)
{
    __sanitizer_start_switch_fiber(NULL, stack, size);
}

static inline void pp__sanitizer_on_stack(void)
{
    __sanitizer_finish_switch_fiber(NULL, NULL, NULL);
}
#else
static inline void pp__sanitizer_to_stack(const void *stack, size_t size)
{
    int id = VALGRIND_STACK_REGISTER(stack, (const char *)stack + size);
    (void)id;
}

static inline void pp__sanitizer_on_stack(void)
{
}
#endif
#endif
