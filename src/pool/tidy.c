/* SPDX-License-Identifier: MIT */
#include "pool/tidy.h"

#include "base/clock.h"
#include "pool/output.h"
#include "pool/results.h"
#include "pool/send.h"
#include "pool/workers.h"

#define LOOK_EACH PP__SECOND

void pp__tidy_later(pp_pool *pool)
{
    if (pool->tidy_at == 0)
        pool->tidy_at = pp__now_coarse() + LOOK_EACH;
}

/* A worker that has calls may be about to publish a result in a buffer that it has: only of one without calls they are
 * given up. */
static bool tidy_worker(struct pp__worker *worker)
{
    bool left = false, dropped = false;
    if (worker->state != PP__WORKER_READY || worker->count > 0)
        return true;
    dropped |= pp__shelf_tidy(&worker->arguments, worker->call_side->discarded, &left);
    dropped |= pp__known_tidy(&worker->known, worker->call_side->forgotten, &left);
    dropped |= pp__results_tidy(worker->buffers, &left);
    left |= pp__output_tidy(worker);
    if (dropped)
        pp__worker_ring(worker); /* it does the same, and sleeps on */
    return left;
}

uint64_t pp__tidy(pp_pool *pool, uint64_t now)
{
    bool left = false;
    if (pool->tidy_at == 0 || now < pool->tidy_at)
        return pool->tidy_at ? pool->tidy_at : PP__NEVER;
    for (int i = 0; i < pool->places; i++)
        if (pool->workers[i])
            left |= tidy_worker(pool->workers[i]);
    pool->tidy_at = left ? now + LOOK_EACH : 0;
    return left ? pool->tidy_at : PP__NEVER;
}
