/* SPDX-License-Identifier: MIT */
/* Workers that the kernel kills as memory runs out, told from those that somebody kills. In a control group made for
 * that, where one can be. */
#include "processes_kit.h"

#include "process/memory.h"

#define LIMIT "268435456"      /* bytes, of the group */
#define MOST ((size_t)1 << 30) /* what a task takes where no limit holds */

static char parent_group[PP__COUNTER_PATH_MAX], group[PP__COUNTER_PATH_MAX + 64];
static const char *counter_name;

static int write_group(const char *directory, const char *file, const char *text)
{
    char path[2 * PP__COUNTER_PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", directory, file);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? -1 : write(fd, text, strlen(text));
    if (fd >= 0)
        close(fd);
    return size < 0 ? -1 : 0;
}

/* Or leaves the test out. Limits of memory and swap together are there only where swap is accounted for. */
static void make_group(void)
{
    static char reason[2 * PP__COUNTER_PATH_MAX];
    pp__memory_counter(getpid(), parent_group);
    if (strcmp(parent_group, PP__COUNTER_OF_MACHINE) == 0)
        LEFT_OUT("this process is in no control group that accounts for memory");
    counter_name = strrchr(parent_group, '/') + 1;
    parent_group[counter_name - 1 - parent_group] = '\0';
    snprintf(group, sizeof group, "%s/pp-test-%d", parent_group, (int)getpid());
    snprintf(reason, sizeof reason, "%s can't be made or limited", group);
    if (mkdir(group, 0755) != 0)
        LEFT_OUT(reason);
    write_group(group, "memory.swap.max", "0");
    if (write_group(group, "memory.max", LIMIT) == 0)
        return;
    if (write_group(group, "memory.limit_in_bytes", LIMIT) == 0) {
        write_group(group, "memory.memsw.limit_in_bytes", LIMIT);
        return;
    }
    rmdir(group);
    LEFT_OUT(reason);
}

static void enter_group(void)
{
    CHECK_INT(write_group(group, "cgroup.procs", "0"), 0);
}

/* Its last processes may still be on their way out. */
static void remove_group(void)
{
    wait_until(rmdir(group) == 0 || errno != EBUSY, 60);
}

static int eat(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    for (size_t eaten = 0; eaten < MOST; eaten += 1 << 20) {
        char *piece = malloc(1 << 20);
        if (!piece)
            break;
        memset(piece, 1, 1 << 20);
        harness_keep(piece);
    }
    return pp_task_fail(task, -ENOMEM, "nobody killed it");
}

static int enter_and_eat(pp_task *task, const void *arg, size_t size)
{
    snprintf(group, sizeof group, "%s", (const char *)arg);
    enter_group();
    return eat(task, NULL, size);
}

static void check_killed(pp_future *future, int out_of_memory)
{
    const pp_error *error = error_of(future, PP_ERROR_CRASH);
    CHECK_INT(error->signal, SIGKILL);
    CHECK_INT(error->out_of_memory, out_of_memory);
    CHECK_INT(strstr(error->message, "memory ran out") != NULL, out_of_memory);
    pp_future_unref(future);
}

/* Runs in a process of its own, in the group if `inside`, so that the group can be removed however this ends. */
static void run_with_group(void (*run)(pp_start_method method), pp_start_method method, bool inside)
{
    if (KIT_TSAN)
        LEFT_OUT("thread sanitizer takes more memory than the group has");
    make_group();
    if (!inside && strstr(counter_name, "oom_control")) {
        remove_group();
        LEFT_OUT("control groups of version 1 do not tell where a process was that has ended");
    }
    pid_t child = fork();
    if (child == 0) {
        if (inside)
            enter_group();
        run(method);
        exit(0);
    }
    int status = wait_for(child);
    remove_group();
    CHECK_INT(status, 0);
}

static void be_killed(pp_start_method method)
{
    pp_pool *pool = open_workers(2, method);
    for (int i = 0; i < 3; i++)
        check_killed(submit(pool, eat, NULL, 0), 1);
    check_killed(submit(pool, crash, NULL, 0), 0);
    expect_usable(pool);
    pp_pool_destroy(pool);
}

BOTH_WITHIN(a_worker_that_the_kernel_kills_as_memory_runs_out_is_told_so, 60)
{
    run_with_group(be_killed, method, true);
}

/* Somebody else of the group, and later a kill from elsewhere. */
static void be_killed_later(pp_start_method method)
{
    pp_pool *pool = open_workers(1, method);
    pp_future *future = submit(pool, task_hang, NULL, 0);
    gate_wait_arrived(0, 1);
    pid_t eater = fork();
    if (eater == 0) {
        eat(NULL, NULL, 0);
        _exit(0);
    }
    int status = wait_for(eater);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    test_sleep_ms(1500); /* longer than a kill may take to become a death */
    kill(shared()->pid[0], SIGKILL);
    check_killed(future, 0);
    check_killed(submit(pool, eat, NULL, 0), 1);
    pp_pool_destroy(pool);
}

BOTH_WITHIN(a_kill_of_somebody_else_does_not_explain_a_workers_later_end, 60)
{
    run_with_group(be_killed_later, method, true);
}

static void break_by_it(pp_start_method method)
{
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 1, .on_crash = PP_BREAK_POOL}, method);
    pp_future *future = submit(pool, eat, NULL, 0);
    CHECK_HAS(error_of(future, PP_ERROR_BROKEN)->message, "memory ran out");
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

BOTH_WITHIN(a_pool_that_breaks_of_it_tells_the_cause, 60)
{
    run_with_group(break_by_it, method, true);
}

static void be_killed_elsewhere(pp_start_method method)
{
    pp_pool *pool = open_workers(1, method);
    check_killed(submit(pool, crash, NULL, 0), 0);
    check_killed(submit(pool, enter_and_eat, group, strlen(group) + 1), 1);
    check_killed(submit(pool, crash, NULL, 0), 0);
    pp_pool_destroy(pool);
}

BOTH_WITHIN(a_worker_that_has_gone_to_another_group_is_told_so_too, 60)
{
    run_with_group(be_killed_elsewhere, method, false);
}

BOTH(a_worker_that_somebody_kills_has_not_run_out_of_memory)
{
    pp_pool *pool = open_workers(2, method);
    for (int i = 0; i < 10; i++)
        check_killed(submit(pool, crash, NULL, 0), 0);
    pp_pool_destroy(pool);
}
