/* SPDX-License-Identifier: MIT */
/* needs: seams */
#include "harness.h"
#include "helpers.h"

#include "base/fd.h"
#include "base/seam.h"
#include "procpool.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int count_open(void)
{
    int count = 0;
    for (int fd = 0; fd < 1024; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

/* ---------------------------------------------------------------------------------- the table of calls */

static int no_eventfd(unsigned count, int flags)
{
    (void)count, (void)flags;
    errno = ENFILE;
    return -1;
}

TEST(a_call_that_is_made_to_fail_fails_and_the_next_does_not)
{
    int (*real)(unsigned, int) = pp__sys.eventfd;
    pp__sys.eventfd = no_eventfd;
    CHECK_INT(pp__fd_event(), -ENFILE);
    CHECK_HAS(pp_last_error(), "fs.file-max");
    pp__sys.eventfd = real;
    CHECK_OK(pp__fd_event());
}

static void *no_memory(void *old, size_t size)
{
    (void)old, (void)size;
    errno = ENOMEM;
    return NULL;
}

TEST(without_memory_for_the_registry_an_adopted_descriptor_is_closed)
{
    int before = count_open();
    pp__sys.realloc = no_memory;
    CHECK_INT(pp__fd_event(), -ENOMEM);
    CHECK_HAS(pp_last_error(), "no memory");
    CHECK_INT(count_open(), before);
    pp__sys.realloc = realloc;
    CHECK_OK(pp__fd_event());
}

static void *dirty_memory(void *old, size_t size)
{
    CHECK(!old);
    void *memory = malloc(size);
    return memory ? memset(memory, 0xff, size) : NULL;
}

TEST(what_the_registry_grows_by_names_no_descriptors)
{
    pp__sys.realloc = dirty_memory;
    int fd = (int)CHECK_OK(pp__fd_event());
    pp__fd_lock();
    pp__fd_close_inherited(NULL, 0);
    CHECK(fcntl(fd, F_GETFD) < 0);
    CHECK_OK(fcntl(STDERR_FILENO, F_GETFD));
}

static int fcntl_calls, failing_fcntl;

static int some_fcntl(int fd, int command, ...)
{
    va_list arguments;
    va_start(arguments, command);
    int argument = va_arg(arguments, int);
    va_end(arguments);
    int call = ++fcntl_calls;
    if (call != failing_fcntl && call != failing_fcntl + 1) /* the second place that is tried fails too */
        return fcntl(fd, command, argument);
    errno = EMFILE;
    return -1;
}

TEST(a_pair_that_fails_at_any_step_leaves_nothing_open)
{
    int pair[2] = {-1, -1};
    pp__sys.fcntl = some_fcntl;
    for (failing_fcntl = 1;; failing_fcntl++) {
        int before = count_open();
        fcntl_calls = 0;
        int rc = pp__fd_socketpair(pair);
        if (rc == 0)
            break;
        CHECK_INT(rc, -EMFILE);
        CHECK_INT(count_open(), before);
        CHECK_INT(pair[0], -1);
    }
    CHECK_INT(failing_fcntl, 3);
}

static int interruptions;

static ssize_t interrupted_sendmsg(int socket, const struct msghdr *header, int flags)
{
    if (interruptions-- > 0) {
        errno = EINTR;
        return -1;
    }
    return sendmsg(socket, header, flags);
}

TEST(an_interrupted_send_is_made_again)
{
    int pair[2];
    char text[8];
    CHECK_OK(pp__fd_socketpair(pair));
    pp__sys.sendmsg = interrupted_sendmsg;
    interruptions = 3;
    CHECK_OK(pp__fd_send(pair[0], "x", 2, NULL, 0));
    CHECK_INT(interruptions, -1);
    CHECK_INT(pp__fd_receive(pair[1], text, sizeof text, NULL, NULL, MSG_DONTWAIT), 2);
    CHECK_INT(pp__fd_receive(pair[1], text, sizeof text, NULL, NULL, MSG_DONTWAIT), -EAGAIN);
}

static ssize_t reset_sendmsg(int socket, const struct msghdr *header, int flags)
{
    (void)socket, (void)header, (void)flags;
    errno = ECONNRESET;
    return -1;
}

TEST(a_reset_connection_is_the_other_end_gone)
{
    int pair[2];
    CHECK_OK(pp__fd_socketpair(pair));
    pp__sys.sendmsg = reset_sendmsg;
    CHECK_INT(pp__fd_send(pair[0], "x", 2, NULL, 0), -EPIPE);
}

static int no_close_range(unsigned from, unsigned to, int flags)
{
    (void)from, (void)to, (void)flags;
    errno = EPERM;
    return -1;
}

TEST(descriptors_are_closed_also_where_a_sandbox_refuses_to_close_a_range)
{
    int fds[300];
    pp__sys.close_range = no_close_range;
    for (int i = 0; i < 300; i++)
        CHECK_OK(fds[i] = dup(STDERR_FILENO));
    pp__fd_close_from(fds[0], (int[]){fds[299], fds[7]}, 2);
    for (int i = 0; i < 300; i++)
        CHECK_INT(fcntl(fds[i], F_GETFD) >= 0, i == 7 || i == 299);
}

/* ---------------------------------------------------------------------------------------- fault points */

/* How a child ends that passes `place` so many times. */
static int pass(const char *place, int times)
{
    int status;
    pid_t child = fork();
    CHECK_OK(child);
    if (child == 0) {
        for (int i = 0; i < times; i++)
            pp__fault_reached(place);
        _exit(7);
    }
    CHECK_INT(waitpid(child, &status, 0), child);
    return status;
}

TEST(a_place_that_is_not_armed_does_nothing)
{
    CHECK_INT(WEXITSTATUS(pass("here", 10)), 7);
    pp__fault_arm("there", 1, PP__FAULT_KILL);
    CHECK_INT(WEXITSTATUS(pass("here", 10)), 7);
    CHECK_INT(pp__fault_hits(), 0);
}

TEST(kill_ends_the_process_that_gets_there)
{
    pp__fault_arm("here", 1, PP__FAULT_KILL);
    int status = pass("here", 1);
    CHECK(WIFSIGNALED(status));
    CHECK_INT(WTERMSIG(status), SIGKILL);
    CHECK_INT(pp__fault_hits(), 1);
}

TEST(exit_ends_it_with_status_0)
{
    pp__fault_arm("here", 1, PP__FAULT_EXIT);
    int status = pass("here", 1);
    CHECK(WIFEXITED(status));
    CHECK_INT(WEXITSTATUS(status), 0);
}

TEST(abort_ends_it_with_sigabrt)
{
    pp__fault_arm("here", 1, PP__FAULT_ABORT);
    int status = pass("here", 1);
    CHECK(WIFSIGNALED(status));
    CHECK_INT(WTERMSIG(status), SIGABRT);
}

TEST(stop_stops_it_until_it_is_continued)
{
    pp__fault_arm("here", 1, PP__FAULT_STOP);
    pid_t child = fork();
    CHECK_OK(child);
    if (child == 0) {
        PP_FAULT("here");
        _exit(7);
    }
    int status;
    CHECK_INT(waitpid(child, &status, WUNTRACED), child);
    CHECK(WIFSTOPPED(status));
    CHECK_OK(kill(child, SIGCONT));
    CHECK_INT(waitpid(child, &status, 0), child);
    CHECK_INT(WEXITSTATUS(status), 7);
}

TEST(hits_are_counted_over_all_processes_together)
{
    pp__fault_arm("here", 5, PP__FAULT_KILL);
    CHECK_INT(WEXITSTATUS(pass("here", 2)), 7);
    CHECK_INT(WEXITSTATUS(pass("here", 2)), 7);
    CHECK_INT(pp__fault_hits(), 4);
    CHECK_INT(WTERMSIG(pass("here", 2)), SIGKILL);
    CHECK_INT(pp__fault_hits(), 5);
    CHECK_INT(WEXITSTATUS(pass("here", 2)), 7); /* once only */
}

TEST(arming_anew_begins_to_count_anew_and_disarming_ends_it)
{
    pp__fault_arm("here", 3, PP__FAULT_KILL);
    CHECK_INT(WEXITSTATUS(pass("here", 2)), 7);
    pp__fault_arm("here", 3, PP__FAULT_EXIT);
    CHECK_INT(WEXITSTATUS(pass("here", 2)), 7);
    CHECK_INT(WEXITSTATUS(pass("here", 1)), 0);
    pp__fault_arm("here", 1, PP__FAULT_KILL);
    pp__fault_disarm();
    CHECK_INT(WEXITSTATUS(pass("here", 2)), 7);
}

TEST(a_child_that_runs_already_obeys_an_order_given_later)
{
    int gate[2];
    CHECK_OK(pipe(gate));
    pid_t child = fork();
    CHECK_OK(child);
    if (child == 0) {
        char c;
        CHECK_INT(read(gate[0], &c, 1), 1);
        PP_FAULT("late");
        _exit(7);
    }
    pp__fault_arm("late", 1, PP__FAULT_KILL);
    CHECK_INT(write(gate[1], "x", 1), 1);
    int status;
    CHECK_INT(waitpid(child, &status, 0), child);
    CHECK(WIFSIGNALED(status));
}

/* What the fresh images of the test below run; by itself it does nothing. */
TEST(passes_a_place)
{
    if (getenv("TEST_PASSES"))
        for (int i = 0; i < 3; i++)
            PP_FAULT("in an image");
}

static int run_image(const char *order)
{
    int status;
    char path[4096] = "";
    CHECK_OK(readlink("/proc/self/exe", path, sizeof path - 1)); /* a link's own name is valgrind's to a fresh image */
    pid_t child = fork();
    CHECK_OK(child);
    if (child == 0) {
        setenv("PROCPOOL_FAULT", order, 1);
        setenv("TEST_PASSES", "1", 1);
        execl(path, "image", "--run", "passes_a_place", (char *)NULL);
        _exit(9);
    }
    CHECK_INT(waitpid(child, &status, 0), child);
    return status;
}

TEST(a_fresh_image_takes_its_order_from_the_environment)
{
    CHECK_INT(WTERMSIG(run_image("in an image:3:kill")), SIGKILL);
    CHECK_INT(WTERMSIG(run_image("in an image:1:abort")), SIGABRT);
    CHECK_INT(run_image("in an image:4:kill"), 0);
    CHECK_INT(run_image("elsewhere:1:kill"), 0);
    CHECK_INT(run_image("nonsense"), 0);
    CHECK_INT(run_image("in an image:1:dance"), 0);
}
