/* SPDX-License-Identifier: MIT */
/* Many futures, perhaps of several pools: pp_wait and pp_as_completed. What is not done is waited for as a group. */
#include "base/cancel.h"
#include "base/error.h"
#include "pool/group.h"
#include "process/owner.h"

#include <errno.h>

static ssize_t wait_for(const struct pp__look *look, pp_when when, int timeout, unsigned char *done)
{
    struct pp_completed *group;
    int error = pp__group_open(look, when, false, &group);
    if (error)
        return error;
    error = pp__group_wait(group, timeout);
    size_t sum = error == 0 || error == -ETIMEDOUT || error == -EINTR ? pp__group_ended(group, look, done) : 0;
    pp__group_close(group);
    return error ? error : (ssize_t)sum;
}

ssize_t pp_wait(pp_future *const *futures, size_t count, pp_when when, int timeout, unsigned char *done)
{
    PP__NO_CANCELLATION();
    struct pp__look look;
    int error = pp__look(&look, futures, count, "pp_wait");
    if (!error && when != PP_ALL_COMPLETED && when != PP_FIRST_COMPLETED && when != PP_FIRST_FAILED)
        error = pp__fail(-EINVAL, "pp_wait: no such condition: %d", (int)when);
    if (error)
        return error;
    /* What is there already is enough, without a wait: who takes out of many what is done, time and again, finds as
     * much more done as the last look has taken long. */
    if (look.done < count && (look.done == 0 || when != PP_FIRST_COMPLETED))
        return wait_for(&look, when, timeout, done);
    return done ? (ssize_t)pp__look_tell(&look, done) : (ssize_t)look.done;
}

int pp_as_completed(pp_future *const *futures, size_t count, pp_completed **completed)
{
    PP__NO_CANCELLATION();
    struct pp__look look;
    int error = pp__look(&look, futures, count, "pp_as_completed");
    if (!error && !completed)
        error = pp__fail(-EINVAL, "pp_as_completed: no place for it");
    return error ? error : pp__group_open(&look, PP_FIRST_COMPLETED, true, completed);
}

int pp_completed_next(pp_completed *completed, int timeout, pp_future **future, size_t *index)
{
    PP__NO_CANCELLATION();
    size_t unused;
    if (!completed)
        return pp__fail(-EINVAL, "pp_completed_next: no futures");
    if (!pp__group_is_own(completed))
        return pp__owner_refuse();
    if (!future)
        return pp__fail(-EINVAL, "pp_completed_next: no place for the future");
    return pp__group_next(completed, timeout, future, index ? index : &unused);
}

void pp_completed_close(pp_completed *completed)
{
    PP__NO_CANCELLATION();
    if (completed && pp__group_is_own(completed))
        pp__group_close(completed);
}
