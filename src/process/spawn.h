/* SPDX-License-Identifier: MIT */
/*
 * Children that are fresh images: the start method spawn, and workers that another program starts. Used by zygote.c and
 * records.c only. See spawn.c for how such a child comes to its plan.
 */
#ifndef PP_PROCESS_SPAWN_H
#define PP_PROCESS_SPAWN_H

#include "process/zygote.h"

#include <stdbool.h>
#include <sys/types.h>

/* One child, from the request on until it is gone and its record is freed. */
struct pp__spawned;

/* Once, before the first start: what workers that another program starts connect to. 0 or a negative errno. */
int pp__spawn_open(const struct pp__zygote_setup *setup);

/* Starts one. `record` is what the two functions below are called with. 0, or the errno. `*child` is the process that
 * was started: the image itself, or the command that is to start it; 0: none was, and the owner is to have one started.
 */
int pp__spawn_start(const struct pp__zygote_setup *setup, const struct pp__plan *plan, const int *fds, size_t count,
                    void *record, struct pp__spawned **spawned, pid_t *child);

/* What is to reach the worker, of one that the owner is to start. */
void pp__spawn_invitation(const struct pp__spawned *spawned, char text[PP__INVITATION_MAX]);

/* Told to the loop: the child has taken its plan, as `worker`; it has ended, with code and status as pp__report has
 * them. After the second, once for each child, `record` may be gone, and with it what belongs to it here. */
void pp__zygote_joined(void *record, pid_t worker);
void pp__zygote_ended(void *record, int code, int status);

/* What was started has ended, not reaped yet: whether its group may have a worker that goes on without it. */
bool pp__spawn_goes_on(struct pp__spawned *spawned, int code, int status);

/* What was started has been reaped. The end is told now or, where that was not the worker itself, when the worker has
 * ended. */
void pp__spawn_reaped(struct pp__spawned *spawned, int code, int status);

/* A process that no record has was reaped: a worker, perhaps, whose parent has left it to us. */
void pp__spawn_reaped_stranger(pid_t pid, int code, int status);

/* Kills the worker, where it is not the process that was started; nobody can join any more. */
void pp__spawn_kill(struct pp__spawned *spawned);

/* Asks the worker to end, where it is not the process that was started. */
void pp__spawn_terminate(const struct pp__spawned *spawned);

/* After a kill: tells the end, if there is no process left whose end would. */
void pp__spawn_settle(struct pp__spawned *spawned);

/* Whether the worker has taken its plan, and its end was not told. */
bool pp__spawn_has_joined(const struct pp__spawned *spawned);

/* A pidfd of the worker that has joined: the descriptor (adopted), or a negative errno. */
int pp__spawn_pidfd(const struct pp__spawned *spawned);

/* Whether the end was told. */
bool pp__spawn_is_over(const struct pp__spawned *spawned);

/* A worker that lives and was tied to it ends. NULL is allowed. */
void pp__spawn_free(struct pp__spawned *spawned);

#endif
