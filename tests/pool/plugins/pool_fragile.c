/* SPDX-License-Identifier: MIT */
/* A module that can be opened in the owner, and kills a worker that opens it. */
#include "procpool.h"

#include <signal.h>
#include <string.h>
#include <sys/prctl.h>

pp_function fragile;

int fragile(pp_task *task, const void *arg, size_t size)
{
    return pp_task_return(task, arg, size);
}

__attribute__((constructor)) static void breaks(void)
{
    char name[16] = "";
    prctl(PR_GET_NAME, name);
    if (strncmp(name, "pp-worker", 9) == 0)
        raise(SIGKILL);
}
