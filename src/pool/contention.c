/* SPDX-License-Identifier: MIT */
#include "pool/contention.h"

#include "base/clock.h"
#include "base/futex.h"
#include "base/seam.h"

/* Who finds the lock taken, and has found it so this short a time ago, submits in a stream, */
#define SOON (50 * PP__MICROSECOND)
/* and if another one has submitted since, leaves it to that one for so long: some thousands of calls. */
#define TURN (600 * PP__MICROSECOND)

/* When this thread last found it taken, in whichever pool. */
_Thread_local uint64_t pp__contention_found_at;

/* Of a pool of an event loop whoever is in there is to be back at once. */
static bool is_anothers_turn(const pp_pool *pool, uint64_t now)
{
    return now - pp__contention_found_at < SOON && !pool->options.event_loop &&
           pp__load_relaxed(&pool->submitter) != pp__contention_self();
}

void pp__contention_lock(pp_pool *pool)
{
    static const _Atomic uint32_t word; /* nobody wakes who sleeps on it */
    uint64_t now = pp__now();
    if (is_anothers_turn(pool, now)) {
        PP_FAULT("contention.turn");
        pp__futex_wait(&word, 0, now + TURN, false);
    }
    pp__contention_found_at = now; /* which is no short time ago behind a turn */
    pp__pool_lock(pool);
}
