/* SPDX-License-Identifier: MIT */
/* needs: seams */
/*
 * Each system call behind a segment or a payload fails once: what comes is the right error, and nothing is left behind.
 */
#include "segment_kit.h"

#include "base/seam.h"

#include <stdarg.h>

#define SIZE (2 * KIT_PAGE)

static struct {
    int error;              /* what the faulty call fails with */
    int command;            /* of fcntl */
    int times;              /* how often a call that fails "at times" does */
    unsigned flags_refused; /* of memfd_create */
    int calls;
} fault;

static int failing_memfd_create(const char *name, unsigned flags)
{
    fault.calls++;
    if (flags & fault.flags_refused) {
        errno = EINVAL;
        return -1;
    }
    if (fault.error == 0)
        return memfd_create(name, flags);
    errno = fault.error;
    return -1;
}

static int failing_posix_fallocate(int fd, off_t from, off_t size)
{
    fault.calls++;
    if (fault.times-- > 0)
        return fault.error;
    return posix_fallocate(fd, from, size);
}

static void *failing_mmap(void *at, size_t size, int protection, int flags, int fd, off_t from)
{
    (void)at, (void)size, (void)protection, (void)flags, (void)fd, (void)from;
    errno = fault.error;
    return MAP_FAILED;
}

/* As kernels before 6.7 do. */
static void *mmap_that_shares_nothing_sealed(void *at, size_t size, int protection, int flags, int fd, off_t from)
{
    if ((flags & MAP_SHARED) && (fcntl(fd, F_GET_SEALS) & F_SEAL_WRITE)) {
        errno = EPERM;
        return MAP_FAILED;
    }
    return mmap(at, size, protection, flags, fd, from);
}

static int failing_fcntl(int fd, int command, ...)
{
    va_list arguments;
    va_start(arguments, command);
    long argument = va_arg(arguments, long);
    va_end(arguments);
    if (command != fault.command)
        return fcntl(fd, command, argument);
    errno = fault.error;
    return -1;
}

static void restore(void)
{
    pp__sys.memfd_create = memfd_create;
    pp__sys.posix_fallocate = posix_fallocate;
    pp__sys.mmap = mmap;
    pp__sys.fcntl = fcntl;
    memset(&fault, 0, sizeof fault);
}

static void expect_both_fail(int error, const char *part)
{
    void *memory = NULL;
    struct kit_state before = kit_state();
    int times = fault.times;
    CHECK_INT(pp__segment_create("test", SIZE, true, &memory), error);
    CHECK_HAS(pp_last_error(), part);
    fault.times = times;
    CHECK_INT(pp__payload_create(SIZE, &memory), error);
    CHECK_HAS(pp_last_error(), part);
    CHECK(!memory);
    kit_check_unchanged(before);
    restore();
}

TEST(a_memfd_that_cannot_be_made_is_an_error_of_its_own_kind)
{
    static const int errors[] = {EMFILE, ENFILE, ENOMEM};
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        fault.error = errors[i];
        pp__sys.memfd_create = failing_memfd_create;
        expect_both_fail(-errors[i], "memfd_create");
    }
}

TEST(a_kernel_that_knows_no_noexec_seal_is_asked_again_without)
{
    void *memory;
    fault.flags_refused = 8;
    pp__sys.memfd_create = failing_memfd_create;
    int fd = (int)CHECK_OK(pp__segment_create("test", SIZE, true, &memory));
    CHECK_INT(fault.calls, 2);
    pp__segment_unmap(memory, SIZE);
    pp__fd_close(fd);
}

TEST(a_full_file_system_is_no_memory)
{
    static const int errors[] = {ENOSPC, ENOMEM};
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        fault.error = errors[i];
        fault.times = 1;
        pp__sys.posix_fallocate = failing_posix_fallocate;
        expect_both_fail(-ENOMEM, "no memory for 819");
    }
}

TEST(an_allocation_that_fails_otherwise_says_why)
{
    fault.error = EFBIG;
    fault.times = 1;
    pp__sys.posix_fallocate = failing_posix_fallocate;
    expect_both_fail(-EFBIG, "allocating 819");
}

TEST(an_interrupted_allocation_goes_on)
{
    void *memory;
    struct stat status;
    fault.error = EINTR;
    fault.times = 40;
    pp__sys.posix_fallocate = failing_posix_fallocate;
    int fd = (int)CHECK_OK(pp__segment_create("test", 8 * KIT_PAGE, true, &memory));
    CHECK_INT(fault.calls, 48);
    CHECK_INT(fstat(fd, &status), 0);
    CHECK_INT(status.st_size, 8 * KIT_PAGE);
    CHECK_INT(status.st_blocks * 512, 8 * KIT_PAGE);
    pp__segment_unmap(memory, 8 * KIT_PAGE);
    pp__fd_close(fd);
}

TEST(a_mapping_that_fails_leaves_no_descriptor)
{
    fault.error = ENOMEM;
    pp__sys.mmap = failing_mmap;
    expect_both_fail(-ENOMEM, "mapping 819");
}

TEST(a_descriptor_that_finds_no_place_leaves_nothing)
{
    fault.error = EMFILE;
    fault.command = F_DUPFD_CLOEXEC;
    pp__sys.fcntl = failing_fcntl;
    expect_both_fail(-EMFILE, "RLIMIT_NOFILE");
}

TEST(a_seal_that_fails_leaves_nothing_of_a_segment)
{
    void *memory = NULL;
    struct kit_state before = kit_state();
    fault.error = EPERM;
    fault.command = F_ADD_SEALS;
    pp__sys.fcntl = failing_fcntl;
    CHECK_INT(pp__segment_create("test", SIZE, true, &memory), -EPERM);
    CHECK_HAS(pp_last_error(), "sealing");
    CHECK(!memory);
    kit_check_unchanged(before);
}

TEST(a_mapping_of_what_was_sent_that_fails_is_no_memory)
{
    void *ours, *theirs = NULL;
    const void *seen = NULL;
    int segment = (int)CHECK_OK(pp__segment_create("test", SIZE, false, &ours));
    int payload = (int)CHECK_OK(pp__payload_create(SIZE, &ours));
    CHECK_INT(pp__payload_seal(payload, ours, SIZE), 0);
    struct kit_state before = kit_state();
    fault.error = ENOMEM;
    pp__sys.mmap = failing_mmap;
    CHECK_INT(pp__segment_map(segment, SIZE, false, &theirs), -ENOMEM);
    CHECK_INT(pp__payload_map(payload, SIZE, &seen), -ENOMEM);
    CHECK(!theirs && !seen);
    kit_check_unchanged(before);
}

TEST(a_kernel_that_does_not_share_what_is_sealed_shows_payloads_all_the_same)
{
    void *memory;
    const void *seen;
    pp__sys.mmap = mmap_that_shares_nothing_sealed;
    int fd = (int)CHECK_OK(pp__payload_create(3, &memory));
    memcpy(memory, "abc", 3);
    CHECK_INT(pp__payload_seal(fd, memory, 3), 0);
    CHECK_INT(pp__payload_map(fd, 3, &seen), 0);
    CHECK_STR((const char *)seen, "abc");
    pp__payload_unmap(seen, 3);
    pp__fd_close(fd);
}
