/* SPDX-License-Identifier: MIT */
#include "pool/item.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/seam.h"
#include "pool/argument.h"
#include "pool/backtrace.h"
#include "pool/block.h"
#include "pool/function.h"
#include "pool/future.h"
#include "pool/pool.h"
#include "pool/task.h"
#include "pool/wish.h"
#include "pool/workers.h"
#include "shm/segment.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Larger elements are put into a memfd at once, so that they are copied only once; smaller ones must not cost a
 * descriptor while they wait. */
#define HEAP_MAX (UINT64_C(1) << 20)

static int open_elements(struct pp__arguments *x, bool on_heap)
{
    if (x->size > HEAP_MAX && !on_heap) {
        x->fd = pp__payload_create(x->size, &x->elements);
        return x->fd < 0 ? x->fd : 0;
    }
    x->elements = PP_SYS(malloc)(x->size ? x->size : 1);
    return x->elements ? 0 : pp__fail(-ENOMEM, "no memory for arguments of %llu bytes", (unsigned long long)x->size);
}

int pp__item_open(struct pp__item *item, uint32_t count, uint64_t size, bool on_heap)
{
    pp__list_init(&item->link);
    item->x = (struct pp__arguments){.count = count, .size = size, .fd = -1};
    return open_elements(&item->x, on_heap);
}

/* By malloc: calloc takes nothing out of a thread's cache. NULL: no memory. */
static struct pp__item *allocate(void)
{
    struct pp__item *item = PP_SYS(malloc)(sizeof *item);
    if (item)
        *item = (struct pp__item){0};
    else
        pp__fail(-ENOMEM, "no memory for a work item");
    return item;
}

int pp__item_borrow(uint32_t count, uint64_t size, const void *elements, struct pp__item **created)
{
    struct pp__item *item = allocate();
    if (!item)
        return -ENOMEM;
    pp__list_init(&item->link);
    item->x.count = count;
    item->x.size = size;
    item->x.fd = -1;
    item->x.elements = (void *)(uintptr_t)elements; /* read only */
    item->borrowed = true;
    *created = item;
    return 0;
}

int pp__item_create(uint32_t count, uint64_t size, bool on_heap, struct pp__item **created)
{
    struct pp__item *item = allocate();
    if (!item)
        return -ENOMEM;
    int error = pp__item_open(item, count, size, on_heap);
    if (error) {
        free(item);
        return error;
    }
    *created = item;
    return 0;
}

static void close_elements(struct pp__arguments *x)
{
    if (x->fd >= 0 && x->elements)
        pp__payload_unmap(x->elements, x->size);
    else
        free(x->elements);
    pp__fd_close(x->fd);
    x->elements = NULL;
    x->fd = -1;
}

void pp__item_close(struct pp__item *item)
{
    pp__item_forget_tries(item);
    if (pp__item_home(item))
        pp__argument_leave(item);
    if (item->wishes)
        pp__wish_end(item);
    if (item->borrowed)
        item->x.elements = NULL;
    if (!item->plain)
        close_elements(&item->x);
}

void pp__item_free(struct pp__item *item)
{
    if (!item)
        return;
    pp__item_close(item);
    if (item->in_future)
        pp__future_item_ended(item);
    else
        free(item);
}

void *pp__item_add(void *place, const void *data, size_t size)
{
    return pp__item_add_rest(place, data, size, 0);
}

void *pp__item_add_rest(void *place, const void *data, size_t size, size_t done)
{
    struct pp__element *element = place;
    *element = (struct pp__element){.size = size};
    char *bytes = (char *)(element + 1);
    if (size > done)
        memcpy(bytes + done, (const char *)data + done, size - done);
    size_t room = pp__element_room(size) - sizeof *element;
    memset(bytes + size, 0, room - size);
    return bytes + room;
}

int pp__item_seal(struct pp__item *item)
{
    if (item->plain || item->x.fd < 0)
        return 0;
    void *elements = item->x.elements;
    item->x.elements = NULL;
    return pp__payload_seal(item->x.fd, elements, item->x.size);
}

struct pp__elements pp__item_elements(const struct pp__item *item)
{
    if (item->plain)
        return (struct pp__elements){.place = (const char *)item->room, .same = true, .each = item->plain_size};
    uint64_t each = item->same ? item->x.each : 0;
    return (struct pp__elements){
        .place = item->x.elements, .same = item->same, .each = each, .step = pp__same_room(each)};
}

void pp__item_lend(struct pp__item *item, pp_buffer *const *buffers, size_t count)
{
    item->lends = true;
    item->lent[0] = pp_buffer_ref(buffers[0]);
    item->lent[1] = count > 1 ? pp_buffer_ref(buffers[1]) : NULL;
}

void pp__item_give_back(struct pp__item *item)
{
    if (!item->lends)
        return;
    item->lends = false;
    for (int i = 0; i < PP__LENT_MOST && item->lent[i]; i++)
        pp_buffer_unref(item->lent[i]);
}

void *pp__item_room(struct pp__item *item, size_t size)
{
    if (!item->plain || size >= PP__ROOM)
        return NULL;
    pp__item_give_back(item);
    return item->room;
}

static_assert(sizeof(struct pp__element) == sizeof(struct pp__block_header), "an argument's memory can become a block");

/* An argument of more than twice the size would be kept for it. */
static bool can_take_over(const struct pp__item *item, size_t size)
{
    return !item->plain && pp__element_room(size) <= item->x.size && item->x.size / 2 <= pp__element_room(size);
}

void *pp__item_make_room(struct pp__item *item, size_t size)
{
    void *elements = item->plain ? NULL : item->x.elements, *room = item->room;
    struct pp__wish *wish = item->wishes ? item->x.wish : NULL;
    if (size >= PP__ROOM && can_take_over(item, size)) {
        room = pp__block_make(elements);
        elements = NULL;
    } else if (size >= PP__ROOM && (room = pp__block_allocate(size)) == NULL) {
        return NULL;
    }
    pp__item_give_back(item);
    item->plain = true;
    item->wishes = false;
    free(elements);
    pp__wish_free(wish);
    return room;
}

void *pp__item_run_room(struct pp__item *item, size_t each)
{
    struct pp__receiver *receiver = item->in_future ? NULL : item->x.receiver;
    return receiver && receiver->room ? receiver->room(receiver, item, each) : NULL;
}

/* ------------------------------------------------------------------------------------------- errors */

/* What is handed out when there is no memory for an error: one for each kind, the same for all calls of all pools, so
 * never written. */
#define MEMORYLESS(error_kind, error_code)                                                                             \
    [error_kind] = {.kind = (error_kind),                                                                              \
                    .code = (error_code),                                                                              \
                    .message = "(no memory to say more)",                                                              \
                    .function = "",                                                                                    \
                    .worker = -1,                                                                                      \
                    .status = -1}
static const pp_error memoryless[] = {
    MEMORYLESS(PP_ERROR_TASK, -EREMOTEIO),         MEMORYLESS(PP_ERROR_CRASH, -EOWNERDEAD),
    MEMORYLESS(PP_ERROR_TIMEOUT, -ETIME),          MEMORYLESS(PP_ERROR_CANCELLED, -ECANCELED),
    MEMORYLESS(PP_ERROR_BROKEN, -ENOTRECOVERABLE), MEMORYLESS(PP_ERROR_TRAVEL, -EBADMSG),
    MEMORYLESS(PP_ERROR_PROTOCOL, -EPROTO),
};

bool pp__error_is_own(const pp_error *error)
{
    return error < memoryless || error >= memoryless + sizeof memoryless / sizeof *memoryless;
}

int pp__error_code(pp_error_kind kind)
{
    return memoryless[kind].code;
}

pp_error *pp__item_error(struct pp__item *item, pp_error_kind kind, int task_code, const struct pp__worker *worker,
                         uint64_t run_time, const char *format, ...)
{
    char message[PP__MESSAGE_MAX + 1];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    const char *function = item->function ? item->function->name : "";
    size_t size = strlen(message) + 1, function_size = strlen(function) + 1;
    pp_error *error = PP_SYS(malloc)(sizeof *error + size + function_size);
    if (!error)
        return (pp_error *)(uintptr_t)&memoryless[kind];
    char *texts = (char *)(error + 1);
    memcpy(texts, message, size);
    memcpy(texts + size, function, function_size);
    *error = (pp_error){.kind = kind,
                        .code = pp__error_code(kind),
                        .task_code = task_code,
                        .message = texts,
                        .function = texts + size,
                        .call_id = pp__item_next_id(item),
                        .worker = worker ? worker->number : -1,
                        .pid = worker ? worker->pid : 0,
                        .status = -1,
                        .run_time = run_time,
                        .tries = item->tries,
                        .earlier = item->earlier};
    item->earlier = NULL;
    return error;
}

void pp__error_free(pp_error *error)
{
    while (error && pp__error_is_own(error)) {
        pp_error *earlier = (pp_error *)error->earlier;
        pp__backtrace_free(error->backtrace);
        free(error);
        error = earlier;
    }
}

void pp__outcome_free(struct pp__outcome *outcome)
{
    if (outcome->code)
        pp__error_free(outcome->error);
    else
        pp__block_free(outcome->data);
    *outcome = (struct pp__outcome){0};
}

/* ----------------------------------------------------------------------------------------- delivery */

bool pp__item_deliver(struct pp__item *item, uint32_t count, struct pp__outcome outcome)
{
    uint32_t index = pp__item_next(item);
    bool last = index + count == pp__item_count(item);
    item->tries = 0;
    item->timed_out = false;
    pp__item_forget_tries(item);
    pp__item_pool(item)->delivered += count;
    if (!item->plain)
        item->x.next += count;
    if (item->wishes) /* before anybody sees that it has ended */
        pp__wish_drop_attachments(item->x.wish);
    pp__item_give_back(item);
    if (item->in_future)
        pp__future_deliver(item, outcome);
    else
        item->x.receiver->deliver(item->x.receiver, item, index, count, outcome);
    if (last) {
        pp__item_pool(item)->outstanding--;
        pp__item_free(item);
    }
    return last;
}

void pp__item_fail(struct pp__item *item, pp_error_kind kind, int task_code, const char *text)
{
    for (bool last = false; !last;) {
        struct pp__outcome outcome = {.code = pp__error_code(kind)};
        outcome.error = pp__item_error(item, kind, task_code, NULL, 0, "%s", text);
        last = pp__item_deliver(item, 1, outcome);
    }
}

void pp__item_cancel(struct pp__item *item, const char *text)
{
    if (item->tries > 0 && item->earlier) {
        pp_error *error = item->earlier;
        item->earlier = NULL;
        if (pp__item_deliver(item, 1, (struct pp__outcome){.code = error->code, .error = error}))
            return;
    }
    pp__item_fail(item, PP_ERROR_CANCELLED, 0, text);
}
