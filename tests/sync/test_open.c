/* SPDX-License-Identifier: MIT */
/* needs: seams */
/* What the makers and openers of all kinds of shared objects refuse for want of something. */
#include "sync_kit.h"

#include "base/seam.h"

#include <sys/resource.h>

/* One kind, through the same calls as all others. */
struct kind {
    int (*create)(void **object);
    int (*open)(int fd, void **object);
    int (*fd)(const void *object);
    void (*unref)(void *object);
};

#define KIND(name, creation)                                                                                           \
    static int name##_create(void **object)                                                                            \
    {                                                                                                                  \
        pp_##name **made = (pp_##name **)object;                                                                       \
        return creation;                                                                                               \
    }                                                                                                                  \
    static int name##_open(int fd, void **object)                                                                      \
    {                                                                                                                  \
        return pp_##name##_open(fd, (pp_##name **)object);                                                             \
    }                                                                                                                  \
    static int name##_fd(const void *object)                                                                           \
    {                                                                                                                  \
        return pp_##name##_fd(object);                                                                                 \
    }                                                                                                                  \
    static void name##_unref(void *object)                                                                             \
    {                                                                                                                  \
        pp_##name##_unref(object);                                                                                     \
    }

KIND(lock, pp_lock_create(made))
KIND(value, pp_value_create(&(int){1}, sizeof(int), made))
KIND(semaphore, pp_semaphore_create(1, made))
KIND(event, pp_event_create(made))
KIND(queue, pp_queue_create(NULL, made))

#define THE(name)                                                                                                      \
    {                                                                                                                  \
        name##_create, name##_open, name##_fd, name##_unref                                                            \
    }
static const struct kind kinds[] = {THE(lock), THE(value), THE(semaphore), THE(event), THE(queue)};
#define KINDS (sizeof kinds / sizeof *kinds)

static void *create(const struct kind *kind)
{
    void *object;
    CHECK_OK(kind->create(&object));
    return object;
}

TEST(what_is_not_open_is_not_opened)
{
    for (size_t i = 0; i < KINDS; i++) {
        void *object = NULL;
        CHECK_INT(kinds[i].open(-1, &object), -EBADF);
        CHECK_INT(kinds[i].open(999, &object), -EBADF);
        CHECK_HAS(pp_last_error(), "not open");
        CHECK(!object);
    }
}

TEST(whose_descriptor_the_program_has_closed_tells_it_and_goes_on)
{
    for (size_t i = 0; i < KINDS; i++) {
        void *object = create(&kinds[i]), *again;
        int fd = kinds[i].fd(object);
        CHECK_OK(kinds[i].open(fd, &again));
        close(fd);
        CHECK_INT(kinds[i].fd(object), -EBADF);
        CHECK_HAS(pp_last_error(), "closed");
        int other = open("/dev/null", O_RDONLY | O_CLOEXEC);
        CHECK_INT(fcntl(other, F_DUPFD_CLOEXEC, fd), fd); /* another file has the number now */
        CHECK_INT(kinds[i].fd(object), -EBADF);
        CHECK(kinds[i].fd(again) >= 0);
        kinds[i].unref(object);
        CHECK(fcntl(fd, F_GETFD) >= 0); /* which is not ours to close */
        close(fd);
        close(other);
        kinds[i].unref(again);
    }
}

/* No descriptor is left below the limit. */
static struct rlimit use_up(int *last)
{
    struct rlimit before, now;
    int first = -1, fd;
    CHECK_INT(getrlimit(RLIMIT_NOFILE, &before), 0);
    now = before;
    now.rlim_cur = 64;
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &now), 0);
    while ((fd = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
        first = first < 0 ? fd : first;
    *last = first;
    return before;
}

TEST(without_descriptors_nothing_is_made_or_opened)
{
    void *objects[KINDS], *none = NULL;
    int first;
    for (size_t i = 0; i < KINDS; i++)
        objects[i] = create(&kinds[i]);
    struct rlimit before = use_up(&first);
    for (size_t i = 0; i < KINDS; i++) {
        CHECK_INT(kinds[i].create(&none), -EMFILE);
        CHECK_INT(kinds[i].open(kinds[i].fd(objects[i]), &none), -EMFILE);
        CHECK(*pp_last_error() && !none);
    }
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &before), 0);
    for (size_t i = 0; i < KINDS; i++) {
        CHECK_OK(kinds[i].open(kinds[i].fd(objects[i]), &none));
        kinds[i].unref(none);
        kinds[i].unref(objects[i]);
        none = NULL;
    }
}

static void *no_calloc(size_t count, size_t size)
{
    (void)count, (void)size;
    return NULL;
}

static void *no_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    (void)at, (void)size, (void)protection, (void)flags, (void)fd, (void)offset;
    errno = ENOMEM;
    return MAP_FAILED;
}

static void expect_no_memory(const struct kind *kind, int fd, int descriptors)
{
    void *none = NULL;
    CHECK_INT(kind->open(fd, &none), -ENOMEM);
    CHECK(*pp_last_error());
    CHECK_INT(kind->create(&none), -ENOMEM);
    CHECK(!none);
    CHECK_INT(kit_open_descriptors(), descriptors);
}

TEST(without_memory_nothing_is_made_or_opened_and_nothing_left)
{
    const struct pp__sys whole = pp__sys;
    for (size_t i = 0; i < KINDS; i++) {
        void *object = create(&kinds[i]);
        int fd = kinds[i].fd(object), descriptors = kit_open_descriptors();
        pp__sys.calloc = no_calloc;
        expect_no_memory(&kinds[i], fd, descriptors);
        pp__sys = whole;
        pp__sys.mmap = no_mmap;
        expect_no_memory(&kinds[i], fd, descriptors);
        pp__sys = whole;
        kinds[i].unref(object);
    }
}

static int memfd_error;

static int no_memfd(const char *name, unsigned flags)
{
    (void)name, (void)flags;
    errno = memfd_error;
    return -1;
}

TEST(without_what_the_system_has_to_give_nothing_is_made)
{
    static const int errors[] = {ENFILE, ENOSYS, EPERM, EMFILE, ENOMEM};
    const struct pp__sys whole = pp__sys;
    pp__sys.memfd_create = no_memfd;
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        void *none = NULL;
        memfd_error = errors[i];
        for (size_t j = 0; j < KINDS; j++)
            CHECK_INT(kinds[j].create(&none), -errors[i]);
        CHECK(*pp_last_error() && !none);
    }
    pp__sys = whole;
}

TEST(a_limit_of_file_sizes_is_named)
{
    const struct rlimit small = {.rlim_cur = 100, .rlim_max = RLIM_INFINITY};
    void *none = NULL;
    CHECK_INT(setrlimit(RLIMIT_FSIZE, &small), 0);
    for (size_t i = 0; i < KINDS; i++) {
        CHECK_INT(kinds[i].create(&none), -EFBIG);
        CHECK_HAS(pp_last_error(), "RLIMIT_FSIZE");
        CHECK(!none);
    }
}

/* ------------------------------------------------------------------------------------------- taking */

TEST(a_message_is_not_taken_from_a_queue_that_is_closed_or_broken)
{
    pp_queue *queue;
    void *data = NULL;
    size_t size;
    CHECK_OK(pp_queue_create(NULL, &queue));
    CHECK_OK(pp_queue_put(queue, "x", 1, 0));
    CHECK_OK(pp_queue_close(queue));
    CHECK_OK(pp_queue_take(queue, 0, &data, &size));
    pp_free(data);
    data = NULL;
    CHECK_INT(pp_queue_take(queue, 0, &data, &size), -EPIPE);
    CHECK_HAS(pp_last_error(), "closed");
    CHECK(!data);
    pp_queue_unref(queue);
}
