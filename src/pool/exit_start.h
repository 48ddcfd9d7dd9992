/* SPDX-License-Identifier: MIT */
/*
 * The start of exit(3). Handlers run in an order that a library has no say in; before them all exit(3) runs what its
 * own thread has registered for its end, as the C++ standard has it of thread_local objects. So it is seen where the
 * thread that calls it was watched: all that make pools, submit, or wait, and the library's own that call functions of
 * the program's. In others the handler is the first to know (exit.c).
 */
#ifndef PP_POOL_EXIT_START_H
#define PP_POOL_EXIT_START_H

#include <stdbool.h>

/* Watches the calling thread, from now to its end, if there is memory for that. The one that loads the library, as a
 * rule the main one, is watched without. */
void pp__exit_watch(void);

/* The same on the way of a call. */
extern _Thread_local bool pp__exit_is_watched __attribute__((tls_model("initial-exec"), visibility("hidden")));

static inline void pp__exit_watch_once(void)
{
    if (__builtin_expect(!pp__exit_is_watched, 0))
        pp__exit_watch();
}

#endif
