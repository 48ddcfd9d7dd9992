/* SPDX-License-Identifier: MIT */
#include "pool/send.h"

#include "base/atomic.h"
#include "base/cancel.h"
#include "base/clock.h"
#include "base/copy.h"
#include "base/fd.h"
#include "base/seam.h"
#include "pool/argument.h"
#include "pool/descriptors.h"
#include "pool/end.h"
#include "pool/function.h"
#include "pool/glance.h"
#include "pool/recycle.h"
#include "pool/tidy.h"
#include "pool/wish.h"
#include "process/identity.h"
#include "shm/segment.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

static bool knows_module(const struct pp__worker *worker, uint32_t index)
{
    return index < worker->knows_count && worker->knows[index];
}

/* True when the module is announced to the worker with the next publish. */
static bool announce_module(struct pp__worker *worker, uint32_t index)
{
    if (index >= worker->knows_count) {
        uint8_t *grown = PP_SYS(realloc)(worker->knows, index + 1);
        if (!grown)
            return false;
        memset(grown + worker->knows_count, 0, index + 1 - worker->knows_count);
        worker->knows = grown;
        worker->knows_count = index + 1;
    }
    unsigned char travel[PP__MODULE_TRAVEL_MAX];
    size_t size = pp__module_travel(pp__functions_module(worker->pool->functions, index), travel);
    void *payload = pp__ring_reserve(&worker->calls, PP__RECORD_MODULE, index, (uint32_t)size);
    if (!payload)
        return false;
    memcpy(payload, travel, size);
    worker->knows[index] = 1;
    return true;
}

/* The elements in a memfd of their own, sealed: the item's, or a copy of what it has on the heap. */
static int elements_fd(const struct pp__item *item)
{
    const struct pp__arguments *x = &item->x;
    if (x->fd >= 0)
        return x->fd;
    void *memory;
    int fd = pp__payload_create(x->size, &memory);
    if (fd < 0)
        return fd;
    memcpy(memory, x->elements, x->size);
    int error = pp__payload_seal(fd, memory, x->size);
    if (!error)
        return fd;
    pp__fd_close(fd);
    return error;
}

/* What travels beside an item's elements, on its way to a worker. */
struct beside {
    uint32_t count;
    int fds[PP_MAX_DESCRIPTORS]; /* of new buffers, then the call's own */
    uint32_t buffers;            /* with, where some are not known to the worker, a plan for them */
    bool planned;
    struct pp__known_plan plan;
};

/* `entries`: those of the buffers, in the record. */
static void gather_buffers(struct pp__worker *worker, const struct pp__buffers *buffers, uint64_t id,
                           struct beside *beside, struct pp__buffer_record *entries)
{
    beside->buffers = buffers->count;
    beside->planned = !pp__known_has(&worker->known, buffers, entries);
    if (beside->planned) {
        pp__known_plan(&worker->known, buffers, id, &beside->plan, entries);
        memcpy(beside->fds, beside->plan.fds, beside->plan.fresh * sizeof *beside->fds);
        beside->count = beside->plan.fresh;
    }
    pp__tidy_later(worker->pool);
}

static void gather(struct pp__worker *worker, const struct pp__item *item, struct beside *beside,
                   struct pp__buffer_record *entries)
{
    struct pp__lent lent;
    const struct pp__buffers *buffers = pp__item_buffers(item, &lent);
    const struct pp__descriptors *own = pp__item_descriptors(item);
    beside->count = beside->buffers = 0;
    if (buffers)
        gather_buffers(worker, buffers, item->id, beside, entries);
    if (!own)
        return;
    memcpy(beside->fds + beside->count, own->fds, own->count * sizeof *own->fds);
    beside->count += own->count;
}

/* What is ahead of the item's record: the descriptor of its elements, or -1, and what travels beside. */
static int send_ahead(struct pp__worker *worker, const struct pp__item *item, uint64_t size, int fd,
                      const struct beside *beside)
{
    PP__NO_CANCELLATION(); /* pp__dispatch_single comes by here, with a new buffer */
    int error = pp__ahead_send(worker->socket, item->id, size, fd, beside->fds, beside->count);
    if (error == -EPIPE && worker->count == 0)
        pp__worker_kill(worker); /* it is dead already, or a task of it closed its end: nothing large can reach it */
    return error == -ETOOMANYREFS || error == -ENOBUFS || error == -EPIPE ? -EAGAIN : error;
}

static int send_single(struct pp__worker *worker, const struct pp__item *item, uint32_t *flags,
                       const struct beside *beside)
{
    int fd = elements_fd(item);
    if (fd < 0)
        return fd;
    int error = send_ahead(worker, item, item->x.size, fd, beside);
    if (fd != item->x.fd)
        pp__fd_close(fd);
    *flags = PP__BIG;
    return error;
}

/* What lies on its shelf. */
static int send_kept(struct pp__worker *worker, struct pp__item *item, uint32_t *flags, const struct beside *beside)
{
    int place = item->place - 1;
    struct pp__place *p = &worker->arguments.places[place];
    bool fresh = p->fd >= 0;
    if (fresh)
        p->bringer = item->id;
    pp__tidy_later(worker->pool);
    int error = fresh || beside->count > 0 ? send_ahead(worker, item, p->room, p->fd, beside) : 0;
    *flags = pp__kept_flags((uint32_t)place, fresh);
    if (error)
        pp__argument_withdraw(worker, item);
    else
        pp__shelf_sent(&worker->arguments, place);
    return error;
}

/* The elements of a call or chunk; or of a duty, whose end gives no place back. */
static int send_elements(struct pp__worker *worker, struct pp__item *item, enum pp__record_type type, uint32_t *flags,
                         const struct beside *beside)
{
    int kept = type == PP__RECORD_CALL ? pp__argument_arrange(worker, item) : 0;
    if (kept < 0)
        return kept;
    return kept ? send_kept(worker, item, flags, beside) : send_single(worker, item, flags, beside);
}

/* What goes ahead of an item whose elements do not lie in the record, or which has wishes or buffers; and what its
 * record, which says all else, says of that but for the flags: these are returned, or an error. Apart, for the sake of
 * the others. */
__attribute__((noinline)) static int send_first(struct pp__worker *worker, struct pp__item *item,
                                                enum pp__record_type type, bool big, struct pp__call_record *record,
                                                struct pp__buffer_record *entries)
{
    struct beside beside;
    uint32_t flags = 0;
    int error = 0;
    gather(worker, item, &beside, entries);
    if (big)
        error = send_elements(worker, item, type, &flags, &beside);
    else if (beside.count > 0)
        error = send_ahead(worker, item, 0, -1, &beside);
    if (error)
        return error;
    record->buffers = (uint16_t)beside.buffers;
    if (beside.buffers > 0 && beside.planned) {
        record->dropped = (uint16_t)beside.plan.dropped;
        worker->known = beside.plan.after;
    }
    return (int)(flags | beside.count << PP__COUNT_SHIFT | (beside.buffers > 0 ? PP__WITH : 0));
}

/* Bytes of a record behind its elements. */
__attribute__((noinline)) static uint64_t size_behind(const struct pp__item *item)
{
    struct pp__lent lent;
    const struct pp__buffers *buffers = pp__item_buffers(item, &lent);
    return buffers ? buffers->count * sizeof(struct pp__buffer_record) : 0;
}

/* Reserves and fills a record that says all there is to say of an item, its elements inside or sent ahead. Publishes
 * nothing. */
static int reserve_call(struct pp__worker *worker, struct pp__item *item, enum pp__record_type type, uint32_t slot)
{
    struct pp__elements elements = pp__item_elements(item);
    uint64_t size = pp__item_size(item);
    uint32_t flags =
        (item->timeout ? PP__TIMED : 0) | (elements.same ? PP__SAME : 0) | (item->in_future ? 0 : PP__ELEMENT);
    uint64_t inside = size > PP__INLINE_MAX ? 0 : size, behind = size_behind(item);
    uint64_t padded = behind > 0 ? pp__padded(inside) : inside;
    bool big = size > PP__INLINE_MAX, first = big || behind > 0 || item->wishes;
    if (item->function && !knows_module(worker, item->function->module_index) &&
        !announce_module(worker, item->function->module_index))
        return -EAGAIN;
    uint64_t before = worker->calls.position;
    struct pp__call_record *record =
        pp__ring_reserve(&worker->calls, type, item->id, (uint32_t)(sizeof *record + padded + behind));
    if (!record)
        return -EAGAIN;
    *record = (struct pp__call_record){
        .slot = slot, .count = pp__item_count(item), .first = pp__item_next(item), .size = size, .each = elements.each};
    int more = first ? send_first(worker, item, type, big, record, (void *)((char *)(record + 1) + padded)) : 0;
    if (more < 0) {
        pp__ring_give_up(&worker->calls, before);
        return more;
    }
    record->flags = flags | (uint32_t)more;
    if (item->function) {
        record->module = item->function->module_index;
        record->offset = item->function->offset;
    }
    if (inside > 0)
        memcpy(record + 1, elements.place, inside);
    return 0;
}

/* A call of which the worker needs no more than this: its argument, padded to 16 with a NUL, and a word for each buffer
 * (known.h). */
struct brief {
    const void *data;
    uint32_t size, count;
    uint64_t lent[PP_MAX_BUFFERS];
};

/* The same for one of these. */
static inline __attribute__((always_inline)) int reserve_plain(struct pp__worker *worker, const struct pp__item *item,
                                                               uint32_t slot, const struct brief *brief)
{
    const struct pp__function *function = item->function;
    uint32_t size = (brief->size + 1 + 15) & ~15u, behind = brief->count * (uint32_t)sizeof *brief->lent;
    if (!knows_module(worker, function->module_index) && !announce_module(worker, function->module_index))
        return -EAGAIN;
    struct pp__plain_record *record =
        pp__ring_reserve(&worker->calls, PP__RECORD_PLAIN, item->id, (uint32_t)sizeof *record + size + behind);
    if (!record)
        return -EAGAIN;
    *record = (struct pp__plain_record){.offset = function->offset,
                                        .module = function->module_index,
                                        .slot = (uint8_t)slot,
                                        .size = (uint8_t)brief->size,
                                        .timed = item->timeout > 0,
                                        .lent = (uint8_t)brief->count};
    pp__copy_words(record + 1, brief->data, size);
    uint64_t *lent = (void *)((char *)(record + 1) + size);
    for (uint32_t i = 0; i < brief->count; i++)
        lent[i] = brief->lent[i];
    return 0;
}

int pp__worker_send_duty(struct pp__worker *worker, enum pp__record_type type, pp_function *function, const void *arg,
                         size_t size)
{
    struct pp__item none = {.x.fd = -1};
    struct pp__item *item = &none;
    int error = 0;
    if (function) {
        error = pp__item_create(1, pp__element_room(size), false, &item);
        if (error)
            return error;
        pp__item_add(item->x.elements, arg, size);
        item->function = pp__functions_find(worker->pool->functions, function);
        error = pp__item_seal(item);
    }
    if (!error)
        error = reserve_call(worker, item, type, 0);
    if (!error)
        pp__ring_publish(&worker->calls);
    if (function)
        pp__item_free(item);
    return error;
}

__attribute__((noinline)) static int search_slot(struct pp__worker *worker, uint32_t *slot)
{
    for (uint32_t tried = 0; tried < PP__SLOTS; tried++) {
        uint32_t i = (worker->next_slot + tried) % PP__SLOTS;
        struct pp__slot *s = &worker->slots[i];
        if (s->item || (s->taken && !pp__ring_passed(&worker->calls, s->end)))
            continue;
        worker->next_slot = i + 1;
        *slot = i;
        return 0;
    }
    return -EAGAIN;
}

/* They are given out in turn, so it is nearly always the next one. */
static inline int find_slot(struct pp__worker *worker, uint32_t *slot)
{
    uint32_t i = worker->next_slot % PP__SLOTS;
    const struct pp__slot *s = &worker->slots[i];
    if (s->item || s->taken)
        return search_slot(worker, slot);
    worker->next_slot = i + 1;
    *slot = i;
    return 0;
}

/*
 * When it is sent. Early by some milliseconds at most: its time begins with the end of the call before it, or when the
 * worker is no longer free; behind others it is as if it were sent with the last of them.
 */
static inline uint64_t sending_time(const struct pp__worker *worker, const struct pp__item *item)
{
    if (item->timeout)
        return pp__now();
    if (worker->count > 0)
        return pp__worker_sent_at(worker, pp__container(worker->items.previous, struct pp__item, link));
    return pp__now_coarse();
}

/*
 * The slot of an item is its own from now on. What it says of an earlier one, all of which was begun, need not be
 * changed for the worker to begin this one: ids grow. Where this one was in it before it must be, or where something
 * was taken back. So must a slot in which there was none yet: zeroed, as by a task that clears what is not its own, it
 * would say of a call that runs that it has not begun. (`after` is 0 then, else the last id << 2 | 1, PP__SLOT_BEGUN.)
 */
static inline void give_slot(struct pp__worker *worker, struct pp__item *item)
{
    struct pp__slot *slot = &worker->slots[item->slot];
    uint64_t next = pp__item_next_id(item);
    slot->before = slot->after;
    if (slot->taken || (slot->after - 1) >> 2 >= next) {
        /* For pp__begin (worker_run.h), with the record. */
        pp__slot_give(&worker->result_side->slots[item->slot], next);
        slot->before = pp__slot_word(next, PP__SLOT_READY);
    }
    slot->item = item;
    slot->end = worker->calls.position;
    slot->sent_at = sending_time(worker, item);
    slot->after = pp__slot_word(item->id + pp__item_count(item) - 1, PP__SLOT_BEGUN);
    slot->taken = false;
}

/* `brief`: NULL: it is none. */
static inline __attribute__((always_inline)) int put(struct pp__worker *worker, struct pp__item *item,
                                                     const struct brief *brief)
{
    uint32_t slot;
    int error = find_slot(worker, &slot);
    if (!error)
        error = brief ? reserve_plain(worker, item, slot, brief) : reserve_call(worker, item, PP__RECORD_CALL, slot);
    if (error)
        return error;
    item->worker = worker;
    item->slot = (uint8_t)slot;
    if (!item->plain)
        item->x.end = item->x.count;
    give_slot(worker, item);
    pp__list_insert(&worker->items, &item->link);
    if (++worker->count == 1)
        pp__worker_count_busy(worker, 1);
    worker->pool->deep += worker->count == 2;
    worker->budget -= brief ? 1 : pp__item_count(item);
    if (worker->budget <= worker->look_at)
        pp__recycle_look(worker);
    PP_FAULT("send.publish.before");
    pp__ring_publish(&worker->calls);
    if (worker->count == 1)
        worker->free_at = pp__now(); /* which takes its time: the worker has its call meanwhile */
    return 0;
}

/* False: it is none, or its worker does not have all of its buffers. */
static bool make_brief(struct pp__worker *worker, const struct pp__item *item, struct brief *brief)
{
    if (item->plain) {
        brief->data = item->room;
        brief->size = item->plain_size;
    } else if (pp__item_is_simple(item) && item->x.size <= pp__element_room(PP__PLAIN_MOST)) {
        const struct pp__element *element = item->x.elements;
        brief->data = element + 1;
        brief->size = (uint32_t)element->size;
    } else {
        return false;
    }
    struct pp__lent lent;
    const struct pp__buffers *buffers = pp__item_buffers(item, &lent);
    brief->count = buffers ? buffers->count : 0;
    return !buffers || pp__known_words(&worker->known, buffers, brief->lent);
}

/* Apart, for the sake of those that are plain and lend nothing. */
__attribute__((noinline)) static int put_other(struct pp__worker *worker, struct pp__item *item)
{
    struct brief brief;
    return make_brief(worker, item, &brief) ? put(worker, item, &brief) : put(worker, item, NULL);
}

static inline __attribute__((always_inline)) int put_any(struct pp__worker *worker, struct pp__item *item)
{
    if (!item->plain || item->lends)
        return put_other(worker, item);
    struct brief brief;
    brief.data = item->room;
    brief.size = item->plain_size;
    brief.count = 0;
    return put(worker, item, &brief);
}

int pp__worker_send(struct pp__worker *worker, struct pp__item *item)
{
    int error = put_any(worker, item);
    if (!error && pp__list_empty(&worker->unwoken))
        pp__list_insert(&worker->pool->unwoken, &worker->unwoken);
    return error;
}

bool pp__worker_ring(struct pp__worker *worker)
{
    pp__doorbell_published();
    return pp__doorbell_ring(&worker->call_side->bell, &worker->rung);
}

bool pp__worker_sleeps(const struct pp__worker *worker)
{
    return pp__doorbell_unrung(&worker->result_side->sleeping, &worker->rung);
}

bool pp__worker_slept_here(const struct pp__worker *worker)
{
    return pp__load_relaxed(&worker->result_side->processor) == (uint32_t)PP_SYS(sched_getcpu)();
}

bool pp__worker_wants_room(const struct pp__worker *worker)
{
    return pp__load_relaxed(&worker->result_side->sleeping) != 0;
}

/* `sent`: it has just got its last call. */
static inline void wake_sleeper(struct pp__worker *worker, bool sent)
{
    pp__doorbell_published(); /* against pp__self_wait (worker_publish.c) */
    bool sleeps = pp__worker_sleeps(worker);
    if (worker->count == 1)
        pp__glance_at(worker, sleeps);
    if (!sleeps)
        return;
    if (worker->count > 0)
        worker->woken_at = sent && worker->count == 1 ? worker->free_at : pp__now();
    pp__doorbell_ring(&worker->call_side->bell, &worker->rung);
    if (worker->pool->options.wait == PP_WAIT_SLEEP)
        worker->pool->woke_at = pp__now();
}

void pp__worker_wake(struct pp__worker *worker)
{
    wake_sleeper(worker, false);
}

int pp__worker_send_alone(struct pp__worker *worker, struct pp__item *item)
{
    int error = put_any(worker, item);
    if (!error)
        wake_sleeper(worker, true);
    return error;
}

void pp__worker_wake_sent(pp_pool *pool)
{
    while (!pp__list_empty(&pool->unwoken)) {
        struct pp__worker *worker = pp__container(pool->unwoken.next, struct pp__worker, unwoken);
        pp__list_remove(&worker->unwoken);
        wake_sleeper(worker, true);
    }
}
