/* SPDX-License-Identifier: MIT */
/* What `procpool map` prints for its inputs, and how it ends. */
#include "command.h"

TEST(arguments_are_mapped_in_order)
{
    struct outcome o = RUN("", "map", TASK("slow"), "60", "1", "30", "2");
    CHECK_DONE(o, "60\n1\n30\n2\n");
}

TEST(lines_of_standard_input_are_mapped_in_order)
{
    struct outcome o = RUN("60\n1\n30\n2\n", "map", TASK("slow"));
    CHECK_DONE(o, "60\n1\n30\n2\n");
}

TEST(many_lines_keep_their_order)
{
    char *text = harness_keep(calloc(20000, 8));
    size_t used = 0;
    for (int i = 0; i < 20000; i++)
        used += (size_t)sprintf(text + used, "%d\n", i);
    struct outcome o = RUN(text, "map", "-j3", "--chunk=5", TASK("echo"));
    CHECK_DONE(o, text);
}

TEST(unordered_results_come_as_they_are_ready)
{
    struct outcome o = RUN("", "map", "-j2", "--unordered", TASK("slow"), "600", "1", "2");
    CHECK_STR(o.err, "");
    CHECK_HAS(o.out, "1\n");
    CHECK_HAS(o.out, "2\n");
    CHECK_INT(o.out_size, 8);
    CHECK_STR(o.out + 4, "600\n");
    CHECK_INT(o.status, 0);
}

TEST(tag_puts_the_input_before_the_result)
{
    struct outcome o = RUN("", "map", "--tag", TASK("size_of"), "a", "", "four");
    CHECK_DONE(o, "a\t1\n\t0\nfour\t4\n");
}

TEST(with_null_both_inputs_and_results_end_with_nul)
{
    static const char text[] = "a\nb\0c\0last";
    int in = file_with(text, sizeof text - 1);
    struct outcome o = run(in, (const char *const[]){"procpool", "map", "-0", TASK("echo"), NULL});
    CHECK_INT(o.out_size, sizeof text);
    CHECK(memcmp(o.out, text, sizeof text) == 0);
    CHECK_INT(o.status, 0);
}

TEST(a_nul_within_a_line_belongs_to_the_input)
{
    static const char text[] = "a\0b\n\0\n";
    int in = file_with(text, sizeof text - 1);
    struct outcome o = run(in, (const char *const[]){"procpool", "map", TASK("size_of"), NULL});
    CHECK_DONE(o, "3\n1\n");
}

TEST(an_empty_input_gives_no_results)
{
    struct outcome o = RUN("", "map", TASK("echo"));
    CHECK_DONE(o, "");
}

TEST(empty_lines_are_inputs)
{
    struct outcome o = RUN("\n\na\n\n", "map", TASK("size_of"));
    CHECK_DONE(o, "0\n0\n1\n0\n");
}

TEST(the_last_line_needs_no_newline)
{
    struct outcome o = RUN("a\nbc", "map", TASK("size_of"));
    CHECK_DONE(o, "1\n2\n");
}

TEST(a_line_may_be_huge)
{
    size_t size = 20 << 20;
    char *text = harness_keep(malloc(size + 3));
    memset(text, 'x', size);
    memcpy(text + size, "\ny", 3);
    struct outcome o = RUN(text, "map", TASK("echo"));
    CHECK_STR(o.err, "");
    CHECK_INT(o.out_size, size + 3);
    CHECK(memcmp(o.out, text, size + 2) == 0);
    CHECK_INT(o.status, 0);
}

TEST(a_result_with_newlines_is_printed_as_it_is)
{
    struct outcome o = RUN("", "map", TASK("two_lines"), "x", "y");
    CHECK_DONE(o, "one\ntwo\none\ntwo\n");
}

TEST(a_task_that_gives_nothing_has_an_empty_result)
{
    struct outcome o = RUN("", "map", TASK("nothing"), "x", "y");
    CHECK_DONE(o, "\n\n");
}

TEST(an_input_may_begin_with_a_dash)
{
    struct outcome o = RUN("", "map", TASK("echo"), "--tag", "-x");
    CHECK_DONE(o, "--tag\n-x\n");
}

TEST(a_failed_input_costs_only_itself)
{
    struct outcome o = RUN("a\nbad 1\nb\nbad 2\nc\n", "map", TASK("picky"));
    CHECK_STR(o.out, "a\nb\nc\n");
    CHECK_STR(o.err, "bad 1: it is bad 1\nbad 2: it is bad 2\n");
    CHECK_INT(o.status, 1);
}

TEST(a_crash_costs_only_its_input)
{
    struct outcome o = RUN("", "map", "-j2", "--chunk=4", TASK("hard"), "a", "kill", "b", "exit", "abort", "c", "d");
    CHECK_STR(o.out, "a\nb\nc\nd\n");
    CHECK_INT(count_lines(o.err), 3);
    CHECK(strncmp(o.err, "kill: ", 6) == 0);
    CHECK_HAS(o.err, "\nexit: ");
    CHECK_HAS(o.err, "\nabort: ");
    CHECK_INT(o.status, 1);
}

TEST(a_failure_is_one_line_whatever_the_input_is)
{
    char text[400] = "bad\tone\x1b[1m\xff\xc3\xa9";
    memset(text + strlen(text), 'x', 300);
    struct outcome o = RUN("", "map", TASK("picky"), text, "bad\ntwo");
    CHECK_INT(count_lines(o.err), 2);
    CHECK(strncmp(o.err, "bad\\tone\\x1b[1m\\xff\xc3\xa9xxx", 20) == 0);
    CHECK_HAS(o.err, "xxx...: it is bad\\tone");
    CHECK_HAS(o.err, "\nbad\\ntwo: it is bad\\ntwo\n");
    CHECK(!strchr(o.err, '\x1b'));
    CHECK_INT(o.status, 1);
}

/* What encodes a surrogate or a number beyond the last character is none; the neighbours of both are characters. */
TEST(bytes_that_are_no_utf_8_are_escaped)
{
    struct outcome o =
        RUN("", "map", TASK("refuse"), "\xed\x9f\xbf \xed\xa0\x80 \xed\xbf\xbf \xee\x80\x80",
            "\xf4\x8f\xbf\xbf \xf4\x90\x80\x80 \xf5\x80\x80\x80", "\xe0\x9f\xbf \xf0\x8f\xbf\xbf \xc1\xbf");
    CHECK_STR(o.err, "\xed\x9f\xbf \\xed\\xa0\\x80 \\xed\\xbf\\xbf \xee\x80\x80: refused\n"
                     "\xf4\x8f\xbf\xbf \\xf4\\x90\\x80\\x80 \\xf5\\x80\\x80\\x80: refused\n"
                     "\\xe0\\x9f\\xbf \\xf0\\x8f\\xbf\\xbf \\xc1\\xbf: refused\n");
    CHECK_INT(o.status, 1);
}

TEST(a_task_that_fails_without_a_word_still_has_a_reason)
{
    struct outcome o = RUN("", "map", TASK("odd"), "x");
    CHECK_INT(count_lines(o.err), 1);
    CHECK(strncmp(o.err, "x: ", 3) == 0 && strlen(o.err) > 4);
    CHECK_INT(o.status, 1);
}

TEST(a_call_that_outlives_its_timeout_fails_alone)
{
    char timeout[32]; /* long enough for the others on a machine with much else to do */
    snprintf(timeout, sizeof timeout, "--timeout=%us", harness_scale());
    struct outcome o = RUN("", "map", timeout, TASK("hard"), "a", "hang", "b");
    CHECK_STR(o.out, "a\nb\n");
    CHECK_INT(count_lines(o.err), 1);
    CHECK(strncmp(o.err, "hang: ", 6) == 0);
    CHECK_INT(o.status, 1);
}

TEST(retries_begin_a_call_again)
{
    char path[] = "/tmp/procpool-test-XXXXXX";
    int fd = mkstemp(path);
    unlink(path);
    struct outcome o = RUN("", "map", "--retries=2", TASK("second_time"), path);
    unlink(path);
    close(fd);
    CHECK_STR(o.err, "");
    CHECK(strncmp(o.out, path, strlen(path)) == 0);
    CHECK_INT(o.status, 0);
}

TEST(without_retries_a_call_is_begun_once)
{
    char path[] = "/tmp/procpool-test-XXXXXX";
    int fd = mkstemp(path);
    unlink(path);
    struct outcome o = RUN("", "map", TASK("second_time"), path);
    unlink(path);
    close(fd);
    CHECK_STR(o.out, "");
    CHECK_INT(o.status, 1);
}

TEST(a_failure_tells_how_often_it_was_tried)
{
    struct outcome o = RUN("", "map", "--retries=2", TASK("hard"), "kill");
    CHECK_ENDED(o, 1, "(tried 3 times)");
}

TEST(fail_fast_stops_after_the_first_failure)
{
    struct outcome o = RUN("a\nb\nbad\nc\nbad\n", "map", "-j1", "--fail-fast", TASK("picky"));
    CHECK_STR(o.out, "a\nb\n");
    CHECK_STR(o.err, "bad: it is bad\n");
    CHECK_INT(o.status, 1);
}

TEST(fail_fast_does_not_wait_for_calls_that_run)
{
    double begin = test_seconds();
    struct outcome o = RUN("", "map", "-j2", "--fail-fast", "--unordered", TASK("hard"), "hang", "exit");
    CHECK_INT(count_lines(o.err), 1);
    CHECK_INT(o.status, 1);
    CHECK(test_seconds() - begin < 5 * harness_scale());
}

TEST(with_the_rule_break_a_crash_ends_everything_with_its_cause)
{
    struct outcome o = RUN("", "map", "-j2", "--on-crash=break", TASK("hard"), "a", "kill", "b", "hang");
    CHECK_ENDED(o, 1, "ignal 9");
}

TEST(every_start_method_gives_the_same_results)
{
    static const char *const methods[] = {"forkserver", "fork", "spawn", "inline"};
    for (int i = 0; i < 4; i++) {
        struct outcome o = RUN("a\nbad\nb\n", "map", "--start-method", methods[i], TASK("picky"));
        CHECK_STR(o.out, "a\nb\n");
        CHECK_STR(o.err, "bad: it is bad\n");
        CHECK_INT(o.status, 1);
    }
}

TEST(a_library_in_the_current_directory_needs_no_slash)
{
    CHECK_INT(chdir(PP_TEST_PLUGINS), 0);
    struct outcome o = RUN("", "map", "libtasks.so:echo", "a");
    CHECK_DONE(o, "a\n");
    struct outcome p = RUN("", "map", "./libtasks.so:echo", "a");
    CHECK_DONE(p, "a\n");
}

TEST(the_bar_is_not_drawn_where_there_is_no_terminal)
{
    struct outcome o = RUN("", "map", "--progress", TASK("slow"), "300", "1");
    CHECK_DONE(o, "300\n1\n");
}

TEST_WITHIN(the_example_counts_as_wc_does, 30)
{
    static char expected[1 << 20];
    FILE *files = popen("find /usr/share/common-licenses /bin/ls /bin/sh -type f | sort", "re");
    FILE *wc = popen("find /usr/share/common-licenses /bin/ls /bin/sh -type f | sort | LC_ALL=C xargs -n1 wc", "re");
    int in = memfd_create("files", MFD_CLOEXEC);
    for (int c; (c = getc(files)) != EOF;)
        dprintf(in, "%c", c);
    lseek(in, 0, SEEK_SET);
    expected[fread(expected, 1, sizeof expected - 1, wc)] = '\0';
    pclose(files);
    pclose(wc);
    struct outcome o = run(in, (const char *const[]){"procpool", "map", PP_TEST_BUILD "/examples/wc.so:count", NULL});
    CHECK_DONE(o, expected);
    CHECK(count_lines(o.out) > 5);
}
