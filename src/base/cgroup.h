/* SPDX-License-Identifier: MIT */
/*
 * Control groups: in which one a process is, and where its files are. Of version 1, with a hierarchy for each
 * controller or some together, and of version 2, with one for all; a system may have both. For any thread; reads files.
 */
#ifndef PP_BASE_CGROUP_H
#define PP_BASE_CGROUP_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

struct pp__cgroup {
    char directory[PATH_MAX]; /* "": there is none, or it is not mounted */
    size_t point; /* so long is its beginning that is the mount point, the outermost group that can be seen */
    bool within;  /* it is the group's own; else no mount shows that, and it is the mount point alone */
};

#define PP__CGROUP_VERSIONS 2

/* The groups with this controller ("cpu") of version 1 and of version 2, from files as /proc/PID/cgroup and
 * /proc/self/mountinfo. Of version 2 whether or not it has the controller. */
void pp__cgroup_find(const char *groups, const char *mounts, const char *controller,
                     struct pp__cgroup found[PP__CGROUP_VERSIONS]);

/* The same of this process. Takes 0.1 to 0.2 ms. */
void pp__cgroup_find_own(const char *controller, struct pp__cgroup found[PP__CGROUP_VERSIONS]);

/* Calls visit(directory, data) for the groups that were found and for each above them: a limit there holds for all
 * below. */
void pp__cgroup_each(const struct pp__cgroup groups[PP__CGROUP_VERSIONS],
                     void (*visit)(const char *directory, void *data), void *data);

/* The numbers at the beginning of a group's file: how many of both were there. "max" is none. */
int pp__cgroup_read(const char *directory, const char *file, long long *first, long long *second);

#endif
