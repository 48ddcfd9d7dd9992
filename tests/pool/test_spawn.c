/* SPDX-License-Identifier: MIT */
/* What the start method spawn alone has: each worker is an image of its own, of the executable that runs, whatever
 * became of its file. */
#include "processes_kit.h"

#include <sys/auxv.h>
#include <sys/prctl.h>

/* Words of the board behind `struct shared`. */
enum { IMAGES = BOARD_WORDS - 64 };

#define FORGET "PP_TEST_FORGET"
#define COPY "PP_TEST_COPY"

static bool parent_is_zygote(void)
{
    char name[64] = "";
    return test_process_state(getppid(), NULL, name) != 0 && strcmp(name, "pp-zygote") == 0;
}

/* In a worker's image, before main: counts it, or is the program whose main has forgotten what it should call first. */
__attribute__((constructor)) static void begin_image(void)
{
    const char *forget = getenv(FORGET);
    if (!parent_is_zygote())
        return;
    if (fcntl(BOARD_FD, F_GETFD) >= 0)
        add(IMAGES);
    if (forget && strcmp(forget, "returns") == 0)
        _exit(3);
    while (forget)
        pause();
}

static int touched;

static int task_touch(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    int before = touched++;
    return pp_task_return(task, &before, sizeof before);
}

TEST(each_worker_is_an_image_of_its_own_that_sees_nothing_of_the_owner)
{
    pid_t pids[3];
    touched = 100;
    pp_pool *pool = open_workers(3, PP_START_SPAWN);
    start_workers(pool, 0, 3, pids);
    CHECK_INT(read_word(IMAGES), 3);
    CHECK_INT(take_int(submit(pool, task_touch, NULL, 0)), 0);
    expect_end(submit(pool, crash, NULL, 0), -EOWNERDEAD);
    for (int i = 0; i < 20; i++)
        CHECK(take_int(submit(pool, task_touch, NULL, 0)) < 20);
    pp_pool_destroy(pool);
}

/* ------------------------------------------------------------------------------------- locks of the owner */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static int task_lock(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    pthread_mutex_lock(&mutex);
    pthread_mutex_unlock(&mutex);
    return 0;
}

static void *hold(void *gate)
{
    pthread_mutex_lock(&mutex);
    atomic_store((atomic_int *)gate, 1);
    while (atomic_load((atomic_int *)gate) != 2)
        test_sleep_ms(1);
    pthread_mutex_unlock(&mutex);
    return NULL;
}

/* Forks of an owner in which a thread holds a lock would wait for it for ever; an early launcher's and fresh images do
 * not. */
BOTH(a_lock_that_a_thread_of_the_owner_holds_stops_no_worker)
{
    atomic_int gate = 0;
    pp_launcher *early;
    share();
    CHECK_OK(pp_launcher_create(&(pp_launcher_options){.start_method = method}, &early));
    pthread_t thread;
    CHECK_INT(pthread_create(&thread, NULL, hold, &gate), 0);
    while (atomic_load(&gate) != 1)
        test_sleep_ms(1);
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 1, .launcher = early}, 0);
    expect_end(submit(pool, task_lock, NULL, 0), 0);
    pp_pool *later = method == PP_START_FORK ? NULL : open_workers(1, method);
    if (later)
        expect_end(submit(later, task_lock, NULL, 0), 0);
    pp_pool_destroy(later);
    pp_pool_destroy(pool);
    pp_launcher_unref(early);
    atomic_store(&gate, 2);
    CHECK_INT(pthread_join(thread, NULL), 0);
}

/* --------------------------------------------------------------------------- a main that forgets the call */

static void expect_broken(pp_pool *pool, const char *part, const char *other)
{
    pp_future *future = submit(pool, nothing, NULL, 0);
    const pp_error *error = error_of(future, PP_ERROR_BROKEN);
    CHECK_HAS(error->message, part);
    CHECK_HAS(error->message, other);
    pp_future_unref(future);
    CHECK_INT(pp_submit(pool, nothing, NULL, 0, NULL), -ENOTRECOVERABLE);
    pp_pool_destroy(pool);
    wait_until(count_descendants_named(getppid(), "pp-") == 0, 10);
}

static pp_pool *forgetful_pool(const char *how, uint32_t start_timeout)
{
    setenv(FORGET, how, 1);
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 1, .start_timeout = start_timeout}, PP_START_SPAWN);
    unsetenv(FORGET);
    return pool;
}

TEST(a_program_that_forgets_pp_worker_main_in_workers_breaks_the_pool_which_says_so)
{
    expect_broken(forgetful_pool("returns", 0), "exited with status 3 without having joined the pool",
                  "pp_worker_main");
    CHECK(read_word(IMAGES) <= 3); /* and no more are started, by nobody */
}

TEST(a_program_that_forgets_pp_worker_main_and_goes_on_breaks_the_pool_in_time)
{
    expect_broken(forgetful_pool("stays", 300), "did not come within 300 ms (start_timeout)", "pp_worker_main");
    CHECK(read_word(IMAGES) <= 1);
}

static int wait_at_gate(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    gate_wait(0);
    return 0;
}

/* The report that its worker has come lies there unread when its time to come is over. */
SLOW_TEST(an_owner_that_was_stopped_for_long_does_not_take_its_worker_for_one_that_never_came)
{
    share();
    pid_t owner = fork();
    CHECK(owner >= 0);
    if (owner == 0) {
        pp_pool *pool = open_pool((pp_pool_options){.max_workers = 1, .initializer = wait_at_gate}, PP_START_SPAWN);
        pp_future *future = submit_int(pool, task_square, 4);
        raise(SIGSTOP);
        CHECK_INT(take_int(future), 16);
        pp_pool_destroy(pool);
        _exit(0);
    }
    wait_until(is_stopped(owner), 10);
    test_sleep_ms(31000);
    kill(owner, SIGCONT);
    test_sleep_ms(1000);
    gate_open(0);
    CHECK_INT(wait_for(owner), 0);
}

/* ------------------------------------------------------------------------------- the file of the executable */

static void copy_file(const char *from, const char *to)
{
    char buffer[65536];
    int in = open(from, O_RDONLY | O_CLOEXEC), out = open(to, O_WRONLY | O_CREAT | O_CLOEXEC, 0700);
    CHECK(in >= 0 && out >= 0);
    for (ssize_t got; (got = read(in, buffer, sizeof buffer)) > 0;)
        CHECK_INT(write(out, buffer, (size_t)got), got);
    close(in);
    CHECK_INT(close(out), 0);
}

/* Runs the test `name` once more, in a copy of this program that it may spoil. */
static void run_in_copy(const char *name)
{
    char directory[] = "/tmp/procpool-spawn-XXXXXX", path[64];
    CHECK(mkdtemp(directory) != NULL);
    snprintf(path, sizeof path, "%s/copy", directory);
    copy_file("/proc/self/exe", path);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        setenv(COPY, path, 1);
        execl(path, path, "--run", name, NULL);
        _exit(127);
    }
    int status = wait_for(pid);
    unlink(path);
    rmdir(directory);
    CHECK_INT(status, 0);
}

/* Its images would not believe what they find in their environment, and be the program once more, without end. */
TEST(a_program_with_raised_privileges_starts_no_images)
{
    const char *copy = getenv(COPY);
    pp_launcher *launcher;
    if (geteuid() != 0 && !copy)
        LEFT_OUT("only root can give a program away");
    if (TEST_ON_VALGRIND || KIT_ASAN)
        LEFT_OUT("the tool can't look into a program with privileges, or takes them away");
    if (!copy) {
        run_in_copy("a_program_with_raised_privileges_starts_no_images");
        return;
    }
    if (!getauxval(AT_SECURE)) {
        CHECK_INT(chown(copy, 65534, 65534), 0);
        CHECK_INT(chmod(copy, 04755), 0);
        CHECK(getenv("PP_TEST_AGAIN") == NULL); /* a file system that is mounted without privileges */
        setenv("PP_TEST_AGAIN", "1", 1);
        execl(copy, copy, "--run", "a_program_with_raised_privileges_starts_no_images", NULL);
        harness_fail(__FILE__, __LINE__, "exec: %s", strerror(errno));
    }
    CHECK_INT(pp_launcher_create(&(pp_launcher_options){.start_method = PP_START_FORKSERVER}, &launcher), -ENOSYS);
    CHECK_INT(pp_launcher_create(&(pp_launcher_options){.start_method = PP_START_SPAWN}, &launcher), -ENOSYS);
    CHECK_HAS(pp_last_error(), "raised privileges");
}

static void use_spoiled(const char *const *command)
{
    pp_launcher *launcher;
    share();
    const pp_launcher_options options = {.start_method = PP_START_SPAWN, .command = command};
    CHECK_OK(pp_launcher_create(&options, &launcher));
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 1, .launcher = launcher}, 0);
    pp_launcher_unref(launcher);
    CHECK_INT(take_int(submit_int(pool, task_square, 7)), 49);
    expect_end(submit(pool, crash, NULL, 0), -EOWNERDEAD);
    CHECK_INT(take_int(submit_int(pool, task_square, 8)), 64);
    pp_pool_destroy(pool);
}

TEST(workers_start_though_the_executable_was_removed)
{
    static const char *const nice_words[] = {"nice", "-n", "1", "{}", NULL};
    const char *copy = getenv(COPY);
    if (TEST_ON_VALGRIND)
        LEFT_OUT("valgrind opens executables by name");
    if (!copy) {
        run_in_copy("workers_start_though_the_executable_was_removed");
        return;
    }
    CHECK_INT(unlink(copy), 0);
    use_spoiled(NULL);
    use_spoiled(nice_words);
}

TEST(workers_start_though_another_program_has_the_executables_name)
{
    static const char *const nice_words[] = {"nice", "-n", "1", "{}", NULL};
    const char *copy = getenv(COPY);
    if (TEST_ON_VALGRIND)
        LEFT_OUT("valgrind opens executables by name");
    if (!copy) {
        run_in_copy("workers_start_though_another_program_has_the_executables_name");
        return;
    }
    CHECK_INT(unlink(copy), 0);
    copy_file("/bin/false", copy);
    use_spoiled(NULL);
    use_spoiled(nice_words);
}
