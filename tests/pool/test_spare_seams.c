/* SPDX-License-Identifier: MIT */
/* needs: seams. Deaths at the worst moments of a process that is forked ahead. */
#include "base/seam.h"
#include "process_kit.h"

static pid_t stopped_child_of(pid_t parent)
{
    pid_t child;
    for (int i = 0; (child = find_child(parent, NULL, i)) != 0; i++)
        if (is_stopped(child))
            return child;
    return 0;
}

/* It still has all descriptors of the one that has forked it, the end of the launcher's socket among them. */
TEST(a_launcher_is_known_to_be_gone_though_a_child_has_what_it_had_open)
{
    pp_launcher *launcher = launcher_of(PP_START_FORK);
    const pp_pool_options options = {.max_workers = 1, .launcher = launcher};
    pid_t spare = 0;
    pp_pool *pool = open_pool(options, PP_START_DEFAULT), *none = NULL;
    pid_t zygote = zygote_of(pool);
    pp__fault_arm("spare.forked", 1, PP__FAULT_STOP);
    pp_pool_destroy(pool);
    until((spare = stopped_child_of(zygote)) != 0);
    CHECK_INT(kill(zygote, SIGKILL), 0);
    until(!test_process_alive(zygote));
    CHECK_INT(pp_pool_create(&options, &none), -EPIPE);
    CHECK_HAS(pp_last_error(), "the process that starts workers");
    CHECK(none == NULL);
    CHECK_INT(kill(spare, SIGKILL), 0);
    pp_launcher_unref(launcher);
}
