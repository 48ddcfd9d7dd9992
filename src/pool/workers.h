/* SPDX-License-Identifier: MIT */
/*
 * The owner's view of its workers, and their places in the pool. How one begins is in start.h, how it gets calls in
 * send.h, how these are taken back in take_back.h, how one ends in end.h. All under the pool's lock.
 */
#ifndef PP_POOL_WORKERS_H
#define PP_POOL_WORKERS_H

#include "pool/argument.h"
#include "pool/known.h"
#include "pool/pool.h"
#include "pool/shelf.h"
#include "shm/doorbell.h"

#include <assert.h>
#include <stddef.h>
#include <sys/types.h>

enum pp__worker_state {
    PP__WORKER_STANDBY,  /* has no number, and was told nothing yet */
    PP__WORKER_STARTING, /* asked for; INIT is in its ring */
    PP__WORKER_NEXT,     /* ready, and waits for its predecessor's place */
    PP__WORKER_READY,
    PP__WORKER_LEAVING, /* LEAVE is in its ring */
    PP__WORKER_KILLED   /* the zygote was asked for its death */
};

/* A slot's private side: what the worker writes there is compared with this. */
struct pp__slot {
    struct pp__item *item; /* whose it is; NULL: nobody's */
    uint64_t end;          /* where its record ends in the call ring */
    uint64_t sent_at;      /* when that was sent, or the one that it was sent behind */
    uint64_t before;       /* what it says until that is begun, */
    uint64_t after;        /* and when all of it was: what the next one finds there */
    bool taken;            /* taken back: not given out again before the worker's head has passed `end` */
};

struct pp__worker {
    /* What each call comes by lies together, and the slots behind it: of what lies apart each piece would be another
     * line, and another page, to be had when everybody has slept. */
    pp_pool *pool;
    enum pp__worker_state state;
    bool idle;      /* in which list its place is */
    bool spins;     /* it may spin when it runs dry */
    bool withdrawn; /* it gets no more calls (recycle.h) */
    bool poisoned;  /* it wrote garbage */
    struct pp__call_side *call_side;
    struct pp__result_side *result_side;
    struct pp__ring_writer calls;
    struct pp__ring_reader results;
    struct pp__link items; /* sent and not ended, in the order of the ring, which is id order within a priority */
    struct pp__link place; /* in the pool's idle or active */
    struct pp__link unwoken;
    uint32_t count;     /* of items */
    uint32_t next_slot; /* where the search for a free one begins */
    struct pp__doorbell_rung rung;
    uint64_t woken_at; /* when it was last woken, until the next result; 0: it was awake */
    uint64_t free_at;  /* when it was asked for, its last call ended, it became ready, was told to leave, or got a call
                          when it had none */
    uint64_t free_before; /* what free_at was when results were last taken in */
    int64_t budget;       /* calls that it may still be sent */
    int64_t look_at;      /* and how few of them are left when that is looked at next */
    uint8_t *knows;       /* modules it was told of, a byte each */
    size_t knows_count;
    uint64_t stuck_end; /* where its ring ended when it was given up; 0: it was not */
    uint64_t outlasted; /* id of the element that ran so long that what was queued behind it went back */
    /* The id behind the last element that was taken out of the open run; 0: none was. The next record is that run. */
    uint64_t looked_into;
    pid_t pid;  /* 0 before the zygote's report */
    int number; /* -1: none yet */
    struct pp__slot slots[PP__SLOTS];

    uint64_t serial;                            /* by which we know it; 0 without a number */
    uint64_t birth;                             /* by which the zygote does; 0: it was not asked for */
    bool seated;                                /* in its number's place; else it is one of the others */
    bool wants_successor;                       /* it will be soon, or is */
    bool overgrown;                             /* for the memory that it has */
    struct pp__worker *successor, *predecessor; /* with the same number, or NULL */
    uint64_t memory;                            /* bytes that it had when it was ready */
    uint64_t measured;                          /* its free_at when its memory was looked at last */
    bool left;                                  /* its leave record was read */
    bool finalizes;                             /* it was told to, and has not answered */
    bool overdue;                               /* for too long */
    bool kill_asked;
    int start_error;           /* why the program could not start it; 0: nothing is known of that */
    struct pp__errand *errand; /* its starter's (errand.h), or NULL */
    bool owes_term;            /* SIGTERM is still to be asked for */
    bool out_of_memory;        /* the kernel has killed it, by its counts */
    bool doomed;      /* the program asked for its end: what it runs is not tried again, and no pool breaks for it */
    int want;         /* for want of that (an errno) it could not get ready, and is killed; 0: no */
    char poison[128]; /* which garbage */

    int bell, socket;
    int output[PP__STREAMS];     /* the files of what its calls write (output.h), or -1 */
    uint64_t output_told;        /* id + 1 of the last call whose output it has told; 0: none */
    uint64_t output_trim_at;     /* when it is looked how much it has written */
    struct pp__results *buffers; /* of its large results */
    struct pp__shelf arguments;  /* buffers of its large arguments */
    struct pp__known known;      /* buffers of the program's */

    struct pp__link other; /* in the pool's others */
    struct pp__site *site; /* of its result side (glance.h) */
    uint64_t stuck_since;
    uint64_t graced;    /* id of the element whose result found no room in time, */
    uint64_t graced_at; /* and when that was seen; before it has started, when its time to come was seen to be over */
    uint64_t missing, missing_at; /* where in its result ring a record was missed, and since when; 0: none is */
    uint64_t asked_at;            /* when it was asked for */
};

static_assert(offsetof(struct pp__worker, slots) <= (size_t)5 * PP__LINE, "what each call comes by takes few lines");

/* Makes a new worker one of the others. */
void pp__worker_enlist(struct pp__worker *worker);

/* Puts one of the others into its number's place, which is free; and back. */
void pp__worker_seat(struct pp__worker *worker);
void pp__worker_unseat(struct pp__worker *worker);

/* The only way in which the state changes. */
void pp__worker_set_state(struct pp__worker *worker, enum pp__worker_state state);

/* For each, those without a place first. `act` may free the one that it is given. */
void pp__workers_each(pp_pool *pool, void (*act)(struct pp__worker *worker));

/* Puts it into the pool's list that it belongs to, after its state has changed. */
void pp__worker_place(struct pp__worker *worker);

/* Tells the workers whether to spin when they run dry; after `busy` or `wake_cost` has changed. */
void pp__worker_allow_spin(pp_pool *pool);

/* What the item's slot says (channel.h), read once: the worker may have written anything. */
static inline uint64_t pp__worker_slot_word(const struct pp__worker *worker, const struct pp__item *item)
{
    return pp__slot_look(
        &worker->result_side->slots[item->slot]); /* behind pp__begin (worker_run.h): begun_at is seen */
}

/* When it was sent, or the one that it was sent behind. */
static inline uint64_t pp__worker_sent_at(const struct pp__worker *worker, const struct pp__item *item)
{
    return worker->slots[item->slot].sent_at;
}

/* Since when it might have begun its front call. */
static inline uint64_t pp__worker_front_since(const struct pp__worker *worker, const struct pp__item *front)
{
    uint64_t sent_at = pp__worker_sent_at(worker, front);
    return sent_at > worker->free_at ? sent_at : worker->free_at;
}

/* It has got its first call, or has none left. */
void pp__worker_count_busy(struct pp__worker *worker, int change);

/* The item has ended, or is given up: it is no longer the worker's. */
static inline void pp__worker_detach(struct pp__worker *worker, struct pp__item *item)
{
    pp__list_remove(&item->link);
    if (item->place)
        pp__argument_withdraw(worker, item);
    if (--worker->count == 0)
        pp__worker_count_busy(worker, -1);
    worker->pool->deep -= worker->count == 1;
    worker->slots[item->slot].item = NULL;
    item->worker = NULL;
}

/* The worker with that serial, or with that number of its birth at the zygote; NULL: there is none any more. */
struct pp__worker *pp__worker_by_serial(pp_pool *pool, uint64_t serial);
struct pp__worker *pp__worker_by_birth(pp_pool *pool, uint64_t birth);

#endif
