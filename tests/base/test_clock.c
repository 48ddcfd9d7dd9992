/* SPDX-License-Identifier: MIT */
#include "harness.h"
#include "helpers.h"

#include "base/clock.h"

#include <limits.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

TEST(time_does_not_run_backwards_and_passes_in_a_sleep)
{
    uint64_t before = pp__now();
    for (int i = 0; i < 1000; i++) {
        uint64_t now = pp__now();
        CHECK(now >= before);
        before = now;
    }
    test_sleep_ms(20);
    CHECK(pp__now() - before >= 20 * PP__MILLISECOND);
}

TEST(a_child_sees_the_same_time)
{
    uint64_t *seen = mmap(NULL, sizeof *seen, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(seen != MAP_FAILED);
    uint64_t before = pp__now();
    if (fork() == 0) {
        *seen = pp__now();
        _exit(0);
    }
    CHECK_OK(wait(NULL));
    CHECK(*seen >= before);
    CHECK(*seen <= pp__now());
}

TEST(a_negative_time_is_never_and_zero_is_now)
{
    CHECK(pp__deadline(-1) == PP__NEVER);
    CHECK(pp__deadline(INT_MIN) == PP__NEVER);
    uint64_t before = pp__now(), deadline = pp__deadline(0), after = pp__now();
    CHECK(before <= deadline && deadline <= after);
}

TEST(a_deadline_is_so_many_milliseconds_from_now)
{
    uint64_t before = pp__now(), deadline = pp__deadline(1500), after = pp__now();
    CHECK(before + 1500 * PP__MILLISECOND <= deadline && deadline <= after + 1500 * PP__MILLISECOND);
    CHECK(pp__deadline(INT_MAX) >= before + (uint64_t)INT_MAX * PP__MILLISECOND);
}

TEST(until_is_what_is_left_and_nothing_when_it_has_passed)
{
    CHECK(pp__until(PP__NEVER) == PP__NEVER);
    CHECK(pp__until(0) == 0);
    CHECK(pp__until(pp__now()) == 0);
    uint64_t left = pp__until(pp__now() + 100 * PP__SECOND);
    CHECK(left <= 100 * PP__SECOND);
    CHECK(left > 50 * PP__SECOND);
}

TEST(milliseconds_are_rounded_up_so_that_nobody_wakes_early)
{
    CHECK_INT(pp__to_milliseconds(0), 0);
    CHECK_INT(pp__to_milliseconds(1), 1);
    CHECK_INT(pp__to_milliseconds(PP__MILLISECOND - 1), 1);
    CHECK_INT(pp__to_milliseconds(PP__MILLISECOND), 1);
    CHECK_INT(pp__to_milliseconds(PP__MILLISECOND + 1), 2);
    CHECK_INT(pp__to_milliseconds(5 * PP__SECOND), 5000);
}

TEST(never_is_minus_one_for_poll_and_what_is_too_long_is_the_longest)
{
    CHECK_INT(pp__to_milliseconds(PP__NEVER), -1);
    CHECK_INT(pp__to_milliseconds(PP__NEVER - 1), INT_MAX);
    CHECK_INT(pp__to_milliseconds((uint64_t)INT_MAX * PP__MILLISECOND), INT_MAX);
    CHECK_INT(pp__to_milliseconds((uint64_t)INT_MAX * PP__MILLISECOND + 1), INT_MAX);
    CHECK_INT(pp__to_milliseconds((uint64_t)INT_MAX * PP__MILLISECOND - 1), INT_MAX);
}

TEST(a_timespec_has_all_of_the_duration)
{
    struct timespec t = pp__to_timespec(3 * PP__SECOND + 7);
    CHECK_INT(t.tv_sec, 3);
    CHECK_INT(t.tv_nsec, 7);
    t = pp__to_timespec(PP__SECOND - 1);
    CHECK_INT(t.tv_sec, 0);
    CHECK_INT(t.tv_nsec, 999999999);
    t = pp__to_timespec(PP__NEVER - 1);
    CHECK_INT(t.tv_sec, (PP__NEVER - 1) / PP__SECOND);
    CHECK_INT(t.tv_nsec, (PP__NEVER - 1) % PP__SECOND);
}
