/* SPDX-License-Identifier: MIT */
#include "pool/cgroup.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MOUNT "/sys/fs/cgroup"

int pp__cgroup_read(const char *directory, const char *file, long long *first, long long *second)
{
    char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/%s", directory, file);
    FILE *f = fopen(path, "re");
    if (!f)
        return 0;
    int got = fscanf(f, "%lld %lld", first, second);
    fclose(f);
    return got < 0 ? 0 : got;
}

static void visit_upwards(const char *mount, char *path, void (*visit)(const char *, void *), void *data)
{
    for (;;) {
        char directory[PATH_MAX];
        if (snprintf(directory, sizeof directory, "%s%s", mount, path) < (int)sizeof directory)
            visit(directory, data);
        char *slash = strrchr(path, '/');
        if (!slash || path[1] == 0)
            return;
        slash[slash == path] = 0; /* "/a" becomes "/", "/a/b" becomes "/a" */
    }
}

/* Of "cpu,cpuacct", for example. */
static int lists(const char *controllers, const char *controller)
{
    size_t size = strlen(controller);
    for (const char *at = controllers; at; at = strchr(at, ',')) {
        at += *at == ',';
        if (strncmp(at, controller, size) == 0 && (at[size] == 0 || at[size] == ','))
            return 1;
    }
    return 0;
}

/* A line is "number:controllers:path"; version 2 has no controllers. Those of version 1 are mounted by their names, one or all of a list. */
static void visit_line(char *line, const char *controller, void (*visit)(const char *, void *), void *data)
{
    char mount[PATH_MAX];
    char *controllers = strchr(line, ':');
    char *path = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!path || path[1] != '/')
        return;
    *path++ = 0;
    controllers++;
    if (*controllers == 0) {
        visit_upwards(MOUNT, path, visit, data);
    } else if (lists(controllers, controller)) {
        snprintf(mount, sizeof mount, MOUNT "/%s", controllers);
        if (access(mount, F_OK) != 0)
            snprintf(mount, sizeof mount, MOUNT "/%s", controller);
        visit_upwards(mount, path, visit, data);
    }
}

void pp__cgroup_each(const char *controller, void (*visit)(const char *directory, void *data), void *data)
{
    char line[PATH_MAX + 128];
    FILE *f = fopen("/proc/self/cgroup", "re");
    while (f && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        visit_line(line, controller, visit, data);
    }
    if (f)
        fclose(f);
}
