/* SPDX-License-Identifier: MIT */
/* Memory that the program frees with pp_free, which finds what it is in the words before it. */
#ifndef PP_BASE_ALLOCATION_H
#define PP_BASE_ALLOCATION_H

#include <stddef.h>

struct pp__results_place;

/* Lies right before the data. `mapped`: bytes of the whole mapping, which begins pp__block_before() before the data; 0:
 * allocated. */
struct pp__block_header {
    size_t mapped;
    struct pp__results_place *lender; /* whose it is, or NULL */
};

/* Room for `size` bytes, aligned to 16, and a NUL behind them that is there already; or NULL. */
void *pp__block_allocate(size_t size);

/* Frees what pp__block_allocate gave and nobody has seen. NULL is allowed. */
void pp__block_undo(void *data);

#endif
