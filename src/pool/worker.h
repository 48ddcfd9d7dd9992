/* SPDX-License-Identifier: MIT */
/*
 * What the worker process is, in its own eyes, and the last of its stations, publish. It takes in worker.c, and what it
 * takes to run is in worker_run.h.
 */
#ifndef PP_POOL_WORKER_H
#define PP_POOL_WORKER_H

#include "pool/capture.h"
#include "pool/descriptors.h"
#include "pool/process.h"
#include "pool/receive.h"
#include "pool/task.h"
#include "shm/doorbell.h"

#include <stdalign.h>
#include <stdbool.h>

#define PP__SLEEP_BOUND (50 * PP__MILLISECOND) /* where something is known to come */

/* A module as the owner announced it, opened when its first call has begun. */
struct pp__announced {
    void *travel; /* NULL: not announced */
    size_t size;
    uintptr_t base; /* 0: not opened */
};

/* Elements that last no longer, ns, are begun together (worker_chunk.c). */
#define PP__SHORT 250u

/* Its state; it has one thread. */
extern struct pp__self {
    uint64_t spin_limit; /* ns; halved by a spin in which somebody else wanted the processor, grows by one that paid */
    const struct pp__call_side *call_side;
    struct pp__result_side *result_side;
    const struct pp__pool_page *page;
    int bell, socket;
    int shared_images;
    bool spins; /* it may spin when it runs dry */
    bool stays; /* on its processor: it was pinned, or system calls may be forbidden on pain of death, and only those
                   are made that always were */
    uint64_t seed;
    struct pp__ring_reader calls;
    struct pp__ring_writer results;
    uint64_t rung_epoch;  /* the owner's sleep that was last rung */
    uint64_t rung_at;     /* and when */
    uint64_t untold;      /* the lowest id of chunks since it had none of which not all may have been rung for */
    unsigned steps;       /* calls in a row that came when all results had been read (worker_idle.c) */
    uint64_t slept_for;   /* ns, its last sleep for want of calls; 0: it has spun for one since */
    uint64_t slept_epoch; /* rung_epoch then */
    uint64_t moved_at;    /* to another processor, or tried to */
    unsigned purse;       /* what it has for moves to its owner's (worker_idle.c) */
    uint32_t most_behind; /* bytes in the call ring, since there was last little */
    struct pp__announced *modules;
    size_t module_count;
    void *state; /* pp_task_set_state */
    int unfit;   /* why its setting can't be had, a negative errno, in words: */
    char unfit_text[256];
    struct pp__capture capture; /* of what calls write */
    /* What runs. A task that jumps into the frame of an earlier one comes back as that one (pp__check_frame). */
    uint64_t running; /* pp__frame; 0: nothing */
    struct pp_task task;
    struct pp__carried carried;   /* descriptors and buffers of the call that runs */
    struct pp__shelf shelf;       /* the buffers of its large results */
    struct pp__received received; /* what was kept of what came with calls */
    /* Where the results of the chunk that runs are to lie, if they are of `each` bytes. */
    struct {
        char *results; /* NULL: nowhere */
        uint64_t each;
        uint64_t id; /* of the chunk's first element */
    } in_place;
    /* Results of the chunk that runs which are not published yet; the owner sees them all the same (take_open,
     * outcome.c). */
    struct {
        struct pp__run_record *record; /* NULL: none */
        char *next;                    /* where the next result goes */
        uint64_t each;                 /* UINT64_MAX: there is no run */
        uint64_t room;                 /* bytes of the record for one; 0: they lie elsewhere */
        uint32_t most;                 /* results */
        uint32_t left;                 /* of them: not there yet */
        uint64_t opened_at;
    } run;
    alignas(16) char arg[PP__TIGHT_MAX + 16]; /* a copy of an element that lies tight */
    /* The clock is read when a task ends, for the next one too; and where they are short, once for some of them. */
    struct {
        uint64_t now; /* as of the last reading; 0: time has passed since */
        uint64_t each;
        int left;        /* tasks until the next reading */
        int from;        /* what that was at the last one */
        unsigned shorts; /* readings in a row that were short, of the elements of one function: */
        uint32_t module;
        uint64_t offset;
    } clock;
} pp__self;

/* ------------------------------------------------------------------------------- sleeping and waking */

/* Rings the owner. */
void pp__self_ring(void);

/* Rings once for each sleep of the owner that asks for `mode` or more. Call after publishing. */
void pp__self_ring_if_wanted(enum pp__want mode, uint64_t id);

/* There is no call: waits for one, awake for a while, then asleep. May come back without. */
void pp__self_idle(void);

/* Sleeps for up to `bound` ns, or PP__NEVER, until `ready` is true or the owner wakes this worker. */
void pp__self_wait(bool (*ready)(void), uint64_t bound);

/* --------------------------------------------------------------------------------------------- publish */

/* Whether the owner has taken in all that was published. */
bool pp__self_has_been_read(void);

/* Room for a record in the result ring, of `size` bytes behind its head; waits for it. */
void *pp__self_reserve(enum pp__record_type type, uint64_t id, size_t size);

void pp__self_publish(enum pp__record_type type, uint64_t id, const struct pp__result_record *header,
                      const void *payload, size_t size);

/* A failure in words, instead of a result. */
void pp__self_publish_message(enum pp__record_type type, uint64_t id, struct pp__result_record header,
                              enum pp__outcome_type outcome, int code, const char *message);

/* What the task left behind, as one record. */
void pp__self_publish_outcome(enum pp__record_type type, uint64_t id, uint32_t slot, uint64_t run_time);

/* Publishes the results that have gathered, if there are some. */
void pp__self_publish_run(void);

static inline void pp__self_close_run(void)
{
    if (pp__self.run.record)
        pp__self_publish_run();
}

#endif
