/* SPDX-License-Identifier: MIT */
/* Map: what is pulled when, in which order results come, and how a map ends. */
#include "call_kit.h"

BOTH(an_empty_array_maps_to_nothing)
{
    pp_map *map;
    pp_map_result result;
    pp_pool *pool = kit_pool(method, 2);
    CHECK_OK(pp_map_open_array(pool, echo, NULL, 0, sizeof(int), NULL, &map));
    CHECK_INT(pp_map_next(map, -1, &result), 0);
    CHECK_INT(pp_map_next(map, -1, &result), 0);
    pp_map_close(map);
    pp_pool_destroy(pool);
}
