/* SPDX-License-Identifier: MIT */
/*
 * The worker process: take, run, publish. One thread; it enters at pp__child_entry and leaves only as the owner says
 * (LEAVE), or by dying. It trusts the owner's memory; the owner trusts nothing of what is written here.
 */
#include "base/atomic.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/seam.h"
#include "base/spin.h"
#include "pool/capture.h"
#include "pool/descriptors.h"
#include "pool/process.h"
#include "pool/receive.h"
#include "pool/setting.h"
#include "pool/task.h"
#include "process/child.h"
#include "process/crash.h"
#include "process/identity.h"
#include "process/owner.h"
#include "shm/buffer.h"
#include "shm/doorbell.h"
#include "shm/segment.h"

#include <errno.h>
#include <pthread.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define SLEEP_BOUND (50 * PP__MILLISECOND) /* where something is known to come */
#define RING_INTERVAL PP__MILLISECOND      /* inside a chunk the owner is rung this often at most */
#define RUN_INTERVAL                                                                                                   \
    (50 * PP__MICROSECOND) /* results of a chunk are published after so long at the latest, once one has ended */
#define RUN_BYTES 8192u    /* and when they are so many */

/* A module as the owner announced it, opened when its first call has begun. */
struct module {
    void *travel; /* NULL: not announced */
    size_t size;
    uintptr_t base; /* 0: not opened */
};

static struct worker {
    bool spins;          /* it may spin when it runs dry */
    uint64_t spin_limit; /* ns; halved by a spin in which somebody else wanted the processor, grows by one that paid */
    const struct pp__call_side *call_side;
    struct pp__result_side *result_side;
    const struct pp__pool_page *page;
    int bell, socket;
    int shared_images;
    uint64_t seed;
    struct pp__ring_reader calls;
    struct pp__ring_writer results;
    uint64_t rung_epoch;  /* the owner's sleep that was last rung */
    uint64_t rung_at;     /* and when */
    uint32_t most_behind; /* bytes in the call ring, since there was last little */
    struct module *modules;
    size_t module_count;
    void *state; /* pp_task_set_state */
    int unfit;   /* why its setting can't be had, a negative errno, in words: */
    char unfit_text[256];
    struct pp__capture capture; /* of what calls write */
    /* What runs. A task that jumps into the frame of an earlier one comes back as that one (check_frame). */
    enum pp__record_type running; /* 0: nothing */
    struct pp_task task;
    struct pp__carried carried;   /* descriptors and buffers of the call that runs */
    struct pp__shelf shelf;       /* the buffers of its large results */
    struct pp__received received; /* what was kept of what came with calls */
    /* Results of the chunk that runs which are not published yet; the owner sees them all the same (take_open,
     * outcome.c). */
    struct {
        struct pp__run_record *record; /* NULL: none */
        char *next;                    /* where the next result goes */
        uint64_t each;
        uint32_t most; /* results */
        uint32_t left; /* of them: not there yet */
        uint64_t opened_at;
    } run;
    alignas(16) char arg[PP__TIGHT_MAX + 16]; /* a copy of an element that lies tight */
    /* The clock is read when a task ends, for the next one too; and where they are short, once for some of them. */
    struct {
        uint64_t now; /* as of the last reading; 0: time has passed since */
        uint64_t each;
        unsigned unread;  /* tasks since */
        unsigned skipped; /* tasks since one was last measured */
        unsigned stride;  /* measured after so many */
    } clock;
} self;

/* ------------------------------------------------------------------------------- sleeping and waking */

/* A bell that is no more (a task closed it) leaves this process deaf to nobody but useless: it ends between tasks,
 * which costs nothing. */
static void ring(void)
{
    self.rung_at = pp__now();
    if (pp__fd_ring(self.bell) < 0)
        pp__child_exit(EXIT_FAILURE);
}

/* Rings once for each sleep of the owner that asks for `mode` or more. Call after publishing. */
static void ring_if_wanted(enum pp__want mode)
{
    if (pp__want_unrung(&self.page->want, mode, &self.rung_epoch)) /* against pp__want_ask in ask (collect.c) */
        ring();
}

/* Against pp__worker_wake (workers.c). */
static void wait_for_owner(bool (*ready)(void), uint64_t bound)
{
    self.clock.now = 0;
    uint32_t number = pp__doorbell_lie_down(&self.call_side->bell, &self.result_side->sleeping);
    if (!ready())
        pp__futex_wait(&self.call_side->bell, number, bound == PP__NEVER ? PP__NEVER : pp__now() + bound, true);
    pp__doorbell_get_up(&self.result_side->sleeping);
}

/* ------------------------------------------------------------------------------------------ publish */

static bool have_room(void)
{
    return pp__ring_used(&self.results) <= PP__RING_BYTES / 4; /* for the largest record, padding included */
}

static void *reserve_record(enum pp__record_type type, uint64_t id, size_t size)
{
    for (;;) {
        void *record = pp__ring_reserve(&self.results, type, id, (uint32_t)size);
        if (record)
            return record;
        pp__ring_publish(&self.results);
        ring();
        wait_for_owner(have_room, SLEEP_BOUND);
    }
}

static void publish(void)
{
    PP_FAULT("worker.publish.before");
    pp__ring_publish(&self.results);
    PP_FAULT("worker.publish.after");
}

static void publish_run(void)
{
    struct pp__run_record *record = self.run.record;
    uint32_t count = self.run.most - self.run.left;
    record->count = count;
    record->run_time = self.clock.each;
    pp__ring_shrink(&self.results, record, (uint32_t)(sizeof *record + count * self.run.each));
    self.run.record = NULL;
    publish();
}

/* Publishes the results that have gathered, if there are some. */
static inline void close_run(void)
{
    if (self.run.record)
        publish_run();
}

static void publish_record(enum pp__record_type type, uint64_t id, const struct pp__result_record *header,
                           const void *payload, size_t size)
{
    struct pp__result_record *record = reserve_record(type, id, sizeof *header + size);
    *record = *header;
    if (size > 0)
        memcpy(record + 1, payload, size);
    publish();
}

static bool never(void)
{
    return false;
}

/* A task has closed the socket: as with the bell, between tasks that costs nothing. */
static bool is_closed(int error)
{
    return error == -EBADF || error == -ENOTSOCK;
}

/* It takes nothing any more: of another kind, or full though the owner has taken all that was ever announced. */
static bool is_spoilt(int error, bool all_taken)
{
    return error == -ENOTCONN || error == -EPIPE || (error == -EAGAIN && all_taken);
}

/*
 * Sends what is ahead of its record: the descriptor of the result, or -1, and those that go back. The socket is full
 * only while the owner collects nothing, unless a task has spoilt it: then the record goes alone, and the owner,
 * finding that nothing or something else came, ends this worker.
 */
static int send_ahead(uint64_t id, size_t size, int fd)
{
    for (;;) {
        bool all_taken = pp__ring_drained(&self.results);
        int error = pp__ahead_send(self.socket, id, size, fd, self.carried.back, self.carried.back_count);
        if (is_spoilt(error, all_taken))
            return 0;
        if (error != -EAGAIN && error != -ETOOMANYREFS && error != -ENOBUFS)
            return error ? pp__fail_errno(-error, "its result can't be sent") : 0;
        ring();
        wait_for_owner(never, PP__MILLISECOND);
    }
}

/* A result in a memfd of its own. */
static int send_single(uint64_t id, uint32_t *flags)
{
    struct pp_task *task = &self.task;
    int error = pp__payload_seal(task->fd, task->result, task->size);
    task->result = NULL; /* unmapped by the seal */
    *flags |= PP__BIG;
    if (error)
        return pp__fail(error, "its result is still mapped for writing somewhere and can't be sealed");
    return send_ahead(id, task->size, task->fd);
}

/*
 * A result in a buffer. What the owner does not copy can't be written to any more when the record is published, by a
 * thread that the task has left behind for example, and not before it was given back.
 */
static int send_kept(uint64_t id, uint32_t *flags)
{
    struct pp_task *task = &self.task;
    struct pp__place *place = &self.shelf.places[task->place];
    bool fresh = place->fd >= 0;
    ((char *)place->memory)[task->size] = '\0'; /* it may have written one byte too many */
    if (task->size > PP__COPIED_MAX)
        place->guarded = true;
    int error = place->guarded ? pp__buffer_guard(place->memory, place->room) : 0;
    if (!error && (fresh || self.carried.back_count > 0))
        error = send_ahead(id, place->room, place->fd);
    if (error)
        return error;
    *flags |= pp__kept_flags((uint32_t)task->place, fresh);
    pp__shelf_put_out(&self.shelf, task->place);
    task->result = NULL;
    task->place = -1;
    return 0;
}

static void publish_message(enum pp__record_type type, uint64_t id, struct pp__result_record header,
                            enum pp__outcome_type outcome, int code, const char *message)
{
    header.type = outcome;
    header.code = code;
    header.flags = 0;
    size_t length = strlen(message);
    header.size = length < PP__MESSAGE_MAX ? length : PP__MESSAGE_MAX;
    publish_record(type, id, &header, message, header.size);
}

/* How the task failed, behind where it did so if that was noted. */
static void publish_failure(enum pp__record_type type, uint64_t id, struct pp__result_record header)
{
    const struct pp_task *task = &self.task;
    size_t length = strlen(task->message);
    header.type = PP__OUTCOME_FAILED;
    header.code = task->code;
    header.flags = PP__TRACED | (uint32_t)task->trace_size << PP__PLACE_SHIFT;
    header.size = task->trace_size + length;
    struct pp__result_record *record = reserve_record(type, id, sizeof header + header.size);
    *record = header;
    memcpy(record + 1, task->trace, task->trace_size);
    memcpy((char *)(record + 1) + task->trace_size, task->message, length);
    publish();
}

/* A result of which something goes ahead. What went back is the owner's alone when the record is seen. */
__attribute__((noinline)) static void publish_behind(enum pp__record_type type, uint64_t id,
                                                     struct pp__result_record header)
{
    struct pp_task *task = &self.task;
    bool small = task->fd < 0 && task->place < 0;
    header.flags = self.carried.back_count << PP__COUNT_SHIFT;
    int error = small              ? send_ahead(id, 0, -1)
                : task->place >= 0 ? send_kept(id, &header.flags)
                                   : send_single(id, &header.flags);
    pp__carried_drop_back(&self.carried);
    if (error)
        publish_message(type, id, header, PP__OUTCOME_TRAVEL, error, pp_last_error());
    else
        publish_record(type, id, &header, small ? task->result : NULL, small ? task->size : 0);
    if (is_closed(error))
        pp__child_exit(EXIT_FAILURE); /* the next one would fare as this one did */
}

/* What the task left behind, as one record. */
static void publish_outcome(enum pp__record_type type, uint64_t id, struct pp__result_record header)
{
    struct pp_task *task = &self.task;
    if (task->code && task->trace_size > 0 && type == PP__RECORD_RESULT) {
        publish_failure(type, id, header);
        return;
    }
    if (task->code) {
        publish_message(type, id, header, PP__OUTCOME_FAILED, task->code, task->message);
        return;
    }
    if (task->message[0]) {
        publish_message(type, id, header, PP__OUTCOME_TRAVEL, task->travel, task->message);
        return;
    }
    if (type == PP__RECORD_READY)
        pp__task_drop(task); /* an initializer's result, which nobody takes */
    header.size = task->size;
    if (task->fd < 0 && task->place < 0 && self.carried.back_count == 0)
        publish_record(type, id, &header, task->result, task->size);
    else
        publish_behind(type, id, header);
}

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

static inline uint64_t begin_time(uint32_t flags)
{
    if (self.clock.now == 0 || flags & PP__TIMED) {
        self.clock.now = pp__now();
        self.clock.unread = 0;
    }
    return self.clock.now;
}

static unsigned stride(uint64_t each)
{
    uint64_t fit = each > 0 ? STRIDE_TIME / each : STRIDE_MAX;
    return fit < 1 ? 1 : fit > STRIDE_MAX ? STRIDE_MAX : (unsigned)fit;
}

/* How long the task took: a mean of those since the last reading, but for one that failed, which tells its time. */
static inline uint64_t run_time(bool failed)
{
    if (!failed && ++self.clock.skipped < self.clock.stride) {
        self.clock.unread++;
        return self.clock.each;
    }
    uint64_t now = pp__now(), all = now - self.clock.now, before = self.clock.unread * self.clock.each;
    self.clock.each = all / (self.clock.unread + 1);
    self.clock.stride = stride(self.clock.each);
    self.clock.unread = self.clock.skipped = 0;
    self.clock.now = now;
    return !failed ? self.clock.each : all > before ? all - before : 0;
}

/* In the frame of another call than the one that runs nothing is to be said of it, and nothing twice. */
static inline void check_frame(enum pp__record_type type, uint64_t id)
{
    if (self.running != type || self.task.id != id)
        pp__child_exit(EXIT_FAILURE);
    self.running = 0;
}

/* Runs what self.task was begun for; how it ended is there. Whoever goes on with that calls check_frame first. */
static inline void run_element(pp_function *function, enum pp__record_type type, const void *arg, size_t size)
{
    self.running = type;
    pp__task_run(&self.task, function, arg, size);
    flush_output();
}

static bool has_failed(const struct pp_task *task)
{
    return task->code || task->message[0];
}

/* --------------------------------------------------------------------------------------------- run */

/*
 * Begins a run with the result of element `id`, the first of `left` that are to come, if it is one for runs. Room is
 * reserved for as many as there can be; until the run is published nothing else goes into the ring.
 */
static void open_run(uint32_t slot, uint64_t id, uint32_t left, uint64_t run_time)
{
    size_t each = self.task.size;
    if (left < 2 || each > PP__RUN_EACH_MAX)
        return;
    uint32_t most = each > 0 ? RUN_BYTES / (uint32_t)each : left;
    self.run.most = most < left ? most : left;
    struct pp__run_record *record = reserve_record(PP__RECORD_RUN, id, sizeof *record + self.run.most * each);
    *record = (struct pp__run_record){.slot = slot, .each = each, .run_time = run_time};
    self.run.record = record;
    self.run.next = (char *)(record + 1);
    self.run.each = each;
    self.run.left = self.run.most;
    self.run.opened_at = self.clock.now;
}

/* Puts the result of element `id` behind those of the elements before it, where it is of their size. */
static inline bool append(uint64_t id)
{
    const struct pp_task *task = &self.task;
    if (!self.run.record || task->size != self.run.each)
        return false;
    pp__copy_few(self.run.next, task->result, task->size);
    self.run.next += task->size;
    self.run.left--;
    PP_FAULT("worker.append.before");
    pp__open_tell(&self.result_side->open, id + 1); /* for has_open (outcome.c): the result, and the record's head */
    PP_FAULT("worker.append.after");
    if (self.run.left == 0)
        close_run();
    return true;
}

/* A result that does not go on with the open run, or a failure. */
static void send_other(uint32_t slot, uint64_t id, uint32_t left, uint64_t run_time)
{
    struct pp__result_record header = {.slot = slot, .run_time = run_time};
    close_run(); /* results come in the order of their elements */
    if (!has_failed(&self.task))
        open_run(slot, id, left, run_time);
    if (!append(id))
        publish_outcome(PP__RECORD_RESULT, id, header);
}

/* How element `id` of a chunk ended, the first of `left` that are to come. */
static inline void send_outcome(uint32_t slot, uint64_t id, uint32_t left)
{
    check_frame(PP__RECORD_RESULT, id);
    bool failed = has_failed(&self.task);
    uint64_t took = run_time(failed);
    if (!failed && append(id))
        return;
    send_other(slot, id, left, took);
    pp__task_begin(&self.task, id, self.seed);
}

/* The same for a call, or for what is none. */
static inline void send_unchecked(enum pp__record_type type, uint32_t slot, uint64_t id)
{
    struct pp__result_record header = {.slot = slot, .run_time = run_time(has_failed(&self.task))};
    publish_outcome(type, id, header);
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

static void open_elements(const struct pp__call_record *call, uint64_t id, struct elements *elements)
{
    elements->at =
        (struct pp__elements){.place = (const char *)(call + 1), .same = call->flags & PP__SAME, .each = call->each};
    elements->function = NULL;
    elements->mapped = NULL;
    elements->error = 0;
    if (!(call->flags & PP__AHEAD))
        return;
    self.clock.now = 0;
    elements->size = call->size;
    note_error(elements, pp__receive(&self.received, call, id, &elements->at.place, &elements->mapped));
}

/* When the first element has begun, as opening a module runs code of its own. False: there is no function, or there are
 * no elements. */
static bool find_function(const struct pp__call_record *call, struct elements *elements)
{
    struct module *module = &self.modules[call->module];
    if (elements->error)
        return false;
    if (!module->base)
        note_error(elements, pp__module_open(module->travel, module->size, self.shared_images, &module->base));
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
    pp__copy_few(self.arg, data, size);
    self.arg[size] = 0;
    return self.arg;
}

static void close_elements(struct elements *elements)
{
    if (elements->mapped)
        pp__payload_unmap(elements->mapped, elements->size);
}

/*
 * Begins an element: READY -> BEGUN for the first of a record, BEGUN -> BEGUN from the element before. Exactly one of
 * this and the owner's take (workers.c) wins.
 */
static inline bool begin(uint32_t slot, uint64_t before, uint64_t begun, uint64_t now)
{
    pp__store_relaxed(&self.result_side->begun_at[slot], now); /* published by the begin */
    PP_FAULT("worker.begin.before");
    bool won = pp__slot_begin(&self.result_side->slots[slot], before, begun);
    if (won)
        PP_FAULT("worker.begin.after");
    return won;
}

/* Whether half of what lay behind chunks is done, or there is but one more like this one: the owner has time to send
 * more. */
static bool runs_low(const struct pp__call_record *call)
{
    uint32_t behind = pp__ring_behind(&self.calls);
    uint64_t room = sizeof(struct pp__record) + sizeof *call + (call->flags & PP__BIG ? 0 : call->size);
    if (behind > self.most_behind)
        self.most_behind = behind;
    if (behind > self.most_behind / 2 && behind > room + PP__RING_ALIGN)
        return false;
    self.most_behind = behind;
    return true;
}

/* Behind an element. The owner is rung at the end, and in the middle of a chunk when it has waited for RING_INTERVAL or
 * the result ring fills. */
static void tell(const struct pp__call_record *call, bool last)
{
    uint64_t now = self.clock.now;
    if (self.run.record && (last || now - self.run.opened_at >= RUN_INTERVAL))
        close_run();
    if (pp__ring_used(&self.results) > PP__RING_BYTES / 2)
        ring_if_wanted(PP__WANT_ROOM);
    else if (last && call->count > 1 && runs_low(call))
        ring_if_wanted(PP__WANT_ATTENTION);
    else if ((last && call->count == 1) ||
             (int64_t)(now - self.rung_at) >= (int64_t)RING_INTERVAL) /* the clock may be behind the last ring */
        ring_if_wanted(PP__WANT_EVERY);
}

/* Apart, for the sake of calls without. Behind the task: before its outcome is seen nothing is held that does not go
 * back with it. */
__attribute__((noinline)) static void settle_descriptors(void)
{
    pp__carried_drop_given(&self.carried);
    if (has_failed(&self.task))
        pp__carried_drop_back(&self.carried);
}

static void fail_to_run(const struct pp__call_record *call, uint64_t id, const struct elements *elements)
{
    struct pp__result_record header = {.slot = call->slot};
    publish_message(PP__RECORD_RESULT, id, header, PP__OUTCOME_TRAVEL, elements->error, elements->text);
}

static void run_single(const struct pp__call_record *call, uint64_t id, struct elements *elements)
{
    if (!begin(call->slot, pp__slot_word(id, PP__SLOT_READY), pp__slot_word(id, PP__SLOT_BEGUN),
               begin_time(call->flags))) {
        pp__carried_drop_given(&self.carried);
        return;
    }
    if (find_function(call, elements)) {
        pp__task_begin(&self.task, id, self.seed);
        run_element(elements->function, PP__RECORD_RESULT, pp__elements_data(&elements->at),
                    pp__elements_size(&elements->at));
        if (call->flags & PP__AHEAD || self.carried.back_count > 0)
            settle_descriptors();
        send_alone(PP__RECORD_RESULT, call->slot, id);
    } else {
        pp__carried_drop_given(&self.carried);
        fail_to_run(call, id, elements);
    }
    tell(call, true);
}

/* Between elements self.task is as begun, but for what pp__task_go_on writes. */
static void run_chunk(const struct pp__call_record *call, uint64_t id, struct elements *elements)
{
    const uint32_t slot = call->slot, count = call->count, flags = call->flags;
    struct pp__elements at = elements->at;
    uint64_t before = pp__slot_word(id + call->first, PP__SLOT_READY);
    pp__task_begin(&self.task, id, self.seed);
    self.task.carried = NULL;
    for (uint32_t i = call->first; i < count; i++) {
        uint64_t begun = pp__slot_word(id + i, PP__SLOT_BEGUN);
        if (!begin(slot, before, begun, begin_time(flags)))
            break; /* a buffer may have the elements of another call by now: nothing is read before the begin */
        before = begun;
        for (uint32_t k = 0; i == call->first && k < i && !elements->error; k++)
            pp__elements_next(&at);
        if (elements->function || find_function(call, elements)) {
            size_t size = pp__elements_size(&at);
            pp__task_go_on(&self.task, id + i);
            run_element(elements->function, PP__RECORD_RESULT, argument_of(&at, size), size);
            send_outcome(slot, id + i, count - i);
            pp__elements_next(&at);
        } else {
            fail_to_run(call, id + i, elements);
        }
        if (i + 1 == count || self.clock.unread == 0) /* it was read just now */
            tell(call, i + 1 == count);
    }
    self.task.carried = &self.carried;
    close_run();
}

static bool have_been_read(void)
{
    return pp__ring_drained(&self.results);
}

/* Where the next call's output begins. What was told and not read stays; if there is too little room behind it, it is
 * waited for. */
static void place_output(uint64_t at[PP__STREAMS])
{
    bool some = pp__capture_measure(&self.capture, at);
    while (!have_been_read() && pp__capture_is_full(&self.capture, at)) {
        ring();
        wait_for_owner(have_been_read, SLEEP_BOUND);
    }
    if (some && have_been_read()) {
        pp__capture_empty(&self.capture);
        pp__capture_measure(&self.capture, at);
    }
    /* Published by the cas in begin; pairs with the loads in pp__output_salvage (output.c). Nothing in a file that was
     * lost is this call's. */
    for (unsigned i = 0; i < PP__STREAMS; i++)
        pp__store_relaxed(&self.result_side->output[i], self.capture.streams[i].lost ? UINT64_MAX : at[i]);
}

/* How it ended, and ahead of that where its output lies. */
static void send_captured(uint32_t slot, uint64_t id, struct pp__output_record *output)
{
    check_frame(PP__RECORD_RESULT, id);
    pp__capture_end(&self.capture, output);
    memcpy(reserve_record(PP__RECORD_OUTPUT, id, sizeof *output), output, sizeof *output);
    send_unchecked(PP__RECORD_RESULT, slot, id);
}

/* As run_single, of a worker whose calls' output is captured. */
static void run_captured(const struct pp__call_record *call, uint64_t id, struct elements *elements)
{
    struct pp__output_record output = {.slot = call->slot};
    place_output(output.begin);
    self.clock.now = 0;
    if (!begin(call->slot, pp__slot_word(id, PP__SLOT_READY), pp__slot_word(id, PP__SLOT_BEGUN),
               begin_time(call->flags))) {
        pp__carried_drop_given(&self.carried);
        return;
    }
    flush_output(); /* of what runs between calls */
    pp__capture_begin(&self.capture);
    if (find_function(call, elements)) {
        self.task.carried = call->flags & PP__ELEMENT ? NULL : &self.carried;
        pp__task_begin(&self.task, id, self.seed);
        run_element(elements->function, PP__RECORD_RESULT, pp__elements_data(&elements->at),
                    pp__elements_size(&elements->at));
        settle_descriptors();
        send_captured(call->slot, id, &output);
    } else {
        pp__carried_drop_given(&self.carried);
        flush_output();
        pp__capture_end(&self.capture, &output);
        fail_to_run(call, id, elements);
    }
    tell(call, true);
}

static void run_call(const struct pp__call_record *call, uint64_t id)
{
    struct elements elements;
    open_elements(call, id, &elements);
    if (self.capture.on)
        run_captured(call, id, &elements);
    else if (call->flags & PP__ELEMENT)
        run_chunk(call, id, &elements);
    else
        run_single(call, id, &elements);
    if (pp__task_holds(&self.task))
        pp__task_drop(&self.task);
    close_elements(&elements);
}

/* While it runs calls; nobody asks a duty, and no descriptors travel with one. */
static void listen_for_stops(void)
{
    self.task.carried = &self.carried;
    self.task.stop = &self.call_side->stop;
    self.task.progress = &self.result_side->progress;
}

/* The initializer or finalizer, if there is one; its outcome answers as a record of `type`. */
static void run_duty(const struct pp__call_record *duty, enum pp__record_type type)
{
    struct pp__result_record header = {0};
    struct elements elements;
    if (duty->count == 0) {
        publish_record(type, 0, &header, NULL, 0);
        return;
    }
    open_elements(duty, 0, &elements);
    begin_time(duty->flags);
    if (find_function(duty, &elements)) {
        self.task.stop = NULL;
        self.task.progress = NULL;
        self.task.carried = NULL;
        pp__task_begin(&self.task, 0, self.seed);
        run_element(elements.function, type, pp__elements_data(&elements.at), pp__elements_size(&elements.at));
        send_alone(type, 0, 0);
        pp__task_drop(&self.task);
        listen_for_stops();
    } else {
        publish_message(type, 0, header, PP__OUTCOME_TRAVEL, elements.error, elements.text);
    }
    close_elements(&elements);
}

static void take_module(const struct pp__record *record, const void *payload)
{
    size_t index = record->id;
    if (index >= self.module_count) {
        struct module *grown = PP_SYS(realloc)(self.modules, (index + 1) * sizeof *grown);
        if (!grown)
            pp__child_exit(EXIT_FAILURE);
        memset(grown + self.module_count, 0, (index + 1 - self.module_count) * sizeof *grown);
        self.modules = grown;
        self.module_count = index + 1;
    }
    struct module *module = &self.modules[index];
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
    self.task.worker = plan.number;
    self.spins = plan.spins != 0;
    snprintf(name, sizeof name, PP__WORKER_NAME, (int)plan.number);
    prctl(PR_SET_NAME, name);
}

/* The first reason is told. */
static void note_unfit(int error)
{
    if (!error || self.unfit)
        return;
    self.unfit = error;
    snprintf(self.unfit_text, sizeof self.unfit_text, "%s", pp_last_error());
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
    note_unfit(pp__capture_open(&self.capture, self.socket, &order));
}

static void take_init(const struct pp__record *record, const void *payload)
{
    (void)record;
    if (self.unfit)
        publish_message(PP__RECORD_READY, 0, (struct pp__result_record){0}, PP__OUTCOME_UNFIT, self.unfit,
                        self.unfit_text);
    else
        run_duty(payload, PP__RECORD_READY);
    ring_if_wanted(PP__WANT_ATTENTION);
}

static void take_call(const struct pp__record *record, const void *payload)
{
    run_call(payload, record->id);
}

static void take_leave(const struct pp__record *record, const void *payload)
{
    (void)record;
    /* Against the take in attend_leaving (timers.c): the owner has given up waiting for this. */
    if (!pp__slot_begin(&self.result_side->slots[0], pp__slot_word(PP__LEAVE_ID, PP__SLOT_READY),
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
        [PP__RECORD_CAPTURE] = take_capture,
    };
    if (record->type < sizeof handlers / sizeof *handlers && handlers[record->type])
        handlers[record->type](record, payload);
}

static bool have_call(void)
{
    return pp__ring_waiting(&self.calls);
}

/* As long as the owner allows, looked up all the time: it may want the processor for another worker. */
static bool spin_for_call(void)
{
    struct pp__spin spin;
    uint64_t allowed = self.spins ? pp__load_relaxed(&self.page->spin) : 0;
    pp__spin_begin(&spin, allowed < self.spin_limit ? allowed : self.spin_limit);
    bool found = have_call();
    while (!found && pp__load_relaxed(&self.page->spin) && pp__spin_on(&spin))
        found = have_call();
    if (spin.jumped)
        self.spin_limit = self.spin_limit / 2 + PP__SPIN_MAX / 64; /* never none, or it could not grow again */
    else if (found && self.spin_limit < PP__SPIN_MAX)
        self.spin_limit += PP__SPIN_MAX / 16;
    return found;
}

static _Noreturn void serve(void)
{
    for (;;) {
        struct pp__record record;
        const void *payload;
        int got = pp__ring_next(&self.calls, &record, &payload);
        if (got < 0)
            pp__child_exit(EXIT_FAILURE);
        if (got > 0) {
            take(&record, payload);
            if (self.running) /* a jump led past what tells how it ended */
                pp__child_exit(EXIT_FAILURE);
            pp__ring_release(&self.calls); /* arguments were read in place until here */
            continue;
        }
        ring_if_wanted(PP__WANT_ATTENTION);
        self.clock.now = 0;
        pp__shelf_take_in(&self.shelf);
        if (self.received.keeps)
            pp__received_tidy(&self.received, self.call_side);
        if (!spin_for_call())
            wait_for_owner(have_call, PP__NEVER);
    }
}

/* ------------------------------------------------------------------------------------------- entry */

static int open_channel(const int *fds)
{
    void *call_side, *result_side, *page;
    int error = pp__segment_map(fds[PP__FD_CALL], sizeof *self.call_side, false, &call_side);
    if (!error)
        error = pp__segment_map(fds[PP__FD_RESULT], sizeof *self.result_side, true, &result_side);
    if (!error)
        error = pp__segment_map(fds[PP__FD_PAGE], PP__PAGE_SIZE, false, &page);
    if (error)
        return error;
    for (int i = PP__FD_CALL; i <= PP__FD_PAGE; i++)
        pp__fd_close(fds[i]);
    self.call_side = call_side;
    self.result_side = result_side;
    self.page = page;
    if (self.call_side->magic != PP__MAGIC || self.call_side->version != PP__VERSION ||
        self.call_side->size != sizeof *self.call_side)
        return -EPROTO;
    pp__ring_reader_init(&self.calls, self.call_side->calls, PP__RING_BYTES, &self.call_side->call_tail,
                         &self.result_side->call_head, 0);
    pp__ring_writer_init(&self.results, self.result_side->results, PP__RING_BYTES, &self.result_side->result_tail,
                         &self.call_side->result_head, 0);
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
    memset(&self, 0, sizeof self); /* a worker that forks a pool of its own leaves its state to that pool's workers */
    if (size != sizeof plan || count != PP__FD_COUNT || open_channel(fds) != 0)
        pp__child_exit(EXIT_FAILURE);
    memcpy(&plan, data, sizeof plan);
    self.bell = fds[PP__FD_BELL];
    self.socket = fds[PP__FD_SOCKET];
    self.shared_images = shared_images;
    self.seed = plan.seed;
    self.spins = plan.spins != 0;
    self.spin_limit = PP__SPIN_MAX;
    self.rung_epoch = UINT64_MAX;
    pp__shelf_init(&self.shelf, self.call_side->returned);
    if (pp__task_init(&self.task, &self.shelf, plan.number, &self.state) != 0 ||
        (plan.traces && pp__task_trace(&self.task) != 0))
        pp__child_exit(EXIT_FAILURE);
    pp__received_init(&self.received, self.socket, &self.carried);
    listen_for_stops();
    pp__trace_set_bottom(__builtin_frame_address(0));
    pp__crash_install(self.result_side->crash, sizeof self.result_side->crash, &self.result_side->crash_size);
    pthread_cleanup_push(left_by_pthread_exit, NULL);
    serve();
    pthread_cleanup_pop(0);
}
