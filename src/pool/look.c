/* SPDX-License-Identifier: MIT */
#include "pool/look.h"

#include "base/error.h"
#include "pool/pool.h"
#include "process/owner.h"

#include <errno.h>
#include <string.h>

static int check(pp_future *const *futures, size_t count, const char *caller)
{
    if (!futures && count > 0)
        return pp__fail(-EINVAL, "%s: no futures", caller);
    if (count > PTRDIFF_MAX / sizeof(struct pp_future))
        return pp__fail(-EINVAL, "%s: %zu futures are more than any memory has room for", caller, count);
    return 0;
}

/* How many of them are done, of which the first are noted. */
static inline size_t note(struct pp__look *look, size_t done, size_t i)
{
    if (!pp__future_is_done(look->futures[i]))
        return done;
    if (done < PP__LOOK_KEEPS)
        look->places[done] = i;
    return done + 1;
}

int pp__look(struct pp__look *look, pp_future *const *futures, size_t count, const char *caller)
{
    int error = check(futures, count, caller);
    pp_pool *pool = NULL;
    bool several = false;
    uint64_t least = UINT64_MAX, greatest = 0;
    size_t done = 0;
    look->futures = futures;
    look->count = count;
    for (size_t i = 0; !error && i < count; i++) {
        pp__look_ahead(futures, count, i);
        if (!futures[i])
            return pp__fail(-EINVAL, "%s: future %zu of %zu is NULL", caller, i, count);
        if (pp__future_pool(futures[i]) != pool) {
            several |= pool != NULL;
            pool = pp__future_pool(futures[i]);
            if (!pp__pool_is_own(pool))
                return pp__owner_refuse();
        }
        uint64_t id = futures[i]->item.id;
        least = id < least ? id : least;
        greatest = id > greatest ? id : greatest;
        done = note(look, done, i);
    }
    look->done = done;
    look->pool = several ? NULL : pool;
    look->least_id = least;
    look->greatest_id = greatest;
    return error;
}

size_t pp__look_tell(const struct pp__look *look, unsigned char *done)
{
    size_t sum = look->done;
    if (sum == look->count || sum <= PP__LOOK_KEEPS) {
        memset(done, sum == look->count, look->count);
        for (size_t i = 0; i < sum && sum < look->count; i++)
            done[look->places[i]] = 1;
        return sum;
    }
    sum = 0;
    for (size_t i = 0; i < look->count; i++) {
        pp__look_ahead(look->futures, look->count, i);
        done[i] = pp__future_is_done(look->futures[i]);
        sum += done[i];
    }
    return sum;
}
