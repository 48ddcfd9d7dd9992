/* SPDX-License-Identifier: MIT */
#include "pool/function.h"

#include "base/error.h"
#include "base/seam.h"
#include "pool/pool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* An open hash table of pointers to entries, which never move: items point to them. */
struct pp__functions {
    struct pp__function **table;
    size_t room; /* a power of two, or 0 */
    size_t count;
    struct pp__module **modules; /* by index */
    uint32_t module_count;
};

struct pp__functions *pp__functions_create(void)
{
    return PP_SYS(calloc)(1, sizeof(struct pp__functions));
}

void pp__functions_destroy(struct pp__functions *functions)
{
    if (!functions)
        return;
    for (size_t i = 0; i < functions->room; i++)
        free(functions->table[i]);
    for (uint32_t i = 0; i < functions->module_count; i++)
        pp__module_unref(functions->modules[i]);
    free(functions->table);
    free(functions->modules);
    free(functions);
}

static size_t place_of(const struct pp__functions *functions, pp_function *function)
{
    size_t mask = functions->room - 1;
    size_t place = ((uintptr_t)function * UINT64_C(0x9e3779b97f4a7c15)) >> 32 & mask;
    while (functions->table[place] && functions->table[place]->function != function)
        place = (place + 1) & mask;
    return place;
}

const struct pp__function *pp__functions_find(struct pp__functions *functions, pp_function *function)
{
    return functions->room ? functions->table[place_of(functions, function)] : NULL;
}

static int grow(struct pp__functions *functions)
{
    if (functions->count * 2 < functions->room)
        return 0;
    struct pp__functions grown = {.room = functions->room ? functions->room * 2 : 16};
    grown.table = PP_SYS(calloc)(grown.room, sizeof *grown.table);
    if (!grown.table)
        return -ENOMEM;
    for (size_t i = 0; i < functions->room; i++)
        if (functions->table[i])
            grown.table[place_of(&grown, functions->table[i]->function)] = functions->table[i];
    free(functions->table);
    functions->table = grown.table;
    functions->room = grown.room;
    return 0;
}

/* The index of the entry's module, which is taken over; a module that is known already is given back. */
static int adopt_module(struct pp__functions *functions, struct pp__function *entry)
{
    for (uint32_t i = 0; i < functions->module_count; i++) {
        if (pp__module_base(functions->modules[i]) != pp__module_base(entry->module))
            continue;
        struct pp__module *known = functions->modules[i];
        pp__module_unref(entry->module);
        entry->module = known;
        entry->module_index = i;
        return 0;
    }
    struct pp__module **grown =
        PP_SYS(realloc)(functions->modules, (functions->module_count + 1) * sizeof *functions->modules);
    if (!grown)
        return -ENOMEM;
    functions->modules = grown;
    entry->module_index = functions->module_count;
    grown[functions->module_count++] = entry->module;
    return 0;
}

static int insert(pp_pool *pool, struct pp__function *new, const struct pp__function **entry)
{
    struct pp__functions *functions = pool->functions;
    const struct pp__function *known = pp__functions_find(functions, new->function);
    if (!known) {
        if (grow(functions) != 0 || adopt_module(functions, new) != 0)
            return pp__fail(-ENOMEM, "no memory to note a function");
        functions->table[place_of(functions, new->function)] = new;
        functions->count++;
        if (pp__module_without_build_id(new->module))
            pp__pool_log(pool, "%s has no build-id: it is known by device, inode, size and time",
                         pp__module_path(new->module));
    }
    *entry = known ? known : new;
    return 0;
}

int pp__functions_resolve(pp_pool *pool, pp_function *function, const struct pp__function **entry)
{
    struct pp__function *new = PP_SYS(calloc)(1, sizeof *new);
    if (!new)
        return pp__fail(-ENOMEM, "no memory to note a function");
    const void *address;
    memcpy(&address, &function, sizeof address);
    new->pool = pool;
    int error = pp__module_find(address, &new->module, &new->offset);
    if (error) {
        free(new);
        return error;
    }
    new->function = function;
    pp__module_name(new->module, new->offset, new->name);
    pp__pool_lock(pool);
    error = insert(pool, new, entry);
    pp__pool_unlock(pool);
    if (error || *entry != new) {
        pp__module_unref(new->module);
        free(new);
    }
    return error;
}

const struct pp__module *pp__functions_module(struct pp__functions *functions, uint32_t index)
{
    return functions->modules[index];
}
