/* SPDX-License-Identifier: MIT */
/* The lines of a file, one after another, without memory from the heap or a stream: for any thread, and in a fork of a
 * process with many. */
#ifndef PP_BASE_LINES_H
#define PP_BASE_LINES_H

#include <stdbool.h>
#include <stddef.h>

struct pp__lines {
    int fd;
    size_t at, used;
    bool passing; /* over the rest of a line that has no room */
    char text[4096];
};

/* A file that can't be read has no lines. To be closed in any case. */
void pp__lines_open(struct pp__lines *lines, const char *path);

/* The next one, without its end, to be written to until the next call; NULL: there is none. One that has no room in
 * `text` is passed over. */
char *pp__lines_next(struct pp__lines *lines);

void pp__lines_close(struct pp__lines *lines);

#endif
