/* SPDX-License-Identifier: MIT */
/* Where the kernel counts whom it has killed for want of memory: from the texts in which it says so. */
#include "kit.h"
#include "process/memory.h"

#include <stdlib.h>

static const char version_1[] = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n";
static const char together[] =
    "34 31 0:31 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "35 31 0:32 / /sys/fs/cgroup/both rw,relatime shared:9 - cgroup cgroup rw,cpuset,memory\n";
static const char version_2[] = "22 1 8:1 / / rw - ext4 /dev/root rw\n"
                                "30 22 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
static const char container[] = "30 22 0:26 /docker/1234 /sys/fs/cgroup rw - cgroup2 cgroup rw\n";

static void write_file(char path[], const char *text)
{
    int fd = mkstemp(path);
    CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
}

static void check_found(const char *groups, const char *mounts, const char *expected)
{
    char groups_file[] = "/tmp/pp-groups-XXXXXX", mounts_file[] = "/tmp/pp-mounts-XXXXXX";
    char path[PP__COUNTER_PATH_MAX] = "";
    write_file(groups_file, groups);
    write_file(mounts_file, mounts);
    bool found = pp__memory_find(groups_file, mounts_file, path);
    CHECK_INT(unlink(groups_file) + unlink(mounts_file), 0);
    CHECK_INT(found, expected != NULL);
    if (expected)
        CHECK_STR(path, expected);
}

TEST(a_group_of_version_1_is_found)
{
    check_found("9:name=systemd:/\n4:memory:/a/b\n0::/\n", version_1, "/sys/fs/cgroup/memory/a/b/memory.oom_control");
    check_found("4:cpuset,memory:/a\n3:cpu,cpuacct:/b\n", together, "/sys/fs/cgroup/both/a/memory.oom_control");
    check_found("4:memory:/\n", version_1, "/sys/fs/cgroup/memory/memory.oom_control");
}

TEST(a_group_of_version_2_is_found)
{
    check_found("0::/user.slice/session-1.scope\n", version_2,
                "/sys/fs/cgroup/user.slice/session-1.scope/memory.events");
    check_found("0::/\n", version_2, "/sys/fs/cgroup/memory.events");
}

TEST(a_group_is_found_through_a_mount_of_a_part)
{
    check_found("0::/docker/1234/inner\n", container, "/sys/fs/cgroup/inner/memory.events");
    check_found("0::/docker/1234\n", container, "/sys/fs/cgroup/memory.events");
    check_found("0::/docker/12345\n", container, NULL);
    check_found("0::/elsewhere\n", container, NULL);
}

TEST(what_is_no_group_is_none)
{
    check_found("", version_1, NULL);
    check_found("4:memory:/a\n", "", NULL);
    check_found("4:cpu:/a\n", version_1, NULL);
    check_found("garbage\n", "garbage\n", NULL);
    check_found("4:memory:/a\n", "35 31 0:32 / /sys/fs/cgroup/memory rw\n - \n", NULL);
    check_found("4:memoryless,nomemory:/a\n", version_1, NULL);
}

TEST(this_process_has_a_counter)
{
    char path[PP__COUNTER_PATH_MAX];
    pp__memory_counter(getpid(), path);
    CHECK_INT(access(path, R_OK), 0);
    CHECK(pp__memory_kills(PP__COUNTER_OF_MACHINE) >= pp__memory_kills(path));
}

static void check_count(const char *text, uint64_t expected)
{
    char path[] = "/tmp/pp-counter-XXXXXX";
    write_file(path, text);
    CHECK_INT(pp__memory_kills(path), expected);
    CHECK_INT(unlink(path), 0);
}

TEST(a_count_is_read_from_each_kind_of_counter)
{
    check_count("low 0\nhigh 12\nmax 34\noom 5\noom_kill 4\noom_group_kill 1\n", 4);
    check_count("oom_kill_disable 0\nunder_oom 0\noom_kill 7\n", 7);
    check_count("oom_kill_disable 1\n", 0);
    check_count("", 0);
    CHECK_INT(pp__memory_kills("/nowhere/at/all"), 0);
}
