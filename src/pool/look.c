/* SPDX-License-Identifier: MIT */
#include "pool/look.h"

#include "base/error.h"
#include "pool/pool.h"
#include "process/owner.h"

#include <errno.h>
#include <string.h>

/* One that a look comes to: true if it is done. */
static inline bool look_at(struct pp__look *look, const pp_future *future)
{
    bool done = pp__future_is_done(future);
    uint64_t id = future->item.id;
    look->done += done;
    look->least_id = id < look->least_id ? id : look->least_id;
    look->greatest_id = id > look->greatest_id ? id : look->greatest_id;
    return done;
}

static int check(pp_future *const *futures, size_t count, const char *caller)
{
    if (!futures && count > 0)
        return pp__fail(-EINVAL, "%s: no futures", caller);
    if (count > PTRDIFF_MAX / sizeof(struct pp_future))
        return pp__fail(-EINVAL, "%s: %zu futures are more than any memory has room for", caller, count);
    return 0;
}

int pp__look(struct pp__look *look, pp_future *const *futures, size_t count, const char *caller, unsigned char *done)
{
    int error = check(futures, count, caller);
    bool several = false;
    *look = (struct pp__look){.futures = futures, .count = count, .least_id = UINT64_MAX};
    for (size_t i = 0; !error && i < count; i++) {
        pp__look_ahead(futures, count, i);
        if (!futures[i])
            return pp__fail(-EINVAL, "%s: future %zu of %zu is NULL", caller, i, count);
        pp_pool *pool = pp__future_pool(futures[i]);
        if (pool != look->pool && !pp__pool_is_own(pool))
            return pp__owner_refuse();
        several |= look->pool && pool != look->pool;
        look->pool = pool;
        bool is_done = look_at(look, futures[i]);
        if (done && is_done && look->done == 1)
            memset(done, 0, i);
        if (done && look->done > 0)
            done[i] = is_done;
    }
    if (several)
        look->pool = NULL;
    return error;
}
