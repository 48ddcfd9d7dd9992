/* SPDX-License-Identifier: MIT */
/*
 * Shared memory that comes from a peer, who may lie about it: what it is, before anything of it is used. For any
 * thread; takes nothing over.
 */
#ifndef PP_SHM_FOREIGN_H
#define PP_SHM_FOREIGN_H

#include <stdint.h>

/* 0 and its size in bytes, or -EPROTO: no memfd, or one without all of these seals (F_SEAL_...). */
int pp__foreign_check(int fd, int seals, uint64_t *size);

/*
 * For what is to be mapped, and was checked for a seal against holes that come later (WRITE or FUTURE_WRITE): 0, or
 * -EPROTO if its first `size` bytes have holes or are not in ordinary pages, or that can't be found out. A hole would
 * be filled when it is looked at, on the reader's account; huge pages of the system's stock may be used up then, which
 * is SIGBUS.
 */
int pp__foreign_check_whole(int fd, uint64_t size);

#endif
