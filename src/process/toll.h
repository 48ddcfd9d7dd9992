/* SPDX-License-Identifier: MIT */
/*
 * Which deaths by SIGKILL are explained by want of memory: the kernel counts the kills of a control group, and each
 * that is counted explains one death. One that no child of the zygote's has died of within a second was somebody
 * else's, and explains none that comes later. Called by the zygote, which has one of these.
 */
#ifndef PP_PROCESS_TOLL_H
#define PP_PROCESS_TOLL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* For the calling process, the zygote, and its control group, which is that of its children. */
void pp__toll_init(void);

/* What is counted now; for pp__toll_explains, of a child that is to be made. */
uint64_t pp__toll_count(void);

/* Whether memory ran out for a child that has ended by a SIGKILL which nobody here has asked for, and is a zombie
 * still. `before`: what was counted before it was made. */
bool pp__toll_explains(pid_t child, uint64_t before);

/* Its file stays open from one reading to the next, until this closes it. */
bool pp__toll_is_open(void);
void pp__toll_close(void);

/* In how many ms pp__toll_settle is to be called, if nothing has happened until then; -1: not before the next event. */
int pp__toll_patience(void);
void pp__toll_settle(void);

#endif
