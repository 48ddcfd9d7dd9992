/* SPDX-License-Identifier: MIT */
/* For tests of workers that write by hand what the library writes into the channel: where that lies, as a worker has it
 * mapped, and records that an honest one could have published. */
#ifndef PP_TESTS_POOL_CHANNEL_KIT_H
#define PP_TESTS_POOL_CHANNEL_KIT_H

#include "harness.h"

#include "pool/channel.h"

#include <stdio.h>
#include <string.h>

/* The worker's mapping of the memfd with this name; NULL if there is none. */
static inline void *find_mapping(const char *name, char protection[5])
{
    char line[512], wanted[64];
    void *found = NULL;
    snprintf(wanted, sizeof wanted, "/memfd:%s ", name);
    FILE *maps = fopen("/proc/self/maps", "re");
    while (maps && !found && fgets(line, sizeof line, maps)) {
        unsigned long start;
        if (strstr(line, wanted) && sscanf(line, "%lx-%*x %4s", &start, protection) == 2)
            found = (void *)start; // NOLINT: the kernel's own number
    }
    if (maps)
        fclose(maps);
    return found;
}

static inline struct pp__result_side *result_side(void)
{
    static struct pp__result_side *side;
    char protection[5];
    if (!side)
        side = find_mapping("procpool-results", protection);
    CHECK(side != NULL);
    return side;
}

static inline const struct pp__call_side *call_side(void)
{
    static const struct pp__call_side *side;
    char protection[5];
    if (!side)
        side = find_mapping("procpool-calls", protection);
    CHECK(side != NULL);
    return side;
}

/* The slot of the call, or of the element, that runs. */
static inline uint32_t slot_of(uint64_t id)
{
    uint32_t slot = 0;
    while (slot < PP__SLOTS && atomic_load(&result_side()->slots[slot]) != pp__slot_word(id, PP__SLOT_BEGUN))
        slot++;
    CHECK(slot < PP__SLOTS);
    return slot;
}

/* Where a record of the result ring begins. Within it, even if the position is garbage. */
static inline struct pp__header *header_at(uint64_t position)
{
    uint64_t aligned = position / PP__RING_ALIGN * PP__RING_ALIGN;
    return (struct pp__header *)(void *)(result_side()->results + pp__ring_offset(aligned, PP__RING_BYTES));
}

/* Where the owner looks for the next record, or for the run that is open. */
static inline struct pp__header *next_header(void)
{
    return header_at(atomic_load(&result_side()->result_tail));
}

/* Publishes a record behind what its worker has published; that must publish nothing any more. */
static inline void forge_record(enum pp__record_type type, uint64_t id, const void *payload, uint32_t size)
{
    struct pp__result_side *side = result_side();
    uint64_t tail = atomic_load(&side->result_tail), end = tail + pp__ring_room(size);
    struct pp__header *header = header_at(tail);
    CHECK(pp__ring_offset(tail, PP__RING_BYTES) + pp__ring_room(size) <= PP__RING_BYTES);
    header->type = type;
    header->id = id;
    memcpy(header + 1, payload, size);
    atomic_store(&header_at(end)->mark, 0);
    atomic_store(&header->mark, size + 1);
    atomic_store(&side->result_tail, end);
}

/* The same of a result, and of what is behind it. */
static inline void forge_result(uint64_t id, const struct pp__result_record *result, const void *behind, size_t size)
{
    unsigned char payload[1024];
    CHECK(sizeof *result + size <= sizeof payload);
    memcpy(payload, result, sizeof *result);
    if (size > 0)
        memcpy(payload + sizeof *result, behind, size);
    forge_record(PP__RECORD_RESULT, id, payload, (uint32_t)(sizeof *result + size));
}

#endif
