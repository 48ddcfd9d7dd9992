/* SPDX-License-Identifier: MIT */
/* A module that registers an exit handler when it is opened; closing it runs the handler. */
#include <stdlib.h>

int handler_runs;

static void handler(void)
{
    handler_runs++;
}

#if defined(__SANITIZE_THREAD__)
#define AT_EXIT 0
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define AT_EXIT 0
#endif
#endif
#ifndef AT_EXIT
#define AT_EXIT 1
#endif

/* Thread sanitizer takes handlers for the program's own and runs them at its end, though the module is gone. */
__attribute__((constructor)) static void registers(void)
{
    if (AT_EXIT && atexit(handler) != 0)
        abort();
}
