/* SPDX-License-Identifier: MIT */
/* A dictionary of many processes: the public functions, and what a change means. */
#include "sync/dict.h"

#include "base/allocation.h"
#include "base/cancel.h"
#include "base/error.h"

#include <errno.h>
#include <string.h>

/* What pp_dict_copy has ready before it knows the size. */
#define FIRST_ROOM 224

/* --------------------------------------------------------------------------------------------- handles */

static int check_options(const pp_dict_options *options)
{
    if (pp__check_reserved(options->reserved, sizeof options->reserved / sizeof *options->reserved) != 0)
        return -EINVAL;
    if (pp__check_switch("no_flush", options->no_flush) != 0)
        return -EINVAL;
    if (options->path && !options->path[0])
        return pp__fail(-EINVAL, "an empty path for a dictionary");
    if (options->max_readers < 0 || options->max_readers > 65536)
        return pp__fail(-EINVAL, "max_readers is %d; it must be 0 (the default) to 65536", options->max_readers);
    return 0;
}

int pp_dict_create(const pp_dict_options *options, pp_dict **dict)
{
    PP__NO_CANCELLATION();
    static const pp_dict_options defaults;
    if (!options)
        options = &defaults;
    int error = dict ? check_options(options) : pp__fail(-EINVAL, "pp_dict_create: no place for the dictionary");
    if (error)
        return error;
    return options->path ? pp__dict_kept_create(options, dict) : pp__dict_table_create(options, dict);
}

int pp_dict_open(int fd, pp_dict **dict)
{
    PP__NO_CANCELLATION();
    struct pp__object *object;
    if (!dict)
        return pp__fail(-EINVAL, "pp_dict_open: no place for the dictionary");
    int error = pp__object_open(fd, PP__KIND_DICT, sizeof(struct pp__shared_dict), sizeof **dict, &object);
    if (error)
        return error;
    const struct pp__shared_dict *shared = object->memory;
    pp_dict *opened = (pp_dict *)object;
    error = shared->kept ? pp__dict_kept_adopt(opened) : pp__dict_table_adopt(opened);
    if (error)
        pp__object_unref(object);
    else
        *dict = opened;
    return error;
}

int pp_dict_fd(const pp_dict *dict)
{
    return dict ? pp__object_fd(&dict->object) : pp__fail(-EINVAL, "pp_dict_fd: no dictionary");
}

pp_dict *pp_dict_ref(pp_dict *dict)
{
    if (dict)
        pp__object_ref(&dict->object);
    return dict;
}

void pp_dict_unref(pp_dict *dict)
{
    PP__NO_CANCELLATION();
    if (!dict || !pp__object_drop(&dict->object))
        return;
    dict->kind->leave(dict);
    pp__object_destroy(&dict->object);
}

/* --------------------------------------------------------------------------------------------- reading */

static int check_key(const void *key, size_t size)
{
    if (!key || size == 0)
        return pp__fail(-EINVAL, "a key for a dictionary has 1 to %d bytes", PP_DICT_KEY_MAX);
    if (size > PP_DICT_KEY_MAX)
        return pp__fail(-EMSGSIZE, "a key of %zu bytes; it must have 1 to %d", size, PP_DICT_KEY_MAX);
    return 0;
}

struct copier {
    struct pp__dict_taker taker;
    void *buffer;
    size_t capacity;
    bool exact;
    size_t size;
};

static int give_copy(struct pp__dict_taker *taker, const void *key, size_t key_size, const void *value, size_t size)
{
    struct copier *copier = (struct copier *)(void *)taker;
    (void)key, (void)key_size;
    copier->size = size;
    if (size > copier->capacity || (copier->exact && size != copier->capacity))
        return pp__fail(-EMSGSIZE, "the value has %zu bytes, the buffer %zu", size, copier->capacity);
    if (size > 0)
        memcpy(copier->buffer, value, size);
    return 0;
}

int pp_dict_get(pp_dict *dict, const void *key, size_t key_size, void *buffer, size_t capacity, size_t *size)
{
    PP__NO_CANCELLATION();
    struct copier copier = {{give_copy}, buffer, capacity, !size, SIZE_MAX};
    if (!dict || (!buffer && capacity > 0))
        return pp__fail(-EINVAL, "pp_dict_get: %s", dict ? "no buffer, and its capacity is not 0" : "no dictionary");
    int error = check_key(key, key_size);
    if (error == 0)
        error = dict->kind->get(dict, key, key_size, &copier.taker);
    if (size && copier.size != SIZE_MAX && (error == 0 || error == -EMSGSIZE))
        *size = copier.size;
    return error;
}

/* Again with more room while it is too small; meanwhile the value may become another. */
int pp_dict_copy(pp_dict *dict, const void *key, size_t key_size, void **value, size_t *size)
{
    PP__NO_CANCELLATION();
    struct copier copier = {.taker = {give_copy}, .size = FIRST_ROOM};
    if (!dict || !value || !size)
        return pp__fail(-EINVAL, "pp_dict_copy: %s", dict ? "no place for value or size" : "no dictionary");
    int error = check_key(key, key_size);
    if (error)
        return error;
    do {
        pp__block_undo(copier.buffer);
        copier.capacity = copier.size;
        copier.buffer = pp__block_allocate(copier.capacity);
        if (!copier.buffer)
            return pp__fail(-ENOMEM, "no memory for a value of %zu bytes", copier.capacity);
        error = dict->kind->get(dict, key, key_size, &copier.taker);
    } while (error == -EMSGSIZE);
    if (error) {
        pp__block_undo(copier.buffer);
        return error;
    }
    ((char *)copier.buffer)[copier.size] = '\0';
    *value = copier.buffer;
    *size = copier.size;
    return 0;
}

ssize_t pp_dict_size(pp_dict *dict)
{
    PP__NO_CANCELLATION();
    uint64_t count = 0;
    int error = dict ? dict->kind->count(dict, &count) : pp__fail(-EINVAL, "pp_dict_size: no dictionary");
    return error ? error : (ssize_t)count;
}

/* --------------------------------------------------------------------------------------------- changes */

static int decide_write(const pp_dict_change *change, struct pp__dict_outcome *outcome)
{
    *outcome = (struct pp__dict_outcome){PP__DICT_WRITE, change->value, change->size};
    return 0;
}

static int decide_increment(pp_dict_change *change, const void *present, size_t present_size,
                            struct pp__dict_outcome *outcome)
{
    int64_t number = 0;
    if (present && present_size != sizeof number)
        return pp__fail(-EMSGSIZE, "the value has %zu bytes and is no 64-bit number", present_size);
    if (present)
        memcpy(&number, present, sizeof number);
    if (__builtin_add_overflow(number, change->by, &change->result))
        return pp__fail(-EOVERFLOW, "%lld and %lld together are no 64-bit number", (long long)number,
                        (long long)change->by);
    *outcome = (struct pp__dict_outcome){PP__DICT_WRITE, &change->result, sizeof change->result};
    return 0;
}

static int check_expected(const pp_dict_change *change, const void *present, size_t present_size)
{
    if (!present)
        return pp__fail(-ENOENT, "the dictionary has no such key");
    if (present_size != change->expected_size ||
        (present_size > 0 && memcmp(present, change->expected, present_size) != 0))
        return pp__fail(-ESTALE, "the value is not the one that was expected");
    return 0;
}

int pp__dict_decide(pp_dict_change *change, const void *present, size_t present_size, struct pp__dict_outcome *outcome)
{
    int error;
    *outcome = (struct pp__dict_outcome){PP__DICT_LEAVE, NULL, 0};
    switch (change->act) {
    case PP_DICT_PUT:
        return decide_write(change, outcome);
    case PP_DICT_ADD:
        return present ? pp__fail(-EEXIST, "the dictionary has the key") : decide_write(change, outcome);
    case PP_DICT_REPLACE:
        error = check_expected(change, present, present_size);
        return error ? error : decide_write(change, outcome);
    case PP_DICT_INCREMENT:
        return decide_increment(change, present, present_size, outcome);
    case PP_DICT_DELETE:
        outcome->act = PP__DICT_REMOVE;
        return present ? 0 : pp__fail(-ENOENT, "the dictionary has no such key");
    case PP_DICT_EXPECT:
        if (change->expected)
            return check_expected(change, present, present_size);
        return present ? pp__fail(-EEXIST, "the dictionary has the key") : 0;
    }
    return pp__fail(-EINVAL, "no such change");
}

static bool has_value(const pp_dict_change *change)
{
    return change->act == PP_DICT_PUT || change->act == PP_DICT_ADD || change->act == PP_DICT_REPLACE;
}

static int check_change(const pp_dict_change *change)
{
    if (change->act < PP_DICT_PUT || change->act > PP_DICT_EXPECT)
        return pp__fail(-EINVAL, "a change of a dictionary with act %d", (int)change->act);
    if (change->reserved[0] || change->reserved[1])
        return pp__fail(-EINVAL, "reserved words of pp_dict_change must be 0");
    if (has_value(change) && !change->value && change->size > 0)
        return pp__fail(-EINVAL, "no value, and its size is not 0");
    if ((change->act == PP_DICT_REPLACE || change->act == PP_DICT_EXPECT) && !change->expected &&
        change->expected_size > 0)
        return pp__fail(-EINVAL, "no expected value, and its size is not 0");
    if (has_value(change) && change->size > PP_DICT_VALUE_MAX)
        return pp__fail(-EMSGSIZE, "a value of %zu bytes; it must have at most %d", change->size, PP_DICT_VALUE_MAX);
    return check_key(change->key, change->key_size);
}

static int update(pp_dict *dict, pp_dict_change *changes, size_t count, size_t *failed)
{
    if (!dict || (!changes && count > 0)) {
        *failed = count;
        return pp__fail(-EINVAL, "a change of a dictionary: %s", dict ? "no changes" : "no dictionary");
    }
    for (size_t i = 0; i < count; i++) {
        int error = check_change(&changes[i]);
        if (error) {
            *failed = i;
            return error;
        }
    }
    *failed = count;
    return dict->kind->update(dict, changes, count, failed);
}

int pp_dict_update(pp_dict *dict, pp_dict_change *changes, size_t count, size_t *failed)
{
    PP__NO_CANCELLATION();
    size_t which;
    int error = update(dict, changes, count, &which);
    if (error && failed)
        *failed = which;
    return error;
}

static int change_one(pp_dict *dict, pp_dict_change *change)
{
    size_t which;
    return update(dict, change, 1, &which);
}

int pp_dict_put(pp_dict *dict, const void *key, size_t key_size, const void *value, size_t size)
{
    PP__NO_CANCELLATION();
    pp_dict_change change = {.act = PP_DICT_PUT, .key = key, .key_size = key_size, .value = value, .size = size};
    return change_one(dict, &change);
}

int pp_dict_add(pp_dict *dict, const void *key, size_t key_size, const void *value, size_t size)
{
    PP__NO_CANCELLATION();
    pp_dict_change change = {.act = PP_DICT_ADD, .key = key, .key_size = key_size, .value = value, .size = size};
    return change_one(dict, &change);
}

int pp_dict_replace(pp_dict *dict, const void *key, size_t key_size, const void *expected, size_t expected_size,
                    const void *value, size_t size)
{
    PP__NO_CANCELLATION();
    pp_dict_change change = {.act = PP_DICT_REPLACE, .key = key, .key_size = key_size, .value = value, .size = size};
    change.expected = expected;
    change.expected_size = expected_size;
    return change_one(dict, &change);
}

int pp_dict_increment(pp_dict *dict, const void *key, size_t key_size, int64_t by, int64_t *result)
{
    PP__NO_CANCELLATION();
    pp_dict_change change = {.act = PP_DICT_INCREMENT, .key = key, .key_size = key_size, .by = by};
    int error = change_one(dict, &change);
    if (error == 0 && result)
        *result = change.result;
    return error;
}

int pp_dict_delete(pp_dict *dict, const void *key, size_t key_size)
{
    PP__NO_CANCELLATION();
    pp_dict_change change = {.act = PP_DICT_DELETE, .key = key, .key_size = key_size};
    return change_one(dict, &change);
}

int pp_dict_clear(pp_dict *dict)
{
    PP__NO_CANCELLATION();
    return dict ? dict->kind->clear(dict) : pp__fail(-EINVAL, "pp_dict_clear: no dictionary");
}
