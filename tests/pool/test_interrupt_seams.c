/* SPDX-License-Identifier: MIT */
/*
 * Signals that come once, between two sleeps of a wait, while the handler does not ask for restarting.
 *
 * needs: seams
 */
#include "signal_kit.h"

#include "base/seam.h"
#include "pool/pool.h"

enum { BEGUN, GATE, OTHER_GATE, RUNS };

/* The n-th time that a thread is at `place`, behind a sleep or a look, it gets the signal. */
static void arm(const char *place, unsigned n)
{
    install(SIGUSR1, 0);
    pp__fault_arm(place, n, PP__FAULT_SIGNAL);
}

static bool is_blocked(int number)
{
    sigset_t now;
    CHECK_INT(pthread_sigmask(SIG_SETMASK, NULL, &now), 0);
    return sigismember(&now, number);
}

static void check_handled(void)
{
    CHECK_INT(atomic_load(&handled), 1);
    CHECK(!is_blocked(SIGUSR1));
}

static void end(pp_pool *pool, pp_future *future, uint32_t gate)
{
    open_gate(gate);
    CHECK_OK(pp_future_wait(future, -1));
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

BOTH(who_collects_is_interrupted_by_a_signal_between_two_sleeps)
{
    pp_future *future;
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    occupy(pool, BEGUN, GATE, 1, &future);
    arm("wait.between", 3);
    CHECK_INT(pp_future_wait(future, -1), -EINTR);
    check_handled();
    end(pool, future, GATE);
}

static bool somebody_collects(pp_pool *pool)
{
    pp__pool_lock(pool);
    bool some = pool->collector.waiter != NULL;
    pp__pool_unlock(pool);
    return some;
}

static void *wait_for_future(void *future)
{
    CHECK_OK(pp_future_wait(future, -1));
    return NULL;
}

BOTH(who_waits_while_another_collects_is_interrupted_by_a_signal_between_two_sleeps)
{
    pp_future *futures[2];
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    occupy(pool, BEGUN, GATE, 2, futures);
    pthread_t other = start_thread(wait_for_future, futures[1]);
    until(somebody_collects(pool));
    arm("wait.word", 2);
    CHECK_INT(pp_future_wait(futures[0], -1), -EINTR);
    check_handled();
    open_gate(GATE);
    join_thread(other);
    pp_future_unref(futures[1]);
    end(pool, futures[0], GATE);
}

/* Futures of two pools, neither of which has its result; `between`: the place behind the sleeps. */
static void wait_for_two_pools(pp_start_method method, const char *between, int (*wait)(pp_future **futures))
{
    pp_future *futures[2];
    pp_pool *pools[2];
    board_make();
    for (uint32_t i = 0; i < 2; i++) {
        pools[i] = kit_pool(method, 1);
        futures[i] = submit_gated(pools[i], BEGUN, GATE + i, i);
        until(read_word(BEGUN) == i + 1);
    }
    arm(between, 2);
    CHECK_INT(wait(futures), -EINTR);
    check_handled();
    for (uint32_t i = 0; i < 2; i++)
        end(pools[i], futures[i], GATE + i);
}

static int wait_for_both(pp_future **futures)
{
    return (int)pp_wait(futures, 2, PP_ALL_COMPLETED, -1, NULL);
}

BOTH(who_waits_for_several_pools_is_interrupted_by_a_signal_between_two_sleeps)
{
    wait_for_two_pools(method, "group.between", wait_for_both);
}

static int select_one(pp_future **futures)
{
    pp_selectable items[] = {{.kind = PP_SELECT_FUTURE, .future = futures[0]},
                             {.kind = PP_SELECT_FUTURE, .future = futures[1]}};
    return (int)pp_select(items, 2, -1);
}

BOTH(who_selects_is_interrupted_by_a_signal_between_two_sleeps)
{
    wait_for_two_pools(method, "select.between", select_one);
}

/* A signal before the first sleep is as one before the wait. Nothing comes before the gate opens, so behind two looks
 * it has slept. */
static void *open_when_slept(void *unused)
{
    (void)unused;
    until(pp__fault_hits() > 2);
    open_gate(OTHER_GATE);
    return NULL;
}

/* Each result wakes the thread, or is seen before it sleeps: for the most part it does not sleep. */
BOTH(a_signal_among_many_results_interrupts_the_wait_for_all)
{
    enum { CALLS = 20000 };
    pp_future **futures = calloc(CALLS, sizeof *futures), *held, *other;
    board_make();
    CHECK(futures != NULL);
    pp_pool *pool = kit_pool(method, 2);
    occupy(pool, BEGUN, GATE, 1, &held);
    occupy(pool, BEGUN, OTHER_GATE, 1, &other);
    for (uint32_t i = 0; i < CALLS; i++)
        futures[i] = submit_u32(pool, echo, i);
    futures[0] = (pp_future_unref(futures[0]), pp_future_ref(held));
    arm("wait.between", 20);
    pthread_t opener = start_thread(open_when_slept, NULL);
    CHECK_INT(pp_wait(futures, CALLS, PP_ALL_COMPLETED, -1, NULL), -EINTR);
    check_handled();
    join_thread(opener);
    pp_future_unref(other);
    for (uint32_t i = 0; i < CALLS; i++)
        pp_future_unref(futures[i]);
    free(futures);
    end(pool, held, GATE);
}

/* ----------------------------------------------------------------------------- what is the user's runs as ever */

static int note_mask(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    *word(RUNS) = is_blocked(SIGUSR1) + 1;
    return pp_task_return(task, NULL, 0);
}

static void *submit_to(void *pool)
{
    pp_future *future;
    test_sleep_ms(50);
    CHECK_OK(pp_submit(pool, note_mask, NULL, 0, &future));
    pp_future_unref(future);
    return NULL;
}

static void check_mask(pp_pool *pool, pp_future **promises, size_t count)
{
    atomic_store(word(RUNS), 0);
    pthread_t thread = start_thread(submit_to, pool);
    while (read_word(RUNS) == 0)
        CHECK_INT(pp_wait(promises, count, PP_ALL_COMPLETED, 300, NULL), -ETIMEDOUT);
    join_thread(thread);
    CHECK_INT(read_word(RUNS), 1);
}

/* It has slept for promises, and runs a call of an inline pool that comes late. */
TEST(a_call_that_runs_in_the_waiting_thread_has_the_threads_own_mask)
{
    pp_future *promise, *other;
    board_make();
    install(SIGUSR1, 0);
    pp_pool *pool = kit_pool(PP_START_INLINE, 1), *second = kit_pool(PP_START_INLINE, 1);
    CHECK_OK(pp_future_create(pool, &promise));
    CHECK_OK(pp_future_create(second, &other));
    check_mask(pool, &promise, 1);
    check_mask(second, (pp_future *[]){promise, other}, 2);
    pp_future_unref(promise);
    pp_future_unref(other);
    pp_pool_destroy(pool);
    pp_pool_destroy(second);
}

/* What the program has blocked itself, and what asks for restarting, ends no wait and comes when it may. */
BOTH(what_the_program_has_blocked_interrupts_nothing)
{
    pp_future *future;
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGUSR1);
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    occupy(pool, BEGUN, GATE, 1, &future);
    CHECK_INT(pthread_sigmask(SIG_BLOCK, &signals, NULL), 0);
    arm("wait.between", 3);
    while (pp__fault_hits() < 3)
        CHECK_INT(pp_future_wait(future, 300), -ETIMEDOUT);
    CHECK_INT(atomic_load(&handled), 0);
    CHECK(is_blocked(SIGUSR1));
    CHECK_INT(pthread_sigmask(SIG_UNBLOCK, &signals, NULL), 0);
    CHECK_INT(atomic_load(&handled), 1);
    end(pool, future, GATE);
}
