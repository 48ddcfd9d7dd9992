/* SPDX-License-Identifier: MIT */
/* The worker's results go into its ring, and its owner is rung. */
#include "base/atomic.h"
#include "base/clock.h"
#include "base/copy.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/futex.h"
#include "base/seam.h"
#include "pool/worker.h"
#include "process/child.h"
#include "shm/buffer.h"
#include "shm/segment.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------------------- sleeping and waking */

/* The owner, in the way that it sleeps. A bell that is no more (a task closed it) leaves this process deaf to nobody
 * but useless: it ends between tasks, which costs nothing. */
void pp__self_ring(void)
{
    pp__self.rung_at = pp__self.clock.now ? pp__self.clock.now : pp__now();
    /* What was published before the look; pairs with the fence in pp__want_raise. */
    pp__fence_ordered(memory_order_seq_cst);
    if (pp__want_way(&pp__self.page->wanted) == PP__WANT_CALL)
        pp__futex_wake((_Atomic uint32_t *)&pp__self.page->manager, 1, true); /* which only reads it */
    else if (pp__fd_ring(pp__self.bell) < 0)
        pp__child_exit(EXIT_FAILURE);
}

/* Against ask and pp__collect_claim (collect.c). */
void pp__self_ring_if_wanted(enum pp__want mode, uint64_t id)
{
    if (pp__want_unrung(&pp__self.page->wanted, mode, id, &pp__self.rung_epoch))
        pp__self_ring();
}

/* A task has written a record of its own into the ring: nothing that is published behind it would be found. The owner
 * is to see that. */
__attribute__((noinline)) static void end_spoilt(void)
{
    pp__ring_spoil(&pp__self.results);
    pp__child_exit(EXIT_FAILURE); /* the zygote's report wakes the owner */
}

/* The owner may have given back what this process has not published: there will never be room again. What is not seen
 * by this, as more was published meanwhile, the owner sees by the tail (attend, timers.c). */
static void end_if_spoilt(void)
{
    if (!pp__self_has_been_read() && pp__self.results.poisoned)
        end_spoilt();
}

/* Against pp__worker_wake (send.c). */
void pp__self_wait(bool (*ready)(void), uint64_t bound)
{
    end_if_spoilt();
    pp__self.clock.now = 0;
    pp__store_relaxed(&pp__self.result_side->processor, (uint32_t)PP_SYS(sched_getcpu)());
    uint32_t number = pp__doorbell_lie_down(&pp__self.call_side->bell, &pp__self.result_side->sleeping);
    if (!ready())
        pp__futex_wait(&pp__self.call_side->bell, number, bound == PP__NEVER ? PP__NEVER : pp__now() + bound, true);
    pp__doorbell_get_up(&pp__self.result_side->sleeping);
}

/* ------------------------------------------------------------------------------------------ publish */

bool pp__self_has_been_read(void)
{
    return pp__ring_drained(&pp__self.results);
}

static bool have_room(void)
{
    return pp__ring_used(&pp__self.results) <= PP__RING_BYTES / 2; /* for the largest record */
}

/* A record of a task's own that lies there already may have been read: this process begins no other call. */
static void publish_all(void)
{
    pp__ring_publish(&pp__self.results);
    if (pp__self.results.poisoned)
        end_spoilt();
}

void *pp__self_reserve(enum pp__record_type type, uint64_t id, size_t size)
{
    for (;;) {
        void *record = pp__ring_reserve(&pp__self.results, type, id, (uint32_t)size);
        if (record)
            return record;
        publish_all();
        pp__self_ring();
        pp__self_wait(have_room, PP__SLEEP_BOUND);
    }
}

static void publish(void)
{
    PP_FAULT("worker.publish.before");
    publish_all();
    PP_FAULT("worker.publish.after");
}

void pp__self_publish_run(void)
{
    struct pp__run_record *record = pp__self.run.record;
    uint32_t count = pp__self.run.most - pp__self.run.left;
    record->count = count;
    record->run_time = pp__self.clock.each;
    pp__ring_shrink(&pp__self.results, record, (uint32_t)(sizeof *record + count * pp__self.run.room));
    pp__self.run.record = NULL;
    pp__self.run.each = UINT64_MAX;
    publish();
}

void pp__self_publish(enum pp__record_type type, uint64_t id, const struct pp__result_record *header,
                      const void *payload, size_t size)
{
    struct pp__result_record *record = pp__self_reserve(type, id, sizeof *header + size);
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
        bool all_taken = pp__ring_drained(&pp__self.results);
        int error = pp__ahead_send(pp__self.socket, id, size, fd, pp__self.carried.back, pp__self.carried.back_count);
        if (is_spoilt(error, all_taken))
            return 0;
        if (error != -EAGAIN && error != -ETOOMANYREFS && error != -ENOBUFS)
            return error ? pp__fail_errno(-error, "its result can't be sent") : 0;
        pp__self_ring();
        pp__self_wait(never, PP__MILLISECOND);
    }
}

/* A result in a memfd of its own. */
static int send_single(uint64_t id, uint32_t *flags)
{
    struct pp_task *task = &pp__self.task;
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
    struct pp_task *task = &pp__self.task;
    struct pp__place *place = &pp__self.shelf.places[task->place];
    bool fresh = place->fd >= 0;
    ((char *)place->memory)[task->size] = '\0'; /* it may have written one byte too many */
    int error = task->size > PP__COPIED_MAX ? pp__shelf_guard(&pp__self.shelf, task->place) : 0;
    if (!error && (fresh || pp__self.carried.back_count > 0))
        error = send_ahead(id, place->room, place->fd);
    if (error)
        return error;
    *flags |= pp__kept_flags((uint32_t)task->place, fresh);
    pp__shelf_put_out(&pp__self.shelf, task->place);
    task->result = NULL;
    task->place = -1;
    return 0;
}

void pp__self_publish_message(enum pp__record_type type, uint64_t id, struct pp__result_record header,
                              enum pp__outcome_type outcome, int code, const char *message)
{
    header.type = outcome;
    header.code = code;
    header.flags = 0;
    size_t length = strlen(message);
    header.size = length < PP__MESSAGE_MAX ? length : PP__MESSAGE_MAX;
    pp__self_publish(type, id, &header, message, header.size);
}

/* How the task failed, behind where it did so if that was noted. */
static void publish_failure(enum pp__record_type type, uint64_t id, struct pp__result_record header)
{
    const struct pp_task *task = &pp__self.task;
    size_t length = strlen(task->message);
    header.type = PP__OUTCOME_FAILED;
    header.code = task->code;
    header.flags = PP__TRACED | (uint32_t)task->trace_size << PP__PLACE_SHIFT;
    header.size = task->trace_size + length;
    struct pp__result_record *record = pp__self_reserve(type, id, sizeof header + header.size);
    *record = header;
    memcpy(record + 1, task->trace, task->trace_size);
    memcpy((char *)(record + 1) + task->trace_size, task->message, length);
    publish();
}

/* A result of which something goes ahead. What went back is the owner's alone when the record is seen. */
__attribute__((noinline)) static void publish_behind(enum pp__record_type type, uint64_t id,
                                                     struct pp__result_record header)
{
    struct pp_task *task = &pp__self.task;
    bool small = task->fd < 0 && task->place < 0;
    header.flags = pp__self.carried.back_count << PP__COUNT_SHIFT;
    int error = small              ? send_ahead(id, 0, -1)
                : task->place >= 0 ? send_kept(id, &header.flags)
                                   : send_single(id, &header.flags);
    pp__carried_drop_back(&pp__self.carried);
    if (error)
        pp__self_publish_message(type, id, header, PP__OUTCOME_TRAVEL, error, pp_last_error());
    else
        pp__self_publish(type, id, &header, small ? task->result : NULL, small ? task->size : 0);
    if (is_closed(error))
        pp__child_exit(EXIT_FAILURE); /* the next one would fare as this one did */
}

/* A failure, or a result that does not lie in its record, or that is none. */
__attribute__((noinline)) static void publish_other(enum pp__record_type type, uint64_t id, uint32_t slot,
                                                    uint64_t run_time)
{
    struct pp_task *task = &pp__self.task;
    struct pp__result_record header = {.slot = slot, .run_time = run_time};
    if (task->code && task->trace_size > 0 && type == PP__RECORD_RESULT) {
        publish_failure(type, id, header);
    } else if (task->code) {
        pp__self_publish_message(type, id, header, PP__OUTCOME_FAILED, task->code, task->message);
    } else if (task->failed) {
        pp__self_publish_message(type, id, header, PP__OUTCOME_TRAVEL, task->travel, task->message);
    } else if (type == PP__RECORD_READY) {
        pp__task_drop(task); /* an initializer's result, which nobody takes */
        pp__self_publish(type, id, &header, NULL, 0);
    } else {
        header.size = task->size;
        publish_behind(type, id, header);
    }
}

void pp__self_publish_outcome(enum pp__record_type type, uint64_t id, uint32_t slot, uint64_t run_time)
{
    const struct pp_task *task = &pp__self.task;
    if (task->failed || task->fd >= 0 || task->place >= 0 || pp__self.carried.back_count > 0 ||
        type == PP__RECORD_READY) {
        publish_other(type, id, slot, run_time);
        return;
    }
    struct pp__result_record *record = pp__self_reserve(type, id, sizeof *record + task->size);
    *record = (struct pp__result_record){.slot = slot, .size = task->size, .run_time = run_time};
    if (task->size == 16)
        pp__copy_words(record + 1, task->result, 16);
    else if (task->size > 0)
        memcpy(record + 1, task->result, task->size);
    publish();
}
