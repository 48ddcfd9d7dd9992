/* SPDX-License-Identifier: MIT */
/*
 * The library's own descriptors. Each is close-on-exec, lies at PP__FD_FLOOR or above (never on 0, 1 or 2, and
 * where a program that closes "everything" by habit and opens its own files rarely meets it), and is registered, so
 * that a forked zygote can close those of the whole owner. All functions may be called from any thread.
 */
#ifndef PP_BASE_FD_H
#define PP_BASE_FD_H

#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PP__FD_FLOOR 200

/* Takes over `fd` (as a system call returned it; negative: errno is passed on): the same file at a place of ours,
 * registered; the old number is closed. Returns the new one or a negative errno, naming RLIMIT_NOFILE where that is it.
 */
int pp__fd_adopt(int fd, const char *what);

/* A copy of `fd`, which stays the caller's: likewise. -EBADF and as above. */
int pp__fd_copy(int fd, const char *what);

/* It is no longer ours, and somebody else's to close. */
void pp__fd_hand_out(int fd);

/* Closes and forgets it; -1 is allowed. */
void pp__fd_close(int fd);

/* A pair of connected seqpacket sockets. */
int pp__fd_socketpair(int pair[2]);

/* An eventfd that never blocks. */
int pp__fd_event(void);

/* Adds 1 to an eventfd, which is emptied if it is full. -EBADF or another errno if it is none any more. */
int pp__fd_ring(int fd);

/* Empties an eventfd. */
void pp__fd_clear(int fd);

/*
 * Sends one message with up to PP__FD_SEND_MAX descriptors, never blocking and never raising SIGPIPE: 0, -EAGAIN
 * (full), -EPIPE (the other end is gone), -ETOOMANYREFS and other errnos.
 */
#define PP__FD_SEND_MAX 253 /* the kernel's SCM_MAX_FD */
int pp__fd_send(int socket, const void *message, size_t size, const int *fds, size_t count);

/*
 * Receives one message: its size, with the descriptors in fds (adopted; *count is the room, then how many came). 0: the
 * other end is gone; -EAGAIN: nothing there and `flags` has MSG_DONTWAIT; -EMFILE: descriptors were lost on the way
 * (the message is gone, those that came are closed); -EMSGSIZE: larger than `room`, or more descriptors
 * than *count (the message is gone, all of them are closed). Unless a message came *count is 0 then.
 */
ssize_t pp__fd_receive(int socket, void *message, size_t room, int *fds, size_t *count, int flags);

/* poll without waiting, which a signal does not interrupt (poll with a timeout of 0 fails with EINTR): how many are
 * ready, or a negative errno. */
int pp__fd_look(struct pollfd *set, size_t count);

/* The registry's lock, to be held over a fork so that no descriptor is made and not yet registered in the child. */
void pp__fd_lock(void);
void pp__fd_unlock(void);

/* In a child just forked under the lock: closes all registered descriptors but `keep`, and takes the registry over. */
void pp__fd_close_inherited(const int *keep, size_t count);

/* Closes every descriptor from `first` on but `keep`. */
void pp__fd_close_from(int first, const int *keep, size_t count);

#endif
