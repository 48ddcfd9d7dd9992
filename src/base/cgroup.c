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

/* Of two versions; or a line that is of no group of the controller's. */
enum { VERSION_1, VERSION_2, NEITHER };

/* A line is "number:controllers:path", of version 2 without controllers. Which version's group it tells of. */
static int match_group(char *line, const char *controller, const char **path)
{
    char *controllers = strchr(line, ':'), *rest = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!rest)
        return NEITHER;
    *controllers++ = *rest++ = '\0';
    *path = rest;
    return *controllers == '\0' ? VERSION_2 : lists(controllers, controller) ? VERSION_1 : NEITHER;
}

/* The first of each; "" where there is none. */
static void find_paths(const char *groups, const char *controller, char paths[NEITHER][PATH_MAX])
{
    struct pp__lines lines;
    paths[VERSION_1][0] = paths[VERSION_2][0] = '\0';
    pp__lines_open(&lines, groups);
    for (char *line = pp__lines_next(&lines); line; line = pp__lines_next(&lines)) {
        const char *path;
        int version = match_group(line, controller, &path);
        if (version != NEITHER && !*paths[version])
            snprintf(paths[version], PATH_MAX, "%s", path);
    }
    pp__lines_close(&lines);
}

struct mount {
    const char *root, *point;
};

/* A line is "id parent device root point options... - type source options". Of which version the controller's
 * hierarchy is that is mounted there. */
static int match_mount(char *line, const char *controller, struct mount *mount)
{
    char *rest = strstr(line, " - "), *place = line, *field[5] = {NULL}, *type[3] = {NULL};
    if (!rest)
        return NEITHER;
    *rest = '\0';
    rest += strlen(" - ");
    for (int i = 0; i < 5; i++)
        field[i] = strsep(&place, " ");
    for (int i = 0; i < 3; i++)
        type[i] = strsep(&rest, " ");
    if (!field[4] || !type[2])
        return NEITHER;
    *mount = (struct mount){.root = field[3], .point = field[4]};
    if (strcmp(type[0], "cgroup2") == 0)
        return VERSION_2;
    return strcmp(type[0], "cgroup") == 0 && lists(type[2], controller) ? VERSION_1 : NEITHER;
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
static void look_at_mount(const struct mount *mount, const char *group, struct pp__cgroup *found)
{
    if (!*group || found->within || place_in(mount, group, found) || *found->directory)
        return;
    snprintf(found->directory, sizeof found->directory, "%s", mount->point);
    found->point = strlen(found->directory);
}

/* Whether no mount could tell more. */
static bool is_settled(const char *group, const struct pp__cgroup *found)
{
    return !*group || found->within;
}

static bool all_settled(char paths[NEITHER][PATH_MAX], const struct pp__cgroup found[PP__CGROUP_VERSIONS])
{
    return is_settled(paths[VERSION_1], &found[VERSION_1]) && is_settled(paths[VERSION_2], &found[VERSION_2]);
}

/* The kernel writes both files anew for each who reads them, which takes longer than all that is done with them: each
 * is read once. */
void pp__cgroup_find(const char *groups, const char *mounts, const char *controller,
                     struct pp__cgroup found[PP__CGROUP_VERSIONS])
{
    char paths[NEITHER][PATH_MAX];
    struct pp__lines lines;
    struct mount mount;
    find_paths(groups, controller, paths);
    for (int version = 0; version < PP__CGROUP_VERSIONS; version++) {
        found[version].directory[0] = '\0';
        found[version].within = false;
    }
    if (all_settled(paths, found))
        return;
    pp__lines_open(&lines, mounts);
    for (char *line; !all_settled(paths, found) && (line = pp__lines_next(&lines));) {
        int version = match_mount(line, controller, &mount);
        if (version != NEITHER)
            look_at_mount(&mount, paths[version], &found[version]);
    }
    pp__lines_close(&lines);
}

void pp__cgroup_find_own(const char *controller, struct pp__cgroup found[PP__CGROUP_VERSIONS])
{
    pp__cgroup_find("/proc/self/cgroup", "/proc/self/mountinfo", controller, found);
}

static void visit_upwards(const struct pp__cgroup *group, void (*visit)(const char *, void *), void *data)
{
    char directory[sizeof group->directory];
    snprintf(directory, sizeof directory, "%s", group->directory);
    visit(directory, data);
    while (strlen(directory) > group->point) {
        *strrchr(directory, '/') = '\0';
        visit(directory, data);
    }
}

void pp__cgroup_each(const struct pp__cgroup groups[PP__CGROUP_VERSIONS],
                     void (*visit)(const char *directory, void *data), void *data)
{
    for (int version = 0; version < PP__CGROUP_VERSIONS; version++)
        if (*groups[version].directory)
            visit_upwards(&groups[version], visit, data);
}
