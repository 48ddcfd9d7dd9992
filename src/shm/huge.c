/* SPDX-License-Identifier: MIT */
#include "shm/huge.h"

#include "base/seam.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1 */
#endif

/* So much at once: until then the kernel lets nobody end the process. Each time it waits for all processors, too. */
#define PIECE (8 * PP__HUGE_PAGE)

size_t pp__huge_room(size_t room)
{
    size_t rest = room % PP__HUGE_PAGE;
    return rest < PP__HUGE_PAGE / 2 ? room : room - rest + PP__HUGE_PAGE;
}

static char *reserve(size_t length, int protection)
{
    char *place = PP_SYS(mmap)(NULL, length, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return place == MAP_FAILED ? NULL : place;
}

void *pp__huge_reserve(size_t before, size_t size, int protection)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), length = (before + size + page - 1) & -page;
    char *place = size < PP__HUGE_PAGE ? NULL : reserve(length + PP__HUGE_PAGE, protection);
    if (!place)
        return reserve(length, protection);
    size_t shift = -((uintptr_t)place + before) % PP__HUGE_PAGE;
    if (shift > 0)
        munmap(place, shift);
    munmap(place + shift + length, PP__HUGE_PAGE - shift);
    return place + shift;
}

/* A page to begin with: of what has none at all the kernel makes no huge one. */
static int allocate_page(int fd, size_t offset)
{
    int error;
    do
        error = PP_SYS(posix_fallocate)(fd, (off_t)offset, 1);
    while (error == EINTR);
    return error;
}

void pp__huge_back(int fd, void *memory, size_t size)
{
    size_t whole = size - size % PP__HUGE_PAGE;
    if (whole == 0 || PP_SYS(ftruncate)(fd, (off_t)size) != 0)
        return;
    for (size_t begin = 0; begin < whole; begin += PIECE) {
        size_t length = whole - begin < PIECE ? whole - begin : PIECE;
        for (size_t at = begin; at < begin + length; at += PP__HUGE_PAGE)
            if (allocate_page(fd, at) != 0)
                return;
        if (PP_SYS(madvise)((char *)memory + begin, length, MADV_COLLAPSE) != 0)
            return;
    }
}
