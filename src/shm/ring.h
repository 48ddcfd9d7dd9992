/* SPDX-License-Identifier: MIT */
/*
 * A ring of variable-size records for a single producer and a single consumer that trust each other with nothing but
 * the ring's bytes.
 *
 * Shared memory:
 *   data   `capacity` bytes (a power of two, at most 2^30, aligned to 16); written by the producer only, each byte
 * before the tail that covers it is published. tail   written by the producer (release), read by the consumer
 * (acquire); grows only; bytes, free running, a multiple of 16. head   written by the consumer (release), read by the
 * producer (acquire); grows only; never beyond tail. tail and head lie wherever the two mappings need them: the
 * producer's tail in memory the consumer need not be able to write, and the other way round. Each is alone on its cache
 * line.
 *
 * A record is a header of 16 bytes and its payload, padded to a multiple of 16, contiguous in memory: where it does not
 * fit before the end of the data, a record of type PP__RING_PAD fills the rest. One release store of tail publishes any
 * number of records whole; a producer that dies at any instruction leaves either nothing of them or all of them.
 *
 * Writer and reader are private: what the peer could change is read once, copied, checked and only then used. A peer's
 * cursor or length that cannot be poisons that end for good: pp__ring_next then returns -EPROTO at every call,
 * pp__ring_reserve NULL.
 */
#ifndef PP_SHM_RING_H
#define PP_SHM_RING_H

#include "base/seam.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define PP__RING_ALIGN 16u
#define PP__RING_PAD UINT32_MAX

struct pp__record {
    uint32_t size; /* of the payload, bytes */
    uint32_t type; /* the user's; not PP__RING_PAD */
    uint64_t id;   /* the user's */
};

struct pp__ring_writer {
    unsigned char *data;
    _Atomic uint64_t *tail;
    const _Atomic uint64_t *head;
    uint64_t position;  /* where the next record goes; beyond tail by what is reserved and not published */
    uint64_t published; /* our own copy of tail: the shared one is never read back */
    uint64_t head_seen;
    uint32_t capacity;
    bool poisoned;
};

struct pp__ring_reader {
    const unsigned char *data;
    const _Atomic uint64_t *tail;
    _Atomic uint64_t *head;
    uint64_t position; /* of the next record; beyond head by what is read and not released */
    uint64_t released; /* our own copy of head */
    uint64_t tail_seen;
    uint32_t capacity;
    bool poisoned;
};

/*
 * `start`: where both cursors begin, a multiple of 16; the shared words are the caller's to set to it before the ends
 * meet.
 */
void pp__ring_writer_init(struct pp__ring_writer *writer, void *data, uint32_t capacity, _Atomic uint64_t *tail,
                          const _Atomic uint64_t *head, uint64_t start);
void pp__ring_reader_init(struct pp__ring_reader *reader, const void *data, uint32_t capacity,
                          const _Atomic uint64_t *tail, _Atomic uint64_t *head, uint64_t start);

/* The largest payload that a ring of this capacity takes at every position: half of it less a header. */
uint32_t pp__ring_largest(uint32_t capacity);

/* Header, payload and padding. `size` is at most pp__ring_largest, so nothing overflows. */
static inline uint32_t pp__ring_room(uint32_t size)
{
    return (uint32_t)sizeof(struct pp__record) + (size + PP__RING_ALIGN - 1) / PP__RING_ALIGN * PP__RING_ALIGN;
}

static inline uint32_t pp__ring_offset(uint64_t position, uint32_t capacity)
{
    return (uint32_t)(position & (capacity - 1));
}

/* As pp__ring_reserve, where that takes more than what is known. */
void *pp__ring_reserve_slowly(struct pp__ring_writer *writer, uint32_t type, uint64_t id, uint32_t size);

/*
 * Room for a record with `size` bytes of payload, header filled in; NULL when it does not fit now (or never: larger
 * than pp__ring_largest, or poisoned). The payload is aligned to 16. Nothing is visible to the consumer before
 * pp__ring_publish.
 */
static inline void *pp__ring_reserve(struct pp__ring_writer *writer, uint32_t type, uint64_t id, uint32_t size)
{
    assert(type != PP__RING_PAD);
    PP_FAULT("ring.reserve");
    if (writer->poisoned || size > writer->capacity / 4)
        return pp__ring_reserve_slowly(writer, type, id, size);
    uint32_t room = pp__ring_room(size), offset = pp__ring_offset(writer->position, writer->capacity);
    if (room > writer->capacity - offset || room > writer->capacity - (writer->position - writer->head_seen))
        return pp__ring_reserve_slowly(writer, type, id, size);
    struct pp__record header = {.size = size, .type = type, .id = id};
    memcpy(writer->data + offset, &header, sizeof header);
    writer->position += room;
    PP_FAULT("ring.header");
    return writer->data + offset + sizeof header;
}

/* Publishes all records reserved so far, with one release store; a poisoned writer publishes nothing any more. */
void pp__ring_publish(struct pp__ring_writer *writer);

/*
 * The payload of the record that was reserved last and not published has `size` bytes and no more: what was reserved
 * beyond them is given up. Type and id stay as they are, for a reader that looks at the record before it is published.
 */
void pp__ring_shrink(struct pp__ring_writer *writer, void *payload, uint32_t size);

/*
 * Whether all published records have been released by the consumer / whether the record that ended at `position` has.
 */
bool pp__ring_drained(struct pp__ring_writer *writer);
bool pp__ring_passed(struct pp__ring_writer *writer, uint64_t position);

/*
 * Bytes published and not yet released, at most: exact when it is half the capacity or more, else as of our last look
 * at head.
 */
uint32_t pp__ring_used(struct pp__ring_writer *writer);

/* Copies out of memory that the other side may be changing. The one function through which payloads are read. */
void pp__shm_copy(void *to, const void *from, size_t size);

/* The same of few bytes, whose number the compiler knows. It must take the copy for what it is, and may not look at
 * `from` again in its stead. */
static inline __attribute__((always_inline)) void pp__shm_copy_few(void *to, const void *from, size_t size)
{
    memcpy(to, from, size);
    __asm__ volatile("" : : "r"(to) : "memory");
}

/* The same where 16 bytes are frequent. */
static inline void pp__shm_copy_short(void *to, const void *from, size_t size)
{
    if (size == 16)
        pp__shm_copy_few(to, from, 16);
    else
        pp__shm_copy(to, from, size);
}

/* As pp__ring_next, where that takes a look at tail, or something is the matter. */
int pp__ring_next_slowly(struct pp__ring_reader *reader, struct pp__record *record, const void **payload);

/*
 * The next record: 1, with a copy of its header, and its payload in place (whose bytes the peer can still change: copy,
 * check, use). 0: none. -EPROTO: the peer broke the ring. The record stays valid until pp__ring_release.
 */
static inline int pp__ring_next(struct pp__ring_reader *reader, struct pp__record *record, const void **payload)
{
    uint64_t published = reader->tail_seen - reader->position;
    uint32_t offset = pp__ring_offset(reader->position, reader->capacity);
    if (reader->poisoned || published == 0)
        return pp__ring_next_slowly(reader, record, payload);
    pp__shm_copy_few(record, reader->data + offset, sizeof *record); /* there is room for a header below the tail */
    if (record->type == PP__RING_PAD || record->size > reader->capacity / 4)
        return pp__ring_next_slowly(reader, record, payload);
    uint32_t room = pp__ring_room(record->size);
    if (room > reader->capacity - offset || room > published)
        return pp__ring_next_slowly(reader, record, payload);
    reader->position += room;
    *payload = reader->data + offset + sizeof *record;
    return 1;
}

/* Asks for the cache line in which the next record begins, there or not. */
static inline void pp__ring_fetch(const struct pp__ring_reader *reader)
{
    __builtin_prefetch(reader->data + pp__ring_offset(reader->position, reader->capacity));
}

/*
 * The record behind the last published one, of which the producer has said by other means (with release, read with
 * acquire) that its header and some of its payload are written: type and id as in its header, and as size the bytes at
 * `payload` that can be its own. To be called when pp__ring_next has just said that there is none. 1, or -EPROTO: no
 * such record can be there. Nothing is read by it as far as pp__ring_next and pp__ring_release go.
 */
int pp__ring_peek(struct pp__ring_reader *reader, struct pp__record *record, const void **payload);

/* Gives all records read so far back to the producer, with one release store. */
void pp__ring_release(struct pp__ring_reader *reader);

/*
 * Whether pp__ring_next has something to say, a record or -EPROTO; looks at tail afresh (acquire) unless it knows of
 * one.
 */
bool pp__ring_waiting(struct pp__ring_reader *reader);

/* Bytes published behind the record that pp__ring_next gave last; looks at tail afresh (acquire). */
uint32_t pp__ring_behind(struct pp__ring_reader *reader);

#endif
