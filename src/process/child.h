/* SPDX-License-Identifier: MIT */
/*
 * What a zygote's child starts as: clean. Between the zygote's fork and the entry below, child.c makes the new process
 * its own: a process group, PDEATHSIG towards the zygote, default dispositions, /dev/null on 0, no descriptors of the
 * library's but those sent with the plan, emptied stdio, a name, a higher oom_score_adj, exit handlers that run before
 * those of the owner, a stack of the size asked for.
 */
#ifndef PP_PROCESS_CHILD_H
#define PP_PROCESS_CHILD_H

#include <stddef.h>
#include <stdint.h>

#define PP__PLAN_MAX 256 /* bytes of a plan */
#define PP__PLAN_FDS 6
#define PP__STACK_MAX (UINT64_C(1) << 40) /* bytes */

/* What the owner asks for; travels in one message to the zygote. */
struct pp__plan {
    uint64_t serial;     /* names the child in all reports of its connection; unique there */
    uint64_t stack_size; /* bytes */
    char name[16];       /* as ps shows it */
    uint32_t watched;    /* the report of its start brings a pidfd */
    uint32_t outlives;   /* it goes on when its owner or the zygote ends, and then by itself */
    uint32_t reserved;
    uint32_t size;                    /* of data */
    unsigned char data[PP__PLAN_MAX]; /* for the entry */
};

/*
 * Runs in the child, on the new stack, and never returns. Supplied by the pool floor: this floor only calls it. The
 * descriptors are those sent with the plan, in that order, adopted (base/fd.h). `shared_images`: modules that were
 * loaded at the zygote's birth lie at the owner's addresses (start method fork).
 */
_Noreturn void pp__child_entry(const void *data, size_t size, const int *fds, size_t count, int shared_images);

/* What is called as the entry: pp__child_entry, unless a test of this floor has put its own there before the zygote's
 * birth. */
typedef void pp__child_function(const void *data, size_t size, const int *fds, size_t count, int shared_images);
extern pp__child_function *pp__child_run;

/* Ends the child from inside, as exit(3) in a task does: stdout and stderr flushed, then _exit. */
_Noreturn void pp__child_exit(int status);

#endif
