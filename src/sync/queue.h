/* SPDX-License-Identifier: MIT */
/* A queue of many processes: what its functions share. */
#ifndef PP_SYNC_QUEUE_H
#define PP_SYNC_QUEUE_H

#include "procpool.h"
#include "sync/gate.h"
#include "sync/messages.h"
#include "sync/object.h"
#include "sync/participant.h"

/* The gate's places: of those who wait for a message, for room, and for all that was put to be done. */
enum { PP__QUEUE_MESSAGE, PP__QUEUE_ROOM, PP__QUEUE_DONE, PP__QUEUE_WATCH };

/*
 * The segment; behind it the records of holders (PP__HOLDERS_MAX of a joinable queue, else none), the index, and the
 * bytes. The first three fields: written by the maker before anybody else has the descriptor, and by nobody afterwards.
 * `closed`: set once by anybody, before which it rings. Counts: see messages.h. Holders: inside the gate; how many
 * messages each process has taken and not done.
 */
struct pp__shared_queue {
    struct pp__object_head head;
    uint64_t max_items, max_bytes;
    uint32_t joinable;
    _Atomic uint32_t closed;
    struct pp__gate gate;
    struct pp__message_counts counts;
    struct pp__holders holders;
};

struct pp_queue {
    struct pp__object object;
    struct pp__messages messages;
    uint32_t capacity; /* of records; 0: not joinable */
};

static inline struct pp__shared_queue *pp__queue_shared(const pp_queue *queue)
{
    return queue->object.memory;
}

/* The words for an error of a wait for `what`, of which nothing was changed. Returns the error. */
int pp__queue_fail(int error, const char *what, int timeout);

#endif
