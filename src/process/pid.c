/* SPDX-License-Identifier: MIT */
#include "process/pid.h"

#include "base/seam.h"
#include "base/stat.h"
#include "process/sanitizer.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

int pp__pidfd_open(pid_t pid)
{
    if (PP_ON_VALGRIND) {
        errno = ENOSYS; /* which is what it would say, with a warning on the user's terminal */
        return -1;
    }
    return (int)PP_SYS(syscall)(SYS_pidfd_open, pid, 0);
}

/* A zombie is gone. */
uint64_t pp__process_start(pid_t pid)
{
    struct pp__stat line;
    return pp__stat_read(pid, &line) && !pp__stat_has_ended(&line) ? line.start : 0;
}
