/* SPDX-License-Identifier: MIT */
/*
 * Waiting, and who collects. The rules, all under the pool's lock:
 *
 *   - One of nobody, a waiting thread and the manager collects. Who it is changes only under the lock, which is
 * released while the collector sleeps in epoll.
 *   - A thread that must wait becomes collector if there is none, or only the manager, beside which it spins first;
 * else it sleeps on a word of its own, behind a spin beside a collector that sleeps. Who waits for the only call that
 * there is has looked for its result before all that (glance.h).
 *   - A collector that leaves, for whatever reason, passes the duty to the first waiter; with none, to the manager if
 * there is work for somebody who is awake, else it leaves it to the manager's next nap's end (NAP), so that threads
 * that come and go wake nobody. While calls are pending a worker that runs dry ends the nap.
 * It goes on for NAPS_MOST at most without a look at deaths and timeouts.
 *   - A waiter that leaves after it was given the duty passes it on likewise.
 *   - Where threads and busy workers outnumber the processors, and calls are over in a moment one after the other
 * (brisk), the wake of another thread would cost as much as twenty calls. There the threads take turns: one goes on
 * from call to call, and each of the others naps. It is neither woken for its result nor given the duty, but comes back
 * by itself, after TURN for each that naps and a millisecond at most; twice in a wait, then it sleeps.
 */
#ifndef PP_POOL_WAIT_H
#define PP_POOL_WAIT_H

#include "base/list.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Something that threads wait for: a pool's futures, a map, a pool's end. */
struct pp__subject {
    struct pp__link waiters;
};

struct pp__waiter;

struct pp__collector {
    struct pp__waiter *waiter; /* the thread that collects, or NULL */
    bool manager;              /* the manager collects (then waiter is NULL) */
    bool asleep;               /* whoever collects is in epoll */
    bool spinning; /* it looks at the rings without the lock, or one other beside it, until `look` changes at the latest
                    */
    _Atomic uint32_t look;
    uint64_t below;          /* who sleeps is rung for results of ids below this; 0: for none */
    uint64_t beside_at;      /* when another last looked at all that is due, beside it */
    uint64_t wake_at;        /* and comes back then at the latest */
    bool told_of_queued;     /* soon enough for a call behind another: it need not be told of one */
    bool kicked;             /* and has been kicked since it went there */
    struct pp__link waiters; /* threads that sleep on their own words, first come first */
    bool manager_called;     /* and has not come yet */
    bool manager_in_epoll;   /* it sleeps there, perhaps still, though a waiting thread has taken the duty from it */
    bool manager_sound;      /* it sleeps without end, as somebody else collects */
    bool manager_naps;       /* or for a while */
    bool left;               /* nobody has the duty, and who runs dry wakes the manager from its nap */
    uint64_t looked_at;      /* when the epoll set was last looked at */
    bool report_due;         /* a worker with calls has hung up: its parent is about to tell of its end */
    uint64_t
        delivered_seen; /* pool->delivered at its last sleep: nothing has happened since, and only then is it endless */
    uint64_t leaves;    /* how often a waiting thread has given the duty up */
    uint64_t next_id_seen; /* pool->next_id at the manager's last sleep */
    bool streaming;        /* many calls had come since the one before: who submits takes results and sends calls on */
    unsigned staying;   /* threads that come back at once whenever they leave: the manager is not called in between */
    unsigned impatient; /* threads that wait, but for those that do so patiently: each result may be one's */
    unsigned napping;
    uint64_t ended;      /* waits */
    uint64_t calm_ended; /* what that was when calls were last seen to take their time */
};

void pp__subject_init(struct pp__subject *subject);

/* Wakes all who wait there for `what` (as at pp__wait); under the lock. */
struct pp_pool;
void pp__subject_wake(struct pp__subject *subject, struct pp_pool *pool, const void *what);

/*
 * Waits until ready(what), collecting or sleeping. Under the lock, which is released meanwhile. 0, -ETIMEDOUT, -EINTR
 * (unless `deaf`), -EDEADLK (an inline pool's thread waits for what only itself could do).
 */
int pp__wait(struct pp_pool *pool, struct pp__subject *subject, bool (*ready)(const void *what), const void *what,
             uint64_t deadline, bool deaf);

/* The same for what takes many results: a worker rings when it has little left to do or no room for more, and not for
 * each of them. */
int pp__wait_patiently(struct pp_pool *pool, struct pp__subject *subject, bool (*ready)(const void *what),
                       const void *what, uint64_t deadline);

/* Results of all that is outstanding are wanted at once from now on, while somebody is `apart` or waits. Under the
 * lock.
 */
void pp__wait_hear(struct pp_pool *pool);

/* Threads that wait for this pool's futures and others' come (1) and go (-1). What is there when one comes is taken;
 * meanwhile the manager collects, if no other thread does. Takes the lock. */
void pp__wait_apart(struct pp_pool *pool, int change);

/* A thread that ran what an inline pool had may not go on with it: another that waits is to look. Under the lock. */
void pp__wait_pass_inline(struct pp_pool *pool);

/* From now on the calling thread comes back to pp__wait at once whenever it has left it / that was the last time. Under
 * the lock. */
void pp__wait_stay(struct pp_pool *pool);
void pp__wait_leave(struct pp_pool *pool);

/* Who collects has slept for long: calls take their time. Under the lock. */
void pp__wait_calm(struct pp_pool *pool);

/* The thread that collects, and sleeps or spins, is to look again. Under the lock. */
void pp__wait_look(struct pp_pool *pool);

/* There is something to do for whoever is awake: makes sure that somebody is. Under the lock. */
void pp__wait_attend(struct pp_pool *pool);

/* The same of calls for which there is no room: while the manager naps, between threads that come and go, a worker that
 * runs dry wakes it, unless one of them is late before the nap ends. */
void pp__wait_attend_pending(struct pp_pool *pool);

/* There is something to do for the manager alone. Under the lock. */
void pp__wait_call_manager(struct pp_pool *pool);

/* It sleeps on its futex, in the page. */
bool pp__wait_manager_dozes(const struct pp_pool *pool);

/* The manager's thread. */
void *pp__manager_run(void *pool);

#endif
