/* SPDX-License-Identifier: MIT */
#include "pool/callbacks.h"

#include "base/atomic.h"
#include "base/cancel.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/futex.h"
#include "base/seam.h"
#include "pool/exit_start.h"
#include "pool/future.h"
#include "pool/loop.h"
#include "process/owner.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/prctl.h>

#define FIRST_BUCKETS 16

/* A function to be called; in the order in which they were added. */
struct callback {
    struct pp__link link;
    pp_callback *function;
    void *context;
};

/* A future with callbacks. It is there until the last of them has returned. */
struct entry {
    struct entry *next;     /* in its bucket */
    struct pp__link in_due; /* once the future is done */
    pp_future *future;      /* a reference of its own */
    struct pp__link callbacks;
};

/* All under the pool's lock. */
struct pp__callbacks {
    struct entry **buckets;
    size_t bucket_count; /* a power of two */
    size_t count;        /* of entries */
    struct pp__link due; /* entries, in the order in which their futures were done */
    bool running;        /* somebody runs them: */
    pthread_t runner;
    pthread_t thread;
    bool has_thread;       /* which runs them until the pool has ended */
    bool started;          /* it was made */
    _Atomic uint32_t word; /* the thread's futex: grows when there is something for it */
};

/* ------------------------------------------------------------------------------------------- table */

static struct entry **bucket_of(const struct pp__callbacks *c, const pp_future *future)
{
    uint64_t mixed = (uint64_t)(uintptr_t)future * UINT64_C(0x9e3779b97f4a7c15);
    return &c->buckets[(mixed >> 32) & (c->bucket_count - 1)];
}

/* Where the pointer to the future's entry is, or would be. */
static struct entry **find(const struct pp__callbacks *c, const pp_future *future)
{
    struct entry **place = bucket_of(c, future);
    while (*place && (*place)->future != future)
        place = &(*place)->next;
    return place;
}

/* Want of memory only makes the buckets longer. */
static void grow(struct pp__callbacks *c)
{
    struct pp__callbacks grown = {.bucket_count = c->bucket_count * 2};
    grown.buckets = PP_SYS(calloc)(grown.bucket_count, sizeof *grown.buckets);
    if (!grown.buckets)
        return;
    for (size_t i = 0; i < c->bucket_count; i++) {
        while (c->buckets[i]) {
            struct entry *entry = c->buckets[i];
            c->buckets[i] = entry->next;
            struct entry **place = bucket_of(&grown, entry->future);
            entry->next = *place;
            *place = entry;
        }
    }
    free(c->buckets);
    c->buckets = grown.buckets;
    c->bucket_count = grown.bucket_count;
}

static struct entry *create_entry(struct pp__callbacks *c, pp_future *future)
{
    struct entry *entry = PP_SYS(calloc)(1, sizeof *entry);
    if (!entry)
        return NULL;
    if (c->count >= c->bucket_count)
        grow(c);
    pp__list_init(&entry->in_due);
    pp__list_init(&entry->callbacks);
    entry->future = pp_future_ref(future);
    *find(c, future) = entry;
    c->count++;
    future->item.has_callbacks = true;
    return entry;
}

/* The caller gives the future up. */
static void remove_entry(struct pp__callbacks *c, struct entry *entry)
{
    struct entry **place = find(c, entry->future);
    *place = entry->next;
    c->count--;
    pp__list_remove(&entry->in_due);
    entry->future->item.has_callbacks = false;
    free(entry);
}

/* Whether the manager collects for this one. */
static bool is_collected(const pp_future *future)
{
    return !pp__future_pool(future)->is_inline && !future->item.promised;
}

/* ------------------------------------------------------------------------------------------- running */

/* All of one future's, those that are added meanwhile included. */
static void run_entry(pp_pool *pool, struct pp__callbacks *c, struct entry *entry)
{
    pp_future *future = entry->future;
    while (!pp__list_empty(&entry->callbacks)) {
        struct callback *first = pp__container(entry->callbacks.next, struct callback, link), callback = *first;
        pp__list_remove(&first->link);
        free(first); /* so that a child that is forked meanwhile has lost nothing with this stack */
        pthread_mutex_unlock(&pool->lock);
        callback.function(future, callback.context);
        pthread_mutex_lock(&pool->lock);
    }
    remove_entry(c, entry);
    pthread_mutex_unlock(&pool->lock);
    pp_future_unref(future); /* the pool stays: who runs this has a reference to it */
    pthread_mutex_lock(&pool->lock);
}

bool pp__callbacks_are_mine(const pp_pool *pool)
{
    const struct pp__callbacks *c = pool->callbacks;
    return c && !c->running && !c->has_thread && !pp__list_empty(&c->due) && (!pool->loop || pp__loop_is_here(pool));
}

void pp__callbacks_run(pp_pool *pool)
{
    PP__NO_CANCELLATION(); /* for the callbacks, too: whoever runs them runs all */
    struct pp__callbacks *c = pool->callbacks;
    c->running = true;
    c->runner = pthread_self();
    while (!pp__list_empty(&c->due))
        run_entry(pool, c, pp__container(c->due.next, struct entry, in_due));
    c->running = false;
    if (pool->ended)
        pp__subject_wake(&pool->end, pool, pool); /* the end waits for them */
}

bool pp__callbacks_are_running_here(pp_pool *pool)
{
    const struct pp__callbacks *c = pool->callbacks;
    return c && c->running && pthread_equal(c->runner, pthread_self());
}

static void *run(void *argument)
{
    pp_pool *pool = argument;
    struct pp__callbacks *c = pool->callbacks;
    prctl(PR_SET_NAME, "pp-callbacks");
    pp__exit_watch();
    pp__pool_lock(pool);
    for (;;) {
        uint32_t seen = pp__load_acquire(&c->word); /* pairs with the add in pp__callbacks_wake */
        if (!c->running) /* a dispatch during which its pool was released runs all there is */
            pp__callbacks_run(pool);
        if (pool->ended)
            break;
        pp__pool_unlock(pool);
        pp__futex_wait(&c->word, seen, PP__NEVER, false);
        pp__pool_lock(pool);
    }
    c->has_thread = false;
    pp__pool_unlock(pool);
    pp__pool_unref(pool);
    return NULL;
}

void pp__callbacks_wake(pp_pool *pool)
{
    struct pp__callbacks *c = pool->callbacks;
    if (c && pool->loop)
        pp__loop_wake(pool);
    if (!c || !c->has_thread)
        return;
    atomic_fetch_add_explicit(&c->word, 1, memory_order_release); /* pairs with the load in run */
    pp__futex_wake(&c->word, 1, false);
}

void pp__callbacks_due(pp_pool *pool, pp_future *future)
{
    struct pp__callbacks *c = pool->callbacks;
    struct entry *entry = *find(c, future);
    bool is_known =
        c->running || !pp__list_empty(&c->due); /* the thread looks again before it sleeps, or has been woken */
    pp__list_insert(&c->due, &entry->in_due);
    pool->apart -= is_collected(future);
    if (!is_known)
        pp__callbacks_wake(pool);
}

/* ------------------------------------------------------------------------------------------- adding */

static int open_callbacks(pp_pool *pool)
{
    struct pp__callbacks *c = PP_SYS(calloc)(1, sizeof *c);
    if (c)
        c->buckets = PP_SYS(calloc)(FIRST_BUCKETS, sizeof *c->buckets);
    if (!c || !c->buckets) {
        free(c);
        return pp__fail(-ENOMEM, "no memory for callbacks");
    }
    c->bucket_count = FIRST_BUCKETS;
    pp__list_init(&c->due);
    pool->callbacks = c;
    return 0;
}

int pp__callbacks_need_thread(pp_pool *pool)
{
    struct pp__callbacks *c = pool->callbacks;
    if (pool->is_inline || pool->loop || c->has_thread || pool->ended)
        return 0;
    int error = pp__pool_start_thread(pool, &c->thread, run);
    if (error)
        return error;
    c->has_thread = c->started = true;
    if (pool->released)
        pthread_detach(c->thread);
    return 0;
}

static int add(pp_pool *pool, pp_future *future, pp_callback *function, void *context)
{
    int error = pool->callbacks ? 0 : open_callbacks(pool);
    struct pp__callbacks *c = pool->callbacks;
    if (!error)
        error = pp__callbacks_need_thread(pool);
    if (error)
        return error;
    bool is_new = !future->item.has_callbacks;
    struct callback *callback = PP_SYS(malloc)(sizeof *callback);
    struct entry *entry = callback && is_new ? create_entry(c, future) : *find(c, future);
    if (!callback || !entry) {
        free(callback);
        return pp__fail(-ENOMEM, "no memory for a callback");
    }
    *callback = (struct callback){.function = function, .context = context};
    pp__list_insert(&entry->callbacks, &callback->link);
    if (is_new && is_collected(future)) {
        pool->apart++;
        pp__wait_hear(pool);
    }
    return 0;
}

/* 1: the future is done and all its callbacks have returned, so this one is to be called here. */
static int add_unless_over(pp_future *future, pp_callback *function, void *context)
{
    if (!future || !function)
        return pp__fail(-EINVAL, "pp_future_add_callback: no %s", future ? "callback" : "future");
    if (!pp__pool_is_own(pp__future_pool(future)))
        return pp__owner_refuse();
    pp_pool *pool = pp__future_pool(future);
    pp__pool_lock(pool);
    bool over = pp__future_is_done(future) && !future->item.has_callbacks;
    int error = over ? 1 : add(pool, future, function, context);
    pp__pool_unlock(pool);
    return error;
}

int pp_future_add_callback(pp_future *future, pp_callback *callback, void *context)
{
    PP__NO_CANCELLATION();
    int error = add_unless_over(future, callback, context);
    if (error != 1)
        return error;
    pp_future_ref(future); /* the callback may give up its caller's */
    callback(future, context);
    pp_future_unref(future);
    return 0;
}

/* ------------------------------------------------------------------------------------------- the end */

bool pp__callbacks_are_over(const pp_pool *pool)
{
    const struct pp__callbacks *c = pool->callbacks;
    return !c || (!c->running && pp__list_empty(&c->due));
}

void pp__callbacks_join(pp_pool *pool)
{
    pp__pool_lock(pool); /* a first callback may be added even now, to what the program completes */
    const struct pp__callbacks *c = pool->callbacks;
    bool started = c && c->started;
    pp__pool_unlock(pool);
    if (started)
        pthread_join(c->thread, NULL);
}

void pp__callbacks_detach(pp_pool *pool)
{
    if (pool->callbacks && pool->callbacks->started)
        pthread_detach(pool->callbacks->thread);
}

void pp__callbacks_free(pp_pool *pool)
{
    if (!pool->callbacks)
        return;
    free(pool->callbacks->buckets);
    free(pool->callbacks);
}
