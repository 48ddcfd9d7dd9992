/* SPDX-License-Identifier: MIT */
/*
 * Messages of any size, first in, first out, in shared memory: their bytes in a ring, and an index that says where each
 * lies. All but the count is called inside the gate of the queue.
 *
 * A message is put by one store, to `put`, after its bytes and its entry in the index were written, and taken by one
 * store, to `taken`. Everything else follows from these two and the entries between them, so who dies at any
 * instruction has put or taken a message, or has not.
 */
#ifndef PP_SYNC_MESSAGES_H
#define PP_SYNC_MESSAGES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Written inside the gate, read by anybody; grow only. */
struct pp__message_counts {
    _Atomic uint64_t put;
    _Atomic uint64_t taken;
};

/* Written by who puts, before the store to `put`, and not again before it was taken. */
struct pp__message_entry {
    uint64_t position; /* of the first byte; counts on from the message before, or from 0 in an empty queue */
    uint64_t size;
};

/* Private to each handle; the pointers into shared memory, the limits checked. */
struct pp__messages {
    struct pp__message_counts *counts;
    struct pp__message_entry *entries; /* max_items */
    unsigned char *bytes;              /* max_bytes */
    uint64_t max_items, max_bytes;
};

/* How many there are; from outside the gate, as of some moment during the call. */
uint64_t pp__messages_count(const struct pp__messages *messages);

/* Where counts or entries are such as nobody puts them there: -EPROTO. Asked before each of the following. */
int pp__messages_check(const struct pp__messages *messages);

bool pp__messages_fit(const struct pp__messages *messages, uint64_t size);

/* One that fits. */
void pp__messages_put(struct pp__messages *messages, const void *data, uint64_t size);

/* Of the oldest, if there is one: its size (max_bytes at most), a copy of so many of its bytes, and its end. */
uint64_t pp__messages_first(const struct pp__messages *messages);
void pp__messages_copy(const struct pp__messages *messages, void *to, uint64_t size);
void pp__messages_drop(struct pp__messages *messages);

#endif
