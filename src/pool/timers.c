/* SPDX-License-Identifier: MIT */
/* What is due: timeouts of running calls, workers that do not begin, go on or leave, kills that could not be asked for.
 */
#include "pool/timers.h"

#include "base/clock.h"
#include "pool/collect.h"
#include "pool/dispatch.h"
#include "pool/end.h"
#include "pool/lost.h"
#include "pool/output.h"
#include "pool/recycle.h"
#include "pool/send.h"
#include "pool/take_back.h"
#include "pool/tidy.h"
#include "pool/wish.h"
#include "pool/workers.h"
#include "process/launcher.h"

#include <errno.h>

/* A record that is told of and not there for so long is missing. */
#define MISSED PP__MILLISECOND
/* A worker that has not begun a call for so long is rung again; and after that long its calls go to others. */
#define RING_AGAIN (50 * PP__MILLISECOND)
#define STUCK PP__SECOND
/* Without a start_timeout, a worker that its launcher has not reported has so long to come, ms: a command may never
 * start one. */
#define COME 30000u
/* And an owner that was stopped meanwhile so long to read the report that has come. */
#define READ_REPORT (200 * PP__MILLISECOND)
/* A stopped worker that has nothing is killed after that long when others' calls could use its place. */
#define STUCK_LONG (5 * PP__SECOND)
/* A worker that waits for room when its call's time is up has so long to use it. */
#define GRACE PP__SECOND
/* While something is to come the zygote hears of us so often. */
#define ZYGOTE_EACH PP__SECOND
/* Inside a chunk a worker does not ring for each result: who waits looks so often. */
#define GLANCE PP__MILLISECOND

static struct pp__item *front_of(const struct pp__worker *worker)
{
    return worker->count == 0 ? NULL : pp__container(worker->items.next, struct pp__item, link);
}

/* When the worker's front call must have ended, as far as known now. One that has not begun has all of its time before
 * it: a worker that does not begin it is not its fault. */
static uint64_t deadline_of(struct pp__worker *worker, const struct pp__item *front, uint64_t now)
{
    uint64_t id, begun_at = pp__worker_front_since(worker, front);
    if (pp__worker_unbegun(worker, front))
        begun_at = now;
    else
        pp__worker_running(worker, &id, &begun_at);
    return begun_at + front->timeout * PP__MILLISECOND;
}

/* A worker releases a call's record behind its last result: when it has and the result is not there, its slot or its
 * result was overwritten, and there will be none. */
static bool passed_over(struct pp__worker *worker, const struct pp__item *front)
{
    uint64_t id = front->id;
    if (!pp__ring_passed(&worker->calls, worker->slots[front->slot].end))
        return false;
    pp__collect_worker(worker);
    front = front_of(worker);
    return front && front->id == id;
}

/* A worker that does not begin: rung again, in case a wake was lost; then, it is stopped perhaps, its calls go to
 * others. */
static void nudge(struct pp__worker *worker, const struct pp__item *front, uint64_t now)
{
    uint64_t since = pp__worker_front_since(worker, front);
    if (now - since < RING_AGAIN)
        return;
    if (passed_over(worker, front)) {
        pp__worker_poison(worker, "it passed over a call");
        return;
    }
    front = front_of(worker);
    if (front && pp__worker_lost_slot(worker, front)) {
        pp__worker_poison(worker, "a slot of no call that it has");
        return;
    }
    if (!front || !pp__worker_unbegun(worker, front))
        return;
    if (pp__worker_ring(worker) && !pp__ring_waiting(&worker->results)) /* it slept, and not for want of room */
        pp__lost_count(worker->pool, "that of a worker, for a call");
    if (now - since >= STUCK)
        pp__worker_give_up(worker);
}

/* It was given up, and may be stopped for ever. */
static uint64_t attend_stuck(struct pp__worker *worker, uint64_t now)
{
    pp_pool *pool = worker->pool;
    bool in_the_way = pool->pending_count > 0 && pool->alive == pool->max_workers;
    if (!in_the_way && !(pool->shut && pool->outstanding == 0))
        return PP__NEVER;
    if (now < worker->stuck_since + STUCK_LONG)
        return worker->stuck_since + STUCK_LONG;
    pp__pool_log(pool, "worker %d (pid %d) has been stopped for long, and is killed", worker->number, (int)worker->pid);
    pp__worker_kill(worker);
    return PP__NEVER;
}

/* `limit` milliseconds after `since`; 0: never. */
static uint64_t after(uint64_t since, uint32_t limit)
{
    return limit ? since + limit * PP__MILLISECOND : PP__NEVER;
}

static void break_unstarted(const struct pp__worker *worker, uint32_t limit)
{
    if (worker->pid == 0)
        pp__pool_break(
            worker->pool, ETIMEDOUT,
            "worker %d did not come within %u ms (start_timeout): it was not started, or has not joined the pool: its "
            "program has to call pp_worker_main() first, or pp_worker_attach()",
            worker->number, limit);
    else
        pp__pool_break(worker->pool, ETIMEDOUT,
                       "worker %d (pid %d) was not ready for calls after start_timeout, %u ms%s", worker->number,
                       (int)worker->pid, limit,
                       worker->pool->options.initializer ? ": its initializer has not returned" : "");
}

/* One that is not ready in time: its initializer hangs perhaps, and so would that of every other. */
static uint64_t attend_starting(struct pp__worker *worker, uint64_t now)
{
    uint32_t time = worker->pool->options.start_timeout;
    if (time == 0 && worker->pid == 0)
        time = COME;
    uint64_t limit = after(worker->free_at, time);
    if (now < limit)
        return limit;
    pp__collect_worker(worker); /* it may have become ready while nobody looked */
    if (worker->pid == 0 && pp__ring_waiting(&worker->results))
        return now + PP__MILLISECOND; /* it has: its start is reported first */
    if (worker->pid == 0 && worker->graced_at == 0)
        worker->graced_at = now;
    if (worker->pid == 0 && now - worker->graced_at < READ_REPORT)
        return worker->graced_at + READ_REPORT;
    if (worker->state == PP__WORKER_STARTING)
        break_unstarted(worker, time);
    return PP__NEVER;
}

/* A standby that does not come costs its process, as one of a command that starts nothing. Nobody waits for it: the
 * pool goes on. */
static uint64_t attend_standby(pp_pool *pool, uint64_t now)
{
    struct pp__worker *worker = pool->standby;
    if (!worker || worker->pid != 0)
        return PP__NEVER;
    uint32_t time = pool->options.start_timeout ? pool->options.start_timeout : COME;
    uint64_t limit = after(worker->free_at, time);
    if (now < limit)
        return limit;
    if (worker->graced_at == 0)
        worker->graced_at = now;
    if (now - worker->graced_at < READ_REPORT)
        return worker->graced_at + READ_REPORT;
    pp__pool_log(pool, "there is no standby worker: it did not come within %u ms (start_timeout)", time);
    pp__worker_kill(worker);
    return now + 10 * PP__MILLISECOND; /* the zygote's socket may be full */
}

/* One that was told to leave and does not begin to is stopped, perhaps for ever: it has nothing to do but go. */
static uint64_t attend_leaving(struct pp__worker *worker, uint64_t now)
{
    uint64_t stuck = worker->free_at + STUCK, limit = after(worker->free_at, worker->pool->options.finalizer_timeout);
    pp__worker_ring(worker);
    if (worker->left)
        return PP__NEVER;
    if (now >= limit) {
        pp__pool_log(worker->pool, "worker %d (pid %d) has not left after finalizer_timeout, %u ms, and is killed",
                     worker->number, (int)worker->pid, worker->pool->options.finalizer_timeout);
        worker->overdue = true;
        pp__worker_kill(worker);
        return PP__NEVER;
    }
    if (now < stuck)
        return stuck < limit ? stuck : limit;
    /* Against the begin in take_leave (worker.c): a finalizer that runs is left to run. */
    if (pp__slot_take(&worker->result_side->leave, pp__slot_word(PP__LEAVE_ID, PP__SLOT_READY), PP__LEAVE_ID)) {
        pp__pool_log(worker->pool, "worker %d (pid %d) does not leave as it was told, and is killed", worker->number,
                     (int)worker->pid);
        pp__worker_kill(worker);
        return PP__NEVER;
    }
    return limit;
}

/*
 * A task that has ended may wait for room for its result, because the owner took none: stopped, for example, together
 * with all that would have waited for its calls. Such a worker has some time, once for each element, to publish when
 * there is room again.
 */
static bool grace(struct pp__worker *worker, const struct pp__item *front, uint64_t now)
{
    uint64_t id = pp__item_next_id(front);
    if (worker->graced != id && pp__worker_wants_room(worker)) {
        worker->graced = id;
        worker->graced_at = now;
        pp__collect_worker(worker);
    }
    return worker->graced == id && now - worker->graced_at < GRACE;
}

static uint64_t attend_call(struct pp__worker *worker, uint64_t now)
{
    struct pp__item *front = front_of(worker);
    if (worker->state == PP__WORKER_KILLED && !worker->kill_asked) {
        pp__worker_kill(worker); /* the zygote's socket was full */
        return now + 10 * PP__MILLISECOND;
    }
    if (worker->state == PP__WORKER_STARTING)
        return attend_starting(worker, now);
    if (worker->owes_term) {
        pp__worker_terminate(worker);
        return now + 10 * PP__MILLISECOND;
    }
    if (worker->state == PP__WORKER_LEAVING)
        return attend_leaving(worker, now);
    if (!front && worker->state == PP__WORKER_READY && pp__worker_is_stuck(worker))
        return attend_stuck(worker, now);
    if (!front || worker->state != PP__WORKER_READY)
        return PP__NEVER;
    nudge(worker, front, now);
    front = front_of(worker);
    if (!front || worker->state != PP__WORKER_READY)
        return PP__NEVER;
    bool more = pp__item_end(front) - pp__item_next(front) > 1 ||
                (pp__item_count(front) > 1 && worker->count > 1); /* as it rings: pp__tell (worker_run.c) */
    const struct pp__collector *c = &worker->pool->collector;
    uint64_t glance = more && c->waiter && c->impatient > 0 ? now + GLANCE : PP__NEVER;
    if (!front->timeout)
        return glance;
    uint64_t deadline = deadline_of(worker, front, now);
    if (now < deadline)
        return deadline < glance ? deadline : glance;
    if (grace(worker, front, now))
        return now + PP__MILLISECOND;
    pp__worker_kill_call(worker, front);
    return now + PP__MILLISECOND;
}

/* A task may have written to the result ring, so that its owner looks where nothing will be. */
static uint64_t look_for_missing(struct pp__worker *worker, uint64_t now)
{
    if (worker->poisoned || !pp__ring_misses(&worker->results)) {
        worker->missing_at = 0;
        return PP__NEVER;
    }
    if (worker->missing_at == 0 || worker->missing != worker->results.position) {
        worker->missing = worker->results.position;
        worker->missing_at = now;
    }
    if (now - worker->missing_at < MISSED)
        return worker->missing_at + MISSED;
    pp__worker_poison(worker, "no record where it has published one");
    return PP__NEVER;
}

/* Acts on what is due for this worker and returns when the next thing will be. */
static uint64_t attend(struct pp__worker *worker, uint64_t now)
{
    uint64_t again = worker->pid != 0 ? look_for_missing(worker, now) : PP__NEVER;
    uint64_t next = attend_call(worker, now);
    uint64_t trim = worker->state == PP__WORKER_READY && worker->count > 0 ? pp__output_trim(worker, now) : PP__NEVER;
    next = trim < next ? trim : next;
    return again < next ? again : next;
}

/* From a worker without calls nothing can come but garbage, of which no call is to suffer later. */
static void look_at_idle(pp_pool *pool)
{
    for (int i = 0; i < 2; i++) {
        for (struct pp__link *link = pool->idle[i].next, *next; link != &pool->idle[i]; link = next) {
            next = link->next;
            pp__collect_worker(pp__container(link, struct pp__worker, place));
        }
    }
}

/* A stopped zygote tells of no end; whatever is asked of it continues it (go_on_by, zygote.c), even the death of
 * nobody. */
static void keep_zygote_going(pp_pool *pool, uint64_t now)
{
    if (pool->connection < 0 || now - pool->zygote_asked_at < ZYGOTE_EACH)
        return;
    if (pool->zygote_asked_at > 0)
        pp__launcher_kill(pool->connection, 0);
    pool->zygote_asked_at = now;
    look_at_idle(pool);
}

uint64_t pp__timers_run(pp_pool *pool)
{
    if (pool->outstanding == 0 && pool->alive == 0 && pool->others_count == 0)
        return PP__NEVER;
    uint64_t now = pp__now(), next = pp__dispatch_rebalance(pool, now);
    keep_zygote_going(pool, now);
    uint64_t tidy = pp__tidy(pool, now);
    next = tidy < next ? tidy : next;
    uint64_t recycle = pp__recycle_run(pool, now);
    next = recycle < next ? recycle : next;
    uint64_t late = pp__wishes_expire(pool, now);
    next = late < next ? late : next;
    uint64_t standby = attend_standby(pool, now);
    next = standby < next ? standby : next;
    for (struct pp__link *link = pool->active.next, *behind; link != &pool->active; link = behind) {
        behind = link->next;
        uint64_t due = attend(pp__container(link, struct pp__worker, place), now);
        next = due < next ? due : next;
    }
    if (pool->start_after > now &&
        (pool->pending_count > 0 || pool->recycle_due || pool->alive < pool->options.min_workers))
        next = pool->start_after < next ? pool->start_after : next;
    return next;
}
