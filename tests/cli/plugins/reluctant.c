/* SPDX-License-Identifier: MIT */
/* A library that is long in loading, or never loaded, in the command itself. */
#include <procpool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

pp_function echo;

int echo(pp_task *task, const void *arg, size_t size)
{
    return pp_task_return(task, arg, size);
}

/* Says so, and comes back after a signal unless it is to hang. */
__attribute__((constructor)) static void load(void)
{
    const char *how = getenv("PP_TEST_LOADING");
    if (!how || write(STDERR_FILENO, "loading\n", 8) != 8)
        return;
    do
        pause();
    while (strcmp(how, "hang") == 0);
}
