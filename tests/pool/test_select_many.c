/* SPDX-License-Identifier: MIT */
/* pp_select with more items than the process may have descriptors, with several that ask about one descriptor. */
#include "process_kit.h"

#include <limits.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "lost_kit.h"

enum { MANY = 1000, DESCRIPTORS = 64 };

static void lower_limit(void)
{
    struct rlimit limit;
    CHECK_INT(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = DESCRIPTORS;
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void pair(int ends[2])
{
    CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
}

TEST(more_futures_than_descriptors_can_be_waited_for)
{
    pp_future *futures[MANY];
    pp_selectable items[MANY] = {0};
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 1}, PP_START_FORK);
    for (int i = 0; i < MANY; i++) {
        CHECK_OK(pp_future_create(pool, &futures[i]));
        items[i] = (pp_selectable){.kind = PP_SELECT_FUTURE, .future = futures[i]};
    }
    lower_limit();
    CHECK_INT(pp_select(items, MANY, 0), -ETIMEDOUT);
    CHECK_INT(pp_select(items, MANY, 10), -ETIMEDOUT);
    CHECK_OK(pp_future_set_result(futures[MANY - 2], NULL, 0));
    CHECK_INT(pp_select(items, MANY, -1), 1);
    for (int i = 0; i < MANY; i++) {
        CHECK_INT(items[i].ready, i == MANY - 2);
        pp_future_unref(futures[i]);
    }
    pp_pool_destroy(pool);
}

TEST(a_descriptor_can_be_in_more_items_than_there_may_be_descriptors)
{
    int ends[2];
    pp_selectable items[MANY] = {0};
    pair(ends);
    lower_limit();
    for (int i = 0; i < MANY; i++)
        items[i] = (pp_selectable){.kind = PP_SELECT_FD, .fd = ends[0]};
    CHECK_INT(pp_select(items, MANY, 10), -ETIMEDOUT);
    CHECK_INT(write(ends[1], "x", 1), 1);
    CHECK_INT(pp_select(items, MANY, -1), MANY);
    for (int i = 0; i < MANY; i++)
        CHECK_INT(items[i].ready, POLLIN);
    close(ends[0]);
    close(ends[1]);
}

TEST(items_of_one_descriptor_are_told_of_their_own_events_only)
{
    int ends[2], other[2];
    pair(ends);
    pair(other);
    pp_selectable items[] = {{.kind = PP_SELECT_FD, .fd = ends[0]},
                             {.kind = PP_SELECT_FD, .fd = other[0]},
                             {.kind = PP_SELECT_FD, .fd = ends[0], .events = POLLOUT},
                             {.kind = PP_SELECT_FD, .fd = ends[0], .events = POLLIN | POLLOUT}};
    CHECK_INT(pp_select(items, 4, -1), 2);
    const int writable[] = {0, 0, POLLOUT, POLLOUT}, both[] = {POLLIN, 0, POLLOUT, POLLIN | POLLOUT};
    for (int i = 0; i < 4; i++)
        CHECK_INT(items[i].ready, writable[i]);
    CHECK_INT(write(ends[1], "x", 1), 1);
    CHECK_INT(pp_select(items, 4, -1), 3);
    for (int i = 0; i < 4; i++)
        CHECK_INT(items[i].ready, both[i]);
    close(ends[1]);
    CHECK_INT(pp_select(items, 4, -1), 3);
    CHECK_INT(items[0].ready & (POLLIN | POLLHUP | POLLOUT), POLLIN | POLLHUP);
    CHECK(items[2].ready & POLLHUP);
    close(ends[0]);
    close(other[0]);
    close(other[1]);
}

TEST(a_sentinel_and_its_process_can_be_among_the_items)
{
    pp_process *process = start_int(PP_START_FORK, run_return, 0);
    pp_selectable items[] = {{.kind = PP_SELECT_PROCESS, .process = process},
                             {.kind = PP_SELECT_FD, .fd = pp_process_fd(process)},
                             {.kind = PP_SELECT_PROCESS, .process = process}};
    CHECK_INT(pp_select(items, 3, -1), 3);
    CHECK_INT(items[0].ready, 1);
    CHECK(items[1].ready & POLLIN);
    CHECK_INT(items[2].ready, 1);
    CHECK_INT(finish_process(process), 0);
}

TEST(more_open_descriptors_than_the_limit_allows_are_refused)
{
    enum { OPEN = 2 * DESCRIPTORS };
    pp_selectable items[OPEN] = {0};
    if (TEST_ON_VALGRIND)
        LEFT_OUT("valgrind keeps a limit of descriptors of its own");
    for (int i = 0; i < OPEN; i++) {
        items[i] = (pp_selectable){.kind = PP_SELECT_FD, .fd = fcntl(0, F_DUPFD_CLOEXEC, 0), .events = POLLPRI};
        CHECK(items[i].fd >= 0);
    }
    lower_limit();
    CHECK_INT(pp_select(items, OPEN, 0), -EINVAL);
    for (int i = 0; i < OPEN; i++)
        close(items[i].fd);
}

TEST(events_that_poll_does_not_know_are_refused)
{
    pp_selectable item = {.kind = PP_SELECT_FD, .fd = 0, .events = SHRT_MAX + 1};
    CHECK_INT(pp_select(&item, 1, 0), -EINVAL);
    CHECK_HAS(pp_last_error(), "events");
    item.events = -1;
    CHECK_INT(pp_select(&item, 1, 0), -EINVAL);
    item.events = 1 << 16 | POLLIN;
    CHECK_INT(pp_select(&item, 1, 0), -EINVAL);
}
