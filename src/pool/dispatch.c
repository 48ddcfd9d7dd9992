/* SPDX-License-Identifier: MIT */
#include "pool/dispatch.h"

#include "base/cancel.h"
#include "base/clock.h"
#include "base/error.h"
#include "pool/end.h"
#include "pool/recycle.h"
#include "pool/room.h"
#include "pool/send.h"
#include "pool/start.h"
#include "pool/take_back.h"
#include "pool/workers.h"

#include <errno.h>
#include <string.h>

#define DEPTH_MAX 256
/* Choosing costs the same however many workers there are. */
#define LOOKS 8
/* So much work may lie before what is queued at a worker: enough for the time that its results take to be seen and
 * answered. It costs nobody his turn: what was not begun can be taken back, and is when another worker has nothing to
 * do. */
#define QUEUE_TIME (2 * PP__MILLISECOND)
/* A worker has no more chunks than this, unless their elements do not travel: then they take no room. */
#define CHUNKS 3
/* Calls behind one that has lasted this long beyond what was expected go back. */
#define PATIENCE PP__MILLISECOND
/* Whether a front call lasts too long is asked where it counts: before few. */
#define FEW 4

/* So many times the cost of a wake is worth being shared. */
#define WORTH_SHARING 4

#define FIRST_PAUSE (10 * PP__MILLISECOND)
#define LONGEST_PAUSE PP__SECOND
#define GIVE_UP 30000u /* ms, without a start_timeout */

/* ---------------------------------------------------------------------------------- pending queue */

/* New items have the highest id, and those that come back are among the lowest: a few steps from the right end. */
static inline void insert(pp_pool *pool, struct pp__link *end, struct pp__item *item)
{
    struct pp__link *place = end;
    if (end->previous != end && pp__container(end->previous, struct pp__item, link)->id > item->id) {
        place = end->next;
        while (pp__container(place, struct pp__item, link)->id < item->id)
            place = place->next;
    }
    pp__list_insert(place, &item->link);
    pool->pending_count++;
}

/* Apart, for the sake of the others. */
__attribute__((noinline)) static void insert_wishing(pp_pool *pool, struct pp__item *item)
{
    insert(pool, pp__wish_list(item), item);
}

void pp__pending_insert(pp_pool *pool, struct pp__item *item)
{
    if (item->wishes)
        insert_wishing(pool, item);
    else
        insert(pool, &pool->pending, item);
}

void pp__pending_remove(pp_pool *pool, struct pp__item *item)
{
    pp__list_remove(&item->link);
    pool->pending_count--;
}

/* ------------------------------------------------------------------------------------------- depth */

static uint64_t expected(const pp_pool *pool, const struct pp__item *item)
{
    return pool->mean_run * (pp__item_count(item) - pp__item_next(item));
}

/* What lies behind the call or chunk that it runs, in time. */
static inline uint64_t queued_behind(const pp_pool *pool, const struct pp__worker *worker)
{
    return (worker->count - 1) * expected(pool, pp__container(worker->items.previous, struct pp__item, link));
}

static inline uint64_t backlog(const pp_pool *pool, const struct pp__worker *worker)
{
    return expected(pool, pp__container(worker->items.next, struct pp__item, link)) + queued_behind(pool, worker);
}

/* When the worker's front call has lasted too long for others to wait behind it. */
static uint64_t patience_ends(const pp_pool *pool, const struct pp__worker *worker)
{
    const struct pp__item *front = pp__container(worker->items.next, struct pp__item, link);
    return pp__worker_front_since(worker, front) + 4 * expected(pool, front) + PATIENCE;
}

static inline uint32_t most_chunks(const struct pp__item *chunk)
{
    return chunk->x.size > 0 ? CHUNKS : PP__CHUNKS_IN_PLACE;
}

/* Whether `item` may be queued behind what the worker has. Calls of unknown duration travel alone. */
static inline __attribute__((always_inline)) bool may_queue(const pp_pool *pool, const struct pp__worker *worker,
                                                            const struct pp__item *item)
{
    const struct pp__item *front = pp__container(worker->items.next, struct pp__item, link);
    if (pool->mean_run == 0 || worker->count >= DEPTH_MAX || worker->withdrawn ||
        worker->outlasted == pp__item_next_id(front))
        return false;
    if (pp__item_count(item) > 1
            ? worker->count >= most_chunks(item) || worker->count * expected(pool, item) > QUEUE_TIME
            : backlog(pool, worker) > QUEUE_TIME)
        return false;
    return worker->count >= FEW || pp__now() < patience_ends(pool, worker);
}

/* Of those that may spin, whose processor may still be awake, else of the others. */
struct pp__worker *pp__dispatch_idle(const pp_pool *pool)
{
    for (int i = 0; i < 2; i++)
        if (!pp__list_empty(&pool->idle[i]))
            return pp__container(pool->idle[i].next, struct pp__worker, place);
    return NULL;
}

/* Whether `worker`, which is ready, is to be preferred to `best`, if there is one, or taken at all. */
typedef bool preference(const pp_pool *pool, const struct pp__worker *worker, const struct pp__worker *best,
                        const struct pp__item *item);

/* Of a few of those that are not idle. */
static inline __attribute__((always_inline)) struct pp__worker *
best_of_few(const pp_pool *pool, const struct pp__item *item, preference *is_better)
{
    struct pp__worker *best = NULL;
    int looks = 0;
    for (struct pp__link *link = pool->active.next; link != &pool->active && looks < LOOKS;
         link = link->next, looks++) {
        struct pp__worker *worker = pp__container(link, struct pp__worker, place);
        if (worker->state == PP__WORKER_READY && is_better(pool, worker, best, item))
            best = worker;
    }
    return best;
}

/* Has the fewest calls and may take one more: of equals the one that has been busy for less long. */
static inline __attribute__((always_inline)) bool is_less_busy(const pp_pool *pool, const struct pp__worker *worker,
                                                               const struct pp__worker *best,
                                                               const struct pp__item *item)
{
    return worker->count > 0 && (!best || worker->count <= best->count) && may_queue(pool, worker, item);
}

/* Has the fewest calls. */
static inline bool has_fewer(const pp_pool *pool, const struct pp__worker *worker, const struct pp__worker *best,
                             const struct pp__item *item)
{
    (void)pool, (void)item;
    return worker->count > 0 && !worker->withdrawn && (!best || worker->count < best->count);
}

/* Is through with all that it has before another that sleeps would be awake. */
static inline bool is_soon_free(const pp_pool *pool, const struct pp__worker *worker, const struct pp__worker *best,
                                const struct pp__item *item)
{
    (void)item;
    return !best && worker->count > 0 && !worker->withdrawn && backlog(pool, worker) < pool->wake_cost &&
           pp__now() < patience_ends(pool, worker);
}

/* Has the most calls. */
static inline bool is_deeper(const pp_pool *pool, const struct pp__worker *worker, const struct pp__worker *best,
                             const struct pp__item *item)
{
    (void)pool, (void)item;
    return worker->count > 1 && (!best || worker->count > best->count);
}

/*
 * The worker for the next item: its home; an idle one that is awake; an idle one that sleeps, unless another has less
 * to do than `worth` (ns), or will be free before that one would be awake; the one with the fewest calls that may take
 * one more. NULL: none now.
 */
static struct pp__worker *choose(pp_pool *pool, const struct pp__item *item, uint64_t worth)
{
    struct pp__worker *home = pp__item_home(item), *idle = pp__dispatch_idle(pool), *busy;
    if (home && home->idle)
        return home;
    if (idle && (!pp__worker_sleeps(idle) || pp__item_count(item) > 1 || pool->mean_run == 0))
        return idle;
    busy = best_of_few(pool, item, is_less_busy);
    bool soon = busy ? backlog(pool, busy) < worth : idle && best_of_few(pool, item, is_soon_free);
    return idle && !soon ? idle : busy;
}

/* Whether the last call that the worker has is one that `item` goes before. */
static bool has_lower(const struct pp__worker *worker, const struct pp__item *item)
{
    return worker->count > 1 &&
           pp__item_priority(pp__container(worker->items.previous, struct pp__item, link)) < pp__item_priority(item);
}

/*
 * The worker for an item with wishes: an idle one, or that with the fewest calls, of which those of a lower priority
 * that it has not begun go back, and the item goes before them. One with a deadline begins when it is sent, so it waits
 * for an idle worker. Apart, for the sake of the others.
 */
__attribute__((noinline)) static struct pp__worker *choose_wishing(pp_pool *pool, const struct pp__item *item)
{
    struct pp__worker *home = pp__item_home(item), *idle = pp__dispatch_idle(pool),
                      *worker = best_of_few(pool, item, has_fewer);
    if (idle)
        return home && home->idle ? home : idle;
    if (!worker)
        return NULL;
    while (has_lower(worker, item)) {
        struct pp__item *last = pp__container(worker->items.previous, struct pp__item, link);
        if (!pp__worker_take_back(worker, last))
            break;
        pp__pending_insert(pool, last);
    }
    return !pp__wish_has_deadline(item) && may_queue(pool, worker, item) ? worker : NULL;
}

/* --------------------------------------------------------------------------------------- dispatch */

void pp__dispatch_start_failed(pp_pool *pool, int error)
{
    uint32_t limit = pool->options.start_timeout ? pool->options.start_timeout : GIVE_UP;
    uint64_t now = pp__now();
    uint64_t pause = pool->start_pause ? pool->start_pause * 2 : FIRST_PAUSE;
    pool->start_pause = pause < LONGEST_PAUSE ? pause : LONGEST_PAUSE;
    pool->start_after = now + pool->start_pause;
    if (pool->failing_since == 0)
        pool->failing_since = now;
    if (pool->alive == 0 && now - pool->failing_since >= limit * PP__MILLISECOND)
        pp__pool_break(pool, error, "no worker could be started for %u ms: %s", limit, pp__why_no_process(error));
}

/* One item to one worker; false when nothing more can be sent now. */
static bool send_first(pp_pool *pool)
{
    struct pp__item *item = pp__pending_first(pool);
    struct pp__worker *worker = item->abandoned ? NULL
                                : item->wishes  ? choose_wishing(pool, item)
                                                : choose(pool, item, pool->wake_cost);
    if (!worker && !item->abandoned)
        return false;
    pp__pending_remove(pool, item);
    if (item->abandoned) {
        pp__item_cancel(item, "its map was closed");
        return true;
    }
    int error = pp__worker_send(worker, item);
    if (error == -EAGAIN) {
        pp__pending_insert(pool, item);
        return pp__worker_set_aside(worker);
    }
    if (error)
        pp__item_fail(item, PP_ERROR_TRAVEL, error, pp_last_error());
    pool->queued |= worker->count > 1;
    return true;
}

static void send_pending(pp_pool *pool)
{
    while (pool->pending_count > 0 && send_first(pool)) {
    }
}

/* Those that leave have no place any more; but where each takes its time for that, they must not become more and more.
 * Nor are more wanted where one that sleeps is not worth its wake (choose). */
static bool wants_more(const pp_pool *pool)
{
    bool lacks = pool->pending_count > (size_t)pool->starting && !pp__dispatch_idle(pool);
    return (lacks || pool->alive < pool->options.min_workers) && pool->alive < pool->max_workers &&
           pool->alive + pool->leaving < 2 * pool->max_workers;
}

static void start_missing(pp_pool *pool)
{
    if (!wants_more(pool))
        return;
    if (pool->start_after && pp__now() < pool->start_after)
        return;
    while (wants_more(pool)) {
        int error = pp__worker_start(pool);
        if (error == -EPIPE)
            return; /* the zygote is gone: its end of file breaks the pool when it is collected */
        if (error) {
            pp__pool_log(pool, "no worker can be started: %s", pp_last_error());
            pp__dispatch_start_failed(pool, -error);
            return;
        }
        if (pp__dispatch_idle(pool)) { /* it was the standby */
            send_pending(pool);
            pp__worker_wake_sent(pool);
        }
        pp__workers_dispose(pool); /* it is at work meanwhile */
    }
}

static void cancel_pending(pp_pool *pool)
{
    struct pp__item *item;
    while ((item = pp__pending_first(pool))) {
        pp__pending_remove(pool, item);
        pp__item_cancel(item, "cancelled as its pool was shut down");
    }
}

/* Another one that begins with a half of it now is through before this one would be. */
static inline bool is_worth_sharing(const pp_pool *pool, const struct pp__worker *worker)
{
    return queued_behind(pool, worker) >= WORTH_SHARING * pool->wake_cost;
}

/* A worker without work gets half of what is queued behind another, where it would have begun with it long before that
 * one. */
static void share(pp_pool *pool)
{
    struct pp__worker *from = best_of_few(pool, NULL, is_deeper);
    if (!from || !is_worth_sharing(pool, from))
        return;
    pp__worker_take_back_most(from, (from->count + 1) / 2);
    send_pending(pool);
}

void pp__dispatch(pp_pool *pool)
{
    if (pool->cancelling)
        cancel_pending(pool);
    if (pool->broken || pool->is_inline) {
        pp__room_made(pool);
        return;
    }
    if (pool->recycle_due)
        pp__recycle(pool);
    if (pool->wishes)
        pp__wishes_expire(pool, pp__now());
    send_pending(pool);
    if (pool->deep > 0 && pp__dispatch_idle(pool))
        share(pool);
    pp__worker_wake_sent(pool);
    start_missing(pool);
    pp__room_made(pool);
}

/* ------------------------------------------------------------------------------------- a single call */

/* Short calls are dealt to busy workers so many at a time: to choose takes as long as to send. */
#define DEAL 8
#define DEAL_TIME (16 * PP__MICROSECOND)

/* Before how much work a call is not queued, as long as another worker sleeps. Of trivial calls it is what would be
 * shared. */
static inline uint64_t worth_a_wake(const pp_pool *pool)
{
    return pp__dispatch_is_trivial(pool) ? WORTH_SHARING * pool->wake_cost : pool->wake_cost;
}

/* The one that got the last, as long as it is none too bad a choice: who is idle sleeps, and would be awake only when
 * it is done with what it has. NULL: it is. */
static inline struct pp__worker *choose_again(pp_pool *pool)
{
    struct pp__worker *worker = pool->dealt_to;
    if (!worker || pool->mean_run * DEAL >= DEAL_TIME || worker->state != PP__WORKER_READY || worker->withdrawn ||
        worker->count < FEW || worker->count >= DEPTH_MAX)
        return NULL;
    const struct pp__worker *idle = pp__dispatch_idle(pool);
    if (idle && (!pp__worker_sleeps(idle) || backlog(pool, worker) >= worth_a_wake(pool)))
        return NULL;
    if (--pool->deal == 0)
        pool->dealt_to = NULL;
    return worker;
}

static struct pp__worker *choose_anew(pp_pool *pool, const struct pp__item *item)
{
    struct pp__worker *worker = choose(pool, item, worth_a_wake(pool));
    bool again = worker && worker->count >= FEW && pool->mean_run * DEAL < DEAL_TIME;
    pool->dealt_to = again ? worker : NULL;
    pool->deal = DEAL - 1;
    return worker;
}

/* A worker without calls may take over some. */
__attribute__((noinline)) static void look_around(pp_pool *pool)
{
    PP__NO_CANCELLATION();
    pp__dispatch(pool);
}

bool pp__dispatch_single(pp_pool *pool, struct pp__item *item)
{
    if (!pp__dispatch_is_quiet(pool))
        return false;
    struct pp__worker *worker = choose_again(pool);
    if (!worker)
        worker = choose_anew(pool, item);
    if (!worker || pp__worker_send_alone(worker, item) != 0)
        return false;
    pool->queued |= worker->count > 1;
    if (pool->deep > 0 && pp__dispatch_idle(pool) && (pool->unlooked == 0 || is_worth_sharing(pool, worker)))
        look_around(pool); /* all workers, whenever results were taken in: others may have become slow */
    return true;
}

uint64_t pp__dispatch_rebalance(pp_pool *pool, uint64_t now)
{
    uint64_t again = PP__NEVER;
    for (struct pp__link *link = pool->active.next, *next; link != &pool->active; link = next) {
        struct pp__worker *worker = pp__container(link, struct pp__worker, place);
        next = link->next;
        if (worker->state != PP__WORKER_READY || worker->count < 2)
            continue;
        const struct pp__item *front = pp__container(worker->items.next, struct pp__item, link);
        uint64_t limit = patience_ends(pool, worker);
        if (now >= limit) {
            worker->outlasted = pp__item_next_id(front);
            pp__worker_take_back_all(worker);
        } else if (limit < again) {
            again = limit;
        }
    }
    return again;
}
