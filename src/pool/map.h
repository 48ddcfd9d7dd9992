/* SPDX-License-Identifier: MIT */
#ifndef PP_POOL_MAP_H
#define PP_POOL_MAP_H

#include "procpool.h"

/*
 * As pp_map_next, but for as many results as there are and lie together: *count of them, for result->index and the inputs behind it, each of
 * result->size bytes, one right behind the other at result->data (neither aligned nor followed by a NUL). One where it failed. No inputs
 * or tags come back; not to be mixed with pp_map_next. Who calls it calls it again at once, until the end, and then closes the map.
 */
int pp__map_next_run(pp_map *map, int timeout, pp_map_result *result, size_t *count);

#endif
