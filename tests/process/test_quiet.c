/* SPDX-License-Identifier: MIT */
/* Launchers made by fork among threads that hold libc's locks: no child meets one that stays held. */
#include "kit.h"
#include "process/quiet.h"
#include "process/sanitizer.h"

#include <dlfcn.h>
#include <link.h>
#include <netdb.h>
#include <pthread.h>
#include <stdatomic.h>

#define PLUGIN PP_TEST_PLUGINS "/libprocess_plugin.so"

static atomic_bool stop;

static void use_malloc(void)
{
    void *some[20];
    for (size_t i = 0; i < 20; i++)
        some[i] = malloc(i * i * 300 + 1);
    for (size_t i = 0; i < 20; i++)
        free(some[i]);
}

static void use_stdio(void)
{
    FILE *null = fopen("/dev/null", "w");
    fprintf(null, "%d %s", 7, "text");
    fprintf(stdout, "%s", "");
    fclose(null);
    fflush(stdout);
}

static void use_loader(void)
{
    void *handle = dlopen(PLUGIN, RTLD_NOW);
    dlsym(handle, "plugin_add");
    dlclose(handle);
}

static void use_resolver(void)
{
    struct addrinfo *found = NULL;
    if (getaddrinfo("localhost", "80", NULL, &found) == 0)
        freeaddrinfo(found);
}

static int visit(struct dl_phdr_info *info, size_t size, void *data)
{
    (void)info, (void)size, (void)data;
    return 0;
}

/* Not all the time: each of these holds its lock for most of it. */
static void use_the_rest(void)
{
    test_sleep_ms(1);
    time_t now = time(NULL);
    struct tm local;
    dl_iterate_phdr(visit, NULL);
    tzset();
    localtime_r(&now, &local);
    setenv("SOME", "thing", 1);
    random();
    strerror(ENOENT);
}

typedef void use(void);
static use *const uses[] = {use_malloc, use_stdio, use_loader, use_resolver, use_the_rest};
enum { USES = sizeof uses / sizeof *uses };

static void *loop(void *data)
{
    use *const *mine = data;
    while (!stop)
        (*mine)();
    return NULL;
}

static void nothing(void)
{
}

static void body_use_all(const int *fds, size_t count, const void *data, size_t size, int shared)
{
    (void)fds, (void)count, (void)data, (void)size, (void)shared;
    atexit(nothing);
    for (int i = 0; i < USES; i++)
        uses[i]();
}

static void make_among_threads(int launchers)
{
#ifdef PP_ASAN
    LEFT_OUT("address sanitizer's own locks do not survive a fork among threads");
#endif
#ifdef PP_TSAN
    LEFT_OUT("under thread sanitizer a try takes too long");
#endif
    if (PP_ON_VALGRIND)
        LEFT_OUT("on valgrind a try takes too long");
    pthread_t threads[USES];
    for (int i = 0; i < USES; i++)
        CHECK_INT(pthread_create(&threads[i], NULL, loop, (void *)(uintptr_t)&uses[i]), 0);
    double longest = 0;
    for (int i = 0; i < launchers; i++) {
        double begun = test_seconds();
        pp_launcher *launcher = kit_launcher(PP_START_FORK);
        int connection = (int)CHECK_OK(pp__launcher_connect(launcher));
        kit_start(connection, 1, body_use_all);
        kit_started(connection, 1);
        kit_ended(connection, 1, CLD_EXITED, 0);
        pp__launcher_disconnect(connection);
        pp_launcher_unref(launcher);
        longest = test_seconds() - begun > longest ? test_seconds() - begun : longest;
    }
    fprintf(stderr, "longest %g s\n", longest);
    stop = true;
    for (int i = 0; i < USES; i++)
        pthread_join(threads[i], NULL);
}

TEST_WITHIN(launchers_made_among_busy_threads_have_usable_children, 60)
{
    make_among_threads(50);
}

SLOW_TEST_WITHIN(a_thousand_launchers_made_among_busy_threads_have_usable_children, 600)
{
    make_among_threads(1000);
}

/* ------------------------------------------------------------------------------------------ the probe itself */

static void *hold(void *held)
{
    dl_iterate_phdr((int (*)(struct dl_phdr_info *, size_t, void *))(uintptr_t)held, NULL);
    return NULL;
}

static atomic_int holding;

static int hold_list(struct dl_phdr_info *info, size_t size, void *data)
{
    (void)info, (void)size, (void)data;
    holding = 1;
    while (!stop)
        test_sleep_ms(1);
    return 1;
}

TEST(a_process_without_held_locks_is_quiet)
{
    CHECK(pp__quiet());
}

/* The lock of the loader's list, held by another thread, is held in the fork for ever. */
TEST(a_fork_among_held_locks_is_not_quiet_and_that_shows_at_once)
{
#if defined(PP_ASAN)
    LEFT_OUT("under address sanitizer nothing is probed");
#endif
    if (PP_ON_VALGRIND)
        LEFT_OUT("valgrind does not trap");
    pthread_t thread;
    int status;
    pthread_create(&thread, NULL, hold, (void *)(uintptr_t)hold_list);
    wait_until(holding, 5);
    double begun = test_seconds();
    pid_t pid = fork();
    if (pid == 0)
        _exit(pp__quiet() ? 1 : 0);
    CHECK_INT(waitpid(pid, &status, 0), pid);
    CHECK_INT(status, 0);
    CHECK(test_seconds() - begun < 1);
    stop = true;
    pthread_join(thread, NULL);
}

TEST_WITHIN(a_lock_that_stays_held_is_EAGAIN_with_the_way_out, 30)
{
#if defined(PP_ASAN)
    LEFT_OUT("under address sanitizer nothing is probed");
#endif
    pthread_t thread;
    pp_launcher *launcher;
    pthread_create(&thread, NULL, hold, (void *)(uintptr_t)hold_list);
    wait_until(holding, 5);
    CHECK_INT(pp_launcher_create(&(pp_launcher_options){.start_method = PP_START_FORK}, &launcher), -EAGAIN);
    CHECK_HAS(pp_last_error(), "PP_START_FORKSERVER");
    CHECK_OK(pp_launcher_create(&(pp_launcher_options){.start_method = PP_START_FORKSERVER}, &launcher));
    pp_launcher_unref(launcher);
    stop = true;
    pthread_join(thread, NULL);
    CHECK_OK(pp_launcher_create(&(pp_launcher_options){.start_method = PP_START_FORK}, &launcher));
    pp_launcher_unref(launcher);
    wait_until(count_descendants_named(getppid(), "pp-") == 0, 2);
}

TEST(the_probe_writes_nothing_of_the_owners)
{
    if (PP_ON_VALGRIND)
        LEFT_OUT("valgrind flushes at _exit");
    int out[2];
    char text[20] = "";
    CHECK_INT(pipe2(out, O_NONBLOCK), 0);
    FILE *file = fdopen(out[1], "w");
    fprintf(file, "once");
    CHECK(pp__quiet());
    CHECK(read(out[0], text, sizeof text) < 0);
    fclose(file);
    CHECK_INT(read(out[0], text, sizeof text), 4);
}
