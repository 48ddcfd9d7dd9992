/* SPDX-License-Identifier: MIT */
/*
 * The crash report: what a worker that dies by a signal of its own making leaves behind for its owner. A handler on a
 * stack of its own writes a raw trace (trace.h) into memory that outlives the process, then lets the signal do what it
 * would have done without it: status, core dump and what a debugger sees are the same.
 */
#ifndef PP_PROCESS_CRASH_H
#define PP_PROCESS_CRASH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * In a worker's main thread: from now on SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP and SIGSYS leave a trace in
 * `room`, of the thread that they hit, and its size in *size. A signal that somebody handles or ignores already is left
 * alone, as is a stack for signals; a task that installs a handler of its own later replaces this one. Of what a
 * process that the worker forks dies of, nothing is told.
 */
void pp__crash_install(void *room, size_t most, _Atomic uint32_t *size);

/* Whether it is one of the signals that the handler is for. */
bool pp__crash_reports(uint32_t signal);

#endif
