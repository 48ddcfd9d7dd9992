/* SPDX-License-Identifier: MIT */
/*
 * Standard output: gathered into blocks, line by line on a terminal. Nothing stays in the block for long: the caller
 * flushes when it has nothing else to do, and a block that is old is written although it is not full. What this process
 * has printed by stdio is written before each block: nothing of it is lost, however the program ends after a flush.
 */
#ifndef PROCPOOL_CLI_OUTPUT_H
#define PROCPOOL_CLI_OUTPUT_H

#include "progress.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct output {
    bool terminal;
    bool by_lines;        /* each line is written when it ends, as on a terminal */
    struct progress *bar; /* taken off the screen before a write to a terminal */
    char *block;
    size_t used;
    uint64_t since; /* ms, when the first byte came into the block */
    int error;      /* the errno of the write that failed; nothing is written after that */
};

/* 0, or -ENOMEM. */
int output_open(struct output *output, struct progress *bar);

/* These return 0, or -1 with output->error set; -1 with EINTR means that the program is to end by a signal. */
int output_put(struct output *output, const void *data, size_t size);
int output_end_line(struct output *output, char ending);
int output_flush(struct output *output);
int output_close(struct output *output); /* flushes; reports what a file system says as late as a close */

/* Prints a text that is all there is to print. Returns an exit status; what went wrong has been said. */
int output_only(const char *text);

/* Whether nobody reads any more, as far as can be known without writing. Sets output->error if so. */
bool output_abandoned(struct output *output);

#endif
