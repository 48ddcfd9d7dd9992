/* SPDX-License-Identifier: MIT */
/* Tasks for the tests of the command. */
#include <errno.h>
#include <fcntl.h>
#include <procpool.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

extern int not_a_function;
int not_a_function = 1;

pp_function echo, size_of, nothing, picky, hard, slow, stubborn, second_time, two_lines, odd, lost, refuse;

int echo(pp_task *task, const void *arg, size_t size)
{
    return pp_task_return(task, arg, size);
}

int size_of(pp_task *task, const void *arg, size_t size)
{
    char text[32];
    (void)arg;
    return pp_task_return(task, text, (size_t)snprintf(text, sizeof text, "%zu", size));
}

int nothing(pp_task *task, const void *arg, size_t size)
{
    (void)task;
    (void)arg;
    (void)size;
    return 0;
}

int refuse(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    return pp_task_fail(task, -EINVAL, "refused");
}

/* Fails for what begins with "bad". */
int picky(pp_task *task, const void *arg, size_t size)
{
    if (strncmp(arg, "bad", 3) == 0)
        return pp_task_fail(task, -EINVAL, "it is %s", (const char *)arg);
    return pp_task_return(task, arg, size);
}

/* Kills its process, leaves it or never returns, when told to. */
int hard(pp_task *task, const void *arg, size_t size)
{
    if (strcmp(arg, "kill") == 0)
        kill(getpid(), SIGKILL);
    if (strcmp(arg, "abort") == 0)
        abort();
    if (strcmp(arg, "exit") == 0)
        exit(3);
    while (strcmp(arg, "hang") == 0)
        pause();
    return pp_task_return(task, arg, size);
}

static int *volatile nowhere;
static volatile int found;

__attribute__((noinline, no_sanitize("undefined"))) static int follow(const char *where)
{
    return where[0] + *nowhere;
}

/* Crashes in a function that it calls, or fails in itself. */
int lost(pp_task *task, const void *arg, size_t size)
{
    (void)size;
    if (strcmp(arg, "fail") == 0)
        return pp_task_fail(task, -ENOENT, "no way");
    found = follow(arg);
    return pp_task_return(task, NULL, 0);
}

/* Takes as many milliseconds as the argument says. */
int slow(pp_task *task, const void *arg, size_t size)
{
    long ms = atol(arg);
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
    return pp_task_return(task, arg, size);
}

/* Prints its process on standard error, blocks every signal that can be blocked and never returns. */
int stubborn(pp_task *task, const void *arg, size_t size)
{
    sigset_t all;
    (void)task;
    (void)arg;
    (void)size;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    dprintf(STDERR_FILENO, "worker %d\n", (int)getpid());
    for (;;)
        pause();
}

/* Dies unless the file that the argument names is there, having made it. */
int second_time(pp_task *task, const void *arg, size_t size)
{
    int fd = open(arg, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    if (fd >= 0)
        kill(getpid(), SIGKILL);
    return pp_task_return(task, arg, size);
}

int two_lines(pp_task *task, const void *arg, size_t size)
{
    (void)arg;
    (void)size;
    return pp_task_return(task, "one\ntwo", 7);
}

/* Fails without a word. */
int odd(pp_task *task, const void *arg, size_t size)
{
    (void)task;
    (void)arg;
    return size ? 5 : 0;
}
