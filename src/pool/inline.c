/* SPDX-License-Identifier: MIT */
#include "pool/inline.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/seam.h"
#include "pool/backtrace.h"
#include "pool/block.h"
#include "pool/buffer.h"
#include "pool/callbacks.h"
#include "pool/descriptors.h"
#include "pool/dispatch.h"
#include "pool/finalized.h"
#include "pool/function.h"
#include "pool/room.h"
#include "pool/task.h"
#include "pool/wish.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The thread that runs an element may come back through a wait inside the task, then elements nest; others wait. */
struct pp__inline {
    pthread_t thread;
    int depth;                      /* 0: nobody runs anything */
    void *state;                    /* pp_task_set_state */
    struct pp__inline_words *words; /* of the calls that run, the innermost first */
    bool initialized, finished;
};

int pp__inline_create(pp_pool *pool)
{
    pool->inl = PP_SYS(calloc)(1, sizeof *pool->inl);
    return pool->inl ? 0 : pp__fail(-ENOMEM, "no memory for a pool");
}

void pp__inline_destroy(pp_pool *pool)
{
    free(pool->inl);
}

bool pp__inline_runs(const pp_pool *pool, const struct pp__item *item)
{
    return pool->is_inline && item && item->runs;
}

static bool is_self(const pp_pool *pool)
{
    return pool->inl->depth > 0 && pthread_equal(pool->inl->thread, pthread_self());
}

bool pp__inline_is_stuck(const pp_pool *pool)
{
    return is_self(pool) && pool->promised == 0;
}

struct pp__inline_words *pp__inline_words(const pp_pool *pool, uint64_t id)
{
    struct pp__inline_words *words = pool->inl->words;
    while (words->id != id)
        words = words->outer;
    return words;
}

/* Runs `function` without the lock. The outcome's error, if any, is made by the caller from the task. Duties have no
 * words. */
static int run(pp_pool *pool, pp_function *function, const void *arg, size_t size, uint64_t id, struct pp_task *task,
               struct pp__inline_words *words, uint64_t *run_time)
{
    int error = pp__task_init(task, NULL, 0, &pool->inl->state);
    if (error)
        return error;
    if (pool->options.backtraces && pp__task_trace(task) != 0) {
        pp__task_destroy(task);
        return -ENOMEM;
    }
    if (words) {
        task->stop = &words->stop;
        task->progress = &words->progress;
        task->carried = words->carried;
    }
    pool->inl->thread = pthread_self();
    pool->inl->depth++;
    pthread_mutex_unlock(&pool->lock); /* callbacks that are due are run where no call is marked as running */
    uint64_t begun = pp__now();
    pp__task_begin(task, id, pool->options.seed);
    pp__task_run(task, function, arg, size);
    *run_time = pp__now() - begun;
    pp__pool_lock(pool);
    pool->inl->depth--;
    return 0;
}

static struct pp__outcome outcome_of(struct pp__item *item, struct pp_task *task, uint64_t run_time)
{
    item->tries++;
    if (task->failed) {
        pp_error_kind kind = task->code ? PP_ERROR_TASK : PP_ERROR_TRAVEL;
        pp_error *error =
            pp__item_error(item, kind, task->code ? task->code : task->travel, NULL, run_time, "%s", task->message);
        if (pp__error_is_own(error)) {
            error->worker = 0;
            error->pid = getpid();
        }
        if (task->code && task->trace_size > 0)
            pp__error_trace(error, task->trace, task->trace_size);
        return (struct pp__outcome){.code = error->code, .error = error};
    }
    struct pp__outcome outcome = {.data = task->result, .size = task->size};
    if (!task->result || task->result == task->small) {
        outcome.data = pp__block_allocate(task->size);
        if (!outcome.data) {
            pp_error *error =
                pp__item_error(item, PP_ERROR_TRAVEL, -ENOMEM, NULL, run_time, "no memory for its result");
            return (struct pp__outcome){.code = error->code, .error = error};
        }
        if (task->result)
            memcpy(outcome.data, task->result, task->size);
    }
    task->result = NULL; /* moved out */
    return outcome;
}

/* The same of a call, whose descriptors that go back are its future's then, or closed. */
static struct pp__outcome outcome_of_call(struct pp__item *item, struct pp_task *task, struct pp__carried *carried,
                                          uint64_t run_time)
{
    struct pp__outcome outcome = outcome_of(item, task, run_time);
    if (outcome.code || carried->back_count == 0) {
        pp__carried_drop_back(carried);
        return outcome;
    }
    struct pp__descriptors *back = pp__descriptors_keep(carried->back, carried->back_count);
    if (back) {
        pp__descriptors_bring_back(item, back);
        return outcome;
    }
    pp__block_free(outcome.data);
    pp_error *error =
        pp__item_error(item, PP_ERROR_TRAVEL, -ENOMEM, NULL, run_time, "no memory for the descriptors that go back");
    return (struct pp__outcome){.code = error->code, .error = error};
}

static void give(struct pp__carried *carried, const struct pp__descriptors *descriptors,
                 const struct pp__buffers *buffers)
{
    carried->buffer_count = buffers ? buffers->count : 0;
    for (uint32_t i = 0; i < carried->buffer_count; i++) {
        carried->buffers[i].data = buffers->each[i].buffer->memory;
        carried->buffers[i].size = buffers->each[i].buffer->size;
        carried->buffers[i].shared = buffers->each[i].buffer->shared;
    }
    carried->given = descriptors ? descriptors->fds : NULL;
    carried->given_count = descriptors ? descriptors->count : 0;
    carried->back_count = 0;
}

/* The initializer, before the first call: its failure breaks the pool. */
static void initialize(pp_pool *pool)
{
    struct pp_task task;
    uint64_t run_time;
    const pp_pool_options *options = &pool->options;
    pool->inl->initialized = true;
    if (!options->initializer)
        return;
    int error = run(pool, options->initializer, options->initializer_arg, options->initializer_arg_size, 0, &task, NULL,
                    &run_time);
    if (error || task.failed)
        pp__pool_break(pool, error ? error : task.code, "the initializer failed: %s",
                       error ? pp_last_error() : task.message);
    if (!error)
        pp__task_destroy(&task);
}

/* The finalizer, at the end. What runs now, be it an initializer whose call was cancelled, ends the pool when it has
 * ended. */
bool pp__inline_finish(pp_pool *pool)
{
    struct pp_task task;
    uint64_t run_time;
    const pp_pool_options *options = &pool->options;
    if (pool->inl->depth > 0)
        return false;
    if (!options->finalizer || !pool->inl->initialized || pool->broken || pool->inl->finished)
        return true;
    pool->inl->finished = true;
    if (run(pool, options->finalizer, options->finalizer_arg, options->finalizer_arg_size, 0, &task, NULL, &run_time) !=
        0)
        return true;
    if (task.failed)
        pp__pool_log(pool, "the finalizer failed: %s", task.message);
    struct pp__item duty = pp__finalized_duty(pool);
    pp__finalized_add(pool, 0, getpid(), outcome_of(&duty, &task, run_time));
    pp__task_destroy(&task);
    return true;
}

/* The rest of a chunk, unless it was given up while the element ran. */
static void go_on(pp_pool *pool, struct pp__item *item)
{
    if (item->abandoned || pool->cancelling)
        pp__item_fail(item, PP_ERROR_CANCELLED, 0,
                      item->abandoned ? "its map was closed" : "cancelled as its pool was shut down");
    else
        pp__pending_insert(pool, item);
}

static void run_first(pp_pool *pool)
{
    struct pp_task task;
    uint64_t run_time = 0;
    struct pp__item *item = pp__pending_first(pool);
    struct pp__elements element = pp__item_elements(item);
    if (!item->in_future && item->x.at)
        element.place = (const char *)item->x.at;
    pp__pending_remove(pool, item);
    if (pp__wish_is_late(item)) {
        pp__wish_fail(item);
        return;
    }
    struct pp__carried carried;
    struct pp__lent lent;
    struct pp__inline_words words = {
        .outer = pool->inl->words, .id = pp__item_next_id(item), .carried = item->in_future ? &carried : NULL};
    give(&carried, pp__item_descriptors(item), pp__item_buffers(item, &lent));
    pool->inl->words = &words;
    item->runs = true;
    int error = run(pool, item->function->function, pp__elements_data(&element), pp__elements_size(&element), words.id,
                    &task, &words, &run_time);
    item->runs = false;
    pool->inl->words = words.outer;
    if (error) {
        pp__item_fail(item, PP_ERROR_TRAVEL, error, pp_last_error());
        return;
    }
    if (!item->in_future) {
        pp__elements_next(&element);
        item->x.at = (const struct pp__element *)(const void *)element.place;
    }
    if (!pp__item_deliver(item, 1, outcome_of_call(item, &task, &carried, run_time)))
        go_on(pool, item);
    pp__task_destroy(&task);
}

bool pp__inline_step(pp_pool *pool)
{
    if (pool->inl->depth > 0 && !is_self(pool))
        return false;
    if (pp__callbacks_are_mine(pool)) {
        pp__callbacks_run(pool);
        return true;
    }
    bool some = pp__pending_first(pool) != NULL;
    if (some && !pool->inl->initialized)
        initialize(pool);
    if (pp__pending_first(pool))
        run_first(pool);
    pp__room_made(pool);
    pp__pool_settle(pool);
    return some;
}
