/* SPDX-License-Identifier: MIT */
/* Many futures as they complete, of one pool and of several: pp_as_completed. In which order they come, how long each
 * is there, and that very many come without delay. */
#include "many_kit.h"

#include <malloc.h>

/* --------------------------------------------------------------------------------------- as they complete */

ONE_TO_THREE(futures_come_in_the_order_of_their_ends)
{
    static const uint32_t order[] = {3, 0, 5, 4, 1, 2};
    struct field field = open_field(method, pools, 6);
    pp_completed *completed;
    CHECK_OK(pp_as_completed(field.futures, 6, &completed));
    for (int i = 0; i < 6; i++) {
        expect_nothing_yet(completed);
        open_gate(GATES + order[i]);
        pp_future *future = next(completed, order[i]);
        CHECK(future == field.futures[order[i]]);
        CHECK_INT(result_u32(future), order[i]);
    }
    expect_no_more(completed);
    pp_completed_close(completed);
    close_field(&field);
}

ONE_TO_THREE(futures_that_are_done_before_come_first_and_each_once)
{
    struct field field = open_field(method, pools, 4);
    pp_future **f = field.futures;
    pp_future *list[] = {f[2], f[0], f[0], f[3], f[2], f[1], f[0]};
    pp_completed *completed;
    let_end(&field, 3);
    let_end(&field, 0);
    CHECK_OK(pp_as_completed(list, 7, &completed));
    memset(list, 0x5a, sizeof list); /* it is not needed any more */
    pp_future *future = NULL;
    bool seen[4] = {false};
    for (int i = 0; i < 2; i++) {
        CHECK_INT(pp_completed_next(completed, 0, &future, NULL), 1);
        seen[result_u32(future)] = true;
    }
    CHECK(seen[0] && seen[3]);
    expect_nothing_yet(completed);
    open_gate(GATES + 2);
    CHECK(next(completed, 0) == f[2]);
    open_gate(GATES + 1);
    CHECK(next(completed, 5) == f[1]);
    expect_no_more(completed);
    pp_completed_close(completed);
    close_field(&field);
}

ONE_TO_THREE(a_close_in_the_middle_forgets_the_rest_which_goes_on)
{
    struct field field = open_field(method, pools, 6);
    pp_completed *completed;
    for (uint32_t closed_after = 0; closed_after < 6; closed_after++) {
        CHECK_OK(pp_as_completed(field.futures, 6, &completed));
        for (uint32_t i = 0; i < closed_after; i++) {
            open_gate(GATES + i);
            pp_future *future;
            CHECK_INT(pp_completed_next(completed, -1, &future, NULL), 1);
        }
        pp_completed_close(completed);
    }
    pp_completed_close(NULL);
    open_gate(GATES + 5);
    for (uint32_t i = 0; i < 6; i++)
        CHECK_INT(result_u32(field.futures[i]), i);
    close_field(&field);
}

/* ------------------------------------------------------------------------------------------- references */

#define LARGE (200u << 10) /* such results are copied into a block of memory that malloc maps for them */
#define LARGE_COUNT 12

static int return_large(pp_task *task, const void *arg, size_t size)
{
    char *room = pp_task_reserve(task, LARGE);
    CHECK(room != NULL);
    memset(room, 'x', LARGE);
    memcpy(room, arg, size);
    return 0;
}

static size_t blocks_before;

static int count_results(void)
{
    return (int)(mallinfo2().hblks - blocks_before);
}

static void submit_large(struct field *field)
{
    if (KIT_TSAN || KIT_ASAN || TEST_ON_VALGRIND)
        LEFT_OUT("another malloc, which does not tell what it has given out");
    CHECK_INT(mallopt(M_MMAP_THRESHOLD, 128 << 10), 1);
    blocks_before = mallinfo2().hblks;
    for (uint32_t i = 0; i < LARGE_COUNT; i++)
        field->futures[field->count++] =
            submit(field->pools[i % field->pool_count], return_large, &(uint32_t){i}, sizeof(uint32_t));
    CHECK_INT(pp_wait(field->futures, LARGE_COUNT, PP_ALL_COMPLETED, -1, NULL), LARGE_COUNT);
    CHECK_INT(count_results(), LARGE_COUNT);
}

/* Nobody else has a reference: each future is there until the next step, and no longer. */
ONE_TO_THREE(what_was_given_out_is_freed_at_the_next_step)
{
    struct field field = open_pools(method, pools, 2);
    pp_completed *completed;
    submit_large(&field);
    CHECK_OK(pp_as_completed(field.futures, LARGE_COUNT, &completed));
    forget_futures(&field);
    CHECK_INT(count_results(), LARGE_COUNT);
    for (int i = 0; i < LARGE_COUNT; i++) {
        pp_future *future;
        size_t index, size;
        const char *data;
        CHECK_INT(pp_completed_next(completed, -1, &future, &index), 1);
        CHECK_INT(count_results(), LARGE_COUNT - i);
        CHECK_OK(pp_future_view(future, 0, (const void **)&data, &size));
        CHECK(size == LARGE && memcmp(data, &(uint32_t){(uint32_t)index}, 4) == 0 && data[LARGE - 1] == 'x');
    }
    expect_no_more(completed);
    CHECK_INT(count_results(), 0);
    pp_completed_close(completed);
    close_field(&field);
}

ONE_TO_THREE(a_close_frees_what_was_not_given_out_and_a_reference_of_ones_own_keeps)
{
    struct field field = open_pools(method, pools, 2);
    pp_completed *completed;
    pp_future *future, *last;
    submit_large(&field);
    CHECK_OK(pp_as_completed(field.futures, LARGE_COUNT, &completed));
    forget_futures(&field);
    CHECK_INT(pp_completed_next(completed, -1, &future, NULL), 1);
    CHECK(pp_future_ref(future) == future);
    CHECK_INT(pp_completed_next(completed, -1, &last, NULL), 1);
    CHECK_INT(count_results(), LARGE_COUNT);
    pp_completed_close(completed);
    CHECK_INT(count_results(), 1);
    pp_future_unref(future);
    CHECK_INT(count_results(), 0);
    close_field(&field);
}

/* What is called later takes the places of futures that were given out. */
ONE_TO_THREE(a_new_future_is_not_taken_for_one_that_was_given_out)
{
    enum { COUNT = 64 };
    struct field field = open_pools(method, pools, 1);
    pp_completed *completed;
    bool seen[COUNT] = {false};
    for (uint32_t i = 0; i < COUNT; i++)
        field.futures[field.count++] = submit_u32(field.pools[i % pools], echo, i);
    CHECK_OK(pp_as_completed(field.futures, COUNT, &completed));
    forget_futures(&field);
    for (int i = 0; i < COUNT; i++) {
        pp_future *future;
        size_t index;
        CHECK_INT(pp_completed_next(completed, -1, &future, &index), 1);
        CHECK(index < COUNT && !seen[index]);
        seen[index] = true;
        CHECK_INT(result_u32(future), index);
        for (size_t k = 0; k < pools; k++)
            expect_usable(field.pools[k]);
    }
    expect_no_more(completed);
    for (uint32_t i = 0; i < COUNT; i++)
        field.futures[field.count++] = submit_u32(field.pools[i % pools], echo, i);
    pp_completed_close(completed);
    for (uint32_t i = 0; i < 2 * COUNT; i++)
        expect_usable(field.pools[i % pools]);
    for (uint32_t i = 0; i < COUNT; i++)
        CHECK_INT(result_u32(field.futures[i]), i); /* not given back along with those that had its place */
    forget_futures(&field);
    close_field(&field);
}

/* ------------------------------------------------------------------------------------------------ many */

#define MANY (KIT_TSAN || KIT_ASAN || TEST_ON_VALGRIND ? 10000u : 100000u)

/* Were a step to look at all of them, or to wake somebody, it would not be done in time. */
static void have_many(struct field *field, bool done_before)
{
    uint32_t sum = 0;
    pp_completed *completed;
    pp_future *future, **futures = calloc(MANY, sizeof *futures);
    bool *seen = calloc(MANY, sizeof *seen);
    for (uint32_t i = 0; i < MANY; i++)
        futures[i] = submit_u32(field->pools[i % field->pool_count], echo, i);
    if (done_before)
        CHECK_INT(pp_wait(futures, MANY, PP_ALL_COMPLETED, -1, NULL), MANY);
    CHECK_OK(pp_as_completed(futures, MANY, &completed));
    for (uint32_t i = 0; i < MANY; i++)
        pp_future_unref(futures[i]);
    for (size_t index; pp_completed_next(completed, -1, &future, &index) == 1; sum++) {
        CHECK(index < MANY && !seen[index]);
        seen[index] = true;
        CHECK_INT(result_u32(future), index);
    }
    CHECK_INT(sum, MANY);
    pp_completed_close(completed);
    free(futures);
    free(seen);
}

ONE_TO_THREE(a_hundred_thousand_come_one_by_one)
{
    struct field field = open_pools(method, pools, 2);
    have_many(&field, false);
    close_field(&field);
}

ONE_TO_THREE(a_hundred_thousand_that_are_done_come_one_by_one)
{
    struct field field = open_pools(method, pools, 2);
    have_many(&field, true);
    close_field(&field);
}

#define FEW 80u
#define ALL (FEW * FEW)

/* Which of all is listed: the last first, no two of them as far from each other as two others. */
static uint32_t place_in_all(size_t index)
{
    uint32_t i = FEW - 1 - (uint32_t)index;
    return i * i;
}

/* Those of each pool behind a gated one, so that all are pending. */
static pp_future **have_all_pending(struct field *field, pp_future **listed)
{
    pp_future **futures = calloc(ALL, sizeof *futures);
    for (size_t i = 0; i < field->pool_count; i++)
        add_gated(field, gated);
    for (uint32_t i = 0; i < ALL; i++)
        futures[i] = submit_u32(field->pools[i % field->pool_count], echo, i);
    for (uint32_t i = 0; i < FEW; i++)
        listed[i] = futures[place_in_all(i)];
    return futures;
}

static void expect_few(pp_completed *completed)
{
    bool seen[FEW] = {false};
    pp_future *future;
    for (size_t sum = 0, index; sum < FEW; sum++) {
        CHECK_INT(pp_completed_next(completed, -1, &future, &index), 1);
        CHECK(index < FEW && !seen[index]);
        seen[index] = true;
        CHECK_INT(result_u32(future), place_in_all(index));
    }
    expect_no_more(completed);
    pp_completed_close(completed);
}

ONE_TO_THREE(few_out_of_many_come_one_by_one)
{
    struct field field = open_pools(method, pools, 1);
    pp_completed *completed;
    pp_future *listed[FEW], **futures = have_all_pending(&field, listed);
    CHECK_OK(pp_as_completed(listed, FEW, &completed));
    expect_nothing_yet(completed);
    open_gates(&field);
    expect_few(completed);
    CHECK_INT(pp_wait(futures, ALL, PP_ALL_COMPLETED, -1, NULL), ALL);
    CHECK_OK(pp_as_completed(listed, FEW, &completed));
    expect_few(completed);
    for (uint32_t i = 0; i < ALL; i++)
        pp_future_unref(futures[i]);
    free(futures);
    close_field(&field);
}
