/* SPDX-License-Identifier: MIT */
/*
 * A work item: one call, or a chunk of a map's elements that travel together. The owner's private truth about it; what
 * is sent, and sent again, is copied from here. All fields under the pool's lock once it is submitted, but for refs and
 * state.
 *
 * There may be millions of calls, so a call with its future is 112 bytes: what is needed only until it has ended shares
 * its place with the outcome, a small argument (`plain`) lies where others have the description of theirs, the pool is
 * its function's, and when it was sent is known by its slot.
 *
 * Element i has id `id + i`. Elements below `next` have ended and been delivered, the others have not.
 */
#ifndef PP_POOL_ITEM_H
#define PP_POOL_ITEM_H

#include "base/copy.h"
#include "base/list.h"
#include "pool/channel.h"
#include "pool/function.h"
#include "procpool.h"

#include <assert.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>

struct pp__worker;
struct pp__item;
struct pp__wish;
struct pp__output;
struct pp__descriptors;

/* A buffer of the program's that goes with an item, and what for. */
struct pp__passed {
    pp_buffer *buffer;
    enum pp__use use;
    uint64_t at, each; /* as in its record (channel.h) */
};

struct pp__buffers {
    uint32_t count;
    struct pp__passed *each;
};

/* How one element ended. Who receives it owns data and error. */
struct pp__outcome {
    int code; /* 0, or as at pp_error_kind */
    union {
        pp_error *error; /* for pp__error_free; if code is not 0 */
        void *data;      /* a block (block.h) or NULL; if it is */
    };
    size_t size; /* of data */
};

/* Who receives a chunk's outcomes. */
struct pp__receiver {
    /* Receives the outcome of element `index`, or those of `count` elements from there on, whose results of one size
     * lie where `room` said, under the pool's lock. Called once for each element, in order; the item is freed by its
     * caller after the last one. */
    void (*deliver)(struct pp__receiver *receiver, struct pp__item *item, uint32_t index, uint32_t count,
                    struct pp__outcome outcome);
    /* Where results of elements from `next` on, all of `each` bytes, are to lie one right behind the other; NULL:
     * nowhere. Under the pool's lock. NULL itself: results come one by one. */
    void *(*room)(struct pp__receiver *receiver, struct pp__item *item, size_t each);
    const struct pp__buffers *buffers; /* that go with the chunk; NULL: none */
    size_t in_place;           /* results of so many bytes are written where `room` says by the worker; 0: none are */
    uint64_t run_time;         /* ns, of each of the elements that are delivered; 0: not known */
    struct pp__output *output; /* of the element that is delivered; the receiver's to free. NULL: none was captured */
};

/* What there is for an argument, or a result, in a plain item, the NUL behind it included. Of one that `lends`, the
 * buffers lie behind its argument. */
#define PP__ROOM 48u
#define PP__LENT_MOST 2
#define PP__LENDING_ROOM (PP__ROOM - PP__LENT_MOST * (unsigned)sizeof(pp_buffer *))

/* In the state of a future that is done: its result is somebody else's, and outcome.data tells only where it was. */
#define PP__TAKEN 0x80

#define PP__MOST_RETRIES 1000u
#define PP__RETRIES_MASK 1023u
#define PP__PLACE_MASK 15

/* The arguments of an item that is not plain. */
struct pp__arguments {
    void *elements; /* count of them (channel.h), or NULL if they lie in fd */
    uint64_t size;  /* bytes of all elements */
    union {
        const struct pp__element *at; /* inline, of a chunk: element `next`; NULL: the first */
        struct pp__wish *wish;        /* of a call with wishes */
        uint64_t each;                /* else, where all elements have the `same` size and no headers: that */
    };
    union {
        struct pp__receiver *receiver; /* of a chunk */
        struct pp__worker *home;       /* of a call: on whose shelf its elements lie, in `place`; or NULL */
    };
    int fd; /* sealed memfd with the elements, or -1 */
    uint32_t count;
    uint32_t next;
    uint32_t end; /* its worker goes no further than here: count, or less once the chunk was stopped */
};

struct pp__item {
    union {
        struct {
            struct pp__link link;      /* in the pool's pending queue or the worker's calls, in id order in both */
            struct pp__worker *worker; /* whose ring it is in; NULL: pending */
        };
        struct pp__outcome outcome; /* a future's, once it is done */
    };
    const struct pp__function *function; /* NULL of a duty without one, which has no pool */
    uint64_t id;
    union {
        pp_error *earlier;            /* errors of the tries so far, the latest first */
        struct pp__descriptors *back; /* of a call that `has_back` some, and so a result, and no wish */
        struct pp__wish *kept;        /* a future's wish, once it is done, if it `keeps` that */
    };
    uint32_t timeout;        /* ms, 0: none */
    uint32_t retries : 10;   /* allowed for each element */
    uint32_t tries : 10;     /* so far, of element `next` */
    uint32_t plain_size : 6; /* of a plain item's argument */
    uint32_t stopping : 1;   /* it was asked to stop: it is not tried again */
    uint32_t wishes : 1;     /* it has what few calls have (wish.h), and is no plain one */
    uint32_t keeps : 1;
    uint32_t has_back : 1; /* descriptors came back with the result */
    uint8_t slot;
    _Atomic uint8_t state; /* a future's: PP_PENDING until it is done, whether it runs is asked of the worker's slot;
                              with PP__TAKEN */
    uint16_t plain : 1;    /* one call, whose argument lies in room */
    uint16_t same : 1;
    uint16_t timed_out : 1; /* element `next` has outlived its timeout and its worker is being killed for it */
    uint16_t abandoned : 1; /* nobody wants what has not begun of it */
    uint16_t runs : 1;      /* inline: element `next` runs */
    uint16_t in_future : 1; /* it is one (future.h) */
    uint16_t wanted : 1;    /* a future's: somebody has it (inline: and so it keeps the pool's struct) */
    uint16_t waited_for : 1;
    uint16_t promised : 1;      /* the program completes it */
    uint16_t has_callbacks : 1; /* not all of them have returned (callbacks.h) */
    uint16_t borrowed : 1;      /* its elements are the user's, and stay as long as somebody wants to have it run */
    uint16_t lends : 1;         /* a plain one, with which one buffer or two go */
    uint16_t place : 4;    /* 1 + the place on home's shelf, or, at a worker, on that one's where a copy of the elements
                              lies; 0: none */
    _Atomic uint32_t refs; /* a future's */
    union {
        alignas(16) unsigned char room[PP__ROOM]; /* a plain item's argument, and when that is not needed any more a
                                                     small result */
        struct {
            unsigned char before_lent[PP__LENDING_ROOM];
            pp_buffer *lent[PP__LENT_MOST]; /* references; the second may be NULL */
        };
        struct pp__arguments x;
    };
};

static_assert(sizeof(struct pp__item) == 112, "what a pending call costs");
static_assert(PP__SLOTS <= UINT8_MAX + 1, "a slot's number fits");
static_assert(PP__MOST_RETRIES < PP__RETRIES_MASK, "tries fit, the last included");
static_assert(PP__PLACES <= PP__PLACE_MASK, "a place fits");
static_assert(PP__ROOM <= 1 << 6, "a plain argument's size fits");

static inline pp_pool *pp__item_pool(const struct pp__item *item)
{
    return item->function->pool;
}

static inline uint32_t pp__item_count(const struct pp__item *item)
{
    return item->plain ? 1 : item->x.count;
}

static inline uint32_t pp__item_next(const struct pp__item *item)
{
    return item->plain ? 0 : item->x.next;
}

static inline uint32_t pp__item_end(const struct pp__item *item)
{
    return item->plain ? 1 : item->x.end;
}

/* Of the element that is to end next. */
static inline uint64_t pp__item_next_id(const struct pp__item *item)
{
    return item->id + pp__item_next(item);
}

/* Of all elements, as they travel. A plain one is read in place by its task, so it has its NUL with it. */
static inline uint64_t pp__item_size(const struct pp__item *item)
{
    return item->plain ? (item->plain_size + 1 + 15) & ~UINT64_C(15) : item->x.size;
}

/* An item with room for `count` elements of together `size` bytes (`on_heap`: however many). 0, -ENOMEM, or the errors
 * of pp__payload_create. */
int pp__item_create(uint32_t count, uint64_t size, bool on_heap, struct pp__item **item);
void pp__item_free(struct pp__item *item);

/* One for `count` elements that lie at `elements` as they travel. 0 or -ENOMEM. */
int pp__item_borrow(uint32_t count, uint64_t size, const void *elements, struct pp__item **item);

/* An item that lies elsewhere, zeroed: its elements. */
int pp__item_open(struct pp__item *item, uint32_t count, uint64_t size, bool on_heap);
void pp__item_close(struct pp__item *item);

/* The filling of the elements, one by one from the first: `place` is item->x.elements at first and then what the last
 * call returned. */
void *pp__item_add(void *place, const void *data, size_t size);

/* Makes a zeroed item a plain one, with an argument of less than PP__ROOM bytes. What travels of its room is written to
 * the end. */
static inline void pp__item_fill(struct pp__item *item, const void *data, size_t size)
{
    pp__list_init(&item->link);
    item->plain = true;
    item->plain_size = (unsigned)size & 63;           /* as it is */
    memset(item->room + (size & ~(size_t)15), 0, 16); /* the NUL behind it is among these */
    pp__copy_few(item->room, data, size);
}

/* A plain one, with an argument of less than PP__LENDING_ROOM bytes, has references to so many buffers from now on /
 * gives them back, if it has some: to be called before its room is used for anything else. */
void pp__item_lend(struct pp__item *item, pp_buffer *const *buffers, size_t count);
void pp__item_give_back(struct pp__item *item);

/* Makes an item, zeroed but for this, a call of one element, filled by pp__item_add in `size` bytes from malloc, which
 * become its own. */
static inline void pp__item_lay(struct pp__item *item, void *elements, uint64_t size)
{
    pp__list_init(&item->link);
    item->x = (struct pp__arguments){.elements = elements, .size = size, .fd = -1, .count = 1};
}

/* As pp__item_add, of data whose first `done` bytes were copied to where the bytes of the element at `place` lie. */
void *pp__item_add_rest(void *place, const void *data, size_t size, size_t done);
static inline void *pp__item_bytes(void *place)
{
    return (struct pp__element *)place + 1;
}

/* After the last one; 0 or why the elements can't be sealed. */
int pp__item_seal(struct pp__item *item);

/* Its elements, from the first on, if they do not lie in fd. */
struct pp__elements pp__item_elements(const struct pp__item *item);

/* Where the only elements of a call lie on a shelf: whose; else NULL. */
static inline struct pp__worker *pp__item_home(const struct pp__item *item)
{
    return item->place && item->in_future ? item->x.home : NULL;
}

/* Where a result of this size of element `next` can lie without an allocation of its own; NULL: nowhere. */
void *pp__item_room(struct pp__item *item, size_t size);

/* Where the result of a plain or simple call can lie, which has ended and is a plain one from then on: where its
 * argument lay if that is as large. NULL: no memory, and nothing was done. */
void *pp__item_make_room(struct pp__item *item, size_t size);

/* Where results of its elements from `next` on, all of `each` bytes, can lie one right behind the other; NULL: they are
 * delivered one by one. */
void *pp__item_run_room(struct pp__item *item, size_t each);

/* An error, in one allocation with its texts, from what is known of the item's element `next` and of `worker` (NULL:
 * none). Never NULL: without memory it is one that says so, of the same kind. Takes over item->earlier. */
pp_error *pp__item_error(struct pp__item *item, pp_error_kind kind, int task_code, const struct pp__worker *worker,
                         uint64_t run_time, const char *format, ...) __attribute__((format(printf, 6, 7)));
void pp__error_free(pp_error *error);

/* It has ended: how its tries before did is nobody's affair. What took their place is left. */
static inline void pp__item_forget_tries(struct pp__item *item)
{
    if (!item->earlier || item->has_back || item->keeps)
        return;
    pp__error_free(item->earlier);
    item->earlier = NULL;
}

/* What it owns. */
void pp__outcome_free(struct pp__outcome *outcome);

/* Whether it is this call's alone and may be added to; not so the one that says that there was no memory for it. */
bool pp__error_is_own(const pp_error *error);

/* The code that futures return for an error of this kind. */
int pp__error_code(pp_error_kind kind);

/* Delivers `count` elements from `next` on and steps on. True: the last one was among them, the item is gone. */
bool pp__item_deliver(struct pp__item *item, uint32_t count, struct pp__outcome outcome);

/* Ends all remaining elements with this kind and text. The item is gone. */
void pp__item_fail(struct pp__item *item, pp_error_kind kind, int task_code, const char *text);

/* Cancels what has not begun: a try that failed and would be followed by another is what element `next` ends with. The
 * item is gone. */
void pp__item_cancel(struct pp__item *item, const char *text);

#endif
