/* SPDX-License-Identifier: MIT */
/* The worker runs a call, or a duty. */
#include "pool/worker_run.h"

#include "base/error.h"
#include "process/identity.h"
#include "shm/segment.h"

#include <string.h>

#define RING_INTERVAL PP__MILLISECOND /* inside a chunk the owner is rung this often at most */
#define RUN_INTERVAL                                                                                                   \
    (50 * PP__MICROSECOND) /* results of a chunk are published after so long at the latest, once one has ended */

/* -------------------------------------------------------------------------------------------- the clock */

/* Where tasks are short the clock is read after so long, or so many of them. */
#define STRIDE_TIME (8 * PP__MICROSECOND)
#define STRIDE_MAX 64

static int stride(uint64_t each)
{
    uint64_t fit = each > 0 ? STRIDE_TIME / each : STRIDE_MAX;
    return fit < 1 ? 1 : fit > STRIDE_MAX ? STRIDE_MAX : (int)fit;
}

uint64_t pp__read_time(bool failed)
{
    uint64_t tasks = (uint64_t)(pp__self.clock.from - pp__self.clock.left);
    uint64_t now = pp__now(), all = now - pp__self.clock.now, before = (tasks - 1) * pp__self.clock.each;
    pp__self.clock.each = all / tasks;
    pp__self.clock.shorts = !failed && pp__self.clock.each <= PP__SHORT ? pp__self.clock.shorts + 1 : 0;
    pp__self.clock.left = stride(pp__self.clock.each);
    pp__set_time(now);
    return !failed ? pp__self.clock.each : all > before ? all - before : 0;
}

/* ---------------------------------------------------------------------------------------------- outcomes */

/* Of a call, or of what is none. */
static inline void send_unchecked(enum pp__record_type type, uint32_t slot, uint64_t id)
{
    pp__self_publish_outcome(type, id, slot, pp__run_time(pp__self.task.failed));
}

static void send_alone(enum pp__record_type type, uint32_t slot, uint64_t id)
{
    pp__check_frame(pp__frame(type, id));
    send_unchecked(type, slot, id);
}

/* -------------------------------------------------------------------------------------------- elements */

static void note_error(struct pp__taken *taken, int error)
{
    taken->error = error;
    if (error)
        snprintf(taken->text, sizeof taken->text, "%s", pp_last_error());
}

/* Those that lie behind a record. */
static inline void lay_elements(struct pp__taken *taken, const void *place, bool same, uint64_t each)
{
    taken->at = (struct pp__elements){.place = place, .same = same, .each = each, .step = pp__same_room(each)};
    taken->function = NULL;
    taken->mapped = NULL;
    taken->results = NULL;
    taken->error = 0;
}

static void open_elements(const struct pp__call_record *call, uint64_t id, struct pp__taken *taken)
{
    lay_elements(taken, call + 1, call->flags & PP__SAME, call->each);
    if (!(call->flags & PP__AHEAD))
        return;
    if (pp__flags_bring_any(call->flags))
        pp__self.clock.now = 0; /* it will take time */
    taken->size = call->size;
    pp__self.received.results = NULL;
    note_error(taken, pp__receive(&pp__self.received, call, id, &taken->at.place, &taken->mapped));
    taken->results = pp__self.received.results;
    taken->result_size = pp__self.received.each;
    if (call->size == 0)
        taken->at.step = call->each; /* they do not travel, and so are not padded */
}

bool pp__find_function(const struct pp__call_record *call, struct pp__taken *taken)
{
    struct pp__announced *module = &pp__self.modules[call->module];
    if (taken->error)
        return false;
    if (!module->base)
        note_error(taken, pp__module_open(module->travel, module->size, pp__self.shared_images, &module->base));
    uintptr_t address = module->base + call->offset;
    if (!taken->error)
        memcpy(&taken->function, &address, sizeof taken->function);
    return !taken->error;
}

static void close_elements(struct pp__taken *taken)
{
    if (taken->mapped)
        pp__payload_unmap(taken->mapped, taken->size);
}

/* Whether half of what lay behind chunks is done, or there is but one more like this one: the owner has time to send
 * more. */
static bool runs_low(const struct pp__call_record *call)
{
    uint32_t behind = pp__ring_behind(&pp__self.calls);
    uint64_t room = sizeof(struct pp__record) + sizeof *call + (call->flags & PP__BIG ? 0 : call->size) +
                    call->buffers * sizeof(struct pp__buffer_record);
    if (behind > pp__self.most_behind)
        pp__self.most_behind = behind;
    if (behind > pp__self.most_behind / 2 && behind > room + PP__RING_ALIGN)
        return false;
    pp__self.most_behind = behind;
    return true;
}

void pp__tell(const struct pp__call_record *call, uint64_t id, bool last)
{
    uint64_t now = pp__self.clock.now;
    if (pp__self.run.record && (last || now - pp__self.run.opened_at >= RUN_INTERVAL))
        pp__self_close_run();
    if (pp__ring_used(&pp__self.results) > PP__RING_BYTES / 2)
        pp__self_ring_if_wanted(PP__WANT_ROOM, id);
    else if (last && call->count > 1 && runs_low(call))
        pp__self_ring_if_wanted(PP__WANT_ATTENTION, id);
    else if ((last && call->count == 1) ||
             (int64_t)(now - pp__self.rung_at) >= (int64_t)RING_INTERVAL) /* the clock may be behind the last ring */
        pp__self_ring_if_wanted(PP__WANT_RESULT, id);
}

void pp__fail_to_run(const struct pp__call_record *call, uint64_t id, const struct pp__taken *taken)
{
    struct pp__result_record header = {.slot = call->slot};
    pp__self_publish_message(PP__RECORD_RESULT, id, header, PP__OUTCOME_TRAVEL, taken->error, taken->text);
}

/* ------------------------------------------------------------------------------------------------ calls */

/* Apart, for the sake of calls without. Behind the task: before its outcome is seen nothing is held that does not go
 * back with it. */
__attribute__((noinline)) static void settle_descriptors(void)
{
    pp__carried_drop_given(&pp__self.carried);
    if (pp__self.task.failed)
        pp__carried_drop_back(&pp__self.carried);
}

static void run_single(const struct pp__call_record *call, uint64_t id, struct pp__taken *taken)
{
    if (!pp__begin(call->slot, 0, pp__slot_word(id, PP__SLOT_BEGUN), pp__begin_time(call->flags))) {
        pp__carried_drop_given(&pp__self.carried);
        return;
    }
    if (pp__find_function(call, taken)) {
        pp__task_begin(&pp__self.task, id, pp__self.seed);
        pp__run_frame(pp__frame(PP__RECORD_RESULT, id), taken->function, pp__elements_data(&taken->at),
                      pp__elements_size(&taken->at));
        if (call->flags & PP__AHEAD || pp__self.carried.back_count > 0)
            settle_descriptors();
        send_alone(PP__RECORD_RESULT, call->slot, id);
    } else {
        pp__carried_drop_given(&pp__self.carried);
        pp__fail_to_run(call, id, taken);
    }
    pp__tell(call, id, true);
}

/* Where the next call's output begins. What was told and not read stays; if there is too little room behind it, it is
 * waited for. */
static void place_output(uint64_t at[PP__STREAMS])
{
    bool some = pp__capture_measure(&pp__self.capture, at);
    while (!pp__self_has_been_read() && pp__capture_is_full(&pp__self.capture, at)) {
        pp__self_ring();
        pp__self_wait(pp__self_has_been_read, PP__SLEEP_BOUND);
    }
    if (some && pp__self_has_been_read()) {
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
    pp__check_frame(pp__frame(PP__RECORD_RESULT, id));
    pp__capture_end(&pp__self.capture, output);
    memcpy(pp__self_reserve(PP__RECORD_OUTPUT, id, sizeof *output), output, sizeof *output);
    send_unchecked(PP__RECORD_RESULT, slot, id);
}

/* As run_single, of a worker whose calls' output is captured. */
static void run_captured(const struct pp__call_record *call, uint64_t id, struct pp__taken *taken)
{
    struct pp__output_record output = {.slot = call->slot};
    place_output(output.begin);
    pp__self.clock.now = 0;
    if (!pp__begin(call->slot, 0, pp__slot_word(id, PP__SLOT_BEGUN), pp__begin_time(call->flags))) {
        pp__carried_drop_given(&pp__self.carried);
        return;
    }
    pp__flush_output(); /* of what runs between calls */
    pp__capture_begin(&pp__self.capture);
    if (pp__find_function(call, taken)) {
        pp__self.task.carried = call->flags & PP__ELEMENT ? NULL : &pp__self.carried;
        pp__task_begin(&pp__self.task, id, pp__self.seed);
        pp__run_frame(pp__frame(PP__RECORD_RESULT, id), taken->function, pp__elements_data(&taken->at),
                      pp__elements_size(&taken->at));
        settle_descriptors();
        send_captured(call->slot, id, &output);
    } else {
        pp__carried_drop_given(&pp__self.carried);
        pp__flush_output();
        pp__capture_end(&pp__self.capture, &output);
        pp__fail_to_run(call, id, taken);
    }
    pp__tell(call, id, true);
}

/* What runs when its elements have been opened. */
static inline void run_opened(const struct pp__call_record *call, uint64_t id, struct pp__taken *taken)
{
    if (pp__self.capture.on)
        run_captured(call, id, taken);
    else if (call->flags & PP__ELEMENT)
        pp__run_chunk(call, id, taken);
    else
        run_single(call, id, taken);
    if (pp__task_holds(&pp__self.task))
        pp__task_drop(&pp__self.task);
    close_elements(taken);
}

void pp__run_call(const struct pp__call_record *call, uint64_t id)
{
    struct pp__taken taken;
    open_elements(call, id, &taken);
    run_opened(call, id, &taken);
}

static inline __attribute__((always_inline)) void run_plain(const struct pp__plain_record *plain, uint64_t id,
                                                            bool lends)
{
    const struct pp__call_record call = {.offset = plain->offset,
                                         .module = plain->module,
                                         .slot = plain->slot,
                                         .count = 1,
                                         .flags = PP__SAME | (plain->timed ? PP__TIMED : 0) | (lends ? PP__WITH : 0),
                                         .each = plain->size};
    struct pp__taken taken;
    lay_elements(&taken, plain + 1, true, plain->size);
    if (lends) {
        const void *behind = (const char *)(plain + 1) + pp__padded(plain->size + 1u);
        note_error(&taken, pp__receive_lent(&pp__self.received, behind, plain->lent));
    }
    run_opened(&call, id, &taken);
}

/* Apart, for the sake of those without buffers. */
__attribute__((noinline)) static void run_lending(const struct pp__plain_record *plain, uint64_t id)
{
    run_plain(plain, id, true);
}

void pp__run_plain(const struct pp__plain_record *plain, uint64_t id)
{
    if (plain->lent > 0)
        run_lending(plain, id);
    else
        run_plain(plain, id, false);
}

void pp__listen_for_stops(void)
{
    pp__self.task.carried = &pp__self.carried;
    pp__self.task.stop = &pp__self.call_side->stop;
    pp__self.task.progress = &pp__self.result_side->progress;
}

void pp__run_duty(const struct pp__call_record *duty, enum pp__record_type type)
{
    struct pp__result_record header = {0};
    struct pp__taken taken;
    if (duty->count == 0) {
        pp__self_publish(type, 0, &header, NULL, 0);
        return;
    }
    open_elements(duty, 0, &taken);
    pp__begin_time(duty->flags);
    if (pp__find_function(duty, &taken)) {
        pp__self.task.stop = NULL;
        pp__self.task.progress = NULL;
        pp__self.task.carried = NULL;
        pp__task_begin(&pp__self.task, 0, pp__self.seed);
        pp__run_frame(pp__frame(type, 0), taken.function, pp__elements_data(&taken.at), pp__elements_size(&taken.at));
        send_alone(type, 0, 0);
        pp__task_drop(&pp__self.task);
        pp__listen_for_stops();
    } else {
        pp__self_publish_message(type, 0, header, PP__OUTCOME_TRAVEL, taken.error, taken.text);
    }
    close_elements(&taken);
}
