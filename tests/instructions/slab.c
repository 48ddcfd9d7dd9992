/* SPDX-License-Identifier: MIT */
/* The slab as it is without valgrind, under which each object would be malloc's own. The question is asked all the
 * same: it costs instructions. */
#include "process/sanitizer.h"

#include <stdbool.h>

static inline unsigned asked_in_vain(void)
{
    (void)PP_ON_VALGRIND;
    return 0;
}

#undef PP_ON_VALGRIND
#define PP_ON_VALGRIND asked_in_vain()

#include "pool/slab.c"
