/* SPDX-License-Identifier: MIT */
/* Waiting for futures, queues, processes and descriptors at once. */
#include "process_kit.h"
#include "signal_kit.h"

/* ------------------------------------------------------------------------------------------ the things */

enum { PROMISE, FIRST_POOL, SECOND_POOL, QUEUE, PROCESS, PIPE, THINGS };

/* One of each kind, none of them ready, and how each is made ready. */
struct things {
    pp_launcher *launcher;
    pp_pool *pools[2];
    pp_future *futures[3];
    pp_queue *queue;
    pp_process *process;
    int pipe[2];
    int chosen; /* to be made ready by make_chosen */
    pp_start_method method;
};

static void put_int(pp_queue *queue, int value)
{
    CHECK_OK(pp_queue_put(queue, &value, sizeof value, -1));
}

static int get_int(pp_queue *queue)
{
    int value = -1;
    CHECK_OK(pp_queue_get(queue, -1, &value, sizeof value, NULL));
    return value;
}

/* What has become ready is replaced by another that is not. */
static void renew(struct things *things, int i)
{
    char byte;
    const pp_process_options options = {.launcher = things->launcher};
    int gate = i; /* each thing has a gate with its number */
    shared()->gates[gate] = 0;
    if (i == PROMISE) {
        pp_future_unref(things->futures[0]);
        CHECK_OK(pp_future_create(things->pools[0], &things->futures[0]));
    } else if (i == FIRST_POOL || i == SECOND_POOL) {
        pp_future_unref(things->futures[i]);
        things->futures[i] = submit_int(things->pools[i - FIRST_POOL], task_gate, gate);
    } else if (i == QUEUE) {
        CHECK_INT(get_int(things->queue), 7);
    } else if (i == PROCESS) {
        CHECK_INT(finish_process(things->process), 0);
        things->process = start_with(things->method, options, run_gate, &gate, sizeof gate);
    } else {
        CHECK_INT(read(things->pipe[0], &byte, 1), 1);
    }
}

static void make_ready(struct things *things, int i)
{
    if (i == PROMISE)
        CHECK_OK(pp_future_set_result(things->futures[0], NULL, 0));
    else if (i == QUEUE)
        put_int(things->queue, 7);
    else if (i == PIPE)
        CHECK_INT(write(things->pipe[1], "x", 1), 1);
    else
        gate_open(i);
}

static void make_things(struct things *things, pp_start_method method)
{
    *things = (struct things){.method = method};
    things->launcher = launcher_of(method);
    for (int i = 0; i < 2; i++)
        things->pools[i] = open_pool((pp_pool_options){.launcher = things->launcher, .max_workers = 1}, method);
    CHECK_OK(pp_queue_create(NULL, &things->queue));
    CHECK_INT(pipe(things->pipe), 0);
    put_int(things->queue, 7);
    CHECK_INT(write(things->pipe[1], "x", 1), 1);
    things->process = start_with(method, (pp_process_options){.launcher = things->launcher}, run_return, &(int){0}, 4);
    for (int i = 0; i < THINGS; i++)
        renew(things, i);
}

static void end_things(struct things *things)
{
    pp_process_unref(things->process);
    for (int i = 0; i < 3; i++)
        pp_future_unref(things->futures[i]);
    for (int i = 0; i < 2; i++) {
        CHECK_OK(pp_pool_kill(things->pools[i]));
        pp_pool_destroy(things->pools[i]);
    }
    pp_queue_unref(things->queue);
    close(things->pipe[0]);
    close(things->pipe[1]);
    pp_launcher_unref(things->launcher);
}

static pp_selectable item_of(struct things *things, int i)
{
    if (i <= SECOND_POOL)
        return (pp_selectable){.kind = PP_SELECT_FUTURE, .future = things->futures[i], .ready = -99};
    if (i == QUEUE)
        return (pp_selectable){.kind = PP_SELECT_QUEUE, .queue = things->queue, .ready = -99};
    if (i == PROCESS)
        return (pp_selectable){.kind = PP_SELECT_PROCESS, .process = things->process, .ready = -99};
    return (pp_selectable){.kind = PP_SELECT_FD, .fd = things->pipe[0], .ready = -99};
}

/* The things of a mixture, by the bits of `mask`, in their order; how many. */
static size_t mix(struct things *things, unsigned mask, pp_selectable items[THINGS])
{
    size_t count = 0;
    for (int i = 0; i < THINGS; i++)
        if (mask & 1u << i)
            items[count++] = item_of(things, i);
    return count;
}

static void *make_chosen(void *things)
{
    struct things *t = things;
    if (t->chosen % 2)
        test_sleep_ms(1); /* before the wait, at times, and in it */
    make_ready(t, t->chosen / 2);
    return NULL;
}

/* ------------------------------------------------------------------------------------------- mixtures */

static void wait_for_one(struct things *things, unsigned mask, int which, int later)
{
    pp_selectable items[THINGS];
    size_t count = mix(things, mask, items), at = 0;
    things->chosen = 2 * which + later;
    pthread_t thread = start_thread(make_chosen, things);
    CHECK_INT(pp_select(items, count, -1), 1);
    join_thread(thread);
    for (int i = 0; i < THINGS; i++)
        if (mask & 1u << i)
            CHECK_INT(items[at++].ready != 0, i == which);
    renew(things, which);
}

BOTH_WITHIN(each_thing_of_each_mixture_ends_the_waiting_for_it, 30)
{
    struct things things;
    make_things(&things, method);
    for (unsigned mask = 1; mask < 1u << THINGS; mask++)
        for (int which = 0; which < THINGS; which++)
            if (mask & 1u << which)
                wait_for_one(&things, mask, which, (int)(mask + (unsigned)which) % 2);
    end_things(&things);
}

static bool is_there(struct things *things, int i)
{
    if (i <= SECOND_POOL)
        return pp_future_state(things->futures[i]) == PP_FINISHED;
    return i == PROCESS ? pp_process_is_alive(things->process) == 0 : true;
}

BOTH_WITHIN(all_that_is_ready_is_told_and_nothing_else, 30)
{
    struct things things;
    make_things(&things, method);
    for (unsigned ready = 1; ready < 1u << THINGS; ready++) {
        pp_selectable items[THINGS];
        for (int i = 0; i < THINGS; i++)
            if (ready & 1u << i) {
                make_ready(&things, i);
                wait_until(is_there(&things, i), 10);
            }
        CHECK_INT(pp_select(items, mix(&things, (1u << THINGS) - 1, items), 0), __builtin_popcount(ready));
        for (int i = 0; i < THINGS; i++) {
            CHECK_INT(items[i].ready, ready & 1u << i ? 1 : 0); /* POLLIN is 1, too */
            if (ready & 1u << i)
                renew(&things, i);
        }
    }
    end_things(&things);
}

BOTH(what_is_not_ready_in_time_is_not_and_nothing_is_written)
{
    struct things things;
    pp_selectable items[THINGS];
    make_things(&things, method);
    for (unsigned mask = 1; mask < 1u << THINGS; mask++) {
        size_t count = mix(&things, mask, items);
        CHECK_INT(pp_select(items, count, mask % 8 ? 0 : 2), -ETIMEDOUT);
        for (size_t i = 0; i < count; i++)
            CHECK_INT(items[i].ready, -99);
    }
    CHECK_HAS(pp_last_error(), "none of 6 items");
    end_things(&things);
}

TEST(a_wait_leaves_no_thread_and_no_descriptor)
{
    struct things things;
    pp_selectable items[THINGS];
    make_things(&things, PP_START_FORK);
    mix(&things, (1u << THINGS) - 1, items);
    gate_wait_arrived(FIRST_POOL, 1);
    gate_wait_arrived(SECOND_POOL, 1);
    gate_wait_arrived(PROCESS, 1);
    CHECK_INT(pp_select(items, THINGS, 5), -ETIMEDOUT);
    int fds = count_fds(), threads = settled_thread_count();
    for (int i = 0; i < 5; i++)
        CHECK_INT(pp_select(items, THINGS, 5), -ETIMEDOUT);
    CHECK_INT(count_fds(), fds);
    wait_until(thread_count() <= threads, 10);
    end_things(&things);
}

/* ---------------------------------------------------------------------------------------------- queues */

static pp_queue *make_queue(void)
{
    pp_queue *queue = NULL;
    CHECK_OK(pp_queue_create(NULL, &queue));
    return queue;
}

/* A message that this process takes by select and get, however many others do, too. */
static int take_by_select(pp_queue *queue, pp_queue *other)
{
    for (;;) {
        int value;
        pp_selectable items[] = {{.kind = PP_SELECT_QUEUE, .queue = queue},
                                 {.kind = PP_SELECT_QUEUE, .queue = other ? other : queue}};
        CHECK(pp_select(items, 2, -1) > 0);
        int error = pp_queue_get(queue, 0, &value, sizeof value, NULL);
        if (error != -ETIMEDOUT)
            return error ? error : value;
    }
}

/* If messages were looked for from time to time, these would take minutes. */
TEST_WITHIN(a_message_of_another_process_ends_the_waiting_at_once, 30)
{
    pp_queue *there = make_queue(), *back = make_queue(), *quiet = make_queue();
    pid_t child = fork();
    if (child == 0) {
        for (int i = 0; i < 2000; i++)
            put_int(back, take_by_select(there, quiet));
        _exit(0);
    }
    for (int i = 0; i < 2000; i++) {
        put_int(there, i);
        CHECK_INT(take_by_select(back, quiet), i);
    }
    CHECK_INT(wait_for(child), 0);
    pp_queue_unref(there);
    pp_queue_unref(back);
    pp_queue_unref(quiet);
}

enum { TAKERS = 4, MESSAGES = 2000 };

static void take_many(pp_queue *queue, bool by_select)
{
    for (;;) {
        int value = -1;
        int error = by_select ? take_by_select(queue, NULL) : pp_queue_get(queue, -1, &value, sizeof value, NULL);
        if (error == -EPIPE)
            _exit(0);
        CHECK(error >= 0);
        shared()->runs[by_select ? error : value]++;
    }
}

/* A message wakes all who select; those that come too late wait on. No one who gets is kept from a message by who
 * selects. */
TEST_WITHIN(consumers_by_select_and_by_get_have_each_message_once, 30)
{
    pp_queue *queue = make_queue();
    pid_t children[TAKERS];
    share();
    for (int i = 0; i < TAKERS; i++) {
        children[i] = fork();
        if (children[i] == 0)
            take_many(queue, i % 2);
    }
    for (int i = 0; i < MESSAGES; i++)
        put_int(queue, i);
    CHECK_OK(pp_queue_close(queue));
    for (int i = 0; i < TAKERS; i++)
        CHECK_INT(wait_for(children[i]), 0);
    for (int i = 0; i < MESSAGES; i++)
        CHECK_INT(shared()->runs[i], 1);
    pp_queue_unref(queue);
}

static pthread_t selecting;
static int threads_before;

static void hold_up(int number)
{
    (void)number;
    gate_wait(13);
}

/* Takes the message that has woken the other thread, which is held up meanwhile, and puts another. */
static void *take_first_put_second(void *queue)
{
    wait_until(thread_count() == threads_before + 2, 10); /* this one, and one that watches */
    CHECK_INT(pthread_kill(selecting, SIGUSR1), 0);
    gate_wait_arrived(13, 1);
    put_int(queue, 1);
    wait_until(thread_count() == threads_before + 1, 10); /* it has rung */
    CHECK_INT(get_int(queue), 1);
    gate_open(13);
    wait_until(thread_count() == threads_before + 2, 10);
    put_int(queue, 2);
    return NULL;
}

TEST(a_message_that_another_takes_lets_the_waiting_go_on)
{
    if (KIT_TSAN)
        LEFT_OUT("its handler of signals comes when the wait is over");
    pp_queue *queue = make_queue();
    pp_selectable item = {.kind = PP_SELECT_QUEUE, .queue = queue};
    share();
    CHECK_INT(sigaction(SIGUSR1, &(struct sigaction){.sa_handler = hold_up, .sa_flags = SA_RESTART}, NULL), 0);
    selecting = pthread_self();
    threads_before = thread_count();
    pthread_t thread = start_thread(take_first_put_second, queue);
    CHECK_INT(pp_select(&item, 1, -1), 1);
    CHECK_INT(get_int(queue), 2);
    join_thread(thread);
    pp_queue_unref(queue);
}

static void *close_queue(void *queue)
{
    test_sleep_ms(2);
    CHECK_OK(pp_queue_close(queue));
    return NULL;
}

TEST(a_queue_that_is_closed_is_ready)
{
    pp_queue *queue = make_queue();
    pp_selectable item = {.kind = PP_SELECT_QUEUE, .queue = queue};
    pthread_t thread = start_thread(close_queue, queue);
    CHECK_INT(pp_select(&item, 1, -1), 1);
    CHECK_INT(item.ready, 1);
    CHECK_INT(pp_queue_get(queue, 0, NULL, 0, NULL), -EPIPE);
    join_thread(thread);
    pp_queue_unref(queue);
}

/* ------------------------------------------------------------------------------------- descriptors */

TEST(of_a_descriptor_the_events_that_are_there_are_told)
{
    int ends[2];
    CHECK_INT(pipe(ends), 0);
    pp_selectable items[] = {{.kind = PP_SELECT_FD, .fd = ends[0]},
                             {.kind = PP_SELECT_FD, .fd = ends[1], .events = POLLOUT}};
    CHECK_INT(pp_select(items, 2, -1), 1);
    CHECK_INT(items[0].ready, 0);
    CHECK_INT(items[1].ready, POLLOUT);
    close(ends[1]);
    CHECK_INT(pp_select(items, 1, -1), 1);
    CHECK_INT(items[0].ready, POLLHUP);
    CHECK_INT(pp_select(items, 2, -1), -EBADF);
    close(ends[0]);
}

/* ---------------------------------------------------------------------------------------------- pools */

/* If ends were looked for from time to time, these would take minutes. */
BOTH_WITHIN(an_end_in_one_of_two_pools_ends_the_waiting_at_once, 30)
{
    int ends[2];
    CHECK_INT(pipe(ends), 0);
    pp_pool *first = kit_sibling(method, (pp_pool_options){.max_workers = 1});
    pp_pool *second = kit_sibling(method, (pp_pool_options){.max_workers = 1});
    for (int i = 0; i < 1000; i++) {
        pp_selectable items[] = {{.kind = PP_SELECT_FUTURE, .future = submit_int(first, task_square, i)},
                                 {.kind = PP_SELECT_FD, .fd = ends[0]},
                                 {.kind = PP_SELECT_FUTURE, .future = submit_int(second, task_square, i)}};
        CHECK(pp_select(items, 3, -1) >= 1);
        CHECK(items[0].ready || items[2].ready);
        int done = items[0].ready ? 0 : 2;
        CHECK_INT(take_int(items[done].future), i * i);
        items[done] = items[1];
        CHECK_INT(pp_select(items, 3, -1), 1);
        CHECK_INT(take_int(items[2 - done].future), i * i);
    }
    pp_pool_destroy(first);
    pp_pool_destroy(second);
}

TEST(calls_of_an_inline_pool_run_while_somebody_selects)
{
    int ends[2];
    CHECK_INT(pipe(ends), 0);
    share();
    pp_pool *pool = kit_pool(PP_START_INLINE, 1);
    pp_future *future = submit_int(pool, task_square, 5);
    pp_selectable items[] = {{.kind = PP_SELECT_FD, .fd = ends[0]}, {.kind = PP_SELECT_FUTURE, .future = future}};
    CHECK_INT(pp_select(items, 2, -1), 1);
    CHECK_INT(items[1].ready, 1);
    CHECK_INT(take_int(future), 25);
    CHECK_INT(write(ends[1], "x", 1), 1);
    items[1].future = future = submit_int(pool, task_square, 5);
    CHECK_INT(pp_select(items, 2, -1), 1); /* what is ready is not kept waiting for a call */
    CHECK_INT(items[0].ready, POLLIN);
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

static pp_future *own;

static int task_select_itself(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    pp_selectable items[] = {{.kind = PP_SELECT_FUTURE, .future = own}, {.kind = PP_SELECT_FD, .fd = 0}};
    int error = (int)pp_select(items, 1, -1);
    int ends[2];
    CHECK_INT(pipe(ends), 0);
    items[1].fd = ends[0];
    CHECK_INT(pp_select(items, 2, 5), -ETIMEDOUT); /* a descriptor may be made ready by others */
    close(ends[0]);
    close(ends[1]);
    return pp_task_return(task, &error, sizeof error);
}

TEST(an_inline_task_that_selects_its_own_future_is_told)
{
    pp_pool *pool = kit_pool(PP_START_INLINE, 1);
    int error = 0;
    own = submit(pool, task_select_itself, NULL, 0);
    CHECK_OK(pp_future_result(own, -1, &error, sizeof error, NULL));
    CHECK_INT(error, -EDEADLK);
    pp_future_unref(own);
    pp_pool_destroy(pool);
}

BOTH(a_pool_of_an_event_loop_is_looked_after)
{
    int ends[2];
    CHECK_INT(pipe(ends), 0);
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 1, .event_loop = 1}, method);
    pp_selectable items[] = {{.kind = PP_SELECT_FD, .fd = ends[0]},
                             {.kind = PP_SELECT_FUTURE, .future = submit_int(pool, task_square, 5)},
                             {.kind = PP_SELECT_FUTURE, .future = submit_int(pool, task_square, 6)}};
    CHECK(pp_select(items, 2, -1) == 1 && items[1].ready);
    while (pp_future_state(items[2].future) != PP_FINISHED)
        CHECK(pp_select(items, 3, -1) >= 1);
    CHECK_INT(take_int(items[1].future), 25);
    CHECK_INT(take_int(items[2].future), 36);
    pp_pool_destroy(pool);
}

BOTH(a_call_that_fails_or_is_cancelled_is_done)
{
    pp_pool *pool = open_workers(1, method);
    pp_future *crashed = submit(pool, crash, NULL, 0), *cancelled = NULL;
    pp_selectable item = {.kind = PP_SELECT_FUTURE, .future = crashed};
    CHECK_INT(pp_select(&item, 1, -1), 1);
    expect_end(crashed, -EOWNERDEAD);
    CHECK_OK(pp_future_create(pool, &cancelled));
    CHECK_OK(pp_future_cancel(cancelled));
    CHECK_INT(pp_future_set_running_or_notify_cancel(cancelled), 0);
    item.future = cancelled;
    CHECK_INT(pp_select(&item, 1, -1), 1);
    pp_future_unref(cancelled);
    pp_pool_destroy(pool);
}

/* ------------------------------------------------------------------------------------------ interruptions */

BOTH(a_handler_interrupts_a_select_unless_it_asks_for_restarting)
{
    struct things things;
    pp_selectable items[THINGS];
    pthread_t self = pthread_self();
    make_things(&things, method);
    mix(&things, (1u << THINGS) - 1, items);
    install(SIGUSR1, 0);
    pthread_t thread = start_thread(signal_main, &self);
    CHECK_INT(pp_select(items, THINGS, -1), -EINTR);
    CHECK_INT(items[0].ready, -99);
    install(SIGUSR1, SA_RESTART);
    double begin = test_seconds();
    CHECK_INT(pp_select(items, THINGS, 60), -ETIMEDOUT); /* the deadline is kept however often it was interrupted */
    CHECK(test_seconds() - begin >= 0.059);
    CHECK_INT(items[0].ready, -99);
    make_ready(&things, QUEUE);
    CHECK_INT(pp_select(items, THINGS, -1), 1);
    gate_open(14);
    join_thread(thread);
    end_things(&things);
}

static atomic_int storm_is_over;

static void *storm_main(void *thread)
{
    while (!storm_is_over)
        pthread_kill(*(pthread_t *)thread, SIGUSR1);
    return NULL;
}

/* What a select does between its sleeps is nothing that a handler interrupts: poll without waiting fails with EINTR at
 * a signal too. */
TEST(a_storm_of_signals_fails_no_look)
{
    pthread_t self = pthread_self();
    int ends[2];
    CHECK_INT(pipe(ends), 0);
    install(SIGUSR1, 0);
    pthread_t thread = start_thread(storm_main, &self);
    pp_selectable item = {.kind = PP_SELECT_FD, .fd = ends[0]};
    for (int i = 0; i < 20000; i++)
        CHECK_INT(pp_select(&item, 1, 0), -ETIMEDOUT);
    install(SIGUSR1, SA_RESTART);
    for (int i = 0; i < 200; i++)
        CHECK_INT(pp_select(&item, 1, 1), -ETIMEDOUT);
    storm_is_over = 1;
    join_thread(thread);
}

/* ---------------------------------------------------------------------------------------------- errors */

TEST(bad_items_are_refused)
{
    pp_selectable items[] = {{.kind = PP_SELECT_FD, .fd = 0}, {0}};
    CHECK_INT(pp_select(NULL, 0, -1), 0);
    CHECK_INT(pp_select(NULL, 1, -1), -EINVAL);
    CHECK_INT(pp_select(items, 2, -1), -EINVAL);
    for (int kind = PP_SELECT_FUTURE; kind <= PP_SELECT_PROCESS; kind++) {
        items[1].kind = (pp_select_kind)kind;
        CHECK_INT(pp_select(items, 2, -1), -EINVAL);
    }
    items[1] = (pp_selectable){.kind = PP_SELECT_FD, .fd = -1};
    CHECK_INT(pp_select(items, 2, -1), -EBADF);
    items[1].fd = 1023;
    CHECK_INT(pp_select(items, 2, -1), -EBADF);
    CHECK_INT(pp_select(items, SIZE_MAX / 2, -1), -EINVAL);
    CHECK_HAS(pp_last_error(), "more than any memory has room for");
}

TEST(a_child_that_the_owner_forked_may_select_queues_and_descriptors)
{
    struct things things;
    pp_selectable items[THINGS];
    make_things(&things, PP_START_FORK);
    make_ready(&things, QUEUE);
    pid_t child = fork();
    if (child == 0) {
        for (int i = PROMISE; i <= SECOND_POOL; i++)
            CHECK_INT(pp_select(items, mix(&things, 1u << i, items), 0), -EPERM);
        CHECK_INT(pp_select(items, mix(&things, 1u << PROCESS, items), 0), -EPERM);
        CHECK_INT(pp_select(items, mix(&things, 1u << QUEUE | 1u << PIPE, items), -1), 1);
        CHECK_INT(items[0].ready, 1);
        _exit(0);
    }
    CHECK_INT(wait_for(child), 0);
    end_things(&things);
}
