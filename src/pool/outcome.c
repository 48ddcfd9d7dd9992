/* SPDX-License-Identifier: MIT */
/*
 * From one worker's result ring to outcomes: where a result becomes a future's. All of it lies in memory that the
 * worker can write: it is copied, then checked, then used. All under the pool's lock.
 */
#include "pool/collect.h"

#include "base/atomic.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/seam.h"
#include "pool/argument.h"
#include "pool/backtrace.h"
#include "pool/block.h"
#include "pool/descriptors.h"
#include "pool/dispatch.h"
#include "pool/end.h"
#include "pool/finalized.h"
#include "pool/future.h"
#include "pool/output.h"
#include "pool/results.h"
#include "pool/send.h"
#include "pool/start.h"
#include "pool/tidy.h"
#include "pool/wish.h"
#include "pool/workers.h"

#include <errno.h>
#include <string.h>

/* A run time below this is not compared with the clock (plausible). */
#define BELIEVED (10 * PP__MILLISECOND)

/* ------------------------------------------------------------------------------------- large and small */

/* A result that came in the record: copied out of the ring. */
static inline struct pp__outcome small_result(struct pp__worker *worker, struct pp__item *item, const void *payload,
                                              size_t size)
{
    void *data = pp__item_room(item, size);
    if (data)
        ((char *)data)[size] = 0;
    else
        data = pp__block_allocate(size);
    if (!data) {
        pp_error *error =
            pp__item_error(item, PP_ERROR_TRAVEL, -ENOMEM, worker, 0, "no memory for its result of %zu bytes", size);
        return (struct pp__outcome){.code = error->code, .error = error};
    }
    pp__shm_copy(data, payload, size);
    return (struct pp__outcome){.data = data, .size = size};
}

/* What came ahead of a result's record. */
struct arrival {
    int fd; /* of the payload; -1: it brought none */
    uint64_t size;
    struct pp__descriptors *back; /* NULL: none */
};

static void close_arrival(struct arrival *arrival)
{
    pp__fd_close(arrival->fd);
    pp__descriptors_free(arrival->back);
}

/* Only a call's result has some beside it. */
static int receive_beside(struct pp__worker *worker, const struct pp__item *item, uint32_t count, int *fd,
                          struct arrival *arrival)
{
    int fds[PP_MAX_DESCRIPTORS];
    if (!item->in_future || count > PP_MAX_DESCRIPTORS)
        return -EPROTO;
    int error = pp__ahead_receive(worker->socket, pp__item_next_id(item), &arrival->size, fd, fds, count);
    if (error)
        return error;
    arrival->back = pp__descriptors_keep(fds, count);
    return arrival->back ? 0 : pp__fail(-ENOMEM, "no memory for its descriptors");
}

/* -EPROTO poisons; other errors fail this call alone. */
static int receive_ahead(struct pp__worker *worker, const struct pp__item *item, uint32_t flags,
                         struct arrival *arrival)
{
    int *fd = pp__flags_bring_payload(flags) ? &arrival->fd : NULL;
    uint32_t count = pp__flags_count(flags);
    if (count > 0)
        return receive_beside(worker, item, count, fd, arrival);
    return fd ? pp__ahead_receive(worker->socket, pp__item_next_id(item), &arrival->size, fd, NULL, 0) : 0;
}

/* A result in a memfd of its own. */
static int open_single(const pp_pool *pool, const struct arrival *arrival, uint64_t size, void **data)
{
    pp__shelf_widen(&pool->page->shelf_most, size, pool->max_workers);
    return arrival->size == size && size < PTRDIFF_MAX / 2 ? pp__block_open(arrival->fd, size, data) : -EPROTO;
}

/* In a buffer, which is in its place from then on if it is a new one; `error` says that what came ahead is lost. */
static int open_kept(struct pp__worker *worker, const struct pp__result_record *header, const struct arrival *arrival,
                     int error, void **data)
{
    uint32_t place = pp__flags_place(header->flags);
    if (place >= PP__PLACES)
        return -EPROTO;
    pp__tidy_later(worker->pool);
    if (!error && header->flags & PP__FRESH)
        error = pp__results_receive(worker->buffers, place, arrival->fd, arrival->size);
    if (error)
        pp__results_refuse(worker->buffers, place);
    return error ? error : pp__results_open(worker->buffers, place, header->size, data);
}

static int open_large(struct pp__worker *worker, const struct pp__result_record *header, const struct arrival *arrival,
                      int error, void **data)
{
    if (header->flags & PP__KEPT)
        return open_kept(worker, header, arrival, error, data);
    return error ? error : open_single(worker->pool, arrival, header->size, data);
}

static struct pp__outcome not_received(struct pp__worker *worker, struct pp__item *item, int error, uint64_t size)
{
    pp_error *e =
        pp__item_error(item, PP_ERROR_TRAVEL, error, worker, 0, "its result of %llu bytes can't be received: %s",
                       (unsigned long long)size, pp_last_error());
    return (struct pp__outcome){.code = e->code, .error = e};
}

/* A result that does not lie in its record, or has descriptors beside it. */
static int result_ahead(struct pp__worker *worker, struct pp__item *item, const struct pp__result_record *header,
                        const void *payload, size_t size, struct pp__outcome *outcome)
{
    struct arrival arrival = {.fd = -1};
    void *data = NULL;
    bool big = header->flags & PP__BIG;
    int error = receive_ahead(worker, item, header->flags, &arrival);
    if (big && error != -EPROTO)
        error = open_large(worker, header, &arrival, error, &data);
    if (error == -EPROTO) {
        close_arrival(&arrival);
        return error;
    }
    if (error)
        *outcome = not_received(worker, item, error, header->size);
    else
        *outcome =
            big ? (struct pp__outcome){.data = data, .size = header->size} : small_result(worker, item, payload, size);
    if (!outcome->code && arrival.back) {
        pp__descriptors_bring_back(item, arrival.back);
        arrival.back = NULL;
    }
    close_arrival(&arrival);
    return 0;
}

static void copy_message(char text[PP__MESSAGE_MAX + 1], const void *payload, size_t size)
{
    size = size < PP__MESSAGE_MAX ? size : PP__MESSAGE_MAX;
    pp__shm_copy(text, payload, size);
    text[size] = 0;
}

/* What of a failure's payload is a trace, before the message. */
static size_t trace_size(const struct pp__result_record *header)
{
    bool traced = header->type == PP__OUTCOME_FAILED && header->flags & PP__TRACED;
    return traced ? header->flags >> PP__PLACE_SHIFT : 0;
}

/* What went with the item may not have come. */
static void doubt(struct pp__worker *worker, const struct pp__item *item)
{
    struct pp__lent lent;
    const struct pp__buffers *buffers = pp__item_buffers(item, &lent);
    pp__argument_doubt(worker, item);
    if (buffers)
        pp__known_doubt(&worker->known, buffers);
}

static struct pp__outcome failure(struct pp__worker *worker, struct pp__item *item,
                                  const struct pp__result_record *header, const void *payload, size_t size)
{
    char text[PP__MESSAGE_MAX + 1];
    size_t traced = trace_size(header);
    copy_message(text, (const char *)payload + traced, size - traced);
    pp_error_kind kind = header->type == PP__OUTCOME_FAILED ? PP_ERROR_TASK : PP_ERROR_TRAVEL;
    if (kind == PP_ERROR_TRAVEL)
        doubt(worker, item);
    pp_error *error = pp__item_error(item, kind, header->code, worker, header->run_time, "%s", text);
    if (traced > 0)
        pp__error_trace(error, payload, traced);
    return (struct pp__outcome){.code = error->code, .error = error};
}

/* The item that a result is for: the one that the worker runs, at exactly this element. NULL: there is none such. That
 * it was begun is not looked at, so that the slot's line stays with the worker: one that says how a call has ended
 * which it has not begun runs it in vain, if it ever does. */
static inline struct pp__item *match(struct pp__worker *worker, uint32_t slot, uint64_t id)
{
    if (slot >= PP__SLOTS || worker->count == 0)
        return NULL;
    struct pp__item *item = worker->slots[slot].item;
    if (!item || &item->link != worker->items.next || id != pp__item_next_id(item))
        return NULL;
    return item;
}

/* `count` elements have ended; the rest of a chunk that was stopped behind them goes back. */
static inline void end_elements(struct pp__worker *worker, struct pp__item *item, uint32_t count,
                                struct pp__outcome outcome, uint64_t run_time)
{
    pp_pool *pool = worker->pool;
    bool over = pp__item_next(item) + count == pp__item_end(item);
    pool->deaths = 0;
    pp__dispatch_learn(pool, run_time);
    if (!item->in_future)
        item->x.receiver->run_time = run_time;
    if (over)
        pp__worker_detach(worker, item);
    if (!pp__item_deliver(item, count, outcome) && over)
        pp__pending_insert(pool, item);
}

/* What a wake costs: until the call began for which it was rung. A figure that can't be is left out. */
static inline void learn_wake(struct pp__worker *worker, uint32_t slot)
{
    pp_pool *pool = worker->pool;
    if (worker->woken_at == 0)
        return;
    uint64_t cost = pp__load_relaxed(&worker->result_side->begun_at[slot]) - worker->woken_at;
    worker->woken_at = 0;
    if ((int64_t)cost < 0)
        return; /* it was awake after all */
    if (cost > PP__SPIN_MAX)
        cost = PP__SPIN_MAX;
    pool->wake_cost += cost / 8 - pool->wake_cost / 8;
    pp__worker_allow_spin(pool);
}

static const char *no_call(const struct pp__worker *worker)
{
    return worker->pool->broken ? NULL : "a result for no call of its own"; /* broken: its calls were failed */
}

/* What a worker says of a call that was short is believed: to look would take longer than many a call. */
static inline uint64_t plausible(const struct pp__worker *worker, const struct pp__item *item, uint64_t run_time)
{
    if (run_time < BELIEVED)
        return run_time;
    uint64_t sent_at = pp__worker_sent_at(worker, item);
    uint64_t since = sent_at > worker->free_before ? sent_at : worker->free_before;
    uint64_t most = pp__now() - since;
    return run_time < most ? run_time : most;
}

/*
 * The result of a plain or simple call that lies in its record, where nothing else is to be said. False: it is none, or
 * something is the matter, and nothing was done.
 */
static inline __attribute__((always_inline)) bool take_plain(struct pp__worker *worker, const struct pp__record *record,
                                                             const void *payload)
{
    struct pp__result_record header;
    if (record->type != PP__RECORD_RESULT || record->size < sizeof header)
        return false;
    pp__shm_copy_few(&header, payload, sizeof header);
    size_t size = record->size - sizeof header;
    if (header.type != PP__OUTCOME_RESULT || header.flags != 0 || header.size != size || header.run_time >= BELIEVED ||
        worker->looked_into)
        return false;
    struct pp__item *item = match(worker, header.slot, record->id);
    if (!item || !(item->plain || pp__item_is_simple(item)))
        return false;
    bool small = item->plain && !item->lends && size < PP__ROOM;
    unsigned char *data = small ? item->room : pp__item_make_room(item, size);
    if (!data)
        return false;
    pp__shm_copy_short(data, (const char *)payload + sizeof header, size);
    data[size] = 0;
    learn_wake(worker, header.slot);
    worker->pool->deaths = 0;
    worker->pool->gathers &= small;
    pp__dispatch_learn(worker->pool, header.run_time);
    pp__worker_detach(worker, item);
    pp__future_end_plain(item, data, size);
    return true;
}

static const char *take_result(struct pp__worker *worker, const struct pp__record *record,
                               struct pp__result_record *header, const void *payload, size_t size)
{
    struct pp__item *item = match(worker, header->slot, record->id);
    if (!item)
        return no_call(worker);
    if (trace_size(header) > size)
        return "a trace that is longer than its record";
    header->run_time = plausible(worker, item, header->run_time);
    learn_wake(worker, header->slot);
    worker->pool->gathers = false;
    item->tries++;
    struct pp__outcome outcome;
    if (header->type != PP__OUTCOME_RESULT) {
        outcome = failure(worker, item, header, payload, size);
    } else if (header->flags & PP__AHEAD) {
        if (result_ahead(worker, item, header, payload, size, &outcome) != 0) {
            item->tries--; /* counted when the worker is buried */
            return "a large result, or descriptors, that did not come or are not as they must be";
        }
    } else {
        outcome = small_result(worker, item, payload, size);
    }
    end_elements(worker, item, 1, outcome, header->run_time);
    return NULL;
}

/* Whether results of this size are written where they are to lie by the worker. */
static bool is_placed(const struct pp__item *item, uint64_t each)
{
    return !item->in_future && each > 0 && item->x.receiver->in_place == each;
}

/* The results of `count` elements from `id` on, all of which lie at `results`, or in place. NULL, or what is wrong. */
static const char *take_results(struct pp__worker *worker, const struct pp__run_record *run, uint64_t id,
                                uint64_t count, const char *results)
{
    struct pp__item *item = match(worker, run->slot, id);
    if (!item)
        return no_call(worker);
    if (count > pp__item_end(item) - pp__item_next(item))
        return "results of elements that it was not to run";
    uint64_t run_time = plausible(worker, item, run->run_time);
    learn_wake(worker, run->slot);
    if (run->in_place && !is_placed(item, run->each))
        return "results in a place that they do not have";
    void *room = pp__item_run_room(item, run->each);
    if (room) {
        if (!run->in_place)
            pp__shm_copy(room, results, count * run->each);
        end_elements(worker, item, (uint32_t)count, (struct pp__outcome){.data = room, .size = run->each}, run_time);
        return NULL;
    }
    for (; count > 0; count--, results += run->each) {
        item->tries++;
        end_elements(worker, item, 1, small_result(worker, item, results, run->each), run_time);
    }
    return NULL;
}

static bool is_run(const struct pp__run_record *run, uint64_t count, uint64_t room)
{
    if (run->in_place)
        return count <= PP__MOST_ELEMENTS;
    return count <= PP__MOST_ELEMENTS && run->each <= PP__RUN_EACH_MAX && sizeof *run + count * run->each <= room;
}

/* Those behind `taken` others; NULL: they are in place. */
static const char *results_behind(const struct pp__run_record *run, const void *payload, uint64_t taken)
{
    return run->in_place ? NULL : (const char *)payload + sizeof *run + taken * run->each;
}

/* A run that was published. Its first elements may have been taken while it was open, and their chunk may be elsewhere
 * by now. */
static const char *take_run(struct pp__worker *worker, const struct pp__record *record, const void *payload)
{
    struct pp__run_record run;
    uint64_t taken = worker->looked_into ? worker->looked_into - record->id : 0;
    worker->looked_into = 0;
    if (record->size < sizeof run)
        return "a record that is too short";
    pp__shm_copy(&run, payload, sizeof run);
    if (!is_run(&run, run.count, record->size) || run.count == 0 || taken > run.count)
        return "a run whose sizes differ";
    if (taken == run.count)
        return NULL;
    return take_results(worker, &run, record->id + taken, run.count - taken, results_behind(&run, payload, taken));
}

/* Whether the run that is not published yet has results that were not taken in: those below *until. */
static bool has_open(const struct pp__worker *worker, uint64_t *until)
{
    if (worker->count == 0)
        return false;
    const struct pp__item *item = pp__container(worker->items.next, struct pp__item, link);
    if (pp__item_count(item) == 1)
        return false;
    *until = pp__open_look(&worker->result_side->open); /* behind append (worker_chunk.c): they were written */
    return *until - pp__item_next_id(item) - 1 < pp__item_end(item) - pp__item_next(item);
}

/*
 * Takes them. The run lies at the reader's position: it was not published when the mark was looked at, which was after
 * `open` was loaded, and a worker publishes a run before it says more of the next one.
 */
static const char *take_open(struct pp__worker *worker, uint64_t until)
{
    struct pp__record record;
    struct pp__run_record run;
    const void *payload;
    const struct pp__item *item = pp__container(worker->items.next, struct pp__item, link);
    uint64_t next = pp__item_next_id(item);
    if (pp__ring_peek(&worker->results, &record, &payload) < 0 || record.type != PP__RECORD_RUN ||
        record.size < sizeof run)
        return "no run where one is open";
    pp__shm_copy(&run, payload, sizeof run);
    uint64_t taken = next - record.id;
    if (taken > PP__MOST_ELEMENTS || worker->looked_into != (taken > 0 ? next : 0) ||
        !is_run(&run, until - record.id, record.size))
        return "an open run that can't be";
    worker->looked_into = until;
    return take_results(worker, &run, next, until - next, results_behind(&run, payload, taken));
}

static const char *take_output(struct pp__worker *worker, const struct pp__record *record, const void *payload)
{
    struct pp__output_record told;
    if (record->size < sizeof told || !worker->pool->options.capture)
        return "output that nobody asked for";
    pp__shm_copy(&told, payload, sizeof told);
    struct pp__item *item = match(worker, told.slot, record->id);
    return item ? pp__output_told(worker, item, &told) : no_call(worker);
}

static bool is_want(int code)
{
    return code == -ENOMEM || code == -EMFILE || code == -ENFILE;
}

static const char *take_ready(struct pp__worker *worker, const struct pp__record *record,
                              struct pp__result_record *header, const void *payload, size_t size)
{
    (void)record;
    if (worker->state == PP__WORKER_KILLED)
        return NULL; /* it does not know yet */
    if (worker->state != PP__WORKER_STARTING)
        return "it says twice that it is ready";
    if (header->type == PP__OUTCOME_TRAVEL && is_want(header->code)) {
        pp__worker_give_back(worker, -header->code); /* the initializer has not run */
        return NULL;
    }
    pp__worker_is_ready(worker);
    if (header->type != PP__OUTCOME_RESULT) {
        char text[PP__MESSAGE_MAX + 1];
        copy_message(text, payload, size);
        pp__pool_break(worker->pool, header->code,
                       header->type == PP__OUTCOME_UNFIT ? "worker %d can't be as its pool's options ask: %s"
                                                         : "the initializer failed in worker %d: %s",
                       worker->number, text);
    }
    return NULL;
}

static const char *take_left(struct pp__worker *worker, const struct pp__record *record,
                             struct pp__result_record *header, const void *payload, size_t size)
{
    (void)record;
    pp_pool *pool = worker->pool;
    struct pp__item duty = pp__finalized_duty(pool);
    struct pp__outcome outcome;
    if (worker->state == PP__WORKER_KILLED)
        return NULL; /* too late */
    if (worker->state != PP__WORKER_LEAVING || worker->left)
        return "it leaves unbidden";
    worker->left = true;
    if (!worker->finalizes)
        return NULL;
    if (header->type == PP__OUTCOME_RESULT && header->flags & PP__AHEAD) {
        if (result_ahead(worker, &duty, header, payload, size, &outcome) != 0)
            return "a large result that did not come or is not sealed";
    } else if (header->type == PP__OUTCOME_RESULT) {
        outcome = small_result(worker, &duty, payload, size);
    } else {
        outcome = failure(worker, &duty, header, payload, size);
    }
    worker->finalizes = false;
    if (outcome.code)
        pp__pool_log(pool, "the finalizer failed in worker %d: %s", worker->number, outcome.error->message);
    pp__finalized_add(pool, worker->number, worker->pid, outcome);
    return NULL;
}

/* NULL, or what is wrong with the record. The header is copied before it is looked at. */
static const char *take_record(struct pp__worker *worker, const struct pp__record *record, const void *payload)
{
    static const char *(*const handlers[])(struct pp__worker *, const struct pp__record *, struct pp__result_record *,
                                           const void *, size_t) = {
        [PP__RECORD_READY] = take_ready,
        [PP__RECORD_RESULT] = take_result,
        [PP__RECORD_LEFT] = take_left,
    };
    struct pp__result_record header;
    if (record->type == PP__RECORD_RUN)
        return take_run(worker, record, payload);
    if (worker->looked_into)
        return "another record in place of a run";
    if (record->type >= sizeof handlers / sizeof *handlers || !handlers[record->type])
        return record->type == PP__RECORD_OUTPUT ? take_output(worker, record, payload) : "a record of no known type";
    if (record->size < sizeof header)
        return "a record that is too short";
    pp__shm_copy(&header, payload, sizeof header);
    size_t size = record->size - sizeof header;
    if (!(header.flags & PP__BIG) && header.size != size)
        return "a record whose sizes differ";
    return handlers[record->type](worker, record, &header, (const char *)payload + sizeof header, size);
}

/* Early by some milliseconds at most where nothing waits behind the call: who waits for it waits for the clock too.
 * Later than the call was sent in any case. */
static uint64_t end_time(const struct pp__worker *worker)
{
    if (worker->count != 1 || pp__item_count(pp__container(worker->items.next, struct pp__item, link)) > 1)
        return pp__now();
    uint64_t now = pp__now_coarse();
    return now > worker->free_at ? now : worker->free_at + 1;
}

/*
 * Each record ends an outstanding element or poisons, or is a run that was looked into, or tells the output of a call
 * for the first time; as none is released before the last, there are no more than the ring holds, and a mark that comes
 * and goes is looked at twice: the worker does not decide how long this loops. The open run is looked at behind all of
 * them, and once.
 */
void pp__collect_worker(struct pp__worker *worker)
{
    struct pp__record record;
    const void *payload = NULL;
    uint64_t until = 0;
    bool some = false, open = false, again = false;
    if (worker->pid == 0 && pp__ring_waiting(&worker->results))
        return; /* its start is reported first, so that errors name its process: see read_reports */
    if (worker->calls.poisoned)
        pp__worker_poison(worker, "a broken head of its call ring");
    while (!worker->poisoned && !open) {
        int got = pp__ring_next(&worker->results, &record, &payload);
        if (got == 0 && !has_open(worker, &until))
            break;
        if (got == 0 && pp__ring_waiting(&worker->results)) { /* published meanwhile */
            if (again)
                break;
            again = true;
            continue;
        }
        if (!some) {
            worker->free_before = worker->free_at;
            worker->free_at = end_time(worker); /* for all of them: they lay there */
        } else {
            pp__ring_fetch(&worker->results);
        }
        open = got == 0;
        some = true;
        again = false;
        if (got > 0 && take_plain(worker, &record, payload))
            continue;
        const char *wrong = got < 0 ? "a broken ring"
                            : open  ? take_open(worker, until)
                                    : take_record(worker, &record, payload);
        if (wrong)
            pp__worker_poison(worker, wrong);
    }
    if (!some)
        return;
    pp__ring_release(&worker->results);
    if (worker->count > 0 || worker->state != PP__WORKER_READY)
        pp__worker_wake(worker); /* it may wait for room; one that has nothing sleeps for calls */
}

bool pp__collect_plain(struct pp__worker *worker)
{
    struct pp__record record;
    const void *payload;
    uint64_t end = end_time(worker);
    if (worker->pid == 0 || worker->poisoned || worker->calls.poisoned ||
        pp__ring_next(&worker->results, &record, &payload) <= 0)
        return false;
    if (!take_plain(worker, &record, payload)) {
        pp__ring_unread(&worker->results, &record);
        return false;
    }
    worker->free_before = worker->free_at;
    worker->free_at = end;
    worker->pool->unlooked = 0;
    pp__ring_release(&worker->results);
    return true;
}
