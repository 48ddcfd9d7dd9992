/* SPDX-License-Identifier: MIT */
/* needs: seams */
/* Blocks of payloads that are not as their senders say. */
#include "harness.h"
#include "memfd_kit.h"

#include "base/seam.h"
#include "pool/block.h"
#include "pool/channel.h"
#include "procpool.h"

#include <errno.h>
#include <stdarg.h>

#define SEALED (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

TEST(a_payload_with_holes_is_not_mapped)
{
    void *block = NULL;
    int fd = kit_memfd("abc", 4, 2 * PP__COPIED_MAX + 1, SEALED);
    CHECK_INT(pp__block_open(fd, 2 * PP__COPIED_MAX, &block), -EPROTO);
    CHECK_HAS(pp_last_error(), "holes");
    CHECK(!block);
    close(fd);
}

/* The sender makes holes, and seals, when it is asked for its seals. */
static int late_fcntl(int fd, int command, ...)
{
    va_list arguments;
    va_start(arguments, command);
    int argument = va_arg(arguments, int);
    va_end(arguments);
    if (command == F_GET_SEALS && fcntl(fd, F_GET_SEALS) == 0) {
        CHECK_INT(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)PP__COPIED_MAX), 0);
        CHECK_INT(fcntl(fd, F_ADD_SEALS, SEALED), 0);
    }
    return fcntl(fd, command, argument);
}

TEST(holes_that_are_made_before_the_seals_are_seen)
{
    static char bytes[2 * PP__COPIED_MAX + 1];
    void *block = NULL;
    int fd = kit_memfd(bytes, sizeof bytes, sizeof bytes, 0);
    pp__sys.fcntl = late_fcntl;
    CHECK_INT(pp__block_open(fd, sizeof bytes - 1, &block), -EPROTO);
    pp__sys.fcntl = fcntl;
    CHECK_HAS(pp_last_error(), "holes");
    close(fd);
}

TEST(a_payload_without_a_nul_is_not_mapped)
{
    static char bytes[2 * PP__COPIED_MAX + 1];
    void *block = NULL;
    int before = kit_memfd_mappings();
    memset(bytes, 'x', sizeof bytes);
    int fd = kit_memfd(bytes, sizeof bytes, sizeof bytes, SEALED);
    CHECK_INT(pp__block_open(fd, sizeof bytes - 1, &block), -EPROTO);
    CHECK_HAS(pp_last_error(), "NUL");
    CHECK_INT(kit_memfd_mappings(), before);
    CHECK_INT(pp__block_open(fd, sizeof bytes, &block), -EPROTO);
    CHECK_HAS(pp_last_error(), "less than");
    close(fd);
}

TEST(a_payload_with_holes_that_is_copied_reads_as_zeros)
{
    void *block = NULL;
    int fd = kit_memfd("abc", 4, PP__COPIED_MAX + 1, SEALED);
    CHECK_INT(pp__block_open(fd, PP__COPIED_MAX, &block), 0);
    CHECK_STR((const char *)block, "abc");
    CHECK_INT(((const char *)block)[PP__COPIED_MAX - 1], 0);
    pp__block_free(block);
    close(fd);
}
