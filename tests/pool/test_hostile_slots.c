/* SPDX-License-Identifier: MIT */
/* Workers that lie in their slots of whether a call has begun, or was taken back: of calls that run, and that wait. */
#include "channel_kit.h"
#include "vandal_kit.h"

#include "pool/future.h"
#include "pool/workers.h"

/* ---------------------------------------------------------------------------------------- its own slots, and a hang */

/* FIRST_READY: for an element whose chunk begins with the one before. */
enum lie {
    ALL_ONES,
    ALL_ZEROS,
    TAKEN,
    BEGUN,
    READY_AGAIN,
    FIRST_READY,
    ELEMENT_BEFORE,
    ELEMENT_BEFORE_TAKEN,
    AS_BEFORE,
    LIES = AS_BEFORE
};

/* What is said of this call, or element, by a lie that does not depend on what was there. */
static uint64_t lie_of(enum lie lie, uint64_t id)
{
    const uint64_t words[LIES] = {[ALL_ONES] = UINT64_MAX,
                                  [ALL_ZEROS] = 0,
                                  [TAKEN] = pp__slot_word(id, PP__SLOT_TAKEN),
                                  [BEGUN] = pp__slot_word(id, PP__SLOT_BEGUN),
                                  [READY_AGAIN] = pp__slot_word(id, PP__SLOT_READY),
                                  [FIRST_READY] = pp__slot_word(id - 1, PP__SLOT_READY),
                                  [ELEMENT_BEFORE] = pp__slot_word(id - 1, PP__SLOT_BEGUN),
                                  [ELEMENT_BEFORE_TAKEN] = pp__slot_word(id - 1, PP__SLOT_TAKEN)};
    return words[lie];
}

static uint64_t noted[PP__SLOTS];

/* For lies AS_BEFORE of the calls behind this one. */
static int task_note_slots(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    for (unsigned i = 0; i < PP__SLOTS; i++)
        noted[i] = atomic_load(&result_side()->slots[i]);
    return 0;
}

static void overwrite_slots(enum lie lie)
{
    struct pp__result_side *side = result_side();
    for (unsigned i = 0; i < PP__SLOTS; i++)
        atomic_store(&side->slots[i], lie == AS_BEFORE ? noted[i] : lie_of(lie, atomic_load(&side->slots[i]) >> 2));
}

/* A worker whose next calls get slots in which there was none before, or each was used, and says so. Used one by one:
 * a call that was taken back there would change what the next one finds. */
enum slots { FRESH, USED };

static pp_pool *open_with_slots(pp_start_method method, enum slots slots)
{
    pp_pool *pool = open_workers(1, method);
    warm_up(pool);
    for (unsigned i = 0; slots == USED && i < PP__SLOTS; i++)
        check_innocent(submit_int(pool, task_innocent, 0), 0);
    if (slots == USED)
        expect_end(submit(pool, task_note_slots, NULL, 0), 0);
    return pool;
}

struct liar {
    enum lie lie;
    bool stops;
    int run; /* the word that grows at each begin */
};

/* Lies and never ends, at the first try. */
static int task_lie(pp_task *task, const void *arg, size_t size)
{
    struct liar liar;
    CHECK_INT(size, sizeof liar);
    memcpy(&liar, arg, sizeof liar);
    if (shared()->words[liar.run]++ > 0)
        return task_pid(task, NULL, 0);
    shared()->pid[liar.run] = getpid();
    overwrite_slots(liar.lie);
    if (liar.stops)
        raise(SIGSTOP);
    for (;;)
        pause();
}

static pp_future *submit_liar(pp_pool *pool, struct liar liar)
{
    pp_future *future;
    const pp_call call = {.function = task_lie, .arg = &liar, .size = sizeof liar, .timeout = 100 * harness_scale()};
    CHECK_OK(pp_submit_call(pool, &call, &future));
    return future;
}

static void lie_and_hang_in(pp_start_method method, enum lie lie, enum slots slots)
{
    int run = 1 + (int)slots;
    pp_pool *pool = open_with_slots(method, slots);
    pp_future *bad = submit_liar(pool, (struct liar){.lie = lie, .run = run});
    const pp_error *error;
    CHECK_OK(pp_future_wait(bad, 5000 * (int)harness_scale()));
    CHECK_OK(pp_future_error(bad, 0, &error));
    CHECK(error && (error->kind == PP_ERROR_TIMEOUT || error->kind == PP_ERROR_PROTOCOL));
    CHECK_INT(error->pid, shared()->pid[run]);
    CHECK(!test_process_alive(shared()->pid[run]));
    pp_future_unref(bad);
    warm_up(pool);
    CHECK_INT(shared()->words[run], 1);
    pp_pool_destroy(pool);
}

static void lie_and_hang(pp_start_method method, enum lie lie)
{
    for (enum slots slots = FRESH; slots <= USED; slots++)
        lie_and_hang_in(method, lie, slots);
}

BOTH(a_worker_that_fills_its_slots_with_ones_and_hangs_is_killed_at_the_calls_timeout)
{
    lie_and_hang(method, ALL_ONES);
}

BOTH(a_worker_that_clears_its_slots_and_hangs_is_killed_at_the_calls_timeout)
{
    lie_and_hang(method, ALL_ZEROS);
}

BOTH(a_worker_that_says_its_call_was_taken_back_and_hangs_is_killed_at_the_calls_timeout)
{
    lie_and_hang(method, TAKEN);
}

/* In a slot that was used the owner does not say so: that it has not begun looks otherwise. */
BOTH(a_worker_that_says_its_call_was_just_given_to_it_and_hangs_is_killed_at_the_calls_timeout)
{
    lie_and_hang_in(method, READY_AGAIN, USED);
}

/* What neither side can have written there. It hangs, and its call has all the time that it wants. */
BOTH(a_running_call_whose_slot_is_of_another_costs_its_worker)
{
    static const enum lie lies[] = {ALL_ONES, ALL_ZEROS, ELEMENT_BEFORE, ELEMENT_BEFORE_TAKEN};
    for (int i = 0; i < 4; i++) {
        for (enum slots slots = FRESH; slots <= USED; slots++) {
            int run = 1 + 2 * i + (int)slots;
            const struct liar liar = {.lie = lies[i], .run = run};
            pp_pool *pool = open_with_slots(method, slots);
            pp_future *bad = submit(pool, task_lie, &liar, sizeof liar);
            const pp_error *error = error_of(bad, PP_ERROR_PROTOCOL);
            CHECK_HAS(error->message, "a slot of no call that it has");
            CHECK_INT(error->pid, shared()->pid[run]);
            pp_future_unref(bad);
            warm_up(pool);
            CHECK_INT(shared()->words[run], 1);
            pp_pool_destroy(pool);
        }
    }
}

/* Lies of itself alone, and goes on. */
static int task_lie_and_return(pp_task *task, const void *arg, size_t size)
{
    uint64_t id = pp_task_id(task);
    atomic_store(&result_side()->slots[slot_of(id)], lie_of((enum lie)read_int(arg), id));
    return task_pid(task, NULL, size);
}

/* Who says how a call ended had to begin it. */
BOTH(a_result_counts_whatever_its_slot_says)
{
    for (enum slots slots = FRESH; slots <= USED; slots++) {
        pp_pool *pool = open_with_slots(method, slots);
        pid_t pid = pid_of(pool);
        for (int lie = ALL_ONES; lie < LIES; lie++)
            CHECK_INT(take_int(submit_int(pool, task_lie_and_return, lie)), pid);
        warm_up(pool);
        CHECK_INT(pid_of(pool), pid);
        pp_pool_destroy(pool);
    }
}

/* Only those with a run of their own lie. */
static int task_may_lie(pp_task *task, const void *arg, size_t size)
{
    struct liar liar;
    CHECK_INT(size, sizeof liar);
    memcpy(&liar, arg, sizeof liar);
    return liar.run ? task_lie(task, arg, size) : task_pid(task, NULL, 0);
}

enum { CHUNK = 6, LYING = 1, MOST_RUNS = 8 };

/* A chunk, one element of which lies; for a pool whose ids are far from 0. */
static pp_map *open_lying_chunk(pp_pool *pool, enum lie lie, int run, unsigned timeout)
{
    static struct liar liars[MOST_RUNS][CHUNK];
    const pp_map_options options = {.chunk_size = CHUNK, .timeout = timeout * harness_scale()};
    pp_map *map;
    CHECK(run <= MOST_RUNS);
    liars[run - 1][LYING] = (struct liar){.lie = lie, .run = run};
    CHECK_OK(pp_map_open_array(pool, task_may_lie, liars[run - 1], CHUNK, sizeof **liars, &options, &map));
    return map;
}

static void lie_in_a_chunk(pp_start_method method, enum lie lie)
{
    pp_map_result result;
    for (enum slots slots = FRESH; slots <= USED; slots++) {
        int run = 1 + (int)slots;
        pp_pool *pool = open_with_slots(method, slots);
        pp_map *map = open_lying_chunk(pool, lie, run, 300);
        for (int i = 0; i < CHUNK; i++) {
            CHECK_INT(pp_map_next(map, 5000 * (int)harness_scale(), &result), 1);
            if (i == LYING)
                CHECK(result.code == -ETIME || result.code == -EPROTO);
            else
                CHECK_INT(result.code, 0);
        }
        pp_map_close(map);
        CHECK(!test_process_alive(shared()->pid[run]));
        CHECK_INT(shared()->words[run], 1);
        pp_pool_destroy(pool);
    }
}

BOTH(a_worker_that_fills_its_slots_with_ones_in_a_chunk_and_hangs_is_killed_at_the_elements_timeout)
{
    lie_in_a_chunk(method, ALL_ONES);
}

BOTH(a_worker_that_clears_its_slots_in_a_chunk_and_hangs_is_killed_at_the_elements_timeout)
{
    lie_in_a_chunk(method, ALL_ZEROS);
}

BOTH(a_worker_that_says_the_element_before_was_taken_back_and_hangs_is_killed_at_the_elements_timeout)
{
    lie_in_a_chunk(method, ELEMENT_BEFORE_TAKEN);
}

BOTH(a_worker_that_says_its_element_was_taken_back_and_hangs_is_killed_at_the_elements_timeout)
{
    lie_in_a_chunk(method, TAKEN);
}

BOTH(a_worker_that_says_its_element_was_just_given_to_it_and_hangs_is_killed_at_the_elements_timeout)
{
    lie_in_a_chunk(method, READY_AGAIN);
}

BOTH(a_running_element_whose_slot_is_of_another_costs_its_worker)
{
    pp_map_result result;
    for (enum lie lie = ALL_ONES; lie <= ALL_ZEROS; lie++) {
        for (enum slots slots = FRESH; slots <= USED; slots++) {
            int run = 1 + 2 * (int)lie + (int)slots;
            pp_pool *pool = open_with_slots(method, slots);
            pp_map *map = open_lying_chunk(pool, lie, run, 0);
            for (int i = 0; i < CHUNK; i++) {
                CHECK_INT(pp_map_next(map, 5000 * (int)harness_scale(), &result), 1);
                CHECK_INT(result.code, i == LYING ? -EPROTO : 0);
                if (i == LYING)
                    CHECK_HAS(result.error->message, "a slot of no call that it has");
            }
            pp_map_close(map);
            CHECK_INT(shared()->words[run], 1);
            pp_pool_destroy(pool);
        }
    }
}

/* It looks as if it had never begun: so nobody can tell it from one that is stopped, and it has the time that those
 * have. */
BOTH_WITHIN(a_worker_that_says_it_has_not_begun_and_never_goes_on_loses_call_and_place, 20)
{
    pp_pool *pools[4];
    pp_future *futures[4];
    for (int i = 0; i < 4; i++) {
        enum slots slots = i / 2 ? USED : FRESH;
        pools[i] = open_with_slots(method, slots);
        futures[i] = submit_liar(
            pools[i],
            (struct liar){.lie = slots == FRESH ? READY_AGAIN : AS_BEFORE, .stops = i % 2 == 1, .run = 1 + i});
    }
    for (int i = 0; i < 4; i++) {
        CHECK_OK(pp_future_wait(futures[i], 10000 * (int)harness_scale()));
        CHECK(take_int(futures[i]) != shared()->pid[1 + i]);
        CHECK(!test_process_alive(shared()->pid[1 + i]));
        CHECK_INT(shared()->words[1 + i], 2);
        pp_pool_destroy(pools[i]);
    }
}

/* The same in a chunk, of which it says that it has not begun it, or that it is still at the element before. */
BOTH_WITHIN(a_worker_that_says_it_has_not_begun_an_element_and_never_goes_on_loses_chunk_and_place, 20)
{
    static const struct {
        enum lie lie;
        enum slots slots;
    } cases[] = {{FIRST_READY, FRESH}, {ELEMENT_BEFORE, FRESH}, {AS_BEFORE, USED}, {ELEMENT_BEFORE, USED}};
    pp_map_result result;
    pp_pool *pools[4];
    pp_map *maps[4];
    for (int i = 0; i < 4; i++) {
        pools[i] = open_with_slots(method, cases[i].slots);
        maps[i] = open_lying_chunk(pools[i], cases[i].lie, 1 + i, 300);
        CHECK_INT(pp_map_next(maps[i], -1, &result), 1); /* and what is behind is sent */
    }
    for (int i = 0; i < 4; i++) {
        for (int k = 1; k < CHUNK; k++) {
            CHECK_INT(pp_map_next(maps[i], 10000 * (int)harness_scale(), &result), 1);
            CHECK_INT(result.code, 0);
        }
        CHECK(!test_process_alive(shared()->pid[1 + i]));
        CHECK_INT(shared()->words[1 + i], 2);
        pp_map_close(maps[i]);
        pp_pool_destroy(pools[i]);
    }
}

/* ------------------------------------------------------------------------------------ slots of calls that wait */

enum { WAITING = 5, RUNNING_GATE = 2 };

/* Says on the board how often it ran. */
static int task_tally(pp_task *task, const void *arg, size_t size)
{
    (void)size;
    shared()->number[read_int(arg)]++;
    return task_pid(task, NULL, 0);
}

/* Calls that the only worker has behind one that waits at the gate, under the pool's lock from here on. Now and then it
 * has been waiting for too long for others to be sent. */
static struct pp__worker *queue_and_lock(pp_pool *pool, int count, pp_future **running, pp_future **waiting)
{
    for (;;) {
        shared()->gates[RUNNING_GATE] = 0;
        pp__pool_lock(pool);
        pool->mean_run = 250000; /* so many fit */
        pp__pool_unlock(pool);
        *running = submit_int(pool, task_gate, RUNNING_GATE);
        for (int i = 0; i < count; i++)
            waiting[i] = submit_int(pool, task_tally, i);
        pp__pool_lock(pool);
        struct pp__worker *worker = pool->workers[0];
        if (worker && worker->count == (uint32_t)count + 1)
            return worker;
        pp__pool_unlock(pool);
        gate_open(RUNNING_GATE);
        CHECK(take_int(*running) > 0);
        for (int i = 0; i < count; i++)
            CHECK(take_int(waiting[i]) > 0);
        memset(shared()->number, 0, sizeof shared()->number);
    }
}

static void overwrite_waiting(struct pp__worker *worker, enum lie lie)
{
    for (struct pp__link *link = worker->items.next->next; link != &worker->items; link = link->next) {
        const struct pp__item *item = pp__container(link, struct pp__item, link);
        atomic_store(&worker->result_side->slots[item->slot], lie_of(lie, item->id));
    }
}

static void lie_of_waiting(pp_pool *pool, enum lie lie)
{
    pp_future *running, *waiting[WAITING];
    struct pp__worker *worker = queue_and_lock(pool, WAITING, &running, waiting);
    struct pp__item *last = pp__container(worker->items.previous, struct pp__item, link);
    uint64_t end = worker->slots[last->slot].end;
    overwrite_waiting(worker, lie);
    for (int i = 0; i < WAITING; i++)
        CHECK_INT(pp__future_cancel(waiting[i]), -EBUSY); /* it may have begun */
    gate_open(RUNNING_GATE);
    wait_until(pp__ring_passed(&worker->calls, end), 10); /* before the timers look */
    pp__pool_unlock(pool);
    pid_t pid = take_int(running);
    for (int i = 0; i < WAITING; i++) {
        CHECK_INT(take_int(waiting[i]), pid);
        CHECK_INT(shared()->number[i], 1);
        shared()->number[i] = 0;
    }
    CHECK_INT(pid_of(pool), pid);
}

/* They are its worker's, which is honest from then on. */
BOTH(calls_whose_slots_were_overwritten_before_they_began_run_all_the_same)
{
    static const enum lie lies[] = {ALL_ONES, ALL_ZEROS, BEGUN, READY_AGAIN, ELEMENT_BEFORE};
    for (enum slots slots = FRESH; slots <= USED; slots++) {
        pp_pool *pool = open_with_slots(method, slots);
        for (size_t i = 0; i < sizeof lies / sizeof *lies; i++)
            if (slots == USED || lies[i] != READY_AGAIN) /* which would be no lie */
                lie_of_waiting(pool, lies[i]);
        pp_pool_destroy(pool);
    }
}

/* Nothing else keeps a worker from beginning. */
BOTH(a_call_that_only_its_worker_says_was_taken_back_costs_the_worker)
{
    for (int i = 0; i < 4; i++) {
        pp_future *running, *waiting;
        pp_pool *pool = open_with_slots(method, i / 2 == 0 ? FRESH : USED);
        struct pp__worker *worker = queue_and_lock(pool, 1, &running, &waiting);
        overwrite_waiting(worker, i % 2 == 0 ? TAKEN : ELEMENT_BEFORE_TAKEN);
        pp__pool_unlock(pool);
        gate_open(RUNNING_GATE);
        pid_t pid = take_int(running);
        const pp_error *error = error_of(waiting, PP_ERROR_PROTOCOL);
        CHECK_HAS(error->message, "it passed over a call");
        CHECK_INT(error->pid, pid);
        CHECK_INT(shared()->number[0], 0);
        pp_future_unref(waiting);
        CHECK(pid_of(pool) != pid);
        pp_pool_destroy(pool);
    }
}

/* A call that its worker has, which is stopped; under the pool's lock from here on. */
static struct pp__worker *stop_and_lock(pp_pool *pool, pp_future **waiting)
{
    pid_t pid = pid_of(pool);
    CHECK_INT(kill(pid, SIGSTOP), 0);
    until(test_process_state(pid, NULL, NULL) == 'T');
    *waiting = submit_int(pool, task_tally, 0);
    pp__pool_lock(pool);
    struct pp__worker *worker = pool->workers[0];
    CHECK_INT(worker->pid, pid);
    CHECK_INT(worker->count, 1);
    return worker;
}

/* Nobody can tell then that it has not begun. */
BOTH(a_call_whose_slot_was_overwritten_and_that_never_begins_costs_the_worker)
{
    for (enum slots slots = FRESH; slots <= USED; slots++) {
        pp_future *waiting;
        pp_pool *pool = open_with_slots(method, slots);
        struct pp__worker *worker = stop_and_lock(pool, &waiting);
        pid_t pid = worker->pid;
        const struct pp__item *item = pp__container(worker->items.next, struct pp__item, link);
        atomic_store(&worker->result_side->slots[item->slot], lie_of(ALL_ONES, item->id));
        pp__pool_unlock(pool);
        const pp_error *error = error_of(waiting, PP_ERROR_PROTOCOL);
        CHECK_HAS(error->message, "a slot of no call that it has");
        CHECK_INT(error->pid, pid);
        CHECK_INT(shared()->number[0], 0);
        pp_future_unref(waiting);
        CHECK(pid_of(pool) != pid);
        pp_pool_destroy(pool);
    }
}

/* For longer than any lie about it is believed. */
BOTH(a_call_that_does_not_begin_for_a_while_costs_nothing)
{
    for (enum slots slots = FRESH; slots <= USED; slots++) {
        pp_future *waiting;
        pp_pool *pool = open_with_slots(method, slots);
        pid_t pid = stop_and_lock(pool, &waiting)->pid;
        pp__pool_unlock(pool);
        CHECK_INT(pp_future_wait(waiting, 300), -ETIMEDOUT);
        CHECK_INT(pp_future_state(waiting), PP_PENDING);
        CHECK_INT(kill(pid, SIGCONT), 0);
        CHECK_INT(take_int(waiting), pid);
        pp_pool_destroy(pool);
    }
}
