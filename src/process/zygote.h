/* SPDX-License-Identifier: MIT */
/*
 * The zygote: the single-threaded parent of a launcher's children. It starts, kills and reaps them as its connections
 * ask, tells how they ended, and ends with its owner. It never blocks but in its one epoll_wait, and its death kills
 * its children (PDEATHSIG).
 */
#ifndef PP_PROCESS_ZYGOTE_H
#define PP_PROCESS_ZYGOTE_H

#include "process/wire.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct pp__zygote_setup {
    int control;     /* its end of the control socket, adopted */
    int owner;       /* the owner's pidfd, adopted; -1 where there are none: then it looks every 100 ms */
    pid_t owner_pid; /* with owner_start, for that look */
    uint64_t owner_start;
    bool close_all;     /* children keep nothing but 1, 2, inherit and the plan's */
    bool shared_images; /* it is a fork of the owner */
    bool spawn;         /* children are fresh images */
    bool spares;        /* it forks one ahead (spare.h) */
    bool invites;       /* they are started by the owner, which is told the invitations */
    char **command;     /* that start them, NULL-ended; NULL: the zygote does */
    int inherit[PP__INHERIT_MAX];
    size_t inherit_count;
};

/* Tells the owner; with an error nothing follows. */
void pp__zygote_say(const struct pp__zygote_setup *setup, int error, bool done, const char *text);

/* Whether the owner is gone, or has given this zygote up. Safe in signal handlers. */
bool pp__zygote_abandoned(const struct pp__zygote_setup *setup);

_Noreturn void pp__zygote_run(const struct pp__zygote_setup *setup);

/* Forks a child, with a score and a group of its own. Its pid, in the child 0, or a negative errno. */
pid_t pp__zygote_fork(void);

/* Room for the stack of the next child, of that many bytes (0: the default): 0 or an errno. *stack is NULL where stacks
 * are not changed. */
int pp__zygote_stack(uint64_t wanted, void **stack, size_t *size);

#endif
