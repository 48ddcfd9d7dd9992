/* SPDX-License-Identifier: MIT */
#include "pool/wait.h"

#include "base/atomic.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/futex.h"
#include "base/interrupt.h"
#include "base/seam.h"
#include "pool/collect.h"
#include "pool/exit_start.h"
#include "pool/group.h"
#include "pool/inline.h"
#include "pool/log.h"
#include "pool/loop.h"
#include "pool/lost.h"
#include "pool/pool.h"
#include "pool/standby.h"
#include "pool/wish.h"

#include <errno.h>
#include <sys/prctl.h>

/* The manager looks for what nobody collects this long after somebody last did. */
#define NAP (5 * PP__MILLISECOND)
/* And does so, whoever comes and goes, once nobody has looked for this long at deaths and timeouts. */
#define NAPS_MOST (2 * NAP)
/* A sleeper on its own word looks again after so long, should its wake have been lost. */
#define SLEEP_BOUND (100 * PP__MILLISECOND)

/* Waits that have ended since one took its time, from which on the threads take turns. */
#define BRISK 8
/* Calls are short of which so many are over in the time of a wake. */
#define SHORT 4
/* A nap leaves so much time to each thread that naps, within NAP_OF_THREAD_MOST, so often in a wait. */
#define TURN (100 * PP__MICROSECOND)
#define NAP_OF_THREAD_MOST PP__MILLISECOND
#define NAPS_OF_THREAD 2

/* A thread in pp__wait; on its stack. */
struct pp__waiter {
    struct pp__link in_pool;    /* in collector.waiters while it sleeps on its word */
    struct pp__link in_subject; /* all the time */
    const void *what;           /* of the subject's it waits for */
    _Atomic uint32_t word;      /* 0: it sleeps on this; 1: it does not, or was told to look */
    bool unroused;              /* it has slept to its bound, and nobody has said that it is to look */
    bool naps;                  /* it sleeps there for its turn */
    unsigned has_napped;        /* so often */
    uint64_t spun_in_vain;      /* for pp__collect_spin */
};

void pp__subject_init(struct pp__subject *subject)
{
    pp__list_init(&subject->waiters);
}

/* Both sides of the word are under the lock; the kernel alone looks at it without. */
static void rouse(struct pp__waiter *waiter)
{
    if (pp__load_relaxed(&waiter->word) != 0)
        return;
    pp__store_relaxed(&waiter->word, 1);
    pp__futex_wake(&waiter->word, 1, false);
}

/* Who spins looks up; what is to be seen is under the lock. */
static void look_up(struct pp__collector *c)
{
    if (c->spinning)
        pp__store_relaxed(&c->look, pp__load_relaxed(&c->look) + 1);
}

/* Calls are short, and have been answered one right after the other, by threads that can spin for that. */
static bool is_brisk(const pp_pool *pool)
{
    const struct pp__collector *c = &pool->collector;
    return c->ended - c->calm_ended >= BRISK && pool->mean_run * SHORT < pool->wake_cost && pool->processors > 1;
}

void pp__wait_calm(pp_pool *pool)
{
    pool->collector.calm_ended = pool->collector.ended;
}

/* The one that collects sleeps in epoll, if it sleeps; the others on their words. */
void pp__subject_wake(struct pp__subject *subject, pp_pool *pool, const void *what)
{
    for (struct pp__link *link = subject->waiters.next; link != &subject->waiters; link = link->next) {
        struct pp__waiter *waiter = pp__container(link, struct pp__waiter, in_subject);
        if (waiter->what != what)
            continue;
        if (pool->collector.waiter == waiter) {
            pp__wait_look(pool);
        } else if (!waiter->naps || !is_brisk(pool)) {
            look_up(&pool->collector); /* it may spin beside the one that has the duty */
            rouse(waiter);
        }
    }
}

void pp__wait_look(pp_pool *pool)
{
    struct pp__collector *c = &pool->collector;
    look_up(c);
    if (c->asleep && !c->kicked) {
        c->kicked = true; /* only who has the duty clears the kick, and it has to wake for that */
        pp__fd_ring(pool->kick);
    }
}

/* ----------------------------------------------------------------------------------------- the duty */

/*
 * The kick of the thread that took the duty may not have got the manager out of epoll: that thread goes there itself,
 * and when it is first to see the kick, it clears it. So the manager is kicked again whenever it is called.
 */
static void call_manager(pp_pool *pool)
{
    struct pp__collector *c = &pool->collector;
    if (pool->loop || (pool->has_manager && !c->manager_called && (c->staying == 0 || pool->shut))) {
        c->manager_called = true;
        pp__wait_call_manager(pool);
    } else if (c->manager_in_epoll) {
        pp__fd_ring(pool->kick);
    }
}

/* Only the manager can be relieved: it sleeps, or it would hold the lock. */
static bool take_duty(pp_pool *pool, struct pp__waiter *me)
{
    struct pp__collector *c = &pool->collector;
    if (c->waiter)
        return c->waiter == me;
    pp__collect_return(pool);
    if (c->manager) {
        c->manager = false;
        c->asleep = false;
        if (!pool->loop)
            pp__fd_ring(pool->kick);
    }
    c->waiter = me;
    return true;
}

/* The manager is to collect at once if nobody else does. */
static bool is_wanted(const pp_pool *pool)
{
    return pool->pending_count > 0 || pool->shut || pool->apart > 0;
}

/* No pending call is to be failed before its nap ends, by itself: then it looks when the first one is. */
static bool may_nap_on(const pp_pool *pool)
{
    const struct pp__collector *c = &pool->collector;
    return c->manager_naps && !c->manager_called && c->staying == 0 && !pool->shut && pool->apart == 0 &&
           pp__wishes_due(pool) >= pool->nap_ends;
}

static void leave_to_manager(pp_pool *pool)
{
    const struct pp__collector *c = &pool->collector;
    if (pool->pending_count > 0 && may_nap_on(pool))
        pp__collect_leave(pool);
    else if (pool->loop || c->manager_sound || c->manager_in_epoll || is_wanted(pool))
        call_manager(pool);
}

/* Threads that nap will look by themselves, unless there is something to do at once. */
static bool may_nap_on_too(const pp_pool *pool, const struct pp__waiter *waiter)
{
    return waiter->naps && is_brisk(pool) && !is_wanted(pool);
}

/* The first thread that is to have the duty; NULL: none. */
static struct pp__waiter *heir(const pp_pool *pool)
{
    const struct pp__link *waiters = &pool->collector.waiters;
    for (struct pp__link *link = waiters->next; link != waiters; link = link->next) {
        struct pp__waiter *waiter = pp__container(link, struct pp__waiter, in_pool);
        if (!may_nap_on_too(pool, waiter))
            return waiter;
    }
    return NULL;
}

static void pass_duty_on(pp_pool *pool)
{
    struct pp__collector *c = &pool->collector;
    struct pp__waiter *next = heir(pool);
    c->waiter = NULL;
    c->asleep = false;
    c->leaves++;
    if (next) {
        pp__list_remove(&next->in_pool);
        c->waiter = next;
        rouse(next);
    } else if (c->napping == 0) {
        leave_to_manager(pool);
    }
}

void pp__wait_call_manager(pp_pool *pool)
{
    struct pp__collector *c = &pool->collector;
    if (pool->loop) {
        pp__loop_wake(pool);
        return;
    }
    if (!pool->page)
        return; /* the pool has ended, and it does not sleep */
    if (c->manager_in_epoll)
        pp__fd_ring(pool->kick);
    atomic_fetch_add_explicit(&pool->page->manager, 1, memory_order_release); /* pairs with the load in doze */
    pp__futex_wake(&pool->page->manager, 1, true);
}

bool pp__wait_manager_dozes(const pp_pool *pool)
{
    return pool->collector.manager_sound || pool->collector.manager_naps;
}

void pp__wait_stay(pp_pool *pool)
{
    pool->collector.staying++;
}

void pp__wait_leave(pp_pool *pool)
{
    struct pp__collector *c = &pool->collector;
    c->staying--;
    if (!c->waiter && !c->manager)
        leave_to_manager(pool);
}

void pp__wait_attend_pending(pp_pool *pool)
{
    const struct pp__collector *c = &pool->collector;
    bool left = !c->waiter && !c->manager && may_nap_on(pool);
    if (!left)
        pp__wait_attend(pool);
    else if (!c->left)
        pp__collect_leave(pool);
}

void pp__wait_attend(pp_pool *pool)
{
    struct pp__collector *c = &pool->collector;
    if (!c->waiter && !c->manager)
        call_manager(pool);
    else
        pp__wait_look(pool);
}

/* ------------------------------------------------------------------------------------------ waiting */

static int sleep_for(pp_pool *pool, struct pp__waiter *me, uint64_t most, uint64_t deadline, struct pp__hold *hold)
{
    uint64_t bound = pp__now() + most;
    pp__store_relaxed(&me->word, 0);
    if (pp__list_empty(&me->in_pool))
        pp__list_insert(&pool->collector.waiters, &me->in_pool);
    pp__pool_unlock(pool);
    int error = pp__hold_futex(hold, &me->word, 0, deadline < bound ? deadline : bound, false);
    PP_FAULT("wait.word");
    pp__pool_lock(pool);
    me->unroused = error == -ETIMEDOUT && pp__load_relaxed(&me->word) == 0;
    pp__store_relaxed(&me->word, 1);
    return error == -EINTR ? error : 0;
}

static int sleep_on_word(pp_pool *pool, struct pp__waiter *me, uint64_t deadline, struct pp__hold *hold)
{
    return sleep_for(pool, me, SLEEP_BOUND, deadline, hold);
}

static uint64_t nap_time(const struct pp__collector *c)
{
    uint64_t time = (c->napping + 1) * TURN;
    return time < NAP_OF_THREAD_MOST ? time : NAP_OF_THREAD_MOST;
}

/* While somebody is at it, nothing is to be done at once, and nobody would be late. */
static bool may_nap(const pp_pool *pool, const struct pp__waiter *me, uint64_t deadline)
{
    const struct pp__collector *c = &pool->collector;
    return me->has_napped < NAPS_OF_THREAD && is_brisk(pool) && (c->spinning || !c->asleep) && !is_wanted(pool) &&
           pp__list_empty(&pool->blocked) && !pool->loop &&
           (unsigned)pool->busy + c->impatient > (unsigned)pool->processors && pp__until(deadline) > nap_time(c);
}

/* Until its turn. Where no wait has ended meanwhile, and nobody looks, whose turn it was has gone. */
static int nap(pp_pool *pool, struct pp__waiter *me, uint64_t deadline, struct pp__hold *hold)
{
    struct pp__collector *c = &pool->collector;
    uint64_t ended = c->ended, time = nap_time(c);
    c->napping++;
    me->naps = true;
    me->has_napped++;
    int error = sleep_for(pool, me, time, deadline, hold);
    me->naps = me->unroused = false;
    c->napping--;
    if (c->ended == ended && !c->spinning && (!c->waiter || c->asleep))
        pp__wait_calm(pool);
    return error;
}

/* An inline pool's waiting thread does the work, if nobody else is at it. */
static int step_inline(pp_pool *pool, struct pp__waiter *me, uint64_t deadline, struct pp__hold *hold)
{
    if (hold)
        pp__hold_end(hold);
    if (pp__inline_step(pool))
        return 0;
    if (pp__inline_is_stuck(pool))
        return pp__fail(-EDEADLK, "the task waits for what only its own thread could do");
    return sleep_on_word(pool, me, deadline, hold);
}

/* Nobody may be dispatching. The starter may take its time: others collect meanwhile. */
static bool run_errand(pp_pool *pool, struct pp__waiter *me, struct pp__hold *hold)
{
    if (!pool->loop || pool->logging || pp__list_empty(&pool->errands))
        return false;
    if (hold)
        pp__hold_end(hold);
    pp__list_remove(&me->in_pool);
    if (pool->collector.waiter == me)
        pass_duty_on(pool);
    return pp__log_run_errand(pool);
}

/* Somebody else has the duty. */
static int wait_beside(pp_pool *pool, struct pp__waiter *me, uint64_t deadline, struct pp__hold *hold)
{
    if (pp__collect_beside(pool, deadline))
        return 0;
    if (may_nap(pool, me, deadline))
        return nap(pool, me, deadline, hold);
    return pp__collect_claim(pool) ? 0 : sleep_on_word(pool, me, deadline, hold);
}

/* Beside the manager, which sleeps on unless this is in vain. */
static bool look_first(pp_pool *pool, struct pp__waiter *me, uint64_t deadline)
{
    if (!pool->collector.manager)
        return false;
    if (pp__collect_beside(pool, deadline))
        return true;
    me->spun_in_vain = pool->delivered;
    return false;
}

static int step(pp_pool *pool, struct pp__waiter *me, uint64_t deadline, bool *looked, struct pp__hold *hold)
{
    if (pool->is_inline)
        return step_inline(pool, me, deadline, hold);
    if (pool->ended) { /* what is waited for now, the program does */
        if (pool->collector.waiter == me) {
            pool->collector.waiter = NULL;
            call_manager(pool); /* it may sleep until this thread leaves, and has to end */
        }
        return sleep_on_word(pool, me, deadline, hold);
    }
    if (run_errand(pool, me, hold))
        return 0;
    if (look_first(pool, me, deadline))
        return 0;
    if (!take_duty(pool, me))
        return wait_beside(pool, me, deadline, hold);
    pp__list_remove(&me->in_pool);
    if (*looked)
        return pp__collect_spin(pool, deadline, &me->spun_in_vain) ? 0 : pp__collect_sleep(pool, deadline, true, hold);
    *looked = true;
    pp__collect(pool);
    return 0;
}

/* Handlers of what has come meanwhile run here, without the lock. */
static int look_for_signals(pp_pool *pool, struct pp__hold *hold)
{
    PP_FAULT("wait.between"); /* behind each sleep */
    if (!pp__hold_is_due(hold))
        return 0;
    pp__pool_unlock(pool);
    int error = pp__hold_look(hold);
    pp__pool_lock(pool);
    return error;
}

static int wait_for(pp_pool *pool, struct pp__subject *subject, bool (*ready)(const void *what), const void *what,
                    uint64_t deadline, bool deaf)
{
    struct pp__waiter me = {.what = what, .word = 1, .spun_in_vain = UINT64_MAX};
    struct pp__hold hold;
    bool looked = false;
    int error = 0;
    pp__exit_watch_once();
    pp__hold_begin(&hold);
    pp__list_init(&me.in_pool);
    pp__list_insert(&subject->waiters, &me.in_subject);
    while (!ready(what)) {
        me.unroused = false;
        error = step(pool, &me, deadline, &looked, deaf ? NULL : &hold);
        if (me.unroused && ready(what))
            pp__lost_count(pool, "that of a thread that waits, for what it waits for");
        if (!error)
            error = look_for_signals(pool, &hold);
        if (error == -EINTR && (deaf || pp__wait_goes_on()))
            error = 0;
        if (ready(what) || error)
            break;
        if (pp__until(deadline) == 0) {
            error = -ETIMEDOUT;
            break;
        }
    }
    pp__list_remove(&me.in_subject);
    pp__list_remove(&me.in_pool);
    bool nobody = me.has_napped > 0 && !pool->collector.waiter && !pool->collector.manager;
    if (pool->collector.waiter == &me || nobody)
        pass_duty_on(pool);
    else if (pool->is_inline)
        pp__wait_pass_inline(pool);
    pp__hold_end(&hold);
    return ready(what) ? 0 : error;
}

int pp__wait(pp_pool *pool, struct pp__subject *subject, bool (*ready)(const void *what), const void *what,
             uint64_t deadline, bool deaf)
{
    struct pp__collector *c = &pool->collector;
    if (c->impatient++ == 0 && c->waiter)
        pp__wait_look(pool); /* that one sleeps patiently */
    int error = wait_for(pool, subject, ready, what, deadline, deaf);
    c->impatient--;
    c->ended++;
    return error;
}

int pp__wait_patiently(pp_pool *pool, struct pp__subject *subject, bool (*ready)(const void *what), const void *what,
                       uint64_t deadline)
{
    return wait_for(pool, subject, ready, what, deadline, false);
}

/* Who is roused runs what there is, or leaves and passes it on in turn. */
void pp__wait_pass_inline(pp_pool *pool)
{
    if (pool->loop && pool->pending_count > 0)
        pp__loop_wake(pool);
    if (pp__list_empty(&pool->collector.waiters))
        pp__groups_rouse(pool);
    else
        rouse(pp__container(pool->collector.waiters.next, struct pp__waiter, in_pool));
}

/* Who waits patiently does not hear of each result, nor does a manager that sleeps since before. */
void pp__wait_hear(pp_pool *pool)
{
    const struct pp__collector *c = &pool->collector;
    pp__collect_claim(pool);
    if ((!c->waiter || c->impatient == 0) && !pp__collect_hears(pool))
        pp__wait_attend(pool);
}

/* A waiting thread calls the manager when it leaves. A manager that sleeps may do so through results: unless it began
 * when others waited so. */
void pp__wait_apart(pp_pool *pool, int change)
{
    if (pool->is_inline)
        return;
    pp__pool_lock(pool);
    pool->apart += change;
    if (change > 0) {
        pp__wait_hear(pool);
        pp__collect(pool);
    }
    pp__pool_unlock(pool);
}

/* ---------------------------------------------------------------------------------------- the manager */

/* Sleeps on its word: for a nap, or (`sound`) until it is called; not beyond `due`. */
static void doze(pp_pool *pool, bool sound, uint64_t due)
{
    struct pp__collector *c = &pool->collector;
    uint32_t seen = pp__load_acquire(&pool->page->manager); /* pairs with the add in pp__wait_call_manager */
    c->manager_sound = sound;
    c->manager_naps = !sound;
    pool->nap_ends = sound ? PP__NEVER : pp__now() + NAP;
    pp__pool_unlock(pool);
    pp__futex_wait(&pool->page->manager, seen, pool->nap_ends < due ? pool->nap_ends : due, true);
    pp__pool_lock(pool);
    c->manager_sound = c->manager_naps = false;
    c->manager_called |= c->left; /* a worker woke it, or may have before it slept: its wake does not change the word */
}

/* Under the lock. */
static void manage(pp_pool *pool, uint64_t *leaves_seen)
{
    struct pp__collector *c = &pool->collector;
    bool called = c->manager_called, busy = c->leaves != *leaves_seen;
    c->manager_called = false;
    *leaves_seen = c->leaves;
    uint64_t due = pp__standby_due(pool);
    if (due != PP__NEVER && due <= pp__now()) {
        pp__standby_make(pool);
    } else if (c->waiter) {
        doze(pool, !busy, due);
    } else if (busy && !(called && is_wanted(pool)) && pp__now() - c->looked_at < NAPS_MOST) {
        pp__collect_return(pool); /* it rang once: who submits from now on calls */
        doze(pool, false, due);
    } else {
        c->manager = true;
        pp__collect_sleep(pool, due, false, NULL);
        c->manager = false;
    }
}

/*
 * Runs until the pool has ended, collecting when no thread waits. While threads come and go it naps rather than be
 * woken by each that leaves; while one waits for long it sleeps sound, and is called when that one leaves.
 */
void *pp__manager_run(void *argument)
{
    pp_pool *pool = argument;
    uint64_t leaves_seen = 0;
    prctl(PR_SET_NAME, "pp-manager");
    pp__pool_lock(pool);
    while (!pool->ended)
        manage(pool, &leaves_seen);
    pp__pool_close_epoll(pool);
    pp__pool_unlock(pool);
    pp__pool_unref(pool);
    return NULL;
}
