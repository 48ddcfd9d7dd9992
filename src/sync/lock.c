/* SPDX-License-Identifier: MIT */
/* A lock of many processes, and a value with such a lock. What is common to both begins with the same words in their segments. */
#include "base/cancel.h"
#include "base/clock.h"
#include "base/error.h"
#include "procpool.h"
#include "sync/mutex.h"
#include "sync/object.h"

#include <errno.h>
#include <stdalign.h>
#include <string.h>

/* Written through the mutex's own functions; `size` by the maker before anybody else has the descriptor, and by nobody afterwards. */
struct shared_lock {
    struct pp__object_head head;
    struct pp__mutex mutex;
    uint64_t size; /* of a value; 0 for a lock */
    alignas(64) unsigned char data[];
};

/* A held lock has a reference of its own: the memory must not go while the mutex is in its holder's list of the kernel's. */
struct pp_lock {
    struct pp__object object;
};

struct pp_value {
    struct pp__object object;
    size_t size; /* checked */
};

static struct shared_lock *shared(const struct pp__object *object)
{
    return object->memory;
}

static int acquire(struct pp__object *object, int timeout, const char *what)
{
    int error = pp__mutex_acquire(&shared(object)->mutex, pp__deadline(timeout));
    if (error == 0 || error == -EOWNERDEAD)
        pp__object_ref(object);
    switch (error) {
    case 0:
        return 0;
    case -EOWNERDEAD:
        return pp__fail(error, "the %s is held now; its last holder ended without releasing it", what);
    case -ETIMEDOUT:
        return pp__fail(error, "the %s is held by another, for %d ms now", what, timeout);
    case -EINTR:
        return pp__fail(error, "waiting for the %s was interrupted by a signal", what);
    case -EDEADLK:
        return pp__fail(error, "the calling thread holds the %s already", what);
    default:
        return pp__fail_errno(-error, "the %s", what);
    }
}

static int release(struct pp__object *object, const char *what)
{
    int error = pp__mutex_release(&shared(object)->mutex);
    if (error)
        return pp__fail(error, "the calling thread does not hold the %s", what);
    pp__object_unref(object);
    return 0;
}

static int create(const char *name, enum pp__object_kind kind, size_t size, size_t handle_size,
                  struct pp__object **object)
{
    struct pp__object *made;
    int error = pp__object_create(name, kind, offsetof(struct shared_lock, data) + size, handle_size, &made);
    if (error)
        return error;
    error = pp__mutex_init(&shared(made)->mutex);
    if (error) {
        pp__object_unref(made);
        return error;
    }
    shared(made)->size = size;
    *object = made;
    return 0;
}

/* --------------------------------------------------------------------------------------------- lock */

int pp_lock_create(pp_lock **lock)
{
    PP__NO_CANCELLATION();
    struct pp__object *object;
    if (!lock)
        return pp__fail(-EINVAL, "pp_lock_create: no place for the lock");
    int error = create("procpool-lock", PP__KIND_LOCK, 0, sizeof **lock, &object);
    if (!error)
        *lock = (pp_lock *)object;
    return error;
}

int pp_lock_open(int fd, pp_lock **lock)
{
    PP__NO_CANCELLATION();
    struct pp__object *object;
    if (!lock)
        return pp__fail(-EINVAL, "pp_lock_open: no place for the lock");
    int error = pp__object_open(fd, PP__KIND_LOCK, sizeof(struct shared_lock), sizeof **lock, &object);
    if (!error)
        *lock = (pp_lock *)object;
    return error;
}

int pp_lock_fd(const pp_lock *lock)
{
    return lock ? pp__object_fd(&lock->object) : pp__fail(-EINVAL, "pp_lock_fd: no lock");
}

pp_lock *pp_lock_ref(pp_lock *lock)
{
    if (lock)
        pp__object_ref(&lock->object);
    return lock;
}

void pp_lock_unref(pp_lock *lock)
{
    PP__NO_CANCELLATION();
    if (lock)
        pp__object_unref(&lock->object);
}

int pp_lock_acquire(pp_lock *lock, int timeout)
{
    PP__NO_CANCELLATION();
    return lock ? acquire(&lock->object, timeout, "lock") : pp__fail(-EINVAL, "pp_lock_acquire: no lock");
}

int pp_lock_release(pp_lock *lock)
{
    PP__NO_CANCELLATION();
    return lock ? release(&lock->object, "lock") : pp__fail(-EINVAL, "pp_lock_release: no lock");
}

/* -------------------------------------------------------------------------------------------- value */

int pp_value_create(const void *initial, size_t size, pp_value **value)
{
    PP__NO_CANCELLATION();
    struct pp__object *object;
    if (!value || size == 0)
        return pp__fail(-EINVAL, "pp_value_create: %s", value ? "a value of 0 bytes" : "no place for the value");
    if (size > PTRDIFF_MAX / 2)
        return pp__fail(-ENOMEM, "a value of %zu bytes is larger than an address space", size);
    int error = create("procpool-value", PP__KIND_VALUE, size, sizeof **value, &object);
    if (error)
        return error;
    if (initial)
        memcpy(shared(object)->data, initial, size);
    *value = (pp_value *)object;
    (*value)->size = size;
    return 0;
}

int pp_value_open(int fd, pp_value **value)
{
    PP__NO_CANCELLATION();
    struct pp__object *object;
    if (!value)
        return pp__fail(-EINVAL, "pp_value_open: no place for the value");
    int error = pp__object_open(fd, PP__KIND_VALUE, sizeof(struct shared_lock), sizeof **value, &object);
    if (error)
        return error;
    uint64_t size = shared(object)->size;
    if (size == 0 || size > object->size - offsetof(struct shared_lock, data)) {
        pp__object_unref(object);
        return pp__fail(-EINVAL, "descriptor %d is of a value that does not fit its memory", fd);
    }
    *value = (pp_value *)object;
    (*value)->size = size;
    return 0;
}

int pp_value_fd(const pp_value *value)
{
    return value ? pp__object_fd(&value->object) : pp__fail(-EINVAL, "pp_value_fd: no value");
}

pp_value *pp_value_ref(pp_value *value)
{
    if (value)
        pp__object_ref(&value->object);
    return value;
}

void pp_value_unref(pp_value *value)
{
    PP__NO_CANCELLATION();
    if (value)
        pp__object_unref(&value->object);
}

int pp_value_acquire(pp_value *value, int timeout)
{
    PP__NO_CANCELLATION();
    return value ? acquire(&value->object, timeout, "value") : pp__fail(-EINVAL, "pp_value_acquire: no value");
}

int pp_value_release(pp_value *value)
{
    PP__NO_CANCELLATION();
    return value ? release(&value->object, "value") : pp__fail(-EINVAL, "pp_value_release: no value");
}

void *pp_value_data(const pp_value *value)
{
    return value ? shared(&value->object)->data : NULL;
}

size_t pp_value_size(const pp_value *value)
{
    return value ? value->size : 0;
}
