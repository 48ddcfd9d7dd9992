/* SPDX-License-Identifier: MIT */
/* Priorities, and deadlines for beginning. */
#include "processes_kit.h"

static pp_future *submit_wish(pp_pool *pool, pp_function *function, int value, int priority, uint32_t deadline)
{
    pp_future *future;
    const pp_call call = {
        .function = function, .arg = &value, .size = sizeof value, .priority = priority, .deadline = deadline};
    CHECK_OK(pp_submit_call(pool, &call, &future));
    return future;
}

/* Writes down when it ran. */
static int note_order(pp_task *task, const void *arg, size_t size)
{
    (void)size;
    int value = read_int(arg), order = (int)shared()->arrived[9]++;
    shared()->runs[order] = (uint32_t)value;
    return pp_task_return(task, &order, sizeof order);
}

/* ------------------------------------------------------------------------------------------- priorities */

/* Calls with these priorities are submitted while none can begin; then they do in order. */
static void begin_in_order(pp_start_method method, const int *priorities, int count)
{
    static pp_future *futures[1000];
    pp_future *first = NULL;
    share();
    pp_pool *pool = open_workers(1, method);
    if (method != PP_START_INLINE)
        occupy_at(pool, 1, 1, &first);
    for (int i = 0; i < count; i++)
        futures[i] = submit_wish(pool, note_order, i, priorities[i], 0);
    gate_open(1);
    for (int i = 0; i < count; i++) {
        take_int(futures[i]);
    }
    for (int i = 1; i < count; i++) {
        int before = (int)shared()->runs[i - 1], after = (int)shared()->runs[i];
        CHECK(priorities[before] > priorities[after] || (priorities[before] == priorities[after] && before < after));
    }
    if (first)
        take_int(first);
    pp_pool_destroy(pool);
}

EACH(calls_begin_by_priority_and_within_one_in_the_order_of_their_submits)
{
    static const int priorities[] = {0, 0, 5, -3, 5, 0, 100, -100, 1, -3, 0, 5, 100, 0};
    begin_in_order(method, priorities, (int)(sizeof priorities / sizeof *priorities));
}

EACH(many_calls_of_many_priorities_begin_in_order)
{
    static int priorities[1000];
    uint32_t random = 1;
    for (int i = 0; i < 1000; i++) {
        random = random * 1664525 + 1013904223;
        priorities[i] = (int)(random >> 16) % 201 - 100;
    }
    begin_in_order(method, priorities, 1000);
}

/* Several travel together, as they are short; what was not begun of them makes way. */
BOTH(a_higher_priority_goes_before_what_a_worker_has_and_has_not_begun)
{
    pp_future *futures[100];
    pp_pool *pool = open_workers(1, method);
    for (int i = 0; i < 200; i++)
        take_int(submit_int(pool, task_square, 1));
    pp_future *first = submit_int(pool, task_gate, 1);
    for (int i = 0; i < 100; i++)
        futures[i] = submit_int(pool, note_order, i + 1);
    pp_future *urgent = submit_wish(pool, note_order, 1000, 1, 0);
    gate_open(1);
    CHECK_INT(take_int(urgent), 0);
    for (int i = 0; i < 100; i++)
        CHECK_INT(take_int(futures[i]), i + 1);
    take_int(first);
    pp_pool_destroy(pool);
}

BOTH(a_call_that_is_tried_again_keeps_its_priority)
{
    pp_future *urgent, *others[5];
    pp_pool *pool = open_workers(1, method);
    pp_future *first = submit_int(pool, task_gate, 1);
    gate_wait_arrived(1, 1);
    for (int i = 0; i < 5; i++)
        others[i] = submit_int(pool, note_order, i);
    CHECK_OK(pp_submit_call(pool, &(pp_call){.function = crash, .priority = 7, .retries = 2}, &urgent));
    gate_open(1);
    const pp_error *error = error_of(urgent, PP_ERROR_CRASH);
    CHECK_INT(error->tries, 3);
    for (int i = 0; i < 5; i++)
        CHECK_INT(take_int(others[i]), i);
    pp_future_unref(urgent);
    take_int(first);
    pp_pool_destroy(pool);
}

/* Arguments of all sizes, and each end that a pending call can have. */
EACH(calls_with_wishes_are_as_all_others)
{
    static char large[3000000];
    static const size_t sizes[] = {0, 1, 47, 48, 5000, 100000, sizeof large};
    share();
    pp_pool *pool = open_workers(2, method);
    for (size_t i = 0; i < sizeof large; i++)
        large[i] = (char)(i * 7);
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            pp_future *future;
            const void *data;
            size_t size;
            const pp_call call = {.function = echo,
                                  .arg = large,
                                  .size = sizes[i],
                                  .priority = round - 1,
                                  .deadline = round == 2 ? 1000000 : 0};
            CHECK_OK(pp_submit_call(pool, &call, &future));
            CHECK_OK(pp_future_view(future, -1, &data, &size));
            CHECK(size == sizes[i] && memcmp(data, large, size) == 0);
            pp_future_unref(future);
        }
    }
    CHECK_OK(pp_submit_call(pool, &(pp_call){.function = nothing, .priority = 1}, NULL));
    pp_pool_destroy(pool);
}

EACH(calls_with_wishes_are_cancelled)
{
    pp_future *first = NULL, *futures[6];
    share();
    pp_pool *pool = open_workers(1, method);
    if (method != PP_START_INLINE)
        occupy_at(pool, 1, 1, &first);
    for (int i = 0; i < 6; i++)
        futures[i] = submit_wish(pool, task_square, i, i % 2 ? 3 : -3, 1000000);
    for (int i = 0; i < 3; i++) {
        CHECK_OK(pp_future_cancel(futures[i]));
        drop_failed(futures[i], PP_ERROR_CANCELLED);
    }
    gate_open(1);
    CHECK_INT(take_int(futures[3]), 9);
    int code = pp_pool_shutdown(pool, PP_CANCEL_PENDING, 0);
    CHECK(code == 0 || code == -ETIMEDOUT);
    for (int i = 4; i < 6; i++) {
        CHECK_OK(pp_future_wait(futures[i], -1));
        pp_future_unref(futures[i]);
    }
    if (first)
        take_int(first);
    pp_pool_destroy(pool);
}

BOTH(a_pool_that_breaks_fails_calls_of_all_priorities)
{
    pp_future *futures[5];
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 1, .on_crash = PP_BREAK_POOL}, method);
    pp_future *first = submit_int(pool, task_gate, 1);
    gate_wait_arrived(1, 1);
    for (int i = 0; i < 5; i++)
        futures[i] = submit_wish(pool, task_square, i, i - 2, 1000000);
    pp_future *crashing = submit_wish(pool, crash, 0, 50, 0);
    gate_open(1);
    drop_failed(crashing, PP_ERROR_BROKEN);
    for (int i = 0; i < 5; i++)
        drop_failed(futures[i], PP_ERROR_BROKEN);
    take_int(first);
    pp_pool_destroy(pool);
}

/* -------------------------------------------------------------------------------------------- deadlines */

static void expect_late(pp_future *future)
{
    const pp_error *error = error_of(future, PP_ERROR_TIMEOUT);
    CHECK_INT(error->code, -ETIME);
    CHECK_INT(error->tries, 0);
    CHECK_HAS(error->message, "deadline of ");
    CHECK_INT(pp_future_state(future), PP_FINISHED);
    pp_future_unref(future);
}

BOTH(a_call_that_has_not_begun_by_its_deadline_never_does)
{
    pp_future *late[20];
    pp_pool *pool = open_workers(1, method);
    pp_future *first = submit_int(pool, task_gate, 1);
    gate_wait_arrived(1, 1);
    for (int i = 0; i < 20; i++)
        late[i] = submit_wish(pool, note_order, i, i % 3 - 1, (uint32_t)(i * 7 % 20 + 1) * 5);
    pp_future *in_time = submit_int(pool, task_square, 3);
    for (int i = 19; i >= 0; i--)
        expect_late(late[i]);
    gate_open(1);
    CHECK_INT(take_int(in_time), 9);
    CHECK_INT(shared()->arrived[9], 0);
    take_int(first);
    pp_pool_destroy(pool);
}

/* Nobody waits: the pool itself must look. */
BOTH(a_deadline_passes_though_nobody_waits)
{
    pp_pool *pool = open_workers(1, method);
    pp_future *first = submit_int(pool, task_gate, 1);
    gate_wait_arrived(1, 1);
    pp_future *late = submit_wish(pool, task_square, 3, 0, 20);
    wait_until(pp_future_state(late) == PP_FINISHED, 10);
    expect_late(late);
    gate_open(1);
    take_int(first);
    pp_pool_destroy(pool);
}

/* The deadline is for the begin, not for the end, and not for tries after the first. */
BOTH(a_call_that_has_begun_in_time_is_not_late)
{
    pp_future *futures[2];
    pp_pool *pool = open_workers(1, method);
    futures[0] = submit_wish(pool, task_gate, 1, 0, 1000 * harness_scale());
    gate_wait_arrived(1, 1);
    test_sleep_ms(1200 * (int)harness_scale());
    gate_open(1);
    take_int(futures[0]);
    futures[1] = submit_wish(pool, task_square, 3, 0, 1000 * harness_scale());
    CHECK_INT(take_int(futures[1]), 9);
    pp_pool_destroy(pool);
}

BOTH(a_call_that_a_stopped_worker_does_not_begin_is_late)
{
    pid_t pid;
    pp_pool *pool = open_workers(1, method);
    start_workers(pool, 0, 1, &pid);
    stop_and_see(pid);
    expect_late(submit_wish(pool, note_order, 1, 0, 30));
    kill(pid, SIGCONT);
    CHECK_INT(take_int(submit_int(pool, task_square, 3)), 9);
    CHECK_INT(shared()->arrived[9], 0);
    pp_pool_destroy(pool);
}

TEST(an_inline_pool_does_not_begin_what_is_late)
{
    share();
    pp_pool *pool = open_workers(1, PP_START_INLINE);
    pp_future *late = submit_wish(pool, note_order, 1, 0, 1), *in_time = submit_wish(pool, task_square, 3, 0, 1000000);
    test_sleep_ms(5);
    CHECK_INT(take_int(in_time), 9);
    expect_late(late);
    CHECK_INT(shared()->arrived[9], 0);
    pp_pool_destroy(pool);
}

/* ----------------------------------------------------------------------------------------------- options */

TEST(priorities_out_of_bounds_are_refused)
{
    pp_pool *pool = kit_pool(PP_START_INLINE, 1);
    CHECK_INT(pp_submit_call(pool, &(pp_call){.function = nothing, .priority = 101}, NULL), -EINVAL);
    CHECK_HAS(pp_last_error(), "from -100 to 100");
    CHECK_INT(pp_submit_call(pool, &(pp_call){.function = nothing, .priority = -101}, NULL), -EINVAL);
    pp_pool_destroy(pool);
}

EACH(an_array_may_have_calls_with_wishes_among_others)
{
    enum { COUNT = 200 };
    static pp_call calls[COUNT];
    static int values[COUNT];
    pp_future *futures[COUNT];
    share();
    pp_pool *pool = open_workers(2, method);
    for (int i = 0; i < COUNT; i++) {
        values[i] = i;
        calls[i] = (pp_call){.function = task_square,
                             .arg = &values[i],
                             .size = sizeof values[i],
                             .priority = i % 7 == 0 ? i % 5 : 0,
                             .deadline = i % 11 == 0 ? 1000000 : 0};
    }
    CHECK_INT(pp_submit_many(pool, calls, COUNT, futures), COUNT);
    for (int i = 0; i < COUNT; i++)
        CHECK_INT(take_int(futures[i]), i * i);
    pp_pool_destroy(pool);
}
