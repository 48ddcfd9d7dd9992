/* SPDX-License-Identifier: MIT */
/* Workers that write junk into the library's descriptors, take from them, or close them. */
#include "vandal_kit.h"

#include <sys/socket.h>

enum mischief { SEND_SOME, SEND_UNTIL_FULL, TAKE_ALL, SHUT_DOWN, CLOSE_SOCKET, FILL_EVENTS, EMPTY_EVENTS, MISCHIEFS };

static bool is_socket(int fd)
{
    int type;
    socklen_t size = sizeof type;
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0;
}

static void harm_socket(int fd, enum mischief mischief)
{
    char junk[200] = "junk";
    if (mischief == SEND_SOME)
        for (int i = 0; i < 5; i++)
            send(fd, junk, (size_t)(1 + i * 40), MSG_DONTWAIT | MSG_NOSIGNAL);
    while (mischief == SEND_UNTIL_FULL && send(fd, junk, sizeof junk, MSG_DONTWAIT | MSG_NOSIGNAL) > 0) {
    }
    while (mischief == TAKE_ALL && recv(fd, junk, sizeof junk, MSG_DONTWAIT) > 0) {
    }
    if (mischief == SHUT_DOWN)
        shutdown(fd, SHUT_RDWR);
    if (mischief == CLOSE_SOCKET)
        close(fd);
}

static void harm_events(int fd, enum mischief mischief)
{
    uint64_t most = UINT64_MAX - 1;
    if (mischief == FILL_EVENTS)
        CHECK(write(fd, &most, sizeof most) > 0 || errno == EAGAIN);
    if (mischief == EMPTY_EVENTS)
        CHECK(read(fd, &most, sizeof most) > 0 || errno == EAGAIN);
}

/* Whatever lies at 200 and above is the library's. Returns how many there are. */
static int task_harm_descriptors(pp_task *task, const void *arg, size_t size)
{
    enum mischief mischief;
    int count = 0;
    note_vandal();
    CHECK_INT(size, sizeof mischief);
    memcpy(&mischief, arg, size);
    for (int fd = 200; fd < 1000; fd++) {
        if (fcntl(fd, F_GETFD) < 0)
            continue;
        count++;
        if (is_socket(fd))
            harm_socket(fd, mischief);
        else
            harm_events(fd, mischief);
    }
    return pp_task_return(task, &count, sizeof count);
}

#define LARGE 200000

/* A large argument and a large result go through the socket. */
static pp_future *submit_large(pp_pool *pool, int index)
{
    static char data[LARGE];
    memset(data, index, sizeof data);
    return submit(pool, echo, data, sizeof data);
}

/* True if it succeeded, with the right result; it fails only in a worker whose descriptors were harmed. */
static bool check_large(pp_future *future, int index)
{
    const pp_error *error;
    const void *data;
    size_t size;
    CHECK_OK(pp_future_error(future, -1, &error));
    if (error) {
        CHECK_INT(error->tries, 1);
        if (!was_vandal(error->pid))
            harness_fail(__FILE__, __LINE__, "kind %d: %s", (int)error->kind, error->message);
        pp_future_unref(future);
        return false;
    }
    CHECK_OK(pp_future_view(future, 0, &data, &size));
    CHECK_INT(size, LARGE);
    for (size_t i = 0; i < size; i += 1000)
        CHECK_INT(((const char *)data)[i], index);
    pp_future_unref(future);
    return true;
}

/*
 * Harm, then large calls, many at once and one by one: each ends, and a harmed worker fails the first one for which it
 * needs what was harmed, at the latest. With a buffer for each call it needs no socket, and may have none from the last
 * time.
 */
static void run_mischief(pp_pool *pool, enum mischief mischief, int workers)
{
    pp_future *futures[20];
    int failed = 0;
    pp_future *bad = submit(pool, task_harm_descriptors, &mischief, sizeof mischief);
    for (int i = 0; i < 20; i++)
        futures[i] = submit_large(pool, i);
    int found = take_int(bad);
    CHECK(found == 2 || found == 1);
    for (int i = 0; i < 20; i++)
        check_large(futures[i], i);
    for (int i = 0; i < 10; i++)
        failed += !check_large(submit_large(pool, i), i);
    CHECK(failed <= workers);
    for (int i = 0; i < 20; i++)
        CHECK_INT(take_int(submit_int(pool, task_square, i)), i * i);
}

BOTH_WITHIN(junk_in_the_librarys_descriptors_costs_few_calls, 30)
{
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 1, .close_fds = 1}, method);
    for (enum mischief mischief = 0; mischief < MISCHIEFS; mischief++) {
        printf("mischief %d\n", (int)mischief);
        fflush(stdout);
        for (int i = 0; i < 5; i++)
            run_mischief(pool, mischief, 1);
    }
    pp_pool_destroy(pool);
}

BOTH_WITHIN(junk_in_one_workers_descriptors_leaves_the_others_alone, 30)
{
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 3, .close_fds = 1}, method);
    for (int i = 0; i < 3 * MISCHIEFS; i++)
        run_mischief(pool, (enum mischief)(i % MISCHIEFS), 3);
    pp_pool_destroy(pool);
}
