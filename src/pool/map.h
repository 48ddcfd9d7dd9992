/* SPDX-License-Identifier: MIT */
/*
 * Map: inputs are pulled in chunks (feed.c) as results are given out (map.c). A chunk is a work item of many elements;
 * its outcomes gather in it (chunk.c), in order, and are given out in the order of the inputs or as they come.
 *
 * The map's user is one thread at a time; what deliveries touch (the chunks' outcomes, the queue of ready ones) is
 * under the pool's lock.
 */
#ifndef PP_POOL_MAP_H
#define PP_POOL_MAP_H

#include "pool/chunk.h"
#include "pool/wait.h"

#include <stdalign.h>
#include <stddef.h>
#include <stdint.h>

struct pp__array_source {
    const char *elements;
    size_t count, size, next;
};

struct pp_map {
    pp_pool *pool;
    const struct pp__function *function;
    pp_map_source *source;
    void *context;
    struct pp__array_source array; /* the context of maps over arrays */
    char *outputs;                 /* of pp_map_array: where its results go, one for each input; or NULL */
    size_t out_size;
    pp_map_options options;
    uint64_t mean_run; /* ns, of an element, a moving mean; 0: none has ended. Under the lock */
    uint64_t deadline; /* of the whole */
    struct pp__subject subject;
    struct pp__link chunks; /* not given out wholly */
    struct pp__link ready;  /* of them, unordered: those with outcomes to give */
    uint64_t next_index;
    size_t in_flight; /* inputs pulled and not given out */

    /* what is pulled and not yet submitted */
    char *buffer; /* elements, as they travel */
    size_t used, room;
    uint64_t each;       /* bytes of the first one */
    uint32_t buffered;   /* inputs in it */
    uint32_t chunk_size; /* of the next chunk */
    void **tags;
    pp_map_input held; /* pulled, but there was no memory for it */
    bool holding;
    bool same;     /* all that are buffered have the same size */
    bool stays;    /* its thread comes back at once (pp__wait_stay) */
    bool patient;  /* nobody sees its results before the end: a chunk has some when it has all */
    bool drained;  /* the source is not asked any more */
    bool finished; /* fail-fast: nothing is given out any more */
    int end_error; /* told once, after the last result, in these words */
    char end_text[256];
    struct pp__chunk *spare;                       /* one that is empty, or NULL */
    struct pp__chunk *batch;                       /* whose taken outcomes are given out, or have just been; or NULL */
    struct pp__outcome current;                    /* given out by the last step; forgotten at the next */
    alignas(16) char result[PP__RUN_EACH_MAX + 1]; /* the same, of a result that came in a run */
};

/* Whether there is an outcome to give out; `map` as pp__wait passes it. Under the lock. */
bool pp__map_has_result(const void *map);

/* Whether the sizes of its chunks are found by measuring. */
static inline bool pp__map_measures(const pp_map *map)
{
    return map->options.chunk_size == 0;
}

/* The largest of those. */
#define PP__MEASURED_CHUNK 1024u

/* Submits inputs until as many are in flight as may be: 0, -EAGAIN when the source had none now, or what keeps inputs
 * from being submitted. Without the lock. */
int pp__map_fill(pp_map *map);

/* Whether there can be an array like this. */
static inline bool pp__map_array_fits(size_t count, size_t size)
{
    return count <= (size_t)PTRDIFF_MAX / (size ? size : 1);
}

/* As pp_map_open_array; with an out_buffer, results of `out_size` bytes each are written to `outputs`. */
int pp__map_open_array(pp_pool *pool, pp_function *function, const void *elements, size_t count, size_t size,
                       void *outputs, size_t out_size, const pp_map_options *options, pp_map **map);

/* The source of maps over arrays. */
int pp__map_array_next(void *context, pp_map_input *input);

/*
 * As pp_map_next, but for as many results as there are and lie together: *count of them, for result->index and the
 * inputs behind it, each of result->size bytes, one right behind the other at result->data (neither aligned nor
 * followed by a NUL). One where it failed. No inputs or tags come back; not to be mixed with pp_map_next. Who calls it
 * calls it again at once, until the end, and then closes the map.
 */
int pp__map_next_run(pp_map *map, int timeout, pp_map_result *result, size_t *count);

#endif
