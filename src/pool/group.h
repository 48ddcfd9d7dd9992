/* SPDX-License-Identifier: MIT */
/*
 * A group of futures, perhaps of several pools, that one thread waits for: pp_wait, pp_as_completed (many.c) and
 * pp_select.
 *
 * Each pool knows its groups. A future in one is marked (`waited_for`), so that its end is told to the pool's groups
 * and those of all others cost nothing. A group finds its future by a table of its own, so that each end costs the same
 * however many there are.
 */
#ifndef PP_POOL_GROUP_H
#define PP_POOL_GROUP_H

#include "pool/look.h"

/* One for all that a look has come to; `holds`: it keeps each until it was given out or it is closed, else the caller
 * has them all the time. The caller's, for one thread at a time. 0 or -ENOMEM. */
int pp__group_open(const struct pp__look *look, pp_when when, bool holds, struct pp_completed **group);
void pp__group_close(struct pp_completed *group);

/* Its pools belong to this process: false in a child that the owner forked. */
bool pp__group_is_own(const struct pp_completed *group);

/* Until as many have ended as its `when` says, of PP_FIRST_COMPLETED one more than were given out. 0 or the errors of
 * pp_wait. */
int pp__group_wait(struct pp_completed *group, int timeout);

/* How many of what was looked at have ended; done[i], if `done`, tells of each. */
size_t pp__group_ended(struct pp_completed *group, const struct pp__look *look, unsigned char *done);

/* Waits for the next one and gives it out: 1; it is there until the next step, so that nobody has to keep a reference
 * besides. 0: all were. Else as pp__group_wait. */
int pp__group_next(struct pp_completed *group, int timeout, pp_future **future, size_t *index);

/* A future of the pool, one that was marked, has ended. Under the pool's lock. */
void pp__groups_note(pp_pool *pool, struct pp__item *item);

/* Threads that wait for futures of this inline pool and others are to look whether there is something to run. Under the
 * pool's lock. */
void pp__groups_rouse(pp_pool *pool);

/*
 * For pp_select: a group of futures, the first of which to end rings `bell`, an eventfd of the caller's. The pools'
 * managers collect until the group is given up. 0 or -ENOMEM.
 */
int pp__group_listen(pp_future *const *futures, size_t count, int bell, struct pp_completed **group);

/* Does what pools without threads of their own have to be given: 1: a call was run, look again; 0; -EDEADLK: only this
 * thread could do anything. */
struct pp__hold;
int pp__group_step(struct pp_completed *group, struct pp__hold *hold);

/* True: one has ended. Else the bell rings when one does; but look again after *bound nanoseconds. */
bool pp__group_arm(struct pp_completed *group, uint64_t *bound);

void pp__group_forget(struct pp_completed *group);

#endif
