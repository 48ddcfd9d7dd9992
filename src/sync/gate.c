/* SPDX-License-Identifier: MIT */
#include "sync/gate.h"

#include "base/atomic.h"
#include "base/futex.h"
#include "base/interrupt.h"
#include "base/seam.h"

#include <errno.h>
#include <limits.h>

int pp__gate_init(struct pp__gate *gate)
{
    return pp__mutex_init(&gate->mutex);
}

/* The dead may have been about to ring, or have left a place's words half changed. */
static void repair(struct pp__gate *gate)
{
    for (unsigned i = 0; i < PP__GATE_PLACES; i++) {
        gate->places[i].sleepers = INT_MAX;
        pp__gate_ring(gate, i, INT_MAX);
        gate->places[i].sleepers = 0;
        gate->places[i].era++;
    }
}

/* Somebody is inside. Until the deadline, or for its patience; signals do not end it. */
static int wait_outside(struct pp__gate *gate, uint64_t deadline, bool *interrupted, struct pp__hold *hold)
{
    uint64_t patience = pp__now() + PP__GATE_PATIENCE;
    int error;
    while ((error = pp__mutex_acquire(&gate->mutex, deadline > patience ? deadline : patience, hold)) == -EINTR)
        *interrupted = true;
    return error == -ETIMEDOUT && pp__mutex_is_lost(&gate->mutex) ? -EPROTO : error;
}

/* What a mutex has of errors besides these comes of garbage in its memory. */
static bool is_known(int error)
{
    return error == 0 || error == -ETIMEDOUT || error == -EDEADLK;
}

static int enter(struct pp__gate *gate, uint64_t deadline, bool *interrupted, struct pp__hold *hold)
{
    int error = pp__mutex_acquire(&gate->mutex, 0, NULL);
    if (error == -ETIMEDOUT)
        error = wait_outside(gate, deadline, interrupted, hold);
    if (error == -EOWNERDEAD) {
        repair(gate);
        error = 0;
    }
    return is_known(error) ? error : -EPROTO;
}

int pp__gate_enter(struct pp__gate *gate, uint64_t deadline)
{
    return enter(gate, deadline, &(bool){false}, NULL);
}

void pp__gate_leave(struct pp__gate *gate)
{
    PP_FAULT("sync.gate.leave");
    pp__mutex_release(&gate->mutex);
}

void pp__gate_ring(struct pp__gate *gate, unsigned place, int count)
{
    struct pp__place *at = &gate->places[place];
    if (at->sleepers == 0)
        return;
    pp__store_relaxed(&at->sequence, pp__load_relaxed(&at->sequence) + 1); /* the kernel compares it in sleep_at */
    PP_FAULT("sync.gate.ring");
    if (pp__futex_wake(&at->sequence, count, true) > 0)
        return;
    at->sleepers = 0;
    at->era++;
}

/* Inside, and inside again when it returns 0: look again, for the last time if *interrupted. Else outside. */
static int sleep_at(struct pp__gate *gate, struct pp__place *place, uint64_t deadline, bool *interrupted,
                    struct pp__hold *hold)
{
    uint32_t sequence = pp__load_relaxed(&place->sequence), era = place->era;
    place->sleepers++;
    pp__gate_leave(gate);
    if (pp__sleep(&place->sequence, sequence, deadline, hold) == -EINTR)
        *interrupted = true;
    int error = enter(gate, deadline, interrupted, hold);
    if (error == 0 && place->era == era)
        place->sleepers--;
    return error;
}

static int enter_when(struct pp__gate *gate, struct pp__place *place, uint64_t deadline, bool (*ready)(void *what),
                      void *what, struct pp__hold *hold)
{
    bool interrupted = false; /* also on the way in: a wait is one, whatever it waits for just then */
    int error = enter(gate, deadline, &interrupted, hold);
    while (error == 0 && !ready(what)) {
        if (interrupted || pp__until(deadline) == 0) {
            pp__gate_leave(gate);
            return interrupted ? -EINTR : -ETIMEDOUT;
        }
        error = sleep_at(gate, place, deadline, &interrupted, hold);
    }
    return error;
}

/* Handlers that it held off run inside, if it ends there: they may not use what is behind the gate in any case. */
int pp__gate_enter_when(struct pp__gate *gate, unsigned place, uint64_t deadline, bool (*ready)(void *what), void *what)
{
    struct pp__hold hold;
    pp__hold_begin(&hold);
    int error = enter_when(gate, &gate->places[place], deadline, ready, what, &hold);
    pp__hold_end(&hold);
    return error;
}
