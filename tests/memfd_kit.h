/* SPDX-License-Identifier: MIT */
/* For tests of memory that is shared: what of it a process has, and memfds that are not as they should be. */
#ifndef PP_TESTS_MEMFD_KIT_H
#define PP_TESTS_MEMFD_KIT_H

#include "harness.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static inline int kit_open_descriptors(void)
{
    int count = 0;
    DIR *directory = opendir("/proc/self/fd");
    CHECK(directory != NULL);
    while (readdir(directory))
        count++;
    closedir(directory);
    return count;
}

/* Mappings of files whose paths have this in them. */
static inline int kit_mappings_of(const char *name)
{
    char line[512];
    int count = 0;
    FILE *maps = fopen("/proc/self/maps", "re");
    CHECK(maps != NULL);
    while (fgets(line, sizeof line, maps))
        count += strstr(line, name) != NULL;
    fclose(maps);
    return count;
}

static inline int kit_memfd_mappings(void)
{
    return kit_mappings_of("/memfd:");
}

/* A memfd with these bytes and seals, as a peer might send one; `size` beyond the bytes is a hole. */
static inline int kit_memfd(const void *bytes, size_t count, size_t size, int seals)
{
    int fd = memfd_create("peer", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    CHECK(fd >= 0);
    CHECK_INT(ftruncate(fd, (off_t)size), 0);
    CHECK_INT(pwrite(fd, bytes, count, 0), count);
    CHECK_INT(fcntl(fd, F_ADD_SEALS, seals), 0);
    return fd;
}

#endif
