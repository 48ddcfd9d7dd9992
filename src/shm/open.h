/* SPDX-License-Identifier: MIT */
/*
 * An open record: one that is reserved in a ring, is being written and is not published yet. A word beside the ring
 * says how much of it is there, so that the consumer need not wait for the rest (pp__ring_peek). What the number counts
 * is the user's; it only grows.
 */
#ifndef PP_SHM_OPEN_H
#define PP_SHM_OPEN_H

#include "base/atomic.h"

/* Each can be weakened from outside, so that a test can show that it is needed. */
#ifndef OPEN_TELL_ORDER
#define OPEN_TELL_ORDER memory_order_release
#endif
#ifndef OPEN_LOOK_ORDER
#define OPEN_LOOK_ORDER memory_order_acquire
#endif

/* Producer: all that lies below `until` is written, and the header of the record that it lies in. */
static inline void pp__open_tell(_Atomic uint64_t *open, uint64_t until)
{
    pp__store_ordered(open, until, OPEN_TELL_ORDER); /* pairs with the load in pp__open_look */
}

/*
 * Consumer. If there is no mark yet where the consumer is, looked at behind this, the record lies there: the one before
 * it was published ahead of anything that is told of this one.
 */
static inline uint64_t pp__open_look(const _Atomic uint64_t *open)
{
    return pp__load_ordered(open, OPEN_LOOK_ORDER); /* pairs with the store in pp__open_tell */
}

#endif
