/* SPDX-License-Identifier: MIT */
#include "pool/log.h"

#include "base/atomic.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/futex.h"
#include "base/seam.h"
#include "pool/errand.h"
#include "pool/exit_start.h"
#include "pool/finalized.h"
#include "pool/loop.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

void pp__pool_log(pp_pool *pool, const char *format, ...)
{
    char text[512];
    if (!pool->options.log)
        return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    size_t size = strlen(text) + 1;
    struct pp__log_line *line = PP_SYS(malloc)(sizeof *line + size);
    if (!line)
        return; /* a line less is all that want of memory costs here */
    memcpy(line->text, text, size);
    line->end = NULL;
    pp__list_insert(&pool->log, &line->link);
    pp__log_wake(pool);
}

bool pp__log_finalized(pp_pool *pool, struct pp__finalized *end)
{
    struct pp__log_line *line = PP_SYS(malloc)(sizeof *line);
    if (!line)
        return false;
    line->end = end;
    pp__list_insert(&pool->log, &line->link);
    pp__log_wake(pool);
    return true;
}

static void hand_out(const pp_pool *pool, struct pp__log_line *line)
{
    if (line->end)
        pp__finalized_hand_out(pool, line->end);
    else
        pool->options.log(pool->options.log_data, line->text);
    free(line);
}

void pp__log_wake(pp_pool *pool)
{
    if (pool->loop)
        pp__loop_wake(pool);
    if (!pool->has_logger)
        return;
    atomic_fetch_add_explicit(&pool->log_word, 1, memory_order_release); /* pairs with the load in run */
    pp__futex_wake(&pool->log_word, 1, false);
}

/* In order, and one at a time: a thread that finds another at it leaves its lines to that one. */
void pp__log_hand_out(pp_pool *pool)
{
    if (pool->logging)
        return;
    pool->logging = true;
    for (;;) {
        if (pp__errand_run(pool))
            continue;
        if (pp__list_empty(&pool->log))
            break;
        struct pp__log_line *line = pp__container(pool->log.next, struct pp__log_line, link);
        pp__list_remove(&line->link);
        pthread_mutex_unlock(&pool->lock);
        hand_out(pool, line);
        pthread_mutex_lock(&pool->lock);
    }
    pool->logging = false;
}

/* What a dispatch found meanwhile it left to this thread, which hands it back; after the end nobody else might come. */
bool pp__log_run_errand(pp_pool *pool)
{
    if (pool->logging || pp__list_empty(&pool->errands))
        return false;
    pool->logging = pool->errand_apart = true;
    pp__errand_run(pool);
    pool->logging = false;
    if (pool->ended)
        pp__log_hand_out(pool);
    else if (!pp__list_empty(&pool->errands) || !pp__list_empty(&pool->log))
        pp__log_wake(pool);
    pool->errand_apart = false;
    if (pool->ended)
        pp__subject_wake(&pool->end, pool, pool);
    return true;
}

static void *run(void *argument)
{
    pp_pool *pool = argument;
    prctl(PR_SET_NAME, "pp-log");
    pp__exit_watch();
    pp__pool_lock(pool);
    for (;;) {
        uint32_t seen = pp__load_acquire(&pool->log_word); /* pairs with the add in pp__log_wake */
        pp__log_hand_out(pool);
        if (pool->ended)
            break;
        pp__pool_unlock(pool);
        pp__futex_wait(&pool->log_word, seen, PP__NEVER, false);
        pp__pool_lock(pool);
    }
    pp__pool_unlock(pool);
    pp__pool_unref(pool);
    return NULL;
}

bool pp__log_is_needed(const pp_pool *pool)
{
    return pool->options.log || pool->options.finalized || pool->starter.start;
}

int pp__log_start(pp_pool *pool)
{
    if (!pp__log_is_needed(pool) || pool->is_inline || pool->loop)
        return 0;
    int error = pp__pool_start_thread(pool, &pool->logger, run);
    pool->has_logger = error == 0;
    return error;
}

void pp__log_join(pp_pool *pool)
{
    if (pool->has_logger)
        pthread_join(pool->logger, NULL);
}

void pp__log_detach(pp_pool *pool)
{
    if (pool->has_logger)
        pthread_detach(pool->logger);
}

void pp__log_free(pp_pool *pool)
{
    struct pp__link *link = pool->log.next;
    while (link != &pool->log) {
        struct pp__log_line *line = pp__container(link, struct pp__log_line, link);
        link = link->next;
        if (line->end)
            pp__finalized_free(line->end);
        free(line);
    }
}
