/* SPDX-License-Identifier: MIT */
/*
 * The worker process: take; run is in worker_run.c and worker_chunk.c, publish in worker_publish.c, and the wait for
 * the next call in worker_idle.c. One thread; it enters at pp__child_entry and leaves only as the owner says (LEAVE),
 * or by dying. It trusts the owner's memory; the owner trusts nothing of what is written here.
 */
#include "pool/worker_run.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/seam.h"
#include "pool/setting.h"
#include "process/child.h"
#include "process/crash.h"
#include "process/owner.h"
#include "shm/segment.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

struct pp__self pp__self;

/* --------------------------------------------------------------------------------------------- take */

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
        pp__run_duty(payload, PP__RECORD_READY);
    pp__self_ring_if_wanted(PP__WANT_ATTENTION, PP__WANT_NO_ID);
}

/* What is behind the record's first line will be looked at. */
static void take_call(const struct pp__record *record, const void *payload)
{
    static_assert(sizeof(struct pp__header) + sizeof(struct pp__call_record) == PP__RING_ALIGN, "all of that");
    __builtin_prefetch((const struct pp__call_record *)payload + 1);
    pp__run_call(payload, record->id);
}

static void take_plain(const struct pp__record *record, const void *payload)
{
    pp__run_plain(payload, record->id);
}

static void take_leave(const struct pp__record *record, const void *payload)
{
    (void)record;
    /* Against the take in attend_leaving (timers.c): the owner has given up waiting for this. */
    if (!pp__slot_start(&pp__self.result_side->leave, pp__slot_word(PP__LEAVE_ID, PP__SLOT_BEGUN)))
        return;
    pp__run_duty(payload, PP__RECORD_LEFT);
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

/* The next record, if one is there. */
static inline bool take_next(void)
{
    struct pp__record record;
    const void *payload;
    int got = pp__ring_next(&pp__self.calls, &record, &payload);
    if (got < 0)
        pp__child_exit(EXIT_FAILURE);
    if (got == 0)
        return false;
    take(&record, payload);
    if (pp__self.running) /* a jump led past what tells how it ended */
        pp__child_exit(EXIT_FAILURE);
    pp__ring_release(&pp__self.calls); /* arguments were read in place until here */
    return true;
}

/* When there is none any more. */
static inline void run_dry(void)
{
    pp__self_ring_if_wanted(PP__WANT_ATTENTION, pp__self.untold);
    pp__self.untold = PP__WANT_NO_ID;
    pp__self.clock.now = 0;
    pp__shelf_make_ready(&pp__self.shelf);
    if (pp__self.received.keeps)
        pp__received_tidy(&pp__self.received, pp__self.call_side);
}

static _Noreturn void serve(void)
{
    for (;;) {
        while (take_next()) {
        }
        run_dry();
        pp__self_idle();
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
    pp__self.stays = plan.stays || prctl(PR_GET_SECCOMP) > 0;
    pp__self.spin_limit = PP__SPIN_MAX;
    pp__self.rung_epoch = UINT64_MAX;
    pp__self.untold = PP__WANT_NO_ID;
    pp__self.run.each = UINT64_MAX;
    pp__shelf_init(&pp__self.shelf, &pp__self.page->shelf_most, pp__self.call_side->returned);
    if (pp__task_init(&pp__self.task, &pp__self.shelf, plan.number, &pp__self.state) != 0 ||
        (plan.traces && pp__task_trace(&pp__self.task) != 0))
        pp__child_exit(EXIT_FAILURE);
    pp__received_init(&pp__self.received, pp__self.socket, &pp__self.carried);
    pp__listen_for_stops();
    pp__trace_set_bottom(__builtin_frame_address(0));
    pp__crash_install(pp__self.result_side->crash, sizeof pp__self.result_side->crash,
                      &pp__self.result_side->crash_size);
    pthread_cleanup_push(left_by_pthread_exit, NULL);
    serve();
    pthread_cleanup_pop(0);
}
