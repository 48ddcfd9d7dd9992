/* SPDX-License-Identifier: MIT */
/* Small helpers for tests. */
#ifndef PP_TESTS_HELPERS_H
#define PP_TESTS_HELPERS_H

#include "harness.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#define TEST_ON_VALGRIND RUNNING_ON_VALGRIND
#else
#define TEST_ON_VALGRIND 0
#endif

/* How many rounds: on valgrind the start of a worker takes about a second, and that of a thread some milliseconds. */
#define TEST_ROUNDS(natively, on_valgrind) (TEST_ON_VALGRIND ? (on_valgrind) : (natively))

/* Whether a sanitizer is built in: it has memory, threads and handlers of its own. */
#if defined(__SANITIZE_ADDRESS__)
#define KIT_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define KIT_ASAN 1
#endif
#endif
#ifndef KIT_ASAN
#define KIT_ASAN 0
#endif

#if defined(__SANITIZE_THREAD__)
#define KIT_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define KIT_TSAN 1
#endif
#endif
#ifndef KIT_TSAN
#define KIT_TSAN 0
#endif

static inline double test_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static inline void test_sleep_ms(unsigned ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000}, NULL);
}

/* Looks at the condition every millisecond; fails the test when it has not come true within `seconds` (scaled). */
#define wait_until(condition, seconds)                                                                                 \
    do {                                                                                                               \
        double wait_end = test_seconds() + (double)(seconds)*harness_scale();                                          \
        while (!(condition)) {                                                                                         \
            if (test_seconds() > wait_end)                                                                             \
                harness_fail(__FILE__, __LINE__, "%s did not come true within %g s", #condition, (double)(seconds));   \
            test_sleep_ms(1);                                                                                          \
        }                                                                                                              \
    } while (0)

/* The process's state letter (R, S, T, Z...), its parent, name and threads, from /proc; 0 when there is none. */
static inline char test_process_look(pid_t pid, pid_t *parent, char name[64], int *threads)
{
    char path[64], comm[64] = "", state = 0;
    int ppid = 0, count = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    if (!file)
        return 0;
    if (fscanf(file, "%*d (%63[^)]) %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %d", comm, &state,
               &ppid, &count) != 4)
        state = 0;
    fclose(file);
    if (parent)
        *parent = ppid;
    if (name)
        strcpy(name, comm);
    if (threads)
        *threads = count;
    return state;
}

static inline char test_process_state(pid_t pid, pid_t *parent, char name[64])
{
    return test_process_look(pid, parent, name, NULL);
}

/* Where this program lies, to be started once more: /proc/self/exe itself is valgrind to a fresh image there. */
static inline const char *test_program(char path[4096])
{
    ssize_t size = readlink("/proc/self/exe", path, 4095);
    CHECK(size > 0);
    path[size] = '\0';
    return path;
}

/* Neither gone nor a zombie. While any thread is left it still has its descriptors, as a dying process does for a
 * moment under thread sanitizer, which has a thread of its own. */
static inline bool test_process_alive(pid_t pid)
{
    int threads = 0;
    char state = test_process_look(pid, NULL, NULL, &threads);
    return state != 0 && ((state != 'Z' && state != 'X') || threads > 1);
}

/* How many living descendants of `ancestor` (not itself) have a name that begins with `name`; "" counts all. */
static inline int count_descendants_named(pid_t ancestor, const char *name)
{
    int count = 0;
    DIR *directory = opendir("/proc");
    for (struct dirent *entry; directory && (entry = readdir(directory));) {
        int pid;
        pid_t parent;
        char comm[64];
        if (sscanf(entry->d_name, "%d", &pid) != 1 || !test_process_alive(pid))
            continue;
        if (!test_process_state(pid, &parent, comm) || strncmp(comm, name, strlen(name)) != 0)
            continue;
        while (parent > 1 && parent != ancestor)
            if (!test_process_state(parent, &parent, NULL))
                parent = 0;
        count += parent == ancestor;
    }
    if (directory)
        closedir(directory);
    return count;
}

static inline int count_children_named(const char *name)
{
    return count_descendants_named(getpid(), name);
}

#endif
