/* SPDX-License-Identifier: MIT */
/* Sleeping on a word. `shared`: the word lies in memory of several processes. */
#ifndef PP_BASE_FUTEX_H
#define PP_BASE_FUTEX_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * Sleeps while *word is `value`, at most until `deadline` (PP__NEVER: without end). 0: woken, the word differed, or for
 * no reason (look again); -ETIMEDOUT; -EINTR: a signal handler ran (with a deadline also one with SA_RESTART: the
 * kernel takes up only sleeps without one). The word may be in memory that is mapped for reading only.
 */
int pp__futex_wait(const _Atomic uint32_t *word, uint32_t value, uint64_t deadline, bool shared);

/* Wakes up to `count` sleepers. Returns how many there were. */
int pp__futex_wake(_Atomic uint32_t *word, int count, bool shared);

#endif
