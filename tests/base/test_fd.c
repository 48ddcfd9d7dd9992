/* SPDX-License-Identifier: MIT */
#include "harness.h"
#include "helpers.h"

#include "base/fd.h"
#include "procpool.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static int open_null(void)
{
    return open("/dev/null", O_RDWR);
}

static int same_file(int a, int b)
{
    struct stat x, y;
    CHECK_OK(fstat(a, &x));
    CHECK_OK(fstat(b, &y));
    return x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static void limit_files(rlim_t limit)
{
    struct rlimit r;
    CHECK_OK(getrlimit(RLIMIT_NOFILE, &r));
    r.rlim_cur = limit;
    CHECK_OK(setrlimit(RLIMIT_NOFILE, &r));
}

static int count_open(void)
{
    int count = 0;
    for (int fd = 0; fd < 1024; fd++)
        count += is_open(fd);
    return count;
}

/* ---------------------------------------------------------------------------------- adopting and closing */

TEST(an_adopted_descriptor_moves_to_the_floor_and_is_closed_on_exec)
{
    int raw = open_null();
    int fd = (int)CHECK_OK(pp__fd_adopt(raw, "a file"));
    CHECK(fd >= PP__FD_FLOOR);
    CHECK(!is_open(raw));
    CHECK_INT(fcntl(fd, F_GETFD), FD_CLOEXEC);
    pp__fd_close(fd);
    CHECK(!is_open(fd));
}

TEST(adopting_what_a_failed_call_returned_passes_its_errno_on)
{
    int fd = open("/nowhere/at/all", O_RDONLY);
    CHECK_INT(pp__fd_adopt(fd, "opening a file"), -ENOENT);
    CHECK_STR(pp_last_error(), "opening a file: No such file or directory");
}

TEST(a_copy_is_the_same_file_and_leaves_the_original_open)
{
    int raw = open_null();
    int fd = (int)CHECK_OK(pp__fd_copy(raw, "a copy"));
    CHECK(fd >= PP__FD_FLOOR);
    CHECK(is_open(raw));
    CHECK(same_file(raw, fd));
    CHECK_INT(fcntl(fd, F_GETFD), FD_CLOEXEC);
    pp__fd_close(fd);
    CHECK(!is_open(fd));
    CHECK(is_open(raw));
    close(raw);
    CHECK_INT(pp__fd_copy(raw, "a copy"), -EBADF);
    CHECK_HAS(pp_last_error(), "a copy: Bad file");
    CHECK_INT(pp__fd_copy(-1, "a copy"), -EBADF);
}

TEST(what_is_handed_out_is_no_longer_ours)
{
    int fd = (int)CHECK_OK(pp__fd_event());
    pp__fd_hand_out(fd);
    pid_t child = fork();
    if (child == 0) {
        pp__fd_close_inherited(NULL, 0);
        _exit(is_open(fd) ? 0 : 1);
    }
    int status;
    CHECK_INT(waitpid(child, &status, 0), child);
    CHECK_INT(status, 0);
    close(fd);
}

TEST(closing_minus_one_does_nothing)
{
    int before = count_open();
    pp__fd_close(-1);
    CHECK_INT(count_open(), before);
}

TEST(no_descriptor_of_ours_is_0_1_or_2_when_those_are_closed)
{
    limit_files(64); /* below the floor, so that the lowest free number is taken */
    int out = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10);
    for (int fd = 0; fd < 3; fd++)
        close(fd);
    int event = pp__fd_event(), pair[2] = {-1, -1};
    int made = pp__fd_socketpair(pair);
    int low = 0;
    for (int fd = 0; fd < 3; fd++)
        low += is_open(fd);
    dup2(out, STDERR_FILENO);
    CHECK_OK(event);
    CHECK_OK(made);
    CHECK(event >= 3 && pair[0] >= 3 && pair[1] >= 3);
    CHECK_INT(low, 0);
}

TEST(with_a_limit_below_the_floor_descriptors_are_made_under_it)
{
    limit_files(20);
    int fd = (int)CHECK_OK(pp__fd_event());
    CHECK(fd >= 3 && fd < 20);
    CHECK_INT(fcntl(fd, F_GETFD), FD_CLOEXEC);
}

TEST(when_all_above_the_floor_is_taken_descriptors_are_made_under_it)
{
    limit_files(PP__FD_FLOOR + 2);
    dup2(STDERR_FILENO, PP__FD_FLOOR);
    dup2(STDERR_FILENO, PP__FD_FLOOR + 1);
    int fd = (int)CHECK_OK(pp__fd_event());
    CHECK(fd >= 3 && fd < PP__FD_FLOOR);
}

TEST(too_many_open_files_names_the_limit)
{
    if (TEST_ON_VALGRIND)
        LEFT_OUT("valgrind answers a socketpair beyond the limit with EBADF");
    limit_files(20);
    while (open_null() >= 0) {
    }
    CHECK_INT(pp__fd_event(), -EMFILE);
    CHECK_HAS(pp_last_error(), "an eventfd: too many open files");
    CHECK_HAS(pp_last_error(), "RLIMIT_NOFILE");
    int pair[2] = {-5, -6};
    CHECK_INT(pp__fd_socketpair(pair), -EMFILE);
    CHECK_HAS(pp_last_error(), "RLIMIT_NOFILE");
    CHECK_INT(pair[0], -5);
    CHECK_INT(pair[1], -6);
    limit_files(40); /* the leak checker opens files at the end */
}

/* Adopting needs a second number for a moment: at each number of free ones it fails whole or succeeds. */
TEST(a_pair_is_made_whole_or_leaves_nothing_open)
{
    if (TEST_ON_VALGRIND)
        LEFT_OUT("valgrind answers a socketpair beyond the limit with EBADF");
    limit_files(40);
    int top = open_null(), succeeded = 0;
    while (open_null() >= 0) {
    }
    for (int free = 0; free < 5; free++) {
        int before = count_open(), pair[2];
        int rc = pp__fd_socketpair(pair);
        CHECK_INT(count_open(), before + (rc == 0 ? 2 : 0));
        CHECK(rc == 0 || rc == -EMFILE);
        if (rc == 0) {
            pp__fd_close(pair[0]);
            pp__fd_close(pair[1]);
            succeeded++;
        }
        close(top + free);
    }
    CHECK(succeeded > 0);
}

static void *open_and_close(void *unused)
{
    for (int i = 0; i < 500; i++) {
        int fd = (int)CHECK_OK(pp__fd_event());
        CHECK(is_open(fd));
        pp__fd_close(fd);
    }
    return unused;
}

TEST(threads_adopt_and_close_at_the_same_time)
{
    int before = count_open();
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        CHECK_INT(pthread_create(&threads[i], NULL, open_and_close, NULL), 0);
    for (int i = 0; i < 4; i++)
        CHECK_INT(pthread_join(threads[i], NULL), 0);
    CHECK_INT(count_open(), before);
}

/* ---------------------------------------------------------------------------------- in a forked child */

static int run_child(void (*body)(const int *), const int *fds)
{
    int status;
    pp__fd_lock();
    pid_t child = fork();
    if (child == 0) {
        body(fds);
        _exit(0);
    }
    pp__fd_unlock();
    CHECK_INT(waitpid(child, &status, 0), child);
    return status;
}

static void keep_the_second(const int *fds)
{
    pp__fd_close_inherited(&fds[1], 1);
    CHECK(!is_open(fds[0]));
    CHECK(is_open(fds[1]));
    CHECK(!is_open(fds[2]));
    CHECK(is_open(fds[3]));
    /* The registry is the child's own now, and its lock can be taken. */
    int fd = (int)CHECK_OK(pp__fd_event());
    int more[2] = {fd, fds[1]};
    pp__fd_close_inherited(&more[1], 1);
    CHECK(!is_open(fd));
    pp__fd_close_inherited(NULL, 0);
    CHECK(!is_open(fds[1]));
    /* What was closed is forgotten: its number may be the program's by now. */
    CHECK_INT(dup2(STDERR_FILENO, fds[0]), fds[0]);
    pp__fd_close_inherited(NULL, 0);
    CHECK(is_open(fds[0]));
}

TEST(a_child_closes_all_registered_but_the_kept_and_leaves_the_programs_own)
{
    int fds[4];
    for (int i = 0; i < 3; i++)
        fds[i] = (int)CHECK_OK(pp__fd_event());
    fds[3] = open_null();
    CHECK_INT(run_child(keep_the_second, fds), 0);
    for (int i = 0; i < 4; i++)
        CHECK(is_open(fds[i]));
}

static void close_inherited(const int *fds)
{
    pp__fd_close_inherited(NULL, 0);
    CHECK(is_open(fds[0]));
}

TEST(a_closed_descriptor_is_forgotten_and_its_number_free_for_the_program)
{
    int fd = (int)CHECK_OK(pp__fd_event());
    pp__fd_close(fd);
    int null = open_null();
    CHECK_INT(dup2(null, fd), fd);
    CHECK_INT(run_child(close_inherited, &fd), 0);
}

TEST(a_descriptor_far_up_is_registered_too)
{
    struct rlimit r;
    CHECK_OK(getrlimit(RLIMIT_NOFILE, &r));
    if (r.rlim_max < 1000)
        LEFT_OUT("RLIMIT_NOFILE can't be raised to 1000");
    limit_files(1000);
    int fds[700];
    for (int i = 0; i < 700; i++)
        fds[i] = (int)CHECK_OK(pp__fd_event());
    pid_t child = fork();
    if (child == 0) {
        pp__fd_close_inherited(&fds[650], 1);
        for (int i = 0; i < 700; i++)
            CHECK_INT(is_open(fds[i]), i == 650);
        _exit(0);
    }
    int status;
    CHECK_INT(waitpid(child, &status, 0), child);
    CHECK_INT(status, 0);
}

TEST(close_from_leaves_the_kept_in_any_order_and_what_is_below)
{
    int fds[6];
    for (int i = 0; i < 6; i++)
        fds[i] = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 20 + 3 * i);
    int below = dup2(STDERR_FILENO, 15);
    pp__fd_close_from(20, (int[]){fds[4], fds[2], fds[4], 2, fds[0]}, 5);
    CHECK(is_open(0) && is_open(1) && is_open(2));
    CHECK(is_open(below));
    CHECK(is_open(fds[0]));
    CHECK(!is_open(fds[1]));
    CHECK(is_open(fds[2]));
    CHECK(!is_open(fds[3]));
    CHECK(is_open(fds[4]));
    CHECK(!is_open(fds[5]));
}

TEST(close_from_keeps_neighbours_and_the_first)
{
    for (int fd = 20; fd < 30; fd++)
        dup2(STDERR_FILENO, fd);
    pp__fd_close_from(20, (int[]){20, 21, 25, 26, 29}, 5);
    for (int fd = 20; fd < 30; fd++)
        CHECK_INT(is_open(fd), fd == 20 || fd == 21 || fd == 25 || fd == 26 || fd == 29);
}

TEST(close_from_without_kept_ones_closes_all)
{
    for (int fd = 20; fd < 30; fd++)
        dup2(STDERR_FILENO, fd);
    pp__fd_close_from(3, NULL, 0);
    for (int fd = 3; fd < 1024; fd++)
        CHECK(!is_open(fd));
    CHECK(is_open(2));
}

/* ------------------------------------------------------------------------------------------ eventfds */

static int readable(int fd)
{
    uint64_t count;
    return read(fd, &count, sizeof count) == sizeof count;
}

TEST(a_ring_makes_an_eventfd_readable_and_a_clear_empties_it)
{
    int fd = (int)CHECK_OK(pp__fd_event());
    CHECK(!readable(fd));
    pp__fd_clear(fd); /* does not block on an empty one */
    CHECK_INT(pp__fd_ring(fd), 0);
    CHECK_INT(pp__fd_ring(fd), 0);
    pp__fd_clear(fd);
    CHECK(!readable(fd));
    CHECK_INT(pp__fd_ring(fd), 0);
    CHECK(readable(fd));
}

TEST(a_full_eventfd_does_not_block_and_its_ring_is_told_by_edges_too)
{
    int fd = (int)CHECK_OK(pp__fd_event()), set = epoll_create1(EPOLL_CLOEXEC);
    uint64_t most = UINT64_MAX - 1;
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    CHECK_INT(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event), 0);
    CHECK_INT(write(fd, &most, sizeof most), sizeof most);
    CHECK_INT(epoll_wait(set, &event, 1, 0), 1);
    CHECK_INT(epoll_wait(set, &event, 1, 0), 0);
    CHECK_INT(pp__fd_ring(fd), 0);
    CHECK_INT(epoll_wait(set, &event, 1, 0), 1);
    CHECK(readable(fd));
    close(set);
}

TEST(ringing_what_is_no_descriptor_says_so)
{
    int fd = (int)CHECK_OK(pp__fd_event());
    pp__fd_close(fd);
    CHECK_INT(pp__fd_ring(fd), -EBADF);
}

/* ------------------------------------------------------------------------------------------- messages */

struct sockets {
    int ours, theirs;
};

static struct sockets make_sockets(void)
{
    int pair[2];
    CHECK_OK(pp__fd_socketpair(pair));
    return (struct sockets){pair[0], pair[1]};
}

TEST(a_message_passes_both_ways_and_keeps_its_borders)
{
    struct sockets s = make_sockets();
    char text[16] = "";
    CHECK_OK(pp__fd_send(s.ours, "one", 4, NULL, 0));
    CHECK_OK(pp__fd_send(s.ours, "three", 6, NULL, 0));
    CHECK_OK(pp__fd_send(s.theirs, "back", 5, NULL, 0));
    CHECK_INT(pp__fd_receive(s.theirs, text, sizeof text, NULL, NULL, 0), 4);
    CHECK_STR(text, "one");
    CHECK_INT(pp__fd_receive(s.theirs, text, sizeof text, NULL, NULL, 0), 6);
    CHECK_STR(text, "three");
    CHECK_INT(pp__fd_receive(s.ours, text, sizeof text, NULL, NULL, 0), 5);
    CHECK_STR(text, "back");
    CHECK_INT(pp__fd_receive(s.ours, text, sizeof text, NULL, NULL, MSG_DONTWAIT), -EAGAIN);
}

static void pass_descriptors(int from, int to, size_t count)
{
    int sent[PP__FD_SEND_MAX] = {0}, got[PP__FD_SEND_MAX];
    char text[8];
    size_t came = PP__FD_SEND_MAX;
    for (size_t i = 0; i < count; i++)
        sent[i] = (int)CHECK_OK(pp__fd_adopt(memfd_create("sent", 0), "a file"));
    CHECK_OK(pp__fd_send(from, "x", 2, sent, count));
    CHECK_INT(pp__fd_receive(to, text, sizeof text, got, &came, 0), 2);
    CHECK_INT(came, count);
    for (size_t i = 0; i < count; i++) {
        CHECK(got[i] >= PP__FD_FLOOR && got[i] != sent[i]);
        CHECK(same_file(sent[i], got[i]));
        CHECK_INT(fcntl(got[i], F_GETFD), FD_CLOEXEC);
        pp__fd_close(sent[i]);
        pp__fd_close(got[i]);
    }
}

TEST(descriptors_pass_both_ways_up_to_the_most)
{
    struct sockets s = make_sockets();
    int before = count_open();
    for (size_t count = 0; count <= PP__FD_SEND_MAX; count += count < 10 ? 1 : PP__FD_SEND_MAX - 10) {
        pass_descriptors(s.ours, s.theirs, count);
        pass_descriptors(s.theirs, s.ours, count);
    }
    CHECK_INT(count_open(), before);
}

TEST(received_descriptors_are_registered)
{
    struct sockets s = make_sockets();
    char text[8];
    int got;
    size_t came = 1;
    CHECK_OK(pp__fd_send(s.ours, "x", 2, (int[]){STDERR_FILENO}, 1));
    CHECK_INT(pp__fd_receive(s.theirs, text, sizeof text, &got, &came, 0), 2);
    pid_t child = fork();
    if (child == 0) {
        pp__fd_close_inherited(NULL, 0);
        CHECK(!is_open(got));
        _exit(0);
    }
    int status;
    CHECK_INT(waitpid(child, &status, 0), child);
    CHECK_INT(status, 0);
}

TEST(more_descriptors_than_there_is_room_for_are_all_closed)
{
    struct sockets s = make_sockets();
    char text[8];
    int before = count_open(), got[2] = {-1, -1};
    size_t came = 2;
    CHECK_OK(pp__fd_send(s.ours, "x", 2, (int[]){1, 2, 1}, 3));
    CHECK_INT(pp__fd_receive(s.theirs, text, sizeof text, got, &came, 0), -EMSGSIZE);
    CHECK_INT(came, 0);
    CHECK_OK(pp__fd_send(s.ours, "x", 2, (int[]){1, 2, 1}, 3));
    CHECK_INT(pp__fd_receive(s.theirs, text, sizeof text, NULL, NULL, 0), -EMSGSIZE);
    CHECK_INT(count_open(), before);
}

TEST(many_more_descriptors_than_there_is_room_for_are_all_closed)
{
    struct sockets s = make_sockets();
    char text[8];
    int before = count_open(), got[3];
    size_t came = 3;
    int sent[PP__FD_SEND_MAX];
    for (size_t i = 0; i < PP__FD_SEND_MAX; i++)
        sent[i] = STDERR_FILENO;
    CHECK_OK(pp__fd_send(s.ours, "x", 2, sent, PP__FD_SEND_MAX));
    CHECK_INT(pp__fd_receive(s.theirs, text, sizeof text, got, &came, 0), -EMSGSIZE);
    CHECK_INT(came, 0);
    CHECK_INT(count_open(), before);
}

TEST(where_nothing_comes_the_count_is_zero)
{
    struct sockets s = make_sockets();
    char text[8];
    int got[3];
    size_t came = 3;
    CHECK_INT(pp__fd_receive(s.theirs, text, sizeof text, got, &came, MSG_DONTWAIT), -EAGAIN);
    CHECK_INT(came, 0);
    CHECK_OK(pp__fd_send(s.theirs, "unread", 7, NULL, 0));
    pp__fd_close(s.ours);
    came = 3;
    CHECK_INT(pp__fd_receive(s.theirs, text, sizeof text, got, &came, 0), 0);
    CHECK_INT(came, 0);
}

TEST(a_message_larger_than_the_room_is_an_error_and_its_descriptors_are_closed)
{
    struct sockets s = make_sockets();
    char text[4];
    int before = count_open(), got[2];
    size_t came = 2;
    CHECK_OK(pp__fd_send(s.ours, "too long", 9, (int[]){1, 2}, 2));
    CHECK_INT(pp__fd_receive(s.theirs, text, sizeof text, got, &came, 0), -EMSGSIZE);
    CHECK_INT(came, 0);
    CHECK_INT(count_open(), before);
}

TEST(descriptors_lost_for_want_of_numbers_are_an_error_and_the_rest_is_closed)
{
    struct sockets s = make_sockets();
    char text[8];
    int got[3];
    size_t came = 3;
    CHECK_OK(pp__fd_send(s.ours, "x", 2, (int[]){1, 2, 1}, 3));
    CHECK_OK(pp__fd_send(s.ours, "y", 2, NULL, 0));
    limit_files(30);
    int last = -1, fd;
    while ((fd = open_null()) >= 0)
        last = fd;
    close(last);
    int before = count_open();
    CHECK_INT(pp__fd_receive(s.theirs, text, sizeof text, got, &came, 0), -EMFILE);
    CHECK_HAS(pp_last_error(), "RLIMIT_NOFILE");
    CHECK_INT(came, 0);
    CHECK_INT(count_open(), before);
    CHECK_INT(pp__fd_receive(s.theirs, text, sizeof text, NULL, NULL, 0), 2);
    CHECK_STR(text, "y");
}

TEST(the_other_end_gone_is_0_for_the_receiver_and_epipe_for_the_sender_without_a_signal)
{
    struct sockets s = make_sockets();
    char text[8];
    CHECK_OK(pp__fd_send(s.theirs, "last", 5, NULL, 0));
    pp__fd_close(s.theirs);
    CHECK_INT(pp__fd_send(s.ours, "x", 2, NULL, 0), -EPIPE);
    CHECK_INT(pp__fd_receive(s.ours, text, sizeof text, NULL, NULL, 0), 5);
    CHECK_INT(pp__fd_receive(s.ours, text, sizeof text, NULL, NULL, 0), 0);
}

TEST(the_other_end_gone_with_our_message_unread_is_the_same)
{
    struct sockets s = make_sockets();
    char text[8];
    CHECK_OK(pp__fd_send(s.ours, "unread", 7, NULL, 0));
    pp__fd_close(s.theirs);
    CHECK_INT(pp__fd_receive(s.ours, text, sizeof text, NULL, NULL, 0), 0);
    CHECK_INT(pp__fd_send(s.ours, "x", 2, NULL, 0), -EPIPE);
}

TEST(a_full_socket_does_not_block_the_sender)
{
    struct sockets s = make_sockets();
    char text[1024] = "";
    int rc, sent = 0;
    while ((rc = pp__fd_send(s.ours, text, sizeof text, NULL, 0)) == 0)
        sent++;
    CHECK_INT(rc, -EAGAIN);
    CHECK(sent > 0);
    CHECK_INT(pp__fd_receive(s.theirs, text, sizeof text, NULL, NULL, 0), sizeof text);
    CHECK_OK(pp__fd_send(s.ours, text, sizeof text, NULL, 0));
}

static void nothing(int signal)
{
    (void)signal;
}

TEST(a_receive_goes_on_after_a_signal)
{
    struct sockets s = make_sockets();
    struct sigaction action = {.sa_handler = nothing};
    CHECK_OK(sigaction(SIGUSR1, &action, NULL));
    pid_t receiver = getpid(), child = fork();
    if (child == 0) {
        for (int i = 0; i < 5; i++) {
            test_sleep_ms(10);
            kill(receiver, SIGUSR1);
        }
        _exit(pp__fd_send(s.ours, "x", 2, NULL, 0));
    }
    char text[8];
    CHECK_INT(pp__fd_receive(s.theirs, text, sizeof text, NULL, NULL, 0), 2);
    int status;
    while (waitpid(child, &status, 0) < 0) {
    }
    CHECK_INT(status, 0);
}
