/* SPDX-License-Identifier: MIT */
/* Calls that outlive their timeouts, and workers that are stopped. */
#include "processes_kit.h"

/* A timeout within which a task says who runs it, before it hangs. */
static uint32_t short_time(void)
{
    return 100 * harness_scale();
}

static pp_future *submit_timed(pp_pool *pool, pp_function *function, int value, uint32_t timeout, uint32_t retries)
{
    pp_future *future;
    const pp_call call = {
        .function = function, .arg = &value, .size = sizeof value, .timeout = timeout, .retries = retries};
    CHECK_OK(pp_submit_call(pool, &call, &future));
    return future;
}

static void stop(pid_t pid)
{
    stop_and_see(pid);
}

/* ------------------------------------------------------------------------------------- one that hangs */

static int task_stop(pp_task *task, const void *arg, size_t size)
{
    shared()->pid[0] = getpid();
    shared()->number[0] = pp_task_worker(task);
    raise(SIGSTOP);
    return task_square(task, arg, size);
}

static int task_spin(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    shared()->pid[0] = getpid();
    shared()->number[0] = pp_task_worker(task);
    for (volatile uint64_t i = 1; i > 0; i++) {
    }
    return 0;
}

static void check_timeout(pp_future *future, const char *function, int tries)
{
    const pp_error *error = error_of(future, PP_ERROR_TIMEOUT);
    CHECK_INT(error->code, -ETIME);
    CHECK_STR(error->function, function);
    CHECK_INT(error->pid, shared()->pid[0]);
    CHECK_INT(error->worker, shared()->number[0]);
    CHECK_INT(error->tries, tries);
    CHECK_INT(error->call_id, pp_future_id(future));
    CHECK(error->run_time >= short_time() * 1000000ull);
    CHECK_INT(pp_future_result(future, 0, NULL, 0, NULL), -ETIME);
    pp_future_unref(future);
}

static void outlive(pp_start_method method, pp_function *function, const char *name)
{
    for (int workers = 1; workers <= 2; workers++) {
        pp_pool *pool = open_workers(workers, method);
        pp_future *before = submit_int(pool, task_square, 3);
        pp_future *late = submit_timed(pool, function, 0, short_time(), 0);
        pp_future *after[10];
        for (int i = 0; i < 10; i++)
            after[i] = submit_int(pool, task_square, i);
        check_timeout(late, name, 1);
        CHECK_INT(take_int(before), 9);
        for (int i = 0; i < 10; i++)
            CHECK_INT(take_int(after[i]), i * i);
        wait_until(is_gone(shared()->pid[0]), 10);
        pp_pool_destroy(pool);
    }
}

BOTH(a_call_that_outlives_its_timeout_fails_alone)
{
    outlive(method, task_hang, "task_hang");
}

BOTH(a_call_that_computes_for_ever_is_ended_by_its_timeout)
{
    outlive(method, task_spin, "task_spin");
}

BOTH(a_call_that_blocks_all_signals_is_ended_by_its_timeout)
{
    outlive(method, task_hang_deaf, "task_hang_deaf");
}

BOTH(a_call_whose_worker_is_stopped_is_ended_by_its_timeout)
{
    outlive(method, task_stop, "task_stop");
}

/* Nobody waits: the pool itself must act. */
BOTH(a_timeout_strikes_though_nobody_waits)
{
    pp_pool *pool = open_workers(1, method);
    pp_future *late = submit_timed(pool, task_hang, 0, short_time(), 0);
    wait_until(pp_future_state(late) == PP_FINISHED, 10);
    check_timeout(late, "task_hang", 1);
    pp_pool_destroy(pool);
}

BOTH(the_models_rule_is_not_about_timeouts)
{
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 2, .on_crash = PP_BREAK_POOL}, method);
    check_timeout(submit_timed(pool, task_hang, 0, short_time(), 0), "task_hang", 1);
    CHECK_INT(take_int(submit_int(pool, task_square, 4)), 16);
    pp_pool_destroy(pool);
}

/* --------------------------------------------------------------------------------------------- retries */

/* Hangs in its first tries, as many as the argument says. */
static int task_hang_at_first(pp_task *task, const void *arg, size_t size)
{
    (void)size;
    int64_t try = ++shared()->words[0];
    shared()->pid[try] = getpid();
    if (try <= read_int(arg))
        pause_for_ever();
    return pp_task_return(task, arg, size);
}

BOTH(a_timed_out_call_is_tried_again_as_often_as_allowed)
{
    pp_pool *pool = open_workers(2, method);
    CHECK_INT(take_int(submit_timed(pool, task_hang_at_first, 2, short_time(), 2)), 2);
    CHECK_INT(shared()->words[0], 3);
    shared()->words[0] = 0;
    pp_future *future = submit_timed(pool, task_hang_at_first, 100, short_time(), 2);
    const pp_error *error = error_of(future, PP_ERROR_TIMEOUT);
    for (int try = 3; try >= 1; try--) {
        CHECK(error != NULL);
        CHECK_INT(error->kind, PP_ERROR_TIMEOUT);
        CHECK_INT(error->tries, try);
        CHECK_INT(error->pid, shared()->pid[try]);
        error = error->earlier;
    }
    CHECK(error == NULL);
    CHECK_INT(shared()->words[0], 3);
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

/* ------------------------------------------------------------------------------ hitting the one, not the next */

/* Each fourth hangs. */
static int task_fourth_hangs(pp_task *task, const void *arg, size_t size)
{
    int index = read_int(arg);
    shared()->runs[index]++;
    if (index % 4 == 1)
        pause_for_ever();
    return task_square(task, arg, size);
}

BOTH_WITHIN(five_hundred_timeouts_hit_no_innocent_call, 60)
{
    enum { COUNT = 2000 };
    static pp_future *futures[COUNT];
    pp_pool *pool = open_workers(3, method);
    for (int i = 0; i < COUNT; i++)
        futures[i] = submit_timed(pool, task_fourth_hangs, i, i % 4 == 1 ? 2 : 0, 0);
    for (int i = 0; i < COUNT; i++) {
        if (i % 4 == 1)
            drop_failed(futures[i], PP_ERROR_TIMEOUT);
        else
            CHECK_INT(take_int(futures[i]), i * i);
        CHECK(shared()->runs[i] == 1 ||
              (i % 4 == 1 && shared()->runs[i] == 0)); /* the time can be up before it counts */
    }
    pp_pool_destroy(pool);
}

/* Runs for about its timeout, so that many kills meet it just when it ends and the next call begins. */
static int task_about(pp_task *task, const void *arg, size_t size)
{
    int index = read_int(arg);
    shared()->runs[index]++;
    double end = test_seconds() + 0.0017 + (index * 37 % 100) * 6e-6;
    while (test_seconds() < end) {
    }
    return task_square(task, arg, size);
}

static int task_innocent(pp_task *task, const void *arg, size_t size)
{
    shared()->runs[read_int(arg)]++;
    return task_square(task, arg, size);
}

/* The call that ended just in time has its result; whatever is killed then was nobody's. */
static void check_late_or_square(pp_future *future, int index)
{
    const pp_error *error;
    CHECK_OK(pp_future_error(future, -1, &error));
    if (!error) {
        CHECK_INT(take_int(future), index * index);
        return;
    }
    CHECK(error->run_time >= 2000000u);
    drop_failed(future, PP_ERROR_TIMEOUT);
}

BOTH_WITHIN(a_timeout_that_strikes_at_the_end_of_its_call_hits_no_other, 60)
{
    enum { COUNT = 2000 };
    static pp_future *futures[COUNT];
    pp_pool *pool = open_workers(2, method);
    for (int i = 0; i < COUNT; i++)
        futures[i] = i % 4 == 1 ? submit_timed(pool, task_about, i, 2, 0) : submit_int(pool, task_innocent, i);
    for (int i = 0; i < COUNT; i++) {
        if (i % 4 == 1)
            check_late_or_square(futures[i], i);
        else
            CHECK_INT(take_int(futures[i]), i * i);
        CHECK(shared()->runs[i] <= 1);
    }
    pp_pool_destroy(pool);
}

/* In a chunk the next element begins at once. An innocent one may only fail if the machine really kept it for so long.
 */
BOTH_WITHIN(a_timeout_in_a_chunk_hits_no_other_element, 60)
{
    enum { COUNT = 400, TIMEOUT = 40 };
    static int inputs[COUNT];
    pp_map *map;
    pp_map_result result;
    int late = 0;
    pp_pool *pool = open_workers(2, method);
    for (int i = 0; i < COUNT; i++)
        inputs[i] = i % 16 == 5 ? i / 16 * 4 + 1 : i / 16 * 4; /* task_fourth_hangs hangs in every 16th */
    const pp_map_options options = {.chunk_size = 16, .timeout = TIMEOUT};
    CHECK_OK(pp_map_open_array(pool, task_fourth_hangs, inputs, COUNT, sizeof *inputs, &options, &map));
    for (int i = 0; i < COUNT; i++) {
        CHECK_INT(pp_map_next(map, -1, &result), 1);
        CHECK_INT(result.index, i);
        if (result.code) {
            CHECK_INT(result.error->kind, PP_ERROR_TIMEOUT);
            CHECK(result.error->run_time >= TIMEOUT * 1000000u);
            late += i % 16 == 5;
        } else {
            CHECK(i % 16 != 5);
            CHECK_INT(read_int(result.data), inputs[i] * inputs[i]);
        }
    }
    CHECK_INT(pp_map_next(map, -1, &result), 0);
    CHECK_INT(late, COUNT / 16);
    pp_map_close(map);
    pp_pool_destroy(pool);
}

/* ------------------------------------------------------------------------------ in a chunk that was stopped before */

enum { GOOD, FAILS, HANGS };

static int task_kind(pp_task *task, const void *arg, size_t size)
{
    if (read_int(arg) == HANGS) {
        gate_open(1);
        return task_hang(task, arg, size);
    }
    return read_int(arg) == FAILS ? refuse(task, arg, size) : echo(task, arg, size);
}

static const int chunk_kinds[10] = {GOOD, FAILS, HANGS};

/* A chunk whose first result was given out, and whose third element hangs. */
static pp_map *open_hanging_chunk(pp_pool *pool, int fail_fast)
{
    pp_map *map;
    pp_map_result result;
    const pp_map_options options = {.chunk_size = 10, .timeout = 300 * harness_scale(), .fail_fast = fail_fast};
    CHECK_OK(pp_map_open_array(pool, task_kind, chunk_kinds, 10, sizeof *chunk_kinds, &options, &map));
    CHECK_INT(pp_map_next(map, -1, &result), 1);
    CHECK_INT(result.code, 0);
    until(shared()->gates[1]);
    return map;
}

static void check_pool_ends(pp_pool *pool, unsigned flags)
{
    CHECK_OK(pp_pool_shutdown(pool, flags, 5000 * (int)harness_scale()));
    CHECK(!test_process_alive(shared()->pid[0]));
    pp_pool_destroy(pool);
}

BOTH(a_timeout_strikes_in_a_chunk_whose_map_was_closed)
{
    pp_pool *pool = open_workers(1, method);
    pp_map_close(open_hanging_chunk(pool, 0));
    check_pool_ends(pool, 0);
}

BOTH(a_timeout_strikes_in_a_chunk_that_a_failure_before_it_stopped)
{
    pp_pool *pool = open_workers(1, method);
    pp_map *map = open_hanging_chunk(pool, 1);
    pp_map_result result;
    CHECK_INT(pp_map_next(map, -1, &result), 1);
    CHECK_INT(result.code, -EREMOTEIO);
    CHECK_INT(pp_map_next(map, -1, &result), 0);
    pp_map_close(map);
    check_pool_ends(pool, 0);
}

BOTH(a_timeout_strikes_in_a_chunk_that_a_shutdown_stopped)
{
    pp_pool *pool = open_workers(1, method);
    pp_map *map = open_hanging_chunk(pool, 0);
    pp_map_result result;
    check_pool_ends(pool, PP_CANCEL_PENDING);
    CHECK_INT(pp_map_next(map, 0, &result), 1);
    CHECK_INT(result.code, -EREMOTEIO);
    CHECK_INT(pp_map_next(map, 0, &result), 1);
    CHECK_INT(result.code, -ETIME);
    CHECK_INT(result.error->pid, shared()->pid[0]);
    for (int i = 3; i < 10; i++) {
        CHECK_INT(pp_map_next(map, 0, &result), 1);
        CHECK_INT(result.code, -ECANCELED);
    }
    CHECK_INT(pp_map_next(map, 0, &result), 0);
    pp_map_close(map);
}

/* ---------------------------------------------------------------------------------------- while the owner is stopped
 */

/* Takes about a millisecond; a result ring has room for few such results. */
static int task_large_result(pp_task *task, const void *arg, size_t size)
{
    (void)size;
    char *room = pp_task_reserve(task, 4096);
    CHECK(room != NULL);
    test_sleep_ms(1);
    memset(room, read_int(arg), 4096);
    shared()->words[0]++;
    return 0;
}

static void map_large_results(pp_start_method method)
{
    enum { COUNT = 512 };
    static int inputs[COUNT];
    const pp_map_options options = {.chunk_size = 1024, .timeout = 300 * harness_scale()};
    pp_map *map;
    pp_map_result result;
    pp_pool *pool = open_workers(1, method);
    for (int i = 0; i < COUNT; i++)
        inputs[i] = i % 128;
    CHECK_OK(pp_map_open_array(pool, task_large_result, inputs, COUNT, sizeof *inputs, &options, &map));
    for (int i = 0; i < COUNT; i++) {
        int got;
        while ((got = pp_map_next(map, -1, &result)) == -EINTR) {
        }
        CHECK_INT(got, 1);
        if (result.code)
            harness_fail(__FILE__, __LINE__, "element %d failed: %s", i, result.error->message);
        CHECK(result.size == 4096 && ((const char *)result.data)[4095] == inputs[i]);
    }
    pp_map_close(map);
    pp_pool_destroy(pool);
}

/* Until the worker has no room for more. */
static void wait_until_full(void)
{
    int64_t before;
    do {
        before = shared()->words[0];
        test_sleep_ms(50 * harness_scale());
    } while (shared()->words[0] != before);
}

BOTH(a_worker_that_waits_for_room_while_the_owner_is_stopped_loses_no_call)
{
    share();
    pid_t owner = fork();
    if (owner == 0) {
        map_large_results(method);
        _exit(0);
    }
    for (int i = 1; i <= 2; i++) {
        until(shared()->words[0] >= 100 * i);
        stop(owner);
        wait_until_full();
        test_sleep_ms(350 * harness_scale());
        kill(owner, SIGCONT);
    }
    int status = wait_for(owner);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* --------------------------------------------------------------------------------------- stopped while idle */

BOTH(calls_sent_to_a_stopped_idle_worker_move_to_another)
{
    pid_t pids[2];
    pp_future *futures[100];
    pp_pool *pool = open_workers(2, method);
    start_workers(pool, 0, 2, pids);
    stop(pids[0]);
    for (int i = 0; i < 100; i++)
        futures[i] = submit_int(pool, task_pid, i);
    for (int i = 0; i < 100; i++)
        CHECK_INT(take_int(futures[i]), pids[1]);
    kill(pids[0], SIGCONT);
    start_workers(pool, 1, 2, pids); /* both work again */
    pp_pool_destroy(pool);
}

/* The timeout is the call's, not its wait's: while it has not begun it is nobody's fault and must reach the other
 * worker. */
BOTH(a_call_with_a_timeout_moves_from_a_stopped_idle_worker)
{
    pid_t pids[2];
    pp_future *futures[20];
    pp_pool *pool = open_workers(2, method);
    start_workers(pool, 0, 2, pids);
    stop(pids[0]);
    stop(pids[1]);
    for (int i = 0; i < 20; i++)
        futures[i] = submit_timed(pool, task_pid, 0, 300 * harness_scale(), 0);
    test_sleep_ms(100);
    kill(pids[1], SIGCONT);
    for (int i = 0; i < 20; i++)
        CHECK_INT(take_int(futures[i]), pids[1]);
    kill(pids[0], SIGCONT);
    pp_pool_destroy(pool);
}

BOTH(a_pool_of_one_goes_on_when_its_stopped_worker_does)
{
    pid_t pid;
    pp_pool *pool = open_workers(1, method);
    start_workers(pool, 0, 1, &pid);
    stop(pid);
    pp_future *future = submit_int(pool, task_pid, 0);
    pp_future *timed = submit_timed(pool, task_pid, 0, 2000 * harness_scale(), 0);
    CHECK_INT(pp_future_wait(future, 1500), -ETIMEDOUT);
    kill(pid, SIGCONT);
    CHECK_INT(take_int(future), pid);
    CHECK_INT(take_int(timed), pid);
    pp_pool_destroy(pool);
}

/* A stopped worker is left alone for some seconds, then its place goes to another. */
BOTH_WITHIN(a_pool_of_one_goes_on_though_its_stopped_worker_never_does, 20)
{
    pid_t pid;
    pp_pool *pool = open_workers(1, method);
    start_workers(pool, 0, 1, &pid);
    stop(pid);
    pp_future *future = submit_int(pool, task_pid, 0);
    CHECK_OK(pp_future_wait(future, 10000 * (int)harness_scale()));
    CHECK(take_int(future) != pid);
    CHECK(!test_process_alive(pid));
    pp_pool_destroy(pool);
}

/* Who polls has the duty again and again, and never looks at what is due; the manager naps, as threads come and go. */
BOTH(a_timeout_is_kept_while_a_thread_polls)
{
    pp_pool *pool = open_workers(1, method);
    CHECK_INT(take_int(submit_int(pool, task_square, 3)), 9);
    pp_future *future = submit_timed(pool, task_hang, 0, 100 * harness_scale(), 0);
    while (pp_future_wait(future, 0) == -ETIMEDOUT)
        test_sleep_ms(1);
    drop_failed(future, PP_ERROR_TIMEOUT);
    pp_pool_destroy(pool);
}
