/* SPDX-License-Identifier: MIT */
/*
 * One property for the fuzzer and for the property test: whatever a peer writes, in whatever order, a reader and a
 * writer stay within the data, say nothing that their cursors do not cover, and once broken stay broken. `input` is a
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

/* A header where the reader will look next, with a size that is likely to matter. */
static inline void property_tear_header(struct property *property)
{
    struct kit *kit = &property->in;
    uint32_t offset = (uint32_t)(kit->reader.position % kit->capacity), to_end = kit->capacity - offset;
    uint32_t sizes[] = {0,
                        1,
                        16,
                        100,
                        to_end - 16,
                        to_end - 15,
                        to_end,
                        kit->capacity / 2 - 16,
                        kit->capacity / 2 - 15,
                        kit->capacity,
                        UINT32_MAX,
                        UINT32_MAX - 15,
                        UINT32_MAX - 31};
    uint64_t choice = property_number(property, 1);
    struct pp__record header = {.size = sizes[choice % (sizeof sizes / sizeof *sizes)],
                                .type = choice & 128 ? PP__RING_PAD : 1};
    memcpy(kit->data + offset, &header, sizeof header);
}

static inline void property_poke(struct property *property)
{
    struct kit *kit = &property->in;
    uint32_t at = (uint32_t)property_number(property, 2) % kit->capacity;
    kit->data[at] = (unsigned char)property_number(property, 1);
}

static inline void property_read(struct property *property)
{
    struct kit *kit = &property->in;
    uint64_t before = kit->reader.position;
    struct pp__record record;
    const void *payload;
    int rc = pp__ring_next(&kit->reader, &record, &payload);
    CHECK(rc == 0 || rc == 1 || rc == -EPROTO);
    CHECK(kit->reader.poisoned == (rc == -EPROTO));
    CHECK(kit->reader.position - kit->reader.released <= kit->reader.tail_seen - kit->reader.released);
    CHECK(kit->reader.tail_seen - kit->reader.released <= kit->capacity);
    if (rc != 1)
        return;
    const unsigned char *bytes = payload;
    CHECK(bytes >= kit->data + 16 && record.size <= (size_t)(kit->data + kit->capacity - bytes));
    CHECK(record.size + 16 <= kit->reader.position - before && record.type != PP__RING_PAD);
    for (uint32_t i = 0; i < record.size; i++)
        property->sum += bytes[i];
}

static inline void property_write(struct property *property)
{
    struct kit *kit = &property->out;
    uint32_t size = (uint32_t)property_number(property, 2) % (kit->capacity / 2 + 16);
    unsigned char *payload = pp__ring_reserve(&kit->writer, 1, 2, size);
    CHECK(kit->writer.position - kit->writer.head_seen <= kit->capacity);
    CHECK(kit->writer.published - kit->writer.head_seen <= kit->writer.position - kit->writer.head_seen);
    if (!payload)
        return;
    CHECK(!kit->writer.poisoned);
    CHECK(payload >= kit->data + 16 && size <= (size_t)(kit->data + kit->capacity - payload));
    memset(payload, 0xa5, size);
}

static inline void property_ask(struct property *property)
{
    struct kit *kit = &property->out;
    CHECK(pp__ring_used(&kit->writer) <= kit->capacity);
    bool drained = pp__ring_drained(&kit->writer);
    CHECK(!drained || kit->writer.head_seen == kit->writer.published);
    pp__ring_passed(&kit->writer, kit->writer.position - property_number(property, 2) * 16);
    if (property->in.reader.poisoned)
        CHECK(pp__ring_waiting(&property->in.reader));
}

/* Mostly cursors that could be, and at times any number. */
static inline uint64_t property_cursor(struct property *property, uint64_t near)
{
    uint64_t choice = property_number(property, 1);
    if (choice < 16)
        return property_number(property, 8);
    return near + (choice < 32 ? property_number(property, 2) : property_number(property, 1) * 16);
}

static inline void property_step(struct property *property)
{
    struct kit *in = &property->in, *out = &property->out;
    switch (property_number(property, 1) % 12) {
    case 0:
        atomic_store(&in->words->tail, property_cursor(property, in->reader.tail_seen));
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
        pp__ring_publish(&out->writer);
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
    }
    if (out->writer.poisoned) {
        uint64_t tail = atomic_load(&out->words->tail);
        CHECK(!pp__ring_reserve(&out->writer, 1, 2, 0));
        pp__ring_publish(&out->writer);
        CHECK(out->writer.poisoned && atomic_load(&out->words->tail) == tail);
    }
}

static inline void property_run(struct property *property, const uint8_t *input, size_t size)
{
    property->input = input;
    property->left = size;
    kit_start(&property->in, property_number(property, 8) & ~UINT64_C(15));
    kit_start(&property->out, property_number(property, 8) & ~UINT64_C(15));
    while (property->left > 0)
        property_step(property);
    property_check_broken(property);
}

#endif
