/* SPDX-License-Identifier: MIT */
/* From a map's source to work items. */
#include "base/clock.h"
#include "base/error.h"
#include "base/seam.h"
#include "pool/function.h"
#include "pool/map.h"
#include "pool/pool.h"
#include "shm/segment.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A chunk that is measured lasts about so long: a wake and the way there and back are little beside it, and it holds up
 * little. */
#define CHUNK_TIME (256 * PP__MICROSECOND)
/* Inputs of so many bytes still lie in the ring. */
#define CHUNK_BYTES (PP__RING_BYTES / 5)
/* Of the outputs of one chunk no more is touched before it is sent. */
#define TOUCH_MOST ((size_t)1 << 20)
#define PAGE 4096u

/* Seals the item's elements and finds where the chunk reads its inputs. */
static int open_inputs(struct pp__chunk *chunk, struct pp__item *item)
{
    chunk->next_input = pp__item_elements(item);
    if (item->x.fd < 0)
        return 0;
    int error = pp__item_seal(item);
    if (!error)
        error = pp__payload_map(item->x.fd, item->x.size, &chunk->mapped);
    chunk->next_input.place = chunk->mapped;
    return error;
}

/* Whether workers read its elements where they lie. */
static bool reads_in_place(const pp_map *map)
{
    return map->options.in_buffer && !map->pool->options.capture && !map->pool->is_inline;
}

static void use_buffers(const pp_map *map, struct pp__chunk *chunk, const struct pp__item *item)
{
    if (reads_in_place(map) && item->borrowed && item->x.each > 0)
        pp__chunk_read_in_place(chunk, map->options.in_buffer, item->x.elements, item->x.each);
    if (map->options.out_buffer && map->out_size > 0)
        pp__chunk_write_in_place(chunk, map->options.out_buffer, map->outputs + map->next_index * map->out_size,
                                 map->out_size);
}

/*
 * Results are copied to the program's outputs under the pool's lock, which is to be held for short: faults in that
 * memory are to come before. Each byte is the chunk's own, and stays as it is.
 */
static void touch_outputs(const pp_map *map, uint32_t count)
{
    if (!map->outputs || map->options.out_buffer || map->options.fail_fast)
        return;
    volatile char *at = map->outputs + map->next_index * map->out_size;
    size_t size = count * map->out_size;
    for (size_t i = 0; i < size && i < TOUCH_MOST; i += PAGE)
        at[i] = at[i];
    if (size > 0 && size <= TOUCH_MOST)
        at[size - 1] = at[size - 1];
}

/* Submits an item of inputs. A pool that takes no calls any more fails them, as it does with all that it had accepted.
 */
static int submit_chunk(pp_map *map, struct pp__item *item, void **tags)
{
    struct pp__chunk *chunk = pp__chunk_create(map, item->x.count, item->x.size, tags);
    int error =
        chunk ? open_inputs(chunk, item) : pp__fail(-ENOMEM, "no memory for a chunk of %u inputs", item->x.count);
    if (error) {
        pp__chunk_free(chunk);
        return error;
    }
    use_buffers(map, chunk, item);
    touch_outputs(map, item->x.count);
    chunk->item = item;
    item->function = map->function;
    item->x.receiver = &chunk->receiver;
    item->timeout = map->options.timeout;
    item->retries = map->options.retries & PP__RETRIES_MASK; /* as it is: it was checked */
    map->next_index += item->x.count;
    map->in_flight += item->x.count;
    pp__pool_lock(map->pool);
    pp__list_insert(&map->chunks, &chunk->in_map);
    pp__pool_submit_item(map->pool, item);
    pp__pool_unlock(map->pool);
    return 0;
}

/* --------------------------------------------------------------------------------------------- pull */

int pp__map_array_next(void *context, pp_map_input *input)
{
    struct pp__array_source *array = context;
    if (array->next == array->count)
        return 0;
    input->data = array->elements + array->next++ * array->size;
    input->size = array->size;
    return 1;
}

/* `error`: 0, or what has just been put into words. */
static void end_input(pp_map *map, int error)
{
    map->drained = true;
    map->end_error = error;
    snprintf(map->end_text, sizeof map->end_text, "%s", pp_last_error());
}

/* Asks the source. 1: map->held is an input; 0: none now. Without the lock. */
static int pull(pp_map *map)
{
    if (map->holding)
        return 1;
    if (map->drained)
        return 0;
    map->held = (pp_map_input){0};
    int got = map->source(map->context, &map->held);
    if (got == INT_MIN)
        got = -EINVAL; /* it has no positive counterpart to be looked up */
    if (got == -EAGAIN)
        return -EAGAIN;
    if (got == 1 && (map->held.data || map->held.size == 0) && map->held.size <= PTRDIFF_MAX / 2) {
        map->holding = true;
        return 1;
    }
    if (got == 1)
        got = pp__fail(-EINVAL, "the map's source gave %zu bytes at %p", map->held.size, map->held.data);
    else if (got != 0)
        got = pp__fail(got < 0 ? got : -EINVAL, "the map's source returned %d%s%s", got, got < 0 ? ": " : "",
                       got < 0 ? pp__strerror(-got) : "");
    end_input(map, got);
    return 0;
}

/* An item for inputs. Those that no file may hold (RLIMIT_FSIZE) get one too: they fail when they are to be sent,
 * alone. */
static int create_item(const pp_map *map, uint32_t count, uint64_t size, struct pp__item **item)
{
    int error = pp__item_create(count, size, map->pool->is_inline, item);
    return error == -EFBIG ? pp__item_create(count, size, true, item) : error;
}

/* An input that travels alone goes straight into its item. */
static int submit_held(pp_map *map)
{
    struct pp__item *item;
    int error = create_item(map, 1, pp__element_room(map->held.size), &item);
    if (error)
        return error;
    pp__item_add(item->x.elements, map->held.data, map->held.size);
    error = submit_chunk(map, item, &map->held.tag);
    if (error)
        pp__item_free(item);
    else
        map->holding = false;
    return error;
}

static int buffer_held(pp_map *map)
{
    size_t needed = map->used + pp__element_room(map->held.size);
    if (needed > map->room) {
        char *grown = PP_SYS(realloc)(map->buffer, needed * 2);
        if (!grown)
            return pp__fail(-ENOMEM, "no memory for a chunk of %zu bytes", needed);
        map->buffer = grown;
        map->room = needed * 2;
    }
    pp__item_add(map->buffer + map->used, map->held.data, map->held.size);
    map->used = needed;
    if (map->buffered == 0)
        map->each = map->held.size;
    map->same = (map->buffered == 0 || map->same) && map->held.size == map->each;
    map->tags[map->buffered++] = map->held.tag;
    map->holding = false;
    return 0;
}

/* Without their headers, as all have the same size, many more small inputs fit into a record. */
static void pack(pp_map *map, struct pp__item *item)
{
    struct pp__elements from = {.place = map->buffer};
    size_t room = pp__same_room(map->each);
    char *to = item->x.elements;
    for (uint32_t i = 0; i < map->buffered; i++, to += room) {
        memcpy(to, pp__elements_data(&from), room); /* where it is padded, there too, with zeros */
        pp__elements_next(&from);
    }
    item->same = true;
    item->x.each = map->each;
}

static int submit_buffer(pp_map *map)
{
    struct pp__item *item;
    bool packed = map->same && map->buffered > 1 && !map->pool->is_inline;
    int error = create_item(map, map->buffered, packed ? map->buffered * pp__same_room(map->each) : map->used, &item);
    if (error)
        return error;
    if (packed)
        pack(map, item);
    else
        memcpy(item->x.elements, map->buffer, map->used);
    error = submit_chunk(map, item, map->tags);
    if (error) {
        pp__item_free(item);
        return error;
    }
    map->buffered = 0;
    map->used = 0;
    return 0;
}

/* A chunk of a map over an array of elements that lie in it as they travel, or do not travel. Nothing is pulled if it
 * fails. */
static int submit_slice(pp_map *map)
{
    struct pp__array_source *array = &map->array;
    size_t left = array->count - array->next;
    uint32_t count = left < map->chunk_size ? (uint32_t)left : map->chunk_size;
    struct pp__item *item;
    size_t travels = reads_in_place(map) ? 0 : count * array->size;
    int error = pp__item_borrow(count, travels, array->elements + array->next * array->size, &item);
    if (error)
        return error;
    item->same = true;
    item->x.each = array->size;
    error = submit_chunk(map, item, NULL);
    if (error)
        pp__item_free(item);
    else
        array->next += count;
    return error;
}

/* Of one element nothing is gained, unless it lies in a buffer, and what was pulled before for a smaller chunk comes
 * first. */
static bool has_slice(const pp_map *map)
{
    const struct pp__array_source *array = &map->array;
    size_t least_count = reads_in_place(map) ? 1 : 2;
    return map->source == pp__map_array_next && !map->holding && map->buffered == 0 &&
           array->count - array->next >= least_count && map->chunk_size >= least_count &&
           (reads_in_place(map) || pp__same_room(array->size) == array->size) && !map->pool->is_inline && !map->drained;
}

/* A chunk that is measured is no reason to keep inputs of a slow source waiting, nor to use another way for large ones.
 */
static bool is_full(const pp_map *map, uint64_t begun)
{
    return map->used >= CHUNK_BYTES || pp__now() - begun >= CHUNK_TIME;
}

/* Pulls and submits one chunk: 1. 0 or -EAGAIN when the source has no more (now): what it gave before is submitted.
 * Another errno loses nothing. */
static int pull_chunk(pp_map *map)
{
    uint64_t begun = pp__map_measures(map) ? pp__now() : 0;
    int got = 1;
    if (has_slice(map)) {
        int error = submit_slice(map);
        return error ? error : 1;
    }
    while (map->buffered < map->chunk_size && (got = pull(map)) == 1) {
        bool alone = map->chunk_size == 1 && map->buffered == 0;
        int error = alone ? submit_held(map) : buffer_held(map);
        if (error || alone)
            return error ? error : 1;
        if (pp__map_measures(map) && is_full(map, begun))
            break;
    }
    if (map->buffered == 0)
        return got;
    int error = submit_buffer(map);
    return error ? error : got;
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/*
 * Under the lock. By how long elements have lasted so far, and no more than a quarter of those that were given out: a
 * few short ones promise nothing. Towards the end of an array there is something for each worker.
 */
static uint32_t measured_size(const pp_map *map)
{
    size_t workers = (size_t)map->pool->max_workers;
    size_t size = least(PP__MEASURED_CHUNK, (map->next_index - map->in_flight) / 4);
    size = map->mean_run > 0 ? least(size, CHUNK_TIME / map->mean_run) : 1;
    if (map->pool->options.max_tasks > 0)
        size = least(size, map->pool->options.max_tasks);
    if (map->options.max_in_flight > 0)
        size = least(size, map->options.max_in_flight / (PP__CHUNKS_IN_FLIGHT * workers));
    if (map->source == pp__map_array_next)
        size = least(size, (map->array.count - map->array.next) / (2 * workers));
    if (map->source == pp__map_array_next && !reads_in_place(map))
        size = least(size, CHUNK_BYTES / (map->array.size + 1));
    return size > 0 ? (uint32_t)size : 1;
}

/* Of the next chunk: its size, and whether there is place for it. Under the lock. */
static bool may_pull(pp_map *map)
{
    map->chunk_size = pp__map_measures(map) ? measured_size(map) : (uint32_t)map->options.chunk_size;
    size_t most = map->options.max_in_flight;
    if (most == 0)
        most = (reads_in_place(map) ? PP__CHUNKS_IN_PLACE : PP__CHUNKS_IN_FLIGHT) * (size_t)map->pool->max_workers *
               map->chunk_size;
    return map->in_flight == 0 || map->in_flight + map->chunk_size <= most;
}

int pp__map_fill(pp_map *map)
{
    for (;;) {
        pp__pool_lock(map->pool);
        int refused = pp__pool_accepts(map->pool);
        bool may = may_pull(map);
        pp__pool_unlock(map->pool);
        if (!may)
            return 0;
        if (refused && !map->drained)
            end_input(map, refused);
        if (map->drained && !map->holding && map->buffered == 0)
            return 0;
        int got = pull_chunk(map);
        if (got != 1)
            return got;
    }
}
