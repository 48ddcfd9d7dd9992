/* SPDX-License-Identifier: MIT */
/* needs: seams */
/* Errors that are rare: each is provoked, told in words, and leaves nothing. */
#include "processes_kit.h"

#include "base/seam.h"

#include <sys/resource.h>

#define KIB ((size_t)1 << 10)

/* -------------------------------------------------------------------------------------------- buffers */

static int memfd_error;

static int no_memfd(const char *name, unsigned flags)
{
    (void)name, (void)flags;
    errno = memfd_error;
    return -1;
}

TEST(a_buffer_that_can_not_be_made_is_refused_with_what_is_wanting)
{
    static const int errors[] = {ENFILE, EMFILE, ENOSYS, EPERM};
    const struct rlimit small = {.rlim_cur = 100, .rlim_max = RLIM_INFINITY};
    const struct pp__sys whole = pp__sys;
    pp_buffer *buffer = NULL;
    int fds = count_fds();
    pp__sys.memfd_create = no_memfd;
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        memfd_error = errors[i];
        CHECK_INT(pp_buffer_create(KIB, &buffer), -errors[i]);
        CHECK(*pp_last_error());
    }
    pp__sys = whole;
    CHECK_INT(setrlimit(RLIMIT_FSIZE, &small), 0);
    CHECK_INT(pp_buffer_create(KIB, &buffer), -EFBIG);
    CHECK_HAS(pp_last_error(), "RLIMIT_FSIZE");
    CHECK(!buffer);
    CHECK_INT(count_fds(), fds);
}

static pp_buffer *inherited;

/* In a worker that was forked: a pool of its own takes nothing that was its parent's. */
static int submit_inherited(pp_task *task, const void *arg, size_t size)
{
    pp_pool *pool;
    pp_future *future = NULL;
    const pp_call call = {.function = task_pid, .buffers = &inherited, .buffer_count = 1};
    (void)task, (void)arg, (void)size;
    CHECK_OK(pp_pool_create(&(pp_pool_options){.max_workers = 1, .start_method = PP_START_INLINE}, &pool));
    CHECK_INT(pp_submit_call(pool, &call, &future), -EPERM);
    CHECK(*pp_last_error() && !future);
    pp_pool_destroy(pool);
    return 0;
}

TEST(a_buffer_of_another_process_does_not_go_with_a_call)
{
    CHECK_OK(pp_buffer_create(KIB, &inherited));
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 1}, PP_START_FORK);
    expect_end(submit(pool, submit_inherited, NULL, 0), 0);
    pp_buffer_unref(inherited);
    pp_pool_destroy(pool);
}

/* ------------------------------------------------------------------------------------------- many futures */

static void *no_calloc(size_t count, size_t size)
{
    (void)count, (void)size;
    return NULL;
}

static void *no_malloc(size_t size)
{
    (void)size;
    return NULL;
}

EACH(without_memory_futures_are_not_given_out_as_they_complete)
{
    const struct pp__sys whole = pp__sys;
    share();
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 1}, method);
    pp_future *futures[2], *given;
    pp_completed *completed = NULL;
    size_t index;
    for (int i = 0; i < 2; i++)
        CHECK_OK(pp_future_create(pool, &futures[i]));
    pp__sys.calloc = no_calloc;
    pp__sys.malloc = no_malloc;
    CHECK_INT(pp_as_completed(futures, 2, &completed), -ENOMEM);
    pp__sys.calloc = whole.calloc; /* alone: threads read the others */
    pp__sys.malloc = whole.malloc;
    CHECK(*pp_last_error() && !completed);
    CHECK_OK(pp_as_completed(futures, 2, &completed));
    CHECK_OK(pp_future_set_result(futures[1], NULL, 0));
    CHECK_OK(pp_completed_next(completed, -1, &given, &index));
    CHECK(given == futures[1] && index == 1);
    pp_completed_close(completed);
    for (int i = 0; i < 2; i++)
        pp_future_unref(futures[i]);
    pp_pool_destroy(pool);
}

/* ---------------------------------------------------------------------------------------------- maps */

static void ask_inherited(pp_map *map)
{
    pp_output output;
    CHECK_INT(pp_map_output(map, PP_STDOUT, &output), -EPERM);
    _exit(0);
}

BOTH(output_of_a_map_is_shown_where_it_is_captured_and_by_its_owner)
{
    const int numbers[] = {1, 2};
    pp_map *map;
    pp_map_result result;
    pp_output output;
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 1, .capture = PP_STDOUT}, method);
    CHECK_OK(pp_map_open_array(pool, task_square, numbers, 2, sizeof *numbers, NULL, &map));
    CHECK_INT(pp_map_next(map, -1, &result), 1);
    CHECK_OK(pp_map_output(map, PP_STDOUT, &output));
    CHECK_INT(pp_map_output(map, PP_STDERR, &output), -ENOTSUP);
    CHECK_HAS(pp_last_error(), "does not capture");
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0)
        ask_inherited(map);
    CHECK_INT(wait_for(child), 0);
    pp_map_close(map);
    pp_pool_destroy(pool);
}

BOTH(a_loop_in_a_broken_pool_is_refused)
{
    const int numbers[] = {1, 2};
    int squares[2] = {0};
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 1, .on_crash = PP_BREAK_POOL}, method);
    pp_future *future = submit(pool, crash, NULL, 0);
    CHECK_OK(pp_future_wait(future, -1));
    pp_future_unref(future);
    CHECK_INT(pp_map_array(pool, task_square, numbers, 2, sizeof *numbers, squares, sizeof *squares, NULL),
              -ENOTRECOVERABLE);
    CHECK(*pp_last_error());
    CHECK_INT(squares[0], 0);
    pp_pool_destroy(pool);
}
