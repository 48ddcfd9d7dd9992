/* SPDX-License-Identifier: MIT */
#include "shm/foreign.h"

#include "base/error.h"
#include "base/seam.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef SYS_cachestat
#define SYS_cachestat 451 /* Linux 6.5 */
#endif

int pp__foreign_check(int fd, int seals, uint64_t *size)
{
    struct stat status;
    int found = PP_SYS(fcntl)(fd, F_GET_SEALS);
    if (found < 0 || PP_SYS(fstat)(fd, &status) != 0 || status.st_size < 0)
        return pp__fail(-EPROTO, "what should be shared memory is none");
    if ((found & seals) != seals)
        return pp__fail(-EPROTO, "shared memory that can still be %s",
                        (seals & ~found) & (F_SEAL_SHRINK | F_SEAL_GROW) ? "resized" : "written");
    *size = (uint64_t)status.st_size;
    return 0;
}

/* The kernel's: include/uapi/linux/mman.h. */
struct range {
    uint64_t begin, length;
};
struct pages {
    uint64_t cached, dirty, writeback, evicted, recently_evicted;
};

/*
 * A swapped page counts as evicted. Kernels before 6.5, and filters of system calls, do not say where pages are: then
 * those of the whole file are counted, and as many behind its end as are missing before it go unnoticed.
 */
static uint64_t allocated(int fd, uint64_t size)
{
    struct range range = {.begin = 0, .length = size};
    struct pages pages;
    struct stat status;
    if (PP_SYS(syscall)(SYS_cachestat, fd, &range, &pages, 0) == 0)
        return (pages.cached + pages.evicted) * (uint64_t)sysconf(_SC_PAGESIZE);
    return PP_SYS(fstat)(fd, &status) == 0 ? (uint64_t)status.st_blocks * 512 : 0;
}

int pp__foreign_check_whole(int fd, uint64_t size)
{
    struct statfs system;
    int flags = PP_SYS(fcntl)(fd, F_GETFL);
    if (flags >= 0 && (flags & O_ACCMODE) != O_RDWR) /* the kernel would not tell us, of a file of another user's */
        return pp__fail(-EPROTO, "shared memory that was opened for reading alone");
    if (PP_SYS(fstatfs)(fd, &system) == 0 && system.f_type == HUGETLBFS_MAGIC)
        return pp__fail(-EPROTO, "shared memory that is not in ordinary pages");
    if (allocated(fd, size) < size)
        return pp__fail(-EPROTO, "shared memory with holes");
    return 0;
}
