/* SPDX-License-Identifier: MIT */
/*
 * The worker process: take and run; publish is in worker_publish.c. One thread; it enters at pp__child_entry and leaves
 * only as the owner says (LEAVE), or by dying. It trusts the owner's memory; the owner trusts nothing of what is
 * written here.
 */
#include "pool/worker.h"

#include "base/atomic.h"
#include "base/clock.h"
#include "base/copy.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/seam.h"
#include "base/spin.h"
#include "pool/setting.h"
#include "process/child.h"
#include "process/crash.h"
#include "process/identity.h"
#include "process/owner.h"
#include "shm/segment.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define RING_INTERVAL PP__MILLISECOND /* inside a chunk the owner is rung this often at most */
#define RUN_INTERVAL                                                                                                   \
    (50 * PP__MICROSECOND) /* results of a chunk are published after so long at the latest, once one has ended */
#define RUN_BYTES 8192u    /* and when they are so many */

struct pp__self pp__self;

/* ---------------------------------------------------------------------------------------------- run */

/* As __fpending, without a call; of a wide stream nothing is known. */
static inline bool has_output(const FILE *stream)
{
    return stream->_IO_write_ptr != stream->_IO_write_base || stream->_mode > 0;
}

static inline void flush_output(void)
{
    if (has_output(stdout))
        fflush(stdout);
    if (has_output(stderr))
        fflush(stderr);
}

/* Where tasks are short the clock is read after so long, or so many of them. */
#define STRIDE_TIME (8 * PP__MICROSECOND)
#define STRIDE_MAX 64

static inline void set_time(uint64_t now)
{
    pp__self.clock.now = now;
    pp__self.clock.unread = 0;
}

static inline uint64_t begin_time(uint32_t flags)
{
    if (pp__self.clock.now == 0 || flags & PP__TIMED)
        set_time(pp__now());
    return pp__self.clock.now;
}

/* Elements of so long at most, measured so many times in a row, are begun together: as many as take so long. To begin
 * each would be a locked operation for each, behind which nothing of the next one starts before this one is over. */
#define TOGETHER_EACH 250u
#define TOGETHER_AFTER 4u
#define TOGETHER_TIME (2 * PP__MICROSECOND)
#define TOGETHER_MAX 16u

static unsigned stride(uint64_t each)
{
    uint64_t fit = each > 0 ? STRIDE_TIME / each : STRIDE_MAX;
    return fit < 1 ? 1 : fit > STRIDE_MAX ? STRIDE_MAX : (unsigned)fit;
}

/* How long the task took: a mean of those since the last reading, but for one that failed, which tells its time. */
static inline uint64_t run_time(bool failed)
{
    if (!failed && ++pp__self.clock.skipped < pp__self.clock.stride) {
        pp__self.clock.unread++;
        return pp__self.clock.each;
    }
    uint64_t now = pp__now(), all = now - pp__self.clock.now, before = pp__self.clock.unread * pp__self.clock.each;
    pp__self.clock.each = all / (pp__self.clock.unread + 1);
    pp__self.clock.stride = stride(pp__self.clock.each);
    pp__self.clock.shorts = !failed && pp__self.clock.each <= TOGETHER_EACH ? pp__self.clock.shorts + 1 : 0;
    pp__self.clock.unread = pp__self.clock.skipped = 0;
    pp__self.clock.now = now;
    return !failed ? pp__self.clock.each : all > before ? all - before : 0;
}

/* In the frame of another call than the one that runs nothing is to be said of it, and nothing twice. */
static inline void check_frame(enum pp__record_type type, uint64_t id)
{
    if (pp__self.running != type || pp__self.task.id != id)
        pp__child_exit(EXIT_FAILURE);
    pp__self.running = 0;
}

/* Runs what pp__self.task was begun for; how it ended is there. Whoever goes on with that calls check_frame first. */
static inline void run_element(pp_function *function, enum pp__record_type type, const void *arg, size_t size)
{
    pp__self.running = type;
    pp__task_run(&pp__self.task, function, arg, size);
    flush_output();
}

static bool has_failed(const struct pp_task *task)
{
    return task->code || task->message[0];
}

/* --------------------------------------------------------------------------------- results in a row */

/*
 * Begins a run with the result of element `id`, the first of `left` that are to come, if it is one for runs. Room is
 * reserved for as many as there can be; until the run is published nothing else goes into the ring.
 */
static void open_run(uint32_t slot, uint64_t id, uint32_t left, uint64_t run_time)
{
    size_t each = pp__self.task.size;
    if (left < 2 || each > PP__RUN_EACH_MAX)
        return;
    uint32_t most = each > 0 ? RUN_BYTES / (uint32_t)each : left;
    pp__self.run.most = most < left ? most : left;
    struct pp__run_record *record = pp__self_reserve(PP__RECORD_RUN, id, sizeof *record + pp__self.run.most * each);
    *record = (struct pp__run_record){.slot = slot, .each = each, .run_time = run_time};
    pp__self.run.record = record;
    pp__self.run.next = (char *)(record + 1);
    pp__self.run.each = each;
    pp__self.run.left = pp__self.run.most;
    pp__self.run.opened_at = pp__self.clock.now;
}

/* Puts the result of element `id` behind those of the elements before it, where it is of their size. */
static inline bool append(uint64_t id)
{
    const struct pp_task *task = &pp__self.task;
    if (!pp__self.run.record || task->size != pp__self.run.each)
        return false;
    pp__copy_few(pp__self.run.next, task->result, task->size);
    pp__self.run.next += task->size;
    pp__self.run.left--;
    PP_FAULT("worker.append.before");
    pp__open_tell(&pp__self.result_side->open,
                  id + 1); /* for has_open (outcome.c): the result, and the record's head */
    PP_FAULT("worker.append.after");
    if (pp__self.run.left == 0)
        pp__self_close_run();
    return true;
}

/* A result that does not go on with the open run, or a failure. */
static void send_other(uint32_t slot, uint64_t id, uint32_t left, uint64_t run_time)
{
    struct pp__result_record header = {.slot = slot, .run_time = run_time};
    pp__self_close_run(); /* results come in the order of their elements */
    if (!has_failed(&pp__self.task))
        open_run(slot, id, left, run_time);
    if (!append(id))
        pp__self_publish_outcome(PP__RECORD_RESULT, id, header);
}

/* How element `id` of a chunk ended, the first of `left` that are to come. */
static inline void send_outcome(uint32_t slot, uint64_t id, uint32_t left)
{
    check_frame(PP__RECORD_RESULT, id);
    bool failed = has_failed(&pp__self.task);
    uint64_t took = run_time(failed);
    if (!failed && append(id))
        return;
    send_other(slot, id, left, took);
    pp__task_begin(&pp__self.task, id, pp__self.seed);
}

/* The same for a call, or for what is none. */
static inline void send_unchecked(enum pp__record_type type, uint32_t slot, uint64_t id)
{
    struct pp__result_record header = {.slot = slot, .run_time = run_time(has_failed(&pp__self.task))};
    pp__self_publish_outcome(type, id, header);
}

static void send_alone(enum pp__record_type type, uint32_t slot, uint64_t id)
{
    check_frame(type, id);
    send_unchecked(type, slot, id);
}

/* --------------------------------------------------------------------------------------------- take */

/* The elements of a record: behind its header, or in the memfd that came ahead of it. */
struct elements {
    struct pp__elements at;
    pp_function *function; /* NULL: not looked up yet */
    const void *mapped;
    size_t size;
    int error; /* nonzero: they did not arrive, or the function can't be found, for the reason in `text` */
    char text[256];
};

static void note_error(struct elements *elements, int error)
{
    elements->error = error;
    if (error)
        snprintf(elements->text, sizeof elements->text, "%s", pp_last_error());
}

/* Those that lie behind a record. */
static inline void lay_elements(struct elements *elements, const void *place, bool same, uint64_t each)
{
    elements->at = (struct pp__elements){.place = place, .same = same, .each = each};
    elements->function = NULL;
    elements->mapped = NULL;
    elements->error = 0;
}

static void open_elements(const struct pp__call_record *call, uint64_t id, struct elements *elements)
{
    lay_elements(elements, call + 1, call->flags & PP__SAME, call->each);
    if (!(call->flags & PP__AHEAD))
        return;
    if (pp__flags_bring_any(call->flags))
        pp__self.clock.now = 0; /* it will take time */
    elements->size = call->size;
    note_error(elements, pp__receive(&pp__self.received, call, id, &elements->at.place, &elements->mapped));
}

/* When the first element has begun, as opening a module runs code of its own. False: there is no function, or there are
 * no elements. */
static bool find_function(const struct pp__call_record *call, struct elements *elements)
{
    struct pp__announced *module = &pp__self.modules[call->module];
    if (elements->error)
        return false;
    if (!module->base)
        note_error(elements, pp__module_open(module->travel, module->size, pp__self.shared_images, &module->base));
    uintptr_t address = module->base + call->offset;
    if (!elements->error)
        memcpy(&elements->function, &address, sizeof elements->function);
    return !elements->error;
}

/* The next element, as the task gets it: aligned, and with a NUL behind. */
static inline const void *argument_of(const struct pp__elements *at, size_t size)
{
    const void *data = pp__elements_data(at);
    if (!at->same || size > PP__TIGHT_MAX)
        return data;
    pp__copy_few(pp__self.arg, data, size);
    pp__self.arg[size] = 0;
    return pp__self.arg;
}

static void close_elements(struct elements *elements)
{
    if (elements->mapped)
        pp__payload_unmap(elements->mapped, elements->size);
}

/*
 * Begins an element, or some in a row: READY -> BEGUN for the first of a record, BEGUN -> BEGUN from those before, each
 * with the id of the last that begins. Exactly one of this and the owner's take (workers.c) wins.
 */
static inline bool begin(uint32_t slot, uint64_t before, uint64_t begun, uint64_t now)
{
    pp__store_relaxed(&pp__self.result_side->begun_at[slot], now); /* published by the begin */
    PP_FAULT("worker.begin.before");
    bool won = pp__slot_begin(&pp__self.result_side->slots[slot], before, begun);
    if (won)
        PP_FAULT("worker.begin.after");
    return won;
}

/* Whether half of what lay behind chunks is done, or there is but one more like this one: the owner has time to send
 * more. */
static bool runs_low(const struct pp__call_record *call)
{
    uint32_t behind = pp__ring_behind(&pp__self.calls);
    uint64_t room = sizeof(struct pp__record) + sizeof *call + (call->flags & PP__BIG ? 0 : call->size);
    if (behind > pp__self.most_behind)
        pp__self.most_behind = behind;
    if (behind > pp__self.most_behind / 2 && behind > room + PP__RING_ALIGN)
        return false;
    pp__self.most_behind = behind;
    return true;
}

/* Behind an element. The owner is rung at the end, and in the middle of a chunk when it has waited for RING_INTERVAL or
 * the result ring fills. */
static void tell(const struct pp__call_record *call, bool last)
{
    uint64_t now = pp__self.clock.now;
    if (pp__self.run.record && (last || now - pp__self.run.opened_at >= RUN_INTERVAL))
        pp__self_close_run();
    if (pp__ring_used(&pp__self.results) > PP__RING_BYTES / 2)
        pp__self_ring_if_wanted(PP__WANT_ROOM);
    else if (last && call->count > 1 && runs_low(call))
        pp__self_ring_if_wanted(PP__WANT_ATTENTION);
    else if ((last && call->count == 1) ||
             (int64_t)(now - pp__self.rung_at) >= (int64_t)RING_INTERVAL) /* the clock may be behind the last ring */
        pp__self_ring_if_wanted(PP__WANT_EVERY);
}

/* Apart, for the sake of calls without. Behind the task: before its outcome is seen nothing is held that does not go
 * back with it. */
__attribute__((noinline)) static void settle_descriptors(void)
{
    pp__carried_drop_given(&pp__self.carried);
    if (has_failed(&pp__self.task))
        pp__carried_drop_back(&pp__self.carried);
}

static void fail_to_run(const struct pp__call_record *call, uint64_t id, const struct elements *elements)
{
    struct pp__result_record header = {.slot = call->slot};
    pp__self_publish_message(PP__RECORD_RESULT, id, header, PP__OUTCOME_TRAVEL, elements->error, elements->text);
}

static void run_single(const struct pp__call_record *call, uint64_t id, struct elements *elements)
{
    if (!begin(call->slot, pp__slot_word(id, PP__SLOT_READY), pp__slot_word(id, PP__SLOT_BEGUN),
               begin_time(call->flags))) {
        pp__carried_drop_given(&pp__self.carried);
        return;
    }
    if (find_function(call, elements)) {
        pp__task_begin(&pp__self.task, id, pp__self.seed);
        run_element(elements->function, PP__RECORD_RESULT, pp__elements_data(&elements->at),
                    pp__elements_size(&elements->at));
        if (call->flags & PP__AHEAD || pp__self.carried.back_count > 0)
            settle_descriptors();
        send_alone(PP__RECORD_RESULT, call->slot, id);
    } else {
        pp__carried_drop_given(&pp__self.carried);
        fail_to_run(call, id, elements);
    }
    tell(call, true);
}

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

/* Between elements pp__self.task is as begun, but for what pp__task_go_on writes. */
static void run_chunk(const struct pp__call_record *call, uint64_t id, struct elements *elements)
{
    const uint32_t slot = call->slot, count = call->count, flags = call->flags;
    uint32_t begun_end = call->first; /* behind the last one that has begun */
    struct pp__elements at = elements->at;
    uint64_t before = pp__slot_word(id + call->first, PP__SLOT_READY);
    pp__task_begin(&pp__self.task, id, pp__self.seed);
    pp__self.task.carried = NULL;
    note_function(call);
    for (uint32_t i = call->first; i < count; i++) {
        uint64_t now = begin_time(flags);
        /* Before the task, and read when this process is gone: for has_started (end.c). */
        pp__store_relaxed(&pp__self.result_side->started, id + i);
        if (i >= begun_end) { /* less, by a task that jumped, is no reason to run what has not begun */
            begun_end = i + together(flags, count - i);
            uint64_t begun = pp__slot_word(id + begun_end - 1, PP__SLOT_BEGUN);
            if (!begin(slot, before, begun, now))
                break; /* a buffer may have the elements of another call by now: nothing is read before the begin */
            before = begun;
        }
        for (uint32_t k = 0; i == call->first && k < i && !elements->error; k++)
            pp__elements_next(&at);
        if (elements->function || find_function(call, elements)) {
            size_t size = pp__elements_size(&at);
            pp__task_go_on(&pp__self.task, id + i);
            run_element(elements->function, PP__RECORD_RESULT, argument_of(&at, size), size);
            send_outcome(slot, id + i, count - i);
            pp__elements_next(&at);
        } else {
            fail_to_run(call, id + i, elements);
        }
        if (i + 1 == count || pp__self.clock.unread == 0) /* it was read just now */
            tell(call, i + 1 == count);
    }
    pp__self.task.carried = &pp__self.carried;
    pp__self_close_run();
}

static bool have_been_read(void)
{
    return pp__ring_drained(&pp__self.results);
}

/* Where the next call's output begins. What was told and not read stays; if there is too little room behind it, it is
 * waited for. */
static void place_output(uint64_t at[PP__STREAMS])
{
    bool some = pp__capture_measure(&pp__self.capture, at);
    while (!have_been_read() && pp__capture_is_full(&pp__self.capture, at)) {
        pp__self_ring();
        pp__self_wait(have_been_read, PP__SLEEP_BOUND);
    }
    if (some && have_been_read()) {
        pp__capture_empty(&pp__self.capture);
        pp__capture_measure(&pp__self.capture, at);
    }
    /* Published by the cas in begin; pairs with the loads in pp__output_salvage (output.c). Nothing in a file that was
     * lost is this call's. */
    for (unsigned i = 0; i < PP__STREAMS; i++)
        pp__store_relaxed(&pp__self.result_side->output[i], pp__self.capture.streams[i].lost ? UINT64_MAX : at[i]);
}

/* How it ended, and ahead of that where its output lies. */
static void send_captured(uint32_t slot, uint64_t id, struct pp__output_record *output)
{
    check_frame(PP__RECORD_RESULT, id);
    pp__capture_end(&pp__self.capture, output);
    memcpy(pp__self_reserve(PP__RECORD_OUTPUT, id, sizeof *output), output, sizeof *output);
    send_unchecked(PP__RECORD_RESULT, slot, id);
}

/* As run_single, of a worker whose calls' output is captured. */
static void run_captured(const struct pp__call_record *call, uint64_t id, struct elements *elements)
{
    struct pp__output_record output = {.slot = call->slot};
    place_output(output.begin);
    pp__self.clock.now = 0;
    if (!begin(call->slot, pp__slot_word(id, PP__SLOT_READY), pp__slot_word(id, PP__SLOT_BEGUN),
               begin_time(call->flags))) {
        pp__carried_drop_given(&pp__self.carried);
        return;
    }
    flush_output(); /* of what runs between calls */
    pp__capture_begin(&pp__self.capture);
    if (find_function(call, elements)) {
        pp__self.task.carried = call->flags & PP__ELEMENT ? NULL : &pp__self.carried;
        pp__task_begin(&pp__self.task, id, pp__self.seed);
        run_element(elements->function, PP__RECORD_RESULT, pp__elements_data(&elements->at),
                    pp__elements_size(&elements->at));
        settle_descriptors();
        send_captured(call->slot, id, &output);
    } else {
        pp__carried_drop_given(&pp__self.carried);
        flush_output();
        pp__capture_end(&pp__self.capture, &output);
        fail_to_run(call, id, elements);
    }
    tell(call, true);
}

/* What runs when its elements have been opened. */
static inline void run_opened(const struct pp__call_record *call, uint64_t id, struct elements *elements)
{
    if (pp__self.capture.on)
        run_captured(call, id, elements);
    else if (call->flags & PP__ELEMENT)
        run_chunk(call, id, elements);
    else
        run_single(call, id, elements);
    if (pp__task_holds(&pp__self.task))
        pp__task_drop(&pp__self.task);
    close_elements(elements);
}

static void run_call(const struct pp__call_record *call, uint64_t id)
{
    struct elements elements;
    open_elements(call, id, &elements);
    run_opened(call, id, &elements);
}

static void run_plain(const struct pp__plain_record *plain, uint64_t id)
{
    const struct pp__call_record call = {.offset = plain->offset,
                                         .module = plain->module,
                                         .slot = plain->slot,
                                         .count = 1,
                                         .flags = PP__SAME | (plain->timed ? PP__TIMED : 0),
                                         .each = plain->size};
    struct elements elements;
    lay_elements(&elements, plain + 1, true, plain->size);
    run_opened(&call, id, &elements);
}

/* While it runs calls; nobody asks a duty, and no descriptors travel with one. */
static void listen_for_stops(void)
{
    pp__self.task.carried = &pp__self.carried;
    pp__self.task.stop = &pp__self.call_side->stop;
    pp__self.task.progress = &pp__self.result_side->progress;
}

/* The initializer or finalizer, if there is one; its outcome answers as a record of `type`. */
static void run_duty(const struct pp__call_record *duty, enum pp__record_type type)
{
    struct pp__result_record header = {0};
    struct elements elements;
    if (duty->count == 0) {
        pp__self_publish(type, 0, &header, NULL, 0);
        return;
    }
    open_elements(duty, 0, &elements);
    begin_time(duty->flags);
    if (find_function(duty, &elements)) {
        pp__self.task.stop = NULL;
        pp__self.task.progress = NULL;
        pp__self.task.carried = NULL;
        pp__task_begin(&pp__self.task, 0, pp__self.seed);
        run_element(elements.function, type, pp__elements_data(&elements.at), pp__elements_size(&elements.at));
        send_alone(type, 0, 0);
        pp__task_drop(&pp__self.task);
        listen_for_stops();
    } else {
        pp__self_publish_message(type, 0, header, PP__OUTCOME_TRAVEL, elements.error, elements.text);
    }
    close_elements(&elements);
}

static void take_module(const struct pp__record *record, const void *payload)
{
    size_t index = record->id;
    if (index >= pp__self.module_count) {
        struct pp__announced *grown = PP_SYS(realloc)(pp__self.modules, (index + 1) * sizeof *grown);
        if (!grown)
            pp__child_exit(EXIT_FAILURE);
        memset(grown + pp__self.module_count, 0, (index + 1 - pp__self.module_count) * sizeof *grown);
        pp__self.modules = grown;
        pp__self.module_count = index + 1;
    }
    struct pp__announced *module = &pp__self.modules[index];
    module->travel = PP_SYS(malloc)(record->size);
    if (!module->travel)
        pp__child_exit(EXIT_FAILURE);
    memcpy(module->travel, payload, record->size);
    module->size = record->size;
}

/* From standby to a worker with a number. */
static void take_number(const struct pp__record *record, const void *payload)
{
    (void)record;
    struct pp__worker_plan plan;
    char name[16];
    memcpy(&plan, payload, sizeof plan);
    pp__self.task.worker = plan.number;
    pp__self.spins = plan.spins != 0;
    snprintf(name, sizeof name, PP__WORKER_NAME, (int)plan.number);
    prctl(PR_SET_NAME, name);
}

/* The first reason is told. */
static void note_unfit(int error)
{
    if (!error || pp__self.unfit)
        return;
    pp__self.unfit = error;
    snprintf(pp__self.unfit_text, sizeof pp__self.unfit_text, "%s", pp_last_error());
}

static void take_setting(const struct pp__record *record, const void *payload)
{
    note_unfit(pp__setting_apply(payload, (int)record->id));
}

static void take_capture(const struct pp__record *record, const void *payload)
{
    struct pp__capture_order order;
    (void)record;
    memcpy(&order, payload, sizeof order);
    note_unfit(pp__capture_open(&pp__self.capture, pp__self.socket, &order));
}

static void take_init(const struct pp__record *record, const void *payload)
{
    (void)record;
    if (pp__self.unfit)
        pp__self_publish_message(PP__RECORD_READY, 0, (struct pp__result_record){0}, PP__OUTCOME_UNFIT, pp__self.unfit,
                                 pp__self.unfit_text);
    else
        run_duty(payload, PP__RECORD_READY);
    pp__self_ring_if_wanted(PP__WANT_ATTENTION);
}

static void take_call(const struct pp__record *record, const void *payload)
{
    run_call(payload, record->id);
}

static void take_plain(const struct pp__record *record, const void *payload)
{
    run_plain(payload, record->id);
}

static void take_leave(const struct pp__record *record, const void *payload)
{
    (void)record;
    /* Against the take in attend_leaving (timers.c): the owner has given up waiting for this. */
    if (!pp__slot_begin(&pp__self.result_side->slots[0], pp__slot_word(PP__LEAVE_ID, PP__SLOT_READY),
                        pp__slot_word(PP__LEAVE_ID, PP__SLOT_BEGUN)))
        return;
    run_duty(payload, PP__RECORD_LEFT);
    pp__child_exit(EXIT_SUCCESS); /* the zygote's report wakes the owner */
}

static void take(const struct pp__record *record, const void *payload)
{
    static void (*const handlers[])(const struct pp__record *, const void *) = {
        [PP__RECORD_MODULE] = take_module,   [PP__RECORD_INIT] = take_init,     [PP__RECORD_CALL] = take_call,
        [PP__RECORD_LEAVE] = take_leave,     [PP__RECORD_NUMBER] = take_number, [PP__RECORD_SETTING] = take_setting,
        [PP__RECORD_CAPTURE] = take_capture, [PP__RECORD_PLAIN] = take_plain,
    };
    if (record->type < sizeof handlers / sizeof *handlers && handlers[record->type])
        handlers[record->type](record, payload);
}

static bool have_call(void)
{
    return pp__ring_waiting(&pp__self.calls);
}

/* While results lie unread the next is seldom waited for: the line of the tail is left to who writes it for some
 * microseconds (so many rounds), and then many calls are taken at once. */
#define ROUNDS_UNREAD 256

static bool is_due(const struct pp__spin *spin)
{
    return spin->rounds % ROUNDS_UNREAD == 0 || have_been_read();
}

/* As long as the owner allows, looked up all the time: it may want the processor for another worker. */
static bool spin_for_call(void)
{
    struct pp__spin spin;
    uint64_t allowed = pp__self.spins ? pp__load_relaxed(&pp__self.page->spin) : 0;
    pp__spin_begin(&spin, allowed < pp__self.spin_limit ? allowed : pp__self.spin_limit);
    bool found = have_call();
    while (!found && pp__load_relaxed(&pp__self.page->spin) && pp__spin_on(&spin))
        found = is_due(&spin) && have_call();
    if (spin.jumped)
        pp__self.spin_limit = pp__self.spin_limit / 2 + PP__SPIN_MAX / 64; /* never none, or it could not grow again */
    else if (found && pp__self.spin_limit < PP__SPIN_MAX)
        pp__self.spin_limit += PP__SPIN_MAX / 16;
    if (found)
        set_time(spin.last); /* a microsecond ago at most: the call does not wait for the clock */
    return found;
}

static _Noreturn void serve(void)
{
    for (;;) {
        struct pp__record record;
        const void *payload;
        int got = pp__ring_next(&pp__self.calls, &record, &payload);
        if (got < 0)
            pp__child_exit(EXIT_FAILURE);
        if (got > 0) {
            take(&record, payload);
            if (pp__self.running) /* a jump led past what tells how it ended */
                pp__child_exit(EXIT_FAILURE);
            pp__ring_release(&pp__self.calls); /* arguments were read in place until here */
            continue;
        }
        pp__self_ring_if_wanted(PP__WANT_ATTENTION);
        pp__self.clock.now = 0;
        pp__shelf_take_in(&pp__self.shelf);
        if (pp__self.received.keeps)
            pp__received_tidy(&pp__self.received, pp__self.call_side);
        if (!spin_for_call())
            pp__self_wait(have_call, PP__NEVER);
    }
}

/* ------------------------------------------------------------------------------------------- entry */

static int open_channel(const int *fds)
{
    void *call_side, *result_side, *page;
    int error = pp__segment_map(fds[PP__FD_CALL], sizeof *pp__self.call_side, false, &call_side);
    if (!error)
        error = pp__segment_map(fds[PP__FD_RESULT], sizeof *pp__self.result_side, true, &result_side);
    if (!error)
        error = pp__segment_map(fds[PP__FD_PAGE], PP__PAGE_SIZE, false, &page);
    if (error)
        return error;
    for (int i = PP__FD_CALL; i <= PP__FD_PAGE; i++)
        pp__fd_close(fds[i]);
    pp__self.call_side = call_side;
    pp__self.result_side = result_side;
    pp__self.page = page;
    if (pp__self.call_side->magic != PP__MAGIC || pp__self.call_side->version != PP__VERSION ||
        pp__self.call_side->size != sizeof *pp__self.call_side)
        return -EPROTO;
    pp__ring_reader_init(&pp__self.calls, pp__self.call_side->calls, PP__RING_BYTES, &pp__self.call_side->call_tail,
                         &pp__self.result_side->call_head, 0);
    pp__ring_writer_init(&pp__self.results, pp__self.result_side->results, PP__RING_BYTES,
                         &pp__self.result_side->result_tail, &pp__self.call_side->result_head, 0);
    return 0;
}

/* A task that calls pthread_exit unwinds to here. */
static void left_by_pthread_exit(void *unused)
{
    (void)unused;
    pp__child_exit(EXIT_SUCCESS);
}

_Noreturn void pp__child_entry(const void *data, size_t size, const int *fds, size_t count, int shared_images)
{
    struct pp__worker_plan plan;
    if (count == PP__PROCESS_FDS)
        pp__process_entry(data, size, fds, shared_images);
    pp__owner_set_kin(PP__KIN_BOUND);
    memset(&pp__self, 0,
           sizeof pp__self); /* a worker that forks a pool of its own leaves its state to that pool's workers */
    if (size != sizeof plan || count != PP__FD_COUNT || open_channel(fds) != 0)
        pp__child_exit(EXIT_FAILURE);
    memcpy(&plan, data, sizeof plan);
    pp__self.bell = fds[PP__FD_BELL];
    pp__self.socket = fds[PP__FD_SOCKET];
    pp__self.shared_images = shared_images;
    pp__self.seed = plan.seed;
    pp__self.spins = plan.spins != 0;
    pp__self.spin_limit = PP__SPIN_MAX;
    pp__self.rung_epoch = UINT64_MAX;
    pp__shelf_init(&pp__self.shelf, pp__self.call_side->returned);
    if (pp__task_init(&pp__self.task, &pp__self.shelf, plan.number, &pp__self.state) != 0 ||
        (plan.traces && pp__task_trace(&pp__self.task) != 0))
        pp__child_exit(EXIT_FAILURE);
    pp__received_init(&pp__self.received, pp__self.socket, &pp__self.carried);
    listen_for_stops();
    pp__trace_set_bottom(__builtin_frame_address(0));
    pp__crash_install(pp__self.result_side->crash, sizeof pp__self.result_side->crash,
                      &pp__self.result_side->crash_size);
    pthread_cleanup_push(left_by_pthread_exit, NULL);
    serve();
    pthread_cleanup_pop(0);
}
