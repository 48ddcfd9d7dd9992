/* SPDX-License-Identifier: MIT */
/*
 * What tests of calls share: a board of words that owner and workers see, gates on it, and common tasks.
 *
 * The board is a memfd at a fixed descriptor, so it reaches workers of all start methods: forks of the owner have it
 * mapped, fresh images and their forks find the descriptor, which kit_pool names in inherit_fds. A test calls
 * board_make first.
 *
 * Nothing here waits for a fixed time: `until` looks until the harness's time limit ends the test.
 */
#ifndef PP_TESTS_CALL_KIT_H
#define PP_TESTS_CALL_KIT_H

#include "harness.h"
#include "helpers.h"

#include "procpool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* The same test under each method that has processes: NAME_under_fork, NAME_under_forkserver, NAME_under_spawn. The
 * body has `method`. */
#define BOTH_WITHIN(name, seconds)                                                                                     \
    static void both__##name(pp_start_method method);                                                                  \
    TEST_WITHIN(name##_under_fork, seconds)                                                                            \
    {                                                                                                                  \
        both__##name(PP_START_FORK);                                                                                   \
    }                                                                                                                  \
    TEST_WITHIN(name##_under_forkserver, seconds)                                                                      \
    {                                                                                                                  \
        both__##name(PP_START_FORKSERVER);                                                                             \
    }                                                                                                                  \
    TEST_WITHIN(name##_under_spawn, seconds)                                                                           \
    {                                                                                                                  \
        both__##name(PP_START_SPAWN);                                                                                  \
    }                                                                                                                  \
    static void both__##name(pp_start_method method)
#define BOTH(name) BOTH_WITHIN(name, HARNESS_SECONDS)

/* The same where workers are forks of one image: what it was told at its birth, a fault that is armed above all, is
 * counted for all of them together. */
#define FORKED_WITHIN(name, seconds)                                                                                   \
    static void forked__##name(pp_start_method method);                                                                \
    TEST_WITHIN(name##_under_fork, seconds)                                                                            \
    {                                                                                                                  \
        forked__##name(PP_START_FORK);                                                                                 \
    }                                                                                                                  \
    TEST_WITHIN(name##_under_forkserver, seconds)                                                                      \
    {                                                                                                                  \
        forked__##name(PP_START_FORKSERVER);                                                                           \
    }                                                                                                                  \
    static void forked__##name(pp_start_method method)

#define until(condition) wait_until(condition, 3600)

/* --------------------------------------------------------------------------------------------- board */

#define BOARD_FD 120
#define BOARD_WORDS (1u << 18)

typedef _Atomic uint32_t board_word;

static inline board_word *board_map(void)
{
    void *memory = mmap(NULL, BOARD_WORDS * sizeof(board_word), PROT_READ | PROT_WRITE, MAP_SHARED, BOARD_FD, 0);
    if (memory == MAP_FAILED)
        harness_fail(__FILE__, __LINE__, "the board can't be mapped: %s", strerror(errno));
    return memory;
}

/* Word i of the board, in owner and workers. */
static inline board_word *word(uint32_t i)
{
    static board_word *_Atomic words;
    board_word *have = atomic_load(&words);
    if (!have)
        atomic_store(&words, have = board_map());
    return &have[i];
}

/* Once in a test, before its first pool. */
static inline void board_make(void)
{
    CHECK(fcntl(BOARD_FD, F_GETFD) < 0);
    int fd = memfd_create("board", 0);
    CHECK(fd >= 0 && ftruncate(fd, BOARD_WORDS * sizeof(board_word)) == 0);
    CHECK(dup2(fd, BOARD_FD) == BOARD_FD);
    close(fd);
    word(0);
}

static inline void add(uint32_t i)
{
    atomic_fetch_add(word(i), 1);
}

static inline uint32_t read_word(uint32_t i)
{
    return atomic_load(word(i));
}

static inline void open_gate(uint32_t i)
{
    atomic_store(word(i), 1);
}

static inline void wait_at(uint32_t gate)
{
    while (!read_word(gate))
        test_sleep_ms(1);
}

/* --------------------------------------------------------------------------------------------- pools */

/* Whether workers are fresh images, which have no descriptor that is not named. */
static inline bool is_fresh(pp_start_method method)
{
    return method == PP_START_FORKSERVER || method == PP_START_SPAWN;
}

/* A pool with these options, the method and the board's descriptor added. */
static inline pp_pool *kit_pool_with(pp_start_method method, pp_pool_options options)
{
    static const int fds[] = {BOARD_FD};
    pp_pool *pool = NULL;
    options.start_method = method;
    if (is_fresh(method) && fcntl(BOARD_FD, F_GETFD) >= 0) {
        options.inherit_fds = fds;
        options.inherit_fd_count = 1;
    }
    CHECK_OK(pp_pool_create(&options, &pool));
    return pool;
}

static inline pp_pool *kit_pool(pp_start_method method, int workers)
{
    return kit_pool_with(method, (pp_pool_options){.max_workers = workers});
}

/* For a test with several pools: all of one method are of one launcher, made with the first. Beside the threads of a
 * pool a fork would take over the locks that these hold, and address sanitizer's malloc has some: so one under fork
 * comes first. */
static inline pp_pool *kit_sibling(pp_start_method method, pp_pool_options options)
{
    static const int fds[] = {BOARD_FD};
    static pp_launcher *launchers[PP_START_INLINE];
    pp_launcher_options launcher = {.start_method = method};
    pp_pool *pool = NULL;
    if (method == PP_START_INLINE)
        return kit_pool_with(method, options);
    if (is_fresh(method) && fcntl(BOARD_FD, F_GETFD) >= 0) {
        launcher.inherit_fds = fds;
        launcher.inherit_fd_count = 1;
    }
    if (!launchers[method])
        CHECK_OK(pp_launcher_create(&launcher, &launchers[method]));
    options.launcher = launchers[method];
    CHECK_OK(pp_pool_create(&options, &pool));
    return pool;
}

/* The same, and inline. */
#define EACH(name) EACH_WITHIN(name, HARNESS_SECONDS)
#define EACH_WITHIN(name, seconds)                                                                                     \
    static void each__##name(pp_start_method method);                                                                  \
    BOTH_WITHIN(name, seconds)                                                                                         \
    {                                                                                                                  \
        each__##name(method);                                                                                          \
    }                                                                                                                  \
    TEST_WITHIN(name##_inline, seconds)                                                                                \
    {                                                                                                                  \
        each__##name(PP_START_INLINE);                                                                                 \
    }                                                                                                                  \
    static void each__##name(pp_start_method method)

/* --------------------------------------------------------------------------------------------- tasks */

/* Returns nothing. */
static inline int nothing(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    return 0;
}

static inline int echo(pp_task *task, const void *arg, size_t size)
{
    return pp_task_return(task, arg, size);
}

static inline int crash(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    raise(SIGKILL);
    return 0;
}

static inline int refuse(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    return pp_task_fail(task, -ENOTSUP, "refused");
}

static inline int who(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    pid_t pids[2] = {getpid(), getppid()};
    return pp_task_return(task, pids, sizeof pids);
}

/* Waits at a gate. */
struct gated {
    uint32_t begun; /* the word that grows at the begin */
    uint32_t gate;
    uint32_t value; /* the result */
};

static inline int gated(pp_task *task, const void *arg, size_t size)
{
    struct gated g;
    CHECK_INT(size, sizeof g);
    memcpy(&g, arg, sizeof g);
    add(g.begun);
    wait_at(g.gate);
    return pp_task_return(task, &g.value, sizeof g.value);
}

/* Adds to the word that the argument names. */
static inline int count_run(pp_task *task, const void *arg, size_t size)
{
    uint32_t i;
    CHECK_INT(size, sizeof i);
    memcpy(&i, arg, sizeof i);
    add(i);
    return pp_task_return(task, &i, sizeof i);
}

/* ----------------------------------------------------------------------------------- short for submits */

static inline pp_future *submit(pp_pool *pool, pp_function *function, const void *arg, size_t size)
{
    pp_future *future = NULL;
    CHECK_OK(pp_submit(pool, function, arg, size, &future));
    CHECK(future != NULL);
    return future;
}

static inline pp_future *submit_u32(pp_pool *pool, pp_function *function, uint32_t value)
{
    return submit(pool, function, &value, sizeof value);
}

static inline pp_future *submit_gated(pp_pool *pool, uint32_t begun, uint32_t gate, uint32_t value)
{
    struct gated g = {.begun = begun, .gate = gate, .value = value};
    return submit(pool, gated, &g, sizeof g);
}

/* `count` calls that wait at the gate, all of them running when it returns: on as many workers. */
static inline void occupy(pp_pool *pool, uint32_t begun, uint32_t gate, int count, pp_future **futures)
{
    uint32_t before = read_word(begun);
    for (int i = 0; i < count; i++)
        futures[i] = submit_gated(pool, begun, gate, (uint32_t)i);
    until(read_word(begun) == before + (uint32_t)count);
}

static inline uint32_t result_u32(pp_future *future)
{
    uint32_t value = 0;
    CHECK_OK(pp_future_result(future, -1, &value, sizeof value, NULL));
    return value;
}

/* The same, and it is given up. */
static inline uint32_t take_u32(pp_future *future)
{
    uint32_t value = result_u32(future);
    pp_future_unref(future);
    return value;
}

/* Waits until the call has ended with `code` (0: with a result), and gives the future up. */
static inline void expect_end(pp_future *future, int code)
{
    const pp_error *error;
    CHECK_OK(pp_future_error(future, -1, &error));
    CHECK_INT(error ? error->code : 0, code);
    pp_future_unref(future);
}

/* The pool still works. */
static inline void expect_usable(pp_pool *pool)
{
    pp_future *future = submit_u32(pool, echo, 4711);
    CHECK_INT(result_u32(future), 4711);
    pp_future_unref(future);
}

/* ------------------------------------------------------------------------------------------- counting */

static inline int count_fds(void)
{
    int count = 0;
    DIR *directory = opendir("/proc/self/fd");
    while (readdir(directory))
        count++;
    closedir(directory);
    return count;
}

static inline int thread_count(void)
{
    int count = -2;
    DIR *directory = opendir("/proc/self/task");
    while (readdir(directory))
        count++;
    closedir(directory);
    return count;
}

/* ------------------------------------------------------------------------------------------- threads */

static inline pthread_t start_thread(void *(*run)(void *), void *argument)
{
    pthread_t thread;
    CHECK_INT(pthread_create(&thread, NULL, run, argument), 0);
    return thread;
}

static inline void join_thread(pthread_t thread)
{
    CHECK_INT(pthread_join(thread, NULL), 0);
}

static inline void *end_at_once(void *unused)
{
    return unused;
}

/* Behind the end of threads: the kernel has one that was joined for a moment still. Thread sanitizer's own comes with
 * the first that is made. */
static inline int settled_thread_count(void)
{
    join_thread(start_thread(end_at_once, NULL));
    int count = thread_count();
    for (int same = 0; same < 20; same++) {
        int now = thread_count();
        same = now == count ? same : 0;
        count = now;
        test_sleep_ms(1);
    }
    return count;
}

/* For qsort of 64-bit numbers. */
static inline int by_value(const void *left, const void *right)
{
    const uint64_t *l = left, *r = right;
    return (*l > *r) - (*l < *r);
}

#endif
