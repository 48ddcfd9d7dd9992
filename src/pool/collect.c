/* SPDX-License-Identifier: MIT */
#include "pool/collect.h"

#include "base/atomic.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/interrupt.h"
#include "base/seam.h"
#include "base/spin.h"
#include "pool/backtrace.h"
#include "pool/dispatch.h"
#include "pool/end.h"
#include "pool/errand.h"
#include "pool/lost.h"
#include "pool/send.h"
#include "pool/timers.h"
#include "pool/workers.h"
#include "process/launcher.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <time.h>

/* With work outstanding nobody sleeps longer than this: a lost wake costs so much, and no hang. */
#define SLEEP_BOUND (100 * PP__MILLISECOND)
/* While calls are queued behind others somebody looks this often: one of those may last. */
#define LOOK_BEHIND (4 * PP__MILLISECOND)
/* And for so long after one was: who sleeps need not be told of the next one. */
#define BEHIND_AGAIN (10 * PP__MILLISECOND)

/* Who spins looks at everything else so often. */
#define LOOK_EACH PP__MILLISECOND
/* Results gather for so long where waking a thread takes the processor from a worker: for three quarters of the calls
 * that a worker can have ahead, within these limits. */
#define GATHER_LEAST (200 * PP__MICROSECOND)
#define GATHER_MOST PP__MILLISECOND
#define GATHER_CALLS (PP__SLOTS * 3 / 4)

/* While calls stream in, the manager looks this often whether they still do; more than so many since the last look are
 * a stream. */
#define LOOK_AT_STREAM PP__MILLISECOND
#define STREAM 64

/* After the hang-up of a worker with calls who sleeps looks for its parent's report for so long. */
#define REPORT_MOST (300 * PP__MICROSECOND)

/* A sleep of a thread for a result, beyond which calls are no short ones. */
#define CALM (100 * PP__MICROSECOND)

/* A thread that sleeps so soon after it has woken a worker does nothing in between. */
#define AT_ONCE (20 * PP__MICROSECOND)

#define EVENTS 64
#define YIELDS 16
#define EYES 64 /* busy workers that a spinning thread looks at */

/* ------------------------------------------------------------------------------------------ reports */

/* Where only its parent, which is none of ours, knows how it has ended, what it has left itself has to do. */
static void take_end(struct pp__worker *worker, const struct pp__report *report)
{
    int signal = report->code == PP__END_UNKNOWN ? pp__crash_signal(worker) : 0;
    worker->out_of_memory = report->error == ENOMEM;
    pp__worker_ended(worker, signal ? CLD_KILLED : report->code, signal ? signal : report->status);
}

static void take_report(pp_pool *pool, const struct pp__report *report)
{
    struct pp__worker *worker = pp__worker_by_birth(pool, report->serial);
    if (!worker)
        return;
    switch (report->type) {
    case PP__REPORT_STARTED:
        worker->pid = report->pid;
        pool->unreported--;
        if (worker->number >= 0)
            pp__pool_log(pool, "worker %d started (pid %d)", worker->number, (int)report->pid);
        break;
    case PP__REPORT_INVITED:
        pp__errand_start(worker, report);
        break;
    case PP__REPORT_FAILED:
        pp__worker_failed(worker, report->error);
        break;
    case PP__REPORT_ENDED:
        if (worker->pid == 0 && worker->start_error) {
            pp__worker_failed(worker, worker->start_error);
            break;
        }
        if (worker->pid == 0) { /* it had not taken its plan, and never started */
            worker->pid = report->pid;
            pool->unreported -= report->pid != 0;
        }
        pp__collect_worker(worker); /* drain, then say gone */
        take_end(worker, report);
        break;
    default:
        break;
    }
}

static void read_reports(pp_pool *pool)
{
    struct pp__report report;
    int got = 0;
    while (pool->connection >= 0 && (got = pp__launcher_report(pool->connection, &report)) > 0)
        take_report(pool, &report);
    if (got < 0 && pool->connection >= 0)
        pp__pool_lost_zygote(pool);
}

/* ---------------------------------------------------------------------------------------- collecting */

static bool needs_report(const pp_pool *pool)
{
    if (pool->unreported == 0)
        return false;
    for (struct pp__link *link = pool->active.next; link != &pool->active; link = link->next) {
        struct pp__worker *worker = pp__container(link, struct pp__worker, place);
        if (worker->pid == 0 && pp__ring_waiting(&worker->results))
            return true;
    }
    return false;
}

static bool anything_waiting(const pp_pool *pool)
{
    for (struct pp__link *link = pool->active.next; link != &pool->active; link = link->next) {
        struct pp__worker *worker = pp__container(link, struct pp__worker, place);
        if (!worker->poisoned && worker->pid != 0 && pp__ring_waiting(&worker->results))
            return true;
        if (worker->state == PP__WORKER_READY && worker->count == 0 && worker->stuck_end &&
            pp__ring_passed(&worker->calls, worker->stuck_end))
            return true; /* it has room again, and gives no result for what it passed over */
    }
    return false;
}

void pp__collect_results(pp_pool *pool)
{
    pool->unlooked = 0;
    pool->gathers = pp__dispatch_is_trivial(pool); /* unless a result does not lie in its item (outcome.c) */
    if (needs_report(pool))
        read_reports(pool);
    for (struct pp__link *link = pool->active.next, *next; link != &pool->active; link = next) {
        next = link->next;
        pp__collect_worker(pp__container(link, struct pp__worker, place));
    }
}

void pp__collect(pp_pool *pool)
{
    if (pool->is_inline || pool->ended)
        return;
    pp__collect_results(pool);
    pp__dispatch(pool);
    pp__pool_settle(pool);
}

/* Whoever asks looks at the rings behind this, and then sleeps: a worker publishes and looks at the word
 * (pp__self_ring_if_wanted, worker_publish.c). */
static void ask(pp_pool *pool, enum pp__want mode, uint64_t below)
{
    pool->collector.left = false;
    pool->collector.below = below;
    pp__want_ask(&pool->page->wanted, ++pool->want_epoch, mode, PP__WANT_BELL, below);
}

static void ask_nothing(pp_pool *pool)
{
    pool->collector.left = false;
    pp__want_nothing(&pool->page->wanted, ++pool->want_epoch);
}

/* Where the next results of the busy workers will be marked. */
struct eyes {
    const _Atomic uint32_t *marks[EYES];
    int count;
    const _Atomic uint32_t *look;
    uint32_t look_seen;
};

static void open_eyes(pp_pool *pool, struct eyes *eyes)
{
    eyes->count = 0;
    eyes->look = &pool->collector.look;
    eyes->look_seen = pp__load_relaxed(eyes->look);
    for (struct pp__link *link = pool->active.next; link != &pool->active && eyes->count < EYES; link = link->next) {
        const struct pp__worker *worker = pp__container(link, struct pp__worker, place);
        if (worker->count == 0 || worker->poisoned)
            continue;
        eyes->marks[eyes->count++] = pp__ring_mark(&worker->results);
    }
}

/* Relaxed: what is seen here is looked at again under the lock. */
static bool see(const struct eyes *eyes)
{
    for (int i = 0; i < eyes->count; i++)
        if (pp__load_relaxed(eyes->marks[i]) != 0)
            return true;
    return pp__load_relaxed(eyes->look) != eyes->look_seen;
}

/* Whether a worker that was woken waits, by all that is known, for this very processor. */
static bool holds_processor_of(const struct pp__worker *worker)
{
    return worker->count > 0 && worker->woken_at != 0 && pp__worker_slept_here(worker);
}

static bool is_in_the_way(const pp_pool *pool)
{
    if (pool->busy > 1 || !pp__list_empty(&pool->collector.waiters))
        return false; /* there is more to wait for than that one */
    for (struct pp__link *link = pool->active.next; link != &pool->active; link = link->next)
        if (holds_processor_of(pp__container(link, struct pp__worker, place)))
            return true;
    return false;
}

static uint64_t spin_budget(const pp_pool *pool, uint64_t deadline)
{
    if (pool->busy == 0 || pool->busy >= pool->processors || is_in_the_way(pool))
        return 0;
    uint64_t budget = pool->spin_limit < 2 * pool->wake_cost ? pool->spin_limit : 2 * pool->wake_cost;
    uint64_t left = deadline == PP__NEVER ? budget : pp__until(deadline);
    return left < budget ? left : budget;
}

/* By one at a time. A worker that is looked at may end meanwhile, and be freed: its marks can be read all the same
 * (glance.h). */
static bool spin_on(pp_pool *pool, struct pp__spin spin)
{
    struct eyes eyes;
    open_eyes(pool, &eyes);
    pool->collector.spinning = true;
    pp__pool_unlock(pool);
    bool found = see(&eyes);
    while (!found && pp__spin_on(&spin))
        found = see(&eyes);
    pp__pool_lock(pool);
    pool->collector.spinning = false;
    found |= pp__load_relaxed(eyes.look) != eyes.look_seen; /* since the last look: under the lock nothing is missed */
    if (spin.jumped)
        pool->spin_limit = pool->spin_limit / 2 + PP__SPIN_MAX / 64; /* never none, or it could not grow again */
    else if (found && pool->spin_limit < PP__SPIN_MAX)
        pool->spin_limit += PP__SPIN_MAX / 16;
    return found;
}

bool pp__collect_spin(pp_pool *pool, uint64_t deadline, uint64_t *in_vain)
{
    struct pp__spin spin;
    uint64_t budget = *in_vain == pool->delivered || pool->collector.spinning ? 0 : spin_budget(pool, deadline);
    if (budget == 0)
        return false;
    pp__spin_begin(&spin, budget);
    if (spin.begun - pool->collector.looked_at > LOOK_EACH) {
        pp__collect_sleep(pool, 0, true, NULL); /* deaths and timeouts are not kept waiting by results */
        return true;
    }
    bool found = spin_on(pool, spin);
    if (found)
        pp__collect(pool);
    else
        *in_vain = pool->delivered;
    return found;
}

static void take_hang_up(pp_pool *pool, uint64_t serial)
{
    const struct pp__worker *worker = pp__worker_by_serial(pool, serial);
    pool->collector.report_due |= worker && worker->count > 0;
}

/* A worker's bell has said all that it has to say: its ring is looked into in any case. */
static void take_events(pp_pool *pool, const struct epoll_event *events, int count)
{
    for (int i = 0; i < count; i++) {
        if (events[i].data.u64 == PP__TAG_KICK)
            pp__fd_clear(pool->kick);
        else if (events[i].data.u64 == PP__TAG_ZYGOTE)
            read_reports(pool);
        else if (events[i].data.u64 & PP__TAG_HANG_UP)
            take_hang_up(pool, events[i].data.u64 & ~PP__TAG_HANG_UP);
    }
}

static bool heard_bell(const struct epoll_event *events, int count)
{
    for (int i = 0; i < count; i++)
        if (events[i].data.u64 > PP__TAG_LAST)
            return true;
    return false;
}

/* Where nobody spins, and there is a call of one worker, for which this thread goes to sleep as soon as it has woken
 * that one. */
static bool waits_at_once(const pp_pool *pool, uint64_t now)
{
    return pool->options.wait == PP_WAIT_SLEEP && pool->busy == 1 && now - pool->woke_at < AT_ONCE;
}

/* For come_near (worker_idle.c), whenever somebody goes to sleep. */
static void tell_near(pp_pool *pool, uint32_t processor)
{
    if (pp__load_relaxed(&pool->page->near) != processor)
        pp__store_relaxed(&pool->page->near, processor);
}

static void tell_processor(pp_pool *pool, uint64_t now)
{
    uint32_t processor = (uint32_t)PP_SYS(sched_getcpu)();
    pp__store_relaxed(&pool->page->processor, processor);
    tell_near(pool, waits_at_once(pool, now) ? processor : UINT32_MAX);
}

static int bounded(pp_pool *pool, uint64_t now, uint64_t deadline)
{
    bool busy = pool->outstanding > 0 || pool->shut || pool->delivered != pool->collector.delivered_seen;
    pool->collector.delivered_seen = pool->delivered;
    if (pool->queued)
        pool->behind_until = now + BEHIND_AGAIN;
    pool->collector.told_of_queued = now < pool->behind_until;
    if (pool->collector.told_of_queued)
        deadline = deadline < now + LOOK_BEHIND ? deadline : now + LOOK_BEHIND;
    pool->queued = false;
    if (busy)
        deadline = deadline < now + SLEEP_BOUND ? deadline : now + SLEEP_BOUND;
    if (pool->collector.streaming)
        deadline = deadline < now + LOOK_AT_STREAM ? deadline : now + LOOK_AT_STREAM;
    pool->collector.wake_at = deadline;
    return pp__to_milliseconds(deadline == PP__NEVER ? PP__NEVER : deadline > now ? deadline - now : 0);
}

static uint64_t gather_time(const pp_pool *pool)
{
    uint64_t ahead = pool->mean_run * GATHER_CALLS;
    return ahead < GATHER_LEAST ? GATHER_LEAST : ahead < GATHER_MOST ? ahead : GATHER_MOST;
}

/*
 * A thread that comes back to sleep soon after the last look waits for many short calls. While these keep all
 * processors busy, each wake would cost one of them more than a call: it sleeps for a while whatever comes, unless a
 * worker runs dry. For how long, in ns; 0: it does not.
 */
static uint64_t gathers(const pp_pool *pool)
{
    uint64_t time = gather_time(pool);
    bool some = pool->collector.impatient > 0 && pool->busy >= pool->processors && pool->mean_run < time &&
                pool->outstanding > (size_t)pool->busy && pp__now() - pool->collector.looked_at < time;
    return some ? time : 0;
}

/* Whether a worker that runs dry is worth a wake: there is a call for it, and nobody awake who is about to send it. */
static bool wants_attention(const pp_pool *pool)
{
    return (pool->pending_count > 0 && !pool->collector.streaming) || pool->starting > 0 || pool->coming > 0 ||
           pool->shut;
}

/* Results of what is outstanding now, each of which somebody may wait for. Those of calls that are submitted during the
 * sleep are asked for by who waits for them, if he sleeps too (pp__collect_claim). */
static bool wants_results(const pp_pool *pool, bool every, bool gathering)
{
    return (every && !gathering && pool->collector.impatient > 0) || pool->apart > 0;
}

/* The other ones the manager sleeps through, and who waits patiently, as long as there is room for more and no call to
 * be sent for them. */
static enum pp__want wanted(const pp_pool *pool, bool patient)
{
    return patient || wants_attention(pool) ? PP__WANT_ATTENTION : PP__WANT_ROOM;
}

static void look_at_stream(pp_pool *pool, bool every)
{
    struct pp__collector *c = &pool->collector;
    c->streaming = !every && pool->outstanding > STREAM && pool->next_id - c->next_id_seen > STREAM;
    c->next_id_seen = pool->next_id;
}

bool pp__collect_hears(const pp_pool *pool)
{
    return pool->collector.asleep && pool->collector.below >= pool->next_id;
}

void pp__collect_ask(pp_pool *pool)
{
    const struct pp__collector *c = &pool->collector;
    if (!c->asleep || c->streaming || pp__want_mode(&pool->page->wanted) != PP__WANT_ROOM)
        return;
    ask(pool, PP__WANT_ATTENTION, c->below);
    pp__collect_results(pool); /* a worker that ran dry before is seen */
    pp__dispatch(pool);
}

static int look_for_events(const pp_pool *pool, struct epoll_event *events, int milliseconds, struct pp__hold *hold)
{
    int count = PP_SYS(epoll_pwait)(pool->epoll, events, EVENTS, milliseconds, pp__hold_mask(hold));
    return count >= 0 ? count : errno == EINTR ? -EINTR : 0;
}

/* The process that reports may need this processor. */
static int look_for_report(const pp_pool *pool, struct epoll_event *events, struct pp__hold *hold)
{
    uint64_t begun = pp__now();
    int count = 0;
    while (count == 0 && pp__now() - begun < REPORT_MOST) {
        sched_yield();
        count = look_for_events(pool, events, 0, hold);
    }
    return count;
}

/* Sleeps, for `gather` ns at most unless that is 0: how many events, or -EINTR. */
static int wait_for_events(const pp_pool *pool, struct epoll_event *events, int milliseconds, uint64_t gather,
                           bool report_due, struct pp__hold *hold)
{
    if (milliseconds != 0)
        pp__hold_off(hold);
    if (report_due && milliseconds != 0) {
        int count = look_for_report(pool, events, hold);
        if (count != 0)
            return count;
    }
    if (gather > 0 && milliseconds != 0) {
        struct pollfd set = {.fd = pool->epoll, .events = POLLIN};
        struct timespec most = pp__to_timespec(gather);
        int ready = PP_SYS(ppoll)(&set, 1, &most, pp__hold_mask(hold));
        if (ready <= 0)
            return ready < 0 && errno == EINTR ? -EINTR : 0;
        milliseconds = 0;
    }
    return look_for_events(pool, events, milliseconds, hold);
}

/* Who spins beside the sleeper sees the word, and leaves; and does not spin on, as nobody is asleep. It may have to
 * have this processor for that, and be of a lower priority. */
static void wait_for_spinner(pp_pool *pool)
{
    struct pp__collector *c = &pool->collector;
    c->asleep = false;
    for (int tries = 0; c->spinning; tries++) {
        pp__wait_look(pool);
        pp__pool_unlock(pool);
        if (tries < YIELDS)
            sched_yield();
        else
            nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
        pp__pool_lock(pool);
    }
}

/*
 * The word, the look, the sleep. A worker publishes and looks at the word (pp__self_ring_if_wanted, worker_publish.c):
 * one of the two sees the other (want.h). `every` says whose sleep it is: a waiting thread's duty is never taken from
 * it, the manager's is, and then the word belongs to the thief.
 */
static int sleep_for_events(pp_pool *pool, uint64_t deadline, bool every, struct pp__hold *hold)
{
    struct epoll_event events[EVENTS];
    uint64_t gather = every ? gathers(pool) : 0;
    look_at_stream(pool, every);
    bool hears = wants_results(pool, every, gather > 0);
    enum pp__want mode = wanted(pool, every && !hears);
    ask(pool, mode, hears ? pool->next_id : 0);
    uint64_t epoch = pool->want_epoch;
    uint64_t begun = pp__now();
    if (every)
        tell_processor(pool, begun);
    else
        tell_near(pool, UINT32_MAX);
    int milliseconds =
        anything_waiting(pool) ? 0 : bounded(pool, begun, deadline); /* reports are looked at in any case */
    bool report_due = pool->collector.report_due;
    pool->collector.asleep = true;
    pool->collector.kicked = pool->collector.report_due = false;
    pool->collector.manager_in_epoll |= !every;
    pool->in_epoll++;
    pp__pool_unlock(pool);
    int count = wait_for_events(pool, events, milliseconds, gather, report_due, hold);
    pp__pool_lock(pool);
    if (every)
        wait_for_spinner(pool);
    pool->in_epoll--;
    pool->collector.looked_at = pp__now();
    if (every && pool->collector.looked_at - begun > CALM)
        pp__wait_calm(pool);
    pool->collector.manager_in_epoll &= every;
    if (count == 0 && milliseconds != 0 && pool->want_epoch == epoch && gather == 0)
        pp__lost_look(pool, mode == PP__WANT_ATTENTION ? UINT64_MAX : pool->collector.below);
    bool mine = every || pool->collector.manager;
    if (mine) {
        pool->collector.asleep = false;
        ask_nothing(pool);
    }
    /* A manager that was relieved leaves reports and kick to the thread that has the duty and sleeps beside it. A ring
     * that it was told of is not told to that one, and a worker rings once for each sleep. */
    if (mine && !pool->ended)
        take_events(pool, events, count);
    else if (heard_bell(events, count))
        pp__wait_look(pool);
    return count == -EINTR ? -EINTR : 0;
}

/* What is due is done, and what follows from it; when the next thing is. Workers that were just told to leave, or
 * started, are among what is watched. */
static uint64_t look_after(pp_pool *pool)
{
    pp__workers_dispose(pool);
    int starting = pool->starting, coming = pool->coming, leaving = pool->leaving;
    uint64_t next = pp__timers_run(pool);
    pp__dispatch(pool);
    pp__pool_settle(pool);
    bool changed = pool->starting != starting || pool->coming != coming || pool->leaving != leaving;
    return changed && !pool->ended ? pp__timers_run(pool) : next;
}

int pp__collect_sleep(pp_pool *pool, uint64_t deadline, bool every, struct pp__hold *hold)
{
    uint64_t delivered = pool->delivered;
    uint64_t next = look_after(pool);
    if (pool->ended || pool->delivered != delivered)
        return 0; /* what the caller waits for may be among it, and nobody would wake it */
    int error = sleep_for_events(pool, next < deadline ? next : deadline, every, hold);
    pp__collect(pool);
    pp__pool_close_epoll(pool);
    return error;
}

/* Beside somebody who sleeps. True: what the caller waits for may be among what came. */
static bool collect_beside(pp_pool *pool, uint64_t now)
{
    struct pp__collector *c = &pool->collector;
    uint64_t delivered = pool->delivered;
    pp__collect_results(pool);
    if (pool->pending_count > 0 || pool->deep > 0 || now - c->beside_at > LOOK_EACH) {
        c->beside_at = now;
        if (look_after(pool) < c->wake_at)
            pp__wait_look(pool); /* as what has begun now has its time, of which the sleeper does not know */
        if (wants_attention(pool))
            pp__collect_ask(pool);
    } else {
        pp__dispatch(pool);
        pp__pool_settle(pool);
    }
    return pool->delivered != delivered;
}

/* The sleeper is not rung for calls that are younger than its sleep. Should it wake, it waits until nobody spins
 * (sleep_for_events), or is the manager, which never spins. */
bool pp__collect_beside(pp_pool *pool, uint64_t deadline)
{
    const struct pp__collector *c = &pool->collector;
    struct pp__spin spin;
    uint64_t budget = (c->waiter || c->manager) && c->asleep && !c->spinning ? spin_budget(pool, deadline) : 0;
    if (budget == 0)
        return false;
    pp__spin_begin(&spin, budget);
    bool found = spin_on(pool, spin);
    return collect_beside(pool, spin.begun) || found;
}

bool pp__collect_claim(pp_pool *pool)
{
    struct pp__collector *c = &pool->collector;
    if (!c->asleep || c->below == 0 || c->below >= pool->next_id)
        return false;
    c->below = pool->next_id;
    pp__want_raise(&pool->page->wanted, c->below);
    return collect_beside(pool, pp__now()); /* what came before the worker could see that */
}

void pp__collect_leave(pp_pool *pool)
{
    pool->collector.left = true;
    pool->collector.below = 0;
    pp__want_ask(&pool->page->wanted, ++pool->want_epoch, PP__WANT_ATTENTION, PP__WANT_CALL, 0);
    pp__collect_results(pool); /* a worker that ran dry before is seen */
    pp__dispatch(pool);
}

void pp__collect_return(pp_pool *pool)
{
    if (pool->collector.left)
        ask_nothing(pool);
}

bool pp__collect_arm(pp_pool *pool, uint64_t *next)
{
    struct pp__collector *c = &pool->collector;
    *next = look_after(pool);
    if (pool->ended) {
        pp__pool_close_epoll(pool);
        return true;
    }
    ask(pool, PP__WANT_ATTENTION, UINT64_MAX);
    bool some = anything_waiting(pool);
    bounded(pool, pp__now(), *next);
    tell_near(pool, UINT32_MAX);
    *next = c->wake_at;
    c->manager = c->asleep = true;
    c->kicked = false;
    return some;
}

void pp__collect_events(pp_pool *pool)
{
    struct epoll_event events[EVENTS];
    struct pp__collector *c = &pool->collector;
    c->manager = c->asleep = false;
    ask_nothing(pool);
    take_events(pool, events, PP_SYS(epoll_wait)(pool->epoll, events, EVENTS, 0));
    c->looked_at = pp__now();
    pp__collect(pool);
    pp__pool_close_epoll(pool);
}
