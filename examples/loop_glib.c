/* SPDX-License-Identifier: MIT */
/* A pool in GLib's main loop, beside a timer of the program's: the primes up to each argument, counted in worker
 * processes. */
#include "primes.h"

#include <glib-unix.h>
#include <stdlib.h>

struct program {
    pp_pool *pool;
    GMainLoop *loop;
    unsigned ticks;
};

static gboolean on_pool(int fd, GIOCondition condition, gpointer data)
{
    const struct program *program = data;
    (void)fd, (void)condition;
    if (pp_pool_dispatch(program->pool) == 0)
        g_main_loop_quit(program->loop); /* all is done */
    return G_SOURCE_CONTINUE;
}

static gboolean on_tick(gpointer data)
{
    struct program *program = data;
    program->ticks++;
    return G_SOURCE_CONTINUE;
}

int main(int argc, char **argv)
{
    pp_worker_main();
    struct program program = {.pool = create_loop_pool()};
    if (!program.pool)
        return 1;
    program.loop = g_main_loop_new(NULL, FALSE);
    guint watch = g_unix_fd_add(pp_pool_fd(program.pool), G_IO_IN, on_pool, &program);
    g_timeout_add(1, on_tick, &program);
    for (int i = 1; i < argc; i++)
        submit_primes(program.pool, (unsigned)strtoul(argv[i], NULL, 10));
    g_main_loop_run(program.loop);
    printf("the loop went on meanwhile: %s\n", program.ticks > 0 ? "yes" : "no");
    g_source_remove(watch);
    pp_pool_destroy(program.pool);
    g_main_loop_unref(program.loop);
    return 0;
}
