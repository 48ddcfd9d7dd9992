/* SPDX-License-Identifier: MIT */
/* needs: seams. A signal that comes once, between two sleeps of a wait, while the handler does not ask for restarting.
 */
#include "kill_kit.h"

#include "sync/gate.h"
#include "sync/queue.h"

static _Atomic int handled;

static void handle(int number)
{
    (void)number;
    atomic_fetch_add(&handled, 1);
}

static void check_mask(void)
{
    sigset_t mask;
    CHECK_INT(pthread_sigmask(SIG_SETMASK, NULL, &mask), 0);
    CHECK(!sigismember(&mask, SIGUSR1));
}

static void check_interrupted(int (*wait)(void *what, int timeout), void *what)
{
    struct sigaction action = {.sa_handler = handle};
    atomic_store(&handled, 0);
    CHECK_INT(sigaction(SIGUSR1, &action, NULL), 0);
    CHECK_INT(wait(what, 30), -ETIMEDOUT);
    check_mask();
    pp__fault_arm("sync.woken", 1, PP__FAULT_SIGNAL);
    CHECK_INT(wait(what, -1), -EINTR);
    pp__fault_disarm();
    CHECK_INT(atomic_load(&handled), 1);
    check_mask();
}

static pid_t start_stopping(void (*run)(void *), void *what)
{
    int status;
    pid_t child = kit_fork(run, what);
    CHECK_INT(waitpid(child, &status, WUNTRACED), child);
    CHECK(WIFSTOPPED(status));
    return child;
}

static int wait_for_event(void *event, int timeout)
{
    return pp_event_wait(event, timeout);
}

TEST(who_waits_for_an_event_is_interrupted_by_a_signal_between_two_sleeps)
{
    pp_event *event;
    CHECK_OK(pp_event_create(&event));
    check_interrupted(wait_for_event, event);
    CHECK_OK(pp_event_set(event));
    CHECK_OK(pp_event_wait(event, -1));
    pp_event_unref(event);
}

static void stop_with_lock(void *lock)
{
    CHECK_OK(pp_lock_acquire(lock, -1));
    raise(SIGSTOP);
    CHECK_OK(pp_lock_release(lock));
}

static int acquire(void *lock, int timeout)
{
    return pp_lock_acquire(lock, timeout);
}

TEST(who_waits_for_a_lock_is_interrupted_by_a_signal_between_two_sleeps)
{
    pp_lock *lock;
    CHECK_OK(pp_lock_create(&lock));
    pid_t holder = start_stopping(stop_with_lock, lock);
    check_interrupted(acquire, lock);
    kill(holder, SIGCONT);
    kit_end_well(holder);
    CHECK_OK(pp_lock_acquire(lock, -1));
    CHECK_OK(pp_lock_release(lock));
    pp_lock_unref(lock);
}

static atomic_bool is_back;

/* To the process, which another thread would take that does not block it either. */
static void *signal_process(void *unused)
{
    (void)unused;
    wait_until(pp__fault_hits() >= 2, 10);
    while (!atomic_load(&is_back)) {
        kill(getpid(), SIGUSR1);
        test_sleep_ms(5);
    }
    return NULL;
}

TEST(who_waits_takes_a_signal_to_the_process_though_other_threads_could)
{
    pp_lock *lock;
    pthread_t thread;
    struct sigaction action = {.sa_handler = handle};
    CHECK_OK(pp_lock_create(&lock));
    pid_t holder = start_stopping(stop_with_lock, lock);
    CHECK_INT(sigaction(SIGUSR1, &action, NULL), 0);
    pp__fault_arm("sync.woken", UINT32_MAX, PP__FAULT_SIGNAL); /* to count sleeps */
    CHECK_INT(pthread_create(&thread, NULL, signal_process, NULL), 0);
    CHECK_INT(pp_lock_acquire(lock, -1), -EINTR);
    atomic_store(&is_back, true);
    CHECK_INT(pthread_join(thread, NULL), 0);
    kill(holder, SIGCONT);
    kit_end_well(holder);
    pp_lock_unref(lock);
}

static int get(void *queue, int timeout)
{
    return pp_queue_get(queue, timeout, NULL, 0, NULL);
}

TEST(who_waits_for_a_message_is_interrupted_by_a_signal_between_two_sleeps)
{
    pp_queue *queue;
    CHECK_OK(pp_queue_create(NULL, &queue));
    check_interrupted(get, queue);
    CHECK_OK(pp_queue_put(queue, "", 0, -1));
    CHECK_OK(pp_queue_get(queue, -1, NULL, 0, NULL));
    pp_queue_unref(queue);
}

static void stop_inside(void *queue)
{
    struct pp__gate *gate = &pp__queue_shared(queue)->gate;
    CHECK_OK(pp__gate_enter(gate, PP__NEVER));
    raise(SIGSTOP);
    pp__gate_leave(gate);
}

static void *leave_later(void *stopped)
{
    while (atomic_load(&handled) == 0)
        test_sleep_ms(1);
    kill(*(pid_t *)stopped, SIGCONT);
    return NULL;
}

/* The handler runs while somebody is stopped inside, and the wait ends when it has been inside itself. */
TEST(who_waits_outside_a_gate_is_interrupted_by_a_signal_between_two_sleeps)
{
    pp_queue *queue;
    pthread_t thread;
    CHECK_OK(pp_queue_create(NULL, &queue));
    pid_t child = start_stopping(stop_inside, queue);
    CHECK_INT(pthread_create(&thread, NULL, leave_later, &child), 0);
    check_interrupted(get, queue);
    CHECK_INT(pthread_join(thread, NULL), 0);
    kit_end_well(child);
    pp_queue_unref(queue);
}
