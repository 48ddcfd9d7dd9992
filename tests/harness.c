/* SPDX-License-Identifier: MIT */
#include "harness.h"

#include "procpool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define STATUS_LEFT_OUT 77
#define LEFT_OUT_MARK "left out: "
#define OUTPUT_SHOWN_MAX (256 * 1024)
#define LEFTOVER_SECONDS 2

extern char **environ;

#pragma weak pp_worker_main /* a test of a lower floor links without it */

static struct harness_test *first_test, **last_link = &first_test;
static pid_t test_process; /* the process that runs a test, so that its forked children can be told from it */

void harness_add(struct harness_test *test)
{
    *last_link = test;
    last_link = &test->next;
}

unsigned harness_scale(void)
{
    const char *text = getenv("PP_TEST_SCALE");
    int scale = text ? atoi(text) : 1;
    return scale > 1 ? (unsigned)scale : 1;
}

/* -------------------------------------------------------------------------------- in the test's process */

/* Another thread may hold stdout for ever, and a forked child has its parent's text in the buffer: then it is not
 * flushed. */
static void flush(void)
{
    if (getpid() != test_process || ftrylockfile(stdout) != 0)
        return;
    fflush(stdout);
    funlockfile(stdout);
}

static void say(const char *text)
{
    ssize_t ignored = write(STDERR_FILENO, text, strlen(text));
    (void)ignored;
}

_Noreturn void harness_fail(const char *file, int line, const char *format, ...)
{
    char text[2048];
    int used = snprintf(text, sizeof text, "%s:%d: ", file, line);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text + used, sizeof text - (size_t)used, format, arguments);
    va_end(arguments);
    flush();
    say(text);
    say(getpid() == test_process ? "\n" : " (in a child)\n");
    _exit(1);
}

void harness_check_int(const char *file, int line, const char *what, long long actual, long long expected)
{
    if (actual != expected)
        harness_fail(file, line, "%s is %lld, not %lld", what, actual, expected);
}

void harness_check_str(const char *file, int line, const char *what, const char *actual, const char *expected)
{
    if (!actual || strcmp(actual, expected) != 0)
        harness_fail(file, line, "%s is \"%s\", not \"%s\"", what, actual ? actual : "(null)", expected);
}

void harness_check_has(const char *file, int line, const char *what, const char *text, const char *part)
{
    if (!text || !strstr(text, part))
        harness_fail(file, line, "%s is \"%s\", without \"%s\"", what, text ? text : "(null)", part);
}

long long harness_check_ok(const char *file, int line, const char *what, long long actual)
{
    if (actual < 0)
        harness_fail(file, line, "%s is %lld (%s): %s", what, actual, strerror((int)-actual), pp_last_error());
    return actual;
}

_Noreturn void harness_left_out(const char *reason)
{
    char text[1024];
    snprintf(text, sizeof text, "\n" LEFT_OUT_MARK "%s\n", reason);
    flush();
    say(text);
    _exit(STATUS_LEFT_OUT);
}

void *harness_keep(void *memory)
{
    static void **kept;
    static size_t count;
    kept = realloc(kept, (count + 1) * sizeof *kept);
    CHECK(kept);
    return kept[count++] = memory;
}

static struct harness_test *find_test(const char *name)
{
    for (struct harness_test *test = first_test; test; test = test->next)
        if (strcmp(test->name, name) == 0)
            return test;
    fprintf(stderr, "there is no test named %s\n", name);
    exit(2);
}

static int run_here(const char *name)
{
    struct harness_test *test = find_test(name);
    test_process = getpid();
    test->run();
    return 0;
}

/* ------------------------------------------------------------------------------------ in the runner */

struct outcome {
    bool timed_out, ended;
    int status;         /* as waitpid gave it */
    char leftover[256]; /* processes that outlived it */
};

static struct {
    const char *program;
    char path[4096];
    unsigned passed, failed, skipped;
    double used; /* of the last test's time limit: 1 is all of it */
} runner;

static double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void report(const char *verdict, const struct harness_test *test, const char *reason)
{
    const char *path = getenv("PP_TEST_REPORT");
    int fd = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666) : -1;
    if (fd < 0)
        return;
    dprintf(fd, "%s\t%s\t%s\t%s\t%.2f\n", verdict, runner.program, test->name, reason, runner.used);
    close(fd);
}

/* PP_TEST_WRAPPER is split at blanks and put before the test's own command. */
static pid_t spawn(const struct harness_test *test, int output)
{
    char *arguments[64], *wrapper = strdup(getenv("PP_TEST_WRAPPER") ?: ""), *rest = wrapper, *word;
    int count = 0;
    while ((word = strsep(&rest, " ")) && count < 60)
        if (*word)
            arguments[count++] = word;
    arguments[count++] = runner.path;
    arguments[count++] = (char *)"--run";
    arguments[count++] = (char *)test->name;
    arguments[count] = NULL;

    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&files, output, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&files, output, STDERR_FILENO);

    posix_spawnattr_t attributes;
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);

    pid_t pid;
    int error = posix_spawnp(&pid, arguments[0], &files, &attributes, arguments, environ);
    if (error != 0) {
        fprintf(stderr, "%s can't be started: %s\n", arguments[0], strerror(error));
        exit(2);
    }
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);
    free(wrapper);
    return pid;
}

/*
 * Reaps whatever ended, orphans of the test's included: the runner is their subreaper, and a dead worker must not look
 * alive to the test because nobody reaped it. False when there are no children left.
 */
static bool reap(pid_t pid, struct outcome *outcome)
{
    for (;;) {
        int status;
        pid_t ended = waitpid(-1, &status, WNOHANG | __WALL);
        if (ended <= 0)
            return ended == 0;
        if (ended == pid) {
            outcome->ended = true;
            outcome->status = status;
        }
    }
}

/* Sleeps until a child ends (SIGCHLD is blocked), or a little while. */
static void sleep_for_child(void)
{
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigtimedwait(&child, NULL, &(struct timespec){.tv_nsec = 50 * 1000 * 1000});
}

static void wait_for_test(pid_t pid, double limit, struct outcome *outcome)
{
    double begin = seconds_now(), end = begin + limit;
    while (reap(pid, outcome) && !outcome->ended) {
        if (seconds_now() > end && !outcome->timed_out) {
            outcome->timed_out = true;
            kill(-pid, SIGKILL);
        }
        sleep_for_child();
    }
    runner.used = (seconds_now() - begin) / limit;
}

/* Names and kills this process's children, which are all orphans of the test's by now. */
static void kill_children(struct outcome *outcome)
{
    DIR *directory = opendir("/proc");
    for (struct dirent *entry; directory && (entry = readdir(directory));) {
        char path[300], comm[64];
        int pid, parent;
        snprintf(path, sizeof path, "/proc/%s/stat", entry->d_name);
        FILE *file = *entry->d_name >= '1' && *entry->d_name <= '9' ? fopen(path, "re") : NULL;
        if (!file)
            continue;
        if (fscanf(file, "%d (%63[^)]) %*c %d", &pid, comm, &parent) == 3 && parent == getpid()) {
            size_t used = strlen(outcome->leftover);
            snprintf(outcome->leftover + used, sizeof outcome->leftover - used, " %d %s,", pid, comm);
            kill(pid, SIGKILL);
        }
        fclose(file);
    }
    if (directory)
        closedir(directory);
}

/* What a test started must be gone soon after it; what is not is named, killed, and fails the test. */
static void wait_for_leftovers(struct outcome *outcome)
{
    double end = seconds_now() + LEFTOVER_SECONDS * harness_scale();
    while (reap(0, outcome)) {
        if (seconds_now() > end || outcome->timed_out)
            kill_children(outcome);
        sleep_for_child();
    }
}

static void show(int output)
{
    char text[4096];
    off_t at = 0;
    for (ssize_t n; at < OUTPUT_SHOWN_MAX && (n = pread(output, text, sizeof text, at)) > 0; at += n)
        fwrite(text, 1, (size_t)n, stdout);
}

static void failed(const struct harness_test *test, const struct outcome *outcome, int output)
{
    char reason[512] = "a check failed";
    if (outcome->timed_out)
        snprintf(reason, sizeof reason, "not done within %u s", test->seconds * harness_scale());
    else if (WIFSIGNALED(outcome->status))
        snprintf(reason, sizeof reason, "ended by signal %d (%s)", WTERMSIG(outcome->status),
                 strsignal(WTERMSIG(outcome->status)));
    else if (outcome->status != 0 && WEXITSTATUS(outcome->status) != 1)
        snprintf(reason, sizeof reason, "ended with status %d", WEXITSTATUS(outcome->status));
    else if (outcome->status == 0)
        snprintf(reason, sizeof reason, "left processes behind:%s", outcome->leftover);
    show(output);
    printf("FAILED - %s: %s\n", test->name, reason);
    report("failed", test, reason);
    runner.failed++;
}

static void left_out(const struct harness_test *test, const char *reason)
{
    printf("left out - %s: %s\n", test->name, reason);
    report("skipped", test, reason);
    runner.skipped++;
}

/* The reason is the line that harness_left_out printed. */
static void left_out_by_itself(const struct harness_test *test, int output)
{
    char text[8192], *mark = NULL;
    off_t size = lseek(output, 0, SEEK_END), from = size > 4096 ? size - 4096 : 0;
    ssize_t n = pread(output, text, sizeof text - 1, from);
    text[n > 0 ? n : 0] = '\0';
    for (char *at = text; (at = strstr(at, "\n" LEFT_OUT_MARK)); at++)
        mark = at + 1 + strlen(LEFT_OUT_MARK);
    if (mark)
        mark[strcspn(mark, "\n")] = '\0';
    left_out(test, mark ? mark : "it did not say why");
}

static void run_test(const struct harness_test *test)
{
    const char *slow = getenv("PP_TEST_SLOW");
    runner.used = 0;
    if (test->slow && (!slow || strcmp(slow, "1") != 0)) {
        left_out(test, "slow; PP_TEST_SLOW=1 runs it");
        return;
    }
    fflush(NULL);
    int output = memfd_create("output", MFD_CLOEXEC);
    pid_t pid = spawn(test, output);
    struct outcome outcome = {0};
    wait_for_test(pid, test->seconds * harness_scale(), &outcome);
    wait_for_leftovers(&outcome);
    if (!outcome.timed_out && WIFEXITED(outcome.status) && WEXITSTATUS(outcome.status) == STATUS_LEFT_OUT) {
        left_out_by_itself(test, output);
    } else if (outcome.status != 0 || outcome.timed_out || *outcome.leftover) {
        failed(test, &outcome, output);
    } else {
        printf("ok - %s\n", test->name);
        report("passed", test, "");
        runner.passed++;
    }
    close(output);
}

/* Standard descriptors that were closed are opened, so that nothing of ours takes their numbers. */
static void open_standard_descriptors(void)
{
    int fd;
    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    close(fd);
}

static void prepare_runner(const char *program)
{
    sigset_t child;
    open_standard_descriptors();
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, NULL);
    signal(SIGCHLD, SIG_DFL);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    runner.program = strrchr(program, '/') ? strrchr(program, '/') + 1 : program;
    ssize_t n = readlink("/proc/self/exe", runner.path, sizeof runner.path - 1);
    if (n < 0)
        exit(2);
}

int main(int argc, char **argv)
{
    if (pp_worker_main && !getenv("PP_TEST_NO_WORKER_MAIN"))
        pp_worker_main();
    if (argc == 3 && strcmp(argv[1], "--run") == 0)
        return run_here(argv[2]);
    prepare_runner(argv[0]);
    for (int i = 1; i < argc; i++)
        run_test(find_test(argv[i]));
    for (struct harness_test *test = first_test; argc == 1 && test; test = test->next)
        run_test(test);
    printf("%u passed, %u failed, %u skipped\n", runner.passed, runner.failed, runner.skipped);
    return runner.failed == 0 ? 0 : 1;
}
