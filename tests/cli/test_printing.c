/* SPDX-License-Identifier: MIT */
/* What tasks and their library print themselves on standard output: all of it comes out, and where among results. */
#include "command.h"

#define CHATTY(name) PP_TEST_PLUGINS "/libchatty.so:" name
#define INLINE "map", "--start-method=inline"

TEST(inline_a_task_prints_before_its_own_result)
{
    struct outcome o = RUN("", INLINE, CHATTY("talk"), "a", "b");
    CHECK_DONE(o, "loaded\non a\na\non b\nb\nunloaded\n");
}

TEST(inline_a_task_prints_before_its_own_result_whoever_asks_for_the_method)
{
    setenv("PROCPOOL_START", "inline", 1);
    struct outcome o = RUN("", "map", "--start-method=fork", CHATTY("talk_past_stdio"), "a", "b");
    CHECK_DONE(o, "loaded\non a\na\non b\nb\nunloaded\n");
}

TEST(inline_a_task_prints_past_stdio_before_its_own_result)
{
    struct outcome o = RUN("", INLINE, CHATTY("talk_past_stdio"), "a", "b");
    CHECK_DONE(o, "loaded\non a\na\non b\nb\nunloaded\n");
}

TEST(inline_a_task_that_fails_has_printed)
{
    struct command c = with_input(file_with_text("a\nbad\nb\n"));
    c.err = c.out;
    START(&c, INLINE, CHATTY("talk"));
    struct outcome o = finish(&c);
    CHECK_STR(o.out, "loaded\non a\na\non bad\nbad: it is bad\non b\nb\nunloaded\n");
    CHECK_INT(o.status, 1);
}

TEST(inline_what_was_printed_outlives_an_early_end)
{
    struct outcome o = RUN("", INLINE, "--fail-fast", CHATTY("talk"), "a", "bad", "b");
    CHECK_STR(o.out, "loaded\non a\na\non bad\n");
    CHECK_STR(o.err, "bad: it is bad\n");
    CHECK_INT(o.status, 1);
}

TEST(inline_what_was_printed_outlives_an_end_by_a_signal)
{
    struct outcome o = RUN("", INLINE, CHATTY("talk_and_interrupt"), "a", "b");
    CHECK_ENDED(o, 128 + SIGTERM, "interrupted by SIGTERM");
    CHECK_HAS(o.out, "loaded\non a\n");
}

TEST(inline_a_full_disk_is_told_where_only_tasks_print)
{
    struct command c = with_input(-1);
    c.out = open("/dev/full", O_WRONLY | O_CLOEXEC);
    START(&c, INLINE, CHATTY("talk"), "bad");
    struct outcome o = finish(&c);
    CHECK_HAS(o.err, "procpool: standard output: No space left on device\n");
    CHECK_INT(o.status, 1);
}

TEST(inline_what_a_task_prints_waits_for_room)
{
    int from, to = full_pipe(&from);
    struct command c = {.in = -1, .out = to, .err = file_with("", 0)};
    START(&c, INLINE, CHATTY("talk"), "a");
    close(to);
    c.out = -1;
    const char *text = read_late(from);
    struct outcome o = finish(&c);
    CHECK_STR(o.err, "");
    CHECK_HAS(text, "loaded\non a\na\n");
    CHECK_INT(o.status, 0);
}

/* Workers are forked from a process in which the constructor has printed. */
TEST(a_constructor_prints_once_and_before_results)
{
    struct outcome o = RUN("", "map", "-j2", "--start-method=fork", CHATTY("quiet"), "a", "b");
    CHECK_DONE(o, "loaded\na\nb\nunloaded\n");
}

TEST(in_a_worker_stdio_prints_when_the_call_ends_and_write_at_once)
{
    struct outcome o = RUN("", "map", "-j1", "--start-method=fork", CHATTY("talk_both_ways"), "a");
    CHECK_DONE(o, "loaded\nthen, by write\nfirst, by stdio\na\nunloaded\n");
}
