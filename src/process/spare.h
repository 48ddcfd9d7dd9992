/* SPDX-License-Identifier: MIT */
/*
 * A child that the zygote forks ahead of the next start. What does not depend on the plan is behind it: the fork, its
 * descriptors, its group; it waits for the plan, so a start that finds one there is a message. There is one at most.
 */
#ifndef PP_PROCESS_SPARE_H
#define PP_PROCESS_SPARE_H

#include "process/zygote.h"

#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* None is there; for a zygote that begins. */
void pp__spare_init(void);

/* Whether one is to be made as soon as nothing else is to be done. */
bool pp__spare_is_wanted(const struct pp__zygote_setup *setup);

/* `processors`: it is wanted at once, and is to be able to run on these; NULL: it has time to warm up, and is. */
void pp__spare_make(const struct pp__zygote_setup *setup, pid_t zygote, uint64_t kills_before,
                    const cpu_set_t *processors);

/* Whether it was wanted at once, and has not warmed up since; nobody was in a hurry after all, so it is to do that. */
bool pp__spare_is_cold(void);
void pp__spare_rest(void);

/* Gives it a plan with its descriptors: the pid of what is now that plan's child. 0: none is there, or it has ended. */
pid_t pp__spare_take(const struct pp__plan *plan, const int *fds, size_t count);

/* Whether a child is the spare; then *kills_before is what it was made with. */
bool pp__spare_is(pid_t pid, uint64_t *kills_before);

/* It was reaped. */
void pp__spare_ended(void);

/* And waits for its end. */
void pp__spare_kill(void);

#endif
