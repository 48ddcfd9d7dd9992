/* SPDX-License-Identifier: MIT */
/*
 * The ring, the doorbell and the slots with both ends as threads of one process, so that thread sanitizer sees them.
 * mutants.sh builds this file again with one memory order weakened at a time (see ring.c; here SLOT_*_ORDER and RUN_OPEN_ORDER) and wants
 * a race reported for each: so nothing but the words under test may order the two threads. Hence counters are kept on
 * each side, waiting is by relaxed loads and sched_yield, and results are compared after the join.
 */
#include <stdatomic.h>

/* The slot's compare-and-swap is pp__cas_u64; a mutant gets it with weaker orders. */
#ifdef SLOT_CAS_ORDER
#define memory_order_acq_rel SLOT_CAS_ORDER
#define memory_order_acquire SLOT_CAS_ORDER
#endif
#include "base/atomic.h"
#ifdef SLOT_CAS_ORDER
#undef memory_order_acq_rel
#undef memory_order_acquire
#endif

#ifndef SLOT_READY_ORDER
#define SLOT_READY_ORDER memory_order_release
#endif
#ifndef SLOT_DONE_ORDER
#define SLOT_DONE_ORDER memory_order_release
#endif
#ifndef RUN_OPEN_ORDER
#define RUN_OPEN_ORDER memory_order_release
#endif

#include "ring_kit.h"

#include "base/clock.h"
#include "base/futex.h"

#include <pthread.h>
#include <sched.h>

#ifndef RECORDS
#define RECORDS UINT64_C(100000)
#endif
#ifndef CALLS
#define CALLS UINT64_C(60000)
#endif

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

static void run_two(void *(*first)(void *), void *(*second)(void *), void *argument)
{
    pthread_t threads[2];
    CHECK_INT(pthread_create(&threads[0], NULL, first, argument), 0);
    CHECK_INT(pthread_create(&threads[1], NULL, second, argument), 0);
    CHECK_INT(pthread_join(threads[0], NULL), 0);
    CHECK_INT(pthread_join(threads[1], NULL), 0);
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
 * Runs: a record is reserved, words are written into it one by one, and `open` says how far, before it is published. The consumer takes what
 * was published, and then out of the open record what `open` says, if nothing was published since that was loaded.
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
            pp__store_ordered(&ring->open, id + 1, RUN_OPEN_ORDER); /* pairs with the load in consume_runs */
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
    struct pp__record record;
    const void *words;
    while (pp__ring_next(&ring->kit.reader, &record, &words) == 1) {
        CHECK(record.id <= ring->taken);
        take_words(ring, words, record.id, record.id + record.size / sizeof(uint64_t));
    }
}

static void take_open_words(struct run_ring *ring)
{
    struct pp__record record;
    const void *words;
    uint64_t open = pp__load_acquire(&ring->open); /* pairs with the store in produce_runs */
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

/*
 * The doorbell. Sleeper: sets its mark, full fence, looks again, sleeps on the bell as it was before the mark. Waker:
 * publishes, full fence, looks at the mark, moves the bell. Only the sleeper clears its mark. A wake that is lost shows
 * as a sleep that runs out.
 */
struct doorbell {
    _Alignas(64) _Atomic uint32_t bell;
    _Alignas(64) _Atomic uint32_t sleeping;
};

struct rung_ring {
    struct kit kit;
    struct doorbell filled, emptied; /* the consumer sleeps on the first, the producer on the second */
    uint64_t lost[2];                /* consumer's, producer's */
    _Atomic uint64_t slept[2];
};

#define LOST (3 * PP__SECOND)

static void ring_the_bell(struct doorbell *door)
{
    pp__fence(); /* between what was published and the look at the mark; pairs with the one in sleep_at */
    if (pp__load_relaxed(&door->sleeping) == 0)
        return;
    atomic_fetch_add_explicit(&door->bell, 1, memory_order_relaxed);
    pp__futex_wake(&door->bell, 1, true);
}

static void sleep_at(struct doorbell *door, bool (*ready)(struct kit *), struct kit *kit, _Atomic uint64_t *slept,
                     uint64_t *lost)
{
    uint32_t bell = pp__load_relaxed(&door->bell);
    pp__store_relaxed(&door->sleeping, 1);
    pp__fence(); /* between the mark and the second look; pairs with the one in ring_the_bell */
    if (!ready(kit)) {
        atomic_fetch_add_explicit(slept, 1, memory_order_relaxed);
        *lost += pp__futex_wait(&door->bell, bell, pp__now() + LOST, true) == -ETIMEDOUT;
    }
    pp__store_relaxed(&door->sleeping, 0);
}

static bool has_room(struct kit *kit)
{
    return kit->writer.capacity - pp__ring_used(&kit->writer) > kit->writer.capacity / 2 ||
           pp__ring_drained(&kit->writer);
}

static bool has_record(struct kit *kit)
{
    return pp__ring_waiting(&kit->reader);
}

static void pause_now_and_then(uint64_t *seed)
{
    uint32_t number = kit_below(seed, 64);
    if (number == 0)
        sched_yield();
    for (volatile uint32_t i = 0; number == 1 && i < 2000; i++) {
    }
}

/* What the scheduler does later, it can not keep the consumer from sleeping at least once. */
static void wait_for_a_sleeper(struct rung_ring *ring)
{
    while (pp__load_relaxed(&ring->slept[0]) == 0)
        sched_yield();
}

static void *produce_and_ring(void *argument)
{
    struct rung_ring *ring = argument;
    uint64_t pauses = 5;
    wait_for_a_sleeper(ring);
    for (uint64_t id = 0; id < RECORDS / 4; id++) {
        while (!kit_put(&ring->kit, id, (uint32_t)id % 400))
            sleep_at(&ring->emptied, has_room, &ring->kit, &ring->slept[1], &ring->lost[1]);
        pp__ring_publish(&ring->kit.writer);
        ring_the_bell(&ring->filled);
        pause_now_and_then(&pauses);
    }
    return NULL;
}

static void *sleep_and_consume(void *argument)
{
    struct rung_ring *ring = argument;
    uint64_t pauses = 6;
    for (uint64_t id = 0; id < RECORDS / 4; id++) {
        while (!pp__ring_waiting(&ring->kit.reader))
            sleep_at(&ring->filled, has_record, &ring->kit, &ring->slept[0], &ring->lost[0]);
        kit_expect(&ring->kit, id, (uint32_t)id % 400);
        pp__ring_release(&ring->kit.reader);
        ring_the_bell(&ring->emptied);
        pause_now_and_then(&pauses);
    }
    return NULL;
}

TEST_WITHIN(a_sleeper_that_announces_itself_and_looks_again_is_never_left_asleep, 120)
{
    static struct rung_ring ring;
    kit_open(&ring.kit, CAPACITY);
    run_two(produce_and_ring, sleep_and_consume, &ring);
    CHECK_INT(ring.lost[0], 0);
    CHECK_INT(ring.lost[1], 0);
    kit_close(&ring.kit);
}

/*
 * One record at a time, so that each meets a sleeper that is just about to sleep: the moment in which a missing fence
 * loses the wake. So many of them that one is lost in most runs if either fence is.
 */
#define STEPS (3 * RECORDS)

static void *produce_in_step(void *argument)
{
    struct rung_ring *ring = argument;
    uint64_t pauses = 8;
    wait_for_a_sleeper(ring);
    for (uint64_t id = 0; id < STEPS; id++) {
        while (!pp__ring_drained(&ring->kit.writer))
            sched_yield();
        for (volatile uint32_t i = kit_below(&pauses, 64); i > 0; i--) {
        }
        CHECK(kit_put(&ring->kit, id, 8));
        pp__ring_publish(&ring->kit.writer);
        ring_the_bell(&ring->filled);
    }
    return NULL;
}

static void *consume_in_step(void *argument)
{
    struct rung_ring *ring = argument;
    for (uint64_t id = 0; id < STEPS; id++) {
        while (!pp__ring_waiting(&ring->kit.reader))
            sleep_at(&ring->filled, has_record, &ring->kit, &ring->slept[0], &ring->lost[0]);
        CHECK_INT(ring->lost[0], 0);
        kit_expect(&ring->kit, id, 8);
        pp__ring_release(&ring->kit.reader);
    }
    return NULL;
}

TEST_WITHIN(a_wake_and_a_sleep_that_cross_do_not_miss_each_other, 120)
{
    static struct rung_ring ring;
    kit_open(&ring.kit, CAPACITY);
    run_two(produce_in_step, consume_in_step, &ring);
    kit_close(&ring.kit);
}

/*
 * Begin against cancel. The word is id << 2 | state. The owner gives a slot out with READY (release), the worker begins
 * with READY -> BEGUN, the owner takes back with READY -> TAKEN. Who wins has the slot's plain data: the worker reads
 * `argument` and writes `result`, the owner overwrites both at once. `turn` only says which call is on; it orders
 * nothing. Most calls are raced for; of every 512 one is left to each side, whatever the scheduler does.
 */
enum { READY, BEGUN, TAKEN, SLOTS = 8, LEFT_TO_THE_WORKER = 100, LEFT_TO_THE_OWNER = 300 };

struct slot {
    _Alignas(64) _Atomic uint64_t word;
    _Alignas(64) _Atomic uint64_t done; /* worker -> owner (release): the id whose result is there */
    uint64_t argument, result;
};

static struct {
    struct slot slots[SLOTS];
    _Alignas(64) _Atomic uint64_t turn;
    _Alignas(64) uint64_t begun, taken;               /* counts */
    bool worker_won[CALLS + 1], owner_won[CALLS + 1]; /* by id */
} calls;

static uint64_t word_of(uint64_t id, unsigned state)
{
    return id << 2 | state;
}

static void worker_tries(uint64_t id)
{
    struct slot *slot = &calls.slots[id % SLOTS];
    while (pp__load_relaxed(&slot->word) >> 2 < id) /* beyond: taken and given out again */
        sched_yield();
    while (id % 512 == LEFT_TO_THE_OWNER && pp__load_relaxed(&slot->word) == word_of(id, READY))
        sched_yield();
    if (!pp__cas_u64(&slot->word, word_of(id, READY), word_of(id, BEGUN)))
        return;
    calls.worker_won[id] = true;
    slot->result = slot->argument * 2;
    pp__store_ordered(&slot->done, id, SLOT_DONE_ORDER); /* pairs with the load in owner_tries */
}

static void *work(void *argument)
{
    for (uint64_t id = 1; id <= CALLS; id++) {
        while (pp__load_relaxed(&calls.turn) < id)
            sched_yield();
        worker_tries(id);
    }
    return argument;
}

/* Gives up the processor now and then, so that the worker has its chance with a single one. */
static void wait_a_little(uint64_t *seed)
{
    uint32_t number = kit_below(seed, 300);
    if (number < 30)
        sched_yield();
    for (volatile uint32_t i = 0; i < number; i++) {
    }
}

static void owner_tries(uint64_t id, uint64_t *seed)
{
    struct slot *slot = &calls.slots[id % SLOTS];
    slot->argument = id * 3;
    pp__store_ordered(&slot->word, word_of(id, READY), SLOT_READY_ORDER); /* pairs with the cas in worker_tries */
    pp__store_relaxed(&calls.turn, id);
    wait_a_little(seed);
    while (id % 512 == LEFT_TO_THE_WORKER && pp__load_relaxed(&slot->word) == word_of(id, READY))
        sched_yield();
    if (pp__cas_u64(&slot->word, word_of(id, READY), word_of(id, TAKEN))) {
        calls.owner_won[id] = true;
        slot->argument = slot->result = 0;
        return;
    }
    while (pp__load_acquire(&slot->done) != id) /* pairs with the store in worker_tries */
        sched_yield();
    CHECK_INT(slot->result, id * 6);
}

static void *own(void *argument)
{
    uint64_t seed = 11;
    for (uint64_t id = 1; id <= CALLS; id++)
        owner_tries(id, &seed);
    return argument;
}

TEST_WITHIN(of_begin_and_cancel_exactly_one_wins_and_has_the_data_alone, 120)
{
    run_two(own, work, NULL);
    for (uint64_t id = 1; id <= CALLS; id++) {
        CHECK_INT(calls.worker_won[id] + calls.owner_won[id], 1);
        calls.begun += calls.worker_won[id];
        calls.taken += calls.owner_won[id];
    }
    CHECK(calls.begun > 0);
    CHECK(calls.taken > 0);
}
