/* SPDX-License-Identifier: MIT */
/* Payloads: written once, sealed, then looked at by who does not trust the writer. */
#include "segment_kit.h"

#include "base/atomic.h"

#include <sys/time.h>

#define SEALED (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

static int make_sealed(const void *bytes, size_t size)
{
    void *memory;
    int fd = (int)CHECK_OK(pp__payload_create(size, &memory));
    if (size > 0)
        memcpy(memory, bytes, size);
    CHECK_INT(pp__payload_seal(fd, memory, size), 0);
    return fd;
}

static void pass(const char *bytes, size_t size)
{
    const void *seen;
    char *copy = malloc(size + 2);
    int fd = make_sealed(bytes, size);
    CHECK_INT(pp__payload_map(fd, size, &seen), 0);
    copy[size + 1] = 'x';
    CHECK_INT(pp__payload_read(fd, size, copy), 0);
    pp__fd_close(fd);
    CHECK(memcmp(copy, bytes, size) == 0);
    CHECK_INT(copy[size], 0);
    CHECK_INT(copy[size + 1], 'x');
    free(copy);
    CHECK(memcmp(seen, bytes, size) == 0);
    CHECK_INT(((const char *)seen)[size], 0);
    pp__payload_unmap(seen, size);
}

TEST(payloads_of_all_sizes_pass_with_a_nul_behind_them)
{
    static char bytes[5 * 4096];
    static const size_t sizes[] = {0, 1, 15, 16, 17, 4094, 4095, 4096, 4097, 8191, 8192, 5 * 4096 - 1, 5 * 4096};
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (char)(i * 7 + 1);
    struct kit_state before = kit_state();
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        pass(bytes, sizes[i]);
    kit_check_unchanged(before);
}

TEST(a_byte_too_many_is_replaced_by_the_nul)
{
    void *memory;
    const void *seen;
    int fd = (int)CHECK_OK(pp__payload_create(4, &memory));
    memcpy(memory, "12345", 5);
    CHECK_INT(pp__payload_seal(fd, memory, 4), 0);
    CHECK_INT(pp__payload_map(fd, 4, &seen), 0);
    CHECK_STR((const char *)seen, "1234");
    pp__payload_unmap(seen, 4);
    pp__fd_close(fd);
}

TEST(a_sealed_payload_cannot_be_changed_by_anybody)
{
    const void *seen;
    int fd = make_sealed("abc", 3);
    kit_check_unwritable(fd);
    kit_check_size_fixed(fd, 4);
    CHECK_INT(pp__payload_map(fd, 3, &seen), 0);
    kit_check_unwritable(fd);
    CHECK_STR((const char *)seen, "abc");
    pp__payload_unmap(seen, 3);
    pp__fd_close(fd);
}

TEST(a_payload_with_another_writable_mapping_is_not_sealed)
{
    void *memory, *other;
    const void *seen = NULL;
    int fd = (int)CHECK_OK(pp__payload_create(100, &memory));
    other = mmap(NULL, KIT_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(other != MAP_FAILED);
    CHECK_INT(pp__payload_seal(fd, memory, 100), -EBUSY);
    CHECK_HAS(pp_last_error(), "sealing");
    CHECK(!kit_is_mapped(memory, KIT_PAGE));
    CHECK_INT(pp__payload_map(fd, 100, &seen), -EPROTO);
    CHECK(!seen);
    munmap(other, KIT_PAGE);
    pp__fd_close(fd);
}

static void expect_refused(int fd, size_t size, const char *part)
{
    const void *seen = NULL;
    static char copy[4096];
    CHECK_INT(pp__payload_map(fd, size, &seen), -EPROTO);
    CHECK_HAS(pp_last_error(), part);
    CHECK(!seen);
    CHECK_INT(pp__payload_read(fd, size, copy), -EPROTO);
    CHECK_HAS(pp_last_error(), part);
    close(fd);
}

TEST(what_could_still_change_under_the_reader_is_refused)
{
    int pipes[2];
    struct kit_state before = kit_state();
    CHECK_INT(pipe2(pipes, O_CLOEXEC), 0);
    expect_refused(pipes[0], 1, "is none");
    close(pipes[1]);
    expect_refused(open("/proc/self/exe", O_RDONLY | O_CLOEXEC), 1, "");
    expect_refused(kit_memfd("x", 2, 2, 0), 1, "resized");
    expect_refused(kit_memfd("x", 2, 2, F_SEAL_WRITE), 1, "resized");
    expect_refused(kit_memfd("x", 2, 2, F_SEAL_WRITE | F_SEAL_GROW), 1, "resized");
    expect_refused(kit_memfd("x", 2, 2, F_SEAL_SHRINK | F_SEAL_GROW), 1, "written");
    expect_refused(kit_memfd("x", 2, 2, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE), 1, "written");
    kit_check_unchanged(before);
    expect_refused(-1, 1, "is none");
}

TEST(a_payload_that_is_not_as_announced_is_refused)
{
    struct kit_state before = kit_state();
    expect_refused(kit_memfd("abc", 4, 4, SEALED), 4, "less than 4 bytes");
    expect_refused(kit_memfd("abc", 4, 4, SEALED), 100, "less than 100 bytes");
    expect_refused(kit_memfd("abc", 4, 4, SEALED), SIZE_MAX, "less than");
    expect_refused(kit_memfd("abc", 4, 4, SEALED), (size_t)1 << 63, "less than");
    expect_refused(kit_memfd("", 0, 0, SEALED), 0, "less than 0 bytes");
    expect_refused(kit_memfd("abcd", 4, 4, SEALED), 3, "without a NUL");
    kit_check_unchanged(before);
}

TEST(a_payload_sealed_by_others_means_is_as_good)
{
    const void *seen;
    int fd = kit_memfd("abc", 4, 4, SEALED);
    CHECK_INT(pp__payload_map(fd, 3, &seen), 0);
    CHECK_STR((const char *)seen, "abc");
    pp__payload_unmap(seen, 3);
    close(fd);
}

TEST(a_forked_child_has_neither_the_written_nor_the_read_mapping)
{
    void *memory;
    const void *seen;
    int fd = (int)CHECK_OK(pp__payload_create(100, &memory));
    CHECK(!kit_child_has_it_mapped(memory, 101));
    CHECK_INT(pp__payload_seal(fd, memory, 100), 0);
    CHECK_INT(pp__payload_map(fd, 100, &seen), 0);
    CHECK(kit_is_mapped(seen, 101));
    CHECK(!kit_child_has_it_mapped(seen, 101));
    pp__payload_unmap(seen, 100);
    CHECK(!kit_is_mapped(seen, 101));
    pp__payload_unmap(NULL, 100);
    pp__fd_close(fd);
}

static void expect_failure(size_t size, int error, const char *part)
{
    void *memory = NULL;
    struct kit_state before = kit_state();
    CHECK_INT(pp__payload_create(size, &memory), error);
    CHECK_HAS(pp_last_error(), part);
    CHECK(!memory);
    kit_check_unchanged(before);
}

TEST(a_payload_beyond_a_limit_is_refused_by_name_and_without_a_signal)
{
    char bytes[999]; /* and the NUL: just what is allowed */
    expect_failure(SIZE_MAX, -ENOMEM, "address space");
    expect_failure((size_t)1 << 46, -ENOMEM, "memory and swap");
    kit_limit(RLIMIT_FSIZE, 1000);
    expect_failure(1000, -EFBIG, "RLIMIT_FSIZE");
    pass(memset(bytes, 1, sizeof bytes), sizeof bytes);
}

static volatile sig_atomic_t ticks;

static void tick(int signal)
{
    (void)signal;
    ticks++;
}

/*
 * Each tick makes the kernel give back what the call under way has allocated: in a single call, this would never end.
 */
TEST_WITHIN(a_profiling_timer_does_not_keep_a_large_payload_from_being_made, 60)
{
#ifdef PP_TSAN
    LEFT_OUT("thread sanitizer holds signals back");
#endif
    size_t size = (size_t)128 << 20;
    void *memory;
    struct itimerval often = {.it_interval = {.tv_usec = 1000}, .it_value = {.tv_usec = 1000}};
    CHECK_INT(sigaction(SIGALRM, &(struct sigaction){.sa_handler = tick, .sa_flags = SA_RESTART}, NULL), 0);
    CHECK_INT(setitimer(ITIMER_REAL, &often, NULL), 0);
    int fd = (int)CHECK_OK(pp__payload_create(size, &memory));
    CHECK_INT(setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL), 0);
    CHECK(ticks > 3);
    CHECK_INT(pp__payload_seal(fd, memory, size), 0);
    pp__fd_close(fd);
}

SLOW_TEST(a_payload_of_a_gibibyte_passes)
{
    size_t size = (size_t)1 << 30;
    void *memory;
    const void *seen;
    int fd = (int)CHECK_OK(pp__payload_create(size, &memory));
    unsigned char *bytes = memory;
    for (size_t at = 0; at < size; at += 1021)
        bytes[at] = (unsigned char)(at >> 10);
    CHECK_INT(pp__payload_seal(fd, memory, size), 0);
    CHECK_INT(pp__payload_map(fd, size, &seen), 0);
    for (size_t at = 0; at < size; at += 1021)
        CHECK(((const unsigned char *)seen)[at] == (unsigned char)(at >> 10));
    pp__payload_unmap(seen, size);
    pp__fd_close(fd);
}
