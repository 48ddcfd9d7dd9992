/* SPDX-License-Identifier: MIT */
#include "pool/limits.h"

#include "base/cgroup.h"
#include "base/error.h"
#include "base/seam.h"
#include "pool/channel.h"
#include "shm/segment.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
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

/* RLIMIT_NPROC is for the user's processes together, and not for root's. */
static int check_processes(int workers)
{
    struct left left = {.processes = LLONG_MAX};
    rlim_t most = soft(RLIMIT_NPROC), needed = (rlim_t)workers + 1;
    if (geteuid() != 0 && most != RLIM_INFINITY && most < needed)
        return pp__fail(-EAGAIN,
                        "%d workers need %llu processes; RLIMIT_NPROC allows this user %llu (raise it with ulimit -u "
                        "or setrlimit, or "
                        "take fewer workers)",
                        workers, (unsigned long long)needed, (unsigned long long)most);
    pp__cgroup_each("pids", look_at_group, &left);
    if (left.processes >= (long long)needed)
        return 0;
    return pp__fail(-EAGAIN,
                    "%d workers need %llu processes; the control group allows %lld, and there is room for %lld (raise "
                    "its pids.max, or "
                    "take fewer workers)",
                    workers, (unsigned long long)needed, left.most, left.processes);
}

/* Both sides of each worker's channel are mapped here. */
static int check_memory(int workers)
{
    rlim_t most = soft(RLIMIT_AS);
    rlim_t needed = (rlim_t)workers * (sizeof(struct pp__call_side) + sizeof(struct pp__result_side));
    if (most == RLIM_INFINITY || needed < most)
        return 0;
    return pp__fail(-ENOMEM,
                    "%d workers need %llu bytes of address space; RLIMIT_AS allows %llu (raise it with ulimit -v or "
                    "setrlimit, or take "
                    "fewer workers)",
                    workers, (unsigned long long)needed, (unsigned long long)most);
}

/* The larger side of a channel. */
static int check_file_size(void)
{
    size_t call = sizeof(struct pp__call_side), result = sizeof(struct pp__result_side);
    return pp__segment_check_limit(call > result ? call : result);
}

int pp__limits_check(const pp_pool_options *options, int workers)
{
    int error = check_descriptors(options, workers);
    if (!error)
        error = check_processes(workers);
    if (!error)
        error = check_file_size();
    return error ? error : check_memory(workers);
}
