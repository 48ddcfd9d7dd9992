/* SPDX-License-Identifier: MIT */
#include "sync/mutex.h"

#include "base/atomic.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/seam.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

int pp__mutex_init(struct pp__mutex *mutex)
{
    pthread_mutexattr_t attributes;
    int error = pthread_mutexattr_init(&attributes);
    if (error)
        return pp__fail_errno(error, "a mutex");
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ERRORCHECK);
    error = PP_SYS(pthread_mutex_init)(&mutex->mutex, &attributes);
    pthread_mutexattr_destroy(&attributes);
    return error ? pp__fail_errno(error, "a mutex") : 0;
}

/* Made consistent at once: a mutex that its holder leaves inconsistent can never be taken again. Who dies here leaves
 * it as it was. */
static int look(struct pp__mutex *mutex)
{
    int error = pthread_mutex_trylock(&mutex->mutex);
    if (error == EOWNERDEAD) {
        PP_FAULT("sync.inherited");
        pthread_mutex_consistent(&mutex->mutex);
    }
    return -error;
}

/* glibc's word of a robust mutex is the kernel's: the holder's number, and two marks. */
static uint32_t word_of(struct pp__mutex *mutex)
{
#ifdef __GLIBC__
    return pp__load_relaxed((_Atomic uint32_t *)&mutex->mutex.__data.__lock); /* nothing is read behind it */
#else
    (void)mutex;
    return 0;
#endif
}

bool pp__mutex_is_lost(struct pp__mutex *mutex)
{
    uint32_t word = word_of(mutex), holder = word & FUTEX_TID_MASK;
    if (word == 0 || (word & FUTEX_OWNER_DIED))
        return false;
    bool lives = holder != 0 && (PP_SYS(syscall)(SYS_tkill, holder, 0) == 0 || errno != ESRCH);
    return !lives && word_of(mutex) == word;
}

bool pp__mutex_may_be_held_by(struct pp__mutex *mutex, pid_t thread)
{
#ifdef __GLIBC__
    return (word_of(mutex) & (FUTEX_TID_MASK | FUTEX_OWNER_DIED)) == (uint32_t)thread;
#else
    (void)mutex, (void)thread;
    return true;
#endif
}

/* Each second of a wait. *next: zeroed at its begin. */
static bool is_time(uint64_t *next)
{
    uint64_t now = pp__now();
    bool is = *next != 0 && now >= *next;
    if (is || *next == 0)
        *next = now + PP__SECOND;
    return is;
}

/*
 * Each look but the first comes after listening, so that whoever has slept and takes it leaves the mark set, and its
 * release wakes the next. A holder that dies rings no bell: the kernel marks the mutex, which is seen when the bound is
 * over.
 */
int pp__mutex_acquire(struct pp__mutex *mutex, uint64_t deadline, struct pp__hold *hold)
{
    uint64_t next = 0;
    int error = look(mutex);
    while (error == -EBUSY) {
        uint32_t heard = pp__bell_listen(&mutex->bell);
        error = look(mutex);
        if (error != -EBUSY)
            break;
        int slept = pp__sleep(&mutex->bell.word, heard, deadline, hold);
        if (slept)
            return slept;
        if (is_time(&next) && pp__mutex_is_lost(mutex))
            return -EPROTO;
    }
    return error;
}

int pp__mutex_release(struct pp__mutex *mutex)
{
    int error = pthread_mutex_unlock(&mutex->mutex);
    if (error)
        return -error;
    PP_FAULT("sync.released");
    pp__bell_ring(&mutex->bell);
    return 0;
}
