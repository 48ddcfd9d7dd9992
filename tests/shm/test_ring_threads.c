/* SPDX-License-Identifier: MIT */
/* The ring with both ends as threads of one process: see threads_kit.h. */
#include "threads_kit.h"

#include "shm/open.h"

#define RECORDS UINT64_C(100000)
#define CAPACITY 1024u

static uint32_t draw_size(uint64_t *seed)
{
    return kit_below(seed, kit_below(seed, 8) ? 48 : pp__ring_largest(CAPACITY) + 1);
}

static void *produce(void *argument)
{
    struct kit *kit = argument;
    uint64_t sizes = 1, batches = 2;
    for (uint64_t id = 0; id < RECORDS; id++) {
        uint32_t size = draw_size(&sizes);
        while (!kit_put(kit, id, size)) {
            pp__ring_publish(&kit->writer);
            sched_yield();
        }
        if (kit_below(&batches, 3) == 0)
            pp__ring_publish(&kit->writer);
    }
    pp__ring_publish(&kit->writer);
    return NULL;
}

static void *consume(void *argument)
{
    struct kit *kit = argument;
    uint64_t sizes = 1, batches = 3;
    for (uint64_t id = 0; id < RECORDS; id++) {
        while (!pp__ring_waiting(&kit->reader)) {
            pp__ring_release(&kit->reader);
            sched_yield();
        }
        kit_expect(kit, id, draw_size(&sizes));
        if (kit_below(&batches, 3) == 0)
            pp__ring_release(&kit->reader);
    }
    pp__ring_release(&kit->reader);
    return NULL;
}

TEST_WITHIN(records_cross_between_two_threads_without_a_race, 120)
{
    struct kit kit;
    kit_open(&kit, CAPACITY);
    kit_start(&kit, UINT64_MAX - CAPACITY * 20 + 1);
    run_two(produce, consume, &kit);
    CHECK(pp__ring_drained(&kit.writer));
    kit_close(&kit);
}

/*
 * Runs: a record is reserved, words are written into it one by one, and `open` says how far, before it is published.
 * The consumer takes what was published, and then out of the open record what `open` says, if nothing was published
 * since that was loaded.
 */
#define RUN_MOST 40

struct run_ring {
    struct kit kit;
    _Alignas(64) _Atomic uint64_t open;
    _Alignas(64) _Atomic uint64_t seen; /* words that were taken, relaxed: it orders nothing */
    uint64_t taken, looked_into;        /* words; of them, out of open records */
};

static void *produce_runs(void *argument)
{
    struct run_ring *ring = argument;
    uint64_t lengths = 1;
    for (uint64_t id = 0; id < RECORDS;) {
        uint64_t *words = pp__ring_reserve(&ring->kit.writer, 7, id, RUN_MOST * sizeof *words);
        uint64_t length = kit_below(&lengths, RUN_MOST) + 1;
        if (length > RECORDS - id) /* the consumer looks at nothing beyond, and would not be waited for in vain */
            length = RECORDS - id;
        if (!words) {
            sched_yield();
            continue;
        }
        for (uint64_t i = 0; i < length; i++, id++) {
            words[i] = id * 3;
            pp__open_tell(&ring->open, id + 1);
        }
        while (length == RUN_MOST &&
               pp__load_relaxed(&ring->seen) < id) /* whatever the scheduler does, some are looked into */
            sched_yield();
        pp__ring_shrink(&ring->kit.writer, words, (uint32_t)(length * sizeof *words));
        pp__ring_publish(&ring->kit.writer);
    }
    return NULL;
}

/* The words from `taken` on up to `until` of a run whose first has id `first`. */
static void take_words(struct run_ring *ring, const uint64_t *words, uint64_t first, uint64_t until)
{
    for (; ring->taken < until; ring->taken++)
        CHECK_INT(words[ring->taken - first], ring->taken * 3);
}

static void take_published(struct run_ring *ring)
{
    struct pp__record record = {0};
    const void *words;
    while (pp__ring_next(&ring->kit.reader, &record, &words) == 1) {
        CHECK(record.id <= ring->taken);
        take_words(ring, words, record.id, record.id + record.size / sizeof(uint64_t));
    }
}

static void take_open_words(struct run_ring *ring)
{
    struct pp__record record = {0};
    const void *words;
    uint64_t open = pp__open_look(&ring->open);
    if (open <= ring->taken || pp__ring_waiting(&ring->kit.reader))
        return;
    CHECK_INT(pp__ring_peek(&ring->kit.reader, &record, &words), 1);
    CHECK_INT(record.type, 7);
    CHECK(record.id <= ring->taken);
    ring->looked_into += open - ring->taken;
    take_words(ring, words, record.id, open);
}

static void *consume_runs(void *argument)
{
    struct run_ring *ring = argument;
    while (ring->taken < RECORDS) {
        take_published(ring);
        take_open_words(ring);
        pp__store_relaxed(&ring->seen, ring->taken);
        pp__ring_release(&ring->kit.reader);
    }
    return NULL;
}

TEST_WITHIN(words_of_a_record_that_is_not_published_cross_between_two_threads_without_a_race, 120)
{
    static struct run_ring ring;
    kit_open(&ring.kit, CAPACITY);
    kit_start(&ring.kit, UINT64_MAX - CAPACITY * 20 + 1);
    run_two(produce_runs, consume_runs, &ring);
    CHECK(ring.looked_into > 0);
    kit_close(&ring.kit);
}
