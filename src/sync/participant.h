/* SPDX-License-Identifier: MIT */
/*
 * Who of many processes holds how many, so that what a dead one held can be found and taken back. A process is known by
 * its number and the time of its start, since the number may be another's by now, and by where its stack begins: the
 * kernel finds a new place at each exec, and an image that another one has become holds nothing. All are of one PID
 * namespace.
 */
#ifndef PP_SYNC_PARTICIPANT_H
#define PP_SYNC_PARTICIPANT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define PP__HOLDERS_MAX 1024

/* In shared memory; all of it is written and read inside the gate of its object. One store counts, that of `units`: 0,
 * and the record is free. */
struct pp__holder {
    _Atomic uint32_t units;
    uint32_t pid;
    uint64_t start; /* clock ticks since boot; 0: not known */
    uint64_t image; /* the address of its stack's begin; 0: not known */
};

/* Records beyond `used` have never been any; it grows only. `capacity`, at most PP__HOLDERS_MAX, is private to each
 * handle. */
struct pp__holders {
    _Atomic uint32_t used;
    uint32_t padding;
    uint64_t swept; /* when, by somebody who waited */
    struct pp__holder records[];
};

/* The calling process has one more: false if there is no record for it. */
bool pp__holders_add(struct pp__holders *holders, uint32_t capacity);

/* One less: false if it has none. */
bool pp__holders_remove(struct pp__holders *holders, uint32_t capacity);

/* What all have together, the dead included. */
uint64_t pp__holders_sum(const struct pp__holders *holders, uint32_t capacity);

/* Frees the records of the dead: whether there were any. Takes some microseconds for each record in use. */
bool pp__holders_sweep(struct pp__holders *holders, uint32_t capacity);

/*
 * The same for somebody who waits and looks again and again: at the first look, of which *looked tells, and else if
 * nobody has done it for a sleep's bound.
 */
bool pp__holders_sweep_at_times(struct pp__holders *holders, uint32_t capacity, bool *looked);

/* Whether that process lives, and is what it was; one that has ended and was not waited for does not. In doubt it does.
 */
bool pp__participant_lives(uint32_t pid, uint64_t start, uint64_t image);

/*
 * The fork generation: tells the calling process from all those from which it was forked, and whose memory it has,
 * where its pid may be that of one which has ended. The same until its end. 0: there is no memory to know it, nor was
 * there in any of those.
 */
uint64_t pp__participant_generation(void);

#endif
