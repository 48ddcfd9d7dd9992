/* SPDX-License-Identifier: MIT */
/*
 * Room for pending calls (max_pending): who submits beyond it waits here, first come first served, or is refused. A
 * pool without that bound pays a look for it. All under the pool's lock.
 */
#ifndef PP_POOL_ROOM_H
#define PP_POOL_ROOM_H

#include "pool/pool.h"

/* Whether one more call may be pending at once, nobody waiting before it. */
bool pp__room_is_there(const pp_pool *pool);

/*
 * Waits until that is so, as the pool's options say, the lock released meanwhile. 0, with the room for who adds its
 * call before it gives up the lock; -EAGAIN, -ETIMEDOUT, -EINTR, -EDEADLK; or what pp__pool_accepts says now.
 */
int pp__room_wait(pp_pool *pool);

/* The first of those who wait looks; or all of them do, as the pool takes nothing any more. */
void pp__room_wake_first(pp_pool *pool);
void pp__room_wake_all(pp_pool *pool);

/* Some call has begun or ended. */
static inline void pp__room_made(pp_pool *pool)
{
    if (!pp__list_empty(&pool->blocked))
        pp__room_wake_first(pool);
}

#endif
