/* SPDX-License-Identifier: MIT */
#include "pool/exit_start.h"

#include "base/atomic.h"
#include "base/seam.h"
#include "pool/exit.h"
#include "pool/process.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <unwind.h>

#define PROBE 4096 /* bytes */

/* What a C++ compiler calls for a thread_local object, in glibc since 2.18. It ends a program that has no memory for
 * the few bytes of an entry. */
extern int __cxa_thread_atexit_impl(void (*end)(void *), void *object, void *module);
extern void *__dso_handle __attribute__((visibility("hidden")));

_Thread_local bool pp__exit_is_watched;

/* exit(3) itself: the name leads elsewhere where a program that lies at a fixed place takes its address, and where
 * another library has one. */
static _Atomic uintptr_t real_exit;

static void find_exit(void)
{
    void *libc = PP_SYS(dlopen)("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
    void *found = libc ? PP_SYS(dlsym)(libc, "exit") : NULL;
    pp__store_relaxed(&real_exit, found ? (uintptr_t)found : (uintptr_t)exit);
    if (libc)
        dlclose(libc);
}

/* Room enough for an entry, of which there is none to be had otherwise than by the program's end. */
static bool is_short_of_memory(void)
{
    void *volatile memory = PP_SYS(malloc)(PROBE); /* volatile: or a compiler leaves out both calls */
    free(memory);
    return !memory;
}

static _Unwind_Reason_Code look_for_exit(struct _Unwind_Context *frame, void *found)
{
    if (_Unwind_GetRegionStart(frame) != pp__load_relaxed(&real_exit))
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
    if (pp__exit_is_watched || is_short_of_memory())
        return;
    if (!pp__load_relaxed(&real_exit))
        find_exit();
    pp__exit_is_watched = true;
    __cxa_thread_atexit_impl(end_thread, NULL, &__dso_handle);
}
