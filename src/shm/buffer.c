/* SPDX-License-Identifier: MIT */
#include "shm/buffer.h"

#include "base/error.h"
#include "base/seam.h"
#include "shm/foreign.h"
#include "shm/huge.h"
#include "shm/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>

/* Of 64 KiB at least, so that every page size divides it. */
#define UNIT ((size_t)64 << 10)

size_t pp__buffer_room(size_t size)
{
    size_t needed = size + 1, step = UNIT;
    while (step < needed / 8)
        step *= 2;
    return pp__huge_room((needed + step - 1) / step * step);
}

int pp__buffer_create(size_t room, void **memory)
{
    return pp__segment_create("procpool-buffer", room, true, memory);
}

static int protect(void *memory, size_t room, int protection)
{
    return PP_SYS(mprotect)(memory, room, protection) == 0
               ? 0
               : pp__fail_errno(errno, "protecting a buffer of %zu bytes", room);
}

int pp__buffer_guard(void *memory, size_t room)
{
    return protect(memory, room, PROT_READ);
}

int pp__buffer_unguard(void *memory, size_t room)
{
    return protect(memory, room, PROT_READ | PROT_WRITE);
}

static int check(int fd, size_t room)
{
    uint64_t found;
    int error = pp__foreign_check(fd, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE, &found);
    if (error)
        return error;
    if (found != room)
        return pp__fail(-EPROTO, "a buffer that is not %zu bytes", room);
    return pp__foreign_check_whole(fd, room);
}

/*
 * Private, so that it can become the reader's own; as long as nothing is written here its pages are the file's, and
 * show what the maker writes. Other threads' forks may inherit it before it is marked, as in segment.c.
 */
int pp__buffer_map(int fd, size_t room, size_t before, void **memory)
{
    int error = room < PTRDIFF_MAX / 2 ? check(fd, room) : pp__fail(-EPROTO, "a buffer larger than an address space");
    if (error)
        return error;
    char *place = pp__huge_reserve(before, room, PROT_READ | PROT_WRITE);
    if (!place)
        return pp__fail(-ENOMEM, "no memory to map a buffer of %zu bytes", room);
    if (PP_SYS(mmap)(place + before, room, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0) == MAP_FAILED) {
        munmap(place, before + room);
        return pp__fail(-ENOMEM, "no memory to map a buffer of %zu bytes", room);
    }
    PP_SYS(madvise)(place, before + room, MADV_DONTFORK);
    *memory = place + before;
    return 0;
}

int pp__buffer_own(void *memory, size_t room, size_t before)
{
    if (PP_SYS(mprotect)(memory, room, PROT_READ | PROT_WRITE) != 0)
        return pp__fail(-ENOMEM, "no memory for %zu bytes of one's own", room);
    PP_SYS(madvise)((char *)memory - before, before + room, MADV_DOFORK);
    return 0;
}

void pp__buffer_unmap(void *memory, size_t room, size_t before)
{
    if (memory)
        munmap((char *)memory - before, before + room);
}
