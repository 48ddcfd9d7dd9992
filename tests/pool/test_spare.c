/* SPDX-License-Identifier: MIT */
/* The process that a launcher has forked ahead of the next start. */
#include "process_kit.h"

#include <dirent.h>
#include <sched.h>
#include <sys/prctl.h>

/* That of this zygote; 0: there is none. */
static pid_t spare_of(pid_t zygote)
{
    return find_child(zygote, "pp-spare", 0);
}

static pid_t await_spare(pid_t zygote)
{
    return await_child(zygote, "pp-spare");
}

static pp_pool *open_from(pp_launcher *launcher)
{
    return open_pool((pp_pool_options){.max_workers = 1, .launcher = launcher}, PP_START_DEFAULT);
}

/* The worker of a pool that comes and goes. */
static pid_t run_one(pp_launcher *launcher)
{
    pp_pool *pool = open_from(launcher);
    pid_t pid = pid_of(pool);
    pp_pool_destroy(pool);
    return pid;
}

/* The process that it forks from. */
static pid_t forker_of(pp_launcher *launcher)
{
    pp_pool *pool = open_from(launcher);
    pid_t zygote = zygote_of(pool);
    pp_pool_destroy(pool);
    return zygote;
}

FORKED_WITHIN(the_next_start_takes_the_process_that_was_forked_ahead, HARNESS_SECONDS)
{
    pp_launcher *launcher = launcher_of(method);
    pid_t zygote = forker_of(launcher);
    for (int i = 0; i < 20; i++) {
        pid_t spare = await_spare(zygote);
        CHECK_INT(run_one(launcher), spare);
    }
    pp_launcher_unref(launcher);
}

/* A rest is 5 ms, and what is between two of these starts takes less but on a machine that is busy, where it is made
 * behind a rest, or not in time. */
FORKED_WITHIN(starts_in_a_row_find_one_too_where_there_is_a_processor_for_it, HARNESS_SECONDS)
{
    if (pp_usable_processors() < 2 || pp_usable_processors() < sysconf(_SC_NPROCESSORS_ONLN) ||
        prctl(PR_GET_SECCOMP) != 0)
        LEFT_OUT("one processor, or not all of them, or a filter of system calls");
    pp_launcher *launcher = launcher_of(method);
    pid_t zygote = forker_of(launcher);
    for (int found = 0; found <= 10;) {
        pid_t spare = spare_of(zygote), worker = run_one(launcher);
        found += spare != 0 && spare == worker;
    }
    pp_launcher_unref(launcher);
}

/* It warms up meanwhile. */
FORKED_WITHIN(one_that_was_forked_in_a_row_is_the_next_worker_behind_a_rest, HARNESS_SECONDS)
{
    pp_launcher *launcher = launcher_of(method);
    pid_t zygote = forker_of(launcher);
    for (int i = 0; i < 5; i++) {
        for (int k = 0; k < 5; k++)
            run_one(launcher);
        pid_t spare = await_spare(zygote);
        test_sleep_ms(20);
        CHECK_INT(spare_of(zygote), spare);
        CHECK_INT(run_one(launcher), spare);
    }
    pp_launcher_unref(launcher);
}

static bool may_run_on(pid_t pid, const cpu_set_t *processors)
{
    cpu_set_t its;
    return sched_getaffinity(pid, sizeof its, &its) == 0 && CPU_EQUAL(&its, processors);
}

static int tell_processors(pp_task *task, const void *arg, size_t size)
{
    cpu_set_t mine;
    (void)arg;
    (void)size;
    CHECK_INT(sched_getaffinity(0, sizeof mine, &mine), 0);
    return pp_task_return(task, &mine, sizeof mine);
}

FORKED_WITHIN(a_process_that_was_made_apart_may_run_where_the_others_may, HARNESS_SECONDS)
{
    pp_launcher *launcher = launcher_of(method);
    pid_t zygote = forker_of(launcher);
    cpu_set_t all, its;
    CHECK_INT(sched_getaffinity(0, sizeof all, &all), 0);
    for (int i = 0; i < 30; i++) {
        pp_pool *pool = open_from(launcher);
        pp_future *future;
        CHECK_OK(pp_submit(pool, tell_processors, NULL, 0, &future));
        CHECK_OK(pp_future_result(future, -1, &its, sizeof its, NULL));
        CHECK(CPU_EQUAL(&its, &all));
        pp_future_unref(future);
        pp_pool_destroy(pool);
    }
    pid_t spare = await_spare(zygote);
    wait_until(may_run_on(zygote, &all), 10);
    wait_until(may_run_on(spare, &all), 10);
    pp_launcher_unref(launcher);
}

/* How many files it has open with that in their names. */
static int count_open(pid_t pid, const char *part)
{
    char name[64], target[256];
    int count = 0;
    snprintf(name, sizeof name, "/proc/%d/fd", (int)pid);
    DIR *directory = opendir(name);
    CHECK(directory != NULL);
    for (const struct dirent *entry; (entry = readdir(directory));) {
        ssize_t size = readlinkat(dirfd(directory), entry->d_name, target, sizeof target - 1);
        target[size > 0 ? size : 0] = 0;
        count += strstr(target, part) != NULL;
    }
    closedir(directory);
    return count;
}

/* But for the file that tells it of kills, which under version 2 of control groups is the counter itself. */
static bool keeps_nothing(pid_t zygote)
{
    return count_open(zygote, "/proc/") == 0 && count_open(zygote, "memory.oom_control") == 0 &&
           count_open(zygote, "memory.events") <= 1;
}

FORKED_WITHIN(a_launcher_that_rests_keeps_nothing_from_being_unmounted, HARNESS_SECONDS)
{
    pp_launcher *launcher = launcher_of(method);
    pid_t zygote = forker_of(launcher);
    for (int i = 0; i < 3; i++) {
        await_spare(zygote);
        wait_until(keeps_nothing(zygote), 10);
        run_one(launcher);
    }
    pp_launcher_unref(launcher);
}

FORKED_WITHIN(more_starts_at_once_than_there_are_spares_fork_the_others, HARNESS_SECONDS)
{
    pp_launcher *launcher = launcher_of(method);
    pid_t spare = await_spare(forker_of(launcher));
    pp_future *futures[4];
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 4, .launcher = launcher}, method);
    occupy_at(pool, 1, 4, futures);
    gate_open(1);
    int taken = 0;
    for (int i = 0; i < 4; i++)
        taken += take_int(futures[i]) == spare;
    CHECK_INT(taken, 1);
    pp_pool_destroy(pool);
    pp_launcher_unref(launcher);
}

FORKED_WITHIN(a_spare_that_ends_or_is_stopped_costs_no_start, HARNESS_SECONDS)
{
    static const int signals[] = {SIGKILL, SIGTERM, SIGSTOP};
    pp_launcher *launcher = launcher_of(method);
    pid_t zygote = forker_of(launcher);
    for (int i = 0; i < 30; i++) {
        pid_t spare = await_spare(zygote);
        kill(spare, signals[i % 3]);
        if (i >= 15)
            test_sleep_ms(i % 5); /* else its end is not known yet */
        CHECK(run_one(launcher) > 0);
    }
    pp_launcher_unref(launcher);
}

/* It is not made again and again where something ends each. */
FORKED_WITHIN(after_one_that_has_ended_there_is_another_when_a_start_was_served, HARNESS_SECONDS)
{
    pp_launcher *launcher = launcher_of(method);
    pid_t zygote = forker_of(launcher), spare = await_spare(zygote);
    kill(spare, SIGKILL);
    wait_until(is_gone(spare), 10);
    test_sleep_ms(100);
    CHECK_INT(spare_of(zygote), 0);
    CHECK(run_one(launcher) > 0);
    await_spare(zygote);
    pp_launcher_unref(launcher);
}

FORKED_WITHIN(without_a_spare_there_is_none, HARNESS_SECONDS)
{
    share();
    pp_launcher_options options = {
        .start_method = method, .inherit_fds = board_fds, .inherit_fd_count = 1, .no_spare = 1};
    pp_launcher *launcher;
    CHECK_OK(pp_launcher_create(&options, &launcher));
    pid_t zygote = forker_of(launcher);
    test_sleep_ms(100);
    CHECK_INT(spare_of(zygote), 0);
    pp_launcher_unref(launcher);
    pp_pool *pool = open_workers(1, method); /* with a launcher of its own */
    zygote = zygote_of(pool);
    test_sleep_ms(100);
    CHECK_INT(spare_of(zygote), 0);
    pp_pool_destroy(pool);
}

static void own_a_spare(pp_start_method method)
{
    pp_launcher *launcher = launcher_of(method);
    shared()->pid[0] = await_spare(forker_of(launcher));
}

FORKED_WITHIN(a_spare_ends_with_its_launcher, HARNESS_SECONDS)
{
    pp_launcher *launcher = launcher_of(method);
    pid_t spare = await_spare(forker_of(launcher));
    pp_launcher_unref(launcher);
    wait_until(is_gone(spare), 10);
}

FORKED_WITHIN(a_spare_ends_with_its_owner, HARNESS_SECONDS)
{
    pid_t owner = start_owner_and_wait(own_a_spare, method);
    kill(owner, SIGKILL);
    wait_for(owner);
    wait_until(is_gone(shared()->pid[0]), 10);
}

/* ------------------------------------------------------------------------------------- as any other child */

static size_t descend(int steps)
{
    volatile char frame[65536];
    frame[0] = frame[sizeof frame - 1] = (char)steps;
    return steps == 0 ? 1 : 1 + descend(steps - 1) + (size_t)(frame[0] != (char)steps);
}

static int task_descend(pp_task *task, const void *arg, size_t size)
{
    (void)size;
    int depth = (int)descend(read_int(arg));
    return pp_task_return(task, &depth, sizeof depth);
}

FORKED_WITHIN(a_worker_that_was_a_spare_has_the_stack_that_its_pool_asks_for, HARNESS_SECONDS)
{
#if KIT_TSAN
    LEFT_OUT("under thread sanitizer, which can't follow to a stack of ours, tasks run on the process's own");
#endif
    pp_launcher *launcher = launcher_of(method);
    await_spare(forker_of(launcher));
    pp_pool *pool =
        open_pool((pp_pool_options){.max_workers = 1, .launcher = launcher, .stack_size = (size_t)64 << 20}, method);
    CHECK_INT(take_int(submit_int(pool, task_descend, 700)), 701); /* 44 MiB */
    pp_pool_destroy(pool);
    pp_launcher_unref(launcher);
}

/* Where the library's own descriptors begin, whose numbers may differ. */
#define OURS_FROM 200

/* What a worker has open, its score, and whether it has a group of its own. */
static int task_describe(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    char text[1024] = "", path[64], target[128];
    size_t length = 0;
    for (int fd = 0; fd < 1024; fd++) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        ssize_t got = readlink(path, target, sizeof target - 1);
        target[got > 0 ? got : 0] = '\0';
        target[strcspn(target, "0123456789")] = '\0'; /* the kind of what has a number of its own */
        if (got > 0 && length < sizeof text)
            length += (size_t)snprintf(text + length, sizeof text - length, "%d %s, ", fd < OURS_FROM ? fd : OURS_FROM,
                                       target);
    }
    char score[16] = "";
    FILE *file = fopen("/proc/self/oom_score_adj", "re");
    if (!file || !fgets(score, sizeof score, file))
        return pp_task_fail(task, -ENOENT, "no score");
    fclose(file);
    snprintf(text + length, sizeof text - length, "score %.*s, group %d", (int)strcspn(score, "\n"), score,
             getpgrp() == getpid());
    return pp_task_return(task, text, strlen(text) + 1);
}

static void describe(pp_launcher *launcher, char *text, size_t room)
{
    pp_pool *pool = open_from(launcher);
    pp_future *future = submit(pool, task_describe, NULL, 0);
    size_t size;
    CHECK_OK(pp_future_result(future, -1, text, room, &size));
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

FORKED_WITHIN(a_worker_that_was_a_spare_is_as_one_that_was_forked, HARNESS_SECONDS)
{
    char forked[1024], taken[1024];
    for (int close_fds = 0; close_fds < 2; close_fds++) {
        pp_launcher_options options = {.start_method = method,
                                       .inherit_fds = board_fds,
                                       .inherit_fd_count = 1,
                                       .close_fds = close_fds,
                                       .no_spare = 1};
        pp_launcher *launcher;
        share();
        CHECK_OK(pp_launcher_create(&options, &launcher));
        describe(launcher, forked, sizeof forked);
        pp_launcher_unref(launcher);
        options.no_spare = 0;
        CHECK_OK(pp_launcher_create(&options, &launcher));
        for (int i = 0; i < 3; i++) {
            await_spare(forker_of(launcher));
            describe(launcher, taken, sizeof taken);
            CHECK_STR(taken, forked);
        }
        pp_launcher_unref(launcher);
    }
}

/* ------------------------------------------------------------------------------------------ processes */

static int run_until_let_go(void *arg, size_t size)
{
    (void)arg, (void)size;
    shared()->pid[1] = getpid();
    gate_wait(1);
    return 0;
}

static void own_a_process(pp_start_method method)
{
    pp_process *process;
    pp_launcher *launcher = launcher_of(method);
    pid_t spare = await_spare(forker_of(launcher));
    CHECK_OK(pp_process_start(run_until_let_go, NULL, 0, &(pp_process_options){.launcher = launcher}, &process));
    wait_until(shared()->pid[1] != 0, 10);
    CHECK_INT(shared()->pid[1], spare);
}

FORKED_WITHIN(a_process_that_was_a_spare_outlives_its_owner_all_the_same, HARNESS_SECONDS)
{
    pid_t owner = start_owner_and_wait(own_a_process, method);
    kill(owner, SIGKILL);
    wait_for(owner);
    test_sleep_ms(50);
    CHECK(test_process_alive(shared()->pid[1]));
    gate_open(1);
    wait_until(is_gone(shared()->pid[1]), 10);
}

static void own_a_process_and_end(pp_start_method method)
{
    pp_process *process;
    pp_launcher *launcher = launcher_of(method);
    await_spare(forker_of(launcher));
    CHECK_OK(pp_process_start(run_until_let_go, NULL, 0, &(pp_process_options){.launcher = launcher}, &process));
    kill(getpid(), SIGKILL);
}

/* Though it may not have begun to become that process: that it has started was told. */
FORKED_WITHIN(a_process_that_was_a_spare_outlives_an_owner_that_ends_at_once, HARNESS_SECONDS)
{
    share();
    for (int i = 0; i < 10; i++) {
        shared()->pid[1] = 0;
        shared()->gates[1] = 0;
        wait_for(start_owner(own_a_process_and_end, method));
        wait_until(shared()->pid[1] != 0, 10);
        gate_open(1);
        wait_until(is_gone(shared()->pid[1]), 10);
    }
}

/* A signal for an idle process is not one for what is started later. */
FORKED_WITHIN(a_signal_to_a_spare_is_not_kept_for_a_process, HARNESS_SECONDS)
{
    static const int signals[] = {SIGTERM, SIGHUP, SIGUSR1, SIGSTOP};
    pp_launcher *launcher = launcher_of(method);
    pid_t zygote = forker_of(launcher);
    for (int i = 0; i < 4; i++) {
        pid_t spare = await_spare(zygote);
        int value = 7;
        pp_process *process;
        if (signals[i] == SIGSTOP)
            stop_and_see(spare);
        else
            kill(spare, signals[i]);
        wait_until(is_gone(spare) || signals[i] == SIGSTOP, 10);
        CHECK_OK(
            pp_process_start(run_return, &value, sizeof value, &(pp_process_options){.launcher = launcher}, &process));
        CHECK_INT(finish_process(process), 7);
        CHECK(run_one(launcher) > 0); /* after one that has ended there is none until a start was served */
    }
    pp_launcher_unref(launcher);
}
