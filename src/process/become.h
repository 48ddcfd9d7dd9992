/* SPDX-License-Identifier: MIT */
/*
 * What a process takes off as it becomes a zygote or a child of one: its owner's signals, descriptors and what was not
 * flushed. Called by birth.c, image.c, join.c and in forked children, with one thread.
 */
#ifndef PP_PROCESS_BECOME_H
#define PP_PROCESS_BECOME_H

#include <stdint.h>

struct pp__zygote_setup;

/* Makes the calling process, all of whose signals are blocked, a zygote in the outward things: group, name,
 * dispositions, descriptors, stdio. */
void pp__zygote_become(const struct pp__zygote_setup *setup);

/* Forgets, in a forked child, what the owner had not flushed, in all streams. */
void pp__stdio_purge(void);

/* Default dispositions, no alternate stack. */
void pp__signals_default(void);

/* Blocks every signal, those included that libc keeps for itself; the mask before is stored unless NULL. */
void pp__signals_block(uint64_t *before);
void pp__signals_set(uint64_t mask);

#endif
