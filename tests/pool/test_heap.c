/* SPDX-License-Identifier: MIT */
/* What calls take from the heap, and give back, by libc's count. */
#include "payload_kit.h"

#include "pool/buffer.h"

#include <malloc.h>

enum { CALLS = 300 };

/* Bytes that are allocated, of all threads' heaps and of mappings. */
static size_t allocated(void)
{
    struct mallinfo2 all = mallinfo2();
    return all.uordblks + all.hblkhd;
}

#define NEEDS_LIBCS_HEAP()                                                                                             \
    if (KIT_ASAN || KIT_TSAN || TEST_ON_VALGRIND)                                                                      \
    LEFT_OUT("its heap is not libc's; leaks are looked for by the tool itself")

/* Of `argument` bytes, with a result of `result`. */
static int give_some(pp_task *task, const void *arg, size_t size)
{
    static const char bytes[20000];
    uint32_t result;
    CHECK(size >= sizeof result);
    memcpy(&result, arg, sizeof result);
    return pp_task_return(task, bytes, result);
}

static pp_future *call(pp_pool *pool, size_t argument, uint32_t result, pp_call wishes)
{
    static char bytes[20000];
    pp_future *future;
    memcpy(bytes, &result, sizeof result);
    wishes.function = give_some;
    wishes.arg = bytes;
    wishes.size = argument;
    CHECK_OK(pp_submit_call(pool, &wishes, &future));
    return future;
}

static void call_all(pp_pool *pool, size_t argument, uint32_t result, pp_call wishes)
{
    pp_future *futures[CALLS];
    for (int i = 0; i < CALLS; i++)
        futures[i] = call(pool, argument, result, wishes);
    for (int i = 0; i < CALLS; i++) {
        CHECK_OK(pp_future_wait(futures[i], -1));
        CHECK_INT(pp_future_state(futures[i]), PP_FINISHED);
        pp_future_unref(futures[i]);
    }
}

/* One after the other, too. */
BOTH_WITHIN(calls_leave_nothing_on_the_heap, 30)
{
    NEEDS_LIBCS_HEAP();
    static const size_t sizes[] = {16, 100, 1000, 16000};
    pp_buffer *buffers[3];
    const pp_call wishes[] = {{0},
                              {.priority = 3},
                              {.deadline = 60000},
                              {.timeout = 60000, .retries = 2},
                              {.buffers = buffers, .buffer_count = 1},
                              {.buffers = buffers, .buffer_count = 3}};
    enum { SIZES = sizeof sizes / sizeof *sizes, WISHES = sizeof wishes / sizeof *wishes };
    pp_pool *pool = kit_pool(method, 1);
    for (int i = 0; i < 3; i++)
        CHECK_OK(pp_buffer_create(1000, &buffers[i]));
    size_t before = 0;
    for (int round = 0; round < 3; round++) {
        before = round == 1 ? allocated() : before;
        for (size_t i = 0; i < SIZES * SIZES * WISHES; i++) {
            size_t argument = sizes[i % SIZES];
            uint32_t result = (uint32_t)sizes[i / SIZES % SIZES];
            call_all(pool, argument, result, wishes[i / SIZES / SIZES]);
            pp_future *single = call(pool, argument, result, wishes[i / SIZES / SIZES]);
            CHECK_OK(pp_future_wait(single, -1));
            pp_future_unref(single);
        }
    }
    size_t after = allocated();              /* which counts what a thread keeps for itself */
    if (after > before + (size_t)CALLS * 50) /* one combination that left something each time would leave more */
        harness_fail(__FILE__, __LINE__, "%zu bytes are left of %zu", after - before, after);
    for (int i = 0; i < 3; i++)
        pp_buffer_unref(buffers[i]);
    pp_pool_destroy(pool);
}

BOTH(calls_that_are_refused_leave_nothing_on_the_heap)
{
    NEEDS_LIBCS_HEAP();
    static const char bytes[16000];
    pp_future *future;
    pp_pool *pool = kit_pool(method, 1);
    pp_future_unref(call(pool, 100, 100, (pp_call){0}));
    CHECK_OK(pp_pool_shutdown(pool, 0, -1));
    CHECK_INT(pp_submit(pool, echo, bytes, 100, &future), -ESHUTDOWN);
    pp_buffer *buffers[3];
    for (int i = 0; i < 3; i++)
        CHECK_OK(pp_buffer_create(1000, &buffers[i]));
    size_t before = allocated();
    for (int i = 0; i < CALLS; i++) {
        for (size_t size = 50; size <= sizeof bytes; size *= 5)
            CHECK_INT(pp_submit(pool, echo, bytes, size, &future), -ESHUTDOWN);
        for (size_t count = 1; count <= 3; count++) {
            const pp_call lending = {
                .function = echo, .arg = bytes, .size = 20 * count, .buffers = buffers, .buffer_count = count};
            CHECK_INT(pp_submit_call(pool, &lending, &future), -ESHUTDOWN);
        }
    }
    for (int i = 0; i < 3; i++) {
        CHECK_INT(buffers[i]->refs, 1);
        pp_buffer_unref(buffers[i]);
    }
    CHECK(allocated() < before + (size_t)CALLS * 16); /* what a thread keeps for itself counts as allocated */
    pp_pool_destroy(pool);
}

/* What an argument had becomes the result's where that is as large, and not where it would be kept for little. */
BOTH(a_small_result_keeps_no_large_argument)
{
    NEEDS_LIBCS_HEAP();
    pp_future *futures[CALLS];
    pp_pool *pool = kit_pool(method, 1);
    call_all(pool, 16000, 100, (pp_call){0});
    size_t before = allocated();
    for (int i = 0; i < CALLS; i++) {
        futures[i] = call(pool, 16000, 100, (pp_call){0});
        CHECK_OK(pp_future_wait(futures[i], -1));
    }
    CHECK(allocated() < before + (size_t)CALLS * 1000);
    for (int i = 0; i < CALLS; i++)
        pp_future_unref(futures[i]);
    pp_pool_destroy(pool);
}

static int sleep_300_ms(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    test_sleep_ms(300);
    return 0;
}

/* Of a call with a small argument and one buffer or two these lie in its own memory, and the pool has that for many. */
BOTH(a_small_call_with_a_buffer_or_two_takes_nothing_from_the_heap)
{
    NEEDS_LIBCS_HEAP();
    pp_buffer *buffers[2];
    pp_future *futures[CALLS], *gate;
    pp_pool *pool = kit_pool(method, 1);
    for (int i = 0; i < 2; i++)
        CHECK_OK(pp_buffer_create(1000, &buffers[i]));
    const pp_call lending[] = {{.buffers = buffers, .buffer_count = 1}, {.buffers = buffers, .buffer_count = 2}};
    call_all(pool, 16, 16, lending[0]);
    call_all(pool, 16, 16, lending[1]);
    CHECK_OK(pp_submit(pool, sleep_300_ms, NULL, 0, &gate)); /* all of the others wait behind it */
    size_t before = allocated();
    for (int i = 0; i < CALLS; i++)
        futures[i] = call(pool, 16, 16, lending[i % 2]);
    CHECK(allocated() < before + (size_t)CALLS * 16);
    for (int i = 0; i < CALLS; i++) {
        CHECK_OK(pp_future_wait(futures[i], -1));
        pp_future_unref(futures[i]);
    }
    pp_future_unref(gate);
    for (int i = 0; i < 2; i++) {
        CHECK_INT(buffers[i]->refs, 1);
        pp_buffer_unref(buffers[i]);
    }
    pp_pool_destroy(pool);
}
