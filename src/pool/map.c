/* SPDX-License-Identifier: MIT */
/*
 * Map: inputs are pulled in chunks as results are given out. A chunk is a work item of many elements; its outcomes gather
 * here, in order within the chunk, and are given out in the order of the inputs or as they come.
 *
 * The map's user is one thread at a time; what deliveries touch (the chunks' outcomes, the queue of ready ones) is under the pool's lock.
 */
#include "pool/map.h"
#include "base/cancel.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/seam.h"
#include "pool/block.h"
#include "pool/dispatch.h"
#include "pool/function.h"
#include "pool/inline.h"
#include "pool/pool.h"
#include "pool/workers.h"
#include "process/owner.h"
#include "shm/segment.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct chunk {
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
    void **tags;   /* NULL: there are none */
    char *results; /* those of `each` bytes that came in runs, one for each input, in `room` bytes; or NULL */
    size_t room;
    size_t each;      /* UNKNOWN: no run came so far */
    bool *in_results; /* of each element that has ended: its result lies there, and it has no outcome */
    struct pp__outcome outcomes[];
};

#define UNKNOWN SIZE_MAX

struct array_source {
    const char *elements;
    size_t count, size, next;
};

struct pp_map {
    pp_pool *pool;
    const struct pp__function *function;
    pp_map_source *source;
    void *context;
    struct array_source array; /* the context of maps over arrays */
    pp_map_options options;
    struct pp__subject subject;
    struct pp__link chunks; /* not given out wholly */
    struct pp__link ready;  /* of them, unordered: those with outcomes to give */
    uint64_t next_index;
    size_t in_flight; /* inputs pulled and not given out */

    /* what is pulled and not yet submitted */
    char *buffer; /* elements, as they travel */
    size_t used, room;
    uint32_t buffered; /* inputs in it */
    bool same;         /* all of the same size */
    uint64_t each;     /* that of the first */
    void **tags;
    pp_map_input held; /* pulled, but there was no memory for it */
    bool holding;

    bool stays;    /* its thread comes back at once (pp__wait_stay) */
    bool drained;  /* the source is not asked any more */
    bool finished; /* fail-fast: nothing is given out any more */
    int end_error; /* told once, after the last result, in these words */
    char end_text[256];
    struct chunk *spare;                           /* one that is empty, or NULL */
    struct chunk *batch;                           /* whose taken outcomes are given out, or have just been; or NULL */
    struct pp__outcome current;                    /* given out by the last step; forgotten at the next */
    alignas(16) char result[PP__RUN_EACH_MAX + 1]; /* the same, of a result that came in a run */
};

/* ------------------------------------------------------------------------------------------- chunks */

static void free_outcome(struct pp__outcome *outcome)
{
    pp__block_free(outcome->data);
    pp__error_free(outcome->error);
    *outcome = (struct pp__outcome){0};
}

/* What it has but for its own memory and that of results. */
static void empty_chunk(struct chunk *chunk)
{
    for (uint32_t i = chunk->given; i < chunk->ended; i++)
        if (!chunk->in_results[i])
            free_outcome(&chunk->outcomes[i]);
    if (chunk->mapped)
        pp__payload_unmap(chunk->mapped, chunk->size);
    free(chunk->elements);
    free(chunk->tags);
}

static void free_empty(struct chunk *chunk)
{
    if (chunk)
        free(chunk->results);
    free(chunk);
}

static void free_chunk(struct chunk *chunk)
{
    if (!chunk)
        return;
    empty_chunk(chunk);
    free_empty(chunk);
}

/* Its memory serves the next one. */
static void spare_chunk(pp_map *map, struct chunk *chunk)
{
    if (map->spare || chunk->count != map->options.chunk_size) {
        free_chunk(chunk);
        return;
    }
    empty_chunk(chunk);
    map->spare = chunk;
}

/* The inputs stay until they were given out: their memory, which keeps its place, passes from the item to the chunk. */
static void take_over_inputs(struct chunk *chunk, struct pp__item *item)
{
    if (item->x.fd < 0 && !item->borrowed) {
        chunk->elements = item->x.elements;
        item->x.elements = NULL;
    }
    chunk->item = NULL;
}

static bool has_result(const void *map)
{
    const pp_map *m = map;
    if (!m->options.unordered) {
        const struct chunk *first = pp__container(m->chunks.next, struct chunk, in_map);
        return !pp__list_empty(&m->chunks) && first->ended > first->taken;
    }
    return !pp__list_empty(&m->ready);
}

/* Under the lock. Results of the first run's size have their places, those of others come one by one. */
static void *room_for(struct pp__receiver *receiver, struct pp__item *item, size_t each)
{
    struct chunk *chunk = pp__container(receiver, struct chunk, receiver);
    size_t needed = chunk->count * each + 1;
    if (chunk->each == UNKNOWN && chunk->room < needed) {
        free(chunk->results);
        chunk->results = PP_SYS(malloc)(needed);
        chunk->room = chunk->results ? needed : 0;
    }
    if (chunk->each == UNKNOWN && chunk->results)
        chunk->each = each;
    return chunk->each == each ? chunk->results + item->x.next * each : NULL;
}

/* Under the lock. */
static void deliver(struct pp__receiver *receiver, struct pp__item *item, uint32_t index, uint32_t count,
                    struct pp__outcome outcome)
{
    struct chunk *chunk = pp__container(receiver, struct chunk, receiver);
    pp_map *map = chunk->map;
    bool in_results = chunk->each != UNKNOWN && outcome.data == chunk->results + index * chunk->each;
    memset(chunk->in_results + index, in_results, count);
    if (!in_results)
        chunk->outcomes[index] = outcome;
    chunk->ended = index + count;
    if (chunk->ended == chunk->count)
        take_over_inputs(chunk, item);
    if (!map) {
        if (!in_results)
            free_outcome(&chunk->outcomes[index]); /* those before it, not given out, go with the chunk */
        if (!chunk->item && !chunk->kept)
            free_chunk(chunk);
        return;
    }
    if (pp__list_empty(&chunk->in_ready))
        pp__list_insert(&map->ready, &chunk->in_ready);
    if (has_result(map))
        pp__subject_wake(&map->subject, item->pool, map);
}

static struct chunk *take_spare(pp_map *map, uint32_t count)
{
    struct chunk *spare = map->spare;
    if (!spare || spare->count != count)
        return NULL;
    map->spare = NULL;
    return spare;
}

/* `tags`: NULL, or one for each input. */
static struct chunk *create_chunk(pp_map *map, uint32_t count, uint64_t size, void **tags)
{
    size_t outcomes = count * sizeof(struct pp__outcome);
    struct chunk *chunk = take_spare(map, count), kept = {0};
    if (chunk)
        kept = (struct chunk){.results = chunk->results, .room = chunk->room};
    else
        chunk = PP_SYS(malloc)(sizeof *chunk + outcomes + count * sizeof *chunk->in_results);
    if (!chunk)
        return NULL;
    *chunk = kept;
    chunk->receiver.deliver = deliver;
    chunk->receiver.room = count > 1 ? room_for : NULL;
    chunk->map = map;
    chunk->count = count;
    chunk->size = size;
    chunk->index = map->next_index;
    chunk->each = UNKNOWN;
    chunk->in_results = (bool *)((char *)chunk->outcomes + outcomes);
    pp__list_init(&chunk->in_map);
    pp__list_init(&chunk->in_ready);
    if (!tags)
        return chunk;
    chunk->tags = PP_SYS(malloc)(count * sizeof *tags);
    if (!chunk->tags) {
        free_chunk(chunk);
        return NULL;
    }
    memcpy(chunk->tags, tags, count * sizeof *tags);
    return chunk;
}

/* Seals the item's elements and finds where the chunk reads its inputs. */
static int open_inputs(struct chunk *chunk, struct pp__item *item)
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

/* Submits an item of inputs. A pool that takes no calls any more fails them, as it does with all that it had accepted. */
static int submit_chunk(pp_map *map, struct pp__item *item, void **tags)
{
    struct chunk *chunk = create_chunk(map, item->x.count, item->x.size, tags);
    int error =
        chunk ? open_inputs(chunk, item) : pp__fail(-ENOMEM, "no memory for a chunk of %u inputs", item->x.count);
    if (error) {
        free_chunk(chunk);
        return error;
    }
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

static int array_next(void *context, pp_map_input *input)
{
    struct array_source *array = context;
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

/* An item for inputs. Those that no file may hold (RLIMIT_FSIZE) get one too: they fail when they are to be sent, alone. */
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

/* A chunk of a map over an array of elements that lie in it as they travel. Nothing is pulled if it fails. */
static int submit_slice(pp_map *map)
{
    struct array_source *array = &map->array;
    size_t left = array->count - array->next;
    uint32_t count = (uint32_t)(left < map->options.chunk_size ? left : map->options.chunk_size);
    struct pp__item *item;
    int error = pp__item_borrow(count, count * array->size, array->elements + array->next * array->size, &item);
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

/* Of a rest of one nothing is gained. */
static bool has_slice(const pp_map *map)
{
    const struct array_source *array = &map->array;
    return map->source == array_next && map->options.chunk_size > 1 && array->count - array->next > 1 &&
           pp__same_room(array->size) == array->size && !map->pool->is_inline && !map->drained;
}

/* Pulls and submits one chunk: 1. 0 or -EAGAIN when the source has no more (now): what it gave before is submitted. Another errno loses nothing. */
static int pull_chunk(pp_map *map)
{
    int got = 1;
    if (has_slice(map)) {
        int error = submit_slice(map);
        return error ? error : 1;
    }
    while (map->buffered < map->options.chunk_size && (got = pull(map)) == 1) {
        int error = map->options.chunk_size == 1 ? submit_held(map) : buffer_held(map);
        if (error || map->options.chunk_size == 1)
            return error ? error : 1;
    }
    if (map->buffered == 0)
        return got;
    int error = submit_buffer(map);
    return error ? error : got;
}

/* 0, -EAGAIN when the source had none now, or what keeps inputs from being submitted. */
static int fill(pp_map *map)
{
    for (;;) {
        if (map->in_flight > 0 && map->in_flight + map->options.chunk_size > map->options.max_in_flight)
            return 0;
        pp__pool_lock(map->pool);
        int refused = pp__pool_accepts(map->pool);
        pp__pool_unlock(map->pool);
        if (refused && !map->drained)
            end_input(map, refused);
        if (map->drained && !map->holding && map->buffered == 0)
            return 0;
        int got = pull_chunk(map);
        if (got != 1)
            return got;
    }
}

/* --------------------------------------------------------------------------------------------- give */

/* All outcomes that are there of the first chunk that has some: the map's thread gives them out without the lock. Under the lock, when has_result. */
static void take_batch(pp_map *map)
{
    struct pp__link *list = map->options.unordered ? &map->ready : &map->chunks;
    assert(!pp__list_empty(list));
    struct chunk *chunk = map->options.unordered ? pp__container(list->next, struct chunk, in_ready)
                                                 : pp__container(list->next, struct chunk, in_map);
    chunk->taken = chunk->ended;
    pp__list_remove(&chunk->in_ready);
    if (chunk->taken == chunk->count)
        pp__list_remove(&chunk->in_map);
    map->batch = chunk;
}

static bool has_batch(const pp_map *map)
{
    return map->batch && map->batch->given < map->batch->taken;
}

/* A result out of the array, as users get it: aligned, and with a NUL behind. */
static void give_copy(pp_map *map, const char *data, pp_map_result *result)
{
    memcpy(map->result, data, result->size);
    map->result[result->size] = 0;
    result->data = map->result;
}

/* The next outcome of the batch, moved out of it. */
static void give(pp_map *map, pp_map_result *result)
{
    struct chunk *chunk = map->batch;
    uint32_t i = chunk->given++;
    map->in_flight--;
    *result = (pp_map_result){.index = chunk->index + i,
                              .tag = chunk->tags ? chunk->tags[i] : NULL,
                              .input = pp__elements_data(&chunk->next_input),
                              .input_size = pp__elements_size(&chunk->next_input)};
    pp__elements_next(&chunk->next_input);
    if (chunk->in_results[i]) { /* else `each` and `results` may be set just now, for elements behind this one */
        result->size = chunk->each;
        give_copy(map, chunk->results + i * chunk->each, result);
        return;
    }
    map->current = chunk->outcomes[i];
    result->code = map->current.code;
    result->data = map->current.data;
    result->size = map->current.size;
    result->error = map->current.error;
}

/* The next outcomes that lie together, or one. */
static size_t give_run(pp_map *map, pp_map_result *result)
{
    struct chunk *chunk = map->batch;
    uint32_t i = chunk->given;
    if (!chunk->in_results[i]) {
        give(map, result);
        return 1;
    }
    const bool *end = memchr(chunk->in_results + i, false, chunk->taken - i);
    uint32_t count = end ? (uint32_t)(end - chunk->in_results) - i : chunk->taken - i;
    *result = (pp_map_result){.index = chunk->index + i, .data = chunk->results + i * chunk->each, .size = chunk->each};
    chunk->given += count;
    map->in_flight -= count;
    return count;
}

/* What has not begun is cancelled; the chunk that runs ends behind the element that runs. Nothing of it is given out. */
static void abandon(const pp_map *map, struct chunk *chunk)
{
    struct pp__item *item = chunk->item;
    pp__list_remove(&chunk->in_map);
    pp__list_remove(&chunk->in_ready);
    chunk->kept = chunk == map->batch;
    chunk->map = NULL;
    if (!item) {
        if (!chunk->kept)
            free_chunk(chunk);
        return;
    }
    item->abandoned = true;
    item->retries = 0;
    if (pp__inline_runs(item->pool, item))
        return;
    if (!item->worker)
        pp__pending_remove(item->pool, item);
    else if (!pp__worker_take_back(item->worker, item)) {
        pp__worker_stop_chunk(item->worker, item);
        return;
    }
    pp__item_cancel(item, "its map was closed");
}

static void abandon_all(pp_map *map)
{
    pp__pool_lock(map->pool);
    while (!pp__list_empty(&map->chunks))
        abandon(map, pp__container(map->chunks.previous, struct chunk, in_map));
    pp__dispatch(map->pool);
    pp__pool_settle(map->pool);
    if (map->stays)
        pp__wait_leave(map->pool);
    map->stays = false;
    pp__pool_unlock(map->pool);
    map->in_flight = 0;
}

/* A batch's chunk that is wholly given out, or was abandoned and kept, is nobody's any more, unless its item still runs. */
static void forget_batch(pp_map *map)
{
    struct chunk *chunk = map->batch;
    map->batch = NULL;
    pp__pool_lock(map->pool);
    bool goes_on = chunk->item || chunk->map;
    if (chunk->map && chunk->taken == chunk->count)
        goes_on = false;
    chunk->kept = false;
    pp__pool_unlock(map->pool);
    if (!goes_on)
        spare_chunk(map, chunk);
}

/* Frees what the last step gave out. */
static void forget_last(pp_map *map)
{
    if (!map->batch)
        return;
    free_outcome(&map->current);
    if (!has_batch(map) || map->finished)
        forget_batch(map);
}

static int end_of(pp_map *map)
{
    int error = map->end_error;
    map->end_error = 0;
    return error < 0 ? pp__fail(error, "%s", map->end_text) : 0;
}

/* Waits for a batch. While results are to come, want of memory or descriptors is no failure: they give back what was in want. */
static int await_batch(pp_map *map, uint64_t deadline)
{
    int filled = fill(map);
    if (has_batch(map))
        return 1;
    if (map->in_flight == 0 && filled == -EAGAIN)
        return pp__fail(-EAGAIN, "the source has no input now and nothing is in flight");
    if (map->in_flight == 0)
        return filled ? filled : end_of(map);
    pp__pool_lock(map->pool);
    int error = pp__wait(map->pool, &map->subject, has_result, map, deadline, false);
    if (error >= 0)
        take_batch(map);
    pp__pool_unlock(map->pool);
    if (error == -ETIMEDOUT || error == -EINTR)
        pp__fail(error, "no result yet: %s", pp__strerror(-error));
    return error < 0 ? error : 1;
}

static void end_if_failed(pp_map *map, const pp_map_result *result)
{
    if (!result->code || !map->options.fail_fast)
        return;
    map->finished = true;
    abandon_all(map);
}

static int step(pp_map *map, int timeout)
{
    forget_last(map);
    return map->finished ? 0 : await_batch(map, has_batch(map) ? 0 : pp__deadline(timeout));
}

int pp_map_next(pp_map *map, int timeout, pp_map_result *result)
{
    PP__NO_CANCELLATION();
    if (!map || !result)
        return pp__fail(-EINVAL, "pp_map_next: no %s", map ? "place for the result" : "map");
    if (!pp__pool_is_own(map->pool))
        return pp__owner_refuse();
    int got = step(map, timeout);
    if (got != 1)
        return got;
    give(map, result);
    end_if_failed(map, result);
    return 1;
}

static void stay(pp_map *map)
{
    pp__pool_lock(map->pool);
    pp__wait_stay(map->pool);
    pp__pool_unlock(map->pool);
    map->stays = true;
}

int pp__map_next_run(pp_map *map, int timeout, pp_map_result *result, size_t *count)
{
    PP__NO_CANCELLATION();
    if (!pp__pool_is_own(map->pool))
        return pp__owner_refuse();
    if (!map->stays)
        stay(map);
    int got = step(map, timeout);
    if (got != 1)
        return got;
    *count = give_run(map, result);
    end_if_failed(map, result);
    return 1;
}

/* ------------------------------------------------------------------------------------ open and close */

static int check(const pp_map_options *o)
{
    if (o->chunk_size > PP__MOST_ELEMENTS)
        return pp__fail(-EINVAL, "chunk_size is %zu; it must be at most %u", o->chunk_size, PP__MOST_ELEMENTS);
    if (o->retries > PP__MOST_RETRIES)
        return pp__fail(-EINVAL, "retries is %u; it must be at most %u", o->retries, PP__MOST_RETRIES);
    for (size_t i = 0; i < sizeof o->reserved / sizeof *o->reserved; i++)
        if (o->reserved[i])
            return pp__fail(-EINVAL, "a reserved word is not zero: the options must be zeroed before they are filled");
    return 0;
}

static int resolve(pp_map *map, pp_function *function)
{
    pp__pool_lock(map->pool);
    int error = pp__pool_accepts(map->pool);
    map->function = pp__functions_find(map->pool->functions, function);
    pp__pool_unlock(map->pool);
    return error || map->function ? error : pp__functions_resolve(map->pool, function, &map->function);
}

static int open_map(pp_pool *pool, pp_function *function, const pp_map_options *options, pp_map **result)
{
    PP__NO_CANCELLATION();
    int error = options ? check(options) : 0;
    if (error)
        return error;
    pp_map *map = PP_SYS(calloc)(1, sizeof *map);
    if (!map)
        return pp__fail(-ENOMEM, "no memory for a map");
    pp__pool_ref(pool);
    map->pool = pool;
    map->options = options ? *options : (pp_map_options){0};
    if (map->options.chunk_size == 0)
        map->options.chunk_size = 1;
    if (map->options.max_in_flight == 0)
        map->options.max_in_flight = PP__CHUNKS_IN_FLIGHT * (size_t)pool->max_workers * map->options.chunk_size;
    pp__subject_init(&map->subject);
    pp__list_init(&map->chunks);
    pp__list_init(&map->ready);
    map->tags = PP_SYS(malloc)(map->options.chunk_size * sizeof *map->tags);
    error = map->tags ? resolve(map, function) : pp__fail(-ENOMEM, "no memory for a map");
    if (error) {
        pp_map_close(map);
        return error;
    }
    *result = map;
    return 0;
}

static int refuse_open(pp_pool *pool, pp_function *function, bool source, pp_map **map)
{
    if (!pool || !function || !source || !map)
        return pp__fail(-EINVAL, "no %s",
                        !pool       ? "pool"
                        : !function ? "function"
                        : !source   ? "input"
                                    : "place for the map");
    return pp__pool_is_own(pool) ? 0 : pp__owner_refuse();
}

int pp_map_open(pp_pool *pool, pp_function *function, pp_map_source *source, void *context,
                const pp_map_options *options, pp_map **map)
{
    int error = refuse_open(pool, function, source, map);
    if (!error)
        error = open_map(pool, function, options, map);
    if (error)
        return error;
    (*map)->source = source;
    (*map)->context = context;
    return 0;
}

int pp_map_open_array(pp_pool *pool, pp_function *function, const void *elements, size_t count, size_t size,
                      const pp_map_options *options, pp_map **map)
{
    int error = refuse_open(pool, function, elements || count == 0 || size == 0, map);
    if (!error)
        error = open_map(pool, function, options, map);
    if (error)
        return error;
    (*map)->array = (struct array_source){.elements = elements ? elements : "", .count = count, .size = size};
    (*map)->source = array_next;
    (*map)->context = &(*map)->array;
    return 0;
}

void pp_map_close(pp_map *map)
{
    PP__NO_CANCELLATION();
    if (!map || !pp__pool_is_own(map->pool))
        return;
    forget_last(map);
    abandon_all(map);
    if (map->batch)
        forget_batch(map);
    free_empty(map->spare);
    free(map->buffer);
    free(map->tags);
    pp__pool_unref(map->pool);
    free(map);
}
