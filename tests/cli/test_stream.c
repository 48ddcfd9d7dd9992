/* SPDX-License-Identifier: MIT */
/* Inputs stream: results come out while more input is waited for, and memory does not grow with the input. */
#include "command.h"

#include <poll.h>

struct stream {
    struct command command;
    int in; /* our end: what is written here is its standard input */
    int out;
};

static struct stream open_stream(const char *const *arguments)
{
    int in[2];
    int out[2];
    CHECK_INT(pipe2(in, O_CLOEXEC), 0);
    CHECK_INT(pipe2(out, O_CLOEXEC), 0);
    struct stream s = {.command = {.in = in[0], .out = out[1], .err = file_with("", 0)}, .in = in[1], .out = out[0]};
    start(&s.command, arguments);
    close(in[0]);
    close(out[1]);
    return s;
}

static void put(const struct stream *s, const char *text)
{
    CHECK_INT(write(s->in, text, strlen(text)), strlen(text));
}

/* The next bytes of its output must be `text`, within a second or so. */
static void expect(const struct stream *s, const char *text)
{
    char got[256] = "";
    size_t used = 0;
    while (used < strlen(text)) {
        struct pollfd ready = {.fd = s->out, .events = POLLIN};
        if (poll(&ready, 1, (int)(2000 * harness_scale())) != 1)
            harness_fail(__FILE__, __LINE__, "only \"%s\" came of \"%s\"", got, text);
        ssize_t n = read(s->out, got + used, strlen(text) - used);
        CHECK(n > 0);
        used += (size_t)n;
    }
    CHECK_STR(got, text);
}

static void end_stream(struct stream *s, int status)
{
    close(s->in);
    s->command.out = -1;
    CHECK_INT(finish(&s->command).status, status);
    close(s->out);
}

TEST(a_slow_pipe_gets_its_results_at_once)
{
    struct stream s = open_stream((const char *const[]){"procpool", "map", TASK("echo"), NULL});
    put(&s, "a\n");
    expect(&s, "a\n");
    put(&s, "b\nc\nd");
    expect(&s, "b\nc\n");
    put(&s, "e\n");
    expect(&s, "de\n");
    put(&s, "last");
    end_stream(&s, 0);
}

TEST(a_chunk_does_not_wait_until_it_is_full)
{
    struct stream s = open_stream((const char *const[]){"procpool", "map", "--chunk=100", TASK("echo"), NULL});
    put(&s, "a\n");
    expect(&s, "a\n");
    end_stream(&s, 0);
}

TEST(new_lines_are_begun_while_calls_run)
{
    struct stream s = open_stream((const char *const[]){"procpool", "map", "-j2", "--unordered", TASK("slow"), NULL});
    put(&s, "4000\n");
    put(&s, "1\n");
    expect(&s, "1\n");
    put(&s, "2\n");
    expect(&s, "2\n");
    kill(s.command.pid, SIGTERM);
    end_stream(&s, 128 + SIGTERM);
}

TEST(finished_results_come_out_while_the_next_call_runs)
{
    struct stream s =
        open_stream((const char *const[]){"procpool", "map", "-j2", TASK("slow"), "1", "2", "4000", NULL});
    expect(&s, "1\n2\n");
    kill(s.command.pid, SIGTERM);
    end_stream(&s, 128 + SIGTERM);
}

/* `lines` short lines through the command; the most memory that it had, KiB. */
static long memory_for(int lines)
{
    struct command c = with_input(-1);
    int in = memfd_create("lines", MFD_CLOEXEC);
    FILE *file = fdopen(in, "r+");
    for (int i = 0; i < lines; i++)
        fprintf(file, "%d\n", i);
    fflush(file);
    rewind(file);
    c.in = in;
    START(&c, "map", "--chunk=100", TASK("echo"));
    struct stat size;
    int status = 0;
    struct rusage use;
    CHECK_INT(wait4(c.pid, &status, 0, &use), c.pid);
    CHECK_INT(status, 0);
    fstat(in, &size);
    CHECK_INT(lseek(c.out, 0, SEEK_END), size.st_size);
    fclose(file);
    return use.ru_maxrss;
}

/* Single runs differ by up to 500 KiB. */
static long least_memory_for(int lines)
{
    long least = memory_for(lines);
    for (int i = 0; i < 2; i++) {
        long memory = memory_for(lines);
        least = memory < least ? memory : least;
    }
    return least;
}

TEST_WITHIN(a_million_lines_need_no_more_memory_than_ten_thousand, 120)
{
    long few = least_memory_for(10000);
    long many = least_memory_for(1000000);
    printf("10,000 lines: %ld KiB; 1,000,000: %ld KiB\n", few, many);
    if (KIT_ASAN || KIT_TSAN)
        LEFT_OUT("a sanitizer's memory grows by itself");
    if (TEST_ON_VALGRIND)
        LEFT_OUT("on valgrind memory is valgrind's");
    CHECK(many < few + 512); /* a byte for each line would be 967 KiB */
}

/* Large results that nobody reads yet do not pile up: no more inputs are taken. */
TEST(a_reader_that_waits_stops_the_work)
{
    int ends[2];
    struct command c = {.in = open("/dev/zero", O_RDONLY | O_CLOEXEC), .err = file_with("", 0)};
    CHECK_INT(pipe2(ends, O_CLOEXEC), 0);
    c.out = ends[1];
    START(&c, "map", "-0", "--tag", TASK("size_of"));
    char path[64];
    unsigned long begin = 0, now = 1, ignored;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)c.pid);
    while (begin != now) { /* its processor time stands still */
        FILE *stat = fopen(path, "re");
        begin = now;
        test_sleep_ms(300 * harness_scale());
        CHECK_INT(fscanf(stat, "%*d %*s %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &now, &ignored), 2);
        fclose(stat);
    }
    kill(c.pid, SIGTERM);
    c.out = -1;
    struct outcome o = finish(&c);
    CHECK_INT(o.status, 128 + SIGTERM);
    CHECK_ENDED(o, 128 + SIGTERM, "interrupted by SIGTERM");
}
