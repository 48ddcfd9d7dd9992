/* SPDX-License-Identifier: MIT */
/*
 * The owner's memory for a result: aligned to 16, followed by a NUL. Most are allocated; a large one is the buffer that
 * it came in, or a private mapping of the sealed memfd that it came in; what frees it need not know which.
 */
#ifndef PP_POOL_BLOCK_H
#define PP_POOL_BLOCK_H

#include "base/allocation.h"

#include <stddef.h>

/* The `size` bytes of a payload (shm/segment.h), copied only if they are few; *data on success. 0, -EPROTO (not sealed,
 * too small, or with holes where it is mapped), -ENOMEM. */
int pp__block_open(int fd, size_t size, void **data);

/* What is mapped for a block has so much before its data. */
size_t pp__block_before(void);

/* Makes the mapping of a buffer at `data` a block, which is given back to `place` when it is freed. */
struct pp__results_place;
void pp__block_lend(void *data, size_t room, struct pp__results_place *place);

/* Makes memory from malloc, of which as much as a header's size lies before the data, a block. */
void *pp__block_make(void *memory);

/* For who takes a block: from now on it is private memory. 0 or -ENOMEM. */
int pp__block_own(void *data);

/* NULL is allowed. */
void pp__block_free(void *data);

#endif
