/* SPDX-License-Identifier: MIT */
/* The worker's end of a channel, to be moved on by hand in the owner's own thread: worker.c as it is, but for its loop.
 */
#ifndef PP_TESTS_INSTRUCTIONS_WORKER_END_H
#define PP_TESTS_INSTRUCTIONS_WORKER_END_H

#include "pool/channel.h"

#include <stdbool.h>

void worker_end_open(const struct pp__call_side *call_side, struct pp__result_side *result_side,
                     const struct pp__pool_page *page);

/* As if the program's buffer with this serial had come for place 0. */
void worker_end_know(uint64_t serial, void *memory);

/* One record of the call ring, as `serve` does it. False: there was none, and it would wait now. */
bool worker_end_step(void);

#endif
