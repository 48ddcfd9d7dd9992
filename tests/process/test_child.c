/* SPDX-License-Identifier: MIT */
/* What a child starts as: clean. Each test has a child look at itself and tell. */
#include "kit.h"
#include "process/owner.h"
#include "process/sanitizer.h"

#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <wchar.h>

/* One child of a fresh launcher, its socket in *talk. The launcher ends with the test's process. */
static int start_one(const pp_launcher_options *options, kit_body *body, const void *data, size_t size, int *talk)
{
    pp_launcher *launcher;
    CHECK_OK(pp_launcher_create(options, &launcher));
    kit_keep(launcher);
    int connection = (int)CHECK_OK(pp__launcher_connect(launcher));
    kit_talker(connection, 1, body, data, size, talk);
    return connection;
}

static int start_method(pp_start_method method, kit_body *body, int *talk)
{
    return start_one(&(pp_launcher_options){.start_method = method}, body, "", 0, talk);
}

/* ------------------------------------------------------------------------------------------ descriptors */

#define SEEN_MAX 400

/* Says which descriptors are open, the one of the look apart. */
static void body_descriptors(const int *fds, size_t count, const void *data, size_t size, int shared)
{
    (void)count, (void)data, (void)size, (void)shared;
    int seen[SEEN_MAX], have = 0;
    DIR *directory = opendir("/proc/self/fd");
    for (struct dirent *entry; (entry = readdir(directory));)
        if (*entry->d_name != '.' && atoi(entry->d_name) != dirfd(directory) && have < SEEN_MAX)
            seen[have++] = atoi(entry->d_name);
    kit_say(fds[0], seen, (size_t)have * sizeof *seen);
    kit_say(fds[0], fds, count * sizeof *fds);
    kit_sleep_for_ever();
}

/* `wanted` ends with -1; the child's own plan descriptor is wanted besides. */
static void check_descriptors(const pp_launcher_options *options, const int *wanted)
{
    int talk, seen[SEEN_MAX + 1] = {0}, own[2] = {0};
    start_one(options, body_descriptors, "", 0, &talk);
    size_t have = kit_hear(talk, seen, sizeof seen) / sizeof *seen;
    CHECK_INT(kit_hear(talk, own, sizeof own), sizeof(int));
    CHECK(own[0] >= PP__FD_FLOOR);
    for (size_t i = 0; i < have; i++) {
        bool is_wanted = seen[i] == own[0];
        for (const int *w = wanted; *w >= 0; w++)
            is_wanted |= *w == seen[i];
        if (!is_wanted)
            harness_fail(__FILE__, __LINE__, "descriptor %d is open in the child", seen[i]);
    }
    size_t expected = 1;
    for (const int *w = wanted; *w >= 0; w++)
        expected++;
    CHECK_INT(have, expected);
}

/* Descriptors of all kinds in the owner: the host's at 50 and 51, ours of another launcher. */
static void open_some(void)
{
    if (PP_ON_VALGRIND)
        LEFT_OUT("valgrind keeps descriptors of its own in the table");
    close_range(3, UINT_MAX, 0); /* what the shell that runs the tests left open */
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    dup2(null, 50);
    dup2(null, 51);
    close(null);
    CHECK_OK(pp__launcher_connect(kit_launcher(PP_START_FORK)));
    CHECK_OK(pp__fd_event());
}

TEST(under_forkserver_a_child_has_the_standard_three_the_plans_and_the_inherited)
{
    open_some();
    check_descriptors(&(pp_launcher_options){.start_method = PP_START_FORKSERVER}, (int[]){0, 1, 2, -1});
    check_descriptors(&(pp_launcher_options){.start_method = PP_START_FORKSERVER,
                                             .inherit_fds = (int[]){51, 0, 2},
                                             .inherit_fd_count = 3},
                      (int[]){0, 1, 2, 51, -1});
}

TEST(under_fork_a_child_has_the_hosts_descriptors_and_none_of_the_librarys)
{
    open_some();
    check_descriptors(&(pp_launcher_options){.start_method = PP_START_FORK}, (int[]){0, 1, 2, 50, 51, -1});
}

TEST(under_fork_close_fds_leaves_the_standard_three_the_plans_and_the_inherited)
{
    open_some();
    check_descriptors(&(pp_launcher_options){.start_method = PP_START_FORK, .close_fds = 1}, (int[]){0, 1, 2, -1});
    check_descriptors(
        &(pp_launcher_options){
            .start_method = PP_START_FORK, .close_fds = 1, .inherit_fds = (int[]){50}, .inherit_fd_count = 1},
        (int[]){0, 1, 2, 50, -1});
}

static void body_standard(const int *fds, size_t count, const void *data, size_t size, int shared)
{
    (void)count, (void)data, (void)size, (void)shared;
    struct stat s[4];
    memset(s, 0, sizeof s);
    for (int i = 0; i < 3; i++)
        fstat(i, &s[i]);
    stat("/dev/null", &s[3]);
    unsigned long told[4];
    for (int i = 0; i < 4; i++)
        told[i] = s[i].st_ino;
    kit_say(fds[0], told, sizeof told);
    kit_sleep_for_ever();
}

TEST_BOTH(stdin_is_dev_null_and_the_other_two_are_the_owners)
{
    int talk, pair[2], other[2];
    struct stat out, err;
    CHECK_INT(pipe(pair), 0);
    CHECK_INT(pipe(other), 0);
    dup2(pair[1], 1);
    dup2(other[0], 0);
    fstat(1, &out);
    fstat(2, &err);
    start_method(method, body_standard, &talk);
    unsigned long told[5];
    CHECK_INT(kit_hear(talk, told, sizeof told), 4 * sizeof *told);
    CHECK_INT(told[0], told[3]);
    CHECK_INT(told[1], out.st_ino);
    CHECK_INT(told[2], err.st_ino);
}

TEST_BOTH(closed_standard_descriptors_are_dev_null_in_a_child)
{
    if (PP_ON_VALGRIND)
        LEFT_OUT("valgrind keeps descriptors of its own in the table");
    int talk;
    for (int i = 0; i < 3; i++)
        close(i);
    start_method(method, body_standard, &talk);
    unsigned long told[5];
    CHECK_INT(kit_hear(talk, told, sizeof told), 4 * sizeof *told);
    for (int i = 0; i < 3; i++)
        CHECK_INT(told[i], told[3]);
}

TEST_BOTH(an_inherited_stdin_stays)
{
    int talk, pair[2];
    struct stat in;
    CHECK_INT(pipe(pair), 0);
    dup2(pair[0], 0);
    fstat(0, &in);
    start_one(&(pp_launcher_options){.start_method = method, .inherit_fds = (int[]){0}, .inherit_fd_count = 1},
              body_standard, "", 0, &talk);
    unsigned long told[5];
    CHECK_INT(kit_hear(talk, told, sizeof told), 4 * sizeof *told);
    CHECK_INT(told[0], in.st_ino);
}

static void body_count_fds(const int *fds, size_t count, const void *data, size_t size, int shared)
{
    (void)data, (void)size, (void)shared;
    for (size_t i = 0; i < count; i++)
        kit_say_int(fds[i], (int)(count * 10 + i));
}

TEST_BOTH(a_plans_descriptors_come_in_their_order)
{
    pp_launcher *launcher = kit_launcher(method);
    int connection = (int)CHECK_OK(pp__launcher_connect(launcher)), ours[PP__PLAN_FDS], theirs[PP__PLAN_FDS];
    for (int i = 0; i < PP__PLAN_FDS; i++) {
        int pair[2];
        CHECK_OK(pp__fd_socketpair(pair));
        ours[i] = pair[0];
        theirs[i] = pair[1];
    }
    kit_start_with(connection, 1, body_count_fds, "", 0, theirs, PP__PLAN_FDS);
    kit_started(connection, 1);
    for (int i = 0; i < PP__PLAN_FDS; i++) {
        pp__fd_close(theirs[i]);
        CHECK_INT(kit_hear_int(ours[i]), PP__PLAN_FDS * 10 + i);
    }
    kit_ended(connection, 1, CLD_EXITED, 0);
    for (int i = 0; i < PP__PLAN_FDS; i++) {
        char end[8];
        CHECK_INT(kit_hear(ours[i], end, sizeof end), 0); /* the zygote kept none */
    }
}

TEST_BOTH(a_low_limit_of_descriptors_is_enough)
{
    if (PP_ON_VALGRIND)
        LEFT_OUT("valgrind keeps descriptors of its own in the table");
    struct rlimit limit = {.rlim_cur = 40, .rlim_max = 40};
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &limit), 0);
    int talk;
    start_method(method, kit_body_say_and_sleep, &talk);
    CHECK(kit_hear_int(talk) > 0);
}

/* ------------------------------------------------------------------------------------------ signals */

static void body_signals(const int *fds, size_t count, const void *data, size_t size, int shared)
{
    (void)count, (void)data, (void)size, (void)shared;
    int changed = 0;
    sigset_t mask;
    sigprocmask(SIG_SETMASK, NULL, &mask);
    for (int i = 1; i <= 64; i++) {
        struct sigaction action;
        if (sigismember(&mask, i))
            changed = 1000 + i;
        if (sigaction(i, NULL, &action) == 0 && action.sa_handler != SIG_DFL)
            changed = 2000 + i;
    }
    stack_t stack;
    sigaltstack(NULL, &stack);
    if (!(stack.ss_flags & SS_DISABLE))
        changed = 3000;
    kit_say_int(fds[0], changed);
    kit_sleep_for_ever();
}

static void ignore_it(int number)
{
    (void)number;
}

TEST_BOTH(dispositions_are_default_and_no_signal_is_blocked)
{
    static char room[65536];
    int talk;
    sigset_t all;
    for (int i = 1; i <= 64; i++)
        if (i != SIGCHLD)
            signal(i, i % 2 ? SIG_IGN : ignore_it);
    sigaltstack(&(stack_t){.ss_sp = room, .ss_size = sizeof room}, NULL);
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    start_method(method, body_signals, &talk);
#if defined(PP_ASAN) || defined(PP_TSAN)
    int told = kit_hear_int(talk);
    CHECK(told < 1000 || told >= 2000); /* the sanitizer has handlers of its own */
#else
    CHECK_INT(kit_hear_int(talk), 0);
#endif
}

/* ------------------------------------------------------------------------------------------ the process */

struct self {
    pid_t pid, group, parent, parents_group;
    int death_signal, score, processor_differs;
    char name[16], parents_name[64];
};

static int oom_score(void)
{
    int score = -1;
    FILE *file = fopen("/proc/self/oom_score_adj", "re");
    if (file && fscanf(file, "%d", &score) != 1)
        score = -1;
    if (file)
        fclose(file);
    return score;
}

static void body_self(const int *fds, size_t count, const void *data, size_t size, int shared)
{
    (void)count, (void)data, (void)size;
    struct self self = {.pid = getpid(), .group = getpgrp(), .parent = getppid(), .score = oom_score()};
    self.parents_group = getpgid(self.parent);
    prctl(PR_GET_PDEATHSIG, &self.death_signal);
    prctl(PR_GET_NAME, self.name);
    test_process_state(self.parent, NULL, self.parents_name);
    cpu_set_t mine;
    sched_getaffinity(0, sizeof mine, &mine);
    for (int i = 0; i < CPU_SETSIZE; i++) {
        if (!CPU_ISSET(i, &mine))
            continue;
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(i, &one);
        sched_setaffinity(0, sizeof one, &one);
        self.processor_differs |= sched_getcpu() != i;
    }
    if (pthread_self() == 0 || pp__owner_token() != 0 || shared < 0)
        self.pid = -1;
    kit_say(fds[0], &self, sizeof self);
    kit_sleep_for_ever();
}

TEST_BOTH(a_child_has_a_group_a_name_a_death_signal_and_a_higher_oom_score)
{
    int talk;
    struct {
        struct self self;
        char nul;
    } room;
    start_method(method, body_self, &talk);
    CHECK_INT(kit_hear(talk, &room, sizeof room), sizeof room.self);
    CHECK(room.self.pid > 0);
    CHECK_INT(room.self.group, room.self.pid);
    CHECK_INT(room.self.parents_group, room.self.parent);
    CHECK_INT(room.self.death_signal, SIGKILL);
    CHECK_INT(room.self.score, oom_score() > 800 ? 1000 : oom_score() + 200);
    CHECK_STR(room.self.name, "pp-child");
    CHECK_STR(room.self.parents_name, "pp-zygote");
    CHECK_INT(room.self.processor_differs, 0);
}

static void body_shared(const int *fds, size_t count, const void *data, size_t size, int shared)
{
    (void)count, (void)data, (void)size;
    kit_say_int(fds[0], shared);
}

TEST_BOTH(images_are_shared_under_fork_only)
{
    int talk;
    start_method(method, body_shared, &talk);
    CHECK_INT(kit_hear_int(talk), method == PP_START_FORK);
}

static void body_environment(const int *fds, size_t count, const void *data, size_t size, int shared)
{
    (void)count, (void)data, (void)size, (void)shared;
    const char *mine = getenv("OWNERS_OWN");
    kit_say_int(fds[0], (getenv("PROCPOOL_SPAWN") ? 1 : 0) + (mine && strcmp(mine, "yes") == 0 ? 10 : 0));
}

TEST_BOTH(the_environment_is_the_owners_without_the_marker)
{
    int talk;
    setenv("OWNERS_OWN", "yes", 1);
    setenv("PROCPOOL_SPAWN", "stale", 1);
    unsetenv("PROCPOOL_SPAWN");
    start_method(method, body_environment, &talk);
    CHECK_INT(kit_hear_int(talk), 10);
}

/* ------------------------------------------------------------------------------------------ the stack */

/* Touches one byte in each kilobyte of a frame of this size. */
static __attribute__((noinline)) int use_stack(size_t bytes)
{
    volatile char room[bytes];
    for (size_t i = bytes; i > 1024; i -= 1024)
        room[i - 1] = 1;
    return room[bytes - 1];
}

static void body_use_stack(const int *fds, size_t count, const void *data, size_t size, int shared)
{
    (void)count, (void)size, (void)shared;
    size_t bytes;
    memcpy(&bytes, data, sizeof bytes);
    int got = use_stack(bytes);
    if (count > 0)
        kit_say_int(fds[0], got);
}

TEST_BOTH(the_stack_has_the_size_asked_for_and_a_guard)
{
#if defined(PP_TSAN) || defined(PP_ASAN)
    LEFT_OUT("sanitizers have stacks and signals of their own");
#endif
    pp_launcher *launcher = kit_launcher(method);
    int connection = (int)CHECK_OK(pp__launcher_connect(launcher));
    static const struct {
        size_t stack, used;
        bool fits;
    } cases[] = {{64 << 10, 40 << 10, true}, {64 << 10, 72 << 10, false}, {64 << 20, 60 << 20, true},
                 {0, 7 << 20, true},         {100000, 50000, true},       {0, 9 << 20, false}};
    for (uint64_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct pp__plan plan = {.serial = i, .stack_size = cases[i].stack, .name = "pp-child", .size = 16};
        struct kit_order order = {.body = (int64_t)((uintptr_t)body_use_stack - (uintptr_t)kit_entry)};
        memcpy(order.data, &cases[i].used, sizeof cases[i].used);
        memcpy(plan.data, &order, sizeof plan.data);
        CHECK_OK(pp__launcher_start(connection, &plan, NULL, 0));
        kit_started(connection, i);
        struct pp__report report = kit_report(connection);
        CHECK_INT(report.type, PP__REPORT_ENDED);
        CHECK_INT(report.status, cases[i].fits ? 0 : SIGSEGV);
    }
}

TEST_BOTH(a_stack_that_cannot_be_had_fails_the_start_alone)
{
#ifdef PP_TSAN
    LEFT_OUT("thread sanitizer's children stay on the zygote's stack");
#endif
    pp_launcher *launcher = kit_launcher(method);
    int connection = (int)CHECK_OK(pp__launcher_connect(launcher));
    struct pp__plan plan = {.serial = 1, .stack_size = UINT64_C(1) << 62, .name = "pp-child"};
    CHECK_OK(pp__launcher_start(connection, &plan, NULL, 0));
    struct pp__report report = kit_report(connection);
    CHECK_INT(report.type, PP__REPORT_FAILED);
    CHECK_INT(report.error, ENOMEM);
    CHECK_INT(report.serial, 1);
    kit_start(connection, 2, kit_body_sleep);
    kit_started(connection, 2);
}

/* ------------------------------------------------------------------------------------------ exit and stdio */

static int trace = -1; /* a pipe that handlers of the owner would write to */

static void owners_handler(void)
{
    if (trace >= 0 && write(trace, "H", 1) != 1)
        abort();
}

static void owners_on_exit(int status, void *unused)
{
    (void)status, (void)unused;
    owners_handler();
}

/* In a forkserver's image, too: constructors run there. */
__attribute__((constructor)) static void register_owners_handlers(void)
{
    atexit(owners_handler);
    at_quick_exit(owners_handler);
    on_exit(owners_on_exit, NULL);
}

static void tasks_handler(void)
{
    if (write(trace, "t", 1) != 1)
        abort();
}

static void body_exit(const int *fds, size_t count, const void *data, size_t size, int shared)
{
    (void)count, (void)size, (void)shared;
    trace = fds[0];
    atexit(tasks_handler);
    at_quick_exit(tasks_handler);
    printf("out%c", *(const char *)data);
    fprintf(stdout, "!");
    switch (*(const char *)data) {
    case 'e':
        exit(11);
    case 'q':
        quick_exit(12);
    case 'p':
        pthread_exit(NULL);
    case 'c':
        pp__child_exit(13);
    case '_':
        _exit(14);
    }
}

static size_t read_all(int fd, char *text, size_t room)
{
    size_t have = 0;
    ssize_t size;
    while ((size = read(fd, text + have, room - 1 - have)) > 0)
        have += (size_t)size;
    text[have] = '\0';
    return have;
}

TEST_BOTH(leaving_a_task_runs_its_own_handlers_and_flushes_but_runs_none_of_the_owners)
{
    static const struct {
        char how;
        int status;
        const char *trace, *out;
    } cases[] = {{'e', 11, "t", "oute!"}, {'q', 12, "t", "outq!"}, {'c', 13, "", "outc!"},
                 {'_', 14, "", ""},       {'p', 0, "t", "outp!"},  {'r', 0, "", "outr!"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
#ifdef PP_TSAN
        if (cases[i].how == '_')
            continue; /* its _exit flushes */
#endif
        if (PP_ON_VALGRIND && (cases[i].how == '_' || cases[i].how == 'p'))
            continue; /* so does its; and what the ended thread's stack held it takes for lost */
#if defined(PP_TSAN) || defined(PP_ASAN)
        if (cases[i].how == 'p')
            continue; /* sanitizers lose their way where pthread_exit leaves the task's stack */
#endif
        int out[2], traces[2], saved = dup(1);
        char text[100];
        CHECK_INT(pipe(out), 0);
        CHECK_INT(pipe(traces), 0);
        fflush(stdout);
        dup2(out[1], 1);
        pp_launcher *launcher = kit_launcher(method);
        int connection = (int)CHECK_OK(pp__launcher_connect(launcher));
        kit_start_with(connection, 1, body_exit, &cases[i].how, 1, &traces[1], 1);
        kit_started(connection, 1);
        dup2(saved, 1);
        close(out[1]);
        close(traces[1]);
        kit_ended(connection, 1, CLD_EXITED, cases[i].status);
        pp__launcher_disconnect(connection);
        pp_launcher_unref(launcher);
        read_all(out[0], text, sizeof text);
        CHECK_STR(text, cases[i].out);
        read_all(traces[0], text, sizeof text);
        CHECK_STR(text, cases[i].trace);
        close(out[0]);
        close(traces[0]);
        close(saved);
    }
}

static void body_print(const int *fds, size_t count, const void *data, size_t size, int shared)
{
    (void)fds, (void)count, (void)data, (void)size, (void)shared;
    printf("child;");
    fflush(NULL);
    exit(0);
}

TEST_BOTH(the_owners_unflushed_text_is_written_once)
{
    int out[2];
    char text[100], buffer[4096];
    CHECK_INT(pipe(out), 0);
    FILE *other = fdopen(dup(out[1]), "w");
    FILE *wide = fdopen(dup(out[1]), "w");
    setvbuf(other, buffer, _IOFBF, sizeof buffer);
    dup2(out[1], 1);
    close(out[1]);
    printf("owner;");
    fprintf(other, "other;");
    fputws(L"wide;", wide);
    pp_launcher *launcher = kit_launcher(method);
    int connection = (int)CHECK_OK(pp__launcher_connect(launcher));
    for (uint64_t i = 0; i < 3; i++) {
        kit_start(connection, i, body_print);
        kit_started(connection, i);
        kit_ended(connection, i, CLD_EXITED, 0);
    }
    pp__launcher_disconnect(connection);
    pp_launcher_unref(launcher);
    fflush(stdout);
    fclose(other);
    fclose(wide);
    dup2(2, 1);
    read_all(out[0], text, sizeof text);
    CHECK_STR(text, "child;child;child;owner;other;wide;");
}

static void *hold_stdout(void *unused)
{
    flockfile(stdout);
    kit_sleep_for_ever();
    return unused;
}

static void body_exit_while_held(const int *fds, size_t count, const void *data, size_t size, int shared)
{
    (void)fds, (void)count, (void)data, (void)size, (void)shared;
    pthread_t thread;
    pthread_create(&thread, NULL, hold_stdout, NULL);
    test_sleep_ms(50);
    exit(5);
}

TEST_BOTH(a_thread_that_holds_stdout_does_not_keep_the_process)
{
#ifdef PP_TSAN
    LEFT_OUT("thread sanitizer's exit waits for the stream");
#endif
    int talk;
    int connection = start_method(method, body_exit_while_held, &talk);
    kit_ended(connection, 1, CLD_EXITED, 5);
}

/* ------------------------------------------------------------------------------------------ nested */

static void body_nested(const int *fds, size_t count, const void *data, size_t size, int shared)
{
    (void)count, (void)size, (void)shared;
    pp_start_method method = *(const unsigned char *)data;
    pp_launcher *launcher = kit_launcher(method);
    int connection = (int)CHECK_OK(pp__launcher_connect(launcher)), talk;
    int told[2] = {0, kit_talker(connection, 1, kit_body_say_and_sleep, "", 0, &talk)};
    CHECK_INT(kit_hear_int(talk), told[1]);
    pid_t parent = 0;
    test_process_state(told[1], &parent, NULL);
    told[0] = parent;
    kit_say(fds[0], told, sizeof told);
    kit_sleep_for_ever();
}

TEST_BOTH_WITHIN(a_child_can_have_launchers_of_its_own_which_end_with_it, 30)
{
    for (unsigned char inner = PP_START_FORK; inner <= PP_START_FORKSERVER; inner++) {
        int talk, told[3];
        int connection = start_one(&(pp_launcher_options){.start_method = method}, body_nested, &inner, 1, &talk);
        CHECK_INT(kit_hear(talk, told, sizeof told), 2 * sizeof *told);
        CHECK(test_process_alive(told[0]) && test_process_alive(told[1]));
        CHECK_OK(pp__launcher_kill(connection, 1));
        kit_ended(connection, 1, CLD_KILLED, SIGKILL);
        wait_until(!test_process_alive(told[0]) && !test_process_alive(told[1]), 2);
    }
}
