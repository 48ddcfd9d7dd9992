/* SPDX-License-Identifier: MIT */
/* The worker without a call: it looks again for a while, then it sleeps. */
#include "pool/worker_run.h"

#include "base/affinity.h"
#include "base/atomic.h"
#include "base/clock.h"
#include "base/seam.h"
#include "base/spin.h"

#include <sched.h>

static bool have_call(void)
{
    return pp__ring_waiting(&pp__self.calls);
}

/* While results lie unread the next is seldom waited for: the line where it will lie is left to who writes it for some
 * microseconds (so many rounds), and then many calls are taken at once. */
#define ROUNDS_UNREAD 256

/* A worker whose results were all read so many times before its next call came is taken to be called by who waits for
 * each: it leaves the line of the head to the owner, who would wait for it, and looks there once in so many calls. */
#define STEPS 4
#define STEPS_UNSEEN 16

static bool is_in_step(void)
{
    return pp__self.steps >= STEPS;
}

static bool is_due(const struct pp__spin *spin, bool *read)
{
    if (is_in_step())
        return true;
    *read = pp__self_has_been_read();
    return *read || spin->rounds % ROUNDS_UNREAD == 0;
}

/* Whether there was a call, though not at once, and all results had been read before. */
static void count_step(bool read)
{
    if (is_in_step())
        read = pp__self.steps % STEPS_UNSEEN != 0 || pp__self_has_been_read();
    pp__self.steps = read ? pp__self.steps + 1 : 0;
}

/* As long as the owner allows, looked up all the time: it may want the processor for another worker. */
static bool spin_for_call(void)
{
    struct pp__spin spin;
    uint64_t allowed = pp__self.spins ? pp__load_relaxed(&pp__self.page->spin) : 0;
    pp__spin_begin(&spin, allowed < pp__self.spin_limit ? allowed : pp__self.spin_limit);
    bool found = have_call(), read = false;
    if (found)
        pp__self.steps = 0;
    while (!found && pp__load_relaxed(&pp__self.page->spin) && pp__spin_on(&spin)) {
        found = is_due(&spin, &read) && have_call();
        if (found)
            count_step(read);
    }
    if (spin.jumped)
        pp__self.spin_limit = pp__self.spin_limit / 2 + PP__SPIN_MAX / 64; /* never none, or it could not grow again */
    else if (found && pp__self.spin_limit < PP__SPIN_MAX)
        pp__self.spin_limit += PP__SPIN_MAX / 16;
    if (found)
        pp__set_time(spin.last); /* a microsecond ago at most: the call does not wait for the clock */
    return found;
}

static void sleep_for_call(void)
{
    uint64_t begun = pp__now();
    pp__self_wait(have_call, PP__NEVER);
    pp__self.slept_for = pp__now() - begun;
    pp__self.slept_epoch = pp__self.rung_epoch;
}

/* Whether who waits for it does so, by all that is known, for this very processor: whom it has rung since its last
 * sleep, or, behind a longer one, who was about to sleep himself when it was woken. */
static bool is_in_the_way(void)
{
    bool rung = pp__self.rung_epoch != pp__self.slept_epoch;
    return (rung || pp__self.slept_for >= PP__SPIN_MAX) &&
           pp__load_relaxed(&pp__self.page->processor) == (uint32_t)PP_SYS(sched_getcpu)();
}

/* It may be that no other processor is to be had for long: so often it is tried, ns. */
#define MOVE_EACH PP__MILLISECOND

/* To another processor, which becomes the one where it is woken. */
static void move_away(void)
{
    cpu_set_t before;
    uint64_t now = pp__now();
    if (pp__self.stays || now - pp__self.moved_at < MOVE_EACH)
        return;
    pp__self.moved_at = now;
    if (pp__affinity_leave((unsigned)PP_SYS(sched_getcpu)(), &before))
        pp__affinity_restore(&before);
}

/* What a move is worth in calls that are then woken there; at most so many are put by for the moves to come; where
 * these were not worth it, some are tried again after so long. */
#define MOVE_PRICE 4
#define MOVE_PURSE 256
#define TRY_MOVES 32
#define TRY_EACH (100 * PP__MILLISECOND)

static bool can_pay_move(uint64_t now)
{
    if (pp__self.purse < MOVE_PRICE && now - pp__self.moved_at >= TRY_EACH)
        pp__self.purse = TRY_MOVES * MOVE_PRICE;
    return pp__self.purse >= MOVE_PRICE;
}

/*
 * To the processor of who waits for each call at once and does not spin: the two never want to run at the same time,
 * and whom a thread wakes on its own processor comes in a tenth of what it takes on one that idles. It is no use where
 * the kernel does not leave them there.
 */
static void come_near(void)
{
    cpu_set_t before;
    uint32_t near = pp__load_relaxed(&pp__self.page->near); /* stored in tell_near (collect.c); a hint */
    if (near == UINT32_MAX || pp__self.stays)
        return;
    if (near == (uint32_t)PP_SYS(sched_getcpu)()) {
        pp__self.purse += pp__self.purse < MOVE_PURSE;
        return;
    }
    uint64_t now = pp__now();
    if (!can_pay_move(now))
        return;
    pp__self.purse -= MOVE_PRICE;
    pp__self.moved_at = now;
    if (pp__affinity_enter(near, &before))
        pp__affinity_restore(&before);
}

/* On the processor of who waits for it, it sleeps behind a pause; in the middle of calls it leaves that to him. */
void pp__self_idle(void)
{
    bool in_the_way = is_in_the_way(), pause = pp__self.slept_for >= PP__PAUSE;
    if (in_the_way && !pause && pp__self.spins && pp__load_relaxed(&pp__self.page->spin))
        move_away();
    come_near();
    if (!(in_the_way && pause) && spin_for_call())
        pp__self.slept_for = 0;
    else
        sleep_for_call();
}
