/* SPDX-License-Identifier: MIT */
/*
 * Begin against take back, with owner and worker as threads of one process: see threads_kit.h. They do as src/pool does
 * it: the owner gives out a slot and publishes the record that names it; the worker notes when it begins and begins;
 * the owner takes the slot, or finds it begun, and then sees that note before any result comes. Beside the record lies
 * what the worker reads only once it has begun, and the owner overwrites at once when it has taken the call back. Most
 * calls are raced for; of every 512 one is left to each side, whatever the scheduler does.
 */
#include "threads_kit.h"

#include "shm/slot.h"

#define CALLS UINT64_C(60000)

enum { SLOTS = 8, LEFT_TO_THE_WORKER = 100, LEFT_TO_THE_OWNER = 300 };

static struct {
    struct kit calls, results;
    _Alignas(64) _Atomic uint64_t slots[SLOTS];
    /* As plain as can be: that is what shows whether something orders them. */
    _Alignas(64) uint64_t begun_at[SLOTS];
    _Alignas(64) uint64_t beside[SLOTS];
    uint64_t ends[SLOTS];                             /* the owner's: where the record is that named the slot last */
    bool worker_won[CALLS + 1], owner_won[CALLS + 1]; /* by id */
} channel;

/* Relaxed, for nothing but the scheduler. */
static void leave_it_to_the_other(uint64_t id, uint64_t whose)
{
    while (id % 512 == whose && pp__load_relaxed(&channel.slots[id % SLOTS]) == pp__slot_word(id, PP__SLOT_READY))
        sched_yield();
}

static void await_record(struct kit *ring)
{
    while (!pp__ring_waiting(&ring->reader))
        sched_yield();
}

static void worker_tries(uint64_t id)
{
    uint64_t i = id % SLOTS;
    kit_expect(&channel.calls, id, 24);
    channel.begun_at[i] = id * 5;
    leave_it_to_the_other(id, LEFT_TO_THE_OWNER);
    if (!pp__slot_begin(&channel.slots[i], pp__slot_word(id, PP__SLOT_READY), pp__slot_word(id, PP__SLOT_BEGUN)))
        return;
    channel.worker_won[id] = true;
    CHECK_INT(channel.beside[i], id * 3);
    CHECK(kit_put(&channel.results, id, 40)); /* one at a time is not taken in yet */
    pp__ring_publish(&channel.results.writer);
}

static void *work(void *argument)
{
    for (uint64_t id = 1; id <= CALLS; id++) {
        await_record(&channel.calls);
        worker_tries(id);
        pp__ring_release(&channel.calls.reader);
    }
    return argument;
}

static void give(uint64_t id)
{
    uint64_t i = id % SLOTS;
    while (!pp__ring_passed(&channel.calls.writer, channel.ends[i])) /* it was taken, and may be begun in vain still */
        sched_yield();
    channel.beside[i] = id * 3;
    pp__slot_give(&channel.slots[i], id);
    CHECK(kit_put(&channel.calls, id, 24));
    channel.ends[i] = channel.calls.writer.position;
    pp__ring_publish(&channel.calls.writer);
}

/* Gives up the processor now and then, so that the worker has its chance with a single one. */
static void wait_a_little(uint64_t *seed)
{
    uint32_t number = kit_below(seed, 300);
    if (number < 30)
        sched_yield();
    stay_away(number);
}

static void owner_tries(uint64_t id)
{
    uint64_t i = id % SLOTS;
    if (pp__slot_take(&channel.slots[i], id, PP__SLOT_READY)) {
        channel.owner_won[id] = true;
        channel.beside[i] = 0;
        return;
    }
    CHECK_INT(pp__slot_look(&channel.slots[i]), pp__slot_word(id, PP__SLOT_BEGUN));
    CHECK_INT(channel.begun_at[i], id * 5);
    await_record(&channel.results);
    kit_expect(&channel.results, id, 40);
    pp__ring_release(&channel.results.reader);
}

static void *own(void *argument)
{
    uint64_t seed = 11;
    for (uint64_t id = 1; id <= CALLS; id++) {
        give(id);
        wait_a_little(&seed);
        leave_it_to_the_other(id, LEFT_TO_THE_WORKER);
        owner_tries(id);
    }
    return argument;
}

TEST_WITHIN(of_begin_and_cancel_exactly_one_wins_and_has_the_data_alone, 120)
{
    uint64_t begun = 0, taken = 0;
    kit_open(&channel.calls, 1024);
    kit_open(&channel.results, 1024);
    run_two(own, work, NULL);
    for (uint64_t id = 1; id <= CALLS; id++) {
        CHECK_INT(channel.worker_won[id] + channel.owner_won[id], 1);
        begun += channel.worker_won[id];
        taken += channel.owner_won[id];
    }
    CHECK(begun > 0);
    CHECK(taken > 0);
    kit_close(&channel.calls);
    kit_close(&channel.results);
}

/*
 * A chunk: one slot, which steps from element to element, until the owner stops it behind the one that it finds begun.
 * Nothing is looked at but the slot and what each begin has published; what ran is compared when both are done.
 */
#define CHUNKS UINT64_C(10000)
#define ELEMENTS UINT64_C(64)
#define FIRST(chunk) ((chunk)*ELEMENTS + 1)

static struct {
    _Alignas(64) _Atomic uint64_t slot;
    _Alignas(64) _Atomic uint64_t over; /* chunks, relaxed: which one is on, but nothing of what is in it */
    uint64_t begun_at[(CHUNKS + 1) * ELEMENTS + 1];
    uint64_t ran_until[CHUNKS], stopped_at[CHUNKS]; /* the id behind the last element, by either side */
} chunks;

static void *run_chunks(void *argument)
{
    for (uint64_t chunk = 0; chunk < CHUNKS; chunk++) {
        uint64_t id = FIRST(chunk), before = pp__slot_word(id, PP__SLOT_READY);
        while (pp__load_relaxed(&chunks.slot) >> 2 < id)
            sched_yield();
        for (; id < FIRST(chunk + 1); id++) {
            uint64_t begun = pp__slot_word(id, PP__SLOT_BEGUN);
            chunks.begun_at[id] = id * 7;
            if (!pp__slot_begin(&chunks.slot, before, begun))
                break;
            before = begun;
        }
        chunks.ran_until[chunk] = id;
        pp__store_relaxed(&chunks.over, chunk + 1);
    }
    return argument;
}

/* 0: not yet; else the id behind the last element that runs. The worker may step on between the look and the take. */
static uint64_t try_to_stop(uint64_t first)
{
    uint64_t word = pp__slot_look(&chunks.slot), id = word >> 2;
    if ((word & 3) == PP__SLOT_READY)
        return pp__slot_take(&chunks.slot, first, PP__SLOT_READY) ? first : 0;
    CHECK_INT(chunks.begun_at[id], id * 7);
    if (id + 1 == first + ELEMENTS)
        return id + 1;
    return pp__slot_take(&chunks.slot, id, PP__SLOT_BEGUN) ? id + 1 : 0;
}

/* Of most chunks it is waited for, so that they are stopped between two elements. Relaxed, for nothing but the
 * scheduler. */
static void wait_for_the_begin(uint64_t chunk)
{
    for (unsigned looks = 1; pp__load_relaxed(&chunks.slot) == pp__slot_word(FIRST(chunk), PP__SLOT_READY); looks++)
        if (looks % 256 == 0)
            sched_yield();
}

static void *stop_chunks(void *argument)
{
    uint64_t seed = 12;
    for (uint64_t chunk = 0; chunk < CHUNKS; chunk++) {
        pp__slot_give(&chunks.slot, FIRST(chunk));
        if (chunk % 16 != 0)
            wait_for_the_begin(chunk);
        stay_away(kit_below(&seed, 500));
        while ((chunks.stopped_at[chunk] = try_to_stop(FIRST(chunk))) == 0) {
        }
        while (pp__load_relaxed(&chunks.over) <= chunk)
            sched_yield();
    }
    return argument;
}

TEST_WITHIN(a_chunk_that_is_stopped_runs_to_the_element_behind_which_it_was_stopped, 120)
{
    uint64_t stopped = 0;
    run_two(run_chunks, stop_chunks, NULL);
    for (uint64_t chunk = 0; chunk < CHUNKS; chunk++) {
        CHECK_INT(chunks.ran_until[chunk], chunks.stopped_at[chunk]);
        stopped += chunks.ran_until[chunk] < FIRST(chunk + 1);
    }
    CHECK(stopped > 0);
}
