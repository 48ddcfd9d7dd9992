/* SPDX-License-Identifier: MIT */
/* The pool's end, in each way: shut down, destroyed, released, broken, or left alone when the process ends. */
#include "call_kit.h"

enum { BEGUN, GATE, RUNS, STARTED, FINALIZED, PIDS = 512, FIRST_CALL = 1024 };

static int gone_count(const pid_t *pids, int count)
{
    int gone = 0;
    for (int i = 0; i < count; i++)
        gone += !test_process_alive(pids[i]);
    return gone;
}

/* The pids of one worker and of its parent, as it says itself. */
static void ask_who(pp_pool *pool, pid_t pids[2])
{
    pp_future *future = submit(pool, who, NULL, 0);
    CHECK_OK(pp_future_result(future, -1, pids, 2 * sizeof *pids, NULL));
    pp_future_unref(future);
}

/* ------------------------------------------------------------------------------------------- shutdown */

BOTH(shutdown_waits_for_all_accepted_calls_and_for_the_workers)
{
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    pp_future *futures[300];
    pid_t pids[2];
    ask_who(pool, pids);
    for (uint32_t i = 0; i < 300; i++)
        futures[i] = submit_u32(pool, count_run, RUNS);
    CHECK_OK(pp_pool_shutdown(pool, 0, -1));
    CHECK_INT(read_word(RUNS), 300);
    CHECK(!test_process_alive(pids[0]));
    for (int i = 0; i < 300; i++) {
        CHECK_INT(pp_future_state(futures[i]), PP_FINISHED);
        CHECK_INT(result_u32(futures[i]), RUNS);
        pp_future_unref(futures[i]);
    }
    pp_pool_destroy(pool);
}

BOTH(a_shut_pool_refuses_calls_and_maps)
{
    pp_pool *pool = kit_pool(method, 1);
    pp_future *future = (pp_future *)pool;
    pp_map *map = (pp_map *)pool;
    pp_call call = {.function = nothing};
    expect_usable(pool);
    CHECK_OK(pp_pool_shutdown(pool, 0, -1));
    for (int i = 0; i < 2; i++) {
        CHECK_INT(pp_submit(pool, nothing, NULL, 0, &future), -ESHUTDOWN);
        CHECK(*pp_last_error());
        CHECK_INT(pp_submit(pool, refuse, NULL, 0, &future), -ESHUTDOWN); /* one it has never seen */
        CHECK_INT(pp_submit_call(pool, &call, &future), -ESHUTDOWN);
        CHECK_INT(pp_submit_many(pool, &call, 1, &future), -ESHUTDOWN);
        CHECK_INT(pp_map_open_array(pool, echo, "abc", 3, 1, NULL, &map), -ESHUTDOWN);
        CHECK_INT(pp_map_array(pool, echo, "abc", 3, 1, (char[3]){0}, 1, NULL), -ESHUTDOWN);
        CHECK(future == (pp_future *)pool && map == (pp_map *)pool);
        CHECK_OK(pp_pool_shutdown(pool, PP_CANCEL_PENDING, 0));
    }
    pp_pool_destroy(pool);
}

/* Those that lie in their items, in records, in buffers that workers have and in ones that are too large for these. */
static void expect_all_sizes_refused(pp_pool *pool)
{
    static const size_t sizes[] = {1, 4096, 100000, 3 << 20, 65 << 20};
    pp_future *future = (pp_future *)pool;
    char *arg = calloc(1, sizes[4]);
    CHECK(arg);
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        pp_call call = {.function = nothing, .arg = arg, .size = sizes[i]};
        CHECK_INT(pp_submit(pool, nothing, arg, sizes[i], &future), -ESHUTDOWN);
        CHECK_INT(pp_submit_many(pool, &call, 1, &future), -ESHUTDOWN);
    }
    CHECK(future == (pp_future *)pool);
    free(arg);
}

BOTH(a_shut_pool_refuses_calls_of_every_size)
{
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    pp_future *running;
    occupy(pool, BEGUN, GATE, 1, &running);
    CHECK_INT(pp_pool_shutdown(pool, 0, 0), -ETIMEDOUT);
    expect_all_sizes_refused(pool);
    open_gate(GATE);
    CHECK_OK(pp_pool_shutdown(pool, 0, -1));
    expect_all_sizes_refused(pool);
    pp_future_unref(running);
    pp_pool_destroy(pool);
}

BOTH(a_shutdown_that_runs_out_goes_on_and_can_be_called_again)
{
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    pp_future *running, *pending, *refused;
    occupy(pool, BEGUN, GATE, 1, &running);
    pending = submit_u32(pool, count_run, RUNS);
    CHECK_INT(pp_pool_shutdown(pool, 0, 0), -ETIMEDOUT);
    CHECK(*pp_last_error());
    CHECK_INT(pp_submit(pool, nothing, NULL, 0, &refused), -ESHUTDOWN);
    CHECK_INT(pp_pool_shutdown(pool, 0, 20), -ETIMEDOUT);
    CHECK_INT(pp_future_state(running), PP_RUNNING);
    open_gate(GATE);
    CHECK_OK(pp_pool_shutdown(pool, 0, -1));
    CHECK_OK(pp_pool_shutdown(pool, 0, -1));
    CHECK_OK(pp_pool_shutdown(pool, 0, 0));
    CHECK_INT(read_word(RUNS), 1);
    pp_future_unref(running);
    pp_future_unref(pending);
    pp_pool_destroy(pool);
}

/* Nobody waits: the pool ends by itself. */
BOTH(a_shutdown_begun_without_waiting_sends_the_workers_home)
{
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    pp_future *running;
    pid_t pids[2];
    ask_who(pool, pids);
    occupy(pool, BEGUN, GATE, 1, &running);
    CHECK_INT(pp_pool_shutdown(pool, 0, 0), -ETIMEDOUT);
    open_gate(GATE);
    until(!test_process_alive(pids[0]));
    until(pp_pool_shutdown(pool, 0, 0) == 0);
    CHECK_INT(result_u32(running), 0);
    pp_future_unref(running);
    pp_pool_destroy(pool);
}

struct shutting {
    pp_pool *pool;
    unsigned flags;
    _Atomic int done;
};

static void *shut_down(void *argument)
{
    struct shutting *shutting = argument;
    CHECK_OK(pp_pool_shutdown(shutting->pool, shutting->flags, -1));
    atomic_fetch_add(&shutting->done, 1);
    return NULL;
}

BOTH(several_threads_shut_one_pool_down)
{
    board_make();
    struct shutting shutting = {.pool = kit_pool(method, 2)};
    pp_future *running[2];
    pthread_t threads[4];
    occupy(shutting.pool, BEGUN, GATE, 2, running);
    for (int i = 0; i < 4; i++)
        threads[i] = start_thread(shut_down, &shutting);
    CHECK_INT(pp_pool_shutdown(shutting.pool, 0, 10), -ETIMEDOUT);
    CHECK_INT(atomic_load(&shutting.done), 0);
    open_gate(GATE);
    for (int i = 0; i < 4; i++)
        join_thread(threads[i]);
    pp_future_unref(running[0]);
    pp_future_unref(running[1]);
    pp_pool_destroy(shutting.pool);
}

BOTH(cancelling_what_is_pending_can_come_after_a_shutdown_has_begun)
{
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    pp_future *running, *pending[50];
    occupy(pool, BEGUN, GATE, 1, &running);
    for (int i = 0; i < 50; i++)
        pending[i] = submit_u32(pool, count_run, RUNS);
    CHECK_INT(pp_pool_shutdown(pool, 0, 0), -ETIMEDOUT);
    CHECK_INT(pp_future_state(pending[0]), PP_PENDING);
    CHECK_INT(pp_pool_shutdown(pool, PP_CANCEL_PENDING, 0), -ETIMEDOUT);
    for (int i = 0; i < 50; i++)
        CHECK_INT(pp_future_result(pending[i], 0, NULL, 0, NULL), -ECANCELED);
    CHECK_INT(pp_future_state(running), PP_RUNNING);
    open_gate(GATE);
    CHECK_OK(pp_pool_shutdown(pool, 0, -1));
    CHECK_INT(result_u32(running), 0);
    for (int i = 0; i < 50; i++)
        pp_future_unref(pending[i]);
    pp_future_unref(running);
    pp_pool_destroy(pool);
    CHECK_INT(read_word(RUNS), 0);
}

static void do_nothing(int number)
{
    (void)number;
}

static void *shut_down_interrupted(void *argument)
{
    struct shutting *shutting = argument;
    CHECK_INT(pp_pool_shutdown(shutting->pool, 0, -1), -EINTR);
    atomic_fetch_add(&shutting->done, 1);
    return NULL;
}

static bool signal_until_done(struct shutting *shutting, pthread_t thread)
{
    if (!atomic_load(&shutting->done))
        pthread_kill(thread, SIGUSR1);
    return atomic_load(&shutting->done);
}

BOTH(a_signal_interrupts_the_wait_for_a_shutdown)
{
    board_make();
    CHECK_INT(sigaction(SIGUSR1, &(struct sigaction){.sa_handler = do_nothing}, NULL), 0);
    struct shutting shutting = {.pool = kit_pool(method, 1)};
    pp_future *running;
    occupy(shutting.pool, BEGUN, GATE, 1, &running);
    pthread_t thread = start_thread(shut_down_interrupted, &shutting);
    until(signal_until_done(&shutting, thread));
    join_thread(thread);
    open_gate(GATE);
    CHECK_OK(pp_pool_shutdown(shutting.pool, 0, -1));
    pp_future_unref(running);
    pp_pool_destroy(shutting.pool);
}

static void *destroy(void *argument)
{
    struct shutting *shutting = argument;
    pp_pool_destroy(shutting->pool);
    atomic_fetch_add(&shutting->done, 1);
    return NULL;
}

/* The gate stays closed while twenty signals arrive. */
BOTH(a_destroy_is_not_stopped_by_signals)
{
    board_make();
    CHECK_INT(sigaction(SIGUSR1, &(struct sigaction){.sa_handler = do_nothing}, NULL), 0);
    struct shutting shutting = {.pool = kit_pool(method, 1)};
    pp_future *running;
    occupy(shutting.pool, BEGUN, GATE, 1, &running);
    pthread_t thread = start_thread(destroy, &shutting);
    for (int i = 0; i < 20; i++) {
        CHECK_INT(pthread_kill(thread, SIGUSR1), 0);
        test_sleep_ms(1);
    }
    CHECK_INT(atomic_load(&shutting.done), 0);
    open_gate(GATE);
    join_thread(thread);
    CHECK_INT(result_u32(running), 0);
    pp_future_unref(running);
}

/* ----------------------------------------------------------------------------------------- broken pools */

BOTH(a_broken_pool_shuts_down_like_any_other)
{
    board_make();
    pp_pool *pool = kit_pool_with(method, (pp_pool_options){.max_workers = 2, .on_crash = PP_BREAK_POOL});
    pp_future *running, *dies, *refused = (pp_future *)pool;
    pid_t pids[2];
    ask_who(pool, pids);
    occupy(pool, BEGUN, GATE, 1, &running);
    dies = submit(pool, crash, NULL, 0);
    expect_end(running, -ENOTRECOVERABLE);
    expect_end(dies, -ENOTRECOVERABLE);
    CHECK_INT(pp_submit(pool, nothing, NULL, 0, &refused), -ENOTRECOVERABLE);
    CHECK_OK(pp_pool_shutdown(pool, 0, -1));
    CHECK_INT(pp_submit(pool, nothing, NULL, 0, &refused), -ENOTRECOVERABLE);
    CHECK(*pp_last_error() && refused == (pp_future *)pool);
    CHECK_OK(pp_pool_shutdown(pool, PP_CANCEL_PENDING, 0));
    CHECK(!test_process_alive(pids[0]));
    pp_pool_destroy(pool);
}

BOTH(a_pool_that_breaks_while_it_shuts_down_still_ends)
{
    board_make();
    for (int round = 0; round < TEST_ROUNDS(10, 3); round++) {
        pp_pool *pool = kit_pool_with(method, (pp_pool_options){.max_workers = 2, .on_crash = PP_BREAK_POOL});
        pp_future *futures[20];
        int count = 0;
        while (count < 20) {
            int code = pp_submit(pool, count == round ? crash : nothing, NULL, 0, &futures[count]);
            CHECK(code == 0 || (code == -ENOTRECOVERABLE && count > round)); /* it may have broken already */
            if (code)
                break;
            count++;
        }
        CHECK_OK(pp_pool_shutdown(pool, 0, -1));
        for (int i = 0; i < count; i++) {
            int code = pp_future_result(futures[i], 0, NULL, 0, NULL);
            CHECK(code == -ENOTRECOVERABLE || (code == 0 && i != round));
            pp_future_unref(futures[i]);
        }
        pp_pool_destroy(pool);
    }
}

/* ------------------------------------------------------------------------------------ release and destroy */

BOTH(a_released_pool_finishes_its_calls_and_goes)
{
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    pp_future *futures[101];
    pid_t pids[2];
    ask_who(pool, pids);
    occupy(pool, BEGUN, GATE, 1, futures);
    for (int i = 1; i < 101; i++)
        futures[i] = submit_u32(pool, count_run, RUNS);
    pp_pool_release(pool);
    CHECK_INT(pp_future_state(futures[0]), PP_RUNNING);
    open_gate(GATE);
    until(read_word(RUNS) == 100);
    until(gone_count(pids, 2) == 2);
    CHECK_INT(result_u32(futures[0]), 0);
    for (int i = 0; i < 101; i++) {
        CHECK_INT(pp_future_state(futures[i]), PP_FINISHED);
        pp_future_unref(futures[i]);
    }
}

BOTH(a_released_pools_futures_can_be_waited_for_and_cancelled)
{
    board_make();
    for (int round = 0; round < TEST_ROUNDS(10, 3); round++) {
        pp_pool *pool = kit_pool(method, 1);
        pp_future *running, *cancelled, *kept;
        atomic_store(word(GATE), 0);
        occupy(pool, BEGUN, GATE, 1, &running);
        cancelled = submit_u32(pool, count_run, RUNS);
        kept = submit_u32(pool, echo, 5);
        pp_pool_release(pool);
        CHECK_INT(pp_future_cancel(cancelled), 0);
        open_gate(GATE);
        CHECK_INT(result_u32(kept), 5);
        expect_end(cancelled, -ECANCELED);
        pp_future_unref(kept);
        pp_future_unref(running);
    }
    CHECK_INT(read_word(RUNS), 0);
}

BOTH(a_pool_that_was_never_used_ends_in_each_way)
{
    int before = count_fds();
    for (int i = 0; i < 5; i++) {
        pp_pool_destroy(kit_pool(method, 2));
        pp_pool_release(kit_pool(method, 2));
        pp_pool *pool = kit_pool(method, 2);
        CHECK_OK(pp_pool_shutdown(pool, 0, i ? -1 : 1000000));
        pp_pool_destroy(pool);
    }
    until(count_fds() == before);
}

BOTH(calls_are_destroyed_with_their_pool_only_after_they_ran)
{
    board_make();
    for (int i = 0; i < 20; i += TEST_ROUNDS(1, 5)) {
        pp_pool *pool = kit_pool(method, 2);
        for (int j = 0; j < i; j++)
            pp_future_unref(submit_u32(pool, count_run, FIRST_CALL + (uint32_t)i));
        pp_pool_destroy(pool);
        CHECK_INT(read_word(FIRST_CALL + (uint32_t)i), i);
    }
}

static void *make_pool_here(void *argument)
{
    struct shutting *shutting = argument;
    shutting->pool = kit_pool((pp_start_method)shutting->flags, 1);
    return NULL;
}

BOTH(a_pool_outlives_the_thread_that_made_it_and_ends_in_another)
{
    struct shutting shutting = {.flags = method};
    join_thread(start_thread(make_pool_here, &shutting));
    expect_usable(shutting.pool);
    test_sleep_ms(20); /* a worker that follows its parent's thread would be gone by now, mostly */
    expect_usable(shutting.pool);
    join_thread(start_thread(destroy, &shutting));
}

static void *wait_long(void *future)
{
    uint32_t value;
    CHECK_OK(pp_future_result(future, -1, &value, sizeof value, NULL));
    return NULL;
}

BOTH(threads_that_wait_for_futures_outlast_the_pools_destruction)
{
    board_make();
    for (int round = 0; round < 10; round++) {
        struct shutting shutting = {.pool = kit_pool(method, 2)};
        pp_future *futures[3];
        pthread_t threads[3];
        atomic_store(word(GATE), 0);
        occupy(shutting.pool, BEGUN, GATE, 2, futures);
        futures[2] = submit_u32(shutting.pool, echo, 1);
        for (int i = 0; i < 3; i++)
            threads[i] = start_thread(wait_long, futures[i]);
        pthread_t destroyer = start_thread(destroy, &shutting);
        open_gate(GATE);
        join_thread(destroyer);
        for (int i = 0; i < 3; i++) {
            join_thread(threads[i]);
            pp_future_unref(futures[i]);
        }
    }
}

/* ---------------------------------------------------------------------------------- submits meet shutdown */

struct submitting {
    pp_pool *pool;
    uint32_t first, accepted;
    pp_future *futures[20000];
};

static void *submit_until_refused(void *argument)
{
    struct submitting *me = argument;
    for (uint32_t i = 0; i < sizeof me->futures / sizeof *me->futures; i++) {
        uint32_t place = me->first + i;
        int code = pp_submit(me->pool, count_run, &place, sizeof place, &me->futures[i]);
        if (code == -ESHUTDOWN)
            return NULL;
        CHECK_OK(code);
        me->accepted++;
    }
    return NULL;
}

static void check_submitted(struct submitting *me, bool cancelled)
{
    for (uint32_t i = 0; i < me->accepted; i++) {
        uint32_t value;
        int code = pp_future_result(me->futures[i], 0, &value, sizeof value, NULL);
        CHECK(code == 0 || (cancelled && code == -ECANCELED));
        CHECK_INT(read_word(me->first + i), code == 0);
        atomic_store(word(me->first + i), 0);
        pp_future_unref(me->futures[i]);
    }
}

/* Some have been accepted when the shutdown comes; all of them have ended when it is over. */
static void race_submits(pp_start_method method, int round)
{
    static struct submitting submitting[3];
    pthread_t threads[3];
    unsigned flags = round % 2 ? PP_CANCEL_PENDING : 0;
    pp_pool *pool = kit_pool(method, 2);
    for (uint32_t i = 0; i < 3; i++) {
        submitting[i] = (struct submitting){.pool = pool, .first = FIRST_CALL + i * 20000};
        threads[i] = start_thread(submit_until_refused, &submitting[i]);
    }
    until(read_word(FIRST_CALL) == 1 && read_word(FIRST_CALL + 20000) == 1);
    CHECK_OK(pp_pool_shutdown(pool, flags, -1));
    for (int i = 0; i < 3; i++) {
        join_thread(threads[i]);
        check_submitted(&submitting[i], flags != 0);
    }
    pp_pool_destroy(pool);
}

BOTH(submits_that_race_with_a_shutdown_are_refused_or_answered)
{
    board_make();
    for (int round = 0; round < 6; round++)
        race_submits(method, round);
}

/* -------------------------------------------------------------------------------------------- finalizers */

static int note_start(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    add(STARTED);
    pp_task_set_state(task, strdup("state"));
    return 0;
}

/* Adds 1, if argument and state are what they should be. */
static int note_end(pp_task *task, const void *arg, size_t size)
{
    if (size == 4 && strcmp(arg, "last") == 0 && strcmp(pp_task_state(task), "state") == 0)
        add(FINALIZED);
    free(pp_task_state(task));
    return 0;
}

static const pp_pool_options with_duties = {.max_workers = 3,
                                            .initializer = note_start,
                                            .finalizer = note_end,
                                            .finalizer_arg = "last",
                                            .finalizer_arg_size = 4};

BOTH(the_finalizer_runs_once_in_each_worker)
{
    board_make();
    pp_pool *pool = kit_pool_with(method, with_duties);
    pp_future *running[3];
    occupy(pool, BEGUN, GATE, 3, running);
    CHECK_INT(read_word(STARTED), 3);
    CHECK_INT(read_word(FINALIZED), 0);
    open_gate(GATE);
    CHECK_OK(pp_pool_shutdown(pool, 0, -1));
    CHECK_INT(read_word(FINALIZED), 3);
    for (int i = 0; i < 3; i++)
        pp_future_unref(running[i]);
    pp_pool_destroy(pool);
    CHECK_INT(read_word(STARTED), 3);
    CHECK_INT(read_word(FINALIZED), 3);
}

BOTH(a_worker_that_died_has_no_finalizer_and_its_successor_has)
{
    board_make();
    pp_pool *pool = kit_pool_with(method, with_duties);
    for (int i = 0; i < 3; i++)
        expect_end(submit(pool, crash, NULL, 0), -EOWNERDEAD);
    expect_usable(pool);
    CHECK(read_word(FINALIZED) == 0);
    pp_pool_destroy(pool);
    CHECK_INT(read_word(FINALIZED), read_word(STARTED) - 3);
    CHECK(read_word(FINALIZED) > 0);
}

static char lines[4096];

static void keep_line(void *data, const char *line)
{
    (void)data;
    size_t used = strlen(lines);
    snprintf(lines + used, sizeof lines - used, "%s\n", line);
}

BOTH(a_finalizer_that_fails_is_logged_and_nothing_else)
{
    pp_pool *pool = kit_pool_with(method, (pp_pool_options){.max_workers = 1, .finalizer = refuse, .log = keep_line});
    expect_usable(pool);
    CHECK_OK(pp_pool_shutdown(pool, 0, -1));
    pp_pool_destroy(pool);
    CHECK_HAS(lines, "refused");
    CHECK_HAS(lines, "finalizer");
}

/* ------------------------------------------------------------------------------------------------- leaks */

static void use_one_pool(pp_start_method method, pp_launcher *launcher, int round, pid_t pids[2])
{
    pp_pool *pool = NULL;
    pp_pool_options options = {.max_workers = 1 + round % 2, .launcher = launcher};
    if (!launcher)
        options.start_method = method;
    CHECK_OK(pp_pool_create(&options, &pool));
    ask_who(pool, pids);
    if (round % 3 == 0)
        pp_pool_release(pool);
    else
        pp_pool_destroy(pool);
}

BOTH_WITHIN(two_hundred_pools_leave_no_descriptor_and_no_process, 60)
{
    static pid_t pids[400];
    int before = count_fds();
    for (int i = 0; i < 200; i++)
        use_one_pool(method, NULL, i, pids + 2 * i);
    until(count_fds() == before);
    until(gone_count(pids, 400) == 400);
}

BOTH_WITHIN(two_hundred_pools_of_one_launcher_leave_nothing_either, 60)
{
    static pid_t pids[400];
    int before = count_fds();
    pp_launcher *launcher;
    CHECK_OK(pp_launcher_create(&(pp_launcher_options){.start_method = method}, &launcher));
    for (int i = 0; i < 200; i++) {
        use_one_pool(method, launcher, i, pids + 2 * i);
        CHECK_INT(pids[2 * i + 1], pids[1]); /* the same parent */
    }
    pp_launcher_unref(launcher);
    until(count_fds() == before);
    until(gone_count(pids, 400) == 400);
}

BOTH(many_pools_live_side_by_side)
{
    enum { POOLS = 12 };
    pp_pool *pools[POOLS];
    pp_future *futures[POOLS];
    for (uint32_t i = 0; i < POOLS; i++) {
        pools[i] = kit_pool(method, 1);
        futures[i] = submit_u32(pools[i], echo, i);
    }
    for (uint32_t i = POOLS; i-- > 0;) {
        CHECK_INT(result_u32(futures[i]), i);
        pp_future_unref(futures[i]);
    }
    for (int i = 0; i < POOLS; i++)
        pp_pool_destroy(pools[i]);
}

/* The harness fails a test that leaves processes behind. */
BOTH(a_process_that_ends_with_a_busy_pool_leaves_no_worker)
{
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    pp_future *running[2];
    occupy(pool, BEGUN, GATE, 2, running);
    for (int i = 0; i < 100; i++)
        submit_u32(pool, count_run, RUNS);
    _exit(0);
}
