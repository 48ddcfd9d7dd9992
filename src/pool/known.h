/* SPDX-License-Identifier: MIT */
/*
 * Which of the program's buffers a worker has mapped: it keeps each in the place that its owner says, for the next call
 * with that buffer, until another takes the place, they become too many bytes, or it was not used for a while. All of
 * that the owner decides, and tells in the records' order, so what the worker finds in a place is what the owner
 * thinks. The owner's side, under the pool's lock.
 */
#ifndef PP_POOL_KNOWN_H
#define PP_POOL_KNOWN_H

#include "pool/channel.h"
#include "procpool.h"

#include <stdbool.h>
#include <stddef.h>

struct pp__buffers;

/* Together, but those of one call may be more. */
#define PP__KNOWN_MAX ((size_t)1 << 30)

struct pp__known_place {
    uint64_t serial; /* of the buffer; 0: none */
    size_t room;
    uint64_t bringer; /* the id of the item that it was sent with */
    uint64_t used;    /* when it was last: the count then */
    uint32_t count;   /* buffers sent for this place */
    bool doubtful;    /* no serial, and the worker may have one there all the same */
};

struct pp__known {
    struct pp__known_place places[PP__KNOWN];
    size_t size; /* bytes of all */
    uint64_t uses;
    uint64_t tidied; /* what uses was when pp__known_tidy was last called */
};

/* What a call's buffers are to a worker, before that is told. */
struct pp__known_plan {
    struct pp__known after; /* as it will be */
    uint32_t dropped;       /* a bit for each place whose buffer goes */
    uint32_t fresh;         /* buffers to be sent: */
    int fds[PP_MAX_BUFFERS];
};

/* Whether it has all of them: then `entries` are written, one for each buffer, and they count as used. */
bool pp__known_has(struct pp__known *known, const struct pp__buffers *buffers, struct pp__buffer_record *entries);

/* The same with a word for each (channel.h). If it has not all of them nothing was done. */
bool pp__known_words(struct pp__known *known, const struct pp__buffers *buffers, uint64_t *words);

/* Else: plans it for an item with this id, and writes `entries`, one for each buffer. It has happened once *known
 * becomes plan->after. */
void pp__known_plan(const struct pp__known *known, const struct pp__buffers *buffers, uint64_t id,
                    struct pp__known_plan *plan, struct pp__buffer_record *entries);

/* The worker may not have got them. */
void pp__known_doubt(struct pp__known *known, const struct pp__buffers *buffers);

/* Nor, and nobody will tell, those that were sent with the item of this id. */
void pp__known_doubt_brought(struct pp__known *known, uint64_t id);

/* Gives up those that were not used since it was last called, and says so to the worker, which must have no calls. As
 * pp__shelf_tidy. */
bool pp__known_tidy(struct pp__known *known, _Atomic uint32_t *forgotten, bool *left);

#endif
