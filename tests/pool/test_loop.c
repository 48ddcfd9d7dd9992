/* SPDX-License-Identifier: MIT */
/* Pools in the host program's event loop: no thread of theirs, one descriptor to watch, one function to call. */
#include "call_kit.h"

#include <poll.h>
#include <sys/resource.h>

enum { BEGUN, GATE, RUNS };

static pp_pool *loop_pool(pp_start_method method, int workers)
{
    return kit_pool_with(method, (pp_pool_options){.max_workers = workers, .event_loop = 1});
}

/* How many calls have not ended. */
static int dispatch(pp_pool *pool)
{
    int outstanding = pp_pool_dispatch(pool);
    CHECK(outstanding >= 0);
    return outstanding;
}

static bool is_readable(pp_pool *pool, int milliseconds)
{
    struct pollfd watched = {.fd = pp_pool_fd(pool), .events = POLLIN};
    CHECK(watched.fd >= 0);
    int ready = poll(&watched, 1, milliseconds);
    CHECK(ready == 0 || (ready == 1 && watched.revents == POLLIN));
    return ready == 1;
}

/* As a host's loop does, without ever looking without being woken. */
#define loop_until(pool, condition)                                                                                    \
    while (!(condition)) {                                                                                             \
        CHECK(is_readable(pool, -1));                                                                                  \
        dispatch(pool);                                                                                                \
    }

static bool is_done(pp_future *future)
{
    return pp_future_state(future) == PP_FINISHED;
}

/* ------------------------------------------------------------------------------------------- callbacks */

static struct {
    int count;
    uint32_t sum; /* of results */
    int failed;
    pthread_t thread;
} seen;

static void see(pp_future *future, void *context)
{
    const pp_error *error;
    (void)context;
    CHECK_OK(pp_future_error(future, 0, &error));
    seen.count++;
    seen.thread = pthread_self();
    if (error)
        seen.failed++;
    else
        seen.sum += result_u32(future);
}

static void submit_seen(pp_pool *pool, pp_function *function, uint32_t value)
{
    pp_future *future = submit_u32(pool, function, value);
    CHECK_OK(pp_future_add_callback(future, see, NULL));
    pp_future_unref(future);
}

EACH(calls_and_callbacks_are_done_by_a_loop_that_is_woken_without_any_thread)
{
    board_make();
    int threads = thread_count();
    pp_pool *pool = loop_pool(method, 2);
    for (uint32_t i = 0; i < 1000; i++)
        submit_seen(pool, echo, i);
    loop_until(pool, seen.count == 1000);
    CHECK_INT(seen.sum, 999 * 500);
    CHECK(pthread_equal(seen.thread, pthread_self()));
    CHECK_INT(thread_count(), threads);
    CHECK_INT(dispatch(pool), 0);
    pp_pool_destroy(pool);
    CHECK_INT(thread_count(), threads);
}

EACH(callbacks_run_in_a_dispatch_and_nowhere_else)
{
    board_make();
    pp_pool *pool = loop_pool(method, 1);
    pp_future *future = submit_u32(pool, echo, 7);
    CHECK_OK(pp_future_add_callback(future, see, NULL));
    CHECK_INT(result_u32(future), 7);
    CHECK_INT(seen.count, 0);
    CHECK(is_readable(pool, -1));
    dispatch(pool);
    CHECK_INT(seen.count, 1);
    CHECK_OK(pp_future_add_callback(future, see, NULL)); /* done: at once, as ever */
    CHECK_INT(seen.count, 2);
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

BOTH(a_loop_is_left_alone_when_nothing_happens)
{
    board_make();
    pp_pool *pool = loop_pool(method, 1);
    int wakes = 0;
    submit_seen(pool, echo, 1);
    loop_until(pool, seen.count == 1);
    for (; wakes < 20 && is_readable(pool, 300); wakes++)
        dispatch(pool);
    CHECK(wakes < 20);
    pp_pool_destroy(pool);
}

BOTH(how_many_calls_have_not_ended_is_told)
{
    board_make();
    pp_pool *pool = loop_pool(method, 1);
    pp_future *futures[3];
    CHECK_INT(dispatch(pool), 0);
    for (uint32_t i = 0; i < 3; i++)
        futures[i] = submit_gated(pool, BEGUN, GATE, i);
    CHECK_INT(dispatch(pool), 3);
    CHECK_INT(pp_future_cancel(futures[2]), 0);
    CHECK_INT(dispatch(pool), 2);
    open_gate(GATE);
    loop_until(pool, dispatch(pool) == 0);
    for (int i = 0; i < 3; i++)
        pp_future_unref(futures[i]);
    pp_pool_destroy(pool);
}

/* --------------------------------------------------------------------------------------------- the hard */

BOTH(a_crash_fails_its_call_and_the_loop_gets_a_new_worker)
{
    board_make();
    pp_pool *pool = loop_pool(method, 1);
    for (int round = 0; round < 3; round++) {
        submit_seen(pool, crash, 0);
        submit_seen(pool, echo, 5);
        loop_until(pool, seen.count == 2 * (round + 1));
        CHECK_INT(seen.failed, round + 1);
    }
    CHECK_INT(seen.sum, 15);
    pp_pool_destroy(pool);
}

BOTH(a_call_that_hangs_is_ended_by_its_timeout)
{
    board_make();
    pp_pool *pool = loop_pool(method, 1);
    struct gated hanging = {.begun = BEGUN, .gate = GATE};
    const pp_call call = {.function = gated, .arg = &hanging, .size = sizeof hanging, .timeout = 100};
    pp_future *future;
    CHECK_OK(pp_submit_call(pool, &call, &future));
    loop_until(pool, is_done(future));
    expect_end(future, -ETIME);
    CHECK_INT(read_word(GATE), 0);
    pp_pool_destroy(pool);
}

BOTH(more_calls_than_rings_hold_are_sent_on_by_the_loop)
{
    board_make();
    pp_pool *pool = loop_pool(method, 2);
    for (uint32_t i = 0; i < 20000; i++)
        submit_seen(pool, echo, 1);
    loop_until(pool, seen.count == 20000);
    CHECK_INT(seen.sum, 20000);
    pp_pool_destroy(pool);
}

/* ---------------------------------------------------------------------------------------------- threads */

static void *submit_from_aside(void *pool)
{
    submit_seen(pool, echo, 3);
    return NULL;
}

static void *finish_from_aside(void *future)
{
    const uint32_t value = 4;
    CHECK_OK(pp_future_set_result(future, &value, sizeof value));
    return NULL;
}

EACH(what_other_threads_do_wakes_the_loop)
{
    board_make();
    pp_pool *pool = loop_pool(method, 1);
    pp_future *promised;
    join_thread(start_thread(submit_from_aside, pool));
    loop_until(pool, seen.count == 1);
    CHECK_OK(pp_future_create(pool, &promised));
    CHECK_OK(pp_future_add_callback(promised, see, NULL));
    join_thread(start_thread(finish_from_aside, promised));
    loop_until(pool, seen.count == 2);
    CHECK_INT(seen.sum, 7);
    CHECK(pthread_equal(seen.thread, pthread_self()));
    pp_future_unref(promised);
    pp_pool_destroy(pool);
}

static void *wait_aside(void *future)
{
    CHECK_INT(result_u32(future), 1);
    return NULL;
}

/* One collects, and all have what is theirs. */
BOTH(threads_that_wait_and_the_loop_do_not_hold_each_other_up)
{
    board_make();
    pp_pool *pool = loop_pool(method, 2);
    for (int round = 0; round < 20; round++) {
        pthread_t threads[4];
        pp_future *futures[4];
        atomic_store(word(GATE), 0);
        for (int i = 0; i < 4; i++) {
            futures[i] = submit_gated(pool, BEGUN, GATE, 1);
            threads[i] = start_thread(wait_aside, futures[i]);
        }
        submit_seen(pool, echo, 1); /* behind those that wait */
        open_gate(GATE);
        loop_until(pool, seen.count == round + 1);
        for (int i = 0; i < 4; i++) {
            join_thread(threads[i]);
            pp_future_unref(futures[i]);
        }
    }
    pp_pool_destroy(pool);
}

static void *dispatch_aside(void *pool)
{
    return (void *)(intptr_t)pp_pool_dispatch(pool); /* NOLINT(performance-no-int-to-ptr): read as a number */
}

static void dispatch_within(pp_future *future, void *pool)
{
    void *code;
    (void)future;
    CHECK(pp_pool_dispatch(pool) >= 0);
    CHECK_INT(pthread_join(start_thread(dispatch_aside, pool), &code), 0);
    CHECK_INT((intptr_t)code, -EBUSY);
    submit_seen(pool, echo, 9);
    seen.count++;
}

EACH(a_callback_may_dispatch_and_another_thread_may_not)
{
    board_make();
    pp_pool *pool = loop_pool(method, 1);
    pp_future *future = submit_u32(pool, echo, 1);
    CHECK_OK(pp_future_add_callback(future, dispatch_within, pool));
    pp_future_unref(future);
    loop_until(pool, seen.count == 2);
    CHECK_INT(seen.sum, 9);
    pp_pool_destroy(pool);
}

BOTH(waits_over_several_pools_look_after_those_of_a_loop)
{
    board_make();
    pp_pool *pools[3];
    for (int i = 0; i < 3; i++)
        pools[i] = kit_sibling(method, (pp_pool_options){.max_workers = 1, .event_loop = i < 2});
    for (int round = 0; round < 5; round++) {
        pp_future *futures[30];
        for (uint32_t i = 0; i < 30; i++)
            futures[i] = submit_u32(pools[i % 3], i == 15 ? crash : echo, i);
        CHECK_INT(pp_wait(futures, 30, PP_ALL_COMPLETED, -1, NULL), 30);
        for (int i = 0; i < 30; i++)
            pp_future_unref(futures[i]);
    }
    for (int i = 0; i < 3; i++)
        pp_pool_destroy(pools[i]);
}

/* ------------------------------------------------------------------------------------------------ the log */

static int lines;

static void count_line(void *data, const char *line)
{
    CHECK_INT(*(int *)data, 42);
    CHECK(*line);
    lines++;
}

BOTH(the_log_is_handed_out_in_a_dispatch)
{
    board_make();
    int data = 42, threads = thread_count();
    pp_pool *pool = kit_pool_with(
        method, (pp_pool_options){.max_workers = 1, .event_loop = 1, .log = count_line, .log_data = &data});
    expect_usable(pool);
    CHECK_INT(lines, 0);
    loop_until(pool, lines > 0);
    CHECK_INT(thread_count(), threads);
    pp_pool_destroy(pool);
}

/* ------------------------------------------------------------------------------------------------ the end */

EACH(destroying_waits_for_calls_and_runs_their_callbacks)
{
    board_make();
    pp_pool *pool = loop_pool(method, 2);
    for (uint32_t i = 0; i < 100; i++)
        submit_seen(pool, echo, 1);
    pp_pool_destroy(pool);
    CHECK_INT(seen.count, 100);
    CHECK_INT(seen.sum, 100);
}

EACH(a_shutdown_is_brought_to_its_end_by_dispatches)
{
    board_make();
    pp_pool *pool = loop_pool(method, 2);
    for (uint32_t i = 0; i < 10; i++)
        submit_seen(pool, echo, 1);
    CHECK_INT(pp_pool_shutdown(pool, 0, 0), -ETIMEDOUT);
    loop_until(pool, pp_pool_shutdown(pool, 0, 0) == 0);
    CHECK_INT(seen.count, 10);
    CHECK_INT(dispatch(pool), 0);
    pp_pool_destroy(pool);
}

BOTH(a_released_pool_of_a_loop_ends_by_itself)
{
    board_make();
    pp_pool *pool = loop_pool(method, 1);
    pp_future *future = submit_gated(pool, BEGUN, GATE, 11), *behind = submit_u32(pool, count_run, RUNS);
    int fd = pp_pool_fd(pool);
    pp_pool_release(pool);
    CHECK(fcntl(fd, F_GETFD) < 0 && errno == EBADF);
    open_gate(GATE);
    until(read_word(RUNS) == 1);
    CHECK_INT(result_u32(future), 11);
    pp_future_unref(future);
    pp_future_unref(behind);
    until(count_descendants_named(getppid(), "pp-") == 0);
}

static int count_threads_of_pools(void)
{
    int count = 0;
    DIR *directory = opendir("/proc/self/task");
    for (struct dirent *entry; (entry = readdir(directory));) {
        char path[300], name[16] = "";
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", entry->d_name);
        FILE *file = fopen(path, "re");
        if (file && fgets(name, sizeof name, file))
            count += strncmp(name, "pp-", 3) == 0;
        if (file)
            fclose(file);
    }
    closedir(directory);
    return count;
}

static void release(pp_future *future, void *pool)
{
    (void)future;
    pp_pool_release(pool);
}

static void destroy(pp_future *future, void *pool)
{
    (void)future;
    pp_pool_destroy(pool);
}

EACH(a_callback_may_give_its_pool_up_in_a_dispatch)
{
    static pp_callback *const ways[] = {release, destroy};
    board_make();
    for (int i = 0; i < 2; i++) {
        pp_pool *pool = kit_sibling(method, (pp_pool_options){.max_workers = 1, .event_loop = 1});
        pp_future *future = submit_u32(pool, echo, 1);
        CHECK_OK(pp_future_add_callback(future, ways[i], pool));
        CHECK_OK(pp_future_wait(future, -1));
        CHECK(is_readable(pool, -1));
        CHECK_INT(pp_pool_dispatch(pool), 0);
        pp_future_unref(future);
        until(count_threads_of_pools() == 0);
    }
}

BOTH(descriptors_come_and_go_with_the_pool)
{
    board_make();
    int before = count_fds();
    for (int i = 0; i < 3; i++) {
        pp_pool *pool = loop_pool(method, 1);
        expect_usable(pool);
        pp_pool_destroy(pool);
        CHECK_INT(count_fds(), before);
    }
}

BOTH(without_descriptors_a_pool_is_refused_and_nothing_is_left)
{
    board_make();
    struct rlimit before, limit;
    int fds = count_fds(), made = 0;
    CHECK_INT(getrlimit(RLIMIT_NOFILE, &before), 0);
    for (rlim_t most = 200; most < 230 && !made; most++) {
        pp_pool *pool = NULL;
        limit = (struct rlimit){.rlim_cur = most, .rlim_max = before.rlim_max};
        CHECK_INT(setrlimit(RLIMIT_NOFILE, &limit), 0);
        int code = pp_pool_create(&(pp_pool_options){.start_method = method, .max_workers = 1, .event_loop = 1}, &pool);
        CHECK(code == 0 || code == -EMFILE);
        made += code == 0;
        CHECK_INT(setrlimit(RLIMIT_NOFILE, &before), 0);
        pp_pool_destroy(pool);
        CHECK_INT(count_fds(), fds);
    }
    CHECK_INT(made, 1);
}

/* ------------------------------------------------------------------------------------------------ misuse */

EACH(pools_that_were_not_made_for_a_loop_refuse_it)
{
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    CHECK_INT(pp_pool_fd(pool), -EINVAL);
    CHECK_HAS(pp_last_error(), "not made for an event loop");
    CHECK_INT(pp_pool_dispatch(pool), -EINVAL);
    CHECK_HAS(pp_last_error(), "not made for an event loop");
    CHECK_INT(pp_pool_fd(NULL), -EINVAL);
    CHECK_INT(pp_pool_dispatch(NULL), -EINVAL);
    pp_pool_destroy(pool);
}

BOTH(a_forked_child_has_no_loop)
{
    board_make();
    pp_pool *pool = loop_pool(method, 1);
    expect_usable(pool);
    pid_t child = fork();
    if (child == 0)
        _exit(pp_pool_fd(pool) == -EPERM && pp_pool_dispatch(pool) == -EPERM ? 0 : 1);
    int status;
    CHECK_INT(waitpid(child, &status, 0), child);
    CHECK_INT(status, 0);
    expect_usable(pool);
    pp_pool_destroy(pool);
}

/* ------------------------------------------------------------------------------------- beside other things */

EACH(calls_with_priorities_are_done_too)
{
    board_make();
    pp_pool *pool = loop_pool(method, 1);
    for (uint32_t i = 0; i < 5; i++) {
        const pp_call call = {.function = echo, .arg = &i, .size = sizeof i, .priority = 5};
        pp_future *future;
        CHECK_OK(pp_submit_call(pool, &call, &future));
        CHECK_OK(pp_future_add_callback(future, see, NULL));
        pp_future_unref(future);
    }
    loop_until(pool, seen.count == 5);
    CHECK_INT(seen.sum, 10);
    pp_pool_destroy(pool);
}

static int finalized;

static void count_finalized(void *data, const pp_finalized *end)
{
    (void)data;
    CHECK_INT(end->code, 0);
    finalized++;
}

BOTH(destroying_hands_out_what_finalizers_returned_and_the_log)
{
    board_make();
    int data = 42;
    pp_pool *pool = kit_pool_with(method, (pp_pool_options){.max_workers = 1,
                                                            .event_loop = 1,
                                                            .finalizer = nothing,
                                                            .finalized = count_finalized,
                                                            .log = count_line,
                                                            .log_data = &data});
    expect_usable(pool);
    pp_pool_destroy(pool);
    CHECK_INT(finalized, 1);
    CHECK(lines > 0);
}

BOTH(a_loop_is_left_alone_when_its_pool_has_ended)
{
    board_make();
    pp_pool *pool = loop_pool(method, 1);
    int wakes = 0;
    CHECK_OK(pp_pool_shutdown(pool, 0, 0));
    for (; wakes < 20 && is_readable(pool, 300); wakes++)
        CHECK_INT(dispatch(pool), 0);
    CHECK(wakes < 20);
    pp_pool_destroy(pool);
}

BOTH(a_loop_keeps_a_standby)
{
    board_make();
    pp_pool *pool =
        kit_pool_with(method, (pp_pool_options){.max_workers = 1, .event_loop = 1, .standby = PP_STANDBY_ALWAYS});
    submit_seen(pool, echo, 1);
    while (seen.count < 1 ||
           count_descendants_named(getppid(), "pp-standby") < 1) /* it has its name when it has begun */
        if (is_readable(pool, 10))
            dispatch(pool);
    pp_pool_destroy(pool);
}
