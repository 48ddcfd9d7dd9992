/* SPDX-License-Identifier: MIT */
/* The worker runs the elements of a chunk, short ones some at a time, and gathers their results. */
#include "base/copy.h"
#include "pool/worker_run.h"

#define RUN_BYTES 8192u /* results of a chunk are published when they are so many */

/* --------------------------------------------------------------------------------- results in a row */

/*
 * Begins a run with the result of element `id`, the first of `left` that are to come, if it is one for runs. Room is
 * reserved for as many as there can be; until the run is published nothing else goes into the ring.
 */
static void open_run(uint32_t slot, uint64_t id, uint32_t left, uint64_t run_time)
{
    size_t each = pp__self.task.size;
    bool in_place = pp__self.in_place.results && each == pp__self.in_place.each;
    if (!in_place && (left < 2 || each > PP__RUN_EACH_MAX))
        return;
    uint32_t most = in_place || each == 0 ? left : RUN_BYTES / (uint32_t)each;
    pp__self.run.most = most < left ? most : left;
    pp__self.run.room = in_place ? 0 : each;
    struct pp__run_record *record =
        pp__self_reserve(PP__RECORD_RUN, id, sizeof *record + pp__self.run.most * pp__self.run.room);
    *record = (struct pp__run_record){.slot = slot, .each = each, .run_time = run_time, .in_place = in_place};
    pp__self.run.record = record;
    pp__self.run.next =
        in_place ? pp__self.in_place.results + (id - pp__self.in_place.id) * each : (char *)(record + 1);
    pp__self.run.each = each;
    pp__self.run.left = pp__self.run.most;
    pp__self.run.opened_at = pp__self.clock.now;
}

/* A large one lies in room that is wanted again. */
__attribute__((noinline)) static void move_other(void *to)
{
    memcpy(to, pp__self.task.result, pp__self.task.size);
    if (pp__task_holds(&pp__self.task))
        pp__task_drop(&pp__self.task);
}

static inline void move_result(void *to)
{
    const struct pp_task *task = &pp__self.task;
    if (task->size == 16)
        pp__copy_words(to, task->result, 16);
    else if (task->size == 8)
        memcpy(to, task->result, 8);
    else if (task->size > 0)
        move_other(to);
}

/* Puts the result of element `id` behind those of the elements before it, where a run is open and it is of their size.
 */
static inline bool append(uint64_t id)
{
    if (pp__self.task.size != pp__self.run.each)
        return false;
    move_result(pp__self.run.next);
    pp__self.run.next += pp__self.run.each;
    PP_FAULT("worker.append.before");
    pp__open_tell(&pp__self.result_side->open,
                  id + 1); /* for has_open (outcome.c): the result, and the record's head */
    PP_FAULT("worker.append.after");
    if (--pp__self.run.left == 0)
        pp__self_close_run();
    return true;
}

/* A result that does not go on with the open run, or a failure. */
static void send_other(uint32_t slot, uint64_t id, uint32_t left, uint64_t run_time)
{
    pp__self_close_run(); /* results come in the order of their elements */
    if (!pp__self.task.failed)
        open_run(slot, id, left, run_time);
    if (!append(id))
        pp__self_publish_outcome(PP__RECORD_RESULT, id, slot, run_time);
    pp__task_begin(&pp__self.task, id, pp__self.seed);
}

/* How element `i` of a chunk ended, where more is to be done than to append its result. */
__attribute__((noinline)) static void end_element(const struct pp__call_record *call, uint64_t id, uint32_t i)
{
    bool failed = pp__self.task.failed;
    uint64_t took = pp__run_time(failed);
    if (failed || !append(id))
        send_other(call->slot, id, call->count - i, took);
    pp__tell(call, id, i + 1 == call->count);
    pp__begin_time(0);
}

/* --------------------------------------------------------------------------------------------- elements */

/* The next one, as the task gets it: aligned, and with a NUL behind. */
static inline const void *argument_of(const struct pp__elements *at, size_t size)
{
    const void *data = pp__elements_data(at);
    if (!at->same || size > PP__TIGHT_MAX)
        return data;
    if (size == 16)
        memcpy(pp__self.arg, data, 16); /* as one vector: all loads that a task may use find it in that store */
    else
        pp__copy_few(pp__self.arg, data, size);
    pp__self.arg[size] = 0;
    return pp__self.arg;
}

/*
 * Elements `i` to `end`, which have begun. Most are short: from one to the next there are as few instructions as can
 * be. Between them pp__self.task is as begun, but for what pp__task_go_on writes.
 */
static void run_begun(const struct pp__call_record *call, uint64_t id, struct pp__taken *taken, uint32_t i,
                      uint32_t end)
{
    _Atomic uint64_t *started = &pp__self.result_side->started;
    struct pp__elements at = taken->at;
    for (; i < end; i++) {
        size_t size = pp__elements_size(&at);
        pp__store_relaxed(started, id + i); /* for has_started */
        pp__task_go_on(&pp__self.task, id + i);
        pp__run_frame(pp__frame(PP__RECORD_RESULT, id + i), taken->function, argument_of(&at, size), size);
        pp__check_frame(pp__frame(PP__RECORD_RESULT, id + i));
        pp__elements_next(&at);
        bool last = i + 1 == call->count;
        if (!last && pp__self.clock.left > 1 && !pp__self.task.failed && append(id + i))
            pp__self.clock.left--;
        else
            end_element(call, id + i, i);
    }
    taken->at = at;
}

/* The same, where there is nothing to run. */
static void fail_begun(const struct pp__call_record *call, uint64_t id, const struct pp__taken *taken, uint32_t i,
                       uint32_t end)
{
    for (; i < end; i++) {
        pp__store_relaxed(&pp__self.result_side->started, id + i); /* for has_started */
        pp__fail_to_run(call, id + i, taken);
        pp__tell(call, id, i + 1 == call->count);
    }
}

/* ----------------------------------------------------------------------------------------------- chunks */

/* Elements that last PP__SHORT at most, measured so many times in a row, are begun together: as many as take so long.
 * To begin each would be a locked operation for each, behind which nothing of the next one starts before this one is
 * over. */
#define TOGETHER_AFTER 4u
#define TOGETHER_TIME (2 * PP__MICROSECOND)
#define TOGETHER_MAX 16u

/* What is known of another function's elements says nothing of this one's. */
static inline void note_function(const struct pp__call_record *call)
{
    if (call->module == pp__self.clock.module && call->offset == pp__self.clock.offset)
        return;
    pp__self.clock.module = call->module;
    pp__self.clock.offset = call->offset;
    pp__self.clock.shorts = 0;
}

/* How many elements are begun with the next of `left`. Where each has its time to be measured from its begin, no other
 * is. */
static inline uint32_t together(uint32_t flags, uint32_t left)
{
    if (pp__self.clock.shorts < TOGETHER_AFTER || flags & PP__TIMED)
        return 1;
    uint32_t fit = pp__self.clock.each > 0 ? (uint32_t)(TOGETHER_TIME / pp__self.clock.each) : TOGETHER_MAX;
    uint32_t most = left < TOGETHER_MAX ? left : TOGETHER_MAX;
    return fit < most ? fit : most;
}

/* Behind the begin of the first one that is to run: before it a buffer may have the elements of another call. */
static void find_first(const struct pp__call_record *call, struct pp__taken *taken)
{
    for (uint32_t i = 0; i < call->first && !taken->error; i++)
        pp__elements_next(&taken->at);
    pp__find_function(call, taken);
}

void pp__run_chunk(const struct pp__call_record *call, uint64_t id, struct pp__taken *taken)
{
    uint64_t before = 0; /* nothing was begun */
    pp__task_begin(&pp__self.task, id, pp__self.seed);
    pp__self.task.carried = NULL;
    pp__self.in_place.results = taken->results;
    pp__self.in_place.each = taken->result_size;
    pp__self.in_place.id = id;
    note_function(call);
    for (uint32_t i = call->first, end; i < call->count; i = end) {
        uint64_t now = pp__begin_time(call->flags);
        end = i + together(call->flags, call->count - i);
        uint64_t begun = pp__slot_word(id + end - 1, PP__SLOT_BEGUN);
        /* Read by has_started (end.c) when this process is gone: what was begun last and is told here has died. */
        pp__store_relaxed(&pp__self.result_side->started, id + i);
        if (!pp__begin(call->slot, before, begun, now))
            break;
        before = begun;
        if (i == call->first)
            find_first(call, taken);
        if (taken->function)
            run_begun(call, id, taken, i, end);
        else
            fail_begun(call, id, taken, i, end);
    }
    pp__self.task.carried = &pp__self.carried;
    pp__self_close_run();
    if (id < pp__self.untold) /* not each is followed by a ring (pp__tell), nor do all reach their last element */
        pp__self.untold = id;
}
