/* SPDX-License-Identifier: MIT */
/* The command on a terminal: the bar, Ctrl-C, and a terminal that goes away. */
#include "command.h"

#include <poll.h>
#include <pty.h>

struct terminal {
    pid_t pid;
    int master;
    char text[65536];
    size_t used;
};

/* Starts the command as the leader of a session on a new terminal. */
static void open_terminal(struct terminal *t, int in, const char *const *arguments)
{
    struct winsize size = {.ws_row = 24, .ws_col = 80};
    *t = (struct terminal){0};
    t->pid = forkpty(&t->master, NULL, NULL, &size);
    CHECK(t->pid >= 0);
    if (t->pid > 0) {
        fcntl(t->master, F_SETFD, FD_CLOEXEC);
        return;
    }
    if (in >= 0)
        dup2(in, STDIN_FILENO);
    execv(COMMAND, (char *const *)arguments);
    _exit(127);
}

/* Takes in what it prints for `ms`, or until it is gone. False when it is. */
static bool listen_for(struct terminal *t, int ms)
{
    struct pollfd ready = {.fd = t->master, .events = POLLIN};
    if (poll(&ready, 1, ms) != 1)
        return true;
    ssize_t got = read(t->master, t->text + t->used, sizeof t->text - 1 - t->used);
    if (got <= 0)
        return false;
    t->used += (size_t)got;
    return true;
}

static void listen_until(struct terminal *t, const char *text)
{
    double end = test_seconds() + 5 * harness_scale();
    while (!strstr(t->text, text)) {
        if (test_seconds() > end || !listen_for(t, 50))
            harness_fail(__FILE__, __LINE__, "no \"%s\" in \"%s\"", text, t->text);
    }
}

/* Waits for the end while taking in what it still prints. Returns its status as finish() does. */
static int end_terminal(struct terminal *t)
{
    int status = 0;
    double end = test_seconds() + 5 * harness_scale();
    while (waitpid(t->pid, &status, WNOHANG) == 0) {
        CHECK(test_seconds() < end);
        if (t->master < 0 || !listen_for(t, 20))
            test_sleep_ms(5);
    }
    size_t before;
    do
        before = t->used;
    while (t->master >= 0 && listen_for(t, 50) && t->used > before);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

#define OPEN(t, in, ...) open_terminal((t), (in), (const char *const[]){"procpool", "map", __VA_ARGS__, NULL})

/* The processes that stubborn tasks printed. */
static void find_workers(struct terminal *t, pid_t workers[2])
{
    double end = test_seconds() + 5 * harness_scale();
    for (int found = 0; found < 2;) {
        char *at = t->text;
        CHECK(test_seconds() < end);
        listen_for(t, 20);
        for (found = 0; found < 2 && (at = strstr(at, "worker ")) && strchr(at, '\n'); found++, at++)
            workers[found] = atoi(at + 7);
    }
}

static struct terminal t;

TEST(results_on_a_terminal_come_line_by_line)
{
    OPEN(&t, -1, "-j2", TASK("slow"), "1", "2", "8000");
    listen_until(&t, "1\r\n2\r\n");
    kill(t.pid, SIGTERM);
    CHECK_INT(end_terminal(&t), 128 + SIGTERM);
}

TEST(lines_can_be_typed)
{
    OPEN(&t, -1, "--tag", TASK("size_of"));
    CHECK_INT(write(t.master, "four\n", 5), 5);
    listen_until(&t, "four\t4\r\n");
    CHECK_INT(write(t.master, "\x04", 1), 1);
    CHECK_INT(end_terminal(&t), 0);
}

TEST(the_bar_shows_count_rate_failures_and_time_left)
{
    OPEN(&t, -1, "-j1", "--progress", TASK("slow"), "1", "200", "200", "200", "200");
    listen_until(&t, "2/5 done");
    listen_until(&t, "/s, 0 failed, 0:0");
    listen_until(&t, " left");
    listen_until(&t, "###");
    CHECK_INT(end_terminal(&t), 0);
}

TEST(the_bar_is_gone_where_a_line_is_printed_and_at_the_end)
{
    OPEN(&t, -1, "-j1", "--progress", TASK("slow"), "300", "301");
    CHECK_INT(end_terminal(&t), 0);
    listen_until(&t, "301\r\n");
    CHECK_HAS(t.text, "  \r300\r\n"); /* blanks over the bar, back to the first column, then the line */
    CHECK_HAS(t.text, "  \r301\r\n");
    char *last = strrchr(t.text, '\n');
    CHECK(!strstr(last, "done") || strstr(last, "   \r"));
}

TEST(the_bar_estimates_the_time_left_from_a_file)
{
    int in = file_with_text("1\n200\n200\n200\n");
    OPEN(&t, in, "-j1", "--progress", TASK("slow"));
    listen_until(&t, "2 done");
    listen_until(&t, " left");
    CHECK_INT(end_terminal(&t), 0);
}

TEST(without_the_option_there_is_no_bar)
{
    OPEN(&t, -1, TASK("slow"), "300");
    CHECK_INT(end_terminal(&t), 0);
    CHECK_STR(t.text, "300\r\n");
}

TEST(ctrl_c_ends_it_with_one_line)
{
    pid_t workers[2];
    OPEN(&t, -1, "-j2", "--progress", TASK("stubborn"), "1", "2", "3");
    find_workers(&t, workers);
    CHECK_INT(write(t.master, "\x03", 1), 1);
    CHECK_INT(end_terminal(&t), 128 + SIGINT);
    CHECK_HAS(t.text, "procpool: interrupted by SIGINT (0 done, 0 failed)\r\n");
    wait_until(!test_process_alive(workers[0]) && !test_process_alive(workers[1]), 2);
}

TEST(a_closed_terminal_ends_it)
{
    pid_t workers[2];
    OPEN(&t, -1, "-j2", "--progress", TASK("stubborn"), "1", "2", "3");
    find_workers(&t, workers);
    close(t.master);
    t.master = -1;
    CHECK_INT(end_terminal(&t), 128 + SIGHUP);
    wait_until(!test_process_alive(workers[0]) && !test_process_alive(workers[1]), 2);
}

/* As under nohup, with the terminal as standard output all the same. */
TEST(a_closed_terminal_ends_it_when_the_signal_is_ignored_too)
{
    pid_t workers[2];
    signal(SIGHUP, SIG_IGN);
    OPEN(&t, -1, "-j2", TASK("stubborn"), "1", "2", "3");
    find_workers(&t, workers);
    close(t.master);
    t.master = -1;
    CHECK_INT(end_terminal(&t), 1);
    wait_until(!test_process_alive(workers[0]) && !test_process_alive(workers[1]), 2);
}
