/* SPDX-License-Identifier: MIT */
/*
 * Buffers that the program fills and passes with calls: memory that its maker alone can write to, passed by descriptor.
 * Whoever has one, a call that has not ended included, has a reference. Any thread.
 */
#ifndef PP_POOL_BUFFER_H
#define PP_POOL_BUFFER_H

#include "pool/item.h"

struct pp_buffer {
    _Atomic uint32_t refs;
    uint32_t token;  /* of the process that made it (process/owner.h) */
    uint64_t serial; /* never 0, never given out again */
    int fd;
    void *memory;
    size_t size; /* as the program asked */
    size_t room; /* of the memory file */
};

/* A call's. */
struct pp__buffers {
    uint32_t count;
    pp_buffer *each[];
};

/* References to a call's. 0, or -EINVAL, -EPERM, -ENOMEM. */
int pp__buffers_take(const pp_call *call, struct pp__buffers **made);

/* Gives them back. NULL is allowed. */
void pp__buffers_give_back(struct pp__buffers *buffers);

#endif
