/* SPDX-License-Identifier: MIT */
/* The programs in examples/, run as their users run them. */
#include "command.h"

/* With a text as standard input, and arguments after the first, which is its name. */
static struct outcome run_example(const char *path, const char *text, const char *const *arguments)
{
    struct command command = with_input(file_with_text(text));
    command.program = path;
    start(&command, arguments);
    return finish(&command);
}

#define EXAMPLE(name, text, ...)                                                                                       \
    run_example(PP_TEST_BUILD "/examples/" name, (text), (const char *const[]){name, __VA_ARGS__ NULL})

TEST(first_prints_a_result)
{
    struct outcome outcome = EXAMPLE("first", "", );
    CHECK_STR(outcome.err, "");
    CHECK_INT(outcome.status, 0);
    CHECK_INT(count_lines(outcome.out), 1);
}

TEST(array_prints_what_became_of_all)
{
    struct outcome outcome = EXAMPLE("array", "", );
    CHECK_DONE(outcome, "of the numbers up to 100000, 77031 takes most steps: 350\n");
}

TEST(stream_reverses_lines_and_loses_one_that_crashes)
{
    struct outcome outcome = EXAMPLE("stream", "abc\ncrash\ndef\n", );
    CHECK_STR(outcome.out, "cba\nfed\n");
    CHECK_HAS(outcome.err, "crash: ");
    CHECK_HAS(outcome.err, "signal 6");
    CHECK_INT(outcome.status, 0);
}

static struct outcome run_pairs(const char *left, const char *right)
{
    char left_path[64], right_path[64];
    snprintf(left_path, sizeof left_path, "/proc/%d/fd/%d", (int)getpid(), file_with_text(left));
    snprintf(right_path, sizeof right_path, "/proc/%d/fd/%d", (int)getpid(), file_with_text(right));
    return EXAMPLE("pairs", "", left_path, right_path, );
}

TEST(pairs_stops_when_the_shorter_file_does)
{
    CHECK_DONE(run_pairs("a\nbcd\nc\n", "a\nbce\nc\nd\ne\n"), "2: from character 3 on\n");
    CHECK_DONE(run_pairs("a\nx\nc\nd\ne\n", "b\nx\n"), "1: from character 1 on\n");
    CHECK_DONE(run_pairs("", "a\n"), "");
}
