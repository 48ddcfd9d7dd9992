/* SPDX-License-Identifier: MIT */
/* However the command is ended, it says one line, its status tells the signal and no worker is left. */
#include "command.h"

#define WORKERS 2

static struct command start_stubborn(pid_t workers[WORKERS])
{
    struct command c = with_input(open("/dev/null", O_RDONLY | O_CLOEXEC));
    START(&c, "map", "-j2", TASK("stubborn"), "1", "2", "3", "4");
    wait_for_workers(&c, WORKERS, workers);
    return c;
}

static void check_gone(const pid_t workers[WORKERS])
{
    for (int i = 0; i < WORKERS; i++)
        wait_until(!test_process_alive(workers[i]), 2);
}

static void check_ended_by(int signal_number, const char *line)
{
    pid_t workers[WORKERS];
    struct command c = start_stubborn(workers);
    double begin = test_seconds();
    kill(c.pid, signal_number);
    struct outcome o = finish(&c);
    CHECK(test_seconds() - begin < 2 * harness_scale());
    CHECK_INT(o.status, 128 + signal_number);
    CHECK_HAS(o.err, line);
    CHECK_INT(count_lines(o.err), WORKERS + (*line != '\0'));
    check_gone(workers);
}

TEST(sigint_ends_it_and_every_worker)
{
    check_ended_by(SIGINT, "procpool: interrupted by SIGINT (0 done, 0 failed)\n");
}

TEST(sigterm_ends_it_and_every_worker)
{
    check_ended_by(SIGTERM, "procpool: interrupted by SIGTERM (0 done, 0 failed)\n");
}

TEST(sighup_ends_it_and_every_worker)
{
    check_ended_by(SIGHUP, "procpool: interrupted by SIGHUP (0 done, 0 failed)\n");
}

TEST(sigkill_ends_every_worker)
{
    check_ended_by(SIGKILL, "");
}

TEST(a_signal_that_comes_twice_is_told_once)
{
    pid_t workers[WORKERS];
    struct command c = start_stubborn(workers);
    kill(c.pid, SIGINT);
    kill(c.pid, SIGINT);
    kill(c.pid, SIGTERM);
    struct outcome o = finish(&c);
    CHECK(o.status == 128 + SIGINT || o.status == 128 + SIGTERM);
    CHECK_HAS(o.err, "procpool: interrupted by SIG");
    check_gone(workers);
}

TEST(finished_results_are_not_lost_by_a_signal)
{
    struct command c = with_input(open("/dev/null", O_RDONLY | O_CLOEXEC));
    START(&c, "map", "-j2", TASK("hard"), "a", "b", "hang", "hang");
    for (char *text = NULL; !text || strcmp(text, "a\nb\n") != 0; text = file_text(c.out, NULL)) {
        free(text);
        test_sleep_ms(5);
    }
    kill(c.pid, SIGTERM);
    struct outcome o = finish(&c);
    CHECK_STR(o.out, "a\nb\n");
    CHECK_ENDED(o, 128 + SIGTERM, "procpool: interrupted by SIGTERM (2 done, 0 failed)\n");
}

TEST(a_signal_that_was_ignored_from_the_start_stays_so)
{
    signal(SIGHUP, SIG_IGN);
    pid_t workers[WORKERS];
    struct command c = start_stubborn(workers);
    kill(c.pid, SIGHUP);
    test_sleep_ms(300);
    CHECK_INT(waitpid(c.pid, NULL, WNOHANG), 0);
    kill(c.pid, SIGTERM);
    struct outcome o = finish(&c);
    CHECK_INT(o.status, 128 + SIGTERM);
    check_gone(workers);
}

TEST(a_signal_is_heard_while_input_is_waited_for)
{
    int ends[2];
    CHECK_INT(pipe2(ends, O_CLOEXEC), 0);
    struct command c = with_input(ends[0]);
    START(&c, "map", TASK("echo"));
    test_sleep_ms(200 * harness_scale());
    kill(c.pid, SIGINT);
    struct outcome o = finish(&c);
    CHECK_INT(o.status, 128 + SIGINT);
}

/* The last write is behind the loop. Should the signal come before it, the end is the same. */
static void check_interrupted_write(int flags)
{
    int reader;
    struct command c = {.in = -1, .out = full_pipe(&reader), .err = file_with("", 0)};
    CHECK_INT(fcntl(c.out, F_SETFL, flags), 0);
    START(&c, "map", "-j1", TASK("echo"), "a");
    test_sleep_ms(500 * harness_scale());
    kill(c.pid, SIGTERM);
    struct outcome o = finish(&c);
    CHECK_ENDED(o, 128 + SIGTERM, "procpool: interrupted by SIGTERM (");
    close(reader);
}

TEST(a_signal_ends_the_last_write_and_is_told)
{
    check_interrupted_write(0);
    check_interrupted_write(O_NONBLOCK);
}

TEST(a_signal_is_not_held_up_by_a_full_standard_error)
{
    int reader;
    struct command c = {.in = -1, .out = file_with("", 0), .err = full_pipe(&reader)};
    START(&c, "map", "-j1", TASK("picky"), "bad");
    test_sleep_ms(500 * harness_scale());
    kill(c.pid, SIGTERM);
    CHECK_INT(finish(&c).status, 128 + SIGTERM);
    close(reader);
}

/* While the library is loaded, the constructor of which comes back after a signal or hangs. */
static void check_loading(const char *how, const char *line)
{
    struct command c = with_input(-1);
    setenv("PP_TEST_LOADING", how, 1);
    START(&c, "map", PP_TEST_PLUGINS "/libreluctant.so:echo", "a");
    wait_until(strcmp(file_text(c.err, NULL), "loading\n") == 0, 10);
    kill(c.pid, SIGTERM);
    struct outcome o = finish(&c);
    CHECK_STR(o.err, line);
    CHECK_INT(o.status, 128 + SIGTERM);
    CHECK_STR(o.out, "");
}

TEST(a_signal_is_told_while_the_library_is_loaded)
{
    check_loading("slow", "loading\nprocpool: interrupted by SIGTERM (0 done, 0 failed)\n");
    check_loading("hang", "loading\nprocpool: interrupted by SIGTERM\n");
}
