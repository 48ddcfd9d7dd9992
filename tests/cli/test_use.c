/* SPDX-License-Identifier: MIT */
/* Wrong use, and outputs and inputs that refuse: one clear line, the right status, nothing printed. */
#include "command.h"

static void check_wrong_use(const char *expected, const char *const *arguments)
{
    struct outcome o = run(file_with("", 0), arguments);
    CHECK_ENDED(o, 2, expected);
    CHECK(strncmp(o.err, "procpool: ", 10) == 0);
    CHECK_STR(o.out, "");
}

#define WRONG(expected, ...) check_wrong_use(expected, (const char *const[]){"procpool", ##__VA_ARGS__, NULL})

TEST(an_unknown_command_is_wrong_use)
{
    WRONG("no command");
    WRONG("'fold' is no command", "fold");
    WRONG("'--frobnicate' is no command", "--frobnicate");
}

TEST(a_wrong_option_is_named)
{
    WRONG("needs LIBRARY.so:FUNCTION", "map");
    WRONG("needs LIBRARY.so:FUNCTION", "map", "--tag");
    WRONG("'--frobnicate' is unknown", "map", "--frobnicate", TASK("echo"));
    WRONG("'-x' is unknown", "map", "--tag", "-xj3", TASK("echo"));
    WRONG("'--tag=yes' takes no value", "map", "--tag=yes", TASK("echo"));
    WRONG("'-j' needs a value", "map", "-j");
    WRONG("'--timeout' needs a value", "map", "--timeout");
}

TEST(a_wrong_value_is_named_with_its_option)
{
    static const char *const numbers[] = {"", "0", "-1", "1025", "1x", "99999999999999999999", " 1", "+1", "0x10"};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        WRONG("--jobs: '", "map", "-j", numbers[i], TASK("echo"));
    static const char *const times[] = {"", "0", "-1", "1h", "s", "nan", "inf", "1e99", "0x10", " 1", "50000000"};
    for (size_t i = 0; i < sizeof times / sizeof *times; i++)
        WRONG("--timeout: '", "map", "--timeout", times[i], TASK("echo"));
    WRONG("up to 49 days", "map", "--timeout=70561m", TASK("echo"));
    WRONG("up to 49 days", "map", "--timeout=4233600001ms", TASK("echo"));
    WRONG("--retries: '1001'", "map", "--retries=1001", TASK("echo"));
    WRONG("--chunk: '0'", "map", "--chunk=0", TASK("echo"));
    WRONG("--on-crash: 'ignore'", "map", "--on-crash=ignore", TASK("echo"));
    WRONG("--start-method: 'thread'", "map", "--start-method=thread", TASK("echo"));
}

TEST(times_have_units_and_fractions)
{
    static const char *const times[] = {"9", "9.5", ".9e1", "9000ms", "9s", "0.5m", "70560m"};
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        struct outcome o = RUN("", "map", "--timeout", times[i], TASK("echo"), "a");
        CHECK_DONE(o, "a\n");
    }
}

TEST(a_library_that_is_none_is_named)
{
    char text[] = "/tmp/procpool-test-XXXXXX";
    int fd = mkstemp(text);
    CHECK(fd >= 0 && write(fd, "no library at all, only a text that is long enough for a header\n", 64) == 64);
    char task[64];
    snprintf(task, sizeof task, "%s:echo", text);
    WRONG("is not LIBRARY.so:FUNCTION", "map", "libtasks.so");
    WRONG("is not LIBRARY.so:FUNCTION", "map", "libtasks.so:");
    WRONG("is not LIBRARY.so:FUNCTION", "map", ":echo");
    WRONG("/nowhere/at-all.so", "map", "/nowhere/at-all.so:echo");
    WRONG("at-all.so", "map", "at-all.so:echo");
    WRONG("/tmp", "map", "/tmp:echo");
    WRONG(text, "map", task);
    chmod(text, 0);
    WRONG(text, "map", task);
    unlink(text);
}

TEST(a_library_for_another_machine_is_named)
{
    char path[] = "/tmp/procpool-test-XXXXXX.so";
    char task[64];
    int fd = mkstemps(path, 3);
    int from = open(PP_TEST_PLUGINS "/libtasks.so", O_RDONLY | O_CLOEXEC);
    char block[4096];
    for (ssize_t got; (got = read(from, block, sizeof block)) > 0;)
        CHECK_INT(write(fd, block, (size_t)got), got);
    CHECK_INT(pwrite(fd, "\x08\x00", 2, 18), 2); /* e_machine: MIPS */
    snprintf(task, sizeof task, "%s:echo", path);
    WRONG(path, "map", task);
    unlink(path);
}

TEST(a_missing_function_is_named)
{
    WRONG("no function named 'missing'", "map", TASK("missing"), "a");
}

/* The loader looks in what a library depends on, too: libc has this one. */
TEST(a_function_of_another_library_is_missing)
{
    WRONG("no function named 'getpid'", "map", TASK("getpid"), "a");
}

TEST(data_is_no_function)
{
    WRONG("not_a_function", "map", TASK("not_a_function"), "a");
}

TEST(help_and_version_are_printed)
{
    struct outcome o = RUN("", "--help");
    CHECK_HAS(o.out, "Usage: procpool");
    CHECK_INT(o.status, 0);
    struct outcome m = RUN("", "map", "--help");
    CHECK_HAS(m.out, "--on-crash");
    CHECK_INT(m.status, 0);
    struct outcome v = RUN("", "--version");
    CHECK(strncmp(v.out, "procpool 0.", 11) == 0);
    CHECK_INT(v.status, 0);
}

TEST(a_full_disk_ends_it)
{
    struct command c = with_input(file_with_text("a\nb\n"));
    c.out = open("/dev/full", O_WRONLY | O_CLOEXEC);
    START(&c, "map", TASK("echo"));
    struct outcome o = finish(&c);
    CHECK_ENDED(o, 1, "procpool: standard output: No space left on device\n");
    START(&c, "map", "--help");
    CHECK_INT(finish(&c).status, 1);
}

TEST(a_full_disk_ends_endless_work_too)
{
    struct command c = with_input(open("/dev/zero", O_RDONLY | O_CLOEXEC));
    c.out = open("/dev/full", O_WRONLY | O_CLOEXEC);
    START(&c, "map", "-0", TASK("echo"));
    struct outcome o = finish(&c);
    CHECK_ENDED(o, 1, "procpool: standard output: No space left on device\n");
}

TEST(a_file_that_may_not_grow_ends_it)
{
    struct command c = with_input(open("/dev/zero", O_RDONLY | O_CLOEXEC));
    struct rlimit limit = {.rlim_cur = 4 << 20, .rlim_max = 4 << 20};
    if (TEST_ON_VALGRIND || KIT_TSAN) /* where a call for each byte takes too long: it is nearly full */
        CHECK_INT(ftruncate(c.out, (4 << 20) - (64 << 10)), 0);
    CHECK_INT(setrlimit(RLIMIT_FSIZE, &limit), 0);
    START(&c, "map", "-0", "--chunk=100", TASK("echo"));
    struct outcome o = finish(&c);
    CHECK_ENDED(o, 1, "procpool: standard output: File too large\n");
    CHECK_INT(o.out_size, 4 << 20);
}

TEST(a_closed_standard_output_ends_it)
{
    if (TEST_ON_VALGRIND)
        LEFT_OUT("valgrind's log file takes the place of a closed standard output");
    struct command c = with_input(file_with_text("a\nb\n"));
    c.out = -1;
    START(&c, "map", TASK("echo"));
    struct outcome o = finish(&c);
    CHECK_ENDED(o, 1, "procpool: standard output: Bad file descriptor\n");
}

/* There is always input, and nobody reads what comes of it. */
static struct command endless_and_unread(void)
{
    int ends[2];
    struct command c = with_input(open("/dev/zero", O_RDONLY | O_CLOEXEC));
    CHECK_INT(pipe2(ends, O_CLOEXEC), 0);
    close(ends[0]);
    c.out = ends[1];
    return c;
}

TEST(a_pipe_that_nobody_reads_ends_it)
{
    struct command c = endless_and_unread();
    START(&c, "map", "-0", TASK("echo"));
    struct outcome o = finish(&c);
    CHECK_ENDED(o, 1, "procpool: standard output: Broken pipe\n");
}

/* Though there is nothing to write yet, and calls run that would for ever. */
TEST(a_reader_that_leaves_is_noticed_while_calls_run)
{
    int ends[2];
    pid_t workers[2];
    struct command c = with_input(open("/dev/null", O_RDONLY | O_CLOEXEC));
    CHECK_INT(pipe2(ends, O_CLOEXEC), 0);
    c.out = ends[1];
    START(&c, "map", "-j2", TASK("stubborn"), "1", "2");
    wait_for_workers(&c, 2, workers);
    close(ends[0]);
    struct outcome o = finish(&c);
    CHECK_HAS(o.err, "procpool: standard output: Broken pipe\n");
    CHECK_INT(o.status, 1);
    wait_until(!test_process_alive(workers[0]) && !test_process_alive(workers[1]), 2);
}

/* Though every call fails, so that nothing is ever written. */
TEST(a_reader_that_leaves_is_noticed_while_calls_fail)
{
    struct command c = endless_and_unread();
    START(&c, "map", "-0", "-j2", TASK("refuse"));
    struct outcome o = finish(&c);
    CHECK_HAS(o.err, "procpool: standard output: Broken pipe\n");
    CHECK_INT(o.status, 1);
}

TEST(a_standard_input_that_cannot_be_read_is_named)
{
    struct command c = with_input(-1);
    START(&c, "map", TASK("echo"));
    struct outcome o = finish(&c);
    CHECK_ENDED(o, 1, "procpool: standard input: Bad file descriptor\n");
    struct command d = with_input(open("/", O_RDONLY | O_CLOEXEC));
    START(&d, "map", TASK("echo"));
    struct outcome p = finish(&d);
    CHECK_ENDED(p, 1, "procpool: standard input: Is a directory\n");
}

TEST(a_closed_standard_error_changes_nothing_else)
{
    struct command c = with_input(file_with_text("a\nbad\nb\n"));
    c.err = -1;
    START(&c, "map", TASK("picky"));
    struct outcome o = finish(&c);
    CHECK_STR(o.out, "a\nb\n");
    CHECK_INT(o.status, 1);
}

TEST(failures_wait_for_room_on_standard_error)
{
    int from, to = full_pipe(&from);
    struct command c = {.in = -1, .out = file_with("", 0), .err = to};
    START(&c, "map", "-j1", TASK("picky"), "bad", "good", "bad too");
    close(to);
    CHECK_HAS(read_late(from), "bad: it is bad\nbad too: it is bad too\n");
    CHECK_INT(finish(&c).status, 1);
}
