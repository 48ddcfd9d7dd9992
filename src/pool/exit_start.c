/* SPDX-License-Identifier: MIT */
#include "pool/exit_start.h"

#include "pool/exit.h"
#include "pool/process.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <unwind.h>

/* What a C++ compiler calls for a thread_local object, in glibc since 2.18. It ends a program that has no memory for
 * the few bytes of an entry. */
extern int __cxa_thread_atexit_impl(void (*end)(void *), void *object, void *module) __attribute__((weak));
extern void *__dso_handle __attribute__((visibility("hidden")));

static _Thread_local bool watched;

static _Unwind_Reason_Code look_for_exit(struct _Unwind_Context *frame, void *found)
{
    if (_Unwind_GetRegionStart(frame) != (uintptr_t)exit)
        return _URC_NO_REASON;
    *(bool *)found = true;
    return _URC_NORMAL_STOP;
}

/* A thread's end comes here as well; there exit(3) is not among the callers. */
static void end_thread(void *unused)
{
    bool exits = false;
    (void)unused;
    _Unwind_Backtrace(look_for_exit, &exits);
    if (!exits)
        return;
    pp__exit_start();
    pp__process_exit_start();
}

__attribute__((constructor)) void pp__exit_watch(void)
{
    if (watched || !__cxa_thread_atexit_impl)
        return;
    watched = true;
    __cxa_thread_atexit_impl(end_thread, NULL, &__dso_handle);
}
