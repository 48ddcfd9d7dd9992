/* SPDX-License-Identifier: MIT */
/* For tests of descriptors that travel: files with numbers in them, pipes that show who still has them, and tasks that
 * take or bring some. */
#ifndef PP_TESTS_POOL_DESCRIPTORS_KIT_H
#define PP_TESTS_POOL_DESCRIPTORS_KIT_H

#include "processes_kit.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

/* A file with a number in it, of which there may be many. */
static inline int make_file(int number)
{
    int fd = memfd_create("numbered", MFD_CLOEXEC);
    CHECK(fd >= 0);
    CHECK_INT(pwrite(fd, &number, sizeof number, 0), sizeof number);
    return fd;
}

static inline int number_in(int fd)
{
    int number = -1;
    if (pread(fd, &number, sizeof number, 0) != sizeof number)
        return -1;
    return number;
}

static inline void make_files(int *fds, int count, int first)
{
    for (int i = 0; i < count; i++)
        fds[i] = make_file(first + i);
}

static inline void close_files(const int *fds, int count)
{
    for (int i = 0; i < count; i++)
        CHECK_INT(close(fds[i]), 0);
}

static inline pp_future *submit_fds(pp_pool *pool, pp_function *function, const int *fds, size_t count)
{
    return submit_with(pool, (pp_call){.function = function, .descriptors = fds, .descriptor_count = count});
}

/* The writing end of a pipe: who has it open, or has it on the way, keeps the reading end from its end. */
struct watched {
    int reading, writing;
};

static inline struct watched watch(void)
{
    int ends[2];
    CHECK_INT(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    return (struct watched){ends[0], ends[1]};
}

/* Only the library, or a task, has it from now on. */
static inline void give_away(struct watched *watched)
{
    CHECK_INT(close(watched->writing), 0);
}

static inline bool is_free(const struct watched *watched)
{
    char byte;
    return read(watched->reading, &byte, 1) == 0;
}

static inline void unwatch(struct watched *watched)
{
    CHECK(is_free(watched));
    close(watched->reading);
}

/* How many have the number that they should, beginning with the argument. */
static inline int task_check(pp_task *task, const void *arg, size_t size)
{
    int first = size >= sizeof first ? read_int(arg) : 0, right = 0;
    for (size_t i = 0; i < pp_task_fd_count(task); i++)
        right += number_in(pp_task_fd(task, i)) == first + (int)i;
    return pp_task_return(task, &right, sizeof right);
}

/* As many as the argument says, and an int that says it. */
static inline int task_make(pp_task *task, const void *arg, size_t size)
{
    CHECK_INT(size, sizeof(int));
    for (int i = 0; i < read_int(arg); i++) {
        int fd = make_file(i);
        CHECK_INT(pp_task_return_fd(task, fd), 0);
        close(fd);
    }
    return pp_task_return(task, arg, size);
}

/* Gives back what came. */
static inline int task_pass(pp_task *task, const void *arg, size_t size)
{
    for (size_t i = 0; i < pp_task_fd_count(task); i++)
        CHECK_INT(pp_task_return_fd(task, pp_task_fd(task, i)), 0);
    return pp_task_return(task, arg, size);
}

/* How many the only worker of the pool has. */
static inline int fds_of(pp_pool *pool)
{
    return take_int(submit(pool, task_count_fds, NULL, 0));
}

#endif
