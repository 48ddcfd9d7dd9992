/* SPDX-License-Identifier: MIT */
/* In which control group a process is and where its files are, from the texts in which the kernel says so; and the
 * lines of such files. */
#include "harness.h"

#include "base/cgroup.h"
#include "base/lines.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char together[] = "34 31 0:31 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
                               "35 31 0:32 / /sys/fs/cgroup/pids rw shared:9 - cgroup cgroup rw,pids\n";
static const char part[] = "30 22 0:26 /docker/1234 /groups rw - cgroup2 cgroup rw\n";

static void write_file(char path[], const char *text, size_t size)
{
    int fd = mkstemp(path);
    CHECK(fd >= 0 && write(fd, text, size) == (ssize_t)size);
    close(fd);
}

static void find_both(const char *groups, const char *mounts, const char *controller,
                      struct pp__cgroup found[PP__CGROUP_VERSIONS])
{
    char groups_file[] = "/tmp/pp-groups-XXXXXX", mounts_file[] = "/tmp/pp-mounts-XXXXXX";
    write_file(groups_file, groups, strlen(groups));
    write_file(mounts_file, mounts, strlen(mounts));
    pp__cgroup_find(groups_file, mounts_file, controller, found);
    CHECK_INT(unlink(groups_file) + unlink(mounts_file), 0);
}

/* The group of one version. */
static void find(const char *groups, const char *mounts, const char *controller, bool version_2,
                 struct pp__cgroup *found, bool expected)
{
    struct pp__cgroup both[PP__CGROUP_VERSIONS];
    find_both(groups, mounts, controller, both);
    *found = both[version_2];
    CHECK_INT(*found->directory != '\0', expected);
}

static void check(const struct pp__cgroup *found, const char *directory, const char *point, bool within)
{
    CHECK_STR(found->directory, directory);
    CHECK_INT(found->point, strlen(point));
    CHECK_INT(found->within, within);
}

TEST(a_group_lies_below_the_mount_of_its_controller)
{
    struct pp__cgroup found;
    find("4:cpu,cpuacct:/a/b\n3:pids:/c\n0::/d\n", together, "cpu", false, &found, true);
    check(&found, "/sys/fs/cgroup/cpu,cpuacct/a/b", "/sys/fs/cgroup/cpu,cpuacct", true);
    find("4:cpu,cpuacct:/a/b\n3:pids:/c\n0::/d", together, "pids", false, &found, true);
    check(&found, "/sys/fs/cgroup/pids/c", "/sys/fs/cgroup/pids", true);
    find("4:cpu,cpuacct:/a/b\n", together, "pids", false, &found, false);
    find("4:cpu,cpuacct:/a/b\n0::/\n", together, "cpu", true, &found, false);
}

TEST(groups_of_both_versions_are_found_whatever_is_mounted_first)
{
    static const char first[] = "30 22 0:26 / /unified rw - cgroup2 cgroup2 rw\n"
                                "32 22 0:26 /a /again rw - cgroup2 cgroup2 rw\n"
                                "31 22 0:27 / /pids rw - cgroup cgroup rw,pids\n",
                      last[] = "31 22 0:27 / /pids rw - cgroup cgroup rw,pids\n"
                               "30 22 0:26 / /unified rw - cgroup2 cgroup2 rw\n";
    struct pp__cgroup found[PP__CGROUP_VERSIONS];
    for (int i = 0; i < 2; i++) {
        find_both("3:pids:/c\n0::/a/b\n2:pids:/other\n", i ? last : first, "pids", found);
        check(&found[0], "/pids/c", "/pids", true);
        check(&found[1], "/unified/a/b", "/unified", true);
    }
}

TEST(a_mount_of_a_part_shows_what_is_below_that)
{
    struct pp__cgroup found;
    find("0::/docker/1234/inner\n", part, "cpu", true, &found, true);
    check(&found, "/groups/inner", "/groups", true);
    find("0::/docker/1234\n", part, "cpu", true, &found, true);
    check(&found, "/groups", "/groups", true);
}

TEST(a_group_that_no_mount_shows_has_the_first_mount_point)
{
    struct pp__cgroup found;
    find("0::/../outside\n", part, "cpu", true, &found, true);
    check(&found, "/groups", "/groups", false);
    find("0::/elsewhere\n", "30 22 0:26 /docker/1 /one rw - cgroup2 cgroup rw\n30 22 0:26 / /all rw - cgroup2 c rw\n",
         "cpu", true, &found, true);
    check(&found, "/all/elsewhere", "/all", true);
}

TEST(what_is_no_group_is_not_found)
{
    struct pp__cgroup found, both[PP__CGROUP_VERSIONS];
    for (int i = 0; i < 2; i++) {
        pp__cgroup_find(i ? "/nowhere/at/all" : "/proc/self/cgroup", i ? "/proc/self/mountinfo" : "/nowhere/at/all",
                        "cpu", both);
        CHECK(!*both[0].directory && !*both[1].directory);
    }
    find("garbage\n::\n", "garbage\n - \n1 2 3 4 - cgroup2\n", "cpu", true, &found, false);
}

static void note(const char *directory, void *count)
{
    ++*(int *)count;
    CHECK_INT(directory[0], '/');
}

TEST(the_groups_of_this_process_are_visited_up_to_the_mount_point)
{
    struct pp__cgroup found[PP__CGROUP_VERSIONS];
    int count = 0, expected = 0;
    pp__cgroup_find_own("memory", found);
    for (int version = 0; version < PP__CGROUP_VERSIONS; version++) {
        if (!*found[version].directory)
            continue;
        expected++;
        for (const char *at = found[version].directory + found[version].point; *at; at++)
            expected += *at == '/';
    }
    pp__cgroup_each(found, note, &count);
    CHECK_INT(count, expected);
}

TEST(lines_come_one_by_one_and_one_without_room_is_passed_over)
{
    static struct pp__lines lines;
    static char text[3 * sizeof lines.text];
    char path[] = "/tmp/pp-lines-XXXXXX";
    memset(text, 'x', sizeof text);
    memcpy(text, "first\n\n", 7);
    text[2 * sizeof lines.text] = '\n';
    text[sizeof text - 101] = '\n';
    memset(text + 2 * sizeof lines.text + 1, 'y', sizeof text - 2 * sizeof lines.text - 102);
    write_file(path, text, sizeof text);
    pp__lines_open(&lines, path);
    CHECK_STR(pp__lines_next(&lines), "first");
    CHECK_STR(pp__lines_next(&lines), "");
    const char *line = pp__lines_next(&lines);
    CHECK(line && line[0] == 'y');
    CHECK_INT(strlen(line), sizeof lines.text - 102);
    line = pp__lines_next(&lines); /* without an end */
    CHECK(line && line[0] == 'x');
    CHECK_INT(strlen(line), 100);
    CHECK(!pp__lines_next(&lines));
    CHECK(!pp__lines_next(&lines));
    pp__lines_close(&lines);
    CHECK_INT(unlink(path), 0);
}

TEST(a_file_that_is_not_there_has_no_lines)
{
    struct pp__lines lines;
    pp__lines_open(&lines, "/nowhere/at/all");
    CHECK(!pp__lines_next(&lines));
    pp__lines_close(&lines);
}
