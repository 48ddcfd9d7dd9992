/* SPDX-License-Identifier: MIT */
/* What the kernel tells of a process in one line, /proc/PID/stat. For any thread, and after a fork: no lock is taken.
 */
#ifndef PP_BASE_STAT_H
#define PP_BASE_STAT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct pp__stat {
    char state;
    bool ending; /* its first thread has begun to end or has ended, or is to by a SIGKILL that it has not taken yet */
    uint64_t threads;
    uint64_t start; /* in the kernel's ticks since boot */
    uint64_t
        image; /* where its stack begins, another place after each exec; 0: of a process that we may not look into */
};

/* False: there is no such process, or it can't be read. */
bool pp__stat_read(pid_t pid, struct pp__stat *line);

/* It has ended and was not waited for; not so if it is only the first thread of a process whose others go on. */
bool pp__stat_has_ended(const struct pp__stat *line);

#endif
