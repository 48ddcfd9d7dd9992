/* SPDX-License-Identifier: MIT */
/* Putting messages into queues and taking them out. */
#include "base/allocation.h"
#include "base/atomic.h"
#include "base/cancel.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/seam.h"
#include "sync/queue.h"

#include <errno.h>
#include <limits.h>

/* What pp_queue_take has ready before it knows the size. */
#define FIRST_ROOM 224

/* Inside the gate, as are all functions up to the public ones. */
static bool is_closed(const pp_queue *queue)
{
    return pp__load_acquire(&pp__queue_shared(queue)->closed); /* pairs with the store in pp_queue_close */
}

static void ring(pp_queue *queue, unsigned place, int count)
{
    pp__gate_ring(&pp__queue_shared(queue)->gate, place, count);
}

/* ---------------------------------------------------------------------------------------------- put */

struct putter {
    pp_queue *queue;
    size_t size;
    int error; /* why it waits no longer, though there is no room */
};

static bool may_put(void *what)
{
    struct putter *putter = what;
    putter->error = is_closed(putter->queue) ? pp__fail(-EPIPE, "the queue is closed")
                                             : pp__messages_check(&putter->queue->messages);
    return putter->error || pp__messages_fit(&putter->queue->messages, putter->size);
}

int pp_queue_put(pp_queue *queue, const void *data, size_t size, int timeout)
{
    PP__NO_CANCELLATION();
    struct putter putter = {.queue = queue, .size = size};
    if (!queue || (!data && size > 0))
        return pp__fail(-EINVAL, "pp_queue_put: %s", queue ? "no data, and their size is not 0" : "no queue");
    if (size > queue->messages.max_bytes)
        return pp__fail(-EMSGSIZE, "a message of %zu bytes for a queue with max_bytes of %llu", size,
                        (unsigned long long)queue->messages.max_bytes);
    struct pp__gate *gate = &pp__queue_shared(queue)->gate;
    int error = pp__gate_enter_when(gate, PP__QUEUE_ROOM, pp__deadline(timeout), may_put, &putter);
    if (error)
        return pp__queue_fail(error, "room", timeout);
    if (!putter.error) {
        PP_FAULT("queue.put.inside");
        pp__messages_put(&queue->messages, data, size);
        ring(queue, PP__QUEUE_MESSAGE, 1);
        ring(queue, PP__QUEUE_WATCH, INT_MAX); /* who watches takes no message: none is kept from who gets */
    }
    pp__gate_leave(gate);
    PP_FAULT("queue.put.done");
    return putter.error;
}

/* ---------------------------------------------------------------------------------------------- get */

/* Where a message goes, and how that went. */
struct getter {
    pp_queue *queue;
    void *buffer;
    size_t capacity;
    bool exact; /* it must have just so many bytes */
    bool again; /* if it is too large, it comes again at once with more room */
    size_t size;
    int error;
};

static bool may_get(void *what)
{
    struct getter *getter = what;
    pp_queue *queue = getter->queue;
    bool closed = is_closed(queue); /* before it is seen that there is no message: then none will come */
    getter->error = pp__messages_check(&queue->messages);
    if (getter->error || pp__messages_count(&queue->messages) > 0)
        return true;
    if (closed)
        getter->error = pp__fail(-EPIPE, "the queue is closed, and all was taken");
    return closed;
}

/* Noted before it is taken: who dies in between has taken nothing, and its note goes with it. */
static int note_taken(pp_queue *queue)
{
    struct pp__holders *holders = &pp__queue_shared(queue)->holders;
    if (queue->capacity == 0 || pp__holders_add(holders, queue->capacity) ||
        (pp__holders_sweep(holders, queue->capacity) && pp__holders_add(holders, queue->capacity)))
        return 0;
    return pp__fail(-EUSERS, "%u processes have taken messages that are not done", queue->capacity);
}

static int take_first(struct getter *getter)
{
    pp_queue *queue = getter->queue;
    getter->size = pp__messages_first(&queue->messages);
    if (getter->size > getter->capacity || (getter->exact && getter->size != getter->capacity))
        return pp__fail(-EMSGSIZE, "the next message has %zu bytes, the buffer %zu", getter->size, getter->capacity);
    PP_FAULT("queue.get.inside");
    pp__messages_copy(&queue->messages, getter->buffer, getter->size);
    PP_FAULT("queue.get.copied");
    int error = note_taken(queue);
    if (error)
        return error;
    pp__messages_drop(&queue->messages);
    ring(queue, PP__QUEUE_ROOM, INT_MAX); /* all: one that was woken alone might need more room than there is */
    return 0;
}

static int get(struct getter *getter, uint64_t deadline, int timeout)
{
    struct pp__gate *gate = &pp__queue_shared(getter->queue)->gate;
    int error = pp__gate_enter_when(gate, PP__QUEUE_MESSAGE, deadline, may_get, getter);
    if (error)
        return pp__queue_fail(error, "message", timeout);
    if (!getter->error) {
        getter->error = take_first(getter);
        if (getter->error && !(getter->again && getter->error == -EMSGSIZE))
            ring(getter->queue, PP__QUEUE_MESSAGE, 1); /* it was woken for the message, and leaves it to others */
    }
    pp__gate_leave(gate);
    PP_FAULT("queue.get.done");
    return getter->error;
}

int pp_queue_get(pp_queue *queue, int timeout, void *buffer, size_t capacity, size_t *size)
{
    PP__NO_CANCELLATION();
    struct getter getter = {.queue = queue, .buffer = buffer, .capacity = capacity, .exact = !size};
    if (!queue || (!buffer && capacity > 0))
        return pp__fail(-EINVAL, "pp_queue_get: %s", queue ? "no buffer, and its capacity is not 0" : "no queue");
    int error = get(&getter, pp__deadline(timeout), timeout);
    if (size && (error == 0 || error == -EMSGSIZE))
        *size = getter.size;
    return error;
}

/* Who can't come again after all, though it was woken for a message, leaves that to others. */
static int give_up(pp_queue *queue, size_t size)
{
    struct pp__gate *gate = &pp__queue_shared(queue)->gate;
    if (pp__gate_enter(gate, 0) == 0) {
        ring(queue, PP__QUEUE_MESSAGE, 1);
        pp__gate_leave(gate);
    }
    return pp__fail(-ENOMEM, "no memory for a message of %zu bytes", size);
}

/* The message stays while there is not room enough; another process may take it meanwhile, then it is the next one that
 * counts. */
int pp_queue_take(pp_queue *queue, int timeout, void **data, size_t *size)
{
    PP__NO_CANCELLATION();
    if (!queue || !data || !size)
        return pp__fail(-EINVAL, "pp_queue_take: %s", queue ? "no place for data or size" : "no queue");
    uint64_t deadline = pp__deadline(timeout);
    struct getter getter = {.queue = queue, .size = FIRST_ROOM, .again = true};
    int error;
    do {
        pp__block_undo(getter.buffer);
        getter.capacity = getter.size;
        getter.buffer = pp__block_allocate(getter.capacity);
        if (!getter.buffer)
            return give_up(queue, getter.capacity);
        error = get(&getter, deadline, timeout);
    } while (error == -EMSGSIZE);
    if (error) {
        pp__block_undo(getter.buffer);
        return error;
    }
    ((char *)getter.buffer)[getter.size] = '\0';
    *data = getter.buffer;
    *size = getter.size;
    return 0;
}
