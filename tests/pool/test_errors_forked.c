/* SPDX-License-Identifier: MIT */
/* A child that the host forks: every function refuses there, or does nothing, and the parent's go on. */
#include "errors_kit.h"

enum { BEGUN, GATE };

struct heritage {
    pp_launcher *launcher;
    pp_pool *pool;
    pp_future *done, *running;
    pp_map *map;
    pp_completed *completed, *completed_of_two;
    void *taken;
};

static void try_futures(pp_future *future)
{
    uint32_t value = 5;
    const void *data = UNTOUCHED(void);
    void *taken = UNTOUCHED(void);
    const pp_error *error = UNTOUCHED(pp_error);
    size_t size = 5;
    REFUSED(pp_future_wait(future, -1), -EPERM);
    REFUSED(pp_future_result(future, -1, &value, sizeof value, NULL), -EPERM);
    REFUSED(pp_future_view(future, -1, &data, &size), -EPERM);
    REFUSED(pp_future_take(future, -1, &taken, &size), -EPERM);
    REFUSED(pp_future_error(future, -1, &error), -EPERM);
    REFUSED(pp_future_cancel(future), -EPERM);
    REFUSED(pp_future_state(future), -EPERM);
    CHECK(value == 5 && data == UNTOUCHED(void) && taken == UNTOUCHED(void) && error == UNTOUCHED(pp_error) &&
          size == 5);
    CHECK(pp_future_ref(future) == future);
    pp_future_unref(future);
    pp_future_unref(future);
    pp_future_unref(future);
}

static void try_many_futures(const struct heritage *h)
{
    pp_future *const list[] = {h->done, h->running};
    pp_future *future = UNTOUCHED(pp_future);
    pp_completed *completed = UNTOUCHED(pp_completed);
    unsigned char done[2] = {7, 7};
    size_t index = 5;
    REFUSED(pp_wait(list, 1, PP_ALL_COMPLETED, -1, done), -EPERM);
    REFUSED(pp_wait(list, 2, PP_FIRST_COMPLETED, 0, done), -EPERM);
    REFUSED(pp_wait(list, 2, (pp_when)3, 0, done), -EPERM);
    REFUSED(pp_as_completed(list, 2, &completed), -EPERM);
    REFUSED(pp_completed_next(h->completed, -1, &future, &index), -EPERM);
    REFUSED(pp_completed_next(h->completed, -1, NULL, NULL), -EPERM);
    REFUSED(pp_completed_next(h->completed_of_two, -1, &future, &index), -EPERM);
    pp_completed_close(h->completed);
    pp_completed_close(h->completed_of_two);
    CHECK(future == UNTOUCHED(pp_future) && completed == UNTOUCHED(pp_completed));
    CHECK(done[0] == 7 && done[1] == 7 && index == 5);
}

static void try_everything(const struct heritage *h)
{
    pp_launcher *launcher = UNTOUCHED(pp_launcher);
    pp_pool *pool = UNTOUCHED(pp_pool);
    pp_future *future = UNTOUCHED(pp_future);
    pp_map *map = UNTOUCHED(pp_map);
    pp_call call = {.function = nothing};
    pp_map_result result;
    pp_output output;
    REFUSED(pp_launcher_create(NULL, &launcher), -EPERM);
    REFUSED(pp_pool_create(NULL, &pool), -EPERM);
    REFUSED(pp_pool_create(&(pp_pool_options){.launcher = h->launcher}, &pool), -EPERM);
    REFUSED(pp_submit(h->pool, nothing, NULL, 0, &future), -EPERM);
    REFUSED(pp_submit_call(h->pool, &call, &future), -EPERM);
    REFUSED(pp_submit_many(h->pool, &call, 1, &future), -EPERM);
    REFUSED(pp_map_open(h->pool, echo, no_input, NULL, NULL, &map), -EPERM);
    REFUSED(pp_map_open_array(h->pool, echo, "abc", 3, 1, NULL, &map), -EPERM);
    REFUSED(pp_map_next(h->map, -1, &result), -EPERM);
    REFUSED(pp_map_output(h->map, PP_STDOUT, &output), -EPERM);
    REFUSED(pp_map_array(h->pool, echo, "abc", 3, 1, (char[3]){0}, 1, NULL), -EPERM);
    REFUSED(pp_pool_shutdown(h->pool, PP_CANCEL_PENDING, -1), -EPERM);
    try_futures(h->done);
    try_futures(h->running);
    try_many_futures(h);
    pp_map_close(h->map);
    pp_pool_release(h->pool);
    pp_pool_destroy(h->pool);
    CHECK(pp_launcher_ref(h->launcher) == h->launcher);
    pp_launcher_unref(h->launcher);
    pp_launcher_unref(h->launcher);
    pp_launcher_unref(h->launcher);
    CHECK(pp_usable_processors() >= 1);
    CHECK(pp_future_id(h->done) == 1);
    CHECK(launcher == UNTOUCHED(pp_launcher) && pool == UNTOUCHED(pp_pool) && future == UNTOUCHED(pp_future) &&
          map == UNTOUCHED(pp_map));
}

/* Also the child's child, and exit's handlers run there as everywhere. */
static void fork_and_try(const struct heritage *h, int depth)
{
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        try_everything(h);
        if (depth > 1)
            fork_and_try(h, depth - 1);
        pp_free(h->taken); /* each process has its own copy of it */
        exit(0);
    }
    int status;
    CHECK_INT(waitpid(child, &status, 0), child);
    CHECK_INT(status, 0);
}

BOTH(in_a_child_that_the_host_forks_every_function_refuses_and_touches_nothing)
{
    board_make();
    struct heritage h;
    size_t size;
    CHECK_OK(pp_launcher_create(&(pp_launcher_options){.start_method = method}, &h.launcher));
    h.pool = kit_sibling(method, (pp_pool_options){.max_workers = 1});
    pp_future *first = submit_u32(h.pool, echo, 9);
    CHECK_OK(pp_future_take(first, -1, &h.taken, &size));
    h.done = submit_u32(h.pool, echo, 42);
    CHECK_INT(result_u32(h.done), 42);
    occupy(h.pool, BEGUN, GATE, 1, &h.running);
    CHECK_OK(pp_map_open_array(h.pool, echo, "abc", 3, 1, NULL, &h.map));
    pp_pool *other = kit_sibling(method, (pp_pool_options){.max_workers = 1});
    pp_future *apart = submit_u32(other, echo, 3), *next;
    CHECK_OK(pp_as_completed((pp_future *[]){h.running, h.done}, 2, &h.completed));
    CHECK_OK(pp_future_wait(apart, -1)); /* no other thread of this process is busy when it forks */
    CHECK_OK(pp_as_completed((pp_future *[]){h.running, apart}, 2, &h.completed_of_two));
    CHECK_INT(pp_completed_next(h.completed, -1, &next, NULL), 1);
    CHECK(next == h.done);
    fork_and_try(&h, 2);

    pp_map_result result;
    CHECK_INT(pp_future_state(h.running), PP_RUNNING);
    CHECK_INT(pp_map_next(h.map, 0, &result), -ETIMEDOUT);
    open_gate(GATE);
    CHECK_INT(pp_completed_next(h.completed, -1, &next, NULL), 1);
    CHECK(next == h.running);
    CHECK_INT(pp_completed_next(h.completed, -1, &next, NULL), 0);
    for (int i = 0; i < 2; i++)
        CHECK_INT(pp_completed_next(h.completed_of_two, -1, &next, NULL), 1);
    pp_completed_close(h.completed);
    pp_completed_close(h.completed_of_two);
    CHECK_INT(result_u32(h.running), 0);
    CHECK_INT(result_u32(h.done), 42);
    for (int i = 0; i < 3; i++) {
        CHECK_INT(pp_map_next(h.map, -1, &result), 1);
        CHECK(result.code == 0 && *(const char *)result.data == "abc"[i]);
    }
    CHECK_INT(pp_map_next(h.map, -1, &result), 0);
    pp_map_close(h.map);
    pp_future_unref(first);
    pp_future_unref(h.done);
    pp_future_unref(h.running);
    pp_future_unref(apart);
    pp_pool_destroy(other);
    expect_usable(h.pool);
    pp_pool_destroy(h.pool);
    pp_launcher_unref(h.launcher);
    CHECK_INT(*(uint32_t *)h.taken, 9);
    pp_free(h.taken);
}

TEST(a_child_forked_before_the_library_was_used_may_use_it)
{
    pid_t child = fork();
    if (child == 0) {
        pp_pool *pool = kit_pool(PP_START_FORK, 1);
        expect_usable(pool);
        pp_pool_destroy(pool);
        exit(0);
    }
    int status;
    CHECK_INT(waitpid(child, &status, 0), child);
    CHECK_INT(status, 0);
    pp_pool *pool = kit_pool(PP_START_FORK, 1);
    expect_usable(pool);
    pp_pool_destroy(pool);
}
