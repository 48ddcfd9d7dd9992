/* SPDX-License-Identifier: MIT */
/* Making, opening and closing queues, and looking at them. */
#include "sync/queue.h"

#include "base/atomic.h"
#include "base/cancel.h"
#include "base/clock.h"
#include "base/error.h"

#include <errno.h>
#include <limits.h>

#define MAX_ITEMS ((uint64_t)1 << 24)
#define DEFAULT_ITEMS 1024
#define DEFAULT_BYTES ((uint64_t)1 << 20)

/* Where things lie in the segment, and how long it is. */
struct layout {
    uint64_t entries, bytes, size;
};

static struct layout lay_out(uint64_t max_items, uint64_t max_bytes, bool joinable)
{
    struct layout layout = {.entries = sizeof(struct pp__shared_queue)};
    if (joinable)
        layout.entries += PP__HOLDERS_MAX * sizeof(struct pp__holder);
    layout.bytes = layout.entries + max_items * sizeof(struct pp__message_entry);
    layout.size = layout.bytes + max_bytes;
    return layout;
}

static bool limits_can_be(uint64_t max_items, uint64_t max_bytes)
{
    return max_items > 0 && max_items <= MAX_ITEMS && max_bytes > 0 && max_bytes <= PTRDIFF_MAX / 2;
}

static void fill_handle(pp_queue *queue, uint64_t max_items, uint64_t max_bytes, bool joinable)
{
    struct layout layout = lay_out(max_items, max_bytes, joinable);
    unsigned char *memory = queue->object.memory;
    queue->capacity = joinable ? PP__HOLDERS_MAX : 0;
    queue->messages = (struct pp__messages){
        .counts = &pp__queue_shared(queue)->counts,
        .entries = (struct pp__message_entry *)(void *)(memory + layout.entries),
        .bytes = memory + layout.bytes,
        .max_items = max_items,
        .max_bytes = max_bytes,
    };
}

static int check_options(const pp_queue_options *options)
{
    if (pp__check_reserved(options->reserved, sizeof options->reserved / sizeof *options->reserved) != 0)
        return -EINVAL;
    if (pp__check_switch("joinable", options->joinable) != 0)
        return -EINVAL;
    if (options->max_items > MAX_ITEMS)
        return pp__fail(-EINVAL, "max_items is %zu; it must be 0 (the default) to %llu", options->max_items,
                        (unsigned long long)MAX_ITEMS);
    if (options->max_bytes > PTRDIFF_MAX / 2)
        return pp__fail(-EINVAL, "max_bytes is %zu, more than an address space", options->max_bytes);
    return 0;
}

int pp_queue_create(const pp_queue_options *options, pp_queue **queue)
{
    PP__NO_CANCELLATION();
    static const pp_queue_options defaults;
    struct pp__object *object;
    if (!options)
        options = &defaults;
    int error = queue ? check_options(options) : pp__fail(-EINVAL, "pp_queue_create: no place for the queue");
    if (error)
        return error;
    uint64_t items = options->max_items ? options->max_items : DEFAULT_ITEMS;
    uint64_t bytes = options->max_bytes ? options->max_bytes : DEFAULT_BYTES;
    struct layout layout = lay_out(items, bytes, options->joinable);
    error = pp__object_create("procpool-queue", PP__KIND_QUEUE, layout.size, sizeof **queue, &object);
    if (error)
        return error;
    struct pp__shared_queue *shared = object->memory;
    error = pp__gate_init(&shared->gate);
    if (error) {
        pp__object_unref(object);
        return error;
    }
    shared->max_items = items;
    shared->max_bytes = bytes;
    shared->joinable = options->joinable != 0;
    *queue = (pp_queue *)object;
    fill_handle(*queue, items, bytes, options->joinable);
    return 0;
}

int pp_queue_open(int fd, pp_queue **queue)
{
    PP__NO_CANCELLATION();
    struct pp__object *object;
    if (!queue)
        return pp__fail(-EINVAL, "pp_queue_open: no place for the queue");
    int error = pp__object_open(fd, PP__KIND_QUEUE, sizeof(struct pp__shared_queue), sizeof **queue, &object);
    if (error)
        return error;
    const struct pp__shared_queue *shared = object->memory;
    uint64_t items = shared->max_items, bytes = shared->max_bytes;
    bool joinable = shared->joinable;
    if (!limits_can_be(items, bytes) || lay_out(items, bytes, joinable).size > object->size) {
        pp__object_unref(object);
        return pp__fail(-EINVAL, "descriptor %d is of a queue that does not fit its memory", fd);
    }
    *queue = (pp_queue *)object;
    fill_handle(*queue, items, bytes, joinable);
    return 0;
}

int pp_queue_fd(const pp_queue *queue)
{
    return queue ? pp__object_fd(&queue->object) : pp__fail(-EINVAL, "pp_queue_fd: no queue");
}

pp_queue *pp_queue_ref(pp_queue *queue)
{
    if (queue)
        pp__object_ref(&queue->object);
    return queue;
}

void pp_queue_unref(pp_queue *queue)
{
    PP__NO_CANCELLATION();
    if (queue)
        pp__object_unref(&queue->object);
}

/*
 * Set before the gate is entered, so that it is done though somebody is stopped inside: those who sleep see it at the
 * end of their bound then. Who is inside and has not seen it puts its message before any consumer can see that all was
 * taken.
 */
int pp_queue_close(pp_queue *queue)
{
    PP__NO_CANCELLATION();
    if (!queue)
        return pp__fail(-EINVAL, "pp_queue_close: no queue");
    struct pp__gate *gate = &pp__queue_shared(queue)->gate;
    pp__store_release(&pp__queue_shared(queue)->closed,
                      1); /* pairs with the loads of who puts and gets, after they have entered the gate */
    if (pp__gate_enter(gate, 0) != 0)
        return 0;
    pp__gate_ring(gate, PP__QUEUE_MESSAGE, INT_MAX);
    pp__gate_ring(gate, PP__QUEUE_ROOM, INT_MAX);
    pp__gate_ring(gate, PP__QUEUE_WATCH, INT_MAX);
    pp__gate_leave(gate);
    return 0;
}

/* --------------------------------------------------------------------------------------------- looking */

ssize_t pp_queue_size(const pp_queue *queue)
{
    return queue ? (ssize_t)pp__messages_count(&queue->messages) : pp__fail(-EINVAL, "pp_queue_size: no queue");
}

int pp_queue_empty(const pp_queue *queue)
{
    return queue ? pp__messages_count(&queue->messages) == 0 : pp__fail(-EINVAL, "pp_queue_empty: no queue");
}

int pp_queue_full(const pp_queue *queue)
{
    if (!queue)
        return pp__fail(-EINVAL, "pp_queue_full: no queue");
    return pp__messages_count(&queue->messages) == queue->messages.max_items;
}

int pp__queue_fail(int error, const char *what, int timeout)
{
    switch (error) {
    case -ETIMEDOUT:
        return pp__fail(error, "the queue had no %s for %d ms", what, timeout);
    case -EINTR:
        return pp__fail(error, "waiting for the queue's %s was interrupted by a signal", what);
    case -EDEADLK:
        return pp__fail(error, "a signal handler uses the queue that its thread was using");
    case -EPROTO:
        return pp__fail(error, "the queue's memory was overwritten");
    default:
        return pp__fail_errno(-error, "the queue");
    }
}
