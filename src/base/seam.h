/* SPDX-License-Identifier: MIT */
/*
 * Test seams. In a build with PP_SEAMS
 *   - PP_SYS(call) goes through a table, so that a test can make any system call or allocation fail, and
 *   - PP_FAULT("place") is a named fault point, at which a test can kill, stop, end or hold up the process that gets there.
 * In a release build the first is the call itself and the second is nothing.
 *
 * Orders for fault points lie in memory that forked children share; fresh images take one from the environment:
 * PROCPOOL_FAULT=place:n:kill|stop|exit|abort (at the n-th time, counted over all processes together).
 */
#ifndef PP_BASE_SEAM_H
#define PP_BASE_SEAM_H

#ifdef PP_SEAMS

#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/types.h>

struct pp__sys {
    void *(*malloc)(size_t);
    void *(*calloc)(size_t, size_t);
    void *(*realloc)(void *, size_t);
    void *(*mmap)(void *, size_t, int, int, int, off_t);
    int (*memfd_create)(const char *, unsigned);
    int (*ftruncate)(int, off_t);
    int (*posix_fallocate)(int, off_t, off_t);
    int (*fcntl)(int, int, ...);
    int (*socketpair)(int, int, int, int[2]);
    int (*eventfd)(unsigned, int);
    int (*epoll_create1)(int);
    int (*epoll_ctl)(int, int, int, struct epoll_event *);
    ssize_t (*sendmsg)(int, const struct msghdr *, int);
    ssize_t (*recvmsg)(int, struct msghdr *, int);
    pid_t (*fork)(void);
    int (*pthread_create)(void *, const void *, void *(*)(void *), void *);
};

extern struct pp__sys pp__sys;

#define PP_SYS(call) (pp__sys.call)

enum pp__fault_action {
    PP__FAULT_NONE,
    PP__FAULT_KILL,
    PP__FAULT_STOP,
    PP__FAULT_EXIT,
    PP__FAULT_ABORT,
    PP__FAULT_HANG
};

/* From now on the `n`-th process or thread to reach `place` does `action`. Replaces an earlier order. */
void pp__fault_arm(const char *place, unsigned n, enum pp__fault_action action);
void pp__fault_disarm(void);

/* How often the armed place was reached. */
unsigned pp__fault_hits(void);

void pp__fault_reached(const char *place);

#define PP_FAULT(place) pp__fault_reached(place)

#else

#define PP_SYS(call) call
#define PP_FAULT(place) ((void)0)

#endif
#endif
