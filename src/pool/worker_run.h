/* SPDX-License-Identifier: MIT */
/*
 * In the worker: what it takes to run a call and what it takes to run the elements of a chunk (worker_chunk.c), as far
 * as that is the same.
 */
#ifndef PP_POOL_WORKER_RUN_H
#define PP_POOL_WORKER_RUN_H

#include "base/atomic.h"
#include "base/clock.h"
#include "base/seam.h"
#include "pool/worker.h"
#include "process/child.h"

#include <stdio.h>
#include <stdlib.h>

/* -------------------------------------------------------------------------------------------- the clock */

static inline void pp__set_time(uint64_t now)
{
    pp__self.clock.now = now;
    pp__self.clock.from = pp__self.clock.left;
}

static inline uint64_t pp__begin_time(uint32_t flags)
{
    if (pp__self.clock.now == 0 || flags & PP__TIMED)
        pp__set_time(pp__now());
    return pp__self.clock.now;
}

/* Reads the clock behind a task. How long that took: a mean of those since the last reading, but for one that failed,
 * which tells its time. */
uint64_t pp__read_time(bool failed);

static inline uint64_t pp__run_time(bool failed)
{
    return --pp__self.clock.left > 0 && !failed ? pp__self.clock.each : pp__read_time(failed);
}

/* ---------------------------------------------------------------------------------------------- frames */

/* The same for no two that run one after the other. */
static inline uint64_t pp__frame(enum pp__record_type type, uint64_t id)
{
    return type == PP__RECORD_RESULT ? id + 1 : UINT64_MAX - type;
}

/* As __fpending, without a call; of a wide stream nothing is known. */
static inline bool pp__has_output(const FILE *stream)
{
    return stream->_IO_write_ptr != stream->_IO_write_base || stream->_mode > 0;
}

static inline void pp__flush_output(void)
{
    if (pp__has_output(stdout))
        fflush(stdout);
    if (pp__has_output(stderr))
        fflush(stderr);
}

/* Runs what pp__self.task was begun for; how it ended is there. Whoever goes on with that calls pp__check_frame first.
 */
static inline void pp__run_frame(uint64_t frame, pp_function *function, const void *arg, size_t size)
{
    pp__self.running = frame;
    pp__task_run(&pp__self.task, function, arg, size);
    pp__flush_output();
}

/* In the frame of another call than the one that runs nothing is to be said of it, and nothing twice. */
static inline void pp__check_frame(uint64_t frame)
{
    if (pp__self.running != frame)
        pp__child_exit(EXIT_FAILURE);
    pp__self.running = 0;
}

/* -------------------------------------------------------------------------------------------- elements */

/* Those of a record: behind its header, or in the memfd that came ahead of it, or in a buffer of the program's. */
struct pp__taken {
    struct pp__elements at;
    pp_function *function; /* NULL: not looked up yet */
    const void *mapped;
    size_t size;
    char *results; /* where theirs are to be written, each of so many bytes; NULL: nowhere */
    uint64_t result_size;
    int error; /* nonzero: they did not arrive, or the function can't be found, for the reason in `text` */
    char text[256];
};

/* When the first element has begun, as opening a module runs code of its own. False: there is no function, or there are
 * no elements. */
bool pp__find_function(const struct pp__call_record *call, struct pp__taken *taken);

void pp__fail_to_run(const struct pp__call_record *call, uint64_t id, const struct pp__taken *taken);

/*
 * Begins an element, or some in a row: `begun` is the slot's word with the id of the last that begins, `before` the
 * word with those before it, 0 where a record starts. Exactly one of this and the owner's take (take_back.c) wins.
 */
static inline bool pp__begin(uint32_t slot, uint64_t before, uint64_t begun, uint64_t now)
{
    _Atomic uint64_t *word = &pp__self.result_side->slots[slot];
    pp__store_relaxed(&pp__self.result_side->begun_at[slot], now); /* published by the begin */
    PP_FAULT("worker.begin.before");
    bool won = before == 0 ? pp__slot_start(word, begun) : pp__slot_begin(word, before, begun);
    if (won)
        PP_FAULT("worker.begin.after");
    return won;
}

/* Behind an element. The owner is rung at the end, and in the middle of a chunk when it has waited for a millisecond or
 * the result ring fills. `id`: of the element, or of its chunk. */
void pp__tell(const struct pp__call_record *call, uint64_t id, bool last);

/* ----------------------------------------------------------------------------------- what worker.c takes */

/* A call or a chunk, the call of a plain record, and the initializer or finalizer, if there is one, whose outcome
 * answers as a record of `type`. */
void pp__run_call(const struct pp__call_record *call, uint64_t id);
void pp__run_plain(const struct pp__plain_record *plain, uint64_t id);
void pp__run_duty(const struct pp__call_record *duty, enum pp__record_type type);

/* Between duties, while calls are run: nobody asks a duty to stop, and no descriptors travel with one. */
void pp__listen_for_stops(void);

/* worker_chunk.c */
void pp__run_chunk(const struct pp__call_record *call, uint64_t id, struct pp__taken *taken);

#endif
