/* SPDX-License-Identifier: MIT */
#include "pool/contention.h"

#include "base/clock.h"
#include "base/futex.h"
#include "base/seam.h"

/* Who finds the lock taken, and has found it so this short a time ago, submits beside others in a stream, */
#define SOON (50 * PP__MICROSECOND)
/* and leaves it to them for so long: some thousand calls. */
#define TURN (300 * PP__MICROSECOND)

/* When this thread last found it taken, in whichever pool. */
static _Thread_local uint64_t found_at __attribute__((tls_model("initial-exec")));

/* Of a pool of an event loop whoever is in there is to be back at once. */
void pp__contention_lock(pp_pool *pool)
{
    static const _Atomic uint32_t word; /* nobody wakes who sleeps on it */
    uint64_t now = pp__now();
    if (now - found_at < SOON && !pool->options.event_loop) {
        PP_FAULT("contention.turn");
        pp__futex_wait(&word, 0, now + TURN, false);
    }
    found_at = now; /* which is no short time ago behind a turn */
    pp__pool_lock(pool);
}
