/* SPDX-License-Identifier: MIT */
/* A module that lacks a function: it can be opened only by who binds lazily. */
#include "procpool.h"

pp_function lazy;
int pool_lazy_is_defined_nowhere(void);

int lazy(pp_task *task, const void *arg, size_t size)
{
    return size == 12345 ? pool_lazy_is_defined_nowhere() : pp_task_return(task, arg, size);
}
