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
    bool shared;     /* workers may write to it */
    uint64_t serial; /* never 0, never given out again */
    int fd;
    void *memory;
    size_t size; /* as the program asked */
    size_t room; /* of the memory file */
};

/* Whether a call may have those that it names: 0, or -EINVAL, -EPERM. */
int pp__buffers_check(const pp_call *call);

/* Bytes for them. */
static inline size_t pp__buffers_room(const pp_call *call)
{
    return sizeof(struct pp__buffers) + call->buffer_count * sizeof(struct pp__passed);
}

/* References to them, in that room. */
void pp__buffers_take(const pp_call *call, struct pp__buffers *buffers);

/* Gives them back; of the room they need nothing more. NULL is allowed. */
void pp__buffers_give_back(struct pp__buffers *buffers);

/* 0 if `count` elements of `each` bytes at `elements` lie in it, or it is NULL; else -EINVAL or -EPERM. */
int pp__buffer_check(const pp_buffer *buffer, const void *elements, size_t count, size_t each);

/* Elements of `each` bytes at `place`, which lie in it, with a reference to it. */
struct pp__passed pp__buffer_pass(pp_buffer *buffer, enum pp__use use, const void *place, size_t each);

#endif
