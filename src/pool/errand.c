/* SPDX-License-Identifier: MIT */
#include "pool/errand.h"

#include "base/error.h"
#include "base/seam.h"
#include "pool/end.h"
#include "pool/log.h"
#include "pool/workers.h"
#include "process/launcher.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* One for each worker that was invited: first its start is run, and then, when the worker is gone, its stop. */
struct pp__errand {
    struct pp__link link;      /* in the pool's errands, or nowhere */
    struct pp__worker *worker; /* NULL: it is gone */
    bool started;              /* start is run, or was; without it there is nothing to be stopped */
    bool running;              /* start is run just now: whoever does so goes on with it */
    int number;
    char invitation[PP__INVITATION_MAX];
};

static void queue(pp_pool *pool, struct pp__errand *errand)
{
    pp__list_insert(&pool->errands, &errand->link);
    pp__log_wake(pool);
}

/* It ends by the zygote's report, which then is that of a start that failed. */
static void fail_start(struct pp__worker *worker, int error)
{
    worker->start_error = error;
    pp__worker_kill(worker);
}

void pp__errand_start(struct pp__worker *worker, const struct pp__report *report)
{
    if (worker->state == PP__WORKER_KILLED || worker->errand)
        return;
    struct pp__errand *errand = PP_SYS(malloc)(sizeof *errand);
    if (!errand) {
        fail_start(worker, ENOMEM);
        return;
    }
    *errand = (struct pp__errand){.worker = worker, .number = worker->number};
    memcpy(errand->invitation, report->invitation, sizeof errand->invitation - 1);
    worker->errand = errand;
    queue(worker->pool, errand);
}

void pp__errand_stop(struct pp__worker *worker)
{
    struct pp__errand *errand = worker->errand;
    if (!errand)
        return;
    errand->worker = NULL;
    worker->errand = NULL;
    if (errand->running)
        return;
    pp__list_remove(&errand->link);
    if (errand->started)
        queue(worker->pool, errand);
    else
        free(errand);
}

/* 0 or the errno of a start that has failed. */
static int run_start(pp_pool *pool, struct pp__errand *errand)
{
    errand->started = errand->running = true;
    pthread_mutex_unlock(&pool->lock);
    int code = pool->starter.start(pool->starter.context, errand->invitation, errand->number);
    pthread_mutex_lock(&pool->lock);
    errand->running = false;
    return code < 0 ? -code : 0;
}

static void run_stop(pp_pool *pool, struct pp__errand *errand)
{
    if (pool->starter.stop) {
        pthread_mutex_unlock(&pool->lock);
        pool->starter.stop(pool->starter.context, errand->invitation, errand->number);
        pthread_mutex_lock(&pool->lock);
    }
    free(errand);
}

/* A worker that came though its start has failed is one all the same, for which nothing is to be stopped. */
static void start_worker(pp_pool *pool, struct pp__errand *errand)
{
    int error = run_start(pool, errand);
    struct pp__worker *worker = errand->worker;
    if (!error && !worker)
        run_stop(pool, errand);
    if (!error)
        return;
    if (worker)
        worker->errand = NULL;
    if (worker && worker->pid == 0)
        fail_start(worker, error);
    free(errand);
}

bool pp__errand_run(pp_pool *pool)
{
    if (pp__list_empty(&pool->errands))
        return false;
    struct pp__errand *errand = pp__container(pool->errands.next, struct pp__errand, link);
    pp__list_remove(&errand->link);
    if (errand->started)
        run_stop(pool, errand);
    else
        start_worker(pool, errand);
    return true;
}

void pp__errands_free(pp_pool *pool)
{
    while (!pp__list_empty(&pool->errands)) {
        struct pp__errand *errand = pp__container(pool->errands.next, struct pp__errand, link);
        pp__list_remove(&errand->link);
        free(errand);
    }
}
