/* SPDX-License-Identifier: MIT */
#include "sync/messages.h"

#include "base/atomic.h"
#include "base/error.h"
#include "base/seam.h"

#include <errno.h>
#include <string.h>

/* `put` is read last, so that it is not behind `taken`; it may have gone far ahead in between. */
uint64_t pp__messages_count(const struct pp__messages *messages)
{
    uint64_t taken = pp__load_acquire(&messages->counts->taken); /* pairs with the store in pp__messages_drop */
    uint64_t count = pp__load_relaxed(&messages->counts->put) - taken;
    return count < messages->max_items ? count : messages->max_items;
}

static struct pp__message_entry *entry(const struct pp__messages *messages, uint64_t number)
{
    return &messages->entries[number % messages->max_items];
}

/* Where the next message begins, and how many bytes those before it take. */
static uint64_t end_of(const struct pp__messages *messages, uint64_t *used)
{
    uint64_t put = pp__load_relaxed(&messages->counts->put), taken = pp__load_relaxed(&messages->counts->taken);
    *used = 0;
    if (put == taken)
        return 0;
    const struct pp__message_entry *last = entry(messages, put - 1);
    uint64_t end = last->position + last->size;
    *used = end - entry(messages, taken)->position;
    return end;
}

int pp__messages_check(const struct pp__messages *messages)
{
    uint64_t put = pp__load_relaxed(&messages->counts->put), taken = pp__load_relaxed(&messages->counts->taken), used;
    end_of(messages, &used);
    if (put - taken > messages->max_items || used > messages->max_bytes ||
        (put != taken && entry(messages, taken)->size > used))
        return pp__fail(-EPROTO, "the queue's memory was overwritten");
    return 0;
}

bool pp__messages_fit(const struct pp__messages *messages, uint64_t size)
{
    uint64_t used, count = pp__load_relaxed(&messages->counts->put) - pp__load_relaxed(&messages->counts->taken);
    end_of(messages, &used);
    return count < messages->max_items && size <= messages->max_bytes - used;
}

/* How many of `size` bytes from `position` on lie before the end of the ring; *at is where they begin. */
static uint64_t before_end(const struct pp__messages *messages, uint64_t position, uint64_t size, uint64_t *at)
{
    *at = position % messages->max_bytes;
    uint64_t room = messages->max_bytes - *at;
    return size < room ? size : room;
}

void pp__messages_put(struct pp__messages *messages, const void *data, uint64_t size)
{
    uint64_t used, at, put = pp__load_relaxed(&messages->counts->put), position = end_of(messages, &used);
    uint64_t first = before_end(messages, position, size, &at);
    if (first > 0)
        memcpy(messages->bytes + at, data, first);
    PP_FAULT("queue.put.half");
    if (size > first)
        memcpy(messages->bytes, (const unsigned char *)data + first, size - first);
    PP_FAULT("queue.put.copied");
    *entry(messages, put) = (struct pp__message_entry){.position = position, .size = size};
    PP_FAULT("queue.put.before");
    pp__store_release(&messages->counts->put,
                      put + 1); /* the store that puts it; pairs with the entering of the gate by who takes it */
    PP_FAULT("queue.put.after");
}

/* Read once; what was checked may be overwritten since. */
uint64_t pp__messages_first(const struct pp__messages *messages)
{
    uint64_t size = entry(messages, pp__load_relaxed(&messages->counts->taken))->size;
    return size < messages->max_bytes ? size : messages->max_bytes;
}

void pp__messages_copy(const struct pp__messages *messages, void *to, uint64_t size)
{
    uint64_t position = entry(messages, pp__load_relaxed(&messages->counts->taken))->position, at;
    uint64_t first = before_end(messages, position, size, &at);
    if (first > 0)
        memcpy(to, messages->bytes + at, first);
    if (size > first)
        memcpy((unsigned char *)to + first, messages->bytes, size - first);
}

void pp__messages_drop(struct pp__messages *messages)
{
    PP_FAULT("queue.get.before");
    pp__store_release(&messages->counts->taken,
                      pp__load_relaxed(&messages->counts->taken) +
                          1); /* the store that takes it; pairs with the load in pp__messages_count */
    PP_FAULT("queue.get.after");
}
