/* SPDX-License-Identifier: MIT */
/* Workers that are told to leave before the pool's end: after so many calls, with too much memory, idle for too long.
 */
#include "processes_kit.h"

/* Who runs under this number says so for as long as it does. */
static int task_alone(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    int number = pp_task_worker(task);
    if (shared()->gates[number]++ != 0)
        return pp_task_fail(task, -EBUSY, "two run as worker %d", number);
    for (int i = 0; i < 200; i++)
        sched_yield();
    shared()->gates[number]--;
    return task_pid(task, NULL, 0);
}

static int note_start(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    shared()->words[0]++;
    return 0;
}

static int note_end(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    shared()->words[1]++;
    return 0;
}

static char lines[1 << 20];

static void keep_line(void *data, const char *line)
{
    (void)data;
    size_t used = strlen(lines);
    snprintf(lines + used, sizeof lines - used, "%s\n", line);
}

/* ------------------------------------------------------------------------------------------- max_tasks */

/* How often each process comes in the list; the most of them. */
static int most_of_one(const pid_t *pids, int count)
{
    int most = 0;
    for (int i = 0; i < count; i++) {
        int same = 0;
        for (int k = 0; k < count; k++)
            same += pids[k] == pids[i];
        most = same > most ? same : most;
    }
    return most;
}

static void run_alone(pp_pool *pool, int count, pid_t *pids)
{
    pp_future *futures[512];
    CHECK(count <= 512);
    for (int i = 0; i < count; i++)
        futures[i] = submit(pool, task_alone, NULL, 0);
    for (int i = 0; i < count; i++)
        pids[i] = take_int(futures[i]);
}

BOTH_WITHIN(a_worker_runs_no_more_calls_than_it_may, 60)
{
    const int calls = TEST_ROUNDS(100, 30);
    for (int workers = 1; workers <= 3; workers += 2) {
        for (uint32_t most = 1; most <= 7; most += 3) {
            pid_t pids[100];
            pp_pool *pool = open_pool((pp_pool_options){.max_workers = workers,
                                                        .max_tasks = most,
                                                        .initializer = note_start,
                                                        .finalizer = note_end,
                                                        .log = keep_line},
                                      method);
            shared()->words[0] = shared()->words[1] = 0;
            run_alone(pool, calls, pids);
            CHECK(most_of_one(pids, calls) <= (int)most);
            pp_pool_destroy(pool);
            CHECK_INT(shared()->words[0], shared()->words[1]); /* none has died */
            CHECK(shared()->words[0] >= calls / (int)most);
            CHECK(!strstr(lines, "exited") && !strstr(lines, "killed"));
        }
    }
}

/* All at once are taken back and handed out again: what a worker has not begun does not count. */
BOTH(calls_that_were_taken_back_do_not_count)
{
    pp_future *running, *waiting[20];
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 1, .max_tasks = 10, .finalizer = note_end}, method);
    pid_t pid = pid_of(pool);
    for (int i = 0; i < 4; i++)
        CHECK_INT(pid_of(pool), pid);
    running = submit_int(pool, task_gate, 8);
    gate_wait_arrived(8, 1);
    for (int i = 0; i < 20; i++)
        waiting[i] = submit(pool, task_pid, NULL, 0);
    for (int i = 0; i < 20; i++)
        CHECK_OK(pp_future_cancel(waiting[i]));
    gate_open(8);
    CHECK_INT(take_int(running), pid); /* the sixth */
    for (int i = 0; i < 4; i++)
        CHECK_INT(pid_of(pool), pid);
    CHECK(pid_of(pool) != pid);
    for (int i = 0; i < 20; i++)
        pp_future_unref(waiting[i]);
    pp_pool_destroy(pool);
}

static int start_at_gate(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    if (shared()->words[0]++ > 0)
        gate_wait(9);
    return 0;
}

/* Its successor's initializer takes its time: meanwhile the last calls run, and the old one stays until the new one is
 * ready. */
BOTH(the_next_worker_is_ready_before_the_old_one_goes)
{
    pp_pool *pool = open_pool(
        (pp_pool_options){.max_workers = 1, .max_tasks = 4, .initializer = start_at_gate, .finalizer = note_end},
        method);
    pid_t pid = pid_of(pool);
    gate_wait_arrived(9, 1); /* as calls of unknown duration may be as short as any */
    for (int i = 0; i < 3; i++)
        CHECK_INT(pid_of(pool), pid);
    pp_future *next = submit(pool, task_pid, NULL, 0);
    CHECK_INT(pp_future_wait(next, 50), -ETIMEDOUT);
    CHECK(!is_gone(pid));
    CHECK_INT(shared()->words[1], 0);
    gate_open(9);
    CHECK(take_int(next) != pid);
    until(is_gone(pid));
    CHECK_INT(shared()->words[1], 1);
    pp_pool_destroy(pool);
}

/* Counts the calls that had begun before each. */
static int start_slowly(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    int starts = shared()->words[0]++;
    CHECK(starts < 8);
    shared()->runs[starts] = shared()->words[2];
    test_sleep_ms(100);
    return 0;
}

static int count_call(pp_task *task, const void *arg, size_t size)
{
    shared()->words[2]++;
    test_sleep_ms(5);
    return task_pid(task, arg, size);
}

/* A start takes as long as twenty calls, which is known from the first one. */
BOTH(later_ones_are_asked_for_in_time_too)
{
    enum { CALLS = 60 };
    pp_pool *pool =
        open_pool((pp_pool_options){.max_workers = 1, .max_tasks = CALLS, .initializer = start_slowly}, method);
    for (int i = 0; i < 3 * CALLS; i++)
        CHECK(take_int(submit(pool, count_call, NULL, 0)) > 0);
    CHECK_INT(shared()->runs[0], 0);
    CHECK(shared()->words[0] >= 3);
    for (int i = 1; i <= 2; i++)
        CHECK((int)shared()->runs[i] < i * CALLS - 2); /* and not with the last */
    pp_pool_destroy(pool);
}

BOTH(a_map_goes_on_over_workers_that_are_recycled)
{
    int inputs[400], outputs[400];
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 2, .max_tasks = 25, .finalizer = note_end}, method);
    for (int i = 0; i < 400; i++)
        inputs[i] = i;
    CHECK_INT(pp_map_array(pool, task_square, inputs, 400, sizeof *inputs, outputs, sizeof *outputs,
                           &(pp_map_options){.chunk_size = 10}),
              0);
    for (int i = 0; i < 400; i++)
        CHECK_INT(outputs[i], i * i);
    pp_pool_destroy(pool);
    CHECK(shared()->words[1] >= 400 / 35);
}

static int exit_with_0(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    exit(0);
}

/* Status 0 both times: the one that was told to go has left, the other has died. */
BOTH(who_leaves_as_told_has_not_died_and_who_leaves_unbidden_has)
{
    pp_pool *pool =
        open_pool((pp_pool_options){.max_workers = 1, .max_tasks = 1, .finalizer = note_end, .log = keep_line}, method);
    for (int i = 0; i < 20; i++)
        CHECK(pid_of(pool) > 0);
    CHECK(!strstr(lines, "exited"));
    pp_future *future = submit(pool, exit_with_0, NULL, 0);
    const pp_error *error = error_of(future, PP_ERROR_CRASH);
    CHECK_INT(error->status, 0);
    CHECK_INT(error->signal, 0);
    pp_future_unref(future);
    CHECK(pid_of(pool) > 0);
    pp_pool_destroy(pool);
    CHECK_HAS(lines, "exited with status 0");
}

/* Successors are being started, are ready, or have just taken their places. */
BOTH_WITHIN(a_pool_whose_workers_are_recycled_may_end_at_any_moment, 60)
{
    for (int round = 0; round < 60; round++) {
        pp_future *futures[8];
        pp_pool *pool = open_pool((pp_pool_options){.max_workers = 2,
                                                    .max_tasks = 1 + (uint32_t)round % 3,
                                                    .initializer = note_start,
                                                    .finalizer = note_end,
                                                    .standby = (pp_standby)(round % 2)},
                                  method);
        for (int i = 0; i < 8; i++)
            futures[i] = submit_int(pool, task_square, i);
        for (int i = 0; i < round % 9; i++)
            CHECK_OK(pp_future_wait(futures[i], -1));
        CHECK_OK(pp_pool_shutdown(pool, round % 4 == 0 ? PP_CANCEL_PENDING : 0, -1));
        for (int i = 0; i < 8; i++) {
            CHECK_OK(pp_future_wait(futures[i], 0));
            pp_future_unref(futures[i]);
        }
        pp_pool_destroy(pool);
        CHECK_INT(shared()->words[0], shared()->words[1]);
    }
}

/* Whichever of the two dies. */
BOTH_WITHIN(deaths_of_workers_that_are_recycled_cost_what_they_ran_at_most, 60)
{
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 2, .max_tasks = 3}, method);
    for (int i = 0; i < 100; i++) {
        pp_future *living[4], *dying = submit(pool, crash, NULL, 0);
        for (int k = 0; k < 4; k++)
            living[k] = submit_int(pool, task_square, k);
        drop_failed(dying, PP_ERROR_CRASH);
        for (int k = 0; k < 4; k++)
            CHECK_INT(take_int(living[k]), k * k);
    }
    pp_pool_destroy(pool);
}

static int crash_after_first(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    if (shared()->words[0]++ > 0)
        raise(SIGKILL);
    return 0;
}

BOTH(successors_that_can_not_start_break_the_pool_with_the_cause)
{
    pp_pool *pool =
        open_pool((pp_pool_options){.max_workers = 1, .max_tasks = 2, .initializer = crash_after_first}, method);
    CHECK(pid_of(pool) > 0);
    pp_future *futures[3];
    for (int i = 0; i < 3; i++)
        futures[i] = NULL;
    for (int i = 0; i < 3; i++)
        if (pp_submit(pool, task_pid, NULL, 0, &futures[i]) != 0)
            futures[i] = NULL;
    until(pp_submit(pool, task_pid, NULL, 0, NULL) == -ENOTRECOVERABLE);
    CHECK_HAS(pp_last_error(), "signal 9");
    for (int i = 0; i < 3; i++)
        pp_future_unref(futures[i]);
    pp_pool_destroy(pool);
}

/* ------------------------------------------------------------------------------------------ max_growth */

enum { LEAK = 16 << 20 };

static int task_leak(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    char *leaked = mmap(NULL, LEAK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(leaked != MAP_FAILED);
    memset(leaked, 1, LEAK);
    return task_pid(task, NULL, 0);
}

BOTH(a_worker_that_grows_is_recycled_and_one_that_does_not_is_not)
{
    if (KIT_TSAN)
        LEFT_OUT("what thread sanitizer notes of memory is the worker's too");
    pp_pool *pool =
        open_pool((pp_pool_options){.max_workers = 1, .max_growth = 4 * LEAK, .finalizer = note_end}, method);
    pid_t pid = pid_of(pool);
    for (int i = 0; i < 3; i++)
        CHECK_INT(take_int(submit(pool, task_leak, NULL, 0)), pid);
    for (int i = 0; i < 30; i++) {
        test_sleep_ms(10);
        CHECK_INT(pid_of(pool), pid); /* that was not too much, however often it is looked at */
    }
    CHECK_INT(take_int(submit(pool, task_leak, NULL, 0)), pid);
    take_int(
        submit(pool, task_leak, NULL, 0)); /* its successor's, where the fourth was too much already, and was seen */
    until(pid_of(pool) != pid);
    until(is_gone(pid));
    CHECK_INT(shared()->words[1], 1);
    pp_pool_destroy(pool);
}

static int leak_at_start(pp_task *task, const void *arg, size_t size)
{
    for (int i = 0; i < 8; i++)
        task_leak(task, arg, size);
    return 0;
}

BOTH(what_a_worker_has_from_its_initializer_does_not_count)
{
    pp_pool *pool =
        open_pool((pp_pool_options){.max_workers = 1, .max_growth = 4 * LEAK, .initializer = leak_at_start}, method);
    pid_t pid = pid_of(pool);
    for (int i = 0; i < 50; i++) {
        test_sleep_ms(10);
        CHECK_INT(pid_of(pool), pid);
    }
    pp_pool_destroy(pool);
}

/* ---------------------------------------------------------------------------------------- idle_timeout */

BOTH(workers_that_are_idle_for_long_leave_and_come_again)
{
    pid_t pids[3];
    pp_pool *pool = open_pool(
        (pp_pool_options){.max_workers = 3, .idle_timeout = 30, .finalizer = note_end, .log = keep_line}, method);
    start_workers(pool, 0, 3, pids);
    for (int i = 0; i < 3; i++)
        until(is_gone(pids[i]));
    CHECK_INT(shared()->words[1], 3);
    pid_t pid = pid_of(pool);
    CHECK(pid != pids[0] && pid != pids[1] && pid != pids[2]);
    until(is_gone(pid));
    pp_pool_destroy(pool);
    CHECK(!strstr(lines, "exited") && !strstr(lines, "killed"));
}

BOTH(as_many_workers_as_there_are_to_be_at_least_stay)
{
    pid_t pids[3];
    pp_pool *pool = open_pool(
        (pp_pool_options){.max_workers = 3, .min_workers = 1, .idle_timeout = 30, .finalizer = note_end}, method);
    start_workers(pool, 0, 3, pids);
    until(is_gone(pids[0]) + is_gone(pids[1]) + is_gone(pids[2]) == 2);
    test_sleep_ms(100);
    CHECK_INT(shared()->words[1], 2);
    pid_t pid = pid_of(pool);
    CHECK(pid == pids[0] || pid == pids[1] || pid == pids[2]);
    pp_pool_destroy(pool);
    CHECK_INT(shared()->words[1], 3);
}

BOTH(as_many_workers_as_there_are_to_be_at_least_are_there_before_a_call_and_after_a_death)
{
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 3, .min_workers = 2, .initializer = note_start}, method);
    until(shared()->words[0] == 2);
    kill(pid_of(pool), SIGKILL);
    until(shared()->words[0] == 3);
    pp_pool_destroy(pool);
}

BOTH(a_worker_that_runs_something_is_not_idle)
{
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 1, .idle_timeout = 20, .finalizer = note_end}, method);
    pp_future *future = submit_int(pool, task_gate, 8);
    gate_wait_arrived(8, 1);
    test_sleep_ms(150);
    CHECK_INT(shared()->words[1], 0);
    gate_open(8);
    CHECK(take_int(future) > 0);
    pp_pool_destroy(pool);
}

/* With no worker there is no standby either. */
BOTH(when_all_are_idle_nothing_but_the_parent_is_left)
{
    for (pp_standby standby = PP_STANDBY_AFTER_DEATH; standby <= PP_STANDBY_ALWAYS; standby++) {
        pp_pool *pool = open_pool((pp_pool_options){.max_workers = 2, .idle_timeout = 30, .standby = standby}, method);
        pid_t zygote = zygote_of(pool);
        drop_failed(submit(pool, crash, NULL, 0), PP_ERROR_CRASH);
        until(count_descendants_named(zygote, "") == 0);
        CHECK(pid_of(pool) > 0);
        pp_pool_destroy(pool);
    }
}

/* Each call finds a worker that is about to go, or gone. */
BOTH_WITHIN(calls_that_meet_workers_on_their_way_out_are_run, 60)
{
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 2, .idle_timeout = 1, .finalizer = note_end}, method);
    for (int i = 0; i < 200; i++) {
        pp_future *futures[3];
        for (int k = 0; k < 3; k++)
            futures[k] = submit_int(pool, task_square, k);
        for (int k = 0; k < 3; k++)
            CHECK_INT(take_int(futures[k]), k * k);
        if (i % 4)
            test_sleep_ms(i % 4);
    }
    pp_pool_destroy(pool);
}

/* -------------------------------------------------------------------------------------------- bad values */

static void refuse_options(pp_start_method method, pp_pool_options options, const char *name)
{
    pp_pool *pool = NULL;
    options.start_method = method;
    CHECK_INT(pp_pool_create(&options, &pool), -EINVAL);
    CHECK_HAS(pp_last_error(), name);
    CHECK(pool == NULL);
}

BOTH(numbers_of_workers_that_can_not_be_are_refused)
{
    refuse_options(method, (pp_pool_options){.min_workers = -1}, "min_workers");
    refuse_options(method, (pp_pool_options){.max_workers = 2, .min_workers = 3}, "min_workers");
    refuse_options(method, (pp_pool_options){.min_workers = 1025}, "min_workers");
}
