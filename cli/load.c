/* SPDX-License-Identifier: MIT */
#include "load.h"

#include "say.h"

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *absolute(const char *path)
{
    char *whole = NULL;
    if (path[0] == '/')
        return strdup(path);
    char *directory = getcwd(NULL, 0);
    if (directory && asprintf(&whole, "%s/%s", directory, path) < 0)
        whole = NULL;
    free(directory);
    return whole;
}

/* A name with a slash, or of a file in the current directory, is that file; any other is left to the loader's search.
 */
static char *locate(const char *library)
{
    if (strchr(library, '/') || access(library, F_OK) == 0)
        return absolute(library);
    return strdup(library);
}

static void *open_library(const char *library)
{
    char *path = locate(library);
    if (!path) {
        say("%s: %s", library, strerror(errno));
        return NULL;
    }
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!handle)
        say("%s", dlerror());
    free(path);
    return handle;
}

/* Whether it is in the library itself: dlsym looks in those that it depends on, too. */
static bool is_own(void *handle, const void *address)
{
    struct link_map *library = NULL;
    void *holder = NULL;
    Dl_info info;
    return dlinfo(handle, RTLD_DI_LINKMAP, &library) == 0 && dladdr1(address, &info, &holder, RTLD_DL_LINKMAP) != 0 &&
           holder == library;
}

static pp_function *find(void *handle, const char *library, const char *symbol)
{
    pp_function *function = NULL;
    void *address = dlsym(handle, symbol);
    if (!address || !is_own(handle, address)) {
        say("%s: no function named '%s'", library, symbol);
        return NULL;
    }
    memcpy(&function, &address, sizeof function); /* ISO C has no cast from an object pointer to a function's */
    return function;
}

pp_function *load_task(const char *name)
{
    pp_function *function = NULL;
    const char *colon = strrchr(name, ':');
    if (!colon || colon == name || colon[1] == '\0') {
        say("'%s' is not LIBRARY.so:FUNCTION", name);
        return NULL;
    }
    char *library = strndup(name, (size_t)(colon - name));
    void *handle = library ? open_library(library) : NULL;
    if (handle)
        function = find(handle, library, colon + 1);
    free(library);
    return function;
}
