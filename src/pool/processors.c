/* SPDX-License-Identifier: MIT */
/* How many processors this process may use: affinity, lowered to the CPU quota of its cgroup and of those above. */
#include "base/atomic.h"
#include "base/cgroup.h"
#include "base/seam.h"
#include "pool/pool.h"
#include "procpool.h"

#include <limits.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

static int by_affinity(void)
{
    for (size_t cpus = 1024; cpus <= (1u << 20); cpus *= 2) {
        cpu_set_t *set = PP_SYS(malloc)(CPU_ALLOC_SIZE(cpus));
        if (!set)
            break;
        int count = 0;
        if (PP_SYS(sched_getaffinity)(0, CPU_ALLOC_SIZE(cpus), set) == 0)
            count = CPU_COUNT_S(CPU_ALLOC_SIZE(cpus), set);
        free(set);
        if (count > 0)
            return count;
    }
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (int)online : 1;
}

/* Processors that quota and period allow, rounded up; INT_MAX: no limit. */
static int allowed(long long quota, long long period)
{
    if (quota <= 0 || period <= 0)
        return INT_MAX;
    long long cpus = (quota + period - 1) / period;
    return cpus < INT_MAX ? (int)cpus : INT_MAX;
}

/* The quota of one cgroup directory, version 2 or 1. */
static int quota_of(const char *directory)
{
    long long quota, period, unused;
    if (pp__cgroup_read(directory, "cpu.max", &quota, &period) == 2)
        return allowed(quota, period);
    if (pp__cgroup_read(directory, "cpu.cfs_quota_us", &quota, &unused) >= 1 &&
        pp__cgroup_read(directory, "cpu.cfs_period_us", &period, &unused) >= 1)
        return allowed(quota, period);
    return INT_MAX;
}

/* A visit, with the least quota so far. */
static void lower(const char *directory, void *least)
{
    int quota = quota_of(directory);
    if (quota < *(int *)least)
        *(int *)least = quota;
}

static int by_quota(void)
{
    struct pp__cgroup groups[PP__CGROUP_VERSIONS];
    int least = INT_MAX;
    pp__cgroup_find_own("cpu", groups);
    pp__cgroup_each(groups, lower, &least);
    return least;
}

/* The quota costs many files to find out: asked once in a process, it holds for all its pools. */
int pp__processors_for_spinning(void)
{
    static _Atomic int known;
    int affinity = by_affinity(), quota = pp__load_relaxed(&known);
    if (quota == 0) {
        quota = by_quota();
        pp__store_relaxed(&known, quota); /* others may do the same */
    }
    return quota < affinity ? quota : affinity;
}

int pp_usable_processors(void)
{
    int affinity = by_affinity(), quota = by_quota();
    return quota < affinity ? quota : affinity;
}
