/* SPDX-License-Identifier: MIT */
/*
 * Workers that can't be started: fewer workers, later ones, and each call ends exactly once.
 *
 * needs: seams
 */
#include "accounts_kit.h"

#include "base/seam.h"

#include <sys/prctl.h>
#include <sys/resource.h>

/* Words of the board. Forks of the zygote are numbered from 0; those from FAIL_FROM to before FAIL_TO fail. */
enum { FORKS = OWN, FAIL_FROM, FAIL_TO, FORK_TIMES };
enum { CALLS = 1000, FORK_TIMES_MAX = 512 };

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
