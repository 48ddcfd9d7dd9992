/* SPDX-License-Identifier: MIT */
/*
 * What few calls wish for: a priority, a moment by which they have begun, descriptors and buffers to travel with them,
 * that what they write is kept. It lies apart, so that calls without wishes, and pools without such calls, cost nothing
 * more. All under the pool's lock, but for the making.
 */
#ifndef PP_POOL_WISH_H
#define PP_POOL_WISH_H

#include "pool/pool.h"

#define PP__PRIORITY_MAX 100

struct pp__rank;

struct pp__wish {
    struct pp__item *item;
    struct pp__rank *rank; /* NULL: that of all calls without a wish, 0 */
    int priority;
    uint32_t deadline;                   /* ms, as it was given */
    uint64_t begin_by;                   /* PP__NEVER: whenever it comes */
    struct pp__output *output;           /* of the last try (output.h); NULL: none was captured */
    size_t place;                        /* 1 + where it is in the heap of deadlines; 0: nowhere */
    struct pp__descriptors *descriptors; /* copies of those that travel with the call; NULL: there are none */
    struct pp__descriptors *back;        /* those that came back; NULL: none */
    struct pp__buffers *buffers;         /* references, behind this; NULL: there are none */
    bool lends;                          /* there is nothing else to it */
};

static inline bool pp__wish_is_in(const pp_pool *pool, const pp_call *call)
{
    return ((uint32_t)call->priority | call->deadline | call->descriptor_count | call->buffer_count |
            pool->options.capture) != 0;
}

/* Buffers and nothing else. */
static inline bool pp__wish_is_to_lend(const pp_pool *pool, const pp_call *call)
{
    return call->buffer_count > 0 &&
           ((uint32_t)call->priority | call->deadline | call->descriptor_count | pool->options.capture) == 0;
}

/* 0 or an error of pp__descriptors_copy or pp__buffers_check; NULL if the call has none. */
int pp__wish_create(const pp_pool *pool, const pp_call *call, struct pp__wish **wish);

/* Before its item is made: whatever can fail. 0 or -ENOMEM. */
int pp__wish_admit(pp_pool *pool, struct pp__wish *wish);

/* The item, which is no plain one, has it from now on. */
void pp__wish_give(pp_pool *pool, struct pp__wish *wish, struct pp__item *item);

/* With its item, or in place of one. NULL is allowed. */
void pp__wish_free(struct pp__wish *wish);

/* Its item's call has ended: the future keeps it if something of it is wanted from now on (item.h). */
void pp__wish_end(struct pp__item *item);

/* Its call is about to end. */
void pp__wish_drop_attachments(struct pp__wish *wish);

static inline const struct pp__descriptors *pp__item_descriptors(const struct pp__item *item)
{
    return item->wishes ? item->x.wish->descriptors : NULL;
}

/* A plain item's buffers, as others have theirs. */
struct pp__lent {
    struct pp__buffers buffers;
    struct pp__passed each[PP__LENT_MOST];
};

/* Those that go with it: NULL, or perhaps in *lent. */
const struct pp__buffers *pp__item_buffers(const struct pp__item *item, struct pp__lent *lent);

/* Whether it is a call whose argument, if it has one, lies on the heap, with nothing else to it but buffers. */
static inline bool pp__item_is_simple(const struct pp__item *item)
{
    return item->in_future && !item->plain && (!item->wishes || item->x.wish->lends) && !item->borrowed &&
           item->place == 0 && item->x.fd < 0;
}

/* The pending items of the same priority. */
struct pp__link *pp__wish_list(const struct pp__item *item);

static inline int pp__item_priority(const struct pp__item *item)
{
    return item->wishes ? item->x.wish->priority : 0;
}

/* Whether it may not begin any more. One that has begun once may, if it is tried again. */
bool pp__wish_is_late(const struct pp__item *item);

/* Whether it is to begin by some moment. */
bool pp__wish_has_deadline(const struct pp__item *item);

/* It has left the queue, and is late: it ends. */
void pp__wish_fail(struct pp__item *item);

/* Ends what is late. Returns when to look again, or PP__NEVER. */
uint64_t pp__wishes_expire(pp_pool *pool, uint64_t now);

/* When the first one with a deadline is late, if it has not begun by then; PP__NEVER: there is none. */
uint64_t pp__wishes_due(const pp_pool *pool);

/* The pending item of the highest priority that was submitted first, where there may be several; or NULL. */
struct pp__item *pp__wishes_first(const pp_pool *pool);

/* For the pending items of each priority but 0. */
void pp__wishes_each(pp_pool *pool, void (*act)(struct pp__link *list));

void pp__wishes_destroy(pp_pool *pool);

#endif
