/* SPDX-License-Identifier: MIT */
/*
 * What it takes to find this process's groups.
 *
 * needs: seams
 */
#include "harness.h"

#include "base/cgroup.h"
#include "base/seam.h"

#include <fcntl.h>
#include <stdarg.h>
#include <string.h>

static int opened_groups, opened_mounts;

static int counting_open(const char *path, int flags, ...)
{
    opened_groups += strcmp(path, "/proc/self/cgroup") == 0;
    opened_mounts += strcmp(path, "/proc/self/mountinfo") == 0;
    return open(path, flags);
}

TEST(the_kernel_writes_the_groups_and_the_mounts_once_for_both_versions)
{
    struct pp__cgroup found[PP__CGROUP_VERSIONS];
    pp__sys.open = counting_open;
    pp__cgroup_find_own("pids", found);
    CHECK_INT(opened_groups, 1);
    CHECK(opened_mounts <= 1);
}
