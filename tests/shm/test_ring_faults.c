/* SPDX-License-Identifier: MIT */
/* needs: seams */
/* An end that is killed at each place of a publish or a release, at each time it comes by. */
#include "ring_kit.h"

#include "base/seam.h"

#define CAPACITY 1024u
#define START (CAPACITY - 192) /* so that the third record crosses the end and the ring is full at last */

/* Sizes, a batch for each line; 0 ends one. */
static const uint32_t batches[][4] = {
    {20},
    {40, 100, 1},
    {368},
    {16, 176},
};
#define BATCHES (sizeof batches / sizeof *batches)

static const char *const places[] = {"ring.reserve", "ring.header", "ring.publish.before", "ring.publish.end",
                                     "ring.publish.after"};

static uint64_t put_batch(struct kit *kit, size_t batch, uint64_t id)
{
    for (size_t i = 0; i < 4 && batches[batch][i] > 0; i++)
        if (!kit_put(kit, id++, batches[batch][i]))
            _exit(3);
    return id;
}

static _Noreturn void put_all(struct kit *kit)
{
    uint64_t id = 0;
    for (size_t batch = 0; batch < BATCHES; batch++) {
        id = put_batch(kit, batch, id);
        pp__ring_publish(&kit->writer);
    }
    _exit(0);
}

/* Reads whole batches until there is no more; a record that is there without the rest of its batch fails. */
static size_t read_batches(struct kit *kit)
{
    uint64_t id = 0;
    for (size_t batch = 0; batch < BATCHES; batch++) {
        if (!pp__ring_waiting(&kit->reader))
            return batch;
        for (size_t i = 0; i < 4 && batches[batch][i] > 0; i++)
            kit_expect(kit, id++, batches[batch][i]);
    }
    return BATCHES;
}

/* In which batch the n-th record is (both count from 0). */
static size_t batch_of(unsigned n)
{
    for (size_t batch = 0; batch < BATCHES; batch++)
        for (size_t i = 0; i < 4 && batches[batch][i] > 0; i++)
            if (n-- == 0)
                return batch;
    return BATCHES;
}

static size_t batches_before(const char *place, unsigned n)
{
    if (strcmp(place, "ring.publish.before") == 0 || strcmp(place, "ring.publish.end") == 0)
        return n - 1;
    if (strcmp(place, "ring.publish.after") == 0)
        return n;
    return batch_of(n - 1);
}

/* Whether the place was reached an n-th time. */
static bool kill_producer_at(const char *place, unsigned n)
{
    struct kit kit;
    kit_open(&kit, CAPACITY);
    kit_fill_headers(kit.data, CAPACITY, 16, 1);
    kit_start(&kit, START);
    pp__fault_arm(place, n, PP__FAULT_KILL);
    pid_t child = kit_fork();
    if (child == 0)
        put_all(&kit);
    int status = kit_wait(child);
    pp__fault_disarm();
    bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    CHECK(killed || status == 0);
    CHECK_INT(read_batches(&kit), killed ? batches_before(place, n) : BATCHES);
    kit_expect_none(&kit);
    kit_close(&kit);
    return killed;
}

TEST(a_producer_killed_anywhere_in_a_publish_leaves_its_batch_whole_or_not_at_all)
{
    unsigned times[sizeof places / sizeof *places] = {0};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        while (kill_producer_at(places[i], times[i] + 1))
            times[i]++;
    CHECK_INT(times[0], 7);
    CHECK_INT(times[1], 7);
    CHECK_INT(times[2], BATCHES);
    CHECK_INT(times[3], BATCHES);
    CHECK_INT(times[4], BATCHES);
}

/* Takes a record at a time until it is killed. */
static _Noreturn void take_all(struct kit *kit)
{
    struct pp__record record = {0};
    const void *payload = NULL;
    while (pp__ring_next(&kit->reader, &record, &payload) == 1)
        pp__ring_release(&kit->reader);
    _exit(0);
}

TEST(a_consumer_killed_in_a_release_gives_back_nothing_that_it_still_read)
{
    for (unsigned n = 1; n <= 4; n++) {
        struct kit kit;
        uint64_t ends[4];
        kit_open(&kit, CAPACITY);
        for (uint32_t id = 0; id < 4; id++) {
            CHECK(kit_put(&kit, id, 170));
            ends[id] = kit.writer.position;
        }
        pp__ring_publish(&kit.writer);
        pp__fault_arm("ring.release.before", n, PP__FAULT_KILL);
        pid_t child = kit_fork();
        if (child == 0)
            take_all(&kit);
        CHECK_INT(kit_wait(child), SIGKILL);
        pp__fault_disarm();
        for (unsigned id = 0; id < 4; id++)
            CHECK_INT(pp__ring_passed(&kit.writer, ends[id]), id + 1 < n);
        kit_close(&kit);
    }
}
