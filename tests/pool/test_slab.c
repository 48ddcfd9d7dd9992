/* SPDX-License-Identifier: MIT */
/* The slab that a pool's calls lie in. */
#include "call_kit.h"

#include "pool/slab.h"

enum { COUNT = 5000, SIZE = 48 }; /* several chunks of it */

static bool each_is_mallocs(void)
{
    return KIT_ASAN || TEST_ON_VALGRIND;
}

static unsigned char *take(struct pp__slab *slab)
{
    bool fresh;
    return pp__slab_take(slab, &fresh);
}

static void take_all(struct pp__slab *slab, unsigned char **objects, int count)
{
    for (int i = 0; i < count; i++) {
        objects[i] = take(slab);
        CHECK(objects[i] != NULL);
    }
}

static void give_all(struct pp__slab *slab, unsigned char **objects, int count)
{
    for (int i = 0; i < count; i++)
        pp__slab_give(slab, objects[i]);
}

static int compare(const void *a, const void *b)
{
    uintptr_t x = (uintptr_t) * (unsigned char *const *)a, y = (uintptr_t) * (unsigned char *const *)b;
    return x < y ? -1 : x > y;
}

static void sort(unsigned char **objects, int count)
{
    qsort(objects, (size_t)count, sizeof *objects, compare);
}

TEST(objects_are_apart_aligned_and_keep_what_is_written)
{
    static unsigned char *objects[COUNT];
    static const size_t sizes[] = {16, SIZE, 240, 4096};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        struct pp__slab slab;
        pp__slab_init(&slab, sizes[s]);
        take_all(&slab, objects, COUNT);
        for (int i = 0; i < COUNT; i++)
            memset(objects[i], i % 251, sizes[s]);
        for (int i = 0; i < COUNT; i++) {
            CHECK_INT((uintptr_t)objects[i] % 16, 0);
            CHECK_INT(objects[i][0], i % 251);
            CHECK_INT(objects[i][sizes[s] - 1], i % 251);
        }
        sort(objects, COUNT);
        for (int i = 1; i < COUNT; i++)
            CHECK((size_t)(objects[i] - objects[i - 1]) >= sizes[s]);
        give_all(&slab, objects, COUNT);
        pp__slab_destroy(&slab);
    }
}

/* The same objects, however often, and none before it was given back. */
TEST(what_was_given_back_is_used_again)
{
    static unsigned char *first[COUNT], *again[COUNT];
    struct pp__slab slab;
    if (each_is_mallocs())
        LEFT_OUT("here each object is malloc's, which need not use memory again");
    pp__slab_init(&slab, SIZE);
    take_all(&slab, first, COUNT);
    sort(first, COUNT);
    for (int round = 0; round < 5; round++) {
        give_all(&slab, first, COUNT);
        take_all(&slab, again, COUNT);
        sort(again, COUNT);
        CHECK(memcmp(first, again, sizeof first) == 0);
    }
    give_all(&slab, first, COUNT / 2);
    take_all(&slab, again, COUNT / 2);
    sort(again, COUNT / 2);
    CHECK(memcmp(first, again, COUNT / 2 * sizeof *first) == 0);
    unsigned char *fresh = take(&slab);
    CHECK(fresh && !bsearch(&fresh, first, COUNT, sizeof *first, compare));
    pp__slab_destroy(&slab);
}

TEST(an_object_is_fresh_until_it_was_given_back)
{
    struct pp__slab slab;
    bool fresh;
    pp__slab_init(&slab, SIZE);
    void *object = pp__slab_take(&slab, &fresh);
    CHECK(object && fresh);
    CHECK_INT(pp__slab_give(&slab, object), !each_is_mallocs());
    object = pp__slab_take(&slab, &fresh);
    CHECK_INT(fresh, each_is_mallocs());
    pp__slab_give(&slab, object);
    pp__slab_destroy(&slab);
}

/* Those that lie there at its close are counted, whether they were looked at since they came or not; none that comes
 * later stays, and each that is taken is new. */
TEST(in_a_closed_slab_nothing_stays)
{
    static unsigned char *objects[COUNT];
    struct pp__slab slab;
    bool fresh;
    pp__slab_init(&slab, SIZE);
    take_all(&slab, objects, COUNT);
    give_all(&slab, objects, 20);
    take_all(&slab, objects, 10);
    give_all(&slab, objects, 5);
    CHECK_INT(pp__slab_count(pp__slab_close(&slab)), each_is_mallocs() ? 0 : 15);
    for (int i = 5; i < 10; i++)
        CHECK(!pp__slab_give(&slab, objects[i]));
    for (int i = 0; i < 100; i++) {
        void *object = pp__slab_take(&slab, &fresh);
        CHECK(object && fresh);
        CHECK(!pp__slab_give(&slab, object));
    }
    for (int i = 20; i < COUNT; i++)
        CHECK(!pp__slab_give(&slab, objects[i]));
    CHECK_INT(pp__slab_count(pp__slab_close(&slab)), 0);
    pp__slab_destroy(&slab);
}

TEST(a_slab_that_nothing_was_taken_from_can_be_destroyed)
{
    struct pp__slab slab;
    pp__slab_init(&slab, SIZE);
    pp__slab_destroy(&slab);
}

/* --------------------------------------------------------------------------------------------- threads */

enum { GIVERS = 4, TAKEN = 40000, HELD = 64 };

/* One takes, in turn for each of the others, which give back. A place is NULL or an object on its way. */
struct exchange {
    struct pp__slab slab;
    pthread_mutex_t mutex;
    _Atomic int stayed;
    unsigned char *_Atomic places[GIVERS][HELD];
};

struct giver {
    struct exchange *exchange;
    int number;
};

/* Takes and writes under the mutex, gives without it. The object says whose it is: nobody else may have it meanwhile.
 */
static unsigned char *take_one(struct exchange *exchange, int whose)
{
    CHECK_INT(pthread_mutex_lock(&exchange->mutex), 0);
    unsigned char *object = take(&exchange->slab);
    CHECK_INT(pthread_mutex_unlock(&exchange->mutex), 0);
    CHECK(object != NULL);
    memset(object, whose, SIZE);
    return object;
}

static void *give_back(void *argument)
{
    const struct giver *giver = argument;
    struct exchange *exchange = giver->exchange;
    for (int i = giver->number; i < TAKEN; i += GIVERS) {
        unsigned char *_Atomic *place = &exchange->places[giver->number][i / GIVERS % HELD], *object;
        while (!(object = atomic_exchange(place, NULL)))
            sched_yield();
        for (int k = 0; k < SIZE; k++)
            CHECK_INT(object[k], giver->number + 1);
        atomic_fetch_add(&exchange->stayed, pp__slab_give(&exchange->slab, object));
    }
    return NULL;
}

static void run_exchange(struct exchange *exchange, unsigned char **seen)
{
    struct giver givers[GIVERS];
    pthread_t threads[GIVERS];
    for (int i = 0; i < GIVERS; i++) {
        givers[i] = (struct giver){exchange, i};
        threads[i] = start_thread(give_back, &givers[i]);
    }
    for (int i = 0; i < TAKEN; i++) {
        unsigned char *_Atomic *place = &exchange->places[i % GIVERS][i / GIVERS % HELD];
        seen[i] = take_one(exchange, i % GIVERS + 1);
        while (atomic_load(place))
            sched_yield();
        atomic_store(place, seen[i]);
    }
    for (int i = 0; i < GIVERS; i++)
        join_thread(threads[i]);
}

static int drop_doubles(unsigned char **objects, int count)
{
    int kept = 1;
    sort(objects, count);
    for (int i = 1; i < count; i++)
        if (objects[i] != objects[kept - 1])
            objects[kept++] = objects[i];
    return kept;
}

/* Whatever was handed out can be taken again before anything new is, each once: nothing was lost, nothing is there
 * twice. */
TEST(while_threads_give_back_and_one_takes_nothing_is_lost)
{
    static struct exchange exchange;
    static unsigned char *seen[TAKEN], *again[TAKEN];
    pp__slab_init(&exchange.slab, SIZE);
    CHECK_INT(pthread_mutex_init(&exchange.mutex, NULL), 0);
    run_exchange(&exchange, seen);
    CHECK_INT(atomic_load(&exchange.stayed), each_is_mallocs() ? 0 : TAKEN);
    if (!each_is_mallocs()) {
        int distinct = drop_doubles(seen, TAKEN);
        CHECK(distinct <= GIVERS * (HELD + 1) + 1);
        take_all(&exchange.slab, again, distinct);
        sort(again, distinct);
        CHECK(memcmp(seen, again, (size_t)distinct * sizeof *seen) == 0);
    }
    pp__slab_destroy(&exchange.slab);
    pthread_mutex_destroy(&exchange.mutex);
}

static void *give_all_back(void *argument)
{
    struct exchange *exchange = argument;
    int stayed = 0;
    for (int i = 0; i < GIVERS * HELD; i++)
        stayed += pp__slab_give(&exchange->slab, exchange->places[i % GIVERS][i / GIVERS]);
    atomic_fetch_add(&exchange->stayed, stayed);
    return NULL;
}

/* Each is either counted or does not stay. */
TEST(while_a_slab_is_closed_each_that_is_given_stays_or_not)
{
    static struct exchange exchange;
    for (int round = 0; round < 200; round++) {
        pp__slab_init(&exchange.slab, SIZE);
        atomic_store(&exchange.stayed, 0);
        for (int i = 0; i < GIVERS * HELD; i++)
            exchange.places[i % GIVERS][i / GIVERS] = take(&exchange.slab);
        pthread_t thread = start_thread(give_all_back, &exchange);
        for (int i = 0; i < round; i++)
            sched_yield();
        size_t counted = pp__slab_count(pp__slab_close(&exchange.slab));
        join_thread(thread);
        CHECK_INT(counted, atomic_load(&exchange.stayed));
        pp__slab_destroy(&exchange.slab);
    }
}
