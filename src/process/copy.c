/* SPDX-License-Identifier: MIT */
#include "process/copy.h"

#include "base/fd.h"
#include "base/seam.h"
#include "shm/segment.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

static bool read_whole(int fd, char *memory, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t got = PP_SYS(pread)(fd, memory + done, size - done, (off_t)done);
        if (got == 0 || (got < 0 && errno != EINTR))
            return false;
        done += got > 0 ? (size_t)got : 0;
    }
    return true;
}

int pp__copy_file(int fd, size_t *left)
{
    struct stat status;
    void *memory = NULL;
    if (PP_SYS(fstat)(fd, &status) != 0 || !S_ISREG(status.st_mode) || (uint64_t)status.st_size > *left)
        return -1;
    size_t size = (size_t)status.st_size;
    int copy = pp__payload_create(size, &memory);
    if (copy < 0)
        return -1;
    bool whole = read_whole(fd, memory, size);
    if (pp__payload_seal(copy, memory, size) != 0 || !whole) {
        pp__fd_close(copy);
        return -1;
    }
    *left -= size;
    pp__fd_hand_out(copy); /* who gets it closes it by a plain close */
    return copy;
}
