/* SPDX-License-Identifier: MIT */
/*
 * What the ring's tests share: a ring whose data lies between unmapped pages, reproducible numbers, recognizable
 * payloads.
 */
#ifndef TESTS_SHM_RING_KIT_H
#define TESTS_SHM_RING_KIT_H

#include "harness.h"

#include "shm/ring.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define KIT_PAGE ((size_t)4096)

/* A multiply-and-shift generator: the same numbers everywhere for the same seed. */
static inline uint64_t kit_random(uint64_t *seed)
{
    uint64_t z = *seed += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static inline uint32_t kit_below(uint64_t *seed, uint32_t limit)
{
    return (uint32_t)(kit_random(seed) % limit);
}

/* What crosses the border, as both processes map it. */
struct kit_words {
    _Alignas(64) _Atomic uint64_t tail;
    _Alignas(64) _Atomic uint64_t head;
    _Alignas(64) _Atomic uint64_t note;
};

struct kit {
    unsigned char *data;
    struct kit_words *words;
    unsigned char *base;
    size_t mapped;
    uint32_t capacity;
    struct pp__ring_writer writer;
    struct pp__ring_reader reader;
};

static inline void kit_start(struct kit *kit, uint64_t start)
{
    atomic_store(&kit->words->tail, start);
    atomic_store(&kit->words->head, start);
    pp__ring_writer_init(&kit->writer, kit->data, kit->capacity, &kit->words->tail, &kit->words->head, start);
    pp__ring_reader_init(&kit->reader, kit->data, kit->capacity, &kit->words->tail, &kit->words->head, start);
}

/* Shared with forked children. Below the data and above their slack, which touches it, lie pages without access. */
static inline void kit_open(struct kit *kit, uint32_t capacity)
{
    size_t used = capacity + PP__RING_SLACK(capacity), room = (used + KIT_PAGE - 1) / KIT_PAGE * KIT_PAGE;
    kit->mapped = room + 3 * KIT_PAGE;
    kit->base = mmap(NULL, kit->mapped, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(kit->base != MAP_FAILED);
    kit->words = (struct kit_words *)(void *)kit->base;
    CHECK(mprotect(kit->base + KIT_PAGE, KIT_PAGE, PROT_NONE) == 0);
    CHECK(mprotect(kit->base + 2 * KIT_PAGE + room, KIT_PAGE, PROT_NONE) == 0);
    kit->data = kit->base + 2 * KIT_PAGE + room - used;
    kit->capacity = capacity;
    kit_start(kit, 0);
}

/* The data begin with a page, and the slack touches nothing. */
static inline void kit_open_at_page(struct kit *kit, uint32_t capacity)
{
    kit_open(kit, capacity);
    kit->data = kit->base + 2 * KIT_PAGE;
    kit_start(kit, 0);
}

static inline void kit_close(struct kit *kit)
{
    munmap(kit->base, kit->mapped);
}

static inline unsigned char kit_byte(uint64_t id, size_t at)
{
    return (unsigned char)(id * 167 + at * 31 + (at >> 8) + 1);
}

static inline void kit_fill(void *payload, uint64_t id, size_t size)
{
    for (size_t i = 0; i < size; i++)
        ((unsigned char *)payload)[i] = kit_byte(id, i);
}

/* Bytes of old: wherever a header is looked for, there is one. */
static inline void kit_fill_headers(void *bytes, size_t size, uint32_t record, uint32_t type)
{
    struct pp__header header = {.mark = record + 1, .type = type, .id = UINT64_MAX};
    for (size_t at = 0; at < size; at += sizeof header)
        memcpy((unsigned char *)bytes + at, &header, size - at < sizeof header ? size - at : sizeof header);
}

static inline bool kit_filled(const void *payload, uint64_t id, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (((const unsigned char *)payload)[i] != kit_byte(id, i))
            return false;
    return true;
}

/* A published record, as a peer writes it that keeps to nothing. */
static inline void kit_forge(struct kit *kit, uint32_t offset, uint32_t size, uint32_t type)
{
    struct pp__header *header = (struct pp__header *)(void *)(kit->data + offset);
    header->type = type;
    header->id = 0;
    pp__store_relaxed(&header->mark, size + 1);
}

/* Reserves and fills; false when there is no room. */
static inline bool kit_put(struct kit *kit, uint64_t id, uint32_t size)
{
    void *payload = pp__ring_reserve(&kit->writer, (uint32_t)id & 0xffff, id, size);
    if (payload)
        kit_fill(payload, id, size);
    return payload != NULL;
}

/* The next record must be this one. */
static inline void kit_expect(struct kit *kit, uint64_t id, uint32_t size)
{
    struct pp__record record = {0};
    const void *payload = NULL;
    CHECK_INT(pp__ring_next(&kit->reader, &record, &payload), 1);
    CHECK_INT(record.id, id);
    CHECK_INT(record.type, id & 0xffff);
    CHECK_INT(record.size, size);
    CHECK_INT((uintptr_t)payload % PP__RING_ALIGN, sizeof(struct pp__header)); /* on a line of its own */
    CHECK(kit_filled(payload, id, size));
}

static inline void kit_expect_none(struct kit *kit)
{
    struct pp__record record = {.id = 12345};
    const void *payload = &record;
    CHECK(!pp__ring_waiting(&kit->reader));
    CHECK_INT(pp__ring_next(&kit->reader, &record, &payload), 0);
    CHECK(record.id == 12345 && payload == &record);
}

/* A child that does not outlive a test which fails. */
static inline pid_t kit_fork(void)
{
    pid_t parent = getpid();
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(99);
    }
    return child;
}

/* How the child ended, as waitpid says it. */
static inline int kit_wait(pid_t child)
{
    int status = -1;
    while (waitpid(child, &status, 0) < 0)
        CHECK(errno == EINTR);
    return status;
}

#endif
