/* SPDX-License-Identifier: MIT */
/* From "LIBRARY.so:FUNCTION" to the function. */
#ifndef PROCPOOL_CLI_LOAD_H
#define PROCPOOL_CLI_LOAD_H

#include <procpool.h>

/* The function; NULL when it can't be had, which has been said then. The library stays open until the process ends. */
pp_function *load_task(const char *name);

#endif
