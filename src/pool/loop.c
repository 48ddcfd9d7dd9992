/* SPDX-License-Identifier: MIT */
#include "pool/loop.h"

#include "base/cancel.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/seam.h"
#include "pool/callbacks.h"
#include "pool/collect.h"
#include "pool/inline.h"
#include "pool/log.h"
#include "pool/standby.h"
#include "process/owner.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>

struct pp__loop {
    int set; /* what the host watches */
    int wake, timer;
    bool woken; /* since the last dispatch */
    uint64_t timer_at;
    int dispatching;  /* depth: a callback may dispatch in turn */
    pthread_t thread; /* which does */
};

static int watch(const struct pp__loop *loop, int fd)
{
    struct epoll_event event = {.events = EPOLLIN};
    if (fd < 0 || PP_SYS(epoll_ctl)(loop->set, EPOLL_CTL_ADD, fd, &event) == 0)
        return 0;
    return pp__fail_errno(errno, "epoll_ctl");
}

static int open_descriptors(const pp_pool *pool, struct pp__loop *loop)
{
    loop->set = pp__fd_adopt(PP_SYS(epoll_create1)(EPOLL_CLOEXEC), "an epoll set");
    if (loop->set < 0)
        return loop->set;
    loop->wake = pp__fd_event();
    if (loop->wake < 0)
        return loop->wake;
    loop->timer = pp__fd_adopt(PP_SYS(timerfd_create)(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK), "a timer");
    if (loop->timer < 0)
        return loop->timer;
    int error = watch(loop, loop->wake);
    if (!error)
        error = watch(loop, loop->timer);
    return error ? error : watch(loop, pool->epoll); /* an inline pool has none */
}

void pp__loop_destroy(pp_pool *pool)
{
    struct pp__loop *loop = pool->loop;
    pool->loop = NULL;
    if (!loop)
        return;
    pp__fd_close(loop->set);
    pp__fd_close(loop->wake);
    pp__fd_close(loop->timer);
    free(loop);
}

void pp__loop_wake(pp_pool *pool)
{
    if (!pool->loop->woken)
        pp__fd_ring(pool->loop->wake);
    pool->loop->woken = true;
}

bool pp__loop_is_here(const pp_pool *pool)
{
    const struct pp__loop *loop = pool->loop;
    return pool->ended || (loop->dispatching > 0 && pthread_equal(loop->thread, pthread_self()));
}

/* ------------------------------------------------------------------------------------------ dispatching */

/* A timer that comes early costs a dispatch, which sets it anew. */
static void set_timer(struct pp__loop *loop, uint64_t at)
{
    struct itimerspec when = {0};
    if (loop->timer_at <= at && loop->timer_at > pp__now() && at != PP__NEVER)
        return;
    loop->timer_at = at;
    if (at != PP__NEVER) {
        when.it_value.tv_sec = (time_t)(at / PP__SECOND);
        when.it_value.tv_nsec = (long)(at % PP__SECOND) + (at == 0); /* zero would be never */
    }
    PP_SYS(timerfd_settime)(loop->timer, TFD_TIMER_ABSTIME, &when, NULL); /* which also makes it unreadable */
}

/* As the manager does. Releases the lock meanwhile. When it is due next. */
static uint64_t make_standby(pp_pool *pool)
{
    uint64_t due = pp__standby_due(pool);
    if (due > pp__now())
        return due;
    pp__standby_make(pool);
    return PP__NEVER;
}

/* Sleeps as the manager does, but for the sleeping itself. What came meanwhile is for the next dispatch: the host has
 * other things to do. */
static void arm(pp_pool *pool)
{
    uint64_t next = PP__NEVER, standby = pool->is_inline ? PP__NEVER : make_standby(pool);
    if (!pool->loop)
        return;
    if (!pool->ended && !pool->is_inline && !pool->collector.waiter && pp__collect_arm(pool, &next))
        pp__loop_wake(pool);
    if (pool->loop)
        set_timer(pool->loop, next < standby ? next : standby);
}

/* One call of an inline pool; what else there is has its turn when the host comes back. */
static void step_inline(pp_pool *pool)
{
    bool some =
        pp__inline_step(pool); /* false, too, when another thread is at it, which wakes the loop when it is done */
    if (some && pool->loop && pool->pending_count > 0)
        pp__loop_wake(pool);
}

void pp__loop_collect(pp_pool *pool)
{
    if (pool->is_inline || pool->ended || pool->collector.waiter)
        return;
    pp__collect_events(pool);
    arm(pool);
    if (pool->loop)
        pp__log_run_errand(pool);
}

/* The pool, which a callback may give up, is kept by the caller. */
static void dispatch(pp_pool *pool)
{
    struct pp__loop *loop = pool->loop;
    if (loop->woken)
        pp__fd_clear(loop->wake);
    loop->woken = false;
    loop->dispatching++;
    loop->thread = pthread_self();
    if (pool->is_inline)
        step_inline(pool);
    else if (!pool->ended && !pool->collector.waiter)
        pp__collect_events(pool);
    if (pool->ended)
        pp__pool_close_epoll(pool); /* what woke the loop last lies in there */
    if (pp__callbacks_are_mine(pool))
        pp__callbacks_run(pool);
    pp__log_hand_out(pool);
    if (!pool->loop)
        return; /* a callback released the pool */
    loop->dispatching--;
    arm(pool);
}

static bool may_dispatch(const pp_pool *pool)
{
    const struct pp__loop *loop = pool->loop;
    return loop && (loop->dispatching == 0 || pthread_equal(loop->thread, pthread_self()));
}

static int refuse(const pp_pool *pool, const char *caller)
{
    if (!pool)
        return pp__fail(-EINVAL, "%s: no pool", caller);
    return pp__pool_is_own(pool) ? 0 : pp__owner_refuse();
}

int pp_pool_dispatch(pp_pool *pool)
{
    PP__NO_CANCELLATION();
    int error = refuse(pool, "pp_pool_dispatch");
    if (error)
        return error;
    pp__pool_ref(pool);
    pp__pool_lock(pool);
    if (!pool->loop)
        error = pp__fail(-EINVAL, "the pool was not made for an event loop");
    else if (!may_dispatch(pool))
        error = pp__fail(-EBUSY, "another thread is dispatching");
    else
        dispatch(pool);
    size_t outstanding = pool->outstanding;
    bool forsaken =
        pool->forsaken && !pp__callbacks_are_running_here(pool); /* one that dispatches leaves it to its own dispatch */
    if (forsaken)
        pool->forsaken = false;
    pp__pool_unlock(pool);
    if (forsaken) {
        pp_pool_destroy(pool);
        outstanding = 0;
    }
    pp__pool_unref(pool);
    return error ? error : outstanding < INT_MAX ? (int)outstanding : INT_MAX;
}

int pp_pool_fd(pp_pool *pool)
{
    int error = refuse(pool, "pp_pool_fd");
    if (error)
        return error;
    pp__pool_lock(pool);
    int fd = pool->loop ? pool->loop->set : pp__fail(-EINVAL, "the pool was not made for an event loop");
    pp__pool_unlock(pool);
    return fd;
}

int pp__loop_create(pp_pool *pool)
{
    struct pp__loop *loop = PP_SYS(calloc)(1, sizeof *loop);
    if (!loop)
        return pp__fail(-ENOMEM, "no memory for a pool");
    loop->set = loop->wake = loop->timer = -1;
    loop->timer_at = PP__NEVER;
    pool->loop = loop;
    int error = open_descriptors(pool, loop);
    pp__pool_lock(pool);
    if (error)
        pp__loop_destroy(pool);
    else
        arm(pool);
    pp__pool_unlock(pool);
    return error;
}
