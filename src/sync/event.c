/* SPDX-License-Identifier: MIT */
/* A flag that many processes wait for. It is one word, so that no death leaves anything half done. */
#include "base/atomic.h"
#include "base/cancel.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/futex.h"
#include "base/interrupt.h"
#include "base/seam.h"
#include "procpool.h"
#include "sync/bell.h"
#include "sync/object.h"

#include <errno.h>
#include <limits.h>

#define SET 1u
#define ONE_SETTING 2u

/* `word`, written by all: bit 0, whether it is set; the rest counts settings, so that who slept through one sees that
 * it was. */
struct shared_event {
    struct pp__object_head head;
    _Atomic uint32_t word;
};

struct pp_event {
    struct pp__object object;
};

static _Atomic uint32_t *word(const pp_event *event)
{
    return &((struct shared_event *)event->object.memory)->word;
}

int pp_event_create(pp_event **event)
{
    PP__NO_CANCELLATION();
    struct pp__object *object;
    if (!event)
        return pp__fail(-EINVAL, "pp_event_create: no place for the event");
    int error =
        pp__object_create("procpool-event", PP__KIND_EVENT, sizeof(struct shared_event), sizeof **event, &object);
    if (!error)
        *event = (pp_event *)object;
    return error;
}

int pp_event_open(int fd, pp_event **event)
{
    PP__NO_CANCELLATION();
    struct pp__object *object;
    if (!event)
        return pp__fail(-EINVAL, "pp_event_open: no place for the event");
    int error = pp__object_open(fd, PP__KIND_EVENT, sizeof(struct shared_event), sizeof **event, &object);
    if (!error)
        *event = (pp_event *)object;
    return error;
}

int pp_event_fd(const pp_event *event)
{
    return event ? pp__object_fd(&event->object) : pp__fail(-EINVAL, "pp_event_fd: no event");
}

pp_event *pp_event_ref(pp_event *event)
{
    if (event)
        pp__object_ref(&event->object);
    return event;
}

void pp_event_unref(pp_event *event)
{
    PP__NO_CANCELLATION();
    if (event)
        pp__object_unref(&event->object);
}

/*
 * Release for what was written before, which who waits is to see: pairs with the loads in wait_for and pp_event_is_set.
 * Acquire for what was written before an earlier setting or clearing, so that it goes on to who sees this one. The
 * first load is but a guess, which the exchange checks.
 *
 * Who dies before the wake keeps sleepers for the rest of their bound.
 */
int pp_event_set(pp_event *event)
{
    if (!event)
        return pp__fail(-EINVAL, "pp_event_set: no event");
    uint32_t value = pp__load_relaxed(word(event));
    while (!atomic_compare_exchange_weak_explicit(word(event), &value, (value | SET) + (value & SET ? 0 : ONE_SETTING),
                                                  memory_order_acq_rel, memory_order_relaxed)) {
    }
    PP_FAULT("sync.event.set");
    if (!(value & SET))
        pp__futex_wake(word(event), INT_MAX, true);
    return 0;
}

int pp_event_clear(pp_event *event)
{
    if (!event)
        return pp__fail(-EINVAL, "pp_event_clear: no event");
    /* Acquire pairs with the setting that it clears, release with who sets or clears it next, and so with who waits for
     * that. */
    atomic_fetch_and_explicit(word(event), ~SET, memory_order_acq_rel);
    return 0;
}

int pp_event_is_set(const pp_event *event)
{
    if (!event)
        return pp__fail(-EINVAL, "pp_event_is_set: no event");
    return (pp__load_acquire(word(event)) & SET) != 0; /* pairs with the exchange in pp_event_set */
}

static int wait_for(pp_event *event, uint64_t deadline)
{
    uint32_t begun = pp__load_acquire(word(event)); /* pairs with the exchange in pp_event_set */
    uint32_t value = begun;
    struct pp__hold hold;
    int error = 0;
    pp__hold_begin(&hold);
    while (!(value & SET) && (value | SET) == (begun | SET)) {
        error = pp__sleep(word(event), value, deadline, &hold);
        value = pp__load_acquire(word(event)); /* pairs with the same */
        if (error && value == begun)
            break;
        error = 0;
    }
    pp__hold_end(&hold);
    return error;
}

int pp_event_wait(pp_event *event, int timeout)
{
    PP__NO_CANCELLATION();
    if (!event)
        return pp__fail(-EINVAL, "pp_event_wait: no event");
    int error = wait_for(event, pp__deadline(timeout));
    if (error == -ETIMEDOUT)
        return pp__fail(error, "the event has not been set for %d ms", timeout);
    return error ? pp__fail(error, "waiting for the event was interrupted by a signal") : 0;
}
