/* SPDX-License-Identifier: MIT */
#include "base/allocation.h"

#include "base/seam.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>

static_assert(sizeof(struct pp__block_header) == 16, "the data behind it is aligned to 16");

void *pp__block_allocate(size_t size)
{
    if (size > PTRDIFF_MAX - sizeof(struct pp__block_header) - 1)
        return NULL;
    struct pp__block_header *header = PP_SYS(malloc)(sizeof *header + size + 1);
    if (!header)
        return NULL;
    *header = (struct pp__block_header){0};
    char *data = (char *)(header + 1);
    data[size] = 0;
    return data;
}

void pp__block_undo(void *data)
{
    if (data)
        free((struct pp__block_header *)data - 1);
}
