/* SPDX-License-Identifier: MIT */
/* What the program around a pool notices of its processes: nothing. And what it does itself, fork above all, harms no
 * pool. */
#include "processes_kit.h"

/* ---------------------------------------------------------------------------------- waiting for children */

static _Atomic int stop_waiting;

/* There the helper that makes a zygote is a plain fork, which its host sees for a moment. */
static void leave_out_where_the_host_sees_a_helper(void)
{
    if (KIT_TSAN || TEST_ON_VALGRIND)
        LEFT_OUT("under these tools the helper of a process with threads is an ordinary child");
}

static void expect_no_child(void)
{
    siginfo_t info = {0};
    CHECK(wait(NULL) == -1 && errno == ECHILD);
    CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
    CHECK(waitid(P_ALL, 0, &info, WEXITED | WSTOPPED | WCONTINUED | WNOHANG) == -1 && errno == ECHILD);
}

static void *wait_all_the_time(void *unused)
{
    (void)unused;
    while (!stop_waiting)
        expect_no_child();
    return NULL;
}

BOTH(a_host_that_waits_for_any_child_finds_none)
{
    pid_t pids[2];
    pp_pool *pool = open_workers(2, method);
    expect_no_child();
    start_workers(pool, 0, 2, pids);
    expect_no_child();
    kill(pids[0], SIGKILL);
    wait_until(is_gone(pids[0]), 10);
    expect_no_child();
    pp_pool_destroy(pool);
    expect_no_child();
}

BOTH_WITHIN(a_host_that_waits_while_pools_come_and_go_finds_no_child, 30)
{
    leave_out_where_the_host_sees_a_helper();
    pthread_t thread = start_thread(wait_all_the_time, NULL);
    for (int i = 0; i < 20; i++) {
        pp_pool *pool = open_workers(2, method);
        CHECK_INT(take_int(submit_int(pool, task_square, i)), i * i);
        expect_end(submit(pool, crash, NULL, 0), -EOWNERDEAD);
        CHECK_INT(take_int(submit_int(pool, task_square, i)), i * i);
        pp_pool_destroy(pool);
    }
    stop_waiting = 1;
    join_thread(thread);
}

/* Its own children are its own, with their statuses. */
BOTH(a_host_gets_the_statuses_of_its_own_children)
{
    pp_pool *pool = open_workers(2, method);
    for (int i = 0; i < 20; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0)
            _exit(i);
        CHECK_INT(take_int(submit_int(pool, task_square, i)), i * i);
        int status;
        CHECK_INT(wait(&status), child);
        CHECK_INT(WEXITSTATUS(status), i);
    }
    pp_pool_destroy(pool);
}

/* ------------------------------------------------------------------------------------------- SIGCHLD */

static volatile sig_atomic_t seen;

static void see(int signal_number)
{
    (void)signal_number;
    seen++;
}

static void let_pools_come_and_go(pp_start_method method)
{
    for (int i = 0; i < 5; i++) {
        pp_pool *pool = open_workers(2, method);
        CHECK_INT(take_int(submit_int(pool, task_square, i)), i * i);
        expect_end(submit(pool, crash, NULL, 0), -EOWNERDEAD);
        if (i % 2)
            pp_pool_destroy(pool);
        else
            pp_pool_release(pool);
    }
}

BOTH(a_hosts_handler_of_sigchld_sees_nothing)
{
    leave_out_where_the_host_sees_a_helper();
    struct sigaction action = {.sa_handler = see, .sa_flags = SA_RESTART};
    CHECK(sigaction(SIGCHLD, &action, NULL) == 0);
    let_pools_come_and_go(method);
    wait_until(count_descendants_named(getppid(), "pp-") == 0, 10);
    CHECK_INT(seen, 0);
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    wait_for(child);
    CHECK_INT(seen, 1); /* that of its own child it does see */
}

static int task_exit(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)size;
    exit(read_int(arg));
}

static void check_statuses(pp_start_method method)
{
    pp_pool *pool = open_workers(2, method);
    for (int i = 0; i < 10; i++) {
        pp_future *future = submit_int(pool, task_exit, i);
        CHECK_INT(error_of(future, PP_ERROR_CRASH)->status, i);
        pp_future_unref(future);
        future = submit(pool, crash, NULL, 0);
        CHECK_INT(error_of(future, PP_ERROR_CRASH)->signal, SIGKILL);
        pp_future_unref(future);
    }
    pp_pool_destroy(pool);
}

BOTH(a_host_that_ignores_sigchld_learns_exit_statuses)
{
    CHECK(signal(SIGCHLD, SIG_IGN) != SIG_ERR);
    check_statuses(method);
}

BOTH(a_host_that_wants_no_zombies_learns_exit_statuses)
{
    struct sigaction action = {.sa_handler = SIG_DFL, .sa_flags = SA_NOCLDWAIT};
    CHECK(sigaction(SIGCHLD, &action, NULL) == 0);
    check_statuses(method);
}

/* A blocked SIGCHLD, an event loop's way, stays blocked and pends not. */
BOTH(a_host_that_blocks_all_signals_learns_exit_statuses_and_has_no_signal_pending)
{
    leave_out_where_the_host_sees_a_helper();
    sigset_t all, pending;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    check_statuses(method);
    CHECK(sigpending(&pending) == 0);
    for (int i = 1; i < NSIG; i++)
        CHECK_INT(sigismember(&pending, i) == 1, 0);
}

/* ------------------------------------------------------------------------------------------- threads */

static void *make_pool(void *pool)
{
    static const int fds[] = {BOARD_FD};
    pp_pool_options options = {.max_workers = 2, .inherit_fds = fds, .inherit_fd_count = 1};
    options.start_method = (pp_start_method)shared()->words[0];
    CHECK_OK(pp_pool_create(&options, pool));
    CHECK_INT(take_int(submit_int(*(pp_pool **)pool, task_square, 4)), 16);
    return NULL;
}

BOTH(a_pool_outlives_the_thread_that_made_it)
{
    pp_pool *pool = NULL;
    pid_t pids[2];
    share();
    shared()->words[0] = method;
    pthread_t thread = start_thread(make_pool, &pool);
    join_thread(thread);
    test_sleep_ms(20);
    start_workers(pool, 0, 2, pids);
    for (int i = 0; i < 2; i++)
        kill(pids[i], SIGKILL);
    for (int i = 0; i < 20; i++)
        CHECK_INT(take_int(submit_int(pool, task_square, i)), i * i);
    pp_pool_destroy(pool);
}

/* --------------------------------------------------------------------------------------------- forks */

static int no_source(void *context, pp_map_input *input)
{
    (void)context, (void)input;
    return 0;
}

/* Every function that takes a handle of the parent's, in its child. */
static void no_callback(pp_future *future, void *context)
{
    (void)future, (void)context;
    harness_fail(__FILE__, __LINE__, "a callback is called in a forked child");
}

static void check_refusals(pp_pool *pool, pp_future *future, pp_map *map, pp_launcher *launcher)
{
    pp_pool *new_pool = NULL;
    pp_future *new_future = NULL;
    pp_launcher *new_launcher = NULL;
    pp_map *new_map = NULL;
    pp_map_result result;
    const pp_error *error;
    const void *view;
    void *taken;
    size_t size;
    int value = 1;
    CHECK_INT(pp_submit(pool, nothing, NULL, 0, &new_future), -EPERM);
    CHECK_HAS(pp_last_error(), "fork");
    CHECK_INT(pp_submit_call(pool, &(pp_call){.function = nothing}, &new_future), -EPERM);
    CHECK_INT(pp_submit_many(pool, &(pp_call){.function = nothing}, 1, &new_future), -EPERM);
    CHECK_INT(pp_pool_shutdown(pool, 0, 0), -EPERM);
    CHECK_INT(pp_pool_create(NULL, &new_pool), -EPERM);
    CHECK_INT(pp_pool_create(&(pp_pool_options){.launcher = launcher}, &new_pool), -EPERM);
    CHECK_INT(pp_launcher_create(NULL, &new_launcher), -EPERM);
    CHECK_INT(pp_future_wait(future, -1), -EPERM);
    CHECK_INT(pp_future_result(future, -1, &value, sizeof value, NULL), -EPERM);
    CHECK_INT(pp_future_view(future, -1, &view, &size), -EPERM);
    CHECK_INT(pp_future_take(future, -1, &taken, &size), -EPERM);
    CHECK_INT(pp_future_error(future, -1, &error), -EPERM);
    CHECK_INT(pp_future_cancel(future), -EPERM);
    CHECK_INT(pp_future_state(future), -EPERM);
    CHECK_INT(pp_map_open(pool, nothing, no_source, NULL, NULL, &new_map), -EPERM);
    CHECK_INT(pp_map_open_array(pool, nothing, &value, 1, sizeof value, NULL, &new_map), -EPERM);
    CHECK_INT(pp_map_array(pool, nothing, &value, 1, sizeof value, NULL, 0, NULL), -EPERM);
    CHECK_INT(pp_map_next(map, -1, &result), -EPERM);
    CHECK_INT(pp_future_create(pool, &new_future), -EPERM);
    CHECK_INT(pp_future_add_callback(future, no_callback, NULL), -EPERM);
    CHECK_INT(pp_future_set_running_or_notify_cancel(future), -EPERM);
    CHECK_INT(pp_future_set_result(future, &value, sizeof value), -EPERM);
    CHECK_INT(pp_future_set_error(future, -EIO, "text"), -EPERM);
    CHECK(!new_pool && !new_future && !new_launcher && !new_map);
    CHECK(pp_usable_processors() >= 1);
    pp_map_close(map);
    pp_future_ref(future);
    pp_future_unref(future);
    pp_future_unref(future);
    pp_future_unref(future);
    pp_launcher_ref(launcher);
    pp_launcher_unref(launcher);
    pp_launcher_unref(launcher);
    pp_pool_release(pool);
    pp_pool_destroy(pool);
    pp_cleanup_pool(&pool);
}

static void check_child(pid_t child)
{
    int status = wait_for(child);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        harness_fail(__FILE__, __LINE__, "a child ended with wait status 0x%x", status);
}

struct handles {
    pp_pool *pool;
    pp_launcher *launcher;
    pp_map *map;
    pp_future *done, *running, *waiting;
};

static void open_handles(struct handles *h, pp_start_method method)
{
    static const int inputs[4] = {1, 1, 1, 1};
    const pp_launcher_options options = {.start_method = method, .inherit_fds = board_fds, .inherit_fd_count = 1};
    share();
    CHECK_OK(pp_launcher_create(&options, &h->launcher));
    h->pool = open_pool((pp_pool_options){.max_workers = 1, .launcher = h->launcher}, 0);
    h->done = submit_int(h->pool, task_square, 6);
    CHECK_OK(pp_future_wait(h->done, -1));
    h->running = submit_int(h->pool, task_gate, 1);
    h->waiting = submit_int(h->pool, task_square, 7);
    CHECK_OK(pp_map_open_array(h->pool, task_gate, inputs, 4, sizeof *inputs, NULL, &h->map));
    gate_wait_arrived(1, 1);
}

/* All of them work as if nothing had been. */
static void close_handles(struct handles *h)
{
    pp_map_result result;
    gate_open(1);
    CHECK(take_int(h->running) > 0);
    CHECK_INT(take_int(h->waiting), 49);
    CHECK_INT(take_int(h->done), 36);
    for (int i = 0; i < 4; i++)
        CHECK_INT(pp_map_next(h->map, -1, &result), 1);
    CHECK_INT(pp_map_next(h->map, -1, &result), 0);
    pp_map_close(h->map);
    for (int i = 0; i < 20; i++)
        CHECK_INT(take_int(submit_int(h->pool, task_square, i)), i * i);
    pp_pool_destroy(h->pool);
    pp_launcher_unref(h->launcher);
}

BOTH(a_forked_child_is_refused_everywhere_and_harms_nothing)
{
    struct handles h;
    open_handles(&h, method);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        check_refusals(h.pool, h.running, h.map, h.launcher);
        check_refusals(h.pool, h.done, h.map, h.launcher);
        exit(0);
    }
    check_child(child);
    close_handles(&h);
}

BOTH(a_forked_child_that_only_exits_harms_nothing)
{
    struct handles h;
    open_handles(&h, method);
    for (int i = 0; i < 10; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            if (i % 2)
                exit(0);
            execl("/bin/true", "true", NULL);
            _exit(127);
        }
        check_child(child);
    }
    close_handles(&h);
}

/* It has copies of all descriptors while the parent's workers die, are replaced, and its pool ends. */
BOTH(a_pool_ends_while_a_forked_child_lives_on)
{
    struct handles h;
    open_handles(&h, method);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        gate_wait(14);
        _exit(0);
    }
    gate_wait_arrived(14, 1);
    gate_open(1);
    for (int i = 0; i < 5; i++) {
        expect_end(submit(h.pool, crash, NULL, 0), -EOWNERDEAD);
        CHECK_INT(take_int(submit_int(h.pool, task_square, i)), i * i);
    }
    close_handles(&h);
    wait_until(count_descendants_named(getppid(), "pp-") == 0, 10);
    gate_open(14);
    check_child(child);
}

static _Atomic int stop_using;

static void *use_all_the_time(void *pool)
{
    for (int i = 0; !stop_using; i++)
        CHECK_INT(take_int(submit_int(pool, task_square, i % 1000)), i % 1000 * (i % 1000));
    return NULL;
}

/* Whatever lock another thread holds at the fork: the child is refused without taking it. */
BOTH_WITHIN(children_forked_in_the_midst_of_calls_are_refused_and_do_not_hang, 30)
{
    if (TEST_ON_VALGRIND)
        LEFT_OUT("what another thread held at the fork is lost in the child, and told as a leak");
    pthread_t threads[2];
    pp_pool *pool = open_workers(2, method);
    pp_future *future = submit_int(pool, task_square, 3);
    for (int i = 0; i < 2; i++)
        threads[i] = start_thread(use_all_the_time, pool);
    for (int i = 0; i < 100; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            CHECK_INT(pp_submit(pool, nothing, NULL, 0, NULL), -EPERM);
            CHECK_INT(pp_future_wait(future, -1), -EPERM);
            CHECK_INT(pp_future_cancel(future), -EPERM);
            pp_future_unref(future);
            pp_pool_destroy(pool);
            _exit(0);
        }
        check_child(child);
    }
    stop_using = 1;
    for (int i = 0; i < 2; i++)
        join_thread(threads[i]);
    CHECK_INT(take_int(future), 9);
    pp_pool_destroy(pool);
}

/* ----------------------------------------------------------------------------------- early launchers */

static int table[1000] = {1, 2, 3};

static int task_look_up(pp_task *task, const void *arg, size_t size)
{
    (void)size;
    return pp_task_return(task, &table[read_int(arg)], sizeof *table);
}

static pp_launcher *make_launcher(pp_start_method method)
{
    pp_launcher *launcher;
    share();
    CHECK_OK(pp_launcher_create(&(pp_launcher_options){.start_method = method}, &launcher));
    return launcher;
}

static int look_up(pp_launcher *launcher, int index)
{
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 1, .launcher = launcher}, 0);
    int value = take_int(submit_int(pool, task_look_up, index));
    pp_pool_destroy(pool);
    return value;
}

TEST(forks_see_the_owner_as_it_was_when_the_launcher_was_made)
{
    table[1] = 20;
    pp_launcher *launcher = make_launcher(PP_START_FORK);
    table[1] = 21;
    CHECK_INT(look_up(launcher, 0), 1);
    CHECK_INT(look_up(launcher, 1), 20);
    pp_launcher *later = make_launcher(PP_START_FORK);
    CHECK_INT(look_up(later, 1), 21);
    CHECK_INT(look_up(launcher, 1), 20);
    pp_launcher_unref(later);
    pp_launcher_unref(launcher);
}

TEST(fresh_images_see_nothing_of_the_owner)
{
    table[1] = 20;
    pp_launcher *launcher = make_launcher(PP_START_FORKSERVER);
    table[2] = 30;
    CHECK_INT(look_up(launcher, 0), 1);
    CHECK_INT(look_up(launcher, 1), 2);
    CHECK_INT(look_up(launcher, 2), 3);
    pp_launcher_unref(launcher);
}

/* Threads, memory, descriptors: what came after the launcher is not its affair. */
BOTH(an_early_launcher_serves_an_owner_that_has_grown)
{
    pp_launcher *launcher = make_launcher(method);
    pp_pool *other = open_workers(1, method);
    pthread_t thread = start_thread(use_all_the_time, other);
    size_t size = (size_t)64 << 20;
    char *memory = malloc(size);
    CHECK(memory != NULL);
    memset(memory, 1, size);
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 3, .launcher = launcher}, 0);
    for (int i = 0; i < 30; i++) {
        CHECK_INT(take_int(submit_int(pool, task_square, i)), i * i);
        if (i % 10 == 0)
            expect_end(submit(pool, crash, NULL, 0), -EOWNERDEAD);
    }
    pp_pool_destroy(pool);
    pp_launcher_unref(launcher);
    stop_using = 1;
    join_thread(thread);
    pp_pool_destroy(other);
    free(memory);
}

/* ------------------------------------------------------------------------------------- cost of a start */

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Seconds from the submit of a call to its result, of a pool that has no worker: the median of many. */
static double start_cost(pp_launcher *launcher)
{
    enum { COUNT = 31 };
    double costs[COUNT];
    for (int i = 0; i < COUNT; i++) {
        pp_pool *pool = open_pool((pp_pool_options){.max_workers = 1, .launcher = launcher}, 0);
        double begin = test_seconds();
        CHECK_INT(take_int(submit_int(pool, task_square, i)), i * i);
        costs[i] = test_seconds() - begin;
        pp_pool_destroy(pool);
    }
    qsort(costs, COUNT, sizeof *costs, compare);
    return costs[COUNT / 2];
}

static void check_cost(const char *which, double cost, double before)
{
    if (cost > 3 * before + 0.002)
        harness_fail(__FILE__, __LINE__, "%s: %g s after the owner grew, %g s before", which, cost, before);
}

/*
 * Side by side, since the machine may have become slower meanwhile: a small owner's launcher made early, and one made
 * late. A forkserver is a fresh image whenever it is made; under fork a late one is a copy of what the owner has
 * become.
 */
static void compare_costs(pp_start_method method)
{
    size_t size = (size_t)1 << 30;
    pp_launcher *early = make_launcher(method);
    double before = start_cost(early);
    char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    CHECK(memory != MAP_FAILED);
    madvise(memory, size, MADV_NOHUGEPAGE);
    for (size_t i = 0; i < size; i += 4096)
        memory[i] = 1;
    pp_launcher *late = make_launcher(method);
    double of_early = start_cost(early), of_late = start_cost(late);
    printf("median start: %.0f us before, %.0f us after, %.0f us with a late launcher\n", before * 1e6, of_early * 1e6,
           of_late * 1e6);
    check_cost("an early launcher", of_early, before);
    if (method == PP_START_FORKSERVER)
        check_cost("a late launcher", of_late, before);
    pp_launcher_unref(early);
    pp_launcher_unref(late);
    munmap(memory, size);
}

SLOW_TEST(a_start_by_an_early_launcher_costs_the_same_after_the_owner_grew_by_a_gigabyte)
{
    compare_costs(PP_START_FORK);
    compare_costs(PP_START_FORKSERVER);
}
