/* SPDX-License-Identifier: MIT */
/* Blocks of payloads that are not as their senders say. */
#include "harness.h"
#include "memfd_kit.h"

#include "pool/block.h"
#include "pool/channel.h"
#include "procpool.h"

#include <errno.h>

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
