/* SPDX-License-Identifier: MIT */
#include "pool/standby.h"

#include "base/clock.h"
#include "base/error.h"
#include "pool/end.h"
#include "pool/send.h"
#include "pool/start.h"

#include <errno.h>

/* So much later than it was found missing. Deaths in a row do not leave it the time: where one was to be made so short
 * a time ago, at once. */
#define MOMENT (200 * PP__MICROSECOND)
#define IN_A_ROW (2 * PP__MILLISECOND)

void pp__standby_consider(pp_pool *pool)
{
    if (!pool->standby_kept || pool->standby || pool->standby_wanted || pool->shut || pool->broken)
        return;
    uint64_t now = pp__now();
    bool in_a_row = (int64_t)(now - pool->standby_at) < (int64_t)IN_A_ROW;
    pool->standby_wanted = true;
    pool->standby_at = in_a_row ? now : now + MOMENT;
    pp__wait_call_manager(pool);
}

/* Calls that wait need a worker first: when that is ready, this is considered again. */
void pp__standby_keep(pp_pool *pool)
{
    if (pool->options.standby == PP_STANDBY_NEVER)
        return;
    pool->standby_kept = true;
    if (pool->pending_count == 0)
        pp__standby_consider(pool);
}

uint64_t pp__standby_due(const pp_pool *pool)
{
    return pool->standby_wanted ? pool->standby_at : PP__NEVER;
}

/* Whether there is still a use for it, after the lock was released. */
static bool is_useful(const pp_pool *pool)
{
    return !pool->shut && !pool->broken && !pool->ended && !pool->standby && pool->connection >= 0;
}

/* Nobody knows of the worker before it is enlisted. */
void pp__standby_make(pp_pool *pool)
{
    int fds[PP__FD_COUNT] = {-1, -1, -1, -1, -1};
    pool->standby_wanted = false;
    pp__workers_dispose(pool); /* it may need their descriptors */
    struct pp__worker *worker = is_useful(pool) ? pp__worker_create(pool) : NULL;
    if (!worker)
        return;
    pp__pool_unlock(pool);
    int error = pp__worker_open_channel(worker, fds);
    pp__pool_lock(pool);
    pp__worker_enlist(worker);
    bool useful = is_useful(pool);
    if (!error && useful)
        error = pp__worker_launch(worker, fds);
    pp__worker_close_fds(fds);
    if (!error && useful)
        pool->standby = worker;
    else
        pp__standby_lost(worker, useful ? pp__strerror(-error) : NULL);
}

int pp__standby_take(pp_pool *pool, int number, struct pp__worker **taken)
{
    struct pp__worker *worker = pool->standby;
    pool->standby = NULL;
    if (pool->options.capture)
        pp__workers_dispose(pool); /* its files may need their descriptors */
    int error = pp__worker_begin(worker, number);
    if (error) {
        pp__worker_kill(worker);
        return error;
    }
    worker->graced_at = 0;
    if (worker->pid != 0)
        pp__pool_log(pool, "worker %d started (pid %d)", number, (int)worker->pid);
    pp__worker_wake(worker); /* for the initializer */
    *taken = worker;
    return 0;
}

/* From now on its end is looked after as that of all that are killed. */
void pp__standby_give_up(pp_pool *pool)
{
    pp__list_insert(&pool->active, &pool->standby->place);
    pool->standby = NULL;
}

/* The next death has another one made: one that can't be had is not asked for again and again. */
void pp__standby_lost(struct pp__worker *worker, const char *how)
{
    if (how)
        pp__pool_log(worker->pool, "there is no standby worker: %s", how);
    pp__worker_free(worker);
}
