/* SPDX-License-Identifier: MIT */
/* What becomes of pools when the program exits. */
#include "processes_kit.h"

#if KIT_TSAN
/* A program that leaves its pools to the exit joins none of their threads, which is what thread sanitizer calls a leak.
 */
const char *__tsan_default_options(void);
__attribute__((visibility("default"))) const char *__tsan_default_options(void)
{
    return "report_thread_leaks=0";
}
#endif

/* A program of its own, with the board: a child that has made no pool before. Its status. */
static int program(void (*run)(pp_start_method method), pp_start_method method)
{
    share();
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        run(method);
        exit(0);
    }
    return wait_for(pid);
}

/* Sleeps for so many milliseconds, then counts itself. */
static int task_nap(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)size;
    shared()->pid[read_int(arg) % 64] = getpid();
    test_sleep_ms(read_int(arg));
    shared()->arrived[0]++;
    return 0;
}

static void nap(pp_pool *pool, int count, int milliseconds)
{
    for (int i = 0; i < count; i++)
        CHECK_OK(pp_submit(pool, task_nap, &milliseconds, sizeof milliseconds, NULL));
}

/* ---------------------------------------------------------------------------------------------- waiting */

static void leave_work_in_three_pools(pp_start_method method)
{
    pp_pool *pools[3];
    for (int i = 0; i < 3; i++)
        pools[i] = kit_sibling(method, (pp_pool_options){.max_workers = 2});
    for (int i = 0; i < 3; i++)
        nap(pools[i], 10, 5);
    pp_pool_release(pools[2]);
}

BOTH(a_program_that_ends_awaits_its_calls)
{
    CHECK_INT(program(leave_work_in_three_pools, method), 0);
    CHECK_INT(shared()->arrived[0], 30);
    wait_until(is_gone(shared()->pid[5]), 10);
}

static void *exit_in_thread(void *status)
{
    exit(*(int *)status);
}

static void exit_in_another_thread(pp_start_method method)
{
    static int status = 7;
    nap(kit_pool(method, 2), 10, 5);
    join_thread(start_thread(exit_in_thread, &status));
}

BOTH(exit_in_another_thread_awaits_calls)
{
    CHECK_INT(program(exit_in_another_thread, method), 7 << 8);
    CHECK_INT(shared()->arrived[0], 10);
}

static void exit_in_callback(pp_future *future, void *context)
{
    (void)future, (void)context;
    exit(9);
}

static void exit_in_a_callback(pp_start_method method)
{
    pp_pool *pool = kit_pool(method, 1);
    pp_future *future = submit_int(pool, task_gate, 3);
    CHECK_OK(pp_future_add_callback(future, exit_in_callback, NULL));
    nap(pool, 5, 5);
    gate_open(3);
    for (;;)
        pause();
}

BOTH(exit_in_a_callback_awaits_calls)
{
    CHECK_INT(program(exit_in_a_callback, method), 9 << 8);
    CHECK_INT(shared()->arrived[0], 5);
}

static void count_callback(pp_future *future, void *context)
{
    (void)context;
    shared()->arrived[1] += pp_future_state(future) == PP_FINISHED;
}

static void leave_callbacks(pp_start_method method)
{
    pp_pool *pool = kit_pool(method, 1);
    for (int i = 0; i < 5; i++) {
        pp_future *future = submit_int(pool, task_nap, 5);
        CHECK_OK(pp_future_add_callback(future, count_callback, NULL));
        pp_future_unref(future);
    }
}

BOTH(callbacks_that_are_due_run_before_the_end)
{
    CHECK_INT(program(leave_callbacks, method), 0);
    CHECK_INT(shared()->arrived[1], 5);
}

/* ---------------------------------------------------------------------------------------------- killing */

static pp_future *hanging;

static pp_pool *hang_with(pp_start_method method, pp_exit_policy policy, uint32_t timeout)
{
    pp_pool *pool =
        kit_pool_with(method, (pp_pool_options){.max_workers = 1, .exit_policy = policy, .exit_timeout = timeout});
    shared()->pid[1] = take_int(submit(pool, task_pid, NULL, 0));
    nap(pool, 3, 1);
    hanging = submit_int(pool, task_gate, 9);
    nap(pool, 3, 1);
    gate_wait_arrived(9, 1);
    return pool;
}

static void check_hanging(void)
{
    shared()->words[0] = pp_future_result(hanging, -1, NULL, 0, NULL);
}

static void leave_one_that_hangs(pp_start_method method)
{
    CHECK_INT(atexit(check_hanging), 0);
    hang_with(method, PP_EXIT_WAIT, 50);
}

BOTH(workers_are_killed_when_the_exits_timeout_is_over)
{
    CHECK_INT(program(leave_one_that_hangs, method), 0);
    CHECK_INT(shared()->arrived[0], 3);
    CHECK_INT(shared()->words[0], -EOWNERDEAD);
    wait_until(is_gone(shared()->pid[1]), 10);
}

static void leave_a_pool_to_be_killed(pp_start_method method)
{
    CHECK_INT(atexit(check_hanging), 0);
    hang_with(method, PP_EXIT_KILL, 0);
}

BOTH(workers_are_killed_at_once_where_nothing_is_to_be_awaited)
{
    CHECK_INT(program(leave_a_pool_to_be_killed, method), 0);
    CHECK_INT(shared()->arrived[0], 3);
    CHECK_INT(shared()->words[0], -EOWNERDEAD);
    wait_until(is_gone(shared()->pid[1]), 10);
}

/* ---------------------------------------------------------------------------------------- in handlers */

static pp_pool *left;

static void use_in_handler(void)
{
    pp_pool *another;
    int value = 0;
    shared()->words[1] = pp_submit(left, nothing, NULL, 0, NULL);
    shared()->words[2] = pp_pool_create(NULL, &another);
    CHECK_OK(pp_future_result(hanging, -1, &value, sizeof value, NULL));
    shared()->words[3] = value;
    pp_future_unref(hanging);
    pp_pool_destroy(left);
    shared()->words[4] = 1;
}

static void leave_a_pool_to_a_handler(pp_start_method method)
{
    CHECK_INT(atexit(use_in_handler), 0);
    left = kit_pool(method, 1);
    hanging = submit_int(left, task_square, 5);
}

BOTH(handlers_can_wait_and_not_submit)
{
    CHECK_INT(program(leave_a_pool_to_a_handler, method), 0);
    CHECK_INT(shared()->words[1], -ESHUTDOWN);
    CHECK_INT(shared()->words[2], -ESHUTDOWN);
    CHECK_INT(shared()->words[3], 25);
    CHECK_INT(shared()->words[4], 1);
}

static int leave_at_once(void *arg, size_t size)
{
    (void)arg, (void)size;
    return 0;
}

static void *submit_here(void *code)
{
    *(int *)code = pp_submit(left, nothing, NULL, 0, NULL);
    return NULL;
}

static void use_in_later_handler(void)
{
    pp_process *process;
    int code = 1;
    join_thread(start_thread(submit_here, &code));
    shared()->words[5] = code;
    shared()->words[6] = pp_process_start(leave_at_once, NULL, 0, NULL, &process);
    use_in_handler();
}

static void leave_a_pool_to_a_later_handler(pp_start_method method)
{
    left = kit_pool(method, 1);
    CHECK_INT(atexit(use_in_later_handler), 0);
    hanging = submit_int(left, task_square, 5);
}

static void check_refused(void (*run)(pp_start_method method), pp_start_method method)
{
    CHECK_INT(program(run, method), 0);
    for (int i = 1; i < 7; i++)
        CHECK_INT(shared()->words[i], i == 3 ? 25 : i == 4 ? 1 : -ESHUTDOWN);
}

BOTH(handlers_that_were_registered_after_it_find_a_pool_shut_as_well)
{
    check_refused(leave_a_pool_to_a_later_handler, method);
}

static void *leave_a_pool_here(void *method)
{
    leave_a_pool_to_a_later_handler(*(pp_start_method *)method);
    return NULL;
}

static void leave_a_pool_of_another_thread(pp_start_method method)
{
    join_thread(start_thread(leave_a_pool_here, &method));
}

BOTH(so_they_do_where_another_thread_made_it)
{
    check_refused(leave_a_pool_of_another_thread, method);
}

static void *leave_a_pool_here_and_exit(void *method)
{
    leave_a_pool_to_a_later_handler(*(pp_start_method *)method);
    exit(0);
}

static void exit_where_the_pool_was_made(pp_start_method method)
{
    join_thread(start_thread(leave_a_pool_here_and_exit, &method));
}

BOTH(so_they_do_where_the_thread_that_made_it_exits)
{
    check_refused(exit_where_the_pool_was_made, method);
}

/* What a thread may do with a pool of another's before it exits. */
static void *submit_and_exit_here(void *unused)
{
    hanging = submit_int(left, task_square, 5);
    exit(0);
    return unused;
}

static void *wait_and_exit_here(void *unused)
{
    pp_future_wait(hanging, -1);
    exit(0);
    return unused;
}

static void exit_well(pp_future *future, void *unused)
{
    (void)future, (void)unused;
    exit(0);
}

static void exit_in_log(void *unused, const char *line)
{
    (void)unused;
    if (!strstr(line, "started"))
        return;
    gate_wait(4); /* what the handler uses is there */
    exit(0);
}

static void exit_where_it_was_submitted(pp_start_method method)
{
    left = kit_pool(method, 1);
    CHECK_INT(atexit(use_in_later_handler), 0);
    join_thread(start_thread(submit_and_exit_here, NULL));
}

static void exit_where_it_was_waited(pp_start_method method)
{
    leave_a_pool_to_a_later_handler(method);
    join_thread(start_thread(wait_and_exit_here, NULL));
}

static void exit_in_a_thread_of_callbacks(pp_start_method method)
{
    leave_a_pool_to_a_later_handler(method);
    CHECK_OK(pp_future_add_callback(submit_int(left, task_square, 2), exit_well, NULL));
    for (;;)
        pause();
}

static void exit_in_a_thread_of_the_log(pp_start_method method)
{
    left = open_pool((pp_pool_options){.max_workers = 1, .log = exit_in_log}, method);
    CHECK_INT(atexit(use_in_later_handler), 0);
    hanging = submit_int(left, task_square, 5);
    gate_open(4);
    for (;;)
        pause();
}

BOTH(so_they_do_where_a_thread_exits_that_has_submitted_or_waited)
{
    check_refused(exit_where_it_was_submitted, method);
    check_refused(exit_where_it_was_waited, method);
}

BOTH(so_they_do_where_a_callback_or_the_log_function_exits)
{
    check_refused(exit_in_a_thread_of_callbacks, method);
    check_refused(exit_in_a_thread_of_the_log, method);
}

static void use_in_a_handler_that_came_first(void)
{
    nap(left, 3, 1);
    pp_pool_destroy(left);
    shared()->words[4] = 1;
}

static void exit_in_a_thread_that_is_not_watched(pp_start_method method)
{
    static int status = 0;
    left = kit_pool(method, 1);
    nap(left, 3, 1);
    CHECK_INT(atexit(use_in_a_handler_that_came_first), 0);
    join_thread(start_thread(exit_in_thread, &status));
}

BOTH(a_pool_works_as_ever_in_such_a_handler_where_a_thread_exits_that_made_none)
{
    CHECK_INT(program(exit_in_a_thread_that_is_not_watched, method), 0);
    CHECK_INT(shared()->arrived[0], 6);
    CHECK_INT(shared()->words[4], 1);
}

static void *make_pool_and_end(void *how)
{
    pp_pool_destroy(kit_pool(PP_START_FORK, 1));
    if (how)
        pthread_exit(NULL);
    return NULL;
}

static void *use_when_main_is_gone(void *unused)
{
    (void)unused;
    wait_until(test_process_state(getpid(), NULL, (char[64]){0}) == 'Z', 10); /* the main thread's */
    shared()->words[1] = pp_submit(left, nothing, NULL, 0, NULL) + 1;
    exit(0);
}

static void end_all_threads(pp_start_method method)
{
    left = kit_pool(method, 1);
    for (int i = 0; i < 2; i++)
        join_thread(start_thread(make_pool_and_end, i ? &left : NULL));
    nap(left, 3, 1);
    start_thread(use_when_main_is_gone, NULL);
    pthread_exit(NULL);
}

BOTH(the_end_of_a_thread_is_not_taken_for_an_exit)
{
    if (KIT_ASAN)
        LEFT_OUT("of a main thread that has ended libc keeps what no leak sanitizer finds");
    CHECK_INT(program(end_all_threads, method), 0);
    CHECK_INT(shared()->arrived[0], 3);
    CHECK_INT(shared()->words[1], 1);
}

/* Between two pools. */
static void make_one_before_and_one_after_a_handler(pp_start_method method)
{
    left = kit_sibling(method, (pp_pool_options){.max_workers = 1});
    hanging = submit_int(left, task_square, 5);
    CHECK_INT(atexit(use_in_handler), 0);
    nap(kit_sibling(method, (pp_pool_options){.max_workers = 1}), 3, 1);
}

BOTH(the_last_pool_shuts_those_before_it)
{
    CHECK_INT(program(make_one_before_and_one_after_a_handler, method), 0);
    CHECK_INT(shared()->words[1], -ESHUTDOWN);
    CHECK_INT(shared()->words[4], 1);
    CHECK_INT(shared()->arrived[0], 3);
}

/* ------------------------------------------------------------------------------------------ other threads */

static void *submit_for_ever(void *pool)
{
    int code;
    while ((code = pp_submit(pool, nothing, NULL, 0, NULL)) == 0)
        shared()->words[5]++;
    shared()->words[6] = code;
    return NULL;
}

static void wait_for_refusal(void)
{
    until(shared()->words[6] != 0);
}

static void exit_while_another_thread_submits(pp_start_method method)
{
    CHECK_INT(atexit(wait_for_refusal), 0);
    start_thread(submit_for_ever, kit_pool(method, 2));
    until(shared()->words[5] > 100);
}

BOTH(other_threads_are_refused)
{
    CHECK_INT(program(exit_while_another_thread_submits, method), 0);
    CHECK_INT(shared()->words[6], -ESHUTDOWN);
}

static void *make_and_end_pools(void *method)
{
    pp_pool *pool;
    const pp_pool_options options = {.start_method = *(pp_start_method *)method, .max_workers = 1};
    while (pp_pool_create(&options, &pool) == 0) {
        shared()->words[5]++;
        pp_submit(pool, nothing, NULL, 0, NULL);
        pp_pool_destroy(pool);
    }
    shared()->words[6] = 1;
    return NULL;
}

static void exit_while_pools_come_and_go(pp_start_method method)
{
    static pp_start_method chosen;
    chosen = method;
    CHECK_INT(atexit(wait_for_refusal), 0);
    nap(kit_pool(method, 1), 3, 1);
    start_thread(make_and_end_pools, &chosen);
    until(shared()->words[5] > 3);
}

TEST(pools_come_and_go_while_the_program_exits)
{
    for (int i = 0; i < 5; i++) {
        share();
        shared()->words[5] = shared()->words[6] = 0;
        CHECK_INT(program(exit_while_pools_come_and_go, PP_START_FORKSERVER), 0);
    }
}

/* ---------------------------------------------------------------------------------------------- others */

static void fork_and_exit(pp_start_method method)
{
    pp_pool *pool = kit_pool(method, 1);
    pp_future *first = submit_int(pool, task_gate, 9);
    gate_wait_arrived(9, 1);
    pid_t pid = fork();
    if (pid == 0)
        exit(3); /* waits for nothing, and ends nothing */
    CHECK_INT(wait_for(pid), 3 << 8);
    CHECK_OK(pp_submit(pool, nothing, NULL, 0, NULL));
    gate_open(9);
    take_int(first);
}

TEST(a_forked_child_that_exits_awaits_nothing)
{
    CHECK_INT(program(fork_and_exit, PP_START_FORK), 0);
}

static void leave_an_inline_pool(pp_start_method method)
{
    CHECK_INT(atexit(use_in_handler), 0);
    left = kit_pool(method, 1);
    hanging = submit_int(left, task_square, 5);
    nap(left, 3, 1);
}

/* Its calls run if somebody waits. */
TEST(an_inline_pools_calls_are_not_awaited)
{
    CHECK_INT(program(leave_an_inline_pool, PP_START_INLINE), 0);
    CHECK_INT(shared()->words[1], -ESHUTDOWN);
    CHECK_INT(shared()->words[3], 25);
    CHECK_INT(shared()->words[4], 1);
}

/* Each has a list of its own. */
static int task_with_pool(pp_task *task, const void *arg, size_t size)
{
    pp_pool *pool;
    (void)arg, (void)size;
    CHECK_OK(pp_pool_create(&(pp_pool_options){.start_method = PP_START_FORK, .max_workers = 1}, &pool));
    int value = take_int(submit_int(pool, task_square, 6));
    pp_pool_destroy(pool);
    return pp_task_return(task, &value, sizeof value);
}

TEST(a_task_that_makes_pools_has_its_own_list)
{
    pp_pool *pool = open_workers(2, PP_START_FORK);
    for (int i = 0; i < 5; i++)
        CHECK_INT(take_int(submit(pool, task_with_pool, NULL, 0)), 36);
    pp_pool_destroy(pool);
}

TEST(bad_policies_are_refused)
{
    pp_pool *pool;
    CHECK_INT(pp_pool_create(&(pp_pool_options){.exit_policy = (pp_exit_policy)2}, &pool), -EINVAL);
    CHECK_HAS(pp_last_error(), "exit_policy");
    CHECK_INT(pp_pool_create(&(pp_pool_options){.exit_policy = PP_EXIT_KILL, .exit_timeout = 1}, &pool), -EINVAL);
    CHECK_HAS(pp_last_error(), "exit_timeout");
}
