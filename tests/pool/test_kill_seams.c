/* SPDX-License-Identifier: MIT */
/* needs: seams */
/* What is asked of a zygote whose socket is full is asked again. */
#include "processes_kit.h"

#include "base/seam.h"

#include <sys/socket.h>

static ssize_t (*real_sendmsg)(int, const struct msghdr *, int);
static _Atomic int refusals; /* still to come */

static ssize_t refuse_some(int fd, const struct msghdr *message, int flags)
{
    if (atomic_load(&refusals) > 0 && atomic_fetch_sub(&refusals, 1) > 0) {
        errno = EAGAIN;
        return -1;
    }
    return real_sendmsg(fd, message, flags);
}

static pp_pool *open_refusing(pp_future **running)
{
    pp_pool *pool = open_workers(1, PP_START_FORK);
    occupy_at(pool, 1, 1, running);
    real_sendmsg = pp__sys.sendmsg;
    atomic_store(&refusals, 3);
    pp__sys.sendmsg = refuse_some;
    return pool;
}

static void expect_signal(pp_pool *pool, pp_future *running, int number)
{
    CHECK_INT(error_of(running, PP_ERROR_CRASH)->signal, number);
    CHECK(atomic_load(&refusals) <= 0);
    pp_future_unref(running);
    pp_pool_destroy(pool);
    pp__sys.sendmsg = real_sendmsg;
}

TEST(a_termination_that_could_not_be_asked_for_is_asked_for_again)
{
    pp_future *running;
    pp_pool *pool = open_refusing(&running);
    CHECK_OK(pp_pool_terminate(pool));
    expect_signal(pool, running, SIGTERM);
}

TEST(a_kill_of_all_that_could_not_be_asked_for_is_asked_for_again)
{
    pp_future *running;
    pp_pool *pool = open_refusing(&running);
    CHECK_OK(pp_pool_kill(pool));
    expect_signal(pool, running, SIGKILL);
}

TEST(a_kill_of_one_call_that_could_not_be_asked_for_is_asked_for_again)
{
    pp_future *running;
    pp_pool *pool = open_refusing(&running);
    CHECK_OK(pp_future_kill(running));
    expect_signal(pool, running, SIGKILL);
}
