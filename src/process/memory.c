/* SPDX-License-Identifier: MIT */
#include "process/memory.h"

#include "base/cgroup.h"
#include "base/seam.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define VERSION_1_FILE "memory.oom_control"

/* Version 1 first: where both are, version 2 does not account for memory. */
bool pp__memory_find(const char *groups, const char *mounts, char path[PP__COUNTER_PATH_MAX])
{
    static const char *const files[PP__CGROUP_VERSIONS] = {VERSION_1_FILE, "memory.events"};
    struct pp__cgroup found[PP__CGROUP_VERSIONS];
    pp__cgroup_find(groups, mounts, "memory", found);
    for (int version = 0; version < PP__CGROUP_VERSIONS; version++) {
        if (!found[version].within)
            continue;
        int size = snprintf(path, PP__COUNTER_PATH_MAX, "%s/%s", found[version].directory, files[version]);
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

/* What is looked for, and how much of it is behind us: it goes on where the last piece of the file has ended. */
struct search {
    size_t matched;
    uint64_t kills;
};

/* True: the number is there, whole. */
static bool search_on(struct search *search, const char *text, size_t size)
{
    static const char name[] = "\noom_kill ";
    const size_t length = sizeof name - 1;
    for (const char *at = text; at < text + size; at++) {
        if (search->matched < length)
            search->matched = *at == name[search->matched] ? search->matched + 1 : *at == '\n';
        else if (*at >= '0' && *at <= '9')
            search->kills = 10 * search->kills + (uint64_t)(*at - '0');
        else
            return true;
    }
    return false;
}

/*
 * All three have it in a line of its own: "oom_kill 3". In small pieces: this is done before each fork, and what the
 * zygote writes to while it has children is copied for it, page by page.
 */
uint64_t pp__memory_kills_in(int fd)
{
    char text[256];
    struct search search = {.matched = 1}; /* as at the start of a line */
    ssize_t size;
    for (off_t at = 0; (size = PP_SYS(pread)(fd, text, sizeof text, at)) > 0; at += size)
        if (search_on(&search, text, (size_t)size))
            break;
    return search.kills;
}

uint64_t pp__memory_kills(const char *path)
{
    int fd = PP_SYS(open)(path, O_RDONLY | O_CLOEXEC);
    uint64_t kills = pp__memory_kills_in(fd);
    if (fd >= 0)
        close(fd);
    return kills;
}
