/* SPDX-License-Identifier: MIT */
/*
 * Whether this process is the one that may use the library's objects. One page that a fork wipes (MADV_WIPEONFORK)
 * tells for a nanosecond: a process that the host forks finds it empty and is refused; zygotes and their children start
 * anew.
 */
#ifndef PP_PROCESS_OWNER_H
#define PP_PROCESS_OWNER_H

#include "base/atomic.h"
#include "base/error.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

/* Written once, before the page is published; a fork finds it zero. */
struct pp__owner_page {
    _Atomic uint32_t process; /* its pid */
};
extern _Atomic(struct pp__owner_page *) pp__owner_page;

/* Makes the page on first use. 0, -ENOMEM, or -EPERM with its text in a child forked by the host. */
int pp__owner_enter(void);

/* Whether this is a process in which pp__owner_enter succeeded, or none has been made yet (nothing can be used then
 * either). A plain load. */
bool pp__owner_is_self(void);

/* What tells the objects of this process from those it inherited: not 0 once pp__owner_enter has succeeded, 0 in a
 * child forked by the host, and another one in a worker that makes pools of its own. */
static inline uint32_t pp__owner_token(void)
{
    struct pp__owner_page *have = pp__load_acquire(&pp__owner_page); /* pairs with the exchange in pp__owner_enter */
    return have ? pp__load_relaxed(&have->process) : 0;
}

/* -EPERM with its text. Inline, so that callers' ends are seen by who analyzes them. */
static inline int pp__owner_refuse(void)
{
    return pp__fail(-EPERM, "this process was forked from the one that uses procpool; only that one may use it");
}

/* In a process made by the library: it may become an owner in its own right (nested pools). */
void pp__owner_reset(void);

/* What processes this one may start. Set in a process made by the library before user code runs there, and inherited by
 * what that forks. */
enum pp__kin {
    PP__KIN_FREE,  /* any */
    PP__KIN_BOUND, /* such as end with it, whatever they are: a pool's worker, and what has come from one */
    PP__KIN_NONE   /* none: a daemon */
};
void pp__owner_set_kin(enum pp__kin kin);
enum pp__kin pp__owner_kin(void);

#endif
