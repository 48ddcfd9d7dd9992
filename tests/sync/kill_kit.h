/* SPDX-License-Identifier: MIT */
/* For tests that kill a process at a fault point. */
#ifndef TESTS_SYNC_KILL_KIT_H
#define TESTS_SYNC_KILL_KIT_H

#include "base/seam.h"
#include "sync_kit.h"

/* A child that does `run` is killed when it comes to `place` for the n-th time; false if it ended well without. */
static inline bool killed_at(const char *place, unsigned n, void (*run)(void *), void *argument)
{
    int status;
    pp__fault_arm(place, n, PP__FAULT_KILL);
    pid_t child = kit_fork(run, argument);
    CHECK_INT(waitpid(child, &status, 0), child);
    pp__fault_disarm();
    CHECK(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
    return WIFSIGNALED(status);
}

#endif
