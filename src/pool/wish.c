/* SPDX-License-Identifier: MIT */
#include "pool/wish.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/seam.h"
#include "pool/buffer.h"
#include "pool/descriptors.h"
#include "pool/dispatch.h"
#include "pool/output.h"
#include "pool/take_back.h"
#include "pool/workers.h"

#include <errno.h>
#include <stdlib.h>

#define FIRST_CAPACITY 16

static const struct pp__buffers *gather_lent(const struct pp__item *item, struct pp__lent *lent)
{
    *lent = (struct pp__lent){.buffers = {.count = item->lent[1] ? 2 : 1, .each = lent->each}};
    for (uint32_t i = 0; i < lent->buffers.count; i++)
        lent->each[i].buffer = item->lent[i];
    return &lent->buffers;
}

const struct pp__buffers *pp__item_buffers(const struct pp__item *item, struct pp__lent *lent)
{
    if (item->lends)
        return gather_lent(item, lent);
    if (item->in_future)
        return item->wishes ? item->x.wish->buffers : NULL;
    return item->x.receiver ? item->x.receiver->buffers : NULL;
}

/* The pending items of one priority. It stays until the pool goes: there are only so many. */
struct pp__rank {
    struct pp__link link; /* in the pool's ranks, the highest first */
    int priority;
    struct pp__link items; /* by id */
};

struct pp__wishes {
    struct pp__link ranks;
    struct pp__wish **heap; /* those that are to begin by some moment: the next one first, none before its parent */
    size_t count, capacity;
};

/* ------------------------------------------------------------------------------------- the deadlines' heap */

static void put(struct pp__wishes *w, size_t at, struct pp__wish *wish)
{
    w->heap[at] = wish;
    wish->place = at + 1;
}

static void swap(struct pp__wishes *w, size_t one, size_t other)
{
    struct pp__wish *wish = w->heap[one];
    put(w, one, w->heap[other]);
    put(w, other, wish);
}

static bool is_before(const struct pp__wishes *w, size_t one, size_t other)
{
    return w->heap[one]->begin_by < w->heap[other]->begin_by;
}

static size_t rise(struct pp__wishes *w, size_t at)
{
    for (; at > 0 && is_before(w, at, (at - 1) / 2); at = (at - 1) / 2)
        swap(w, at, (at - 1) / 2);
    return at;
}

static void sink(struct pp__wishes *w, size_t at)
{
    for (;;) {
        size_t child = 2 * at + 1;
        if (child + 1 < w->count && is_before(w, child + 1, child))
            child++;
        if (child >= w->count || !is_before(w, child, at))
            return;
        swap(w, at, child);
        at = child;
    }
}

static void enter(struct pp__wishes *w, struct pp__wish *wish)
{
    put(w, w->count++, wish);
    rise(w, w->count - 1);
}

static void withdraw(struct pp__wishes *w, struct pp__wish *wish)
{
    size_t at = wish->place - 1;
    wish->place = 0;
    if (at == --w->count)
        return;
    put(w, at, w->heap[w->count]);
    sink(w, rise(w, at));
}

static int make_room(struct pp__wishes *w)
{
    if (w->count < w->capacity)
        return 0;
    size_t capacity = w->capacity ? 2 * w->capacity : FIRST_CAPACITY;
    struct pp__wish **grown = PP_SYS(realloc)(w->heap, capacity * sizeof(struct pp__wish *));
    if (!grown)
        return pp__fail(-ENOMEM, "no memory for a call's deadline");
    w->heap = grown;
    w->capacity = capacity;
    return 0;
}

/* ----------------------------------------------------------------------------------------------- ranks */

static int find_rank(struct pp__wishes *w, int priority, struct pp__rank **found)
{
    struct pp__link *place = w->ranks.next;
    while (place != &w->ranks && pp__container(place, struct pp__rank, link)->priority > priority)
        place = place->next;
    if (place != &w->ranks && pp__container(place, struct pp__rank, link)->priority == priority) {
        *found = pp__container(place, struct pp__rank, link);
        return 0;
    }
    struct pp__rank *rank = PP_SYS(calloc)(1, sizeof *rank);
    if (!rank)
        return pp__fail(-ENOMEM, "no memory for a new priority");
    rank->priority = priority;
    pp__list_init(&rank->items);
    pp__list_insert(place, &rank->link);
    *found = rank;
    return 0;
}

struct pp__link *pp__wish_list(const struct pp__item *item)
{
    struct pp__rank *rank = item->x.wish->rank;
    return rank ? &rank->items : &pp__item_pool(item)->pending;
}

struct pp__item *pp__wishes_first(const pp_pool *pool)
{
    const struct pp__link *low = NULL;
    for (const struct pp__link *link = pool->wishes->ranks.next; link != &pool->wishes->ranks; link = link->next) {
        const struct pp__rank *rank = pp__container(link, struct pp__rank, link);
        if (pp__list_empty(&rank->items))
            continue;
        if (rank->priority > 0)
            return pp__container(rank->items.next, struct pp__item, link);
        low = low ? low : rank->items.next;
    }
    if (!pp__list_empty(&pool->pending))
        low = pool->pending.next;
    return low ? pp__container(low, struct pp__item, link) : NULL;
}

void pp__wishes_each(pp_pool *pool, void (*act)(struct pp__link *list))
{
    if (!pool->wishes)
        return;
    struct pp__link *ranks = &pool->wishes->ranks;
    for (struct pp__link *link = ranks->next; link != ranks; link = link->next)
        act(&pp__container(link, struct pp__rank, link)->items);
}

/* ------------------------------------------------------------------------------------------ one's life */

int pp__wish_create(const pp_pool *pool, const pp_call *call, struct pp__wish **created)
{
    *created = NULL;
    if (!pp__wish_is_in(pool, call))
        return 0;
    int error = call->buffer_count > 0 ? pp__buffers_check(call) : 0;
    if (error)
        return error;
    /* Not calloc, which takes nothing out of a thread's cache. */
    struct pp__wish *wish = PP_SYS(malloc)(sizeof *wish + pp__buffers_room(call));
    if (!wish)
        return pp__fail(-ENOMEM, "no memory for what is wished for a call");
    *wish = (struct pp__wish){.priority = call->priority,
                              .deadline = call->deadline,
                              .lends = pp__wish_is_to_lend(pool, call),
                              .begin_by = call->deadline ? pp__now() + call->deadline * PP__MILLISECOND : PP__NEVER};
    if (call->buffer_count > 0) {
        wish->buffers = (struct pp__buffers *)(wish + 1);
        pp__buffers_take(call, wish->buffers);
    }
    error = call->descriptor_count > 0 ? pp__descriptors_copy(call, &wish->descriptors) : 0;
    if (error) {
        pp__wish_free(wish);
        return error;
    }
    *created = wish;
    return 0;
}

int pp__wish_admit(pp_pool *pool, struct pp__wish *wish)
{
    if (wish->priority == 0 && wish->deadline == 0)
        return 0;
    if (!pool->wishes) {
        pool->wishes = PP_SYS(calloc)(1, sizeof *pool->wishes);
        if (!pool->wishes)
            return pp__fail(-ENOMEM, "no memory for priorities and deadlines");
        pp__list_init(&pool->wishes->ranks);
    }
    int error = wish->priority ? find_rank(pool->wishes, wish->priority, &wish->rank) : 0;
    return error || !wish->deadline ? error : make_room(pool->wishes);
}

void pp__wish_give(pp_pool *pool, struct pp__wish *wish, struct pp__item *item)
{
    item->wishes = true;
    item->x.wish = wish;
    wish->item = item;
    if (wish->deadline)
        enter(pool->wishes, wish);
}

void pp__wish_free(struct pp__wish *wish)
{
    if (!wish)
        return;
    if (wish->place)
        withdraw(pp__item_pool(wish->item)->wishes, wish);
    pp__output_free(wish->output);
    pp__wish_drop_attachments(wish);
    pp__descriptors_free(wish->back);
    free(wish);
}

void pp__wish_end(struct pp__item *item)
{
    struct pp__wish *wish = item->x.wish;
    item->wishes = false;
    if (!item->in_future || (!wish->output && !wish->back)) {
        pp__wish_free(wish);
        return;
    }
    if (wish->place)
        withdraw(pp__item_pool(item)->wishes, wish);
    item->kept = wish;
    item->keeps = true;
}

void pp__wish_drop_attachments(struct pp__wish *wish)
{
    pp__descriptors_free(wish->descriptors);
    wish->descriptors = NULL;
    pp__buffers_give_back(wish->buffers);
    wish->buffers = NULL;
}

void pp__wishes_destroy(pp_pool *pool)
{
    struct pp__wishes *w = pool->wishes;
    if (!w)
        return;
    while (!pp__list_empty(&w->ranks)) {
        struct pp__rank *rank = pp__container(w->ranks.next, struct pp__rank, link);
        pp__list_remove(&rank->link);
        free(rank);
    }
    free(w->heap);
    free(w);
}

/* ------------------------------------------------------------------------------------------- deadlines */

bool pp__wish_has_deadline(const struct pp__item *item)
{
    return item->wishes && item->x.wish->place;
}

bool pp__wish_is_late(const struct pp__item *item)
{
    return pp__wish_has_deadline(item) && item->tries == 0 && pp__now() >= item->x.wish->begin_by;
}

void pp__wish_fail(struct pp__item *item)
{
    pp_error *error = pp__item_error(item, PP_ERROR_TIMEOUT, 0, NULL, 0, "was not begun by its deadline of %u ms",
                                     item->x.wish->deadline);
    pp__item_deliver(item, 1, (struct pp__outcome){.code = error->code, .error = error});
}

/* One that has begun, or begun once, is not late any more. */
static void expire(pp_pool *pool, struct pp__wish *wish)
{
    struct pp__item *item = wish->item;
    withdraw(pool->wishes, wish);
    if (item->tries > 0 || item->runs)
        return;
    if (!item->worker)
        pp__pending_remove(pool, item);
    else if (!pp__worker_take_back(item->worker, item))
        return;
    pp__wish_fail(item);
}

uint64_t pp__wishes_due(const pp_pool *pool)
{
    const struct pp__wishes *w = pool->wishes;
    return w && w->count > 0 ? w->heap[0]->begin_by : PP__NEVER;
}

uint64_t pp__wishes_expire(pp_pool *pool, uint64_t now)
{
    const struct pp__wishes *w = pool->wishes;
    while (pp__wishes_due(pool) <= now)
        expire(pool, w->heap[0]);
    return pp__wishes_due(pool);
}
