/* SPDX-License-Identifier: MIT */
#if __has_include(<lmdb.h>)
#include "sync/lmdb.h"

#include "base/seam.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <string.h>

static bool find(void *handle, const char *name, void *function)
{
    void *found = PP_SYS(dlsym)(handle, name);
    memcpy(function, &found, sizeof found);
    return found != NULL;
}

const struct pp__lmdb *pp__lmdb_load(void)
{
    static struct pp__lmdb lmdb;
    static bool whole;
    if (whole)
        return &lmdb;
    void *handle = PP_SYS(dlopen)("liblmdb.so.0", RTLD_NOW | RTLD_LOCAL);
    if (!handle)
        return NULL;
    bool all = true;
#define FIND(name) all = find(handle, #name, &lmdb.name) && all;
    PP__LMDB_FUNCTIONS(FIND)
    whole = all;
    return whole ? &lmdb : NULL;
}
#else
typedef int pp__lmdb_is_empty; /* a translation unit needs a declaration */
#endif
