/* SPDX-License-Identifier: MIT */
/* The ring between two processes that run against each other, and a producer that is killed at any instruction. */
#include "ring_kit.h"

#include "base/clock.h"

#include <sched.h>
#include <time.h>

#define CAPACITY 4096u
#define RECORDS UINT64_C(2000000)

/* Mostly small, now and then any size: both sides draw the same. */
static uint32_t draw_size(uint64_t *seed)
{
    uint64_t number = kit_random(seed);
    uint32_t limit = number % 16 == 0 ? pp__ring_largest(CAPACITY) + 1 : 65;
    return (uint32_t)(number >> 8) % limit;
}

/* Bytes that are cheap to make and to check: words that depend on id and place, the last one cut. */
static uint64_t word_at(uint64_t id, size_t at)
{
    return (id + 1) * UINT64_C(0x9e3779b97f4a7c15) + at * UINT64_C(0x94d049bb133111eb);
}

static uint64_t add(uint64_t sum, uint64_t word)
{
    return (sum ^ word) * UINT64_C(0x100000001b3);
}

static uint64_t fill_words(unsigned char *payload, uint64_t id, size_t size, uint64_t sum)
{
    for (size_t at = 0; at < size; at += 8) {
        uint64_t word = word_at(id, at), part = 0;
        size_t bytes = size - at < 8 ? size - at : 8;
        memcpy(payload + at, &word, bytes);
        memcpy(&part, &word, bytes);
        sum = add(sum, part);
    }
    return sum;
}

static uint64_t sum_words(const unsigned char *payload, size_t size, uint64_t sum)
{
    for (size_t at = 0; at < size; at += 8) {
        uint64_t part = 0;
        memcpy(&part, payload + at, size - at < 8 ? size - at : 8);
        sum = add(sum, part);
    }
    return sum;
}

static void *reserve_waiting(struct kit *kit, uint64_t id, uint32_t size)
{
    void *payload;
    while (!(payload = pp__ring_reserve(&kit->writer, 5, id, size))) {
        pp__ring_publish(&kit->writer);
        if (kit->writer.poisoned)
            _exit(3);
        sched_yield();
    }
    return payload;
}

/* Publishes at random after 1 to 8 records; leaves its sum in `note`. */
static _Noreturn void produce(struct kit *kit, uint64_t records)
{
    uint64_t sizes = 1, batches = 2, sum = 0;
    for (uint64_t id = 0; id < records; id++) {
        uint32_t size = draw_size(&sizes);
        sum = fill_words(reserve_waiting(kit, id, size), id, size, sum);
        if (kit_below(&batches, 4) == 0)
            pp__ring_publish(&kit->writer);
    }
    pp__ring_publish(&kit->writer);
    atomic_store(&kit->words->note, sum);
    _exit(0);
}

static bool has_ended(pid_t child)
{
    siginfo_t info = {.si_pid = 0};
    CHECK_INT(waitid(P_PID, (id_t)child, &info, WEXITED | WNOHANG | WNOWAIT), 0);
    return info.si_pid == child;
}

/* Drain, then gone: the ring is looked at once more after the end was seen. */
static int next_waiting(struct kit *kit, pid_t child, struct pp__record *record, const void **payload)
{
    int rc;
    for (bool ended = false; (rc = pp__ring_next(&kit->reader, record, payload)) == 0 && !ended;) {
        pp__ring_release(&kit->reader);
        sched_yield();
        ended = has_ended(child);
    }
    return rc;
}

static uint64_t consume(struct kit *kit, pid_t child, uint64_t records)
{
    uint64_t sizes = 1, batches = 3, sum = 0;
    for (uint64_t id = 0; id < records; id++) {
        struct pp__record record = {0};
        const void *payload = NULL;
        CHECK_INT(next_waiting(kit, child, &record, &payload), 1);
        CHECK(record.id == id && record.type == 5 && record.size == draw_size(&sizes));
        sum = sum_words(payload, record.size, sum);
        if (kit_below(&batches, 4) == 0)
            pp__ring_release(&kit->reader);
    }
    pp__ring_release(&kit->reader);
    return sum;
}

TEST_WITHIN(millions_of_records_cross_between_two_processes_unharmed, 120)
{
    struct kit kit;
    kit_open(&kit, CAPACITY);
    kit_start(&kit, UINT64_MAX - CAPACITY * 100 + 1);
    pid_t child = kit_fork();
    if (child == 0)
        produce(&kit, RECORDS);
    uint64_t sum = consume(&kit, child, RECORDS);
    CHECK_INT(kit_wait(child), 0);
    CHECK(sum == atomic_load(&kit.words->note));
    kit_expect_none(&kit);
    kit_close(&kit);
}

static _Noreturn void produce_for_ever(struct kit *kit)
{
    uint64_t sizes = 1, batches = 2;
    for (uint64_t id = 0;; id++) {
        uint32_t size = draw_size(&sizes);
        fill_words(reserve_waiting(kit, id, size), id, size, 0);
        if (kit_below(&batches, 4) == 0)
            pp__ring_publish(&kit->writer);
    }
}

/* Reads what there is; each record must be the next one and whole. */
static void drain(struct kit *kit, uint64_t *id, uint64_t *sizes)
{
    struct pp__record record = {0};
    const void *payload = NULL;
    int rc;
    while ((rc = pp__ring_next(&kit->reader, &record, &payload)) == 1) {
        CHECK(record.id == *id && record.size == draw_size(sizes));
        for (size_t at = 0; at + 8 <= record.size; at += 8)
            CHECK(memcmp((const char *)payload + at, &(uint64_t){word_at(*id, at)}, 8) == 0);
        ++*id;
        pp__ring_release(&kit->reader);
    }
    CHECK_INT(rc, 0);
}

/* Drain, then gone: after the death the ring is looked at once more, and nothing can come after. */
static uint64_t kill_at_some_instruction(uint64_t *seed)
{
    struct kit kit;
    uint64_t id = 0, sizes = 1;
    kit_open(&kit, CAPACITY);
    pid_t child = kit_fork();
    if (child == 0)
        produce_for_ever(&kit);
    for (uint32_t i = kit_below(seed, 30); i > 0; i--) {
        drain(&kit, &id, &sizes);
        sched_yield();
    }
    nanosleep(&(struct timespec){.tv_nsec = kit_below(seed, 1000000)}, NULL);
    kill(child, SIGKILL);
    drain(&kit, &id, &sizes);
    kit_wait(child);
    drain(&kit, &id, &sizes);
    kit_close(&kit);
    return id;
}

TEST_WITHIN(a_producer_killed_at_any_instruction_leaves_whole_records_only, 120)
{
    uint64_t seed = 7, records = 0;
    for (int round = 0; round < 300; round++)
        records += kill_at_some_instruction(&seed);
    CHECK(records > 300);
}
