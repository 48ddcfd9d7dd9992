/* SPDX-License-Identifier: MIT */
#include "pool/chunk.h"

#include "base/seam.h"
#include "pool/block.h"
#include "pool/buffer.h"
#include "pool/dispatch.h"
#include "pool/inline.h"
#include "pool/map.h"
#include "pool/output.h"
#include "pool/pool.h"
#include "pool/take_back.h"
#include "pool/workers.h"
#include "shm/segment.h"

#include <stdlib.h>
#include <string.h>

/* What it has but for its own memory and that of results. */
static void empty_chunk(struct pp__chunk *chunk)
{
    for (uint32_t i = chunk->given; i < chunk->ended; i++)
        if (!chunk->in_results[i])
            pp__outcome_free(&chunk->outcomes[i]);
    if (chunk->mapped)
        pp__payload_unmap(chunk->mapped, chunk->size);
    pp__output_free(chunk->receiver.output);
    pp__buffers_give_back(&chunk->buffers);
    free(chunk->elements);
    free(chunk->tags);
}

void pp__chunk_free_spare(struct pp__chunk *chunk)
{
    if (chunk)
        free(chunk->memory);
    free(chunk);
}

void pp__chunk_free(struct pp__chunk *chunk)
{
    if (!chunk)
        return;
    empty_chunk(chunk);
    pp__chunk_free_spare(chunk);
}

void pp__chunk_spare(pp_map *map, struct pp__chunk *chunk)
{
    if (map->spare || chunk->count != map->chunk_size) {
        pp__chunk_free(chunk);
        return;
    }
    empty_chunk(chunk);
    map->spare = chunk;
}

/* The inputs stay until they were given out: their memory, which keeps its place, passes from the item to the chunk. */
static void take_over_inputs(struct pp__chunk *chunk, struct pp__item *item)
{
    if (item->x.fd < 0 && !item->borrowed) {
        chunk->elements = item->x.elements;
        item->x.elements = NULL;
    }
    chunk->item = NULL;
}

bool pp__map_has_result(const void *map)
{
    const pp_map *m = map;
    if (!m->options.unordered) {
        const struct pp__chunk *first = pp__container(m->chunks.next, struct pp__chunk, in_map);
        return !pp__list_empty(&m->chunks) && first->ended > first->taken;
    }
    return !pp__list_empty(&m->ready);
}

/* Where the program wants results of this size, if it does. With fail_fast it wants only those that are given out. */
static char *place_for(const struct pp__chunk *chunk, size_t each)
{
    const pp_map *map = chunk->map;
    bool wants = map && map->outputs && each == map->out_size && !map->options.fail_fast;
    return wants ? map->outputs + chunk->index * each : NULL;
}

/* Room of its own for one such result of each input; NULL: no memory. */
static char *own_room(struct pp__chunk *chunk, size_t each)
{
    size_t needed = chunk->count * each + 1;
    if (chunk->room < needed) {
        free(chunk->memory);
        chunk->memory = PP_SYS(malloc)(needed);
        chunk->room = chunk->memory ? needed : 0;
    }
    return chunk->memory;
}

/* Under the lock. Results of the first run's size have their places, those of others come one by one. */
static void *room_for(struct pp__receiver *receiver, struct pp__item *item, size_t each)
{
    struct pp__chunk *chunk = pp__container(receiver, struct pp__chunk, receiver);
    if (chunk->each == PP__CHUNK_UNKNOWN) {
        char *place = place_for(chunk, each);
        chunk->results = place ? place : own_room(chunk, each);
        chunk->each = chunk->results ? each : PP__CHUNK_UNKNOWN;
    }
    return chunk->each == each ? chunk->results + item->x.next * each : NULL;
}

static void learn(pp_map *map, struct pp__chunk *chunk)
{
    uint64_t run_time = chunk->receiver.run_time, mean = map->mean_run;
    chunk->receiver.run_time = 0;
    if (run_time > 0)
        map->mean_run = mean == 0 ? run_time + 1 : mean - mean / 8 + run_time / 8 + 1;
}

/* Under the lock. */
static void deliver(struct pp__receiver *receiver, struct pp__item *item, uint32_t index, uint32_t count,
                    struct pp__outcome outcome)
{
    struct pp__chunk *chunk = pp__container(receiver, struct pp__chunk, receiver);
    pp_map *map = chunk->map;
    bool in_results =
        !outcome.code && chunk->each != PP__CHUNK_UNKNOWN && outcome.data == chunk->results + index * chunk->each;
    memset(chunk->in_results + index, in_results, count);
    if (!in_results)
        chunk->outcomes[index] = outcome;
    chunk->ended = index + count;
    if (chunk->ended == chunk->count)
        take_over_inputs(chunk, item);
    if (!map) {
        if (!in_results)
            pp__outcome_free(&chunk->outcomes[index]); /* those before it, not given out, go with the chunk */
        if (!chunk->item && !chunk->kept)
            pp__chunk_free(chunk);
        return;
    }
    learn(map, chunk);
    if (pp__list_empty(&chunk->in_ready) && (!map->patient || chunk->ended == chunk->count))
        pp__list_insert(&map->ready, &chunk->in_ready);
    if (pp__map_has_result(map))
        pp__subject_wake(&map->subject, pp__item_pool(item), map);
}

static struct pp__chunk *take_spare(pp_map *map, uint32_t count)
{
    struct pp__chunk *spare = map->spare;
    if (!spare || spare->count != count)
        return NULL;
    map->spare = NULL;
    return spare;
}

struct pp__chunk *pp__chunk_create(pp_map *map, uint32_t count, uint64_t size, void **tags)
{
    size_t outcomes = count * sizeof(struct pp__outcome);
    struct pp__chunk *chunk = take_spare(map, count), kept = {0};
    if (chunk)
        kept = (struct pp__chunk){.memory = chunk->memory, .room = chunk->room};
    else
        chunk = PP_SYS(malloc)(sizeof *chunk + outcomes + count * sizeof *chunk->in_results);
    if (!chunk)
        return NULL;
    *chunk = kept;
    chunk->receiver.deliver = deliver;
    chunk->receiver.room = count > 1 ? room_for : NULL;
    chunk->receiver.run_time = 0;
    chunk->map = map;
    chunk->count = count;
    chunk->size = size;
    chunk->index = map->next_index;
    chunk->each = PP__CHUNK_UNKNOWN;
    chunk->in_results = (bool *)((char *)chunk->outcomes + outcomes);
    pp__list_init(&chunk->in_map);
    pp__list_init(&chunk->in_ready);
    if (!tags)
        return chunk;
    chunk->tags = PP_SYS(malloc)(count * sizeof *tags);
    if (!chunk->tags) {
        pp__chunk_free(chunk);
        return NULL;
    }
    memcpy(chunk->tags, tags, count * sizeof *tags);
    return chunk;
}

static void pass(struct pp__chunk *chunk, struct pp__passed passed)
{
    chunk->passed[chunk->buffers.count++] = passed;
    chunk->buffers.each = chunk->passed;
    chunk->receiver.buffers = &chunk->buffers;
}

void pp__chunk_read_in_place(struct pp__chunk *chunk, pp_buffer *buffer, const void *inputs, size_t each)
{
    pass(chunk, pp__buffer_pass(buffer, PP__USE_INPUTS, inputs, each));
    chunk->next_input.step = each; /* they are not padded */
}

void pp__chunk_write_in_place(struct pp__chunk *chunk, pp_buffer *buffer, void *outputs, size_t each)
{
    pass(chunk, pp__buffer_pass(buffer, PP__USE_RESULTS, outputs, each));
    chunk->receiver.room = room_for;
    chunk->receiver.in_place = each;
    chunk->results = outputs;
    chunk->each = each;
}

void pp__chunk_abandon(const pp_map *map, struct pp__chunk *chunk)
{
    struct pp__item *item = chunk->item;
    pp__list_remove(&chunk->in_map);
    pp__list_remove(&chunk->in_ready);
    chunk->kept = chunk == map->batch;
    if (chunk->results != chunk->memory && chunk->receiver.in_place == 0)
        chunk->each = PP__CHUNK_UNKNOWN; /* nothing is copied to the program's outputs any more */
    chunk->map = NULL;
    if (!item) {
        if (!chunk->kept)
            pp__chunk_free(chunk);
        return;
    }
    item->abandoned = true;
    item->retries = 0;
    if (pp__inline_runs(pp__item_pool(item), item))
        return;
    if (!item->worker)
        pp__pending_remove(pp__item_pool(item), item);
    else if (!pp__worker_take_back(item->worker, item)) {
        pp__worker_stop_chunk(item->worker, item);
        return;
    }
    pp__item_cancel(item, "its map was closed");
}
