/* SPDX-License-Identifier: MIT */
/* A pool in libuv's loop, beside a timer of the program's: the primes up to each argument, counted in worker processes.
 */
#include "primes.h"

#include <stdlib.h>
#include <uv.h>

static void close_all(uv_handle_t *handle, void *unused)
{
    (void)unused;
    uv_close(handle, NULL);
}

static void on_pool(uv_poll_t *poll, int status, int events)
{
    (void)status, (void)events;
    if (pp_pool_dispatch(poll->data) == 0)
        uv_walk(poll->loop, close_all, NULL); /* all is done, and the loop ends */
}

static void on_tick(uv_timer_t *timer)
{
    ++*(unsigned *)timer->data;
}

int main(int argc, char **argv)
{
    pp_worker_main();
    unsigned ticks = 0;
    uv_poll_t poll;
    uv_timer_t timer;
    pp_pool *pool = create_loop_pool();
    if (!pool)
        return 1;
    uv_poll_init(uv_default_loop(), &poll, pp_pool_fd(pool));
    poll.data = pool;
    uv_poll_start(&poll, UV_READABLE, on_pool);
    uv_timer_init(uv_default_loop(), &timer);
    timer.data = &ticks;
    uv_timer_start(&timer, on_tick, 1, 1);
    for (int i = 1; i < argc; i++)
        submit_primes(pool, (unsigned)strtoul(argv[i], NULL, 10));
    uv_run(uv_default_loop(), UV_RUN_DEFAULT);
    printf("the loop went on meanwhile: %s\n", ticks > 0 ? "yes" : "no");
    pp_pool_destroy(pool);
    return 0;
}
