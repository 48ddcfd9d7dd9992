/* SPDX-License-Identifier: MIT */
#ifndef EXAMPLES_WC_H
#define EXAMPLES_WC_H

#include <procpool.h>

/* A task: the argument is a file's name, the result is the line that wc(1) prints for it, without the newline. */
pp_function count;

#endif
