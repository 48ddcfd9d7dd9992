/* SPDX-License-Identifier: MIT */
/* Workers that publish results by hand which an honest one would not: elsewhere, too large, in buffers they have not.
 */
#include "channel_kit.h"
#include "vandal_kit.h"

#include "base/clock.h"

/* ----------------------------------------------------------------------------------------- buffers it has not */

struct forgery {
    uint32_t flags;
    uint64_t size;
};

/* Publishes a result that says where it lies, and waits for what comes of it. */
static int task_forge(pp_task *task, const void *arg, size_t size)
{
    struct forgery forgery;
    uint64_t id = pp_task_id(task);
    CHECK_INT(size, sizeof forgery);
    memcpy(&forgery, arg, size);
    const struct pp__result_record result = {
        .slot = slot_of(id), .type = PP__OUTCOME_RESULT, .flags = forgery.flags, .size = forgery.size};
    forge_result(id, &result, NULL, 0);
    pause_for_ever();
}

static pp_future *submit_size(pp_pool *pool, size_t size)
{
    void *data = calloc(1, size);
    pp_future *future = submit(pool, echo, data, size);
    free(data);
    CHECK_OK(pp_future_wait(future, -1));
    return future;
}

/* One is shown to the user all the time, in place 0; what was in place 1 has come back. */
BOTH(a_result_in_a_buffer_that_its_worker_has_not_costs_the_worker)
{
    static const struct forgery forgeries[] = {
        {PP__BIG | PP__KEPT | 0 << PP__PLACE_SHIFT, 1000},
        {PP__BIG | PP__KEPT | 0 << PP__PLACE_SHIFT, 1 << 20},
        {PP__BIG | PP__KEPT | PP__FRESH | 0 << PP__PLACE_SHIFT, 1000},
        {PP__BIG | PP__KEPT | PP__FRESH | 1 << PP__PLACE_SHIFT, 1000},
        {PP__BIG | PP__KEPT | 1 << PP__PLACE_SHIFT, 1 << 30},
        {PP__BIG | PP__KEPT | 1 << PP__PLACE_SHIFT, UINT64_MAX},
        {PP__BIG | PP__KEPT | 2 << PP__PLACE_SHIFT, 1000},
        {PP__BIG | PP__KEPT | PP__PLACES << PP__PLACE_SHIFT, 1000},
        {PP__BIG | PP__KEPT | UINT32_MAX << PP__PLACE_SHIFT, 1000},
        {PP__BIG | PP__KEPT | PP__FRESH | UINT32_MAX << PP__PLACE_SHIFT, 1000},
        {PP__BIG, 1 << 20},
    };
    pp_pool *pool = open_workers(1, method);
    for (size_t i = 0; i < sizeof forgeries / sizeof *forgeries; i++) {
        const void *data;
        size_t size;
        pp_future *shown = submit_size(pool, 1 << 20);
        pp_future_unref(submit_size(pool, 2 << 20));
        drop_failed(submit(pool, task_forge, &forgeries[i], sizeof forgeries[i]), PP_ERROR_PROTOCOL);
        CHECK_INT(take_int(submit_int(pool, task_square, 7)), 49);
        CHECK_OK(pp_future_view(shown, 0, &data, &size));
        CHECK_INT(size, 1 << 20);
        CHECK_INT(((const char *)data)[size - 1], 0);
        pp_future_unref(shown);
    }
    pp_pool_destroy(pool);
}

/* --------------------------------------------------------------------------------------- records that can't be */

/* Publishes a result that takes as much as its mark says. */
static int task_forge_mark(pp_task *task, const void *arg, size_t size)
{
    uint32_t mark;
    struct pp__header *header = next_header();
    CHECK_INT(size, sizeof mark);
    memcpy(&mark, arg, size);
    const struct pp__result_record result = {
        .slot = slot_of(pp_task_id(task)), .type = PP__OUTCOME_RESULT, .size = mark - 1 - sizeof result};
    header->type = PP__RECORD_RESULT;
    header->id = pp_task_id(task);
    memcpy(header + 1, &result, sizeof result);
    atomic_store(&header->mark, mark);
    pause_for_ever();
}

BOTH(a_result_that_is_larger_than_any_record_costs_the_worker)
{
    static const uint32_t marks[] = {PP__RING_BYTES / 2, PP__RING_BYTES, UINT32_MAX - 64, UINT32_MAX - 16, UINT32_MAX};
    pp_pool *pool = open_workers(1, method);
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++) {
        pp_future *future = submit(pool, task_forge_mark, &marks[i], sizeof marks[i]);
        CHECK_HAS(error_of(future, PP_ERROR_PROTOCOL)->message, "a broken ring");
        pp_future_unref(future);
        CHECK_INT(take_int(submit_int(pool, task_square, 7)), 49);
    }
    pp_pool_destroy(pool);
}

/* Publishes a large result behind the library's back, and when that was taken a small one as all do. */
static int task_forge_and_go_on(pp_task *task, const void *arg, size_t size)
{
    static const char data[900];
    const struct pp__result_record result = {
        .slot = slot_of(pp_task_id(task)), .type = PP__OUTCOME_RESULT, .size = sizeof data};
    uint64_t tail = atomic_load(&result_side()->result_tail);
    (void)arg, (void)size;
    forge_result(pp_task_id(task), &result, data, sizeof data);
    while (atomic_load(&call_side()->result_head) <= tail)
        test_sleep_ms(1);
    return task_pid(task, NULL, 0);
}

/* The owner looks for the next one far behind where it will be. A worker that is called by who waits for each call
 * looks seldom where that is. */
static void misplace_results(pp_pool *pool)
{
    for (int i = 0; i < 5; i++) {
        const void *data;
        size_t size;
        pid_t pid = pid_of(pool);
        for (int calls = 0; calls < 20; calls++)
            CHECK_INT(pid_of(pool), pid);
        pp_future *future = submit(pool, task_forge_and_go_on, NULL, 0);
        CHECK_OK(pp_future_view(future, -1, &data, &size));
        CHECK_INT(size, 900);
        pp_future_unref(future);
        CHECK(pid_of(pool) != pid);
    }
    CHECK_INT(take_int(submit_int(pool, task_square, 7)), 49);
    pp_pool_destroy(pool);
}

BOTH(a_worker_whose_results_lie_where_nobody_looks_begins_no_other_call)
{
    misplace_results(open_workers(1, method));
    misplace_results(open_pool((pp_pool_options){.max_workers = 1, .capture = PP_STDOUT}, method));
}

/* Writes a mark where its own result is to be. */
static int task_scribble(pp_task *task, const void *arg, size_t size)
{
    atomic_store(&next_header()->mark, 33);
    return task_square(task, arg, size);
}

/* The owner takes in results when somebody waits, by then all have been published. */
BOTH(results_that_were_published_before_a_task_wrote_garbage_behind_them_count)
{
    enum { CALLS = 6 };
    pp_future *futures[CALLS];
    pp_pool *pool = open_workers(1, method);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 20; i++)
            CHECK_INT(take_int(submit_int(pool, task_square, i)), i * i);
        pid_t pid = pid_of(pool);
        for (int i = 0; i < CALLS; i++)
            futures[i] = submit_int(pool, i < CALLS - 1 ? task_square : task_scribble, i);
        wait_until(is_gone(pid), 10);
        for (int i = 0; i < CALLS - 1; i++)
            CHECK_INT(take_int(futures[i]), i * i);
        drop_failed(futures[CALLS - 1], PP_ERROR_PROTOCOL);
    }
    pp_pool_destroy(pool);
}

/* Each result is a record of its own, and together they are more than a ring holds. */
enum { SPOILT_ELEMENTS = 120, SPOILT_SIZE = 2000 };

static int return_large(pp_task *task, int number)
{
    static char data[SPOILT_SIZE];
    memcpy(data, &number, sizeof number);
    return pp_task_return(task, data, sizeof data);
}

/* Element 1's first try: what the owner then takes for its result makes it look where others will lie. */
static int task_forge_in_a_chunk(pp_task *task, const void *arg, size_t size)
{
    static const char data[500];
    int number;
    CHECK_INT(size, sizeof number);
    memcpy(&number, arg, size);
    if (number == 1 && shared()->words[1]++ == 0) {
        uint64_t tail = atomic_load(&result_side()->result_tail);
        wait_until(atomic_load(&call_side()->result_head) == tail, 10);
        const struct pp__result_record result = {
            .slot = slot_of(pp_task_id(task)), .type = PP__OUTCOME_RESULT, .size = sizeof data};
        forge_result(pp_task_id(task), &result, data, sizeof data);
        wait_until(atomic_load(&call_side()->result_head) > tail, 10);
    }
    return return_large(task, number);
}

/* Element 1 takes element 0's result away, if it was not read yet. */
static int task_erase_in_a_chunk(pp_task *task, const void *arg, size_t size)
{
    int number;
    CHECK_INT(size, sizeof number);
    memcpy(&number, arg, size);
    if (number == 0)
        test_sleep_ms(20); /* so that nobody looks at just this moment */
    if (number == 1 && shared()->words[1]++ == 0 &&
        atomic_load(&call_side()->result_head) != atomic_load(&result_side()->result_tail))
        atomic_store(&header_at(atomic_load(&call_side()->result_head))->mark, 0);
    return return_large(task, number);
}

static void spoil_a_chunk(pp_start_method method, pp_function *spoil)
{
    int numbers[SPOILT_ELEMENTS], ended = 0;
    const pp_map_options options = {.chunk_size = SPOILT_ELEMENTS, .max_in_flight = SPOILT_ELEMENTS};
    pp_map_result result;
    pp_map *map;
    pp_pool *pool = open_workers(1, method);
    warm_up(pool);
    for (int i = 0; i < SPOILT_ELEMENTS; i++)
        numbers[i] = i;
    CHECK_OK(pp_map_open_array(pool, spoil, numbers, SPOILT_ELEMENTS, sizeof *numbers, &options, &map));
    int code;
    while ((code = pp_map_next(map, 10000 * (int)harness_scale(), &result)) == 1) {
        CHECK(result.code == 0 || result.code == -EPROTO);
        ended++;
    }
    CHECK_INT(code, 0);
    CHECK_INT(ended, SPOILT_ELEMENTS);
    pp_map_close(map);
    CHECK_INT(take_int(submit_int(pool, task_square, 7)), 49);
    pp_pool_destroy(pool);
}

BOTH_WITHIN(a_worker_whose_results_lie_where_nobody_looks_is_found_out_in_a_chunk, 60)
{
    spoil_a_chunk(method, task_forge_in_a_chunk);
}

BOTH_WITHIN(a_result_that_was_erased_is_missed_in_a_chunk, 60)
{
    spoil_a_chunk(method, task_erase_in_a_chunk);
}

static void *erase_the_first_mark(void *unused)
{
    uint64_t begun = pp__now();
    while (pp__now() - begun < 200 * PP__MILLISECOND)
        atomic_store_explicit(&header_at(0)->mark, 0, memory_order_relaxed);
    return unused;
}

/* The first worker's thread erases that it is ready. */
static int init_erasing(pp_task *task, const void *arg, size_t size)
{
    pthread_t thread;
    (void)task, (void)arg, (void)size;
    if (shared()->words[1]++ == 0) {
        CHECK_INT(pthread_create(&thread, NULL, erase_the_first_mark, NULL), 0);
        test_sleep_ms(20);
    }
    return 0;
}

BOTH(a_worker_whose_word_that_it_is_ready_was_erased_is_replaced)
{
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 1, .initializer = init_erasing}, method);
    CHECK_INT(take_int(submit_int(pool, task_square, 3)), 9);
    pp_pool_destroy(pool);
}
