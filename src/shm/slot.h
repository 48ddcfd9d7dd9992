/* SPDX-License-Identifier: MIT */
/*
 * A slot: who has a call, or a chunk, whose record is in a worker's call ring. One word, `id << 2 | state`, which both
 * sides change:
 *
 *   owner   pp__slot_give    anything -> READY, ahead of the record that names the slot; not where it says BEGUN of
 *                            an id below the record's
 *           pp__slot_take    as before the record -> TAKEN, it does not run; BEGUN -> TAKEN, a chunk ends behind the
 *                            last element that was begun
 *           pp__slot_look    how far it is
 *   worker  pp__slot_start   anything but TAKEN -> BEGUN, with the first element of a record
 *           pp__slot_begin   BEGUN -> BEGUN with a later id, from element to element or over some: all up to the one
 *                            that the word names are begun
 *
 * Of a record that is next in its slot, behind one that has ended, the owner writes nothing there: the word says BEGUN
 * of an older id, the owner knows which, and the line stays with the worker from call to call. A slot that says TAKEN
 * must go on doing so until its record is passed.
 *
 * That exactly one of start, or begin, and take wins needs no order: each changes the word only as it was, and changes
 * of one word have one order for all. What the orders are for is what else is seen:
 *   - Who finds an element begun sees what was written before: its begin time, and the results of the elements before
 * it or before those that it was begun with, by the marks that published them (begin pairs with look).
 *   - A worker that has a record sees in its slot what it has written there itself, or READY, or what the owner made of
 * that since: the slot was given out before the mark that published the record (ring.c, PUBLISH pairs with MARK), and
 * is given out again only when the record was passed or its call has ended.
 *   - What lies beside the record (a buffer that is used again) the owner writes to only after it has taken the slot,
 * and the worker reads it only after it has begun: not both win.
 *   - A worker that finds its slot TAKEN reads nothing of what the owner wrote before.
 */
#ifndef PP_SHM_SLOT_H
#define PP_SHM_SLOT_H

#include "base/atomic.h"

/* Each can be weakened from outside, so that a test can show that it is needed. */
#ifndef SLOT_BEGIN_ORDER
#define SLOT_BEGIN_ORDER memory_order_release
#endif
#ifndef SLOT_LOOK_ORDER
#define SLOT_LOOK_ORDER memory_order_acquire
#endif

enum pp__slot_state { PP__SLOT_READY, PP__SLOT_BEGUN, PP__SLOT_TAKEN };

static inline uint64_t pp__slot_word(uint64_t id, enum pp__slot_state state)
{
    return id << 2 | (uint64_t)state;
}

/* Owner. */
static inline void pp__slot_give(_Atomic uint64_t *slot, uint64_t id)
{
    pp__store_relaxed(slot, pp__slot_word(id, PP__SLOT_READY));
}

/* Owner: what the slot says, read once, as the worker may have written anything. */
static inline uint64_t pp__slot_look(const _Atomic uint64_t *slot)
{
    return pp__load_ordered(slot, SLOT_LOOK_ORDER); /* pairs with the cas in pp__slot_begin */
}

/* Owner: whether the slot said `before`, and the worker does not start with `id`, or begins nothing behind it. */
static inline bool pp__slot_take(_Atomic uint64_t *slot, uint64_t before, uint64_t id)
{
    return pp__cas_u64(slot, before, pp__slot_word(id, PP__SLOT_TAKEN), memory_order_relaxed);
}

/* Worker: whether the slot said `before`, and it may run all up to what it has begun. */
static inline bool pp__slot_begin(_Atomic uint64_t *slot, uint64_t before, uint64_t begun)
{
    return pp__cas_u64(slot, before, begun, SLOT_BEGIN_ORDER); /* pairs with the load in pp__slot_look */
}

/* Worker: whether it may run what it has begun, of a record that it comes to. Of whatever id the slot says TAKEN, that
 * stays: it may be a younger record's, if this one's call has ended by what was not its result. */
static inline bool pp__slot_start(_Atomic uint64_t *slot, uint64_t begun)
{
    uint64_t before = pp__load_relaxed(slot); /* looked at again by the cas: who else changes it has taken the call */
    return (before & 3) != PP__SLOT_TAKEN && pp__slot_begin(slot, before, begun);
}

#endif
