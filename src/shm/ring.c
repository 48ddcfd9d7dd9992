/* SPDX-License-Identifier: MIT */
/*
 * The ring: see ring.h for who writes what. Each end is used by one thread at a time of the process that holds it.
 *
 * Where the proof is:
 *   - A reader sees whole records. All bytes of a record are written before the store that publishes the tail behind
 * it, and read after the load that saw that tail (PUBLISH pairs with TAIL).
 *   - A writer does not overwrite what is still read. The reader's last look at a record comes before the store of a
 * head behind it, and the writer's first byte there after the load that saw that head (RELEASE pairs with HEAD).
 *   - The peer cannot lead us outside. `position`, `published`, `released` and the cursors last seen are ours; the
 * peer's cursor is taken over only if it moved forward, by whole units, and stays within what our own cursors allow
 * (writer: released
 *     <= head <= published; reader: tail_seen <= tail <= released + capacity). A header is copied once, and its size
 *     must end before the tail, before the end of the data and within what a writer can reserve at all.
 *   - The peer cannot make us loop. There is no loop here: a call reads at most one cursor and two headers.
 */
#include "shm/ring.h"

#include "base/atomic.h"
#include "base/error.h"
#include "base/seam.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/* Each can be weakened from outside, so that a test can show that it is needed. */
#ifndef RING_PUBLISH_ORDER
#define RING_PUBLISH_ORDER memory_order_release
#endif
#ifndef RING_TAIL_ORDER
#define RING_TAIL_ORDER memory_order_acquire
#endif
#ifndef RING_RELEASE_ORDER
#define RING_RELEASE_ORDER memory_order_release
#endif
#ifndef RING_HEAD_ORDER
#define RING_HEAD_ORDER memory_order_acquire
#endif

/* So far ahead of the tail two lines are asked for that will be written: the consumer read them last. */
#define AHEAD 128u
#define LINE 64u

#define CAPACITY_MIN (4 * PP__RING_ALIGN)
#define CAPACITY_MAX (UINT32_C(1) << 30)

static_assert(sizeof(struct pp__record) == PP__RING_ALIGN, "a payload behind its header is aligned as the header is");

static bool aligned(uint64_t cursor)
{
    return cursor % PP__RING_ALIGN == 0;
}

static void check_ring(const void *data, uint32_t capacity, uint64_t start)
{
    assert((uintptr_t)data % PP__RING_ALIGN == 0);
    assert(capacity >= CAPACITY_MIN && capacity <= CAPACITY_MAX && (capacity & (capacity - 1)) == 0);
    assert(aligned(start));
    (void)data, (void)capacity, (void)start;
}

void pp__ring_writer_init(struct pp__ring_writer *writer, void *data, uint32_t capacity, _Atomic uint64_t *tail,
                          const _Atomic uint64_t *head, uint64_t start)
{
    check_ring(data, capacity, start);
    *writer = (struct pp__ring_writer){.data = data,
                                       .tail = tail,
                                       .head = head,
                                       .position = start,
                                       .published = start,
                                       .head_seen = start,
                                       .capacity = capacity};
}

void pp__ring_reader_init(struct pp__ring_reader *reader, const void *data, uint32_t capacity,
                          const _Atomic uint64_t *tail, _Atomic uint64_t *head, uint64_t start)
{
    check_ring(data, capacity, start);
    *reader = (struct pp__ring_reader){.data = data,
                                       .tail = tail,
                                       .head = head,
                                       .position = start,
                                       .released = start,
                                       .tail_seen = start,
                                       .capacity = capacity};
}

uint32_t pp__ring_largest(uint32_t capacity)
{
    return capacity / 2 - (uint32_t)sizeof(struct pp__record);
}

static int poison(bool *poisoned, const char *what)
{
    *poisoned = true;
    return pp__fail(-EPROTO, "the other side broke the ring: %s", what);
}

/* The writer ------------------------------------------------------------------------------------------------------- */

/* Takes over the peer's head: 0 or -EPROTO. */
static int look_at_head(struct pp__ring_writer *writer)
{
    if (writer->poisoned)
        return -EPROTO;
    /* Pairs with the store in pp__ring_release: what lies below this head is not read any more. */
    uint64_t head = pp__load_ordered(writer->head, RING_HEAD_ORDER);
    if (!aligned(head))
        return poison(&writer->poisoned, "its head is not at a record");
    if (head - writer->head_seen > writer->published - writer->head_seen)
        return poison(&writer->poisoned, "its head went back or beyond the tail");
    writer->head_seen = head;
    return 0;
}

static bool fits(const struct pp__ring_writer *writer, uint32_t room)
{
    return room <= writer->capacity - (writer->position - writer->head_seen);
}

static void put_header(struct pp__ring_writer *writer, uint32_t type, uint64_t id, uint32_t size)
{
    struct pp__record header = {.size = size, .type = type, .id = id};
    memcpy(writer->data + pp__ring_offset(writer->position, writer->capacity), &header, sizeof header);
}

/* How much a record that is this large must skip to lie in one piece. */
static uint32_t padding_for(const struct pp__ring_writer *writer, uint32_t room)
{
    uint32_t to_end = writer->capacity - pp__ring_offset(writer->position, writer->capacity);
    return room > to_end ? to_end : 0;
}

static void put_padding(struct pp__ring_writer *writer, uint32_t padding)
{
    put_header(writer, PP__RING_PAD, 0, padding - (uint32_t)sizeof(struct pp__record));
    writer->position += padding;
    PP_FAULT("ring.pad");
}

void *pp__ring_reserve_slowly(struct pp__ring_writer *writer, uint32_t type, uint64_t id, uint32_t size)
{
    if (writer->poisoned || size > pp__ring_largest(writer->capacity))
        return NULL;
    uint32_t room = pp__ring_room(size);
    uint32_t padding = padding_for(writer, room);
    if (!fits(writer, padding + room) && (look_at_head(writer) != 0 || !fits(writer, padding + room)))
        return NULL;
    if (padding > 0)
        put_padding(writer, padding);
    put_header(writer, type, id, size);
    void *payload = writer->data + pp__ring_offset(writer->position, writer->capacity) + sizeof(struct pp__record);
    writer->position += room;
    PP_FAULT("ring.header");
    return payload;
}

/* Or the stores there wait for the lines, and the next locked operation for the stores. */
static void fetch_ahead(const struct pp__ring_writer *writer)
{
    pp__prefetch_to_write(writer->data + pp__ring_offset(writer->position + AHEAD, writer->capacity));
    pp__prefetch_to_write(writer->data + pp__ring_offset(writer->position + AHEAD + LINE, writer->capacity));
}

void pp__ring_publish(struct pp__ring_writer *writer)
{
    if (writer->poisoned || writer->position == writer->published)
        return;
    PP_FAULT("ring.publish.before");
    writer->published = writer->position;
    /* Pairs with the load in look_at_tail: publishes the bytes of all records below. */
    pp__store_ordered(writer->tail, writer->published, RING_PUBLISH_ORDER);
    fetch_ahead(writer);
    PP_FAULT("ring.publish.after");
}

/* Only the size is written: the rest of the header may be looked at right now (pp__ring_peek). Nothing is read: what
 * else writes into the ring, a task by mistake, is not to move the writer. */
void pp__ring_shrink(struct pp__ring_writer *writer, void *payload, uint32_t size)
{
    struct pp__record *header = (struct pp__record *)payload - 1;
    uint64_t room = (writer->position - (uint64_t)((unsigned char *)header - writer->data)) & (writer->capacity - 1);
    assert(pp__ring_room(size) <= room);
    writer->position -= room - pp__ring_room(size);
    header->size = size;
}

bool pp__ring_drained(struct pp__ring_writer *writer)
{
    return pp__ring_passed(writer, writer->published);
}

/* Cursors of one ring are never 2^63 apart, so the sign of their difference says which is ahead. */
bool pp__ring_passed(struct pp__ring_writer *writer, uint64_t position)
{
    if ((int64_t)(writer->head_seen - position) >= 0)
        return true;
    return look_at_head(writer) == 0 && (int64_t)(writer->head_seen - position) >= 0;
}

/* The peer's cache line is fetched only when the answer matters. */
uint32_t pp__ring_used(struct pp__ring_writer *writer)
{
    if (writer->published - writer->head_seen >= writer->capacity / 2)
        look_at_head(writer);
    return (uint32_t)(writer->published - writer->head_seen);
}

/* The reader ------------------------------------------------------------------------------------------------------- */

/* Takes over the peer's tail: 0 or -EPROTO. */
static int look_at_tail(struct pp__ring_reader *reader)
{
    /* Pairs with the store in pp__ring_publish: what lies below this tail has been written. */
    uint64_t tail = pp__load_ordered(reader->tail, RING_TAIL_ORDER);
    if (!aligned(tail))
        return poison(&reader->poisoned, "its tail is not at a record");
    if (tail - reader->released > reader->capacity)
        return poison(&reader->poisoned, "its tail is further ahead than the ring is large");
    if (tail - reader->released < reader->tail_seen - reader->released)
        return poison(&reader->poisoned, "its tail went back");
    reader->tail_seen = tail;
    return 0;
}

/* Where the record at `position` starts; position lies below tail_seen, so there is room for a header at least. */
static const unsigned char *copy_header(const struct pp__ring_reader *reader, struct pp__record *header)
{
    const unsigned char *place = reader->data + pp__ring_offset(reader->position, reader->capacity);
    pp__shm_copy(header, place, sizeof *header);
    return place;
}

/* The same at any place of the data, but for its size. */
static const unsigned char *copy_kind(const struct pp__ring_reader *reader, uint64_t position,
                                      struct pp__record *header)
{
    const unsigned char *place = reader->data + pp__ring_offset(position, reader->capacity);
    pp__shm_copy(&header->type, place + offsetof(struct pp__record, type), sizeof *header - sizeof header->size);
    return place;
}

/*
 * A pad fills exactly the rest of the data, is smaller than the record that it makes way for, and is published together
 * with it.
 */
static int skip_padding(struct pp__ring_reader *reader, const struct pp__record *pad)
{
    uint32_t to_end = reader->capacity - pp__ring_offset(reader->position, reader->capacity);
    if (pad->size != to_end - sizeof *pad || to_end >= reader->capacity / 2)
        return poison(&reader->poisoned, "padding that does not fit its place");
    if (to_end >= reader->tail_seen - reader->position)
        return poison(&reader->poisoned, "padding without a record behind it");
    reader->position += to_end;
    return 0;
}

static int take_record(struct pp__ring_reader *reader, const struct pp__record *header)
{
    uint32_t to_end = reader->capacity - pp__ring_offset(reader->position, reader->capacity);
    if (header->type == PP__RING_PAD)
        return poison(&reader->poisoned, "padding behind padding");
    if (header->size > pp__ring_largest(reader->capacity))
        return poison(&reader->poisoned, "a record larger than any can be");
    uint32_t room = pp__ring_room(header->size);
    if (room > to_end || room > reader->tail_seen - reader->position)
        return poison(&reader->poisoned, "a record that ends beyond the tail or the data");
    reader->position += room;
    return 0;
}

/* `payload` is written only on success. */
static int read_record(struct pp__ring_reader *reader, struct pp__record *record, const void **payload)
{
    struct pp__record header;
    const unsigned char *place = copy_header(reader, &header);
    if (header.type == PP__RING_PAD) {
        if (skip_padding(reader, &header) != 0)
            return -EPROTO;
        place = copy_header(reader, &header);
    }
    if (take_record(reader, &header) != 0)
        return -EPROTO;
    *record = header;
    *payload = place + sizeof header;
    return 1;
}

int pp__ring_next_slowly(struct pp__ring_reader *reader, struct pp__record *record, const void **payload)
{
    if (reader->poisoned)
        return pp__fail(-EPROTO, "the other side broke the ring");
    if (reader->position == reader->tail_seen && look_at_tail(reader) != 0)
        return -EPROTO;
    if (reader->position == reader->tail_seen)
        return 0;
    return read_record(reader, record, payload);
}

void pp__ring_release(struct pp__ring_reader *reader)
{
    if (reader->poisoned || reader->position == reader->released)
        return;
    PP_FAULT("ring.release.before");
    reader->released = reader->position;
    /* Pairs with the load in look_at_head: we look no more at what lies below. */
    pp__store_ordered(reader->head, reader->released, RING_RELEASE_ORDER);
}

/*
 * What the header says of its record's size is not looked at: the producer may be changing that (pp__ring_shrink).
 * Whatever it says else, `size` stays within the data and within what the producer may write before our next release.
 */
int pp__ring_peek(struct pp__ring_reader *reader, struct pp__record *record, const void **payload)
{
    struct pp__record header = {0};
    uint64_t position = reader->position, limit = reader->released + reader->capacity;
    const unsigned char *place = copy_kind(reader, position, &header);
    if (header.type == PP__RING_PAD) {
        position += reader->capacity - pp__ring_offset(position, reader->capacity);
        place = copy_kind(reader, position, &header);
    }
    uint64_t left = limit - position; /* huge if the padding ends beyond the limit */
    uint32_t to_end = reader->capacity - pp__ring_offset(position, reader->capacity);
    if (header.type == PP__RING_PAD || left <= sizeof header || left > reader->capacity)
        return poison(&reader->poisoned, "no record where one was begun");
    header.size = (to_end < left ? to_end : (uint32_t)left) - (uint32_t)sizeof header;
    *record = header;
    *payload = place + sizeof header;
    return 1;
}

/* A broken ring is waiting too: for pp__ring_next to say so. */
bool pp__ring_waiting(struct pp__ring_reader *reader)
{
    if (reader->poisoned || reader->position != reader->tail_seen)
        return true;
    return look_at_tail(reader) != 0 || reader->position != reader->tail_seen;
}

uint32_t pp__ring_behind(struct pp__ring_reader *reader)
{
    return reader->poisoned || look_at_tail(reader) != 0 ? 0 : (uint32_t)(reader->tail_seen - reader->position);
}

/* The compiler must take the copy for what it is, and may not look at `from` again in its stead. */
void pp__shm_copy(void *to, const void *from, size_t size)
{
    if (size > 0)
        memcpy(to, from, size);
    __asm__ volatile("" : : "r"(to) : "memory");
}
