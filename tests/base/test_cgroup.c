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

static void find(const char *groups, const char *mounts, const char *controller, bool version_2,
                 struct pp__cgroup *found, bool expected)
{
    char groups_file[] = "/tmp/pp-groups-XXXXXX", mounts_file[] = "/tmp/pp-mounts-XXXXXX";
    write_file(groups_file, groups, strlen(groups));
    write_file(mounts_file, mounts, strlen(mounts));
    bool is_found = pp__cgroup_find(groups_file, mounts_file, controller, version_2, found);
    CHECK_INT(unlink(groups_file) + unlink(mounts_file), 0);
    CHECK_INT(is_found, expected);
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
    struct pp__cgroup found;
    CHECK(!pp__cgroup_find("/nowhere/at/all", "/proc/self/mountinfo", "cpu", true, &found));
    CHECK(!pp__cgroup_find("/proc/self/cgroup", "/nowhere/at/all", "cpu", true, &found));
    find("garbage\n::\n", "garbage\n - \n1 2 3 4 - cgroup2\n", "cpu", true, &found, false);
}

static void note(const char *directory, void *count)
{
    ++*(int *)count;
    CHECK_INT(directory[0], '/');
}

TEST(the_groups_of_this_process_are_visited_up_to_the_mount_point)
{
    struct pp__cgroup group;
    int count = 0, expected = 0;
    for (int version_2 = 0; version_2 <= 1; version_2++) {
        if (!pp__cgroup_find("/proc/self/cgroup", "/proc/self/mountinfo", "memory", version_2, &group))
            continue;
        expected++;
        for (const char *at = group.directory + group.point; *at; at++)
            expected += *at == '/';
    }
    pp__cgroup_each("memory", note, &count);
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
