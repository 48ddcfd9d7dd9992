/* SPDX-License-Identifier: MIT */
/* A fresh image becomes a worker: see spawn.c for the other end of the line. */
#ifndef PP_PROCESS_JOIN_H
#define PP_PROCESS_JOIN_H

/* In an image that has inherited its line (adopted), with the plan in it: becomes the worker. Without a sound plan it
 * exits. */
_Noreturn void pp__join(int line);

/* Follows the invitation in the environment, if there is one: returns if not, and only then. */
void pp__join_if_invited(void);

#endif
