/* SPDX-License-Identifier: MIT */
/* Descriptors that travel with calls and back with their results, whichever way these take. */
#include "descriptors_kit.h"

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
