/* SPDX-License-Identifier: MIT */
/*
 * A kernel, or a sandbox, without what a pool needs.
 *
 * needs: seams
 */
#include "call_kit.h"

#include "base/seam.h"

static int missing;

static int missing_memfd_create(const char *name, unsigned flags)
{
    (void)name, (void)flags;
    errno = missing;
    return -1;
}

static int looked;

static int looking_open(const char *path, int flags, ...)
{
    looked += strcmp(path, "/proc/self/cgroup") == 0 || strcmp(path, "/proc/self/mountinfo") == 0;
    return open(path, flags);
}

/* Which the kernel writes for longer than most of what a start does takes. */
BOTH(a_launcher_looks_for_its_control_groups_and_its_pools_do_not)
{
    pp_launcher *launcher = NULL;
    pp__sys.open = looking_open;
    CHECK_OK(pp_launcher_create(&(pp_launcher_options){.start_method = method}, &launcher));
    CHECK(looked > 0);
    pp_pool_destroy(kit_pool_with(0, (pp_pool_options){.max_workers = 1, .launcher = launcher}));
    looked = 0;
    pp_pool_destroy(kit_pool_with(0, (pp_pool_options){.max_workers = 1, .launcher = launcher}));
    CHECK_INT(looked, 0);
    pp_launcher_unref(launcher);
}

BOTH(without_memfd_create_a_pool_is_refused_by_that_name)
{
    static const int errors[] = {ENOSYS, EPERM};
    pp_launcher *launcher = NULL;
    CHECK_OK(pp_launcher_create(&(pp_launcher_options){.start_method = method}, &launcher));
    pp__sys.memfd_create = missing_memfd_create;
    for (int i = 0; i < 2; i++) {
        pp_pool *pool = NULL;
        missing = errors[i];
        CHECK_INT(pp_pool_create(&(pp_pool_options){.launcher = launcher}, &pool), -missing);
        CHECK(pool == NULL);
        CHECK_HAS(pp_last_error(), "memfd_create");
        CHECK_HAS(pp_last_error(), "Linux 3.17");
        CHECK_HAS(pp_last_error(), strerror(missing));
    }
    pp_launcher_unref(launcher);
}
