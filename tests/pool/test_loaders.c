/* SPDX-License-Identifier: MIT */
/*
 * Start method fork in an owner whose other threads are in malloc, stdio, the loader and the resolver all the time:
 * whatever lock of libc's they hold at the moment of the fork, no worker must meet it held.
 */
#include "call_kit.h"

#include <dlfcn.h>
#include <netdb.h>
#include <time.h>

#define PLUGIN PP_TEST_PLUGINS "/libpool_handler.so"

enum { STOP, STEP };

/* ------------------------------------------------------------------------------------------ the steps */

static void step_malloc(void)
{
    void *blocks[3];
    for (size_t i = 0; i < 3; i++)
        blocks[i] = malloc((size_t)100 << 7 * i); /* from the thread's cache, an arena and a mapping of its own */
    for (size_t i = 0; i < 3; i++)
        free(blocks[i]);
}

static void step_stdio(void)
{
    FILE *file = fopen("/dev/null", "we");
    CHECK(file != NULL);
    CHECK(fprintf(file, "%d %s %g\n", 42, "text", 3.5) > 0);
    fflush(NULL);
    CHECK_INT(fclose(file), 0);
}

static void step_loader(void)
{
    void *plugin = dlopen(PLUGIN, RTLD_NOW | RTLD_LOCAL);
    if (!plugin)
        harness_fail(__FILE__, __LINE__, "%s", dlerror());
    CHECK(dlsym(plugin, "handler_runs") != NULL);
    CHECK_INT(dlclose(plugin), 0);
}

/* Reads files; whether it finds anything there is the machine's affair. */
static void step_resolver(void)
{
    struct addrinfo *found;
    if (getaddrinfo("localhost", "80", &(struct addrinfo){.ai_socktype = SOCK_STREAM}, &found) == 0)
        freeaddrinfo(found);
}

static void step_time(void)
{
    struct tm local;
    time_t now = time(NULL);
    char text[64];
    localtime_r(&now, &local);
    strftime(text, sizeof text, "%c %Z", &local);
}

static void do_nothing(int status, void *data)
{
    (void)status, (void)data;
}

/* Not for a thread that goes round: what is registered stays. */
static void step_exit_handler(void)
{
    CHECK_INT(on_exit(do_nothing, NULL), 0);
}

static const struct {
    const char *name;
    void (*run)(void);
} steps[] = {{"malloc", step_malloc},         {"stdio", step_stdio}, {"the loader", step_loader},
             {"the resolver", step_resolver}, {"time", step_time},   {"exit handlers", step_exit_handler}};
enum { STEPS = sizeof steps / sizeof *steps, LOOPING = STEPS - 1 };

static void *loop(void *data)
{
    void (*const *run)(void) = data;
    while (!read_word(STOP)) {
        (*run)();
        nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL); /* so that all locks are free now and then */
    }
    return NULL;
}

static int take_steps(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    for (uint32_t i = 0; i < STEPS; i++) {
        atomic_store(word(STEP), i);
        steps[i].run();
    }
    atomic_store(word(STEP), STEPS);
    return 0;
}

/* ------------------------------------------------------------------------------------------ the pools */

/* That a lock is held at every try is bad luck, and said so; it is not what is looked for here. */
static pp_pool *make_pool(void)
{
    pp_pool *pool;
    int error;
    do
        error = pp_pool_create(&(pp_pool_options){.max_workers = 1, .start_method = PP_START_FORK}, &pool);
    while (error == -EAGAIN);
    CHECK_OK(error);
    return pool;
}

static void use_pool(pp_pool *pool)
{
    atomic_store(word(STEP), STEPS);
    pp_future *future = submit(pool, take_steps, NULL, 0);
    int error = pp_future_result(future, 30000 * (int)harness_scale(), NULL, 0, NULL);
    if (error == -ETIMEDOUT) {
        uint32_t step = read_word(STEP);
        harness_fail(__FILE__, __LINE__, "a worker hangs %s %s", step < STEPS ? "in" : "outside",
                     step < STEPS ? steps[step].name : "the task");
    }
    CHECK_OK(error);
    pp_future_unref(future);
}

static void make_pools(int count)
{
    pthread_t threads[LOOPING];
#if KIT_ASAN
    LEFT_OUT(
        "the runtime of address sanitizer sleeps on locks of its own, so that no fork of a process with threads can be "
        "probed for locks that are held");
#endif
    if (TEST_ON_VALGRIND)
        LEFT_OUT("valgrind takes what another thread had in hand at a fork for a leak in the fork, and changes its "
                 "exit status");
    board_make();
    for (int i = 0; i < LOOPING; i++)
        threads[i] = start_thread(loop, (void *)&steps[i].run);
    for (int i = 0; i < count; i++) {
        pp_pool *pool = make_pool();
        use_pool(pool);
        pp_pool_destroy(pool);
    }
    atomic_store(word(STOP), 1);
    for (int i = 0; i < LOOPING; i++)
        join_thread(threads[i]);
}

TEST_WITHIN(no_worker_of_twenty_pools_hangs_while_threads_use_libc, 60)
{
    make_pools(20);
}

SLOW_TEST_WITHIN(no_worker_of_a_thousand_pools_hangs_while_threads_use_libc, 600)
{
    make_pools(KIT_TSAN ? 200 : 1000); /* thread sanitizer keeps memory of each, until it has no more for a fork */
}
