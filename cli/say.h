/* SPDX-License-Identifier: MIT */
/* What the command says on standard error: each line in one write where there is room for it, nothing in it that could
 * upset a terminal. A full standard error is waited for, but not when the program is to end by a signal. A line that
 * can't be written is lost; the exit status still tells. */
#ifndef PROCPOOL_CLI_SAY_H
#define PROCPOOL_CLI_SAY_H

#include <stddef.h>

enum exit_status {
    EXIT_DONE = 0,
    EXIT_FAILED = 1, /* some inputs failed, or the work could not go on */
    EXIT_USAGE = 2
};

/* "procpool: TEXT". */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* "INPUT: REASON", the input cut when it is long. */
void say_failure(const void *input, size_t size, const char *reason);

/* The lines of `text` below it, set in. */
void say_below(const char *text);

#endif
