/* SPDX-License-Identifier: MIT */
/*
 * What the objects of many processes have in common: a sealed segment without a name, known by a descriptor, and a
 * handle in each process that uses it. Whoever has the descriptor opens it; a forked child has handle and mapping
 * already, as they were at the fork.
 *
 * The processes trust each other: one that writes garbage into an object breaks it for all. Lengths are checked before
 * they are used all the same. All functions may be called from any thread.
 */
#ifndef PP_SYNC_OBJECT_H
#define PP_SYNC_OBJECT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The first bytes of the segment. Written by the maker before anybody else has the descriptor, and by nobody
 * afterwards. */
struct pp__object_head {
    uint64_t magic;
    uint32_t kind;
    uint32_t mutex_size; /* sizeof(pthread_mutex_t): unlike builds refuse each other */
    uint64_t size;       /* of the segment */
    uint64_t padding[5];
};

enum pp__object_kind {
    PP__KIND_LOCK = 1,
    PP__KIND_SEMAPHORE,
    PP__KIND_EVENT,
    PP__KIND_VALUE,
    PP__KIND_QUEUE,
    PP__KIND_DICT
};

/* The first member of each handle. Private to the process; but for `references` written before anybody else has the
 * handle. */
struct pp__object {
    _Atomic uint32_t references;
    int fd; /* ours, but not registered (base/fd.h): a worker that is a fork keeps it; see pp__object_fd */
    dev_t device;
    ino_t inode;
    size_t size; /* of the mapping */
    void *memory;
};

/*
 * A zeroed segment for `size` bytes, its head filled in, and a zeroed handle of `handle_size` bytes that has one
 * reference. 0 or -ENOMEM, -EMFILE, -ENFILE, -EFBIG, -ENOSYS, -EPERM.
 */
int pp__object_create(const char *name, enum pp__object_kind kind, size_t size, size_t handle_size,
                      struct pp__object **object);

/* The same, of which the first `least` bytes have memory; more is allocated with pp__segment_allocate. */
int pp__object_create_growing(const char *name, enum pp__object_kind kind, size_t size, size_t least,
                              size_t handle_size, struct pp__object **object);

/*
 * Maps the object behind `fd`, which stays the caller's. What lies behind the head is not looked at, but there are
 * `least` bytes in all. 0 or -EBADF, -EINVAL (no such object), -ENOMEM, -EMFILE.
 */
int pp__object_open(int fd, enum pp__object_kind kind, size_t least, size_t handle_size, struct pp__object **object);

/* The handle's descriptor; -EBADF where it has been closed behind the library's back, as in a worker that was forked
 * with `close_fds`. */
int pp__object_fd(const struct pp__object *object);

void pp__object_ref(struct pp__object *object);
void pp__object_unref(struct pp__object *object);

/* The two halves of pp__object_unref: whether that was the last reference, and what is done then. */
bool pp__object_drop(struct pp__object *object);
void pp__object_destroy(struct pp__object *object);

#endif
