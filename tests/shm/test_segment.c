/* SPDX-License-Identifier: MIT */
/*
 * Segments: allocated, sealed, private to the writer where asked, and refused where the other side sends something
 * else.
 */
#include "segment_kit.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif
#ifndef F_SEAL_EXEC
#define F_SEAL_EXEC 0x0020
#endif

#define SIZE (3 * KIT_PAGE)

static bool all_zero(const unsigned char *memory, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (memory[i])
            return false;
    return true;
}

TEST(a_segment_is_zeroed_writable_and_allocated)
{
    void *memory;
    struct stat status;
    int fd = (int)CHECK_OK(pp__segment_create("test", SIZE, false, &memory));
    CHECK(all_zero(memory, SIZE));
    memset(memory, 7, SIZE);
    CHECK_INT(fstat(fd, &status), 0);
    CHECK_INT(status.st_size, SIZE);
    CHECK(status.st_blocks * 512 >= (blkcnt_t)SIZE);
    pp__segment_unmap(memory, SIZE);
    pp__fd_close(fd);
}

TEST(a_segments_pages_are_there_before_the_first_touch)
{
    void *memory;
    struct stat status;
    int fd = (int)CHECK_OK(pp__segment_create("test", 64 * KIT_PAGE, true, &memory));
    CHECK_INT(fstat(fd, &status), 0);
    CHECK_INT(status.st_blocks * 512, 64 * KIT_PAGE);
    pp__segment_unmap(memory, 64 * KIT_PAGE);
    pp__fd_close(fd);
}

TEST(a_segments_descriptor_is_ours_and_not_inherited_by_programs)
{
    void *memory;
    int fd = (int)CHECK_OK(pp__segment_create("test", SIZE, false, &memory));
    CHECK(fd >= PP__FD_FLOOR);
    CHECK_INT(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    pp__segment_unmap(memory, SIZE);
    pp__fd_close(fd);
}

TEST(a_segment_keeps_its_size_and_its_seals)
{
    void *memory;
    int fd = (int)CHECK_OK(pp__segment_create("test", SIZE, false, &memory));
    kit_check_size_fixed(fd, SIZE);
    pp__segment_unmap(memory, SIZE);
    kit_check_size_fixed(fd, SIZE);
    pp__fd_close(fd);
}

TEST(a_segment_cannot_be_made_a_program)
{
    void *memory;
    struct stat status;
    int probe = memfd_create("probe", MFD_CLOEXEC | MFD_NOEXEC_SEAL);
    if (probe < 0)
        LEFT_OUT("this kernel has no MFD_NOEXEC_SEAL");
    close(probe);
    int fd = (int)CHECK_OK(pp__segment_create("test", SIZE, false, &memory));
    CHECK(fcntl(fd, F_GET_SEALS) & F_SEAL_EXEC);
    CHECK_INT(fstat(fd, &status), 0);
    CHECK_INT(status.st_mode & 0111, 0);
    CHECK_INT(fchmod(fd, 0700), -1);
    pp__segment_unmap(memory, SIZE);
    pp__fd_close(fd);
}

TEST(both_sides_see_each_others_writes)
{
    void *ours, *theirs;
    int fd = (int)CHECK_OK(pp__segment_create("test", SIZE, false, &ours));
    CHECK_INT(pp__segment_map(fd, SIZE, true, &theirs), 0);
    CHECK(ours != theirs);
    strcpy(ours, "from us");
    CHECK_STR((char *)theirs, "from us");
    strcpy(theirs, "from them");
    CHECK_STR((char *)ours, "from them");
    pp__segment_unmap(theirs, SIZE);
    pp__segment_unmap(ours, SIZE);
    pp__fd_close(fd);
}

TEST(of_a_private_writers_segment_the_descriptor_allows_reading_only)
{
    void *ours, *theirs = NULL;
    int fd = (int)CHECK_OK(pp__segment_create("test", SIZE, true, &ours));
    CHECK_INT(pp__segment_map(fd, SIZE, true, &theirs), -EPERM);
    CHECK(!theirs);
    kit_check_unwritable(fd);
    kit_check_size_fixed(fd, SIZE);
    CHECK_INT(pp__segment_map(fd, SIZE, false, &theirs), 0);
    CHECK_INT(mprotect(theirs, SIZE, PROT_READ | PROT_WRITE), -1);
    strcpy(ours, "still ours to write");
    CHECK_STR((char *)theirs, "still ours to write");
    pp__segment_unmap(theirs, SIZE);
    pp__segment_unmap(ours, SIZE);
    pp__fd_close(fd);
}

static void expect_refused(int fd, size_t size, const char *part)
{
    void *memory = NULL;
    CHECK_INT(pp__segment_map(fd, size, false, &memory), -EPROTO);
    CHECK_HAS(pp_last_error(), part);
    CHECK(!memory);
    close(fd);
}

TEST(what_is_not_a_sealed_segment_of_the_right_size_is_refused)
{
    int pipes[2], all = F_SEAL_SHRINK | F_SEAL_GROW;
    struct kit_state before = kit_state();
    CHECK_INT(pipe2(pipes, O_CLOEXEC), 0);
    expect_refused(pipes[0], SIZE, "is none");
    close(pipes[1]);
    expect_refused(open("/proc/self/exe", O_RDONLY | O_CLOEXEC), SIZE, "");
    expect_refused(kit_memfd("x", 1, SIZE, 0), SIZE, "resized");
    expect_refused(kit_memfd("x", 1, SIZE, F_SEAL_SHRINK), SIZE, "resized");
    expect_refused(kit_memfd("x", 1, SIZE, F_SEAL_GROW), SIZE, "resized");
    expect_refused(kit_memfd("x", 1, SIZE - 1, all), SIZE, "not 12288 bytes");
    expect_refused(kit_memfd("x", 1, SIZE + KIT_PAGE, all), SIZE, "not 12288 bytes");
    kit_check_unchanged(before);
    expect_refused(-1, SIZE, "is none");
}

TEST(a_forked_child_does_not_have_our_mappings)
{
    void *ours, *theirs;
    int fd = (int)CHECK_OK(pp__segment_create("test", SIZE, false, &ours));
    CHECK_INT(pp__segment_map(fd, SIZE, true, &theirs), 0);
    CHECK(kit_is_mapped(ours, SIZE) && kit_is_mapped(theirs, SIZE));
    CHECK(!kit_child_has_it_mapped(ours, SIZE));
    CHECK(!kit_child_has_it_mapped(theirs, SIZE));
    pp__segment_unmap(theirs, SIZE);
    pp__segment_unmap(ours, SIZE);
    CHECK(!kit_is_mapped(ours, SIZE) && !kit_is_mapped(theirs, SIZE));
    pp__segment_unmap(NULL, SIZE);
    pp__fd_close(fd);
}

static void expect_failure(size_t size, int error, const char *part)
{
    void *memory = NULL;
    struct kit_state before = kit_state();
    CHECK_INT(pp__segment_create("test", size, true, &memory), error);
    CHECK_HAS(pp_last_error(), part);
    CHECK(!memory);
    kit_check_unchanged(before);
}

/* SIGXFSZ would end the test. */
TEST(the_file_size_limit_is_named_and_raises_no_signal)
{
    void *memory;
    kit_limit(RLIMIT_FSIZE, SIZE);
    expect_failure(SIZE + KIT_PAGE, -EFBIG, "RLIMIT_FSIZE");
    int fd = (int)CHECK_OK(pp__segment_create("test", SIZE, false, &memory));
    pp__segment_unmap(memory, SIZE);
    pp__fd_close(fd);
}

TEST(more_than_the_machine_has_is_no_memory_at_once)
{
    expect_failure((size_t)1 << 46, -ENOMEM, "memory and swap");
    expect_failure(SIZE_MAX & ~(KIT_PAGE - 1), -ENOMEM, "memory and swap");
}

TEST(running_out_of_descriptors_is_named)
{
    struct rlimit limit;
    CHECK_INT(getrlimit(RLIMIT_NOFILE, &limit), 0);
    void *memory = NULL;
    int last = open("/dev/null", O_RDONLY | O_CLOEXEC);
    CHECK(last >= 0);
    struct kit_state before = kit_state();
    kit_limit(RLIMIT_NOFILE, (rlim_t)last + 1);
    CHECK_INT(pp__segment_create("test", SIZE, false, &memory), -EMFILE);
    CHECK_HAS(pp_last_error(), "RLIMIT_NOFILE");
    CHECK(!memory);
    kit_limit(RLIMIT_NOFILE, limit.rlim_cur);
    kit_check_unchanged(before);
}

/* Address space runs out behind the allocation, which must be given back. */
TEST(a_mapping_that_fails_gives_the_memory_back)
{
    size_t size = (size_t)1 << 26;
    if (kit_address_space() > (rlim_t)1 << 32)
        LEFT_OUT("a sanitizer has taken the address space");
    kit_limit(RLIMIT_AS, kit_address_space() + size / 2);
    expect_failure(size, -ENOMEM, "mapping 67108864 bytes");
}
