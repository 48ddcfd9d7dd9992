/* SPDX-License-Identifier: MIT */
#include "pool/workers.h"

#include "base/atomic.h"
#include "base/cancel.h"

void pp__worker_enlist(struct pp__worker *worker)
{
    pp__list_insert(&worker->pool->others, &worker->other);
    worker->pool->others_count++;
}

/* What the pool counts of it by its state. */
static void count_state(const struct pp__worker *worker, int change)
{
    pp_pool *pool = worker->pool;
    if (worker->state == PP__WORKER_STARTING)
        *(worker->seated ? &pool->starting : &pool->coming) += change;
    pool->leaving += worker->state == PP__WORKER_LEAVING ? change : 0;
}

void pp__worker_set_state(struct pp__worker *worker, enum pp__worker_state state)
{
    count_state(worker, -1);
    worker->state = state;
    count_state(worker, 1);
}

void pp__worker_seat(struct pp__worker *worker)
{
    pp_pool *pool = worker->pool;
    count_state(worker, -1);
    pp__list_remove(&worker->other);
    pool->others_count--;
    pool->workers[worker->number] = worker;
    pool->alive++;
    worker->seated = true;
    count_state(worker, 1);
}

void pp__worker_unseat(struct pp__worker *worker)
{
    count_state(worker, -1);
    worker->pool->workers[worker->number] = NULL;
    worker->pool->alive--;
    worker->seated = false;
    count_state(worker, 1);
    pp__worker_enlist(worker);
}

void pp__workers_each(pp_pool *pool, void (*act)(struct pp__worker *))
{
    for (struct pp__link *link = pool->others.next, *next; link != &pool->others; link = next) {
        next = link->next;
        act(pp__container(link, struct pp__worker, other));
    }
    for (int i = 0; i < pool->places; i++)
        if (pool->workers[i])
            act(pool->workers[i]);
}

struct pp__worker *pp__worker_by_serial(pp_pool *pool, uint64_t serial)
{
    uint64_t number = (serial - PP__TAG_LAST) % PP__MAX_WORKERS;
    if (serial <= PP__TAG_LAST || number >= (uint64_t)pool->places)
        return NULL;
    struct pp__worker *worker = pool->workers[number];
    if (worker && worker->serial == serial)
        return worker;
    for (struct pp__link *link = pool->others.next; link != &pool->others; link = link->next) {
        worker = pp__container(link, struct pp__worker, other);
        if (worker->serial == serial)
            return worker;
    }
    return NULL;
}

/* One that was a standby has another serial. */
struct pp__worker *pp__worker_by_birth(pp_pool *pool, uint64_t birth)
{
    struct pp__worker *worker = pp__worker_by_serial(pool, birth);
    if (worker)
        return worker;
    for (struct pp__link *link = pool->others.next; link != &pool->others; link = link->next) {
        worker = pp__container(link, struct pp__worker, other);
        if (worker->birth == birth)
            return worker;
    }
    for (int i = 0; i < pool->places; i++)
        if (pool->workers[i] && pool->workers[i]->birth == birth)
            return pool->workers[i];
    return NULL;
}

/* With the owner's own thread they must not be more than there are processors. */
void pp__worker_allow_spin(pp_pool *pool)
{
    uint64_t spin = pool->busy < pool->processors ? 2 * pool->wake_cost : 0;
    if (pool->page && pp__load_relaxed(&pool->page->spin) != spin)
        pp__store_relaxed(&pool->page->spin, (uint32_t)spin); /* a hint */
}

void pp__worker_place(struct pp__worker *worker)
{
    bool idle = worker->state == PP__WORKER_READY && worker->count == 0 && worker->stuck_end == 0 && !worker->withdrawn;
    if (worker->withdrawn)
        worker->pool->recycle_due = true;
    if (idle == worker->idle)
        return;
    worker->idle = idle;
    pp__list_remove(&worker->place);
    pp__list_insert(idle ? worker->pool->idle[!worker->spins].next : &worker->pool->active, &worker->place);
}

/* It does not look at the worker yet that has a call now. */
__attribute__((noinline)) static void show_spinner(pp_pool *pool)
{
    PP__NO_CANCELLATION(); /* pp__dispatch_single comes by here */
    pp__wait_look(pool);
}

void pp__worker_count_busy(struct pp__worker *worker, int change)
{
    pp_pool *pool = worker->pool;
    pool->busy += change;
    pp__worker_place(worker);
    pp__worker_allow_spin(pool);
    if (change > 0 && pool->collector.spinning)
        show_spinner(pool);
}
