/* SPDX-License-Identifier: MIT */
/*
 * Want at every step of a process's start, each in turn, once: it starts or is refused with a clear error, and leaves
 * nothing; and processes, or what starts them, that die at each step.
 *
 * needs: seams
 */
#include "process_kit.h"
#include "want_kit.h"

#include "pool/process.h"

#include <poll.h>
#include <stdarg.h>
#include <sys/prctl.h>

__attribute__((constructor)) static void put_failures(void)
{
    real = pp__sys;
    pp__sys.calloc = failing_calloc;
    pp__sys.malloc = failing_malloc;
    pp__sys.memfd_create = failing_memfd_create;
    pp__sys.socketpair = failing_socketpair;
    pp__sys.sendmsg = failing_sendmsg;
    pp__sys.mmap = failing_mmap;
}

static bool is_want(int error)
{
    return error == -ENOMEM || error == -EMFILE || error == -ENOBUFS || error == -EPIPE;
}

/* With a launcher that was made before. True: the step was met. */
static bool start_with_want(pp_launcher *launcher, long step)
{
    pp_process *process = NULL;
    const pp_process_options options = {.launcher = launcher};
    arm(step);
    int error = pp_process_start(run_return, &(int){3}, sizeof(int), &options, &process);
    bool met = disarm();
    if (error)
        CHECK(met && is_want(error) && !process && *pp_last_error());
    else
        CHECK_INT(finish_process(process), 3);
    return met;
}

BOTH(want_at_any_step_of_a_start_is_told_and_leaves_nothing)
{
    pp_launcher *launcher = launcher_of(method);
    CHECK(!start_with_want(launcher, 0));
    int before = count_fds();
    long step = 1;
    while (start_with_want(launcher, step))
        step++;
    CHECK(step > 4);
    CHECK_INT(count_fds(), before);
    pp_launcher_unref(launcher);
}

/* The zygote's own forks alone. */
static pid_t no_fork_in_zygote(void)
{
    char name[16] = "";
    prctl(PR_GET_NAME, name);
    if (strcmp(name, "pp-zygote") != 0)
        return real.fork();
    errno = EAGAIN;
    return -1;
}

TEST(a_fork_that_fails_is_told)
{
    pp_process *process = NULL;
    pp__sys.fork = no_fork_in_zygote;
    const pp_process_options options = {.start_method = PP_START_FORK};
    CHECK_INT(pp_process_start(run_return, NULL, 0, &options, &process), -EAGAIN);
    CHECK(process == NULL);
}

FORKED_WITHIN(a_process_that_dies_before_it_has_begun_tells_it_by_its_end, 20)
{
    static const char *const places[] = {"child.begin", "child.entry", "process.run"};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        pp_process *process = NULL;
        char order[64];
        const pp_process_options options = {.start_method = method};
        snprintf(order, sizeof order, "%s:1:kill", places[i]);
        setenv("PROCPOOL_FAULT", order, 1); /* for a zygote that is a fresh image */
        pp__fault_arm(places[i], 1, PP__FAULT_KILL);
        CHECK_OK(pp_process_start(run_return, &(int){3}, sizeof(int), &options, &process));
        CHECK_INT(finish_process(process), -SIGKILL);
        pp__fault_disarm();
    }
}

static ssize_t full_sendmsg(int socket, const struct msghdr *message, int flags)
{
    (void)socket, (void)message, (void)flags;
    errno = EAGAIN;
    return -1;
}

TEST(a_signal_that_can_not_be_asked_for_now_can_be_later)
{
    pp_process *process = start_int(PP_START_FORK, run_hang, 0), *second = NULL;
    pp_launcher *launcher = launcher_of(PP_START_FORK);
    pp__sys.sendmsg = full_sendmsg;
    CHECK_INT(pp_process_terminate(process), -EAGAIN);
    CHECK_INT(pp_process_kill(process), -EAGAIN);
    CHECK_INT(pp_process_start(run_return, NULL, 0, &(pp_process_options){.launcher = launcher}, &second), -EAGAIN);
    pp__sys.sendmsg = real.sendmsg;
    CHECK_INT(pp_process_is_alive(process), 1);
    CHECK_OK(pp_process_terminate(process));
    CHECK_INT(finish_process(process), -SIGTERM);
    pp_launcher_unref(launcher);
}

TEST(the_last_reference_takes_a_process_along_though_its_end_can_not_be_asked_for)
{
    if (TEST_ON_VALGRIND)
        LEFT_OUT("on valgrind there are no pidfds");
    pp_process *process = start_int(PP_START_FORK, run_deaf, 0);
    pid_t pid = pp_process_pid(process);
    gate_wait_arrived(0, 1);
    pp__sys.sendmsg = full_sendmsg;
    pp_process_unref(process);
    pp__sys.sendmsg = real.sendmsg;
    wait_until(is_gone(pid), 10);
}

/* It still has its parent's end of the connection, on which what is asked now can be sent, and is read by nobody. */
static pp_process *start_held_up(pid_t *pid)
{
    pp__fault_arm("child.begin", 1, PP__FAULT_HANG);
    pp_process *process = start_int(PP_START_FORK, run_return, 3);
    *pid = pp_process_pid(process);
    pid_t zygote = parent_of(*pid);
    kill(zygote, SIGKILL);
    wait_until(is_gone(zygote), 10);
    return process;
}

/* One that it blocks. */
static bool has_pending(pid_t pid, int signal)
{
    char path[32], line[128];
    unsigned long long pending = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *status = fopen(path, "r");
    CHECK(status != NULL);
    while (fgets(line, sizeof line, status) && sscanf(line, "ShdPnd: %llx", &pending) != 1)
        ;
    fclose(status);
    return pending >> (signal - 1) & 1;
}

TEST(a_process_that_has_hardly_begun_when_its_parent_dies_can_be_killed_and_goes_with_its_last_reference)
{
    if (TEST_ON_VALGRIND)
        LEFT_OUT("on valgrind there are no pidfds");
    pid_t pid;
    pp_process_unref(start_held_up(&pid));
    wait_until(is_gone(pid), 10);
    pp_process *process = start_held_up(&pid);
    CHECK_OK(pp_process_terminate(process));
    CHECK(has_pending(pid, SIGTERM));
    CHECK_OK(pp_process_kill(process));
    CHECK_OK(pp_process_join(process, -1));
    wait_until(is_gone(pid), 10);
    pp_process_unref(process);
}

TEST_WITHIN(an_end_of_which_nobody_tells_how_is_an_end_all_the_same, 30)
{
    if (TEST_ON_VALGRIND)
        LEFT_OUT("on valgrind there are no pidfds");
    int code = 4711;
    pp_process *process = start_int(PP_START_FORK, run_gate, 1);
    gate_wait_arrived(1, 1);
    pid_t zygote = parent_of(pp_process_pid(process));
    stop_and_see(zygote);
    gate_open(1);
    CHECK_OK(pp_process_join(process, -1));
    pp__sys.sendmsg = full_sendmsg; /* so that it is not asked */
    CHECK_INT(pp_process_exit_code(process, &code), -EBUSY);
    CHECK_INT(code, 4711);
    CHECK_HAS(pp_last_error(), "it has not been told how");
    pp__sys.sendmsg = real.sendmsg;
    CHECK_INT(finish_process(process), 0);
}

static ssize_t poor_recvmsg(int socket, struct msghdr *message, int flags)
{
    (void)socket, (void)message, (void)flags;
    errno = ENOMEM;
    return -1;
}

static int poor_poll(struct pollfd *set, nfds_t count, int timeout)
{
    (void)set, (void)count, (void)timeout;
    errno = ENOMEM;
    return -1;
}

TEST(an_end_that_was_seen_holds_and_how_it_was_is_told_when_it_can_be_read)
{
    if (TEST_ON_VALGRIND)
        LEFT_OUT("on valgrind there are no pidfds");
    int code = 4711;
    pp_error error;
    pp_process *process = start_int(PP_START_FORK, run_gate, 1);
    pp__sys.recvmsg = poor_recvmsg;
    gate_open(1);
    CHECK_OK(pp_process_join(process, -1));
    pp__sys.poll = poor_poll;
    CHECK_INT(pp_process_is_alive(process), 0);
    CHECK_INT(pp_process_exit_code(process, &code), -ENOMEM);
    CHECK_INT(code, 4711);
    CHECK_HAS(pp_last_error(), "has ended, and how can't be read");
    CHECK_INT(pp_process_error(process, &error), -ENOMEM);
    pp__sys.poll = real.poll;
    pp__sys.recvmsg = real.recvmsg;
    CHECK_INT(finish_process(process), 0);
}

TEST(a_start_of_which_nothing_can_be_read_says_so)
{
    pp_process *process = NULL;
    pp_launcher *launcher = launcher_of(PP_START_FORK);
    pp__sys.recvmsg = poor_recvmsg;
    CHECK_INT(pp_process_start(run_return, NULL, 0, &(pp_process_options){.launcher = launcher}, &process), -ENOMEM);
    CHECK_HAS(pp_last_error(), "no memory to receive");
    pp__sys.recvmsg = real.recvmsg;
    pp_launcher_unref(launcher);
}

static bool zygote_lacks, owner_lacks; /* one more descriptor */

static bool lacks(void)
{
    char name[16] = "";
    prctl(PR_GET_NAME, name);
    return strcmp(name, "pp-zygote") == 0 ? zygote_lacks : owner_lacks;
}

/* What is adopted is copied to a place of the library's. A start that needs no other copies in these two processes is
 * met by the pidfd alone. */
static int lacking_fcntl(int fd, int command, ...)
{
    va_list more;
    va_start(more, command);
    int value = va_arg(more, int);
    va_end(more);
    char link[64], target[64] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (command == F_DUPFD_CLOEXEC && lacks() && readlink(link, target, sizeof target - 1) > 0 &&
        strstr(target, "pidfd")) {
        errno = EMFILE;
        return -1;
    }
    return real.fcntl(fd, command, value);
}

static void fail_start_of_one_that_lacks(pp_launcher *launcher)
{
    pp_process *process = NULL;
    int before = count_fds();
    CHECK_INT(pp_process_start(run_hang, NULL, 0, &(pp_process_options){.launcher = launcher}, &process), -EMFILE);
    CHECK(process == NULL);
    CHECK_HAS(pp_last_error(), "many open files");
    CHECK_INT(count_fds(), before);
}

TEST(a_process_whose_end_could_not_be_seen_is_not_started)
{
    if (TEST_ON_VALGRIND)
        LEFT_OUT("on valgrind there are no pidfds");
    share();
    pp__sys.fcntl = lacking_fcntl;
    zygote_lacks = true;
    pp_launcher *launcher = launcher_of(PP_START_FORK); /* which has these in its zygote */
    fail_start_of_one_that_lacks(launcher);
    pp_launcher_unref(launcher);
    zygote_lacks = false;
    launcher = launcher_of(PP_START_FORK);
    owner_lacks = true;
    fail_start_of_one_that_lacks(launcher);
    owner_lacks = false;
    CHECK_INT(finish_process(start_with(PP_START_FORK, (pp_process_options){.launcher = launcher}, run_return,
                                        &(int){8}, sizeof(int))),
              8);
    pp_launcher_unref(launcher);
    wait_until(count_descendants_named(getppid(), "Process-") == 0, 10);
}

/* ---------------------------------------------------------------------------------------- hostile processes */

/* What it shares with its owner lies before the argument. */
static struct pp__process_side *side_of(void *arg)
{
    return (struct pp__process_side *)(void *)((char *)arg - offsetof(struct pp__process_side, argument));
}

static int run_ruin(void *arg, size_t size)
{
    (void)size;
    memset(side_of(arg), 0xff, offsetof(struct pp__process_side, argument));
    _exit(3);
}

/* A trace of so many bytes that is none. */
static int run_lie_about_a_crash(void *arg, size_t size)
{
    struct pp__process_side *side = side_of(arg);
    (void)size;
    memset(side->crash, 0x55, sizeof side->crash);
    side->crash_size = sizeof side->crash;
    raise(SIGKILL);
    return 0;
}

/* A text without an end. */
static int run_lie_about_its_begin(void *arg, size_t size)
{
    struct pp__process_side *side = side_of(arg);
    (void)size;
    memset(side->unfit_text, 'x', sizeof side->unfit_text);
    side->unfit = ENOENT;
    return 4;
}

BOTH(a_process_that_ruins_what_it_shares_harms_nobody)
{
    pp_error error;
    pp_process *process = start_int(method, run_ruin, 0);
    CHECK_INT(code_of(process), 3);
    CHECK_OK(pp_process_error(process, &error));
    CHECK_INT(error.kind, PP_ERROR_CRASH);
    CHECK_STR(pp_error_backtrace(&error), "");
    pp_process_unref(process);
    process = start_int(method, run_lie_about_a_crash, 0);
    CHECK_INT(code_of(process), -SIGKILL);
    CHECK_OK(pp_process_error(process, &error));
    CHECK_STR(pp_error_backtrace(&error), "");
    pp_process_unref(process);
    process = start_int(method, run_lie_about_its_begin, 0);
    CHECK_INT(code_of(process), 4);
    CHECK_OK(pp_process_error(process, &error));
    CHECK_INT(error.kind, PP_ERROR_CRASH); /* it had begun, by its status */
    pp_process_unref(process);
}
