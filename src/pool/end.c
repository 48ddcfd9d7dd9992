/* SPDX-License-Identifier: MIT */
#include "pool/end.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/seam.h"
#include "pool/argument.h"
#include "pool/backtrace.h"
#include "pool/dispatch.h"
#include "pool/errand.h"
#include "pool/finalized.h"
#include "pool/function.h"
#include "pool/glance.h"
#include "pool/output.h"
#include "pool/recycle.h"
#include "pool/results.h"
#include "pool/send.h"
#include "pool/standby.h"
#include "pool/take_back.h"
#include "process/launcher.h"
#include "shm/segment.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>

/* --------------------------------------------------------------------------------------------- kill */

void pp__worker_kill(struct pp__worker *worker)
{
    pp_pool *pool = worker->pool;
    pp__worker_set_state(worker, PP__WORKER_KILLED);
    pp__worker_place(worker);
    if (pool->standby == worker)
        pp__standby_give_up(pool);
    if (!worker->kill_asked && pool->connection >= 0)
        worker->kill_asked = pp__launcher_kill(pool->connection, worker->birth) == 0;
}

void pp__worker_terminate(struct pp__worker *worker)
{
    worker->doomed = true;
    if (worker->state != PP__WORKER_KILLED && worker->pool->connection >= 0)
        worker->owes_term = pp__launcher_terminate(worker->pool->connection, worker->birth) == -EAGAIN;
}

void pp__worker_poison(struct pp__worker *worker, const char *what)
{
    if (worker->poisoned)
        return;
    worker->poisoned = true;
    snprintf(worker->poison, sizeof worker->poison, "%s", what);
    pp__pool_log(worker->pool, "worker %d wrote garbage into the channel (%s) and is killed", worker->number, what);
    pp__worker_take_back_all(worker);
    pp__worker_kill(worker);
}

/* A call that was not begun by its deadline has not failed: it goes to others. */
void pp__worker_kill_call(struct pp__worker *worker, struct pp__item *item)
{
    if (pp__worker_unbegun(worker, item)) {
        pp__worker_give_up(worker);
        return;
    }
    if (!pp__worker_corner(worker, item))
        return;
    item->timed_out = true;
    pp__worker_kill(worker);
}

void pp__worker_kill_on_request(struct pp__worker *worker, struct pp__item *item)
{
    if (worker->state != PP__WORKER_KILLED && pp__worker_corner(worker, item))
        pp__worker_kill(worker);
    if (item->worker == worker)
        worker->doomed = true; /* also if it is being killed already, for a timeout or for garbage */
}

void pp__worker_dismiss(struct pp__worker *worker)
{
    const pp_pool_options *options = &worker->pool->options;
    pp__slot_give(&worker->result_side->leave, PP__LEAVE_ID); /* for take_leave (worker.c), with the record */
    int error = pp__worker_send_duty(worker, PP__RECORD_LEAVE, options->finalizer, options->finalizer_arg,
                                     options->finalizer_arg_size);
    if (error == -EAGAIN) { /* records of calls taken back are still in its ring: when it has passed them */
        if (worker->stuck_end == 0)
            pp__worker_note_stuck(worker);
        return;
    }
    if (error) {
        pp__pool_log(worker->pool, "worker %d gets no finalizer: %s", worker->number, pp_last_error());
        if (pp__worker_send_duty(worker, PP__RECORD_LEAVE, NULL, NULL, 0) != 0)
            return;
    }
    worker->finalizes = options->finalizer != NULL && error == 0;
    pp__worker_set_state(worker, PP__WORKER_LEAVING);
    if (worker->seated)
        pp__worker_unseat(worker);
    pp__worker_place(worker);
    worker->free_at = pp__now();
    pp__worker_wake(worker);
}

/* ------------------------------------------------------------------------------------------- the end */

static void unlist(struct pp__worker *worker)
{
    pp_pool *pool = worker->pool;
    pp__worker_set_state(worker, PP__WORKER_KILLED);
    pp__list_remove(&worker->place);
    pp__list_remove(&worker->unwoken);
    if (worker->seated)
        pool->workers[worker->number] = NULL;
    pool->alive -= worker->seated;
    pool->others_count -= !worker->seated;
    pp__list_remove(&worker->other);
    pp__recycle_gone(worker);
    pool->unreported -= worker->birth != 0 && worker->pid == 0;
    if (pool->standby == worker)
        pool->standby = NULL;
    if (pool->dealt_to == worker)
        pool->dealt_to = NULL;
    pp__errand_stop(worker);
    pp__argument_evacuate(worker);
}

/* Closing is not enough: a child that the host forked may have a copy. */
static void close_watched(const pp_pool *pool, int fd)
{
    if (fd >= 0)
        PP_SYS(epoll_ctl)(pool->epoll, EPOLL_CTL_DEL, fd, NULL);
    pp__fd_close(fd);
}

static void dispose(struct pp__worker *worker)
{
    close_watched(worker->pool, worker->bell);
    close_watched(worker->pool, worker->socket);
    pp__output_close(worker);
    pp__results_close(worker->buffers);
    pp__shelf_destroy(&worker->arguments);
    pp__segment_unmap(worker->call_side, sizeof *worker->call_side);
    pp__glance_vacate(worker);
    free(worker->knows);
    free(worker);
}

void pp__worker_free(struct pp__worker *worker)
{
    unlist(worker);
    dispose(worker);
}

void pp__workers_dispose(pp_pool *pool)
{
    while (!pp__list_empty(&pool->dead)) {
        struct pp__worker *worker = pp__container(pool->dead.next, struct pp__worker, place);
        pp__list_remove(&worker->place);
        dispose(worker);
    }
}

static void describe_end(const struct pp__worker *worker, char *text, size_t size, int code, int status)
{
    if (worker->poisoned)
        snprintf(text, size, "wrote garbage into the channel (%s)", worker->poison);
    else if (worker->out_of_memory)
        snprintf(text, size, "was killed by signal %d (%s) by the kernel, for memory ran out", status,
                 strsignal(status));
    else
        pp__launcher_describe_end(code, status, text, size);
}

/* Fails the running element, or lets it be tried again. The rest of a chunk goes on elsewhere. */
static void end_running(struct pp__worker *worker, struct pp__item *item, pp_error *error)
{
    pp_pool *pool = worker->pool;
    pp__worker_detach(worker, item);
    if (item->tries <= item->retries && !worker->doomed && !item->stopping) {
        item->earlier = error;
        item->timed_out = false;
        pp__pending_insert(pool, item);
        return;
    }
    if (!pp__item_deliver(item, 1, (struct pp__outcome){.code = error->code, .error = error}))
        pp__pending_insert(pool, item);
}

static pp_error *make_error(struct pp__worker *worker, struct pp__item *item, uint64_t begun_at, int code, int status,
                            const char *how)
{
    uint64_t run_time = pp__now() - begun_at;
    item->tries++;
    if (item->timed_out)
        return pp__item_error(item, PP_ERROR_TIMEOUT, 0, worker, run_time,
                              "outlived its timeout of %u ms; worker %d was killed", item->timeout, worker->number);
    if (worker->poisoned)
        return pp__item_error(item, PP_ERROR_PROTOCOL, 0, worker, run_time, "its worker %d %s and was killed",
                              worker->number, how);
    bool requested = worker->doomed && code == CLD_KILLED && (status == SIGKILL || status == SIGTERM);
    pp_error *error = pp__item_error(item, PP_ERROR_CRASH, 0, worker, run_time, "its worker %d %s", worker->number,
                                     requested ? "was killed on request" : how);
    if (pp__error_is_own(error)) {
        error->signal = code == CLD_EXITED ? 0 : status;
        error->status = code == CLD_EXITED ? status : -1;
        error->out_of_memory = worker->out_of_memory;
        pp__error_crashed(error, worker);
    }
    return error;
}

/* Of elements that were begun together one runs, and those behind it have not. */
static bool has_started(const struct pp__worker *worker, const struct pp__item *item)
{
    return pp__item_count(item) == 1 || pp__load_relaxed(&worker->result_side->started) == pp__item_next_id(item);
}

/* What a worker that is gone had in hand: what it had not begun goes back; what it ran, or may have run, has died with
 * it. True: something had. */
static bool bury(struct pp__worker *worker, int code, int status, const char *how)
{
    bool died = false;
    pp__worker_take_back_all(worker);
    while (worker->count > 0) {
        struct pp__item *item = pp__container(worker->items.next, struct pp__item, link);
        uint64_t word = pp__worker_slot_word(worker, item), next = pp__item_next_id(item);
        bool between = (pp__item_next(item) > 0 && word >> 2 == next - 1) || !has_started(worker, item);
        uint64_t id, begun_at = worker->free_at;
        pp__worker_running(worker, &id, &begun_at);
        if (pp__worker_unbegun(worker, item) || (between && !worker->poisoned)) {
            pp__worker_detach(worker, item);
            pp__pending_insert(worker->pool, item);
            continue;
        }
        died = true;
        pp__output_salvage(worker, item);
        end_running(worker, item, make_error(worker, item, begun_at, code, status, how));
    }
    return died;
}

static void count_death(pp_pool *pool, int number, const char *how, bool ready)
{
    int limit = 2 * pool->max_workers > 3 ? 2 * pool->max_workers : 3;
    if (++pool->deaths >= limit)
        pp__pool_break(pool, 0, "%d workers in a row ended outside a call; the last, worker %d, %s%s", pool->deaths,
                       number, how, ready ? "" : " before it was ready for calls");
}

void pp__worker_ended(struct pp__worker *worker, int code, int status)
{
    pp_pool *pool = worker->pool;
    char how[192];
    describe_end(worker, how, sizeof how, code, status);
    bool bidden = worker->left || worker->doomed || (worker->state == PP__WORKER_KILLED && !worker->poisoned);
    bool ready = worker->state != PP__WORKER_STARTING, left = worker->left;
    int number = worker->number, want = worker->want;
    if (number < 0) {
        pp__standby_lost(worker, bidden ? NULL : how);
        return;
    }
    if (!left)
        pp__pool_log(pool, "worker %d (pid %d) %s%s", number, (int)worker->pid, how, bidden ? ", as asked" : "");
    if (worker->finalizes)
        pp__finalized_lost(worker, code, status, how);
    uint64_t id, begun_at;
    struct pp__item *running = pp__worker_running(worker, &id, &begun_at);
    if (running && !has_started(worker, running))
        running = NULL;
    bool expected = running && (running->timed_out || worker->doomed);
    if (running && !expected && pool->options.on_crash == PP_BREAK_POOL && !pool->broken)
        pp__pool_break(pool, 0, "worker %d %s while it ran call %llu, %s", number, how, (unsigned long long)id,
                       running->function->name);
    bool died = !pool->broken && bury(worker, code, status, how);
    unlist(worker);
    pp__list_insert(&pool->dead, &worker->place); /* whose call has failed does not wait for what it leaves behind */
    if (want)
        pp__dispatch_start_failed(pool, want);
    if (died)
        pool->deaths = 0;
    else if (!bidden && !pool->broken)
        count_death(pool, number, how, ready);
    if (!left)
        pp__standby_keep(pool);
}

void pp__worker_give_back(struct pp__worker *worker, int error)
{
    pp__pool_log(worker->pool, "worker %d can't get ready: %s", worker->number, pp__strerror(error));
    worker->want = error;
    pp__worker_kill(worker);
}

void pp__worker_failed(struct pp__worker *worker, int error)
{
    pp_pool *pool = worker->pool;
    if (worker->number < 0) {
        pp__standby_lost(worker, pp__strerror(error));
        return;
    }
    pp__pool_log(pool, "worker %d can't be started: %s", worker->number, pp__why_no_process(error));
    pp__worker_free(worker);
    pp__dispatch_start_failed(pool, error);
}
