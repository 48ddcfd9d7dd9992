/* SPDX-License-Identifier: MIT */
/* What calls write to standard output and standard error, in a pool that captures it: the worker's side; the owner's is
 * in output.h. */
#ifndef PP_POOL_CAPTURE_H
#define PP_POOL_CAPTURE_H

#include "pool/channel.h"

#include <stdbool.h>
#include <sys/types.h>

/* A file that waits to be emptied until the owner has read it is not added to beyond that. */
#define PP__CAPTURE_BEHIND (UINT64_C(4) << 20)

struct pp__capture {
    bool on;
    uint64_t limit;
    struct pp__captured_stream {
        int file; /* -1: it is not captured */
        dev_t device;
        ino_t inode;   /* what a task may have put in its place is not touched */
        int elsewhere; /* where the stream leads between calls; -1: nowhere */
        bool redirected;
        bool lost; /* the file was not there when it was measured last */
    } streams[PP__STREAMS];
};

/* Takes the files that came ahead of the order. 0, or a negative errno and its text. */
int pp__capture_open(struct pp__capture *capture, int socket, const struct pp__capture_order *order);

/* Before a call: where its output begins. True: the files should be emptied before there is one. */
bool pp__capture_measure(struct pp__capture *capture, uint64_t begin[PP__STREAMS]);

/*
 * Whether a call whose output begins there is to wait until the owner has read all that was told: the files are large,
 * or have no room for what is kept of it (RLIMIT_FSIZE), of which it would die.
 */
bool pp__capture_is_full(const struct pp__capture *capture, const uint64_t at[PP__STREAMS]);

/* Empties the files: the owner has read all that was told. */
void pp__capture_empty(const struct pp__capture *capture);

/* Around a call, its streams flushed before both. After the second, end and dropped are there. */
void pp__capture_begin(struct pp__capture *capture);
void pp__capture_end(struct pp__capture *capture, struct pp__output_record *output);

#endif
