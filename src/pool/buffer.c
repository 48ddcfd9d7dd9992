/* SPDX-License-Identifier: MIT */
#include "pool/buffer.h"

#include "base/atomic.h"
#include "base/cancel.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/seam.h"
#include "pool/descriptors.h"
#include "pool/task.h"
#include "process/owner.h"
#include "shm/segment.h"

#include <errno.h>
#include <stdlib.h>

/* Every page size divides it. */
#define UNIT ((size_t)64 << 10)

static _Atomic uint64_t last_serial;

static int make_memory(pp_buffer *buffer, size_t size, bool shared)
{
    buffer->size = size;
    buffer->room = (size + UNIT - 1) / UNIT * UNIT;
    buffer->shared = shared;
    buffer->fd = pp__segment_create("procpool-shared", buffer->room, !shared, &buffer->memory);
    return buffer->fd < 0 ? buffer->fd : 0;
}

static int create(size_t size, bool shared, pp_buffer **buffer)
{
    PP__NO_CANCELLATION();
    if (!buffer || size == 0 || size > PTRDIFF_MAX / 2)
        return pp__fail(-EINVAL, "a buffer: %s", buffer ? "no such size" : "no place for it");
    int error = pp__owner_enter();
    if (error)
        return error;
    pp_buffer *made = PP_SYS(calloc)(1, sizeof *made);
    if (!made)
        return pp__fail(-ENOMEM, "no memory for a buffer");
    error = make_memory(made, size, shared);
    if (error) {
        free(made);
        return error;
    }
    pp__store_relaxed(&made->refs, 1); /* handed out by the caller */
    made->token = pp__owner_token();
    made->serial = atomic_fetch_add_explicit(&last_serial, 1, memory_order_relaxed) + 1;
    *buffer = made;
    return 0;
}

int pp_buffer_create(size_t size, pp_buffer **buffer)
{
    return create(size, false, buffer);
}

int pp_buffer_create_shared(size_t size, pp_buffer **buffer)
{
    return create(size, true, buffer);
}

static bool is_own(const pp_buffer *buffer)
{
    return buffer->token == pp__owner_token();
}

void *pp_buffer_data(pp_buffer *buffer)
{
    if (!buffer || !is_own(buffer)) {
        if (buffer)
            pp__owner_refuse();
        else
            pp__fail(-EINVAL, "pp_buffer_data: no buffer");
        return NULL;
    }
    return buffer->memory;
}

size_t pp_buffer_size(const pp_buffer *buffer)
{
    return buffer ? buffer->size : 0;
}

pp_buffer *pp_buffer_ref(pp_buffer *buffer)
{
    if (buffer && is_own(buffer))
        atomic_fetch_add_explicit(&buffer->refs, 1, memory_order_relaxed);
    return buffer;
}

/* Release: what this thread did with it comes before the end; acquire: the one that ends it sees all of it. So it pairs
 * with itself in another thread. */
void pp_buffer_unref(pp_buffer *buffer)
{
    if (!buffer || !is_own(buffer) || atomic_fetch_sub_explicit(&buffer->refs, 1, memory_order_acq_rel) > 1)
        return;
    PP__NO_CANCELLATION();
    pp__segment_unmap(buffer->memory, buffer->room);
    pp__fd_close(buffer->fd);
    free(buffer);
}

/* -------------------------------------------------------------------------------------------- a call's */

int pp__buffers_check(const pp_call *call)
{
    if (!call->buffers)
        return pp__fail(-EINVAL, "buffers is NULL and buffer_count is %zu", call->buffer_count);
    if (call->buffer_count > PP_MAX_BUFFERS)
        return pp__fail(-EINVAL, "buffer_count is %zu; it must be at most %d", call->buffer_count, PP_MAX_BUFFERS);
    for (size_t i = 0; i < call->buffer_count; i++) {
        if (!call->buffers[i])
            return pp__fail(-EINVAL, "buffer %zu is NULL", i);
        if (!is_own(call->buffers[i]))
            return pp__owner_refuse();
    }
    return 0;
}

void pp__buffers_take(const pp_call *call, struct pp__buffers *buffers)
{
    buffers->count = (uint32_t)call->buffer_count;
    buffers->each = (struct pp__passed *)(buffers + 1);
    for (uint32_t i = 0; i < buffers->count; i++)
        buffers->each[i] = (struct pp__passed){.buffer = pp_buffer_ref(call->buffers[i])};
}

void pp__buffers_give_back(struct pp__buffers *buffers)
{
    for (uint32_t i = 0; buffers && i < buffers->count; i++)
        pp_buffer_unref(buffers->each[i].buffer);
}

/* --------------------------------------------------------------------------------------------- a map's */

int pp__buffer_check(const pp_buffer *buffer, const void *elements, size_t count, size_t each)
{
    if (!buffer)
        return 0;
    if (!is_own(buffer))
        return pp__owner_refuse();
    if (count * each == 0)
        return 0;
    size_t before = (size_t)((uintptr_t)elements - (uintptr_t)buffer->memory);
    if (before > buffer->size || count * each > buffer->size - before)
        return pp__fail(-EINVAL, "%zu elements of %zu bytes do not lie in their buffer, which has %zu", count, each,
                        buffer->size);
    return 0;
}

struct pp__passed pp__buffer_pass(pp_buffer *buffer, enum pp__use use, const void *place, size_t each)
{
    return (struct pp__passed){.buffer = pp_buffer_ref(buffer),
                               .use = use,
                               .at = (size_t)((const char *)place - (const char *)buffer->memory),
                               .each = each};
}

/* ------------------------------------------------------------------------------------------- the task's */

size_t pp_task_buffer_count(const pp_task *task)
{
    return task && task->carried ? task->carried->buffer_count : 0;
}

static void *find(const pp_task *task, size_t index, size_t *size)
{
    if (!task || index >= pp_task_buffer_count(task)) {
        pp__fail(-EINVAL, "there is no buffer %zu: the call has %zu", index, pp_task_buffer_count(task));
        return NULL;
    }
    if (size)
        *size = task->carried->buffers[index].size;
    return task->carried->buffers[index].data;
}

const void *pp_task_buffer(const pp_task *task, size_t index, size_t *size)
{
    return find(task, index, size);
}

void *pp_task_shared_buffer(const pp_task *task, size_t index, size_t *size)
{
    void *data = find(task, index, size);
    if (!data || task->carried->buffers[index].shared)
        return data;
    pp__fail(-EACCES, "buffer %zu is one that tasks can only read (pp_buffer_create_shared)", index);
    return NULL;
}
