/* SPDX-License-Identifier: MIT */
/* needs: seams. Every system call of a launcher's making fails once, and processes end at every fault point. */
#include "base/seam.h"
#include "kit.h"

#include <stdarg.h>

static int countdown; /* the call that fails; each process counts on from where it was forked */
static int error_to_give;

static bool fails(void)
{
    if (countdown == 0 || --countdown != 0)
        return false;
    errno = error_to_give;
    return true;
}

static void *failing_calloc(size_t count, size_t size)
{
    return fails() ? NULL : calloc(count, size);
}

static void *failing_malloc(size_t size)
{
    return fails() ? NULL : malloc(size);
}

static void *failing_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    return fails() ? MAP_FAILED : mmap(at, size, protection, flags, fd, offset);
}

static int failing_fcntl(int fd, int command, ...)
{
    va_list arguments;
    va_start(arguments, command);
    long value = va_arg(arguments, long);
    va_end(arguments);
    return fails() ? -1 : fcntl(fd, command, value);
}

static int failing_socketpair(int domain, int type, int protocol, int pair[2])
{
    return fails() ? -1 : socketpair(domain, type, protocol, pair);
}

static int failing_epoll_create(int flags)
{
    return fails() ? -1 : epoll_create1(flags);
}

static int failing_epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event)
{
    return fails() ? -1 : epoll_ctl(epoll, operation, fd, event);
}

static ssize_t failing_sendmsg(int socket, const struct msghdr *message, int flags)
{
    return fails() ? -1 : sendmsg(socket, message, flags);
}

static ssize_t failing_recvmsg(int socket, struct msghdr *message, int flags)
{
    return fails() ? -1 : recvmsg(socket, message, flags);
}

static pid_t failing_fork(void)
{
    return fails() ? -1 : fork();
}

#define SETTER(member, function)                                                                                       \
    static void set_##member(bool on)                                                                                  \
    {                                                                                                                  \
        static struct pp__sys saved;                                                                                   \
        if (on)                                                                                                        \
            saved = pp__sys;                                                                                           \
        pp__sys.member = on ? function : saved.member;                                                                 \
    }
SETTER(calloc, failing_calloc)
SETTER(malloc, failing_malloc)
SETTER(mmap, failing_mmap)
SETTER(fcntl, failing_fcntl)
SETTER(socketpair, failing_socketpair)
SETTER(epoll_create1, failing_epoll_create)
SETTER(epoll_ctl, failing_epoll_ctl)
SETTER(sendmsg, failing_sendmsg)
SETTER(recvmsg, failing_recvmsg)
SETTER(fork, failing_fork)

static const struct {
    const char *name;
    void (*set)(bool on);
    int error;
} calls[] = {{"calloc", set_calloc, ENOMEM},
             {"malloc", set_malloc, ENOMEM},
             {"mmap", set_mmap, ENOMEM},
             {"fcntl", set_fcntl, EMFILE},
             {"socketpair", set_socketpair, ENFILE},
             {"epoll_create1", set_epoll_create1, EMFILE},
             {"epoll_ctl", set_epoll_ctl, ENOMEM},
             {"sendmsg", set_sendmsg, ENOBUFS},
             {"recvmsg", set_recvmsg, ENOMEM},
             {"fork", set_fork, EAGAIN}};

static int open_descriptors(void)
{
    int count = 0;
    DIR *directory = opendir("/proc/self/fd");
    while (readdir(directory))
        count++;
    closedir(directory);
    return count;
}

/* What one launcher does: it is made, has a connection and a child, which ends. Any step may fail, none may hang. */
static void live_with(const pp_launcher_options *options)
{
    pp_launcher *launcher = NULL;
    int error = pp_launcher_create(options, &launcher);
    if (error) {
        CHECK(!launcher);
        CHECK(error == -ENOMEM || error == -EMFILE || error == -ENFILE || error == -EAGAIN || error == -ENOBUFS);
        CHECK(*pp_last_error());
        return;
    }
    int connection = pp__launcher_connect(launcher);
    if (connection < 0)
        CHECK(*pp_last_error());
    struct pp__plan plan = {.serial = 1, .name = "pp-child", .size = 8};
    struct kit_order order = {.body = 1};
    memcpy(plan.data, &order, 8);
    if (connection >= 0 && pp__launcher_start(connection, &plan, NULL, 0) == 0) {
        struct pp__report report;
        struct pollfd watched = {.fd = connection, .events = POLLIN};
        int got;
        do {
            while ((got = pp__launcher_report(connection, &report)) == 0)
                if (poll(&watched, 1, 5000 * (int)harness_scale()) != 1)
                    harness_fail(__FILE__, __LINE__, "no report came");
        } while (got == 1 && report.type == PP__REPORT_STARTED);
    }
    pp__launcher_disconnect(connection);
    pp_launcher_unref(launcher);
}

static void live(pp_start_method method)
{
    live_with(&(pp_launcher_options){.start_method = method});
}

static _Noreturn void leave_at_once(const void *data, size_t size, const int *fds, size_t count, int shared_images)
{
    (void)data, (void)size, (void)fds, (void)count, (void)shared_images;
    pp__child_exit(0);
}

/* Counted in the owner; the zygote, under fork, goes on counting where the owner was when it was forked. */
TEST_BOTH_WITHIN(each_failing_system_call_is_an_error_or_got_over_and_leaves_nothing, 120)
{
    if (method == PP_START_FORK)
        pp__child_run = leave_at_once;
    else
        setenv("PP_TEST_LEAVE", "1", 1);
    live(method);
    int before = open_descriptors();
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        for (int n = 1; n <= 12; n++) {
            fprintf(stderr, "%s %d\n", calls[i].name, n);
            calls[i].set(true);
            countdown = n;
            error_to_give = calls[i].error;
            live(method);
            countdown = 0;
            calls[i].set(false);
            CHECK_INT(open_descriptors(), before);
        }
    }
    live(method);
}

__attribute__((constructor)) static void leave_if_asked(void)
{
    if (getenv("PP_TEST_LEAVE"))
        pp__child_run = leave_at_once;
}

/* Counted in each fresh image, the zygote's and its child's. */
#define FAIL "PP_TEST_FAIL"

__attribute__((constructor)) static void fail_if_asked(void)
{
    const char *order = getenv(FAIL);
    unsigned i;
    int n;
    if (!order || sscanf(order, "%u:%d", &i, &n) != 2)
        return;
    calls[i].set(true);
    countdown = n;
    error_to_give = calls[i].error;
}

static void fail_in_images(const char *const *command)
{
    const pp_launcher_options options = {.start_method = PP_START_SPAWN, .command = command};
    int before = open_descriptors();
    setenv("PP_TEST_LEAVE", "1", 1);
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        for (int n = 1; n <= 16; n++) {
            char order[32];
            fprintf(stderr, "%s %d\n", calls[i].name, n);
            snprintf(order, sizeof order, "%zu:%d", i, n);
            setenv(FAIL, order, 1);
            live_with(&options);
            CHECK_INT(open_descriptors(), before);
        }
    }
    unsetenv(FAIL);
    live_with(&options);
}

TEST_WITHIN(each_failing_system_call_in_a_fresh_image_is_an_error_or_got_over, 120)
{
    fail_in_images(NULL);
}

TEST_WITHIN(each_failing_system_call_in_an_image_that_a_command_starts_is_an_error_or_got_over, 120)
{
    fail_in_images((const char *const[]){"env", "{}", NULL});
}

/* ------------------------------------------------------------------------------------------ fault points */

static bool connection_is_gone_after(const char *place, enum pp__fault_action action, struct pp__report *last)
{
    *last = (struct pp__report){0};
    pp__fault_arm(place, 1, action);
    pp_launcher *launcher = kit_launcher(PP_START_FORK);
    int connection = (int)CHECK_OK(pp__launcher_connect(launcher)), got;
    struct pp__plan plan = {.serial = 1, .name = "pp-child", .size = 8};
    CHECK_OK(pp__launcher_start(connection, &plan, NULL, 0));
    struct pp__report report;
    struct pollfd watched = {.fd = connection, .events = POLLIN};
    do {
        while ((got = pp__launcher_report(connection, &report)) == 0)
            CHECK_INT(poll(&watched, 1, 5000 * (int)harness_scale()), 1);
        if (got == 1)
            *last = report;
    } while (got == 1 && report.type == PP__REPORT_STARTED);
    pp__fault_disarm();
    pp__launcher_disconnect(connection);
    pp_launcher_unref(launcher);
    wait_until(count_descendants_named(getppid(), "pp-") == 0, 2);
    return got < 0;
}

TEST_WITHIN(a_zygote_killed_at_any_point_takes_its_children_along_and_shows, 60)
{
    static const char *const places[] = {"zygote.start.before", "zygote.start.forked", "zygote.reap"};
    pp__child_run = leave_at_once;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        struct pp__report last;
        CHECK(connection_is_gone_after(places[i], PP__FAULT_KILL, &last));
        CHECK_INT(last.type, i == 2 ? PP__REPORT_STARTED : 0);
        CHECK(connection_is_gone_after(places[i], PP__FAULT_EXIT, &last));
    }
}

TEST_WITHIN(a_child_that_ends_before_its_entry_is_told_like_any_other, 60)
{
    static const char *const places[] = {"child.begin", "child.entry"};
    pp__child_run = leave_at_once;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        struct pp__report last;
        CHECK(!connection_is_gone_after(places[i], PP__FAULT_KILL, &last));
        CHECK_INT(last.type, PP__REPORT_ENDED);
        CHECK_INT(last.code, CLD_KILLED);
        CHECK_INT(last.status, SIGKILL);
        CHECK(!connection_is_gone_after(places[i], PP__FAULT_EXIT, &last));
        CHECK_INT(last.code, CLD_EXITED);
    }
}

TEST(a_child_stopped_before_its_entry_can_be_killed)
{
    pp__fault_arm("child.begin", 1, PP__FAULT_STOP);
    pp_launcher *launcher = kit_launcher(PP_START_FORK);
    int connection = (int)CHECK_OK(pp__launcher_connect(launcher));
    kit_start(connection, 1, kit_body_sleep);
    pid_t pid = kit_started(connection, 1);
    wait_until(test_process_state(pid, NULL, NULL) == 'T', 5);
    CHECK_OK(pp__launcher_kill(connection, 1));
    kit_ended(connection, 1, CLD_KILLED, SIGKILL);
    pp__launcher_disconnect(connection);
    pp_launcher_unref(launcher);
}

/* A stopped zygote that its owner leaves goes on, to its end. */
TEST_BOTH(a_stopped_zygote_ends_with_its_owner)
{
    pp_launcher *launcher = kit_launcher(method);
    int connection = (int)CHECK_OK(pp__launcher_connect(launcher));
    kit_start(connection, 1, kit_body_sleep);
    pid_t zygote = 0, pid = kit_started(connection, 1);
    test_process_state(pid, &zygote, NULL);
    kill(zygote, SIGSTOP);
    wait_until(test_process_state(zygote, NULL, NULL) == 'T', 5);
    pp__launcher_disconnect(connection);
    pp_launcher_unref(launcher);
    wait_until(!test_process_alive(zygote) && !test_process_alive(pid), 2);
}

TEST(a_failed_fork_is_told_with_its_errno_and_the_next_may_do)
{
    set_fork(true);
    countdown = 3; /* the owner's, the zygote's first, this one; or without the probe the first two */
    error_to_give = EAGAIN;
    pp_launcher *launcher = kit_launcher(PP_START_FORK);
    int connection = (int)CHECK_OK(pp__launcher_connect(launcher));
    int told = 0;
    for (uint64_t i = 0; i < 4; i++) {
        kit_start(connection, i, kit_body_sleep);
        struct pp__report report = kit_report(connection);
        CHECK_INT(report.serial, i);
        if (report.type == PP__REPORT_FAILED) {
            told++;
            CHECK_INT(report.error, EAGAIN);
        } else {
            CHECK_INT(report.type, PP__REPORT_STARTED);
        }
    }
    CHECK_INT(told, 1);
    set_fork(false);
    pp__launcher_disconnect(connection);
    pp_launcher_unref(launcher);
}
