/* SPDX-License-Identifier: MIT */
/*
 * Want of memory, descriptors and processes where workers are succeeded, kept ready, made more, and set up: each step
 * fails in turn, once.
 *
 * needs: seams
 */
#include "processes_kit.h"
#include "want_kit.h"

#include <sys/prctl.h>

/* ------------------------------------------------------------------------------------------ the failures */

/* Which of the zygote's forks fail: those from FROM on, as many as COUNT. */
enum { FORKS, FROM, COUNT };

static pid_t scarce_fork(void)
{
    char name[16] = "";
    prctl(PR_GET_NAME, name);
    if (strcmp(name, "pp-zygote") != 0)
        return fork();
    int64_t number = shared()->words[FORKS]++;
    if (number < shared()->words[FROM] || number >= shared()->words[FROM] + shared()->words[COUNT])
        return fork();
    errno = EAGAIN;
    return -1;
}

/* In every process, images of the forkserver included. */
__attribute__((constructor)) static void put_hooks(void)
{
    real = pp__sys;
    pp__sys.malloc = failing_malloc;
    pp__sys.calloc = failing_calloc;
    pp__sys.memfd_create = failing_memfd_create;
    pp__sys.eventfd = failing_eventfd;
    pp__sys.epoll_ctl = failing_epoll_ctl;
    pp__sys.fork = scarce_fork;
}

/* The most steps that a scenario can have; it is over when a round met no failure. */
#define MOST 500

static bool is_want(int code)
{
    return code == -ENOMEM || code == -EMFILE || code == -ENFILE;
}

/* ------------------------------------------------------------------------------------------- scenarios */

static void keep(void *seen, const pp_finalized *end)
{
    (void)end;
    atomic_fetch_add((_Atomic int *)seen, 1);
}

static void call(pp_pool *pool, int value)
{
    pp_future *future;
    int code = pp_submit(pool, task_square, &value, sizeof value, &future);
    if (code == 0)
        CHECK_INT(take_int(future), value * value);
    else
        CHECK(is_want(code));
}

BOTH_WITHIN(workers_are_succeeded_in_spite_of_every_want, 60)
{
    bool met = true;
    pp_pool_destroy(open_workers(1, method));
    int before = count_fds();
    for (long n = 1; met && n < MOST; n++) {
        _Atomic int seen = 0;
        pp_pool *pool = open_pool(
            (pp_pool_options){
                .max_workers = 1, .max_tasks = 2, .finalizer = nothing, .finalized = keep, .finalized_data = &seen},
            method);
        arm(n);
        for (int i = 0; i < 6; i++)
            call(pool, i);
        met = disarm();
        expect_usable(pool);
        pp_pool_destroy(pool);
        CHECK(seen > 0);
        until(count_fds() == before);
    }
    CHECK(!met);
}

BOTH_WITHIN(a_standby_that_can_not_be_made_costs_nothing, 60)
{
    bool met = true;
    for (long n = 1; met && n < MOST; n++) {
        pp_pool *pool = open_pool((pp_pool_options){.max_workers = 1, .standby = PP_STANDBY_ALWAYS}, method);
        pid_t zygote = zygote_of(pool);
        arm(n);
        for (int i = 0; i < 3; i++) {
            pp_future *future = NULL;
            if (pp_submit(pool, crash, NULL, 0, &future) == 0)
                expect_end(future, -EOWNERDEAD);
            call(pool, i);
        }
        met = disarm();
        expect_end(submit(pool, crash, NULL, 0), -EOWNERDEAD);
        expect_usable(pool);
        until(count_descendants_named(zygote, "pp-standby") == 1); /* the next death had it made */
        pp_pool_destroy(pool);
    }
    CHECK(!met);
}

BOTH(a_pool_that_finds_no_memory_to_grow_stays_as_it_is)
{
    pp_pool *pool = open_workers(1, method);
    expect_usable(pool);
    arm(1);
    CHECK_INT(pp_pool_resize(pool, 100), -ENOMEM);
    CHECK(disarm());
    expect_usable(pool);
    CHECK_OK(pp_pool_resize(pool, 100));
    expect_usable(pool);
    pp_pool_destroy(pool);
}

BOTH_WITHIN(a_pool_with_a_setting_is_made_whole_or_not_at_all, 60)
{
    static const char *const environment[] = {"PP_FRUIT=fig", NULL};
    const int *fds = method != PP_START_FORK ? board_fds : NULL;
    bool met = true;
    pp_pool_destroy(open_workers(1, method));
    int before = count_fds();
    for (long n = 1; met && n < MOST; n++) {
        pp_pool *pool = NULL;
        arm(n);
        int code = pp_pool_create(&(pp_pool_options){.max_workers = 1,
                                                     .environment = environment,
                                                     .directory = "/",
                                                     .pin = 1,
                                                     .inherit_fds = fds,
                                                     .inherit_fd_count = fds ? 1 : 0,
                                                     .start_method = method},
                                  &pool);
        met = disarm();
        CHECK(code == 0 || is_want(code));
        if (code == 0)
            expect_usable(pool);
        pp_pool_destroy(pool);
        until(count_fds() == before);
    }
    CHECK(!met);
}

/* The second fork would be the first successor's. */
BOTH(successors_that_can_not_be_forked_are_tried_again)
{
    share();
    shared()->words[FROM] = 1;
    shared()->words[COUNT] = 3;
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 1, .max_tasks = 1}, method);
    for (int i = 0; i < 5; i++)
        CHECK_INT(take_int(submit_int(pool, task_square, i)), i * i);
    CHECK(shared()->words[FORKS] >= 1 + 3 + 4);
    pp_pool_destroy(pool);
}

/* One that failed is not asked for again before there is reason to. */
BOTH(a_standby_that_can_not_be_forked_is_made_after_the_next_death)
{
    share();
    shared()->words[FROM] = 1;
    shared()->words[COUNT] = 1;
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 1, .standby = PP_STANDBY_ALWAYS}, method);
    pid_t zygote = zygote_of(pool);
    until(shared()->words[FORKS] == 2);
    CHECK_INT(count_descendants_named(zygote, "pp-standby"), 0);
    expect_end(submit(pool, crash, NULL, 0), -EOWNERDEAD);
    until(count_descendants_named(zygote, "pp-standby") == 1);
    expect_usable(pool);
    pp_pool_destroy(pool);
}
