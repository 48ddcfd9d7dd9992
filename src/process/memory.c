/* SPDX-License-Identifier: MIT */
#include "process/memory.h"

#include "base/cgroup.h"
#include "base/lines.h"
#include "base/seam.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define VERSION_1_FILE "memory.oom_control"
#define VERSION_2_FILE "memory.events"

/* Version 1 first: where both are, version 2 does not account for memory. */
bool pp__memory_find(const char *groups, const char *mounts, char path[PP__COUNTER_PATH_MAX])
{
    struct pp__cgroup group;
    for (int version_2 = 0; version_2 <= 1; version_2++) {
        if (!pp__cgroup_find(groups, mounts, "memory", version_2, &group) || !group.within)
            continue;
        int size =
            snprintf(path, PP__COUNTER_PATH_MAX, "%s/%s", group.directory, version_2 ? VERSION_2_FILE : VERSION_1_FILE);
        if (size < PP__COUNTER_PATH_MAX)
            return true;
    }
    return false;
}

void pp__memory_counter(pid_t pid, char path[PP__COUNTER_PATH_MAX])
{
    char groups[32];
    snprintf(groups, sizeof groups, "/proc/%d/cgroup", (int)pid);
    if (!pp__memory_find(groups, "/proc/self/mountinfo", path) || PP_SYS(access)(path, R_OK) != 0)
        strcpy(path, PP__COUNTER_OF_MACHINE);
}

bool pp__memory_forgets_zombies(const char *path)
{
    const char *name = strrchr(path, '/');
    return name && strcmp(name + 1, VERSION_1_FILE) == 0;
}

/* All three have it in a line of its own: "oom_kill 3". */
uint64_t pp__memory_kills(const char *path)
{
    struct pp__lines lines;
    unsigned long long kills = 0;
    pp__lines_open(&lines, path);
    for (const char *line = pp__lines_next(&lines); line; line = pp__lines_next(&lines))
        if (sscanf(line, "oom_kill %llu", &kills) == 1)
            break;
    pp__lines_close(&lines);
    return kills;
}
