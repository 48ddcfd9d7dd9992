/* SPDX-License-Identifier: MIT */
/*
 * Large payloads travel in buffers that are used again: what that must not change (contents, whoever holds what
 * meanwhile, whoever dies), who has which of them mapped, and how many there are.
 */
#include "payload_kit.h"

#include "pool/argument.h"
#include "pool/pool.h"
#include "pool/shelf.h"

enum { BEGUN, GATE, SEEN, PIDS, FIRST_RUN = 1024 };

/* The most that owner and one worker share: eight for each direction. */
enum { MOST_BUFFERS = 16 };

/* --------------------------------------------------------------------------------------- who maps what */

#define MOST_INODES 256

struct mappings {
    int count;
    unsigned long inodes[MOST_INODES];
};

/* The buffers that a process has mapped. */
static struct mappings mappings_of(pid_t pid)
{
    struct mappings found = {0};
    char path[64], line[512];
    snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
    FILE *maps = fopen(path, "re");
    CHECK(maps != NULL);
    while (fgets(line, sizeof line, maps)) {
        unsigned long inode;
        if (!strstr(line, "/memfd:procpool-buffer") || sscanf(line, "%*s %*s %*s %*s %lu", &inode) != 1)
            continue;
        CHECK(found.count < MOST_INODES);
        found.inodes[found.count++] = inode;
    }
    fclose(maps);
    return found;
}

static int own_mappings(void)
{
    return mappings_of(getpid()).count;
}

static pid_t pid_of(pp_pool *pool)
{
    pid_t pids[2];
    pp_future *future = submit(pool, who, NULL, 0);
    CHECK_OK(pp_future_result(future, -1, pids, sizeof pids, NULL));
    pp_future_unref(future);
    return pids[0];
}

/* ------------------------------------------------------------------------------------------- contents */

static size_t random_size(uint64_t *random, size_t most)
{
    *random = *random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    size_t size = (size_t)(*random >> 33) % most;
    return *random >> 62 ? size / 16 : size;
}

/* Reads what is longer than what was there before, and what is shorter. */
BOTH_WITHIN(sizes_that_grow_and_shrink_come_back_as_they_were_sent, 60)
{
    uint64_t random = 1;
    pp_pool *pool = kit_pool(method, 2);
    for (size_t size = 16 * KIB; size < 8 * MIB; size = size * 3 / 2)
        check_result(transmit(pool, reflect, size), size + 1, size);
    for (size_t size = 8 * MIB; size > 16 * KIB; size = size * 2 / 3)
        check_result(transmit(pool, reflect_copy, size), size + 1, size);
    for (int i = 0; i < 300; i++) {
        size_t size = random_size(&random, 2 * MIB);
        check_result(transmit(pool, i % 2 ? reflect : reflect_copy, size), size + 1, size);
    }
    pp_pool_destroy(pool);
}

BOTH_WITHIN(many_large_calls_in_flight_keep_their_own, 60)
{
    enum { COUNT = 100, ROUNDS = 4 };
    pp_future *futures[COUNT];
    size_t sizes[COUNT];
    uint64_t random = 2;
    pp_pool *pool = kit_pool(method, 2);
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < COUNT; i++) {
            sizes[i] = random_size(&random, round % 2 ? 2 * MIB : 200 * KIB);
            futures[i] = transmit(pool, reflect, sizes[i]);
        }
        for (int i = COUNT - 1; i >= 0; i--)
            check_result(futures[i], sizes[i] + 1, sizes[i]);
    }
    pp_pool_destroy(pool);
}

/* More are held than there are buffers; those that are given back in between are used again. */
BOTH_WITHIN(results_that_are_held_stay_as_they_are_while_others_travel, 60)
{
    enum { HELD = 30 };
    pp_future *held[HELD];
    const void *data[HELD];
    size_t size;
    pp_pool *pool = kit_pool(method, 1);
    for (size_t i = 0; i < HELD; i++) {
        held[i] = transmit(pool, reflect, MIB + i);
        CHECK_OK(pp_future_view(held[i], -1, &data[i], &size));
        CHECK_INT(size, MIB + i);
        check_result(transmit(pool, reflect, 700 * KIB + i), 700 * KIB + i + 1, 700 * KIB + i);
    }
    for (size_t i = 0; i < HELD; i += 3) {
        check_result(held[i], MIB + i + 1, MIB + i);
        held[i] = NULL;
    }
    for (size_t i = 0; i < 50; i++)
        check_result(transmit(pool, reflect, MIB / 2 + i * 9000), MIB / 2 + i * 9000 + 1, MIB / 2 + i * 9000);
    for (size_t i = 0; i < HELD; i++)
        if (held[i])
            check_pattern(data[i], MIB + i + 1, MIB + i);
    pp_pool_destroy(pool);
    for (size_t i = 0; i < HELD; i++)
        if (held[i])
            check_result(held[i], MIB + i + 1, MIB + i);
    CHECK_INT(own_mappings(), 0);
}

/* Larger than all buffers of a worker are without need; only the ends are looked at. */
#define VERY_LARGE (PP__SHELF_LEAST + 3)

/* What each shelf of a pool of one worker may have, if that is enough for such payloads. */
static uint64_t share_of_one(void)
{
    _Atomic uint64_t most = 0;
    pp__shelf_widen(&most, VERY_LARGE, 1);
    if (most < 2 * VERY_LARGE)
        LEFT_OUT("too little memory here");
    return most;
}

static int answer_with_end(pp_task *task, const void *arg, size_t size)
{
    CHECK_INT(size, VERY_LARGE);
    return pp_task_return(task, (const char *)arg + size - 1, 1);
}

static int answer_at_length(pp_task *task, const void *arg, size_t size)
{
    CHECK_INT(size, 1);
    char *result = pp_task_reserve(task, VERY_LARGE);
    CHECK(result != NULL);
    result[0] = 'x';
    result[VERY_LARGE - 1] = *(const char *)arg;
    return 0;
}

static void check_end(pp_future *future, size_t size, char end)
{
    const char *back;
    size_t back_size;
    CHECK_OK(pp_future_view(future, -1, (const void **)&back, &back_size));
    CHECK_INT(back_size, size);
    CHECK_INT(back[size - 1], end);
    pp_future_unref(future);
}

/* One buffer, on both sides, once it is known that such large ones come, until it is not used any more. */
static void check_one_buffer(pp_pool *pool, pid_t worker, pp_function *function, char *data, size_t size,
                             size_t back_size)
{
    do {
        data[size - 1]++;
        check_end(submit(pool, function, data, size), back_size, data[size - 1]);
    } while (own_mappings() != 1 || mappings_of(worker).count != 1); /* where all is slow, it is given up before */
    until(own_mappings() == 0 && mappings_of(worker).count == 0);
}

BOTH_WITHIN(what_is_very_large_has_buffers_too_where_there_is_memory_for_it, 60)
{
    share_of_one();
    char *data = calloc(1, VERY_LARGE);
    CHECK(data != NULL);
    for (int direction = 0; direction < 2; direction++) {
        pp_pool *pool = kit_pool(method, 1);
        pid_t worker = pid_of(pool);
        if (direction == 0)
            check_one_buffer(pool, worker, answer_with_end, data, VERY_LARGE, 1);
        else
            check_one_buffer(pool, worker, answer_at_length, data, 1, VERY_LARGE);
        pp_pool_destroy(pool);
    }
    free(data);
}

/* Else it could be copied under the lock, when its home has got another call. */
BOTH(a_very_large_argument_is_lent_to_a_worker_that_has_none_and_nothing_to_do)
{
    struct pp__loan first, second;
    pp_future *busy;
    board_make();
    share_of_one();
    pp_pool *pool = kit_pool(method, 1);
    pid_of(pool);
    CHECK(pp__loan_open(pool, VERY_LARGE, &first));
    CHECK(!pp__loan_open(pool, VERY_LARGE, &second));
    pp__pool_lock(pool);
    CHECK(pp__loan_stands(pool, &first));
    pp__pool_unlock(pool);
    occupy(pool, BEGUN, GATE, 1, &busy);
    pp__pool_lock(pool);
    CHECK(!pp__loan_stands(pool, &first));
    pp__loan_close(pool, &first);
    pp__pool_unlock(pool);
    open_gate(GATE);
    pp_future_unref(busy);
    pp_pool_destroy(pool);
}

BOTH_WITHIN(a_pool_that_is_resized_shares_its_memory_anew, 60)
{
    uint64_t most = share_of_one();
    char *data = calloc(1, VERY_LARGE);
    CHECK(data != NULL);
    pp_pool *pool = kit_pool(method, 1);
    check_end(submit(pool, answer_with_end, data, VERY_LARGE), 1, 0);
    CHECK_INT(pool->page->shelf_most, most);
    CHECK_OK(pp_pool_resize(pool, 2));
    check_end(submit(pool, answer_with_end, data, VERY_LARGE), 1, 0);
    CHECK(pool->page->shelf_most < most);
    pp_pool_destroy(pool);
    free(data);
}

BOTH(a_result_that_was_taken_is_the_callers_alone)
{
    enum { COUNT = 12 };
    void *taken[COUNT];
    size_t size;
    pp_pool *pool = kit_pool(method, 1);
    for (size_t i = 0; i < COUNT; i++) {
        pp_future *future = ask(pool, MIB + i);
        CHECK_OK(pp_future_take(future, -1, &taken[i], &size));
        pp_future_unref(future);
        check_pattern(taken[i], MIB + i, MIB + i);
        fill(taken[i], i + 100, MIB + i);
        check_result(ask(pool, MIB + 5), MIB + 5, MIB + 5);
    }
    pp_pool_destroy(pool);
    for (size_t i = 0; i < COUNT; i++) {
        check_pattern(taken[i], i + 100, MIB + i);
        pp_free(taken[i]);
    }
    CHECK_INT(own_mappings(), 0);
}

/* It may write to its copy of what was taken, and free it; the parent's stays. */
BOTH(a_forked_child_has_what_was_taken_before_and_none_of_the_buffers)
{
    void *taken;
    size_t size;
    int status;
    pp_pool *pool = kit_pool(method, 1);
    for (int i = 0; i < 3; i++)
        check_result(transmit(pool, reflect, MIB), MIB + 1, MIB);
    pp_future *future = ask(pool, MIB);
    CHECK_OK(pp_future_take(future, -1, &taken, &size));
    CHECK(own_mappings() >= 2);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        if (own_mappings() != 1 || !is_pattern(taken, MIB, MIB))
            _exit(1);
        fill(taken, 1, MIB);
        pp_free(taken);
        _exit(own_mappings() == 0 ? 0 : 2);
    }
    CHECK_INT(waitpid(child, &status, 0), child);
    CHECK_INT(status, 0);
    check_pattern(taken, MIB, MIB);
    pp_free(taken);
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

struct giver {
    pp_pool *pool;
    size_t seed;
};

static void *give_and_take(void *argument)
{
    struct giver *giver = argument;
    uint64_t random = giver->seed;
    pp_future *before = NULL;
    size_t size_before = 0;
    for (int i = 0; i < 60; i++) {
        size_t size = random_size(&random, MIB);
        pp_future *future = transmit(giver->pool, reflect, size);
        if (before)
            check_result(before, size_before + 1, size_before);
        before = future;
        size_before = size;
    }
    check_result(before, size_before + 1, size_before);
    return NULL;
}

BOTH_WITHIN(threads_share_the_buffers_of_a_pool, 60)
{
    pthread_t threads[4];
    struct giver givers[4];
    pp_pool *pool = kit_pool(method, 2);
    for (size_t i = 0; i < 4; i++) {
        givers[i] = (struct giver){.pool = pool, .seed = i};
        threads[i] = start_thread(give_and_take, &givers[i]);
    }
    for (size_t i = 0; i < 4; i++)
        join_thread(threads[i]);
    pp_pool_destroy(pool);
}

/* ------------------------------------------------------------------------------------------ how many */

BOTH_WITHIN(buffers_are_few_whatever_the_sizes, 60)
{
    uint64_t random = 3;
    pp_pool *pool = kit_pool(method, 1);
    pid_t worker = pid_of(pool);
    int fds = count_fds();
    for (int i = 0; i < 300; i++) {
        size_t size = random_size(&random, 3 * MIB);
        check_result(transmit(pool, reflect, size), size + 1, size);
        if (i % 30)
            continue;
        CHECK(own_mappings() <= MOST_BUFFERS);
        CHECK(mappings_of(worker).count <= MOST_BUFFERS);
        CHECK_INT(count_fds(), fds);
    }
    CHECK_INT(pid_of(pool), worker);
    pp_pool_destroy(pool);
    CHECK_INT(own_mappings(), 0);
}

BOTH(calls_of_one_size_one_by_one_need_one_buffer_each_way)
{
    pp_pool *pool = kit_pool(method, 1);
    pid_t worker = pid_of(pool);
    for (size_t i = 0; i < 50; i++) {
        check_result(transmit(pool, reflect, MIB + i), MIB + i + 1, MIB + i);
        CHECK(own_mappings() <= 2 && mappings_of(worker).count <= 2);
    }
    while (own_mappings() != 2 || mappings_of(worker).count != 2) /* where all is slow, one is given up before */
        check_result(transmit(pool, reflect, MIB), MIB + 1, MIB);
    pp_pool_destroy(pool);
}

/* On both sides, without any call that would make anybody look. */
BOTH_WITHIN(buffers_that_nobody_uses_are_given_up, 30)
{
    pp_pool *pool = kit_pool(method, 1);
    pid_t worker = pid_of(pool);
    for (int round = 0; round < 2; round++) {
        do
            for (size_t i = 0; i < 5; i++)
                check_result(transmit(pool, reflect, i * MIB + 100), i * MIB + 101, i * MIB + 100);
        while (own_mappings() < 2 || mappings_of(worker).count < 2); /* where all is slow, some are given up before */
        until(own_mappings() == 0 && mappings_of(worker).count == 0);
    }
    check_result(transmit(pool, reflect, MIB), MIB + 1, MIB);
    CHECK_INT(pid_of(pool), worker);
    pp_pool_destroy(pool);
}

static int return_no_descriptor(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    return pp_task_return_fd(task, -1);
}

/* Its owner can't tell whether the worker has the argument's buffer. */
BOTH_WITHIN(a_call_whose_result_can_not_travel_leaves_no_buffer_in_its_worker, 30)
{
    char *data = calloc(1, MIB);
    pp_pool *pool = kit_pool(method, 1);
    pid_t worker = pid_of(pool);
    expect_end(submit(pool, return_no_descriptor, data, MIB), -EBADMSG);
    until(own_mappings() == 0 && mappings_of(worker).count == 0);
    CHECK_INT(pid_of(pool), worker);
    free(data);
    pp_pool_destroy(pool);
}

/* What is shown stays for as long as it is held, and is given up then. */
BOTH_WITHIN(a_buffer_that_is_held_is_not_given_up, 30)
{
    pp_pool *pool = kit_pool(method, 1);
    pid_t worker = pid_of(pool);
    pp_future *held = ask(pool, MIB);
    CHECK_OK(pp_future_wait(held, -1));
    check_result(ask(pool, 2 * MIB), 2 * MIB, 2 * MIB);
    until(own_mappings() == 1 && mappings_of(worker).count == 1);
    test_sleep_ms(2500); /* two looks more */
    check_result(held, MIB, MIB);
    until(own_mappings() == 0 && mappings_of(worker).count == 0);
    check_result(ask(pool, MIB), MIB, MIB);
    pp_pool_destroy(pool);
}

/* --------------------------------------------------------------------------------------- who sees what */

static int hold_and_reflect(pp_task *task, const void *arg, size_t size)
{
    add(BEGUN);
    wait_at(GATE);
    return reflect(task, arg, size);
}

static int show_pid(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    atomic_store(word(PIDS + atomic_fetch_add(word(SEEN), 1)), (uint32_t)getpid());
    wait_at(GATE);
    return 0;
}

/* All of the pool's workers, each of which shows its process once. */
static void pids_of(pp_pool *pool, uint32_t workers, pid_t *pids)
{
    pp_future *futures[8];
    atomic_store(word(GATE), 0);
    atomic_store(word(SEEN), 0);
    for (uint32_t i = 0; i < workers; i++)
        futures[i] = submit(pool, show_pid, NULL, 0);
    until(read_word(SEEN) == workers);
    open_gate(GATE);
    for (uint32_t i = 0; i < workers; i++) {
        expect_end(futures[i], 0);
        pids[i] = (pid_t)read_word(PIDS + i);
    }
}

static bool have_one_in_common(const struct mappings *a, const struct mappings *b)
{
    for (int i = 0; i < a->count; i++)
        for (int k = 0; k < b->count; k++)
            if (a->inodes[i] == b->inodes[k])
                return true;
    return false;
}

/* All are busy, so that what is submitted meanwhile goes to whom comes first; those that are idle get theirs at once.
 */
BOTH_WITHIN(no_two_workers_have_a_buffer_in_common, 60)
{
    enum { WORKERS = 3, COUNT = 20 };
    uint64_t random = 4;
    pid_t pids[WORKERS];
    struct mappings maps[WORKERS];
    board_make();
    pp_pool *pool = kit_pool(method, WORKERS);
    pids_of(pool, WORKERS, pids);
    for (uint32_t round = 0; round < 6; round++) {
        pp_future *holding[WORKERS], *others[COUNT];
        size_t sizes[COUNT];
        uint32_t begun = read_word(BEGUN);
        atomic_store(word(GATE), 0);
        for (size_t i = 0; i < WORKERS; i++)
            holding[i] = transmit(pool, hold_and_reflect, MIB + i);
        until(read_word(BEGUN) == begun + WORKERS);
        for (int i = 0; i < COUNT; i++) {
            sizes[i] = random_size(&random, 2 * MIB);
            others[i] = transmit(pool, reflect, sizes[i]);
        }
        open_gate(GATE);
        for (size_t i = 0; i < WORKERS; i++)
            check_result(holding[i], MIB + i + 1, MIB + i);
        for (int i = 0; i < COUNT; i++)
            check_result(others[i], sizes[i] + 1, sizes[i]);
    }
    for (int i = 0; i < WORKERS; i++) {
        maps[i] = mappings_of(pids[i]);
        CHECK(maps[i].count > 0);
    }
    for (int i = 0; i < WORKERS; i++)
        for (int k = 0; k < i; k++)
            CHECK(!have_one_in_common(&maps[i], &maps[k]));
    pp_pool_destroy(pool);
}

/* ----------------------------------------------------------------------------------------------- deaths */

/* The first word says which word of the board counts the run; the first run dies when it has read all and written a
 * half. */
static int die_at_first(pp_task *task, const void *arg, size_t size)
{
    uint64_t run;
    memcpy(&run, arg, sizeof run);
    check_pattern((const char *)arg + 16, run, size - 16);
    char *result = pp_task_reserve(task, size);
    CHECK(result != NULL);
    memset(result, 'x', size / 2);
    add((uint32_t)run);
    if (read_word((uint32_t)run) == 1)
        raise(SIGKILL);
    memcpy(result, arg, size);
    return 0;
}

static pp_future *transmit_run(pp_pool *pool, pp_function *function, uint32_t run, size_t size, uint32_t retries)
{
    pp_future *future;
    uint64_t *data = malloc(size + 8);
    CHECK(data != NULL);
    data[0] = run;
    fill(data + 2, run, size - 16);
    const pp_call call = {.function = function, .arg = data, .size = size, .retries = retries};
    CHECK_OK(pp_submit_call(pool, &call, &future));
    free(data);
    return future;
}

static void check_run(pp_future *future, uint32_t run, size_t size)
{
    const void *data;
    size_t have;
    CHECK_OK(pp_future_view(future, -1, &data, &have));
    CHECK_INT(have, size);
    CHECK(is_pattern((const char *)data + 16, run, size - 16));
    pp_future_unref(future);
}

/* Its buffers are the dead worker's; what is tried again is copied out of them before. */
BOTH_WITHIN(a_worker_that_dies_in_the_middle_costs_nothing_but_itself, 60)
{
    enum { COUNT = 30 };
    pp_future *futures[COUNT];
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    check_result(transmit(pool, reflect, MIB), MIB + 1, MIB);
    int fds = count_fds();
    for (uint32_t i = 0; i < COUNT; i++) {
        futures[i] = transmit_run(pool, die_at_first, FIRST_RUN + i, (i % 7 + 1) * 300 * KIB, 1);
        if (i % 2)
            check_run(futures[i], FIRST_RUN + i, (i % 7 + 1) * 300 * KIB);
    }
    for (uint32_t i = 0; i < COUNT; i += 2)
        check_run(futures[i], FIRST_RUN + i, (i % 7 + 1) * 300 * KIB);
    for (uint32_t i = 0; i < COUNT; i++)
        CHECK_INT(read_word(FIRST_RUN + i), 2);
    check_result(transmit(pool, reflect, MIB), MIB + 1, MIB);
    CHECK(count_fds() <= fds + 4); /* the second worker may not have been there before, and the standby was not */
    CHECK(own_mappings() <= 2 * MOST_BUFFERS);
    pp_pool_destroy(pool);
    CHECK_INT(own_mappings(), 0);
}

BOTH(a_call_that_dies_with_its_argument_leaves_no_buffer)
{
    pp_pool *pool = kit_pool(method, 1);
    for (size_t i = 0; i < 10; i++) {
        check_result(transmit(pool, reflect, MIB), MIB + 1, MIB);
        expect_end(transmit(pool, crash, 2 * MIB + i), -EOWNERDEAD);
        check_result(transmit(pool, reflect, MIB), MIB + 1, MIB);
        CHECK(own_mappings() <= 2);
    }
    pp_pool_destroy(pool);
    CHECK_INT(own_mappings(), 0);
}

/* A thread that the task has left behind writes to its result, which the owner shows by then. */
static void *write_later(void *result)
{
    wait_at(GATE);
    memset(result, 'x', 1000);
    return NULL;
}

static int give_and_write_later(pp_task *task, const void *arg, size_t size)
{
    pthread_t thread;
    void *result = pp_task_reserve(task, size);
    CHECK(result != NULL);
    memcpy(result, arg, size);
    CHECK_INT(pthread_create(&thread, NULL, write_later, result), 0);
    pthread_detach(thread);
    return 0;
}

BOTH(what_is_shown_does_not_change_whatever_the_worker_writes)
{
    const void *data;
    size_t size;
    if (KIT_TSAN)
        LEFT_OUT("thread sanitizer ends the worker, whose threads race on purpose");
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    check_result(transmit(pool, reflect, MIB), MIB + 1, MIB);
    pid_t worker = pid_of(pool);
    pp_future *future = transmit(pool, give_and_write_later, MIB);
    CHECK_OK(pp_future_view(future, -1, &data, &size));
    open_gate(GATE);
    for (int i = 0; i < 20; i++) {
        test_sleep_ms(2);
        check_pattern(data, MIB, MIB);
    }
    until(!test_process_alive(worker)); /* it has died of it */
    check_pattern(data, MIB, MIB);
    pp_future_unref(future);
    expect_usable(pool);
    pp_pool_destroy(pool);
}
