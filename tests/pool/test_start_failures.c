/* SPDX-License-Identifier: MIT */
/*
 * Workers that can't be started, and processes that end or stop at the worst places: fewer workers, later ones, and
 * each call ends exactly once.
 *
 * needs: seams
 */
#include "call_kit.h"

#include "base/seam.h"

#include <sys/prctl.h>
#include <sys/resource.h>

/* Words of the board. Forks of the zygote are numbered from 0; those from FAIL_FROM to before FAIL_TO fail. */
enum { BEGUN, GATE, FORKS, FAIL_FROM, FAIL_TO, PIDS, FORK_TIMES = 64, RUNS = 1024 };
enum { CALLS = 1000, FORK_TIMES_MAX = 512 };

/* ----------------------------------------------------------------------------------------- accounting */

struct call {
    uint32_t index;
    uint32_t gate; /* a word to wait at; UINT32_MAX: none */
};

/* Counts its run, waits at its gate, returns its index. */
static int tracked(pp_task *task, const void *arg, size_t size)
{
    struct call call;
    CHECK_INT(size, sizeof call);
    memcpy(&call, arg, sizeof call);
    add(RUNS + call.index);
    if (call.gate != UINT32_MAX) {
        atomic_store(word(PIDS + (uint32_t)pp_task_worker(task)), (uint32_t)getpid());
        add(BEGUN);
        wait_at(call.gate);
    }
    return pp_task_return(task, &call.index, sizeof call.index);
}

static pp_future *submit_tracked(pp_pool *pool, uint32_t index, uint32_t gate)
{
    struct call call = {.index = index, .gate = gate};
    return submit(pool, tracked, &call, sizeof call);
}

static void submit_all(pp_pool *pool, uint32_t from, uint32_t to, pp_future **futures)
{
    for (uint32_t i = from; i < to; i++)
        futures[i] = submit_tracked(pool, i, UINT32_MAX);
}

/* Two calls at a gate, one on each of the pool's two workers: both are up. */
static void occupy_two(pp_pool *pool, pp_future **futures)
{
    futures[0] = submit_tracked(pool, 0, GATE);
    futures[1] = submit_tracked(pool, 1, GATE);
    until(read_word(BEGUN) == 2);
}

/* One call that has ended: 0 with its own result, having run once; 1 with a crash, having run `failed_runs` times (-1:
 * at most once). */
static unsigned check_end(pp_future *future, uint32_t index, int failed_runs)
{
    const pp_error *error;
    CHECK_OK(pp_future_error(future, -1, &error));
    uint32_t runs = read_word(RUNS + index);
    if (!error) {
        CHECK_INT(result_u32(future), index);
        CHECK_INT(runs, 1);
        return 0;
    }
    if (error->kind != PP_ERROR_CRASH)
        harness_fail(__FILE__, __LINE__, "call %u failed with kind %d: %s", index, (int)error->kind, error->message);
    CHECK_INT(error->code, -EOWNERDEAD);
    CHECK_INT(error->tries, 1);
    CHECK(error->pid > 0);
    CHECK(failed_runs < 0 ? runs <= 1 : runs == (uint32_t)failed_runs);
    return 1;
}

/* How many of them failed, once all have ended; they are looked at twice, since what has a result keeps it. */
static unsigned check_ends(pp_future **futures, uint32_t count, int failed_runs)
{
    unsigned failed = 0, again = 0;
    for (uint32_t i = 0; i < count; i++)
        failed += check_end(futures[i], i, failed_runs);
    for (uint32_t i = 0; i < count; i++)
        again += check_end(futures[i], i, failed_runs);
    CHECK_INT(again, failed);
    return failed;
}

static void unref_all(pp_future **futures, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        pp_future_unref(futures[i]);
}

static void check_all_good(pp_future **futures, uint32_t count)
{
    CHECK_INT(check_ends(futures, count, 0), 0);
    unref_all(futures, count);
}

static uint32_t count_done(pp_future **futures, uint32_t count)
{
    uint32_t done = 0;
    for (uint32_t i = 0; i < count; i++)
        done += pp_future_state(futures[i]) == PP_FINISHED;
    return done;
}

/* ------------------------------------------------------------------------------------------- the log */

static struct {
    pthread_mutex_t lock;
    char text[1 << 16];
    size_t used;
} lines = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void log_line(void *data, const char *line)
{
    (void)data;
    pthread_mutex_lock(&lines.lock);
    if (lines.used + strlen(line) + 2 < sizeof lines.text)
        lines.used += (size_t)sprintf(lines.text + lines.used, "%s\n", line);
    pthread_mutex_unlock(&lines.lock);
}

static bool is_logged(const char *part)
{
    pthread_mutex_lock(&lines.lock);
    bool found = strstr(lines.text, part) != NULL;
    pthread_mutex_unlock(&lines.lock);
    return found;
}

static void forget_log(void)
{
    pthread_mutex_lock(&lines.lock);
    lines.text[lines.used = 0] = 0;
    pthread_mutex_unlock(&lines.lock);
}

/* ------------------------------------------------------------------------------------- forks that fail */

static uint32_t microseconds(void)
{
    return (uint32_t)(test_seconds() * 1e6);
}

/* Those of the zygote fail as the board says; others, such as the one that makes it, do not. */
static pid_t scarce_fork(void)
{
    char name[16] = "";
    prctl(PR_GET_NAME, name);
    if (strcmp(name, "pp-zygote") != 0)
        return fork();
    uint32_t number = atomic_fetch_add(word(FORKS), 1);
    if (number < FORK_TIMES_MAX)
        atomic_store(word(FORK_TIMES + number), microseconds());
    if (number < read_word(FAIL_FROM) || number >= read_word(FAIL_TO))
        return fork();
    errno = EAGAIN;
    return -1;
}

#define SCARCE "PP_TEST_SCARCE_FORKS"

/* A fresh image takes the order from its environment. */
__attribute__((constructor)) static void obey_environment(void)
{
    if (getenv(SCARCE))
        pp__sys.fork = scarce_fork;
}

/* A pool whose zygote's forks `from` to `to` fail. */
static pp_pool *scarce_pool(pp_start_method method, int workers, uint32_t from, uint32_t to)
{
    board_make();
    atomic_store(word(FAIL_FROM), from);
    atomic_store(word(FAIL_TO), to);
    setenv(SCARCE, "1", 1);
    pp__sys.fork = scarce_fork;
    pp_pool *pool = kit_pool_with(method, (pp_pool_options){.max_workers = workers, .log = log_line});
    unsetenv(SCARCE);
    return pool;
}

static pid_t no_fork(void)
{
    errno = EAGAIN;
    return -1;
}

TEST(a_pool_whose_launcher_cannot_be_forked_is_refused_and_the_next_one_is_not)
{
    pp_pool *pool = NULL;
    pp__sys.fork = no_fork;
    CHECK_INT(pp_pool_create(&(pp_pool_options){.start_method = PP_START_FORK}, &pool), -EAGAIN);
    CHECK(pool == NULL);
    CHECK_HAS(pp_last_error(), "fork");
    pp__sys.fork = fork;
    pool = kit_pool(PP_START_FORK, 1);
    expect_usable(pool);
    pp_pool_destroy(pool);
}

/* The owner learns of a failure after it has happened, and only then begins its pause: the gaps seen in the zygote are
 * no shorter. */
BOTH(forks_that_fail_are_tried_again_with_growing_pauses)
{
    static pp_future *futures[100];
    const uint32_t failing = 4;
    pp_pool *pool = scarce_pool(method, 1, 0, failing);
    submit_all(pool, 0, 100, futures);
    check_all_good(futures, 100);
    CHECK_INT(read_word(FORKS), failing + 1);
    for (uint32_t i = 0; i < failing; i++)
        CHECK(read_word(FORK_TIMES + i + 1) - read_word(FORK_TIMES + i) >= 10000u << i);
    CHECK(is_logged("worker 0 can't be started: Resource temporarily unavailable"));
    pp_pool_destroy(pool);
}

BOTH(with_fewer_workers_than_wanted_all_calls_are_done_and_later_there_are_more)
{
    static pp_future *futures[CALLS];
    pp_pool *pool = scarce_pool(method, 6, 2, UINT32_MAX);
    submit_all(pool, 0, 200, futures);
    check_all_good(futures, 200);
    occupy(pool, BEGUN, GATE, 2, futures);
    pp_future *waiting = submit_tracked(pool, 200, UINT32_MAX);
    uint32_t forks = read_word(FORKS);
    until(read_word(FORKS) > forks); /* the call that waits has them try again */
    CHECK_INT(pp_future_state(waiting), PP_PENDING);
    atomic_store(word(FAIL_TO), 0);
    for (int i = 2; i < 6; i++)
        futures[i] = submit_gated(pool, BEGUN, GATE, (uint32_t)i);
    until(read_word(BEGUN) == 6);
    CHECK_INT(result_u32(waiting), 200);
    open_gate(GATE);
    for (uint32_t i = 0; i < 6; i++)
        CHECK_INT(result_u32(futures[i]), i);
    unref_all(futures, 6);
    pp_future_unref(waiting);
    pp_pool_destroy(pool);
}

BOTH(calls_that_wait_for_a_worker_in_vain_can_be_cancelled_and_the_pool_shut_down)
{
    static pp_future *futures[50];
    pp_pool *pool = scarce_pool(method, 4, 0, UINT32_MAX);
    submit_all(pool, 0, 50, futures);
    until(read_word(FORKS) > 2);
    CHECK_INT(pp_future_wait(futures[0], 0), -ETIMEDOUT);
    CHECK_OK(pp_future_cancel(futures[0]));
    CHECK_INT(pp_pool_shutdown(pool, 0, 0), -ETIMEDOUT);
    CHECK_INT(pp_future_wait(futures[1], 0), -ETIMEDOUT);
    CHECK_OK(pp_pool_shutdown(pool, PP_CANCEL_PENDING, -1));
    for (uint32_t i = 0; i < 50; i++) {
        expect_end(futures[i], -ECANCELED);
        CHECK_INT(read_word(RUNS + i), 0);
    }
    pp_pool_destroy(pool);
}

SLOW_TEST_WITHIN(a_pool_that_gets_no_worker_for_half_a_minute_is_broken_with_the_errno, 120)
{
    pp_pool *pool = scarce_pool(PP_START_FORK, 2, 0, UINT32_MAX);
    pp_future *future = submit_tracked(pool, 0, UINT32_MAX);
    const pp_error *error;
    CHECK_OK(pp_future_error(future, -1, &error));
    CHECK(error != NULL);
    CHECK_INT(error->kind, PP_ERROR_BROKEN);
    CHECK_INT(error->task_code < 0 ? -error->task_code : error->task_code, EAGAIN);
    CHECK_HAS(error->message, "no worker could be started");
    CHECK_HAS(error->message, strerror(EAGAIN));
    CHECK_HAS(error->message, "RLIMIT_NPROC");
    CHECK_HAS(error->message, "pids.max");
    pp_future_unref(future);
    CHECK_INT(pp_submit(pool, nothing, NULL, 0, NULL), -ENOTRECOVERABLE);
    pp_pool_destroy(pool);
}

/* ------------------------------------------------------------------------------- descriptors that run out */

/* The soft limit of `pid` (0: ours). */
static void limit_descriptors(pid_t pid, rlim_t count)
{
    struct rlimit limit;
    if (TEST_ON_VALGRIND)
        LEFT_OUT("valgrind keeps a limit of descriptors of its own");
    CHECK_INT(prlimit(pid, RLIMIT_NOFILE, NULL, &limit), 0);
    limit.rlim_cur = count < limit.rlim_max ? count : limit.rlim_max;
    CHECK_INT(prlimit(pid, RLIMIT_NOFILE, &limit, NULL), 0);
}

static rlim_t descriptor_limit(void)
{
    struct rlimit limit;
    CHECK_INT(getrlimit(RLIMIT_NOFILE, &limit), 0);
    return limit.rlim_cur;
}

/* Every descriptor below the limit is taken but `spare` of them. What is taken lies in `taken`, to be given back. */
static int take_descriptors(int spare, int *taken)
{
    int count = 0;
    for (int fd; (fd = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0;)
        taken[count++] = fd;
    CHECK_INT(errno, EMFILE);
    for (; spare > 0; spare--)
        close(taken[--count]);
    return count;
}

enum { FEW = 400 };

/* So many calls as there may be workers wait at a gate, and what is behind them too: whoever can be started is. */
static void use_all_workers(pp_pool *pool, int workers)
{
    static pp_future *futures[2 * 64];
    uint32_t begun = read_word(BEGUN), done = 0;
    for (int i = 0; i < 2 * workers; i++)
        futures[i] = submit_gated(pool, BEGUN, GATE, (uint32_t)i);
    until(read_word(BEGUN) > begun && is_logged("no worker can be started"));
    open_gate(GATE);
    for (int i = 0; i < 2 * workers; i++) {
        CHECK_INT(result_u32(futures[i]), i);
        done++;
    }
    unref_all(futures, done);
    atomic_store(word(GATE), 0);
}

BOTH(with_descriptors_for_a_few_workers_only_there_are_a_few_and_all_calls_are_done)
{
    static const int spare[] = {6, 9, 14};
    int taken[FEW];
    board_make();
    rlim_t before = descriptor_limit();
    pp_pool *pool = kit_pool_with(method, (pp_pool_options){.max_workers = 64, .log = log_line});
    limit_descriptors(0, FEW);
    for (size_t i = 0; i < sizeof spare / sizeof *spare; i++) {
        int count = take_descriptors(spare[i], taken);
        use_all_workers(pool, 64);
        CHECK(is_logged("RLIMIT_NOFILE"));
        while (count > 0)
            close(taken[--count]);
        forget_log();
        pp_pool_destroy(pool);
        pool = kit_pool_with(method, (pp_pool_options){.max_workers = 64, .log = log_line});
    }
    limit_descriptors(0, before);
    expect_usable(pool);
    pp_pool_destroy(pool);
}

BOTH(calls_wait_while_there_is_no_descriptor_at_all_and_are_done_when_there_are_some_again)
{
    static pp_future *futures[100];
    int taken[FEW];
    board_make();
    pp_pool *pool = kit_pool_with(method, (pp_pool_options){.max_workers = 8, .log = log_line});
    limit_descriptors(0, FEW);
    int count = take_descriptors(0, taken);
    submit_all(pool, 0, 100, futures);
    until(is_logged("no worker can be started"));
    CHECK_INT(count_done(futures, 100), 0);
    while (count > 0)
        close(taken[--count]);
    check_all_good(futures, 100);
    open_gate(GATE);
    expect_usable(pool);
    pp_pool_destroy(pool);
}

/* The zygote has no room for what the owner sends with the plan of a worker. */
BOTH(a_launcher_without_room_for_descriptors_starts_fewer_workers)
{
    static pp_future *futures[FEW];
    pid_t pids[2];
    board_make();
    pp_pool *pool = kit_pool_with(method, (pp_pool_options){.max_workers = 3, .log = log_line});
    pp_future *first = submit(pool, who, NULL, 0);
    CHECK_OK(pp_future_result(first, -1, pids, sizeof pids, NULL));
    pp_future_unref(first);
    rlim_t before = descriptor_limit();
    limit_descriptors(pids[1], 3);
    submit_all(pool, 0, 100, futures);
    for (uint32_t i = 100; i < 103; i++)
        futures[i] = submit_tracked(pool, i, GATE);
    until(is_logged("can't be started: Too many open files"));
    limit_descriptors(pids[1], before);
    until(read_word(BEGUN) == 3);
    open_gate(GATE);
    check_all_good(futures, 103);
    pp_pool_destroy(pool);
}

/* The zygote's: the first look at its score finds no descriptor. */
static int open_score_later(const char *path, int flags, ...)
{
    static int looks;
    if (strcmp(path, "/proc/self/oom_score_adj") != 0 || looks++ > 0)
        return open(path, flags);
    errno = EMFILE;
    return -1;
}

static int read_score(void)
{
    char text[32] = "";
    int fd = open("/proc/self/oom_score_adj", O_RDONLY | O_CLOEXEC);
    CHECK(read(fd, text, sizeof text - 1) > 0);
    close(fd);
    return atoi(text);
}

static int task_score(pp_task *task, const void *arg, size_t size)
{
    uint32_t score = (uint32_t)read_score();
    (void)arg, (void)size;
    return pp_task_return(task, &score, sizeof score);
}

static int score_of_worker(pp_launcher *launcher)
{
    pp_pool *pool = kit_pool_with(0, (pp_pool_options){.max_workers = 1, .launcher = launcher});
    int score = (int)take_u32(submit(pool, task_score, NULL, 0));
    pp_pool_destroy(pool);
    return score;
}

/* Of a fork, which has the seams of this process. */
TEST(a_launcher_that_could_not_raise_the_score_of_a_worker_raises_that_of_the_next)
{
    pp_launcher *launcher = NULL;
    int score = read_score();
    pp__sys.open = open_score_later;
    CHECK_OK(pp_launcher_create(&(pp_launcher_options){.start_method = PP_START_FORK}, &launcher));
    pp__sys.open = open;
    CHECK_INT(score_of_worker(launcher), score);
    for (int i = 0; i < 3; i++)
        CHECK_INT(score_of_worker(launcher), score > 800 ? 1000 : score + 200);
    pp_launcher_unref(launcher);
}

/* ------------------------------------------------------------------------- ends and stops of a worker */

/*
 * What an end at the place costs once both workers are up: the call that had begun and not yet left its result, and no
 * other. `failed_runs`: whether the task had run.
 */
struct place {
    const char *name;
    unsigned failed;
    int failed_runs;
};

static const struct place places[] = {
    {"worker.begin.before", 0, 0},
    {"worker.begin.after", 1, 0},
    {"worker.publish.before", 1, 1},
    {"worker.publish.after", 0, 0},
};
enum { PLACES = sizeof places / sizeof *places };

static const char *const action_names[] = {"none", "kill", "stop", "exit", "abort"};

/* A pool with a fault armed in its workers: a fork shares the order, a fresh image reads it in its environment. */
static pp_pool *faulty_pool(pp_start_method method, const char *place, unsigned n, enum pp__fault_action action)
{
    char order[128];
    snprintf(order, sizeof order, "%s:%u:%s", place, n, action_names[action]);
    setenv("PROCPOOL_FAULT", order, 1);
    if (method == PP_START_FORK)
        pp__fault_arm(place, n, action);
    pp_pool *pool = kit_pool_with(method, (pp_pool_options){.max_workers = 2, .log = log_line});
    unsetenv("PROCPOOL_FAULT");
    return pool;
}

static void clear_board(void)
{
    for (uint32_t i = 0; i < RUNS + 2 * CALLS; i++)
        atomic_store(word(i), 0);
}

/* 1,000 calls, of which the first two hold both workers until all are submitted; so each worker is up, with its
 * readiness published. */
static void check_fault(pp_start_method method, const struct place *place, unsigned n, enum pp__fault_action action)
{
    static pp_future *futures[CALLS];
    clear_board();
    pp_pool *pool = faulty_pool(method, place->name, n, action);
    occupy_two(pool, futures);
    submit_all(pool, 2, CALLS, futures);
    open_gate(GATE);
    unsigned failed = check_ends(futures, CALLS, place->failed_runs);
    if (failed != place->failed)
        harness_fail(__FILE__, __LINE__, "%u calls failed, not %u, at %s, %u, %s", failed, place->failed, place->name,
                     n, action_names[action]);
    unref_all(futures, CALLS);
    expect_usable(pool);
    pp_pool_destroy(pool);
    pp__fault_disarm();
}

/* Each call begins and publishes once; each worker publishes once more that it is ready. */
static void check_faults(pp_start_method method, const struct place *place)
{
    static const unsigned hits[] = {3, 4, 57, 999, 1000};
    static const enum pp__fault_action actions[] = {PP__FAULT_KILL, PP__FAULT_EXIT};
    board_make();
    for (size_t i = 0; i < sizeof hits / sizeof *hits; i++)
        for (size_t j = 0; j < sizeof actions / sizeof *actions; j++)
            check_fault(method, place, hits[i], actions[j]);
    CHECK(is_logged("was killed by signal 9"));
    CHECK(is_logged("exited with status 0"));
}

FORKED_WITHIN(a_worker_that_ends_before_it_begins_a_call_costs_none, 30)
{
    check_faults(method, &places[0]);
}

FORKED_WITHIN(a_worker_that_ends_as_it_has_begun_a_call_costs_that_one, 30)
{
    check_faults(method, &places[1]);
}

FORKED_WITHIN(a_worker_that_ends_before_it_publishes_a_result_costs_that_call, 30)
{
    check_faults(method, &places[2]);
}

FORKED_WITHIN(a_worker_that_ends_when_it_has_published_a_result_costs_none, 30)
{
    check_faults(method, &places[3]);
}

/* The first hits are those of workers that are only coming up. */
FORKED_WITHIN(a_worker_that_ends_at_its_first_steps_costs_one_call_at_most, 30)
{
    static pp_future *futures[CALLS];
    board_make();
    for (size_t i = 0; i < PLACES; i++) {
        for (unsigned n = 1; n <= 2; n++) {
            clear_board();
            pp_pool *pool = faulty_pool(method, places[i].name, n, PP__FAULT_KILL);
            submit_all(pool, 0, CALLS, futures);
            CHECK(check_ends(futures, CALLS, -1) <= places[i].failed);
            unref_all(futures, CALLS);
            pp_pool_destroy(pool);
            pp__fault_disarm();
        }
    }
}

/* The pool's worker that has stopped; both ran one of the first two calls. */
static pid_t stopped_worker(void)
{
    for (uint32_t i = PIDS; i < PIDS + 2; i++)
        if (test_process_state((pid_t)read_word(i), NULL, NULL) == 'T')
            return (pid_t)read_word(i);
    return 0;
}

/*
 * All other calls are done while one worker stands still; the one that it had begun waits, and is done when it goes on.
 * Those that it had not begun have run elsewhere by then, so it must not begin them.
 */
static void check_stop(pp_start_method method, const struct place *place)
{
    static pp_future *futures[CALLS];
    board_make();
    pp_pool *pool = faulty_pool(method, place->name, 500, PP__FAULT_STOP);
    occupy_two(pool, futures);
    submit_all(pool, 2, CALLS, futures);
    open_gate(GATE);
    until(stopped_worker());
    pid_t stopped = stopped_worker();
    until(count_done(futures, CALLS) == CALLS - place->failed);
    CHECK_INT(stopped_worker(), stopped);
    CHECK_INT(kill(stopped, SIGCONT), 0);
    check_all_good(futures, CALLS);
    occupy(pool, BEGUN, GATE, 2, futures); /* the one that stood still works again */
    unref_all(futures, 2);
    pp_pool_destroy(pool);
    for (uint32_t i = 0; i < CALLS; i++)
        CHECK_INT(read_word(RUNS + i), 1);
}

FORKED_WITHIN(calls_that_a_stopped_worker_has_not_begun_run_elsewhere_and_once, 30)
{
    check_stop(method, &places[0]);
}

FORKED_WITHIN(a_worker_that_stops_as_it_has_begun_a_call_ends_it_later, 30)
{
    check_stop(method, &places[1]);
}

FORKED_WITHIN(a_worker_that_stops_with_a_result_in_hand_gives_it_later, 30)
{
    check_stop(method, &places[2]);
}

FORKED_WITHIN(a_worker_that_stops_when_it_has_published_has_given_its_result, 30)
{
    check_stop(method, &places[3]);
}

/* The pool has been idle, so nothing of it looks at the clock until there is a call. */
BOTH(a_call_that_nobody_waits_for_leaves_a_worker_that_stands_still)
{
    static pp_future *futures[2];
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    occupy_two(pool, futures);
    open_gate(GATE);
    check_all_good(futures, 2);
    test_sleep_ms(50);
    pid_t stopped = (pid_t)read_word(PIDS); /* the one that is given the first call */
    CHECK_INT(kill(stopped, SIGSTOP), 0);
    until(test_process_state(stopped, NULL, NULL) == 'T');
    pp_future *future = submit_u32(pool, count_run, RUNS + 10);
    until(pp_future_state(future) == PP_FINISHED);
    pp_future_unref(future);
    CHECK_INT(kill(stopped, SIGCONT), 0);
    pp_pool_destroy(pool);
    CHECK_INT(read_word(RUNS + 10), 1);
}

/* Every slot of a worker that stands still is used up by calls that were taken back from it. */
BOTH(a_worker_that_stands_still_and_has_no_room_left_does_not_hold_up_the_other)
{
    static pp_future *futures[2];
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    occupy_two(pool, futures);
    open_gate(GATE);
    check_all_good(futures, 2);
    pid_t stopped = (pid_t)read_word(PIDS);
    CHECK(stopped > 0);
    CHECK_INT(kill(stopped, SIGSTOP), 0);
    until(test_process_state(stopped, NULL, NULL) == 'T');
    for (uint32_t i = 0; i < 300; i++) {
        pp_future *future = submit_u32(pool, count_run, RUNS + 10);
        pp_future_cancel(future); /* refused where the other one was quick */
        pp_future_wait(future, -1);
        pp_future_unref(future);
    }
    uint32_t runs = read_word(RUNS + 10);
    for (uint32_t i = 0; i < 20; i++) {
        pp_future *future = submit_u32(pool, count_run, RUNS + 10);
        CHECK_INT(result_u32(future), RUNS + 10);
        pp_future_unref(future);
    }
    CHECK_INT(read_word(RUNS + 10), runs + 20);
    CHECK_INT(kill(stopped, SIGCONT), 0);
    pp_pool_destroy(pool);
    CHECK_INT(read_word(RUNS + 10), runs + 20);
}

/* Waiting threads take the collecting over from the pool's own, which must be there again when they have gone. */
BOTH(calls_that_nobody_waits_for_are_done_also_after_threads_that_gave_up_waiting)
{
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    for (uint32_t i = 0; i < 200; i++) {
        pp_future *slow, *quick;
        CHECK_INT(read_word(BEGUN), i);
        atomic_store(word(GATE), 0);
        occupy(pool, BEGUN, GATE, 1, &slow);
        CHECK_INT(pp_future_wait(slow, 1), -ETIMEDOUT);
        quick = submit_u32(pool, echo, i);
        open_gate(GATE);
        until(pp_future_state(quick) == PP_FINISHED);
        CHECK_INT(result_u32(slow), 0);
        CHECK_INT(result_u32(quick), i);
        pp_future_unref(slow);
        pp_future_unref(quick);
        if (i % 8 == 0)
            test_sleep_ms(10); /* and now and then it has been idle for long */
    }
    pp_pool_destroy(pool);
}

struct coming {
    uint32_t timeout;
    uint32_t times; /* so often, and ends there */
};

/* One element at most, wherever it ends. */
static void end_inside_chunks(pp_start_method method, const struct place *place, struct coming coming)
{
    static uint32_t inputs[CALLS], outputs[CALLS];
    for (uint32_t i = 0; i < CALLS; i++)
        inputs[i] = RUNS + i;
    clear_board();
    memset(outputs, 0, sizeof outputs);
    pp_pool *pool = faulty_pool(method, place->name, coming.times, PP__FAULT_KILL);
    ssize_t failed = pp_map_array(pool, count_run, inputs, CALLS, sizeof *inputs, outputs, sizeof *outputs,
                                  &(pp_map_options){.chunk_size = 50, .timeout = coming.timeout});
    CHECK_INT(CHECK_OK(failed), place->failed);
    for (uint32_t j = 0; j < CALLS; j++) {
        bool good = outputs[j] == inputs[j];
        CHECK_INT(read_word(inputs[j]), good ? 1 : (uint32_t)place->failed_runs);
        failed -= !good;
    }
    CHECK_INT(failed, 0);
    pp_pool_destroy(pool);
    pp__fault_disarm();
}

/* The elements of chunks begin and end like calls: one end of a worker costs one element at most. With a time limit
 * each is begun alone, without one short ones are begun together, and a worker comes to the place less often. */
FORKED_WITHIN(a_worker_that_ends_inside_a_chunk_costs_one_element_at_most, 30)
{
    static const struct place places_in_chunks[] = {{"worker.begin.before", 0, 0},
                                                    {"worker.begin.after", 1, 0},
                                                    {"worker.append.before", 1, 1},
                                                    {"worker.append.after", 0, 0}};
    board_make();
    for (size_t i = 0; i < sizeof places_in_chunks / sizeof *places_in_chunks; i++) {
        end_inside_chunks(method, &places_in_chunks[i], (struct coming){60000, 333});
        end_inside_chunks(method, &places_in_chunks[i], (struct coming){0, 25});
    }
}

/* ------------------------------------------------------------------------ ends and stops of the owner */

static bool is_cancelled(pp_future *future)
{
    int state = pp_future_state(future);
    return state == PP_CANCELLED || state == PP_CANCELLED_AND_NOTIFIED;
}

/* Short calls in quick succession lie in a worker's ring; cancelling them takes them back, as does a worker that is
 * busy for longer. The call that runs can't be taken back, which is certain to be tried. */
static void cancel_some(pp_pool *pool, pp_future **futures)
{
    submit_all(pool, 0, CALLS / 2, futures);
    CHECK_OK(pp_future_wait(futures[CALLS / 2 - 1], -1));
    for (uint32_t i = CALLS / 2; i < CALLS; i += 10) {
        futures[i] = submit_tracked(pool, i, GATE);
        submit_all(pool, i + 1, i + 10, futures);
        for (uint32_t j = i + 1; j < i + 10; j++)
            pp_future_cancel(futures[j]);
        until(read_word(BEGUN) == (i - CALLS / 2) / 10 + 1);
        CHECK_INT(pp_future_cancel(futures[i]), -EBUSY);
        open_gate(GATE);
        CHECK_INT(result_u32(futures[i]), i);
        atomic_store(word(GATE), 0);
    }
}

/* An owner in a process of its own. What it could check it says by its status. */
static _Noreturn void be_owner(pp_start_method method, const char *place, unsigned n, enum pp__fault_action action)
{
    static pp_future *futures[CALLS];
    bool cancels = strcmp(place, "take_back.before") == 0;
    pp_pool *pool = kit_pool(method, cancels ? 1 : 2);
    pp__fault_arm(place, n, action);
    if (cancels)
        cancel_some(pool, futures);
    else
        submit_all(pool, 0, CALLS, futures);
    for (uint32_t i = 0; i < CALLS; i++) {
        bool cancelled = is_cancelled(futures[i]);
        if (!cancelled)
            CHECK_INT(result_u32(futures[i]), i);
        CHECK_INT(read_word(RUNS + i), cancelled ? 0 : 1);
        pp_future_unref(futures[i]);
    }
    pp_pool_destroy(pool);
    _exit(0);
}

/* Waits for the owner and, since orphans come to this process, for all that it has left: none of it stays. */
static int end_of(pid_t owner)
{
    int status = -1, one;
    for (pid_t pid; (pid = waitpid(-1, &one, __WALL)) > 0 || errno == EINTR;)
        if (pid == owner)
            status = one;
    CHECK_INT(errno, ECHILD);
    return status;
}

static void check_owner(pp_start_method method, const char *place, unsigned n, enum pp__fault_action action)
{
    int status;
    clear_board();
    pid_t owner = fork();
    CHECK(owner >= 0);
    if (owner == 0)
        be_owner(method, place, n, action);
    if (action == PP__FAULT_STOP) {
        CHECK_INT(waitpid(owner, &status, WUNTRACED), owner);
        CHECK(WIFSTOPPED(status));
        CHECK_INT(kill(owner, SIGCONT), 0);
    }
    status = end_of(owner);
    if (action == PP__FAULT_KILL)
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    else
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK(pp__fault_hits() >= n);
    for (uint32_t i = 0; i < CALLS; i++)
        CHECK(read_word(RUNS + i) <= 1);
    pp__fault_disarm();
}

static void check_owners(pp_start_method method, const char *place, const unsigned *hits, size_t count)
{
    board_make();
    CHECK_INT(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    for (size_t i = 0; i < count; i++)
        for (int action = PP__FAULT_KILL; action <= PP__FAULT_EXIT; action++)
            check_owner(method, place, hits[i], (enum pp__fault_action)action);
}

BOTH_WITHIN(an_owner_that_ends_or_stops_before_it_publishes_a_call_leaves_nothing_or_goes_on, 60)
{
    check_owners(method, "send.publish.before", (unsigned[]){1, 2, 500, 1000}, 4);
}

BOTH_WITHIN(an_owner_that_ends_or_stops_before_it_takes_a_call_back_leaves_nothing_or_goes_on, 60)
{
    check_owners(method, "take_back.before", (unsigned[]){1, 2, 20}, 3);
}
