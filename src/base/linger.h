/* SPDX-License-Identifier: MIT */
/* Descriptors of the program's files, of which ours may be the last: closing a socket with SO_LINGER then takes as long
 * as that says. */
#ifndef PP_BASE_LINGER_H
#define PP_BASE_LINGER_H

/* As pp__fd_close, and returns at once, whatever lock is held: where the close may linger, a thread of its own waits
 * for that. */
void pp__linger_close(int fd);

#endif
