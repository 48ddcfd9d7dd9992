/* SPDX-License-Identifier: MIT */
/* What the system allows this process, asked before a pool is made of which not all workers could ever be. */
#ifndef PP_POOL_LIMITS_H
#define PP_POOL_LIMITS_H

#include "procpool.h"

/* For so many workers of a pool with these options and that launcher, not inline, and `threads` of its own. 0, or
 * -EMFILE, -EAGAIN (processes), -ENOMEM, in words that name the limit, and what to do about it. */
int pp__limits_check(const pp_pool_options *options, const pp_launcher *launcher, int workers, int threads);

#endif
