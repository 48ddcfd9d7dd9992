/* SPDX-License-Identifier: MIT */
/* Limits of descriptors and of the size of files: what does not fit is refused with its own error or fails alone, and
 * the pool goes on. */
#include "errors_kit.h"

#include <sys/resource.h>

enum { BEGUN, GATE };

static rlim_t set_limit(int resource, rlim_t limit)
{
    struct rlimit have;
    CHECK_INT(getrlimit((__rlimit_resource_t)resource, &have), 0);
    rlim_t before = have.rlim_cur;
    have.rlim_cur = limit;
    CHECK_INT(setrlimit((__rlimit_resource_t)resource, &have), 0);
    return before;
}

/* A new launcher keeps the limit that there was at its birth, so it is only made. */
static void make_launcher(pp_start_method method, rlim_t limit)
{
    pp_launcher *launcher = UNTOUCHED(pp_launcher);
    rlim_t before = set_limit(RLIMIT_NOFILE, limit);
    int code = pp_launcher_create(&(pp_launcher_options){.start_method = method}, &launcher);
    set_limit(RLIMIT_NOFILE, before);
    CHECK(code == 0 || *pp_last_error());
    if (code == 0)
        pp_launcher_unref(launcher);
    else
        CHECK_INT(code, -EMFILE);
    CHECK((code != 0) == (launcher == UNTOUCHED(pp_launcher)));
}

/* A pool either is refused, or works as soon as there are more descriptors. */
static void make_pool(pp_launcher *launcher, rlim_t limit)
{
    pp_pool *pool = UNTOUCHED(pp_pool);
    rlim_t before = set_limit(RLIMIT_NOFILE, limit);
    int code = pp_pool_create(&(pp_pool_options){.launcher = launcher, .max_workers = 2}, &pool);
    if (code != 0) {
        set_limit(RLIMIT_NOFILE, before);
        CHECK_INT(code, -EMFILE);
        CHECK_HAS(pp_last_error(), "RLIMIT_NOFILE");
        CHECK(pool == UNTOUCHED(pp_pool));
        return;
    }
    pp_future *future = submit_u32(pool, echo, 8);
    code = pp_future_wait(future, 20);
    CHECK(code == 0 || code == -ETIMEDOUT);
    set_limit(RLIMIT_NOFILE, before);
    CHECK_INT(result_u32(future), 8);
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

BOTH_WITHIN(where_descriptors_run_out_it_is_said_or_goes_on_later, 60)
{
    pp_launcher *launcher;
    CHECK_OK(pp_launcher_create(&(pp_launcher_options){.start_method = method}, &launcher));
    make_pool(launcher, 1024);
    int before = count_fds();
    rlim_t used = (rlim_t)before - 3; /* ".", ".." and the directory itself are counted too */
    for (rlim_t more = 0; more < 16; more++) {
        make_pool(launcher, used + more);
        make_launcher(method, used + more);
        until(count_fds() == before);
    }
    pp_launcher_unref(launcher);
}

static int return_much(pp_task *task, const void *arg, size_t size)
{
    struct gated g;
    CHECK_INT(size, sizeof g);
    memcpy(&g, arg, sizeof g);
    add(g.begun);
    wait_at(g.gate);
    char *room = pp_task_reserve(task, g.value);
    return room ? 0 : -EMFILE;
}

/* The lowest descriptors are taken, so that nothing new can be opened below the limit. */
static void take_descriptors(void)
{
    int fd;
    do
        fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    while (fd >= 0 && fd < 60);
    CHECK(fd >= 0);
}

BOTH(what_is_large_and_finds_no_descriptor_fails_alone)
{
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    struct gated g = {.begun = BEGUN, .gate = GATE, .value = 3 << 20};
    char *argument = calloc(1, 3 << 20);
    pp_future *future = submit(pool, return_much, &g, sizeof g), *refused = UNTOUCHED(pp_future), *medium;
    const pp_error *error;
    until(read_word(BEGUN) == 1);
    take_descriptors();
    rlim_t before = set_limit(RLIMIT_NOFILE, 60);
    REFUSED(pp_submit(pool, echo, argument, 3 << 20, &refused), -EMFILE);
    CHECK(refused == UNTOUCHED(pp_future));
    medium = submit(pool, echo, argument, 100000); /* needs none while it waits */
    open_gate(GATE);
    CHECK_OK(pp_future_error(future, -1, &error));
    CHECK(error != NULL && error->kind == PP_ERROR_TRAVEL && *error->message);
    CHECK_INT(error->task_code, -EMFILE);
    CHECK_OK(pp_future_error(medium, -1, &error));
    CHECK(error != NULL && error->kind == PP_ERROR_TRAVEL && *error->message);
    CHECK_INT(error->task_code, -EMFILE);
    expect_usable(pool);
    set_limit(RLIMIT_NOFILE, before);
    pp_future_unref(future);
    pp_future_unref(medium);
    expect_end(submit(pool, echo, argument, 3 << 20), 0);
    free(argument);
    pp_pool_destroy(pool);
}

BOTH(a_file_size_limit_is_named_and_raises_no_signal)
{
    pp_pool *pool = kit_pool(method, 1);
    char *argument = calloc(1, 2 << 20);
    pp_future *future = UNTOUCHED(pp_future);
    expect_usable(pool);
    rlim_t before = set_limit(RLIMIT_FSIZE, 1 << 20);
    REFUSED(pp_submit(pool, echo, argument, 2 << 20, &future), -EFBIG);
    CHECK_HAS(pp_last_error(), "RLIMIT_FSIZE");
    CHECK(future == UNTOUCHED(pp_future));
    expect_usable(pool);
    set_limit(RLIMIT_FSIZE, before);
    expect_end(submit(pool, echo, argument, 2 << 20), 0);
    free(argument);
    pp_pool_destroy(pool);
}

static int return_bytes(pp_task *task, const void *arg, size_t size)
{
    uint32_t bytes;
    CHECK_INT(size, sizeof bytes);
    memcpy(&bytes, arg, sizeof bytes);
    static char room[2 << 20];
    return pp_task_return(task, room, bytes);
}

/* The limit is the workers' own. */
BOTH(a_result_above_the_workers_file_size_limit_fails_to_travel)
{
    rlim_t before = set_limit(RLIMIT_FSIZE, 1 << 20);
    pp_pool *pool = kit_pool(method, 1);
    const pp_error *error;
    expect_usable(pool);
    set_limit(RLIMIT_FSIZE, before);
    pp_future *future = submit_u32(pool, return_bytes, 2 << 20);
    CHECK_INT(pp_future_result(future, -1, NULL, 0, NULL), -EBADMSG);
    CHECK_OK(pp_future_error(future, 0, &error));
    CHECK_INT(error->kind, PP_ERROR_TRAVEL);
    CHECK_INT(error->task_code, -EFBIG);
    CHECK_HAS(error->message, "RLIMIT_FSIZE");
    pp_future_unref(future);
    expect_end(submit_u32(pool, return_bytes, 1 << 19), 0);
    pp_pool_destroy(pool);
}

TEST(a_pool_that_no_file_size_allows_is_refused)
{
    for (rlim_t limit = 1000; limit < 100000; limit *= 60) { /* less than a page, and than a side of a channel */
        rlim_t before = set_limit(RLIMIT_FSIZE, limit);
        refuse_pool((pp_pool_options){.start_method = PP_START_FORK}, -EFBIG);
        CHECK_HAS(pp_last_error(), "RLIMIT_FSIZE");
        set_limit(RLIMIT_FSIZE, before);
    }
}

/* The pool's page fits below the limit and a worker's channel does not. */
BOTH(workers_that_a_limit_keeps_from_starting_start_when_it_is_raised)
{
    pp_pool *pool = kit_pool(method, 1);
    rlim_t before = set_limit(RLIMIT_FSIZE, 10000);
    pp_future *future = submit_u32(pool, echo, 6);
    CHECK_INT(pp_future_wait(future, 30), -ETIMEDOUT);
    CHECK_INT(pp_future_state(future), PP_PENDING);
    set_limit(RLIMIT_FSIZE, before);
    CHECK_INT(result_u32(future), 6);
    pp_future_unref(future);
    pp_pool_destroy(pool);
}
