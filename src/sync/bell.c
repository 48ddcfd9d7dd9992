/* SPDX-License-Identifier: MIT */
#include "sync/bell.h"

#include "base/atomic.h"
#include "base/futex.h"
#include "base/interrupt.h"
#include "base/seam.h"

#include <errno.h>
#include <stdbool.h>

#define LISTENING 1u
#define ONE_RING 2u

int pp__sleep(const _Atomic uint32_t *word, uint32_t value, uint64_t deadline, struct pp__hold *hold)
{
    uint64_t now = pp__now(), bound = now + PP__SLEEP_BOUND;
    if (deadline <= now)
        return -ETIMEDOUT;
    PP_FAULT("sync.sleep");
    int error = pp__hold_futex(hold, word, value, deadline < bound ? deadline : bound, true);
    PP_FAULT("sync.woken");
    if (!hold)
        return 0;
    return error == -EINTR && !pp__wait_goes_on() ? error : pp__hold_look(hold);
}

/*
 * Sequentially consistent; the fence pairs with that in pp__bell_ring, and the mark with the look there: either the
 * listener sees the change when it looks again, or the ringer the mark.
 */
uint32_t pp__bell_listen(struct pp__bell *bell)
{
    uint32_t value = atomic_fetch_or(&bell->word, LISTENING) | LISTENING;
    pp__fence();
    return value;
}

/*
 * The mark goes with the count, in one exchange, which pairs with the mark in pp__bell_listen: who has listened and
 * sleeps not yet finds another count, and does not.
 */
void pp__bell_ring(struct pp__bell *bell)
{
    pp__fence(); /* pairs with that in pp__bell_listen */
    uint32_t value = pp__load_relaxed(&bell->word);
    do {
        if (!(value & LISTENING))
            return;
    } while (!atomic_compare_exchange_weak(&bell->word, &value, (value & ~LISTENING) + ONE_RING));
    PP_FAULT("sync.ring");
    pp__futex_wake(&bell->word, 1, true);
}
