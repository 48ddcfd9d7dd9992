/* SPDX-License-Identifier: MIT */
/* Workers that die: in a call, between calls, before the first; and pools that break of it. */
#include "memfd_kit.h"
#include "processes_kit.h"

#include <alloca.h>
#include <setjmp.h>
#include <sys/socket.h>

#define CALLS 1000

/* --------------------------------------------------------------------------------- ways to die in a call */

enum way {
    LIVE,
    SEGV,
    KILLED,
    ABORT,
    EXIT_3,
    EXIT_0,
    OVERFLOW,
    PTHREAD_EXIT,
    LONG_JUMP,
    LONG_JUMP_TO_START,
    CLOSE_ALL
};

struct input {
    int index;
    enum way way;
};

static jmp_buf start_place, call_place;
static bool have_call_place;

static void die_by_segv(void)
{
    volatile char *page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    *page = 1;
}

/* Until somebody kills it. */
static void wait_for_the_killer(void)
{
    for (;;)
        pause();
}

static void exit_with_3(void)
{
    exit(3);
}

static void leave_with_0(void)
{
    _exit(0);
}

__attribute__((noinline)) static int fill_stack(int depth)
{
    volatile char frame[65536];
    for (size_t i = 0; i < sizeof frame; i += 4096)
        frame[i] = (char)depth;
    return depth > 1000000 ? 0 : fill_stack(depth + 1) + frame[4096];
}

static void overflow_the_stack(void)
{
    fill_stack(0);
}

static void leave_the_thread(void)
{
    pthread_exit(NULL);
}

static void jump_to_start(void)
{
    longjmp(start_place, 1);
}

static void jump_to_earlier_call(void)
{
    if (have_call_place)
        longjmp(call_place, 1);
    jump_to_start();
}

static void close_all(void)
{
    close_range(0, ~0u, 0);
}

static void (*const dying[])(void) = {
    [SEGV] = die_by_segv,
    [KILLED] = wait_for_the_killer,
    [ABORT] = abort,
    [EXIT_3] = exit_with_3,
    [EXIT_0] = leave_with_0,
    [OVERFLOW] = overflow_the_stack,
    [PTHREAD_EXIT] = leave_the_thread,
    [LONG_JUMP] = jump_to_earlier_call,
    [LONG_JUMP_TO_START] = jump_to_start,
    [CLOSE_ALL] = close_all,
};

/* Where somebody may jump later: this frame will be gone by then. */
static int remember_start(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    shared();
    if (setjmp(start_place))
        return 0;
    return 0;
}

static int square_or_die(pp_task *task, const void *arg, size_t size)
{
    const struct input *input = arg;
    CHECK_INT(size, sizeof *input);
    if (setjmp(call_place))
        return 0;
    shared()->runs[input->index]++;
    if (input->way != LIVE) {
        shared()->number[0] = pp_task_worker(task);
        shared()->pid[0] = getpid(); /* after which it may be killed */
    }
    if (input->way != LIVE)
        dying[input->way]();
    have_call_place = true;
    int square = input->index * input->index;
    return pp_task_return(task, &square, sizeof square);
}

/* ----------------------------------------------------------------------------- one of a thousand calls */

static void check_crash(pp_future *future, int signal_number, int status)
{
    const pp_error *error = error_of(future, PP_ERROR_CRASH);
    CHECK_INT(error->code, -EOWNERDEAD);
    CHECK_INT(error->signal, signal_number);
    CHECK_INT(error->status, status);
    CHECK_INT(error->pid, shared()->pid[0]);
    CHECK_INT(error->worker, shared()->number[0]);
    CHECK_STR(error->function, "square_or_die");
    CHECK_INT(error->call_id, pp_future_id(future));
    CHECK_INT(error->tries, 1);
    CHECK(error->run_time > 0);
    CHECK(error->earlier == NULL);
    CHECK_INT(pp_future_result(future, 0, NULL, 0, NULL), -EOWNERDEAD);
    CHECK_HAS(pp_last_error(), "square_or_die");
}

/* A jump into a frame that is gone can end in any way, but only for the call that did it. */
static void check_ended(pp_future *future)
{
    const pp_error *error;
    CHECK_OK(pp_future_error(future, -1, &error));
    if (error && error->kind != PP_ERROR_CRASH && error->kind != PP_ERROR_PROTOCOL)
        harness_fail(__FILE__, __LINE__, "kind %d: %s", (int)error->kind, error->message);
}

static void check_death(pp_future *future, enum way way)
{
    static const struct {
        int signal, status;
    } ends[] = {[SEGV] = {SIGSEGV, -1},  [KILLED] = {SIGKILL, -1}, [ABORT] = {SIGABRT, -1},
                [EXIT_3] = {0, 3},       [EXIT_0] = {0, 0},        [OVERFLOW] = {SIGSEGV, -1},
                [PTHREAD_EXIT] = {0, 0}, [LONG_JUMP] = {0, 0},     [LONG_JUMP_TO_START] = {0, 0},
                [CLOSE_ALL] = {0, 0}};
    if (way == LONG_JUMP || way == LONG_JUMP_TO_START || way == CLOSE_ALL)
        check_ended(future);
    else
        check_crash(future, ends[way].signal, ends[way].status);
}

static void kill_when_there(void)
{
    wait_until(shared()->pid[0] != 0, 60);
    kill(shared()->pid[0], SIGKILL);
}

/* Call `position` of a thousand dies; all others are right and ran once. */
static void die_once(pp_start_method method, enum way way, int workers, int position)
{
    static pp_future *futures[CALLS];
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = workers, .initializer = remember_start}, method);
    memset(shared(), 0, sizeof *shared());
    for (int i = 0; i < CALLS; i++) {
        struct input input = {.index = i, .way = i == position ? way : LIVE};
        futures[i] = submit(pool, square_or_die, &input, sizeof input);
    }
    if (way == KILLED)
        kill_when_there();
    for (int i = 0; i < CALLS; i++) {
        if (i == position) {
            check_death(futures[i], way);
            pp_future_unref(futures[i]);
        } else {
            CHECK_INT(take_int(futures[i]), i * i);
        }
        CHECK_INT(shared()->runs[i], 1);
    }
    pp_pool_destroy(pool);
}

static void die_everywhere(pp_start_method method, enum way way)
{
    static const int positions[] = {0, CALLS / 2, CALLS - 1};
    for (int workers = 1; workers <= 4; workers += 3)
        for (int i = 0; i < 3; i++)
            die_once(method, way, workers, positions[i]);
}

BOTH_WITHIN(an_invalid_access_fails_its_call_alone, 20)
{
    die_everywhere(method, SEGV);
}

BOTH_WITHIN(a_kill_from_outside_fails_the_running_call_alone, 20)
{
    die_everywhere(method, KILLED);
}

BOTH_WITHIN(abort_fails_its_call_alone, 20)
{
    die_everywhere(method, ABORT);
}

BOTH_WITHIN(exit_with_a_status_fails_its_call_alone, 20)
{
    die_everywhere(method, EXIT_3);
}

BOTH_WITHIN(leaving_with_status_0_fails_its_call_alone, 20)
{
    die_everywhere(method, EXIT_0);
}

BOTH_WITHIN(a_stack_overflow_fails_its_call_alone, 20)
{
    die_everywhere(method, OVERFLOW);
}

BOTH_WITHIN(pthread_exit_fails_its_call_alone, 20)
{
    die_everywhere(method, PTHREAD_EXIT);
}

BOTH_WITHIN(a_jump_into_an_earlier_call_hurts_its_call_alone, 20)
{
    die_everywhere(method, LONG_JUMP);
}

BOTH_WITHIN(a_jump_into_the_initializer_hurts_its_call_alone, 20)
{
    die_everywhere(method, LONG_JUMP_TO_START);
}

BOTH_WITHIN(closing_every_descriptor_hurts_its_call_alone, 20)
{
    die_everywhere(method, CLOSE_ALL);
}

/* ------------------------------------------------------------------------------------------ many deaths */

BOTH_WITHIN(a_thousand_crashes_in_a_row_break_nothing, 60)
{
    static pp_future *futures[CALLS];
    const int calls = TEST_ROUNDS(CALLS, CALLS / 10);
    pp_pool *pool = open_workers(2, method);
    for (int i = 0; i < calls; i++) {
        struct input input = {.index = i, .way = i % 2 ? SEGV : EXIT_3};
        futures[i] = submit(pool, square_or_die, &input, sizeof input);
    }
    struct input good = {.index = CALLS};
    pp_future *last = submit(pool, square_or_die, &good, sizeof good);
    for (int i = 0; i < calls; i++) {
        const pp_error *error = error_of(futures[i], PP_ERROR_CRASH);
        CHECK_INT(error->signal, i % 2 ? SIGSEGV : 0);
        CHECK_INT(error->status, i % 2 ? -1 : 3);
        pp_future_unref(futures[i]);
        CHECK_INT(shared()->runs[i], 1);
    }
    CHECK_INT(take_int(last), CALLS * CALLS);
    pp_pool_destroy(pool);
}

/* Runs for a moment, so that a kill meets calls at every stage. */
static int square_slowly(pp_task *task, const void *arg, size_t size)
{
    int index = read_int(arg);
    shared()->runs[index]++;
    shared()->pid[pp_task_worker(task)] = getpid();
    for (volatile int i = 0; i < 20000; i++) {
    }
    return task_square(task, arg, size);
}

static void *kill_at_random(void *unused)
{
    unsigned seed = 1;
    (void)unused;
    while (!shared()->gates[0]) {
        pid_t pid = shared()->pid[rand_r(&seed) % 4];
        /* Still a worker: its parent lives, so its number is not another's before that has reaped it. */
        char name[64];
        if (pid && test_process_state(pid, NULL, name) && strncmp(name, "pp-worker", 9) == 0)
            kill(pid, SIGKILL);
        test_sleep_ms(3);
    }
    return NULL;
}

BOTH_WITHIN(workers_killed_at_random_moments_cost_only_what_they_ran, 60)
{
    enum { COUNT = 3000 };
    static pp_future *futures[COUNT];
    pthread_t killer;
    pp_pool *pool = open_workers(4, method);
    pthread_create(&killer, NULL, kill_at_random, NULL);
    for (int i = 0; i < COUNT; i++)
        futures[i] = submit_int(pool, square_slowly, i);
    for (int i = 0; i < COUNT; i++) {
        const pp_error *error;
        CHECK_OK(pp_future_error(futures[i], -1, &error));
        CHECK_INT(shared()->runs[i] <= 1, 1);
        if (error) {
            CHECK_INT(error->signal, SIGKILL);
            drop_failed(futures[i], PP_ERROR_CRASH);
        } else {
            CHECK_INT(take_int(futures[i]), i * i);
        }
    }
    gate_open(0);
    pthread_join(killer, NULL);
    pp_pool_destroy(pool);
}

BOTH(workers_killed_while_idle_cost_nothing)
{
    pp_pool *pool = open_workers(3, method);
    pid_t pids[3];
    for (int round = 0; round < 5; round++) {
        start_workers(pool, round, 3, pids);
        for (int i = 0; i < 3; i++)
            kill(pids[i], SIGKILL);
        pp_future *futures[50];
        for (int i = 0; i < 50; i++)
            futures[i] = submit_int(pool, task_square, i);
        for (int i = 0; i < 50; i++)
            CHECK_INT(take_int(futures[i]), i * i);
    }
    pp_pool_destroy(pool);
}

static bool is_socket(int fd)
{
    struct stat status;
    return fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode);
}

/* As its end would close them; then it goes on for longer than anybody would look for the news of that end. */
static int hang_up(pp_task *task, const void *arg, size_t size)
{
    for (int fd = 3; fd < 1024; fd++)
        if (is_socket(fd))
            shutdown(fd, SHUT_RDWR);
    test_sleep_ms(20);
    return task_square(task, arg, size);
}

TEST(a_worker_that_hangs_up_and_goes_on_has_not_died)
{
    pp_pool *pool = open_workers(1, PP_START_FORK);
    for (int i = 0; i < 3; i++)
        CHECK_INT(take_int(submit_int(pool, hang_up, i)), i * i);
    pp_pool_destroy(pool);
}

BOTH(what_a_dead_worker_had_of_the_owners_is_given_back_though_nobody_calls_again)
{
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 1, .standby = PP_STANDBY_NEVER}, method);
    int fds = count_fds(), mappings = kit_memfd_mappings();
    struct input input = {.way = EXIT_3};
    pp_future *future = submit(pool, square_or_die, &input, sizeof input);
    check_crash(future, 0, 3);
    pp_future_unref(future);
    wait_until(count_fds() == fds && kit_memfd_mappings() == mappings, 10);
    pp_pool_destroy(pool);
}

/* -------------------------------------------------------------------------------------- deaths outside calls */

/* Gate 3: not before everything is submitted. */
static int count_and_crash(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    gate_wait(3);
    shared()->words[0]++;
    raise(SIGSEGV);
    return 0;
}

/* What a broken pool says: each outstanding future, later submits, and it ends all the same. */
static void check_broken(pp_pool *pool, pp_future **futures, int count, const char *cause)
{
    for (int i = 0; i < count; i++) {
        const pp_error *error = error_of(futures[i], PP_ERROR_BROKEN);
        CHECK_INT(error->code, -ENOTRECOVERABLE);
        CHECK_HAS(error->message, cause);
        CHECK_INT(pp_future_result(futures[i], 0, NULL, 0, NULL), -ENOTRECOVERABLE);
        pp_future_unref(futures[i]);
    }
    pp_future *none = NULL;
    CHECK_INT(pp_submit(pool, task_square, NULL, 0, &none), -ENOTRECOVERABLE);
    CHECK_HAS(pp_last_error(), cause);
    CHECK(none == NULL);
    CHECK_INT(pp_pool_shutdown(pool, 0, -1), 0);
    CHECK_INT(pp_submit(pool, task_square, NULL, 0, &none), -ENOTRECOVERABLE); /* broken wins over shut down */
    pp_pool_destroy(pool);
}

BOTH(an_initializer_that_crashes_breaks_the_pool_after_a_few_workers)
{
    for (int workers = 1; workers <= 4; workers += 3) {
        int limit = 2 * workers > 3 ? 2 * workers : 3;
        pp_future *futures[8];
        pp_pool *pool = open_pool((pp_pool_options){.max_workers = workers, .initializer = count_and_crash}, method);
        shared()->words[0] = 0;
        shared()->gates[3] = 0;
        for (int i = 0; i < 8; i++)
            futures[i] = submit_int(pool, task_square, i);
        gate_open(3);
        check_broken(pool, futures, 8, "signal 11");
        CHECK(shared()->words[0] >= limit);
        CHECK(shared()->words[0] < limit + workers); /* those that were starting when the last one of the row died */
    }
}

static int crash_now_and_then(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    if (shared()->words[0]++ % 2 == 0)
        raise(SIGKILL);
    return 0;
}

/* Each second start fails, but calls are done in between: that is no row. */
BOTH(deaths_outside_calls_count_only_in_a_row)
{
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 1, .initializer = crash_now_and_then}, method);
    for (int i = 0; i < 10; i++) {
        pid_t pid = take_int(submit(pool, task_pid, NULL, 0));
        kill(pid, SIGKILL);
        wait_until(!test_process_alive(pid), 10);
    }
    CHECK_INT(take_int(submit_int(pool, task_square, 5)), 25);
    pp_pool_destroy(pool);
}

static int fail_to_start(pp_task *task, const void *arg, size_t size)
{
    (void)size;
    gate_wait(3);
    return pp_task_fail(task, -ENODEV, "no %s here", (const char *)arg);
}

BOTH(an_initializer_that_fails_breaks_the_pool_with_its_message)
{
    pp_future *futures[8];
    pp_pool *pool = open_pool(
        (pp_pool_options){
            .max_workers = 2, .initializer = fail_to_start, .initializer_arg = "camera", .initializer_arg_size = 7},
        method);
    for (int i = 0; i < 8; i++)
        futures[i] = submit_int(pool, task_square, i);
    gate_open(3);
    CHECK_INT(error_of(futures[0], PP_ERROR_BROKEN)->task_code, -ENODEV);
    check_broken(pool, futures, 8, "no camera here");
}

/* ----------------------------------------------------------------------------------------- PP_BREAK_POOL */

static int task_abort_at_gate(pp_task *task, const void *arg, size_t size)
{
    task_gate(task, arg, size);
    abort();
}

static void wait_until_gone(const pid_t *pids, int count)
{
    for (int i = 0; i < count; i++)
        wait_until(is_gone(pids[i]), 10);
}

BOTH(with_the_models_rule_a_crash_breaks_the_pool)
{
    pp_future *running[3], *waiting[21];
    pid_t pids[4];
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 4, .on_crash = PP_BREAK_POOL}, method);
    pp_future *early = submit_int(pool, task_square, 9);
    CHECK_OK(pp_future_wait(early, -1));
    start_workers(pool, 0, 4, pids);
    occupy_at(pool, 1, 3, running);
    waiting[0] = submit_int(pool, task_abort_at_gate, 2);
    for (int i = 1; i <= 20; i++)
        waiting[i] = submit_int(pool, task_gate, 1);
    gate_open(2);
    for (int i = 0; i < 3; i++)
        drop_failed(running[i], PP_ERROR_BROKEN);
    const pp_error *error = error_of(waiting[0], PP_ERROR_BROKEN);
    CHECK_HAS(error->message, "task_abort_at_gate");
    check_broken(pool, waiting, 21, "signal 6");
    wait_until_gone(pids, 4);
    CHECK_INT(take_int(early), 81);
}

/* The rule is about calls. */
BOTH(with_the_models_rule_an_idle_death_breaks_nothing)
{
    pid_t pids[2];
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 2, .on_crash = PP_BREAK_POOL}, method);
    start_workers(pool, 0, 2, pids);
    kill(pids[0], SIGKILL);
    wait_until(is_gone(pids[0]), 10);
    for (int i = 0; i < 10; i++)
        CHECK_INT(take_int(submit_int(pool, task_square, i)), i * i);
    pp_pool_destroy(pool);
}

/* -------------------------------------------------------------------------------------------------- retries */

/* Crashes in its first words[0] tries, in turns. */
static int crash_at_first(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    int64_t try = ++shared()->words[1];
    shared()->pid[try] = getpid();
    if (try <= shared()->words[0] && try % 2 == 1)
        raise(SIGKILL);
    if (try <= shared()->words[0])
        exit(7);
    return task_pid(task, NULL, 0);
}

BOTH(a_call_that_may_be_retried_succeeds_after_crashes)
{
    pp_future *future;
    pp_pool *pool = open_workers(2, method);
    shared()->words[0] = 3;
    CHECK_OK(pp_submit_call(pool, &(pp_call){.function = crash_at_first, .retries = 3}, &future));
    int pid = take_int(future);
    CHECK_INT(shared()->words[1], 4);
    CHECK_INT(pid, shared()->pid[4]);
    pp_pool_destroy(pool);
}

BOTH(errors_of_earlier_tries_are_chained)
{
    pp_future *future;
    pp_pool *pool = open_workers(2, method);
    shared()->words[0] = 100;
    CHECK_OK(pp_submit_call(pool, &(pp_call){.function = crash_at_first, .retries = 3}, &future));
    const pp_error *error = error_of(future, PP_ERROR_CRASH);
    for (int try = 4; try >= 1; try--) {
        CHECK(error != NULL);
        CHECK_INT(error->kind, PP_ERROR_CRASH);
        CHECK_INT(error->tries, try);
        CHECK_INT(error->pid, shared()->pid[try]);
        CHECK_INT(error->signal, try % 2 ? SIGKILL : 0);
        CHECK_INT(error->status, try % 2 ? -1 : 7);
        CHECK_INT(error->call_id, pp_future_id(future));
        error = error->earlier;
    }
    CHECK(error == NULL);
    pp_future_unref(future);
    CHECK_INT(shared()->words[1], 4);
    pp_pool_destroy(pool);
}
