/* SPDX-License-Identifier: MIT */
/* A look at many futures, before they are waited for: whether they can be, and how many are done already. */
#ifndef PP_POOL_LOOK_H
#define PP_POOL_LOOK_H

#include "base/atomic.h"
#include "pool/future.h"

#include <stddef.h>
#include <stdint.h>

/* So many of the futures that are done it knows by their places. */
#define PP__LOOK_KEEPS 64

/* What it has found. */
struct pp__look {
    pp_future *const *futures;
    size_t count, done;
    pp_pool *pool; /* of all; NULL: they are of several */
    uint64_t least_id, greatest_id;
    size_t places[PP__LOOK_KEEPS]; /* of the first that are done */
};

/* 0 or why `caller` refuses them: -EINVAL, -EPERM. */
int pp__look(struct pp__look *look, pp_future *const *futures, size_t count, const char *caller);

/* done[i] tells of each whether it is done; how many are. Where they are neither few nor all it comes to each again,
 * and more may be done by then. */
size_t pp__look_tell(const struct pp__look *look, unsigned char *done);

/* Many futures do not lie in the nearest caches: each is asked for so many before its turn. */
#define PP__FETCH_AHEAD 16

static inline void pp__look_ahead(pp_future *const *futures, size_t count, size_t i)
{
    i += PP__FETCH_AHEAD;
    if (i < count)
        __builtin_prefetch((const void *)((uintptr_t)futures[i] + offsetof(struct pp_future, item.state)));
}

#endif
