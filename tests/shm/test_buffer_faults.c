/* SPDX-License-Identifier: MIT */
/* needs: seams */
/* What keeps a buffer from huge pages leaves it as it was. */
#include "segment_kit.h"

#include "base/seam.h"
#include "shm/buffer.h"

#define ROOM ((size_t)18 << 16)
#define LENGTH ((size_t)2 << 20)

/* The order of the calls. */
static enum refused { MMAP, MREMAP, MADVISE, NOTHING } refused;

static void *no_mmap(void *place, size_t size, int protection, int flags, int fd, off_t offset)
{
    (void)place, (void)size, (void)protection, (void)flags, (void)fd, (void)offset;
    errno = ENOMEM;
    return MAP_FAILED;
}

static void *no_mremap(void *place, size_t size, size_t length, int flags, ...)
{
    (void)place, (void)size, (void)length, (void)flags;
    errno = ENOMEM;
    return MAP_FAILED;
}

static int no_madvise(void *place, size_t size, int advice)
{
    (void)place, (void)size, (void)advice;
    errno = EINVAL;
    return -1;
}

TEST(without_huge_pages_it_stays_a_buffer)
{
    for (refused = MMAP; refused < NOTHING; refused++) {
        void *written, *seen;
        struct kit_state before = kit_state();
        int fd = (int)CHECK_OK(pp__buffer_create(ROOM, &written));
        CHECK_INT(pp__buffer_map(fd, ROOM, 0, &seen), 0);
        strcpy(written, "abc");
        pp__sys.mmap = refused == MMAP ? no_mmap : mmap;
        pp__sys.mremap = refused == MREMAP ? no_mremap : mremap;
        pp__sys.madvise = refused == MADVISE ? no_madvise : madvise;
        void *moved = written;
        size_t mapped = pp__buffer_collapse(&moved, ROOM);
        CHECK_INT(mapped, refused == MADVISE ? LENGTH : ROOM);
        CHECK((moved == written) == (refused != MADVISE));
        pp__sys.mmap = mmap;
        pp__sys.mremap = mremap;
        pp__sys.madvise = madvise;
        CHECK_STR(moved, "abc");
        strcpy(moved, "def");
        CHECK_STR(seen, "def");
        pp__buffer_unmap(moved, mapped, 0);
        pp__buffer_unmap(seen, ROOM, 0);
        pp__fd_close(fd);
        kit_check_unchanged(before);
    }
}
