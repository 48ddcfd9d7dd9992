/* SPDX-License-Identifier: MIT */
/*
 * Producers and consumers of one queue that are killed at random moments under load, and replaced. Each message has a
 * number of its producer's, and bytes that follow from it. None is delivered twice, or in the wrong order to one
 * consumer; and of those whose put returned, no more are missing in the end than consumers died.
 */
#include "queue_kit.h"

#define PRODUCERS 2
#define CONSUMERS 2
#define MOST_NUMBERS (1u << 25) /* for each producer */
#define BODY_MOST 700

struct header {
    uint32_t producer, number;
};

static struct shared {
    _Atomic uint32_t begun[PRODUCERS]; /* numbers given out */
    _Atomic bool enough;
    _Atomic uint64_t delivered_all;
    _Atomic unsigned char returned[PRODUCERS][MOST_NUMBERS], delivered[PRODUCERS][MOST_NUMBERS];
} * shared;

static pp_queue *queue;

static uint64_t seed_of(struct header header)
{
    return (uint64_t)header.producer << 32 | header.number;
}

static size_t body_size(struct header header)
{
    return header.number * 2654435761u % (header.number % 8 ? 64 : BODY_MOST);
}

static void produce(void *argument)
{
    struct header header = {.producer = (uint32_t)(uintptr_t)argument};
    unsigned char message[sizeof header + BODY_MOST];
    while (!atomic_load(&shared->enough)) {
        header.number = atomic_fetch_add(&shared->begun[header.producer], 1);
        CHECK(header.number < MOST_NUMBERS);
        memcpy(message, &header, sizeof header);
        kit_fill(message + sizeof header, body_size(header), seed_of(header));
        CHECK_OK(pp_queue_put(queue, message, sizeof header + body_size(header), -1));
        atomic_store(&shared->returned[header.producer][header.number], 1);
    }
}

static void note(const unsigned char *message, size_t size, int64_t last[PRODUCERS])
{
    struct header header;
    CHECK(size >= sizeof header);
    memcpy(&header, message, sizeof header);
    CHECK(header.producer < PRODUCERS && header.number < MOST_NUMBERS);
    CHECK_INT(size, sizeof header + body_size(header));
    CHECK(kit_filled(message + sizeof header, size - sizeof header, seed_of(header)));
    CHECK(header.number > last[header.producer]);
    last[header.producer] = header.number;
    CHECK_INT(atomic_fetch_add(&shared->delivered[header.producer][header.number], 1), 0);
    atomic_fetch_add(&shared->delivered_all, 1);
}

static void consume(void *argument)
{
    int64_t last[PRODUCERS] = {-1, -1};
    unsigned char message[sizeof(struct header) + BODY_MOST];
    size_t size;
    int error;
    (void)argument;
    while ((error = pp_queue_get(queue, -1, message, sizeof message, &size)) == 0)
        note(message, size, last);
    CHECK_INT(error, -EPIPE);
}

static pid_t start(int place)
{
    return place < PRODUCERS ? kit_fork(produce, (void *)(uintptr_t)place) : kit_fork(consume, NULL);
}

/* One that has ended by itself has failed a check. */
static void kill_and_replace(pid_t *children, int place)
{
    int status;
    uint64_t before = atomic_load(&shared->delivered_all);
    CHECK_INT(kill(children[place], SIGKILL), 0);
    CHECK_INT(waitpid(children[place], &status, 0), children[place]);
    CHECK(WIFSIGNALED(status));
    children[place] = start(place);
    wait_until(atomic_load(&shared->delivered_all) > before, 5);
}

static long count_missing(void)
{
    long missing = 0;
    for (int p = 0; p < PRODUCERS; p++)
        for (uint32_t n = 0; n < atomic_load(&shared->begun[p]); n++)
            missing += shared->returned[p][n] && !shared->delivered[p][n];
    return missing;
}

static void load(size_t max_items, size_t max_bytes, int joinable, double seconds)
{
    pid_t children[PRODUCERS + CONSUMERS];
    unsigned seed = (unsigned)max_items;
    long consumers_killed = 0;
    shared = kit_shared(sizeof *shared);
    CHECK_OK(pp_queue_create(&(pp_queue_options){.max_items = max_items, .max_bytes = max_bytes, .joinable = joinable},
                             &queue));
    for (int i = 0; i < PRODUCERS + CONSUMERS; i++)
        children[i] = start(i);
    for (double end = test_seconds() + seconds; test_seconds() < end || consumers_killed == 0;) {
        int place = rand_r(&seed) % (PRODUCERS + CONSUMERS);
        usleep((useconds_t)(rand_r(&seed) % 3000));
        kill_and_replace(children, place);
        consumers_killed += place >= PRODUCERS;
    }
    atomic_store(&shared->enough, true);
    for (int i = 0; i < PRODUCERS; i++)
        kit_end_well(children[i]);
    CHECK_OK(pp_queue_close(queue));
    for (int i = PRODUCERS; i < PRODUCERS + CONSUMERS; i++)
        kit_end_well(children[i]);
    CHECK_INT(pp_queue_size(queue), 0);
    CHECK(count_missing() <= consumers_killed);
    CHECK(consumers_killed > 0);
    printf("%llu delivered, %ld missing, %ld consumers killed\n", (unsigned long long)shared->delivered_all,
           count_missing(), consumers_killed);
    pp_queue_unref(queue);
}

TEST(deaths_under_load_lose_a_message_each_at_most_and_none_comes_twice)
{
    load(64, 1 << 16, 0, 1);
}

TEST(deaths_under_load_on_a_queue_that_is_always_full_lose_no_more)
{
    load(2, 800, 0, 1);
}

SLOW_TEST(deaths_under_load_for_long_lose_a_message_each_at_most)
{
    load(16, 4096, 1, 40);
}
