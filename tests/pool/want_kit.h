/* SPDX-License-Identifier: MIT */
/*
 * Want at every place: an armed step fails, once, in the process that armed it. A test puts those of the failing calls
 * that it wants into pp__sys, in a constructor, so that they are in images of the forkserver too, and keeps what was
 * there in `real`.
 */
#ifndef PP_TESTS_POOL_WANT_KIT_H
#define PP_TESTS_POOL_WANT_KIT_H

#include "harness.h"

#include "base/seam.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static _Atomic long countdown; /* the step that fails; 0: none */
static _Atomic pid_t failing;  /* the process in which */
static _Atomic long hits;
static long last_armed;
static struct pp__sys real;

static inline bool fails(int error)
{
    if (atomic_load(&countdown) <= 0 || atomic_load(&failing) != getpid() || atomic_fetch_sub(&countdown, 1) != 1)
        return false;
    atomic_fetch_add(&hits, 1);
    errno = error;
    return true;
}

static inline void *failing_malloc(size_t size)
{
    return fails(ENOMEM) ? NULL : real.malloc(size);
}

static inline void *failing_calloc(size_t count, size_t size)
{
    return fails(ENOMEM) ? NULL : real.calloc(count, size);
}

static inline void *failing_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    return fails(ENOMEM) ? MAP_FAILED : real.mmap(at, size, protection, flags, fd, offset);
}

static inline int failing_socketpair(int domain, int type, int protocol, int pair[2])
{
    return fails(EMFILE) ? -1 : real.socketpair(domain, type, protocol, pair);
}

static inline ssize_t failing_sendmsg(int socket, const struct msghdr *message, int flags)
{
    return fails(ENOBUFS) ? -1 : real.sendmsg(socket, message, flags);
}

static inline int failing_memfd_create(const char *name, unsigned flags)
{
    return fails(EMFILE) ? -1 : real.memfd_create(name, flags);
}

static inline int failing_eventfd(unsigned count, int flags)
{
    return fails(ENFILE) ? -1 : real.eventfd(count, flags);
}

static inline int failing_epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event)
{
    return fails(ENOMEM) ? -1 : real.epoll_ctl(epoll, operation, fd, event);
}

static inline void arm(long n)
{
    last_armed = n;
    atomic_store(&hits, 0);
    atomic_store(&failing, getpid());
    atomic_store(&countdown, n);
}

/* Whether the failure came. */
static inline bool disarm(void)
{
    atomic_store(&countdown, 0);
    return atomic_load(&hits) > 0;
}

#endif
