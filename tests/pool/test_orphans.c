/* SPDX-License-Identifier: MIT */
/*
 * No orphan, ever: an owner with live pools is killed, and its workers and the process that starts them are gone,
 * whatever they did. Owners are children of the test; what they leave behind would be adopted by the runner, which is
 * this process's parent.
 */
#include "memfd_kit.h"
#include "processes_kit.h"

#include <sys/prctl.h>

#define WORKERS 3

/* What the owner does before it waits to be killed. It writes the processes that must go to shared()->pid and their
 * number to words[0]. */
typedef void owner_function(pp_start_method method);

static void note(pid_t pid)
{
    shared()->pid[shared()->words[0]++] = pid;
}

static pid_t begin_owner(owner_function *own, pp_start_method method)
{
    share();
    memset(shared(), 0, sizeof *shared());
    return start_owner_and_wait(own, method);
}

static void check_all_gone(void)
{
    CHECK(shared()->words[0] > 0);
    for (int i = 0; i < shared()->words[0]; i++)
        wait_until(is_gone(shared()->pid[i]), 10);
    wait_until(count_descendants_named(getppid(), "pp-") == 0, 10);
}

static void kill_owner(owner_function *own, pp_start_method method)
{
    pid_t owner = begin_owner(own, method);
    for (int i = 0; i < shared()->words[0]; i++)
        CHECK(test_process_alive(shared()->pid[i]));
    kill(owner, SIGKILL);
    CHECK(WIFSIGNALED(wait_for(owner)));
    check_all_gone();
}

/* -------------------------------------------------------------------------------------------- owners */

static void note_workers(pp_pool *pool, int gate)
{
    pid_t pids[WORKERS];
    start_workers(pool, gate, WORKERS, pids);
    for (int i = 0; i < WORKERS; i++)
        note(pids[i]);
    note(parent_of(pids[0]));
}

static void own_idle(pp_start_method method)
{
    note_workers(open_workers(WORKERS, method), 0);
}

static int task_deaf(pp_task *task, const void *arg, size_t size)
{
    sigset_t all;
    (void)task, (void)arg, (void)size;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    for (int i = 1; i < NSIG; i++)
        signal(i, SIG_IGN);
    shared()->arrived[1]++;
    for (volatile int i = 1; i > 0; i = i < 1000 ? i + 1 : 1)
        test_sleep_ms(1);
    return 0;
}

/* They would never end by themselves. */
static void own_deaf(pp_start_method method)
{
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = WORKERS, .exit_policy = PP_EXIT_KILL}, method);
    note_workers(pool, 0);
    for (int i = 0; i < WORKERS; i++)
        CHECK_OK(pp_submit(pool, task_deaf, NULL, 0, NULL));
    gate_wait_arrived(1, WORKERS);
}

static void own_stopped(pp_start_method method)
{
    pp_pool *pool = open_workers(WORKERS, method);
    note_workers(pool, 0);
    for (int i = 0; i < WORKERS; i++) {
        stop_and_see(shared()->pid[i]);
    }
}

static void own_stopped_zygote(pp_start_method method)
{
    own_deaf(method);
    pid_t zygote = shared()->pid[WORKERS];
    stop_and_see(zygote);
}

/* Its child has copies of all its descriptors and lives on. */
static void own_child(pp_start_method method)
{
    own_deaf(method);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        prctl(PR_SET_NAME, "not-ours");
        shared()->number[0] = getpid();
        gate_wait(14);
        _exit(0);
    }
    gate_wait_arrived(14, 1);
}

static void own_two_pools(pp_start_method method)
{
    own_deaf(method);
    note_workers(open_workers(WORKERS, method), 2);
}

static void own_two_pools_of_a_launcher(pp_start_method method)
{
    pp_launcher *launcher;
    const pp_launcher_options options = {.start_method = method, .inherit_fds = board_fds, .inherit_fd_count = 1};
    CHECK_OK(pp_launcher_create(&options, &launcher));
    for (int i = 0; i < 2; i++)
        note_workers(open_pool((pp_pool_options){.max_workers = WORKERS, .launcher = launcher}, 0), i);
}

/* Its workers are given up, not their work. */
static void own_released(pp_start_method method)
{
    pp_pool *pool = open_workers(WORKERS, method);
    note_workers(pool, 0);
    for (int i = 0; i < WORKERS; i++)
        CHECK_OK(pp_submit(pool, task_deaf, NULL, 0, NULL));
    pp_pool_release(pool);
    gate_wait_arrived(1, WORKERS);
}

BOTH(idle_workers_are_gone)
{
    kill_owner(own_idle, method);
}

BOTH(workers_that_ignore_and_block_all_signals_are_gone)
{
    kill_owner(own_deaf, method);
}

BOTH(stopped_workers_are_gone)
{
    kill_owner(own_stopped, method);
}

BOTH_WITHIN(a_stopped_zygote_and_its_workers_are_gone, 30)
{
    kill_owner(own_stopped_zygote, method);
}

BOTH(all_are_gone_though_a_child_of_the_owner_lives_on)
{
    kill_owner(own_child, method);
    CHECK(test_process_alive(shared()->number[0]));
    gate_open(14);
    wait_until(is_gone(shared()->number[0]), 10);
}

BOTH(workers_of_two_pools_are_gone)
{
    kill_owner(own_two_pools, method);
    kill_owner(own_two_pools_of_a_launcher, method);
}

BOTH(workers_of_a_released_pool_are_gone)
{
    kill_owner(own_released, method);
}

BOTH(workers_are_gone_when_owner_and_zygote_are_killed_together)
{
    for (int round = 0; round < 6; round++) {
        pid_t owner = begin_owner(round % 3 == 2 ? own_stopped : own_deaf, method);
        pid_t zygote = shared()->pid[WORKERS];
        kill(round % 2 ? zygote : owner, SIGKILL);
        kill(round % 2 ? owner : zygote, SIGKILL);
        wait_for(owner);
        check_all_gone();
    }
}

/* ---------------------------------------------------------------------------------------- other ends */

static void end_by_exit(pp_start_method method)
{
    own_deaf(method);
    exit(0);
}

static void end_by_abort(pp_start_method method)
{
    own_deaf(method);
    signal(SIGABRT, SIG_DFL);
    abort();
}

/* The new program has the descriptors of the old one but for those of the library, and lives on. */
static void end_by_exec(pp_start_method method)
{
    own_deaf(method);
    execlp("sleep", "sleep", "1000", NULL);
    _exit(127);
}

static void *own_in_thread(void *method)
{
    own_deaf(*(pp_start_method *)method);
    return NULL;
}

/* The main thread is gone long before. */
static void end_in_another_thread(pp_start_method method)
{
    static pp_start_method copy;
    copy = method;
    pthread_t thread = start_thread(own_in_thread, &copy);
    join_thread(thread);
    _exit(0);
}

static void end_owner(owner_function *own, pp_start_method method)
{
    share();
    memset(shared(), 0, sizeof *shared());
    pid_t owner = fork();
    CHECK(owner >= 0);
    if (owner == 0) {
        own(method);
        _exit(1);
    }
    gate_wait_arrived(1, WORKERS);
    if (own == end_by_exec) {
        check_all_gone();
        kill(owner, SIGKILL);
    }
    wait_for(owner);
    check_all_gone();
}

BOTH(an_owner_that_exits_leaves_nothing)
{
    end_owner(end_by_exit, method);
}

BOTH(an_owner_that_aborts_leaves_nothing)
{
    end_owner(end_by_abort, method);
}

BOTH(an_owner_that_becomes_another_program_leaves_nothing)
{
    end_owner(end_by_exec, method);
}

BOTH(an_owner_whose_pool_was_made_in_a_thread_leaves_nothing)
{
    end_owner(end_in_another_thread, method);
}

/* Busy with starting, killing, working. */
static void own_busily(pp_start_method method)
{
    pp_pool *pool = open_workers(8, method);
    note(getpid());
    shared()->arrived[15]++;
    for (int i = 0;; i++) {
        pp_future *future = submit(pool, i % 8 == 7 ? crash : nothing, NULL, 0);
        if (i % 50 == 49)
            pp_future_wait(future, -1);
        pp_future_unref(future);
    }
}

BOTH_WITHIN(an_owner_killed_at_whatever_moment_leaves_nothing, 60)
{
    for (int round = 0; round < 40; round++) {
        pid_t owner = begin_owner(own_busily, method);
        nanosleep(&(struct timespec){.tv_nsec = round * round * 20000l}, NULL);
        kill(owner, SIGKILL);
        wait_for(owner);
        check_all_gone();
    }
}

/* ------------------------------------------------------------------------------- what workers started */

/* Its child is in its process group, ignores what can be ignored, and lives as long as nobody kills it. */
static void have_child(void)
{
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        for (int i = 1; i < NSIG; i++)
            signal(i, SIG_IGN);
        for (;;)
            test_sleep_ms(1000);
    }
    shared()->pid[0] = child;
}

static int task_have_child(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)size;
    have_child();
    switch (read_int(arg)) {
    case 0: /* until its timeout */
        gate_wait(15);
        break;
    case 1:
        abort();
    case 2:
        exit(1);
    default:
        break;
    }
    return 0;
}

BOTH(children_of_a_worker_are_gone_with_it)
{
    for (int way = 0; way < 4; way++) {
        pp_future *future;
        pp_pool *pool = open_workers(1, method);
        const pp_call call = {.function = task_have_child,
                              .arg = &way,
                              .size = sizeof way,
                              .timeout = way == 0 ? 100 * harness_scale() : 0};
        CHECK_OK(pp_submit_call(pool, &call, &future));
        CHECK_OK(pp_future_wait(future, -1));
        if (way == 3) { /* it lives on with its worker, and leaves with that */
            CHECK(test_process_alive(shared()->pid[0]));
            pp_pool_destroy(pool);
            wait_until(is_gone(shared()->pid[0]), 10);
        } else {
            wait_until(is_gone(shared()->pid[0]), 10);
            pp_pool_destroy(pool);
        }
        pp_future_unref(future);
    }
}

static void own_grandchild(pp_start_method method)
{
    pp_pool *pool = open_workers(1, method);
    pp_future *future = submit_int(pool, task_have_child, 3);
    CHECK_OK(pp_future_wait(future, -1));
    shared()->words[0] = 1;
}

BOTH(children_of_workers_are_gone_with_the_owner)
{
    kill_owner(own_grandchild, method);
}

/* --------------------------------------------------------------------------------------- normal ends */

static int count_threads(void)
{
    int count = 0;
    DIR *directory = opendir("/proc/self/task");
    for (struct dirent *entry; directory && (entry = readdir(directory));)
        count += entry->d_name[0] != '.';
    if (directory)
        closedir(directory);
    return count;
}

static void use_pool(pp_start_method method, bool release)
{
    pid_t pids[WORKERS];
    pp_pool *pool = open_workers(WORKERS, method);
    start_workers(pool, 0, WORKERS, pids);
    pid_t zygote = parent_of(pids[0]);
    for (int i = 0; i < 20; i++) {
        pp_future *future = submit(pool, i == 10 ? crash : nothing, NULL, 0);
        CHECK_OK(pp_future_wait(future, -1));
        pp_future_unref(future);
    }
    if (release)
        pp_pool_release(pool);
    else
        pp_pool_destroy(pool);
    for (int i = 0; i < WORKERS; i++)
        wait_until(is_gone(pids[i]), 10);
    wait_until(is_gone(zygote), 10);
}

BOTH(pools_that_end_leave_no_process_descriptor_mapping_or_thread)
{
    use_pool(method, false); /* what is made once */
    int fds = count_fds(), threads = count_threads();
    CHECK_INT(kit_mappings_of("/memfd:procpool"), 0);
    for (int i = 0; i < TEST_ROUNDS(20, 6); i++)
        use_pool(method, i % 2);
    wait_until(count_threads() == threads, 10);
    wait_until(count_fds() == fds, 10);
    wait_until(kit_mappings_of("/memfd:procpool") == 0, 10);
    wait_until(count_descendants_named(getppid(), "pp-") == 0, 10);
}
