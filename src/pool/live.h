/* SPDX-License-Identifier: MIT */
/*
 * The live objects of one kind in this process, for what exit(3) runs, which looks at them all. A forked child's
 * belong to its parent, and their lock may be held for ever: it makes a list of its own, if it is a worker and makes
 * such objects. The lock is taken before an object's, and never while that one is held or user code runs. For any
 * thread.
 */
#ifndef PP_POOL_LIVE_H
#define PP_POOL_LIVE_H

#include "base/list.h"

#include <stdbool.h>

struct pp__live_list;

/* A kind, with static duration. */
struct pp__live {
    const char *name;      /* in the plural, for error texts */
    void (*at_exit)(void); /* the handler */
    /* Under the list's lock: marks an object as looked at in this round and takes a reference. False: it was already,
     * or its last reference is gone. */
    bool (*take)(struct pp__link *link, unsigned round);
    _Atomic(struct pp__live_list *) list; /* made with the first */
};

/* Before an object is made: sees to the handler. 0, -ENOMEM, or -ESHUTDOWN: the program exits. */
int pp__live_prepare(struct pp__live *live);

/* It has been made, and is live. False: the program exits meanwhile. */
bool pp__live_enter(struct pp__live *live, struct pp__link *link);

/* It is not any more. Does nothing for one that never was, whose link is all zeroes. */
void pp__live_leave(struct pp__live *live, struct pp__link *link);

/* At the start of exit(3), and again in the handler, where that was not seen (exit_start.h): from now on no object
 * becomes live. False: it was called before. */
bool pp__live_begin_exit(struct pp__live *live);

/* In the handler, behind that. False: it ran before. */
bool pp__live_begin_end(struct pp__live *live);

/* Begins to look at all of them; then the next one that was not looked at in this round, taken; NULL: there is none. */
unsigned pp__live_begin_round(struct pp__live *live);
struct pp__link *pp__live_next(struct pp__live *live, unsigned round);

#endif
