/* SPDX-License-Identifier: MIT */
#include "pool/block.h"

#include "base/allocation.h"
#include "base/error.h"
#include "base/seam.h"
#include "pool/channel.h"
#include "pool/results.h"
#include "procpool.h"
#include "shm/foreign.h"
#include "shm/huge.h"
#include "shm/segment.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static struct pp__block_header *header_of(void *data)
{
    return (struct pp__block_header *)data - 1;
}

size_t pp__block_before(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

static int copy(int fd, size_t size, void **data)
{
    void *block = pp__block_allocate(size);
    if (!block)
        return pp__fail(-ENOMEM, "no memory for a result of %zu bytes", size);
    int error = pp__payload_read(fd, size, block);
    if (error)
        pp__block_free(block);
    else
        *data = block;
    return error;
}

/* A page of our own for the header, then the payload, which its writer can no longer change. Private: the user may
 * write to what it took. */
static int map(int fd, size_t size, void **data)
{
    int error = pp__payload_check(fd, size);
    if (error == 0)
        error = pp__foreign_check_whole(fd, (uint64_t)size + 1);
    if (error)
        return error;
    size_t page = pp__block_before();
    size_t total = page + size + 1;
    char *memory = pp__huge_reserve(page, size + 1, PROT_READ | PROT_WRITE);
    if (!memory)
        return pp__fail(-ENOMEM, "no memory to map a result of %zu bytes", size);
    if (PP_SYS(mmap)(memory + page, size + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, 0) == MAP_FAILED) {
        munmap(memory, total);
        return pp__fail(-ENOMEM, "no memory to map a result of %zu bytes", size);
    }
    if (memory[page + size] != '\0') {
        munmap(memory, total);
        return pp__fail(-EPROTO, "a payload without a NUL behind it");
    }
    *data = memory + page;
    *header_of(*data) = (struct pp__block_header){.mapped = total};
    return 0;
}

int pp__block_open(int fd, size_t size, void **data)
{
    return size <= PP__COPIED_MAX ? copy(fd, size, data) : map(fd, size, data);
}

void pp__block_lend(void *data, size_t room, struct pp__results_place *place)
{
    *header_of(data) = (struct pp__block_header){.mapped = pp__block_before() + room, .lender = place};
}

void *pp__block_make(void *memory)
{
    struct pp__block_header *header = memory;
    *header = (struct pp__block_header){0};
    return header + 1;
}

int pp__block_own(void *data)
{
    struct pp__block_header *header = header_of(data);
    int error = header->lender ? pp__results_part_with(header->lender) : 0;
    if (!error)
        header->lender = NULL;
    return error;
}

void pp__block_free(void *data)
{
    if (!data)
        return;
    struct pp__block_header *header = header_of(data);
    if (header->lender)
        pp__results_give_back(header->lender);
    else if (header->mapped)
        munmap((char *)data - pp__block_before(), header->mapped);
    else
        free(header);
}

void pp_free(void *data)
{
    pp__block_free(data);
}
