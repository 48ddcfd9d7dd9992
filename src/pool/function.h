/* SPDX-License-Identifier: MIT */
/* The functions that a pool has seen, each resolved once: module, offset and name. Modules stay pinned until the pool
 * is gone. */
#ifndef PP_POOL_FUNCTION_H
#define PP_POOL_FUNCTION_H

#include "process/identity.h"
#include "procpool.h"

struct pp__function {
    pp_pool *pool; /* whose it is */
    pp_function *function;
    struct pp__module *module;
    uint64_t offset;
    uint32_t module_index; /* in this pool, from 0 */
    char name[PP__FUNCTION_NAME_MAX];
};

struct pp__functions;

struct pp__functions *pp__functions_create(void);
void pp__functions_destroy(struct pp__functions *functions);

/* The entry of `function`, or NULL if it has not been seen. Under the pool's lock. */
const struct pp__function *pp__functions_find(struct pp__functions *functions, pp_function *function);

/* Resolves it and notes it, or finds that another thread did. Not under the lock, which it takes (the loader is asked:
 * a module's constructor that submits would wait for us and we for it). 0, -EINVAL, -ENOMEM, -EBADMSG. */
int pp__functions_resolve(pp_pool *pool, pp_function *function, const struct pp__function **entry);

/* The module with that index. Under the lock. */
const struct pp__module *pp__functions_module(struct pp__functions *functions, uint32_t index);

#endif
