/* SPDX-License-Identifier: MIT */
/*
 * What address sanitizer and valgrind must be told when a process goes on on another stack, never to return; nothing in
 * other builds. Valgrind's header is optional: in a build without it, its memcheck complains of the switch.
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

#ifdef PP_ASAN
#include <sanitizer/asan_interface.h>
#endif

#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#define PP_ON_VALGRIND RUNNING_ON_VALGRIND
#else
#define PP_ON_VALGRIND 0
#define VALGRIND_STACK_REGISTER(start, end) (0)
#endif

#ifndef VALGRIND_STACK_DEREGISTER
#define VALGRIND_STACK_DEREGISTER(id) ((void)(id))
#endif

/* Before anything runs on a new stack. The number is for the other call, before the stack is unmapped. */
static inline unsigned pp__sanitizer_stack(const void *stack, size_t size)
{
    (void)stack;
    (void)size;
    return VALGRIND_STACK_REGISTER(stack, (const char *)stack + size);
}

static inline void pp__sanitizer_no_stack(unsigned id, const void *stack, size_t size)
{
    VALGRIND_STACK_DEREGISTER(id);
    (void)stack;
    (void)size;
#ifdef PP_ASAN
    /* Functions that never returned, since they ran into an exec, have left their marks; another thread's stack may
     * come to lie here. */
    __asan_unpoison_memory_region(stack, size);
#endif
}

/* Before the step to another stack, and first thing on it. */
static inline void pp__sanitizer_to_stack(const void *stack, size_t size)
{
    (void)stack;
    (void)size;
#ifdef PP_ASAN
    __sanitizer_start_switch_fiber(NULL, stack, size);
#endif
}

static inline void pp__sanitizer_on_stack(void)
{
#ifdef PP_ASAN
    __sanitizer_finish_switch_fiber(NULL, NULL, NULL);
#endif
}

#endif
