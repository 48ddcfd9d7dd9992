/* SPDX-License-Identifier: MIT */
/*
 * A worker that sleeps is woken while the last bytes of a large argument are copied. The last page of the argument
 * can't be read until a handler, which looks at the worker meanwhile, says so.
 */
#include "call_kit.h"

#define SIZE ((size_t)1 << 20)

/* How often the process with this file has gone to sleep; for a handler, too. */
static long sleeps_of(int status)
{
    char text[8192];
    ssize_t size = pread(status, text, sizeof text - 1, 0);
    text[size > 0 ? size : 0] = '\0';
    const char *digit = strstr(text, "\nvoluntary_ctxt_switches:\t");
    long count = digit ? 0 : -1;
    for (digit = digit ? strchr(digit, '\t') + 1 : ""; *digit >= '0' && *digit <= '9'; digit++)
        count = 10 * count + *digit - '0';
    return count;
}

static struct {
    int worker; /* its /proc/PID/status */
    char *page;
    bool expected; /* that it sleeps anew */
    long before, after;
} look;

/* Where it is not expected, 50 ms have to do. */
static void look_at_worker(int number)
{
    (void)number;
    for (int tries = 0; (look.after = sleeps_of(look.worker)) == look.before && (look.expected || tries < 50); tries++)
        usleep(1000);
    mprotect(look.page, 4096, PROT_READ | PROT_WRITE); /* or it comes here again */
}

static void stay_on(int processor)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET((size_t)processor, &one);
    CHECK_INT(sched_setaffinity(0, sizeof one, &one), 0);
}

static int task_stay_on(pp_task *task, const void *arg, size_t size)
{
    int processor;
    memcpy(&processor, arg, size);
    stay_on(processor);
    pid_t pid = getpid();
    return pp_task_return(task, &pid, sizeof pid);
}

static void find_two_processors(int found[2])
{
    cpu_set_t all;
    int count = 0;
    CHECK_INT(sched_getaffinity(0, sizeof all, &all), 0);
    for (int i = 0; i < CPU_SETSIZE && count < 2; i++)
        if (CPU_ISSET((size_t)i, &all))
            found[count++] = i;
    if (count < 2 || pp_usable_processors() < 2)
        LEFT_OUT("one processor");
    if (TEST_ON_VALGRIND)
        LEFT_OUT("valgrind does not go on exactly where a copy was interrupted");
}

/* It sleeps, and goes on doing so for as long as nobody wakes it. */
static void wait_until_it_sleeps(void)
{
    do {
        look.before = sleeps_of(look.worker);
        usleep(20000);
    } while (sleeps_of(look.worker) != look.before);
}

static void submit_large(pp_wait_policy wait, int owners, int workers)
{
    pp_pool *pool = kit_pool_with(PP_START_FORK, (pp_pool_options){.max_workers = 1, .wait = wait});
    pid_t pid;
    char path[64];
    char *arg = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(arg != MAP_FAILED);
    memset(arg, 'x', SIZE);
    stay_on(owners);
    pp_future *first = submit(pool, task_stay_on, &workers, sizeof workers);
    CHECK_INT(pp_future_result(first, -1, &pid, sizeof pid, NULL), 0);
    pp_future_unref(first);
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    look.worker = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(look.worker >= 0);
    look.page = arg + SIZE - 4096;
    wait_until_it_sleeps();
    CHECK_INT(mprotect(look.page, 4096, PROT_NONE), 0);
    CHECK(signal(SIGSEGV, look_at_worker) != SIG_ERR);
    pp_future *future = submit(pool, echo, arg, SIZE);
    CHECK(signal(SIGSEGV, SIG_DFL) != SIG_ERR);
    const void *data;
    size_t size;
    CHECK_INT(pp_future_view(future, -1, &data, &size), 0);
    CHECK_INT(size, SIZE);
    CHECK_INT(memcmp(data, arg, SIZE), 0);
    pp_future_unref(future);
    pp_pool_destroy(pool);
    munmap(arg, SIZE);
}

/* Whether it is woken `ahead` of its call, whose submitter stays on the first of two processors. */
static void check(pp_wait_policy wait, int workers, bool ahead)
{
    int processors[2];
    board_make();
    find_two_processors(processors);
    look.expected = ahead;
    submit_large(wait, processors[0], processors[workers]);
    CHECK_INT(look.after != look.before, ahead);
}

TEST(a_worker_that_may_spin_is_woken_ahead_of_a_large_argument)
{
    check(PP_WAIT_ADAPTIVE, 1, true);
}

TEST(a_worker_that_may_not_spin_is_woken_by_its_call_alone)
{
    check(PP_WAIT_SLEEP, 1, false);
}

TEST(a_worker_on_the_callers_processor_is_woken_by_its_call_alone)
{
    check(PP_WAIT_ADAPTIVE, 0, false);
}
