/* SPDX-License-Identifier: MIT */
#include "pool/room.h"

#include "base/clock.h"
#include "base/error.h"
#include "pool/callbacks.h"
#include "pool/collect.h"

#include <errno.h>

/* A thread that waits for room, on its stack. */
struct blocked {
    struct pp__link link; /* in pool->blocked, first come first */
    pp_pool *pool;
};

/* Calls that have not begun: each worker with calls is taken to have begun one of them. A chunk counts as one. */
static size_t pending(const pp_pool *pool)
{
    return pool->is_inline ? pool->pending_count : pool->outstanding - (size_t)pool->busy;
}

static bool has_room(const pp_pool *pool)
{
    return pending(pool) < pool->options.max_pending;
}

bool pp__room_is_there(const pp_pool *pool)
{
    return has_room(pool) && pp__list_empty(&pool->blocked);
}

static bool may_go_on(const void *what)
{
    const struct blocked *me = what;
    const pp_pool *pool = me->pool;
    return pool->shut || pool->broken || (pool->blocked.next == &me->link && has_room(pool));
}

static void wake(pp_pool *pool, const struct pp__link *link)
{
    pp__subject_wake(&pool->room, pool, pp__container(link, struct blocked, link));
}

void pp__room_wake_first(pp_pool *pool)
{
    if (has_room(pool))
        wake(pool, pool->blocked.next);
}

void pp__room_wake_all(pp_pool *pool)
{
    for (const struct pp__link *link = pool->blocked.next; link != &pool->blocked; link = link->next)
        wake(pool, link);
}

/* Who was behind it is first now, and who waits for the pool's end waits for it too: it has the handle in its hands. */
static void leave(pp_pool *pool, struct blocked *me, bool goes_on)
{
    pp__list_remove(&me->link);
    if (!goes_on)
        pp__room_made(pool); /* else the dispatch of what it adds looks */
    if (pool->ended)
        pp__subject_wake(&pool->end, pool, pool);
}

static int refuse(const pp_pool *pool, int error)
{
    const pp_pool_options *options = &pool->options;
    if (error == -ETIMEDOUT)
        return pp__fail(error, "there was no room for %u ms: max_pending is %zu", options->submit_timeout,
                        options->max_pending);
    if (error == -EINTR)
        return pp__fail(error, "waiting for room was interrupted by a signal; nothing was submitted");
    return error;
}

/* What has ended, and was not seen yet, makes room. */
static int look_again(pp_pool *pool)
{
    pp__collect(pool);
    if (pp__room_is_there(pool))
        return 0;
    return pp__fail(-EAGAIN, "no room: %zu calls are pending, and max_pending is %zu", pending(pool),
                    pool->options.max_pending);
}

int pp__room_wait(pp_pool *pool)
{
    const pp_pool_options *options = &pool->options;
    if (pp__room_is_there(pool))
        return 0;
    if (options->when_full == PP_FULL_REFUSE || pp__callbacks_are_running_here(pool))
        return look_again(pool);
    struct blocked me = {.pool = pool};
    uint64_t deadline = options->submit_timeout ? pp__now() + options->submit_timeout * PP__MILLISECOND : PP__NEVER;
    pp__list_init(&me.link);
    pp__list_insert(&pool->blocked, &me.link);
    int error = pp__wait(pool, &pool->room, may_go_on, &me, deadline, false);
    if (!error)
        error = pp__pool_accepts(pool);
    leave(pool, &me, error == 0);
    return refuse(pool, error);
}
