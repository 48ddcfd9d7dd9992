/* SPDX-License-Identifier: MIT */
/* The programs in examples/, run as their users run them. */
#include "command.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

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

/* --------------------------------------------------------------------------------------- products */

/* How many lines of `text` begin with `begin` and have `part` in them. */
static int count_lines_with(const char *text, const char *begin, const char *part)
{
    int count = 0;
    for (const char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
        const char *found = strstr(line, part);
        count += strncmp(line, begin, strlen(begin)) == 0 && found && found < end;
    }
    return count;
}

/* Each step is told in a form like "Producer-1 (123) produced one product, the queue has 4 now". */
static void check_step(const char *line)
{
    char kind[16], did[16];
    int number, pid, size, length = 0;
    CHECK_INT(sscanf(line, "%15[A-Za-z]-%d (%d) %15s one product, the queue has %d now%n", kind, &number, &pid, did,
                     &size, &length),
              5);
    CHECK(length > 0 && line[length] == '\n');
    CHECK_STR(did, strcmp(kind, "Producer") == 0 ? "produced" : "consumed");
    CHECK(number >= 1 && number <= 3 && pid > 1 && size >= 0 && size <= 40);
}

TEST(products_go_from_three_producers_to_three_consumers)
{
    struct outcome outcome = EXAMPLE("products", "", );
    CHECK_STR(outcome.err, "");
    CHECK_INT(outcome.status, 0);
    CHECK_INT(count_lines(outcome.out), 30);
    for (const char *line = outcome.out; *line; line = strchr(line, '\n') + 1)
        check_step(line);
    CHECK_INT(count_lines_with(outcome.out, "Producer-1 ", " produced one product, "), 5);
    CHECK_INT(count_lines_with(outcome.out, "Producer-2 ", " produced one product, "), 5);
    CHECK_INT(count_lines_with(outcome.out, "Producer-3 ", " produced one product, "), 5);
    CHECK_INT(count_lines_with(outcome.out, "Consumer-", " consumed one product, "), 15);
}

/* ------------------------------------------------------------------------------------------ pages */

#define LARGE_PAGE 70000

/* A client may have been killed meanwhile. */
static void answer(int client, const char *status, const char *text, size_t filling)
{
    char head[128], filler[1000];
    memset(filler, 'x', sizeof filler);
    int size = snprintf(head, sizeof head, "HTTP/1.0 %s\r\nContent-Length: %zu\r\n\r\n%s", status,
                        strlen(text) + filling, text);
    if (send(client, head, (size_t)size, MSG_NOSIGNAL) != size)
        return;
    for (size_t left = filling; left > 0; left -= left < sizeof filler ? left : sizeof filler)
        if (send(client, filler, left < sizeof filler ? left : sizeof filler, MSG_NOSIGNAL) < 0)
            return;
}

/* One request on a connection; one that hangs is never answered. */
static void serve_client(int client)
{
    char request[4096] = "", path[64] = "";
    size_t size = 0;
    for (ssize_t got = 1; got > 0 && !strstr(request, "\r\n\r\n") && size < sizeof request - 1; size += (size_t)got) {
        got = recv(client, request + size, sizeof request - 1 - size, 0);
        if (got <= 0)
            break;
    }
    if (sscanf(request, "GET /%63s ", path) != 1) { /* it was killed before it had asked */
        close(client);
        return;
    }
    if (strcmp(path, "hang") == 0)
        return;
    if (strcmp(path, "missing") == 0)
        answer(client, "404 Not Found", "", 0);
    else if (strcmp(path, "crash") == 0)
        answer(client, "200 OK", "crash", 0);
    else
        answer(client, "200 OK", "", strcmp(path, "large") == 0 ? LARGE_PAGE : 1000);
    close(client);
}

/* A server on the loopback, until it is killed; its port. */
static pid_t start_server(int *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(listener >= 0);
    CHECK_INT(bind(listener, (struct sockaddr *)&address, size), 0);
    CHECK_INT(listen(listener, 16), 0);
    CHECK_INT(getsockname(listener, (struct sockaddr *)&address, &size), 0);
    *port = ntohs(address.sin_port);
    pid_t server = fork();
    CHECK(server >= 0);
    while (server == 0) {
        int client = accept(listener, NULL, NULL);
        if (client >= 0)
            serve_client(client);
    }
    close(listener);
    return server;
}

static void stop_server(pid_t server)
{
    CHECK_INT(kill(server, SIGKILL), 0);
    CHECK_INT(waitpid(server, NULL, 0), server);
}

/* With these pages of a server as arguments; words[0] is the program's name. */
static struct outcome run_with_pages(const char *program, const char *const *pages, int *port)
{
    char path[256], urls[8][64];
    const char *arguments[10] = {program};
    snprintf(path, sizeof path, PP_TEST_BUILD "/examples/%s", program);
    if (access(path, X_OK) != 0)
        LEFT_OUT("it was not built: its library is not here");
    setenv("no_proxy", "127.0.0.1", 1);
    pid_t server = start_server(port);
    for (int i = 0; pages[i]; i++) {
        snprintf(urls[i], sizeof urls[i], "http://127.0.0.1:%d/%s", *port, pages[i]);
        arguments[i + 1] = urls[i];
    }
    struct outcome outcome = run_example(path, "", arguments);
    stop_server(server);
    return outcome;
}

/* These examples give a page one second, or three. */
static void needs_speed(void)
{
    if (TEST_ON_VALGRIND)
        LEFT_OUT("on valgrind no process has loaded a page within the seconds that the example gives it");
}

/* The line that says `what` of the page, with its URL. */
static void check_line(const char *text, int port, const char *format, const char *page, const char *what)
{
    char url[64], line[128];
    snprintf(url, sizeof url, "http://127.0.0.1:%d/%s", port, page);
    snprintf(line, sizeof line, format, url, what);
    CHECK_HAS(text, line);
}

TEST_WITHIN(urls_are_requested_by_a_process_each_and_those_that_can_not_be_cost_themselves, 20)
{
    int port;
    needs_speed();
    static const char *const pages[] = {"hang", "small", "crash", "missing", "large", NULL};
    struct outcome outcome = run_with_pages("urls", pages, &port);
    CHECK_STR(outcome.err, "");
    CHECK_INT(outcome.status, 0);
    CHECK_INT(count_lines(outcome.out), 5);
    check_line(outcome.out, port, "%s: its process was ended by signal %s\n", "crash", "6");
    check_line(outcome.out, port, "%s: its process was ended by signal %s\n", "hang", "9");
    check_line(outcome.out, port, "%s: %s\n", "small", "1000 bytes");
    check_line(outcome.out, port, "%s: %s\n", "large", "70000 bytes");
    check_line(outcome.out, port, "%s: %s", "missing", "The requested URL returned error: 404");
}

TEST_WITHIN(results_of_a_process_each_are_in_a_dictionary_that_all_share, 20)
{
    int port;
    needs_speed();
    static const char *const pages[] = {"hang", "small", "crash", "missing", "large", NULL};
    struct outcome outcome = run_with_pages("results", pages, &port);
    CHECK_STR(outcome.err, "");
    CHECK_INT(outcome.status, 0);
    CHECK_INT(count_lines(outcome.out), 7);
    check_line(outcome.out, port, "%s: %s\n", "small", "1000 bytes");
    check_line(outcome.out, port, "%s: its process was ended by signal %s\n", "crash", "6");
    check_line(outcome.out, port, "%s: its process was ended by signal %s\n", "hang", "9");
    check_line(outcome.out, port, "%s: %s\n", "crash", "no result");
    check_line(outcome.out, port, "%s: %s\n", "hang", "no result");
    check_line(outcome.out, port, "%s: %s", "missing", "The requested URL returned error: 404");
    check_line(outcome.out, port, "%s: %s\n", "large", "70000 bytes");
}

TEST_WITHIN(pages_are_loaded_by_a_pool_and_those_that_can_not_be_cost_themselves, 20)
{
    int port;
    needs_speed();
    static const char *const pages[] = {"small", "crash", "hang", "missing", "large", "small", NULL};
    struct outcome outcome = run_with_pages("pages", pages, &port);
    CHECK_STR(outcome.err, "");
    CHECK_INT(outcome.status, 0);
    CHECK_INT(count_lines(outcome.out), 6);
    check_line(outcome.out, port, "'%s' page is %s bytes\n", "small", "1000");
    check_line(outcome.out, port, "'%s' page is not there: its worker%s", "crash", "");
    check_line(outcome.out, port, "'%s' page is not there: outlived its timeout%s", "hang", "");
    check_line(outcome.out, port, "'%s' page is not there: %s", "missing", "The requested URL returned error: 404");
    check_line(outcome.out, port, "'%s' page is %s bytes\n", "large", "70000");
    CHECK_INT(count_lines_with(outcome.out, "'http://", "/small' page is 1000 bytes"), 2);
    for (int i = 2; i < 5; i++) /* in the order of the arguments */
        CHECK(strstr(outcome.out, pages[i]) > strstr(outcome.out, pages[i - 1]));
}

TEST(pages_of_a_server_that_is_not_there_are_told_so)
{
    struct outcome outcome = run_with_pages("pages", (const char *const[]){NULL}, &(int){0});
    CHECK_DONE(outcome, "");
    outcome = EXAMPLE("pages", "", "http://127.0.0.1:1/", );
    CHECK_HAS(outcome.out, "'http://127.0.0.1:1/' page is not there: Failed to connect");
    CHECK_INT(outcome.status, 0);
}
