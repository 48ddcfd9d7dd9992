/* SPDX-License-Identifier: MIT */
#ifndef PP_POOL_TIMERS_H
#define PP_POOL_TIMERS_H

#include "pool/pool.h"

/* Everything that is due, for who has the duty; returns when to look again. Under the lock. */
uint64_t pp__timers_run(pp_pool *pool);

#endif
