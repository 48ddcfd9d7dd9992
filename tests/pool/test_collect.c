/* SPDX-License-Identifier: MIT */
/* Collecting, looked at from inside: moments that no public function can bring about for certain. */
#include "processes_kit.h"

#include "base/atomic.h"
#include "base/clock.h"
#include "base/futex.h"
#include "pool/channel.h"
#include "pool/collect.h"
#include "pool/send.h"

/* In the pool's lock: the only call of its only worker has ended and its record is released, and nobody was rung for
 * it. */
static void let_end_silently(pp_pool *pool, int gate)
{
    struct pp__worker *worker = pool->workers[0];
    struct pp__item *item = pp__container(worker->items.next, struct pp__item, link);
    CHECK_INT(worker->count, 1);
    pp__want_nothing(&pool->page->wanted, ++pool->want_epoch);
    gate_open(gate);
    wait_until(pp__ring_passed(&worker->calls, worker->slots[item->slot].end), 10);
    CHECK(pp__ring_waiting(&worker->results));
    worker->slots[item->slot].sent_at = worker->free_at =
        pp__now() - PP__SECOND / 10; /* so that the timers look after it */
}

/* The look at what is due takes results in, too. Whoever waits for one of them must not go to sleep on it. */
BOTH(a_result_taken_in_by_a_timer_is_not_slept_over)
{
    pp_pool *pool = open_workers(1, method);
    pp_future *future = submit_int(pool, task_gate, 1);
    gate_wait_arrived(1, 1);
    pp__pool_lock(pool);
    let_end_silently(pool, 1);
    pp__collect_sleep(pool, PP__NEVER, true, NULL);
    pp__pool_unlock(pool);
    CHECK_INT(pp_future_state(future), PP_FINISHED);
    CHECK(take_int(future) > 0);
    pp_pool_destroy(pool);
}

/* ------------------------------------------------------------------------------------------- a manager left napping */

static int task_rest(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    test_sleep_ms(100 * harness_scale());
    return 0;
}

/* This thread naps in place of the manager, which a pool in a host's loop has not. The worker's wake is lost if it
 * comes before the nap, so that there are some tries. */
BOTH(a_worker_that_runs_dry_ends_the_nap_in_which_the_manager_was_left)
{
    bool woken = false;
    pp_pool *pool = kit_pool_with(method, (pp_pool_options){.max_workers = 1, .event_loop = 1});
    CHECK_INT(take_int(submit_int(pool, task_square, 3)), 9);
    for (int i = 0; i < 3 && !woken; i++) {
        pp_future *future = submit_int(pool, task_rest, 0);
        pp__pool_lock(pool);
        pp__collect_leave(pool);
        uint32_t seen = pp__load_relaxed(&pool->page->manager); /* nobody adds to it here */
        pp__pool_unlock(pool);
        woken = pp__futex_wait(&pool->page->manager, seen, pp__now() + 2 * PP__SECOND, true) == 0;
        pp__pool_lock(pool);
        pp__collect_return(pool);
        pp__pool_unlock(pool);
        CHECK_OK(pp_future_wait(future, -1));
        pp_future_unref(future);
    }
    CHECK(woken);
    pp_pool_destroy(pool);
}

static bool manager_naps(pp_pool *pool)
{
    pp__pool_lock(pool);
    pool->mean_run = 0; /* nothing is queued behind what the worker runs */
    bool naps = pool->collector.manager_naps;
    pp__pool_unlock(pool);
    return naps;
}

/* Nobody waits for it. Whether it was left to the manager's nap, before anybody `leaves` or behind that. */
static bool submit_without_room(pp_pool *pool, pp_call call, bool leaves)
{
    shared()->gates[1] = shared()->arrived[1] = 0;
    pp_future *running = submit_int(pool, task_gate, 1);
    gate_wait_arrived(1, 1);
    do
        CHECK_INT(pp_future_wait(running, 1), -ETIMEDOUT);
    while (!manager_naps(pool));
    call.function = task_square;
    call.arg = &(int){4};
    call.size = sizeof(int);
    pp_future *next = submit_with(pool, call);
    if (leaves)
        CHECK_INT(pp_future_wait(running, 1), -ETIMEDOUT);
    pp__pool_lock(pool);
    const struct pp__collector *c = &pool->collector;
    bool left = c->manager_naps && !c->manager_called && pool->pending_count == 1;
    CHECK(!left || c->left);
    CHECK(!left || !call.deadline || pp__now() + call.deadline * PP__MILLISECOND >= pool->nap_ends);
    pp__pool_unlock(pool);
    gate_open(1);
    wait_until(pp_future_state(next) > PP_RUNNING, 10);
    if (!call.deadline)
        CHECK_INT(take_int(next), 16);
    else
        pp_future_unref(next); /* it may have been late */
    CHECK(take_int(running) > 0);
    return left;
}

/* But where that has just ended, or where the call is to be failed before it does. */
BOTH_WITHIN(a_call_for_which_there_is_no_room_does_not_wake_the_napping_manager, 30)
{
    static const pp_call calls[] = {{0}, {.timeout = 60000}, {.deadline = 60000}};
    pp_pool *pool = open_workers(1, method);
    for (int i = 0; i < 6; i++)
        while (!submit_without_room(pool, calls[i % 3], i < 3)) {
        }
    for (int i = 0; i < 20; i++)
        submit_without_room(pool, (pp_call){.deadline = 1}, i < 10);
    pp_pool_destroy(pool);
}

/* Who sleeps comes back soon for a while after a call was queued behind another, and is not told of the next one. */
BOTH(a_sleep_is_short_for_a_while_after_a_call_was_queued)
{
    uint64_t next;
    pp_pool *pool = kit_pool_with(method, (pp_pool_options){.max_workers = 1, .event_loop = 1});
    CHECK_INT(take_int(submit_int(pool, task_square, 3)), 9);
    pp__pool_lock(pool);
    pool->queued = true;
    for (int i = 0; i < 3; i++) {
        pp__collect_arm(pool, &next);
        uint64_t now = pp__now();
        if (now < pool->behind_until)
            CHECK(next < now + 5 * PP__MILLISECOND);
        CHECK(i > 0 || next < now + 5 * PP__MILLISECOND);
    }
    uint64_t before;
    do { /* but for what else is due */
        test_sleep_ms(1);
        before = pp__now();
        pp__collect_arm(pool, &next);
    } while (next < before + 50 * PP__MILLISECOND);
    pp__collect_events(pool);
    pp__pool_unlock(pool);
    pp_pool_destroy(pool);
}

/* Somebody sleeps who comes back within so long at the latest, or not before, and knows of calls behind others by
 * itself, or does not: whether it is told of a call `behind` another, or with a `timeout`. */
struct sleep {
    bool behind;
    uint32_t timeout;
    bool knows;
    uint64_t least; /* ns, until it comes back */
};

static bool is_told(pp_pool *pool, struct sleep sleep)
{
    uint64_t next;
    pp__pool_lock(pool);
    do {
        pool->queued = sleep.knows;
        pp__collect_arm(pool, &next);
    } while (pool->collector.told_of_queued != sleep.knows || pool->collector.wake_at < pp__now() + sleep.least);
    pool->queued = sleep.behind;
    pp__pool_unlock(pool);
    pp_call call = {.function = task_square, .arg = &(int){5}, .size = sizeof(int), .timeout = sleep.timeout};
    pp_future *future = submit_with(pool, call);
    pp__pool_lock(pool);
    bool told = pool->collector.kicked;
    pp__collect_events(pool);
    pp__pool_unlock(pool);
    CHECK_OK(pp_future_wait(future, -1));
    pp_future_unref(future);
    return told;
}

/* By the coarse clock, which is some milliseconds late, nobody would come back soon enough. With work outstanding a
 * sleep is of 100 ms at most. */
BOTH(who_comes_back_too_late_is_told_of_calls_behind_others_and_of_timeouts_and_nobody_else)
{
    int told = 0;
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 2, .event_loop = 1}, method);
    pp_future *running = submit_int(pool, task_gate, 1);
    while (shared()->arrived[1] == 0)
        CHECK_INT(pp_future_wait(running, 1), -ETIMEDOUT);
    CHECK_INT(take_int(submit_int(pool, task_square, 3)), 9); /* both workers are up */
    for (int i = 0; i < 20; i++)
        told += is_told(pool, (struct sleep){.behind = true, .knows = true});
    CHECK_INT(told, 0);
    for (int i = 0; i < 20; i++)
        told += is_told(pool, (struct sleep){.timeout = 100, .least = 99 * PP__MILLISECOND});
    CHECK_INT(told, 0);
    CHECK(is_told(pool, (struct sleep){.behind = true, .least = 50 * PP__MILLISECOND}));
    CHECK(is_told(pool, (struct sleep){.timeout = 20, .least = 50 * PP__MILLISECOND}));
    gate_open(1);
    CHECK(take_int(running) > 0);
    CHECK(is_told(pool, (struct sleep){.least = PP__NEVER / 2})); /* of the first call, which has no end of its own */
    pp_pool_destroy(pool);
}

/* ------------------------------------------------------------------------------ an idle worker that is left asleep */

/* Whether so many workers are alive, and all of them idle and asleep. */
static bool all_sleep(pp_pool *pool, int count)
{
    int asleep = 0;
    pp__pool_lock(pool);
    for (int i = 0; i < 2; i++)
        for (struct pp__link *link = pool->idle[i].next; link != &pool->idle[i]; link = link->next)
            asleep += pp__worker_sleeps(pp__container(link, struct pp__worker, place));
    bool all = pool->alive == count && asleep == count;
    pp__pool_unlock(pool);
    return all;
}

/* Two workers, both asleep, and calls that are taken for short beside a wake. */
static pp_pool *open_asleep(pp_start_method method, int most)
{
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = most, .min_workers = 2, .wait = PP_WAIT_SLEEP}, method);
    CHECK_INT(take_int(submit_int(pool, task_square, 3)), 9);
    wait_until(all_sleep(pool, 2), 10);
    pp__pool_lock(pool);
    pool->mean_run = PP__SECOND;
    pool->wake_cost = 2 * PP__SECOND;
    pp__pool_unlock(pool);
    return pool;
}

/* Though the first call is not short: while that is not seen the next one waits, for neither the worker that sleeps nor
 * a new one. */
BOTH(an_idle_worker_that_is_not_worth_its_wake_is_no_reason_to_start_another)
{
    pp_pool *pool = open_asleep(method, 3);
    pp_future *running = submit_int(pool, task_gate, 1), *next = submit_int(pool, task_square, 4);
    pp__pool_lock(pool);
    CHECK_INT(pool->pending_count, 1);
    CHECK_INT(pool->alive, 2);
    pp__pool_unlock(pool);
    gate_open(1);
    CHECK_INT(take_int(next), 16);
    CHECK(take_int(running) > 0);
    pp_pool_destroy(pool);
}

/* A chunk of calls that are short beside a wake is none. */
BOTH(a_call_does_not_wait_behind_a_chunk_while_another_worker_sleeps)
{
    static const int gates[4] = {1, 1, 1, 1};
    pp_map *map;
    pp_map_result result;
    pp_pool *pool = open_asleep(method, 2);
    CHECK_OK(pp_map_open_array(pool, task_gate, gates, 4, sizeof *gates, &(pp_map_options){.chunk_size = 4}, &map));
    CHECK_INT(pp_map_next(map, 0, &result), -ETIMEDOUT);
    CHECK_INT(take_int(submit_int(pool, task_square, 4)), 16);
    gate_open(1);
    for (int i = 0; i < 4; i++)
        CHECK_INT(pp_map_next(map, -1, &result), 1);
    pp_map_close(map);
    pp_pool_destroy(pool);
}

/* How many calls the worker has that stands at its gate, behind which `count` more are submitted, each taken for `run`
 * ns, beside a wake of 1000. */
static uint32_t count_behind(pp_start_method method, int count, uint64_t run)
{
    pp_future *futures[32];
    uint32_t most = 0;
    pp_pool *pool = open_asleep(method, 2);
    pp__pool_lock(pool);
    pool->mean_run = run;
    pool->wake_cost = 1000;
    pp__pool_unlock(pool);
    pp_future *running = submit_int(pool, task_gate, 1);
    for (int i = 0; i < count; i++)
        futures[i] = submit_int(pool, task_square, i);
    pp__pool_lock(pool);
    for (int i = 0; i < 2; i++)
        most = pool->workers[i]->count > most ? pool->workers[i]->count : most;
    pp__pool_unlock(pool);
    gate_open(1);
    for (int i = 0; i < count; i++)
        CHECK_INT(take_int(futures[i]), i * i);
    CHECK(take_int(running) > 0);
    pp_pool_destroy(pool);
    shared()->gates[1] = 0;
    return most;
}

/* Others go to the one that sleeps as soon as it would be awake before they begin. Behind a call that lasts a
 * millisecond none is queued any more, nor left there: then it is tried again. */
BOTH(trivial_calls_are_queued_while_another_worker_sleeps)
{
    CHECK(count_behind(method, 8, 320) < 9);
    wait_until(count_behind(method, 20, 100) == 21, 10);
}

/* ------------------------------------------------------------------------------------------------ spinning in vain */

/* A spin of an hour would end by a jump of the clock, which halves the limit. */
BOTH(who_has_spun_in_vain_spins_again_when_something_was_delivered)
{
    pp_pool *pool = open_workers(1, method);
    if (pool->processors < 2)
        LEFT_OUT("one processor");
    pp_future *future = submit_int(pool, task_gate, 1);
    gate_wait_arrived(1, 1);
    uint64_t in_vain = UINT64_MAX, hour = 3600 * PP__SECOND;
    pp__pool_lock(pool);
    for (int i = 0; i < 2; i++) {
        pool->workers[0]->woken_at = 0; /* it is not in this thread's way */
        while (in_vain != pool->delivered) {
            pool->collector.looked_at = pp__now();
            pool->spin_limit = PP__SPIN_MAX;
            pp__collect_spin(pool, PP__NEVER, &in_vain);
        }
        pool->spin_limit = pool->wake_cost = hour;
        CHECK(!pp__collect_spin(pool, PP__NEVER, &in_vain));
        CHECK_INT(pool->spin_limit, hour);
        in_vain--; /* as if there were more since */
    }
    pool->spin_limit = pool->wake_cost = PP__SPIN_MAX;
    pp__pool_unlock(pool);
    gate_open(1);
    CHECK(take_int(future) > 0);
    pp_pool_destroy(pool);
}

/* --------------------------------------------------------------------------------------- an initializer that fails */

struct log_lines {
    _Atomic int count, garbage;
};

static void note_line(void *data, const char *line)
{
    struct log_lines *lines = data;
    lines->count++;
    lines->garbage += strstr(line, "garbage") != NULL;
}

/* All wait at the gate; the argument says whether they fail behind it. */
static int init_gated(pp_task *task, const void *arg, size_t size)
{
    (void)size;
    gate_wait(1);
    return read_int(arg) ? pp_task_fail(task, -EIO, "no luck") : 0;
}

static bool all_have_answered(pp_pool *pool, int count)
{
    for (int i = 0; i < count; i++)
        if (!pp__ring_waiting(&pool->workers[i]->results))
            return false;
    return true;
}

/* The first failure breaks the pool while the others' answers lie there already, failures too: of workers that did
 * nothing wrong. */
BOTH(where_an_initializer_fails_no_worker_is_blamed_for_garbage)
{
    enum { WORKERS = 4 };
    static struct log_lines lines;
    static const int fails = 1;
    pp_future *futures[WORKERS];
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = WORKERS,
                                                .initializer = init_gated,
                                                .initializer_arg = &fails,
                                                .initializer_arg_size = sizeof fails,
                                                .log = note_line,
                                                .log_data = &lines},
                              method);
    for (int i = 0; i < WORKERS; i++)
        futures[i] = submit_int(pool, task_square, i);
    gate_wait_arrived(1, WORKERS);
    pp__pool_lock(pool);
    gate_open(1);
    wait_until(all_have_answered(pool, WORKERS), 10);
    pp__pool_unlock(pool);
    for (int i = 0; i < WORKERS; i++)
        drop_failed(futures[i], PP_ERROR_BROKEN);
    pp_pool_destroy(pool);
    CHECK(lines.count > 0);
    CHECK_INT(lines.garbage, 0);
}
