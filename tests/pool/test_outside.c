/* SPDX-License-Identifier: MIT */
/*
 * Workers that another program starts: by the launcher's command, whose words lead to this program again, at once,
 * through others that stay its parents, or through one that has gone by then. And what such a program can do wrong.
 */
#include "processes_kit.h"

#include "pool/pool.h"
#include "process/wire.h"

#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

/* Words of the board behind `struct shared`. */
enum { CODE = BOARD_WORDS - 64, TRIED, GO, STARTS, PARENT, WORKER, ORPHAN };

#define ATTACH "PP_TEST_ATTACH"

static const char *const by_nice[] = {"nice", "-n", "3", "{}", NULL};
static const char *const by_parent[] = {"sh", "-c", "\"$0\"; exit 0", "{}", NULL};
static const char *const handed_over[] = {"sh", "-c", "setsid \"$0\" & exit 0", "{}", NULL};

static const struct {
    const char *name;
    const char *const *command;
} ways[] = {{"by nice", by_nice}, {"by a parent that stays", by_parent}, {"by one that has gone", handed_over}};
enum { WAYS = sizeof ways / sizeof *ways };

static pp_pool *outside_pool(const char *const *command, pp_pool_options options)
{
    pp_launcher *launcher;
    share();
    const pp_launcher_options wanted = {.command = command, .inherit_fds = board_fds, .inherit_fd_count = 1};
    CHECK_OK(pp_launcher_create(&wanted, &launcher));
    options.launcher = launcher;
    pp_pool *pool = open_pool(options, 0);
    pp_launcher_unref(launcher);
    return pool;
}

/* ------------------------------------------------------------------------- programs that the command starts */

static void note_code(int code)
{
    atomic_store(word(CODE), (uint32_t)-code);
    add(TRIED);
}

static int connect_raw(const char *invitation)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *end = strchr(invitation, ':');
    size_t length = (size_t)(end - invitation);
    memcpy(address.sun_path + 1, invitation, length);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    CHECK_INT(
        connect(fd, (struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length)), 0);
    return fd;
}

static _Noreturn void attach(void)
{
    pp_worker_attach(NULL);
    _exit(125);
}

static void attach_wrongly(char *invitation)
{
    char *last = invitation + strlen(invitation) - 1;
    char right = *last;
    *last = right == '0' ? '1' : '0';
    note_code(pp_worker_attach(invitation));
    *last = right;
    attach();
}

/* A child of this process becomes the worker; then this process wants to be it as well. */
static void attach_twice(char *invitation)
{
    if (fork() == 0)
        attach();
    while (!read_word(GO))
        test_sleep_ms(1);
    note_code(pp_worker_attach(invitation));
    for (;;)
        pause();
}

static _Noreturn void die_half_way(char *invitation)
{
    struct pp__wire_plan plan;
    struct pp__wire_knock knock = {.type = PP__WIRE_KNOCK, .plan_size = sizeof plan};
    int fd = connect_raw(invitation);
    memcpy(knock.nonce, strchr(invitation, ':') + 1, sizeof knock.nonce);
    CHECK_INT(send(fd, &knock, sizeof knock, 0), sizeof knock);
    CHECK_INT(recv(fd, &plan, sizeof plan, 0), sizeof plan);
    add(TRIED);
    _exit(0);
}

/* What it sends is no knock, many times; then it joins after all. */
static void knock_badly(char *invitation)
{
    struct pp__wire_knock knock = {.type = PP__WIRE_KNOCK, .plan_size = 1};
    char answer[sizeof(struct pp__wire_plan)];
    int silent[80];
    for (int i = 0; i < 80; i++)
        silent[i] = connect_raw(invitation);
    int fd = connect_raw(invitation);
    CHECK_INT(send(fd, "x", 1, 0), 1);
    CHECK_INT(recv(fd, answer, sizeof answer, 0), sizeof answer);
    CHECK_INT(((struct pp__wire_plan *)(void *)answer)->error, -EPROTO);
    CHECK_INT(recv(fd, answer, sizeof answer, 0), 0);
    close(fd);
    fd = connect_raw(invitation);
    CHECK_INT(send(fd, &knock, sizeof knock, 0), sizeof knock);
    CHECK_INT(recv(fd, answer, sizeof answer, 0), sizeof answer);
    CHECK_INT(((struct pp__wire_plan *)(void *)answer)->error, -EPROTO);
    close(fd);
    for (int i = 0; i < 80; i++)
        close(silent[i]);
    add(TRIED);
    attach();
}

/* As another user it is not heard, whatever it knows. */
static void knock_as_stranger(char *invitation)
{
    pid_t pid = fork();
    if (pid == 0) {
        char answer[sizeof(struct pp__wire_plan)];
        CHECK_INT(setgid(65534) | setuid(65534), 0);
        int fd = connect_raw(invitation);
        CHECK_INT(recv(fd, answer, sizeof answer, 0), 0);
        CHECK_INT(pp_worker_attach(invitation), -EACCES);
        _exit(0);
    }
    atomic_store(word(CODE), (uint32_t)wait_for(pid));
    add(TRIED);
    attach();
}

/* Its pool has given it up by then. */
static _Noreturn void attach_late(char *invitation)
{
    while (!read_word(GO))
        test_sleep_ms(1);
    note_code(pp_worker_attach(invitation));
    _exit(0);
}

static void wait_to_go(uint32_t step)
{
    while (read_word(GO) < step)
        test_sleep_ms(1);
}

static pid_t fork_noted(int at)
{
    pid_t pid = fork();
    if (pid == 0)
        atomic_store(word(at), (uint32_t)getpid());
    return pid;
}

/* A child of this process says that it has joined; an orphan, which the zygote has to reap, dies before that; this
 * process fails after it. */
static _Noreturn void join_step_by_step(char *invitation)
{
    atomic_store(word(PARENT), (uint32_t)getpid());
    pid_t between = fork();
    if (between == 0) {
        if (fork_noted(ORPHAN) == 0)
            wait_to_go(1);
        _exit(0);
    }
    wait_for(between);
    if (fork_noted(WORKER) == 0) {
        struct pp__wire_plan plan;
        struct pp__wire_knock knock = {.type = PP__WIRE_KNOCK, .plan_size = sizeof plan};
        struct pp__wire_joined joined = {.type = PP__WIRE_JOINED};
        int fd = connect_raw(invitation);
        memcpy(knock.nonce, strchr(invitation, ':') + 1, sizeof knock.nonce);
        CHECK_INT(send(fd, &knock, sizeof knock, 0), sizeof knock);
        CHECK_INT(recv(fd, &plan, sizeof plan, 0), sizeof plan);
        add(TRIED);
        wait_to_go(2);
        CHECK_INT(send(fd, &joined, sizeof joined, 0), sizeof joined);
        add(TRIED);
        pause_for_ever();
    }
    wait_to_go(3);
    _exit(1);
}

static void note_errors(void)
{
    CHECK_INT(pp_worker_attach("nonsense"), -EINVAL);
    CHECK_HAS(pp_last_error(), "nonsense");
    CHECK_INT(pp_worker_attach(":00000000000000000000000000000000"), -EINVAL);
    CHECK_INT(pp_worker_attach("procpool-nobody:00000000000000000000000000000000"), -ECONNREFUSED);
    char text[512];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = 0;
    CHECK_INT(pp_worker_attach(text), -EINVAL);
}

__attribute__((constructor)) static void attach_as_told(void)
{
    const char *how = getenv(ATTACH), *invitation = getenv("PROCPOOL_INVITATION");
    char copy[256];
    if (!how || !invitation)
        return;
    add(STARTS);
    snprintf(copy, sizeof copy, "%s", invitation);
    if (strcmp(how, "wrongly") == 0)
        attach_wrongly(copy);
    if (strcmp(how, "twice") == 0)
        attach_twice(copy);
    if (strcmp(how, "half") == 0)
        die_half_way(copy);
    if (strcmp(how, "badly") == 0)
        knock_badly(copy);
    if (strcmp(how, "late") == 0)
        attach_late(copy);
    if (strcmp(how, "steps") == 0)
        join_step_by_step(copy);
    if (strcmp(how, "stranger") == 0)
        knock_as_stranger(copy);
}

/* ---------------------------------------------------------------------------------------------- what works */

static int task_niceness(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    int value = getpriority(PRIO_PROCESS, 0);
    return pp_task_return(task, &value, sizeof value);
}

TEST(a_command_starts_workers_which_have_what_it_gives_them)
{
    int before = getpriority(PRIO_PROCESS, 0), expected = before + 3 < 19 ? before + 3 : 19;
    pp_pool *pool = outside_pool(by_nice, (pp_pool_options){.max_workers = 2});
    CHECK_INT(take_int(submit(pool, task_niceness, NULL, 0)), expected);
    CHECK_INT(take_int(submit_int(pool, task_square, 12)), 144);
    pp_pool_destroy(pool);
    wait_until(count_descendants_named(getppid(), "pp-") == 0, 10);
}

static int task_environment(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    int found = getenv("PROCPOOL_INVITATION") != NULL;
    return pp_task_return(task, &found, sizeof found);
}

static void use_way(const char *const *command)
{
    pid_t pids[2], again[2];
    pp_pool *pool = outside_pool(command, (pp_pool_options){.max_workers = 2});
    memset(shared(), 0, sizeof *shared());
    start_workers(pool, 0, 2, pids);
    CHECK(pids[0] != pids[1]);
    CHECK_INT(take_int(submit(pool, task_environment, NULL, 0)), 0);
    for (int i = 0; i < 100; i++)
        CHECK_INT(take_int(submit_int(pool, task_square, i)), i * i);
    start_workers(pool, 1, 2, again);
    CHECK((again[0] == pids[0] && again[1] == pids[1]) || (again[0] == pids[1] && again[1] == pids[0]));
    pp_pool_destroy(pool);
    for (int i = 0; i < 2; i++)
        wait_until(is_gone(pids[i]), 10);
}

TEST_WITHIN(workers_run_calls_whichever_way_they_came, 30)
{
    for (int i = 0; i < WAYS; i++)
        use_way(ways[i].command);
}

/* One that has nothing of the test's. */
static _Noreturn int hang(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    pause_for_ever();
}

/* One killed inside a call, one that outlives its timeout, one killed idle: each costs what it had and is replaced. */
static void kill_on_way(const char *const *command)
{
    pp_pool *pool = outside_pool(command, (pp_pool_options){.max_workers = 1});
    const pp_call hangs = {.function = hang, .timeout = 50};
    pp_future *future;
    expect_end(submit(pool, crash, NULL, 0), -EOWNERDEAD);
    CHECK_OK(pp_submit_call(pool, &hangs, &future));
    expect_end(future, -ETIME);
    pid_t pid = take_int(submit(pool, task_pid, NULL, 0));
    kill(pid, SIGKILL);
    wait_until(!test_process_alive(pid), 10);
    int value = -1;
    future = submit_int(pool, task_square, 9); /* may have met the dead one */
    int code = pp_future_result(future, -1, &value, sizeof value, NULL);
    CHECK(code == -EOWNERDEAD || value == 81);
    pp_future_unref(future);
    CHECK(take_int(submit(pool, task_pid, NULL, 0)) != pid);
    pp_pool_destroy(pool);
}

TEST_WITHIN(ends_of_workers_are_noticed_whichever_way_they_came, 30)
{
    for (int i = 0; i < WAYS; i++)
        kill_on_way(ways[i].command);
}

static int task_segv(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    raise(SIGSEGV);
    return 0;
}

/* Its parent, which alone could, does not ask how it has ended. */
TEST(of_a_crash_that_no_parent_tells_of_the_worker_tells_itself)
{
    static const char *const command[] = {"sh", "-c", "\"$0\" & kill -STOP $$", "{}", NULL};
    if (TEST_ON_VALGRIND || KIT_ASAN)
        LEFT_OUT("the tool has a handler of its own");
    pp_pool *pool = outside_pool(command, (pp_pool_options){.max_workers = 1});
    pp_future *future = submit(pool, task_segv, NULL, 0);
    const pp_error *error = error_of(future, PP_ERROR_CRASH);
    CHECK_INT(error->signal, SIGSEGV);
    CHECK_INT(error->status, -1);
    CHECK_HAS(error->message, "was killed by signal 11");
    CHECK_HAS(pp_error_backtrace(error), " task_segv ");
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

/* One that nobody tells of, with no trace or one of no crash, has ended in an unknown way. */
TEST(of_a_kill_that_no_parent_tells_of_nothing_is_known)
{
    static const char *const command[] = {"sh", "-c", "\"$0\" & kill -STOP $$", "{}", NULL};
    pp_pool *pool = outside_pool(command, (pp_pool_options){.max_workers = 1});
    pp_future *future = submit(pool, crash, NULL, 0);
    const pp_error *error = error_of(future, PP_ERROR_CRASH);
    CHECK(error->signal == 0 || error->signal == SIGKILL); /* newer kernels tell */
    CHECK_STR(pp_error_backtrace(error), "");
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

/* ------------------------------------------------------------------------------------------- no orphans */

enum { WORKERS = 2 };

static int task_deaf(pp_task *task, const void *arg, size_t size)
{
    sigset_t all;
    (void)task, (void)arg, (void)size;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    for (int i = 1; i < NSIG; i++)
        signal(i, SIG_IGN);
    add(TRIED);
    for (volatile int i = 1; i > 0; i = i < 1000 ? i + 1 : 1)
        test_sleep_ms(1);
    return 0;
}

/* Its workers are deaf, or stopped. It says so by a gate, and stays. */
static _Noreturn void own(const char *const *command, bool stopped)
{
    pid_t pids[WORKERS];
    pp_pool *pool = outside_pool(command, (pp_pool_options){.max_workers = WORKERS});
    start_workers(pool, 0, WORKERS, pids);
    for (int i = 0; i < WORKERS; i++) {
        shared()->pid[i] = pids[i];
        if (stopped)
            kill(pids[i], SIGSTOP);
        else
            submit(pool, task_deaf, NULL, 0);
    }
    wait_until(stopped || read_word(TRIED) == WORKERS, 10);
    shared()->arrived[15] = 1;
    for (;;)
        pause();
}

static pid_t find_zygote(void)
{
    char name[64] = "";
    for (int i = 0;; i++) {
        pid_t child = children_of(getppid(), i);
        if (test_process_state(child, NULL, name) && strcmp(name, "pp-zygote") == 0)
            return child;
    }
}

static void kill_owner(const char *const *command, bool stopped, bool zygote_too)
{
    share();
    memset(shared(), 0, sizeof *shared());
    atomic_store(word(TRIED), 0);
    pid_t owner = fork();
    CHECK(owner >= 0);
    if (owner == 0)
        own(command, stopped);
    gate_wait_arrived(15, 1);
    if (zygote_too)
        kill(find_zygote(), SIGKILL);
    kill(owner, SIGKILL);
    CHECK(WIFSIGNALED(wait_for(owner)));
    for (int i = 0; i < WORKERS; i++)
        wait_until(is_gone(shared()->pid[i]), 10);
    wait_until(count_descendants_named(getppid(), "pp-") == 0, 10);
}

TEST_WITHIN(no_worker_outlives_its_owner_whichever_way_it_came, 60)
{
    for (int i = 0; i < WAYS * 4; i++)
        kill_owner(ways[i / 4].command, i & 1, i & 2);
}

/* ------------------------------------------------------------------------------------- what can go wrong */

static void expect_broken(pp_pool *pool, const char *part)
{
    pp_future *future = submit(pool, nothing, NULL, 0);
    const pp_error *error = error_of(future, PP_ERROR_BROKEN);
    CHECK_HAS(error->message, part);
    pp_future_unref(future);
    CHECK_INT(pp_submit(pool, nothing, NULL, 0, NULL), -ENOTRECOVERABLE);
    pp_pool_destroy(pool);
    wait_until(count_descendants_named(getppid(), "pp-") == 0, 10);
}

TEST(a_command_that_is_not_there_breaks_the_pool_with_the_errno)
{
    static const char *const command[] = {"procpool-no-such-program", "{}", NULL};
    expect_broken(outside_pool(command, (pp_pool_options){.max_workers = 1}),
                  "could not run its program: No such file or directory");
}

TEST(a_command_that_fails_breaks_the_pool_with_its_status)
{
    static const char *const command[] = {"sh", "-c", "exit 42", NULL};
    expect_broken(outside_pool(command, (pp_pool_options){.max_workers = 1}),
                  "exited with status 42 without having joined the pool");
}

TEST(a_command_that_starts_nothing_breaks_the_pool_in_time)
{
    static const char *const command[] = {"true", NULL};
    expect_broken(outside_pool(command, (pp_pool_options){.max_workers = 2, .start_timeout = 200}),
                  "did not come within 200 ms (start_timeout)");
}

TEST(a_program_that_never_joins_breaks_the_pool_in_time_and_is_killed)
{
    static const char *const command[] = {"sh", "-c", "exec sleep 1000", NULL};
    expect_broken(outside_pool(command, (pp_pool_options){.max_workers = 2, .start_timeout = 200}),
                  "did not come within 200 ms (start_timeout)");
    wait_until(count_descendants_named(getppid(), "sleep") == 0, 10);
}

/* The first start is good, the others are not; and the pool needs none of them. */
TEST(a_standby_that_never_joins_is_killed_in_time_and_the_pool_goes_on)
{
    char directory[] = "/tmp/pp-standby-XXXXXX", text[128];
    CHECK(mkdtemp(directory) != NULL);
    snprintf(text, sizeof text, "rmdir %s && exec \"$0\"; exec sleep 1000", directory);
    const char *const command[] = {"sh", "-c", text, "{}", NULL};
    pp_pool *pool = outside_pool(
        command,
        (pp_pool_options){.max_workers = 1, .start_timeout = 1000 * harness_scale(), .standby = PP_STANDBY_ALWAYS});
    CHECK_INT(take_int(submit_int(pool, task_square, 5)), 25);
    wait_until(count_descendants_named(getppid(), "sleep") == 1, 10);
    wait_until(count_descendants_named(getppid(), "sleep") == 0, 10);
    CHECK_INT(take_int(submit_int(pool, task_square, 6)), 36);
    pp_pool_destroy(pool);
}

/* It is a worker like any other, but for what it has loaded. */
TEST(another_program_that_joins_fails_calls_of_the_owners_executable_alone)
{
    static const char *const command[] = {PP_TEST_BUILD "/tests/test_pool_spawn", NULL};
    pp_pool *pool = outside_pool(command, (pp_pool_options){.max_workers = 1});
    pp_future *future = submit_int(pool, task_square, 3);
    CHECK_HAS(error_of(future, PP_ERROR_TRAVEL)->message, "this worker's executable is not the one of the owner");
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

static pp_pool *told_pool(const char *how, pp_pool_options options)
{
    static char assignment[64];
    static const char *command[] = {"env", assignment, "{}", NULL};
    snprintf(assignment, sizeof assignment, ATTACH "=%s", how);
    return outside_pool(command, options);
}

TEST(a_wrong_token_is_refused_and_the_right_one_still_good)
{
    pp_pool *pool = told_pool("wrongly", (pp_pool_options){.max_workers = 1});
    CHECK_INT(take_int(submit_int(pool, task_square, 5)), 25);
    CHECK_INT(read_word(TRIED), 1);
    CHECK_INT(read_word(CODE), EACCES);
    pp_pool_destroy(pool);
}

TEST(an_invitation_can_be_followed_once)
{
    pp_pool *pool = told_pool("twice", (pp_pool_options){.max_workers = 1});
    pid_t pid = take_int(submit(pool, task_pid, NULL, 0));
    atomic_store(word(GO), 1);
    until(read_word(TRIED) == 1);
    CHECK_INT(read_word(CODE), EALREADY);
    CHECK_INT(take_int(submit(pool, task_pid, NULL, 0)), pid);
    pp_pool_destroy(pool);
    wait_until(is_gone(pid), 10);
}

static pid_t noted(int at)
{
    return (pid_t)read_word(at);
}

/* Both come while the zygote is stopped, behind the end of an orphan: so it comes to ends first. */
TEST(a_worker_that_has_joined_outlives_a_parent_that_fails_right_behind_that)
{
    pp_pool *pool = told_pool("steps", (pp_pool_options){.max_workers = 1});
    CHECK_OK(pp_submit(pool, task_square, NULL, 0, NULL));
    until(read_word(TRIED) == 1);
    until(noted(ORPHAN) != 0);
    pid_t zygote = parent_of(noted(PARENT));
    pp__pool_lock(pool); /* so that nobody lets the zygote go on */
    stop_and_see(zygote);
    atomic_store(word(GO), 1);
    wait_until(!test_process_alive(noted(ORPHAN)), 10);
    atomic_store(word(GO), 2);
    until(read_word(TRIED) == 2);
    atomic_store(word(GO), 3);
    wait_until(!test_process_alive(noted(PARENT)), 10);
    kill(zygote, SIGCONT);
    pp__pool_unlock(pool);
    wait_until(is_gone(noted(PARENT)) && is_gone(noted(ORPHAN)), 10);
    test_sleep_ms(50);
    CHECK(test_process_alive(noted(WORKER)));
    CHECK_OK(pp_pool_kill(pool)); /* another that came for the call would join and do nothing, too */
    pp_pool_destroy(pool);
    CHECK(!test_process_alive(noted(WORKER)));
}

TEST(those_that_die_with_the_plan_in_hand_break_the_pool)
{
    expect_broken(told_pool("half", (pp_pool_options){.max_workers = 1}), "without having joined the pool");
    CHECK_INT(read_word(TRIED), 3);
}

/* The process that was started lives on and knows nothing. */
TEST(one_that_dies_with_the_plan_in_hand_below_a_parent_that_stays_is_noticed)
{
    static const char *const command[] = {"sh", "-c", ATTACH "=half \"$0\"; sleep 1000", "{}", NULL};
    expect_broken(outside_pool(command, (pp_pool_options){.max_workers = 1}), "without having joined the pool");
    CHECK_INT(read_word(TRIED), 3);
    wait_until(count_descendants_named(getppid(), "sleep") == 0, 10);
}

TEST(what_knocks_with_garbage_or_in_silence_harms_nobody)
{
    pp_pool *pool = told_pool("badly", (pp_pool_options){.max_workers = 1});
    CHECK_INT(take_int(submit_int(pool, task_square, 5)), 25);
    CHECK_INT(read_word(TRIED), 1);
    pp_pool_destroy(pool);
}

TEST(who_comes_too_late_is_refused)
{
    static const char *const command[] = {"sh", "-c", ATTACH "=late setsid \"$0\" & exit 0", "{}", NULL};
    pp_launcher *launcher;
    share();
    const pp_launcher_options wanted = {.command = command, .inherit_fds = board_fds, .inherit_fd_count = 1};
    CHECK_OK(pp_launcher_create(&wanted, &launcher));
    pp_pool *pool = open_pool(
        (pp_pool_options){.max_workers = 1, .start_timeout = 1000 * harness_scale(), .launcher = launcher}, 0);
    drop_failed(submit(pool, nothing, NULL, 0), PP_ERROR_BROKEN);
    until(read_word(STARTS) == 1);
    pp_pool_destroy(pool);
    atomic_store(word(GO), 1);
    until(read_word(TRIED) == 1);
    CHECK_INT(read_word(CODE), EACCES);
    pp_launcher_unref(launcher);
}

static int begin_worker(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    static int state = 77;
    pp_task_set_state(task, &state);
    return 0;
}

static int end_worker(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    add(TRIED);
    return 0;
}

/* More than the stack that was asked for would be if it were the default. */
static int task_state_and_stack(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    volatile char room[KIT_TSAN ? 1 << 20 : 20 << 20]; /* thread sanitizer's workers stay on the stack they have */
    for (size_t i = 0; i < sizeof room; i += 4096)
        room[i] = 1;
    int value = *(int *)pp_task_state(task) + room[4096];
    return pp_task_return(task, &value, sizeof value);
}

TEST(a_pools_options_hold_for_workers_that_a_command_starts)
{
    pp_pool *pool = outside_pool(
        by_parent, (pp_pool_options){
                       .max_workers = 1, .initializer = begin_worker, .finalizer = end_worker, .stack_size = 32 << 20});
    CHECK_INT(take_int(submit(pool, task_state_and_stack, NULL, 0)), 78);
    pp_pool_destroy(pool);
    CHECK_INT(read_word(TRIED), 1);
}

TEST(another_user_is_refused)
{
    if (geteuid() != 0)
        LEFT_OUT("only root can become another user");
    pp_pool *pool = told_pool("stranger", (pp_pool_options){.max_workers = 1});
    CHECK_INT(take_int(submit_int(pool, task_square, 5)), 25);
    CHECK_INT(read_word(TRIED), 1);
    CHECK_INT(read_word(CODE), 0);
    pp_pool_destroy(pool);
}

SLOW_TEST(a_worker_that_does_not_come_is_not_waited_for_longer_than_half_a_minute)
{
    static const char *const command[] = {"true", NULL};
    expect_broken(outside_pool(command, (pp_pool_options){.max_workers = 1}), "did not come within 30000 ms");
}

TEST(an_invitation_that_is_none_is_refused)
{
    CHECK_INT(pp_worker_attach(NULL), -ENOENT);
    note_errors();
}

/* A program that calls pp_worker_main, was started to be a worker and finds nobody, does not go on as itself. */
TEST(a_program_with_an_invitation_of_the_past_does_not_go_on)
{
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        char path[4096];
        setenv("PROCPOOL_INVITATION", "procpool-nobody:00000000000000000000000000000000", 1);
        execl(test_program(path), "test", "--run", "an_invitation_that_is_none_is_refused", NULL);
        _exit(1);
    }
    CHECK_INT(WEXITSTATUS(wait_for(pid)), 127);
}

/* The command's end before the worker's is none of the pool's business. */
TEST(a_parent_that_dies_before_its_worker_costs_nothing)
{
    static const char *const command[] = {"sh", "-c", "setsid \"$0\"; exit 0", "{}", NULL};
    pp_pool *pool = outside_pool(command, (pp_pool_options){.max_workers = 1});
    pid_t pid = take_int(submit(pool, task_pid, NULL, 0)), parent = parent_of(pid);
    kill(parent, SIGKILL);
    wait_until(is_gone(parent), 10);
    CHECK_INT(take_int(submit(pool, task_pid, NULL, 0)), pid);
    expect_end(submit(pool, crash, NULL, 0), -EOWNERDEAD);
    CHECK_INT(take_int(submit_int(pool, task_square, 5)), 25);
    pp_pool_destroy(pool);
}
