/* SPDX-License-Identifier: MIT */
/*
 * Shared memory without names: memfds. Two uses:
 *   - segments of a fixed size, allocated at creation (running out is -ENOMEM then and no SIGBUS later) and sealed
 * against resizing;
 *   - payloads too large for a ring, written once by one side, sealed, then mapped for reading by the other.
 * Mappings are not inherited by forked children (MADV_DONTFORK). Descriptors are the library's (base/fd.h) and the
 * caller's to close.
 */
#ifndef PP_SHM_SEGMENT_H
#define PP_SHM_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>

/*
 * A zeroed segment of `size` bytes (a multiple of the page size), mapped for reading and writing. With `private_writer`
 * every later mapping by whoever gets the descriptor can only be for reading (F_SEAL_FUTURE_WRITE). Returns the
 * descriptor or -ENOMEM (also where the machine has not that much at all), -EMFILE, -ENFILE, -EFBIG (RLIMIT_FSIZE; the
 * text names it).
 */
int pp__segment_create(const char *name, size_t size, bool private_writer, void **memory);

/*
 * The same, of which `size` bytes of addresses are there and no memory yet: what is used is to be allocated first.
 * RLIMIT_FSIZE is asked for all of it.
 */
int pp__segment_create_empty(const char *name, size_t size, void **memory);

/* Memory for `size` bytes at `offset`, what has some keeps it: 0, -ENOMEM or another errno. */
int pp__segment_allocate(int fd, size_t offset, size_t size);

/*
 * Maps a segment that came from elsewhere. -EPROTO: not a memfd of exactly `size` bytes that is sealed against
 * resizing; -ENOMEM.
 */
int pp__segment_map(int fd, size_t size, bool writable, void **memory);

/* 0, or -EFBIG where a file of `size` bytes exceeds RLIMIT_FSIZE; the text names it. Where memory was made before the
 * limit, this asks for it. */
int pp__segment_check_limit(size_t size);

/* Unmaps; NULL is allowed. */
void pp__segment_unmap(void *memory, size_t size);

/*
 * Leaves nothing of it but its addresses, which read as zeros; the caller's, to be unmapped as a segment. And moves a
 * segment there; false: it stays where it is.
 */
void pp__segment_vacate(void *memory, size_t size);
bool pp__segment_move(void *memory, size_t size, void *place);

/*
 * An empty file without a name, for write(2), which appends. To be read by pread(2) alone: whoever has it may change
 * its size. The descriptor, or -EMFILE, -ENFILE, -ENOMEM.
 */
int pp__segment_file(const char *name);

/*
 * A payload: a memfd with room for `size` bytes and a NUL after them (size may be 0), mapped for writing, pages
 * allocated. Returns the descriptor or the errors of pp__segment_create.
 */
int pp__payload_create(size_t size, void **memory);

/*
 * Sets the NUL, unmaps it and seals it against writing and resizing: 0, or -EBUSY if another writable mapping exists.
 * Whatever it returns, the memory is unmapped and the descriptor still open.
 */
int pp__payload_seal(int fd, void *memory, size_t size);

/* 0, or -EPROTO: not sealed against writing and resizing, or no room for `size` bytes and a NUL. */
int pp__payload_check(int fd, size_t size);

/*
 * Maps a sealed payload of `size` bytes, whoever it comes from, for reading: from then on nobody can change it.
 * -EPROTO: not sealed against writing and resizing, too small, or without its NUL; -ENOMEM. Whether it has holes is
 * another question (shm/foreign.h).
 */
int pp__payload_map(int fd, size_t size, const void **memory);

/* The same, copied instead of mapped: `size` bytes and the NUL to `bytes`. */
int pp__payload_read(int fd, size_t size, void *bytes);

void pp__payload_unmap(const void *memory, size_t size);

#endif
