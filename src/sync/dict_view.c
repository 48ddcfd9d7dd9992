/* SPDX-License-Identifier: MIT */
/* A view of a dictionary: a private copy of the whole, made in one go under its lock, as records one behind the other.
 */
#include "base/cancel.h"
#include "base/error.h"
#include "base/seam.h"
#include "sync/dict.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_ROOM 4096

struct pp_dict_view {
    struct pp__dict_taker taker;
    unsigned char *bytes;
    size_t used, capacity, at;
};

/* Before key and value, each of which has a NUL behind it and is filled up to a word. */
struct record {
    uint64_t key_size, size;
};

static size_t room_for(uint64_t size)
{
    return (size_t)(size / 8 + 1) * 8;
}

static bool has_room(pp_dict_view *view, size_t need)
{
    size_t capacity = view->capacity ? view->capacity : FIRST_ROOM;
    while (capacity - view->used < need) {
        if (capacity > PTRDIFF_MAX / 2)
            return false;
        capacity *= 2;
    }
    if (capacity == view->capacity)
        return true;
    unsigned char *bytes = PP_SYS(realloc)(view->bytes, capacity);
    if (!bytes)
        return false;
    view->bytes = bytes;
    view->capacity = capacity;
    return true;
}

static void append(pp_dict_view *view, const void *data, size_t size, size_t room)
{
    if (size > 0)
        memcpy(view->bytes + view->used, data, size);
    memset(view->bytes + view->used + size, 0, room - size);
    view->used += room;
}

static int give(struct pp__dict_taker *taker, const void *key, size_t key_size, const void *value, size_t size)
{
    pp_dict_view *view = (pp_dict_view *)(void *)taker;
    struct record record = {key_size, size};
    if (!has_room(view, sizeof record + room_for(key_size) + room_for(size)))
        return pp__fail(-ENOMEM, "no memory for a view of the dictionary");
    append(view, &record, sizeof record, sizeof record);
    append(view, key, key_size, room_for(key_size));
    append(view, value, size, room_for(size));
    return 0;
}

int pp_dict_view_open(pp_dict *dict, pp_dict_view **view)
{
    PP__NO_CANCELLATION();
    if (!dict || !view)
        return pp__fail(-EINVAL, "pp_dict_view_open: %s", dict ? "no place for the view" : "no dictionary");
    pp_dict_view *made = PP_SYS(calloc)(1, sizeof *made);
    if (!made)
        return pp__fail(-ENOMEM, "no memory for a view of the dictionary");
    made->taker.give = give;
    int error = dict->kind->walk(dict, &made->taker);
    if (error)
        pp_dict_view_close(made);
    else
        *view = made;
    return error;
}

int pp_dict_view_next(pp_dict_view *view, const void **key, size_t *key_size, const void **value, size_t *size)
{
    struct record record;
    if (!view)
        return pp__fail(-EINVAL, "pp_dict_view_next: no view");
    if (view->at == view->used)
        return 0;
    memcpy(&record, view->bytes + view->at, sizeof record);
    const unsigned char *there = view->bytes + view->at + sizeof record;
    if (key)
        *key = there;
    if (key_size)
        *key_size = (size_t)record.key_size;
    if (value)
        *value = there + room_for(record.key_size);
    if (size)
        *size = (size_t)record.size;
    view->at += sizeof record + room_for(record.key_size) + room_for(record.size);
    return 1;
}

void pp_dict_view_close(pp_dict_view *view)
{
    PP__NO_CANCELLATION();
    if (!view)
        return;
    free(view->bytes);
    free(view);
}
