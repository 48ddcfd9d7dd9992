/* SPDX-License-Identifier: MIT */
#include "pool/recycle.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/seam.h"
#include "pool/dispatch.h"
#include "pool/end.h"
#include "pool/start.h"
#include "pool/take_back.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

/* Memory is looked at so often, of those that have run something. */
#define MEASURE_EACH (100 * PP__MILLISECOND)
#define FIRST_COST (10 * PP__MILLISECOND) /* of a start, until one was measured */

/* -------------------------------------------------------------------------------------------- memory */

/* Bytes of its own that it has in memory: anonymous pages, those included that it shares with its zygote since its
 * birth. 0: not known. A process that is reaped already may have left its number to another: that costs a start too
 * many. */
static uint64_t memory_of(pid_t pid)
{
    char path[32], text[128];
    unsigned long all, resident, shared;
    snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
    int fd = PP_SYS(open)(path, O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? -1 : PP_SYS(read)(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    text[size > 0 ? size : 0] = 0;
    if (sscanf(text, "%lu %lu %lu", &all, &resident, &shared) != 3 || shared > resident)
        return 0;
    return (uint64_t)(resident - shared) * (uint64_t)sysconf(_SC_PAGESIZE);
}

static bool has_grown(struct pp__worker *worker)
{
    uint64_t memory = memory_of(worker->pid);
    worker->measured = worker->free_at;
    return memory > worker->memory && memory - worker->memory > worker->pool->options.max_growth;
}

static void measure(struct pp__worker *worker)
{
    bool idle_since = worker->count == 0 && worker->measured == worker->free_at;
    if (worker->state != PP__WORKER_READY || !worker->seated || worker->overgrown || idle_since || !has_grown(worker))
        return;
    pp__pool_log(worker->pool, "worker %d (pid %d) has grown by more than max_growth and is recycled", worker->number,
                 (int)worker->pid);
    worker->overgrown = worker->wants_successor = worker->pool->recycle_due = true;
}

static uint64_t run_measures(pp_pool *pool, uint64_t now)
{
    if (pool->options.max_growth == 0)
        return PP__NEVER;
    if (now >= pool->measure_at) {
        pp__workers_each(pool, measure);
        pool->measure_at = now + MEASURE_EACH;
    }
    return pool->busy > 0 ? pool->measure_at : PP__NEVER;
}

/* ----------------------------------------------------------------------------------------- successors */

void pp__recycle_begin(struct pp__worker *worker)
{
    uint32_t most = worker->pool->options.max_tasks;
    worker->asked_at = pp__now();
    worker->budget = most ? most : INT64_MAX;
    worker->look_at = most ? most : INT64_MIN;
}

void pp__recycle_ready(struct pp__worker *worker)
{
    pp_pool *pool = worker->pool;
    uint64_t cost = pp__now() - worker->asked_at;
    pool->start_cost = cost > pool->start_cost ? cost : pool->start_cost - (pool->start_cost - cost) / 8;
    pool->recycle_due |= worker->predecessor || worker->withdrawn;
    if (pool->options.max_growth)
        worker->memory = memory_of(worker->pid);
}

/* It is the next, and not of that worker's any more. */
static struct pp__worker *part(struct pp__worker *worker)
{
    struct pp__worker *successor = worker->successor;
    worker->successor = NULL;
    successor->predecessor = NULL;
    if (successor->state == PP__WORKER_NEXT)
        pp__worker_set_state(successor, PP__WORKER_READY);
    return successor;
}

static void take_place(struct pp__worker *worker)
{
    struct pp__worker *successor = part(worker);
    pp__worker_seat(successor);
    pp__worker_place(successor);
}

/* Its predecessor has no place to leave. */
static void dismiss_successor(struct pp__worker *worker)
{
    struct pp__worker *successor = part(worker);
    successor->withdrawn = true;
    pp__worker_place(successor);
    worker->pool->recycle_due = true;
}

void pp__recycle_gone(struct pp__worker *worker)
{
    if (worker->predecessor) {
        worker->predecessor->successor = NULL;
        worker->pool->recycle_due = true;
    }
    if (worker->successor && worker->seated)
        take_place(worker);
    else if (worker->successor)
        dismiss_successor(worker);
}

/*
 * Its successor is to be ready when the calls that are left have been run. That is looked at whenever half of them are
 * gone, so what counts is whether it would be too late the next time.
 */
void pp__recycle_look(struct pp__worker *worker)
{
    pp_pool *pool = worker->pool;
    uint64_t cost = pool->start_cost ? pool->start_cost : FIRST_COST;
    int64_t half = worker->budget / 2;
    if (worker->budget <= 0) {
        worker->withdrawn = true;
        worker->look_at = INT64_MIN;
    } else if ((uint64_t)half * pool->mean_run > 2 * cost && pool->mean_run > 0) {
        worker->look_at = half;
        return;
    } else {
        worker->look_at = 0;
    }
    worker->wants_successor = pool->recycle_due = true;
}

void pp__recycle_refund(struct pp__worker *worker, uint32_t calls)
{
    worker->budget += calls;
    if (worker->budget <= 0 || !worker->withdrawn || !worker->seated || worker->overgrown)
        return;
    worker->withdrawn = false;
    worker->look_at = 0;
    pp__worker_place(worker);
}

/* Where no process can be made beside it, the next one is made in its place. */
static void go_first(struct pp__worker *worker)
{
    if (!worker->withdrawn || worker->count > 0)
        return;
    pp__worker_unseat(worker);
    pp__worker_dismiss(worker);
}

static void start_successor(struct pp__worker *worker)
{
    pp_pool *pool = worker->pool;
    if (pool->shut && pool->pending_count == 0)
        return;               /* looked at again when the worker's calls go back */
    pool->recycle_due = true; /* until it is there */
    if (pool->leaving >= pool->max_workers)
        return;
    if (pool->start_after && pp__now() < pool->start_after) {
        go_first(worker);
        return;
    }
    int error = pp__worker_start_other(pool, worker->number, &worker->successor);
    if (error == 0) {
        worker->successor->predecessor = worker;
        return;
    }
    pp__pool_log(pool, "no successor of worker %d can be started: %s", worker->number, pp_last_error());
    pp__dispatch_start_failed(pool, -error);
}

/* One that can't be told yet, as calls that were taken back are in its way, is told later. */
static void hand_over(struct pp__worker *worker)
{
    pp__worker_dismiss(worker);
    if (worker->state == PP__WORKER_LEAVING)
        take_place(worker);
    else
        worker->pool->recycle_due = true;
}

static void go_on(struct pp__worker *worker)
{
    pp_pool *pool = worker->pool;
    if (worker->state != PP__WORKER_READY || pool->broken)
        return;
    if (!worker->seated) {
        if (worker->count == 0)
            pp__worker_dismiss(worker);
        pool->recycle_due |= worker->state == PP__WORKER_READY;
        return;
    }
    if (!worker->wants_successor)
        return;
    if (!worker->successor) {
        start_successor(worker);
        return;
    }
    if (worker->successor->state != PP__WORKER_NEXT)
        return;
    if (worker->overgrown && !worker->withdrawn) {
        worker->withdrawn = true;
        pp__worker_place(worker);
    }
    if (worker->withdrawn && worker->count == 0)
        hand_over(worker);
}

void pp__recycle(pp_pool *pool)
{
    pool->recycle_due = false;
    pp__workers_each(pool, go_on);
}

/* ------------------------------------------------------------------------------------------- leaving */

void pp__recycle_retire(struct pp__worker *worker)
{
    worker->withdrawn = true;
    pp__worker_unseat(worker); /* first: what is refunded to one with a place lets it go on */
    pp__worker_take_back_all(worker);
    pp__worker_stop_chunks(worker);
    if (worker->successor)
        dismiss_successor(worker);
    pp__worker_place(worker);
}

/* One that could be for nobody. The next death has another made, or the next worker. */
static uint64_t run_standby(pp_pool *pool, uint64_t now)
{
    if (!pool->standby || pool->alive > 0 || pool->pending_count > 0)
        return PP__NEVER;
    uint64_t due = pool->standby->free_at + pool->options.idle_timeout * PP__MILLISECOND;
    if (now < due)
        return due;
    pool->standby_kept = pool->options.standby == PP_STANDBY_ALWAYS;
    pp__worker_kill(pool->standby);
    return PP__NEVER;
}

/* Those in a list come from the one that was used last to the one that has been idle for longest. */
static uint64_t run_idle(pp_pool *pool, struct pp__link *idle, uint64_t now)
{
    while (!pp__list_empty(idle) && pool->alive > pool->options.min_workers) {
        struct pp__worker *worker = pp__container(idle->previous, struct pp__worker, place);
        uint64_t due = worker->free_at + pool->options.idle_timeout * PP__MILLISECOND;
        if (now < due)
            return due;
        pp__recycle_retire(worker);
    }
    return PP__NEVER;
}

uint64_t pp__recycle_run(pp_pool *pool, uint64_t now)
{
    uint64_t next = run_measures(pool, now);
    if (pool->options.idle_timeout == 0)
        return next;
    for (int i = 0; i < 2; i++) {
        uint64_t due = run_idle(pool, &pool->idle[i], now);
        next = due < next ? due : next;
    }
    uint64_t due = run_standby(pool, now);
    return due < next ? due : next;
}
