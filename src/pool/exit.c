/* SPDX-License-Identifier: MIT */
#include "pool/exit.h"

#include "base/atomic.h"
#include "base/cancel.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/seam.h"
#include "process/owner.h"

#include <errno.h>
#include <stdlib.h>

/* Killed workers have so long to be gone before the program is; their zygote sees to it in any case. */
#define KILL_GRACE (2 * PP__SECOND)
/* The handler is registered again with so many pools, so that it runs before what the program registered between them. */
#define REGISTRATIONS 32

/* The live pools of one process. A forked child's belong to its parent, and their lock may be held for ever: it makes a list of its own, if it is a
 * worker and makes pools. Locked before a pool, and never while a pool's lock is held or user code runs. */
struct live {
    uint32_t owner;
    pthread_mutex_t lock;
    struct pp__link pools;
    int registrations;
    bool exiting;
    unsigned round; /* of looks at all of them */
};

static _Atomic(struct live *) live;

/* That of this process, or NULL. */
static struct live *find(void)
{
    struct live *have = pp__load_acquire(&live); /* pairs with the exchange in make */
    return have && have->owner == pp__owner_token() ? have : NULL;
}

static struct live *make(void)
{
    struct live *before = pp__load_relaxed(&live), *made = PP_SYS(calloc)(1, sizeof *made);
    if (!made)
        return NULL;
    made->owner = pp__owner_token();
    pthread_mutex_init(&made->lock, NULL);
    pp__list_init(&made->pools);
    if (atomic_compare_exchange_strong_explicit(&live, &before, made, memory_order_acq_rel, memory_order_acquire))
        return made;
    pthread_mutex_destroy(&made->lock); /* another thread was first */
    free(made);
    return find();
}

/* -------------------------------------------------------------------------------------- the handler */

/* The next pool that was not looked at in this round, with a reference; or NULL. One whose last reference is gone is on its way out. */
static pp_pool *next_pool(struct live *l, unsigned round)
{
    pp_pool *found = NULL;
    pthread_mutex_lock(&l->lock);
    for (struct pp__link *link = l->pools.next; link != &l->pools && !found; link = link->next) {
        pp_pool *pool = pp__container(link, pp_pool, in_live);
        if (pool->exit_round != round && pp__pool_try_ref(pool)) {
            pool->exit_round = round;
            found = pool;
        }
    }
    pthread_mutex_unlock(&l->lock);
    return found;
}

static void begin(pp_pool *pool, uint64_t begun)
{
    (void)begun;
    if (pool->options.exit_policy == PP_EXIT_KILL) {
        pp_pool_kill(pool);
        return;
    }
    pp__pool_lock(pool);
    if (pool->loop && !pool->is_inline)
        pp__pool_leave_loop(pool); /* or who waits for its end does what there is to do */
    pp__pool_begin_shutdown(pool, false);
    pp__pool_unlock(pool);
}

static bool await(pp_pool *pool, uint64_t deadline)
{
    pp__pool_lock(pool);
    int error = pp__pool_await_end(pool, deadline);
    pp__pool_unlock(pool);
    return error == 0;
}

/* An inline pool has nobody but who waits for its calls. */
static void end(pp_pool *pool, uint64_t begun)
{
    const pp_pool_options *options = &pool->options;
    bool kill = options->exit_policy == PP_EXIT_KILL;
    if (pool->is_inline)
        return;
    if (!kill && await(pool, options->exit_timeout ? begun + options->exit_timeout * PP__MILLISECOND : PP__NEVER))
        return;
    if (!kill)
        pp_pool_kill(pool);
    await(pool, pp__now() + KILL_GRACE);
}

static void for_each(struct live *l, void (*act)(pp_pool *pool, uint64_t begun), uint64_t begun)
{
    pthread_mutex_lock(&l->lock);
    unsigned round = ++l->round;
    pthread_mutex_unlock(&l->lock);
    for (pp_pool *pool; (pool = next_pool(l, round));) {
        act(pool, begun);
        pp__pool_unref(pool);
    }
}

/* True: it had not begun. */
static bool begin_exit(struct live *l)
{
    pthread_mutex_lock(&l->lock);
    bool first = !l->exiting;
    l->exiting = true;
    pthread_mutex_unlock(&l->lock);
    return first;
}

/* All are shut before one is waited for. A child that the program forked has no list, and nothing to do. */
static void run(void)
{
    PP__NO_CANCELLATION();
    struct live *l = find();
    if (!l || !begin_exit(l))
        return;
    uint64_t begun = pp__now();
    for_each(l, begin, begun);
    for_each(l, end, begun);
}

/* ------------------------------------------------------------------------------------------ the list */

/* Under the list's lock. The first registration is needed, others are only better. */
static int prepare(struct live *l)
{
    if (l->exiting)
        return pp__fail(-ESHUTDOWN, "the program exits");
    if (l->registrations == REGISTRATIONS)
        return 0;
    if (atexit(run) == 0)
        l->registrations++;
    return l->registrations > 0 ? 0 : pp__fail(-ENOMEM, "no memory for a handler of the program's exit");
}

int pp__exit_prepare(void)
{
    struct live *l = find();
    if (!l)
        l = make();
    if (!l)
        return pp__fail(-ENOMEM, "no memory for a list of pools");
    pthread_mutex_lock(&l->lock);
    int error = prepare(l);
    pthread_mutex_unlock(&l->lock);
    return error;
}

bool pp__exit_enter(pp_pool *pool)
{
    struct live *l = find();
    pthread_mutex_lock(&l->lock);
    pp__list_insert(&l->pools, &pool->in_live);
    bool exiting = l->exiting;
    pthread_mutex_unlock(&l->lock);
    return !exiting;
}

void pp__exit_leave(pp_pool *pool)
{
    struct live *l = find();
    if (!l)
        return;
    pthread_mutex_lock(&l->lock);
    if (pool->in_live.next) /* else it was never made whole */
        pp__list_remove(&pool->in_live);
    pthread_mutex_unlock(&l->lock);
}
