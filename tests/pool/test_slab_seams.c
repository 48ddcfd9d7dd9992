/* SPDX-License-Identifier: MIT */
/* needs: seams */
/* The slab that a pool's calls lie in, where memory runs out. */
#include "call_kit.h"

#include "base/seam.h"
#include "pool/slab.h"

static _Atomic bool none_left;
static struct pp__sys real;

static void *scarce_malloc(size_t size)
{
    return atomic_load(&none_left) ? NULL : real.malloc(size);
}

static void *scarce_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    return atomic_load(&none_left) ? MAP_FAILED : real.mmap(at, size, protection, flags, fd, offset);
}

static void make_memory_scarce(void)
{
    real = pp__sys;
    pp__sys.malloc = scarce_malloc; /* where each object is malloc's */
    pp__sys.mmap = scarce_mmap;
}

static void *take(struct pp__slab *slab)
{
    bool fresh;
    return pp__slab_take(slab, &fresh);
}

/* What the slab has is handed out, then there is nothing, until an object comes back or memory does. */
TEST(without_memory_nothing_is_taken_and_what_is_held_stays)
{
    enum { SIZE = 256, MOST = 100000 };
    static unsigned char *objects[MOST];
    int count = 1;
    struct pp__slab slab;
    make_memory_scarce();
    pp__slab_init(&slab, SIZE);
    atomic_store(&none_left, true);
    CHECK(take(&slab) == NULL);
    atomic_store(&none_left, false);
    CHECK((objects[0] = take(&slab)) != NULL);
    atomic_store(&none_left, true);
    for (; count < MOST && (objects[count] = take(&slab)); count++)
        memset(objects[count], 1, SIZE);
    CHECK(count < MOST);
    CHECK(take(&slab) == NULL);
    if (!KIT_ASAN && !TEST_ON_VALGRIND) {
        unsigned char *returned = objects[--count];
        pp__slab_give(&slab, returned);
        CHECK((objects[count++] = take(&slab)) == returned);
        CHECK(take(&slab) == NULL);
    }
    atomic_store(&none_left, false);
    CHECK((objects[count++] = take(&slab)) != NULL);
    while (count > 0)
        pp__slab_give(&slab, objects[--count]);
    pp__slab_destroy(&slab);
}

/* Calls are refused then, and taken again afterwards; those that were accepted are not touched by it. */
TEST(without_memory_for_a_call_a_submit_is_refused)
{
    enum { MOST = 20000 };
    static pp_future *futures[MOST];
    int accepted = 0, code = 0;
    make_memory_scarce();
    pp_pool *pool = kit_pool(PP_START_FORK, 1);
    expect_usable(pool);
    atomic_store(&none_left, true);
    while (accepted < MOST && (code = pp_submit(pool, echo, &accepted, sizeof accepted, &futures[accepted])) == 0)
        accepted++;
    CHECK_INT(code, -ENOMEM);
    CHECK(*pp_last_error());
    atomic_store(&none_left, false);
    expect_usable(pool);
    for (int i = 0; i < accepted; i++) {
        CHECK_INT(result_u32(futures[i]), i);
        pp_future_unref(futures[i]);
    }
    pp_pool_destroy(pool);
}
