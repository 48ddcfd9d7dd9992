/* SPDX-License-Identifier: MIT */
/* Runs the command, for the tests of it. */
#ifndef PP_TESTS_CLI_COMMAND_H
#define PP_TESTS_CLI_COMMAND_H

#include "harness.h"
#include "helpers.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define COMMAND PP_TEST_BUILD "/cli/procpool"
#define TASK(name) PP_TEST_PLUGINS "/libtasks.so:" name

extern char **environ;

struct command {
    const char *program; /* NULL: procpool itself */
    pid_t pid;
    int in, out, err; /* what it has as standard descriptors; -1: it has none */
};

struct outcome {
    int status;   /* the exit status; 128 and the signal after a signal */
    long max_rss; /* KiB */
    char *out, *err;
    size_t out_size, err_size;
};

/* A file that only this test knows, with the text in it, at its beginning. Processes that write to it at the same time
 * do not overwrite each other, which a memfd without O_APPEND allows. */
static inline int file_with(const void *text, size_t size)
{
    int fd = memfd_create("input", MFD_CLOEXEC);
    CHECK_INT(write(fd, text, size), size);
    lseek(fd, 0, SEEK_SET);
    fcntl(fd, F_SETFL, O_APPEND);
    return fd;
}

static inline int file_with_text(const char *text)
{
    return file_with(text, strlen(text));
}

/* All of the file, and a NUL. */
static inline char *file_text(int fd, size_t *size)
{
    struct stat file;
    CHECK_INT(fstat(fd, &file), 0);
    char *text = harness_keep(calloc(1, (size_t)file.st_size + 1));
    CHECK_INT(pread(fd, text, (size_t)file.st_size, 0), file.st_size);
    if (size)
        *size = (size_t)file.st_size;
    return text;
}

static inline void pass(posix_spawn_file_actions_t *files, int fd, int as)
{
    if (fd < 0)
        posix_spawn_file_actions_addclose(files, as);
    else
        posix_spawn_file_actions_adddup2(files, fd, as);
}

/* Starts it with the arguments after the first, which is its name. */
static inline void start(struct command *command, const char *const *arguments)
{
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    pass(&files, command->in, STDIN_FILENO);
    pass(&files, command->out, STDOUT_FILENO);
    pass(&files, command->err, STDERR_FILENO);
    CHECK_INT(posix_spawn(&command->pid, command->program ? command->program : COMMAND, &files, NULL,
                          (char *const *)arguments, environ),
              0);
    posix_spawn_file_actions_destroy(&files);
}

#define START(command, ...) start((command), (const char *const[]){"procpool", __VA_ARGS__, NULL})

/* Waits for the end. out and err must be files of file_with, or -1. */
static inline struct outcome finish(const struct command *command)
{
    struct outcome outcome = {0};
    struct rusage use;
    int status = 0;
    CHECK_INT(wait4(command->pid, &status, 0, &use), command->pid);
    outcome.status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    outcome.max_rss = use.ru_maxrss;
    struct stat file;
    if (command->out >= 0 && fstat(command->out, &file) == 0 && S_ISREG(file.st_mode))
        outcome.out = file_text(command->out, &outcome.out_size);
    if (command->err >= 0 && fstat(command->err, &file) == 0 && S_ISREG(file.st_mode))
        outcome.err = file_text(command->err, &outcome.err_size);
    return outcome;
}

static inline struct command with_input(int in)
{
    return (struct command){.in = in, .out = file_with("", 0), .err = file_with("", 0)};
}

/* Runs it with a text as standard input. */
#define RUN(input, ...) run(file_with_text(input), (const char *const[]){"procpool", __VA_ARGS__, NULL})

static inline struct outcome run(int in, const char *const *arguments)
{
    struct command command = with_input(in);
    start(&command, arguments);
    struct outcome outcome = finish(&command);
    close(in);
    close(command.out);
    close(command.err);
    return outcome;
}

static inline size_t count_lines(const char *text)
{
    size_t count = 0;
    for (; *text; text++)
        count += *text == '\n';
    return count;
}

/* Everything went well and nothing was said. */
#define CHECK_DONE(outcome, expected)                                                                                  \
    do {                                                                                                               \
        CHECK_STR((outcome).err, "");                                                                                  \
        CHECK_STR((outcome).out, expected);                                                                            \
        CHECK_INT((outcome).status, 0);                                                                                \
    } while (0)

/* It ended with one line that has `part` in it. */
#define CHECK_ENDED(outcome, code, part)                                                                               \
    do {                                                                                                               \
        CHECK_HAS((outcome).err, part);                                                                                \
        CHECK_INT(count_lines((outcome).err), 1);                                                                      \
        CHECK_INT((outcome).status, code);                                                                             \
    } while (0)

/* The processes that stubborn tasks printed on the command's standard error; waits until there are `count`. */
static inline void wait_for_workers(const struct command *command, int count, pid_t *workers)
{
    int found = 0;
    double end = test_seconds() + 5 * harness_scale();
    while (found < count && test_seconds() < end) {
        char *text = file_text(command->err, NULL);
        char *at = text;
        for (found = 0; found < count && (at = strstr(at, "worker ")) && strchr(at, '\n'); found++, at++)
            workers[found] = atoi(at + 7);
        free(text);
        test_sleep_ms(2);
    }
    CHECK_INT(found, count);
}

/* The write end of a pipe that does not block and is full, as another program may have made it; *from: the read end. */
static inline int full_pipe(int *from)
{
    int ends[2];
    CHECK_INT(pipe2(ends, O_CLOEXEC), 0);
    CHECK_INT(fcntl(ends[1], F_SETFL, O_NONBLOCK), 0);
    while (write(ends[1], "........\n", 9) > 0)
        ;
    CHECK_INT(errno, EAGAIN);
    *from = ends[0];
    return ends[1];
}

/* All that comes from a pipe, after a while in which nobody reads; closes it. */
static inline const char *read_late(int from)
{
    static char text[1 << 20];
    size_t used = 0;
    test_sleep_ms(500);
    for (ssize_t got; (got = read(from, text + used, sizeof text - 1 - used)) > 0;)
        used += (size_t)got;
    text[used] = '\0';
    close(from);
    return text;
}

#endif
