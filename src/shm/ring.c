/* SPDX-License-Identifier: MIT */
/*
 * The ring: see ring.h for who writes what. Each end is used by one thread at a time of the process that holds it.
 *
 * Where the proof is:
 *   - A reader sees whole records. All bytes of a record, and of those that are published with it, are written before
 *     the store of the first one's mark, and read after the load that saw that (PUBLISH pairs with MARK).
 *   - A reader does not take old bytes for a record. Where it looks next the mark is 0 until there is one: that was
 *     written before the mark of the batch before was, or lies there since the beginning. Up to `cleared` it is 0 also
 *     behind that, as long as nothing is written there; what is given up again (pp__ring_give_up) may have been.
 *   - A writer does not overwrite what is still read. The reader's last look at a record comes before the store of a
 *     head behind it, and the writer's first byte there after the load that saw that head (RELEASE pairs with HEAD).
 *     The mark behind its last record is such a byte, so there is room for one more.
 *   - Nor what is about to be read. Two records of which neither is given back are less than the capacity apart, and so
 *     are their places, but for the one that goes on in the slack: what would be over the other's beginning lies there.
 *   - The peer cannot lead us outside. `position`, `published`, `released` and the head last seen are ours; the peer's
 *     head is taken over only if it moved forward, by whole units, and not beyond `published`. A mark is read once, and
 *     what is behind it copied before it is looked at. The record must end within what the writer may write before our
 *     next release, and be no larger than what a writer can reserve at all, which fits the slack.
 *   - The peer cannot make us loop. There is no loop here: a call reads one header, and what is not released is at most
 *     the capacity.
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
#ifndef RING_RELEASE_ORDER
#define RING_RELEASE_ORDER memory_order_release
#endif
#ifndef RING_HEAD_ORDER
#define RING_HEAD_ORDER memory_order_acquire
#endif

/* The marks of so many bytes are cleared at once. */
#define CLEARED_AT_ONCE (UINT64_C(8) * PP__RING_ALIGN)

#define CAPACITY_MIN (16 * PP__RING_ALIGN)
#define CAPACITY_MAX (UINT32_C(1) << 30)

static_assert(sizeof(struct pp__header) == 16, "a payload behind its header is aligned to 16");

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
                                       .cleared = start + PP__RING_ALIGN,
                                       .head_seen = start,
                                       .capacity = capacity};
    pp__store_relaxed(&pp__ring_header(writer, start)->mark, 0); /* as it is: seen by who is given the ring */
}

void pp__ring_reader_init(struct pp__ring_reader *reader, const void *data, uint32_t capacity,
                          const _Atomic uint64_t *tail, _Atomic uint64_t *head, uint64_t start)
{
    check_ring(data, capacity, start);
    *reader = (struct pp__ring_reader){
        .data = data, .tail = tail, .head = head, .position = start, .released = start, .capacity = capacity};
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

void *pp__ring_reserve_again(struct pp__ring_writer *writer, uint32_t type, uint64_t id, uint32_t size)
{
    if (size > pp__ring_largest(writer->capacity) || look_at_head(writer) != 0 ||
        !pp__ring_fits(writer, pp__ring_room(size)))
        return NULL;
    return pp__ring_reserve(writer, type, id, size);
}

/*
 * From `position` on. The consumer has read these lines last: a store there waits until it has given the line up, and
 * the next locked operation waits for the store. Eight wait hardly longer than one, and what is written there next does
 * not have to; behind more than that one alone, as such records write over the next ones themselves. As many behind
 * them are asked for, which helps where a processor gives up ahead what it still has.
 */
static void clear_marks(struct pp__ring_writer *writer)
{
    uint64_t most = writer->capacity - (writer->position - writer->head_seen); /* behind that there may be records */
    uint64_t size = writer->position - writer->published > CLEARED_AT_ONCE ? PP__RING_ALIGN : CLEARED_AT_ONCE;
    uint64_t end = writer->position + (most < size ? most : size);
    for (uint64_t at = writer->position; at != end; at += PP__RING_ALIGN) {
        pp__store_relaxed(&pp__ring_header(writer, at)->mark, 0);
        pp__prefetch_to_write(pp__ring_header(writer, at + CLEARED_AT_ONCE));
    }
    writer->cleared = end;
}

void pp__ring_publish(struct pp__ring_writer *writer)
{
    if (writer->poisoned || writer->position == writer->published)
        return;
    PP_FAULT("ring.publish.before");
    struct pp__header *first = pp__ring_header(writer, writer->published);
    if (pp__load_relaxed(&first->mark) != 0) { /* nobody but we may write there, and clear_marks stored 0 */
        poison(&writer->poisoned, "a record lies where the next is to be published");
        return;
    }
    /* Behind the last record there is none: published with the first one's mark. */
    if ((int64_t)(writer->cleared - writer->position) <= 0)
        clear_marks(writer);
    PP_FAULT("ring.publish.end");
    writer->published = writer->position;
    /* Pairs with the loads in pp__ring_next and pp__ring_waiting: publishes the bytes of all records. */
    pp__store_ordered(&first->mark, writer->mark, RING_PUBLISH_ORDER);
    pp__store_relaxed(writer->tail, writer->published); /* a number: nothing is read by it */
    PP_FAULT("ring.publish.after");
}

/* What was published and not read stays, as long as the head says how much that is; else the consumer may look
 * anywhere.
 */
void pp__ring_spoil(struct pp__ring_writer *writer)
{
    /* Pairs with the store in pp__ring_release, as in look_at_head: what lies below this head is not read any more. */
    uint64_t unread = writer->published - pp__load_ordered(writer->head, RING_HEAD_ORDER);
    if (!aligned(unread) || unread > writer->published - writer->head_seen)
        unread = 0;
    for (uint64_t at = writer->published; at != writer->published - unread + writer->capacity; at += PP__RING_ALIGN)
        pp__store_relaxed(&pp__ring_header(writer, at)->mark, UINT32_MAX); /* larger than any record */
}

/* Only the mark is written: the rest of the header may be looked at right now (pp__ring_peek). Nothing is read: what
 * else writes into the ring, a task by mistake, is not to move the writer. */
void pp__ring_shrink(struct pp__ring_writer *writer, void *payload, uint32_t size)
{
    struct pp__header *header = (struct pp__header *)payload - 1;
    uint64_t room = (writer->position - (uint64_t)((unsigned char *)header - writer->data)) & (writer->capacity - 1);
    assert(pp__ring_room(size) <= room);
    if (writer->position - room == writer->published)
        writer->mark = size + 1;
    else
        pp__store_relaxed(&header->mark, size + 1); /* as in pp__ring_put_header */
    pp__ring_give_up(writer, writer->position - room + pp__ring_room(size));
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

bool pp__ring_is_broken(struct pp__ring_reader *reader, uint32_t mark)
{
    if (reader->poisoned)
        pp__fail(-EPROTO, "the other side broke the ring");
    else if (mark != 0)
        poison(&reader->poisoned, "a record larger than any can be, or over what is not released");
    return reader->poisoned;
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
 * Whatever it says else, `size` stays within data and slack and within what the producer may write before our next
 * release.
 */
int pp__ring_peek(struct pp__ring_reader *reader, struct pp__record *record, const void **payload)
{
    const unsigned char *place = reader->data + pp__ring_offset(reader->position, reader->capacity);
    uint64_t left = reader->capacity - (reader->position - reader->released);
    if (left == 0)
        return poison(&reader->poisoned, "no record where one was begun");
    pp__ring_copy_header(record, place);
    uint32_t most = (uint32_t)(left - sizeof(struct pp__header)), largest = pp__ring_largest(reader->capacity);
    record->size = most < largest ? most : largest;
    *payload = place + sizeof(struct pp__header);
    return 1;
}

uint32_t pp__ring_behind(const struct pp__ring_reader *reader)
{
    uint64_t behind = pp__load_relaxed(reader->tail) - reader->position; /* stored in pp__ring_publish */
    return reader->poisoned || behind > reader->capacity ? 0 : (uint32_t)behind;
}

bool pp__ring_misses(const struct pp__ring_reader *reader)
{
    return pp__ring_behind(reader) > 0 && !pp__ring_waiting(reader);
}

/* The compiler must take the copy for what it is, and may not look at `from` again in its stead. */
void pp__shm_copy(void *to, const void *from, size_t size)
{
    if (size > 0)
        memcpy(to, from, size);
    __asm__ volatile("" : : "r"(to) : "memory");
}
