/* SPDX-License-Identifier: MIT */
#include "pool/start.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/seam.h"
#include "pool/end.h"
#include "pool/glance.h"
#include "pool/output.h"
#include "pool/recycle.h"
#include "pool/results.h"
#include "pool/send.h"
#include "pool/setting.h"
#include "pool/standby.h"
#include "process/launcher.h"
#include "shm/segment.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

int pp__worker_open_channel(struct pp__worker *worker, int fds[PP__FD_COUNT])
{
    void *memory;
    fds[PP__FD_CALL] = pp__segment_create("procpool-calls", sizeof *worker->call_side, true, &memory);
    if (fds[PP__FD_CALL] < 0)
        return fds[PP__FD_CALL];
    worker->call_side = memory;
    fds[PP__FD_RESULT] = pp__segment_create("procpool-results", sizeof *worker->result_side, false, &memory);
    if (fds[PP__FD_RESULT] < 0)
        return fds[PP__FD_RESULT];
    worker->result_side = memory;
    int error = pp__glance_settle(worker);
    if (error)
        return error;
    pp__doorbell_init(&worker->call_side->bell, &worker->rung);
    worker->call_side->magic = PP__MAGIC;
    worker->call_side->version = PP__VERSION;
    worker->call_side->size = sizeof *worker->call_side;
    pp__ring_writer_init(&worker->calls, worker->call_side->calls, PP__RING_BYTES, &worker->call_side->call_tail,
                         &worker->result_side->call_head, 0);
    pp__ring_reader_init(&worker->results, worker->result_side->results, PP__RING_BYTES,
                         &worker->result_side->result_tail, &worker->call_side->result_head, 0);
    worker->buffers = pp__results_create(worker->call_side->returned);
    if (!worker->buffers)
        return -ENOMEM;
    worker->bell = pp__fd_event();
    if (worker->bell < 0)
        return worker->bell;
    int pair[2];
    error = pp__fd_socketpair(pair);
    if (error)
        return error;
    worker->socket = pair[0];
    fds[PP__FD_BELL] = worker->bell;
    fds[PP__FD_SOCKET] = pair[1];
    return 0;
}

struct pp__worker *pp__worker_create(pp_pool *pool)
{
    struct pp__worker *worker = PP_SYS(calloc)(1, sizeof *worker);
    if (!worker)
        return NULL;
    worker->site = pp__glance_site(pool);
    if (!worker->site) {
        free(worker);
        return NULL;
    }
    worker->pool = pool;
    worker->number = -1;
    worker->state = PP__WORKER_STANDBY;
    worker->free_at = pp__now();
    worker->outlasted = worker->graced = UINT64_MAX;
    worker->bell = worker->socket = worker->output[0] = worker->output[1] = -1;
    pp__list_init(&worker->items);
    pp__list_init(&worker->unwoken);
    pp__list_init(&worker->place);
    pp__list_init(&worker->other);
    pp__shelf_init(&worker->arguments, &pool->page->shelf_most, NULL);
    return worker;
}

static struct pp__worker_plan plan_of(const struct pp__worker *worker)
{
    const struct pp__setting *setting = worker->pool->setting;
    return (struct pp__worker_plan){.seed = worker->pool->options.seed,
                                    .number = worker->number,
                                    .spins = worker->spins,
                                    .traces = worker->pool->options.backtraces,
                                    .stays = setting && setting->processor_count > 0};
}

static uint64_t new_serial(pp_pool *pool, int number)
{
    return PP__TAG_LAST + (++pool->next_serial * PP__MAX_WORKERS + (uint64_t)number);
}

/* A process that was made without a number is told by a record; it is published with the next one. */
static int send_number(struct pp__worker *worker)
{
    struct pp__worker_plan plan = plan_of(worker);
    void *payload = pp__ring_reserve(&worker->calls, PP__RECORD_NUMBER, 0, sizeof plan);
    if (payload)
        memcpy(payload, &plan, sizeof plan);
    return payload ? 0 : -EAGAIN;
}

static int send_setting(struct pp__worker *worker)
{
    const struct pp__setting *setting = worker->pool->setting;
    void *payload = pp__ring_reserve(&worker->calls, PP__RECORD_SETTING, (uint64_t)worker->number, setting->size);
    if (payload)
        memcpy(payload, setting, setting->size);
    return payload ? 0 : -EAGAIN;
}

static int listen_for(const struct pp__worker *worker, int fd, uint32_t events, uint64_t tag)
{
    struct epoll_event event = {.events = events, .data.u64 = tag};
    if (PP_SYS(epoll_ctl)(worker->pool->epoll, EPOLL_CTL_ADD, fd, &event) != 0)
        return pp__fail_errno(errno, "epoll_ctl");
    return 0;
}

/* By edges: each ring is told once, and its bell is never read, which would be one more system call for each sleep. A
 * process that ends hangs up somewhat before its parent is told of its end. */
static int listen_to(struct pp__worker *worker)
{
    int error = listen_for(worker, worker->bell, EPOLLIN | EPOLLET, worker->serial);
    return error ? error : listen_for(worker, worker->socket, EPOLLRDHUP | EPOLLET, worker->serial | PP__TAG_HANG_UP);
}

/* Its process is there, so that nothing is left to be waited for. */
static bool needs_nothing(const struct pp__worker *worker)
{
    const pp_pool *pool = worker->pool;
    return worker->pid != 0 && !pool->options.initializer && !pool->setting && !pool->options.capture;
}

int pp__worker_begin(struct pp__worker *worker, int number)
{
    pp_pool *pool = worker->pool;
    const pp_pool_options *options = &pool->options;
    int error = 0;
    worker->number = number;
    worker->serial = new_serial(pool, number);
    worker->spins = number < pool->processors - 1;
    worker->free_at = pp__now();
    pp__recycle_begin(worker);
    pp__list_insert(&pool->active, &worker->place);
    pp__worker_set_state(worker, PP__WORKER_STARTING);
    if (worker->birth)
        error = send_number(worker);
    if (!error && pool->setting)
        error = send_setting(worker);
    if (!error && options->capture)
        error = pp__output_order(worker);
    if (!error)
        error = listen_to(worker);
    if (error || needs_nothing(worker))
        return error;
    return pp__worker_send_duty(worker, PP__RECORD_INIT, options->initializer, options->initializer_arg,
                                options->initializer_arg_size);
}

int pp__worker_launch(struct pp__worker *worker, int fds[PP__FD_COUNT])
{
    pp_pool *pool = worker->pool;
    struct pp__worker_plan data = plan_of(worker);
    worker->birth = worker->serial ? worker->serial : new_serial(pool, 0);
    struct pp__plan plan = {.serial = worker->birth, .stack_size = pool->options.stack_size, .size = sizeof data};
    snprintf(plan.name, sizeof plan.name, worker->number < 0 ? "pp-standby" : PP__WORKER_NAME, worker->number);
    memcpy(plan.data, &data, sizeof data);
    fds[PP__FD_PAGE] = pool->page_fd;
    pool->unreported++;
    return pp__launcher_start(pool->connection, &plan, fds, PP__FD_COUNT);
}

void pp__worker_close_fds(const int fds[PP__FD_COUNT])
{
    pp__fd_close(fds[PP__FD_CALL]);
    pp__fd_close(fds[PP__FD_RESULT]);
    pp__fd_close(fds[PP__FD_SOCKET]);
}

int pp__worker_start_other(pp_pool *pool, int number, struct pp__worker **started)
{
    int fds[PP__FD_COUNT] = {-1, -1, -1, -1, -1};
    pp__workers_dispose(pool); /* it may need their descriptors */
    struct pp__worker *worker = pp__worker_create(pool);
    if (!worker)
        return pp__fail(-ENOMEM, "no memory for a worker");
    int error = pp__worker_open_channel(worker, fds);
    pp__worker_enlist(worker);
    if (!error)
        error = pp__worker_begin(worker, number);
    if (!error)
        error = pp__worker_launch(worker, fds);
    pp__worker_close_fds(fds);
    if (error)
        pp__worker_free(worker);
    else
        *started = worker;
    return error;
}

int pp__worker_start(pp_pool *pool)
{
    struct pp__worker *worker;
    int number = 0;
    while (pool->workers[number])
        number++;
    int error = pool->standby ? pp__standby_take(pool, number, &worker) : pp__worker_start_other(pool, number, &worker);
    if (error)
        return error;
    pp__worker_seat(worker);
    if (needs_nothing(worker))
        pp__worker_is_ready(worker);
    return 0;
}

void pp__worker_is_ready(struct pp__worker *worker)
{
    pp_pool *pool = worker->pool;
    pp__worker_set_state(worker, worker->predecessor ? PP__WORKER_NEXT : PP__WORKER_READY);
    pp__recycle_ready(worker);
    pp__worker_place(worker);
    pool->start_pause = pool->start_after = pool->failing_since = 0;
    pp__standby_consider(pool);
}
