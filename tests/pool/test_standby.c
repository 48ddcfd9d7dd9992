/* SPDX-License-Identifier: MIT */
/* The process that is kept ready to be the next worker. */
#include "processes_kit.h"

/* That of this zygote; 0: there is none. */
static pid_t standby_of(pid_t zygote)
{
    return find_child(zygote, "pp-standby", 0);
}

static pid_t await_standby(pid_t zygote)
{
    return await_child(zygote, "pp-standby");
}

static void die_once(pp_pool *pool)
{
    drop_failed(submit(pool, crash, NULL, 0), PP_ERROR_CRASH);
}

/* Its number and the name of its process. */
static int task_self(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    char text[64] = "";
    FILE *file = fopen("/proc/self/comm", "r");
    int length = snprintf(text, sizeof text, "%d ", pp_task_worker(task));
    if (!file || !fgets(text + length, (int)sizeof text - length, file))
        return pp_task_fail(task, -ENOENT, "no name");
    fclose(file);
    return pp_task_return(task, text, strlen(text) + 1);
}

static void check_self(pp_pool *pool, const char *wanted)
{
    char text[64];
    size_t size;
    pp_future *future = submit(pool, task_self, NULL, 0);
    CHECK_OK(pp_future_result(future, -1, text, sizeof text, &size));
    CHECK_STR(text, wanted);
    pp_future_unref(future);
}

static int note_start(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    shared()->runs[0]++;
    shared()->number[shared()->runs[0]] = pp_task_worker(task);
    shared()->pid[shared()->runs[0]] = getpid();
    return 0;
}

static int note_end(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    shared()->runs[1]++;
    return 0;
}

BOTH(after_a_death_a_standby_is_made_and_is_the_next_worker)
{
    pp_pool *pool = open_workers(1, method);
    pid_t first = pid_of(pool), zygote = parent_of(first);
    CHECK_INT(standby_of(zygote), 0);
    die_once(pool);
    for (int i = 0; i < 20; i++) {
        pid_t standby = await_standby(zygote);
        CHECK(standby != first);
        CHECK_INT(pid_of(pool), standby);
        check_self(pool, "0 pp-worker-0\n");
        die_once(pool);
    }
    pid_t last = await_standby(zygote);
    pp_pool_destroy(pool);
    CHECK(is_gone(last));
}

BOTH(a_standby_runs_the_initializer_when_it_takes_its_place_and_only_then)
{
    pp_pool *pool = open_pool(
        (pp_pool_options){
            .max_workers = 2, .standby = PP_STANDBY_ALWAYS, .initializer = note_start, .finalizer = note_end},
        method);
    pid_t zygote = parent_of(pid_of(pool)), standby = await_standby(zygote);
    CHECK_INT(shared()->runs[0], 1);
    die_once(pool);
    CHECK_INT(pid_of(pool), standby);
    CHECK_INT(shared()->runs[0], 2);
    CHECK_INT(shared()->number[2], 0);
    CHECK_INT(shared()->pid[2], standby);
    await_standby(zygote);
    pp_pool_destroy(pool);
    CHECK_INT(shared()->runs[0], 2);
    CHECK_INT(shared()->runs[1], 1); /* not that one's finalizer, nor the dead one's */
}

BOTH(a_standby_is_no_worker_but_the_next_one_when_more_are_wanted)
{
    pp_future *futures[2];
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 2, .standby = PP_STANDBY_ALWAYS}, method);
    pid_t zygote = parent_of(pid_of(pool)), standby = await_standby(zygote);
    occupy_at(pool, 1, 2, futures);
    gate_open(1);
    pid_t pids[2] = {take_int(futures[0]), take_int(futures[1])};
    CHECK(pids[0] == standby || pids[1] == standby);
    await_standby(zygote); /* though there are as many workers as there may be */
    pp_pool_destroy(pool);
}

BOTH(without_a_standby_there_is_none)
{
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 1, .standby = PP_STANDBY_NEVER}, method);
    pid_t zygote = parent_of(pid_of(pool));
    for (int i = 0; i < 10; i++) {
        die_once(pool);
        CHECK(pid_of(pool) > 0);
        test_sleep_ms(5);
        CHECK_INT(standby_of(zygote), 0);
    }
    pp_pool_destroy(pool);
}

/* However often: what it has not done is no death in a row. */
BOTH(a_standby_that_is_killed_costs_nothing)
{
    pp_pool *pool = open_workers(1, method);
    pid_t zygote = parent_of(pid_of(pool));
    for (int i = 0; i < 10; i++) {
        die_once(pool);
        CHECK(pid_of(pool) > 0);
        pid_t standby = await_standby(zygote);
        kill(standby, SIGKILL);
        until(is_gone(standby));
        CHECK(pid_of(pool) > 0);
    }
    pp_pool_destroy(pool);
}

BOTH(a_standby_is_gone_when_its_pool_was_released)
{
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 1, .standby = PP_STANDBY_ALWAYS}, method);
    pid_t worker = pid_of(pool), standby = await_standby(parent_of(worker));
    pp_pool_release(pool);
    until(is_gone(worker) && is_gone(standby));
}

BOTH(a_standby_is_gone_when_its_pool_breaks)
{
    pp_pool *pool =
        open_pool((pp_pool_options){.max_workers = 1, .standby = PP_STANDBY_ALWAYS, .on_crash = PP_BREAK_POOL}, method);
    pid_t standby = await_standby(parent_of(pid_of(pool)));
    drop_failed(submit(pool, crash, NULL, 0), PP_ERROR_BROKEN);
    until(is_gone(standby));
    pp_pool_destroy(pool);
}

/* The workers' deaths come as fast as they can, at some of which the standby is there and at some of which it is being
 * made. */
BOTH_WITHIN(each_of_many_deaths_in_a_row_costs_its_call_alone, 60)
{
    pp_pool *pool = open_workers(3, method);
    for (int i = 0; i < 300; i++) {
        pp_future *dying = submit(pool, crash, NULL, 0), *living = submit_int(pool, task_square, i);
        if (i % 3 == 0)
            test_sleep_ms(1);
        drop_failed(dying, PP_ERROR_CRASH);
        CHECK_INT(take_int(living), i * i);
    }
    pp_pool_destroy(pool);
}

BOTH(a_rule_for_standbys_that_is_none_is_refused)
{
    pp_pool *pool = NULL;
    CHECK_INT(pp_pool_create(&(pp_pool_options){.standby = (pp_standby)3, .start_method = method}, &pool), -EINVAL);
    CHECK_HAS(pp_last_error(), "standby");
    CHECK_INT(pp_pool_create(&(pp_pool_options){.standby = (pp_standby)-1, .start_method = method}, &pool), -EINVAL);
}
