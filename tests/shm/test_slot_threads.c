/* SPDX-License-Identifier: MIT */
/*
 * Begin against take back, with owner and worker as threads of one process: see threads_kit.h. They do as src/pool does
 * it: the owner publishes the record that names a slot, which it gives out only where the call before was taken back
 * there; the worker notes when it begins and begins; the owner takes the slot, or finds it begun, and then sees that
 * note before any result comes. Beside the record lies what the worker reads only once it has begun, and the owner
 * overwrites at once when it has taken the call back. Calls are raced for, of most of which the slot was not given; of
 * every 512 some are left to one side, whatever the scheduler does, so that each has slots of both kinds.
 */
#include "threads_kit.h"

#include "shm/slot.h"

#define CALLS UINT64_C(60000)

enum { SLOTS = 8 };

/* The owner's, of a slot: as in src/pool/workers.h. */
struct owned {
    uint64_t end;           /* where the record is that named it last */
    uint64_t before, after; /* what it says until that is begun, and then */
    bool taken;
};

static struct {
    struct kit calls, results;
    _Alignas(64) _Atomic uint64_t slots[SLOTS];
    _Alignas(64) _Atomic uint64_t near; /* the call that is about to begin, relaxed */
    /* As plain as can be: that is what shows whether something orders them. */
    _Alignas(64) uint64_t begun_at[SLOTS];
    _Alignas(64) uint64_t beside[SLOTS];
    struct owned owned[SLOTS];
    bool worker_won[CALLS + 1], owner_won[CALLS + 1]; /* by id */
    bool given[CALLS + 1];
} channel;

/* All of one slot, and the first of them each behind one that is raced for. */
static bool is_left_to(enum pp__slot_state end, uint64_t id)
{
    switch (id % 512) {
    case 108: /* given */
    case 116: /* not given */
        return end == PP__SLOT_BEGUN;
    case 100:
    case 124: /* not given */
    case 132: /* given */
        return end == PP__SLOT_TAKEN;
    default:
        return false;
    }
}

/* Until the other one has ended the race in this way. Relaxed, for nothing but the scheduler. */
static void leave_it_to_the_other(uint64_t id, enum pp__slot_state end)
{
    while (is_left_to(end, id) && pp__load_relaxed(&channel.slots[id % SLOTS]) != pp__slot_word(id, end))
        sched_yield();
}

static void await_record(struct kit *ring)
{
    while (!pp__ring_waiting(&ring->reader))
        sched_yield();
}

static void worker_tries(uint64_t id, uint64_t *seed)
{
    uint64_t i = id % SLOTS;
    kit_expect(&channel.calls, id, 24);
    pp__store_relaxed(&channel.near, id);
    stay_away(kit_below(seed, 500));
    channel.begun_at[i] = id * 5;
    leave_it_to_the_other(id, PP__SLOT_TAKEN);
    if (!pp__slot_start(&channel.slots[i], pp__slot_word(id, PP__SLOT_BEGUN))) {
        CHECK_INT(pp__load_relaxed(&channel.slots[i]), pp__slot_word(id, PP__SLOT_TAKEN));
        return;
    }
    channel.worker_won[id] = true;
    CHECK_INT(channel.beside[i], id * 3);
    CHECK(kit_put(&channel.results, id, 40)); /* one at a time is not taken in yet */
    pp__ring_publish(&channel.results.writer);
}

static void *work(void *argument)
{
    uint64_t seed = 13;
    for (uint64_t id = 1; id <= CALLS; id++) {
        await_record(&channel.calls);
        worker_tries(id, &seed);
        pp__ring_release(&channel.calls.reader);
    }
    return argument;
}

/* As give_slot (src/pool/send.c). */
static void give_slot(struct owned *owned, uint64_t id)
{
    owned->before = owned->after;
    channel.given[id] = owned->taken;
    if (owned->taken) {
        pp__slot_give(&channel.slots[id % SLOTS], id);
        owned->before = pp__slot_word(id, PP__SLOT_READY);
    }
    owned->after = pp__slot_word(id, PP__SLOT_BEGUN);
    owned->taken = false;
}

static void give(uint64_t id)
{
    uint64_t i = id % SLOTS;
    struct owned *owned = &channel.owned[i];
    while (owned->taken && !pp__ring_passed(&channel.calls.writer, owned->end)) /* may be begun in vain still */
        sched_yield();
    channel.beside[i] = id * 3;
    CHECK(kit_put(&channel.calls, id, 24));
    owned->end = channel.calls.writer.position;
    give_slot(owned, id);
    pp__ring_publish(&channel.calls.writer);
}

/* Seldom not even until the worker has the record. Gives up the processor now and then, as there may be a single one.
 */
static void wait_a_little(uint64_t id, uint64_t *seed)
{
    uint32_t number = kit_below(seed, 600);
    for (unsigned looks = 1; number > 60 && pp__load_relaxed(&channel.near) < id; looks++)
        if (looks % 256 == 0)
            sched_yield();
    if (number < 10)
        sched_yield();
    stay_away(number);
}

static void owner_tries(uint64_t id)
{
    uint64_t i = id % SLOTS;
    if (pp__slot_take(&channel.slots[i], channel.owned[i].before, id)) {
        channel.owned[i].taken = true;
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
        wait_a_little(id, &seed);
        leave_it_to_the_other(id, PP__SLOT_BEGUN);
        owner_tries(id);
    }
    return argument;
}

TEST_WITHIN(of_begin_and_cancel_exactly_one_wins_and_has_the_data_alone, 120)
{
    uint64_t begun[2] = {0}, taken[2] = {0}; /* by whether the slot was given */
    kit_open(&channel.calls, 1024);
    kit_open(&channel.results, 1024);
    run_two(own, work, NULL);
    for (uint64_t id = 1; id <= CALLS; id++) {
        CHECK_INT(channel.worker_won[id] + channel.owner_won[id], 1);
        begun[channel.given[id]] += channel.worker_won[id];
        taken[channel.given[id]] += channel.owner_won[id];
    }
    printf("not given: %llu begun, %llu taken; given: %llu begun, %llu taken\n", (unsigned long long)begun[0],
           (unsigned long long)taken[0], (unsigned long long)begun[1], (unsigned long long)taken[1]);
    for (int given = 0; given <= 1; given++) {
        CHECK(begun[given] >= CALLS / 512);
        CHECK(taken[given] >= CALLS / 512);
    }
    kit_close(&channel.calls);
    kit_close(&channel.results);
}

/*
 * A chunk: one slot, which steps from element to element, until the owner stops it behind the one that it finds begun.
 * Nothing is looked at but the slot and what each begin has published; what ran is compared when both are done. Of
 * every four chunks one is left to run to its end, so that the slot is not given for the one behind.
 */
#define CHUNKS UINT64_C(10000)
#define ELEMENTS UINT64_C(64)
#define FIRST(chunk) ((chunk)*ELEMENTS + 1)
#define LAST(chunk) (FIRST((chunk) + 1) - 1)

static struct {
    _Alignas(64) _Atomic uint64_t slot;
    _Alignas(64) _Atomic uint64_t sent; /* chunks, as the ring of calls says it: orders nothing the other way */
    _Alignas(64) _Atomic uint64_t over; /* chunks, relaxed: which one is on, but nothing of what is in it */
    struct owned owned;
    uint64_t begun_at[(CHUNKS + 1) * ELEMENTS + 1];
    uint64_t ran_until[CHUNKS], stopped_at[CHUNKS]; /* the id behind the last element, by either side */
    bool given[CHUNKS];
} chunks;

static bool begin_element(uint64_t first, uint64_t id)
{
    uint64_t begun = pp__slot_word(id, PP__SLOT_BEGUN), before = pp__slot_word(id - 1, PP__SLOT_BEGUN);
    chunks.begun_at[id] = id * 7;
    return id == first ? pp__slot_start(&chunks.slot, begun) : pp__slot_begin(&chunks.slot, before, begun);
}

/* As pp__run_chunk (src/pool/worker_chunk.c). The id behind the last element that ran. */
static uint64_t run_chunk(uint64_t first, uint64_t last)
{
    for (uint64_t id = first; id <= last; id++)
        if (!begin_element(first, id)) {
            CHECK_INT(pp__load_relaxed(&chunks.slot), pp__slot_word(id == first ? id : id - 1, PP__SLOT_TAKEN));
            return id;
        }
    return last + 1;
}

static void *run_chunks(void *argument)
{
    for (uint64_t chunk = 0; chunk < CHUNKS; chunk++) {
        while (pp__load_acquire(&chunks.sent) <= chunk) /* pairs with the store in send_chunk */
            sched_yield();
        chunks.ran_until[chunk] = run_chunk(FIRST(chunk), LAST(chunk));
        pp__store_relaxed(&chunks.over, chunk + 1);
    }
    return argument;
}

static void send_chunk(uint64_t chunk)
{
    struct owned *owned = &chunks.owned;
    owned->before = owned->after;
    if ((chunks.given[chunk] = owned->taken)) {
        pp__slot_give(&chunks.slot, FIRST(chunk));
        owned->before = pp__slot_word(FIRST(chunk), PP__SLOT_READY);
    }
    owned->after = pp__slot_word(LAST(chunk), PP__SLOT_BEGUN);
    owned->taken = false;
    pp__store_release(&chunks.sent, chunk + 1); /* pairs with the load in run_chunks */
}

/* 0: not yet; else the id behind the last element that runs. The worker may step on between the look and the take. */
static uint64_t try_to_stop(uint64_t chunk)
{
    struct owned *owned = &chunks.owned;
    uint64_t word = pp__slot_look(&chunks.slot), id = word >> 2;
    if (word == owned->before) {
        owned->taken = pp__slot_take(&chunks.slot, word, FIRST(chunk));
        return owned->taken ? FIRST(chunk) : 0;
    }
    CHECK_INT(word & 3, PP__SLOT_BEGUN);
    CHECK(id >= FIRST(chunk) && id <= LAST(chunk));
    CHECK_INT(chunks.begun_at[id], id * 7);
    if (id == LAST(chunk))
        return id + 1;
    owned->taken = pp__slot_take(&chunks.slot, word, id);
    return owned->taken ? id + 1 : 0;
}

static void wait_for(bool (*passed)(uint64_t chunk), uint64_t chunk)
{
    for (unsigned looks = 1; !passed(chunk); looks++)
        if (looks % 256 == 0)
            sched_yield();
}

/* Relaxed, for nothing but the scheduler. */
static bool has_begun(uint64_t chunk)
{
    return pp__load_relaxed(&chunks.slot) >= pp__slot_word(FIRST(chunk), PP__SLOT_BEGUN);
}

static bool is_over(uint64_t chunk)
{
    return pp__load_relaxed(&chunks.over) > chunk;
}

/* Of most chunks it is waited for that they begin, so that they are stopped between two elements. */
static void stay_away_from(uint64_t chunk, uint64_t *seed)
{
    if (chunk % 4 == 3)
        wait_for(is_over, chunk);
    else if (chunk % 8 > 1)
        wait_for(has_begun, chunk);
    stay_away(kit_below(seed, chunk % 8 > 1 ? 500 : 100));
}

static void *stop_chunks(void *argument)
{
    uint64_t seed = 12;
    for (uint64_t chunk = 0; chunk < CHUNKS; chunk++) {
        send_chunk(chunk);
        stay_away_from(chunk, &seed);
        while ((chunks.stopped_at[chunk] = try_to_stop(chunk)) == 0) {
        }
        wait_for(is_over, chunk);
    }
    return argument;
}

TEST_WITHIN(a_chunk_that_is_stopped_runs_to_the_element_behind_which_it_was_stopped, 120)
{
    uint64_t whole[2] = {0}, stopped[2] = {0}, unbegun[2] = {0}; /* by whether the slot was given */
    run_two(run_chunks, stop_chunks, NULL);
    for (uint64_t chunk = 0; chunk < CHUNKS; chunk++) {
        bool given = chunks.given[chunk];
        CHECK_INT(chunks.ran_until[chunk], chunks.stopped_at[chunk]);
        whole[given] += chunks.ran_until[chunk] == FIRST(chunk + 1);
        unbegun[given] += chunks.ran_until[chunk] == FIRST(chunk);
        stopped[given] += chunks.ran_until[chunk] < FIRST(chunk + 1);
    }
    for (int given = 0; given <= 1; given++)
        printf("%s: %llu whole, %llu stopped, of them %llu unbegun\n", given ? "given" : "not given",
               (unsigned long long)whole[given], (unsigned long long)stopped[given],
               (unsigned long long)unbegun[given]);
    CHECK(whole[0] + whole[1] >= CHUNKS / 4);
    CHECK(stopped[0] > 0 && stopped[1] > 0);
}

/* A record may be come to when its slot is a younger one's, if its call has ended by what was not its result. */
TEST(a_slot_that_says_taken_of_whatever_id_goes_on_saying_it)
{
    _Atomic uint64_t slot = pp__slot_word(7, PP__SLOT_TAKEN);
    CHECK(!pp__slot_start(&slot, pp__slot_word(3, PP__SLOT_BEGUN)));
    CHECK(!pp__slot_start(&slot, pp__slot_word(7, PP__SLOT_BEGUN)));
    CHECK(!pp__slot_start(&slot, pp__slot_word(9, PP__SLOT_BEGUN)));
    CHECK_INT(pp__load_relaxed(&slot), pp__slot_word(7, PP__SLOT_TAKEN));
}
