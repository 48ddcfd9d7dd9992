/* SPDX-License-Identifier: MIT */
#include "sync/object.h"

#include "base/atomic.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/seam.h"
#include "shm/segment.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* The last byte is the layout's version. */
#define MAGIC UINT64_C(0x70726f6373796e02)

static_assert(sizeof(struct pp__object_head) == 64, "what follows has a cache line of its own");

static size_t whole_pages(size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return (size + page - 1) / page * page;
}

/* Takes `fd` over, which is a place of ours, and closes it if there is no memory. */
static int make_handle(int fd, void *memory, size_t size, size_t handle_size, struct pp__object **object)
{
    struct stat status;
    struct pp__object *made = PP_SYS(calloc)(1, handle_size);
    if (!made || PP_SYS(fstat)(fd, &status) != 0) {
        free(made);
        close(fd);
        return pp__fail(-ENOMEM, "no memory for a handle");
    }
    PP_SYS(madvise)(memory, size, MADV_DOFORK); /* a forked child goes on with it */
    atomic_init(&made->references, 1);
    made->fd = fd;
    made->device = status.st_dev;
    made->inode = status.st_ino;
    made->size = size;
    made->memory = memory;
    *object = made;
    return 0;
}

/* A descriptor of the same file, above those that a program that closes "everything" meets, and close-on-exec. */
static int duplicate(int fd)
{
    int copy = PP_SYS(fcntl)(fd, F_DUPFD_CLOEXEC, PP__FD_FLOOR);
    if (copy < 0 && (errno == EINVAL || errno == EMFILE))
        copy = PP_SYS(fcntl)(fd, F_DUPFD_CLOEXEC, 3);
    return copy >= 0 ? copy : pp__fail_errno(errno, "a descriptor for a shared object");
}

static void fill_head(struct pp__object_head *head, enum pp__object_kind kind, size_t size)
{
    head->kind = (uint32_t)kind;
    head->mutex_size = sizeof(pthread_mutex_t);
    head->size = size;
    head->magic = MAGIC;
}

/* Takes over a registered segment and where it is mapped. */
static int make_object(int registered, void *memory, enum pp__object_kind kind, size_t size, size_t handle_size,
                       struct pp__object **object)
{
    int fd = duplicate(registered);
    pp__fd_close(registered);
    fill_head(memory, kind, size);
    int error = fd < 0 ? fd : make_handle(fd, memory, size, handle_size, object);
    if (error)
        pp__segment_unmap(memory, size);
    return error;
}

int pp__object_create(const char *name, enum pp__object_kind kind, size_t size, size_t handle_size,
                      struct pp__object **object)
{
    void *memory;
    size = whole_pages(size);
    int fd = pp__segment_create(name, size, false, &memory);
    return fd < 0 ? fd : make_object(fd, memory, kind, size, handle_size, object);
}

int pp__object_create_growing(const char *name, enum pp__object_kind kind, size_t size, size_t least,
                              size_t handle_size, struct pp__object **object)
{
    void *memory;
    size = whole_pages(size);
    int fd = pp__segment_create_empty(name, size, &memory);
    int error = fd < 0 ? fd : pp__segment_allocate(fd, 0, least);
    if (error == 0)
        return make_object(fd, memory, kind, size, handle_size, object);
    if (fd >= 0) {
        pp__segment_unmap(memory, size);
        pp__fd_close(fd);
    }
    return error;
}

static int check_head(const struct pp__object_head *head, enum pp__object_kind kind, size_t size)
{
    if (head->magic != MAGIC || head->mutex_size != sizeof(pthread_mutex_t) || head->size != size)
        return pp__fail(-EINVAL, "the descriptor is of no shared object of this build of the library");
    if (head->kind != (uint32_t)kind)
        return pp__fail(-EINVAL, "the descriptor is of a shared object of another kind");
    return 0;
}

/* Maps what is behind `fd` if it is as long and as sealed as an object. */
static int map(int fd, size_t least, size_t *size, void **memory)
{
    struct stat status;
    if (PP_SYS(fstat)(fd, &status) != 0)
        return pp__fail(-EBADF, "descriptor %d is not open", fd);
    if (!S_ISREG(status.st_mode) || status.st_size < 0 || (uint64_t)status.st_size < least ||
        (uint64_t)status.st_size > PTRDIFF_MAX)
        return pp__fail(-EINVAL, "descriptor %d is of no shared object", fd);
    *size = (size_t)status.st_size;
    int error = pp__segment_map(fd, *size, true, memory);
    return error == 0 || error == -ENOMEM ? error : pp__fail(-EINVAL, "descriptor %d is of no shared object", fd);
}

int pp__object_open(int fd, enum pp__object_kind kind, size_t least, size_t handle_size, struct pp__object **object)
{
    void *memory;
    size_t size;
    int error = map(fd, least, &size, &memory);
    if (error)
        return error;
    error = check_head(memory, kind, size);
    int copy = error ? error : duplicate(fd);
    if (copy >= 0)
        error = make_handle(copy, memory, size, handle_size, object);
    else
        error = copy;
    if (error)
        pp__segment_unmap(memory, size);
    return error;
}

/* Another file may have the number by now. */
static int is_own_descriptor(const struct pp__object *object)
{
    struct stat status;
    return PP_SYS(fstat)(object->fd, &status) == 0 && status.st_dev == object->device && status.st_ino == object->inode;
}

int pp__object_fd(const struct pp__object *object)
{
    if (!is_own_descriptor(object))
        return pp__fail(-EBADF, "the object's descriptor has been closed in this process");
    return object->fd;
}

void pp__object_ref(struct pp__object *object)
{
    atomic_fetch_add_explicit(&object->references, 1, memory_order_relaxed);
}

/* Release, and acquire for the last: it sees what all others have done with the handle. So it pairs with itself in
 * another thread. */
bool pp__object_drop(struct pp__object *object)
{
    return atomic_fetch_sub_explicit(&object->references, 1, memory_order_acq_rel) == 1;
}

void pp__object_destroy(struct pp__object *object)
{
    pp__segment_unmap(object->memory, object->size);
    if (is_own_descriptor(object))
        close(object->fd);
    free(object);
}

void pp__object_unref(struct pp__object *object)
{
    if (pp__object_drop(object))
        pp__object_destroy(object);
}
