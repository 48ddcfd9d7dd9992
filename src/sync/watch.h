/* SPDX-License-Identifier: MIT */
/*
 * Watching a queue without taking from it, for who waits for other things as well: a thread sleeps in the queue in the
 * place of the waiting one and rings an eventfd when a get would not wait. Who puts wakes it as it wakes who gets;
 * should that one die before, it looks again within its bound.
 */
#ifndef PP_SYNC_WATCH_H
#define PP_SYNC_WATCH_H

#include "procpool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Whether a get would not wait now: for others may take what there is. */
bool pp__queue_is_ready(const pp_queue *queue);

/* Belongs to who watches, and stays where it is from the start to the stop. Zeroed: it does not watch. */
struct pp__watch {
    pp_queue *queue;
    int bell;
    bool started;
    int error; /* why it can't watch; written by its thread, which ends then */
    pthread_t thread;
    _Atomic uint32_t stop;
    _Atomic uint32_t over; /* the bell was rung, or it can't watch any more: the thread ends */
};

/* 0, or -EAGAIN: no thread can be made. The queue stays referenced by the caller. */
int pp__watch_start(struct pp__watch *watch, pp_queue *queue, int bell);

/* Waits for the thread's end: at once, but for a second where somebody is stopped inside the queue. */
void pp__watch_stop(struct pp__watch *watch);

/* Of one that was stopped, or never started: 0, or why it could not watch, with the words for it: -EPROTO. It would not
 * the next time, either. */
int pp__watch_error(const struct pp__watch *watch);

/* Whether it has rung, and rings no more: stop it, and start it again. */
bool pp__watch_is_over(const struct pp__watch *watch);

#endif
