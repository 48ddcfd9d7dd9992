/* SPDX-License-Identifier: MIT */
/* What a running task function has in its hands: who it is, and where its result or failure is gathered. */
#ifndef PP_POOL_TASK_H
#define PP_POOL_TASK_H

#include "pool/channel.h"
#include "pool/shelf.h"
#include "procpool.h"

#include <string.h>

struct pp__carried;

struct pp_task {
    uint64_t id;
    uint64_t seed; /* the pool's */
    int worker;
    struct pp__shelf *shelf; /* of buffers for large results; NULL: inline, they go into blocks */
    void **state;            /* the worker's own state */
    void *small;             /* PP__INLINE_MAX + 1 bytes, allocated once */
    void *result;            /* small, a buffer, a payload's mapping, or a block; NULL: none given */
    int place;               /* of the buffer, -1 if none */
    int fd;                  /* of the payload, -1 if none */
    size_t size;
    const _Atomic uint64_t *stop;  /* where its owner asks it to stop (channel.h); NULL: a duty's, which nobody asks */
    struct pp__progress *progress; /* where it tells how far it is; NULL as well */
    uint64_t told;                 /* id + 1 of the last call that did; 0: none */
    bool failed;                   /* it was reported, or there was no room for a result */
    int code;                      /* of the failure; 0: none reported */
    int travel;                    /* why there was no room for a result; 0: there was */
    void *trace;                   /* PP__TRACE_MAX bytes for where the task fails; NULL: nobody wants to know */
    size_t trace_size;             /* with a code: what of it is one; 0: it was not noted */
    char message[PP__MESSAGE_MAX + 1];

    /* Descriptors that it has, and gives back (descriptors.h); NULL: a duty's, or an element's of a map. */
    struct pp__carried *carried;
};

/* 0 or -ENOMEM. */
int pp__task_init(struct pp_task *task, struct pp__shelf *shelf, int worker, void **state);
void pp__task_destroy(struct pp_task *task);

/* From now on pp_task_fail notes where it was called. 0 or -ENOMEM. */
int pp__task_trace(struct pp_task *task);

/* Lets go of the result. */
void pp__task_drop(struct pp_task *task);

/* Whether that is more than to forget it. */
static inline bool pp__task_holds(const struct pp_task *task)
{
    return task->fd >= 0 || (task->result && task->result != task->small);
}

/* Makes it ready for call `id` of a pool with `seed`. */
static inline void pp__task_begin(struct pp_task *task, uint64_t id, uint64_t seed)
{
    if (pp__task_holds(task))
        pp__task_drop(task);
    task->result = NULL;
    task->size = 0;
    task->id = id;
    task->seed = seed;
    task->failed = false;
    task->code = 0;
    task->travel = 0;
    task->message[0] = 0;
}

/* The same behind a call of the same pool that has not failed and whose result did not have to be dropped: quicker. */
static inline void pp__task_go_on(struct pp_task *task, uint64_t id)
{
    task->result = NULL;
    task->size = 0;
    task->id = id;
}

/* A nonzero return without pp_task_fail becomes a failure with that code. */
void pp__task_settle(struct pp_task *task, int code);

/* Runs the function and settles what it left behind. */
static inline void pp__task_run(struct pp_task *task, pp_function *function, const void *arg, size_t size)
{
    int code = function(task, arg, size);
    if (code != 0)
        pp__task_settle(task, code);
}

#endif
