/* SPDX-License-Identifier: MIT */
/*
 * The owner's private memory for a result: aligned to 16, followed by a NUL. Most are allocated; a large one is a
 * private mapping of the sealed memfd that it came in; what frees it need not know which.
 */
#ifndef PP_POOL_BLOCK_H
#define PP_POOL_BLOCK_H

#include <stddef.h>

/* Room for `size` bytes, or NULL. */
void *pp__block_allocate(size_t size);

/* The `size` bytes of a payload (shm/segment.h), copied only if they are few; *data on success. 0, -EPROTO (not sealed or too small), -ENOMEM. */
int pp__block_open(int fd, size_t size, void **data);

/* NULL is allowed. */
void pp__block_free(void *data);

#endif
