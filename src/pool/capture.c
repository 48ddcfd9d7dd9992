/* SPDX-License-Identifier: MIT */
/*
 * Descriptors 1 and 2 lead to the files only while a call runs. A task may do what it likes with descriptors, the
 * library's too: each step looks whether the file is still the one that came, and where it is not, the stream is simply
 * not captured.
 */
#include "pool/capture.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/seam.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* False: it is not there any more. */
static bool look_at(const struct pp__captured_stream *stream, uint64_t *size)
{
    struct stat status;
    *size = 0;
    if (stream->file < 0 || PP_SYS(fstat)(stream->file, &status) != 0 || status.st_dev != stream->device ||
        status.st_ino != stream->inode)
        return false;
    *size = (uint64_t)status.st_size;
    return true;
}

/* -------------------------------------------------------------------------------------------- open */

static int take_files(struct pp__capture *capture, uint32_t streams, const int *fds, size_t count)
{
    size_t next = 0;
    for (unsigned i = 0; i < PP__STREAMS; i++) {
        struct pp__captured_stream *stream = &capture->streams[i];
        struct stat status;
        *stream = (struct pp__captured_stream){.file = -1, .elsewhere = -1};
        if (!(streams >> i & 1) || next == count)
            continue;
        stream->file = fds[next++];
        if (PP_SYS(fstat)(stream->file, &status) != 0)
            return pp__fail_errno(errno, "a file for its output");
        stream->device = status.st_dev;
        stream->inode = status.st_ino;
    }
    return 0;
}

int pp__capture_open(struct pp__capture *capture, int socket, const struct pp__capture_order *order)
{
    struct pp__attachment message;
    int fds[PP__STREAMS];
    size_t count = PP__STREAMS;
    ssize_t got = pp__fd_receive(socket, &message, sizeof message, fds, &count, MSG_DONTWAIT);
    if (got < 0)
        return pp__fail((int)got, "the files for its output can't be received: %s", pp__strerror((int)-got));
    int error = take_files(capture, order->streams, fds, count);
    if (error)
        return error;
    capture->limit = order->limit;
    capture->on = true;
    /* What a task has printed when it dies is there, but for a line that it has not ended. */
    setvbuf(stdout, NULL, _IOLBF, 0);
    return 0;
}

/* ------------------------------------------------------------------------------------- around a call */

bool pp__capture_measure(struct pp__capture *capture, uint64_t begin[PP__STREAMS])
{
    bool some = false;
    for (unsigned i = 0; i < PP__STREAMS; i++) {
        capture->streams[i].lost = !look_at(&capture->streams[i], &begin[i]);
        some |= begin[i] > 0;
    }
    return some;
}

bool pp__capture_is_full(const struct pp__capture *capture, const uint64_t at[PP__STREAMS])
{
    struct rlimit limit;
    uint64_t most = at[0] > at[1] ? at[0] : at[1];
    if (most == 0 || most >= PP__CAPTURE_BEHIND)
        return most > 0;
    return getrlimit(RLIMIT_FSIZE, &limit) == 0 && most + capture->limit > limit.rlim_cur;
}

void pp__capture_empty(const struct pp__capture *capture)
{
    uint64_t size;
    for (unsigned i = 0; i < PP__STREAMS; i++)
        if (look_at(&capture->streams[i], &size) && size > 0 && PP_SYS(ftruncate)(capture->streams[i].file, 0) != 0)
            errno = 0; /* it grows */
}

/* Out of the task's way if there is a place. False: there is none, and so no way back. */
static bool put_aside(struct pp__captured_stream *stream, int fd)
{
    stream->elsewhere = PP_SYS(fcntl)(fd, F_DUPFD_CLOEXEC, PP__FD_FLOOR);
    if (stream->elsewhere < 0 && (errno == EINVAL || errno == EMFILE))
        stream->elsewhere = PP_SYS(fcntl)(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    return stream->elsewhere >= 0 || errno == EBADF;
}

/* Where the initializer has left the stream is where it leads outside calls. */
static void redirect(struct pp__captured_stream *stream, int fd)
{
    uint64_t size;
    stream->redirected = false;
    if (!look_at(stream, &size))
        return;
    fcntl(stream->file, F_SETFL,
          O_RDWR | O_APPEND); /* an earlier task may have changed that through its own descriptor */
    stream->redirected = put_aside(stream, fd) && PP_SYS(dup2)(stream->file, fd) == fd;
}

static void lead_back(struct pp__captured_stream *stream, int fd)
{
    if (stream->redirected && stream->elsewhere >= 0)
        PP_SYS(dup2)(stream->elsewhere, fd);
    else if (stream->redirected)
        close(fd);
    if (stream->elsewhere >= 0)
        close(stream->elsewhere);
    stream->elsewhere = -1;
}

void pp__capture_begin(struct pp__capture *capture)
{
    for (unsigned i = 0; i < PP__STREAMS; i++)
        redirect(&capture->streams[i], (int)i + 1);
}

void pp__capture_end(struct pp__capture *capture, struct pp__output_record *output)
{
    for (unsigned i = 0; i < PP__STREAMS; i++) {
        struct pp__captured_stream *stream = &capture->streams[i];
        uint64_t most = output->begin[i] + capture->limit;
        lead_back(stream, (int)i + 1);
        look_at(stream, &output->end[i]);
        if (output->end[i] <= most)
            continue;
        output->dropped[i] = output->end[i] - most;
        output->end[i] = most;
        /* The size stays: what the owner lets go of at the same time (pp__output_trim, output.c) is nothing of the next
         * call's. */
        if (PP_SYS(fallocate)(stream->file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)most,
                              (off_t)output->dropped[i]) != 0)
            errno = 0; /* it is not read */
    }
}
