/* SPDX-License-Identifier: MIT */
#include "pool/map.h"

#include "base/cancel.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/seam.h"
#include "pool/buffer.h"
#include "pool/dispatch.h"
#include "pool/function.h"
#include "pool/output.h"
#include "pool/pool.h"
#include "process/owner.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* --------------------------------------------------------------------------------------------- give */

/* All outcomes that are there of the first chunk that has some: the map's thread gives them out without the lock. Under
 * the lock, when pp__map_has_result. */
static void take_batch(pp_map *map)
{
    struct pp__link *list = map->options.unordered ? &map->ready : &map->chunks;
    assert(!pp__list_empty(list));
    struct pp__chunk *chunk = map->options.unordered ? pp__container(list->next, struct pp__chunk, in_ready)
                                                     : pp__container(list->next, struct pp__chunk, in_map);
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
    struct pp__chunk *chunk = map->batch;
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
    result->size = map->current.size;
    if (map->current.code)
        result->error = map->current.error;
    else
        result->data = map->current.data;
}

/* The next outcomes that lie together, or one. */
static size_t give_run(pp_map *map, pp_map_result *result)
{
    struct pp__chunk *chunk = map->batch;
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

static void abandon_all(pp_map *map)
{
    pp__pool_lock(map->pool);
    while (!pp__list_empty(&map->chunks))
        pp__chunk_abandon(map, pp__container(map->chunks.previous, struct pp__chunk, in_map));
    pp__dispatch(map->pool);
    pp__pool_settle(map->pool);
    if (map->stays)
        pp__wait_leave(map->pool);
    map->stays = false;
    pp__pool_unlock(map->pool);
    map->in_flight = 0;
}

/* A batch's chunk that is wholly given out, or was abandoned and kept, is nobody's any more, unless its item still
 * runs. */
static void forget_batch(pp_map *map)
{
    struct pp__chunk *chunk = map->batch;
    map->batch = NULL;
    pp__pool_lock(map->pool);
    bool goes_on = chunk->item || chunk->map;
    if (chunk->map && chunk->taken == chunk->count)
        goes_on = false;
    chunk->kept = false;
    pp__pool_unlock(map->pool);
    if (!goes_on)
        pp__chunk_spare(map, chunk);
}

/* Frees what the last step gave out. */
static void forget_last(pp_map *map)
{
    if (!map->batch)
        return;
    pp__outcome_free(&map->current);
    if (!has_batch(map) || map->finished)
        forget_batch(map);
}

static int end_of(pp_map *map)
{
    int error = map->end_error;
    map->end_error = 0;
    return error < 0 ? pp__fail(error, "%s", map->end_text) : 0;
}

static bool is_overdue(const pp_map *map)
{
    return map->deadline != PP__NEVER && pp__now() >= map->deadline;
}

static int end_overdue(pp_map *map)
{
    map->finished = true;
    abandon_all(map);
    return pp__fail(-ETIME, "the map was not done within %u ms", map->options.total_timeout);
}

/* Under the lock. */
static int await(pp_map *map, uint64_t deadline)
{
    return map->patient ? pp__wait_patiently(map->pool, &map->subject, pp__map_has_result, map, deadline)
                        : pp__wait(map->pool, &map->subject, pp__map_has_result, map, deadline, false);
}

/* Waits for a batch. While results are to come, want of memory or descriptors is no failure: they give back what was in
 * want. */
static int await_batch(pp_map *map, uint64_t deadline)
{
    bool overdue = is_overdue(map);
    int filled = overdue ? 0 : pp__map_fill(map);
    if (has_batch(map))
        return 1;
    if (overdue && map->in_flight == 0 && !map->drained)
        return end_overdue(map);
    if (map->in_flight == 0 && filled == -EAGAIN)
        return pp__fail(-EAGAIN, "the source has no input now and nothing is in flight");
    if (map->in_flight == 0)
        return filled ? filled : end_of(map);
    pp__pool_lock(map->pool);
    int error = await(map, deadline < map->deadline ? deadline : map->deadline);
    if (error >= 0)
        take_batch(map);
    pp__pool_unlock(map->pool);
    if (error == -ETIMEDOUT && is_overdue(map))
        return end_overdue(map);
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

/* The batch of the result that was given out is a chunk of one element: nobody else looks at that any more. */
int pp_map_output(pp_map *map, pp_stream stream, pp_output *output)
{
    if (!map || !output)
        return pp__fail(-EINVAL, "pp_map_output: no %s", map ? "place for the output" : "map");
    if (!pp__pool_is_own(map->pool))
        return pp__owner_refuse();
    if (!map->batch)
        return pp__fail(-EINVAL, "pp_map_output: no result was given out");
    int error = pp__output_is_captured(map->pool, stream);
    return error ? error : pp__output_show(map->batch->receiver.output, stream, output);
}

static void stay(pp_map *map)
{
    pp__pool_lock(map->pool);
    pp__wait_stay(map->pool);
    map->stays = true;
    map->patient = map->options.unordered && !map->options.fail_fast && map->deadline == PP__NEVER;
    pp__pool_unlock(map->pool);
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
    if (o->out_buffer && !o->out_buffer->shared)
        return pp__fail(-EINVAL, "out_buffer is one that workers can't write to (pp_buffer_create_shared)");
    int error = pp__check_switch("unordered", o->unordered);
    if (!error)
        error = pp__check_switch("fail_fast", o->fail_fast);
    return error ? error : pp__check_reserved(o->reserved, sizeof o->reserved / sizeof *o->reserved);
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
    pp_buffer_ref(map->options.in_buffer);
    pp_buffer_ref(map->options.out_buffer);
    if (pool->options.capture)
        map->options.chunk_size = 1; /* each element's output is its own */
    map->deadline = map->options.total_timeout ? pp__now() + map->options.total_timeout * PP__MILLISECOND : PP__NEVER;
    pp__subject_init(&map->subject);
    pp__list_init(&map->chunks);
    pp__list_init(&map->ready);
    map->tags =
        PP_SYS(malloc)((pp__map_measures(map) ? PP__MEASURED_CHUNK : map->options.chunk_size) * sizeof *map->tags);
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
    if (!error && options && (options->in_buffer || options->out_buffer))
        error = pp__fail(-EINVAL, "a map over what a source gives has no buffers");
    if (!error)
        error = open_map(pool, function, options, map);
    if (error)
        return error;
    (*map)->source = source;
    (*map)->context = context;
    return 0;
}

static bool overlap(const void *one, size_t one_size, const void *other, size_t other_size)
{
    uintptr_t a = (uintptr_t)one, b = (uintptr_t)other;
    return one_size > 0 && other_size > 0 && a < b + other_size && b < a + one_size;
}

/* An element that is tried again must find its input as it was. */
static int check_buffers(const pp_map_options *o, const void *elements, size_t count, size_t size, const void *outputs,
                         size_t out_size)
{
    int error = pp__buffer_check(o->in_buffer, elements, count, size);
    if (!error)
        error = pp__buffer_check(o->out_buffer, outputs, count, out_size);
    if (error || !o->out_buffer || !overlap(elements, count * size, outputs, count * out_size))
        return error;
    return pp__fail(-EINVAL, "what is written in place to the outputs would change the inputs: they overlap");
}

int pp__map_open_array(pp_pool *pool, pp_function *function, const void *elements, size_t count, size_t size,
                       void *outputs, size_t out_size, const pp_map_options *options, pp_map **map)
{
    int error = refuse_open(pool, function, elements || count == 0 || size == 0, map);
    if (!error && !pp__map_array_fits(count, size))
        error = pp__fail(-EINVAL, "%zu elements of %zu bytes are larger than any memory", count, size);
    if (!error && options)
        error = check_buffers(options, elements, count, size, outputs, out_size);
    if (!error)
        error = open_map(pool, function, options, map);
    if (error)
        return error;
    (*map)->outputs = outputs;
    (*map)->out_size = out_size;
    (*map)->array = (struct pp__array_source){.elements = elements ? elements : "", .count = count, .size = size};
    (*map)->source = pp__map_array_next;
    (*map)->context = &(*map)->array;
    return 0;
}

int pp_map_open_array(pp_pool *pool, pp_function *function, const void *elements, size_t count, size_t size,
                      const pp_map_options *options, pp_map **map)
{
    if (options && options->out_buffer)
        return pp__fail(-EINVAL, "pp_map_open_array: out_buffer is for pp_map_array alone");
    return pp__map_open_array(pool, function, elements, count, size, NULL, 0, options, map);
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
    pp__chunk_free_spare(map->spare);
    free(map->buffer);
    free(map->tags);
    pp_buffer_unref(map->options.in_buffer);
    pp_buffer_unref(map->options.out_buffer);
    pp__pool_unref(map->pool);
    free(map);
}
