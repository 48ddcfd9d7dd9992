/* SPDX-License-Identifier: MIT */
/* Locks between processes, and values with such a lock: held by one at a time, and by nobody that has died. */
#include "sync_kit.h"

#define ROUNDS 2000

static pp_lock *make_lock(void)
{
    pp_lock *lock;
    CHECK_OK(pp_lock_create(&lock));
    return lock;
}

/* ---------------------------------------------------------------------------------------- one at a time */

struct count_up {
    pp_lock *lock;
    long *count; /* volatile in effect: shared with other processes */
};

static void *count_in_thread(void *argument)
{
    struct count_up *up = argument;
    for (int i = 0; i < ROUNDS; i++) {
        CHECK_OK(pp_lock_acquire(up->lock, -1));
        *(volatile long *)up->count = *(volatile long *)up->count + 1;
        CHECK_OK(pp_lock_release(up->lock));
    }
    return NULL;
}

static void count_in_threads(void *argument)
{
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        CHECK_INT(pthread_create(&threads[i], NULL, count_in_thread, argument), 0);
    for (int i = 0; i < 2; i++)
        CHECK_INT(pthread_join(threads[i], NULL), 0);
}

TEST(a_lock_is_held_by_one_thread_of_all_processes_at_a_time)
{
    struct count_up up = {.lock = make_lock(), .count = kit_shared(sizeof(long))};
    pid_t children[3];
    for (int i = 0; i < 3; i++)
        children[i] = kit_fork(count_in_threads, &up);
    count_in_threads(&up);
    for (int i = 0; i < 3; i++)
        kit_end_well(children[i]);
    CHECK_INT(*up.count, 4 * 2 * ROUNDS);
    pp_lock_unref(up.lock);
}

static void hold_until_killed(void *lock)
{
    CHECK_OK(pp_lock_acquire(lock, -1));
    for (;;)
        pause();
}

static bool is_held(pp_lock *lock)
{
    int error = pp_lock_acquire(lock, 0);
    if (error == 0)
        pp_lock_release(lock);
    return error == -ETIMEDOUT;
}

static pid_t make_holder(pp_lock *lock)
{
    pid_t child = kit_fork(hold_until_killed, lock);
    wait_until(is_held(lock), 5);
    return child;
}

TEST(a_lock_that_is_held_is_waited_for_as_long_as_asked)
{
    pp_lock *lock = make_lock();
    pid_t child = make_holder(lock);
    CHECK_INT(pp_lock_acquire(lock, 0), -ETIMEDOUT);
    CHECK_HAS(pp_last_error(), "held by another");
    double begun = test_seconds();
    CHECK_INT(pp_lock_acquire(lock, 120), -ETIMEDOUT);
    CHECK(test_seconds() - begun >= 0.12);
    kit_kill(child);
    pp_lock_unref(lock);
}

TEST(a_stopped_holder_is_waited_for)
{
    pp_lock *lock = make_lock();
    pid_t child = make_holder(lock);
    kit_stop(child);
    CHECK_INT(pp_lock_acquire(lock, 120), -ETIMEDOUT);
    kit_kill(child);
    CHECK_INT(pp_lock_acquire(lock, -1), -EOWNERDEAD);
    CHECK_OK(pp_lock_release(lock));
    pp_lock_unref(lock);
}

/* ------------------------------------------------------------------------------------------ dead holders */

TEST(a_dead_holder_is_told_to_the_next_once)
{
    pp_lock *lock = make_lock();
    kit_kill(make_holder(lock));
    CHECK_INT(pp_lock_acquire(lock, 0), -EOWNERDEAD);
    CHECK_HAS(pp_last_error(), "held now");
    CHECK_INT(pp_lock_acquire(lock, 0), -EDEADLK); /* it is held indeed */
    CHECK_OK(pp_lock_release(lock));
    CHECK_OK(pp_lock_acquire(lock, 0));
    CHECK_OK(pp_lock_release(lock));
    pp_lock_unref(lock);
}

static void wait_for_dead(void *lock)
{
    CHECK_INT(pp_lock_acquire(lock, -1), -EOWNERDEAD);
    CHECK_OK(pp_lock_release(lock));
}

TEST(who_waits_for_a_lock_gets_it_when_its_holder_dies)
{
    pp_lock *lock = make_lock();
    pid_t holder = make_holder(lock), waiter = kit_fork(wait_for_dead, lock);
    test_sleep_ms(20);
    kit_kill(holder);
    kit_end_well(waiter);
    CHECK_OK(pp_lock_acquire(lock, 0));
    CHECK_OK(pp_lock_release(lock));
    pp_lock_unref(lock);
}

static void *end_with_lock(void *lock)
{
    CHECK_OK(pp_lock_acquire(lock, -1));
    return NULL;
}

TEST(a_thread_that_ends_with_a_lock_is_a_dead_holder)
{
    pp_lock *lock = make_lock();
    pthread_t thread;
    CHECK_INT(pthread_create(&thread, NULL, end_with_lock, lock), 0);
    CHECK_INT(pthread_join(thread, NULL), 0);
    CHECK_INT(pp_lock_acquire(lock, 0), -EOWNERDEAD);
    CHECK_OK(pp_lock_release(lock));
    pp_lock_unref(lock);
}

/* Nobody has taken it since. */
TEST(a_thread_that_ended_with_a_lock_does_not_keep_its_handle)
{
    int mappings = kit_memfd_mappings();
    pp_lock *lock = make_lock();
    pthread_t thread;
    CHECK_INT(pthread_create(&thread, NULL, end_with_lock, lock), 0);
    CHECK_INT(pthread_join(thread, NULL), 0);
    pp_lock_unref(lock);
    CHECK_INT(kit_memfd_mappings(), mappings);
}

/* Children that take and release all the time are killed at whatever moment; each that comes next goes on. Two words
 * that only the lock keeps alike. */
struct pair {
    pp_lock *lock;
    _Atomic long *words;
};

static void change_both(void *argument)
{
    struct pair *pair = argument;
    for (;;) {
        int error = pp_lock_acquire(pair->lock, -1);
        if (error == -EOWNERDEAD)
            atomic_store(&pair->words[1], atomic_load(&pair->words[0]));
        else
            CHECK_OK(error);
        CHECK_INT(atomic_load(&pair->words[0]), atomic_load(&pair->words[1]));
        atomic_fetch_add(&pair->words[0], 1);
        atomic_fetch_add(&pair->words[1], 1);
        CHECK_OK(pp_lock_release(pair->lock));
    }
}

TEST(holders_and_waiters_killed_at_any_moment_leave_a_lock_that_works)
{
    struct pair pair = {.lock = make_lock(), .words = kit_shared(2 * sizeof(long))};
    pid_t children[3];
    unsigned seed = 1;
    for (int i = 0; i < 3; i++)
        children[i] = kit_fork(change_both, &pair);
    for (int round = 0; round < 150; round++) {
        pid_t *victim = &children[round % 3];
        usleep((useconds_t)(rand_r(&seed) % 2000));
        kit_kill(*victim);
        long before = atomic_load(&pair.words[0]);
        *victim = kit_fork(change_both, &pair);
        wait_until(atomic_load(&pair.words[0]) > before, 5);
    }
    for (int i = 0; i < 3; i++)
        kit_kill(children[i]);
    pp_lock_unref(pair.lock);
}

/* ---------------------------------------------------------------------------------------- who releases */

TEST(only_who_holds_a_lock_releases_it)
{
    if (KIT_TSAN)
        LEFT_OUT("thread sanitizer takes it for a mistake");
    pp_lock *lock = make_lock();
    CHECK_INT(pp_lock_release(lock), -EPERM);
    pid_t child = make_holder(lock);
    CHECK_INT(pp_lock_release(lock), -EPERM);
    CHECK_HAS(pp_last_error(), "does not hold");
    kit_kill(child);
    pp_lock_unref(lock);
}

static void release_parents(void *lock)
{
    CHECK_INT(pp_lock_release(lock), -EPERM);
    CHECK_INT(pp_lock_acquire(lock, 0), -ETIMEDOUT);
}

TEST(a_child_does_not_hold_what_its_parent_did_at_the_fork)
{
    pp_lock *lock = make_lock();
    CHECK_OK(pp_lock_acquire(lock, -1));
    kit_end_well(kit_fork(release_parents, lock));
    CHECK_OK(pp_lock_release(lock));
    pp_lock_unref(lock);
}

TEST(a_held_lock_keeps_its_handle)
{
    int mappings = kit_memfd_mappings();
    pp_lock *lock = make_lock();
    CHECK_OK(pp_lock_acquire(lock, -1));
    pp_lock_unref(lock);
    CHECK_INT(kit_memfd_mappings(), mappings + 1);
    CHECK_OK(pp_lock_release(lock));
    CHECK_INT(kit_memfd_mappings(), mappings);
}

static void free_handle(void *lock)
{
    int mappings = kit_memfd_mappings();
    CHECK_INT(pp_lock_release(lock), -EPERM);
    pp_lock_unref(lock);
    CHECK_INT(kit_memfd_mappings(), mappings - 1);
}

TEST(a_child_of_a_holder_can_free_its_handle)
{
    pp_lock *lock = make_lock();
    CHECK_OK(pp_lock_acquire(lock, -1));
    kit_end_well(kit_fork(free_handle, lock));
    CHECK_OK(pp_lock_release(lock));
    pp_lock_unref(lock);
}

TEST(what_was_taken_through_one_handle_is_not_released_through_another)
{
    pp_lock *lock = make_lock(), *other;
    pp_value *value, *other_value;
    CHECK_OK(pp_lock_open(pp_lock_fd(lock), &other));
    CHECK_OK(pp_lock_acquire(lock, -1));
    CHECK_INT(pp_lock_release(other), -EPERM);
    CHECK_HAS(pp_last_error(), "another handle");
    CHECK_OK(pp_lock_fd(other));
    pp_lock_unref(other);
    CHECK_OK(pp_lock_release(lock));
    pp_lock_unref(lock);
    CHECK_OK(pp_value_create(NULL, 8, &value));
    CHECK_OK(pp_value_open(pp_value_fd(value), &other_value));
    CHECK_OK(pp_value_acquire(value, -1));
    CHECK_INT(pp_value_release(other_value), -EPERM);
    CHECK_OK(pp_value_release(value));
    pp_value_unref(other_value);
    pp_value_unref(value);
}

/* --------------------------------------------------------------------------------------------- signals */

static int acquire_for_long(void *lock)
{
    return pp_lock_acquire(lock, kit_wait);
}

TEST(a_signal_interrupts_the_wait_unless_handlers_restart)
{
    pp_lock *lock = make_lock();
    pid_t child = make_holder(lock);
    CHECK_INT(kit_interrupted(acquire_for_long, lock, 0), -EINTR);
    CHECK_INT(kit_interrupted(acquire_for_long, lock, SA_RESTART), -ETIMEDOUT);
    kit_kill(child);
    pp_lock_unref(lock);
}

/* ------------------------------------------------------------------------------------------ descriptors */

TEST(a_lock_opened_from_its_descriptor_is_the_same)
{
    pp_lock *lock = make_lock(), *again;
    int fd = (int)CHECK_OK(pp_lock_fd(lock));
    CHECK(fd > 2);
    CHECK_INT(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    CHECK_OK(pp_lock_open(fd, &again));
    CHECK(pp_lock_fd(again) != fd);
    CHECK_OK(pp_lock_acquire(lock, 0));
    CHECK_INT(pp_lock_acquire(again, 0), -EDEADLK);
    CHECK_OK(pp_lock_release(lock));
    pp_lock_unref(lock);
    CHECK_OK(pp_lock_acquire(again, 0));
    CHECK_OK(pp_lock_release(again));
    pp_lock_unref(again);
}

static int open_lock(int fd)
{
    pp_lock *lock;
    int error = pp_lock_open(fd, &lock);
    if (!error)
        pp_lock_unref(lock);
    return error;
}

static int open_value(int fd)
{
    pp_value *value;
    int error = pp_value_open(fd, &value);
    if (!error)
        pp_value_unref(value);
    return error;
}

TEST(what_is_no_lock_or_value_is_refused)
{
    pp_lock *lock = make_lock();
    pp_value *value;
    CHECK_OK(pp_value_create(NULL, 100, &value));
    kit_check_refusals(open_lock, pp_lock_fd(lock));
    kit_check_refusals(open_value, pp_value_fd(value));
    CHECK_INT(open_lock(pp_value_fd(value)), -EINVAL);
    CHECK_HAS(pp_last_error(), "another kind");
    CHECK_INT(open_value(pp_lock_fd(lock)), -EINVAL);
    pp_lock_unref(lock);
    pp_value_unref(value);
}

TEST(a_value_that_is_longer_than_its_memory_is_refused)
{
    pp_value *value;
    unsigned char bytes[4096];
    const uint64_t size = 0x123456, longer = 0x12345678;
    CHECK_OK(pp_value_create(NULL, size, &value));
    int fd = pp_value_fd(value);
    CHECK_INT(pread(fd, bytes, sizeof bytes, 0), sizeof bytes);
    unsigned char *at = memmem(bytes + 24, 1000, &size, sizeof size);
    CHECK(at != NULL);
    int forged = kit_forged(fd, (size_t)(at - bytes), &longer, sizeof longer);
    CHECK_INT(open_value(forged), -EINVAL);
    CHECK_HAS(pp_last_error(), "does not fit");
    close(forged);
    pp_value_unref(value);
}

TEST(a_descriptor_that_was_closed_is_told_and_another_file_left_alone)
{
    pp_lock *lock = make_lock();
    int fd = pp_lock_fd(lock);
    close(fd);
    CHECK_INT(pp_lock_fd(lock), -EBADF);
    CHECK_INT(dup2(STDIN_FILENO, fd), fd);
    CHECK_INT(pp_lock_fd(lock), -EBADF);
    CHECK_OK(pp_lock_acquire(lock, 0));
    CHECK_OK(pp_lock_release(lock));
    pp_lock_unref(lock);
    CHECK(fcntl(fd, F_GETFD) >= 0);
    close(fd);
}

TEST(nothing_is_left_of_locks_and_values)
{
    int descriptors = kit_open_descriptors(), mappings = kit_memfd_mappings();
    for (int i = 0; i < 100; i++) {
        pp_lock *lock = make_lock(), *again;
        pp_value *value;
        CHECK_OK(pp_lock_open(pp_lock_fd(lock), &again));
        CHECK(pp_lock_ref(lock) == lock);
        CHECK_OK(pp_value_create(NULL, 1 << 16, &value));
        CHECK(pp_value_ref(value) == value);
        pp_lock_unref(lock);
        pp_lock_unref(lock);
        pp_lock_unref(again);
        pp_value_unref(value);
        pp_value_unref(value);
    }
    CHECK_INT(kit_open_descriptors(), descriptors);
    CHECK_INT(kit_memfd_mappings(), mappings);
}

/* ----------------------------------------------------------------------------------------- in workers */

static int count_by_descriptor(pp_task *task, const void *arg, size_t size)
{
    pp_value *value;
    CHECK_INT(size, sizeof(int));
    int error = pp_value_open(*(const int *)arg, &value);
    if (error)
        return pp_task_fail(task, error, "%s", pp_last_error());
    for (int i = 0; i < 100; i++) {
        CHECK_OK(pp_value_acquire(value, -1));
        ++*(volatile long *)pp_value_data(value);
        CHECK_OK(pp_value_release(value));
    }
    pp_value_unref(value);
    return 0;
}

static void count_in_pool(pp_start_method method)
{
    pp_value *value;
    pp_pool *pool;
    pp_future *futures[8];
    CHECK_OK(pp_value_create(NULL, sizeof(long), &value));
    int fd = pp_value_fd(value);
    CHECK_OK(pp_pool_create(
        &(pp_pool_options){.max_workers = 2, .start_method = method, .inherit_fds = &fd, .inherit_fd_count = 1},
        &pool));
    for (int i = 0; i < 8; i++)
        CHECK_OK(pp_submit(pool, count_by_descriptor, &fd, sizeof fd, &futures[i]));
    for (int i = 0; i < 8; i++) {
        CHECK_OK(pp_future_result(futures[i], -1, NULL, 0, NULL));
        pp_future_unref(futures[i]);
    }
    CHECK_INT(*(long *)pp_value_data(value), 800);
    pp_pool_destroy(pool);
    pp_value_unref(value);
}

TEST(workers_of_a_forkserver_have_a_value_by_its_descriptor)
{
    count_in_pool(PP_START_FORKSERVER);
}

TEST(workers_that_are_fresh_images_have_a_value_by_its_descriptor)
{
    count_in_pool(PP_START_SPAWN);
}

static pp_value *inherited;

static int count_by_handle(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    CHECK_OK(pp_value_acquire(inherited, -1));
    ++*(long *)pp_value_data(inherited);
    CHECK_OK(pp_value_release(inherited));
    return 0;
}

static int die_with_lock(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    CHECK_OK(pp_value_acquire(inherited, -1));
    abort();
}

TEST(workers_that_are_forks_have_a_value_and_a_crash_in_a_task_is_a_dead_holder)
{
    pp_pool *pool;
    pp_future *counts, *dies;
    CHECK_OK(pp_value_create(NULL, sizeof(long), &inherited));
    CHECK_OK(pp_pool_create(&(pp_pool_options){.max_workers = 1, .start_method = PP_START_FORK}, &pool));
    CHECK_OK(pp_submit(pool, count_by_handle, NULL, 0, &counts));
    CHECK_OK(pp_submit(pool, die_with_lock, NULL, 0, &dies));
    CHECK_OK(pp_future_result(counts, -1, NULL, 0, NULL));
    CHECK_INT(pp_future_result(dies, -1, NULL, 0, NULL), -EOWNERDEAD);
    CHECK_INT(*(long *)pp_value_data(inherited), 1);
    CHECK_INT(pp_value_acquire(inherited, -1), -EOWNERDEAD);
    CHECK_OK(pp_value_release(inherited));
    pp_future_unref(counts);
    pp_future_unref(dies);
    pp_pool_destroy(pool);
    pp_value_unref(inherited);
}

/* ----------------------------------------------------------------------------------------------- values */

TEST(a_value_begins_as_asked_and_is_seen_by_all)
{
    pp_value *value, *again, *zeros;
    const char text[] = "shared by many";
    CHECK_OK(pp_value_create(text, sizeof text, &value));
    CHECK_INT(pp_value_size(value), sizeof text);
    CHECK_STR(pp_value_data(value), text);
    CHECK_INT((uintptr_t)pp_value_data(value) % 64, 0);
    CHECK_OK(pp_value_open(pp_value_fd(value), &again));
    CHECK_INT(pp_value_size(again), sizeof text);
    CHECK(pp_value_data(again) != pp_value_data(value));
    memcpy(pp_value_data(again), "S", 1);
    CHECK_STR(pp_value_data(value), "Shared by many");
    CHECK_OK(pp_value_create(NULL, 10000, &zeros));
    for (int i = 0; i < 10000; i++)
        CHECK_INT(((unsigned char *)pp_value_data(zeros))[i], 0);
    pp_value_unref(value);
    pp_value_unref(again);
    pp_value_unref(zeros);
}

TEST(a_values_lock_is_a_lock)
{
    pp_value *value;
    CHECK_OK(pp_value_create(NULL, 1, &value));
    if (!KIT_TSAN)
        CHECK_INT(pp_value_release(value), -EPERM);
    CHECK_OK(pp_value_acquire(value, 0));
    CHECK_INT(pp_value_acquire(value, 0), -EDEADLK);
    CHECK_OK(pp_value_release(value));
    pp_value_unref(value);
}

TEST(arguments_that_cannot_be_are_refused)
{
    pp_lock *lock;
    pp_value *value;
    CHECK_INT(pp_lock_create(NULL), -EINVAL);
    CHECK_INT(pp_lock_open(-1, NULL), -EINVAL);
    CHECK_INT(pp_lock_open(-1, &lock), -EBADF);
    CHECK_INT(pp_lock_fd(NULL), -EINVAL);
    CHECK(pp_lock_ref(NULL) == NULL);
    pp_lock_unref(NULL);
    CHECK_INT(pp_lock_acquire(NULL, 0), -EINVAL);
    CHECK_INT(pp_lock_release(NULL), -EINVAL);
    CHECK_INT(pp_value_create(NULL, 0, &value), -EINVAL);
    CHECK_INT(pp_value_create(NULL, 1, NULL), -EINVAL);
    CHECK_INT(pp_value_create(NULL, SIZE_MAX, &value), -ENOMEM);
    CHECK_INT(pp_value_create(NULL, (size_t)1 << 60, &value), -ENOMEM);
    CHECK_INT(pp_value_open(-1, NULL), -EINVAL);
    CHECK_INT(pp_value_fd(NULL), -EINVAL);
    CHECK(pp_value_ref(NULL) == NULL);
    pp_value_unref(NULL);
    CHECK_INT(pp_value_acquire(NULL, 0), -EINVAL);
    CHECK_INT(pp_value_release(NULL), -EINVAL);
    CHECK(pp_value_data(NULL) == NULL);
    CHECK_INT(pp_value_size(NULL), 0);
}
