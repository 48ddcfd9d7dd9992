/* SPDX-License-Identifier: MIT */
/*
 * Test seams. In a build with PP_SEAMS
 *   - PP_SYS(call) goes through a table, so that a test can make any system call or allocation fail, and
 *   - PP_FAULT("place") is a named fault point, at which a test can kill, stop, end, hold up or signal the process that
 * gets there. In a release build the first is the call itself and the second is nothing.
 *
 * Whatever asks the kernel, the allocator or the loader for something, and may be refused, is called by PP_SYS, whether
 * the refusal is an error or got over. Called directly is only
 *   - what can't fail with the arguments that we give it (getpid, sysconf of a page's size, PR_SET_NAME, a mutex
 * without attributes),
 *   - what leaves nothing to do when it fails (close, munmap, a futex's wake, flags of a descriptor that is there),
 *   - what computes and asks nobody (strings, memory, formats), and streams once they are open,
 *   - what runs in a signal handler, or in the probe, whose calls are only made to see whether they return.
 * tests/install/direct.sh compares the objects with the list of these, tests/install/direct.
 *
 * Orders for fault points lie in memory that forked children share; fresh images take one from the environment:
 * PROCPOOL_FAULT=place:n:kill|stop|exit|abort (at the n-th time, counted over all processes together).
 */
#ifndef PP_BASE_SEAM_H
#define PP_BASE_SEAM_H

#ifdef PP_SEAMS

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

/* In groups: memory; files; descriptors; waiting; sockets; processes; the loader. */
#define PP__SYSTEM_CALLS(CALL)                                                                                         \
    CALL(malloc)                                                                                                       \
    CALL(calloc)                                                                                                       \
    CALL(realloc)                                                                                                      \
    CALL(strdup)                                                                                                       \
    CALL(mmap)                                                                                                         \
    CALL(mremap)                                                                                                       \
    CALL(mprotect)                                                                                                     \
    CALL(madvise)                                                                                                      \
    CALL(memfd_create)                                                                                                 \
    CALL(ftruncate)                                                                                                    \
    CALL(posix_fallocate)                                                                                              \
    CALL(fallocate)                                                                                                    \
    CALL(open)                                                                                                         \
    CALL(fopen)                                                                                                        \
    CALL(opendir)                                                                                                      \
    CALL(read)                                                                                                         \
    CALL(pread)                                                                                                        \
    CALL(write)                                                                                                        \
    CALL(pwrite)                                                                                                       \
    CALL(stat)                                                                                                         \
    CALL(lstat)                                                                                                        \
    CALL(fstat)                                                                                                        \
    CALL(fstatfs)                                                                                                      \
    CALL(fstatvfs)                                                                                                     \
    CALL(access)                                                                                                       \
    CALL(readlink)                                                                                                     \
    CALL(realpath)                                                                                                     \
    CALL(fcntl)                                                                                                        \
    CALL(ioctl)                                                                                                        \
    CALL(dup2)                                                                                                         \
    CALL(dup3)                                                                                                         \
    CALL(close_range)                                                                                                  \
    CALL(eventfd)                                                                                                      \
    CALL(signalfd)                                                                                                     \
    CALL(timerfd_create)                                                                                               \
    CALL(timerfd_settime)                                                                                              \
    CALL(epoll_create1)                                                                                                \
    CALL(epoll_ctl)                                                                                                    \
    CALL(epoll_wait)                                                                                                   \
    CALL(epoll_pwait)                                                                                                  \
    CALL(poll)                                                                                                         \
    CALL(ppoll)                                                                                                        \
    CALL(socket)                                                                                                       \
    CALL(socketpair)                                                                                                   \
    CALL(bind)                                                                                                         \
    CALL(listen)                                                                                                       \
    CALL(accept4)                                                                                                      \
    CALL(connect)                                                                                                      \
    CALL(getsockname)                                                                                                  \
    CALL(getsockopt)                                                                                                   \
    CALL(sendmsg)                                                                                                      \
    CALL(recvmsg)                                                                                                      \
    CALL(recv)                                                                                                         \
    CALL(fork)                                                                                                         \
    CALL(clone)                                                                                                        \
    CALL(execv)                                                                                                        \
    CALL(execve)                                                                                                       \
    CALL(execvp)                                                                                                       \
    CALL(waitid)                                                                                                       \
    CALL(waitpid)                                                                                                      \
    CALL(kill)                                                                                                         \
    CALL(prctl)                                                                                                        \
    CALL(syscall)                                                                                                      \
    CALL(process_vm_readv)                                                                                             \
    CALL(chdir)                                                                                                        \
    CALL(setenv)                                                                                                       \
    CALL(getrandom)                                                                                                    \
    CALL(setpriority)                                                                                                  \
    CALL(sched_getcpu)                                                                                                 \
    CALL(sched_getaffinity)                                                                                            \
    CALL(sched_setaffinity)                                                                                            \
    CALL(pthread_create)                                                                                               \
    CALL(pthread_mutex_init)                                                                                           \
    CALL(atexit)                                                                                                       \
    CALL(on_exit)                                                                                                      \
    CALL(at_quick_exit)                                                                                                \
    CALL(dlopen)                                                                                                       \
    CALL(dlsym)                                                                                                        \
    CALL(dlinfo)

struct pp__sys {
#define PP__ENTRY(call) __typeof__(call) *call; // NOLINT: the name of a member
    PP__SYSTEM_CALLS(PP__ENTRY)
#undef PP__ENTRY
};

extern struct pp__sys pp__sys;

#define PP_SYS(call) (pp__sys.call)

enum pp__fault_action {
    PP__FAULT_NONE,
    PP__FAULT_KILL,
    PP__FAULT_STOP,
    PP__FAULT_EXIT,
    PP__FAULT_ABORT,
    PP__FAULT_HANG,
    PP__FAULT_SIGNAL /* SIGUSR1, to the thread that gets there */
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
