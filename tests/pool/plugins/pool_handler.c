/* SPDX-License-Identifier: MIT */
/* A module that registers an exit handler when it is opened; closing it runs the handler. */
#include <stdlib.h>

int handler_runs;

static void handler(void)
{
    handler_runs++;
}

__attribute__((constructor)) static void registers(void)
{
    if (atexit(handler) != 0)
        abort();
}
