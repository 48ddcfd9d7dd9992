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
