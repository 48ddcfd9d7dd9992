/* SPDX-License-Identifier: MIT */
/* Workers that the program starts itself: here images of this program with a word in their command line, where others
 * would ask a batch system or a container's supervisor. */
#include <errno.h>
#include <procpool.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

extern char **environ;

static int square(pp_task *task, const void *arg, size_t size)
{
    int n;
    if (size != sizeof n)
        return pp_task_fail(task, -EINVAL, "expected an int, got %zu bytes", size);
    memcpy(&n, arg, sizeof n);
    n *= n;
    return pp_task_return(task, &n, sizeof n);
}

/* Called by a thread of the pool's for each worker. Nobody reaps what it starts: see main. */
static int start(void *context, const char *invitation, int number)
{
    pid_t pid;
    (void)number;
    char *words[] = {context, "work", (char *)invitation, NULL};
    return -posix_spawn(&pid, "/proc/self/exe", NULL, NULL, words, environ);
}

static int fail(void)
{
    fprintf(stderr, "starter: %s\n", pp_last_error());
    return 1;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "work") == 0) {
        pp_worker_attach(argv[2]);
        return fail(); /* else it has not returned */
    }
    pp_worker_main();
    signal(SIGCHLD, SIG_IGN); /* the workers are this program's children */
    const pp_starter starter = {.start = start, .context = argv[0]};
    PP_CLEANUP_POOL pp_pool *pool = NULL;
    PP_CLEANUP_FUTURE pp_future *future = NULL;
    pp_launcher *launcher;
    int n = 7;
    if (pp_launcher_create(&(pp_launcher_options){.starter = &starter}, &launcher) != 0)
        return fail();
    int error = pp_pool_create(&(pp_pool_options){.launcher = launcher}, &pool);
    pp_launcher_unref(launcher); /* the pool has its own reference */
    if (error != 0 || pp_submit(pool, square, &n, sizeof n, &future) != 0 ||
        pp_future_result(future, -1, &n, sizeof n, NULL) != 0)
        return fail();
    printf("%d\n", n);
    return 0;
}
