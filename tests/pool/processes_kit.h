/* SPDX-License-Identifier: MIT */
/* For tests of what happens to processes: what tasks and test tell each other, gates, and looks at a pool's processes
 * from outside. */
#ifndef PP_TESTS_POOL_PROCESSES_KIT_H
#define PP_TESTS_POOL_PROCESSES_KIT_H

#include "call_kit.h"

#include <sys/resource.h>

#define SHARED_CALLS 8192

/* Whoever runs a task writes here; each test uses what it needs. */
struct shared {
    _Atomic uint32_t runs[SHARED_CALLS]; /* how often call i was begun */
    _Atomic uint32_t gates[16];          /* 1: open */
    _Atomic uint32_t arrived[16];        /* how many wait, or have waited, at gate i */
    _Atomic int32_t pid[64];
    _Atomic int32_t number[64];
    _Atomic int64_t words[64];
    char texts[16][256];
};

_Static_assert(sizeof(struct shared) <= BOARD_WORDS * sizeof(board_word), "it lies on the board");

/* In the test from its first open_pool on, and in workers. */
static inline struct shared *shared(void)
{
    return (struct shared *)word(0);
}

static inline void gate_wait(int gate)
{
    shared()->arrived[gate]++;
    while (!shared()->gates[gate])
        test_sleep_ms(1);
}

static inline void gate_open(int gate)
{
    shared()->gates[gate] = 1;
}

static inline void gate_wait_arrived(int gate, uint32_t count)
{
    wait_until(shared()->arrived[gate] >= count, 60);
}

static const int board_fds[] __attribute__((unused)) = {BOARD_FD};

static inline void share(void)
{
    if (fcntl(BOARD_FD, F_GETFD) < 0)
        board_make();
}

/* A child of the test, which has made nothing before: it does this, and is there until it is killed. */
static inline pid_t start_owner(void (*own)(pp_start_method method), pp_start_method method)
{
    share();
    fflush(stdout);
    pid_t owner = fork();
    CHECK(owner >= 0);
    if (owner == 0) {
        own(method);
        gate_wait(15); /* which nobody opens */
    }
    return owner;
}

/* The same; when this returns, it has done it. */
static inline pid_t start_owner_and_wait(void (*own)(pp_start_method method), pp_start_method method)
{
    pid_t owner = start_owner(own, method);
    gate_wait_arrived(15, 1);
    return owner;
}

/* A pool that sees the board; with a launcher, whatever that gives it. */
static inline pp_pool *open_pool(pp_pool_options options, pp_start_method method)
{
    pp_pool *pool = NULL;
    share();
    if (!options.launcher)
        return kit_pool_with(method, options);
    CHECK_OK(pp_pool_create(&options, &pool));
    return pool;
}

static inline pp_pool *open_workers(int workers, pp_start_method method)
{
    return open_pool((pp_pool_options){.max_workers = workers}, method);
}

static inline pp_future *submit_int(pp_pool *pool, pp_function *function, int value)
{
    return submit(pool, function, &value, sizeof value);
}

static inline pp_future *submit_with(pp_pool *pool, pp_call call)
{
    pp_future *future = NULL;
    CHECK_OK(pp_submit_call(pool, &call, &future));
    return future;
}

/* The result, an int; the future is given back. */
static inline int take_int(pp_future *future)
{
    int value = -1;
    CHECK_OK(pp_future_result(future, -1, &value, sizeof value, NULL));
    pp_future_unref(future);
    return value;
}

/* The error of a call that has failed, which is checked to be of this kind. */
static inline const pp_error *error_of(pp_future *future, pp_error_kind kind)
{
    const pp_error *error;
    CHECK_OK(pp_future_error(future, -1, &error));
    if (!error)
        harness_fail(__FILE__, __LINE__, "call %llu has not failed, but should with kind %d",
                     (unsigned long long)pp_future_id(future), (int)kind);
    if (error->kind != kind)
        harness_fail(__FILE__, __LINE__, "call %llu failed with kind %d, not %d: %s",
                     (unsigned long long)pp_future_id(future), (int)error->kind, (int)kind, error->message);
    return error;
}

static inline void drop_failed(pp_future *future, pp_error_kind kind)
{
    error_of(future, kind);
    pp_future_unref(future);
}

/* Tasks that many tests need. */
static inline int read_int(const void *arg)
{
    int value;
    memcpy(&value, arg, sizeof value);
    return value;
}

static inline int task_square(pp_task *task, const void *arg, size_t size)
{
    int value = size == sizeof value ? read_int(arg) : 0;
    value *= value;
    return pp_task_return(task, &value, sizeof value);
}

static inline int task_pid(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    int pid = getpid();
    return pp_task_return(task, &pid, sizeof pid);
}

static inline int task_count_fds(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    int count = count_fds();
    return pp_task_return(task, &count, sizeof count);
}

/* How many descriptors this process may have. */
static inline void limit_files(rlim_t most)
{
    struct rlimit r;
    CHECK_INT(getrlimit(RLIMIT_NOFILE, &r), 0);
    r.rlim_cur = most;
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &r), 0);
}

/* Lets its worker have next to no memory, or with an argument of 1 as much as before. */
static inline int task_limit_memory(pp_task *task, const void *arg, size_t size)
{
    struct rlimit r;
    (void)task, (void)size;
    CHECK_INT(getrlimit(RLIMIT_AS, &r), 0);
    r.rlim_cur = read_int(arg) ? r.rlim_max : (rlim_t)1 << 20;
    return setrlimit(RLIMIT_AS, &r);
}

/* Waits at the gate that its argument names, then returns its process. */
static inline int task_gate(pp_task *task, const void *arg, size_t size)
{
    (void)size;
    gate_wait(read_int(arg));
    return task_pid(task, NULL, 0);
}

/* Calls that never end, in a process that pid[0] tells; arrived[0] counts them. */
static inline _Noreturn void pause_for_ever(void)
{
    for (;;)
        pause();
}

static inline int task_hang(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    shared()->pid[0] = getpid();
    shared()->number[0] = pp_task_worker(task);
    shared()->arrived[0]++;
    pause_for_ever();
}

static inline int task_hang_deaf(pp_task *task, const void *arg, size_t size)
{
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    return task_hang(task, arg, size);
}

/* An initializer: the second worker waits for gate 1. */
static inline int wait_in_second(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    if (++shared()->words[0] == 2)
        gate_wait(1);
    return 0;
}

/* Fills the pool: `count` workers each run a call that waits at the gate. Their pids. */
static inline void occupy_at(pp_pool *pool, int gate, int count, pp_future **futures)
{
    for (int i = 0; i < count; i++)
        futures[i] = submit_int(pool, task_gate, gate);
    gate_wait_arrived(gate, (uint32_t)count);
}

/* Starts that many workers and writes their pids: all of them have run a call and are idle. */
static inline void start_workers(pp_pool *pool, int gate, int count, pid_t *pids)
{
    pp_future *futures[64];
    CHECK(count <= 64);
    occupy_at(pool, gate, count, futures);
    gate_open(gate);
    for (int i = 0; i < count; i++)
        pids[i] = take_int(futures[i]);
}

/* The launcher's process: the parent of its workers. */
static inline pid_t parent_of(pid_t pid)
{
    pid_t parent = 0;
    CHECK(test_process_state(pid, &parent, NULL) != 0);
    return parent;
}

/* The process that ran a call. */
static inline pid_t pid_of(pp_pool *pool)
{
    return take_int(submit(pool, task_pid, NULL, 0));
}

static inline pid_t zygote_of(pp_pool *pool)
{
    return parent_of(pid_of(pool));
}

/* Gone for good: not even a zombie. The test's runner reaps what is orphaned. */
static inline bool is_gone(pid_t pid)
{
    return test_process_state(pid, NULL, NULL) == 0;
}

static inline bool is_stopped(pid_t pid)
{
    return test_process_state(pid, NULL, NULL) == 'T';
}

static inline void stop_and_see(pid_t pid)
{
    kill(pid, SIGSTOP);
    wait_until(is_stopped(pid), 10);
}

/* The `index`th of the living children of `parent` that have this name (NULL: any); 0: there are not so many. */
static inline pid_t find_child(pid_t parent, const char *name, int index)
{
    pid_t found = 0;
    DIR *directory = opendir("/proc");
    for (struct dirent *entry; directory && !found && (entry = readdir(directory));) {
        int pid;
        pid_t its;
        char comm[64];
        if (sscanf(entry->d_name, "%d", &pid) == 1 && test_process_alive(pid) && test_process_state(pid, &its, comm) &&
            its == parent && (!name || strcmp(comm, name) == 0) && index-- == 0)
            found = pid;
    }
    if (directory)
        closedir(directory);
    return found;
}

static inline pid_t children_of(pid_t parent, int index)
{
    pid_t found = find_child(parent, NULL, index);
    CHECK(found != 0);
    return found;
}

static inline pid_t await_child(pid_t parent, const char *name)
{
    pid_t pid = 0;
    until((pid = find_child(parent, name, 0)) != 0);
    return pid;
}

/* Waits for a child of the test; its wait status. */
static inline int wait_for(pid_t pid)
{
    int status = 0;
    while (waitpid(pid, &status, 0) < 0)
        CHECK_INT(errno, EINTR);
    return status;
}

#endif
