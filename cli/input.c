/* SPDX-License-Identifier: MIT */
#include "input.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUFFER ((size_t)128 << 10)
/* Inputs that are out, with what each costs besides its bytes, are no more than this: others wait until some are done.
 */
#define OUT_BYTES_MAX ((size_t)64 << 20)
#define INPUT_COST 512

/* A regular file's size is known, and its reads do not block. */
static void look_at_file(struct input *input)
{
    struct stat file;
    if (fstat(STDIN_FILENO, &file) != 0 || !S_ISREG(file.st_mode))
        return;
    off_t here = lseek(STDIN_FILENO, 0, SEEK_CUR);
    input->regular = true;
    if (here >= 0 && here < file.st_size)
        input->length = (uint64_t)(file.st_size - here);
}

int input_open(struct input *input, char **arguments, size_t count, char ending)
{
    *input = (struct input){.ending = ending};
    if (count > 0) {
        input->arguments = arguments;
        input->argument_count = count;
        return 0;
    }
    look_at_file(input);
    input->buffer = malloc(BUFFER);
    input->capacity = BUFFER;
    return input->buffer ? 0 : -ENOMEM;
}

static int next_argument(struct input *input, pp_map_input *next)
{
    if (input->next_argument == input->argument_count)
        return 0;
    next->data = input->arguments[input->next_argument++];
    next->size = strlen(next->data);
    return 1;
}

/* Room for more at the end of the buffer: what is left of it moves to the front, or a line that fills it makes it grow.
 * After a huge line it becomes small again. */
static int make_room(struct input *input)
{
    size_t left = input->end - input->start;
    size_t wanted = left == input->capacity ? input->capacity * 2 : input->capacity;
    if (left < BUFFER / 2 && input->capacity > BUFFER)
        wanted = BUFFER;
    if (left > 0 && input->start > 0)
        memmove(input->buffer, input->buffer + input->start, left);
    input->scanned -= input->start;
    input->start = 0;
    input->end = left;
    if (wanted == input->capacity)
        return 0;
    char *resized = realloc(input->buffer, wanted);
    if (!resized)
        return -ENOMEM;
    input->buffer = resized;
    input->capacity = wanted;
    return 0;
}

static bool readable(const struct input *input, int timeout)
{
    struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
    return input->regular || poll(&in, 1, timeout) == 1;
}

static int end_with(struct input *input, int error)
{
    input->error = error;
    input->at_end = true;
    input->end = input->start; /* the line that was cut short is no input */
    return -error;
}

/* Reads once. 0: more bytes or the end; -EAGAIN: nothing yet; another negative errno ends the input. */
static int fill(struct input *input)
{
    input->waiting = !readable(input, 0);
    if (input->waiting)
        return -EAGAIN;
    if (make_room(input) != 0)
        return end_with(input, ENOMEM);
    ssize_t got = read(STDIN_FILENO, input->buffer + input->end, input->capacity - input->end);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) {
        input->waiting = true;
        return -EAGAIN;
    }
    if (got < 0)
        return end_with(input, errno);
    input->at_end = got == 0;
    input->end += (size_t)got;
    return 0;
}

static int give_line(struct input *input, pp_map_input *next, size_t size, size_t ending)
{
    next->data = input->buffer + input->start;
    next->size = size;
    input->start += size + ending;
    input->scanned = input->start;
    return 1;
}

static int next_line(struct input *input, pp_map_input *next)
{
    for (;;) {
        size_t unseen = input->end - input->scanned;
        char *stop = unseen ? memchr(input->buffer + input->scanned, input->ending, unseen) : NULL;
        if (stop)
            return give_line(input, next, (size_t)(stop - input->buffer) - input->start, 1);
        input->scanned = input->end;
        if (input->at_end)
            return input->start < input->end ? give_line(input, next, input->end - input->start, 0) : 0;
        int code = fill(input);
        if (code != 0)
            return code;
    }
}

int input_next(void *context, pp_map_input *next)
{
    struct input *input = context;
    if (input->out_bytes > OUT_BYTES_MAX)
        return -EAGAIN;
    int code = input->arguments ? next_argument(input, next) : next_line(input, next);
    if (code == 1)
        input->out_bytes += next->size + INPUT_COST;
    return code;
}

void input_done(struct input *input, size_t size)
{
    input->out_bytes -= size + INPUT_COST;
}

void input_wait(const struct input *input, int timeout)
{
    if (input->waiting)
        readable(input, timeout);
}

void input_close(struct input *input)
{
    free(input->buffer);
    input->buffer = NULL;
}
