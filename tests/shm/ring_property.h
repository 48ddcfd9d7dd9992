/* SPDX-License-Identifier: MIT */
/*
 * One property for the fuzzer and for the property test: whatever a peer writes, in whatever order, a reader and a
 * writer stay within the data, say nothing that is not the writer's to say, and once broken stay broken. `input` is a
 * little program for the peer and for us. The data lie between pages without access.
 */
#ifndef TESTS_SHM_RING_PROPERTY_H
#define TESTS_SHM_RING_PROPERTY_H

#include "ring_kit.h"

struct property {
    struct kit in, out; /* the peer writes `in` and reads `out` */
    const uint8_t *input;
    size_t left;
    uint64_t sum; /* of all that was read, so that it is read */
};

static inline uint64_t property_number(struct property *property, size_t bytes)
{
    uint64_t number = 0;
    for (size_t i = 0; i < bytes && property->left > 0; i++, property->left--)
        number |= (uint64_t)*property->input++ << 8 * i;
    return number;
}

/* A header there with a size that is likely to matter. */
static inline void property_forge(struct property *property, uint32_t offset)
{
    struct kit *kit = &property->in;
    uint32_t to_end = kit->capacity - offset;
    uint32_t sizes[] = {UINT32_MAX, /* none: its mark is 0 */
                        0,
                        1,
                        48,
                        49,
                        100,
                        to_end - 16,
                        to_end - 15,
                        to_end,
                        pp__ring_largest(kit->capacity),
                        pp__ring_largest(kit->capacity) + 1,
                        kit->capacity,
                        UINT32_MAX - 1,
                        UINT32_MAX - 15,
                        UINT32_MAX - 78};
    uint64_t choice = property_number(property, 1);
    kit_forge(kit, offset, sizes[choice % (sizeof sizes / sizeof *sizes)], choice & 128 ? UINT32_MAX : 1);
}

/* Where the reader will look next. */
static inline void property_tear_header(struct property *property)
{
    const struct kit *kit = &property->in;
    property_forge(property, pp__ring_offset(kit->reader.position, kit->capacity));
}

/* Behind a place in a ring. */
static inline size_t property_room(const struct kit *kit, const unsigned char *place)
{
    return (size_t)(kit->data + kit->capacity + PP__RING_SLACK(kit->capacity) - place);
}

static inline void property_poke(struct property *property)
{
    struct kit *kit = &property->in;
    uint32_t at = (uint32_t)property_number(property, 2) % kit->capacity;
    kit->data[at] = (unsigned char)property_number(property, 1);
}

static inline void property_check_reader(const struct pp__ring_reader *reader)
{
    CHECK(reader->position - reader->released <= reader->capacity);
    CHECK(reader->position % 64 == 0);
}

static inline void property_read(struct property *property)
{
    struct kit *kit = &property->in;
    uint64_t before = kit->reader.position;
    struct pp__record record = {0};
    const void *payload = NULL;
    int rc = pp__ring_next(&kit->reader, &record, &payload);
    CHECK(rc == 0 || rc == 1 || rc == -EPROTO);
    CHECK(kit->reader.poisoned == (rc == -EPROTO));
    CHECK(rc != 0 || kit->reader.position == before);
    property_check_reader(&kit->reader);
    if (rc != 1)
        return;
    const unsigned char *bytes = payload;
    CHECK(bytes >= kit->data + 16 && record.size <= property_room(kit, bytes));
    CHECK((size_t)(bytes - kit->data) % 64 == 16);
    CHECK(record.size + 16 <= kit->reader.position - before);
    CHECK(record.size <= pp__ring_largest(kit->capacity));
    for (uint32_t i = 0; i < record.size; i++)
        property->sum += bytes[i];
}

/* What nobody has published is never there, broken or not: this is where the other one looks next. */
static inline void property_check_writer(const struct pp__ring_writer *writer)
{
    CHECK(writer->position - writer->head_seen + 64 <= writer->capacity);
    CHECK(writer->published - writer->head_seen <= writer->position - writer->head_seen);
    CHECK(pp__load_relaxed(&pp__ring_header(writer, writer->published)->mark) == 0);
}

static inline void property_write(struct property *property)
{
    struct kit *kit = &property->out;
    uint32_t size = (uint32_t)property_number(property, 2) % (pp__ring_largest(kit->capacity) + 32);
    uint64_t before = kit->writer.position, choice = property_number(property, 1);
    unsigned char *payload = pp__ring_reserve(&kit->writer, 1, 2, size);
    property_check_writer(&kit->writer);
    if (!payload)
        return;
    CHECK(!kit->writer.poisoned);
    CHECK(payload >= kit->data + 16 && size <= property_room(kit, payload));
    CHECK((size_t)(payload - kit->data) % 64 == 16);
    memset(payload, 0xa5, size);
    if (choice < 32)
        pp__ring_give_up(&kit->writer, before);
    else if (choice < 64)
        pp__ring_shrink(&kit->writer, payload, size / 3);
    property_check_writer(&kit->writer);
}

/* The first mark that was not there is, unless there was nothing. */
static inline void property_publish(struct property *property)
{
    struct pp__ring_writer *writer = &property->out.writer;
    bool some = writer->position != writer->published && !writer->poisoned;
    const _Atomic uint32_t *mark = &pp__ring_header(writer, writer->published)->mark;
    pp__ring_publish(writer);
    CHECK((pp__load_relaxed(mark) != 0) == some);
    CHECK(writer->poisoned || writer->published == writer->position);
    property_check_writer(writer);
}

static inline void property_ask(struct property *property)
{
    struct kit *kit = &property->out;
    CHECK(pp__ring_used(&kit->writer) <= kit->capacity);
    bool drained = pp__ring_drained(&kit->writer);
    CHECK(!drained || kit->writer.head_seen == kit->writer.published);
    pp__ring_passed(&kit->writer, kit->writer.position - property_number(property, 2) * 16);
    CHECK(pp__ring_behind(&property->in.reader) <= property->in.capacity);
    if (property->in.reader.poisoned)
        CHECK(pp__ring_waiting(&property->in.reader));
}

/* Mostly cursors that could be, and at times any number. */
static inline uint64_t property_cursor(struct property *property, uint64_t near)
{
    uint64_t choice = property_number(property, 1);
    if (choice < 16)
        return property_number(property, 8);
    return near + (choice < 32 ? property_number(property, 2) : property_number(property, 1) * 64);
}

static inline void property_step(struct property *property)
{
    struct kit *in = &property->in, *out = &property->out;
    switch (property_number(property, 1) % 12) {
    case 0:
        atomic_store(&in->words->tail, property_cursor(property, in->reader.position));
        break;
    case 1:
        atomic_store(&out->words->head, property_cursor(property, out->writer.head_seen));
        break;
    case 2:
        property_poke(property);
        break;
    case 3:
    case 4:
        property_tear_header(property);
        break;
    case 5:
    case 6:
    case 7:
        property_read(property);
        break;
    case 8:
        pp__ring_release(&in->reader);
        break;
    case 9:
        property_write(property);
        break;
    case 10:
        property_publish(property);
        break;
    default:
        property_ask(property);
    }
}

/* What a broken end would still do shows up as a moved cursor. */
static inline void property_check_broken(struct property *property)
{
    struct kit *in = &property->in, *out = &property->out;
    if (in->reader.poisoned) {
        uint64_t head = atomic_load(&in->words->head);
        property_read(property);
        pp__ring_release(&in->reader);
        CHECK(in->reader.poisoned && atomic_load(&in->words->head) == head);
        CHECK(pp__ring_behind(&in->reader) == 0);
    }
    if (out->writer.poisoned) {
        uint64_t tail = atomic_load(&out->words->tail);
        CHECK(!pp__ring_reserve(&out->writer, 1, 2, 0));
        property_publish(property);
        CHECK(out->writer.poisoned && atomic_load(&out->words->tail) == tail);
    }
}

static inline void property_run(struct property *property, const uint8_t *input, size_t size)
{
    property->input = input;
    property->left = size;
    memset(property->in.data, 0, property->in.capacity);
    memset(property->out.data, 0xa5, property->out.capacity); /* as after many records */
    kit_start(&property->in, property_number(property, 8) & ~UINT64_C(63));
    kit_start(&property->out, property_number(property, 8) & ~UINT64_C(63));
    while (property->left > 0)
        property_step(property);
    property_check_broken(property);
}

#endif
