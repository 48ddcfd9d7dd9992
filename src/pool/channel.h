/* SPDX-License-Identifier: MIT */
/*
 * The channel between the owner and one worker: two sealed segments, the pool's page, a bell and a socket.
 *
 * Call side: written by the owner alone; the worker can map it only for reading.
 * Result side: written by the worker, but for the slots, which both sides change by compare-and-swap.
 * Pool's page: written by the owner alone, read by all workers of the pool.
 *
 * What is sent. Call ring: NUMBER (to a standby), SETTING, CAPTURE, MODULE (what a module index means), INIT, CALL,
 * PLAIN, LEAVE. Result ring: READY (after the initializer), RESULT, OUTPUT (what a call wrote, ahead of its RESULT),
 * RUN (results of a chunk's elements, which travel as one array), LEFT. A payload that does not fit a record lies in a
 * buffer that its writer has in a place of its shelf (shelf.h), and that the reader knows by that place; where there is
 * no place for it, in a sealed memfd of its own. The descriptor of what is not known yet went through the socket before
 * the record was published, in the records' order, and with it those that travel beside a call or its result
 * (descriptors.h).
 */
#ifndef PP_POOL_CHANNEL_H
#define PP_POOL_CHANNEL_H

#include "process/trace.h"
#include "shm/open.h"
#include "shm/ring.h"
#include "shm/slot.h"
#include "shm/want.h"

#include <assert.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define PP__MAGIC UINT64_C(0x316c6f6f70636f72) /* "rocpool1" */
#define PP__VERSION 7u
#define PP__SLOTS 256u
#define PP__RING_BYTES 65536u
#define PP__RING_ROOM (PP__RING_BYTES + PP__RING_SLACK(PP__RING_BYTES))
#define PP__LINE 64

/* Payloads up to this size lie inside a record. */
#define PP__INLINE_MAX 16384u

/* Results up to this size are copied by the owner, wherever they lie: a process has no more than some 65,000 mappings
 * (vm.max_map_count), many results may be held, and making a mapping read-only costs as much as the copy. */
#define PP__COPIED_MAX ((size_t)1 << 18)

/* What does not fit a record lies in a buffer (shm/buffer.h) that is used again, as long as there is a place for one:
 * so many for each direction. */
#define PP__PLACES 8u

/* Buffers of the program's that a worker has mapped, at most. */
#define PP__KNOWN 16u

/* Where in a buffer elements begin. The first one's bytes, behind its header, are then no 16 bytes apart, modulo a
 * page, from a caller's memory that begins with a page or that malloc has mapped: with glibc before 2.39 some
 * processors copy that twenty times slower. */
#define PP__ELEMENTS_AT 48u

/* Standard output and standard error, in this order wherever both are. */
#define PP__STREAMS 2u

/* How far a call says that it is, and which: its id + 1, 0 for none. Another call's value comes before its id, and
 * behind the result of this one. */
struct pp__progress {
    _Atomic uint64_t id;
    _Atomic uint64_t value;
};

/* What is read at other times than the rest has a line of its own, and so padding. */
// NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding)
struct pp__call_side {
    uint64_t magic; /* these three: owner, before the worker exists */
    uint32_t version;
    uint32_t size;
    alignas(PP__LINE) _Atomic uint64_t call_tail;   /* owner -> worker; ring.h */
    alignas(PP__LINE) _Atomic uint64_t result_head; /* owner -> worker; ring.h */
    alignas(PP__LINE) _Atomic uint32_t bell;        /* owner -> worker: the worker's futex; doorbell.h */
    /* owner -> worker, release: for each place of the worker's shelf, how many results of it were given back, << 1; the
     * lowest bit says that the owner has the last one's buffer no more. Written by any thread of the owner, under the
     * lock in results.c. */
    alignas(PP__LINE) _Atomic uint32_t returned[PP__PLACES];
    /* owner -> worker, release: for each place of the owner's shelf, how many buffers had been sent for it when the
     * last one was given up. */
    alignas(PP__LINE) _Atomic uint32_t discarded[PP__PLACES];
    /* owner -> worker, release: the id + 1 of the call that is asked to stop; 0: none was. Of a call that has ended:
     * nothing. */
    alignas(PP__LINE) _Atomic uint64_t stop;
    /* owner -> worker, release: for each place of the program's buffers, how many had been sent for it when the last
     * one was forgotten. */
    alignas(PP__LINE) _Atomic uint32_t forgotten[PP__KNOWN];
    alignas(PP__LINE) unsigned char calls[PP__RING_ROOM];
};

struct pp__result_side {
    alignas(PP__LINE) _Atomic uint64_t result_tail; /* worker -> owner; ring.h */
    alignas(PP__LINE) _Atomic uint64_t call_head;   /* worker -> owner; ring.h */
    alignas(PP__LINE) _Atomic uint32_t sleeping;    /* worker -> owner: whether it sleeps; doorbell.h */
    /* worker -> owner: the id behind the last element whose result lies in the open run, the record at the end of
     * the result ring that is not published yet; open.h. Of a run that was published, or before the first: nothing new.
     */
    alignas(PP__LINE) _Atomic uint64_t open;
    /* worker -> owner: the element of a chunk that runs, or is the next to run, of those that were begun together. */
    _Atomic uint64_t started;
    /* worker -> owner: how many bytes of `crash` are a trace (process/trace.h), stored (release) by a worker that dies
     * of a crash; 0 before. Read when it is gone. */
    _Atomic uint32_t crash_size;
    /* worker -> owner: the processor on which it last went to sleep; a hint. */
    _Atomic uint32_t processor;
    /* worker -> owner, any number is as good as another; of a call that has ended: nothing. */
    struct pp__progress progress;
    /* worker -> owner: where in the files of its output that of the call which runs begins; stored before the slot says
     * BEGUN. Of a worker whose output is not captured: 0; where the worker has lost a file: UINT64_MAX. */
    _Atomic uint64_t output[PP__STREAMS];
    _Atomic uint64_t leave;                              /* both: the slot of LEAVE, of PP__LEAVE_ID */
    alignas(PP__LINE) _Atomic uint64_t slots[PP__SLOTS]; /* both: who has which call; slot.h */
    /* worker -> owner: pp__now() of the begin, stored before the slot says BEGUN. */
    alignas(PP__LINE) _Atomic uint64_t begun_at[PP__SLOTS];
    alignas(PP__LINE) unsigned char results[PP__RING_ROOM];
    alignas(PP__LINE) unsigned char crash[PP__TRACE_MAX];
};

struct pp__pool_page {
    alignas(PP__LINE) struct pp__wanted wanted; /* owner -> workers: what it is to be rung for; want.h */
    _Atomic uint32_t manager;                   /* the manager's futex: grows when it is called; wait.c */
    alignas(PP__LINE) _Atomic uint32_t
        spin; /* ns that a worker which may spin at all does so before it sleeps; 0 while processors are wanted */
    _Atomic uint32_t processor;  /* owner -> workers: on which the thread was that last slept for a result; UINT32_MAX:
                                    none; a hint */
    _Atomic uint32_t near;       /* owner -> workers: the same, where nobody spins and that thread does nothing between
                                    the one call that there is and its sleep */
    _Atomic uint64_t shelf_most; /* owner -> workers: bytes that a shelf may have; 0: the least (shelf.h) */
};

/* Nobody spins longer than this, ns. */
#define PP__SPIN_MAX UINT64_C(100000)

/*
 * Where a thread sleeps there the kernel likes to wake it: so a worker comes to sleep on the very processor of the
 * thread that waits for it, while another idles. Each would spin in the other's way. The thread sleeps instead, and so
 * does the worker if it had slept for so long, ns, before: as long as calls are apart the two are quicker on one
 * processor. Between calls that are closer than that it moves to another one (worker_idle.c); the kernel parts two that
 * both want to run, too, but takes tens of milliseconds. Where nobody spins it comes to that processor (near).
 */
#define PP__PAUSE UINT64_C(30000)

/* A page is dear to map, so each ring begins on the one with the words before it. */
static_assert(offsetof(struct pp__call_side, calls) == 512, "fixed layout");
static_assert(offsetof(struct pp__result_side, results) == 256 + 16 * PP__SLOTS, "fixed layout");
static_assert(sizeof(struct pp__result_side) % 4096 == 0, "no page is begun for a rest");
static_assert(offsetof(struct pp__call_side, call_tail) == 64, "fixed layout");
static_assert(offsetof(struct pp__call_side, result_head) == 128, "fixed layout");
static_assert(offsetof(struct pp__call_side, bell) == 192, "fixed layout");
static_assert(offsetof(struct pp__call_side, returned) == 256, "fixed layout");
static_assert(offsetof(struct pp__call_side, discarded) == 320, "fixed layout");
static_assert(offsetof(struct pp__call_side, stop) == 384, "fixed layout");
static_assert(offsetof(struct pp__call_side, forgotten) == 448, "fixed layout");
static_assert(offsetof(struct pp__result_side, call_head) == 64, "fixed layout");
static_assert(offsetof(struct pp__result_side, sleeping) == 128, "fixed layout");
static_assert(offsetof(struct pp__result_side, open) == 192, "fixed layout");
static_assert(offsetof(struct pp__result_side, progress) == 216, "fixed layout");
static_assert(offsetof(struct pp__result_side, output) == 232, "fixed layout");
static_assert(offsetof(struct pp__result_side, leave) == 248, "fixed layout");
static_assert(offsetof(struct pp__result_side, slots) == 256, "fixed layout");
static_assert(offsetof(struct pp__result_side, begun_at) == 256 + 8 * PP__SLOTS, "fixed layout");
static_assert(offsetof(struct pp__result_side, crash) == 256 + 16 * PP__SLOTS + PP__RING_ROOM, "fixed layout");

#define PP__PAGE_SIZE 4096u

enum pp__record_type {
    PP__RECORD_MODULE = 1, /* id: module index; payload: as pp__module_travel */
    PP__RECORD_INIT,       /* struct pp__call_record, elements */
    PP__RECORD_CALL,       /* the same; id: of element 0 */
    PP__RECORD_PLAIN,      /* struct pp__plain_record, argument, buffers; id: of the call */
    PP__RECORD_LEAVE,      /* the same, or empty where there is no finalizer */
    PP__RECORD_READY,      /* struct pp__result_record, message */
    PP__RECORD_RESULT,     /* the same, result or message; id: of the element */
    PP__RECORD_RUN,        /* struct pp__run_record, results; id: of the first element */
    PP__RECORD_LEFT,       /* the same */
    PP__RECORD_SETTING,    /* struct pp__setting and what is behind it (setting.h): ahead of INIT */
    PP__RECORD_NUMBER, /* struct pp__worker_plan, with the number that a process which was made without one has from now
                          on */
    PP__RECORD_CAPTURE, /* struct pp__capture_order; the files' descriptors were sent ahead: ahead of INIT */
    PP__RECORD_OUTPUT   /* struct pp__output_record; id: of the call */
};

/* LEAVE is begun like a call, in a slot of its own, as those of calls that were taken back must go on saying that until
 * their records are passed: a worker that does not begin it is stopped, and is killed. */
#define PP__LEAVE_ID (UINT64_MAX >> 2)

#define PP__BIG 1u        /* the payload does not lie in the record */
#define PP__TIMED 2u      /* the call has a timeout: the moment of its begin matters */
#define PP__SAME 4u       /* a chunk's elements all have the size `each`, and no headers (pp__same_room) */
#define PP__KEPT 8u       /* BIG: it lies in a buffer; without it, in a memfd of its own, which was sent */
#define PP__FRESH 16u     /* KEPT: the buffer was sent; what the reader had in that place is no more */
#define PP__TRACED 32u    /* FAILED: a trace (process/trace.h) lies before the message */
#define PP__ELEMENT 64u   /* of a call: elements of a map, or one, with which no descriptors travel */
#define PP__WITH 128u     /* of a call: buffers of the program's travel with it */
#define PP__PLACE_SHIFT 8 /* KEPT: the place lies in 8 bits from this one on; TRACED: the trace's size, in all */

/* Of a call, or of a RESULT: how many descriptors travel beside it, in the flags from this bit on. */
#define PP__COUNT_SHIFT 16
/* There may be a message ahead of the record. */
#define PP__AHEAD (PP__BIG | PP__WITH | UINT32_MAX << PP__COUNT_SHIFT)

#define PP__MOST_ELEMENTS 65536u /* of a chunk */

static inline uint32_t pp__flags_place(uint32_t flags)
{
    return flags >> PP__PLACE_SHIFT & 0xff;
}

static inline uint32_t pp__flags_count(uint32_t flags)
{
    return flags >> PP__COUNT_SHIFT;
}

/* Whether the descriptor of the payload is in the message ahead: a memfd of its own, or a new buffer. */
static inline bool pp__flags_bring_payload(uint32_t flags)
{
    return flags & PP__BIG && (!(flags & PP__KEPT) || flags & PP__FRESH);
}

/* Whether there is a message ahead. */
static inline bool pp__flags_bring_any(uint32_t flags)
{
    return pp__flags_bring_payload(flags) || pp__flags_count(flags) > 0;
}

/* A call or chunk. Behind it, 16-aligned, its elements (or, if BIG, nothing: they lie in the memfd). */
struct pp__call_record {
    uint64_t offset; /* of the function in its module */
    uint32_t module; /* index */
    uint32_t slot;
    uint32_t count; /* elements */
    uint32_t first; /* the first one to run */
    uint32_t flags;
    uint16_t buffers; /* struct pp__buffer_record, so many, lie behind the elements, padded */
    uint16_t dropped; /* a bit for each place of the program's buffers (known.h) in which there is none any more */
    uint64_t size;    /* bytes of all elements */
    uint64_t each;
};

/* A call with an argument of at most so many bytes and nothing else but buffers that its worker has: most are so, and
 * with 31 bytes, or 15 and two buffers, it travels in one line. Behind it the argument, the NUL included, padded to 16;
 * behind that a word for each buffer. */
#define PP__PLAIN_MOST 255u

struct pp__plain_record {
    uint64_t offset; /* of the function in its module */
    uint32_t module; /* index */
    uint8_t slot;
    uint8_t size; /* of the argument */
    bool timed;   /* the call has a timeout: the moment of its begin matters */
    uint8_t lent; /* buffers */
};

/* A buffer's serial, and the place in which the worker has it. */
#define PP__LENT_PLACE_BITS 4
static_assert(PP__KNOWN == 1 << PP__LENT_PLACE_BITS, "all places");

static inline uint64_t pp__lent_word(uint64_t serial, uint64_t place)
{
    return serial << PP__LENT_PLACE_BITS | place;
}

static inline uint64_t pp__lent_serial(uint64_t word)
{
    return word >> PP__LENT_PLACE_BITS;
}

static inline uint32_t pp__lent_place(uint64_t word)
{
    return word & (PP__KNOWN - 1);
}

/* What one of the program's buffers is to an item. */
enum pp__use {
    PP__USE_TASK,   /* the task sees it */
    PP__USE_INPUTS, /* a chunk's elements lie in it, none in the record */
    PP__USE_RESULTS /* results of `each` bytes are written there */
};

/* One of the program's buffers (known.h): in which place the worker has it, or is to have it if it is `fresh` and was
 * sent. */
struct pp__buffer_record {
    uint64_t serial;
    uint64_t size;
    uint64_t room;
    uint64_t at;   /* INPUTS, RESULTS: where that of the chunk's first element lies */
    uint64_t each; /* the same: bytes of one */
    uint32_t place;
    uint8_t use; /* pp__use */
    bool fresh;
    bool shared; /* workers may write to it */
    uint8_t reserved;
};

/* Where buffers' records lie, behind elements of so many bytes. */
static inline uint64_t pp__padded(uint64_t size)
{
    return (size + 15) & ~UINT64_C(15);
}

/* An element: this header, its bytes, a NUL, padding to 16. */
struct pp__element {
    uint64_t size;
    uint64_t reserved;
};

static inline uint64_t pp__element_room(uint64_t size)
{
    return sizeof(struct pp__element) + ((size + 1 + 15) & ~UINT64_C(15));
}

/* Elements of one size lie tight, and are copied for the task, which gets them aligned and with a NUL; larger ones lie
 * as they are read. */
#define PP__TIGHT_MAX 256u

static inline uint64_t pp__same_room(uint64_t size)
{
    return size <= PP__TIGHT_MAX ? size : (size + 1 + 15) & ~UINT64_C(15);
}

/* Elements, read one after the other. */
struct pp__elements {
    const char *place;
    bool same;
    uint64_t each;
    uint64_t step; /* of those of the same size: from one to the next */
};

static inline uint64_t pp__elements_size(const struct pp__elements *elements)
{
    return elements->same ? elements->each : ((const struct pp__element *)(const void *)elements->place)->size;
}

static inline const void *pp__elements_data(const struct pp__elements *elements)
{
    return elements->same ? elements->place : elements->place + sizeof(struct pp__element);
}

static inline void pp__elements_next(struct pp__elements *elements)
{
    elements->place += elements->same ? elements->step : pp__element_room(pp__elements_size(elements));
}

enum pp__outcome_type {
    PP__OUTCOME_RESULT, /* payload: the result */
    PP__OUTCOME_FAILED, /* payload: the task's message, perhaps behind a trace */
    PP__OUTCOME_TRAVEL, /* payload: what could not travel */
    PP__OUTCOME_UNFIT   /* READY: payload: what of its setting can't be had */
};

struct pp__result_record {
    uint32_t slot;
    uint32_t type; /* pp__outcome_type */
    int32_t code;
    uint32_t flags;
    uint64_t size;     /* of the result */
    uint64_t run_time; /* ns */
};

static inline uint32_t pp__kept_flags(uint32_t place, bool fresh)
{
    return PP__BIG | PP__KEPT | (fresh ? PP__FRESH : 0) | place << PP__PLACE_SHIFT;
}

/*
 * Results of elements of one chunk that follow one another, all of the size `each`, one right behind the other. All but
 * count is written before the first result; count, and another run_time, when the record is published.
 */
struct pp__run_record {
    uint32_t slot;
    uint32_t count;
    uint64_t each;
    uint64_t run_time; /* ns, of one element: of the first, then a mean */
    uint64_t in_place; /* 1: not here, but where USE_RESULTS says */
};

/* Larger results travel alone. */
#define PP__RUN_EACH_MAX 1024u

/* What its calls write to these streams, bits of pp_stream, a worker writes into the files that came with this, at the
 * end. */
struct pp__capture_order {
    uint64_t limit; /* bytes of each stream that are kept of a call */
    uint32_t streams;
    uint32_t reserved;
};

/*
 * Where in the files the output of a call lies. They grow until the owner has read all that was told; then the worker
 * empties them before its next call.
 */
struct pp__output_record {
    uint32_t slot;
    uint32_t reserved;
    uint64_t begin[PP__STREAMS];
    uint64_t end[PP__STREAMS];
    uint64_t dropped[PP__STREAMS]; /* bytes behind the end that were not kept */
};

static_assert(sizeof(struct pp__run_record) == 32, "nothing is written between its fields");
static_assert(sizeof(struct pp__call_record) == 48, "elements behind it are aligned to 16");
static_assert(sizeof(struct pp__record) + sizeof(struct pp__plain_record) + 32 == PP__LINE, "a call in one line");
static_assert(sizeof(struct pp__result_record) == 32, "the result behind it is aligned to 16");
static_assert(sizeof(struct pp__buffer_record) == 48, "elements and these are aligned to 16");
static_assert(sizeof(struct pp__element) == 16, "an element's bytes are aligned to 16");
static_assert(PP__INLINE_MAX + 1024 < PP__RING_SLACK(PP__RING_BYTES), "an inline payload fits the ring");

/* The message that carries descriptors: the payload's, if it brings that, then those that travel beside it. */
struct pp__attachment {
    uint64_t id;   /* as the record's */
    uint64_t size; /* of the payload, or of the whole buffer */
};

/* What a worker is told in its plan (process/child.h); descriptors: call side, result side, page, bell, socket. */
struct pp__worker_plan {
    uint64_t seed;
    int32_t number; /* -1: a standby's */
    int32_t spins;  /* whether it may spin when it runs dry */
    int32_t traces; /* whether a task's failure carries where it was */
    int32_t stays;  /* whether it keeps to the processor that it has, as it was pinned to one */
};
#define PP__WORKER_NAME "pp-worker-%d"
enum { PP__FD_CALL, PP__FD_RESULT, PP__FD_PAGE, PP__FD_BELL, PP__FD_SOCKET, PP__FD_COUNT };

#define PP__MESSAGE_MAX 1023u

#endif
