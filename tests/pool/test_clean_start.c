/* SPDX-License-Identifier: MIT */
/* What a task finds around itself, whatever its owner has done: a clean process. */
#include "call_kit.h"

#include <alloca.h>
#include <sys/syscall.h>

enum { BEGUN, GATE, TRIES };

/* --------------------------------------------------------------------------------------- descriptors */

#define FDS_MAX 256

struct fds {
    int count;
    int fd[FDS_MAX];
    int closes[FDS_MAX]; /* on exec */
};

/* Waits at the gate, so that each worker runs one; then says which descriptors it has. */
static int task_fds(pp_task *task, const void *arg, size_t size)
{
    static struct fds fds;
    (void)arg, (void)size;
    fds.count = 0;
    add(BEGUN);
    wait_at(GATE);
    DIR *directory = opendir("/proc/self/fd");
    CHECK(directory != NULL);
    for (struct dirent *entry; (entry = readdir(directory));) {
        int fd = atoi(entry->d_name);
        if (*entry->d_name == '.' || fd == dirfd(directory) || fds.count == FDS_MAX)
            continue;
        fds.fd[fds.count] = fd;
        fds.closes[fds.count++] = fcntl(fd, F_GETFD) & FD_CLOEXEC;
    }
    closedir(directory);
    return pp_task_return(task, &fds, sizeof fds);
}

/* `wanted` ends with -1. */
static void check_fds(const struct fds *fds, const int *wanted)
{
    int own = 0, found = 0, expected = 0;
    for (int i = 0; i < fds->count; i++) {
        bool is_wanted = false;
        for (const int *w = wanted; *w >= 0; w++)
            is_wanted |= *w == fds->fd[i];
        found += is_wanted;
        if (is_wanted)
            continue;
        if (fds->fd[i] < 200 || !fds->closes[i])
            harness_fail(__FILE__, __LINE__, "descriptor %d is open in a worker", fds->fd[i]);
        own++;
    }
    while (wanted[expected] >= 0)
        expected++;
    CHECK_INT(found, expected);
    CHECK_INT(own, 2);
}

/* In an owner with descriptors of its own, 40 and 41, and with another pool of as many workers. */
static void check_workers_fds(pp_pool_options options, const int *wanted)
{
    pp_future *futures[3], *others[3];
    if (TEST_ON_VALGRIND)
        LEFT_OUT("valgrind keeps descriptors of its own in the table");
    board_make();
    for (int fd = 40; fd <= 41; fd++)
        CHECK_INT(dup2(STDIN_FILENO, fd), fd);
    pp_pool *other = kit_pool(PP_START_FORK, 3);
    occupy(other, BEGUN, GATE, 3, others);
    options.max_workers = 3;
    pp_pool *pool;
    CHECK_OK(pp_pool_create(&options, &pool));
    for (int i = 0; i < 3; i++)
        futures[i] = submit(pool, task_fds, NULL, 0);
    until(read_word(BEGUN) == 6);
    open_gate(GATE);
    for (int i = 0; i < 3; i++) {
        const void *fds;
        size_t size;
        CHECK_OK(pp_future_view(futures[i], -1, &fds, &size));
        CHECK_INT(size, sizeof(struct fds));
        check_fds(fds, wanted);
        pp_future_unref(futures[i]);
        pp_future_unref(others[i]);
    }
    pp_pool_destroy(pool);
    pp_pool_destroy(other);
}

TEST(under_forkserver_a_worker_has_what_inherit_fds_names_and_two_of_the_librarys)
{
    static const int inherit[] = {41, BOARD_FD};
    check_workers_fds(
        (pp_pool_options){.start_method = PP_START_FORKSERVER, .inherit_fds = inherit, .inherit_fd_count = 2},
        (int[]){0, 1, 2, 41, BOARD_FD, -1});
}

TEST(under_spawn_a_worker_has_what_inherit_fds_names_and_two_of_the_librarys)
{
    static const int inherit[] = {41, BOARD_FD};
    check_workers_fds((pp_pool_options){.start_method = PP_START_SPAWN, .inherit_fds = inherit, .inherit_fd_count = 2},
                      (int[]){0, 1, 2, 41, BOARD_FD, -1});
}

TEST(under_fork_a_worker_has_the_owners_descriptors_and_two_of_the_librarys)
{
    int wanted[1025], count = 0;
    for (int fd = 0; fd < 1024; fd++)
        if (fcntl(fd, F_GETFD) >= 0 || fd == 40 || fd == 41 || fd == BOARD_FD)
            wanted[count++] = fd;
    wanted[count] = -1;
    check_workers_fds((pp_pool_options){.start_method = PP_START_FORK}, wanted);
}

TEST(under_fork_with_close_fds_a_worker_has_what_inherit_fds_names_and_two_of_the_librarys)
{
    static const int inherit[] = {40};
    check_workers_fds(
        (pp_pool_options){.start_method = PP_START_FORK, .close_fds = 1, .inherit_fds = inherit, .inherit_fd_count = 1},
        (int[]){0, 1, 2, 40, -1});
}

static int task_stdin(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    struct stat null, mine;
    char byte;
    CHECK_INT(stat("/dev/null", &null), 0);
    CHECK_INT(fstat(STDIN_FILENO, &mine), 0);
    int is_null = mine.st_rdev == null.st_rdev && read(STDIN_FILENO, &byte, 1) == 0 && getchar() == EOF;
    return pp_task_return(task, &is_null, sizeof is_null);
}

BOTH(a_workers_stdin_is_empty_and_the_owners_stays)
{
    int ends[2], is_null = 0;
    CHECK_INT(pipe(ends), 0);
    CHECK_INT(write(ends[1], "input\nmore\n", 11), 11);
    CHECK_INT(dup2(ends[0], STDIN_FILENO), STDIN_FILENO);
    CHECK_INT(getchar(), 'i'); /* the rest lies in the stream's buffer */
    pp_pool *pool = kit_pool(method, 1);
    pp_future *future = submit(pool, task_stdin, NULL, 0);
    CHECK_OK(pp_future_result(future, -1, &is_null, sizeof is_null, NULL));
    CHECK(is_null);
    pp_future_unref(future);
    pp_pool_destroy(pool);
    CHECK_INT(getchar(), 'n');
}

/* ------------------------------------------------------------------------------------------- signals */

/* The kernel's own view. */
struct signals {
    unsigned long handler[65];
    uint64_t blocked;
    int stack_flags;
};

static int task_signals(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    struct signals signals = {0};
    for (int i = 1; i <= 64; i++) {
        unsigned long action[8] = {0}; /* the handler comes first */
        CHECK_INT(syscall(SYS_rt_sigaction, i, NULL, action, sizeof(uint64_t)), 0);
        signals.handler[i] = action[0];
    }
    CHECK_INT(syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &signals.blocked, sizeof signals.blocked), 0);
    stack_t stack;
    CHECK_INT(sigaltstack(NULL, &stack), 0);
    signals.stack_flags = stack.ss_flags;
    return pp_task_return(task, &signals, sizeof signals);
}

static void ignore_signal(int number)
{
    (void)number;
}

static void spoil_signals(void)
{
    static char stack[65536];
    const int ignored[] = {SIGINT, SIGPIPE, SIGUSR1, SIGCHLD, SIGTSTP, SIGRTMIN, SIGRTMAX};
    const int caught[] = {SIGHUP, SIGTERM, SIGSEGV, SIGRTMIN + 1};
    sigset_t blocked;
    sigemptyset(&blocked);
    for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++)
        CHECK(signal(ignored[i], SIG_IGN) != SIG_ERR);
    for (size_t i = 0; i < sizeof caught / sizeof *caught; i++)
        CHECK(signal(caught[i], ignore_signal) != SIG_ERR);
    const int masked[] = {SIGQUIT, SIGUSR2, SIGSEGV, SIGALRM, SIGCONT, SIGRTMIN + 2, SIGRTMAX};
    for (size_t i = 0; i < sizeof masked / sizeof *masked; i++)
        sigaddset(&blocked, masked[i]);
    CHECK_INT(sigprocmask(SIG_BLOCK, &blocked, NULL), 0);
    CHECK_INT(sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = sizeof stack}, NULL), 0);
}

/* Those of which a crash report is made have the library's handler, on its stack. */
static bool is_of_crashes(int number)
{
    return !TEST_ON_VALGRIND && (number == SIGSEGV || number == SIGBUS || number == SIGFPE || number == SIGILL ||
                                 number == SIGABRT || number == SIGTRAP || number == SIGSYS);
}

BOTH(dispositions_are_default_but_for_crashes_and_no_signal_is_blocked)
{
    struct signals signals;
    spoil_signals();
    pp_pool *pool = kit_pool(method, 1);
    for (int i = 0; i < 2; i++) { /* the first worker, and the one that replaces it */
        pp_future *future = submit(pool, task_signals, NULL, 0);
        CHECK_OK(pp_future_result(future, -1, &signals, sizeof signals, NULL));
        pp_future_unref(future);
        for (int j = 1; j <= 64; j++)
            if (is_of_crashes(j))
                CHECK(signals.handler[j] != 0 && signals.handler[j] != (unsigned long)ignore_signal);
            else if (signals.handler[j] != 0 && (j < 32 || j >= SIGRTMIN)) /* those between are libc's own affair */
                harness_fail(__FILE__, __LINE__, "signal %d has another disposition than the default", j);
        CHECK_INT(signals.blocked, 0);
        CHECK_INT(signals.stack_flags, TEST_ON_VALGRIND ? SS_DISABLE : 0);
        expect_end(submit(pool, crash, NULL, 0), -EOWNERDEAD);
    }
    pp_pool_destroy(pool);
}

/* ----------------------------------------------------------------------------------------- appearance */

static void read_text(const char *path, char *text, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    ssize_t got = read(fd, text, size - 1);
    text[got > 0 ? got : 0] = 0;
    close(fd);
}

static int oom_score_adj(void)
{
    char text[32];
    read_text("/proc/self/oom_score_adj", text, sizeof text);
    return atoi(text);
}

struct look {
    pid_t pid, group, parent, parents_group, session;
    int oom_score_adj, number;
    char name[64];
};

/* Waits at the gate, so that each worker runs one. */
static int task_look(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    struct look look = {.pid = getpid(),
                        .group = getpgrp(),
                        .parent = getppid(),
                        .parents_group = getpgid(getppid()),
                        .session = getsid(0),
                        .oom_score_adj = oom_score_adj(),
                        .number = pp_task_worker(task)};
    read_text("/proc/self/comm", look.name, sizeof look.name);
    add(BEGUN);
    wait_at(GATE);
    return pp_task_return(task, &look, sizeof look);
}

BOTH(a_worker_has_a_group_a_name_and_an_oom_score_of_its_own)
{
    pp_future *futures[3];
    bool seen[3] = {false};
    board_make();
    pp_pool *pool = kit_pool(method, 3);
    for (int i = 0; i < 3; i++)
        futures[i] = submit(pool, task_look, NULL, 0);
    until(read_word(BEGUN) == 3);
    open_gate(GATE);
    for (int i = 0; i < 3; i++) {
        struct look look;
        char name[64];
        CHECK_OK(pp_future_result(futures[i], -1, &look, sizeof look, NULL));
        CHECK_INT(look.group, look.pid);
        CHECK_INT(look.parents_group, look.parent);
        CHECK_INT(look.session, getsid(0));
        CHECK(look.oom_score_adj > oom_score_adj() || look.oom_score_adj == 1000);
        CHECK(look.number >= 0 && look.number < 3 && !seen[look.number]);
        seen[look.number] = true;
        snprintf(name, sizeof name, "pp-worker-%d\n", look.number);
        CHECK_STR(look.name, name);
        pp_future_unref(futures[i]);
    }
    pp_pool_destroy(pool);
}

/* ---------------------------------------------------------------------------------------------- stack */

/* Allocates so many bytes at once and touches each page of them, from above as a stack grows. */
static int task_alloca(pp_task *task, const void *arg, size_t size)
{
    size_t wanted, touched = 0;
    CHECK_INT(size, sizeof wanted);
    memcpy(&wanted, arg, sizeof wanted);
    volatile char *room = alloca(wanted);
    for (size_t i = wanted; i >= 1024; i -= 1024, touched++)
        room[i - 1] = 1;
    return pp_task_return(task, &touched, sizeof touched);
}

__attribute__((noinline)) static size_t dive(uintptr_t top, size_t depth)
{
    volatile char frame[1024];
    frame[0] = frame[sizeof frame - 1] = 1;
    if (top - (uintptr_t)__builtin_frame_address(0) >= depth)
        return 0;
    return dive(top, depth) + (size_t)frame[0];
}

/* Goes so deep in small steps. */
static int task_dive(pp_task *task, const void *arg, size_t size)
{
    size_t depth;
    CHECK_INT(size, sizeof depth);
    memcpy(&depth, arg, sizeof depth);
    size_t steps = dive((uintptr_t)__builtin_frame_address(0), depth);
    return pp_task_return(task, &steps, sizeof steps);
}

static void expect_overflow(pp_pool *pool, size_t depth)
{
    const pp_error *error;
    pp_future *future = submit(pool, task_dive, &depth, sizeof depth);
    CHECK_OK(pp_future_error(future, -1, &error));
    CHECK(error != NULL);
    CHECK_INT(error->kind, PP_ERROR_CRASH);
    CHECK_INT(error->signal, SIGSEGV);
    pp_future_unref(future);
}

/* The option, what it means, and in each pool: most of the stack, at once and step by step; too much of it; and most
 * again. */
static void check_stack(pp_start_method method, size_t option, size_t size)
{
    pp_pool *pool = kit_pool_with(method, (pp_pool_options){.max_workers = 1, .stack_size = option});
    size_t most = size - size / 8 - 16384;
    for (int i = 0; i < 2; i++) {
        if (!TEST_ON_VALGRIND) /* which takes so large a frame for a change of stacks */
            expect_end(submit(pool, task_alloca, &most, sizeof most), 0);
        expect_end(submit(pool, task_dive, &most, sizeof most), 0);
        if (i == 0)
            expect_overflow(pool, size + (1 << 20));
    }
    pp_pool_destroy(pool);
}

BOTH(a_task_has_the_stack_that_was_asked_for_and_no_more)
{
#if KIT_TSAN
    LEFT_OUT("under thread sanitizer, which can't follow to a stack of ours, tasks run on the process's own");
#endif
    check_stack(method, (size_t)64 << 10, (size_t)64 << 10);
    check_stack(method, (size_t)1 << 20, (size_t)1 << 20);
    check_stack(method, 0, (size_t)8 << 20);
    check_stack(method, (size_t)64 << 20, (size_t)64 << 20);
}

/* ---------------------------------------------------------------------------------------------- seeds */

static int task_seed(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    uint64_t seed[2] = {pp_task_id(task), pp_task_seed(task)};
    return pp_task_return(task, seed, sizeof seed);
}

/* Its first try kills the worker. */
static int task_seed_of_second_try(pp_task *task, const void *arg, size_t size)
{
    uint32_t tries;
    CHECK_INT(size, sizeof tries);
    memcpy(&tries, arg, sizeof tries);
    add(tries);
    if (read_word(tries) == 1)
        raise(SIGKILL);
    return task_seed(task, NULL, 0);
}

enum { SEEDS = 300 };

/* The seeds of the pool's first calls, by their ids; that of one in the middle is asked for at a second try. */
static void get_seeds(pp_start_method method, int workers, uint64_t pool_seed, uint64_t seeds[SEEDS])
{
    static pp_future *futures[SEEDS];
    pp_pool *pool = kit_pool_with(method, (pp_pool_options){.max_workers = workers, .seed = pool_seed});
    uint32_t tries = TRIES;
    atomic_store(word(TRIES), 0);
    for (int i = 0; i < SEEDS; i++) {
        pp_call call = {.function = task_seed};
        if (i == SEEDS / 2)
            call = (pp_call){.function = task_seed_of_second_try, .arg = &tries, .size = sizeof tries, .retries = 1};
        CHECK_OK(pp_submit_call(pool, &call, &futures[i]));
    }
    for (int i = 0; i < SEEDS; i++) {
        uint64_t seed[2];
        CHECK_OK(pp_future_result(futures[i], -1, seed, sizeof seed, NULL));
        CHECK_INT(seed[0], pp_future_id(futures[i]));
        CHECK_INT(seed[0], i);
        seeds[i] = seed[1];
        pp_future_unref(futures[i]);
    }
    pp_pool_destroy(pool);
}

static int compare_seeds(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

BOTH(seeds_are_a_function_of_the_pools_seed_and_the_calls_id)
{
    static uint64_t seeds[5][SEEDS];
    const uint64_t *all = seeds[0];
    board_make();
    get_seeds(method, 1, 42, seeds[0]);
    get_seeds(method == PP_START_FORK ? PP_START_FORKSERVER : PP_START_FORK, 3, 42, seeds[1]);
    CHECK(memcmp(seeds[0], seeds[1], sizeof seeds[0]) == 0);
    get_seeds(method, 2, 43, seeds[1]);
    get_seeds(method, 2, UINT64_MAX, seeds[2]);
    get_seeds(method, 2, 0, seeds[3]); /* random ones */
    get_seeds(method, 2, 0, seeds[4]);
    qsort(seeds, sizeof seeds / sizeof *all, sizeof *all, compare_seeds);
    for (size_t i = 1; i < sizeof seeds / sizeof *all; i++)
        CHECK(all[i] != all[i - 1]);
}
