/* SPDX-License-Identifier: MIT */
#include "pool/exit.h"

#include "base/cancel.h"
#include "base/clock.h"
#include "pool/live.h"

/* Killed workers have so long to be gone before the program is; their zygote sees to it in any case. */
#define KILL_GRACE (2 * PP__SECOND)

static void run(void);

/* One whose last reference is gone is on its way out. */
static bool take(struct pp__link *link, unsigned round)
{
    pp_pool *pool = pp__container(link, pp_pool, in_live);
    if (pool->exit_round == round || !pp__pool_try_ref(pool))
        return false;
    pool->exit_round = round;
    return true;
}

static struct pp__live live = {.name = "pools", .at_exit = run, .take = take};

static void begin(pp_pool *pool, uint64_t unused)
{
    (void)unused;
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

static void for_each(void (*act)(pp_pool *pool, uint64_t begun), uint64_t begun)
{
    unsigned round = pp__live_begin_round(&live);
    for (struct pp__link *link; (link = pp__live_next(&live, round));) {
        pp_pool *pool = pp__container(link, pp_pool, in_live);
        act(pool, begun);
        pp__pool_unref(pool);
    }
}

void pp__exit_start(void)
{
    PP__NO_CANCELLATION();
    if (pp__live_begin_exit(&live))
        for_each(begin, 0);
}

/* The handler. All are shut before one is waited for. */
static void run(void)
{
    PP__NO_CANCELLATION();
    pp__exit_start();
    if (pp__live_begin_end(&live))
        for_each(end, pp__now());
}

int pp__exit_prepare(void)
{
    return pp__live_prepare(&live);
}

bool pp__exit_enter(pp_pool *pool)
{
    return pp__live_enter(&live, &pool->in_live);
}

void pp__exit_leave(pp_pool *pool)
{
    pp__live_leave(&live, &pool->in_live);
}
