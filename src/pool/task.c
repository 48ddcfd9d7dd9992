/* SPDX-License-Identifier: MIT */
/* The functions that a task calls. They run in the worker, in the thread that runs the task (inline: in the owner). */
#include "pool/task.h"

#include "base/atomic.h"
#include "base/copy.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/seam.h"
#include "pool/block.h"
#include "shm/segment.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int pp__task_init(struct pp_task *task, struct pp__shelf *shelf, int worker, void **state)
{
    *task = (struct pp_task){.worker = worker, .shelf = shelf, .state = state, .place = -1, .fd = -1};
    task->small = PP_SYS(malloc)(PP__INLINE_MAX + 1);
    return task->small ? 0 : pp__fail(-ENOMEM, "no memory for a task's result");
}

void pp__task_destroy(struct pp_task *task)
{
    pp__task_drop(task);
    free(task->small);
    free(task->trace);
}

int pp__task_trace(struct pp_task *task)
{
    task->trace = PP_SYS(malloc)(PP__TRACE_MAX);
    return task->trace ? 0 : pp__fail(-ENOMEM, "no memory to note where a task fails");
}

/* splitmix64's finalizer: neighbouring ids give unrelated seeds. */
static uint64_t mix(uint64_t x)
{
    x ^= x >> 30;
    x *= UINT64_C(0xbf58476d1ce4e5b9);
    x ^= x >> 27;
    x *= UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static void set_failure(struct pp_task *task, int code, const char *format, va_list arguments)
{
    task->failed = true;
    task->code = code ? code : -EIO;
    task->trace_size = 0;
    if (format)
        vsnprintf(task->message, sizeof task->message, format, arguments);
}

/* Of the task's return there is no place to tell. */
static void fail_without_place(struct pp_task *task, int code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    set_failure(task, code, format, arguments);
    va_end(arguments);
}

void pp__task_settle(struct pp_task *task, int code)
{
    if (task->code)
        return; /* it has said so itself */
    task->failed = true;
    if (code == task->travel)
        snprintf(task->message, sizeof task->message, "its result can't travel: %s", pp_last_error());
    else
        fail_without_place(task, code, "the task returned %d%s%s", code, code < 0 ? ": " : "",
                           code < 0 ? pp__strerror(-code) : "");
}

void pp__task_drop(struct pp_task *task)
{
    if (task->place >= 0)
        pp__shelf_give(task->shelf, task->place);
    else if (task->fd >= 0)
        pp__segment_unmap(task->result, task->size + 1);
    else if (task->result != task->small)
        pp__block_free(task->result);
    pp__fd_close(task->fd);
    task->place = task->fd = -1;
    task->result = NULL;
    task->size = 0;
}

/* Room for a result that does not fit a record. */
static int reserve_large(struct pp_task *task, size_t size, void **memory)
{
    if (!task->shelf) {
        *memory = pp__block_allocate(size);
        return *memory ? 0 : pp__fail(-ENOMEM, "no memory for a result of %zu bytes", size);
    }
    task->place = pp__shelf_take(task->shelf, size);
    if (task->place >= 0) {
        *memory = task->shelf->places[task->place].memory;
        return 0;
    }
    int fd = pp__payload_create(size, memory);
    if (fd >= 0)
        task->fd = fd;
    return fd < 0 ? fd : 0;
}

static int reserve(struct pp_task *task, size_t size, void **memory)
{
    pp__task_drop(task);
    *memory = task->small;
    task->travel = size <= PP__INLINE_MAX ? 0 : reserve_large(task, size, memory);
    if (task->travel)
        return task->travel;
    ((char *)*memory)[size] = 0;
    task->result = *memory;
    task->size = size;
    return 0;
}

void *pp_task_reserve(pp_task *task, size_t size)
{
    void *memory;
    if (!task) {
        pp__fail(-EINVAL, "pp_task_reserve: no task");
        return NULL;
    }
    return reserve(task, size, &memory) == 0 ? memory : NULL;
}

/* In place of a large result, or a large one itself. */
static int return_large(struct pp_task *task, const void *data, size_t size)
{
    void *memory;
    struct pp_task before = *task;
    task->result = NULL; /* data may point into the result that it replaces: that one stays until it was copied */
    task->place = task->fd = -1;
    int error = reserve(task, size, &memory);
    if (error == 0 && size > 0)
        memmove(memory, data, size);
    pp__task_drop(&before);
    return error;
}

__attribute__((noinline, cold)) static int refuse_return(const struct pp_task *task)
{
    return pp__fail(-EINVAL, "pp_task_return: %s", task ? "no data" : "no task");
}

int pp_task_return(pp_task *task, const void *data, size_t size)
{
    if (!task || (!data && size > 0))
        return refuse_return(task);
    if (size > PP__INLINE_MAX || (task->result && task->result != task->small))
        return return_large(task, data, size);
    char *small = task->small;
    pp__copy_few(small, data, size); /* data may point into the result that it replaces, here as above */
    small[size] = 0;
    task->result = small;
    task->size = size;
    task->travel = 0;
    return 0;
}

int(pp_task_fail)(pp_task *task, int code, const char *format, ...)
{
    if (!task)
        return pp__fail(-EINVAL, "pp_task_fail: no task");
    va_list arguments;
    va_start(arguments, format);
    set_failure(task, code, format, arguments);
    va_end(arguments);
    if (task->trace)
        task->trace_size = pp__trace_here(task->trace, PP__TRACE_MAX, (uintptr_t)__builtin_return_address(0)); // NOLINT
    return task->code;
}

uint64_t pp_task_id(const pp_task *task)
{
    return task ? task->id : 0;
}

int pp_task_worker(const pp_task *task)
{
    return task ? task->worker : pp__fail(-EINVAL, "pp_task_worker: no task");
}

uint64_t pp_task_seed(const pp_task *task)
{
    return task ? mix(task->seed + (task->id + 1) * UINT64_C(0x9e3779b97f4a7c15)) : 0;
}

void *pp_task_state(const pp_task *task)
{
    return task ? *task->state : NULL;
}

void pp_task_set_state(pp_task *task, void *state)
{
    if (task)
        *task->state = state;
}

int pp_task_cancelled(const pp_task *task)
{
    /* Pairs with the store in ask_to_stop (progress.c): what the program did before it is seen. */
    return task && task->stop && pp__load_acquire(task->stop) == task->id + 1;
}

/* Read by read_progress (progress.c). Of an id that is there, a value is: its first one is stored before. */
void pp_task_progress(pp_task *task, uint64_t progress)
{
    if (!task || !task->progress)
        return;
    /* Pairs with the load of the value in read_progress (progress.c): the results of earlier calls were published
     * before it is seen. */
    pp__store_release(&task->progress->value, progress);
    if (task->told == task->id + 1)
        return;
    task->told = task->id + 1;
    pp__store_release(&task->progress->id,
                      task->told); /* pairs with the load in read_progress (progress.c): the value is seen */
}
