/* SPDX-License-Identifier: MIT */
/* needs: seams. Every step of an object's making and opening fails once; the error is told and nothing is left. */
#include "base/seam.h"
#include "sync_kit.h"

#include <stdarg.h>

static int countdown; /* the step that fails; 0: none */
static int error_to_give;
static struct pp__sys real;

static bool fails(void)
{
    if (countdown == 0 || --countdown != 0)
        return false;
    errno = error_to_give;
    return true;
}

static void *failing_calloc(size_t count, size_t size)
{
    return fails() ? NULL : real.calloc(count, size);
}

static void *failing_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    return fails() ? MAP_FAILED : real.mmap(at, size, protection, flags, fd, offset);
}

static int failing_memfd_create(const char *name, unsigned flags)
{
    return fails() ? -1 : real.memfd_create(name, flags);
}

static int failing_posix_fallocate(int fd, off_t at, off_t size)
{
    return fails() ? error_to_give : real.posix_fallocate(fd, at, size);
}

static int failing_fcntl(int fd, int command, ...)
{
    va_list arguments;
    va_start(arguments, command);
    long value = va_arg(arguments, long);
    va_end(arguments);
    return fails() ? -1 : real.fcntl(fd, command, value);
}

static int failing_ftruncate(int fd, off_t size)
{
    return fails() ? -1 : real.ftruncate(fd, size);
}

static int make_lock(void)
{
    pp_lock *lock = NULL;
    int error = pp_lock_create(&lock);
    CHECK((lock != NULL) == (error == 0));
    pp_lock_unref(lock);
    return error;
}

static int make_value(void)
{
    pp_value *value = NULL;
    int error = pp_value_create(NULL, 10, &value);
    CHECK((value != NULL) == (error == 0));
    pp_value_unref(value);
    return error;
}

static int make_semaphore(void)
{
    pp_semaphore *semaphore = NULL;
    int error = pp_semaphore_create(10, &semaphore);
    CHECK((semaphore != NULL) == (error == 0));
    pp_semaphore_unref(semaphore);
    return error;
}

static int make_event(void)
{
    pp_event *event = NULL;
    int error = pp_event_create(&event);
    CHECK((event != NULL) == (error == 0));
    pp_event_unref(event);
    return error;
}

static int make_queue(void)
{
    pp_queue *queue = NULL;
    int error = pp_queue_create(NULL, &queue);
    CHECK((queue != NULL) == (error == 0));
    pp_queue_unref(queue);
    return error;
}

static int make_dict(void)
{
    pp_dict *dict = NULL;
    int error = pp_dict_create(NULL, &dict);
    CHECK((dict != NULL) == (error == 0));
    pp_dict_unref(dict);
    return error;
}

static int descriptor; /* of a lock */

static int open_lock(void)
{
    pp_lock *lock = NULL;
    int error = pp_lock_open(descriptor, &lock);
    CHECK((lock != NULL) == (error == 0));
    pp_lock_unref(lock);
    return error;
}

static void check_each_step(int (*make)(void), int error)
{
    int descriptors = kit_open_descriptors(), mappings = kit_memfd_mappings(), steps = 0;
    error_to_give = error;
    for (bool done = false; !done; steps++) {
        countdown = steps + 1;
        int result = make();
        done = countdown != 0;
        countdown = 0;
        CHECK(result == 0 || result == -error || result == -ENOMEM || result == -EINVAL);
        CHECK_INT(kit_open_descriptors(), descriptors);
        CHECK_INT(kit_memfd_mappings(), mappings);
        if (done)
            CHECK_OK(result);
    }
    CHECK(steps > 3);
}

TEST(want_at_any_step_of_the_making_is_told_and_leaves_nothing)
{
    int (*const makers[])(void) = {make_lock, make_value, make_semaphore, make_event, make_queue, make_dict, open_lock};
    pp_lock *lock;
    CHECK_OK(pp_lock_create(&lock));
    descriptor = pp_lock_fd(lock);
    real = pp__sys;
    pp__sys.calloc = failing_calloc;
    pp__sys.mmap = failing_mmap;
    pp__sys.memfd_create = failing_memfd_create;
    pp__sys.posix_fallocate = failing_posix_fallocate;
    pp__sys.ftruncate = failing_ftruncate;
    pp__sys.fcntl = failing_fcntl;
    for (size_t i = 0; i < sizeof makers / sizeof makers[0]; i++) {
        check_each_step(makers[i], EMFILE);
        check_each_step(makers[i], ENOMEM);
    }
    pp_lock_unref(lock);
}
