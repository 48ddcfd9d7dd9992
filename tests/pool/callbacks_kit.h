/* SPDX-License-Identifier: MIT */
/* For tests of done callbacks: those that take notes, of which one waits at a gate, and calls that are held. */
#ifndef PP_TESTS_POOL_CALLBACKS_KIT_H
#define PP_TESTS_POOL_CALLBACKS_KIT_H

#include "call_kit.h"

#include <sys/prctl.h>

enum { BEGUN, GATE, HELD, BLOCKED, NEVER };

#define MOST_NOTES 16384

static struct note {
    pp_future *future;
    intptr_t number;
    pthread_t thread;
    char thread_name[16];
    int code; /* of its future */
} notes[MOST_NOTES];

static _Atomic uint32_t taken, noted; /* places in notes, and those that are written */

/* A callback: writes the next note. */
static inline void note(pp_future *future, void *number)
{
    struct note *n = &notes[atomic_fetch_add(&taken, 1)];
    const pp_error *error;
    n->future = future;
    n->number = (intptr_t)number;
    n->thread = pthread_self();
    prctl(PR_GET_NAME, n->thread_name);
    CHECK_OK(pp_future_error(future, 0, &error));
    n->code = error ? error->code : 0;
    atomic_fetch_add(&noted, 1);
}

static inline void add_note(pp_future *future, intptr_t number)
{
    CHECK_OK(
        pp_future_add_callback(future, note, (void *)number)); /* NOLINT(performance-no-int-to-ptr): read as a number */
}

static inline void wait_at_the_gate(pp_future *future, void *number)
{
    add(BLOCKED);
    wait_at(GATE);
    note(future, number);
}

/* A call that is not done before let_go. */
static inline pp_future *submit_held(pp_pool *pool)
{
    return submit_gated(pool, BEGUN, HELD, 1);
}

static inline void let_go(void)
{
    open_gate(HELD);
}

#endif
