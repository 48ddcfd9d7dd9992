/* SPDX-License-Identifier: MIT */
/* Threads that do the same in one pool. */
#ifndef PP_TESTS_CREW_KIT_H
#define PP_TESTS_CREW_KIT_H

#include "call_kit.h"

#define THREADS 8
#define ROUNDS (KIT_TSAN || KIT_ASAN ? 60u : 300u)

struct crew {
    pp_pool *pool;
    pp_future *future;
    pthread_barrier_t barrier;
    pthread_t threads[THREADS];
    _Atomic uint32_t counted, finished, next;
};

static inline void start_crew(struct crew *crew, void *(*run)(void *))
{
    atomic_store(&crew->finished, 0);
    for (int i = 0; i < THREADS; i++)
        crew->threads[i] = start_thread(run, crew);
}

static inline void join_crew(struct crew *crew)
{
    for (int i = 0; i < THREADS; i++)
        join_thread(crew->threads[i]);
}

#endif
