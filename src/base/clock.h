/* SPDX-License-Identifier: MIT */
/* Time: nanoseconds of CLOCK_MONOTONIC, which owner and workers share; PP__NEVER is later than any. */
#ifndef PP_BASE_CLOCK_H
#define PP_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

#define PP__NEVER UINT64_MAX
#define PP__MICROSECOND UINT64_C(1000)
#define PP__MILLISECOND UINT64_C(1000000)
#define PP__SECOND UINT64_C(1000000000)

uint64_t pp__now(void);

/* The last tick of the same clock, some milliseconds ago at most, for a fifth of the price. */
uint64_t pp__now_coarse(void);

/* The moment `milliseconds` from now; negative is never. */
uint64_t pp__deadline(int milliseconds);

/* From now until `deadline`: 0 when it has passed, PP__NEVER for never. */
uint64_t pp__until(uint64_t deadline);

/* A duration for poll and epoll: rounded up, so that nobody wakes early and spins; -1 for never. */
int pp__to_milliseconds(uint64_t nanoseconds);

/* A duration of less than PP__NEVER as a timespec. */
struct timespec pp__to_timespec(uint64_t nanoseconds);

#endif
