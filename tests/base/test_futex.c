/* SPDX-License-Identifier: MIT */
#include "harness.h"
#include "helpers.h"

#include "base/clock.h"
#include "base/futex.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static _Atomic uint32_t word;

static void nothing(int signal)
{
    (void)signal;
}

/* Signals this process every 10 ms; the handler does nothing. */
static void interrupt_soon(int flags)
{
    struct sigaction action = {.sa_handler = nothing, .sa_flags = flags};
    CHECK_INT(sigaction(SIGALRM, &action, NULL), 0);
    struct itimerval often = {.it_interval.tv_usec = 10000, .it_value.tv_usec = 10000};
    CHECK_INT(setitimer(ITIMER_REAL, &often, NULL), 0);
}

TEST(a_word_that_differs_is_not_waited_for)
{
    atomic_store(&word, 7);
    CHECK_INT(pp__futex_wait(&word, 8, PP__NEVER, false), 0);
    CHECK_INT(pp__futex_wait(&word, 8, PP__NEVER, true), 0);
}

TEST(a_wait_ends_at_its_deadline_and_not_before)
{
    for (int shared = 0; shared < 2; shared++) {
        uint64_t deadline = pp__now() + 30 * PP__MILLISECOND;
        int rc;
        do
            rc = pp__futex_wait(&word, 0, deadline, shared);
        while (rc == 0);
        CHECK_INT(rc, -ETIMEDOUT);
        CHECK(pp__now() >= deadline);
    }
}

TEST(a_deadline_that_has_passed_times_out_at_once)
{
    CHECK_INT(pp__futex_wait(&word, 0, 0, false), -ETIMEDOUT);
    CHECK_INT(pp__futex_wait(&word, 0, pp__now(), true), -ETIMEDOUT);
}

TEST(a_deadline_in_the_far_future_is_no_error)
{
    interrupt_soon(0);
    CHECK_INT(pp__futex_wait(&word, 0, PP__NEVER - 1, false), -EINTR);
}

TEST(a_handler_without_sa_restart_ends_the_wait)
{
    interrupt_soon(0);
    CHECK_INT(pp__futex_wait(&word, 0, PP__NEVER, false), -EINTR);
    CHECK_INT(pp__futex_wait(&word, 0, PP__NEVER, true), -EINTR);
    CHECK_INT(pp__futex_wait(&word, 0, pp__now() + 100 * PP__SECOND, true), -EINTR);
}

static void *wake_soon(void *unused)
{
    test_sleep_ms(100);
    atomic_store(&word, 1);
    pp__futex_wake(&word, 1, false);
    return unused;
}

TEST(a_handler_with_sa_restart_does_not_end_a_wait_without_deadline)
{
    sigset_t alarm;
    sigemptyset(&alarm);
    sigaddset(&alarm, SIGALRM);
    pthread_t thread;
    pthread_sigmask(SIG_BLOCK, &alarm, NULL); /* the signals are for this thread */
    CHECK_INT(pthread_create(&thread, NULL, wake_soon, NULL), 0);
    pthread_sigmask(SIG_UNBLOCK, &alarm, NULL);
    interrupt_soon(SA_RESTART);
    CHECK_INT(pp__futex_wait(&word, 0, PP__NEVER, false), 0);
    CHECK_INT(atomic_load(&word), 1);
    CHECK_INT(pthread_join(thread, NULL), 0);
}

static _Atomic int awake;

static void *sleep_on_word(void *unused)
{
    while (atomic_load(&word) == 0)
        CHECK_INT(pp__futex_wait(&word, 0, PP__NEVER, false), 0);
    atomic_fetch_add(&awake, 1);
    return unused;
}

TEST(a_wake_wakes_all_who_sleep)
{
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        CHECK_INT(pthread_create(&threads[i], NULL, sleep_on_word, NULL), 0);
    test_sleep_ms(20);
    CHECK_INT(atomic_load(&awake), 0);
    atomic_store(&word, 1);
    pp__futex_wake(&word, INT_MAX, false);
    for (int i = 0; i < 3; i++)
        CHECK_INT(pthread_join(threads[i], NULL), 0);
    CHECK_INT(atomic_load(&awake), 3);
}

static void *sleep_once(void *unused)
{
    CHECK_INT(pp__futex_wait(&word, 0, PP__NEVER, false), 0);
    atomic_fetch_add(&awake, 1);
    return unused;
}

/* The word stays what it was, so only a wake ends a sleep. */
TEST(a_wake_of_one_leaves_the_others_asleep)
{
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        CHECK_INT(pthread_create(&threads[i], NULL, sleep_once, NULL), 0);
    for (int i = 1; i <= 3; i++) {
        while (atomic_load(&awake) < i) {
            CHECK(atomic_load(&awake) == i - 1);
            test_sleep_ms(20);
            if (atomic_load(&awake) == i - 1)
                pp__futex_wake(&word, 1, false);
            test_sleep_ms(20);
        }
        CHECK_INT(atomic_load(&awake), i);
    }
    for (int i = 0; i < 3; i++)
        CHECK_INT(pthread_join(threads[i], NULL), 0);
}

/* As a worker sleeps on a word of the owner's: through a mapping of its own that it can't write. */
TEST(a_child_sleeps_on_a_word_that_it_can_only_read)
{
    int fd = memfd_create("word", MFD_CLOEXEC);
    CHECK_OK(fd);
    CHECK_INT(ftruncate(fd, 4096), 0);
    _Atomic uint32_t *ours = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(ours != MAP_FAILED);
    pid_t child = fork();
    CHECK_OK(child);
    if (child == 0) {
        const _Atomic uint32_t *theirs = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
        CHECK(theirs != MAP_FAILED);
        munmap(ours, 4096);
        CHECK_INT(pp__futex_wait(theirs, 0, pp__now() + PP__MILLISECOND, true), -ETIMEDOUT);
        while (atomic_load(theirs) == 0)
            CHECK_INT(pp__futex_wait(theirs, 0, PP__NEVER, true), 0);
        _exit(42);
    }
    wait_until(test_process_state(child, NULL, NULL) == 'S', 5);
    test_sleep_ms(20);
    atomic_store(ours, 1);
    pp__futex_wake(ours, 1, true);
    int status;
    CHECK_INT(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status));
    CHECK_INT(WEXITSTATUS(status), 42);
}
