/* SPDX-License-Identifier: MIT */
/* What becomes of descriptors that travel, however their call ends: nobody keeps any. */
#include "descriptors_kit.h"

#include <netinet/in.h>
#include <sys/socket.h>

static int task_forget(pp_task *task, const void *arg, size_t size)
{
    task_pass(task, NULL, 0);
    return pp_task_fail(task, -EDOM, "%.*s", (int)size, (const char *)arg);
}

static int task_crash_after(pp_task *task, const void *arg, size_t size)
{
    task_pass(task, arg, size);
    raise(SIGKILL);
    return 0;
}

BOTH(between_calls_a_worker_has_nothing_of_the_last_one)
{
    int fds[10];
    make_files(fds, 10, 0);
    pp_pool *pool = open_workers(1, method);
    fds_of(pool);
    int before = fds_of(pool);
    for (int i = 0; i < 5; i++) {
        pp_future_unref(submit_fds(pool, task_pass, fds, 10));
        CHECK_INT(fds_of(pool), before);
        drop_failed(submit_fds(pool, task_forget, fds, 10), PP_ERROR_TASK);
        CHECK_INT(fds_of(pool), before);
        pp_future_unref(submit_fds(pool, nothing, fds, 10));
        CHECK_INT(fds_of(pool), before);
    }
    close_files(fds, 10);
    pp_pool_destroy(pool);
}

/* The worker's memory is used up, or there again. */
/* Its argument can't be mapped. */
BOTH(of_a_call_that_can_not_run_its_worker_has_nothing_either)
{
    if (KIT_ASAN || KIT_TSAN || TEST_ON_VALGRIND)
        LEFT_OUT("the tool needs memory of its own");
    int fds[10];
    char *data = calloc(1, 3 * MIB);
    make_files(fds, 10, 0);
    pp_pool *pool = open_workers(1, method);
    fds_of(pool);
    int before = fds_of(pool);
    for (int i = 0; i < 3; i++) {
        expect_end(submit_int(pool, task_limit_memory, 0), 0);
        pp_future *future = submit_with(
            pool,
            (pp_call){.function = nothing, .arg = data, .size = 3 * MIB, .descriptors = fds, .descriptor_count = 10});
        CHECK_INT(error_of(future, PP_ERROR_TRAVEL)->task_code, -ENOMEM);
        pp_future_unref(future);
        expect_end(submit_int(pool, task_limit_memory, 1), 0);
        CHECK_INT(fds_of(pool), before);
    }
    free(data);
    close_files(fds, 10);
    pp_pool_destroy(pool);
}

static void pass_and(pp_pool *pool, pp_function *function, const struct watched *watched, int code)
{
    expect_end(submit_fds(pool, function, &watched->writing, 1), code);
}

/* However a call ends, its owner has what it had before when the future is done, and what came back when that is gone.
 */
EACH(the_owner_has_nothing_of_a_call_that_has_ended)
{
    pp_pool *pool = open_workers(1, method);
    expect_usable(pool);
    int before = count_fds();
    for (int i = 0; i < 5; i++) {
        struct watched pipe = watch();
        pass_and(pool, nothing, &pipe, 0);
        CHECK_INT(count_fds(), before + 2);
        pass_and(pool, task_forget, &pipe, -EREMOTEIO);
        CHECK_INT(count_fds(), before + 2);
        pass_and(pool, task_pass, &pipe, 0); /* and nobody takes it */
        CHECK_INT(count_fds(), before + 2);
        pp_future *future = submit_fds(pool, task_pass, &pipe.writing, 1);
        CHECK_OK(pp_future_wait(future, -1));
        CHECK_INT(count_fds(), before + 3);
        give_away(&pipe);
        CHECK(!is_free(&pipe));
        pp_future_unref(future);
        unwatch(&pipe);
        CHECK_INT(count_fds(), before);
    }
    pp_pool_destroy(pool);
}

/* A socket that is full of what its peer does not read, and lingers for that: who closes it last waits. */
static int make_lingering(int *peer)
{
    static const char data[1 << 16];
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    const struct linger linger = {.l_onoff = 1, .l_linger = 600};
    int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_INT(bind(listening, (struct sockaddr *)&address, size), 0);
    CHECK_INT(listen(listening, 1), 0);
    CHECK_INT(getsockname(listening, (struct sockaddr *)&address, &size), 0);
    CHECK_INT(connect(fd, (struct sockaddr *)&address, size), 0);
    *peer = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
    CHECK(*peer >= 0);
    close(listening);
    while (send(fd, data, sizeof data, MSG_DONTWAIT) > 0) {
    }
    CHECK_INT(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger), 0);
    return fd;
}

static void read_all(int fd)
{
    static char data[1 << 16];
    ssize_t size;
    while ((size = read(fd, data, sizeof data)) > 0) {
    }
    CHECK_INT(size, 0);
    close(fd);
}

static void expect_free(pp_pool *pool, pp_pool *other)
{
    pp_buffer *buffer;
    CHECK_OK(pp_buffer_create(1, &buffer));
    pp_buffer_unref(buffer);
    expect_usable(pool);
    expect_usable(other);
}

EACH(a_socket_that_lingers_holds_nobody_up)
{
    if (TEST_ON_VALGRIND)
        LEFT_OUT("valgrind lets no other thread run while one closes a descriptor");
    pp_pool *pool = open_workers(1, method), *other = kit_sibling(method, (pp_pool_options){.max_workers = 1});
    expect_free(pool, other);
    int before = count_fds(), peer;
    for (int i = 0; i < 2; i++) {
        int fd = make_lingering(&peer);
        shared()->gates[0] = 0;
        pp_future *gate = submit_int(pool, task_gate, 0);
        pp_future *future = submit_fds(pool, i == 0 ? nothing : task_pass, &fd, 1);
        close(fd); /* while the pool has it still: the last one lingers */
        gate_open(0);
        take_int(gate);
        expect_end(future, 0);
        expect_free(pool, other);
        read_all(peer);
        until(count_fds() <= before); /* what a start of a worker needs may have been open */
    }
    pp_pool_destroy(pool);
    pp_pool_destroy(other);
}

EACH(a_call_without_a_future_leaves_nothing)
{
    pp_pool *pool = open_workers(1, method);
    struct watched pipe = watch();
    for (int i = 0; i < 5; i++)
        CHECK_OK(pp_submit_call(
            pool, &(pp_call){.function = task_pass, .descriptors = &pipe.writing, .descriptor_count = 1}, NULL));
    give_away(&pipe);
    expect_usable(pool);
    unwatch(&pipe);
    pp_pool_destroy(pool);
}

BOTH(a_worker_that_dies_leaves_nothing)
{
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 1, .standby = PP_STANDBY_NEVER}, method);
    expect_usable(pool);
    int before = count_fds();
    for (int i = 0; i < 5; i++) {
        struct watched pipe = watch();
        pass_and(pool, crash, &pipe, -EOWNERDEAD);
        pass_and(pool, task_crash_after, &pipe, -EOWNERDEAD);
        give_away(&pipe);
        expect_usable(pool);
        until(count_fds() <= before + 1);
        unwatch(&pipe);
    }
    pp_pool_destroy(pool);
}

BOTH(a_call_that_outlives_its_timeout_or_is_killed_leaves_nothing)
{
    pp_pool *pool = open_workers(1, method);
    struct watched pipe = watch();
    expect_end(
        submit_with(
            pool, (pp_call){.function = task_hang, .timeout = 20, .descriptors = &pipe.writing, .descriptor_count = 1}),
        -ETIME);
    shared()->arrived[0] = 0;
    pp_future *future = submit_fds(pool, task_hang, &pipe.writing, 1);
    gate_wait_arrived(0, 1);
    CHECK_OK(pp_future_kill(future));
    expect_end(future, -EOWNERDEAD);
    give_away(&pipe);
    expect_usable(pool);
    unwatch(&pipe);
    pp_pool_destroy(pool);
}

/* At once: it may be what somebody waits for. */
BOTH(a_cancelled_call_leaves_nothing)
{
    pp_future *gate;
    pp_pool *pool = open_workers(1, method);
    struct watched pipe = watch();
    occupy_at(pool, 0, 1, &gate);
    pp_future *future = submit_fds(pool, task_pass, &pipe.writing, 1);
    give_away(&pipe);
    CHECK(!is_free(&pipe));
    CHECK_OK(pp_future_cancel(future));
    unwatch(&pipe);
    drop_failed(future, PP_ERROR_CANCELLED);
    gate_open(0);
    take_int(gate);
    pp_pool_destroy(pool);
}

TEST(a_cancelled_call_of_an_inline_pool_leaves_nothing)
{
    pp_pool *pool = open_workers(1, PP_START_INLINE);
    struct watched pipe = watch();
    pp_future *future = submit_fds(pool, task_pass, &pipe.writing, 1);
    give_away(&pipe);
    CHECK(!is_free(&pipe));
    CHECK_OK(pp_future_cancel(future));
    unwatch(&pipe);
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

EACH(a_pool_that_is_shut_down_with_calls_pending_leaves_nothing)
{
    enum { CALLS = 20 };
    int before = count_fds();
    pp_future *futures[CALLS];
    pp_pool *pool = open_workers(1, method);
    struct watched pipe = watch();
    for (int i = 0; i < CALLS; i++)
        futures[i] = submit_fds(pool, task_pass, &pipe.writing, 1);
    give_away(&pipe);
    CHECK_OK(pp_pool_shutdown(pool, PP_CANCEL_PENDING, -1));
    for (int i = 0; i < CALLS; i++)
        pp_future_unref(futures[i]);
    unwatch(&pipe);
    pp_pool_destroy(pool);
    close(BOARD_FD);
    CHECK_INT(count_fds(), before);
}

BOTH(a_pool_that_breaks_leaves_nothing)
{
    enum { CALLS = 20 };
    pp_future *futures[CALLS];
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 2, .on_crash = PP_BREAK_POOL}, method);
    struct watched pipe = watch();
    for (int i = 0; i < CALLS; i++)
        futures[i] = submit_fds(pool, crash, &pipe.writing, 1);
    give_away(&pipe);
    for (int i = 0; i < CALLS; i++)
        drop_failed(futures[i], PP_ERROR_BROKEN);
    pp_pool_destroy(pool);
    unwatch(&pipe);
}
