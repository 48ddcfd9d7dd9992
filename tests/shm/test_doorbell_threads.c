/* SPDX-License-Identifier: MIT */
/*
 * Both doorbells, of a worker and of the owner, with both ends as threads of one process: see threads_kit.h. A wake
 * that is lost shows as a sleep that runs out.
 */
#include "threads_kit.h"

#include "base/clock.h"
#include "shm/doorbell.h"
#include "shm/want.h"

#include <poll.h>
#include <sys/eventfd.h>

#define RECORDS UINT64_C(100000)
#define CAPACITY 1024u

struct door {
    _Alignas(64) _Atomic uint32_t bell;
    _Alignas(64) _Atomic uint32_t sleeping;
    _Alignas(64) struct pp__doorbell_rung rung;
};

struct rung_ring {
    struct kit kit;
    struct door filled, emptied; /* the consumer sleeps on the first, the producer on the second */
    uint64_t lost[2];            /* consumer's, producer's */
    _Atomic uint64_t slept[2];
};

#define LOST (3 * PP__SECOND)

static void open_ring(struct rung_ring *ring)
{
    kit_open(&ring->kit, CAPACITY);
    pp__doorbell_init(&ring->filled.bell, &ring->filled.rung);
    pp__doorbell_init(&ring->emptied.bell, &ring->emptied.rung);
}

/* As pp__worker_wake (src/pool/send.c). */
static void wake(struct door *door)
{
    pp__doorbell_published();
    if (pp__doorbell_unrung(&door->sleeping, &door->rung))
        pp__doorbell_ring(&door->bell, &door->rung);
}

/* As pp__self_wait (src/pool/worker_publish.c). */
static void sleep_at(struct door *door, bool (*ready)(struct kit *), struct kit *kit, _Atomic uint64_t *slept,
                     uint64_t *lost)
{
    uint32_t number = pp__doorbell_lie_down(&door->bell, &door->sleeping);
    if (!ready(kit)) {
        atomic_fetch_add_explicit(slept, 1, memory_order_relaxed);
        *lost += pp__futex_wait(&door->bell, number, pp__now() + LOST, true) == -ETIMEDOUT;
    }
    pp__doorbell_get_up(&door->sleeping);
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
    if (number == 1)
        stay_away(2000);
}

/* What the scheduler does later, it can not keep the consumer from sleeping at least once. */
static void wait_for_a_sleeper(const struct rung_ring *ring)
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
        while (!kit_put(&ring->kit, id, (uint32_t)id % 360))
            sleep_at(&ring->emptied, has_room, &ring->kit, &ring->slept[1], &ring->lost[1]);
        pp__ring_publish(&ring->kit.writer);
        wake(&ring->filled);
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
        kit_expect(&ring->kit, id, (uint32_t)id % 360);
        pp__ring_release(&ring->kit.reader);
        wake(&ring->emptied);
        pause_now_and_then(&pauses);
    }
    return NULL;
}

TEST_WITHIN(a_sleeper_that_announces_itself_and_looks_again_is_never_left_asleep, 120)
{
    static struct rung_ring ring;
    open_ring(&ring);
    run_two(produce_and_ring, sleep_and_consume, &ring);
    CHECK_INT(ring.lost[0], 0);
    CHECK_INT(ring.lost[1], 0);
    kit_close(&ring.kit);
}

/*
 * One record at a time, so that each meets a sleeper that is just about to sleep: the moment in which a missing fence
 * loses the wake. So many of them that one is lost in most runs if either fence is.
 */
#define STEPS (2 * RECORDS)

/* Large enough for the mark to be some time on its way to the other processor, behind lines that this has read last. */
#define STEP_SIZE 256u

static void put_in_step(struct kit *kit, uint64_t id, uint64_t *pauses)
{
    for (unsigned looks = 1; !pp__ring_drained(&kit->writer); looks++)
        if (looks % 256 == 0) /* seldom, as it takes longer than what is to cross */
            sched_yield();
    stay_away(kit_below(pauses, 64));
    CHECK(kit_put(kit, id, STEP_SIZE));
    pp__ring_publish(&kit->writer);
}

static void take_in_step(struct kit *kit, uint64_t id, uint64_t *pauses)
{
    kit_expect(kit, id, STEP_SIZE);
    pp__ring_release(&kit->reader);
    stay_away(kit_below(pauses, 512)); /* the other one fills a record meanwhile */
}

static void *produce_in_step(void *argument)
{
    struct rung_ring *ring = argument;
    uint64_t pauses = 8;
    wait_for_a_sleeper(ring);
    for (uint64_t id = 0; id < STEPS; id++) {
        put_in_step(&ring->kit, id, &pauses);
        wake(&ring->filled);
    }
    return NULL;
}

static void *consume_in_step(void *argument)
{
    struct rung_ring *ring = argument;
    uint64_t pauses = 10;
    for (uint64_t id = 0; id < STEPS; id++) {
        while (!pp__ring_waiting(&ring->kit.reader))
            sleep_at(&ring->filled, has_record, &ring->kit, &ring->slept[0], &ring->lost[0]);
        CHECK_INT(ring->lost[0], 0);
        take_in_step(&ring->kit, id, &pauses);
    }
    return NULL;
}

TEST_WITHIN(a_wake_and_a_sleep_that_cross_do_not_miss_each_other, 120)
{
    static struct rung_ring ring;
    open_ring(&ring);
    run_two(produce_in_step, consume_in_step, &ring);
    kit_close(&ring.kit);
}

/* The owner's: it says what it wants, looks, and sleeps on an eventfd, for which a worker rings once for each sleep. */
struct wanted_ring {
    struct kit kit;
    _Alignas(64) struct pp__wanted wanted;
    int bell;
    bool lost;
};

static void *publish_in_step(void *argument)
{
    struct wanted_ring *ring = argument;
    uint64_t pauses = 9, rung = UINT64_MAX, one = 1;
    for (uint64_t id = 0; id < STEPS; id++) {
        put_in_step(&ring->kit, id, &pauses);
        if (pp__want_unrung(&ring->wanted, PP__WANT_RESULT, id, &rung))
            CHECK_INT(write(ring->bell, &one, sizeof one), sizeof one);
    }
    return NULL;
}

/* As sleep_for_events (src/pool/collect.c). */
static void sleep_for_results(struct wanted_ring *ring, uint64_t *epoch)
{
    struct pollfd set = {.fd = ring->bell, .events = POLLIN};
    uint64_t rings;
    pp__want_ask(&ring->wanted, ++*epoch, PP__WANT_ROOM, PP__WANT_BELL, STEPS);
    bool some = pp__ring_waiting(&ring->kit.reader);
    int ready = poll(&set, 1, some ? 0 : (int)(LOST / PP__MILLISECOND));
    ring->lost = !some && ready == 0 && pp__ring_waiting(&ring->kit.reader);
    pp__want_nothing(&ring->wanted, ++*epoch);
    if (ready > 0)
        CHECK_INT(read(ring->bell, &rings, sizeof rings), sizeof rings);
}

static void *collect_in_step(void *argument)
{
    struct wanted_ring *ring = argument;
    uint64_t pauses = 11, epoch = 0;
    for (uint64_t id = 0; id < STEPS; id++) {
        while (!pp__ring_waiting(&ring->kit.reader))
            sleep_for_results(ring, &epoch);
        CHECK(!ring->lost);
        take_in_step(&ring->kit, id, &pauses);
    }
    return NULL;
}

TEST_WITHIN(a_result_and_a_sleep_of_the_owner_that_cross_do_not_miss_each_other, 120)
{
    static struct wanted_ring ring;
    kit_open(&ring.kit, CAPACITY);
    ring.bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    CHECK(ring.bell >= 0);
    run_two(publish_in_step, collect_in_step, &ring);
    close(ring.bell);
    kit_close(&ring.kit);
}
