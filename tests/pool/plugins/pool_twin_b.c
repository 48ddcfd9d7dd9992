/* SPDX-License-Identifier: MIT */
/* One of two modules with a function of the same name. */
#include "procpool.h"

pp_function twin;

int twin(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    return pp_task_return(task, "B", 1);
}
