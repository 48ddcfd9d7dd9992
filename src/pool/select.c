/* SPDX-License-Identifier: MIT */
/*
 * Waiting for things of several kinds at once. The thread sleeps in poll(2), which descriptors and sentinels wake by
 * themselves; the ends of futures and the threads that watch queues ring an eventfd there. What is ready is looked up
 * anew after each sleep, so a ring says no more than that it is time to look.
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
#include <limits.h>
#include <poll.h>
#include <stdlib.h>

/* Of an item: where in `polled` its descriptor is, if it has one, and what a look has found. */
struct place {
    size_t slot;
    short ready;
};

/*
 * poll takes no more entries than the process may have descriptors. So `polled` has one for each that is open, with the
 * events of all its items, and things without a descriptor have none.
 */
struct selection {
    pp_selectable *items;
    size_t count;
    struct place *places;  /* of the items, in their order */
    struct pollfd *polled; /* by descriptor, each once, and behind them the bell */
    size_t polled_count;   /* without the bell */
    pp_future **futures;
    size_t future_count;
    struct pp__watch *watches; /* of the queues, in their order */
    size_t queue_count;
    struct pp_completed *group; /* of the futures; NULL: there are none */
    struct pp__hold hold;
    int bell; /* -1: nobody would ring */
};

/* ------------------------------------------------------------------------------------------- arguments */

/* poll's events are of a short. */
static int check_fd(const pp_selectable *item, size_t i)
{
    if (item->events < 0 || item->events > SHRT_MAX)
        return pp__fail(-EINVAL, "pp_select: item %zu has events %d, which poll does not know", i, item->events);
    return item->fd >= 0 ? 0 : pp__fail(-EBADF, "pp_select: item %zu has descriptor %d", i, item->fd);
}

static int check_item(const pp_selectable *item, size_t i)
{
    switch (item->kind) {
    case PP_SELECT_FUTURE:
        if (item->future)
            return pp__pool_is_own(pp__future_pool(item->future)) ? 0 : pp__owner_refuse();
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
        return check_fd(item, i);
    default:
        return pp__fail(-EINVAL, "pp_select: item %zu is of no known kind: %d", i, (int)item->kind);
    }
    return pp__fail(-EINVAL, "pp_select: item %zu has nothing of its kind", i);
}

static int check(const pp_selectable *items, size_t count)
{
    if (!items && count > 0)
        return pp__fail(-EINVAL, "pp_select: no items");
    if (count > PTRDIFF_MAX / sizeof *items)
        return pp__fail(-EINVAL, "pp_select: %zu items are more than any memory has room for", count);
    for (size_t i = 0; i < count; i++) {
        int error = check_item(&items[i], i);
        if (error)
            return error;
    }
    return 0;
}

/* ----------------------------------------------------------------------------------------- the selection */

static bool has_descriptor(const pp_selectable *item)
{
    return item->kind == PP_SELECT_PROCESS || item->kind == PP_SELECT_FD;
}

/* What poll is asked about an item that has a descriptor. */
static struct pollfd ask(const pp_selectable *item)
{
    if (item->kind == PP_SELECT_PROCESS)
        return (struct pollfd){.fd = pp__process_sentinel(item->process), .events = POLLIN};
    return (struct pollfd){.fd = item->fd, .events = (short)(item->events ? item->events : POLLIN)};
}

static void add(struct selection *s, const pp_selectable *item)
{
    if (item->kind == PP_SELECT_FUTURE)
        s->futures[s->future_count++] = item->future;
    else if (item->kind == PP_SELECT_QUEUE)
        s->watches[s->queue_count++].queue = item->queue;
    else
        s->polled[s->polled_count++] = ask(item);
}

static int compare(const void *one, const void *other)
{
    int a = ((const struct pollfd *)one)->fd, b = ((const struct pollfd *)other)->fd;
    return (a > b) - (a < b);
}

/* Each descriptor once, with all that is asked about it. */
static void merge(struct selection *s)
{
    size_t kept = 0;
    qsort(s->polled, s->polled_count, sizeof *s->polled, compare);
    for (size_t i = 0; i < s->polled_count; i++)
        if (kept > 0 && s->polled[kept - 1].fd == s->polled[i].fd)
            s->polled[kept - 1].events |= s->polled[i].events;
        else
            s->polled[kept++] = s->polled[i];
    s->polled_count = kept;
}

static void place(struct selection *s, size_t i)
{
    struct pollfd key = ask(&s->items[i]);
    const struct pollfd *found = bsearch(&key, s->polled, s->polled_count, sizeof key, compare);
    s->places[i].slot = (size_t)(found - s->polled);
}

static void place_all(struct selection *s)
{
    for (size_t i = 0; i < s->count; i++)
        add(s, &s->items[i]);
    merge(s);
    for (size_t i = 0; i < s->count; i++)
        if (has_descriptor(&s->items[i]))
            place(s, i);
}

static int open_selection(struct selection *s)
{
    s->places = PP_SYS(calloc)(s->count, sizeof *s->places);
    s->polled = PP_SYS(calloc)(s->count + 1, sizeof *s->polled);
    s->futures = PP_SYS(calloc)(s->count, sizeof(pp_future *));
    s->watches = PP_SYS(calloc)(s->count, sizeof *s->watches);
    if (!s->places || !s->polled || !s->futures || !s->watches)
        return pp__fail(-ENOMEM, "no memory for %zu items", s->count);
    place_all(s);
    if (s->future_count + s->queue_count > 0) {
        s->bell = pp__fd_event();
        if (s->bell < 0)
            return s->bell;
    }
    s->polled[s->polled_count] = (struct pollfd){.fd = s->bell, .events = POLLIN};
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
    free(s->places);
    free(s->polled);
    free(s->futures);
    free(s->watches);
}

/* ---------------------------------------------------------------------------------------------- looking */

/* What poll has told of the item's descriptor, without what others have asked about it. */
static short events_of(const struct selection *s, size_t i)
{
    short asked = (short)(ask(&s->items[i]).events | POLLERR | POLLHUP);
    return (short)(s->polled[s->places[i].slot].revents & asked);
}

static short is_ready(const struct selection *s, size_t i)
{
    const pp_selectable *item = &s->items[i];
    switch (item->kind) {
    case PP_SELECT_FUTURE:
        return pp__future_is_done(item->future);
    case PP_SELECT_QUEUE:
        return pp__queue_is_ready(item->queue);
    case PP_SELECT_PROCESS:
        return events_of(s, i) != 0;
    default:
        return events_of(s, i);
    }
}

/* With more descriptors than the process may have, poll looks at none. */
static int look_at_descriptors(struct selection *s)
{
    if (s->polled_count == 0)
        return 0;
    int count = pp__fd_look(s->polled, s->polled_count);
    if (count < 0)
        return pp__fail_errno(-count, "poll");
    for (size_t i = 0; i < s->polled_count; i++)
        if (s->polled[i].revents & POLLNVAL)
            return pp__fail(-EBADF, "pp_select: descriptor %d is not open", s->polled[i].fd);
    return 0;
}

/* How many are ready, all of which are marked then; 0; or an error. Each is asked once, for it may change. */
static ssize_t look(struct selection *s)
{
    ssize_t sum = look_at_descriptors(s);
    for (size_t i = 0; i < s->count && sum >= 0; i++) {
        s->places[i].ready = is_ready(s, i);
        sum += s->places[i].ready != 0;
    }
    for (size_t i = 0; i < s->count && sum > 0; i++)
        s->items[i].ready = s->places[i].ready;
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
        int error = pp__watch_error(watch);
        if (!error)
            error = pp__watch_start(watch, watch->queue, s->bell);
        if (error)
            return error;
    }
    return 0;
}

/* Looks, and if nothing is ready gives pools that have no threads what they need, and looks again. *stepped: 1: a call
 * of theirs was run; 0; or an error. */
static ssize_t look_and_step(struct selection *s, int *stepped)
{
    ssize_t ready = look(s);
    *stepped = 0;
    if (ready != 0 || !s->group)
        return ready;
    *stepped = pp__group_step(s->group, &s->hold);
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
    int milliseconds = pp__to_milliseconds(left < bound ? left : bound);
    int count = pp__hold_poll(&s->hold, s->polled, s->polled_count + 1, milliseconds);
    if (count < 0 && errno != EINTR)
        return pp__fail_errno(errno, "poll");
    if (count < 0)
        return pp__wait_goes_on() ? 0 : -EINTR;
    if (s->bell >= 0)
        pp__fd_clear(s->bell); /* before the next look, so that no ring behind it is lost */
    PP_FAULT("select.between");
    return pp__hold_look(&s->hold);
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
    pp__hold_begin(&s.hold);
    error = open_selection(&s);
    ssize_t ready = error ? error : wait_for_some(&s, deadline);
    pp__hold_end(&s.hold);
    close_selection(&s);
    if (ready == -ETIMEDOUT || ready == -EINTR)
        pp__fail_text("none of %zu items is ready: %s", count, pp__strerror((int)-ready));
    return ready;
}
