/* SPDX-License-Identifier: MIT */
/*
 * Whether the kernel has killed a process since memory ran out. It does not say so: a process that it kills looks like
 * any that got SIGKILL. But it counts, for each control group with memory to account for, and for the whole machine.
 * Called by the zygote.
 */
#ifndef PP_PROCESS_MEMORY_H
#define PP_PROCESS_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PP__COUNTER_PATH_MAX 512
#define PP__COUNTER_OF_MACHINE "/proc/vmstat"

/*
 * The file in which the kernel counts the kills in the control group of `pid`, which may be a zombie: memory.events or,
 * of version 1, memory.oom_control; or PP__COUNTER_OF_MACHINE, where it counts those of the whole machine, for a
 * process in no such group.
 */
void pp__memory_counter(pid_t pid, char path[PP__COUNTER_PATH_MAX]);

/* Whether that file is one of version 1, where each zombie seems to be in the outermost group. */
bool pp__memory_forgets_zombies(const char *path);

/* What it counts there; 0 if it can't be read. */
uint64_t pp__memory_kills(const char *path);

/* The same where it is open; -1 can't be read. */
uint64_t pp__memory_kills_in(int fd);

/* For tests, the first from other files than /proc/PID/cgroup and /proc/self/mountinfo. False: the process is in no
 * group with a counter. */
bool pp__memory_find(const char *groups, const char *mounts, char path[PP__COUNTER_PATH_MAX]);

#endif
