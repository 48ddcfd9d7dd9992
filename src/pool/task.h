/* SPDX-License-Identifier: MIT */
/* What a running task function has in its hands: who it is, and where its result or failure is gathered. */
#ifndef PP_POOL_TASK_H
#define PP_POOL_TASK_H

#include "pool/channel.h"
#include "procpool.h"

#include <stdbool.h>

struct pp_task {
    uint64_t id;
    uint64_t seed;
    int worker;
    bool in_worker; /* large results go into a memfd; else (inline) into a block */
    void **state;   /* the worker's own state */
    void *small;    /* PP__INLINE_MAX + 1 bytes, allocated once */
    void *result;   /* small, a payload's mapping, or a block; NULL: none given */
    int fd;         /* of the payload, -1 if none */
    size_t size;
    int code;   /* of the failure; 0: none reported */
    int travel; /* why there was no room for a result; 0: there was */
    char message[PP__MESSAGE_MAX + 1];
};

/* 0 or -ENOMEM. */
int pp__task_init(struct pp_task *task, bool in_worker, int worker, void **state);
void pp__task_destroy(struct pp_task *task);

/* Makes it ready for call `id` of a pool with `seed`. */
void pp__task_begin(struct pp_task *task, uint64_t id, uint64_t seed);

/* Runs the function and settles what it left behind: a nonzero return without pp_task_fail becomes a failure with that code. */
void pp__task_run(struct pp_task *task, pp_function *function, const void *arg, size_t size);

/* Lets go of the result. */
void pp__task_drop(struct pp_task *task);

#endif
