/* SPDX-License-Identifier: MIT */
/* Chunks: inputs travel together, and yet each fails alone and none runs twice. */
#include "call_kit.h"

BOTH(a_chunk_of_one_element_gives_one_result)
{
    int input = 7;
    pp_map *map;
    pp_map_result result;
    pp_pool *pool = kit_pool(method, 2);
    CHECK_OK(pp_map_open_array(pool, echo, &input, 1, sizeof input, &(pp_map_options){.chunk_size = 1024}, &map));
    CHECK_INT(pp_map_next(map, -1, &result), 1);
    CHECK_INT(result.code, 0);
    CHECK_INT(pp_map_next(map, -1, &result), 0);
    pp_map_close(map);
    pp_pool_destroy(pool);
}
