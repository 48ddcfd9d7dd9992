/* SPDX-License-Identifier: MIT */
/*
 * The pool. One lock guards everything in it; it is held for short, never while user code runs, while the loader is
 * asked or while somebody sleeps.
 *
 * Lifetime: `refs` counts the handle, the pool's threads, each map and each future, or rather the memory of each: it
 * keeps the pool for the next one, until the handle is gone. Processes, descriptors and segments
 * are gone when the pool has ended (`ended`); the struct itself goes with the last reference.
 */
#ifndef PP_POOL_POOL_H
#define PP_POOL_POOL_H

#include "base/list.h"
#include "pool/item.h"
#include "pool/slab.h"
#include "pool/wait.h"
#include "process/owner.h"
#include "procpool.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#define PP__MAX_WORKERS 1024
#define PP__CHUNKS_IN_FLIGHT 4 /* of a map, for each worker */
#define PP__CHUNKS_IN_PLACE 32 /* the same, of a map whose elements lie in a buffer */

struct pp__functions;
struct pp__loop;

/* A line, or how a finalizer ended. */
struct pp__log_line {
    struct pp__link link;
    struct pp__finalized *end; /* NULL: it is a line */
    char text[];
};

struct pp_pool {
    /* What each call comes by lies together, as in a worker's (workers.h). */
    pthread_mutex_t lock;
    _Atomic uint32_t refs;
    uint32_t owner;                    /* pp__owner_token() of the process that made it */
    const struct pp__function *called; /* the one that was submitted last, or NULL */
    bool shut;                         /* no more submits */
    bool cancelling;                   /* what has not begun does not run any more */
    bool broken;
    bool ended;       /* no work, no worker, nothing left of the system's */
    bool recycle_due; /* some are to be succeeded, or to leave (recycle.h) */
    bool queued;      /* some call was queued behind another since whoever collects last went to sleep */
    bool is_inline;
    bool gathers;         /* more results may gather: those that were last taken in were small, and of trivial calls */
    size_t pending_count; /* items, of all priorities */
    size_t outstanding;   /* items not ended: pending or at a worker */
    uint64_t delivered;   /* elements ended so far */
    uint64_t next_id;
    struct pp__slab calls;     /* struct pp_future */
    struct pp__link idle[2];   /* ready for calls and without any: [0] those that may spin; each the last used first */
    struct pp__link active;    /* all others: with calls, starting, stuck, leaving or killed */
    struct pp__link blocked;   /* threads that wait for room for their calls (room.h), first come first */
    struct pp__link unwoken;   /* those that were sent something and not woken yet: until the end of the dispatch */
    struct pp__wishes *wishes; /* priorities and deadlines (wish.h); NULL before the first */
    struct pp__callbacks *callbacks; /* NULL before the first */
    struct pp__loop *loop;           /* of the host, in the manager's place; or NULL */
    struct pp__pool_page *page;
    int alive;                   /* workers: places in use */
    int busy;                    /* with calls */
    int deep;                    /* with more than one */
    int unreported;              /* of which the zygote has not said that they started, wherever they are */
    unsigned unlooked;           /* calls submitted since results were last taken */
    unsigned deal;               /* calls that are to go, unasked, */
    struct pp__worker *dealt_to; /* to that one; NULL: to none */
    int processors;              /* that spinners and running calls together may take; 1: nobody spins */
    _Atomic uint32_t submitter;  /* who submitted last (contention.h) */
    uint64_t mean_run;           /* ns, of late; 0: unknown */
    uint64_t wake_cost;          /* ns from a wake to the begin of the call, of late */
    struct pp__collector collector;
    struct pp__subject futures;
    struct pp__link pending; /* items no worker has, by id: those without a priority */

    pp_pool_options options; /* with its own copies of the arguments */
    int max_workers;
    struct pp__inline *inl; /* of an inline pool */
    pp_launcher *launcher;

    /* work */
    int apart; /* threads that wait for futures of this pool and others, and futures with callbacks: the manager
                  collects for them */
    struct pp__link groups; /* of futures that somebody waits for */
    size_t promised; /* inline: program futures that are not done; others may complete them, so waiting for one is no
                        deadlock */
    struct pp__subject room;
    struct pp__functions *functions;
    struct pp__function promise; /* in place of one, for futures that the program completes */
    struct pp__setting *setting; /* that workers are to run in, or NULL (setting.h) */

    /* the only call that there is (glance.h) */
    _Atomic(const _Atomic uint32_t *) glance; /* where its result will be marked; NULL: there is none, or more */
    _Atomic uint64_t glance_id;

    /* workers */
    struct pp__worker **workers; /* by their numbers, in `places` places; NULL: no worker is seated there */
    struct pp__link dead;        /* that have ended and are to be freed, by who has nothing more urgent to do */
    struct pp__site *sites;      /* addresses that are no worker's now (glance.h) */
    int starting;                /* of those alive: not ready for calls yet */
    int deaths;                  /* ends outside a call in a row */
    struct pp__link others;      /* workers without a place */
    int places;                  /* max_workers or, after that was lowered, more */
    int others_count;            /* of them */
    int coming;                  /* of them: successors that are not ready yet */
    int leaving;                 /* of all: told to leave */
    uint64_t measure_at;         /* when to look at their memory again */
    uint64_t start_cost;         /* ns from asking for a worker until it is ready, of late */
    uint64_t tidy_at;            /* when to look for buffers that are not used any more; 0: there are none */
    uint64_t next_serial;
    int connection;         /* to the zygote; -1 once the pool has ended or broken */
    uint64_t start_after;   /* no start before that moment: growing pauses after failures */
    uint64_t start_pause;   /* the last pause, ns */
    uint64_t failing_since; /* 0, or when starts began to fail while no worker was alive */

    /* the standby (standby.h) */
    struct pp__worker *standby; /* one of the others, or NULL */
    bool standby_kept;          /* there is to be one as soon as it can be had */
    bool standby_wanted;        /* the manager is to make one, */
    uint64_t standby_at;        /* not before that moment; of the last one, where none is */

    /* collecting */
    int epoll;
    int kick; /* eventfd: whoever sleeps in epoll is to look again */
    int page_fd;
    int in_epoll; /* threads: the descriptors are closed by the last of them */
    uint64_t want_epoch;
    uint64_t zygote_asked_at;
    uint64_t behind_until; /* calls were queued behind others a while ago: who sleeps comes back soon until then */
    uint64_t nap_ends;     /* where the manager naps: then, at the latest */
    uint64_t woke_at;      /* when a sleeping worker had last been woken; where nobody spins */
    uint64_t spin_limit;   /* ns, of a waiting thread's spin: halved when the processor was wanted */
    pthread_t manager;
    uint64_t lost_wakes; /* sleeps that ended by their bounds alone (lost.h): 0, or the library has a defect */

    /* the end */
    bool has_manager;
    bool released;       /* nobody will join its threads */
    bool forsaken;       /* by a callback, and no thread can be made: who dispatches destroys it behind that */
    unsigned exit_round; /* of exit(3), under the lock of the list of live pools (live.c) */
    int broken_error;    /* the errno behind it, or 0 */
    char broken_text[512];
    struct pp__subject end;  /* who waits for `ended` */
    struct pp__link in_live; /* the list of live pools (live.c), under its lock */

    /* the log */
    struct pp__link log;
    struct pp__link errands; /* calls of the starter (errand.h), which come first */
    pp_starter starter;      /* the launcher's; zeros: none */
    pthread_t logger;
    bool has_logger;
    bool logging;              /* a thread is calling the log function, or the starter's */
    bool errand_apart;         /* the latter is one that waits, which the end of the pool waits for */
    _Atomic uint32_t log_word; /* the logger's futex: grows when there is something for it */
};

static_assert(offsetof(struct pp_pool, options) <= (size_t)8 * PP__LINE, "what each call comes by takes few lines");

/* Unlocking hands an inline pool's log lines out, and runs callbacks where no thread does (callbacks.h), the lock
 * released meanwhile: the pool is gone after it unless the caller has a reference that no callback gives up. */
void pp__pool_lock(pp_pool *pool);
void pp__pool_unlock(pp_pool *pool);

/* Nobody dispatches any more: a pool of an event loop gets threads. 0 or why they can't be made. Under the lock. */
int pp__pool_leave_loop(pp_pool *pool);

/* pp_usable_processors, but a quota that changes is not noticed. */
int pp__processors_for_spinning(void);

/* Queues a line for the log (log.h); under the lock. */
void pp__pool_log(pp_pool *pool, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Whether this process made it: a plain load or two. Inherited handles are refused and not touched. */
static inline bool pp__pool_is_own(const pp_pool *pool)
{
    return pool->owner == pp__owner_token();
}

/* Starts a thread of the pool's. 0 or a negative errno. */
int pp__pool_start_thread(pp_pool *pool, pthread_t *thread, void *(*run)(void *pool));

void pp__pool_ref(pp_pool *pool);
void pp__pool_unref(pp_pool *pool); /* not under the lock, where it may be the last */

/* A reference to one that may be going: false, if it has none left. Under the lock of the list of live pools, which
 * keeps the memory there. */
bool pp__pool_try_ref(pp_pool *pool);

/* Breaks the pool: outstanding calls fail with kind BROKEN and the text, workers are killed. Under the lock. */
void pp__pool_break(pp_pool *pool, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* The zygote is gone, and with it all workers. Under the lock. */
void pp__pool_lost_zygote(pp_pool *pool);

/* Closes what collecting needs, once the pool has ended and nobody sleeps there. Under the lock. */
void pp__pool_close_epoll(pp_pool *pool);

/* What an event in the epoll set is about: one of these, or a worker's serial, which is larger: its bell; or that with
 * the highest bit: its socket's other end is closed. */
enum { PP__TAG_KICK = 1, PP__TAG_ZYGOTE, PP__TAG_LAST };
#define PP__TAG_HANG_UP (UINT64_C(1) << 63)

/* No more submits; with `cancel`, what has not begun never does. Under the lock. */
void pp__pool_begin_shutdown(pp_pool *pool, bool cancel);

/* Waits, not stopped by signals, until it has ended and the callbacks that are due have returned; in one of them, until
 * it has ended. 0, -ETIMEDOUT or -EDEADLK. Under the lock. */
int pp__pool_await_end(pp_pool *pool, uint64_t deadline);

/* When nothing is outstanding any more in a shut pool: sends workers home and, when the last is gone, ends it. Under
 * the lock. */
void pp__pool_settle(pp_pool *pool);

/* -EPERM, -ENOTRECOVERABLE or -ESHUTDOWN with a text, or 0: whether `pool` takes calls. Under the lock. */
int pp__pool_accepts(pp_pool *pool);

/* Puts an item with its ids into the queue and dispatches. Under the lock; it may be ended by the return of this. */
void pp__pool_submit_item(pp_pool *pool, struct pp__item *item);

#endif
