/* SPDX-License-Identifier: MIT */
/* Holes in what a peer sends, however it hides them, and pages that are not ordinary ones. needs: seams */
#include "segment_kit.h"

#include "base/seam.h"
#include "shm/buffer.h"
#include "shm/foreign.h"

#include <sys/syscall.h>

#define ROOM (16 * KIT_PAGE)
#define FINAL (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)
#define GUARDED (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE)

static void expect(int fd, uint64_t size, int result, const char *part)
{
    CHECK_INT(pp__foreign_check_whole(fd, size), result);
    if (result)
        CHECK_HAS(pp_last_error(), part);
    close(fd);
}

static void expect_holes_seen(void)
{
    static char bytes[ROOM];
    expect(kit_memfd(bytes, ROOM, ROOM, FINAL), ROOM, 0, NULL);
    expect(kit_memfd(bytes, 4, 4, FINAL), 4, 0, NULL);
    expect(kit_memfd(bytes, ROOM - KIT_PAGE, ROOM, FINAL), ROOM, -EPROTO, "holes");
    expect(kit_memfd(bytes, ROOM - KIT_PAGE, ROOM, FINAL), ROOM - KIT_PAGE + 1, -EPROTO, "holes");
    expect(kit_memfd(bytes, ROOM - KIT_PAGE, ROOM, FINAL), ROOM - KIT_PAGE, 0, NULL);
    expect(kit_memfd("abc", 4, (size_t)1 << 40, FINAL), (size_t)1 << 40, -EPROTO, "holes");
    expect(-1, 1, -EPROTO, "holes");
}

static long no_such_call(long number, ...)
{
    (void)number;
    errno = ENOSYS;
    return -1;
}

TEST(memory_with_holes_is_refused)
{
    expect_holes_seen();
    pp__sys.syscall = no_such_call;
    expect_holes_seen();
    pp__sys.syscall = syscall;
}

TEST(memory_that_is_allocated_and_was_never_written_has_no_holes)
{
    int fd = memfd_create("peer", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    CHECK_INT(posix_fallocate(fd, 0, ROOM), 0);
    expect(fd, ROOM, 0, NULL);
}

/* As much behind its end as it lacks before: the file has as many blocks as one without holes. */
static int with_pages_behind_its_end(int seals)
{
    int fd = memfd_create("peer", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    CHECK_INT(ftruncate(fd, ROOM), 0);
    CHECK_INT(fallocate(fd, FALLOC_FL_KEEP_SIZE, ROOM, ROOM), 0);
    CHECK_INT(fcntl(fd, F_ADD_SEALS, seals), 0);
    return fd;
}

#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif

static bool kernel_tells_where_pages_are(void)
{
    uint64_t range[2] = {0, ROOM}, pages[5];
    int fd = memfd_create("probe", MFD_CLOEXEC);
    bool tells = syscall(SYS_cachestat, fd, range, pages, 0) == 0;
    close(fd);
    return tells;
}

TEST(pages_behind_the_end_make_up_for_no_holes)
{
    void *seen = NULL;
    if (!kernel_tells_where_pages_are())
        LEFT_OUT("this kernel has no cachestat");
    expect(with_pages_behind_its_end(FINAL), ROOM, -EPROTO, "holes");
    int fd = with_pages_behind_its_end(GUARDED);
    CHECK_INT(pp__buffer_map(fd, ROOM, KIT_PAGE, &seen), -EPROTO);
    CHECK_HAS(pp_last_error(), "holes");
    close(fd);
}

/* Of a file of another user's that can't be written to here the kernel does not tell where its pages are. */
TEST(what_was_opened_for_reading_alone_is_refused)
{
    static char bytes[ROOM];
    char path[64];
    int fd = kit_memfd(bytes, ROOM, ROOM, FINAL);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int reader = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(reader >= 0);
    expect(reader, ROOM, -EPROTO, "reading alone");
    expect(fd, ROOM, 0, NULL);
}

/* Of which there may be none left when they are looked at. */
TEST(pages_of_the_systems_stock_of_huge_ones_are_refused)
{
    int fd = memfd_create("peer", MFD_CLOEXEC | MFD_HUGETLB);
    if (fd < 0)
        LEFT_OUT("this kernel has no hugetlbfs");
    CHECK_INT(ftruncate(fd, 2 << 20), 0);
    expect(fd, 2 << 20, -EPROTO, "ordinary");
}
