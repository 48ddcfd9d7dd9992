/* SPDX-License-Identifier: MIT */
/* What workers run in: processors, niceness, environment, directory, threads of libraries. */
#include "processes_kit.h"

#include <limits.h>
#include <sys/resource.h>

/* As a library has it that is loaded already. */
void omp_set_num_threads(int threads);
static int omp_threads;

__attribute__((visibility("default"))) void omp_set_num_threads(int threads)
{
    omp_threads = threads;
}

/* ------------------------------------------------------------------------------------------- processors */

struct seat {
    int worker, processors, first;
};

static int task_seat(pp_task *task, const void *arg, size_t size)
{
    struct seat seat = {.worker = pp_task_worker(task), .first = -1};
    cpu_set_t set;
    if (size > 0)
        gate_wait(read_int(arg));
    CHECK_INT(sched_getaffinity(0, sizeof set, &set), 0);
    seat.processors = CPU_COUNT(&set);
    for (int i = CPU_SETSIZE - 1; i >= 0; i--)
        seat.first = CPU_ISSET(i, &set) ? i : seat.first;
    return pp_task_return(task, &seat, sizeof seat);
}

static struct seat take_seat(pp_future *future)
{
    struct seat seat;
    CHECK_OK(pp_future_result(future, -1, &seat, sizeof seat, NULL));
    pp_future_unref(future);
    return seat;
}

/* Three workers at once sit where they should, and so does what replaces one. */
static void check_seats(pp_pool *pool, const int *processors, int count)
{
    pp_future *futures[3];
    for (int i = 0; i < 3; i++)
        futures[i] = submit_int(pool, task_seat, 1);
    gate_wait_arrived(1, 3);
    gate_open(1);
    for (int i = 0; i < 3; i++) {
        struct seat seat = take_seat(futures[i]);
        CHECK_INT(seat.processors, 1);
        CHECK_INT(seat.first, processors[seat.worker % count]);
    }
    for (int i = 0; i < 10; i++) {
        drop_failed(submit(pool, crash, NULL, 0), PP_ERROR_CRASH);
        struct seat seat = take_seat(submit(pool, task_seat, NULL, 0));
        CHECK_INT(seat.processors, 1);
        CHECK_INT(seat.first, processors[seat.worker % count]);
    }
    pp_pool_destroy(pool);
}

static int usable(int processors[CPU_SETSIZE])
{
    int count = 0;
    cpu_set_t set;
    CHECK_INT(sched_getaffinity(0, sizeof set, &set), 0);
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &set))
            processors[count++] = i;
    return count;
}

BOTH(each_worker_runs_on_one_processor)
{
    int processors[CPU_SETSIZE], count = usable(processors);
    check_seats(open_pool((pp_pool_options){.max_workers = 3, .pin = 1}, method), processors, count);
}

BOTH(each_worker_runs_on_the_processor_of_a_list)
{
    int processors[CPU_SETSIZE], count = usable(processors);
    int list[] = {processors[count - 1], processors[0]}, given[] = {list[0], list[1]};
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 3, .processors = given, .processor_count = 2}, method);
    given[0] = given[1] = -1; /* it was copied */
    check_seats(pool, list, 2);
}

BOTH(without_a_list_workers_run_where_the_owner_may)
{
    int processors[CPU_SETSIZE], count = usable(processors);
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 1, .nice = 1}, method);
    CHECK_INT(take_seat(submit(pool, task_seat, NULL, 0)).processors, count);
    pp_pool_destroy(pool);
}

/* -------------------------------------------------------------------------------------------- niceness */

static int task_niceness(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    int niceness = getpriority(PRIO_PROCESS, 0);
    return pp_task_return(task, &niceness, sizeof niceness);
}

BOTH(workers_are_nicer)
{
    int own = getpriority(PRIO_PROCESS, 0);
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 1, .nice = 3}, method);
    CHECK_INT(take_int(submit(pool, task_niceness, NULL, 0)), own + 3 < 19 ? own + 3 : 19);
    CHECK_INT(getpriority(PRIO_PROCESS, 0), own);
    pp_pool_destroy(pool);
}

/* ------------------------------------------------------------------------------- environment, directory */

static int task_getenv(pp_task *task, const void *arg, size_t size)
{
    (void)size;
    const char *value = getenv(arg);
    return value ? pp_task_return(task, value, strlen(value) + 1) : pp_task_fail(task, -ENOENT, "not there");
}

static void check_variable(pp_pool *pool, const char *name, const char *wanted)
{
    char value[256];
    size_t size;
    pp_future *future = submit(pool, task_getenv, name, strlen(name) + 1);
    CHECK_OK(pp_future_result(future, -1, value, sizeof value, &size));
    CHECK_STR(value, wanted);
    pp_future_unref(future);
}

/* The initializer finds it too. */
static int note_variable(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    const char *value = getenv("PP_FRUIT");
    snprintf(shared()->texts[0], sizeof shared()->texts[0], "%s", value ? value : "none");
    return 0;
}

BOTH(workers_have_an_environment_of_their_own)
{
    static const char *const environment[] = {"PP_FRUIT=fig", "PP_EMPTY=", "PP_EQUATION=a=b", NULL};
    CHECK_INT(setenv("PP_FRUIT", "plum", 1), 0);
    CHECK_INT(setenv("PP_TREE", "oak", 1), 0);
    pp_pool *pool = open_pool(
        (pp_pool_options){.max_workers = 1, .environment = environment, .initializer = note_variable}, method);
    check_variable(pool, "PP_FRUIT", "fig");
    check_variable(pool, "PP_EMPTY", "");
    check_variable(pool, "PP_EQUATION", "a=b");
    check_variable(pool, "PP_TREE", "oak"); /* inherited */
    CHECK_STR(shared()->texts[0], "fig");
    CHECK_STR(getenv("PP_FRUIT"), "plum");
    CHECK(!getenv("PP_EMPTY"));
    pp_pool_destroy(pool);
}

BOTH(an_environment_as_long_as_it_may_be_reaches_workers)
{
    char text[8192] = "PP_LONG=";
    memset(text + 8, 'x', sizeof text - 9);
    const char *const environment[] = {text, NULL};
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 2, .environment = environment}, method);
    pp_future *future = submit(pool, task_getenv, "PP_LONG", 8);
    const void *value;
    size_t size;
    CHECK_OK(pp_future_view(future, -1, &value, &size));
    CHECK_STR(value, text + 8);
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

static int task_directory(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    char path[PATH_MAX];
    CHECK(getcwd(path, sizeof path) != NULL);
    return pp_task_return(task, path, strlen(path) + 1);
}

BOTH(workers_run_in_a_directory_of_their_own)
{
    char made[] = "/tmp/procpool-XXXXXX", before[PATH_MAX], after[PATH_MAX], its[PATH_MAX];
    size_t size;
    CHECK(mkdtemp(made) && getcwd(before, sizeof before));
    CHECK_INT(chdir("/tmp"), 0);
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 1, .directory = made + 5}, method); /* from here */
    CHECK_INT(chdir(before), 0);
    pp_future *future = submit(pool, task_directory, NULL, 0);
    CHECK_OK(pp_future_result(future, -1, its, sizeof its, &size));
    CHECK_STR(its, made);
    CHECK(getcwd(after, sizeof after) && strcmp(before, after) == 0);
    pp_future_unref(future);
    pp_pool_destroy(pool);
    CHECK_INT(rmdir(made), 0);
}

BOTH(a_directory_that_has_gone_breaks_the_pool_with_that_cause)
{
    char made[] = "/tmp/procpool-XXXXXX";
    CHECK(mkdtemp(made) != NULL);
    pp_pool *pool =
        open_pool((pp_pool_options){.max_workers = 1, .directory = made, .initializer = note_variable}, method);
    CHECK_INT(rmdir(made), 0);
    pp_future *future = submit(pool, task_directory, NULL, 0);
    const pp_error *error = error_of(future, PP_ERROR_BROKEN);
    CHECK_INT(error->task_code, -ENOENT);
    CHECK_HAS(error->message, "directory");
    CHECK_STR(shared()->texts[0], ""); /* the initializer has not run there */
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

/* The same where there is no initializer and the process is there already. */
BOTH(a_standby_that_can_not_be_as_the_pool_asks_breaks_it_too)
{
    char made[] = "/tmp/procpool-XXXXXX";
    CHECK(mkdtemp(made) != NULL);
    pp_pool *pool =
        open_pool((pp_pool_options){.max_workers = 1, .directory = made, .standby = PP_STANDBY_ALWAYS}, method);
    pid_t zygote = zygote_of(pool);
    until(count_descendants_named(zygote, "pp-standby") == 1);
    CHECK_INT(rmdir(made), 0);
    drop_failed(submit(pool, crash, NULL, 0), PP_ERROR_CRASH);
    pp_future *future = submit(pool, task_directory, NULL, 0);
    CHECK_HAS(error_of(future, PP_ERROR_BROKEN)->message, "directory");
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

/* --------------------------------------------------------------------------------- threads of libraries */

static int task_omp(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    return pp_task_return(task, &omp_threads, sizeof omp_threads);
}

BOTH(libraries_use_as_many_threads_as_they_may)
{
    static const char *const environment[] = {"MKL_NUM_THREADS=2", NULL};
    pp_pool *pool =
        open_pool((pp_pool_options){.max_workers = 1, .library_threads = 1, .environment = environment}, method);
    check_variable(pool, "OMP_NUM_THREADS", "1");
    check_variable(pool, "OPENBLAS_NUM_THREADS", "1");
    check_variable(pool, "MKL_NUM_THREADS", "2"); /* asked for by name */
    CHECK_INT(take_int(submit(pool, task_omp, NULL, 0)), 1);
    CHECK_INT(omp_threads, 0);
    pp_pool_destroy(pool);
}

BOTH(libraries_are_left_alone_unless_the_pool_asks)
{
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 1, .nice = 1}, method);
    CHECK_INT(take_int(submit(pool, task_omp, NULL, 0)), 0);
    pp_pool_destroy(pool);
}

/* ------------------------------------------------------------------------------ replaced, refused, inline */

/* The standby, and whoever follows another. */
BOTH(each_worker_of_a_pool_has_its_setting)
{
    static const char *const environment[] = {"PP_FRUIT=fig", NULL};
    pp_pool *pool = open_pool(
        (pp_pool_options){.max_workers = 1, .environment = environment, .max_tasks = 2, .standby = PP_STANDBY_ALWAYS},
        method);
    for (int i = 0; i < 10; i++) {
        check_variable(pool, "PP_FRUIT", "fig");
        if (i % 3 == 0)
            drop_failed(submit(pool, crash, NULL, 0), PP_ERROR_CRASH);
    }
    pp_pool_destroy(pool);
}

static void refuse_options(pp_start_method method, pp_pool_options options, int error, const char *name)
{
    pp_pool *pool = NULL;
    options.start_method = method;
    CHECK_INT(pp_pool_create(&options, &pool), error);
    CHECK_HAS(pp_last_error(), name);
    CHECK(pool == NULL);
}

EACH(what_no_worker_can_have_is_refused)
{
    static const int negative[] = {-1}, high[] = {0, 1 << 20};
    static const char *const no_value[] = {"A=1", "B", NULL}, *const no_name[] = {"=1", NULL};
    static char text[8194];
    memset(text, 'x', sizeof text - 1);
    text[1] = '=';
    const char *const too_long[] = {text, NULL};
    refuse_options(method, (pp_pool_options){.pin = 2}, -EINVAL, "pin");
    refuse_options(method, (pp_pool_options){.processors = negative, .processor_count = 1}, -EINVAL, "processors[0]");
    refuse_options(method, (pp_pool_options){.processors = high, .processor_count = 2}, -EINVAL, "processors[1]");
    refuse_options(method, (pp_pool_options){.processors = high}, -EINVAL, "processor_count");
    refuse_options(method, (pp_pool_options){.processor_count = 1}, -EINVAL, "processor_count");
    refuse_options(method, (pp_pool_options){.processors = high, .processor_count = 2000}, -EINVAL, "processor_count");
    refuse_options(method, (pp_pool_options){.nice = 20}, -EINVAL, "nice");
    refuse_options(method, (pp_pool_options){.nice = -21}, -EINVAL, "nice");
    refuse_options(method, (pp_pool_options){.environment = no_value}, -EINVAL, "environment[1]");
    refuse_options(method, (pp_pool_options){.environment = no_name}, -EINVAL, "environment[0]");
    refuse_options(method, (pp_pool_options){.environment = too_long}, -E2BIG, "environment");
    refuse_options(method, (pp_pool_options){.directory = "/none/such"}, -ENOENT, "directory");
    refuse_options(method, (pp_pool_options){.directory = "/dev/null"}, -ENOTDIR, "directory");
    refuse_options(method, (pp_pool_options){.directory = ""}, -ENOENT, "directory");
    refuse_options(method, (pp_pool_options){.library_threads = -1}, -EINVAL, "library_threads");
    refuse_options(method, (pp_pool_options){.library_threads = 1025}, -EINVAL, "library_threads");
}

TEST(an_inline_pool_leaves_its_owner_as_it_is)
{
    static const char *const environment[] = {"PP_FRUIT=fig", NULL};
    int processors[CPU_SETSIZE], count = usable(processors), niceness = getpriority(PRIO_PROCESS, 0);
    pp_pool *pool = open_pool((pp_pool_options){.pin = 1, .nice = 1, .environment = environment, .library_threads = 1},
                              PP_START_INLINE);
    CHECK_INT(take_seat(submit(pool, task_seat, NULL, 0)).processors, count);
    CHECK_INT(getpriority(PRIO_PROCESS, 0), niceness);
    CHECK(!getenv("PP_FRUIT") && !getenv("OMP_NUM_THREADS"));
    pp_pool_destroy(pool);
}
