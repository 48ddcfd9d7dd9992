/* SPDX-License-Identifier: MIT */
/* The control groups that this process is in: their files say what it may have. */
#ifndef PP_POOL_CGROUP_H
#define PP_POOL_CGROUP_H

#include <stddef.h>

/*
 * Calls visit(directory, data) for the group with this controller ("cpu") and for each above it: a limit there holds for all below. Of version 1, and of
 * version 2, where the directories are there whether or not they have the controller. For any thread; reads files.
 */
void pp__cgroup_each(const char *controller, void (*visit)(const char *directory, void *data), void *data);

/* The numbers at the beginning of a group's file: how many of both were there. "max" is none. */
int pp__cgroup_read(const char *directory, const char *file, long long *first, long long *second);

#endif
