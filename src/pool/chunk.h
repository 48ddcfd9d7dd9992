/* SPDX-License-Identifier: MIT */
/* A chunk of a map: what becomes of the outcomes of inputs that travel together. */
#ifndef PP_POOL_CHUNK_H
#define PP_POOL_CHUNK_H

#include "pool/item.h"

#include <stddef.h>
#include <stdint.h>

struct pp__chunk {
    struct pp__receiver receiver; /* of its item's outcomes */
    struct pp__link in_map;       /* in the order of the inputs */
    struct pp__link in_ready;
    pp_map *map;           /* NULL: the map was closed, outcomes are dropped */
    struct pp__item *item; /* NULL once all elements have ended */
    uint64_t index;        /* of its first input */
    uint32_t count;
    uint32_t ended; /* outcomes there */
    uint32_t taken; /* of them, those that the map's thread has for giving out */
    uint32_t given; /* of them, those that it has given out; its own */
    bool kept;      /* abandoned, but what was given out last lies here */
    struct pp__elements next_input;
    void *elements;     /* the inputs' memory once the item is gone, or NULL */
    const void *mapped; /* or their mapping, of `size` bytes */
    uint64_t size;
    void **tags; /* NULL: there are none */
    struct pp__buffers buffers;
    struct pp__passed passed[2]; /* those: the inputs', the results' */
    char *results;               /* those of `each` bytes that came in runs, one for each input: where the program */
    char *memory;                /* wants them, or here, in `room` bytes of its own; or NULL */
    size_t room;
    size_t each;      /* PP__CHUNK_UNKNOWN: no run came so far */
    bool *in_results; /* of each element that has ended: its result lies there, and it has no outcome */
    struct pp__outcome outcomes[];
};

#define PP__CHUNK_UNKNOWN SIZE_MAX

/* `tags`: NULL, or one for each input. NULL: no memory. */
struct pp__chunk *pp__chunk_create(pp_map *map, uint32_t count, uint64_t size, void **tags);
void pp__chunk_free(struct pp__chunk *chunk);

/* Before it is submitted: what its elements read, or their results, of `each` bytes, lie in a buffer. */
void pp__chunk_read_in_place(struct pp__chunk *chunk, pp_buffer *buffer, const void *inputs, size_t each);
void pp__chunk_write_in_place(struct pp__chunk *chunk, pp_buffer *buffer, void *outputs, size_t each);

/* Its memory serves the next one of its map. */
void pp__chunk_spare(pp_map *map, struct pp__chunk *chunk);
void pp__chunk_free_spare(struct pp__chunk *chunk);

/* What has not begun is cancelled; the chunk that runs ends behind the element that runs. Nothing of it is given out.
 * Under the lock. */
void pp__chunk_abandon(const pp_map *map, struct pp__chunk *chunk);

#endif
