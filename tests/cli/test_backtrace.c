/* SPDX-License-Identifier: MIT */
/* What `procpool map --backtrace` prints of crashes and failures. */
#include "command.h"

/* The lines below the first, each of which is set in and numbered; the first of them has `function`, the last one the
 * task. */
static void check_below(const char *err, const char *first, const char *function)
{
    CHECK_HAS(err, first);
    const char *below = strchr(err, '\n') + 1, *last = below;
    int count = 0;
    for (const char *line = below; *line; line = strchr(line, '\n') + 1, count++) {
        char begin[32];
        snprintf(begin, sizeof begin, "    #%d ", count);
        CHECK(strncmp(line, begin, strlen(begin)) == 0);
        last = line;
    }
    CHECK(count >= 1);
    CHECK_HAS(below, function);
    CHECK_HAS(last, "#");
    CHECK_HAS(last, "lost ");
    CHECK_HAS(last, "(libtasks.so+0x");
}

TEST(a_crash_is_followed_by_where_it_was)
{
    if (TEST_ON_VALGRIND)
        LEFT_OUT("on valgrind crashes are valgrind's affair");
    struct outcome o = RUN("", "map", "--backtrace", TASK("lost"), "x");
    CHECK_INT(o.status, 1);
    check_below(o.err, "x: its worker 0 was killed by signal 11 (Segmentation fault)\n", "    #0 follow ");
}

TEST(a_failure_is_followed_by_where_it_was)
{
    struct outcome o = RUN("", "map", "--backtrace", TASK("lost"), "fail");
    CHECK_INT(o.status, 1);
    check_below(o.err, "fail: no way\n", "    #0 lost ");
}

TEST(inline_a_failure_is_followed_by_where_it_was)
{
    struct outcome o = RUN("", "map", "--backtrace", "--start-method=inline", TASK("lost"), "fail");
    CHECK_INT(o.status, 1);
    check_below(o.err, "fail: no way\n", "    #0 lost ");
}

TEST(what_has_no_backtrace_is_one_line)
{
    struct outcome o = RUN("", "map", "--backtrace", TASK("hard"), "kill");
    CHECK_STR(o.err, "kill: its worker 0 was killed by signal 9 (Killed)\n");
}

TEST(without_the_option_a_failure_is_one_line)
{
    struct outcome o = RUN("", "map", "-j1", TASK("lost"), "fail", "x");
    CHECK_STR(o.err, "fail: no way\nx: its worker 0 was killed by signal 11 (Segmentation fault)\n");
}
