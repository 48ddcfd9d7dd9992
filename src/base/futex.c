/* SPDX-License-Identifier: MIT */
#include "base/futex.h"

#include "base/clock.h"
#include "base/seam.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* FUTEX_WAIT_BITSET takes the deadline as a moment, so that an interrupted sleep can be taken up again unchanged. */
int pp__futex_wait(const _Atomic uint32_t *word, uint32_t value, uint64_t deadline, bool shared)
{
    struct timespec moment = pp__to_timespec(deadline == PP__NEVER ? 0 : deadline);
    int operation = FUTEX_WAIT_BITSET | (shared ? 0 : FUTEX_PRIVATE_FLAG);
    long rc = PP_SYS(syscall)(SYS_futex, word, operation, value, deadline == PP__NEVER ? NULL : &moment, NULL,
                              FUTEX_BITSET_MATCH_ANY);
    if (rc == 0 || errno == EAGAIN)
        return 0;
    return errno == ETIMEDOUT ? -ETIMEDOUT : errno == EINTR ? -EINTR : 0;
}

int pp__futex_wake(_Atomic uint32_t *word, int count, bool shared)
{
    long woken = syscall(SYS_futex, word, FUTEX_WAKE | (shared ? 0 : FUTEX_PRIVATE_FLAG), count, NULL, NULL, 0);
    return woken > 0 ? (int)woken : 0;
}
