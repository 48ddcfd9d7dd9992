/* SPDX-License-Identifier: MIT */
/* When memory runs out, workers go before their owner: the kernel's score of one is higher by as much. Raising it needs
 * no right, and not being able to is no failure. */
#ifndef PP_PROCESS_SCORE_H
#define PP_PROCESS_SCORE_H

#include <stdbool.h>
#include <sys/types.h>

/* What a process had. */
struct pp__score {
    bool raised;
    ssize_t size;
    char text[16];
};

/* That of the calling process, for the others: one of the library's descriptors, or a negative one, with which nothing
 * is raised. */
int pp__score_open(void);

/* Raises it, and so that of the children that the process makes from here on. */
void pp__score_raise(int score, struct pp__score *before);

/* Gives it back what it had. */
void pp__score_lower(int score, const struct pp__score *before);

#endif
