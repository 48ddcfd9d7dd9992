/* SPDX-License-Identifier: MIT */
/*
 * The tests with both ends as threads of one process, so that thread sanitizer sees them. mutants.sh builds them again
 * with one memory order of src/shm weakened at a time and wants each to be noticed: so nothing but the words under test
 * may order the two threads. Hence counters are kept on each side, waiting is by relaxed loads and sched_yield, and
 * results are compared after the join.
 */
#ifndef TESTS_SHM_THREADS_KIT_H
#define TESTS_SHM_THREADS_KIT_H

#include "ring_kit.h"

#include "base/atomic.h"

#include <pthread.h>
#include <sched.h>

static inline void run_two(void *(*first)(void *), void *(*second)(void *), void *argument)
{
    pthread_t threads[2];
    CHECK_INT(pthread_create(&threads[0], NULL, first, argument), 0);
    CHECK_INT(pthread_create(&threads[1], NULL, second, argument), 0);
    CHECK_INT(pthread_join(threads[0], NULL), 0);
    CHECK_INT(pthread_join(threads[1], NULL), 0);
}

/* A while without a look at anything. */
static inline void stay_away(uint32_t steps)
{
    for (volatile uint32_t i = steps; i > 0; i--) {
    }
}

#endif
