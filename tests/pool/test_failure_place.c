/* SPDX-License-Identifier: MIT */
/* Where a task failed by pp_task_fail, in pools with `backtraces`: under all start methods, inline included. */
#include "backtrace_kit.h"

#include "pool/channel.h"

enum how { PLAIN, LONG, NO_FORMAT, TWICE, BY_RETURN, BY_RETURN_AFTER, SUCCEED };

static volatile int after;

/* Each ends with a call that a compiler likes to make the last jump of. */
__attribute__((noinline)) static int check_header(pp_task *task, enum how how)
{
    static char text[PP__MESSAGE_MAX + 1];
    memset(text, 'x', sizeof text - 1);
    switch (how) {
    case LONG:
        return pp_task_fail(task, -EINVAL, "%s", text);
    case NO_FORMAT:
        return pp_task_fail(task, -EINVAL, NULL);
    default:
        return pp_task_fail(task, -EINVAL, "no header of kind %d", (int)how);
    }
}

__attribute__((noinline)) static int parse(pp_task *task, enum how how)
{
    int code = check_header(task, how);
    after++;
    return code;
}

static int fail_deep_down(pp_task *task, const void *arg, size_t size)
{
    (void)size;
    enum how how = (enum how)read_int(arg);
    if (how == SUCCEED)
        return 0;
    if (how == BY_RETURN)
        return -ENOENT;
    if (how == TWICE)
        pp_task_fail(task, -EIO, "first");
    int code = parse(task, how);
    after++;
    return how == BY_RETURN_AFTER ? -ENOENT : code;
}

/* The pool of these tests, inline ones without a board. */
static pp_pool *open_tracing(pp_start_method method, pp_pool_options options)
{
    options.backtraces = 1;
    options.max_workers = 1;
    return kit_pool_with(method, options);
}

static const pp_error *failure_of(pp_future *future)
{
    const pp_error *error = error_of(future, PP_ERROR_TASK);
    CHECK_STR(error->function, "fail_deep_down");
    CHECK(error->address == NULL);
    return error;
}

EACH(a_failure_tells_where_it_was_reported)
{
    static const enum how hows[] = {PLAIN, LONG, NO_FORMAT, TWICE, BY_RETURN_AFTER};
    pp_pool *pool = open_tracing(method, (pp_pool_options){0});
    for (size_t i = 0; i < sizeof hows / sizeof *hows; i++) {
        pp_future *future = submit_int(pool, fail_deep_down, (int)hows[i]);
        const pp_error *error = failure_of(future);
        const char *text = pp_error_backtrace(error);
        CHECK_INT(error->task_code, -EINVAL);
        CHECK_FUNCTIONS(text, "check_header", "parse", "fail_deep_down");
        CHECK_INT(frame_with(text, " check_header "), 0);
        if (have_lines(text))
            CHECK_HAS(text, "tests/pool/test_failure_place.c:");
        CHECK_INT(strlen(error->message), hows[i] == LONG ? PP__MESSAGE_MAX : hows[i] == NO_FORMAT ? 0 : 19);
        pp_future_unref(future);
    }
    pp_pool_destroy(pool);
}

EACH(a_failure_by_return_has_no_place)
{
    pp_pool *pool = open_tracing(method, (pp_pool_options){0});
    for (int i = 0; i < 2; i++) { /* the second one behind a failure that had one */
        pp_future *before = submit_int(pool, fail_deep_down, PLAIN),
                  *future = submit_int(pool, fail_deep_down, BY_RETURN);
        CHECK(pp_error_backtrace(failure_of(before))[0] != 0);
        const pp_error *error = failure_of(future);
        CHECK_INT(error->task_code, -ENOENT);
        CHECK_STR(pp_error_backtrace(error), "");
        CHECK(error->backtrace == NULL);
        pp_future_unref(before);
        pp_future_unref(future);
    }
    pp_pool_destroy(pool);
}

EACH(a_pool_that_was_not_asked_notes_no_places)
{
    pp_pool *pool = kit_pool(method, 1);
    pp_future *future = submit_int(pool, fail_deep_down, PLAIN);
    const pp_error *error = failure_of(future);
    CHECK(error->backtrace == NULL);
    CHECK_STR(pp_error_backtrace(error), "");
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

EACH(failed_elements_of_a_chunk_tell_where)
{
    enum { COUNT = 50 };
    int hows[COUNT];
    pp_map *map;
    pp_map_result result;
    pp_pool *pool = open_tracing(method, (pp_pool_options){0});
    for (int i = 0; i < COUNT; i++)
        hows[i] = i % 3 == 1 ? PLAIN : SUCCEED;
    CHECK_OK(pp_map_open_array(pool, fail_deep_down, hows, COUNT, sizeof *hows, &(pp_map_options){.chunk_size = COUNT},
                               &map));
    for (int i = 0; i < COUNT; i++) {
        CHECK_INT(pp_map_next(map, -1, &result), 1);
        CHECK_INT(result.code, i % 3 == 1 ? -EREMOTEIO : 0);
        if (result.error)
            CHECK_FUNCTIONS(pp_error_backtrace(result.error), "check_header", "parse", "fail_deep_down");
    }
    pp_map_close(map);
    pp_pool_destroy(pool);
}

static int fail_to_begin(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    return pp_task_fail(task, -ENOENT, "no table");
}

EACH(an_initializer_that_fails_tells_its_message_as_ever)
{
    pp_pool *pool = open_tracing(method, (pp_pool_options){.initializer = fail_to_begin});
    pp_future *future = submit_int(pool, fail_deep_down, SUCCEED);
    const pp_error *error = error_of(future, PP_ERROR_BROKEN);
    CHECK_HAS(error->message, ": no table");
    CHECK_STR(pp_error_backtrace(error), "");
    pp_future_unref(future);
    pp_pool_destroy(pool);
}
