/* SPDX-License-Identifier: MIT */
/*
 * Waiting for things of several kinds at once. The thread sleeps in poll(2), which descriptors and sentinels wake by themselves; the ends of futures and the
 * threads that watch queues ring an eventfd there. What is ready is looked up anew after each sleep, so a ring says no more than that it is time to look.
 */
#include "base/cancel.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/interrupt.h"
#include "base/seam.h"
#include "pool/future.h"
#include "pool/group.h"
#include "pool/pool.h"
#include "pool/process.h"
#include "process/owner.h"
#include "sync/watch.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>

struct selection {
    pp_selectable *items;
    size_t count;
    /* What poll looks at: for each item one, negative and so passed over unless it has a descriptor, and behind them the bell. */
    struct pollfd *polled;
    pp_future **futures;
    size_t future_count;
    struct pp__watch *watches; /* of the queues, in their order */
    size_t queue_count;
    struct pp_completed *group; /* of the futures; NULL: there are none */
    int bell;                   /* -1: nobody would ring */
};

/* ------------------------------------------------------------------------------------------- arguments */

static int check_item(const pp_selectable *item, size_t i)
{
    switch (item->kind) {
    case PP_SELECT_FUTURE:
        if (item->future)
            return pp__pool_is_own(item->future->item.pool) ? 0 : pp__owner_refuse();
        break;
    case PP_SELECT_QUEUE:
        if (item->queue)
            return 0;
        break;
    case PP_SELECT_PROCESS:
        if (item->process)
            return item->process->owner == pp__owner_token() ? 0 : pp__owner_refuse();
        break;
    case PP_SELECT_FD:
        return item->fd >= 0 ? 0 : pp__fail(-EBADF, "pp_select: item %zu has descriptor %d", i, item->fd);
    default:
        return pp__fail(-EINVAL, "pp_select: item %zu is of no known kind: %d", i, (int)item->kind);
    }
    return pp__fail(-EINVAL, "pp_select: item %zu has nothing of its kind", i);
}

static int check(const pp_selectable *items, size_t count)
{
    if (!items && count > 0)
        return pp__fail(-EINVAL, "pp_select: no items");
    if (count > PTRDIFF_MAX / 256)
        return pp__fail(-ENOMEM, "no memory for %zu items", count);
    for (size_t i = 0; i < count; i++) {
        int error = check_item(&items[i], i);
        if (error)
            return error;
    }
    return 0;
}

/* ----------------------------------------------------------------------------------------- the selection */

static void add(struct selection *s, size_t i)
{
    pp_selectable *item = &s->items[i];
    struct pollfd *polled = &s->polled[i];
    *polled = (struct pollfd){.fd = -1, .events = POLLIN};
    if (item->kind == PP_SELECT_FUTURE)
        s->futures[s->future_count++] = item->future;
    else if (item->kind == PP_SELECT_QUEUE)
        s->watches[s->queue_count++].queue = item->queue;
    else if (item->kind == PP_SELECT_PROCESS)
        polled->fd = item->process->connection;
    else
        *polled = (struct pollfd){.fd = item->fd, .events = (short)(item->events ? item->events : POLLIN)};
}

static int open_selection(struct selection *s)
{
    s->polled = PP_SYS(calloc)(s->count + 1, sizeof *s->polled);
    s->futures = PP_SYS(calloc)(s->count, sizeof(pp_future *));
    s->watches = PP_SYS(calloc)(s->count, sizeof *s->watches);
    if (!s->polled || !s->futures || !s->watches)
        return pp__fail(-ENOMEM, "no memory for %zu items", s->count);
    for (size_t i = 0; i < s->count; i++)
        add(s, i);
    if (s->future_count + s->queue_count > 0) {
        s->bell = pp__fd_event();
        if (s->bell < 0)
            return s->bell;
    }
    s->polled[s->count] = (struct pollfd){.fd = s->bell, .events = POLLIN};
    return s->future_count ? pp__group_listen(s->futures, s->future_count, s->bell, &s->group) : 0;
}

/* The bell is the last to go: all others may ring it. */
static void close_selection(struct selection *s)
{
    for (size_t i = 0; i < s->queue_count; i++)
        pp__watch_stop(&s->watches[i]);
    if (s->group)
        pp__group_forget(s->group);
    if (s->bell >= 0)
        pp__fd_close(s->bell);
    free(s->polled);
    free(s->futures);
    free(s->watches);
}

/* ---------------------------------------------------------------------------------------------- looking */

static int is_ready(const struct selection *s, size_t i)
{
    const pp_selectable *item = &s->items[i];
    switch (item->kind) {
    case PP_SELECT_FUTURE:
        return pp__future_is_done(item->future);
    case PP_SELECT_QUEUE:
        return pp__queue_is_ready(item->queue);
    case PP_SELECT_PROCESS:
        return s->polled[i].revents != 0;
    default:
        return s->polled[i].revents;
    }
}

/* How many are ready, all of which are marked then; 0; or -EBADF. Each is asked once, for it may change. */
static ssize_t look(struct selection *s)
{
    ssize_t sum = 0;
    if (poll(s->polled, s->count, 0) < 0)
        return pp__fail_errno(errno, "poll");
    for (size_t i = 0; i < s->count; i++)
        if (s->polled[i].revents & POLLNVAL)
            return pp__fail(-EBADF, "pp_select: descriptor %d is not open", s->polled[i].fd);
    for (size_t i = 0; i < s->count; i++) {
        short ready = (short)is_ready(s, i);
        s->polled[i].revents = ready;
        sum += ready != 0;
    }
    for (size_t i = 0; i < s->count && sum > 0; i++)
        s->items[i].ready = s->polled[i].revents;
    return sum;
}

/* ---------------------------------------------------------------------------------------------- waiting */

/* Those that have rung, for a message that another has taken by now, are started again. */
static int watch_queues(struct selection *s)
{
    for (size_t i = 0; i < s->queue_count; i++) {
        struct pp__watch *watch = &s->watches[i];
        if (watch->started && !pp__watch_is_over(watch))
            continue;
        pp__watch_stop(watch);
        int error = pp__watch_start(watch, watch->queue, s->bell);
        if (error)
            return error;
    }
    return 0;
}

/* Looks, and if nothing is ready gives pools that have no threads what they need, and looks again. *stepped: 1: a call of theirs was run; 0; or an error. */
static ssize_t look_and_step(struct selection *s, int *stepped)
{
    ssize_t ready = look(s);
    *stepped = 0;
    if (ready != 0 || !s->group)
        return ready;
    *stepped = pp__group_step(s->group);
    if (*stepped == -EDEADLK && s->future_count < s->count)
        *stepped = 0; /* others can still become ready */
    return look(s);
}

/* Until something may be ready. */
static int sleep_once(struct selection *s, uint64_t deadline)
{
    uint64_t left = pp__until(deadline), bound = PP__NEVER;
    if (s->group && pp__group_arm(s->group, &bound))
        return 0;
    int count = poll(s->polled, s->count + 1, pp__to_milliseconds(left < bound ? left : bound));
    if (count < 0)
        return pp__wait_goes_on() ? 0 : -EINTR;
    if (s->bell >= 0)
        pp__fd_clear(s->bell); /* before the next look, so that no ring behind it is lost */
    return 0;
}

static ssize_t wait_for_some(struct selection *s, uint64_t deadline)
{
    for (int error = 0, stepped;;) {
        ssize_t ready = look_and_step(s, &stepped);
        if (ready != 0)
            return ready;
        if (error || stepped < 0)
            return error ? error : stepped;
        if (pp__until(deadline) == 0)
            return -ETIMEDOUT;
        if (stepped > 0)
            continue;
        error = watch_queues(s);
        if (!error)
            error = sleep_once(s, deadline);
    }
}

ssize_t pp_select(pp_selectable *items, size_t count, int timeout)
{
    PP__NO_CANCELLATION();
    struct selection s = {.items = items, .count = count, .bell = -1};
    uint64_t deadline = pp__deadline(timeout);
    int error = check(items, count);
    if (error || count == 0)
        return error;
    error = open_selection(&s);
    ssize_t ready = error ? error : wait_for_some(&s, deadline);
    close_selection(&s);
    if (ready == -ETIMEDOUT || ready == -EINTR)
        pp__fail_text("none of %zu items is ready: %s", count, pp__strerror((int)-ready));
    return ready;
}
