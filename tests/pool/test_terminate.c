/* SPDX-License-Identifier: MIT */
/* All workers of a pool are terminated or killed. */
#include "processes_kit.h"

/* The same test for both functions, under both methods. `end` ends the workers, and `number` is the signal that does.
 */
typedef int ender(pp_pool *pool);

#define ENDS(name)                                                                                                     \
    static void ends__##name(pp_start_method method, ender *end, int number);                                          \
    BOTH(name##_terminating)                                                                                           \
    {                                                                                                                  \
        ends__##name(method, pp_pool_terminate, SIGTERM);                                                              \
    }                                                                                                                  \
    BOTH(name##_killing)                                                                                               \
    {                                                                                                                  \
        ends__##name(method, pp_pool_kill, SIGKILL);                                                                   \
    }                                                                                                                  \
    static void ends__##name(pp_start_method method, ender *end, int number)

static void expect_dead(pp_future *future, int number)
{
    const pp_error *error = error_of(future, PP_ERROR_CRASH);
    CHECK_INT(error->code, -EOWNERDEAD);
    CHECK_INT(error->signal, number);
    CHECK_INT(error->tries, 1);
    CHECK_HAS(error->message, "killed on request");
    pp_future_unref(future);
}

static pp_future *submit_retried(pp_pool *pool, int gate)
{
    pp_future *future;
    CHECK_OK(pp_submit_call(pool, &(pp_call){.function = task_gate, .arg = &gate, .size = sizeof gate, .retries = 3},
                            &future));
    return future;
}

ENDS(what_runs_fails_and_what_has_not_begun_is_cancelled)
{
    pp_future *running[3], *pending[20];
    pp_pool *pool = open_workers(3, method);
    pp_future *done = submit_int(pool, task_square, 3);
    CHECK_OK(pp_future_wait(done, -1));
    occupy_at(pool, 1, 2, running);
    running[2] = submit_retried(pool, 1);
    gate_wait_arrived(1, 3);
    for (int i = 0; i < 20; i++)
        pending[i] = submit_int(pool, task_square, i);
    CHECK_OK(end(pool));
    for (int i = 0; i < 20; i++) {
        CHECK_INT(pp_future_state(pending[i]), PP_CANCELLED_AND_NOTIFIED);
        drop_failed(pending[i], PP_ERROR_CANCELLED);
    }
    CHECK_INT(pp_submit(pool, task_square, NULL, 0, NULL), -ESHUTDOWN);
    for (int i = 0; i < 3; i++)
        expect_dead(running[i], number);
    CHECK_INT(take_int(done), 9);
    CHECK_OK(pp_pool_shutdown(pool, 0, -1));
    CHECK_INT(shared()->arrived[1], 3);
    pp_pool_destroy(pool);
}

ENDS(idle_workers_go)
{
    pid_t pids[3];
    pp_pool *pool = open_workers(3, method);
    start_workers(pool, 1, 3, pids);
    CHECK_OK(end(pool));
    CHECK_OK(pp_pool_shutdown(pool, 0, -1));
    for (int i = 0; i < 3; i++)
        CHECK(is_gone(pids[i]));
    pp_pool_destroy(pool);
    (void)number;
}

ENDS(stopped_workers_go)
{
    pp_future *running;
    pp_pool *pool = open_workers(1, method);
    pid_t pid = take_int(submit(pool, task_pid, NULL, 0));
    occupy_at(pool, 1, 1, &running);
    stop_and_see(pid);
    CHECK_OK(end(pool));
    expect_dead(running, number);
    pp_pool_destroy(pool);
    CHECK(is_gone(pid));
}

ENDS(a_pool_that_never_had_a_worker_ends)
{
    pp_pool *pool = open_workers(2, method);
    CHECK_OK(end(pool));
    CHECK_OK(end(pool));
    CHECK_OK(pp_pool_shutdown(pool, 0, -1));
    CHECK_OK(end(pool));
    pp_pool_destroy(pool);
    (void)number;
}

/* Its initializer waits for ever. */
static int wait_for_ever(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    gate_wait(9);
    return 0;
}

ENDS(workers_that_start_go)
{
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 1, .initializer = wait_for_ever}, method);
    pp_future *future = submit_int(pool, task_square, 3);
    gate_wait_arrived(9, 1);
    CHECK_OK(end(pool));
    drop_failed(future, PP_ERROR_CANCELLED);
    CHECK_OK(pp_pool_shutdown(pool, 0, -1));
    pp_pool_destroy(pool);
    (void)number;
}

ENDS(no_pool_breaks_by_that)
{
    pp_future *running[2];
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 2, .on_crash = PP_BREAK_POOL}, method);
    occupy_at(pool, 1, 2, running);
    CHECK_OK(end(pool));
    for (int i = 0; i < 2; i++)
        expect_dead(running[i], number);
    CHECK_INT(pp_submit(pool, task_square, NULL, 0, NULL), -ESHUTDOWN);
    pp_pool_destroy(pool);
}

ENDS(a_broken_pool_ends)
{
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 2, .on_crash = PP_BREAK_POOL}, method);
    drop_failed(submit(pool, crash, NULL, 0), PP_ERROR_BROKEN);
    CHECK_OK(end(pool));
    CHECK_INT(pp_submit(pool, task_square, NULL, 0, NULL), -ENOTRECOVERABLE);
    CHECK_OK(pp_pool_shutdown(pool, 0, -1));
    pp_pool_destroy(pool);
    (void)number;
}

/* The element that runs fails, what has not begun is cancelled, what has ended has its result. */
ENDS(a_chunk_ends_with_its_worker)
{
    static const int gates[5] = {1, 1, 2, 1, 1};
    pp_map *map;
    pp_map_result result;
    pp_pool *pool = open_workers(1, method);
    gate_open(1);
    CHECK_OK(pp_map_open_array(pool, task_gate, gates, 5, sizeof *gates, &(pp_map_options){.chunk_size = 5}, &map));
    CHECK_INT(pp_map_next(map, -1, &result), 1);
    gate_wait_arrived(2, 1);
    CHECK_OK(end(pool));
    CHECK_INT(result.code, 0);
    static const int codes[] = {0, -EOWNERDEAD, -ECANCELED, -ECANCELED};
    for (int i = 0; i < 4; i++) {
        CHECK_INT(pp_map_next(map, -1, &result), 1);
        CHECK_INT(result.code, codes[i]);
    }
    CHECK_INT(pp_map_next(map, -1, &result), 0);
    pp_map_close(map);
    pp_pool_destroy(pool);
    (void)number;
}

/* ---------------------------------------------------------------------------------------- who handles SIGTERM */

static int task_deaf(pp_task *task, const void *arg, size_t size)
{
    signal(SIGTERM, SIG_IGN);
    return task_gate(task, arg, size);
}

BOTH(a_task_that_ignores_termination_ends_as_it_likes)
{
    pp_pool *pool = open_workers(1, method);
    pp_future *future = submit_int(pool, task_deaf, 1);
    gate_wait_arrived(1, 1);
    CHECK_OK(pp_pool_terminate(pool));
    CHECK_INT(pp_pool_shutdown(pool, 0, 50), -ETIMEDOUT);
    gate_open(1);
    CHECK(take_int(future) > 0);
    pp_pool_destroy(pool);
}

BOTH(a_task_that_ignores_termination_is_killed)
{
    pp_pool *pool = open_workers(1, method);
    pp_future *future = submit_int(pool, task_deaf, 1);
    gate_wait_arrived(1, 1);
    CHECK_OK(pp_pool_terminate(pool));
    CHECK_INT(pp_pool_shutdown(pool, 0, 50), -ETIMEDOUT);
    CHECK_OK(pp_pool_kill(pool));
    expect_dead(future, SIGKILL);
    pp_pool_destroy(pool);
}

static volatile sig_atomic_t told;

static void note(int number)
{
    (void)number;
    told = 1;
}

/* Ends in its own way when it is told to. */
static int task_polite(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    signal(SIGTERM, note);
    shared()->arrived[0]++;
    while (!told)
        test_sleep_ms(1);
    return pp_task_return(task, &(int){4711}, sizeof(int));
}

BOTH(a_task_that_handles_termination_has_a_result)
{
    pp_pool *pool = open_workers(1, method);
    pp_future *future = submit(pool, task_polite, NULL, 0);
    gate_wait_arrived(0, 1);
    CHECK_OK(pp_pool_terminate(pool));
    CHECK_INT(take_int(future), 4711);
    pp_pool_destroy(pool);
}

/* ------------------------------------------------------------------------------------------- many threads */

struct race {
    pp_pool *pool;
    ender *end;
    _Atomic uint32_t ended, accepted;
};

static void *end_it(void *argument)
{
    struct race *race = argument;
    test_sleep_ms(5);
    CHECK_OK(race->end(race->pool));
    return NULL;
}

/* Until it is refused. */
static void *submit_on(void *argument)
{
    struct race *race = argument;
    int code = 0;
    while (code == 0) {
        pp_future *future;
        code = pp_submit(race->pool, task_square, &(int){3}, sizeof(int), &future);
        if (code)
            break;
        race->accepted++;
        const pp_error *error;
        CHECK_OK(pp_future_error(future, -1, &error));
        CHECK(!error || error->kind == PP_ERROR_CANCELLED || error->kind == PP_ERROR_CRASH);
        race->ended++;
        pp_future_unref(future);
    }
    CHECK_INT(code, -ESHUTDOWN);
    return NULL;
}

ENDS(submits_race_with_it_and_each_ends)
{
    for (int round = 0; round < 5; round++) {
        pthread_t threads[6];
        struct race race = {.pool = open_workers(2, method), .end = end};
        for (int i = 0; i < 4; i++)
            threads[i] = start_thread(submit_on, &race);
        for (int i = 4; i < 6; i++)
            threads[i] = start_thread(end_it, &race);
        for (int i = 0; i < 6; i++)
            join_thread(threads[i]);
        CHECK_INT(race.accepted, race.ended);
        pp_pool_destroy(race.pool);
    }
    (void)number;
}

static void end_in_callback(pp_future *future, void *pool)
{
    (void)future;
    CHECK_OK(pp_pool_terminate(pool));
    CHECK_OK(pp_pool_kill(pool));
}

BOTH(a_callback_may_end_the_workers)
{
    pp_future *running;
    pp_pool *pool = open_workers(2, method);
    occupy_at(pool, 1, 1, &running);
    pp_future *first = submit_int(pool, task_square, 3);
    CHECK_OK(pp_future_add_callback(first, end_in_callback, pool));
    CHECK_INT(take_int(first), 9);
    drop_failed(running, PP_ERROR_CRASH);
    pp_pool_destroy(pool);
}

/* ------------------------------------------------------------------------------------------- the others */

TEST(an_inline_pool_cancels_what_has_not_begun)
{
    pp_pool *pool = kit_pool(PP_START_INLINE, 1);
    pp_future *future = submit_int(pool, task_square, 3);
    CHECK_OK(pp_pool_kill(pool));
    drop_failed(future, PP_ERROR_CANCELLED);
    CHECK_OK(pp_pool_terminate(pool));
    pp_pool_destroy(pool);
}

TEST(no_pool_and_a_forked_child_are_refused)
{
    CHECK_INT(pp_pool_kill(NULL), -EINVAL);
    CHECK_HAS(pp_last_error(), "pp_pool_kill");
    CHECK_INT(pp_pool_terminate(NULL), -EINVAL);
    CHECK_HAS(pp_last_error(), "pp_pool_terminate");
    pp_pool *pool = open_workers(1, PP_START_FORK);
    pid_t child = fork();
    if (child == 0)
        _exit(pp_pool_kill(pool) == -EPERM && pp_pool_terminate(pool) == -EPERM ? 0 : 1);
    CHECK_INT(wait_for(child), 0);
    expect_usable(pool);
    pp_pool_destroy(pool);
}
