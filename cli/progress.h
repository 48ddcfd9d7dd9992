/* SPDX-License-Identifier: MIT */
/* The bar: one line on standard error that is drawn over itself at most ten times a second, only on a terminal. */
#ifndef PROCPOOL_CLI_PROGRESS_H
#define PROCPOOL_CLI_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PROGRESS_EVERY_MS 100

struct progress {
    bool enabled;
    size_t columns;        /* that the drawn bar covers; 0: none is on the screen */
    uint64_t started;      /* ms */
    uint64_t drawn;        /* ms, when */
    uint64_t total_inputs; /* 0: unknown */
    uint64_t total_bytes;  /* of input, used when the number of inputs is unknown; 0: unknown too */
};

struct progress_state {
    uint64_t done; /* inputs that have ended, failed ones included */
    uint64_t failed;
    uint64_t bytes; /* of those inputs, separators included */
};

/* Milliseconds on a clock that only goes forward. */
uint64_t now_ms(void);

void progress_open(struct progress *progress, bool wanted, uint64_t total_inputs, uint64_t total_bytes);

/* Draws the bar if it is time to. */
void progress_update(struct progress *progress, const struct progress_state *state);

/* Takes the bar off the screen, before anything else is printed and at the end. */
void progress_clear(struct progress *progress);

#endif
