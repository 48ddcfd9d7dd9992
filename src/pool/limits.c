/* SPDX-License-Identifier: MIT */
#include "pool/limits.h"

#include "base/cgroup.h"
#include "base/error.h"
#include "base/lines.h"
#include "base/seam.h"
#include "pool/channel.h"
#include "process/launcher.h"
#include "shm/segment.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* The pool's own: epoll set, kick, page, connection, control; and those that come and go while a worker starts. */
#define FDS_OF_POOL 12
#define FDS_OF_WORKER 3 /* bell, socket, and a large payload on its way; a captured stream has one more */
#define FDS_OF_OTHER 2  /* the same of one that is sent nothing */

static rlim_t soft(int resource)
{
    struct rlimit limit;
    return getrlimit((__rlimit_resource_t)resource, &limit) == 0 ? limit.rlim_cur : RLIM_INFINITY;
}

static rlim_t count_open(void)
{
    rlim_t count = 0;
    DIR *directory = PP_SYS(opendir)("/proc/self/fd");
    while (directory && readdir(directory))
        count++;
    if (directory)
        closedir(directory);
    return count > 3 ? count - 3 : 0; /* ".", ".." and its own */
}

/* Beside the workers that there are places for: a standby, and, where workers go and others come, the next or the last
 * one of each place. */
static rlim_t count_others(const pp_pool_options *options, int workers)
{
    bool come_and_go = options->max_tasks || options->max_growth || options->idle_timeout;
    return (rlim_t)(come_and_go ? workers : 0) + (options->standby != PP_STANDBY_NEVER);
}

static int check_descriptors(const pp_pool_options *options, int workers)
{
    rlim_t most = soft(RLIMIT_NOFILE), streams = (rlim_t)__builtin_popcount(options->capture);
    rlim_t needed = FDS_OF_POOL + (FDS_OF_WORKER + streams) * (rlim_t)workers +
                    (FDS_OF_OTHER + streams) * count_others(options, workers);
    if (most == RLIM_INFINITY || most / 4 > needed) /* counting them takes time */
        return 0;
    rlim_t open = count_open();
    if (open + needed <= most)
        return 0;
    return pp__fail(
        -EMFILE,
        "%d workers need %llu descriptors; RLIMIT_NOFILE allows %llu, and %llu are open (raise it with ulimit -n or "
        "setrlimit, or take fewer workers)",
        workers, (unsigned long long)needed, (unsigned long long)most, (unsigned long long)open);
}

/* The least that is left, by a visit. */
struct left {
    long long processes, most;
};

static void look_at_group(const char *directory, void *data)
{
    struct left *left = data;
    long long most, now = 0, unused;
    if (pp__cgroup_read(directory, "pids.max", &most, &unused) < 1)
        return;
    pp__cgroup_read(directory, "pids.current", &now, &unused);
    if (most - now < left->processes)
        *left = (struct left){.processes = most - now, .most = most};
}

/* The threads of a process, if it is that user's; a main thread alone is a process. */
static rlim_t count_threads(const char *process, uid_t user)
{
    struct pp__lines lines;
    char path[32];
    unsigned long owner = ULONG_MAX, threads = 0;
    snprintf(path, sizeof path, "/proc/%.16s/status", process);
    pp__lines_open(&lines, path);
    for (char *line; (line = pp__lines_next(&lines)) != NULL;) {
        if (strncmp(line, "Uid:", 4) == 0)
            owner = strtoul(line + 4, NULL, 10);
        else if (strncmp(line, "Threads:", 8) == 0)
            threads = strtoul(line + 8, NULL, 10);
    }
    pp__lines_close(&lines);
    return owner == user ? threads : 0;
}

static rlim_t count_tasks(uid_t user)
{
    rlim_t count = 0;
    const struct dirent *entry;
    DIR *directory = PP_SYS(opendir)("/proc");
    while (directory && (entry = readdir(directory)) != NULL)
        if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9')
            count += count_threads(entry->d_name, user);
    if (directory)
        closedir(directory);
    return count;
}

/* Processes and threads of all users: "0.20 0.18 0.12 1/80 11206". */
static rlim_t count_all_tasks(void)
{
    struct pp__lines lines;
    pp__lines_open(&lines, "/proc/loadavg");
    const char *line = pp__lines_next(&lines), *count = line ? strchr(line, '/') : NULL;
    rlim_t tasks = count ? strtoul(count + 1, NULL, 10) : RLIM_INFINITY / 2;
    pp__lines_close(&lines);
    return tasks;
}

/* RLIMIT_NPROC is for all processes and threads of the user together, and not for root's. */
static int check_user(int workers, rlim_t needed)
{
    rlim_t most = soft(RLIMIT_NPROC);
    if (geteuid() == 0 || most == RLIM_INFINITY || count_all_tasks() + needed <= most)
        return 0; /* to count one user's takes time */
    rlim_t there = count_tasks(getuid());
    if (there + needed <= most)
        return 0;
    return pp__fail(-EAGAIN,
                    "%d workers need %llu processes and threads; RLIMIT_NPROC allows this user %llu, and %llu are "
                    "there (raise it with ulimit -u or setrlimit, or take fewer workers)",
                    workers, (unsigned long long)needed, (unsigned long long)most, (unsigned long long)there);
}

static struct left left_in(const struct pp__cgroup *groups)
{
    struct left left = {.processes = LLONG_MAX};
    pp__cgroup_each(groups, look_at_group, &left);
    return left;
}

/* Those that a launcher was made in say no: it may have been moved since. */
__attribute__((noinline)) static struct left left_by_now(const pp_launcher *launcher)
{
    struct pp__cgroup groups[PP__CGROUP_VERSIONS];
    pp__launcher_find_groups(launcher, groups);
    return left_in(groups);
}

static int check_processes(const pp_launcher *launcher, int workers, int threads)
{
    rlim_t needed = (rlim_t)workers + (rlim_t)threads;
    int error = check_user(workers, needed);
    if (error)
        return error;
    struct left left = left_in(pp__launcher_groups(launcher));
    if (left.processes < (long long)needed)
        left = left_by_now(launcher);
    if (left.processes >= (long long)needed)
        return 0;
    return pp__fail(-EAGAIN,
                    "%d workers need %llu processes and threads; the control group allows %lld, and there is room for "
                    "%lld (raise its pids.max, or take fewer workers)",
                    workers, (unsigned long long)needed, left.most, left.processes);
}

/* What is mapped already, in pages, is the first number there; 0: nobody knows. */
static rlim_t mapped(void)
{
    struct pp__lines lines;
    pp__lines_open(&lines, "/proc/self/statm");
    const char *line = pp__lines_next(&lines);
    rlim_t pages = line ? strtoul(line, NULL, 10) : 0;
    pp__lines_close(&lines);
    return pages * (rlim_t)sysconf(_SC_PAGESIZE);
}

/* Of a thread that is made without attributes, as the pool's are. */
static rlim_t stack_of_thread(void)
{
    pthread_attr_t attributes;
    size_t size = 0;
    pthread_attr_init(&attributes);
    pthread_attr_getstacksize(&attributes, &size);
    pthread_attr_destroy(&attributes);
    return size;
}

/* Both sides of each worker's channel are mapped here, a result side more while one takes an ended worker's place
 * (glance.h), and the stacks of the pool's threads. A worker has its stack besides; what else it has is what the
 * process that starts workers had at its birth, which may have been less than is in use here by now. */
static int check_memory(const pp_pool_options *options, int workers, int threads)
{
    rlim_t most = soft(RLIMIT_AS), result = sizeof(struct pp__result_side),
           channel = sizeof(struct pp__call_side) + result;
    if (most == RLIM_INFINITY)
        return 0;
    if (channel + options->stack_size >= most)
        return pp__fail(-ENOMEM,
                        "a worker needs %zu bytes of address space for its stack; RLIMIT_AS allows %llu (raise it with "
                        "ulimit -v or setrlimit, or take a smaller stack_size)",
                        options->stack_size, (unsigned long long)most);
    rlim_t needed = (rlim_t)workers * channel + result + (rlim_t)threads * stack_of_thread(), there = mapped();
    if (there + needed < most)
        return 0;
    return pp__fail(-ENOMEM,
                    "%d workers need %llu bytes of address space; RLIMIT_AS allows %llu, and %llu are in use (raise it "
                    "with ulimit -v or setrlimit, or take fewer workers)",
                    workers, (unsigned long long)needed, (unsigned long long)most, (unsigned long long)there);
}

/* The larger side of a channel. */
static int check_file_size(void)
{
    size_t call = sizeof(struct pp__call_side), result = sizeof(struct pp__result_side);
    return pp__segment_check_limit(call > result ? call : result);
}

int pp__limits_check(const pp_pool_options *options, const pp_launcher *launcher, int workers, int threads)
{
    int error = check_descriptors(options, workers);
    if (!error)
        error = check_processes(launcher, workers, threads);
    if (!error)
        error = check_file_size();
    return error ? error : check_memory(options, workers, threads);
}
