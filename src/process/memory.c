/* SPDX-License-Identifier: MIT */
#include "process/memory.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define VERSION_1_FILE "memory.oom_control"
#define VERSION_2_FILE "memory.events"

/* As much as fits. */
static void read_text(const char *path, char *text, size_t room)
{
    size_t used = 0;
    ssize_t got = 1;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    while (fd >= 0 && got > 0 && used < room - 1) {
        got = read(fd, text + used, room - 1 - used);
        used += got > 0 ? (size_t)got : 0;
    }
    text[used] = '\0';
    if (fd >= 0)
        close(fd);
}

static const char *next_line(const char *line)
{
    const char *end = strchr(line, '\n');
    return end ? end + 1 : line + strlen(line);
}

/* Whether a list that ends before `end` has the word. */
static bool lists(const char *list, const char *end, const char *word)
{
    size_t size = strlen(word);
    for (; list < end; list++) {
        const char *comma = memchr(list, ',', (size_t)(end - list));
        if (!comma)
            comma = end;
        if ((size_t)(comma - list) == size && memcmp(list, word, size) == 0)
            return true;
        list = comma;
    }
    return false;
}

/* A group: "number:controllers:path", of version 2 with no controllers. */
static bool find_group(const char *groups, bool version_2, char path[PP__COUNTER_PATH_MAX])
{
    for (const char *line = groups; *line; line = next_line(line)) {
        const char *list = strchr(line, ':'), *colon = list ? strchr(list + 1, ':') : NULL;
        if (!colon)
            return false;
        if (version_2 ? colon != list + 1 : !lists(list + 1, colon, "memory"))
            continue;
        snprintf(path, PP__COUNTER_PATH_MAX, "%.*s", (int)strcspn(colon + 1, "\n"), colon + 1);
        return true;
    }
    return false;
}

/* A mount: "id parent device root point options... - type source options". What of `group` lies below the root lies there below the point. */
static bool is_mount(const char *line, bool version_2, const char *group, char path[PP__COUNTER_PATH_MAX])
{
    char root[PP__COUNTER_PATH_MAX], point[PP__COUNTER_PATH_MAX], type[16], options[256];
    const char *rest = strstr(line, " - ");
    if (!rest || rest > next_line(line) || sscanf(line, "%*s %*s %*s %511s %511s", root, point) != 2 ||
        sscanf(rest, " - %15s %*s %255s", type, options) != 2)
        return false;
    if (strcmp(type, version_2 ? "cgroup2" : "cgroup") != 0 ||
        (!version_2 && !lists(options, options + strlen(options), "memory")))
        return false;
    size_t above = strcmp(root, "/") == 0 ? 0 : strlen(root);
    if (strncmp(group, root, above) != 0 || (group[above] != '/' && group[above] != '\0'))
        return false;
    const char *below = strcmp(group + above, "/") == 0 ? "" : group + above;
    int size =
        snprintf(path, PP__COUNTER_PATH_MAX, "%s%s/%s", point, below, version_2 ? VERSION_2_FILE : VERSION_1_FILE);
    return size < PP__COUNTER_PATH_MAX;
}

/* Version 1 first: where both are, version 2 does not account for memory. */
bool pp__memory_find(const char *groups, const char *mounts, char path[PP__COUNTER_PATH_MAX])
{
    char group[PP__COUNTER_PATH_MAX];
    for (int version_2 = 0; version_2 <= 1; version_2++) {
        if (!find_group(groups, version_2, group))
            continue;
        for (const char *line = mounts; *line; line = next_line(line))
            if (is_mount(line, version_2, group, path))
                return true;
    }
    return false;
}

void pp__memory_counter(pid_t pid, char path[PP__COUNTER_PATH_MAX])
{
    static char groups[8192], mounts[1 << 18]; /* touched as far as they are filled */
    char file[32];
    snprintf(file, sizeof file, "/proc/%d/cgroup", (int)pid);
    read_text(file, groups, sizeof groups);
    read_text("/proc/self/mountinfo", mounts, sizeof mounts);
    if (!pp__memory_find(groups, mounts, path) || access(path, R_OK) != 0)
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
    char text[8192];
    unsigned long long kills = 0;
    read_text(path, text, sizeof text);
    for (const char *line = text; *line; line = next_line(line))
        if (sscanf(line, "oom_kill %llu", &kills) == 1)
            return kills;
    return 0;
}
