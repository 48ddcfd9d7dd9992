/* SPDX-License-Identifier: MIT */
/*
 * Where inputs come from: the arguments, or the lines of standard input. It is asked by the map, one input at a time,
 * and never blocks where it can be helped: when a pipe or a terminal has nothing yet it says so, and results that are
 * ready meanwhile come out. Reads ahead by one buffer only, so a source of any length is as good as a short one.
 */
#ifndef PROCPOOL_CLI_INPUT_H
#define PROCPOOL_CLI_INPUT_H

#include <procpool.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct input {
    char **arguments; /* NULL: lines are read */
    size_t argument_count;
    size_t next_argument;

    char ending;     /* of a line */
    bool regular;    /* a file that is read without asking whether it is ready */
    uint64_t length; /* bytes of a regular file from here to its end, else 0 */
    char *buffer;    /* what was read and not yet given out is from start to end */
    size_t capacity;
    size_t start;
    size_t scanned; /* no line ends between start and here */
    size_t end;
    bool at_end;
    bool waiting; /* the last attempt found nothing to read yet */
    int error;    /* errno of a read that failed, which ended the input */

    size_t out_bytes; /* of the inputs that were given out and whose results have not been taken */
};

/* 0, or -ENOMEM. `count` 0 means standard input. */
int input_open(struct input *input, char **arguments, size_t count, char ending);

/* A pp_map_source; `context` is the struct input. */
int input_next(void *context, pp_map_input *next);

/* To be told when the result of an input of `size` bytes has been taken. */
void input_done(struct input *input, size_t size);

/* Sleeps until there is something to read, at most `timeout` ms. */
void input_wait(const struct input *input, int timeout);

void input_close(struct input *input);

#endif
