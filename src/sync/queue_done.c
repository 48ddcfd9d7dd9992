/* SPDX-License-Identifier: MIT */
/*
 * Messages of a joinable queue that are done, and waiting until all are. What is not done is not counted: it is what
 * lies in the queue, and what living processes have taken according to their records.
 */
#include "base/cancel.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/seam.h"
#include "sync/queue.h"

#include <errno.h>
#include <limits.h>

static bool is_done(const pp_queue *queue)
{
    return pp__messages_count(&queue->messages) == 0 &&
           pp__holders_sum(&pp__queue_shared(queue)->holders, queue->capacity) == 0;
}

int pp_queue_task_done(pp_queue *queue)
{
    PP__NO_CANCELLATION();
    if (!queue || queue->capacity == 0)
        return pp__fail(-EINVAL, "pp_queue_task_done: %s", queue ? "the queue is not joinable" : "no queue");
    struct pp__gate *gate = &pp__queue_shared(queue)->gate;
    int error = pp__gate_enter(gate, PP__NEVER);
    if (error)
        return pp__queue_fail(error, "gate", -1);
    bool removed = pp__holders_remove(&pp__queue_shared(queue)->holders, queue->capacity);
    PP_FAULT("queue.done.removed");
    if (removed && is_done(queue))
        pp__gate_ring(gate, PP__QUEUE_DONE, INT_MAX);
    pp__gate_leave(gate);
    return removed ? 0 : pp__fail(-EPERM, "the calling process has no message that is not done");
}

struct joiner {
    pp_queue *queue;
    bool looked;
};

static bool may_go_on(void *what)
{
    struct joiner *joiner = what;
    pp_queue *queue = joiner->queue;
    if (is_done(queue))
        return true;
    if (!pp__holders_sweep_at_times(&pp__queue_shared(queue)->holders, queue->capacity, &joiner->looked) ||
        !is_done(queue))
        return false;
    pp__gate_ring(&pp__queue_shared(queue)->gate, PP__QUEUE_DONE, INT_MAX);
    return true;
}

int pp_queue_join(pp_queue *queue, int timeout)
{
    PP__NO_CANCELLATION();
    struct joiner joiner = {.queue = queue};
    if (!queue || queue->capacity == 0)
        return pp__fail(-EINVAL, "pp_queue_join: %s", queue ? "the queue is not joinable" : "no queue");
    struct pp__gate *gate = &pp__queue_shared(queue)->gate;
    int error = pp__gate_enter_when(gate, PP__QUEUE_DONE, pp__deadline(timeout), may_go_on, &joiner);
    if (error == -ETIMEDOUT)
        return pp__fail(error, "messages of the queue are not done, for %d ms now", timeout);
    if (error)
        return pp__queue_fail(error, "messages to be done", timeout);
    pp__gate_leave(gate);
    return 0;
}
