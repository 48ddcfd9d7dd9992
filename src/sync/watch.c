/* SPDX-License-Identifier: MIT */
#include "sync/watch.h"

#include "base/atomic.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/seam.h"
#include "sync/queue.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>

/* So long it waits at a time for a gate in which somebody may be stopped, to see whether it is to stop itself. */
#define ROUND PP__SECOND

/* `closed` before the count: when it is set no message comes any more. */
bool pp__queue_is_ready(const pp_queue *queue)
{
    bool closed = pp__load_acquire(&pp__queue_shared(queue)->closed); /* pairs with the store in pp_queue_close */
    return closed || pp__messages_count(&queue->messages) > 0;
}

/* Inside the gate. */
static bool may_end(void *what)
{
    struct pp__watch *watch = what;
    return pp__load_acquire(&watch->stop) /* pairs with the store in pp__watch_stop */ ||
           pp__queue_is_ready(watch->queue);
}

static void *watch_queue(void *what)
{
    struct pp__watch *watch = what;
    struct pp__gate *gate = &pp__queue_shared(watch->queue)->gate;
    int error;
    do
        error = pp__gate_enter_when(gate, PP__QUEUE_WATCH, pp__now() + ROUND, may_end, watch);
    while (error == -ETIMEDOUT && !may_end(watch));
    if (error == 0)
        pp__gate_leave(gate);
    watch->error = error == -ETIMEDOUT ? 0 : error;
    pp__store_release(&watch->over, 1); /* behind the error; pairs with the load in pp__watch_is_over */
    pp__fd_ring(watch->bell);
    return NULL;
}

/* With all signals blocked: the host's handlers run in the host's threads. */
int pp__watch_start(struct pp__watch *watch, pp_queue *queue, int bell)
{
    sigset_t all, before;
    watch->queue = queue;
    watch->bell = bell;
    watch->error = 0;
    pp__store_relaxed(&watch->stop, 0);
    pp__store_relaxed(&watch->over, 0);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = PP_SYS(pthread_create)(&watch->thread, NULL, watch_queue, watch);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    watch->started = error == 0;
    return error ? pp__fail(-error, "a thread that watches a queue can't be made: %s", pp__why_no_process(error)) : 0;
}

/* Inside, so that the thread either sees that it is to stop or sleeps already. Where nobody can enter it sees it at the
 * end of its bound. */
static void rouse(struct pp__watch *watch)
{
    struct pp__gate *gate = &pp__queue_shared(watch->queue)->gate;
    if (pp__watch_is_over(watch) || pp__gate_enter(gate, 0) != 0)
        return;
    pp__gate_ring(gate, PP__QUEUE_WATCH, INT_MAX);
    pp__gate_leave(gate);
}

void pp__watch_stop(struct pp__watch *watch)
{
    if (!watch->started)
        return;
    pp__store_release(&watch->stop, 1); /* pairs with the load in may_end */
    rouse(watch);
    pthread_join(watch->thread, NULL);
    watch->started = false;
}

int pp__watch_error(const struct pp__watch *watch)
{
    return watch->error ? pp__queue_fail(watch->error, "message", 0) : 0;
}

bool pp__watch_is_over(const struct pp__watch *watch)
{
    return pp__load_acquire(&watch->over); /* pairs with the store in watch_queue */
}
