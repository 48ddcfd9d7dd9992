/* SPDX-License-Identifier: MIT */
/* The parallel loop over an array: a map whose results are written in place, those that lie together at once. Any
 * thread. */
#include "base/error.h"
#include "pool/map.h"
#include "procpool.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct loop {
    char *outputs;
    size_t out_size;
    size_t succeeded;
    uint64_t failed_index; /* the lowest */
    char text[256];        /* of that */
};

static void note_failure(struct loop *loop, const pp_map_result *result, const char *text)
{
    if (result->index >= loop->failed_index)
        return;
    loop->failed_index = result->index;
    snprintf(loop->text, sizeof loop->text, "%s", text);
}

/* Unless it lies there, as those do that come in runs, or that the workers write. */
static void copy_out(char *place, const void *data, size_t size)
{
    if (data != place)
        memcpy(place, data, size);
}

/* `count` results of one size, or a failure. */
static void store(struct loop *loop, const pp_map_result *result, size_t count)
{
    char text[96];
    if (result->code) {
        note_failure(loop, result, result->error->message);
    } else if (result->size != loop->out_size) {
        snprintf(text, sizeof text, "its result has %zu bytes and not %zu", result->size, loop->out_size);
        note_failure(loop, result, text);
    } else {
        if (loop->outputs && result->size > 0)
            copy_out(loop->outputs + result->index * loop->out_size, result->data, count * result->size);
        loop->succeeded += count;
    }
}

/* The map knows failed calls, but not that a result of a wrong size is a failure here. */
static bool stops(const struct loop *loop, const pp_map_options *options)
{
    return options->fail_fast && loop->failed_index != UINT64_MAX;
}

ssize_t pp_map_array(pp_pool *pool, pp_function *function, const void *inputs, size_t count, size_t in_size,
                     void *outputs, size_t out_size, const pp_map_options *options)
{
    pp_map_options own = options ? *options : (pp_map_options){0};
    struct loop loop = {.outputs = outputs, .out_size = out_size, .failed_index = UINT64_MAX};
    pp_map_result result;
    size_t together;
    pp_map *map;
    if (!pool || (!outputs && out_size > 0 && count > 0))
        return pp__fail(-EINVAL, "pp_map_array: no %s", pool ? "place for the outputs" : "pool");
    if (!pp__map_array_fits(count, out_size))
        return pp__fail(-EINVAL, "%zu outputs of %zu bytes are larger than any memory", count, out_size);
    int got = pp__check_switch("unordered", own.unordered);
    if (got)
        return got;
    own.unordered = 1;
    got = pp__map_open_array(pool, function, inputs, count, in_size, outputs, out_size, &own, &map);
    if (got)
        return got;
    do {
        got = pp__map_next_run(map, -1, &result, &together);
        if (got == 1)
            store(&loop, &result, together);
    } while (got == 1 && !stops(&loop, &own));
    pp_map_close(map);
    if (got < 0)
        return got;
    if (loop.failed_index != UINT64_MAX)
        pp__fail(-EREMOTEIO, "element %llu: %s", (unsigned long long)loop.failed_index, loop.text);
    return (ssize_t)(count - loop.succeeded);
}
