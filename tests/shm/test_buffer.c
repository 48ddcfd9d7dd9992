/* SPDX-License-Identifier: MIT */
/* Buffers: written by one, mapped by another for one payload after the other. */
#include "segment_kit.h"

#include "shm/buffer.h"
#include "shm/huge.h"

#include <setjmp.h>

#define ROOM (16 * KIT_PAGE)
#define SEALED (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE)

TEST(rooms_hold_a_payload_and_its_nul_and_are_at_most_a_quarter_larger_or_all_of_a_huge_page)
{
    for (size_t size = 0; size < (size_t)1 << 40; size = size * 9 / 8 + 1) {
        size_t room = pp__buffer_room(size);
        CHECK(room > size);
        CHECK(room <= pp__huge_room(size + size / 4 + (64 << 10)));
        CHECK_INT(room % (64 << 10), 0);
        CHECK_INT(pp__buffer_room(room - 1), room);
    }
}

TEST(what_is_written_is_seen_time_and_again)
{
    void *written, *seen;
    struct kit_state before = kit_state();
    int fd = (int)CHECK_OK(pp__buffer_create(ROOM, &written));
    CHECK_INT(pp__buffer_map(fd, ROOM, KIT_PAGE, &seen), 0);
    pp__fd_close(fd);
    for (int i = 0; i < 10; i++) {
        memset(written, i, ROOM);
        CHECK_INT(pp__buffer_guard(written, ROOM), 0);
        CHECK(memcmp(written, seen, ROOM) == 0);
        CHECK_INT(((const char *)seen)[ROOM - 1], i);
        CHECK_INT(pp__buffer_unguard(written, ROOM), 0);
    }
    memset((char *)seen - KIT_PAGE, 1, KIT_PAGE); /* the reader's own */
    pp__buffer_unmap(seen, ROOM, KIT_PAGE);
    pp__buffer_unmap(written, ROOM, 0);
    pp__buffer_unmap(NULL, ROOM, 0);
    kit_check_unchanged(before);
}

TEST(nobody_but_its_maker_can_write_to_a_buffer)
{
    void *written, *seen;
    int fd = (int)CHECK_OK(pp__buffer_create(ROOM, &written));
    kit_check_unwritable(fd);
    kit_check_size_fixed(fd, ROOM);
    CHECK_INT(pp__buffer_map(fd, ROOM, 0, &seen), 0);
    strcpy(written, "abc");
    CHECK_STR(seen, "abc");
    pp__buffer_unmap(seen, ROOM, 0);
    pp__buffer_unmap(written, ROOM, 0);
    pp__fd_close(fd);
}

static sigjmp_buf landing;

static void land(int signal)
{
    siglongjmp(landing, signal);
}

static bool can_write(void *memory)
{
    CHECK_INT(sigaction(SIGSEGV, &(struct sigaction){.sa_handler = land, .sa_flags = SA_NODEFER}, NULL), 0);
    if (sigsetjmp(landing, 1) != 0)
        return false;
    *(volatile char *)memory = 'w';
    return true;
}

TEST(its_maker_can_not_write_either_while_it_is_guarded)
{
    void *written, *seen;
    int fd = (int)CHECK_OK(pp__buffer_create(ROOM, &written));
    CHECK_INT(pp__buffer_map(fd, ROOM, 0, &seen), 0);
    CHECK(can_write(written));
    CHECK(!can_write(seen));
    CHECK_INT(pp__buffer_guard(written, ROOM), 0);
    CHECK(!can_write(written));
    CHECK_INT(pp__buffer_unguard(written, ROOM), 0);
    CHECK(can_write(written));
    pp__buffer_unmap(seen, ROOM, 0);
    pp__buffer_unmap(written, ROOM, 0);
    pp__fd_close(fd);
}

TEST(what_became_ones_own_is_written_to_alone_and_inherited)
{
    void *written, *seen, *other;
    int fd = (int)CHECK_OK(pp__buffer_create(ROOM, &written));
    CHECK_INT(pp__buffer_map(fd, ROOM, KIT_PAGE, &seen), 0);
    CHECK_INT(pp__buffer_map(fd, ROOM, 0, &other), 0);
    strcpy(written, "abc");
    CHECK(!kit_child_has_it_mapped(seen, ROOM));
    CHECK_INT(pp__buffer_own(seen, ROOM, KIT_PAGE), 0);
    CHECK(kit_child_has_it_mapped((char *)seen - KIT_PAGE, ROOM + KIT_PAGE));
    strcpy(seen, "xyz");
    CHECK_STR(written, "abc");
    CHECK_STR(other, "abc");
    strcpy(written, "def");
    CHECK_STR(seen, "xyz");
    CHECK_STR(other, "def");
    pp__buffer_unmap(other, ROOM, 0);
    pp__buffer_unmap(seen, ROOM, KIT_PAGE);
    pp__buffer_unmap(written, ROOM, 0);
    pp__fd_close(fd);
}

static void expect_refused(int fd, size_t room, const char *part)
{
    void *seen = NULL;
    CHECK_INT(pp__buffer_map(fd, room, KIT_PAGE, &seen), -EPROTO);
    CHECK_HAS(pp_last_error(), part);
    CHECK(!seen);
    close(fd);
}

TEST(what_is_no_buffer_is_refused)
{
    static char bytes[ROOM];
    int pipes[2];
    struct kit_state before = kit_state();
    CHECK_INT(pipe2(pipes, O_CLOEXEC), 0);
    expect_refused(pipes[0], ROOM, "is none");
    close(pipes[1]);
    expect_refused(open("/proc/self/exe", O_RDONLY | O_CLOEXEC), ROOM, "");
    expect_refused(kit_memfd(bytes, ROOM, ROOM, 0), ROOM, "resized");
    expect_refused(kit_memfd(bytes, ROOM, ROOM, F_SEAL_SHRINK | F_SEAL_GROW), ROOM, "written");
    expect_refused(kit_memfd(bytes, ROOM, ROOM, F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE), ROOM, "resized");
    expect_refused(kit_memfd(bytes, ROOM, ROOM, F_SEAL_GROW | F_SEAL_FUTURE_WRITE), ROOM, "resized");
    expect_refused(kit_memfd(bytes, ROOM, ROOM, SEALED), ROOM + KIT_PAGE, "that is not");
    expect_refused(kit_memfd(bytes, ROOM, ROOM, SEALED), ROOM - KIT_PAGE, "that is not");
    expect_refused(kit_memfd(bytes, ROOM, ROOM, SEALED), SIZE_MAX, "address space");
    expect_refused(kit_memfd(bytes, 1, ROOM, SEALED), ROOM, "holes");
    expect_refused(kit_memfd(bytes, ROOM, (size_t)1 << 40, SEALED), (size_t)1 << 40, "holes");
    kit_check_unchanged(before);
    expect_refused(-1, ROOM, "is none");
}
