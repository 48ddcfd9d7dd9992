/* SPDX-License-Identifier: MIT */
/* A function for a process, in a module that is opened late. */
#include <procpool.h>

pp_process_function plugin_process;

int plugin_process(void *arg, size_t size)
{
    return size == 1 ? *(unsigned char *)arg : 99;
}
