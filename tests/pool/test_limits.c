/* SPDX-License-Identifier: MIT */
/* What the system allows is asked before a pool is made, and named with what to do about it. */
#include "call_kit.h"

#include <grp.h>
#include <sys/resource.h>

enum { BEGUN, GATE, WORKERS = 16 };

static void set_limit(int resource, rlim_t most)
{
    struct rlimit limit;
    CHECK_INT(getrlimit((__rlimit_resource_t)resource, &limit), 0);
    limit.rlim_cur = most;
    CHECK_INT(setrlimit((__rlimit_resource_t)resource, &limit), 0);
}

static int create(pp_start_method method, int workers, pp_pool **pool)
{
    static const int fds[] = {BOARD_FD};
    bool passes = method != PP_START_FORK;
    return pp_pool_create(&(pp_pool_options){.max_workers = workers,
                                             .start_method = method,
                                             .inherit_fds = passes ? fds : NULL,
                                             .inherit_fd_count = passes},
                          pool);
}

/* Refused with this code, in words that name the limit and a way out; and nothing is left of the pool. */
static void expect_refused(pp_start_method method, int workers, int code, const char *name)
{
    pp_pool *pool = NULL;
    int fds = count_fds();
    CHECK_INT(create(method, workers, &pool), code);
    CHECK(pool == NULL);
    CHECK_HAS(pp_last_error(), name);
    CHECK_HAS(pp_last_error(), "raise");
    CHECK_HAS(pp_last_error(), "take fewer workers");
    CHECK_INT(count_fds(), fds);
    until(count_descendants_named(getppid(), "pp-") == 0);
}

/* All of them at once. */
static void expect_all_to_work(pp_pool *pool, int workers)
{
    pp_future *futures[WORKERS];
    occupy(pool, BEGUN, GATE, workers, futures);
    open_gate(GATE);
    for (int i = 0; i < workers; i++) {
        CHECK_INT(result_u32(futures[i]), (uint32_t)i);
        pp_future_unref(futures[i]);
    }
}

BOTH_WITHIN(a_pool_for_which_there_are_too_few_descriptors_is_refused_and_any_other_works_whole, 30)
{
    board_make();
    pp_pool *pool = NULL;
    for (rlim_t most = BOARD_FD + 1; !pool; most++) {
        set_limit(RLIMIT_NOFILE, most);
        if (create(method, WORKERS, &pool) != 0)
            CHECK_HAS(pp_last_error(), "RLIMIT_NOFILE");
        CHECK(most < 4096);
    }
    expect_all_to_work(pool, WORKERS);
    pp_pool_destroy(pool);
    set_limit(RLIMIT_NOFILE, BOARD_FD + 1);
    expect_refused(method, 1000, -EMFILE, "1000 workers need 3014 descriptors; RLIMIT_NOFILE allows 121, and ");
}

/* The next ones of all places are there while the ones before still run their last call. */
BOTH(a_pool_whose_workers_are_succeeded_needs_descriptors_for_their_successors)
{
    static const pp_pool_options recycled[] = {{.max_tasks = 10}, {.max_growth = 1 << 20}, {.idle_timeout = 10}};
    board_make();
    for (int i = 0; i < 3; i++) {
        pp_pool_options options = recycled[i];
        pp_pool *pool = NULL;
        options.max_workers = 100;
        options.start_method = method;
        set_limit(RLIMIT_NOFILE, 450);
        CHECK_INT(pp_pool_create(&options, &pool), -EMFILE);
        CHECK_HAS(pp_last_error(), "100 workers need 514 descriptors; RLIMIT_NOFILE allows 450");
        options.standby = PP_STANDBY_NEVER;
        CHECK_INT(pp_pool_create(&options, &pool), -EMFILE);
        CHECK_HAS(pp_last_error(), "100 workers need 512 descriptors");
        set_limit(RLIMIT_NOFILE, 600);
        CHECK_OK(pp_pool_create(&options, &pool));
        pp_pool_destroy(pool);
    }
}

BOTH(a_pool_for_which_there_is_too_little_address_space_is_refused)
{
    if (KIT_ASAN || KIT_TSAN || TEST_ON_VALGRIND)
        LEFT_OUT("a limit of the address space leaves no room for the tool's own");
    board_make();
    set_limit(RLIMIT_AS, (rlim_t)120 << 20);
    expect_refused(method, 1024, -ENOMEM, "RLIMIT_AS allows 125829120, and ");
}

/* What the program has mapped counts, and the stack of a worker. */
BOTH(address_space_that_is_in_use_is_not_there_for_workers)
{
    if (KIT_ASAN || KIT_TSAN || TEST_ON_VALGRIND)
        LEFT_OUT("a limit of the address space leaves no room for the tool's own");
    board_make();
    pp_launcher *launcher;
    pp_pool *pool = NULL;
    CHECK_OK(pp_launcher_create(&(pp_launcher_options){.start_method = method}, &launcher));
    CHECK(mmap(NULL, (size_t)1 << 30, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) != MAP_FAILED);
    set_limit(RLIMIT_AS, (rlim_t)1040 << 20);
    const pp_pool_options deep = {.max_workers = 1, .launcher = launcher, .stack_size = (size_t)1 << 31};
    CHECK_INT(pp_pool_create(&deep, &pool), -ENOMEM);
    CHECK_HAS(pp_last_error(), "for its stack; RLIMIT_AS allows 1090519040");
    const pp_pool_options many = {.max_workers = 200, .launcher = launcher};
    CHECK_INT(pp_pool_create(&many, &pool), -ENOMEM);
    CHECK_HAS(pp_last_error(), "RLIMIT_AS allows 1090519040, and ");
    pp_launcher_unref(launcher);
}

/* So may the stacks of the pool's own threads. */
BOTH(a_pool_whose_threads_have_no_room_for_their_stacks_is_refused_by_that_limit)
{
    if (KIT_ASAN || KIT_TSAN || TEST_ON_VALGRIND)
        LEFT_OUT("a limit of the address space leaves no room for the tool's own");
    board_make();
    pp_launcher *launcher;
    pp_pool *pool = NULL;
    pthread_attr_t attributes;
    CHECK_OK(pp_launcher_create(&(pp_launcher_options){.start_method = method}, &launcher));
    CHECK_INT(pthread_attr_init(&attributes), 0);
    CHECK_INT(pthread_attr_setstacksize(&attributes, (size_t)1 << 30), 0);
    CHECK_INT(pthread_setattr_default_np(&attributes), 0);
    set_limit(RLIMIT_AS, (rlim_t)1 << 30);
    const pp_pool_options options = {.max_workers = 1, .launcher = launcher};
    CHECK_INT(pp_pool_create(&options, &pool), -ENOMEM);
    CHECK(pool == NULL);
    CHECK_HAS(pp_last_error(), "RLIMIT_AS allows 1073741824, and ");
    pp_launcher_unref(launcher);
}

/* Root is not bound by the limit of a user's processes. `own`: none but these are that user's. */
static void need_another_user(bool own)
{
    if (geteuid() != 0)
        LEFT_OUT("needs root, to become another user");
    if (TEST_ON_VALGRIND)
        LEFT_OUT("as another user valgrind can't write a log for a fork, and ends it");
    if (own && KIT_TSAN)
        LEFT_OUT("thread sanitizer has a thread of its own");
}

static void become(uid_t user)
{
    CHECK_INT(setgroups(0, NULL), 0);
    CHECK_INT(setresgid(user, user, user), 0);
    CHECK_INT(setresuid(user, user, user), 0);
}

/* Of a user's processes there may be fewer than workers. */
BOTH(a_pool_for_which_there_are_too_few_processes_is_refused)
{
    need_another_user(false);
    board_make();
    set_limit(RLIMIT_NPROC, 8);
    pp_pool *pool = NULL;
    CHECK_OK(create(method, 8, &pool));
    pp_pool_destroy(pool);
    CHECK_OK(create(method, 1, &pool));
    become(65534);
    CHECK_INT(pp_pool_resize(pool, 100), -EAGAIN);
    CHECK_HAS(pp_last_error(), "RLIMIT_NPROC allows this user 8");
    pp_pool_destroy(pool);
    expect_refused(method, 8, -EAGAIN, "8 workers need 9 processes and threads; RLIMIT_NPROC allows this user 8, and ");
}

/* Whatever is there already counts, also the pool's own threads and the process that starts workers. */
BOTH_WITHIN(a_pool_is_refused_for_want_of_processes_or_works_whole, 30)
{
    need_another_user(true);
    board_make();
    become(65533);
    pp_pool *pool = NULL;
    for (rlim_t most = 1; !pool; most++) {
        set_limit(RLIMIT_NPROC, most);
        if (create(method, 3, &pool) != 0)
            CHECK_HAS(pp_last_error(), "RLIMIT_NPROC");
        CHECK(most < 4096);
    }
    expect_all_to_work(pool, 3);
    pp_pool_destroy(pool);
}

static void *sleep_here(void *unused)
{
    pause();
    return unused;
}

TEST(threads_of_the_program_count_as_its_processes_do)
{
    enum { THREADS = 20 };
    need_another_user(true);
    board_make();
    become(65532);
    for (int i = 0; i < THREADS; i++)
        start_thread(sleep_here, NULL);
    set_limit(RLIMIT_NPROC, THREADS + 4);
    expect_refused(PP_START_FORK, 4, -EAGAIN,
                   "4 workers need 5 processes and threads; RLIMIT_NPROC allows this user 24, and 22 are there");
}

BOTH(a_pool_grows_by_no_more_than_there_are_descriptors_for)
{
    board_make();
    pp_pool *pool = NULL;
    CHECK_OK(create(method, 1, &pool));
    expect_usable(pool);
    set_limit(RLIMIT_NOFILE, BOARD_FD + 1);
    CHECK_INT(pp_pool_resize(pool, 1000), -EMFILE);
    CHECK_HAS(pp_last_error(), "999 workers need 3011 descriptors; RLIMIT_NOFILE allows 121");
    CHECK_OK(pp_pool_resize(pool, 4));
    expect_all_to_work(pool, 4);
    pp_pool_destroy(pool);
}

static bool write_text(const char *directory, const char *file, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", directory, file);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool written = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0)
        close(fd);
    return written;
}

/* A control group for processes with room for so many, this one included; or none. */
static bool enter_group(char directory[64], const char *most)
{
    static const char *const mounts[] = {"/sys/fs/cgroup/pids", "/sys/fs/cgroup"};
    for (int i = 0; i < 2; i++) {
        snprintf(directory, 64, "%s/procpool-test-%d", mounts[i], (int)getpid());
        if (mkdir(directory, 0755) == 0 && write_text(directory, "pids.max", most) &&
            write_text(directory, "cgroup.procs", "0"))
            return true;
        rmdir(directory);
    }
    return false;
}

static void need_group(char directory[64], const char *most)
{
    if (!enter_group(directory, most))
        LEFT_OUT("no control group can be made here");
}

/* To the one above. */
static bool move_out(const char directory[64], const char *pid)
{
    char above[64];
    snprintf(above, sizeof above, "%s", directory);
    *strrchr(above, '/') = 0;
    return write_text(above, "cgroup.procs", pid);
}

static void leave_group(char directory[64])
{
    CHECK(move_out(directory, "0"));
    until(rmdir(directory) == 0);
}

/* Not even the process that starts workers: before anything was counted. */
BOTH(where_a_control_group_has_no_process_left_the_fork_that_fails_names_it)
{
    char directory[64];
    board_make();
    need_group(directory, "1");
    pp_pool *pool = NULL;
    int code = create(method, 1, &pool);
    leave_group(directory);
    CHECK_INT(code, -EAGAIN);
    CHECK(pool == NULL);
    CHECK_HAS(pp_last_error(), "pids.max");
    CHECK_HAS(pp_last_error(), "RLIMIT_NPROC");
    CHECK_HAS(pp_last_error(), "raise");
}

static void move_all_out(const char directory[64])
{
    char path[128], pid[32];
    snprintf(path, sizeof path, "%s/cgroup.procs", directory);
    for (FILE *file; (file = fopen(path, "r")) != NULL;) { /* one by one, as the list changes */
        bool some = fgets(pid, sizeof pid, file) != NULL;
        fclose(file);
        if (!some)
            return;
        move_out(directory, pid);
    }
}

BOTH(a_launcher_that_was_moved_to_a_larger_control_group_has_that_ones_limit)
{
    char directory[64];
    need_group(directory, "10");
    pp_launcher *launcher = NULL;
    pp_pool *pool = NULL, *other = NULL;
    const pp_pool_options *options;
    int made = pp_launcher_create(&(pp_launcher_options){.start_method = method}, &launcher);
    options = &(pp_pool_options){.max_workers = 20, .launcher = launcher};
    int before = pp_pool_create(options, &pool);
    move_all_out(directory);
    int behind = pp_pool_create(options, &other);
    pp_pool_destroy(other);
    pp_launcher_unref(launcher);
    leave_group(directory);
    CHECK_OK(made);
    CHECK_INT(before, -EAGAIN);
    CHECK_OK(behind);
}

BOTH(a_pool_for_which_a_control_group_has_too_few_processes_is_refused)
{
    char directory[64];
    board_make();
    need_group(directory, "24");
    pp_pool *pool = NULL;
    int code = create(method, 8, &pool);
    char text[256];
    snprintf(text, sizeof text, "%s", pp_last_error());
    if (code == 0)
        expect_all_to_work(pool, 8);
    pp_pool_destroy(pool);
    pp_pool *large = NULL;
    int refused = create(method, 64, &large);
    leave_group(directory);
    if (code != 0)
        harness_fail(__FILE__, __LINE__, "8 workers were refused: %s", text);
    CHECK_INT(refused, -EAGAIN);
    CHECK_HAS(pp_last_error(),
              "64 workers need 65 processes and threads; the control group allows 24, and there is room for ");
}
