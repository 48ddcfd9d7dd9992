/* SPDX-License-Identifier: MIT */
#include "pool/collect.h"

#include "base/atomic.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/seam.h"
#include "base/spin.h"
#include "pool/argument.h"
#include "pool/block.h"
#include "pool/dispatch.h"
#include "pool/function.h"
#include "pool/future.h"
#include "pool/results.h"
#include "pool/tidy.h"
#include "pool/timers.h"
#include "pool/workers.h"
#include "process/launcher.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

/* With work outstanding nobody sleeps longer than this: a lost wake costs so much, and no hang. */
#define SLEEP_BOUND (100 * PP__MILLISECOND)
/* While calls are queued behind others somebody looks this often: one of those may last. */
#define LOOK_BEHIND (4 * PP__MILLISECOND)

/* Who spins looks at everything else so often. */
#define LOOK_EACH PP__MILLISECOND
/* Results gather for so long where waking a thread takes the processor from a worker. */
#define GATHER (200 * PP__MICROSECOND)

/* While calls stream in, the manager looks this often whether they still do; more than so many since the last look are a stream. */
#define LOOK_AT_STREAM PP__MILLISECOND
#define STREAM 64

#define EVENTS 64
#define EYES 64 /* busy workers that a spinning thread looks at */

/* ------------------------------------------------------------------------------------------ results */

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

/* The descriptor that came ahead of the record. -EPROTO poisons; other errors fail this call alone. */
static int receive_descriptor(struct pp__worker *worker, uint64_t id, uint64_t *size)
{
    struct pp__attachment message = {0};
    size_t count = 1;
    int fd = -1;
    ssize_t got = pp__fd_receive(worker->socket, &message, sizeof message, &fd, &count, MSG_DONTWAIT);
    if (got < 0 && got != -EAGAIN && got != -EMSGSIZE)
        return pp__fail((int)got, "%s", pp__strerror((int)-got));
    *size = message.size;
    if (got == sizeof message && count == 1 && message.id == id)
        return fd;
    pp__fd_close(fd);
    return -EPROTO;
}

/* A result in a memfd of its own. */
static int receive_single(struct pp__worker *worker, uint64_t id, uint64_t size, void **data)
{
    uint64_t sent = 0;
    int fd = receive_descriptor(worker, id, &sent);
    if (fd < 0)
        return fd;
    int error = sent == size && size < PTRDIFF_MAX / 2 ? pp__block_open(fd, size, data) : -EPROTO;
    pp__fd_close(fd);
    return error;
}

/* A buffer, which is then in its place. */
static int receive_buffer(struct pp__worker *worker, uint64_t id, uint32_t place)
{
    uint64_t room = 0;
    int fd = receive_descriptor(worker, id, &room);
    int error = fd < 0 ? fd : pp__results_receive(worker->buffers, place, fd, room);
    if (error)
        pp__results_refuse(worker->buffers, place);
    pp__fd_close(fd);
    return error;
}

static int receive_kept(struct pp__worker *worker, uint64_t id, const struct pp__result_record *header, void **data)
{
    uint32_t place = header->flags >> PP__PLACE_SHIFT;
    if (place >= PP__PLACES)
        return -EPROTO;
    pp__tidy_later(worker->pool);
    int error = header->flags & PP__FRESH ? receive_buffer(worker, id, place) : 0;
    return error ? error : pp__results_open(worker->buffers, place, header->size, data);
}

static int large_result(struct pp__worker *worker, struct pp__item *item, const struct pp__result_record *header,
                        struct pp__outcome *outcome)
{
    void *data = NULL;
    uint64_t id = pp__item_next_id(item);
    int error = header->flags & PP__KEPT ? receive_kept(worker, id, header, &data)
                                         : receive_single(worker, id, header->size, &data);
    if (error == -EPROTO)
        return error;
    *outcome = (struct pp__outcome){.data = data, .size = header->size};
    if (error) {
        pp_error *e =
            pp__item_error(item, PP_ERROR_TRAVEL, error, worker, 0, "its result of %llu bytes can't be received: %s",
                           (unsigned long long)header->size, pp_last_error());
        *outcome = (struct pp__outcome){.code = e->code, .error = e};
    }
    return 0;
}

static void copy_message(char text[PP__MESSAGE_MAX + 1], const void *payload, size_t size)
{
    size = size < PP__MESSAGE_MAX ? size : PP__MESSAGE_MAX;
    pp__shm_copy(text, payload, size);
    text[size] = 0;
}

static struct pp__outcome failure(struct pp__worker *worker, struct pp__item *item,
                                  const struct pp__result_record *header, const void *payload, size_t size)
{
    char text[PP__MESSAGE_MAX + 1];
    copy_message(text, payload, size);
    pp_error_kind kind = header->type == PP__OUTCOME_FAILED ? PP_ERROR_TASK : PP_ERROR_TRAVEL;
    if (kind == PP_ERROR_TRAVEL)
        pp__argument_doubt(worker, item);
    pp_error *error = pp__item_error(item, kind, header->code, worker, header->run_time, "%s", text);
    return (struct pp__outcome){.code = error->code, .error = error};
}

/* The item that a result is for: the one that the worker runs, at exactly this element. NULL: there is none such. */
static inline struct pp__item *match(struct pp__worker *worker, uint32_t slot, uint64_t id)
{
    if (slot >= PP__SLOTS || worker->count == 0)
        return NULL;
    struct pp__item *item = worker->slots[slot].item;
    if (!item || &item->link != worker->items.next || id != pp__item_next_id(item))
        return NULL;
    return pp__worker_unbegun(worker, item) ? NULL : item;
}

/* `count` elements have ended; the rest of a chunk that was stopped behind them goes back. */
static inline void end_elements(struct pp__worker *worker, struct pp__item *item, uint32_t count,
                                struct pp__outcome outcome, uint64_t run_time)
{
    pp_pool *pool = worker->pool;
    bool over = pp__item_next(item) + count == pp__item_end(item);
    pool->deaths = 0;
    pp__dispatch_learn(pool, run_time);
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

static uint64_t plausible(const struct pp__worker *worker, const struct pp__item *item, uint64_t run_time)
{
    uint64_t most = worker->free_at - item->sent_at;
    return run_time < most ? run_time : most;
}

static const char *take_result(struct pp__worker *worker, const struct pp__record *record,
                               struct pp__result_record *header, const void *payload, size_t size)
{
    struct pp__item *item = match(worker, header->slot, record->id);
    if (!item)
        return no_call(worker);
    header->run_time = plausible(worker, item, header->run_time);
    learn_wake(worker, header->slot);
    item->tries++;
    struct pp__outcome outcome;
    if (header->type != PP__OUTCOME_RESULT) {
        outcome = failure(worker, item, header, payload, size);
    } else if (header->flags & PP__BIG) {
        if (large_result(worker, item, header, &outcome) != 0) {
            item->tries--; /* counted when the worker is buried */
            return "a large result that did not come or is not sealed";
        }
    } else {
        outcome = small_result(worker, item, payload, size);
    }
    end_elements(worker, item, 1, outcome, header->run_time);
    return NULL;
}

/* The results of `count` elements from `id` on, all of which lie at `results`. NULL, or what is wrong. */
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
    void *room = pp__item_run_room(item, run->each);
    if (room) {
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
    return count <= PP__MOST_ELEMENTS && run->each <= PP__RUN_EACH_MAX && sizeof *run + count * run->each <= room;
}

/* A run that was published. Its first elements may have been taken while it was open, and their chunk may be elsewhere by now. */
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
    return take_results(worker, &run, record->id + taken, run.count - taken,
                        (const char *)payload + sizeof run + taken * run.each);
}

/* Whether the run that is not published yet has results that were not taken in: those below *until. */
static bool has_open(const struct pp__worker *worker, uint64_t *until)
{
    if (worker->count == 0)
        return false;
    const struct pp__item *item = pp__container(worker->items.next, struct pp__item, link);
    if (pp__item_count(item) == 1)
        return false;
    *until =
        pp__load_acquire(&worker->result_side->open); /* pairs with the store in append (worker.c): they were written */
    return *until - pp__item_next_id(item) - 1 < pp__item_end(item) - pp__item_next(item);
}

/*
 * Takes them. The run lies at the reader's position: it was not published when the tail was looked at, which was after `open` was
 * loaded, and a worker publishes a run before it says more of the next one.
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
    return take_results(worker, &run, next, until - next, (const char *)payload + sizeof run + taken * run.each);
}

static const char *take_ready(struct pp__worker *worker, const struct pp__record *record,
                              struct pp__result_record *header, const void *payload, size_t size)
{
    (void)record;
    if (worker->state == PP__WORKER_KILLED)
        return NULL; /* it does not know yet */
    if (worker->state != PP__WORKER_STARTING)
        return "it says twice that it is ready";
    worker->state = PP__WORKER_READY;
    pp__worker_place(worker);
    worker->pool->starting--;
    worker->pool->start_pause = worker->pool->start_after = worker->pool->failing_since = 0;
    if (header->type != PP__OUTCOME_RESULT) {
        char text[PP__MESSAGE_MAX + 1];
        copy_message(text, payload, size);
        pp__pool_break(worker->pool, header->code, "the initializer failed in worker %d: %s", worker->number, text);
    }
    return NULL;
}

static const char *take_left(struct pp__worker *worker, const struct pp__record *record,
                             struct pp__result_record *header, const void *payload, size_t size)
{
    (void)record;
    if (worker->state != PP__WORKER_LEAVING)
        return "it leaves unbidden";
    worker->left = true;
    if (header->type != PP__OUTCOME_RESULT) {
        char text[PP__MESSAGE_MAX + 1];
        copy_message(text, payload, size);
        pp__pool_log(worker->pool, "the finalizer failed in worker %d: %s", worker->number, text);
    }
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
        return "a record of no known type";
    if (record->size < sizeof header)
        return "a record that is too short";
    pp__shm_copy(&header, payload, sizeof header);
    size_t size = record->size - sizeof header;
    if (!(header.flags & PP__BIG) && header.size != size)
        return "a record whose sizes differ";
    return handlers[record->type](worker, record, &header, (const char *)payload + sizeof header, size);
}

static void read_reports(pp_pool *pool);

/*
 * Each record ends an outstanding element or poisons, or is a run that was looked into; as none is released before the last, there are no
 * more than the ring holds: the worker does not decide how long this loops. The open run is looked at behind all of them, and once.
 */
void pp__collect_worker(pp_pool *pool, struct pp__worker *worker)
{
    struct pp__record record;
    const void *payload;
    uint64_t until;
    bool some = false, open = false;
    if (worker->pid == 0 && pp__ring_waiting(&worker->results))
        return; /* its start is reported first, so that errors name its process: see read_reports */
    if (worker->calls.poisoned)
        pp__worker_poison(worker, "a broken head of its call ring");
    while (!worker->poisoned && !open) {
        int got = pp__ring_next(&worker->results, &record, &payload);
        if (got == 0 && !has_open(worker, &until))
            break;
        if (got == 0 && pp__ring_waiting(&worker->results))
            continue; /* published meanwhile */
        if (!some)
            worker->free_at = pp__now(); /* for all of them: they lay there */
        open = got == 0;
        const char *wrong = got < 0 ? "a broken ring"
                            : open  ? take_open(worker, until)
                                    : take_record(worker, &record, payload);
        if (wrong)
            pp__worker_poison(worker, wrong);
        some = true;
    }
    if (!some)
        return;
    pp__ring_release(&worker->results);
    if (worker->count > 0 || worker->state != PP__WORKER_READY)
        pp__worker_wake(worker); /* it may wait for room; one that has nothing sleeps for calls */
    (void)pool;
}

/* ------------------------------------------------------------------------------------------ reports */

static void take_report(pp_pool *pool, const struct pp__report *report)
{
    struct pp__worker *worker = pp__worker_by_serial(pool, report->serial);
    if (!worker)
        return;
    switch (report->type) {
    case PP__REPORT_STARTED:
        worker->pid = report->pid;
        pool->unreported--;
        pp__pool_log(pool, "worker %d started (pid %d)", worker->number, (int)report->pid);
        break;
    case PP__REPORT_FAILED:
        pp__worker_failed(worker, report->error);
        break;
    case PP__REPORT_ENDED:
        pp__collect_worker(pool, worker); /* drain, then say gone */
        pp__worker_ended(worker, report->code, report->status);
        break;
    default:
        break;
    }
}

static void read_reports(pp_pool *pool)
{
    struct pp__report report;
    int got = 0;
    while (pool->connection >= 0 && (got = pp__launcher_report(pool->connection, &report)) > 0)
        take_report(pool, &report);
    if (got < 0 && pool->connection >= 0)
        pp__pool_lost_zygote(pool);
}

/* ---------------------------------------------------------------------------------------- collecting */

static bool needs_report(const pp_pool *pool)
{
    if (pool->unreported == 0)
        return false;
    for (struct pp__link *link = pool->active.next; link != &pool->active; link = link->next) {
        struct pp__worker *worker = pp__container(link, struct pp__worker, place);
        if (worker->pid == 0 && pp__ring_waiting(&worker->results))
            return true;
    }
    return false;
}

static bool anything_waiting(const pp_pool *pool)
{
    for (struct pp__link *link = pool->active.next; link != &pool->active; link = link->next) {
        struct pp__worker *worker = pp__container(link, struct pp__worker, place);
        if (!worker->poisoned && worker->pid != 0 && pp__ring_waiting(&worker->results))
            return true;
        if (worker->state == PP__WORKER_READY && worker->count == 0 && worker->stuck_end &&
            pp__ring_passed(&worker->calls, worker->stuck_end))
            return true; /* it has room again, and gives no result for what it passed over */
    }
    return false;
}

static void collect_results(pp_pool *pool)
{
    pool->unlooked = 0;
    if (!pool->collector.spinning && needs_report(pool))
        read_reports(pool);
    for (struct pp__link *link = pool->active.next, *next; link != &pool->active; link = next) {
        next = link->next;
        pp__collect_worker(pool, pp__container(link, struct pp__worker, place));
    }
}

void pp__collect(pp_pool *pool)
{
    if (pool->is_inline || pool->ended)
        return;
    collect_results(pool);
    pp__dispatch(pool);
    pp__pool_settle(pool);
}

static void ask(pp_pool *pool, enum pp__want mode)
{
    pp__store_relaxed(&pool->page->want,
                      ++pool->want_epoch << 2 | (uint64_t)mode); /* ordered by the fence in sleep_for_events */
}

/* The tails of the busy workers' result rings, as they were last seen. */
struct eyes {
    const _Atomic uint64_t *tails[EYES];
    uint64_t seen[EYES];
    int count;
    const _Atomic uint32_t *look;
    uint32_t look_seen;
};

static void open_eyes(pp_pool *pool, struct eyes *eyes)
{
    eyes->count = 0;
    eyes->look = &pool->collector.look;
    eyes->look_seen = pp__load_relaxed(eyes->look);
    for (struct pp__link *link = pool->active.next; link != &pool->active && eyes->count < EYES; link = link->next) {
        const struct pp__worker *worker = pp__container(link, struct pp__worker, place);
        if (worker->count == 0 || worker->poisoned)
            continue;
        eyes->tails[eyes->count] = worker->results.tail;
        eyes->seen[eyes->count++] = worker->results.tail_seen;
    }
}

/* Relaxed: what is seen here is looked at again under the lock. */
static bool see(const struct eyes *eyes)
{
    for (int i = 0; i < eyes->count; i++)
        if (pp__load_relaxed(eyes->tails[i]) != eyes->seen[i])
            return true;
    return pp__load_relaxed(eyes->look) != eyes->look_seen;
}

static uint64_t spin_budget(const pp_pool *pool, uint64_t deadline)
{
    if (pool->busy == 0 || pool->busy >= pool->processors)
        return 0;
    uint64_t budget = pool->spin_limit < 2 * pool->wake_cost ? pool->spin_limit : 2 * pool->wake_cost;
    uint64_t left = deadline == PP__NEVER ? budget : pp__until(deadline);
    return left < budget ? left : budget;
}

/* The workers that are looked at stay: while somebody spins nobody reads the reports after which a worker is freed. */
bool pp__collect_spin(pp_pool *pool, uint64_t deadline)
{
    struct eyes eyes;
    struct pp__spin spin;
    uint64_t budget = spin_budget(pool, deadline);
    if (budget == 0)
        return false;
    pp__spin_begin(&spin, budget);
    if (spin.begun - pool->collector.looked_at > LOOK_EACH) {
        pp__collect_sleep(pool, 0, true); /* deaths and timeouts are not kept waiting by results */
        return true;
    }
    open_eyes(pool, &eyes);
    pool->collector.spinning = true;
    pp__pool_unlock(pool);
    bool found = see(&eyes);
    while (!found && pp__spin_on(&spin))
        found = see(&eyes);
    pp__pool_lock(pool);
    pool->collector.spinning = false;
    found |= pp__load_relaxed(eyes.look) != eyes.look_seen; /* since the last look: under the lock nothing is missed */
    if (spin.jumped)
        pool->spin_limit = pool->spin_limit / 2 + PP__SPIN_MAX / 64; /* never none, or it could not grow again */
    else if (found && pool->spin_limit < PP__SPIN_MAX)
        pool->spin_limit += PP__SPIN_MAX / 16;
    if (found)
        pp__collect(pool);
    return found;
}

static void take_events(pp_pool *pool, const struct epoll_event *events, int count)
{
    for (int i = 0; i < count; i++) {
        uint64_t tag = events[i].data.u64;
        struct pp__worker *worker = tag > PP__TAG_LAST ? pp__worker_by_serial(pool, tag) : NULL;
        if (tag == PP__TAG_KICK)
            pp__fd_clear(pool->kick);
        else if (tag == PP__TAG_ZYGOTE)
            read_reports(pool);
        else if (worker)
            pp__fd_clear(worker->bell);
    }
}

static int bounded(pp_pool *pool, uint64_t deadline)
{
    uint64_t now = pp__now();
    bool busy = pool->outstanding > 0 || pool->shut || pool->delivered != pool->collector.delivered_seen;
    pool->collector.delivered_seen = pool->delivered;
    if (pool->queued) {
        deadline = deadline < now + LOOK_BEHIND ? deadline : now + LOOK_BEHIND;
        pool->queued = false;
    }
    if (busy)
        deadline = deadline < now + SLEEP_BOUND ? deadline : now + SLEEP_BOUND;
    if (pool->collector.streaming)
        deadline = deadline < now + LOOK_AT_STREAM ? deadline : now + LOOK_AT_STREAM;
    pool->collector.wake_at = deadline;
    return pp__to_milliseconds(deadline == PP__NEVER ? PP__NEVER : deadline > now ? deadline - now : 0);
}

/*
 * A thread that comes back to sleep soon after the last look waits for many short calls. While these keep all processors busy, each wake would
 * cost one of them more than a call: it sleeps for a while whatever comes, unless a worker runs dry.
 */
static bool gathers(const pp_pool *pool)
{
    return pool->busy >= pool->processors && pool->mean_run < GATHER && pool->outstanding > (size_t)pool->busy &&
           pp__now() - pool->collector.looked_at < GATHER;
}

/* Whether a worker that runs dry is worth a wake: there is a call for it, and nobody awake who is about to send it. */
static bool wants_attention(const pp_pool *pool)
{
    return (pool->pending_count > 0 && !pool->collector.streaming) || pool->starting > 0 || pool->shut;
}

/* What the manager sleeps through while nobody waits: results, as long as there is room for more and no call to be sent for them. */
static enum pp__want wanted(const pp_pool *pool, bool every, bool gathering)
{
    if ((every && !gathering) || pool->apart > 0)
        return PP__WANT_EVERY;
    return every || wants_attention(pool) ? PP__WANT_ATTENTION : PP__WANT_ROOM;
}

static void look_at_stream(pp_pool *pool, bool every)
{
    struct pp__collector *c = &pool->collector;
    c->streaming = !every && pool->next_id - c->next_id_seen > STREAM;
    c->next_id_seen = pool->next_id;
}

bool pp__collect_hears(const pp_pool *pool)
{
    return pool->collector.asleep && (pp__load_relaxed(&pool->page->want) & 3) == PP__WANT_EVERY;
}

void pp__collect_help(pp_pool *pool)
{
    collect_results(pool);
}

void pp__collect_ask(pp_pool *pool)
{
    const struct pp__collector *c = &pool->collector;
    if (!c->asleep || c->streaming || (pp__load_relaxed(&pool->page->want) & 3) != PP__WANT_ROOM)
        return;
    ask(pool, PP__WANT_ATTENTION);
    pp__fence(); /* as in sleep_for_events: a worker that ran dry before is seen below */
    pp__collect_help(pool);
    pp__dispatch(pool);
}

/* epoll_wait, of GATHER at most if `gathering`: how many events, or -EINTR. */
static int wait_for_events(const pp_pool *pool, struct epoll_event *events, int milliseconds, bool gathering)
{
    if (gathering && milliseconds != 0) {
        struct pollfd set = {.fd = pool->epoll, .events = POLLIN};
        int ready = ppoll(&set, 1, &(struct timespec){.tv_nsec = GATHER}, NULL);
        if (ready <= 0)
            return ready < 0 && errno == EINTR ? -EINTR : 0;
        milliseconds = 0;
    }
    int count = epoll_wait(pool->epoll, events, EVENTS, milliseconds);
    return count >= 0 ? count : errno == EINTR ? -EINTR : 0;
}

/*
 * The word, the fence, the look, the sleep. A worker publishes, fences and looks at the word (ring_if_wanted, worker.c): whatever the
 * order, one of the two sees the other. `every` says whose sleep it is: a waiting thread's duty is never taken from it, the manager's
 * is, and then the word belongs to the thief.
 */
static int sleep_for_events(pp_pool *pool, uint64_t deadline, bool every)
{
    struct epoll_event events[EVENTS];
    bool gathering = every && gathers(pool);
    look_at_stream(pool, every);
    ask(pool, wanted(pool, every, gathering));
    pp__fence();
    int milliseconds = anything_waiting(pool) ? 0 : bounded(pool, deadline); /* reports are looked at in any case */
    pool->collector.asleep = true;
    pool->collector.kicked = false;
    pool->collector.manager_in_epoll |= !every;
    pool->in_epoll++;
    pp__pool_unlock(pool);
    int count = wait_for_events(pool, events, milliseconds, gathering);
    pp__pool_lock(pool);
    pool->in_epoll--;
    pool->collector.looked_at = pp__now();
    pool->collector.manager_in_epoll &= every;
    bool mine = every || pool->collector.manager;
    if (mine) {
        pool->collector.asleep = false;
        ask(pool, PP__WANT_NOTHING);
    }
    /* A manager that was relieved leaves events and kick to the thread that has the duty and sleeps beside it: a worker rings once for that one's
     * sleep, so a bell that is taken from it would be its last. */
    if (mine && !pool->ended)
        take_events(pool, events, count);
    return count == -EINTR ? -EINTR : 0;
}

int pp__collect_sleep(pp_pool *pool, uint64_t deadline, bool every)
{
    uint64_t delivered = pool->delivered;
    uint64_t next = pp__timers_run(pool);
    pp__dispatch(pool);
    pp__pool_settle(pool);
    if (pool->ended || pool->delivered != delivered)
        return 0; /* what the caller waits for may be among it, and nobody would wake it */
    int error = sleep_for_events(pool, next < deadline ? next : deadline, every);
    pp__collect(pool);
    pp__pool_close_epoll(pool);
    return error;
}
