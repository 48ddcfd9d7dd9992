/* SPDX-License-Identifier: MIT */
/* A lock of many processes, and a value with such a lock. What is common to both begins with the same words in their
 * segments. */
#include "base/cancel.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/interrupt.h"
#include "base/seam.h"
#include "procpool.h"
#include "sync/mutex.h"
#include "sync/object.h"

#include <errno.h>
#include <stdalign.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Written through the mutex's own functions; `size` by the maker before anybody else has the descriptor, and by nobody
 * afterwards. */
struct shared_lock {
    struct pp__object_head head;
    struct pp__mutex mutex;
    uint64_t size; /* of a value; 0 for a lock */
    alignas(64) unsigned char data[];
};

/*
 * A handle through which the mutex was taken has one reference more: the memory must not go while the mutex is in its
 * holder's list of the kernel's. `holder` is the thread that has taken it, and who changes it from a thread to 0 gives
 * that reference back: the thread itself, or whoever finds it dead, or never born, as in a forked child. Two handles of
 * one lock do not know of each other, so what was taken through one is released through it.
 */
struct held {
    struct pp__object object;
    _Atomic pid_t holder;
};

struct pp_lock {
    struct held held;
};

struct pp_value {
    struct held held;
    size_t size; /* checked */
};

static struct shared_lock *shared(const struct pp__object *object)
{
    return object->memory;
}

static pid_t self(void)
{
    return (pid_t)syscall(SYS_gettid);
}

/*
 * The reference comes before the name, and goes after it: a child that is forked in between has one reference too many,
 * and never one too few. Relaxed: only `references` orders what is done with the handle.
 */
static void keep(struct held *held)
{
    pp__object_ref(&held->object);
    if (atomic_exchange_explicit(&held->holder, self(), memory_order_relaxed) != 0)
        pp__object_unref(
            &held->object); /* that of one who ended with the lock; the caller has one, so it is not the last */
}

static bool give_up(struct held *held, pid_t holder)
{
    return atomic_compare_exchange_strong_explicit(&held->holder, &holder, 0, memory_order_relaxed,
                                                   memory_order_relaxed);
}

static int acquire(struct held *held, int timeout, const char *what)
{
    struct pp__hold hold;
    pp__hold_begin(&hold);
    int error = pp__mutex_acquire(&shared(&held->object)->mutex, pp__deadline(timeout), &hold);
    pp__hold_end(&hold);
    if (error == 0 || error == -EOWNERDEAD)
        keep(held);
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

/* The name goes before the mutex does: the next to take it through this handle writes its own. */
static int release(struct held *held, const char *what)
{
    if (!give_up(held, self()))
        return pp__fail(-EPERM, "the calling thread does not hold the %s, or took it through another handle", what);
    int error = pp__mutex_release(&shared(&held->object)->mutex);
    if (error) /* the mutex is garbage, and may be in the kernel's list still: its memory stays */
        return pp__fail(error, "the calling thread does not hold the %s", what);
    pp__object_unref(&held->object);
    return 0;
}

/* A thread that was joined is there for some moments still, so the mutex is asked too. */
static bool holds(struct held *held, pid_t thread)
{
    bool lives_here = PP_SYS(syscall)(SYS_tgkill, getpid(), thread, 0) == 0 || errno != ESRCH;
    return lives_here && pp__mutex_may_be_held_by(&shared(&held->object)->mutex, thread);
}

/* The caller's reference goes last, so the handle is there until then. */
static void unref(struct held *held)
{
    pid_t holder = atomic_load_explicit(&held->holder, memory_order_relaxed);
    if (holder != 0 && !holds(held, holder) && give_up(held, holder))
        pp__object_unref(&held->object);
    pp__object_unref(&held->object);
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
    return lock ? pp__object_fd(&lock->held.object) : pp__fail(-EINVAL, "pp_lock_fd: no lock");
}

pp_lock *pp_lock_ref(pp_lock *lock)
{
    if (lock)
        pp__object_ref(&lock->held.object);
    return lock;
}

void pp_lock_unref(pp_lock *lock)
{
    PP__NO_CANCELLATION();
    if (lock)
        unref(&lock->held);
}

int pp_lock_acquire(pp_lock *lock, int timeout)
{
    PP__NO_CANCELLATION();
    return lock ? acquire(&lock->held, timeout, "lock") : pp__fail(-EINVAL, "pp_lock_acquire: no lock");
}

int pp_lock_release(pp_lock *lock)
{
    PP__NO_CANCELLATION();
    return lock ? release(&lock->held, "lock") : pp__fail(-EINVAL, "pp_lock_release: no lock");
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
    return value ? pp__object_fd(&value->held.object) : pp__fail(-EINVAL, "pp_value_fd: no value");
}

pp_value *pp_value_ref(pp_value *value)
{
    if (value)
        pp__object_ref(&value->held.object);
    return value;
}

void pp_value_unref(pp_value *value)
{
    PP__NO_CANCELLATION();
    if (value)
        unref(&value->held);
}

int pp_value_acquire(pp_value *value, int timeout)
{
    PP__NO_CANCELLATION();
    return value ? acquire(&value->held, timeout, "value") : pp__fail(-EINVAL, "pp_value_acquire: no value");
}

int pp_value_release(pp_value *value)
{
    PP__NO_CANCELLATION();
    return value ? release(&value->held, "value") : pp__fail(-EINVAL, "pp_value_release: no value");
}

void *pp_value_data(const pp_value *value)
{
    return value ? shared(&value->held.object)->data : NULL;
}

size_t pp_value_size(const pp_value *value)
{
    return value ? value->size : 0;
}
