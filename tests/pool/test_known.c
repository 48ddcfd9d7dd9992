/* SPDX-License-Identifier: MIT */
/* Which buffers of the program's a worker knows: what is sent again and what makes way. */
#include "harness.h"

#include "pool/buffer.h"
#include "pool/known.h"

struct plan {
    struct pp__known known;
    struct pp__known_plan made;
    struct pp__buffer_record entries[PP_MAX_BUFFERS];
};

/* Calls with buffers of these serials, each of `room` bytes. */
static void plan(struct plan *plan, const uint64_t *serials, uint32_t count, size_t room)
{
    static pp_buffer each[PP_MAX_BUFFERS];
    struct pp__passed passed[PP_MAX_BUFFERS];
    struct pp__buffers buffers = {.count = count, .each = passed};
    for (uint32_t i = 0; i < count; i++) {
        each[i] = (pp_buffer){.serial = serials[i], .room = room, .size = room, .fd = 1000 + (int)serials[i]};
        passed[i] = (struct pp__passed){.buffer = &each[i]};
    }
    pp__known_plan(&plan->known, &buffers, 7, &plan->made, plan->entries);
    plan->known = plan->made.after;
}

TEST(known_buffers_are_not_sent_again_and_the_oldest_makes_way)
{
    struct plan p = {0};
    for (uint64_t serial = 1; serial <= PP__KNOWN; serial++) {
        plan(&p, &serial, 1, 4096);
        CHECK_INT(p.made.fresh, 1);
        CHECK_INT(p.made.fds[0], 1000 + serial);
        CHECK_INT(p.made.dropped, 0);
        CHECK_INT(p.entries[0].fresh, 1);
    }
    plan(&p, (uint64_t[]){1, 2}, 2, 4096);
    CHECK_INT(p.made.fresh, 0);
    CHECK_INT(p.made.dropped, 0);
    plan(&p, (uint64_t[]){3, 100, 101}, 3, 4096);
    CHECK_INT(p.made.fresh, 2);
    CHECK_INT(p.made.dropped, 1 << 3 | 1 << 4); /* those of 4 and 5 */
    CHECK_INT(p.entries[0].fresh, 0);
    CHECK_INT(p.entries[1].place, 3);
    CHECK_INT(p.entries[2].place, 4);
    CHECK_INT(p.known.size, PP__KNOWN * 4096);
    plan(&p, (uint64_t[]){102, 6}, 2, 4096); /* 6 is the oldest one now, and stays */
    CHECK_INT(p.made.fresh, 1);
    CHECK_INT(p.made.dropped, 1 << 6); /* that of 7 */
    CHECK_INT(p.entries[1].fresh, 0);
}

TEST(buffers_that_are_too_many_bytes_make_way_but_those_of_one_call_may_be_more)
{
    struct plan p = {0};
    plan(&p, (uint64_t[]){1}, 1, PP__KNOWN_MAX / 2);
    plan(&p, (uint64_t[]){2}, 1, PP__KNOWN_MAX / 2);
    CHECK_INT(p.made.dropped, 0);
    plan(&p, (uint64_t[]){3}, 1, PP__KNOWN_MAX / 2);
    CHECK_INT(p.made.dropped, 1);
    CHECK_INT(p.entries[0].place, 0);
    plan(&p, (uint64_t[]){2, 3, 4}, 3, PP__KNOWN_MAX);
    CHECK_INT(p.made.dropped, 0);
    CHECK_INT(p.made.fresh, 1);
    plan(&p, (uint64_t[]){5}, 1, 4096);
    CHECK_INT(p.made.dropped, 7);
    CHECK_INT(p.known.size, 4096);
}
