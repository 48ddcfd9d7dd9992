/* SPDX-License-Identifier: MIT */
/*
 * Core files of workers that crash: written as for any process. What the system does with one is its own setting, which
 * these tests read and leave alone: they can look where it is a plain name, in the process's directory.
 */
#include "call_kit.h"

#include <sys/resource.h>

/* What the names of core files begin with; LEFT_OUT if they are no files in the process's directory. */
static void read_pattern(char prefix[128])
{
    FILE *file = fopen("/proc/sys/kernel/core_pattern", "r");
    if (!file || !fgets(prefix, 128, file))
        LEFT_OUT("kernel.core_pattern can't be read");
    fclose(file);
    if (prefix[0] == '|')
        LEFT_OUT("kernel.core_pattern is a program's");
    if (strchr(prefix, '/'))
        LEFT_OUT("kernel.core_pattern leads to another directory");
    prefix[strcspn(prefix, "%\n")] = 0;
}

static void limit_core(bool allowed)
{
    struct rlimit limit;
    CHECK_INT(getrlimit(RLIMIT_CORE, &limit), 0);
    if (allowed && limit.rlim_max != RLIM_INFINITY)
        LEFT_OUT("RLIMIT_CORE can't be raised");
    limit.rlim_cur = allowed ? RLIM_INFINITY : 0;
    CHECK_INT(setrlimit(RLIMIT_CORE, &limit), 0);
}

/* Removes what is in the directory, which is all core files: how many they were. */
static int remove_cores(const char *directory, const char *prefix)
{
    int count = 0;
    DIR *entries = opendir(directory);
    CHECK(entries != NULL);
    for (const struct dirent *entry; (entry = readdir(entries));) {
        struct stat status;
        if (entry->d_name[0] == '.')
            continue;
        CHECK_INT(strncmp(entry->d_name, prefix, strlen(prefix)), 0);
        CHECK_INT(fstatat(dirfd(entries), entry->d_name, &status, 0), 0);
        CHECK(S_ISREG(status.st_mode) && status.st_size > 0);
        CHECK_INT(unlinkat(dirfd(entries), entry->d_name, 0), 0);
        count++;
    }
    closedir(entries);
    return count;
}

static volatile int *volatile nowhere = (volatile int *)8; /* which the compiler does not see */

static int touch_nothing(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    *nowhere = 1;
    return 0;
}

static int give_up(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    abort();
}

/* Under the alternate stack of the crash report. */
static int recur(pp_task *task, const void *arg, size_t size)
{
    volatile char room[4096];
    room[0] = (char)size;
    return size == SIZE_MAX ? 0 : recur(task, arg, size + 1) + room[0];
}

static void check_crash(pp_pool *pool, pp_function *function, int signal, bool dumps)
{
    const pp_error *error;
    pp_future *future = submit(pool, function, NULL, 0);
    CHECK_OK(pp_future_error(future, -1, &error));
    CHECK(error != NULL);
    CHECK_INT(error->kind, PP_ERROR_CRASH);
    CHECK_INT(error->signal, signal);
    CHECK_INT(strstr(error->message, "core dumped") != NULL, dumps);
    pp_future_unref(future);
}

static void crash_in_each_way(pp_start_method method, bool dumps)
{
    static const struct {
        pp_function *function;
        int signal;
    } ways[] = {{touch_nothing, SIGSEGV}, {give_up, SIGABRT}, {recur, SIGSEGV}};
    char prefix[128] = "", directory[] = "/tmp/procpool-core-XXXXXX";
    if (KIT_ASAN || KIT_TSAN || TEST_ON_VALGRIND)
        LEFT_OUT("core files of sanitizers have no bounds, and valgrind writes its own");
    read_pattern(prefix);
    limit_core(dumps);
    CHECK(mkdtemp(directory) != NULL);
    pp_pool *pool = kit_pool_with(method, (pp_pool_options){.max_workers = 1, .directory = directory});
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        check_crash(pool, ways[i].function, ways[i].signal, dumps);
        CHECK_INT(remove_cores(directory, prefix), dumps);
    }
    pp_pool_destroy(pool);
    CHECK_INT(rmdir(directory), 0);
}

BOTH(a_worker_that_crashes_leaves_a_core_file_where_the_system_makes_them)
{
    crash_in_each_way(method, true);
}

BOTH(a_worker_that_crashes_leaves_no_core_file_where_there_is_to_be_none)
{
    crash_in_each_way(method, false);
}
