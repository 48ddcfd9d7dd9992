/* SPDX-License-Identifier: MIT */
#include "base/clock.h"

#include <limits.h>

uint64_t pp__now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * PP__SECOND + (uint64_t)t.tv_nsec;
}

uint64_t pp__now_coarse(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    return (uint64_t)t.tv_sec * PP__SECOND + (uint64_t)t.tv_nsec;
}

uint64_t pp__deadline(int milliseconds)
{
    if (milliseconds < 0)
        return PP__NEVER;
    return pp__now() + (uint64_t)milliseconds * PP__MILLISECOND;
}

uint64_t pp__until(uint64_t deadline)
{
    if (deadline == PP__NEVER)
        return PP__NEVER;
    uint64_t now = pp__now();
    return deadline > now ? deadline - now : 0;
}

int pp__to_milliseconds(uint64_t nanoseconds)
{
    if (nanoseconds == PP__NEVER)
        return -1;
    uint64_t ms = nanoseconds / PP__MILLISECOND + (nanoseconds % PP__MILLISECOND != 0);
    return ms > INT_MAX ? INT_MAX : (int)ms;
}

struct timespec pp__to_timespec(uint64_t nanoseconds)
{
    return (struct timespec){.tv_sec = (time_t)(nanoseconds / PP__SECOND), .tv_nsec = (long)(nanoseconds % PP__SECOND)};
}
