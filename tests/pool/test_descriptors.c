/* SPDX-License-Identifier: MIT */
/* Descriptors that travel with calls and back with their results, and what becomes of them where either does not
 * arrive. */
#include "descriptors_kit.h"

#include <netinet/in.h>
#include <sys/socket.h>

#define MIB ((size_t)1 << 20)

static int take_fd(pp_future *future, size_t index)
{
    int fd = (int)CHECK_OK(pp_future_take_fd(future, -1, index));
    CHECK_INT(fcntl(fd, F_GETFD), FD_CLOEXEC);
    return fd;
}

/* ----------------------------------------------------------------------------------------------- there */

static int task_write(pp_task *task, const void *arg, size_t size)
{
    CHECK_INT(pp_task_fd_count(task), 1);
    CHECK_INT(fcntl(pp_task_fd(task, 0), F_GETFD), FD_CLOEXEC);
    CHECK_INT(write(pp_task_fd(task, 0), arg, size), size);
    return 0;
}

/* When the call has ended nobody has it any more. */
EACH(a_task_writes_to_a_descriptor_that_its_caller_has_closed)
{
    pp_pool *pool = open_workers(1, method);
    for (int i = 0; i < 20; i++) {
        char text[6] = "";
        struct watched pipe = watch();
        pp_future *future = submit_with(pool, (pp_call){.function = task_write,
                                                        .arg = "hello",
                                                        .size = 5,
                                                        .descriptors = &pipe.writing,
                                                        .descriptor_count = 1});
        give_away(&pipe);
        expect_end(future, 0);
        CHECK_INT(read(pipe.reading, text, sizeof text), 5);
        CHECK_STR(text, "hello");
        unwatch(&pipe);
    }
    pp_pool_destroy(pool);
}

EACH(as_many_as_there_may_be_come_in_their_order)
{
    static const int counts[] = {1, 2, 7, 8, 9, 100, PP_MAX_DESCRIPTORS, 0, 3};
    int fds[PP_MAX_DESCRIPTORS];
    pp_pool *pool = open_workers(1, method);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        make_files(fds, counts[i], 0);
        CHECK_INT(take_int(submit_fds(pool, task_check, fds, (size_t)counts[i])), counts[i]);
        close_files(fds, counts[i]);
    }
    pp_pool_destroy(pool);
}

static int task_seek(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    return lseek(pp_task_fd(task, 0), 4711, SEEK_SET) == 4711 ? 0 : -errno;
}

EACH(a_descriptor_is_the_same_open_file)
{
    int fd = make_file(1);
    pp_pool *pool = open_workers(1, method);
    expect_end(submit_fds(pool, task_seek, &fd, 1), 0);
    CHECK_INT(lseek(fd, 0, SEEK_CUR), 4711);
    close(fd);
    pp_pool_destroy(pool);
}

EACH(one_file_may_travel_several_times_and_with_many_calls_at_once)
{
    enum { CALLS = 100 };
    pp_future *futures[CALLS];
    int file = make_file(5), next = make_file(6), fds[4] = {file, next, file, next};
    pp_pool *pool = open_workers(2, method);
    for (int i = 0; i < CALLS; i++)
        futures[i] = submit_with(pool, (pp_call){.function = task_check,
                                                 .arg = &(int){5},
                                                 .size = sizeof(int),
                                                 .descriptors = fds,
                                                 .descriptor_count = 4});
    for (int i = 0; i < CALLS; i++)
        CHECK_INT(take_int(futures[i]), 2);
    close(file);
    close(next);
    pp_pool_destroy(pool);
}

EACH(calls_of_an_array_have_each_their_own)
{
    enum { CALLS = 150 };
    pp_call calls[CALLS];
    pp_future *futures[CALLS];
    int fds[CALLS], numbers[CALLS];
    make_files(fds, CALLS, 100);
    pp_pool *pool = open_workers(2, method);
    for (int i = 0; i < CALLS; i++) {
        numbers[i] = 100 + i;
        calls[i] = (pp_call){.function = task_check, .arg = &numbers[i], .size = sizeof(int)};
        if (i % 3 != 0) {
            calls[i].descriptors = &fds[i];
            calls[i].descriptor_count = 1;
        }
    }
    CHECK_INT(pp_submit_many(pool, calls, CALLS, futures), CALLS);
    close_files(fds, CALLS);
    for (int i = 0; i < CALLS; i++)
        CHECK_INT(take_int(futures[i]), i % 3 != 0);
    pp_pool_destroy(pool);
}

EACH(priorities_and_deadlines_go_with_descriptors)
{
    int fd = make_file(0);
    pp_pool *pool = open_workers(1, method);
    for (int i = -2; i <= 2; i++)
        CHECK_INT(take_int(submit_with(pool, (pp_call){.function = task_check,
                                                       .descriptors = &fd,
                                                       .descriptor_count = 1,
                                                       .priority = i,
                                                       .deadline = i > 0 ? 100000 : 0})),
                  1);
    close(fd);
    pp_pool_destroy(pool);
}

/* ------------------------------------------------------------------------------------------------ back */

EACH(as_many_as_there_may_be_come_back_in_their_order)
{
    static const int counts[] = {1, 3, PP_MAX_DESCRIPTORS, 0, 2};
    pp_pool *pool = open_workers(1, method);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        pp_future *future = submit_int(pool, task_make, counts[i]);
        CHECK_INT(pp_future_fd_count(future, -1), counts[i]);
        for (int k = counts[i] - 1; k >= 0; k--) {
            int fd = take_fd(future, (size_t)k);
            CHECK_INT(number_in(fd), k);
            close(fd);
        }
        CHECK_INT(pp_future_fd_count(future, 0), counts[i]);
        CHECK_INT(take_int(future), counts[i]);
    }
    pp_pool_destroy(pool);
}

EACH(each_is_taken_once_and_lasts_longer_than_its_future)
{
    pp_pool *pool = open_workers(1, method);
    pp_future *future = submit_int(pool, task_make, 2);
    int fd = take_fd(future, 1);
    CHECK_INT(pp_future_take_fd(future, 0, 1), -ENODATA);
    CHECK_HAS(pp_last_error(), "descriptor 1 of call 0 was taken");
    CHECK_INT(pp_future_take_fd(future, 0, 2), -EINVAL);
    CHECK_HAS(pp_last_error(), "no descriptor 2");
    void *data;
    size_t size;
    CHECK_OK(pp_future_take(future, 0, &data, &size));
    pp_free(data);
    int other = take_fd(future, 0);
    pp_future_unref(future);
    pp_pool_destroy(pool);
    CHECK_INT(number_in(fd), 1);
    CHECK_INT(number_in(other), 0);
    close(fd);
    close(other);
}

/* Of a descriptor that it has by itself. */
static int task_number_in(pp_task *task, const void *arg, size_t size)
{
    (void)size;
    int number = number_in(read_int(arg));
    return pp_task_return(task, &number, sizeof number);
}

/* Not the library's, which workers that are forks of the owner do not have. */
EACH(what_was_taken_is_the_programs_own)
{
    pp_pool *pool = open_workers(1, method);
    pp_future *future = submit_int(pool, task_make, 8);
    int fd = take_fd(future, 7);
    pp_future_unref(future);
    pp_pool_destroy(pool);
    pool = open_workers(1, PP_START_FORK);
    CHECK_INT(take_int(submit_int(pool, task_number_in, fd)), 7);
    CHECK_INT(close(fd), 0);
    pp_pool_destroy(pool);
}

static int task_pass(pp_task *task, const void *arg, size_t size)
{
    for (size_t i = 0; i < pp_task_fd_count(task); i++)
        CHECK_INT(pp_task_return_fd(task, pp_task_fd(task, i)), 0);
    return pp_task_return(task, arg, size);
}

/* Whatever the size, and whether buffers are new, known already, or held by others. */
static void pass_both_ways(pp_pool *pool, size_t size, int count, pp_future **kept)
{
    int fds[3];
    const void *data;
    size_t came;
    char *argument = calloc(1, size + 1);
    memset(argument, 'x', size);
    make_files(fds, count, 10);
    pp_future *future = submit_with(pool, (pp_call){.function = task_pass,
                                                    .arg = argument,
                                                    .size = size,
                                                    .descriptors = fds,
                                                    .descriptor_count = (size_t)count});
    close_files(fds, count);
    CHECK_OK(pp_future_view(future, -1, &data, &came));
    CHECK_INT(came, size);
    CHECK_INT(memcmp(data, argument, size), 0);
    CHECK_INT(pp_future_fd_count(future, 0), count);
    for (int i = 0; i < count; i++) {
        int fd = take_fd(future, (size_t)i);
        CHECK_INT(number_in(fd), 10 + i);
        close(fd);
    }
    *kept = future;
    free(argument);
}

EACH(descriptors_go_beside_payloads_of_all_sizes)
{
    static const size_t sizes[] = {0, 47, 48, 10 * KIB, 20 * KIB, 200 * KIB, 300 * KIB, 3 * MIB};
    enum { SIZES = sizeof sizes / sizeof *sizes, ROUNDS = 3 };
    pp_future *kept[ROUNDS * SIZES * 3];
    pp_pool *pool = open_workers(1, method);
    for (int i = 0; i < ROUNDS * SIZES * 3; i++) {
        pass_both_ways(pool, sizes[i / 3 % SIZES], i % 3, &kept[i]);
        if (i < SIZES * 3)
            pp_future_unref(kept[i]);
    }
    for (int i = SIZES * 3; i < ROUNDS * SIZES * 3; i++)
        pp_future_unref(kept[i]);
    pp_pool_destroy(pool);
}

/* Then their arguments are in memory of their own. */
BOTH(descriptors_go_beside_large_arguments_that_have_waited)
{
    int fds[2];
    pp_future *futures[8], *gate;
    char *data = calloc(1, 3 * MIB);
    make_files(fds, 2, 0);
    pp_pool *pool = open_workers(1, method);
    occupy_at(pool, 0, 1, &gate);
    for (int i = 0; i < 8; i++)
        futures[i] = submit_with(pool, (pp_call){.function = task_check,
                                                 .arg = data,
                                                 .size = i % 2 ? 3 * MIB : 300 * KIB,
                                                 .descriptors = fds,
                                                 .descriptor_count = 2});
    gate_open(0);
    take_int(gate);
    for (int i = 0; i < 8; i++)
        CHECK_INT(take_int(futures[i]), 2);
    close_files(fds, 2);
    free(data);
    pp_pool_destroy(pool);
}

/* ------------------------------------------------------------------------------------ nothing is left behind */

/* That its worker has. */
static int fds_of(pp_pool *pool)
{
    return take_int(submit(pool, task_count_fds, NULL, 0));
}

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

/* ----------------------------------------------------------------------------------------- tried and moved */

/* Dies until it was begun as often as the argument says; then as task_check. */
static int task_at_last(pp_task *task, const void *arg, size_t size)
{
    (void)size;
    if (number_in(pp_task_fd(task, 0)) != 0)
        return pp_task_fail(task, -EIO, "not the file that it was");
    if (++shared()->words[5] < read_int(arg))
        raise(SIGKILL);
    return task_pass(task, arg, sizeof(int));
}

BOTH(a_call_that_is_tried_again_has_its_descriptors_each_time)
{
    int before = count_fds(), fd = make_file(0);
    pp_pool *pool = open_workers(1, method);
    pp_future *future = submit_with(pool, (pp_call){.function = task_at_last,
                                                    .arg = &(int){4},
                                                    .size = sizeof(int),
                                                    .retries = 5,
                                                    .descriptors = &fd,
                                                    .descriptor_count = 1});
    close(fd);
    fd = take_fd(future, 0);
    CHECK_INT(number_in(fd), 0);
    close(fd);
    CHECK_INT(take_int(future), 4);
    CHECK_INT(shared()->words[5], 4);
    pp_pool_destroy(pool);
    close(BOARD_FD);
    CHECK_INT(count_fds(), before);
}

/* They lie behind a call that lasts, in the ring of its worker, until the other one takes them; what that worker then
 * passes over it closes. */
BOTH(calls_that_move_to_another_worker_take_their_descriptors_along)
{
    enum { CALLS = 30 };
    int fds[3];
    pp_future *futures[CALLS], *gates[2];
    make_files(fds, 3, 0);
    pp_pool *pool = open_workers(2, method);
    occupy_at(pool, 0, 2, gates);
    gate_open(0);
    for (int i = 0; i < 2; i++)
        take_int(gates[i]);
    for (int i = 0; i < 200; i++)
        expect_end(submit(pool, nothing, NULL, 0), 0);
    int before = fds_of(pool);
    for (int round = 0; round < 5; round++) {
        shared()->gates[1] = shared()->gates[2] = shared()->arrived[1] = shared()->arrived[2] = 0;
        gates[0] = submit_int(pool, task_gate, 1);
        gates[1] = submit_int(pool, task_gate, 2);
        for (int i = 0; i < CALLS; i++)
            futures[i] = submit_fds(pool, task_check, fds, 3);
        gate_wait_arrived(1, 1);
        gate_wait_arrived(2, 1);
        gate_open(1 + round % 2);
        for (int i = 0; i < CALLS; i++)
            CHECK_INT(take_int(futures[i]), 3);
        gate_open(2 - round % 2);
        for (int i = 0; i < 2; i++)
            take_int(gates[i]);
        for (int i = 0; i < 4; i++)
            CHECK_INT(fds_of(pool), before);
    }
    close_files(fds, 3);
    pp_pool_destroy(pool);
}

/* ------------------------------------------------------------------------------------------------ refusals */

EACH(what_is_no_descriptor_or_too_many_is_refused_and_nothing_is_left)
{
    static int fds[PP_MAX_DESCRIPTORS + 1];
    pp_future *future = NULL;
    pp_pool *pool = open_workers(1, method);
    int file = make_file(0), before = count_fds();
    for (int i = 0; i <= PP_MAX_DESCRIPTORS; i++)
        fds[i] = file;
    pp_call call = {.function = nothing, .descriptors = fds, .descriptor_count = PP_MAX_DESCRIPTORS + 1};
    CHECK_INT(pp_submit_call(pool, &call, &future), -EINVAL);
    CHECK_HAS(pp_last_error(), "descriptor_count is 253; it must be at most 252");
    call.descriptor_count = SIZE_MAX;
    CHECK_INT(pp_submit_call(pool, &call, &future), -EINVAL);
    call.descriptor_count = 3;
    fds[2] = 190;
    CHECK_INT(pp_submit_call(pool, &call, &future), -EBADF);
    CHECK_HAS(pp_last_error(), "a call's descriptor: ");
    fds[2] = -1;
    CHECK_INT(pp_submit_many(pool, &call, 1, &future), -EBADF);
    call.descriptors = NULL;
    CHECK_INT(pp_submit_call(pool, &call, &future), -EINVAL);
    CHECK_HAS(pp_last_error(), "descriptors is NULL");
    CHECK_INT(count_fds(), before);
    CHECK(future == NULL);
    call.descriptor_count = 0; /* and no descriptors: as if it were not there */
    expect_end(submit_with(pool, call), 0);
    CHECK_OK(pp_pool_shutdown(pool, 0, -1));
    call = (pp_call){.function = nothing, .descriptors = &file, .descriptor_count = 1};
    before = count_fds();
    CHECK_INT(pp_submit_call(pool, &call, &future), -ESHUTDOWN);
    CHECK_INT(count_fds(), before);
    close(file);
    pp_pool_destroy(pool);
}

static int task_ask_wrongly(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    CHECK_INT(pp_task_fd_count(task), 1);
    CHECK_INT(pp_task_fd(task, 1), -EINVAL);
    CHECK_HAS(pp_last_error(), "no descriptor 1: the call has 1");
    CHECK_INT(pp_task_fd(task, SIZE_MAX), -EINVAL);
    CHECK_INT(pp_task_return_fd(task, -1), -EBADF);
    CHECK_INT(pp_task_return_fd(task, 190), -EBADF);
    for (int i = 0; i < PP_MAX_DESCRIPTORS; i++)
        CHECK_OK(pp_task_return_fd(task, pp_task_fd(task, 0)));
    CHECK_INT(pp_task_return_fd(task, pp_task_fd(task, 0)), -EINVAL);
    CHECK_HAS(pp_last_error(), "252");
    return pp_task_return(task, &(int){8}, sizeof(int));
}

static int task_return_what_is_none(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    return pp_task_return_fd(task, 190);
}

static int task_say_what_is_none(pp_task *task, const void *arg, size_t size)
{
    return pp_task_fail(task, task_return_what_is_none(task, arg, size), "own words");
}

EACH(a_task_that_tells_of_a_failed_return_itself_has_its_own_words)
{
    pp_pool *pool = open_workers(1, method);
    pp_future *future = submit(pool, task_say_what_is_none, NULL, 0);
    const pp_error *error = error_of(future, PP_ERROR_TASK);
    CHECK_INT(error->task_code, -EBADF);
    CHECK_STR(error->message, "own words");
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

EACH(a_task_that_asks_for_what_is_not_there_is_told_so)
{
    int fd = make_file(1);
    pp_pool *pool = open_workers(1, method);
    pp_future *future = submit_fds(pool, task_ask_wrongly, &fd, 1);
    CHECK_INT(pp_future_fd_count(future, -1), PP_MAX_DESCRIPTORS);
    CHECK_INT(take_int(future), 8);
    future = submit_fds(pool, task_return_what_is_none, &fd, 1);
    CHECK_INT(error_of(future, PP_ERROR_TRAVEL)->task_code, -EBADF);
    CHECK_INT(pp_future_take_fd(future, -1, 0), -EBADMSG);
    CHECK_INT(pp_future_fd_count(future, -1), -EBADMSG);
    CHECK_HAS(pp_last_error(), "a descriptor to go back");
    pp_future_unref(future);
    CHECK_INT(pp_task_fd(NULL, 0), -EINVAL);
    CHECK_INT(pp_task_fd_count(NULL), 0);
    CHECK_INT(pp_task_return_fd(NULL, fd), -EINVAL);
    close(fd);
    pp_pool_destroy(pool);
}

static int task_none_here(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    int wrong = pp_task_fd_count(task) != 0 || pp_task_fd(task, 0) != -EINVAL ||
                pp_task_return_fd(task, STDERR_FILENO) != -ENOTSUP;
    shared()->words[6] += 1 + 1000 * wrong;
    return pp_task_return(task, &wrong, sizeof wrong);
}

EACH(elements_of_a_map_initializers_and_finalizers_have_none)
{
    enum { ELEMENTS = 100 };
    static int in[ELEMENTS], out[ELEMENTS];
    static const size_t chunks[] = {1, 7, 100};
    pp_pool *pool = open_pool(
        (pp_pool_options){.max_workers = 1, .initializer = task_none_here, .finalizer = task_none_here}, method);
    for (int i = 0; i < 3; i++)
        CHECK_INT(pp_map_array(pool, task_none_here, in, ELEMENTS, sizeof *in, out, sizeof *out,
                               &(pp_map_options){.chunk_size = chunks[i]}),
                  0);
    for (int i = 0; i < ELEMENTS; i++)
        CHECK_INT(out[i], 0);
    int fd = make_file(0);
    CHECK_INT(take_int(submit_fds(pool, task_check, &fd, 1)), 1);
    pp_future *future = submit_int(pool, task_make, 1);
    CHECK_INT(pp_future_fd_count(future, -1), 1);
    pp_future_unref(future);
    close(fd);
    pp_pool_destroy(pool);
    CHECK_INT(shared()->words[6], 3 * ELEMENTS + 2);
}

TEST(a_future_that_is_none_or_not_done_or_the_programs_own_has_none)
{
    pp_future *gate, *future;
    CHECK_INT(pp_future_take_fd(NULL, 0, 0), -EINVAL);
    CHECK_HAS(pp_last_error(), "pp_future_take_fd");
    CHECK_INT(pp_future_fd_count(NULL, 0), -EINVAL);
    pp_pool *pool = open_workers(1, PP_START_FORK);
    occupy_at(pool, 0, 1, &gate);
    CHECK_INT(pp_future_take_fd(gate, 0, 0), -ETIMEDOUT);
    CHECK_INT(pp_future_fd_count(gate, 0), -ETIMEDOUT);
    pid_t child = fork();
    if (child == 0)
        _exit(pp_future_take_fd(gate, 0, 0) == -EPERM && pp_future_fd_count(gate, 0) == -EPERM ? 0 : 1);
    CHECK_INT(wait_for(child), 0);
    gate_open(0);
    CHECK_INT(pp_future_take_fd(gate, -1, 0), -EINVAL);
    take_int(gate);
    CHECK_OK(pp_future_create(pool, &future));
    CHECK_OK(pp_future_set_result(future, NULL, 0));
    CHECK_INT(pp_future_fd_count(future, 0), 0);
    CHECK_INT(pp_future_take_fd(future, 0, 0), -EINVAL);
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

/* ---------------------------------------------------------------------------------------------- attached */

TEST_WITHIN(descriptors_travel_to_and_from_a_worker_that_a_command_starts, 30)
{
    static const char *const command[] = {"nice", "-n", "3", "{}", NULL};
    pp_launcher *launcher;
    pp_future *kept;
    share();
    const pp_launcher_options wanted = {.command = command, .inherit_fds = board_fds, .inherit_fd_count = 1};
    CHECK_OK(pp_launcher_create(&wanted, &launcher));
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 1, .launcher = launcher}, 0);
    pp_launcher_unref(launcher);
    for (int i = 0; i < 6; i++) {
        pass_both_ways(pool, i % 2 ? 300 * KIB : 3, i % 3, &kept);
        pp_future_unref(kept);
    }
    fds_of(pool);
    int before = fds_of(pool);
    pp_future_unref(submit_int(pool, task_make, 5));
    CHECK_INT(fds_of(pool), before);
    pp_pool_destroy(pool);
}
