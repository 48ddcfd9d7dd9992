/* SPDX-License-Identifier: MIT */
/*
 * Whether libc is usable in this process, the fork of one with several threads. fork(3) takes care of the locks of
 * malloc and stdio, not of those of the loader's list, of the exit handlers, of the resolver, of time zones and
 * messages: if another thread held one at the moment of the fork, it stays held here for ever.
 */
#ifndef PP_PROCESS_QUIET_H
#define PP_PROCESS_QUIET_H

#include <stdbool.h>

/* Takes those locks in a child that dies where it would sleep. For a single-threaded process with SIGCHLD at its
 * default. */
bool pp__quiet(void);

#endif
