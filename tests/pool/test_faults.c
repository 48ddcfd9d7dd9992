/* SPDX-License-Identifier: MIT */
/*
 * Processes that end or stop at the worst places: each call ends exactly once.
 *
 * needs: seams
 */
#include "accounts_kit.h"

#include "base/seam.h"

enum { CALLS = 1000 };

/* ------------------------------------------------------------------------- ends and stops of a worker */

/*
 * What an end at the place costs once both workers are up: the call that had begun and not yet left its result, and no
 * other. `failed_runs`: whether the task had run.
 */
struct place {
    const char *name;
    unsigned failed;
    int failed_runs;
};

static const struct place places[] = {
    {"worker.begin.before", 0, 0},
    {"worker.begin.after", 1, 0},
    {"worker.publish.before", 1, 1},
    {"worker.publish.after", 0, 0},
};
enum { PLACES = sizeof places / sizeof *places };

static const char *const action_names[] = {"none", "kill", "stop", "exit", "abort"};

/* A pool with a fault armed in its workers: a fork shares the order, a fresh image reads it in its environment. */
static pp_pool *faulty_pool(pp_start_method method, const char *place, unsigned n, enum pp__fault_action action)
{
    char order[128];
    snprintf(order, sizeof order, "%s:%u:%s", place, n, action_names[action]);
    setenv("PROCPOOL_FAULT", order, 1);
    if (method == PP_START_FORK)
        pp__fault_arm(place, n, action);
    pp_pool *pool = kit_pool_with(method, (pp_pool_options){.max_workers = 2, .log = log_line});
    unsetenv("PROCPOOL_FAULT");
    return pool;
}

static void clear_board(void)
{
    for (uint32_t i = 0; i < RUNS + 2 * CALLS; i++)
        atomic_store(word(i), 0);
}

/* 1,000 calls, of which the first two hold both workers until all are submitted; so each worker is up, with its
 * readiness published. */
static void check_fault(pp_start_method method, const struct place *place, unsigned n, enum pp__fault_action action)
{
    static pp_future *futures[CALLS];
    clear_board();
    pp_pool *pool = faulty_pool(method, place->name, n, action);
    occupy_two(pool, futures);
    submit_all(pool, 2, CALLS, futures);
    open_gate(GATE);
    unsigned failed = check_ends(futures, CALLS, place->failed_runs);
    if (failed != place->failed)
        harness_fail(__FILE__, __LINE__, "%u calls failed, not %u, at %s, %u, %s", failed, place->failed, place->name,
                     n, action_names[action]);
    unref_all(futures, CALLS);
    expect_usable(pool);
    pp_pool_destroy(pool);
    pp__fault_disarm();
}

/* Each call begins and publishes once; each worker publishes once more that it is ready. */
static void check_faults(pp_start_method method, const struct place *place)
{
    static const unsigned hits[] = {3, 4, 57, 999, 1000};
    static const enum pp__fault_action actions[] = {PP__FAULT_KILL, PP__FAULT_EXIT};
    board_make();
    for (size_t i = 0; i < sizeof hits / sizeof *hits; i++)
        for (size_t j = 0; j < sizeof actions / sizeof *actions; j++)
            check_fault(method, place, hits[i], actions[j]);
    CHECK(is_logged("was killed by signal 9"));
    CHECK(is_logged("exited with status 0"));
}

FORKED_WITHIN(a_worker_that_ends_before_it_begins_a_call_costs_none, 30)
{
    check_faults(method, &places[0]);
}

FORKED_WITHIN(a_worker_that_ends_as_it_has_begun_a_call_costs_that_one, 30)
{
    check_faults(method, &places[1]);
}

FORKED_WITHIN(a_worker_that_ends_before_it_publishes_a_result_costs_that_call, 30)
{
    check_faults(method, &places[2]);
}

FORKED_WITHIN(a_worker_that_ends_when_it_has_published_a_result_costs_none, 30)
{
    check_faults(method, &places[3]);
}

/* The first hits are those of workers that are only coming up. */
FORKED_WITHIN(a_worker_that_ends_at_its_first_steps_costs_one_call_at_most, 30)
{
    static pp_future *futures[CALLS];
    board_make();
    for (size_t i = 0; i < PLACES; i++) {
        for (unsigned n = 1; n <= 2; n++) {
            clear_board();
            pp_pool *pool = faulty_pool(method, places[i].name, n, PP__FAULT_KILL);
            submit_all(pool, 0, CALLS, futures);
            CHECK(check_ends(futures, CALLS, -1) <= places[i].failed);
            unref_all(futures, CALLS);
            pp_pool_destroy(pool);
            pp__fault_disarm();
        }
    }
}

/* The pool's worker that has stopped; both ran one of the first two calls. */
static pid_t stopped_worker(void)
{
    for (uint32_t i = PIDS; i < PIDS + 2; i++)
        if (test_process_state((pid_t)read_word(i), NULL, NULL) == 'T')
            return (pid_t)read_word(i);
    return 0;
}

/*
 * All other calls are done while one worker stands still; the one that it had begun waits, and is done when it goes on.
 * Those that it had not begun have run elsewhere by then, so it must not begin them.
 */
static void check_stop(pp_start_method method, const struct place *place)
{
    static pp_future *futures[CALLS];
    board_make();
    pp_pool *pool = faulty_pool(method, place->name, 500, PP__FAULT_STOP);
    occupy_two(pool, futures);
    submit_all(pool, 2, CALLS, futures);
    open_gate(GATE);
    until(stopped_worker());
    pid_t stopped = stopped_worker();
    until(count_done(futures, CALLS) == CALLS - place->failed);
    CHECK_INT(stopped_worker(), stopped);
    CHECK_INT(kill(stopped, SIGCONT), 0);
    check_all_good(futures, CALLS);
    occupy(pool, BEGUN, GATE, 2, futures); /* the one that stood still works again */
    unref_all(futures, 2);
    pp_pool_destroy(pool);
    for (uint32_t i = 0; i < CALLS; i++)
        CHECK_INT(read_word(RUNS + i), 1);
}

FORKED_WITHIN(calls_that_a_stopped_worker_has_not_begun_run_elsewhere_and_once, 30)
{
    check_stop(method, &places[0]);
}

FORKED_WITHIN(a_worker_that_stops_as_it_has_begun_a_call_ends_it_later, 30)
{
    check_stop(method, &places[1]);
}

FORKED_WITHIN(a_worker_that_stops_with_a_result_in_hand_gives_it_later, 30)
{
    check_stop(method, &places[2]);
}

FORKED_WITHIN(a_worker_that_stops_when_it_has_published_has_given_its_result, 30)
{
    check_stop(method, &places[3]);
}

/* The pool has been idle, so nothing of it looks at the clock until there is a call. */
BOTH(a_call_that_nobody_waits_for_leaves_a_worker_that_stands_still)
{
    static pp_future *futures[2];
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    occupy_two(pool, futures);
    open_gate(GATE);
    check_all_good(futures, 2);
    test_sleep_ms(50);
    pid_t stopped = (pid_t)read_word(PIDS); /* the one that is given the first call */
    CHECK_INT(kill(stopped, SIGSTOP), 0);
    until(test_process_state(stopped, NULL, NULL) == 'T');
    pp_future *future = submit_u32(pool, count_run, RUNS + 10);
    until(pp_future_state(future) == PP_FINISHED);
    pp_future_unref(future);
    CHECK_INT(kill(stopped, SIGCONT), 0);
    pp_pool_destroy(pool);
    CHECK_INT(read_word(RUNS + 10), 1);
}

/* Every slot of a worker that stands still is used up by calls that were taken back from it. */
BOTH(a_worker_that_stands_still_and_has_no_room_left_does_not_hold_up_the_other)
{
    static pp_future *futures[2];
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    occupy_two(pool, futures);
    open_gate(GATE);
    check_all_good(futures, 2);
    pid_t stopped = (pid_t)read_word(PIDS);
    CHECK(stopped > 0);
    CHECK_INT(kill(stopped, SIGSTOP), 0);
    until(test_process_state(stopped, NULL, NULL) == 'T');
    for (uint32_t i = 0; i < 300; i++) {
        pp_future *future = submit_u32(pool, count_run, RUNS + 10);
        pp_future_cancel(future); /* refused where the other one was quick */
        pp_future_wait(future, -1);
        pp_future_unref(future);
    }
    uint32_t runs = read_word(RUNS + 10);
    for (uint32_t i = 0; i < 20; i++) {
        pp_future *future = submit_u32(pool, count_run, RUNS + 10);
        CHECK_INT(result_u32(future), RUNS + 10);
        pp_future_unref(future);
    }
    CHECK_INT(read_word(RUNS + 10), runs + 20);
    CHECK_INT(kill(stopped, SIGCONT), 0);
    pp_pool_destroy(pool);
    CHECK_INT(read_word(RUNS + 10), runs + 20);
}

/* Waiting threads take the collecting over from the pool's own, which must be there again when they have gone. */
BOTH(calls_that_nobody_waits_for_are_done_also_after_threads_that_gave_up_waiting)
{
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    for (uint32_t i = 0; i < 200; i++) {
        pp_future *slow, *quick;
        CHECK_INT(read_word(BEGUN), i);
        atomic_store(word(GATE), 0);
        occupy(pool, BEGUN, GATE, 1, &slow);
        CHECK_INT(pp_future_wait(slow, 1), -ETIMEDOUT);
        quick = submit_u32(pool, echo, i);
        open_gate(GATE);
        until(pp_future_state(quick) == PP_FINISHED);
        CHECK_INT(result_u32(slow), 0);
        CHECK_INT(result_u32(quick), i);
        pp_future_unref(slow);
        pp_future_unref(quick);
        if (i % 8 == 0)
            test_sleep_ms(10); /* and now and then it has been idle for long */
    }
    pp_pool_destroy(pool);
}

struct coming {
    uint32_t timeout;
    uint32_t times; /* so often, and ends there */
};

/* One element at most, wherever it ends. */
static void end_inside_chunks(pp_start_method method, const struct place *place, struct coming coming)
{
    static uint32_t inputs[CALLS], outputs[CALLS];
    for (uint32_t i = 0; i < CALLS; i++)
        inputs[i] = RUNS + i;
    clear_board();
    memset(outputs, 0, sizeof outputs);
    pp_pool *pool = faulty_pool(method, place->name, coming.times, PP__FAULT_KILL);
    ssize_t failed = pp_map_array(pool, count_run, inputs, CALLS, sizeof *inputs, outputs, sizeof *outputs,
                                  &(pp_map_options){.chunk_size = 50, .timeout = coming.timeout});
    CHECK_INT(CHECK_OK(failed), place->failed);
    for (uint32_t j = 0; j < CALLS; j++) {
        bool good = outputs[j] == inputs[j];
        CHECK_INT(read_word(inputs[j]), good ? 1 : (uint32_t)place->failed_runs);
        failed -= !good;
    }
    CHECK_INT(failed, 0);
    pp_pool_destroy(pool);
    pp__fault_disarm();
}

/* The elements of chunks begin and end like calls: one end of a worker costs one element at most. With a time limit
 * each is begun alone, without one short ones are begun together, and a worker comes to the place less often. */
FORKED_WITHIN(a_worker_that_ends_inside_a_chunk_costs_one_element_at_most, 30)
{
    static const struct place places_in_chunks[] = {{"worker.begin.before", 0, 0},
                                                    {"worker.begin.after", 1, 0},
                                                    {"worker.append.before", 1, 1},
                                                    {"worker.append.after", 0, 0}};
    board_make();
    for (size_t i = 0; i < sizeof places_in_chunks / sizeof *places_in_chunks; i++) {
        end_inside_chunks(method, &places_in_chunks[i], (struct coming){60000, 333});
        end_inside_chunks(method, &places_in_chunks[i], (struct coming){0, 25});
    }
}

/* ------------------------------------------------------------------------ ends and stops of the owner */

static bool is_cancelled(pp_future *future)
{
    int state = pp_future_state(future);
    return state == PP_CANCELLED || state == PP_CANCELLED_AND_NOTIFIED;
}

/* Short calls in quick succession lie in a worker's ring; cancelling them takes them back, as does a worker that is
 * busy for longer. The call that runs can't be taken back, which is certain to be tried. */
static void cancel_some(pp_pool *pool, pp_future **futures)
{
    submit_all(pool, 0, CALLS / 2, futures);
    CHECK_OK(pp_future_wait(futures[CALLS / 2 - 1], -1));
    for (uint32_t i = CALLS / 2; i < CALLS; i += 10) {
        futures[i] = submit_tracked(pool, i, GATE);
        submit_all(pool, i + 1, i + 10, futures);
        for (uint32_t j = i + 1; j < i + 10; j++)
            pp_future_cancel(futures[j]);
        until(read_word(BEGUN) == (i - CALLS / 2) / 10 + 1);
        CHECK_INT(pp_future_cancel(futures[i]), -EBUSY);
        open_gate(GATE);
        CHECK_INT(result_u32(futures[i]), i);
        atomic_store(word(GATE), 0);
    }
}

/* An owner in a process of its own. What it could check it says by its status. */
static _Noreturn void be_owner(pp_start_method method, const char *place, unsigned n, enum pp__fault_action action)
{
    static pp_future *futures[CALLS];
    bool cancels = strcmp(place, "take_back.before") == 0;
    pp_pool *pool = kit_pool(method, cancels ? 1 : 2);
    pp__fault_arm(place, n, action);
    if (cancels)
        cancel_some(pool, futures);
    else
        submit_all(pool, 0, CALLS, futures);
    for (uint32_t i = 0; i < CALLS; i++) {
        bool cancelled = is_cancelled(futures[i]);
        if (!cancelled)
            CHECK_INT(result_u32(futures[i]), i);
        CHECK_INT(read_word(RUNS + i), cancelled ? 0 : 1);
        pp_future_unref(futures[i]);
    }
    pp_pool_destroy(pool);
    _exit(0);
}

/* Waits for the owner and, since orphans come to this process, for all that it has left: none of it stays. */
static int end_of(pid_t owner)
{
    int status = -1, one;
    for (pid_t pid; (pid = waitpid(-1, &one, __WALL)) > 0 || errno == EINTR;)
        if (pid == owner)
            status = one;
    CHECK_INT(errno, ECHILD);
    return status;
}

static void check_owner(pp_start_method method, const char *place, unsigned n, enum pp__fault_action action)
{
    int status;
    clear_board();
    pid_t owner = fork();
    CHECK(owner >= 0);
    if (owner == 0)
        be_owner(method, place, n, action);
    if (action == PP__FAULT_STOP) {
        CHECK_INT(waitpid(owner, &status, WUNTRACED), owner);
        CHECK(WIFSTOPPED(status));
        CHECK_INT(kill(owner, SIGCONT), 0);
    }
    status = end_of(owner);
    if (action == PP__FAULT_KILL)
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    else
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK(pp__fault_hits() >= n);
    for (uint32_t i = 0; i < CALLS; i++)
        CHECK(read_word(RUNS + i) <= 1);
    pp__fault_disarm();
}

static void check_owners(pp_start_method method, const char *place, const unsigned *hits, size_t count)
{
    board_make();
    CHECK_INT(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    for (size_t i = 0; i < count; i++)
        for (int action = PP__FAULT_KILL; action <= PP__FAULT_EXIT; action++)
            check_owner(method, place, hits[i], (enum pp__fault_action)action);
}

BOTH_WITHIN(an_owner_that_ends_or_stops_before_it_publishes_a_call_leaves_nothing_or_goes_on, 60)
{
    check_owners(method, "send.publish.before", (unsigned[]){1, 2, 500, 1000}, 4);
}

BOTH_WITHIN(an_owner_that_ends_or_stops_before_it_takes_a_call_back_leaves_nothing_or_goes_on, 60)
{
    check_owners(method, "take_back.before", (unsigned[]){1, 2, 20}, 3);
}
