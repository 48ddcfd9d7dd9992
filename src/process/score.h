/* SPDX-License-Identifier: MIT */
/* When memory runs out, workers go before their owner: the kernel's score of one is higher by as much. Raising it needs
 * no right, and not being able to is no failure. */
#ifndef PP_PROCESS_SCORE_H
#define PP_PROCESS_SCORE_H

#include <sys/types.h>

/* What the calling process had. */
struct pp__score {
    int fd; /* -1: it was not raised */
    ssize_t size;
    char text[16];
};

/* Raises that of the calling process, and so that of the children that it makes from here on. */
void pp__score_raise(struct pp__score *before);

/* Gives it back what it had; `before` is not closed by this. */
void pp__score_lower(const struct pp__score *before);

void pp__score_close(const struct pp__score *before);

#endif
