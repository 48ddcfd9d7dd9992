/* SPDX-License-Identifier: MIT */
/*
 * No function of ours is a cancellation point: a thread that is cancelled in the middle of one would leave locks held.
 * The macro, first thing in a public function that may make system calls, puts cancellation off until the function
 * returns.
 */
#ifndef PP_BASE_CANCEL_H
#define PP_BASE_CANCEL_H

#include <pthread.h>

static inline int pp__cancel_put_off(void)
{
    int state;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    return state;
}

static inline void pp__cancel_restore(const int *state)
{
    pthread_setcancelstate(*state, NULL);
}

#define PP__NO_CANCELLATION()                                                                                          \
    __attribute__((cleanup(pp__cancel_restore), unused)) const int pp__cancel_state = pp__cancel_put_off()

#endif
