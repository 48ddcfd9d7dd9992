/* SPDX-License-Identifier: MIT */
/*
 * The start of exit(3). Handlers run in an order that a library has no say in; before them all exit(3) runs what its
 * own thread has registered for its end, as the C++ standard has it of thread_local objects. So it is seen where the
 * thread that calls it was watched; in others the handler is the first to know (exit.c).
 */
#ifndef PP_POOL_EXIT_START_H
#define PP_POOL_EXIT_START_H

/* Watches the calling thread, from now to its end, if there is memory for that. The one that loads the library, as a
 * rule the main one, is watched without. */
void pp__exit_watch(void);

#endif
