/* SPDX-License-Identifier: MIT */
/*
 * Workers that the program has started by functions of its own: as images of itself, or as forks of a process that it
 * has made early for that. And what such functions can do wrong.
 */
#include "processes_kit.h"

#include <spawn.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>

extern char **environ;

/* What a test's starter does and has done; in the owner's memory, as the functions run in there. */
struct starting {
    int (*begin)(const char *invitation); /* NULL: nothing */
    int pipe;                             /* to the process that forks workers */
    int failures;                         /* of so many starts at first; -1: of all */
    uint32_t gate;                        /* where starts wait, a word of the board; 0: they do not */
    _Atomic int starts, stops, unknown;   /* unknown: stops of what was not started */
    int number;                           /* of the last one that was stopped */
    char invitations[64][160];            /* of those started; "": stopped since */
};

static struct starting starting;

static int start_one(void *context, const char *invitation, int number)
{
    struct starting *s = context;
    CHECK(strlen(invitation) < sizeof s->invitations[0] && number >= -1);
    int n = s->starts++;
    if (s->gate)
        wait_at(s->gate);
    if (s->failures < 0 || n < s->failures)
        return -EAGAIN;
    snprintf(s->invitations[n % 64], sizeof s->invitations[0], "%s", invitation);
    return s->begin ? s->begin(invitation) : 0;
}

static void stop_one(void *context, const char *invitation, int number)
{
    struct starting *s = context;
    bool known = false;
    for (int i = 0; i < 64 && !known; i++) {
        known = strcmp(s->invitations[i], invitation) == 0;
        if (known)
            s->invitations[i][0] = 0;
    }
    s->unknown += !known;
    s->number = number;
    s->stops++;
}

static pp_pool *starting_pool(int (*begin)(const char *), pp_pool_options options)
{
    const pp_starter starter = {.start = start_one, .stop = stop_one, .context = &starting};
    pp_launcher *launcher;
    share();
    starting.begin = begin;
    const pp_launcher_options wanted = {.starter = &starter, .inherit_fds = board_fds, .inherit_fd_count = 1};
    CHECK_OK(pp_launcher_create(&wanted, &launcher));
    options.launcher = launcher;
    pp_pool *pool = open_pool(options, 0);
    pp_launcher_unref(launcher);
    return pool;
}

/* Every start that went well has had its stop, and what was started has ended. */
static void end_pool(pp_pool *pool)
{
    pp_pool_destroy(pool);
    CHECK_INT(starting.unknown, 0);
    for (int i = 0; i < 64; i++)
        CHECK_STR(starting.invitations[i], "");
    wait_until(count_descendants_named(getppid(), "pp-worker") == 0, 10);
}

/* ---------------------------------------------------------------------------------------------- two ways */

/* An image of this program, which finds the invitation in its environment; nobody reaps it but the test's runner. */
static int begin_image(const char *invitation)
{
    char text[200], path[4096];
    char *words[] = {"starter", NULL}, *environment[3] = {text, NULL, NULL};
    posix_spawnattr_t attributes;
    sigset_t none;
    pid_t pid;
    snprintf(text, sizeof text, "PROCPOOL_INVITATION=%s", invitation);
    sigemptyset(&none);
    CHECK_INT(posix_spawnattr_init(&attributes), 0);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    posix_spawnattr_setsigmask(&attributes, &none);
    int error = posix_spawn(&pid, test_program(path), NULL, &attributes, words, environment);
    posix_spawnattr_destroy(&attributes);
    return -error;
}

/* Forks a worker for each invitation that comes, until the pipe ends. */
static _Noreturn void fork_workers(int pipe)
{
    char invitation[160];
    while (read(pipe, invitation, sizeof invitation) == sizeof invitation) {
        if (fork() != 0)
            continue;
        close(pipe);
        pp_worker_attach(invitation);
        _exit(125);
    }
    _exit(0);
}

/* Before the pool. It ends with the test. */
static void make_forking_process(void)
{
    int ends[2];
    share();
    CHECK_INT(pipe(ends), 0);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        close(ends[1]);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        signal(SIGCHLD, SIG_IGN);
        fork_workers(ends[0]);
    }
    close(ends[0]);
    starting.pipe = ends[1];
}

static int begin_fork(const char *invitation)
{
    char text[160] = "";
    snprintf(text, sizeof text, "%s", invitation);
    return write(starting.pipe, text, sizeof text) == sizeof text ? 0 : -errno;
}

/* The same test of both. */
#define BOTH_WAYS(name)                                                                                                \
    static void way__##name(int (*begin)(const char *));                                                               \
    TEST_WITHIN(name##_as_images, 30)                                                                                  \
    {                                                                                                                  \
        signal(SIGCHLD, SIG_IGN);                                                                                      \
        way__##name(begin_image);                                                                                      \
    }                                                                                                                  \
    TEST_WITHIN(name##_as_forks, 30)                                                                                   \
    {                                                                                                                  \
        make_forking_process();                                                                                        \
        way__##name(begin_fork);                                                                                       \
    }                                                                                                                  \
    static void way__##name(int (*begin)(const char *))

/* ---------------------------------------------------------------------------------------------- what works */

BOTH_WAYS(workers_that_the_program_starts_run_calls)
{
    pid_t pids[2];
    pp_pool *pool = starting_pool(begin, (pp_pool_options){.max_workers = 2, .standby = PP_STANDBY_NEVER});
    start_workers(pool, 0, 2, pids);
    CHECK(pids[0] != pids[1]);
    for (int i = 0; i < 100; i++)
        CHECK_INT(take_int(submit_int(pool, task_square, i)), i * i);
    CHECK_INT(starting.starts, 2);
    CHECK_INT(starting.stops, 0);
    end_pool(pool);
    CHECK_INT(starting.starts, 2);
    CHECK_INT(starting.stops, 2);
    CHECK(starting.number == 0 || starting.number == 1);
}

/* One that has nothing of the test's. */
static _Noreturn int hang(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    pause_for_ever();
}

BOTH_WAYS(each_that_ends_is_stopped_and_replaced)
{
    pp_pool *pool = starting_pool(begin, (pp_pool_options){.max_workers = 1});
    const pp_call hangs = {.function = hang, .timeout = 50};
    pp_future *future;
    expect_end(submit(pool, crash, NULL, 0), -EOWNERDEAD);
    until(starting.stops == 1);
    CHECK_OK(pp_submit_call(pool, &hangs, &future));
    expect_end(future, -ETIME);
    until(starting.stops == 2);
    CHECK_INT(take_int(submit_int(pool, task_square, 9)), 81);
    end_pool(pool);
    CHECK_INT(starting.stops, starting.starts);
}

BOTH_WAYS(no_worker_that_the_program_starts_outlives_it)
{
    share();
    pid_t owner = fork();
    CHECK(owner >= 0);
    if (owner == 0) {
        pid_t pids[2];
        if (begin == begin_fork)
            make_forking_process();
        start_workers(starting_pool(begin, (pp_pool_options){.max_workers = 2}), 0, 2, pids);
        shared()->pid[0] = pids[0];
        shared()->pid[1] = pids[1];
        kill(pids[1], SIGSTOP);
        shared()->arrived[15] = 1;
        pause_for_ever();
    }
    gate_wait_arrived(15, 1);
    kill(owner, SIGKILL);
    CHECK(begin == begin_image || WIFSIGNALED(wait_for(owner)));
    for (int i = 0; i < 2; i++)
        wait_until(is_gone(shared()->pid[i]), 10);
}

TEST(in_a_pool_of_an_event_loop_workers_are_started_in_its_dispatch)
{
    make_forking_process();
    pp_pool *pool = starting_pool(begin_fork, (pp_pool_options){.max_workers = 1, .event_loop = 1});
    int threads = thread_count();
    pp_future *future = submit_int(pool, task_square, 3);
    while (pp_pool_dispatch(pool) > 0)
        test_sleep_ms(1);
    CHECK_INT(take_int(future), 9);
    CHECK_INT(thread_count(), threads);
    end_pool(pool);
    CHECK_INT(starting.stops, starting.starts);
}

static void wait_for_result_of(pp_pool *pool)
{
    CHECK_INT(take_int(submit_int(pool, task_square, 3)), 9);
}

static void wait_for_array(pp_pool *pool)
{
    const int numbers[] = {3, 4};
    int squares[2];
    CHECK_OK(pp_map_array(pool, task_square, numbers, 2, sizeof *numbers, squares, sizeof *squares, NULL));
    CHECK_INT(squares[1], 16);
}

static void wait_for_end(pp_pool *pool)
{
    pp_future *future = submit_int(pool, task_square, 3);
    CHECK_OK(pp_pool_shutdown(pool, 0, -1));
    CHECK_INT(take_int(future), 9);
}

/* In pp_wait, of more pools than one. */
static void wait_beside_another(pp_pool *pool)
{
    pp_pool *other = open_pool((pp_pool_options){.max_workers = 1}, 0);
    pp_future *futures[] = {submit_int(pool, task_square, 3), submit_int(other, task_square, 4)};
    CHECK_INT(pp_wait(futures, 2, PP_ALL_COMPLETED, -1, NULL), 2);
    CHECK_INT(take_int(futures[0]), 9);
    CHECK_INT(take_int(futures[1]), 16);
    pp_pool_destroy(other);
}

static void destroy_only(pp_pool *pool)
{
    pp_future_unref(submit_int(pool, task_square, 3)); /* a call that was accepted is run */
}

TEST_WITHIN(in_a_pool_of_an_event_loop_workers_are_started_by_those_who_wait_without_a_dispatch, 30)
{
    static void (*const waits[])(pp_pool *) = {wait_for_result_of, wait_for_array, wait_for_end, wait_beside_another,
                                               destroy_only};
    make_forking_process();
    for (int i = 0; i < 5; i++) {
        pp_pool *pool = starting_pool(begin_fork, (pp_pool_options){.max_workers = 1, .event_loop = 1});
        waits[i](pool);
        end_pool(pool);
        CHECK_INT(starting.starts, i + 1);
        CHECK_INT(starting.stops, i + 1);
    }
}

static void *wait_aside(void *future)
{
    CHECK_INT(take_int(future), 9);
    return NULL;
}

/* In one of the threads that wait: another one collects meanwhile. */
TEST(a_start_that_takes_long_holds_up_no_other_thread_that_waits)
{
    enum { GATE = BOARD_WORDS - 8 };
    make_forking_process();
    pp_pool *pool = starting_pool(begin_fork, (pp_pool_options){.max_workers = 2, .event_loop = 1});
    wait_for_result_of(pool);
    starting.gate = GATE;
    pp_future *first = submit_int(pool, task_gate, 3);
    gate_wait_arrived(3, 1);
    pthread_t thread = start_thread(wait_aside, submit_int(pool, task_square, 3));
    until(starting.starts == 2);
    gate_open(3);
    CHECK(take_int(first) > 0);
    open_gate(GATE);
    join_thread(thread);
    end_pool(pool);
}

/* A thread that waits sees the end, and nobody dispatches after that. */
TEST(a_pool_of_an_event_loop_that_is_released_after_its_end_stops_what_was_started)
{
    make_forking_process();
    pp_pool *pool = starting_pool(begin_fork, (pp_pool_options){.max_workers = 1, .event_loop = 1});
    pp_future *future = submit_int(pool, task_square, 3);
    while (pp_pool_dispatch(pool) > 0)
        test_sleep_ms(1);
    CHECK_INT(take_int(future), 9);
    CHECK_OK(pp_pool_shutdown(pool, 0, -1));
    CHECK_INT(starting.stops, 0);
    pp_pool_release(pool);
    CHECK_INT(starting.stops, starting.starts);
}

TEST(without_a_stop_function_nothing_is_stopped)
{
    pp_launcher *launcher;
    make_forking_process();
    starting.begin = begin_fork;
    const pp_starter starter = {.start = start_one, .context = &starting};
    CHECK_OK(
        pp_launcher_create(&(pp_launcher_options){.start_method = PP_START_SPAWN, .starter = &starter}, &launcher));
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 1, .launcher = launcher}, 0);
    pp_launcher_unref(launcher);
    CHECK_INT(take_int(submit_int(pool, task_square, 3)), 9);
    pp_pool_destroy(pool);
    CHECK_INT(starting.stops, 0);
    wait_until(count_descendants_named(getppid(), "pp-worker") == 0, 10);
}

TEST(another_method_in_the_environment_starts_workers_without)
{
    CHECK_INT(setenv("PROCPOOL_START", "fork", 1), 0);
    pp_pool *pool = starting_pool(NULL, (pp_pool_options){.max_workers = 1});
    CHECK_INT(take_int(submit_int(pool, task_square, 3)), 9);
    end_pool(pool);
    CHECK_INT(starting.starts, 0);
}

/* ------------------------------------------------------------------------------------- what can go wrong */

static void expect_broken(pp_pool *pool, const char *part)
{
    pp_future *future = submit(pool, nothing, NULL, 0);
    CHECK_HAS(error_of(future, PP_ERROR_BROKEN)->message, part);
    pp_future_unref(future);
    end_pool(pool);
}

/* For more than one try, where all takes longer, too. */
static uint32_t start_time(void)
{
    return 500 * harness_scale();
}

TEST(starts_that_fail_are_tried_again_and_break_the_pool_in_time)
{
    char message[128];
    starting.failures = -1;
    pp_pool *pool = starting_pool(NULL, (pp_pool_options){.max_workers = 1, .start_timeout = start_time()});
    snprintf(message, sizeof message, "no worker could be started for %u ms: Resource temporarily unavailable",
             start_time());
    expect_broken(pool, message);
    CHECK(starting.starts > 1);
    CHECK_INT(starting.stops, 0);
}

TEST(a_start_that_fails_at_first_delays_its_worker)
{
    make_forking_process();
    starting.failures = 3;
    pp_pool *pool = starting_pool(begin_fork, (pp_pool_options){.max_workers = 1, .standby = PP_STANDBY_NEVER});
    CHECK_INT(take_int(submit_int(pool, task_square, 3)), 9);
    end_pool(pool);
    CHECK_INT(starting.starts, 4);
    CHECK_INT(starting.stops, 1);
}

TEST(a_worker_that_never_attaches_breaks_the_pool_in_time_and_is_stopped)
{
    char message[64];
    pp_pool *pool = starting_pool(NULL, (pp_pool_options){.max_workers = 1, .start_timeout = start_time()});
    snprintf(message, sizeof message, "did not come within %u ms (start_timeout)", start_time());
    expect_broken(pool, message);
    CHECK_INT(starting.starts, 1);
    CHECK_INT(starting.stops, 1);
}

TEST(a_worker_that_never_attaches_is_not_waited_for_when_nothing_is_to_be_run)
{
    pp_pool *pool = starting_pool(NULL, (pp_pool_options){.max_workers = 1});
    pp_future *future = submit_u32(pool, echo, 1);
    CHECK_INT(pp_future_wait(future, 20), -ETIMEDOUT);
    CHECK_OK(pp_pool_shutdown(pool, PP_CANCEL_PENDING, 5000));
    expect_end(future, -ECANCELED);
    end_pool(pool);
}

static char late[160];

static int keep_for_later(const char *invitation)
{
    snprintf(late, sizeof late, "%s", invitation);
    return 0;
}

TEST(who_attaches_when_it_is_not_wanted_any_more_is_refused)
{
    pp_pool *other;
    pp_launcher *launcher;
    const pp_starter starter = {.start = start_one, .stop = stop_one, .context = &starting};
    share();
    starting.begin = keep_for_later;
    CHECK_OK(pp_launcher_create(&(pp_launcher_options){.starter = &starter}, &launcher));
    pp_pool *pool =
        open_pool((pp_pool_options){.launcher = launcher, .max_workers = 1, .start_timeout = start_time()}, 0);
    drop_failed(submit(pool, nothing, NULL, 0), PP_ERROR_BROKEN);
    pp_pool_destroy(pool);
    CHECK_INT(starting.stops, 1);
    pid_t pid = fork();
    if (pid == 0)
        _exit(-pp_worker_attach(late));
    CHECK_INT(WEXITSTATUS(wait_for(pid)), EACCES);
    other = open_pool((pp_pool_options){.launcher = launcher, .max_workers = 1}, 0);
    pp_pool_destroy(other); /* the launcher is as good as it was */
    pp_launcher_unref(launcher);
}

static void expect_attach_to_fail(const char *invitation, int code)
{
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0)
        _exit(-pp_worker_attach(invitation));
    int status = wait_for(pid);
    CHECK(WIFEXITED(status));
    CHECK_INT(WEXITSTATUS(status), -code);
}

TEST(an_invitation_is_followed_once)
{
    make_forking_process();
    pp_pool *pool = starting_pool(begin_fork, (pp_pool_options){.max_workers = 1, .standby = PP_STANDBY_NEVER});
    CHECK_INT(take_int(submit_int(pool, task_square, 3)), 9);
    expect_attach_to_fail(starting.invitations[0], -EALREADY);
    CHECK_INT(take_int(submit_int(pool, task_square, 4)), 16);
    end_pool(pool);
}

/* Who listens where a pool of another build might, and its invitation. */
static int listen_as_another(char *invitation, size_t size)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int length = snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "procpool-test-%d", (int)getpid());
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    CHECK_INT(bind(fd, (struct sockaddr *)&address, offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length), 0);
    CHECK_INT(listen(fd, 1), 0);
    snprintf(invitation, size, "%s:%032d", address.sun_path + 1, 0);
    return fd;
}

static void *answer_in_other_words(void *listening)
{
    char word[4096];
    int line = accept(*(int *)listening, NULL, NULL);
    CHECK(line >= 0 && recv(line, word, sizeof word, 0) > 0);
    CHECK_INT(send(line, "other", 5, MSG_NOSIGNAL), 5);
    close(line);
    return NULL;
}

TEST(a_pool_of_another_build_is_not_joined)
{
    char invitation[160];
    int listening = listen_as_another(invitation, sizeof invitation);
    pthread_t thread = start_thread(answer_in_other_words, &listening);
    expect_attach_to_fail(invitation, -EPROTO);
    join_thread(thread);
    close(listening);
    expect_attach_to_fail(invitation, -ECONNREFUSED);
}

TEST_WITHIN(a_pool_that_does_not_answer_is_not_waited_for_for_ever, 40)
{
    char invitation[160];
    int listening = listen_as_another(invitation, sizeof invitation);
    expect_attach_to_fail(invitation, -ETIMEDOUT);
    close(listening);
}

/* Its worker is not wanted any more when it returns. */
TEST(a_start_that_takes_longer_than_its_pool_is_stopped_at_once)
{
    enum { GATE = BOARD_WORDS - 8 };
    starting.gate = GATE;
    pp_pool *pool = starting_pool(NULL, (pp_pool_options){.max_workers = 1});
    pp_future *future = submit(pool, nothing, NULL, 0);
    until(starting.starts == 1);
    CHECK_OK(pp_pool_kill(pool));
    expect_end(future, -ECANCELED);
    CHECK_OK(pp_pool_shutdown(pool, 0, -1));
    CHECK_INT(starting.stops, 0);
    open_gate(GATE);
    end_pool(pool);
    CHECK_INT(starting.stops, 1);
}

TEST(wrong_starters_are_refused)
{
    static const char *const command[] = {"true", NULL};
    const pp_starter none = {.stop = stop_one}, starter = {.start = start_one};
    const pp_launcher_options bad[] = {{.starter = &none},
                                       {.starter = &starter, .command = command},
                                       {.starter = &starter, .start_method = PP_START_FORK},
                                       {.starter = &starter, .start_method = PP_START_FORKSERVER},
                                       {.starter = &starter, .start_method = PP_START_INLINE}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        pp_launcher *launcher = NULL;
        CHECK_INT(pp_launcher_create(&bad[i], &launcher), -EINVAL);
        CHECK(launcher == NULL);
        CHECK_HAS(pp_last_error(), "starter");
    }
}
