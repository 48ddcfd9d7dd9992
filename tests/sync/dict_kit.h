/* SPDX-License-Identifier: MIT */
/* What the tests of dictionaries share: most run for both kinds. */
#ifndef TESTS_SYNC_DICT_KIT_H
#define TESTS_SYNC_DICT_KIT_H

#include "sync_kit.h"

/* A directory for files of kept dictionaries. */
static char kit_directory[64];

static inline const char *kit_path(const char *name)
{
    static char path[128];
    if (!kit_directory[0]) {
        strcpy(kit_directory, "/tmp/procpool-dict-XXXXXX");
        CHECK(mkdtemp(kit_directory) != NULL);
    }
    snprintf(path, sizeof path, "%s/%s", kit_directory, name);
    return path;
}

static inline void kit_remove_directory(void)
{
    DIR *directory = opendir(kit_directory);
    if (!directory)
        return;
    for (struct dirent *entry; (entry = readdir(directory));)
        unlinkat(dirfd(directory), entry->d_name, 0);
    closedir(directory);
    CHECK_INT(rmdir(kit_directory), 0);
    kit_directory[0] = '\0';
}

static inline pp_dict *kit_dict(size_t max_bytes)
{
    pp_dict *dict;
    CHECK_OK(pp_dict_create(&(pp_dict_options){.max_bytes = max_bytes}, &dict));
    return dict;
}

/* NULL: this machine has no LMDB. Not flushed: a test does not lose the machine. */
static inline pp_dict *kit_kept(size_t max_bytes)
{
    pp_dict *dict = NULL;
    int error =
        pp_dict_create(&(pp_dict_options){.path = kit_path("kept"), .max_bytes = max_bytes, .no_flush = 1}, &dict);
    if (error == -ENOTSUP)
        kit_remove_directory();
    else
        CHECK_OK(error);
    return dict;
}

/* Runs the test on an empty one of each kind. */
static inline void kit_both(void (*run)(pp_dict *), size_t max_bytes)
{
    pp_dict *anonymous = kit_dict(max_bytes), *kept;
    run(anonymous);
    pp_dict_unref(anonymous);
    kept = kit_kept(max_bytes);
    if (kept) {
        run(kept);
        pp_dict_unref(kept);
    }
    kit_remove_directory();
}

static inline void kit_set(pp_dict *dict, const char *key, const char *value)
{
    CHECK_OK(pp_dict_put(dict, key, strlen(key), value, strlen(value)));
}

/* The value has these characters; NULL: there is none. */
static inline void kit_has(pp_dict *dict, const char *key, const char *value)
{
    char buffer[512];
    size_t size;
    int error = pp_dict_get(dict, key, strlen(key), buffer, sizeof buffer - 1, &size);
    if (!value) {
        CHECK_INT(error, -ENOENT);
        return;
    }
    CHECK_OK(error);
    buffer[size] = '\0';
    CHECK_STR(buffer, value);
}

static inline int64_t kit_number(pp_dict *dict, const char *key)
{
    int64_t number;
    CHECK_OK(pp_dict_get(dict, key, strlen(key), &number, sizeof number, NULL));
    return number;
}

/* All bytes of a value are this one's. */
static inline bool kit_all(const unsigned char *bytes, size_t size, unsigned char byte)
{
    for (size_t i = 0; i < size; i++)
        if (bytes[i] != byte)
            return false;
    return true;
}

/* For tests of kept ones alone. */
static inline void need_lmdb(void)
{
    pp_dict *dict = kit_kept(0);
    if (!dict)
        LEFT_OUT("LMDB is not here");
    pp_dict_unref(dict);
    kit_remove_directory();
}

#endif
