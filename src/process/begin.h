/* SPDX-License-Identifier: MIT */
/* From the zygote's fork to pp__child_entry: see child.h for what a child starts as. Used by zygote.c, spare.c and
 * join.c. */
#ifndef PP_PROCESS_BEGIN_H
#define PP_PROCESS_BEGIN_H

#include "process/zygote.h"

#include <stdbool.h>

/* What a child needs to know; everything lies in the zygote's memory, of which it has its own copy. */
struct pp__beginning {
    const struct pp__zygote_setup *setup;
    const struct pp__plan *plan;
    const int *fds;
    size_t count;
    pid_t zygote; /* its parent; 0: any */
    bool image;   /* it is an image of its own, no fork of the zygote */
    int line;     /* a descriptor that it keeps as long as it lives; -1: none */
    void *stack;  /* of the task; NULL: the present one */
    size_t stack_size;
};

/* Has exit(3) and quick_exit(3) of tasks never reach handlers that were there before: in the zygote, for all that it
 * forks. 0 or -ENOMEM. */
int pp__child_take_exits(void);

/* What does not depend on the plan. */
void pp__child_detach(const struct pp__beginning *beginning);

/* Ties it to the zygote, if its plan does not tell it to outlive that. */
void pp__child_follow(const struct pp__beginning *beginning);

/* What is left. */
_Noreturn void pp__child_become(const struct pp__beginning *beginning);

/* All of it. */
_Noreturn void pp__child_begin(const struct pp__beginning *beginning);

#endif
