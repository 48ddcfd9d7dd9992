/* SPDX-License-Identifier: MIT */
/* One call after the other, each waited for by who submitted it, while its worker is awake. */
#include "processes_kit.h"

#include "base/atomic.h"
#include "base/clock.h"
#include "base/lines.h"
#include "pool/pool.h"
#include "pool/workers.h"

static void call_many(pp_pool *pool, int count)
{
    for (int i = 0; i < count; i++)
        CHECK_INT(take_int(submit_int(pool, task_square, i % 1000)), i % 1000 * (i % 1000));
}

/* A pool of one worker, for which somebody may look while it runs. */
#define OPEN_POOL(pool)                                                                                                \
    pp_pool *pool = open_workers(1, method);                                                                           \
    if (pool->processors < 2)                                                                                          \
    LEFT_OUT("one processor")

/* ------------------------------------------------------------------------------------------------ the manager */

/* It collects, asleep in epoll; and how often waiting threads have taken that from it and given it up. */
static bool manager_sleeps(pp_pool *pool, uint64_t *leaves)
{
    pp__pool_lock(pool);
    bool sleeps = pool->collector.manager && pool->collector.asleep;
    *leaves = pool->collector.leaves;
    pp__pool_unlock(pool);
    return sleeps;
}

/* Keeps the worker awake, and waits for nothing. */
static void call_and_poll(pp_pool *pool)
{
    pp_future *future = submit_int(pool, task_square, 7);
    while (pp_future_state(future) != PP_FINISHED) {
    }
    pp_future_unref(future);
}

/* Beside other work a call may take long, and who waits for it then sleeps in the manager's place: some time none does.
 */
static void call_until_manager_sleeps(pp_pool *pool, void (*call)(pp_pool *pool))
{
    uint64_t before, after;
    do {
        call_many(pool, 1);
        while (!manager_sleeps(pool, &before))
            call_and_poll(pool);
        for (int i = 0; i < 10; i++)
            call(pool);
    } while (!manager_sleeps(pool, &after) || after != before);
}

static void call_short(pp_pool *pool)
{
    call_many(pool, 10);
}

BOTH(the_manager_sleeps_while_calls_come_and_go)
{
    OPEN_POOL(pool);
    call_until_manager_sleeps(pool, call_short);
    pp_pool_destroy(pool);
}

static int task_spin(pp_task *task, const void *arg, size_t size)
{
    uint64_t begun = pp__now(), time;
    CHECK_INT(size, sizeof time);
    memcpy(&time, arg, size);
    while (pp__now() - begun < time) {
    }
    return pp_task_return(task, arg, size);
}

/* Which takes longer than anybody looks before he takes the lock, and not as long as he then spins. */
static void call_longer(pp_pool *pool)
{
    pp_future *future;
    pp__pool_lock(pool);
    uint64_t time = pool->wake_cost < PP__SPIN_MAX / 2 ? pool->wake_cost : PP__SPIN_MAX / 2;
    pp__pool_unlock(pool);
    CHECK_OK(pp_submit(pool, task_spin, &time, sizeof time, &future));
    CHECK_OK(pp_future_result(future, -1, &time, sizeof time, NULL));
    pp_future_unref(future);
}

BOTH(the_manager_sleeps_while_somebody_spins_for_calls)
{
    OPEN_POOL(pool);
    call_until_manager_sleeps(pool, call_longer);
    pp_pool_destroy(pool);
}

/* ------------------------------------------------------------------------------------------- what follows */

enum { MOST_TASKS = 60 };

static bool has_successor(pp_pool *pool)
{
    pp__pool_lock(pool);
    const struct pp__worker *worker = pool->workers[0];
    bool has = worker->successor && worker->successor->state == PP__WORKER_NEXT;
    pp__pool_unlock(pool);
    return has;
}

/* The worker of that place, which has its last call, while somebody else has looked after what was due till then. */
static const struct pp__worker *see_last(pp_pool *pool)
{
    pp__pool_lock(pool);
    const struct pp__worker *worker = pool->workers[0];
    CHECK(worker->withdrawn);
    pool->recycle_due = false;
    pp__pool_unlock(pool);
    return worker;
}

/* The next one takes its place at once, whoever has taken the result. */
BOTH(a_worker_goes_behind_its_last_call)
{
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 1, .max_tasks = MOST_TASKS}, method);
    call_many(pool, 10);
    wait_until(has_successor(pool), 10);
    call_many(pool, MOST_TASKS - 11);
    pp_future *last = submit_int(pool, task_square, 7);
    const struct pp__worker *worker = see_last(pool);
    CHECK_INT(take_int(last), 49);
    pp__pool_lock(pool);
    bool stays = pool->workers[0] == worker;
    pp__pool_unlock(pool);
    CHECK(!stays);
    pp_pool_destroy(pool);
}

/* -------------------------------------------------------------------------------------------- the addresses */

/* Where results are looked for without the lock: after a call or some that were, as their worker was awake. */
static const _Atomic uint32_t *glanced_at(pp_pool *pool)
{
    const _Atomic uint32_t *mark;
    do
        call_many(pool, 1);
    while ((mark = pp__load_relaxed(&pool->glance)) == NULL);
    return mark;
}

static bool is_idle(pp_pool *pool)
{
    pp__pool_lock(pool);
    bool idle = pool->alive == 0 && pool->others_count == 0 && pp__list_empty(&pool->dead);
    pp__pool_unlock(pool);
    return idle;
}

static const struct pp__result_side *side_of_first(pp_pool *pool)
{
    pp__pool_lock(pool);
    const struct pp__result_side *side = pool->workers[0]->result_side;
    pp__pool_unlock(pool);
    return side;
}

/* Whether the kernel can read there. */
static bool is_readable(const void *place)
{
    int pipes[2];
    CHECK_OK(pipe(pipes));
    bool is = write(pipes[1], place, 4) == 4;
    close(pipes[0]);
    close(pipes[1]);
    return is;
}

/* Mappings of result sides in this process. */
static int count_mapped(void)
{
    int count = 0;
    struct pp__lines lines;
    pp__lines_open(&lines, "/proc/self/maps");
    for (const char *line; (line = pp__lines_next(&lines)) != NULL;)
        count += strstr(line, "procpool-results") != NULL;
    pp__lines_close(&lines);
    return count;
}

/* Who looks there does not have the lock, and may be held up for any time. */
BOTH(where_results_are_looked_for_can_be_read_when_the_worker_has_ended)
{
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 1, .idle_timeout = 50}, method);
    if (pool->processors < 2)
        LEFT_OUT("one processor");
    const _Atomic uint32_t *mark = glanced_at(pool);
    const struct pp__result_side *side = side_of_first(pool);
    CHECK_INT(count_mapped(), 1);
    wait_until(is_idle(pool), 10);
    CHECK_INT(count_mapped(), 0);
    CHECK(is_readable((const void *)mark));
    CHECK_INT(pp__load_relaxed(mark), 0);
    call_many(pool, 1);
    CHECK(side_of_first(pool) == side);
    CHECK_INT(count_mapped(), 1);
    pp_pool_destroy(pool);
    CHECK(!is_readable(side));
}
