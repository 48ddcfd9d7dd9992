/* SPDX-License-Identifier: MIT */
/* A launcher and its children's lives: starting, ending, killing, being told. */
#include "kit.h"
#include "process/owner.h"
#include "process/sanitizer.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/ioctl.h>

static void body_exit(const int *fds, size_t count, const void *data, size_t size, int shared)
{
    (void)fds, (void)count, (void)size, (void)shared;
    int status;
    memcpy(&status, data, sizeof status);
    exit(status);
}

static void body_signal(const int *fds, size_t count, const void *data, size_t size, int shared)
{
    (void)fds, (void)count, (void)size, (void)shared;
    int number;
    memcpy(&number, data, sizeof number);
    raise(number);
    kit_sleep_for_ever();
}

/* ------------------------------------------------------------------------------------------ ends */

TEST_BOTH(a_child_that_returns_is_told_started_then_ended_with_status_0)
{
    pp_launcher *launcher = kit_launcher(method);
    int connection = (int)CHECK_OK(pp__launcher_connect(launcher));
    int status = 0;
    kit_start_with(connection, 1, body_exit, &status, sizeof status, NULL, 0);
    kit_started(connection, 1);
    kit_ended(connection, 1, CLD_EXITED, 0);
    pp__launcher_disconnect(connection);
    pp_launcher_unref(launcher);
}

TEST_BOTH(ends_are_told_with_the_status_or_the_signal)
{
    static const struct {
        kit_body *body;
        int value, code;
    } ends[] = {{body_exit, 7, CLD_EXITED},
                {body_signal, SIGKILL, CLD_KILLED},
                {body_signal, SIGSEGV, CLD_KILLED},
                {body_signal, SIGTERM, CLD_KILLED},
                {body_exit, 255, CLD_EXITED}};
    pp_launcher *launcher = kit_launcher(method);
    int connection = (int)CHECK_OK(pp__launcher_connect(launcher));
    for (uint64_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        kit_start_with(connection, i, ends[i].body, &ends[i].value, sizeof(int), NULL, 0);
        kit_started(connection, i);
        struct pp__report report = kit_report(connection);
        CHECK_INT(report.type, PP__REPORT_ENDED);
        CHECK_INT(report.serial, i);
        if (report.code == CLD_DUMPED)
            report.code = CLD_KILLED;
        CHECK_INT(report.code, ends[i].code);
        CHECK_INT(report.status, ends[i].value);
    }
    pp__launcher_disconnect(connection);
    pp_launcher_unref(launcher);
}

TEST_BOTH(a_stopped_child_is_not_reported_until_it_is_killed)
{
    pp_launcher *launcher = kit_launcher(method);
    int connection = (int)CHECK_OK(pp__launcher_connect(launcher));
    int stop = SIGSTOP;
    kit_start_with(connection, 5, body_signal, &stop, sizeof stop, NULL, 0);
    pid_t pid = kit_started(connection, 5);
    wait_until(test_process_state(pid, NULL, NULL) == 'T', 5);
    test_sleep_ms(20);
    struct pp__report report;
    CHECK_INT(pp__launcher_report(connection, &report), 0);
    CHECK_OK(pp__launcher_kill(connection, 5));
    kit_ended(connection, 5, CLD_KILLED, SIGKILL);
    pp__launcher_disconnect(connection);
    pp_launcher_unref(launcher);
}

TEST_BOTH(a_kill_reaches_the_named_child_alone)
{
    pp_launcher *launcher = kit_launcher(method);
    int connection = (int)CHECK_OK(pp__launcher_connect(launcher));
    int other = (int)CHECK_OK(pp__launcher_connect(launcher));
    kit_start(connection, 1, kit_body_sleep);
    pid_t first = kit_started(connection, 1);
    kit_start(connection, 2, kit_body_sleep);
    kit_start(other, 2, kit_body_sleep);
    kit_started(connection, 2);
    pid_t others = kit_started(other, 2);
    CHECK_OK(pp__launcher_kill(connection, 2));
    kit_ended(connection, 2, CLD_KILLED, SIGKILL);
    CHECK(test_process_alive(first));
    CHECK(test_process_alive(others));
    pp__launcher_disconnect(connection);
    pp__launcher_disconnect(other);
    pp_launcher_unref(launcher);
}

TEST_BOTH(a_kill_for_an_unknown_or_ended_child_does_nothing)
{
    pp_launcher *launcher = kit_launcher(method);
    int connection = (int)CHECK_OK(pp__launcher_connect(launcher));
    int status = 3;
    kit_start(connection, 1, kit_body_sleep);
    pid_t pid = kit_started(connection, 1);
    kit_start_with(connection, 2, body_exit, &status, sizeof status, NULL, 0);
    kit_started(connection, 2);
    kit_ended(connection, 2, CLD_EXITED, 3);
    CHECK_OK(pp__launcher_kill(connection, 2));
    CHECK_OK(pp__launcher_kill(connection, 77));
    CHECK_OK(pp__launcher_kill(connection, UINT64_MAX));
    kit_start_with(connection, 3, body_exit, &status, sizeof status, NULL, 0);
    kit_started(connection, 3);
    kit_ended(connection, 3, CLD_EXITED, 3);
    CHECK(test_process_alive(pid));
    pp__launcher_disconnect(connection);
    pp_launcher_unref(launcher);
}

TEST_BOTH(a_disconnect_kills_that_connections_children_alone)
{
    pp_launcher *launcher = kit_launcher(method);
    int connection = (int)CHECK_OK(pp__launcher_connect(launcher));
    int other = (int)CHECK_OK(pp__launcher_connect(launcher));
    pid_t pids[3];
    for (int i = 0; i < 3; i++) {
        kit_start(i == 2 ? other : connection, (uint64_t)i, kit_body_sleep);
        pids[i] = kit_started(i == 2 ? other : connection, (uint64_t)i);
    }
    pp__launcher_disconnect(connection);
    wait_until(!test_process_alive(pids[0]) && !test_process_alive(pids[1]), 5);
    test_sleep_ms(20);
    CHECK(test_process_alive(pids[2]));
    pp__launcher_disconnect(other);
    pp_launcher_unref(launcher);
}

TEST_BOTH(a_disconnect_counts_although_a_forked_child_of_the_host_holds_copies)
{
    pp_launcher *launcher = kit_launcher(method);
    int connection = (int)CHECK_OK(pp__launcher_connect(launcher));
    kit_start(connection, 1, kit_body_sleep);
    pid_t pid = kit_started(connection, 1);
    pid_t holder = fork();
    if (holder == 0)
        kit_sleep_for_ever();
    pp__launcher_disconnect(connection);
    wait_until(!test_process_alive(pid), 5);
    pp_launcher_unref(launcher);
    kill(holder, SIGKILL);
    CHECK_INT(waitpid(holder, NULL, 0), holder);
}

TEST_BOTH(a_childs_own_children_go_with_it)
{
    pp_launcher *launcher = kit_launcher(method);
    int connection = (int)CHECK_OK(pp__launcher_connect(launcher));
    extern void body_parent(const int *, size_t, const void *, size_t, int);
    for (int how = 0; how < 3; how++) {
        int talk;
        kit_talker(connection, (uint64_t)how, body_parent, &how, sizeof how, &talk);
        pid_t grandchild = kit_hear_int(talk);
        CHECK(how != 0 || test_process_alive(grandchild)); /* the others leave at once */
        if (how == 0)
            CHECK_OK(pp__launcher_kill(connection, 0));
        kit_ended(connection, (uint64_t)how, how == 0 ? CLD_KILLED : CLD_EXITED, how == 0 ? SIGKILL : 0);
        wait_until(!test_process_alive(grandchild), 5);
        pp__fd_close(talk);
    }
    pp__launcher_disconnect(connection);
    pp_launcher_unref(launcher);
}

/* 0: waits to be killed; 1: leaves at once; 2: leaves after its child stopped itself. */
void body_parent(const int *fds, size_t count, const void *data, size_t size, int shared);
void body_parent(const int *fds, size_t count, const void *data, size_t size, int shared)
{
    (void)count, (void)size, (void)shared;
    int how;
    memcpy(&how, data, sizeof how);
    pid_t pid = fork();
    if (pid == 0) {
        signal(SIGTERM, SIG_IGN);
        if (how == 2)
            raise(SIGSTOP);
        kit_sleep_for_ever();
    }
    if (how == 2)
        waitpid(pid, NULL, WUNTRACED);
    kit_say_int(fds[0], pid);
    if (how == 0)
        kit_sleep_for_ever();
}

/* ------------------------------------------------------------------------------------------ the host sees nothing */

static volatile sig_atomic_t signals_seen;

static void count_signal(int number)
{
    (void)number;
    signals_seen++;
}

TEST_BOTH(the_host_has_no_child_to_wait_for_and_no_SIGCHLD)
{
#ifdef PP_TSAN
    LEFT_OUT("under thread sanitizer the helper is an ordinary child");
#endif
    struct sigaction action = {.sa_handler = count_signal};
    sigaction(SIGCHLD, &action, NULL);
    pp_launcher *launcher = kit_launcher(method);
    CHECK(wait(NULL) == -1 && errno == ECHILD);
    int connection = (int)CHECK_OK(pp__launcher_connect(launcher));
    int status = 0;
    kit_start(connection, 1, kit_body_sleep);
    kit_started(connection, 1);
    CHECK(wait(NULL) == -1 && errno == ECHILD);
    CHECK(waitpid(-1, NULL, __WALL) == -1 && errno == ECHILD);
    kit_start_with(connection, 2, body_exit, &status, sizeof status, NULL, 0);
    kit_started(connection, 2);
    kit_ended(connection, 2, CLD_EXITED, 0);
    pp__launcher_disconnect(connection);
    pp_launcher_unref(launcher);
    test_sleep_ms(50);
    CHECK(wait(NULL) == -1 && errno == ECHILD);
    CHECK_INT(signals_seen, 0);
}

TEST_BOTH(statuses_come_although_the_host_ignores_SIGCHLD)
{
    signal(SIGCHLD, SIG_IGN);
    pp_launcher *launcher = kit_launcher(method);
    int connection = (int)CHECK_OK(pp__launcher_connect(launcher));
    int status = 9;
    kit_start_with(connection, 1, body_exit, &status, sizeof status, NULL, 0);
    kit_started(connection, 1);
    kit_ended(connection, 1, CLD_EXITED, 9);
    CHECK(signal(SIGCHLD, SIG_DFL) == SIG_IGN);
    pp__launcher_disconnect(connection);
    pp_launcher_unref(launcher);
}

static atomic_bool stop_reaping;

static void *reap_everything(void *unused)
{
    while (!stop_reaping)
        waitpid(-1, NULL, __WALL | WNOHANG);
    return unused;
}

TEST_BOTH_WITHIN(a_launcher_is_made_although_a_thread_reaps_everything, 60)
{
    pthread_t thread;
    pthread_create(&thread, NULL, reap_everything, NULL);
    for (int i = 0; i < 20; i++)
        pp_launcher_unref(kit_launcher(method));
    stop_reaping = true;
    pthread_join(thread, NULL);
}

TEST_BOTH(the_signal_mask_of_the_host_is_as_before)
{
    sigset_t before, after;
    sigemptyset(&before);
    sigaddset(&before, SIGUSR1);
    sigprocmask(SIG_SETMASK, &before, NULL);
    pp_launcher_unref(kit_launcher(method));
    sigprocmask(SIG_SETMASK, NULL, &after);
    for (int i = 1; i <= 64; i++)
        CHECK_INT(sigismember(&after, i), i == SIGUSR1);
}

static void *create_and_end(void *method)
{
    return kit_launcher(*(pp_start_method *)method);
}

TEST_BOTH(a_launcher_made_in_a_thread_that_ended_lives_on)
{
    void *made;
    pthread_t thread;
    int status = 4;
    pthread_create(&thread, NULL, create_and_end, &method);
    pthread_join(thread, &made);
    pp_launcher *launcher = made;
    test_sleep_ms(50);
    int connection = (int)CHECK_OK(pp__launcher_connect(launcher));
    kit_start_with(connection, 1, body_exit, &status, sizeof status, NULL, 0);
    kit_started(connection, 1);
    kit_ended(connection, 1, CLD_EXITED, 4);
    pp__launcher_disconnect(connection);
    pp_launcher_unref(launcher);
}

static _Atomic bool holds, lets_go;

/* Known to this thread's stack alone, which is not there in a copy of the process. */
static void *hold_memory(void *unused)
{
    void *volatile memory = malloc(1000);
    holds = true;
    while (!lets_go)
        test_sleep_ms(1);
    free(memory);
    return unused;
}

/* Valgrind takes it for a leak of the process that makes the zygote, and has that exit with a status of its own. */
TEST_BOTH(a_launcher_is_made_although_another_thread_alone_knows_of_its_memory)
{
    pthread_t thread;
    if (PP_ON_VALGRIND && method == PP_START_FORK)
        LEFT_OUT("valgrind tells of that memory as a leak of the zygote's, too");
    pthread_create(&thread, NULL, hold_memory, NULL);
    while (!holds)
        test_sleep_ms(1);
    pp_launcher_unref(kit_launcher(method));
    lets_go = true;
    pthread_join(thread, NULL);
}

static void *create_while_cancelled(void *unused)
{
    pthread_cancel(pthread_self());
    pp_launcher *launcher = kit_launcher(PP_START_FORK);
    int connection = (int)CHECK_OK(pp__launcher_connect(launcher));
    pp__launcher_disconnect(connection);
    pp_launcher_unref(launcher);
    pthread_testcancel();
    return unused;
}

TEST(making_a_launcher_is_no_cancellation_point)
{
#ifdef PP_ASAN
    LEFT_OUT("address sanitizer does not follow a cancelled thread's unwinding");
#endif
    pthread_t thread;
    void *result;
    pthread_create(&thread, NULL, create_while_cancelled, NULL);
    pthread_join(thread, &result);
    CHECK(result == PTHREAD_CANCELED);
}

/* ------------------------------------------------------------------------------------------ many, and slow readers */

TEST_BOTH_WITHIN(reports_wait_for_a_slow_owner_and_come_in_order, 60)
{
    enum { MANY = 700 }; /* twice as many reports as the socket takes */
    pp_launcher *launcher = kit_launcher(method);
    int connection = (int)CHECK_OK(pp__launcher_connect(launcher));
    int status = 1;
    static struct {
        pid_t pid;
        bool ended;
    } children[MANY];
    for (uint64_t i = 0; i < MANY; i++) {
        struct pp__plan plan = {.serial = i, .name = "pp-child", .size = 8 + sizeof status};
        struct kit_order order = {.body = (int64_t)((uintptr_t)body_exit - (uintptr_t)kit_entry)};
        memcpy(order.data, &status, sizeof status);
        memcpy(plan.data, &order, sizeof plan.data);
        int error;
        while ((error = pp__launcher_start(connection, &plan, NULL, 0)) == -EAGAIN)
            test_sleep_ms(1);
        CHECK_OK(error);
    }
    wait_until(count_descendants_named(getppid(), "pp-child") == 0, 30);
    int error; /* the zygote still listens */
    while ((error = pp__launcher_kill(connection, 1)) == -EAGAIN)
        test_sleep_ms(1);
    CHECK_OK(error);
    for (int i = 0; i < 2 * MANY; i++) {
        struct pp__report report = kit_report(connection);
        CHECK(report.serial < MANY);
        if (report.type == PP__REPORT_STARTED) {
            CHECK(children[report.serial].pid == 0);
            children[report.serial].pid = report.pid;
        } else {
            CHECK_INT(report.type, PP__REPORT_ENDED);
            CHECK(!children[report.serial].ended);
            CHECK_INT(report.pid, children[report.serial].pid);
            CHECK_INT(report.code, CLD_EXITED);
            CHECK_INT(report.status, 1);
            children[report.serial].ended = true;
        }
    }
    struct pp__report none;
    CHECK_INT(pp__launcher_report(connection, &none), 0);
    pp__launcher_disconnect(connection);
    pp_launcher_unref(launcher);
}

/* ------------------------------------------------------------------------------------------ the zygote's end */

static pid_t zygote_of(int connection)
{
    kit_start(connection, 999, kit_body_sleep);
    pid_t parent = 0, pid = kit_started(connection, 999);
    test_process_state(pid, &parent, NULL);
    return parent;
}

static int bytes_in(int socket)
{
    int size = 0;
    CHECK_INT(ioctl(socket, FIONREAD, &size), 0);
    return size;
}

TEST_BOTH(when_the_zygote_dies_its_reports_are_drained_then_it_is_gone_and_so_are_the_children)
{
    pp_launcher *launcher = kit_launcher(method);
    int connection = (int)CHECK_OK(pp__launcher_connect(launcher)), status = 2;
    char text[200];
    pid_t zygote = zygote_of(connection);
    CHECK_STR(pp__launcher_epitaph(launcher, text, sizeof text), "");
    kit_start(connection, 1, kit_body_sleep);
    pid_t pid = kit_started(connection, 1);
    kit_start_with(connection, 2, body_exit, &status, sizeof status, NULL, 0);
    wait_until(bytes_in(connection) == 2 * (int)sizeof(struct pp__report), 5);
    kill(zygote, SIGSTOP);
    CHECK_OK(pp__launcher_kill(connection, 55)); /* dies with this unread */
    kill(zygote, SIGKILL);
    wait_until(!test_process_alive(zygote), 5);
    kit_started(connection, 2);
    kit_ended(connection, 2, CLD_EXITED, 2);
    kit_gone(connection);
    wait_until(!test_process_alive(pid), 5);
    wait_until(*pp__launcher_epitaph(launcher, text, sizeof text), 5);
    char part[32];
    snprintf(part, sizeof part, "(pid %d)", (int)zygote);
    CHECK_HAS(text, part);
    CHECK_INT(pp__launcher_kill(connection, 1), -EPIPE);
    CHECK_INT(pp__launcher_start(connection, &(struct pp__plan){0}, NULL, 0), -EPIPE);
    CHECK_INT(pp__launcher_connect(launcher), -EPIPE);
    CHECK_HAS(pp_last_error(), part);
    pp__launcher_disconnect(connection);
    pp_launcher_unref(launcher);
}

TEST_BOTH(the_last_reference_ends_the_zygote)
{
    pp_launcher *launcher = kit_launcher(method);
    int connection = (int)CHECK_OK(pp__launcher_connect(launcher));
    pid_t zygote = zygote_of(connection);
    CHECK(pp_launcher_ref(launcher) == launcher);
    pp_launcher_unref(launcher);
    test_sleep_ms(30);
    CHECK(test_process_alive(zygote));
    pp__launcher_disconnect(connection);
    test_sleep_ms(30);
    CHECK(test_process_alive(zygote));
    pp_launcher_unref(launcher);
    wait_until(!test_process_alive(zygote), 5);
}

/* ------------------------------------------------------------------------------------------ the host's own forks */

TEST_BOTH(in_a_child_forked_by_the_host_nothing_may_be_used_and_nothing_is_hurt)
{
    pp_launcher *launcher = kit_launcher(method);
    CHECK(pp__owner_is_self());
    pid_t pid = fork();
    if (pid == 0) {
        pp_launcher *mine = NULL;
        CHECK(!pp__owner_is_self());
        CHECK_INT(pp_launcher_create(NULL, &mine), -EPERM);
        CHECK_HAS(pp_last_error(), "fork");
        CHECK(!mine);
        CHECK(pp_launcher_ref(launcher) == launcher);
        pp_launcher_unref(launcher);
        pp_launcher_unref(launcher);
        _exit(0);
    }
    int status;
    CHECK_INT(waitpid(pid, &status, 0), pid);
    CHECK_INT(status, 0);
    int connection = (int)CHECK_OK(pp__launcher_connect(launcher));
    zygote_of(connection);
    pp__launcher_disconnect(connection);
    pp_launcher_unref(launcher);
}

TEST(a_child_forked_before_the_first_use_is_an_owner_of_its_own)
{
    pid_t pid = fork();
    if (pid == 0) {
        pp_launcher_unref(kit_launcher(PP_START_FORK));
        _exit(0);
    }
    int status;
    CHECK_INT(waitpid(pid, &status, 0), pid);
    CHECK_INT(status, 0);
}

/* ------------------------------------------------------------------------------------------ options */

static int create_with(pp_launcher_options options)
{
    pp_launcher *launcher = (pp_launcher *)&options;
    int error = pp_launcher_create(&options, &launcher);
    if (error)
        CHECK(launcher == (pp_launcher *)&options); /* outputs are written only on success */
    else
        pp_launcher_unref(launcher);
    return error;
}

TEST(bad_options_are_refused_with_a_text)
{
    int fds[65] = {0};
    const char *const preload[] = {"libm.so.6", NULL}, *const none[] = {NULL};
    CHECK_INT(pp_launcher_create(NULL, NULL), -EINVAL);
    CHECK_INT(create_with((pp_launcher_options){.start_method = (pp_start_method)5}), -EINVAL);
    CHECK_HAS(pp_last_error(), "start_method 5");
    CHECK_INT(create_with((pp_launcher_options){.start_method = (pp_start_method)-1}), -EINVAL);
    CHECK_INT(create_with((pp_launcher_options){.reserved = {0, 0, 0, 1}}), -EINVAL);
    CHECK_HAS(pp_last_error(), "reserved[3]");
    CHECK_INT(create_with((pp_launcher_options){.inherit_fd_count = 1}), -EINVAL);
    CHECK_INT(create_with((pp_launcher_options){.inherit_fds = fds, .inherit_fd_count = 65}), -EINVAL);
    CHECK_HAS(pp_last_error(), "64");
    fds[1] = 987;
    CHECK_INT(create_with((pp_launcher_options){.inherit_fds = fds, .inherit_fd_count = 2}), -EBADF);
    CHECK_HAS(pp_last_error(), "inherit_fds[1] is 987");
    fds[1] = -1;
    CHECK_INT(create_with((pp_launcher_options){.inherit_fds = fds, .inherit_fd_count = 2}), -EBADF);
    CHECK_INT(create_with((pp_launcher_options){.start_method = PP_START_FORK, .preload = preload}), -EINVAL);
    CHECK_HAS(pp_last_error(), "preload");
    CHECK_INT(create_with((pp_launcher_options){.start_method = PP_START_INLINE, .preload = preload}), -EINVAL);
    CHECK_INT(create_with((pp_launcher_options){.start_method = PP_START_SPAWN, .preload = preload}), -EINVAL);
    CHECK_INT(create_with((pp_launcher_options){.start_method = PP_START_FORKSERVER, .preload = preload}), 0);
    CHECK_INT(create_with((pp_launcher_options){.start_method = PP_START_FORKSERVER, .command = preload}), -EINVAL);
    CHECK_HAS(pp_last_error(), "command");
    CHECK_INT(create_with((pp_launcher_options){.command = none}), -EINVAL);
}

TEST(inline_has_no_process)
{
    pp_launcher *launcher = kit_launcher(PP_START_INLINE);
    char text[10];
    CHECK_STR(pp__launcher_epitaph(launcher, text, sizeof text), "");
    CHECK_INT(count_descendants_named(getppid(), "pp-"), 0);
    pp_launcher_unref(launcher);
    pp_launcher_unref(NULL);
    CHECK(pp_launcher_ref(NULL) == NULL);
}

TEST(PROCPOOL_START_overrides_the_method)
{
    static const struct {
        const char *text;
        pp_start_method asked, got;
    } cases[] = {{"fork", PP_START_FORKSERVER, PP_START_FORK},
                 {"forkserver", PP_START_FORK, PP_START_FORKSERVER},
                 {"spawn", PP_START_FORK, PP_START_SPAWN},
                 {"inline", PP_START_DEFAULT, PP_START_INLINE},
                 {"", PP_START_FORK, PP_START_FORK}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pp_launcher *launcher;
        setenv("PROCPOOL_START", cases[i].text, 1);
        CHECK_OK(pp_launcher_create(&(pp_launcher_options){.start_method = cases[i].asked}, &launcher));
        CHECK_INT(pp__launcher_method(launcher), cases[i].got);
        pp_launcher_unref(launcher);
    }
    static const char *const wrong[] = {"spawned", "Fork", "fork ", "forkserver2"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        setenv("PROCPOOL_START", wrong[i], 1);
        CHECK_INT(create_with((pp_launcher_options){0}), -EINVAL);
        CHECK_HAS(pp_last_error(), "PROCPOOL_START");
    }
}

TEST(the_default_is_forkserver_where_main_called_pp_worker_main)
{
    pp_launcher *launcher;
    CHECK_OK(pp_launcher_create(NULL, &launcher));
    CHECK_INT(pp__launcher_method(launcher), PP_START_FORKSERVER);
    pp_launcher_unref(launcher);
}

TEST(without_pp_worker_main_the_default_is_fork_and_forkserver_says_what_to_do)
{
    if (!getenv("PP_TEST_NO_WORKER_MAIN")) {
        char path[4096];
        setenv("PP_TEST_NO_WORKER_MAIN", "1", 1);
        execl(test_program(path), "again", "--run",
              "without_pp_worker_main_the_default_is_fork_and_forkserver_says_what_to_do", NULL);
        CHECK(!"exec");
    }
    pp_launcher *launcher;
    CHECK_OK(pp_launcher_create(NULL, &launcher));
    CHECK_INT(pp__launcher_method(launcher), PP_START_FORK);
    pp_launcher_unref(launcher);
    CHECK_INT(create_with((pp_launcher_options){.start_method = PP_START_FORKSERVER}), -ENOSYS);
    CHECK_INT(create_with((pp_launcher_options){.start_method = PP_START_SPAWN}), -ENOSYS);
    CHECK_HAS(pp_last_error(), "spawn needs a call of pp_worker_main");
    CHECK_HAS(pp_last_error(), "pp_worker_main()");
    setenv("PROCPOOL_START", "forkserver", 1);
    CHECK_INT(create_with((pp_launcher_options){0}), -ENOSYS);
}

TEST(a_full_descriptor_table_is_EMFILE)
{
    if (PP_ON_VALGRIND)
        LEFT_OUT("valgrind keeps descriptors of its own in the table");
    int limit = 0;
    for (int fd; (fd = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0;)
        limit = fd;
    CHECK(limit > 0);
    CHECK_INT(create_with((pp_launcher_options){.start_method = PP_START_FORK}), -EMFILE);
    CHECK_HAS(pp_last_error(), "RLIMIT_NOFILE");
    CHECK_INT(create_with((pp_launcher_options){.start_method = PP_START_FORKSERVER}), -EMFILE);
    for (int i = 0; i < 16; i++)
        close(limit - i);
    CHECK_OK(create_with((pp_launcher_options){.start_method = PP_START_FORK}));
    CHECK_OK(create_with((pp_launcher_options){.start_method = PP_START_FORKSERVER}));
}

/* ------------------------------------------------------------------------------------------ nothing is left */

static int open_descriptors(void)
{
    int count = 0;
    DIR *directory = opendir("/proc/self/fd");
    while (readdir(directory))
        count++;
    closedir(directory);
    return count;
}

static long mapped_pages(void)
{
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    CHECK(file && fscanf(file, "%ld", &pages) == 1);
    fclose(file);
    return pages;
}

TEST_BOTH_WITHIN(launchers_leave_no_descriptor_and_no_mapping_behind, 60)
{
    pp_launcher_unref(kit_launcher(method));
    int before = open_descriptors();
    long pages = mapped_pages();
    for (int i = 0; i < 30; i++) {
        pp_launcher *launcher = kit_launcher(method);
        int connection = (int)CHECK_OK(pp__launcher_connect(launcher));
        kit_start(connection, 1, kit_body_sleep);
        kit_started(connection, 1);
        pp__launcher_disconnect(connection);
        pp_launcher_unref(launcher);
    }
    CHECK_INT(open_descriptors(), before);
    CHECK(mapped_pages() - pages < 128);
}
