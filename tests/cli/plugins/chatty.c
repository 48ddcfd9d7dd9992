/* SPDX-License-Identifier: MIT */
/* A library that prints on standard output where it is loaded, called and unloaded. */
#include <errno.h>
#include <procpool.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

pp_function quiet, talk, talk_past_stdio, talk_both_ways, talk_and_interrupt;

__attribute__((constructor)) static void load(void)
{
    printf("loaded\n");
}

__attribute__((destructor)) static void unload(void)
{
    printf("unloaded\n");
}

int quiet(pp_task *task, const void *arg, size_t size)
{
    return pp_task_return(task, arg, size);
}

/* Fails for what begins with "bad". */
int talk(pp_task *task, const void *arg, size_t size)
{
    printf("on %s\n", (const char *)arg);
    if (strncmp(arg, "bad", 3) == 0)
        return pp_task_fail(task, -EINVAL, "it is %s", (const char *)arg);
    return pp_task_return(task, arg, size);
}

int talk_past_stdio(pp_task *task, const void *arg, size_t size)
{
    dprintf(STDOUT_FILENO, "on %s\n", (const char *)arg);
    return pp_task_return(task, arg, size);
}

int talk_both_ways(pp_task *task, const void *arg, size_t size)
{
    printf("first, by stdio\n");
    dprintf(STDOUT_FILENO, "then, by write\n");
    return pp_task_return(task, arg, size);
}

int talk_and_interrupt(pp_task *task, const void *arg, size_t size)
{
    printf("on %s\n", (const char *)arg);
    kill(getpid(), SIGTERM);
    return pp_task_return(task, arg, size);
}
