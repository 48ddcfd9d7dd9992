/* SPDX-License-Identifier: MIT */
/* For tests of maps that are the same for chunks of one element, of some and of many. */
#ifndef PP_TESTS_POOL_MAP_SIZES_KIT_H
#define PP_TESTS_POOL_MAP_SIZES_KIT_H

#include <stdbool.h>
#include <stddef.h>

static const size_t chunk_sizes[] = {1, 7, 1024};
#define EACH_CHUNK_SIZE(size) for (size_t each = 0, size; each < 3 && (size = chunk_sizes[each], true); each++)

#endif
