/* SPDX-License-Identifier: MIT */
/* Copies of files, for readers that map what they read: a file that is cut short meanwhile would kill them by SIGBUS.
 */
#ifndef PP_PROCESS_COPY_H
#define PP_PROCESS_COPY_H

#include <stddef.h>

/*
 * A copy in memory of the regular file `fd`, which nobody can change or cut short: a descriptor, unregistered and the
 * caller's; -1 where the file is another kind, can't be read whole, has more than *left bytes, or there is no memory.
 * *left goes down by the size. One NUL follows the content.
 */
int pp__copy_file(int fd, size_t *left);

#endif
