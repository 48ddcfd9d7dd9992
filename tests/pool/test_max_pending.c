/* SPDX-License-Identifier: MIT */
/* A bound for pending calls: who submits beyond it waits, waits for a while, or is refused. */
#include "processes_kit.h"
#include "signal_kit.h"

#include "pool/pool.h"

#include <malloc.h>

#include "lost_kit.h"

static pp_pool *open_bounded(pp_start_method method, size_t max_pending, pp_full_rule rule, uint32_t timeout)
{
    return open_pool(
        (pp_pool_options){.max_workers = 1, .max_pending = max_pending, .when_full = rule, .submit_timeout = timeout},
        method);
}

/* One runs and waits at gate 1, and so many are pending that there is no room. */
static void fill(pp_pool *pool, int pending, pp_future **futures)
{
    futures[0] = submit_int(pool, task_gate, 1);
    gate_wait_arrived(1, 1);
    for (int i = 1; i <= pending; i++)
        futures[i] = submit_int(pool, task_gate, 2);
}

static void drain(pp_pool *pool, int pending, pp_future **futures)
{
    gate_open(1);
    gate_open(2);
    for (int i = 0; i <= pending; i++)
        take_int(futures[i]);
    pp_pool_destroy(pool);
}

static int try(pp_pool *pool)
{
    return pp_submit(pool, nothing, NULL, 0, NULL);
}

BOTH(a_pool_refuses_what_is_beyond_its_bound_if_it_is_to)
{
    pp_future *futures[4];
    pp_pool *pool = open_bounded(method, 3, PP_FULL_REFUSE, 0);
    fill(pool, 3, futures);
    CHECK_INT(try(pool), -EAGAIN);
    CHECK_HAS(pp_last_error(), "max_pending is 3");
    CHECK_OK(pp_future_cancel(futures[3]));
    pp_future_unref(futures[3]);
    futures[3] = submit_int(pool, task_gate, 2); /* what was cancelled is not pending */
    CHECK_INT(try(pool), -EAGAIN);
    drain(pool, 3, futures);
}

/* It is not about what was ever submitted. */
BOTH(calls_that_have_ended_do_not_count)
{
    pp_pool *pool = open_bounded(method, 1, PP_FULL_REFUSE, 0);
    for (int i = 0; i < 200; i++) {
        CHECK_INT(take_int(submit_int(pool, task_square, i % 100)), (i % 100) * (i % 100));
    }
    pp_pool_destroy(pool);
}

BOTH(a_submit_waits_for_room_as_long_as_it_may)
{
    pp_future *futures[3];
    pp_pool *pool = open_bounded(method, 2, PP_FULL_WAIT, 30);
    fill(pool, 2, futures);
    CHECK_INT(try(pool), -ETIMEDOUT);
    CHECK_HAS(pp_last_error(), "30 ms");
    CHECK_INT(pp_submit_many(pool, &(pp_call){.function = nothing}, 1, NULL), -ETIMEDOUT);
    drain(pool, 2, futures);
}

/* ------------------------------------------------------------------------------------------- who waits */

struct submitter {
    pp_pool *pool;
    int value, code;
    pp_future *future;
    _Atomic int done;
};

static void *submit_it(void *argument)
{
    struct submitter *s = argument;
    s->code = pp_submit(s->pool, task_square, &s->value, sizeof s->value, &s->future);
    s->done = 1;
    return NULL;
}

static int count_blocked(pp_pool *pool)
{
    int count = 0;
    pp__pool_lock(pool);
    for (const struct pp__link *link = pool->blocked.next; link != &pool->blocked; link = link->next)
        count++;
    pp__pool_unlock(pool);
    return count;
}

/* They wait in their submits, in the order in which they were started. */
static void start_submitters(struct submitter *submitters, pthread_t *threads, int count, pp_pool *pool)
{
    for (int i = 0; i < count; i++) {
        submitters[i] = (struct submitter){.pool = pool, .value = i};
        threads[i] = start_thread(submit_it, &submitters[i]);
        until(count_blocked(pool) == i + 1);
    }
}

BOTH(submitters_go_on_when_there_is_room_in_the_order_in_which_they_came)
{
    enum { COUNT = 5 };
    struct submitter submitters[COUNT];
    pthread_t threads[COUNT];
    pp_future *futures[2];
    pp_pool *pool = open_bounded(method, 1, PP_FULL_WAIT, 0);
    fill(pool, 1, futures);
    start_submitters(submitters, threads, COUNT, pool);
    gate_open(1);
    join_thread(threads[0]); /* for one there is room, as the second call runs */
    test_sleep_ms(20);
    CHECK(!submitters[1].done && !submitters[4].done);
    gate_open(2);
    for (int i = 1; i < COUNT; i++)
        join_thread(threads[i]);
    for (int i = 0; i < COUNT; i++) {
        CHECK_OK(submitters[i].code);
        CHECK(i == 0 || pp_future_id(submitters[i].future) > pp_future_id(submitters[i - 1].future));
    }
    for (int i = 0; i < COUNT; i++)
        CHECK_INT(take_int(submitters[i].future), i * i);
    drain(pool, 1, futures);
}

static void *submit_a_gated_one(void *data)
{
    CHECK_OK(pp_submit(data, task_gate, &(int){3}, sizeof(int), NULL));
    return NULL;
}

static void *wait_for_it(void *future)
{
    CHECK_OK(pp_future_wait(future, -1));
    return NULL;
}

/* Room for two comes at once, seen by one who waits for something else, and the call that takes the first goes straight
 * to a worker: who waits behind it goes on all the same. */
BOTH(room_for_several_lets_several_go_on)
{
    enum { ROUNDS = 12, COUNT = 3 };
    for (int round = 0; round < ROUNDS; round++) {
        pthread_t threads[COUNT], other;
        pp_future *futures[3];
        pp_pool *pool = open_pool((pp_pool_options){.max_workers = 2, .max_pending = 2}, method);
        for (int i = 0; i < 50; i++)
            take_int(submit_int(pool, task_square, i)); /* calls are short, and may be queued behind others */
        for (int gate = 1; gate <= 3; gate++)
            shared()->gates[gate] = shared()->arrived[gate] = 0;
        for (int i = 0; i < 2; i++) {
            futures[i] = submit_int(pool, task_gate, i + 1);
            gate_wait_arrived(i + 1, 1);
        }
        other = start_thread(wait_for_it, futures[0]);
        test_sleep_ms(5); /* so that it collects, if it can */
        CHECK_OK(pp_submit(pool, nothing, NULL, 0, NULL));
        futures[2] = submit_int(pool, task_square, 5);
        for (int i = 0; i < COUNT; i++) {
            threads[i] = start_thread(submit_a_gated_one, pool);
            until(count_blocked(pool) == i + 1);
        }
        gate_open(2);
        for (int i = 0; i < COUNT; i++)
            join_thread(threads[i]);
        gate_open(1);
        gate_open(3);
        join_thread(other);
        CHECK_INT(take_int(futures[2]), 25);
        take_int(futures[0]);
        take_int(futures[1]);
        pp_pool_destroy(pool);
    }
}

/* Nobody but the submitters uses the pool. */
BOTH(a_stream_of_calls_passes_a_small_bound)
{
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 2, .max_pending = 3}, method);
    for (uint32_t i = 0; i < 3000; i++)
        CHECK_OK(pp_submit(pool, count_run, &(uint32_t){i % 10}, sizeof(uint32_t), NULL));
    CHECK_OK(pp_pool_shutdown(pool, 0, -1));
    for (int i = 0; i < 10; i++)
        CHECK_INT(shared()->runs[i], 300);
    pp_pool_destroy(pool);
}

BOTH(an_array_of_calls_passes_a_small_bound)
{
    enum { COUNT = 1000 };
    static pp_call calls[COUNT];
    static pp_future *futures[COUNT];
    static int values[COUNT];
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 2, .max_pending = 7}, method);
    for (int i = 0; i < COUNT; i++) {
        values[i] = i;
        calls[i] = (pp_call){.function = task_square, .arg = &values[i], .size = sizeof values[i]};
    }
    CHECK_INT(pp_submit_many(pool, calls, COUNT, futures), COUNT);
    for (int i = 0; i < COUNT; i++)
        CHECK_INT(take_int(futures[i]), i * i);
    pp_pool_destroy(pool);
}

BOTH(of_an_array_as_many_are_accepted_as_there_is_room)
{
    pp_future *futures[3], *many[5];
    pp_call calls[5];
    pp_pool *pool = open_bounded(method, 2, PP_FULL_REFUSE, 0);
    futures[0] = submit_int(pool, task_gate, 1);
    gate_wait_arrived(1, 1);
    for (int i = 0; i < 5; i++)
        calls[i] = (pp_call){.function = nothing};
    CHECK_INT(pp_submit_many(pool, calls, 5, many), 2);
    CHECK_HAS(pp_last_error(), "max_pending is 2");
    CHECK_INT(pp_submit_many(pool, calls, 5, many + 2), -EAGAIN);
    gate_open(1);
    take_int(futures[0]);
    expect_end(many[0], 0);
    expect_end(many[1], 0);
    pp_pool_destroy(pool);
}

/* Large arguments wait as well; nothing of a refused one stays. */
BOTH(large_calls_are_bounded_too)
{
    static char large[100000];
    pp_future *futures[2];
    pp_pool *pool = open_bounded(method, 1, PP_FULL_WAIT, 30);
    fill(pool, 1, futures);
    CHECK_INT(pp_submit(pool, echo, large, sizeof large, NULL), -ETIMEDOUT);
    drain(pool, 1, futures);
}

/* Chunks have their own bound, max_in_flight. */
BOTH(a_map_waits_for_no_room)
{
    static const int inputs[20] = {3, 3, 3};
    pp_map *map;
    pp_map_result result;
    pp_pool *pool = open_bounded(method, 1, PP_FULL_REFUSE, 0);
    CHECK_OK(pp_map_open_array(pool, task_square, inputs, 20, sizeof *inputs, NULL, &map));
    for (int i = 0; i < 20; i++) {
        CHECK_INT(pp_map_next(map, -1, &result), 1);
        CHECK_INT(result.code, 0);
    }
    pp_map_close(map);
    pp_pool_destroy(pool);
}

/* ------------------------------------------------------------------------------------- what ends a wait */

static void wake_by(pp_start_method method, int (*end)(pp_pool *pool), int code)
{
    struct submitter submitters[3];
    pthread_t threads[3];
    pp_future *futures[2];
    pp_pool *pool = open_bounded(method, 1, PP_FULL_WAIT, 0);
    fill(pool, 1, futures);
    start_submitters(submitters, threads, 3, pool);
    CHECK_OK(end(pool));
    for (int i = 0; i < 3; i++) {
        join_thread(threads[i]);
        CHECK_INT(submitters[i].code, code);
    }
    gate_open(1);
    gate_open(2);
    for (int i = 0; i < 2; i++)
        pp_future_unref(futures[i]);
    pp_pool_destroy(pool);
}

static int shut(pp_pool *pool)
{
    CHECK_INT(pp_pool_shutdown(pool, 0, 0), -ETIMEDOUT);
    return 0;
}

static int break_it(pp_pool *pool)
{
    (void)pool;
    return kill(shared()->pid[5], SIGKILL);
}

BOTH(a_shutdown_wakes_who_waits_for_room)
{
    wake_by(method, shut, -ESHUTDOWN);
}

BOTH(killing_the_workers_wakes_who_waits_for_room)
{
    wake_by(method, pp_pool_kill, -ESHUTDOWN);
}

static int note_parent(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    shared()->pid[5] = getppid();
    return 0;
}

BOTH(a_pool_that_breaks_wakes_who_waits_for_room)
{
    pp_pool *first = open_workers(1, method); /* the board */
    pp_pool_destroy(first);
    struct submitter submitters[3];
    pthread_t threads[3];
    pp_future *futures[2];
    pp_pool *pool =
        open_pool((pp_pool_options){.max_workers = 1, .max_pending = 1, .initializer = note_parent}, method);
    fill(pool, 1, futures);
    start_submitters(submitters, threads, 3, pool);
    CHECK_OK(break_it(pool));
    for (int i = 0; i < 3; i++) {
        join_thread(threads[i]);
        CHECK_INT(submitters[i].code, -ENOTRECOVERABLE);
    }
    for (int i = 0; i < 2; i++)
        drop_failed(futures[i], PP_ERROR_BROKEN);
    pp_pool_destroy(pool);
}

/* It has the handle in its hands. */
BOTH(destroying_a_pool_waits_until_nobody_waits_for_room)
{
    for (int round = 0; round < 20; round++) {
        struct submitter submitter;
        pthread_t thread;
        pp_future *futures[2];
        pp_pool *pool = open_bounded(method, 1, PP_FULL_WAIT, 0);
        shared()->gates[1] = shared()->gates[2] = shared()->arrived[1] = 0;
        fill(pool, 1, futures);
        submitter = (struct submitter){.pool = pool};
        thread = start_thread(submit_it, &submitter);
        until(count_blocked(pool) == 1);
        CHECK_OK(pp_pool_kill(pool));
        pp_pool_destroy(pool);
        join_thread(thread);
        CHECK_INT(submitter.code, -ESHUTDOWN);
        for (int i = 0; i < 2; i++)
            pp_future_unref(futures[i]);
    }
}

BOTH(a_signal_handler_interrupts_a_wait_for_room)
{
    struct submitter submitter;
    pthread_t thread;
    pp_future *futures[2];
    install(SIGUSR1, 0);
    pp_pool *pool = open_bounded(method, 1, PP_FULL_WAIT, 0);
    fill(pool, 1, futures);
    start_submitters(&submitter, &thread, 1, pool);
    while (!submitter.done) {
        pthread_kill(thread, SIGUSR1);
        test_sleep_ms(1);
    }
    join_thread(thread);
    CHECK_INT(submitter.code, -EINTR);
    drain(pool, 1, futures);
}

static _Atomic bool hold_submitter;

static void hold(int number)
{
    handle(number);
    while (hold_submitter)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

static void *submit_two(void *argument)
{
    struct submitter *s = argument;
    const pp_call calls[2] = {{.function = nothing}, {.function = nothing}};
    s->code = (int)pp_submit_many(s->pool, calls, 2, NULL);
    return NULL;
}

static void *take_it(void *future)
{
    take_int(future);
    return NULL;
}

/*
 * It is held up in a signal handler until nothing is left of the pool but what it keeps itself; what is freed by then
 * reads as nonsense. In an inline pool no thread of the pool's own keeps it as long.
 */
static void release_below(void *(*run)(void *submitter))
{
    pp_future *futures[2];
    if (KIT_TSAN)
        LEFT_OUT("thread sanitizer keeps a signal from a thread that sleeps in a system call of its own");
    share();
    mallopt(M_PERTURB, 0xa5);
    CHECK_INT(sigaction(SIGUSR1, &(struct sigaction){.sa_handler = hold, .sa_flags = SA_RESTART}, NULL), 0);
    pp_pool *pool = open_bounded(PP_START_INLINE, 1, PP_FULL_WAIT, 0);
    futures[0] = submit_int(pool, task_gate, 1);
    pthread_t runner = start_thread(take_it, futures[0]);
    gate_wait_arrived(1, 1);
    futures[1] = submit_int(pool, task_gate, 2);
    struct submitter submitter = {.pool = pool};
    pthread_t thread = start_thread(run, &submitter);
    until(count_blocked(pool) == 1);
    hold_submitter = true;
    pthread_kill(thread, SIGUSR1);
    until(handled == 1);
    pp_pool_release(pool);
    gate_open(1);
    gate_open(2);
    join_thread(runner);
    take_int(futures[1]);
    hold_submitter = false;
    join_thread(thread);
    CHECK_INT(submitter.code, -ESHUTDOWN);
}

TEST(who_waits_for_room_keeps_a_pool_that_another_thread_releases)
{
    release_below(submit_it);
}

TEST(who_waits_for_room_for_many_keeps_a_pool_that_another_thread_releases)
{
    release_below(submit_two);
}

/* --------------------------------------------------------------------------------------------- callbacks */

static void submit_in_callback(pp_future *future, void *code)
{
    pp_pool *pool = *(pp_pool **)code;
    (void)future;
    atomic_store(word(200), (uint32_t)-try(pool));
}

EACH(a_callback_does_not_wait_for_room)
{
    pp_future *futures[2];
    pp_pool *pool = NULL;
    share();
    pool = open_bounded(method, 1, PP_FULL_WAIT, 0);
    if (method == PP_START_INLINE) {
        futures[0] = submit(pool, nothing, NULL, 0);
        CHECK_OK(pp_future_add_callback(futures[0], submit_in_callback, &pool));
        CHECK_OK(pp_future_cancel(futures[0])); /* its callback has room again */
        CHECK_INT(read_word(200), 0);
        futures[1] = submit(pool, nothing, NULL, 0); /* waits, running the callback's */
        pp_future_unref(futures[0]);
        expect_end(futures[1], 0);
        pp_pool_destroy(pool);
        return;
    }
    fill(pool, 1, futures);
    pp_future *promised;
    CHECK_OK(pp_future_create(pool, &promised));
    CHECK_OK(pp_future_add_callback(promised, submit_in_callback, &pool));
    CHECK_OK(pp_future_set_result(promised, NULL, 0));
    until(read_word(200) != 0);
    CHECK_INT(read_word(200), EAGAIN);
    pp_future_unref(promised);
    drain(pool, 1, futures);
}

/* ------------------------------------------------------------------------------------------------ inline */

static int note_order(pp_task *task, const void *arg, size_t size)
{
    shared()->words[shared()->arrived[3]++] = read_int(arg);
    return task_square(task, arg, size);
}

/* Who waits for room makes it. */
TEST(an_inline_pool_runs_calls_while_a_submit_waits)
{
    pp_future *futures[10];
    pp_pool *pool = open_bounded(PP_START_INLINE, 2, PP_FULL_WAIT, 0);
    for (int i = 0; i < 10; i++) {
        futures[i] = submit_int(pool, note_order, i);
        CHECK_INT(shared()->arrived[3], i < 2 ? 0 : i - 1);
    }
    for (int i = 0; i < 10; i++) {
        CHECK_INT(take_int(futures[i]), i * i);
        CHECK_INT(shared()->words[i], i);
    }
    pp_pool_destroy(pool);
}

TEST(an_inline_pool_refuses_what_is_beyond_its_bound_if_it_is_to)
{
    pp_pool *pool = open_bounded(PP_START_INLINE, 2, PP_FULL_REFUSE, 0);
    CHECK_OK(try(pool));
    CHECK_OK(try(pool));
    CHECK_INT(try(pool), -EAGAIN);
    pp_pool_destroy(pool);
}

/* ----------------------------------------------------------------------------------------------- options */

TEST(options_that_contradict_each_other_are_refused)
{
    pp_pool *pool;
    CHECK_INT(pp_pool_create(&(pp_pool_options){.max_pending = 1, .when_full = (pp_full_rule)2}, &pool), -EINVAL);
    CHECK_HAS(pp_last_error(), "when_full");
    CHECK_INT(pp_pool_create(&(pp_pool_options){.when_full = PP_FULL_REFUSE}, &pool), -EINVAL);
    CHECK_INT(pp_pool_create(&(pp_pool_options){.submit_timeout = 1}, &pool), -EINVAL);
    CHECK_HAS(pp_last_error(), "max_pending");
    CHECK_INT(
        pp_pool_create(&(pp_pool_options){.max_pending = 1, .when_full = PP_FULL_REFUSE, .submit_timeout = 1}, &pool),
        -EINVAL);
    CHECK_HAS(pp_last_error(), "submit_timeout");
}
