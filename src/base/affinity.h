/* SPDX-License-Identifier: MIT */
/* The processors that the calling thread may run on, changed for a while. Not under a filter of system calls that may
 * kill for it. */
#ifndef PP_BASE_AFFINITY_H
#define PP_BASE_AFFINITY_H

#include <sched.h>
#include <stdbool.h>

/* Leaves `processor`, if it may run on another one: *before is for pp__affinity_restore, by this thread or a fork of
 * it. False: it may not, and nothing is to be restored. */
bool pp__affinity_leave(unsigned processor, cpu_set_t *before);

/* The same to `processor`, if it may run on that one. */
bool pp__affinity_enter(unsigned processor, cpu_set_t *before);

/* What is set from outside meanwhile is lost. */
void pp__affinity_restore(const cpu_set_t *before);

#endif
