/* SPDX-License-Identifier: MIT */
/*
 * SIGINT, SIGTERM and SIGHUP. The first one is noted, and from then on no system call of the main thread blocks for
 * longer than a few milliseconds, so that the program notices soon, says how far it came and dies of that signal. If it
 * does not get that far within two seconds, the signal has its way with a shorter line, and if somebody insists without
 * a word. Workers are gone with their owner either way.
 */
#ifndef PROCPOOL_CLI_INTERRUPT_H
#define PROCPOOL_CLI_INTERRUPT_H

/* A signal that the process was started to ignore (nohup, a shell's background job) stays ignored. */
void interrupt_install(void);

/* The signal that came, or 0. */
int interrupt_signal(void);

/* Ends the process by `signal`, so that whoever waits for it sees that. */
_Noreturn void interrupt_die(int signal);

#endif
