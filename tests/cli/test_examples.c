/* SPDX-License-Identifier: MIT */
/* The programs in examples/, run as their users run them. */
#include "command.h"

#include <sys/ioctl.h>

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
    CHECK_DONE(outcome, "49\n");
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

static void check_primes(const struct outcome *outcome, size_t lines)
{
    CHECK_STR(outcome->err, "");
    CHECK_INT(outcome->status, 0);
    CHECK_INT(count_lines(outcome->out), lines);
    CHECK_HAS(outcome->out, "up to 100: 25\n");
    CHECK_HAS(outcome->out, "up to 100000: 9592\n");
    CHECK_HAS(outcome->out, "up to 0: 0\n");
}

TEST(a_loop_by_hand_answers_all_numbers)
{
    struct outcome outcome = EXAMPLE("loop", "100\n100000\n0\n", );
    check_primes(&outcome, 3);
}

/* One that is begun, and no more of what there might be. */
TEST(a_loop_by_hand_ends_by_a_signal_and_loses_nothing)
{
    int pipe_fds[2], unread;
    CHECK_INT(pipe(pipe_fds), 0);
    struct command command = with_input(pipe_fds[0]);
    command.program = PP_TEST_BUILD "/examples/loop";
    fcntl(pipe_fds[1], F_SETFD, FD_CLOEXEC);
    start(&command, (const char *const[]){"loop", NULL});
    CHECK_INT(write(pipe_fds[1], "100\n", 4), 4);
    wait_until(lseek(command.out, 0, SEEK_END) > 0, 3600);
    CHECK_INT(write(pipe_fds[1], "5000000\n", 8), 8);
    wait_until(ioctl(pipe_fds[0], FIONREAD, &unread) == 0 && unread == 0,
               3600); /* it is submitted before signals are let in */
    CHECK_INT(kill(command.pid, SIGTERM), 0);
    struct outcome outcome = finish(&command);
    CHECK_DONE(outcome, "up to 100: 25\nup to 5000000: 348513\n");
}

static void check_loop_of(const char *path, const char *name)
{
    if (access(path, X_OK) != 0)
        LEFT_OUT("it was not built: its library is not here");
    struct outcome outcome = run_example(path, "", (const char *const[]){name, "100", "100000", "0", NULL});
    check_primes(&outcome, 4);
    CHECK_HAS(outcome.out, "the loop went on meanwhile: ");
}

TEST(a_pool_works_in_libuvs_loop)
{
    check_loop_of(PP_TEST_BUILD "/examples/loop_uv", "loop_uv");
}

TEST(a_pool_works_in_glibs_main_loop)
{
    check_loop_of(PP_TEST_BUILD "/examples/loop_glib", "loop_glib");
}

TEST(nice_prints_the_niceness_that_its_workers_were_started_with)
{
    struct outcome outcome = EXAMPLE("nice", "", );
    CHECK_DONE(outcome, "19\n");
}
