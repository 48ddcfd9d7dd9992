/* SPDX-License-Identifier: MIT */
/* A pool's memory: it goes with the last of its handle and its futures, whichever that is. */
#include "call_kit.h"

/* Calls of more than one piece of the memory that a pool has for them. */
enum { CALLS = 1500, ROUNDS = 60, WARM = 10 };

/* Memory in use, in KiB. Address space would be that of malloc's arenas and of stacks besides. */
static unsigned long in_use(void)
{
    unsigned long pages;
    FILE *file = fopen("/proc/self/statm", "re");
    CHECK(file && fscanf(file, "%*u %lu", &pages) == 1);
    fclose(file);
    return pages * (unsigned long)sysconf(_SC_PAGESIZE) / 1024;
}

static void submit_all(pp_pool *pool, pp_future **futures)
{
    for (uint32_t i = 0; i < CALLS; i++)
        futures[i] = submit_u32(pool, echo, i);
    for (int i = 0; i < CALLS; i++)
        CHECK_OK(pp_future_wait(futures[i], -1));
}

static void drop(pp_future **futures, int from, int to)
{
    for (int i = from; i < to; i++)
        pp_future_unref(futures[i]);
}

struct rest {
    pp_future **futures;
    int from;
};

static void *drop_rest(void *argument)
{
    const struct rest *rest = argument;
    drop(rest->futures, rest->from, CALLS);
    return NULL;
}

/* `kept` futures outlive the handle. */
static void live(pp_start_method method, void (*end)(pp_pool *), int kept)
{
    static pp_future *futures[CALLS];
    pp_pool *pool = kit_sibling(method, (pp_pool_options){.max_workers = 1});
    submit_all(pool, futures);
    drop(futures, 0, CALLS - kept);
    end(pool);
    for (int i = CALLS - kept; i < CALLS; i++)
        CHECK_INT(result_u32(futures[i]), i);
    drop(futures, CALLS - kept, CALLS);
}

/* A thread drops them while the handle goes. */
static void live_beside(pp_start_method method, void (*end)(pp_pool *))
{
    static pp_future *futures[CALLS];
    pp_pool *pool = kit_sibling(method, (pp_pool_options){.max_workers = 1});
    submit_all(pool, futures);
    pthread_t thread = start_thread(drop_rest, &(struct rest){futures, 0});
    end(pool);
    join_thread(thread);
}

static void live_in_each_way(pp_start_method method)
{
    live(method, pp_pool_destroy, 0);
    live(method, pp_pool_destroy, 1);
    live(method, pp_pool_destroy, CALLS);
    live(method, pp_pool_release, CALLS / 2);
    live_beside(method, pp_pool_destroy);
    live_beside(method, pp_pool_release);
}

BOTH(nothing_of_a_pool_is_left_behind_it)
{
    if (KIT_ASAN || KIT_TSAN || TEST_ON_VALGRIND)
        LEFT_OUT("here memory is not given back at once; leaks are looked for by the tool itself");
    unsigned long before = 0;
    for (int round = 0; round < ROUNDS; round++) {
        live_in_each_way(method);
        until(thread_count() == 1); /* those of released pools end by themselves */
        if (round == WARM)
            before = in_use();
    }
    /* One pool's calls are 188 KiB, and there were 300 pools. */
    CHECK(in_use() < before + 16384);
}
