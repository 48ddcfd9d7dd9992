/* SPDX-License-Identifier: MIT */
#include "process/pid.h"

#include "base/seam.h"
#include "process/sanitizer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

/* The fields behind the name are counted from the third on: 0 is the state, 17 the number of threads, 19 the start. */
static uint64_t field(const char *fields, int number)
{
    for (; fields && number > 0; number--)
        fields = strchr(fields + 1, ' ');
    return fields ? strtoull(fields + 1, NULL, 10) : 0;
}

/* A zombie is gone, unless it is only the first thread of a process whose others go on. */
uint64_t pp__process_start(pid_t pid)
{
    char path[32], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int fd = PP_SYS(open)(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t size = PP_SYS(read)(fd, text, sizeof text - 1);
    close(fd);
    text[size > 0 ? size : 0] = '\0';
    const char *fields = strrchr(text, ')'); /* the end of a name with anything in it */
    if (!fields || fields[1] != ' ')
        return 0;
    fields++;
    if ((fields[1] == 'Z' || fields[1] == 'X') && field(fields, 17) <= 1)
        return 0;
    return field(fields, 19);
}
