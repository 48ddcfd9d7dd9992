/* SPDX-License-Identifier: MIT */
/*
 * A work item: one call, or a chunk of a map's elements that travel together. The owner's private truth about it; what is
 * sent, and sent again, is copied from here. All fields under the pool's lock once it is submitted.
 *
 * Element i has id `id + i`. Elements below `next` have ended and been delivered, the others have not.
 */
#ifndef PP_POOL_ITEM_H
#define PP_POOL_ITEM_H

#include "base/list.h"
#include "pool/channel.h"
#include "procpool.h"

#include <stdbool.h>

struct pp__worker;
struct pp__function;
struct pp__item;

/* How one element ended. Who receives it owns data and error. */
struct pp__outcome {
    int code;        /* 0, or as at pp_error_kind */
    pp_error *error; /* for pp__error_free; NULL if code is 0 */
    void *data;      /* a block (block.h) if code is 0 */
    size_t size;
};

/* Receives the outcome of element `index`, under the pool's lock. Called once for each element, in order; the item is freed by its caller after the
 * last one. */
typedef void pp__deliver(struct pp__item *item, uint32_t index, struct pp__outcome outcome);

struct pp__item {
    pp_pool *pool;
    struct pp__link link; /* in the pool's pending queue or the worker's calls, in id order in both */
    uint64_t id;
    const struct pp__function *function;
    pp__deliver *deliver;
    void *receiver; /* the future (may be NULL) or the map's chunk */
    void *elements; /* count of them (channel.h), or NULL if they lie in fd */
    uint64_t size;  /* bytes of all elements */
    char *small;    /* PP__SMALL bytes for each element's result, if it is small; or NULL */
    int fd;         /* sealed memfd with the elements, or -1 */
    uint32_t count;
    uint32_t next;
    uint32_t end; /* its worker goes no further than here: count, or less once the chunk was stopped */
    union {
        const struct pp__element *at; /* inline: element `next`; NULL: the first */
        uint64_t each;                /* else, where all elements have the `same` size and no headers: that */
    };
    pp_error *earlier; /* errors of the tries so far, the latest first */
    uint32_t timeout;  /* ms, 0: none */
    uint16_t retries;  /* allowed for each element */
    uint16_t tries;    /* so far, of element `next` */

    struct pp__worker *worker; /* whose ring it is in; NULL: pending */
    uint64_t sent_at;          /* when it was dispatched */
    uint16_t slot;
    bool timed_out; /* element `next` has outlived its timeout and its worker is being killed for it */
    bool abandoned; /* nobody wants what has not begun of it */
    bool runs;      /* inline: element `next` runs */
    bool same;
    bool in_future; /* it is part of one (future.h) */
};

/* What there is for an element, or a result, beside the item in a future; and for a result of each element of a chunk. */
#define PP__ROOM 48u
#define PP__SMALL 32u

/* An item with room for `count` elements of together `size` bytes (`on_heap`: however many). 0, -ENOMEM, or the errors of pp__payload_create. */
int pp__item_create(uint32_t count, uint64_t size, bool on_heap, struct pp__item **item);
void pp__item_free(struct pp__item *item);

/* The same for one that lies elsewhere, zeroed: its elements. */
int pp__item_open(struct pp__item *item, uint32_t count, uint64_t size, bool on_heap);
void pp__item_close(struct pp__item *item);

/* The filling of the elements, one by one from the first: `place` is item->elements at first and then what the last call returned. */
void *pp__item_add(void *place, const void *data, size_t size);

/* After the last one; 0 or why the elements can't be sealed. */
int pp__item_seal(struct pp__item *item);

/* Where a result of this size of element `next` can lie without an allocation of its own; NULL: nowhere. */
void *pp__item_room(struct pp__item *item, size_t size);

/* An error, in one allocation with its texts, from what is known of the item's element `next` and of `worker` (NULL: none). Never NULL: without
 * memory it is one that says so, of the same kind. Takes over item->earlier. */
pp_error *pp__item_error(struct pp__item *item, pp_error_kind kind, int task_code, const struct pp__worker *worker,
                         uint64_t run_time, const char *format, ...) __attribute__((format(printf, 6, 7)));
void pp__error_free(pp_error *error);

/* Whether it is this call's alone and may be added to; not so the one that says that there was no memory for it. */
bool pp__error_is_own(const pp_error *error);

/* The code that futures return for an error of this kind. */
int pp__error_code(pp_error_kind kind);

/* Delivers element `next` and steps on. True: that was the last one, the item is gone. */
bool pp__item_deliver(struct pp__item *item, struct pp__outcome outcome);

/* Ends all remaining elements with this kind and text. The item is gone. */
void pp__item_fail(struct pp__item *item, pp_error_kind kind, int task_code, const char *text);

/* Cancels what has not begun: a try that failed and would be followed by another is what element `next` ends with. The item is gone. */
void pp__item_cancel(struct pp__item *item, const char *text);

#endif
