/* SPDX-License-Identifier: MIT */
/* Shared memory on huge pages: the same memory, whether or not the kernel gives them. */
#include "helpers.h"
#include "segment_kit.h"

#include "shm/buffer.h"
#include "shm/huge.h"

#define MIB ((size_t)1 << 20)
#define SMALL (MIB / 2) /* the largest of a rest that stays as it is, and more than a page */

TEST(a_room_leaves_less_than_half_of_a_huge_page_as_a_rest)
{
    CHECK_INT(pp__huge_room(0), 0);
    CHECK_INT(pp__huge_room(SMALL), SMALL);
    CHECK_INT(pp__huge_room(MIB), 2 * MIB);
    CHECK_INT(pp__huge_room(2 * MIB), 2 * MIB);
    CHECK_INT(pp__huge_room(2 * MIB + SMALL), 2 * MIB + SMALL);
    CHECK_INT(pp__huge_room(3 * MIB), 4 * MIB);
}

/* valgrind needs some of its own. */
static void check_addresses(rlim_t before)
{
    rlim_t now = kit_address_space();
    CHECK(TEST_ON_VALGRIND ? now < before + MIB : now == before);
}

TEST(what_is_reserved_begins_where_a_huge_page_can_and_nothing_more_is_left)
{
    static const size_t sizes[] = {1, KIT_PAGE, 2 * MIB - 1, 2 * MIB, 2 * MIB + 1, 7 * MIB + 123};
    rlim_t addresses = kit_address_space();
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (size_t before = 0; before <= 2 * (size_t)KIT_PAGE; before += KIT_PAGE) {
            char *place = pp__huge_reserve(before, sizes[i], PROT_READ | PROT_WRITE);
            CHECK(place != NULL);
            CHECK(sizes[i] < 2 * MIB || ((uintptr_t)place + before) % (2 * MIB) == 0);
            memset(place, 'a', before + sizes[i]);
            munmap(place, before + sizes[i]);
        }
    check_addresses(addresses);
}

/* Of shared memory, in the mappings from there on, as each one is a line of its own. */
static size_t kib_on_huge_pages(const void *memory)
{
    char line[512];
    size_t kib = 0;
    bool inside = false;
    FILE *maps = fopen("/proc/self/smaps", "r");
    CHECK(maps != NULL);
    while (fgets(line, sizeof line, maps)) {
        unsigned long begin, end;
        if (sscanf(line, "%lx-%lx ", &begin, &end) == 2)
            inside = begin == (uintptr_t)memory;
        else if (inside)
            sscanf(line, "ShmemPmdMapped: %zu", &kib);
    }
    fclose(maps);
    return kib;
}

/* Whether the kernel gives one now, by its own word. */
static bool kernel_gives_one(void)
{
    char *place = mmap(NULL, 2 * PP__HUGE_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(place != MAP_FAILED);
    char *aligned = place + -(uintptr_t)place % PP__HUGE_PAGE;
    CHECK(mmap(aligned, PP__HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
          aligned);
    memset(aligned, 1, PP__HUGE_PAGE);
    bool gives = madvise(aligned, PP__HUGE_PAGE, 25 /* MADV_COLLAPSE */) == 0;
    munmap(place, 2 * PP__HUGE_PAGE);
    return gives;
}

static int childs_memfd_mappings(void)
{
    int status;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0)
        _exit(kit_memfd_mappings());
    CHECK_INT(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* Written, guarded, looked at from elsewhere and taken over: on huge pages or not. */
static void go_through(size_t room, size_t *written_on, size_t *seen_on)
{
    void *written, *seen;
    struct kit_state before = kit_state();
    int fd = (int)CHECK_OK(pp__buffer_create(room, &written));
    CHECK_INT(pp__buffer_map(fd, room, KIT_PAGE, &seen), 0);
    for (int fill = 'a'; fill < 'd'; fill++) {
        memset(written, fill, room);
        CHECK_INT(pp__buffer_guard(written, room), 0);
        CHECK(memcmp(written, seen, room) == 0);
        CHECK_INT(((const char *)seen)[room - 1], fill);
        CHECK_INT(pp__buffer_unguard(written, room), 0);
    }
    *written_on = kib_on_huge_pages(written);
    *seen_on = kib_on_huge_pages(seen);
    CHECK_INT(childs_memfd_mappings(), 0);
    pp__buffer_unmap(written, room, 0);
    CHECK_INT(((const char *)seen)[room - 1], 'c');
    CHECK_INT(pp__buffer_own(seen, room, KIT_PAGE), 0);
    memset(seen, 'x', room);
    pp__buffer_unmap(seen, room, KIT_PAGE);
    pp__fd_close(fd);
    kit_check_unchanged(before);
}

TEST(buffers_are_on_huge_pages_on_both_sides_as_far_as_these_go)
{
    static const size_t rooms[] = {SMALL, 2 * MIB, 2 * MIB + SMALL, 34 * MIB};
    for (size_t i = 0; i < sizeof rooms / sizeof *rooms; i++) {
        size_t expected = rooms[i] / (2 * MIB) * 2048, written_on = 0, seen_on = 0;
        for (int tries = 0; tries < 10 && (written_on < expected || seen_on < expected); tries++) {
            if (!kernel_gives_one()) /* none may be left when it is our turn */
                LEFT_OUT("no huge pages for shared memory here");
            go_through(rooms[i], &written_on, &seen_on);
        }
        CHECK_INT(written_on, expected);
        CHECK_INT(seen_on, expected);
    }
}

/* A worker may send what can't be mapped time and again. */
TEST(what_can_not_be_mapped_takes_no_addresses)
{
    void *written;
    const void *seen;
    char path[64];
    int fd = (int)CHECK_OK(pp__payload_create(4 * MIB, &written));
    CHECK_INT(pp__payload_seal(fd, written, 4 * MIB), 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int blind = open(path, O_WRONLY | O_CLOEXEC);
    CHECK(blind >= 0);
    rlim_t addresses = kit_address_space();
    for (int i = 0; i < 10; i++)
        CHECK(pp__payload_map(blind, 4 * MIB, &seen) < 0);
    check_addresses(addresses);
    close(blind);
    pp__fd_close(fd);
}

TEST(a_payload_is_on_huge_pages_on_both_sides_too)
{
    size_t size = 4 * MIB + 3, written_on = 0, seen_on = 0;
    for (int tries = 0; tries < 10 && (written_on < 4096 || seen_on < 4096); tries++) {
        void *written;
        const void *seen;
        if (!kernel_gives_one())
            LEFT_OUT("no huge pages for shared memory here");
        struct kit_state before = kit_state();
        int fd = (int)CHECK_OK(pp__payload_create(size, &written));
        memset(written, 'a', size);
        written_on = kib_on_huge_pages(written);
        CHECK_INT(pp__payload_seal(fd, written, size), 0);
        CHECK_INT(pp__payload_map(fd, size, &seen), 0);
        for (size_t i = 0; i < size; i += KIT_PAGE)
            CHECK_INT(((const char *)seen)[i], 'a');
        seen_on = kib_on_huge_pages(seen);
        pp__payload_unmap(seen, size);
        pp__fd_close(fd);
        kit_check_unchanged(before);
    }
    CHECK_INT(written_on, 4096);
    CHECK_INT(seen_on, 4096);
}
