/* SPDX-License-Identifier: MIT */
/*
 * Where a call failed: the raw traces that errors carry (process/trace.h), and the words that are made of them when
 * somebody asks. Keeping one copies some hundred bytes, under the pool's lock; the words are made without any.
 */
#ifndef PP_POOL_BACKTRACE_H
#define PP_POOL_BACKTRACE_H

#include "procpool.h"

#include <stddef.h>

struct pp__worker;

/* Gives the error a copy of the `size` bytes at `raw`, which a worker may be able to write to, if they are a trace and
 * there is memory. */
void pp__error_trace(pp_error *error, const void *raw, size_t size);

/* What a process that has died by error->signal has left of that in the `size` bytes at `raw`, and the address. */
void pp__error_crashed_at(pp_error *error, const void *raw, size_t size);

/* The same of a worker. */
void pp__error_crashed(pp_error *error, const struct pp__worker *worker);

void pp__backtrace_free(struct pp_backtrace *backtrace);

/* By its own word, the signal that a worker which is gone has died of; 0: it left none. For one whose end nobody else
 * can tell. */
int pp__crash_signal(const struct pp__worker *worker);

#endif
