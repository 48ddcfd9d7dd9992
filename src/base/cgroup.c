/* SPDX-License-Identifier: MIT */
#include "base/cgroup.h"

#include "base/lines.h"
#include "base/seam.h"

#include <stdio.h>
#include <string.h>

int pp__cgroup_read(const char *directory, const char *file, long long *first, long long *second)
{
    char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/%s", directory, file);
    FILE *f = PP_SYS(fopen)(path, "re");
    if (!f)
        return 0;
    int got = fscanf(f, "%lld %lld", first, second);
    fclose(f);
    return got < 0 ? 0 : got;
}

/* Of "cpu,cpuacct", for example. */
static bool lists(const char *words, const char *word)
{
    size_t size = strlen(word);
    for (const char *at = words; at; at = strchr(at, ',')) {
        at += *at == ',';
        if (strncmp(at, word, size) == 0 && (at[size] == '\0' || at[size] == ','))
            return true;
    }
    return false;
}

/* A line is "number:controllers:path", of version 2 without controllers. Its path, or NULL. */
static const char *match_group(char *line, const char *controller, bool version_2)
{
    char *controllers = strchr(line, ':'), *path = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!path)
        return NULL;
    *controllers++ = *path++ = '\0';
    return (version_2 ? *controllers == '\0' : lists(controllers, controller)) ? path : NULL;
}

static bool find_group(const char *groups, const char *controller, bool version_2, char path[PATH_MAX])
{
    struct pp__lines lines;
    const char *matched = NULL;
    pp__lines_open(&lines, groups);
    for (char *line = pp__lines_next(&lines); line && !matched; line = pp__lines_next(&lines)) {
        matched = match_group(line, controller, version_2);
        if (matched)
            snprintf(path, PATH_MAX, "%s", matched);
    }
    pp__lines_close(&lines);
    return matched != NULL;
}

struct mount {
    const char *root, *point;
};

/* A line is "id parent device root point options... - type source options". Whether it is the controller's hierarchy
 * that is mounted. */
static bool match_mount(char *line, const char *controller, bool version_2, struct mount *mount)
{
    char *rest = strstr(line, " - "), *place = line, *field[5] = {NULL}, *type[3] = {NULL};
    if (!rest)
        return false;
    *rest = '\0';
    rest += strlen(" - ");
    for (int i = 0; i < 5; i++)
        field[i] = strsep(&place, " ");
    for (int i = 0; i < 3; i++)
        type[i] = strsep(&rest, " ");
    if (!field[4] || !type[2])
        return false;
    *mount = (struct mount){.root = field[3], .point = field[4]};
    return strcmp(type[0], version_2 ? "cgroup2" : "cgroup") == 0 && (version_2 || lists(type[2], controller));
}

/* What of the group's path lies below the mount's root lies there below its point. False: it does not lie there. */
static bool place_in(const struct mount *mount, const char *group, struct pp__cgroup *found)
{
    size_t above = strcmp(mount->root, "/") == 0 ? 0 : strlen(mount->root);
    if (strncmp(group, mount->root, above) != 0 || (group[above] != '/' && group[above] != '\0'))
        return false;
    const char *below = strcmp(group + above, "/") == 0 ? "" : group + above;
    size_t point = strlen(mount->point);
    if (point + strlen(below) >= sizeof found->directory)
        return false;
    snprintf(found->directory, sizeof found->directory, "%s%s", mount->point, below);
    found->point = point;
    found->within = true;
    return true;
}

/* Where no mount shows the group, the first of its hierarchy tells at least of what is mounted there. */
static bool find_mount(const char *mounts, const char *controller, bool version_2, const char *group,
                       struct pp__cgroup *found)
{
    struct pp__lines lines;
    bool some = false, within = false;
    pp__lines_open(&lines, mounts);
    for (char *line = pp__lines_next(&lines); line && !within; line = pp__lines_next(&lines)) {
        struct mount mount;
        if (!match_mount(line, controller, version_2, &mount))
            continue;
        within = place_in(&mount, group, found);
        if (within || some)
            continue;
        some = true;
        snprintf(found->directory, sizeof found->directory, "%s", mount.point);
        found->point = strlen(found->directory);
        found->within = false;
    }
    pp__lines_close(&lines);
    return some || within;
}

bool pp__cgroup_find(const char *groups, const char *mounts, const char *controller, bool version_2,
                     struct pp__cgroup *found)
{
    char group[PATH_MAX];
    return find_group(groups, controller, version_2, group) && find_mount(mounts, controller, version_2, group, found);
}

static void visit_upwards(struct pp__cgroup *group, void (*visit)(const char *, void *), void *data)
{
    visit(group->directory, data);
    while (strlen(group->directory) > group->point) {
        *strrchr(group->directory, '/') = '\0';
        visit(group->directory, data);
    }
}

void pp__cgroup_each(const char *controller, void (*visit)(const char *directory, void *data), void *data)
{
    struct pp__cgroup group;
    for (int version_2 = 0; version_2 <= 1; version_2++)
        if (pp__cgroup_find("/proc/self/cgroup", "/proc/self/mountinfo", controller, version_2, &group))
            visit_upwards(&group, visit, data);
}
