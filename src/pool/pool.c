/* SPDX-License-Identifier: MIT */
/* The pool from its making to its end. */
#include "pool/pool.h"

#include "base/atomic.h"
#include "base/cancel.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/seam.h"
#include "pool/callbacks.h"
#include "pool/collect.h"
#include "pool/dispatch.h"
#include "pool/end.h"
#include "pool/errand.h"
#include "pool/exit.h"
#include "pool/function.h"
#include "pool/future.h"
#include "pool/glance.h"
#include "pool/inline.h"
#include "pool/limits.h"
#include "pool/log.h"
#include "pool/loop.h"
#include "pool/output.h"
#include "pool/room.h"
#include "pool/setting.h"
#include "pool/take_back.h"
#include "pool/wish.h"
#include "pool/workers.h"
#include "process/launcher.h"
#include "process/owner.h"
#include "shm/segment.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>

#define DEFAULT_STACK (UINT64_C(8) << 20)
#define FIRST_WAKE_COST UINT64_C(20000) /* ns, until one was measured */
#define SMALLEST_STACK (UINT64_C(64) << 10)

const char *pp_version(void)
{
    return "0.1.0";
}

/* -------------------------------------------------------------------------------------------- the lock */

void pp__pool_lock(pp_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
}

/* Apart, for the sake of those that have none. */
__attribute__((noinline)) static void unlock_and_call(pp_pool *pool)
{
    PP__NO_CANCELLATION(); /* for the log function */
    if ((pool->loop ? pp__loop_is_here(pool) : pool->is_inline) && !pp__list_empty(&pool->log))
        pp__log_hand_out(pool);
    bool mine = pp__callbacks_are_mine(pool);
    if (mine) {
        pp__pool_ref(pool); /* a callback may give up all that kept it */
        pp__callbacks_run(pool);
    }
    pthread_mutex_unlock(&pool->lock);
    if (mine)
        pp__pool_unref(pool);
}

void pp__pool_unlock(pp_pool *pool)
{
    if (pool->loop || pool->is_inline || pool->callbacks)
        unlock_and_call(pool);
    else
        pthread_mutex_unlock(&pool->lock);
}

/* ---------------------------------------------------------------------------------------- references */

static void fail_pending(pp_pool *pool, pp_error_kind kind, int error, const char *text)
{
    struct pp__item *item;
    while ((item = pp__pending_first(pool))) {
        pp__pending_remove(pool, item);
        pp__item_fail(item, kind, error, text);
    }
}

/* Nobody refers to it: only an inline pool can still have calls, without futures, which nobody will ever run. */
static void destroy(pp_pool *pool)
{
    pp__exit_leave(pool);
    if (pool->pending.next)
        fail_pending(pool, PP_ERROR_CANCELLED, 0, "its pool is gone");
    pp__pool_close_epoll(pool);
    if (pool->launcher)
        pp_launcher_unref(pool->launcher);
    pp__functions_destroy(pool->functions);
    free(pool->setting);
    pp__inline_destroy(pool);
    pp__log_free(pool);
    pp__errands_free(pool);
    pp__callbacks_free(pool);
    pp__wishes_destroy(pool);
    free((void *)pool->options.initializer_arg);
    free((void *)pool->options.finalizer_arg);
    free(pool->workers);
    pp__slab_destroy(&pool->calls);
    pp__glance_free(pool);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

void pp__pool_ref(pp_pool *pool)
{
    atomic_fetch_add_explicit(&pool->refs, 1, memory_order_relaxed);
}

bool pp__pool_try_ref(pp_pool *pool)
{
    return pp__try_ref(&pool->refs);
}

/* Release: what this thread did with the pool comes before the free; acquire: the one that frees sees all of it. So it
 * pairs with itself in another thread. */
static void drop(pp_pool *pool, uint32_t references)
{
    if (atomic_fetch_sub_explicit(&pool->refs, references, memory_order_acq_rel) == references)
        destroy(pool);
}

void pp__pool_unref(pp_pool *pool)
{
    drop(pool, 1);
}

/* What keeps the pool though its handle goes: calls that lie there for others which will not come. Under the lock. */
static struct pp__slab_rest close_calls(pp_pool *pool)
{
    return pool->is_inline ? (struct pp__slab_rest){{NULL}} : pp__slab_close(&pool->calls);
}

/* The handle's reference, and theirs. */
static void drop_handle(pp_pool *pool, struct pp__slab_rest calls)
{
    drop(pool, 1 + (uint32_t)pp__slab_count(calls));
}

/* ---------------------------------------------------------------------------------------------- create */

static int check_switches(const pp_pool_options *o)
{
    int error = pp__check_switch("pin", o->pin);
    if (!error)
        error = pp__check_switch("event_loop", o->event_loop);
    if (!error)
        error = pp__check_switch("backtraces", o->backtraces);
    return error ? error : pp__check_switch("close_fds", o->close_fds);
}

static int check(const pp_pool_options *o)
{
    if (o->max_workers < 0 || o->max_workers > PP__MAX_WORKERS)
        return pp__fail(-EINVAL, "max_workers is %d; it must be 0 (the default) to %d", o->max_workers,
                        PP__MAX_WORKERS);
    if (o->min_workers < 0)
        return pp__fail(-EINVAL, "min_workers is %d", o->min_workers);
    if (o->on_crash != PP_ISOLATE && o->on_crash != PP_BREAK_POOL)
        return pp__fail(-EINVAL, "on_crash is %d, which is no rule", (int)o->on_crash);
    if (o->wait != PP_WAIT_ADAPTIVE && o->wait != PP_WAIT_SLEEP)
        return pp__fail(-EINVAL, "wait is %d, which is no policy", (int)o->wait);
    if ((unsigned)o->standby > PP_STANDBY_NEVER)
        return pp__fail(-EINVAL, "standby is %d, which is no rule", (int)o->standby);
    if (o->when_full != PP_FULL_WAIT && o->when_full != PP_FULL_REFUSE)
        return pp__fail(-EINVAL, "when_full is %d, which is no rule", (int)o->when_full);
    if (o->max_pending == 0 && (o->when_full || o->submit_timeout))
        return pp__fail(-EINVAL, "when_full and submit_timeout are for a pool with max_pending");
    if (o->when_full == PP_FULL_REFUSE && o->submit_timeout)
        return pp__fail(-EINVAL, "a submit that is refused at once has no submit_timeout");
    if (o->exit_policy != PP_EXIT_WAIT && o->exit_policy != PP_EXIT_KILL)
        return pp__fail(-EINVAL, "exit_policy is %d, which is no policy", (int)o->exit_policy);
    if (o->exit_policy == PP_EXIT_KILL && o->exit_timeout)
        return pp__fail(-EINVAL, "a pool that is killed at the exit has no exit_timeout");
    if (o->launcher && (o->start_method || o->inherit_fds || o->inherit_fd_count || o->close_fds))
        return pp__fail(-EINVAL,
                        "start_method, inherit_fds and close_fds are the launcher's and must be given to that");
    if (o->stack_size && (o->stack_size < SMALLEST_STACK || o->stack_size > PP__STACK_MAX))
        return pp__fail(-EINVAL, "stack_size is %zu; it must be 0 (the default) or %llu to %llu", o->stack_size,
                        (unsigned long long)SMALLEST_STACK, (unsigned long long)PP__STACK_MAX);
    if ((!o->initializer_arg && o->initializer_arg_size) || (!o->finalizer_arg && o->finalizer_arg_size))
        return pp__fail(-EINVAL, "an argument is NULL and its size is not 0");
    if (o->initializer_arg_size > PTRDIFF_MAX / 2 || o->finalizer_arg_size > PTRDIFF_MAX / 2)
        return pp__fail(-EINVAL, "an argument is larger than any memory");
    int error = check_switches(o);
    if (!error)
        error = pp__output_check(o);
    return error ? error : pp__check_reserved(o->reserved, sizeof o->reserved / sizeof *o->reserved);
}

static int copy_argument(const void **argument, size_t size)
{
    if (!*argument)
        return 0;
    void *copy = PP_SYS(malloc)(size + 1);
    if (!copy)
        return pp__fail(-ENOMEM, "no memory for an argument of %zu bytes", size);
    memcpy(copy, *argument, size);
    *argument = copy;
    return 0;
}

/* Own copies; what was not copied is not left pointing to the caller's. */
static int copy_options(pp_pool *pool, const pp_pool_options *given)
{
    pool->options = *given;
    pool->options.finalizer_arg = NULL;
    int error = copy_argument(&pool->options.initializer_arg, given->initializer_arg_size);
    if (error) {
        pool->options.initializer_arg = NULL;
        return error;
    }
    pool->options.finalizer_arg = given->finalizer_arg;
    error = copy_argument(&pool->options.finalizer_arg, given->finalizer_arg_size);
    if (error)
        pool->options.finalizer_arg = NULL;
    pool->options.stack_size = given->stack_size ? given->stack_size : DEFAULT_STACK;
    while (pool->options.seed == 0)
        if (PP_SYS(getrandom)(&pool->options.seed, sizeof pool->options.seed, 0) < 0)
            pool->options.seed = pp__now();
    pool->standby_kept = given->standby == PP_STANDBY_ALWAYS;
    pool->processors = given->wait == PP_WAIT_SLEEP ? 1 : pp__processors_for_spinning();
    pool->max_workers = given->max_workers ? given->max_workers : pp_usable_processors();
    if (pool->max_workers > PP__MAX_WORKERS)
        pool->max_workers = PP__MAX_WORKERS;
    return error;
}

static int get_launcher(pp_pool *pool, const pp_pool_options *given)
{
    const pp_launcher_options options = {.start_method = given->start_method,
                                         .inherit_fds = given->inherit_fds,
                                         .inherit_fd_count = given->inherit_fd_count,
                                         .close_fds = given->close_fds,
                                         .no_spare = 1}; /* it has a standby, which is further */
    if (!given->launcher)
        return pp_launcher_create(&options, &pool->launcher);
    pool->launcher = pp_launcher_ref(given->launcher);
    return 0;
}

static int watch(pp_pool *pool, int fd, uint64_t tag)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = tag};
    if (PP_SYS(epoll_ctl)(pool->epoll, EPOLL_CTL_ADD, fd, &event) != 0)
        return pp__fail_errno(errno, "epoll_ctl");
    return 0;
}

static int open_collecting(pp_pool *pool)
{
    void *page;
    pool->page_fd = pp__segment_create("procpool-page", PP__PAGE_SIZE, true, &page);
    if (pool->page_fd < 0)
        return pool->page_fd;
    pool->page = page;
    pp__store_relaxed(&pool->page->processor, UINT32_MAX);
    pp__store_relaxed(&pool->page->near, UINT32_MAX);
    pool->epoll = pp__fd_adopt(PP_SYS(epoll_create1)(EPOLL_CLOEXEC), "an epoll set");
    if (pool->epoll < 0)
        return pool->epoll;
    pool->kick = pp__fd_event();
    if (pool->kick < 0)
        return pool->kick;
    pool->connection = pp__launcher_connect(pool->launcher);
    if (pool->connection < 0)
        return pool->connection;
    int error = watch(pool, pool->kick, PP__TAG_KICK);
    return error ? error : watch(pool, pool->connection, PP__TAG_ZYGOTE);
}

/* With all signals blocked: the host's handlers run in the host's threads. The thread has a reference, which it gives
 * back. */
int pp__pool_start_thread(pp_pool *pool, pthread_t *thread, void *(*run)(void *))
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pp__pool_ref(pool);
    int error = PP_SYS(pthread_create)(thread, NULL, run, pool);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error)
        atomic_fetch_sub_explicit(&pool->refs, 1, memory_order_relaxed); /* not the last */
    return error ? pp__fail(-error, "a thread of the pool's can't be made: %s", pp__why_no_process(error)) : 0;
}

static int start_threads(pp_pool *pool)
{
    int error = pp__log_start(pool);
    if (!error)
        error = pp__pool_start_thread(pool, &pool->manager, pp__manager_run);
    pool->has_manager = error == 0;
    return error;
}

static int open_duties(pp_pool *pool)
{
    const struct pp__function *entry;
    int error = 0;
    if (pool->options.initializer)
        error = pp__functions_resolve(pool, pool->options.initializer, &entry);
    if (!error && pool->options.finalizer)
        error = pp__functions_resolve(pool, pool->options.finalizer, &entry);
    return error;
}

static int open_pool(pp_pool *pool, const pp_pool_options *given)
{
    int error = copy_options(pool, given);
    if (error)
        return error;
    error = pp__setting_create(given, &pool->setting);
    if (error)
        return error;
    if (pool->options.min_workers > pool->max_workers)
        return pp__fail(-EINVAL, "min_workers is %d, and max_workers %d", pool->options.min_workers, pool->max_workers);
    pool->places = pool->max_workers;
    pool->workers = PP_SYS(calloc)((size_t)pool->places, sizeof *pool->workers);
    pool->functions = pp__functions_create();
    if (!pool->workers || !pool->functions)
        return pp__fail(-ENOMEM, "no memory for a pool of %d workers", pool->max_workers);
    error = get_launcher(pool, given);
    if (error)
        return error;
    pool->is_inline = pp__launcher_method(pool->launcher) == PP_START_INLINE;
    const pp_starter *starter = pp__launcher_starter(pool->launcher);
    if (starter)
        pool->starter = *starter;
    if (pool->is_inline)
        pool->options.capture = 0; /* what calls write is the owner's own output */
    error = open_duties(pool);
    if (!error && !pool->is_inline)
        error = pp__limits_check(&pool->options, pool->launcher, pool->max_workers,
                                 given->event_loop ? 0 : 1 + pp__log_is_needed(pool));
    if (error)
        return error;
    error = pool->is_inline ? pp__inline_create(pool) : open_collecting(pool);
    if (!error && given->event_loop)
        error = pp__loop_create(pool);
    if (error || pool->is_inline || pool->loop)
        return error;
    pp__pool_lock(pool); /* a thread that has begun looks at what is noted behind its start */
    error = start_threads(pool);
    pp__pool_unlock(pool);
    return error;
}

/* The exit may have begun meanwhile. */
static void enter_live(pp_pool *pool)
{
    if (pp__exit_enter(pool))
        return;
    pp__pool_lock(pool);
    pp__pool_begin_shutdown(pool, false);
    pp__pool_unlock(pool);
}

int pp_pool_create(const pp_pool_options *options, pp_pool **result)
{
    static const pp_pool_options defaults;
    const pp_pool_options *given = options ? options : &defaults;
    PP__NO_CANCELLATION();
    if (!result)
        return pp__fail(-EINVAL, "pp_pool_create: no place for the pool");
    int error = pp__owner_enter();
    if (!error)
        error = check(given);
    if (!error)
        error = pp__exit_prepare();
    if (error)
        return error;
    pp_pool *pool = PP_SYS(calloc)(1, sizeof *pool);
    if (!pool)
        return pp__fail(-ENOMEM, "no memory for a pool");
    pthread_mutex_init(&pool->lock, NULL);
    pp__store_relaxed(&pool->refs, 1);
    pool->owner = pp__owner_token();
    pool->connection = pool->epoll = pool->kick = pool->page_fd = -1;
    pp__list_init(&pool->pending);
    pp__list_init(&pool->idle[0]);
    pp__list_init(&pool->idle[1]);
    pp__list_init(&pool->active);
    pp__list_init(&pool->others);
    pp__list_init(&pool->dead);
    pool->promise.pool = pool;
    pp__slab_init(&pool->calls, sizeof(struct pp_future));
    pool->wake_cost = FIRST_WAKE_COST;
    pool->spin_limit = PP__SPIN_MAX;
    pp__list_init(&pool->log);
    pp__list_init(&pool->errands);
    pp__list_init(&pool->collector.waiters);
    pp__list_init(&pool->unwoken);
    pp__list_init(&pool->groups);
    pp__list_init(&pool->blocked);
    pp__subject_init(&pool->room);
    pp__subject_init(&pool->futures);
    pp__subject_init(&pool->end);
    error = open_pool(pool, given);
    if (error) {
        pp__launcher_disconnect(pool->connection);
        pp__pool_lock(pool);
        pool->ended = true;
        pp__log_wake(pool);
        pp__pool_unlock(pool);
        pp__log_join(pool);
        pp__pool_unref(pool);
        return error;
    }
    enter_live(pool);
    *result = pool;
    return 0;
}

/* ---------------------------------------------------------------------------------------------- broken */

static void break_worker(struct pp__worker *worker)
{
    pp_pool *pool = worker->pool;
    while (worker->count > 0) {
        struct pp__item *item = pp__container(worker->items.next, struct pp__item, link);
        if (!pp__worker_unbegun(worker, item))
            pp__output_salvage(worker, item);
        pp__worker_detach(worker, item);
        pp__item_fail(item, PP_ERROR_BROKEN, pool->broken_error, pool->broken_text);
    }
    pp__worker_kill(worker);
}

void pp__pool_break(pp_pool *pool, int error, const char *format, ...)
{
    if (pool->broken)
        return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(pool->broken_text, sizeof pool->broken_text, format, arguments);
    va_end(arguments);
    pool->broken = true;
    pool->broken_error = error;
    pp__pool_log(pool, "the pool is broken: %s", pool->broken_text);
    pp__workers_each(pool, break_worker);
    fail_pending(pool, PP_ERROR_BROKEN, error, pool->broken_text);
    pp__room_wake_all(pool);
}

/* Results that came before are results. The workers die by themselves (PDEATHSIG). */
void pp__pool_lost_zygote(pp_pool *pool)
{
    char epitaph[128];
    pp__launcher_disconnect(pool->connection);
    pool->connection = -1;
    pp__workers_each(pool, pp__collect_worker);
    pp__launcher_epitaph(pool->launcher, epitaph, sizeof epitaph);
    pp__pool_break(pool, EPIPE, "%s",
                   *epitaph ? epitaph
                            : "the process that starts workers has closed its connection: it ends, or has no memory, "
                              "descriptors or watches (fs.epoll.max_user_watches) for one more");
    pp__workers_each(pool, pp__worker_free);
    pp__pool_settle(pool);
}

/* --------------------------------------------------------------------------------------------- the end */

void pp__pool_close_epoll(pp_pool *pool)
{
    if (!pool->ended || pool->in_epoll > 0)
        return;
    pp__fd_close(pool->epoll);
    pp__fd_close(pool->kick);
    pp__fd_close(pool->page_fd);
    pool->epoll = pool->kick = pool->page_fd = -1;
    if (pp__wait_manager_dozes(pool))
        return; /* its futex lies in the page: it comes here itself */
    pp__segment_unmap(pool->page, PP__PAGE_SIZE);
    pool->page = NULL;
}

static void end(pp_pool *pool)
{
    pool->ended = true;
    pp__workers_dispose(pool);
    if (pool->connection >= 0)
        pp__launcher_disconnect(pool->connection);
    pool->connection = -1;
    pp_launcher_unref(pool->launcher); /* futures keep the struct, not the process that started workers */
    pool->launcher = NULL;
    if (pool->in_epoll > 0)
        pp__fd_ring(pool->kick);
    pp__subject_wake(&pool->end, pool, pool);
    pp__wait_attend(pool);
    pp__log_wake(pool);
    pp__callbacks_wake(pool);
}

/* It was invited, and may never come. */
static bool has_not_come(const struct pp__worker *worker)
{
    return worker->state == PP__WORKER_STARTING && worker->pid == 0 && worker->pool->starter.start;
}

static void send_home(struct pp__worker *worker)
{
    if (worker->state == PP__WORKER_READY || worker->state == PP__WORKER_NEXT)
        pp__worker_dismiss(worker);
    else if (worker->state == PP__WORKER_STANDBY || has_not_come(worker))
        pp__worker_kill(worker); /* it has nothing to finish */
}

void pp__pool_settle(pp_pool *pool)
{
    if (!pool->shut || pool->outstanding > 0 || pool->ended)
        return;
    pp__workers_each(pool, send_home);
    if (pool->is_inline && !pp__inline_finish(pool))
        return;
    if (pool->alive == 0 && pool->others_count == 0 && !pool->ended)
        end(pool);
}

static void stop_work(struct pp__worker *worker)
{
    pp__worker_take_back_all(worker);
    pp__worker_stop_chunks(worker);
}

void pp__pool_begin_shutdown(pp_pool *pool, bool cancel)
{
    pool->shut = true;
    pool->options.min_workers = 0;
    pp__room_wake_all(pool);
    if (cancel) {
        pool->cancelling = true;
        pp__workers_each(pool, stop_work);
    }
    pp__dispatch(pool);
    pp__pool_settle(pool);
    if (!pool->ended)
        pp__wait_attend(pool);
}

static bool has_ended(const void *pool)
{
    const pp_pool *p = pool;
    return p->ended && !p->errand_apart && pp__callbacks_are_over(p) && pp__list_empty(&p->blocked);
}

static bool has_ended_but_for_callbacks(const void *pool)
{
    return ((const pp_pool *)pool)->ended;
}

int pp__pool_await_end(pp_pool *pool, uint64_t deadline)
{
    bool inside = pp__callbacks_are_running_here(pool);
    return pp__wait(pool, &pool->end, inside ? has_ended_but_for_callbacks : has_ended, pool, deadline, true);
}

int pp_pool_shutdown(pp_pool *pool, unsigned flags, int timeout)
{
    PP__NO_CANCELLATION();
    if (!pool || (flags & ~PP_CANCEL_PENDING))
        return pp__fail(-EINVAL, "pp_pool_shutdown: %s", pool ? "unknown flag" : "no pool");
    if (!pp__pool_is_own(pool))
        return pp__owner_refuse();
    uint64_t deadline = pp__deadline(timeout);
    pp__pool_lock(pool);
    if (timeout != 0 && pp__callbacks_are_running_here(pool)) {
        pp__pool_unlock(pool);
        return pp__fail(-EDEADLK, "a callback waits for the end of its pool, which waits for it");
    }
    pp__pool_begin_shutdown(pool, flags & PP_CANCEL_PENDING);
    int error = pp__wait(pool, &pool->end, has_ended, pool, deadline, false);
    size_t outstanding = pool->outstanding;
    int alive = pool->alive + pool->others_count;
    pp__pool_unlock(pool);
    if (error == -ETIMEDOUT)
        return pp__fail(error, "after %d ms %zu calls and %d workers have not ended; they go on", timeout, outstanding,
                        alive);
    return error == -EINTR ? pp__fail(error, "the shutdown goes on, waiting for it was interrupted by a signal")
                           : error;
}

/* An inline pool runs what somebody waits for; nobody will wait for these. */
static void cancel_forsaken(struct pp__link *list)
{
    struct pp__link *link = list->next;
    while (link != list) {
        struct pp__item *item = pp__container(link, struct pp__item, link);
        link = link->next;
        if (pp__future_is_forsaken(item))
            pp__future_cancel_forsaken(item);
    }
}

static void cancel_all_forsaken(pp_pool *pool)
{
    cancel_forsaken(&pool->pending);
    pp__wishes_each(pool, cancel_forsaken);
}

int pp__pool_leave_loop(pp_pool *pool)
{
    struct pp__collector *c = &pool->collector;
    pp__loop_destroy(pool);
    if (c->manager)
        c->manager = c->asleep = false;
    int error = pool->is_inline || pool->ended ? 0 : start_threads(pool);
    return error || !pool->callbacks ? error : pp__callbacks_need_thread(pool);
}

/* Under the lock, which is released. */
static void release(pp_pool *pool)
{
    if (pool->loop && pool->ended)
        pp__log_hand_out(pool); /* nobody will dispatch it, and there will be no thread */
    if (pool->loop && pp__pool_leave_loop(pool) != 0) {
        pool->forsaken = pp__callbacks_are_running_here(pool); /* then nothing waits for the end in here */
        bool forsaken = pool->forsaken;
        if (forsaken)
            pp__pool_begin_shutdown(pool, false);
        pp__pool_unlock(pool);
        if (!forsaken)
            pp_pool_destroy(pool);
        return;
    }
    pool->released = true;
    if (pool->has_manager)
        pthread_detach(pool->manager);
    pp__log_detach(pool);
    pp__callbacks_detach(pool);
    if (pool->is_inline)
        cancel_all_forsaken(pool);
    pp__pool_begin_shutdown(pool, false);
    struct pp__slab_rest calls = close_calls(pool);
    pp__pool_unlock(pool);
    drop_handle(pool, calls);
}

void pp_pool_destroy(pp_pool *pool)
{
    PP__NO_CANCELLATION();
    if (!pool || !pp__pool_is_own(pool))
        return;
    pp__pool_lock(pool);
    if (pp__callbacks_are_running_here(pool)) {
        release(pool);
        pp__fail(-EDEADLK, "a callback does not wait for the end of its pool, which waits for it");
        return;
    }
    pp__pool_begin_shutdown(pool, false);
    pp__wait(pool, &pool->end, has_ended, pool, PP__NEVER, true);
    if (pool->loop)
        pp__log_hand_out(pool);
    pp__loop_destroy(pool);
    pp__pool_close_epoll(pool); /* for want of a thread that would */
    struct pp__slab_rest calls = close_calls(pool);
    pp__pool_unlock(pool);
    if (pool->has_manager)
        pthread_join(pool->manager, NULL);
    pp__log_join(pool);
    pp__callbacks_join(pool);
    drop_handle(pool, calls);
}

void pp_pool_release(pp_pool *pool)
{
    PP__NO_CANCELLATION();
    if (!pool || !pp__pool_is_own(pool))
        return;
    pp__pool_lock(pool);
    release(pool);
}

void pp_cleanup_pool(pp_pool **pool)
{
    pp_pool_destroy(*pool);
}
