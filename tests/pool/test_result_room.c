/* SPDX-License-Identifier: MIT */
/* What results had in their worker's ring is given back when they were taken in, whatever comes next: three large ones
 * that were taken in at once leave no room for a fourth. */
#include "call_kit.h"

#include "base/atomic.h"
#include "pool/pool.h"
#include "pool/workers.h"

enum { OPEN, SHUT }; /* and those behind it: gates */
enum { COUNT = 3, LARGE = PP__INLINE_MAX };

static_assert(COUNT * (LARGE + 48) + LARGE + 48 > PP__RING_BYTES, "a fourth does not fit");

static _Atomic size_t finalized;

static void keep_size(void *data, const pp_finalized *end)
{
    (void)data;
    atomic_store(&finalized, end->size);
}

static int return_large(pp_task *task)
{
    void *result = pp_task_reserve(task, LARGE);
    if (!result)
        return -ENOMEM;
    memset(result, 'x', LARGE);
    return 0;
}

static int large(pp_task *task, const void *arg, size_t size)
{
    CHECK_INT(size, sizeof(uint32_t));
    wait_at(*(const uint32_t *)arg);
    return return_large(task);
}

static int last(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    return return_large(task);
}

static void expect_large(pp_future *future)
{
    size_t size;
    const void *result;
    CHECK_OK(pp_future_view(future, 10000, &result, &size));
    CHECK_INT(size, LARGE);
    pp_future_unref(future);
}

/* Calls behind one that waits may have been taken back. */
static bool hold_with_all(pp_pool *pool)
{
    pp__pool_lock(pool);
    if (pool->workers[0]->count == COUNT)
        return true;
    pp__pool_unlock(pool);
    return false;
}

/* True: all were taken in at once. */
static bool fill(pp_pool *pool, uint32_t gate)
{
    pp_future *futures[COUNT];
    pp_call calls[COUNT];
    for (int i = 0; i < COUNT; i++)
        calls[i] = (pp_call){.function = large, .arg = &gate, .size = sizeof gate};
    CHECK_INT(pp_submit_many(pool, calls, COUNT, futures), COUNT);
    bool held = hold_with_all(pool);
    open_gate(gate);
    if (held) {
        const struct pp__worker *worker = pool->workers[0];
        until(pp__load_relaxed(&worker->result_side->result_tail) >=
              worker->results.position + (uint64_t)COUNT * pp__ring_room(sizeof(struct pp__result_record) + LARGE));
        pp__pool_unlock(pool);
    }
    for (int i = 0; i < COUNT; i++)
        expect_large(futures[i]);
    return held;
}

static pp_pool *open_filled(pp_start_method method)
{
    board_make();
    pp_pool *pool =
        kit_pool_with(method, (pp_pool_options){.max_workers = 1, .finalizer = last, .finalized = keep_size});
    open_gate(OPEN);
    for (uint32_t gate = SHUT;; gate++) {
        for (int i = 0; i < 8; i++)
            expect_large(submit_u32(pool, large, OPEN)); /* by which calls are known to be short */
        if (fill(pool, gate))
            return pool;
    }
}

BOTH(a_call_has_room_for_its_result)
{
    pp_pool *pool = open_filled(method);
    expect_large(submit_u32(pool, large, OPEN));
    pp__pool_lock(pool);
    CHECK_INT(pool->lost_wakes, 0);
    pp__pool_unlock(pool);
    pp_pool_destroy(pool);
}

BOTH(a_finalizer_has_room_for_its_result)
{
    pp_pool *pool = open_filled(method);
    CHECK_OK(pp_pool_shutdown(pool, 0, 10000));
    pp_pool_destroy(pool);
    CHECK_INT(finalized, LARGE);
}
