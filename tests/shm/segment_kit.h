/* SPDX-License-Identifier: MIT */
/*
 * What the tests of segments and payloads share: what a failure must not leave behind, and memory that is not as it
 * should be.
 */
#ifndef TESTS_SHM_SEGMENT_KIT_H
#define TESTS_SHM_SEGMENT_KIT_H

#include "harness.h"
#include "memfd_kit.h"

#include "base/fd.h"
#include "procpool.h"
#include "shm/segment.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define KIT_PAGE ((size_t)4096)

struct kit_state {
    int descriptors, mappings;
};

static inline struct kit_state kit_state(void)
{
    return (struct kit_state){.descriptors = kit_open_descriptors(), .mappings = kit_memfd_mappings()};
}

static inline void kit_check_unchanged(struct kit_state before)
{
    CHECK_INT(kit_open_descriptors(), before.descriptors);
    CHECK_INT(kit_memfd_mappings(), before.mappings);
}

/* Whether the whole range, of up to 64 pages, is mapped in this process. */
static inline bool kit_is_mapped(const void *memory, size_t size)
{
    unsigned char pages[64];
    return mincore((void *)(uintptr_t)memory, size, pages) == 0;
}

static inline bool kit_child_has_it_mapped(const void *memory, size_t size)
{
    int status;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0)
        _exit(kit_is_mapped(memory, size) ? 10 : 11);
    CHECK_INT(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) >= 10);
    return WEXITSTATUS(status) == 10;
}

static inline void kit_limit(__rlimit_resource_t resource, rlim_t value)
{
    struct rlimit limit;
    CHECK_INT(getrlimit(resource, &limit), 0);
    limit.rlim_cur = value;
    CHECK_INT(setrlimit(resource, &limit), 0);
}

/* Bytes of address space that are in use. */
static inline rlim_t kit_address_space(void)
{
    unsigned long pages = 0;
    FILE *statm = fopen("/proc/self/statm", "re");
    CHECK(statm != NULL);
    CHECK_INT(fscanf(statm, "%lu", &pages), 1);
    fclose(statm);
    return (rlim_t)pages * KIT_PAGE;
}

/* Nobody can change the file behind `fd`, by whatever way. */
static inline void kit_check_unwritable(int fd)
{
    char path[64];
    CHECK(mmap(NULL, KIT_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
    CHECK_INT(errno, EPERM);
    CHECK_INT(pwrite(fd, "x", 1, 0), -1);
    CHECK_INT(errno, EPERM);
    CHECK_INT(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)KIT_PAGE), -1);
    CHECK_INT(errno, EPERM);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int again = open(path, O_RDWR | O_CLOEXEC);
    CHECK(again >= 0);
    CHECK(mmap(NULL, KIT_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, again, 0) == MAP_FAILED);
    close(again);
}

static inline void kit_check_size_fixed(int fd, size_t size)
{
    CHECK_INT(ftruncate(fd, (off_t)size - 1), -1);
    CHECK_INT(errno, EPERM);
    CHECK_INT(ftruncate(fd, (off_t)size + 1), -1);
    CHECK_INT(errno, EPERM);
    CHECK_INT(fallocate(fd, 0, 0, (off_t)size + 1), -1);
    CHECK_INT(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
}

#endif
