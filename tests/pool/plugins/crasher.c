/* SPDX-License-Identifier: MIT */
/* A task that crashes in a function that the library does not export. */
#include <procpool.h>

static char *volatile nowhere;
static volatile int after;

/* A part of its caller, with debug information about that. */
__attribute__((always_inline, no_sanitize("undefined"))) static inline void at_the_bottom(void)
{
    *nowhere = 1;
}

__attribute__((noinline, no_sanitize("undefined"))) static void deep_in_the_plugin(void)
{
    at_the_bottom();
    after++;
}

int plugin_crash(pp_task *task, const void *arg, size_t size);
int plugin_crash(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    deep_in_the_plugin();
    after++;
    return 0;
}
