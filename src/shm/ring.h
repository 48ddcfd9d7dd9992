/* SPDX-License-Identifier: MIT */
/*
 * A ring of variable-size records for a single producer and a single consumer that trust each other with nothing but
 * the ring's bytes.
 *
 * Shared memory:
 *
 *   data   `capacity` bytes (a power of two, 1024 to 2^30), aligned to 64, zeroed at first; the producer's; and behind
 *          them the slack, PP__RING_SLACK(capacity) bytes
 *   head   the consumer's (release), read by the producer (acquire): up to where records were given back; bytes,
 *          free running, a multiple of 64; grows only, never beyond what was published
 *   tail   the producer's: up to where it has published, in the same way, or an instant later. Nothing is read by
 *          it: it says how much there is (pp__ring_behind), and whether the two ends agree (pp__ring_misses)
 *
 * head and tail lie wherever the two mappings need them: the producer's tail in memory that the consumer need not be
 * able to write, and the other way round. Each is alone on its cache line.
 *
 * A record is a header of 16 bytes and its payload, padded to a multiple of 64, contiguous in memory: one that begins
 * before the end of the data goes on in the slack, and as many bytes at the beginning stay unused, so that every
 * position has its place, and the next record begins at its own. The header begins with a mark, which is 0 until the
 * record is published. Behind the last published record there is always room for another one, whose mark is
 * 0. One release store, of the first one's mark, publishes any number of records whole; a producer that dies at any
 * instruction leaves either nothing of them or all of them. So the consumer waits for the very line in which the record
 * lies, and has it when it sees that it is there.
 *
 * Writer and reader are private: what the peer could change is read once, copied, checked and only then used. A peer's
 * cursor or length that cannot be poisons that end for good: pp__ring_next then returns -EPROTO at every call,
 * pp__ring_reserve NULL.
 */
#ifndef PP_SHM_RING_H
#define PP_SHM_RING_H

#include "base/atomic.h"
#include "base/seam.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* It can be weakened from outside, so that a test can show that it is needed; with those in ring.c. */
#ifndef RING_MARK_ORDER
#define RING_MARK_ORDER memory_order_acquire
#endif

/* A record takes whole cache lines: none waits for what belongs to another. */
#define PP__RING_ALIGN 64u
/* Behind the data, for the record that crosses their end. There is never more than one: from the beginning of one to
 * the end of the next are more bytes than the capacity. */
#define PP__RING_SLACK(capacity) ((capacity) / 4 + (capacity) / 16)
#define PP__RING_FETCH (UINT64_C(3) * PP__RING_ALIGN)

struct pp__record {
    uint32_t size; /* of the payload, bytes */
    uint32_t type; /* the user's */
    uint64_t id;   /* the user's */
};

/* As it lies in memory. */
struct pp__header {
    _Atomic uint32_t mark; /* the payload's size + 1; 0: the record is not published */
    uint32_t type;
    uint64_t id;
};

struct pp__ring_writer {
    unsigned char *data;
    _Atomic uint64_t *tail;
    const _Atomic uint64_t *head;
    uint64_t position;  /* where the next record goes; beyond `published` by what is reserved and not published */
    uint64_t published; /* where the first of those begins, */
    uint32_t mark;      /* and what is to be its mark */
    uint64_t cleared;   /* if that is beyond `position`: from there to here all marks are 0 */
    uint32_t capacity;
    uint64_t head_seen;
    bool poisoned;
};

struct pp__ring_reader {
    const unsigned char *data;
    const _Atomic uint64_t *tail;
    _Atomic uint64_t *head;
    uint64_t position; /* of the next record; beyond head by what is read and not released */
    uint64_t released; /* our own copy of head */
    uint32_t capacity;
    bool poisoned;
};

/*
 * `start`: where both cursors begin, a multiple of 64; the shared words are the caller's to set to it before the ends
 * meet, and no record is there yet.
 */
void pp__ring_writer_init(struct pp__ring_writer *writer, void *data, uint32_t capacity, _Atomic uint64_t *tail,
                          const _Atomic uint64_t *head, uint64_t start);
void pp__ring_reader_init(struct pp__ring_reader *reader, const void *data, uint32_t capacity,
                          const _Atomic uint64_t *tail, _Atomic uint64_t *head, uint64_t start);

/* The largest payload that a ring of this capacity takes: it fits the slack, the more so as its first line lies before
 * that. */
static inline uint32_t pp__ring_largest(uint32_t capacity)
{
    return PP__RING_SLACK(capacity) + PP__RING_ALIGN - (uint32_t)sizeof(struct pp__record);
}

/* Header, payload and padding. What is larger than the largest may overflow. */
static inline uint32_t pp__ring_room(uint32_t size)
{
    return (uint32_t)(sizeof(struct pp__header) + size + PP__RING_ALIGN - 1) / PP__RING_ALIGN * PP__RING_ALIGN;
}

static inline uint32_t pp__ring_offset(uint64_t position, uint32_t capacity)
{
    return (uint32_t)(position & (capacity - 1));
}

static inline struct pp__header *pp__ring_header(const struct pp__ring_writer *writer, uint64_t position)
{
    return (struct pp__header *)(void *)(writer->data + pp__ring_offset(position, writer->capacity));
}

/* The header of a record that is reserved where the writer is now. The mark of the first that is not published stays 0
 * until it is. */
static inline void pp__ring_put_header(struct pp__ring_writer *writer, uint32_t type, uint64_t id, uint32_t size)
{
    struct pp__header *header = pp__ring_header(writer, writer->position);
    header->type = type;
    header->id = id;
    if (writer->position == writer->published)
        writer->mark = size + 1;
    else
        pp__store_relaxed(&header->mark, size + 1); /* published with the first one's */
}

/* Whether there is room for so many bytes and, behind them, a mark. */
static inline bool pp__ring_fits(const struct pp__ring_writer *writer, uint32_t room)
{
    return room + PP__RING_ALIGN <= writer->capacity - (writer->position - writer->head_seen);
}

/* As pp__ring_reserve, by what the consumer has given back meanwhile. */
void *pp__ring_reserve_again(struct pp__ring_writer *writer, uint32_t type, uint64_t id, uint32_t size);

/*
 * Room for a record with `size` bytes of payload, header filled in; NULL when it does not fit now (or never: larger
 * than pp__ring_largest, or poisoned). The payload is aligned to 16. Nothing is visible to the consumer before
 * pp__ring_publish.
 */
static inline void *pp__ring_reserve(struct pp__ring_writer *writer, uint32_t type, uint64_t id, uint32_t size)
{
    PP_FAULT("ring.reserve");
    uint32_t room = pp__ring_room(size), offset = pp__ring_offset(writer->position, writer->capacity);
    if (writer->poisoned || size > pp__ring_largest(writer->capacity) || !pp__ring_fits(writer, room))
        return pp__ring_reserve_again(writer, type, id, size);
    pp__ring_put_header(writer, type, id, size);
    writer->position += room;
    PP_FAULT("ring.header");
    return writer->data + offset + sizeof(struct pp__header);
}

/* Publishes all records reserved so far; a poisoned writer publishes nothing any more. */
void pp__ring_publish(struct pp__ring_writer *writer);

/* Of a poisoned writer: what its consumer looks at next, behind what was published, is garbage to it. */
void pp__ring_spoil(struct pp__ring_writer *writer);

/* What was reserved from `position` on, and not published, is given up: something may have been written there. */
static inline void pp__ring_give_up(struct pp__ring_writer *writer, uint64_t position)
{
    writer->position = position;
    if ((int64_t)(writer->cleared - position) > 0)
        writer->cleared = position;
}

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

/* Where the mark of the next record lies, or will. */
static inline const _Atomic uint32_t *pp__ring_mark(const struct pp__ring_reader *reader)
{
    const unsigned char *place = reader->data + pp__ring_offset(reader->position, reader->capacity);
    return &((const struct pp__header *)(const void *)place)->mark;
}

/* Type and id of the record whose header lies at `place`, each read once, and each stored as it will be loaded: a load
 * that several stores have a part in waits until all of them have reached the cache. */
static inline void pp__ring_copy_header(struct pp__record *record, const unsigned char *place)
{
    const volatile struct pp__header *header = (const volatile void *)place;
    record->type = header->type;
    record->id = header->id;
}

/* Where there is no record: whether that is since there is none that can be. */
bool pp__ring_is_broken(struct pp__ring_reader *reader, uint32_t mark);

/*
 * The next record: 1, with a copy of its header, and its payload in place (whose bytes the peer can still change: copy,
 * check, use). 0: none. -EPROTO: the peer broke the ring. The record stays valid until pp__ring_release.
 */
static inline int pp__ring_next(struct pp__ring_reader *reader, struct pp__record *record, const void **payload)
{
    uint32_t offset = pp__ring_offset(reader->position, reader->capacity);
    uint32_t mark = pp__load_ordered(pp__ring_mark(reader), RING_MARK_ORDER); /* pairs with pp__ring_publish */
    uint32_t size = mark - 1, room = pp__ring_room(size);
    if (reader->poisoned || mark == 0 || size > pp__ring_largest(reader->capacity) ||
        room > reader->capacity - (reader->position - reader->released))
        return pp__ring_is_broken(reader, mark) ? -EPROTO : 0;
    record->size = size;
    pp__ring_copy_header(record, reader->data + offset);
    reader->position += room;
    *payload = reader->data + offset + sizeof(struct pp__header);
    return 1;
}

/* The record that pp__ring_next gave last is the next one again. */
static inline void pp__ring_unread(struct pp__ring_reader *reader, const struct pp__record *record)
{
    reader->position -= pp__ring_room(record->size);
}

/* Asks for a line some way behind the next record, between two of many: they come one right behind the other. Of a line
 * that is not published yet its producer would have to ask for it again. */
static inline void pp__ring_fetch(const struct pp__ring_reader *reader)
{
    __builtin_prefetch(reader->data + pp__ring_offset(reader->position + PP__RING_FETCH, reader->capacity));
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

/* Whether pp__ring_next has something to say, a record or -EPROTO (a broken ring is waiting too). What was written
 * before the record is seen. */
static inline bool pp__ring_waiting(const struct pp__ring_reader *reader)
{
    /* Pairs with the store in pp__ring_publish. */
    return reader->poisoned || pp__load_ordered(pp__ring_mark(reader), RING_MARK_ORDER) != 0;
}

/* Bytes published behind the record that pp__ring_next gave last, by what the producer says. */
uint32_t pp__ring_behind(const struct pp__ring_reader *reader);

/* Whether it says that it has published what lies where the next record would, and nothing is there. Once that may be
 * so for an instant, as what it says comes in no order; again a while later, with nothing read in between, somebody has
 * written to the ring who is not its producer. Not for each look: the tail's line is the producer's. */
bool pp__ring_misses(const struct pp__ring_reader *reader);

#endif
