/* SPDX-License-Identifier: MIT */
/*
 * The way into an object's state: one thread of all processes is inside at a time, for short, and never while user code
 * runs. Inside it can wait for something to become true, outside meanwhile.
 *
 * Who dies inside leaves the state as it was at that instruction: so each object's state changes by one store that
 * counts, what is behind that store being written before. The next to enter wakes all sleepers, as the dead may have
 * had to.
 *
 * A participant that is stopped inside holds the others up: they give up at their deadline, but not before
 * PP__GATE_PATIENCE, so that a deadline in the past is enough to look.
 */
#ifndef PP_SYNC_GATE_H
#define PP_SYNC_GATE_H

#include "sync/mutex.h"

#include <stdbool.h>
#include <stdint.h>

#define PP__GATE_PATIENCE PP__SECOND
#define PP__GATE_PLACES 4

/*
 * Where those sleep who wait for one thing. `sequence`: changed inside, slept on outside; one more for each ring.
 * `sleepers`, `era`: inside only. A sleeper that dies stays counted until a ring wakes nobody: then all who are counted
 * are dead, or have yet to look again, and a new era begins in which none is counted.
 */
struct pp__place {
    _Atomic uint32_t sequence;
    uint32_t sleepers;
    uint32_t era;
};

struct pp__gate {
    struct pp__mutex mutex;
    struct pp__place places[PP__GATE_PLACES];
};

int pp__gate_init(struct pp__gate *gate);

/*
 * 0: inside. Else outside: -ETIMEDOUT, -EDEADLK (a signal handler in a thread that is inside), -EPROTO (its memory was
 * overwritten). Signals do not interrupt it.
 */
int pp__gate_enter(struct pp__gate *gate, uint64_t deadline);
void pp__gate_leave(struct pp__gate *gate);

/*
 * Enters, and waits at a place until ready(what), which is asked inside. 0: inside, and it is. Else outside:
 * -ETIMEDOUT, -EINTR, -EDEADLK, -EPROTO.
 */
int pp__gate_enter_when(struct pp__gate *gate, unsigned place, uint64_t deadline, bool (*ready)(void *what),
                        void *what);

/* Inside: wakes up to `count` of those who sleep at a place. */
void pp__gate_ring(struct pp__gate *gate, unsigned place, int count);

#endif
