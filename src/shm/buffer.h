/* SPDX-License-Identifier: MIT */
/*
 * Buffers: shared memory for one payload after the other. One process makes it and alone can write to it
 * (F_SEAL_FUTURE_WRITE), the other maps it for reading and keeps the mapping, so that its pages are faulted in once on
 * either side.
 *
 * What the seals promise is checked once, when the descriptor comes: nobody can resize it or make holes in it any more.
 * What lies in it the writer may change at any time, unless it has made its own mapping read-only.
 */
#ifndef PP_SHM_BUFFER_H
#define PP_SHM_BUFFER_H

#include <stddef.h>

/* The size of a buffer for a payload of `size` bytes and its NUL: payloads of similar sizes can share one. At most a
 * quarter more, or 64 KiB, but for what makes the rest a whole huge page. */
size_t pp__buffer_room(size_t size);

/* Zeroed, mapped for reading and writing, `room` as above. The descriptor, or an error of pp__segment_create. */
int pp__buffer_create(size_t room, void **memory);

/* The writer's own mapping: read-only, or writable again. 0 or a negative errno. */
int pp__buffer_guard(void *memory, size_t room);
int pp__buffer_unguard(void *memory, size_t room);

/*
 * Maps a buffer that came from elsewhere, for reading; before it lie `before` bytes (a multiple of the page size) that
 * are the caller's own. -EPROTO: not of exactly `room` bytes, resizable, writable for others than its maker, or with
 * holes; -ENOMEM.
 */
int pp__buffer_map(int fd, size_t room, size_t before, void **memory);

/* Makes what pp__buffer_map has mapped the caller's own memory, to be written to and inherited: what the maker writes
 * from now on need not be seen there, so it is told to write no more. 0 or -ENOMEM. */
int pp__buffer_own(void *memory, size_t room, size_t before);

/* Either side's. NULL is allowed. */
void pp__buffer_unmap(void *memory, size_t room, size_t before);

#endif
