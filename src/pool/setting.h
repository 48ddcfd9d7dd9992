/* SPDX-License-Identifier: MIT */
/*
 * What a worker runs in: processor, niceness, environment, directory, threads of libraries. The owner checks it and
 * makes it one piece, which each worker gets ahead of its initializer and applies to itself.
 */
#ifndef PP_POOL_SETTING_H
#define PP_POOL_SETTING_H

#include "procpool.h"

#include <stdint.h>

/* Behind it: processor_count numbers (int32_t), then NUL-ended texts: the directory ("": none) and environment_count
 * times NAME=VALUE. */
struct pp__setting {
    uint32_t size; /* in all */
    uint32_t processor_count;
    uint32_t environment_count;
    int32_t nice;
    int32_t library_threads;
};

/* Owner: the options' setting, for free(), or NULL where they ask for nothing. 0 or a negative errno. */
int pp__setting_create(const pp_pool_options *options, struct pp__setting **setting);

/* Worker: applies it to this process, which has no other thread yet, for worker `number`. 0, or a negative errno and
 * its text. */
int pp__setting_apply(const struct pp__setting *setting, int number);

#endif
