/* SPDX-License-Identifier: MIT */
/* How many processors this process may use: affinity, lowered to the CPU quota of its cgroup and of those above. */
#include "base/atomic.h"
#include "pool/pool.h"
#include "procpool.h"

#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int by_affinity(void)
{
    for (size_t cpus = 1024; cpus <= (1u << 20); cpus *= 2) {
        cpu_set_t *set = CPU_ALLOC(cpus);
        if (!set)
            break;
        int count = 0;
        if (sched_getaffinity(0, CPU_ALLOC_SIZE(cpus), set) == 0)
            count = CPU_COUNT_S(CPU_ALLOC_SIZE(cpus), set);
        CPU_FREE(set);
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

static int read_numbers(const char *directory, const char *file, long long *first, long long *second)
{
    char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/%s", directory, file);
    FILE *f = fopen(path, "re");
    if (!f)
        return 0;
    int got = fscanf(f, "%lld %lld", first, second);
    fclose(f);
    return got;
}

/* The quota of one cgroup directory, version 2 or 1. */
static int quota_of(const char *directory)
{
    long long quota, period, unused;
    if (read_numbers(directory, "cpu.max", &quota, &period) == 2)
        return allowed(quota, period);
    if (read_numbers(directory, "cpu.cfs_quota_us", &quota, &unused) >= 1 &&
        read_numbers(directory, "cpu.cfs_period_us", &period, &unused) >= 1)
        return allowed(quota, period);
    return INT_MAX;
}

/* The least quota from this cgroup up to the root of its hierarchy. */
static int quota_upwards(const char *mount, char *path)
{
    int least = INT_MAX;
    for (;;) {
        char directory[PATH_MAX];
        if (snprintf(directory, sizeof directory, "%s%s", mount, path) < (int)sizeof directory) {
            int quota = quota_of(directory);
            least = quota < least ? quota : least;
        }
        char *slash = strrchr(path, '/');
        if (!slash || path[1] == 0)
            return least;
        slash[slash == path] = 0; /* "/a" becomes "/", "/a/b" becomes "/a" */
    }
}

/* A line of /proc/self/cgroup is "number:controllers:path"; version 2 has the number 0 and no controllers. */
static int by_quota(void)
{
    static const char *const mounts[] = {"/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/cpu"};
    char line[PATH_MAX + 128];
    int least = INT_MAX;
    FILE *f = fopen("/proc/self/cgroup", "re");
    while (f && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        char *controllers = strchr(line, ':');
        char *path = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!path || path[1] != '/')
            continue;
        *path++ = 0;
        int quota = INT_MAX;
        if (controllers[1] == 0)
            quota = quota_upwards("/sys/fs/cgroup", path);
        else if (strstr(controllers + 1, "cpu") && strcmp(controllers + 1, "cpuset") != 0)
            quota = quota_upwards(access(mounts[0], F_OK) == 0 ? mounts[0] : mounts[1], path);
        least = quota < least ? quota : least;
    }
    if (f)
        fclose(f);
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
