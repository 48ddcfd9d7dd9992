/* SPDX-License-Identifier: MIT */
/* needs: seams. A process is killed at each fault point of lock, semaphore and event; the others go on. */
#include "kill_kit.h"

#define ENOUGH (5000 * (int)harness_scale()) /* ms in which what has to happen does */

/* Of many processes that do the same the first to come to `place` is killed; the others end well. Whether there was
 * such a one. */
static bool one_of_many_is_killed(const char *place, void (*run)(void *), void *argument)
{
    pid_t children[4];
    int killed = 0;
    pp__fault_arm(place, 1, PP__FAULT_KILL);
    for (int i = 0; i < 4; i++)
        children[i] = kit_fork(run, argument);
    for (int i = 0; i < 4; i++) {
        int status;
        CHECK_INT(waitpid(children[i], &status, 0), children[i]);
        CHECK(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
        killed += WIFSIGNALED(status);
    }
    pp__fault_disarm();
    CHECK(killed <= 1);
    return killed == 1;
}

/* --------------------------------------------------------------------------------------------- lock */

static void take_and_release(void *lock)
{
    int error = pp_lock_acquire(lock, ENOUGH);
    if (error != -ETIMEDOUT)
        CHECK_OK(pp_lock_release(lock));
}

TEST(a_process_killed_at_a_step_of_a_free_lock_leaves_it_free)
{
    pp_lock *lock;
    CHECK_OK(pp_lock_create(&lock));
    CHECK(killed_at("sync.released", 1, take_and_release, lock));
    CHECK_OK(pp_lock_acquire(lock, 0));
    CHECK_OK(pp_lock_release(lock));
    pp_lock_unref(lock);
}

static void end_with_lock(void *lock)
{
    CHECK_INT(pp_lock_acquire(lock, 0), 0);
}

TEST(who_dies_when_it_is_told_of_a_dead_holder_leaves_the_word_to_the_next)
{
    pp_lock *lock;
    CHECK_OK(pp_lock_create(&lock));
    kit_end_well(kit_fork(end_with_lock, lock));
    CHECK(killed_at("sync.inherited", 1, take_and_release, lock));
    CHECK_INT(pp_lock_acquire(lock, 0), -EOWNERDEAD);
    CHECK_OK(pp_lock_release(lock));
    CHECK_OK(pp_lock_acquire(lock, 0));
    CHECK_OK(pp_lock_release(lock));
    pp_lock_unref(lock);
}

TEST(a_process_killed_while_it_waits_for_a_lock_leaves_it_to_others)
{
    const char *const places[] = {"sync.sleep", "sync.woken"};
    pp_lock *lock;
    CHECK_OK(pp_lock_create(&lock));
    for (int i = 0; i < 2; i++) {
        CHECK_OK(pp_lock_acquire(lock, 0));
        CHECK(killed_at(places[i], 1, take_and_release, lock));
        CHECK_OK(pp_lock_release(lock));
        CHECK_OK(pp_lock_acquire(lock, 0));
        CHECK_OK(pp_lock_release(lock));
    }
    pp_lock_unref(lock);
}

static void hold_for_long(void *lock)
{
    CHECK_OK(pp_lock_acquire(lock, ENOUGH));
    test_sleep_ms(30);
    CHECK_OK(pp_lock_release(lock));
}

/* It has released the lock, and does not wake who sleeps. */
TEST(who_dies_before_it_wakes_the_next_keeps_it_waiting_for_a_moment_only)
{
    const char *const places[] = {"sync.released", "sync.ring"};
    pp_lock *lock;
    CHECK_OK(pp_lock_create(&lock));
    for (int i = 0; i < 2; i++) {
        while (!one_of_many_is_killed(places[i], hold_for_long, lock)) { /* nobody slept yet when it was released */
        }
        CHECK_OK(pp_lock_acquire(lock, 0));
        CHECK_OK(pp_lock_release(lock));
    }
    pp_lock_unref(lock);
}

/* ---------------------------------------------------------------------------------------- semaphore */

static void take_and_give(void *semaphore)
{
    if (pp_semaphore_acquire(semaphore, ENOUGH) == 0)
        CHECK_OK(pp_semaphore_release(semaphore));
}

TEST(a_process_killed_at_any_step_of_a_semaphore_takes_no_unit_along)
{
    const char *const places[] = {"sync.holder.named", "sync.semaphore.taken", "sync.semaphore.given",
                                  "sync.gate.leave",   "sync.gate.leave",      "sync.released"};
    const unsigned times[] = {1, 1, 1, 1, 2, 1};
    pp_semaphore *semaphore;
    CHECK_OK(pp_semaphore_create(1, &semaphore));
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        CHECK(killed_at(places[i], times[i], take_and_give, semaphore));
        CHECK_OK(pp_semaphore_acquire(semaphore, 0));
        CHECK_INT(pp_semaphore_value(semaphore), 0);
        CHECK_OK(pp_semaphore_release(semaphore));
        CHECK_INT(pp_semaphore_value(semaphore), 1);
    }
    pp_semaphore_unref(semaphore);
}

TEST(a_process_killed_while_it_waits_for_a_unit_leaves_it_to_others)
{
    const char *const places[] = {"sync.sleep", "sync.woken", "sync.gate.leave", "sync.released"};
    pp_semaphore *semaphore;
    CHECK_OK(pp_semaphore_create(1, &semaphore));
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        CHECK_OK(pp_semaphore_acquire(semaphore, 0));
        CHECK(killed_at(places[i], 1, take_and_give, semaphore));
        CHECK_OK(pp_semaphore_release(semaphore));
        CHECK_OK(pp_semaphore_acquire(semaphore, 0));
        CHECK_OK(pp_semaphore_release(semaphore));
    }
    pp_semaphore_unref(semaphore);
}

static void hold_unit_for_long(void *semaphore)
{
    CHECK_OK(pp_semaphore_acquire(semaphore, ENOUGH));
    test_sleep_ms(30);
    CHECK_OK(pp_semaphore_release(semaphore));
}

TEST(who_dies_while_it_wakes_those_who_wait_for_a_unit_keeps_none_for_long)
{
    const char *const places[] = {"sync.semaphore.given", "sync.gate.ring"};
    pp_semaphore *semaphore;
    CHECK_OK(pp_semaphore_create(1, &semaphore));
    for (int i = 0; i < 2; i++) {
        while (!one_of_many_is_killed(places[i], hold_unit_for_long, semaphore)) { /* as above */
        }
        CHECK_INT(pp_semaphore_value(semaphore), 1);
    }
    pp_semaphore_unref(semaphore);
}

/* -------------------------------------------------------------------------------------------- event */

static void set_event(void *event)
{
    CHECK_OK(pp_event_set(event));
}

static void *wait_for_event(void *event)
{
    CHECK_OK(pp_event_wait(event, -1));
    return NULL;
}

TEST(who_dies_between_setting_an_event_and_waking_keeps_nobody_for_long)
{
    pp_event *event;
    pthread_t thread;
    CHECK_OK(pp_event_create(&event));
    CHECK_INT(pthread_create(&thread, NULL, wait_for_event, event), 0);
    test_sleep_ms(20);
    CHECK(killed_at("sync.event.set", 1, set_event, event));
    CHECK_INT(pthread_join(thread, NULL), 0);
    CHECK_INT(pp_event_is_set(event), 1);
    pp_event_unref(event);
}
