/* SPDX-License-Identifier: MIT */
/* needs: seams. What a thread holds it can give back, whatever another one of its process fails at meanwhile. */
#include "base/seam.h"
#include "sync_kit.h"

#include <stdarg.h>

static struct pp__sys real;
static _Thread_local bool is_unlucky;
static pthread_barrier_t at_it, over;

/* The unlucky thread finds no descriptor to read by what it is, and learns it only when the other one has its unit. */
static int late_open(const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    int mode = flags & O_CREAT ? va_arg(arguments, int) : 0;
    va_end(arguments);
    if (!is_unlucky)
        return real.open(path, flags, mode);
    is_unlucky = false;
    pthread_barrier_wait(&at_it);
    pthread_barrier_wait(&over);
    errno = EMFILE;
    return -1;
}

static void *acquire_unluckily(void *semaphore)
{
    is_unlucky = true;
    CHECK_OK(pp_semaphore_acquire(semaphore, -1));
    CHECK_OK(pp_semaphore_release(semaphore));
    return NULL;
}

TEST(a_unit_is_given_back_while_another_thread_can_not_read_what_it_is)
{
    pp_semaphore *mine, *other;
    pthread_t thread;
    CHECK_OK(pp_semaphore_create(1, &mine));
    CHECK_OK(pp_semaphore_create(1, &other));
    real = pp__sys;
    CHECK_INT(pthread_barrier_init(&at_it, NULL, 2), 0);
    CHECK_INT(pthread_barrier_init(&over, NULL, 2), 0);
    pp__sys.open = late_open;
    CHECK_INT(pthread_create(&thread, NULL, acquire_unluckily, other), 0);
    pthread_barrier_wait(&at_it);
    CHECK_OK(pp_semaphore_acquire(mine, -1));
    pthread_barrier_wait(&over);
    CHECK_INT(pthread_join(thread, NULL), 0);
    CHECK_OK(pp_semaphore_release(mine));
    pp__sys = real;
    pp_semaphore_unref(mine);
    pp_semaphore_unref(other);
}
