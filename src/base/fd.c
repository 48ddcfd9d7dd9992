/* SPDX-License-Identifier: MIT */
#include "base/fd.h"

#include "base/error.h"
#include "base/seam.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <pthread.h>
#include <stdalign.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

/* One bit for each descriptor. Grows, never shrinks: as large as the largest descriptor ever was. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t *registered;
static size_t words;

static int reserve(int fd)
{
    size_t needed = (size_t)fd / 64 + 1;
    if (needed <= words)
        return 0;
    uint64_t *grown = PP_SYS(realloc)(registered, needed * 2 * sizeof *grown);
    if (!grown)
        return pp__fail(-ENOMEM, "no memory to note descriptor %d", fd);
    memset(grown + words, 0, (needed * 2 - words) * sizeof *grown);
    registered = grown;
    words = needed * 2;
    return 0;
}

static void mark(int fd, bool ours)
{
    size_t word = (size_t)fd / 64;
    uint64_t bit = UINT64_C(1) << (fd % 64);
    if (word < words)
        registered[word] = ours ? registered[word] | bit : registered[word] & ~bit;
}

static int fail_descriptor(int error, const char *what)
{
    if (error == EMFILE)
        return pp__fail(-EMFILE, "%s: too many open files (RLIMIT_NOFILE; raise it with ulimit -n or setrlimit)", what);
    if (error == ENFILE)
        return pp__fail(-ENFILE, "%s: too many open files in the system (fs.file-max)", what);
    return pp__fail_errno(error, "%s", what);
}

/* The floor is wished for, not needed: with a low RLIMIT_NOFILE the place is anywhere from 3 on. */
static int move_up(int fd)
{
    int place = PP_SYS(fcntl)(fd, F_DUPFD_CLOEXEC, PP__FD_FLOOR);
    if (place < 0 && (errno == EINVAL || errno == EMFILE))
        place = PP_SYS(fcntl)(fd, F_DUPFD_CLOEXEC, 3);
    return place;
}

/* Under the lock. */
static int copy(int fd, const char *what)
{
    int place = move_up(fd);
    int error = place < 0 ? fail_descriptor(errno, what) : reserve(place);
    if (error == 0)
        mark(place, true);
    else if (place >= 0)
        close(place);
    return error ? error : place;
}

int pp__fd_adopt(int fd, const char *what)
{
    if (fd < 0)
        return fail_descriptor(errno, what);
    pthread_mutex_lock(&lock);
    int place = copy(fd, what);
    close(fd);
    pthread_mutex_unlock(&lock);
    return place;
}

int pp__fd_copy(int fd, const char *what)
{
    pthread_mutex_lock(&lock);
    int place = copy(fd, what);
    pthread_mutex_unlock(&lock);
    return place;
}

void pp__fd_hand_out(int fd)
{
    pthread_mutex_lock(&lock);
    mark(fd, false);
    pthread_mutex_unlock(&lock);
}

void pp__fd_close(int fd)
{
    if (fd < 0)
        return;
    pthread_mutex_lock(&lock);
    mark(fd, false);
    close(fd);
    pthread_mutex_unlock(&lock);
}

int pp__fd_socketpair(int pair[2])
{
    int raw[2];
    if (PP_SYS(socketpair)(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, raw) != 0)
        return fail_descriptor(errno, "a pair of sockets");
    int first = pp__fd_adopt(raw[0], "a socket");
    int second = pp__fd_adopt(raw[1], "a socket");
    if (first < 0 || second < 0) {
        pp__fd_close(first);
        pp__fd_close(second);
        return first < 0 ? first : second;
    }
    pair[0] = first;
    pair[1] = second;
    return 0;
}

int pp__fd_event(void)
{
    return pp__fd_adopt(PP_SYS(eventfd)(0, EFD_CLOEXEC | EFD_NONBLOCK), "an eventfd");
}

void pp__fd_clear(int fd)
{
    uint64_t count;
    while (PP_SYS(read)(fd, &count, sizeof count) < 0 && errno == EINTR) {
    }
}

/* A full one is emptied first, so that this ring is told to who is told by edges; one that is full again was rung by
 * somebody else. */
int pp__fd_ring(int fd)
{
    uint64_t one = 1;
    for (bool emptied = false;;) {
        if (PP_SYS(write)(fd, &one, sizeof one) >= 0 || (errno == EAGAIN && emptied))
            return 0;
        if (errno == EAGAIN) {
            pp__fd_clear(fd);
            emptied = true;
        } else if (errno != EINTR) {
            return -errno;
        }
    }
}

int pp__fd_send(int socket, const void *message, size_t size, const int *fds, size_t count)
{
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(PP__FD_SEND_MAX * sizeof(int))];
    } control;
    struct iovec vector = {.iov_base = (void *)message, .iov_len = size};
    struct msghdr header = {.msg_iov = &vector, .msg_iovlen = 1};
    if (count > 0) {
        memset(&control, 0, CMSG_SPACE(count * sizeof(int)));
        header.msg_control = control.room;
        header.msg_controllen = CMSG_SPACE(count * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&header);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(c), fds, count * sizeof(int));
    }
    for (;;) {
        if (PP_SYS(sendmsg)(socket, &header, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
            return 0;
        if (errno != EINTR)
            return errno == ECONNRESET ? -EPIPE : -errno;
    }
}

int pp__fd_look(struct pollfd *set, size_t count)
{
    for (;;) {
        int ready = PP_SYS(poll)(set, count, 0);
        if (ready >= 0 || errno != EINTR)
            return ready >= 0 ? ready : -errno;
    }
}

/* Adopts what came with a message; all or nothing. Too many is what it is also where some were lost. */
static int adopt_received(struct msghdr *header, int *fds, size_t room, size_t *count)
{
    int error = 0;
    size_t have = 0, seen = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c; c = CMSG_NXTHDR(header, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t came = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < came; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
            if (seen++ >= room || error) {
                close(fd);
                continue;
            }
            int ours = pp__fd_adopt(fd, "a received descriptor");
            if (ours >= 0)
                fds[have++] = ours;
            else
                error = ours;
        }
    }
    if (seen > room)
        error = -EMSGSIZE;
    else if (!error && header->msg_flags & MSG_CTRUNC)
        error = fail_descriptor(EMFILE, "a descriptor sent by another process");
    while (error && have > 0)
        pp__fd_close(fds[--have]);
    *count = have;
    return error;
}

ssize_t pp__fd_receive(int socket, void *message, size_t room, int *fds, size_t *count, int flags)
{
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE((PP__FD_SEND_MAX + 1) * sizeof(int))];
    } control;
    size_t none = 0, *came = count ? count : &none;
    size_t most =
        *came < PP__FD_SEND_MAX ? *came + 1 : PP__FD_SEND_MAX + 1; /* one more, to be told that it is too many */
    struct iovec vector = {.iov_base = message, .iov_len = room};
    struct msghdr header = {.msg_iov = &vector,
                            .msg_iovlen = 1,
                            .msg_control = control.room,
                            .msg_controllen = CMSG_SPACE(most * sizeof(int))};
    ssize_t size;
    bool reset =
        false; /* an end that died with our words unread says so once, before what it had sent itself: look again */
    do {
        size = PP_SYS(recvmsg)(socket, &header, flags | MSG_CMSG_CLOEXEC);
    } while (size < 0 && (errno == EINTR || (errno == ECONNRESET && !reset && (reset = true))));
    if (size < 0) {
        *came = 0;
        if (errno == ENOMEM)
            return pp__fail(-ENOMEM, "no memory to receive what another process has sent");
        return errno == ECONNRESET ? 0 : -errno;
    }
    int error = adopt_received(&header, fds, *came, came);
    if (error)
        return error;
    if (!(header.msg_flags & MSG_TRUNC))
        return size;
    while (*came > 0)
        pp__fd_close(fds[--*came]);
    return -EMSGSIZE;
}

void pp__fd_lock(void)
{
    pthread_mutex_lock(&lock);
}

void pp__fd_unlock(void)
{
    pthread_mutex_unlock(&lock);
}

static bool kept(int fd, const int *keep, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (keep[i] == fd)
            return true;
    return false;
}

/* The child has one thread, and was perhaps forked with the lock held by it, which is over. */
void pp__fd_close_inherited(const int *keep, size_t count)
{
    (void)pthread_mutex_trylock(&lock); /* not made anew: thread sanitizer would take it for held */
    pthread_mutex_unlock(&lock);
    for (size_t word = 0; word < words; word++) {
        for (int bit = 0; bit < 64; bit++) {
            int fd = (int)(word * 64) + bit;
            if (!(registered[word] >> bit & 1) || kept(fd, keep, count))
                continue;
            mark(fd, false);
            close(fd);
        }
    }
}

/* Without memory, which this may share with others. */
static void close_listed(unsigned from, unsigned to)
{
    alignas(struct dirent64) char room[1024];
    int directory = PP_SYS(open)("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (ssize_t size; directory >= 0 && (size = getdents64(directory, room, sizeof room)) > 0;)
        for (ssize_t at = 0; at < size; at += ((struct dirent64 *)(room + at))->d_reclen) {
            int fd = atoi(((struct dirent64 *)(room + at))->d_name); /* of "." and "..": 0 */
            if (fd >= (int)from && (unsigned)fd <= to && fd != directory)
                close(fd);
        }
    if (directory >= 0)
        close(directory);
}

/* The kernel has had close_range since 5.9; sandboxes that are older refuse it. */
static void close_between(unsigned from, unsigned to)
{
    if (PP_SYS(close_range)(from, to, 0) != 0)
        close_listed(from, to);
}

/* The least that is kept, from `from` on; UINT_MAX: there is none. */
static unsigned next_kept(unsigned from, const int *keep, size_t count)
{
    unsigned next = UINT_MAX;
    for (size_t i = 0; i < count; i++)
        if (keep[i] >= 0 && (unsigned)keep[i] >= from && (unsigned)keep[i] < next)
            next = (unsigned)keep[i];
    return next;
}

void pp__fd_close_from(int first, const int *keep, size_t count)
{
    unsigned from = (unsigned)first, next;
    while ((next = next_kept(from, keep, count)) != UINT_MAX) {
        if (next > from)
            close_between(from, next - 1);
        from = next + 1;
    }
    close_between(from, UINT_MAX);
}
