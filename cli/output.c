/* SPDX-License-Identifier: MIT */
#include "output.h"

#include "interrupt.h"
#include "say.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCK ((size_t)64 << 10)
#define OLD_MS 50
#define NUDGE_MS 100

int output_open(struct output *output, struct progress *bar)
{
    *output = (struct output){.terminal = isatty(STDOUT_FILENO), .bar = bar, .block = malloc(BLOCK)};
    return output->block ? 0 : -ENOMEM;
}

/* Deals with a write that wrote nothing. 0: try again. */
static int write_failed(struct output *output)
{
    if (errno == EINTR && !interrupt_signal())
        return 0;
    if (errno == EAGAIN) { /* somebody else made the descriptor non-blocking */
        struct pollfd ready = {.fd = STDOUT_FILENO, .events = POLLOUT};
        poll(&ready, 1, NUDGE_MS);
        if (!interrupt_signal())
            return 0;
        errno = EINTR;
    }
    output->error = errno;
    return -1;
}

static int write_all(struct output *output, const char *data, size_t size)
{
    if (output->error)
        return -1;
    if (output->terminal && output->bar)
        progress_clear(output->bar);
    while (size > 0) {
        ssize_t written = write(STDOUT_FILENO, data, size);
        if (written < 0) {
            if (write_failed(output) != 0)
                return -1;
            continue;
        }
        data += written;
        size -= (size_t)written;
    }
    return 0;
}

/* Writes what tasks in this process, or the library's constructors, have printed by stdio. That drops what a
 * non-blocking descriptor does not take, so there is room before it begins. */
static int flush_stdio(struct output *output)
{
    struct pollfd ready = {.fd = STDOUT_FILENO, .events = POLLOUT};
    if (__fpending(stdout) == 0)
        return 0;
    if (output->terminal && output->bar)
        progress_clear(output->bar);
    for (int found = 0; found <= 0 && !interrupt_signal();) {
        found = poll(&ready, 1, NUDGE_MS);
        if (found < 0 && errno != EINTR)
            break;
    }
    if (fflush(stdout) == 0)
        return 0;
    output->error = errno;
    return -1;
}

int output_flush(struct output *output)
{
    size_t size = output->used;
    output->used = 0;
    if (output->error || flush_stdio(output) != 0)
        return -1;
    return size ? write_all(output, output->block, size) : 0;
}

int output_put(struct output *output, const void *data, size_t size)
{
    if (size > BLOCK - output->used && output_flush(output) != 0)
        return -1;
    if (size > BLOCK)
        return write_all(output, data, size);
    if (size == 0)
        return 0;
    if (output->used == 0)
        output->since = now_ms();
    memcpy(output->block + output->used, data, size);
    output->used += size;
    return 0;
}

int output_end_line(struct output *output, char ending)
{
    if (output_put(output, &ending, 1) != 0)
        return -1;
    if (output->terminal || output->by_lines || now_ms() - output->since >= OLD_MS)
        return output_flush(output);
    return 0;
}

/* Closes a copy, at which a file system tells as much: what destructors print at exit still has a place to go. */
static int close_copy(void)
{
    int copy = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    return close(copy < 0 ? STDOUT_FILENO : copy);
}

int output_close(struct output *output)
{
    int failed = output_flush(output);
    free(output->block);
    output->block = NULL;
    if (failed)
        return -1;
    if (close_copy() != 0 && errno != EBADF && errno != EINTR) {
        output->error = errno;
        return -1;
    }
    return 0;
}

bool output_abandoned(struct output *output)
{
    struct pollfd end = {.fd = STDOUT_FILENO};
    if (poll(&end, 1, 0) != 1 || !(end.revents & (POLLERR | POLLHUP)))
        return false;
    output->error = output->terminal ? EIO : EPIPE;
    return true;
}

int output_only(const char *text)
{
    struct output output;
    if (output_open(&output, NULL) != 0)
        output.error = ENOMEM;
    else if (output_put(&output, text, strlen(text)) == 0)
        output_close(&output);
    if (output.error)
        say("standard output: %s", strerror(output.error));
    return output.error ? EXIT_FAILED : EXIT_DONE;
}
