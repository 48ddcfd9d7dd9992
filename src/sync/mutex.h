/* SPDX-License-Identifier: MIT */
/*
 * A robust mutex between processes: when its holder, a thread, ends without having released it, whatever way, the next
 * to take it is told. The kernel does that part (pthread's robust mutexes); nobody sleeps in it, but on a bell beside
 * it, so that each sleep has a bound, a deadline is one of the monotonic clock, and signals interrupt.
 *
 * As long as a thread holds it, the memory must stay mapped.
 */
#ifndef PP_SYNC_MUTEX_H
#define PP_SYNC_MUTEX_H

#include "sync/bell.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct pp__mutex {
    pthread_mutex_t mutex;
    struct pp__bell bell;
};

/* Once, in zeroed memory, before anybody else sees it. 0, or -ENOMEM. */
int pp__mutex_init(struct pp__mutex *mutex);

/*
 * 0: held. -EOWNERDEAD: held, and its last holder has ended without releasing it. Else not held: -ETIMEDOUT, -EINTR;
 * -EDEADLK: the calling thread holds it already; -EPROTO: it is lost, which is looked at each second; -EINVAL or
 * another errno: this is no mutex. `hold`: the wait's, and its caller's to end; NULL: no signal ends it.
 */
int pp__mutex_acquire(struct pp__mutex *mutex, uint64_t deadline, struct pp__hold *hold);

/*
 * Whether its word says that a thread holds it which there is not, so that nobody would ever release it. When a holder
 * ends the kernel marks the word before it forgets the thread's number. So the word was overwritten; or the kernel had
 * too long a list of what the thread held.
 */
bool pp__mutex_is_lost(struct pp__mutex *mutex);

/* Whether its word says that this thread holds it. When a holder ends the kernel marks the word before the end is seen
 * by who joins it. Without glibc: true. */
bool pp__mutex_may_be_held_by(struct pp__mutex *mutex, pid_t thread);

/* 0, or -EPERM: the calling thread does not hold it. */
int pp__mutex_release(struct pp__mutex *mutex);

#endif
