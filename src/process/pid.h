/* SPDX-License-Identifier: MIT */
/* Telling a process from a later one with its number. For any thread. */
#ifndef PP_PROCESS_PID_H
#define PP_PROCESS_PID_H

#include <stdint.h>
#include <sys/types.h>

/* When the process started, in the kernel's ticks; 0: there is none (any more), or none can be seen. Tells a pid from
 * its reuse. */
uint64_t pp__process_start(pid_t pid);

/* A pidfd, not adopted yet; -1 and errno. */
int pp__pidfd_open(pid_t pid);

#endif
