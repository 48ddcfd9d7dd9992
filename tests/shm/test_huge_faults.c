/* SPDX-License-Identifier: MIT */
/* needs: seams */
/* What keeps shared memory from huge pages leaves it as it is without. */
#include "segment_kit.h"

#include "base/seam.h"
#include "shm/buffer.h"

#define ROOM ((size_t)4 << 20)

/* The order of the calls. */
enum refused { RESERVE, FTRUNCATE, FALLOCATE, MADVISE, NOTHING };

static void *no_reserve(void *place, size_t size, int protection, int flags, int fd, off_t offset)
{
    if (flags & MAP_ANONYMOUS && size > ROOM) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return mmap(place, size, protection, flags, fd, offset);
}

static int no_ftruncate(int fd, off_t size)
{
    (void)fd, (void)size;
    errno = EINVAL;
    return -1;
}

/* Of single pages; the first try is interrupted. */
static int no_page(int fd, off_t offset, off_t size)
{
    static int tries;
    if (size > 1)
        return posix_fallocate(fd, offset, size);
    return tries++ % 2 == 0 ? EINTR : ENOMEM;
}

static int no_madvise(void *place, size_t size, int advice)
{
    (void)place, (void)size, (void)advice;
    errno = EINVAL;
    return -1;
}

static void refuse(enum refused refused)
{
    pp__sys.mmap = refused == RESERVE ? no_reserve : mmap;
    pp__sys.ftruncate = refused == FTRUNCATE ? no_ftruncate : ftruncate;
    pp__sys.posix_fallocate = refused == FALLOCATE ? no_page : posix_fallocate;
    pp__sys.madvise = refused == MADVISE ? no_madvise : madvise;
}

TEST(without_huge_pages_it_is_all_there)
{
    for (enum refused refused = 0; refused < NOTHING; refused++) {
        void *written, *seen;
        struct stat status;
        struct kit_state before = kit_state();
        refuse(refused);
        int fd = (int)CHECK_OK(pp__buffer_create(ROOM, &written));
        CHECK_INT(pp__buffer_map(fd, ROOM, 0, &seen), 0);
        refuse(NOTHING);
        CHECK_OK(fstat(fd, &status));
        CHECK_INT(status.st_size, ROOM);
        CHECK_INT(status.st_blocks, ROOM / 512);
        memset(written, 'a', ROOM);
        CHECK(memcmp(seen, written, ROOM) == 0);
        pp__buffer_unmap(written, ROOM, 0);
        pp__buffer_unmap(seen, ROOM, 0);
        pp__fd_close(fd);
        kit_check_unchanged(before);
    }
}
