/* SPDX-License-Identifier: MIT */
/*
 * The count of wc.c, in a worker that goes down when the input asks for it:
 *
 *     printf '%s\n' /etc/passwd segfault /etc/group hang | procpool map --timeout=1s ./crash.so:picky
 */
#include "wc.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The ways in which code that parses what strangers send ends a process. */
static void go_down(const char *how)
{
    int *volatile nowhere = NULL;
    if (strcmp(how, "segfault") == 0)
        *nowhere = 1; /* NOLINT(clang-analyzer-core.NullDereference): on purpose */
    if (strcmp(how, "abort") == 0)
        abort();
    if (strcmp(how, "exit") == 0)
        exit(3);
    if (strcmp(how, "kill") == 0)
        kill(getpid(), SIGKILL); /* what the kernel does when memory runs out */
    while (strcmp(how, "hang") == 0)
        pause();
}

pp_function picky;

int picky(pp_task *task, const void *input, size_t size)
{
    if (strcmp(input, "fail") == 0)
        return pp_task_fail(task, -EINVAL, "failed as it was told to");
    go_down(input);
    return count(task, input, size);
}
