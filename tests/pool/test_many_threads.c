/* SPDX-License-Identifier: MIT */
/* Threads that wait for the same futures, and for some of the same. */
#include "many_kit.h"

#define THREADS 8
#define SHARED 2000u

struct crew {
    pp_pool *pools[2];
    pp_future *futures[SHARED];
    _Atomic uint32_t next;
    _Atomic bool over;
    pthread_t threads[THREADS];
};

static void open_crew(struct crew *crew, pp_start_method method, size_t pools, uint32_t count)
{
    for (size_t i = 0; i < pools; i++)
        crew->pools[i] = kit_sibling(method, (pp_pool_options){.max_workers = 2});
    for (uint32_t i = 0; i < count; i++)
        crew->futures[i] = submit_u32(crew->pools[i % pools], echo, i);
}

static void run_crew(struct crew *crew, int threads, void *(*run)(void *))
{
    for (int i = 0; i < threads; i++)
        crew->threads[i] = start_thread(run, crew);
    for (int i = 0; i < threads; i++)
        join_thread(crew->threads[i]);
}

static void close_crew(struct crew *crew, size_t pools, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        pp_future_unref(crew->futures[i]);
    for (size_t i = 0; i < pools; i++)
        pp_pool_destroy(crew->pools[i]);
}

static void *have_all(void *argument)
{
    struct crew *crew = argument;
    pp_completed *completed;
    bool seen[SHARED] = {false};
    uint32_t sum = 0;
    size_t index;
    CHECK_OK(pp_as_completed(crew->futures, SHARED, &completed));
    for (pp_future *future; pp_completed_next(completed, -1, &future, &index) == 1; sum++) {
        CHECK(!seen[index] && future == crew->futures[index]);
        seen[index] = true;
        CHECK_INT(result_u32(future), index);
    }
    CHECK_INT(sum, SHARED);
    pp_completed_close(completed);
    return NULL;
}

BOTH(two_threads_have_the_same_futures_of_one_pool)
{
    struct crew crew = {0};
    open_crew(&crew, method, 1, SHARED);
    run_crew(&crew, 2, have_all);
    close_crew(&crew, 1, SHARED);
}

BOTH(two_threads_have_the_same_futures_of_two_pools)
{
    struct crew crew = {0};
    open_crew(&crew, method, 2, SHARED);
    run_crew(&crew, 2, have_all);
    close_crew(&crew, 2, SHARED);
}

/* A quarter of them each, half of which is the neighbour's too. */
static void *wait_for_some(void *argument)
{
    struct crew *crew = argument;
    uint32_t from = atomic_fetch_add(&crew->next, 1) * (SHARED / 10);
    unsigned char done[SHARED / 4];
    ssize_t sum = 0;
    for (int salt = 0; sum < (ssize_t)(SHARED / 4); salt++) {
        pp_when when = salt % 2 ? PP_ALL_COMPLETED : PP_FIRST_COMPLETED;
        int timeout = salt % 4 - 1; /* -1, 0, 1, 2 */
        memset(done, 7, sizeof done);
        sum = pp_wait(&crew->futures[from], SHARED / 4, when, timeout, done);
        CHECK(sum > 0 || (sum == -ETIMEDOUT && timeout >= 0));
        ssize_t told = 0;
        for (uint32_t i = 0; i < SHARED / 4; i++) {
            CHECK(done[i] <= 1);
            told += done[i];
            CHECK(!done[i] || pp_future_state(crew->futures[from + i]) == PP_FINISHED);
        }
        CHECK(sum < 0 || told == sum);
        if (salt % 4 == 3) /* all of them: no need to look so often */
            CHECK_INT(sum = pp_wait(&crew->futures[from], SHARED / 4, PP_ALL_COMPLETED, -1, NULL), SHARED / 4);
    }
    return NULL;
}

BOTH(eight_threads_wait_for_lists_that_overlap_of_one_pool)
{
    struct crew crew = {0};
    open_crew(&crew, method, 1, SHARED);
    run_crew(&crew, THREADS, wait_for_some);
    close_crew(&crew, 1, SHARED);
}

BOTH(eight_threads_wait_for_lists_that_overlap_of_two_pools)
{
    struct crew crew = {0};
    open_crew(&crew, method, 2, SHARED);
    run_crew(&crew, THREADS, wait_for_some);
    close_crew(&crew, 2, SHARED);
}

static void *keep_collecting(void *argument)
{
    struct crew *crew = argument;
    while (!atomic_load(&crew->over))
        for (int i = 0; i < 2; i++)
            expect_usable(crew->pools[i]);
    return NULL;
}

/* Ends come while the futures are marked: before the mark, or after it. */
BOTH(an_end_that_comes_while_a_wait_begins_is_seen)
{
    struct crew crew = {0};
    open_crew(&crew, method, 2, 0);
    pthread_t thread = start_thread(keep_collecting, &crew);
    for (uint32_t round = 0; round < ROUNDS / 10; round++) {
        size_t pools = 1 + round % 2;
        for (uint32_t i = 0; i < SHARED; i++)
            crew.futures[i] = submit_u32(crew.pools[i % pools], echo, i);
        CHECK_INT(pp_wait(crew.futures, SHARED, PP_ALL_COMPLETED, -1, NULL), SHARED);
        for (uint32_t i = 0; i < SHARED; i++)
            pp_future_unref(crew.futures[i]);
    }
    atomic_store(&crew.over, true);
    join_thread(thread);
    close_crew(&crew, 2, 0);
}
