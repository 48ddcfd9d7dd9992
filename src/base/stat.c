/* SPDX-License-Identifier: MIT */
#include "base/stat.h"

#include "base/seam.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Counted from the third on, behind the name. */
enum { FLAGS = 6, THREADS = 17, START = 19, STACK = 25, PENDING = 28 };

#define EXITING 0x4 /* the kernel's PF_EXITING */
#define KILLED (UINT64_C(1) << (SIGKILL - 1))

static uint64_t field(const char *fields, int number)
{
    for (; fields && number > 0; number--)
        fields = strchr(fields + 1, ' ');
    return fields ? strtoull(fields + 1, NULL, 10) : 0;
}

bool pp__stat_read(pid_t pid, struct pp__stat *line)
{
    char path[32], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int fd = PP_SYS(open)(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t size = PP_SYS(read)(fd, text, sizeof text - 1);
    close(fd);
    text[size > 0 ? size : 0] = '\0';
    const char *fields = strrchr(text, ')'); /* the end of a name with anything in it */
    if (!fields || fields[1] != ' ')
        return false;
    fields++;
    *line = (struct pp__stat){.state = fields[1],
                              .ending = (field(fields, FLAGS) & EXITING) || (field(fields, PENDING) & KILLED),
                              .threads = field(fields, THREADS),
                              .start = field(fields, START),
                              .image = field(fields, STACK)};
    return true;
}

bool pp__stat_has_ended(const struct pp__stat *line)
{
    return (line->state == 'Z' || line->state == 'X') && line->threads <= 1;
}
