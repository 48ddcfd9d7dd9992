/* SPDX-License-Identifier: MIT */
/* What goes with a call that has buffers: arguments and results of any size, however many buffers; and how it may end,
 * its buffers its own until then. */
#include "processes_kit.h"

#include "pool/buffer.h"
#include "pool/pool.h"
#include "pool/workers.h"

enum { BUFFERS = 5, LONGEST = 40000 };

static pp_buffer *buffers[BUFFERS];
static pp_pool *shared_pool;

/* The first number in buffer i is `first` + i. */
static void make_buffers(int first)
{
    for (int i = 0; i < BUFFERS; i++) {
        CHECK_OK(pp_buffer_create(100, &buffers[i]));
        memcpy(pp_buffer_data(buffers[i]), &(int){first + i}, sizeof(int));
    }
}

/* Nobody else has them. */
static void drop_buffers(void)
{
    for (int i = 0; i < BUFFERS; i++) {
        CHECK_INT(buffers[i]->refs, 1);
        pp_buffer_unref(buffers[i]);
    }
}

static char byte_of(size_t i, int sum)
{
    return (char)(i * 7 + (size_t)sum);
}

/* As many bytes as the first buffer's second number says, from the sum of the buffers' first ones; the argument is to
 * be as long as the third says, and of bytes from the fourth. */
static int weave(pp_task *task, const void *arg, size_t size)
{
    static char result[LONGEST];
    int words[4], sum = 0;
    size_t room;
    for (size_t i = 0; i < pp_task_buffer_count(task); i++) {
        memcpy(words, pp_task_buffer(task, i, &room), sizeof words);
        if (room != 100)
            return pp_task_fail(task, 1, "a buffer of %zu bytes", room);
        sum += words[0];
    }
    memcpy(words, pp_task_buffer(task, 0, NULL), sizeof words);
    const char *bytes = arg;
    if (size != (size_t)words[2] || bytes[size] != 0 || (uintptr_t)bytes % 16 != 0)
        return pp_task_fail(task, 2, "an argument of %zu bytes", size);
    for (size_t i = 0; i < size; i++)
        if (bytes[i] != byte_of(i, words[3]))
            return pp_task_fail(task, 3, "byte %zu of the argument", i);
    for (size_t i = 0; i < (size_t)words[1]; i++)
        result[i] = byte_of(i, sum);
    return pp_task_return(task, result, (size_t)words[1]);
}

static void weave_one(pp_pool *pool, size_t count, size_t argument, size_t result, int tag)
{
    static char bytes[LONGEST];
    const char *back;
    size_t size;
    int sum = 0, words[3] = {(int)result, (int)argument, tag};
    for (size_t i = 0; i < count; i++)
        sum += tag + (int)i;
    for (size_t i = 0; i < argument; i++)
        bytes[i] = byte_of(i, tag);
    memcpy((int *)pp_buffer_data(buffers[0]) + 1, words, sizeof words);
    pp_future *future = submit_with(pool, (pp_call){.function = weave,
                                                    .arg = bytes,
                                                    .size = argument,
                                                    .timeout = tag % 2 ? 0 : 60000,
                                                    .buffers = buffers,
                                                    .buffer_count = count});
    CHECK_OK(pp_future_view(future, -1, (const void **)&back, &size));
    CHECK_INT(size, result);
    for (size_t i = 0; i < size; i++)
        CHECK(back[i] == byte_of(i, sum));
    CHECK(back[size] == 0);
    for (size_t i = 0; i < BUFFERS; i++)
        CHECK_INT(buffers[i]->refs, 1); /* as soon as it is seen to be done */
    pp_future_unref(future);
}

/* Each twice: the first time its buffers are new to the worker, and those of the next number known in part. */
EACH_WITHIN(arguments_and_results_are_of_any_size, 30)
{
    static const size_t sizes[] = {0, 1, 15, 16, 31, 32, 33, 47, 48, 255, 256, 16000, LONGEST};
    enum { SIZES = sizeof sizes / sizeof *sizes };
    pp_pool *pool = open_workers(1, method);
    for (size_t i = 0; i < SIZES * SIZES; i++) {
        make_buffers((int)i);
        for (size_t count = 1; count <= BUFFERS; count++)
            for (int again = 0; again < 2; again++)
                weave_one(pool, count, sizes[i % SIZES], sizes[i / SIZES], (int)i);
        drop_buffers();
    }
    pp_pool_destroy(pool);
}

/* Many at a time: what was queued and what lies in the ring is as what goes alone. */
EACH_WITHIN(many_at_a_time_are_as_one, 30)
{
    enum { CALLS = 1000 };
    static pp_future *futures[CALLS];
    pp_pool *pool = open_workers(2, method);
    make_buffers(0);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < CALLS; i++) {
            const int words[4] = {0, 16, 0, 0};
            memcpy(pp_buffer_data(buffers[i % BUFFERS]), words, sizeof words);
            pp_buffer *const two[2] = {buffers[i % BUFFERS], buffers[i % 3]};
            futures[i] =
                submit_with(pool, (pp_call){.function = weave, .buffers = two, .buffer_count = 1 + (size_t)(i % 2)});
        }
        for (int i = 0; i < CALLS; i++) {
            char result[16];
            CHECK_OK(pp_future_result(futures[i], -1, result, sizeof result, NULL));
            for (size_t k = 0; k < sizeof result; k++)
                CHECK(result[k] == byte_of(k, 0));
            pp_future_unref(futures[i]);
        }
    }
    drop_buffers();
    pp_pool_destroy(pool);
}

/* ------------------------------------------------------------------------------------------------- ends */

static int fail_at_once(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    return pp_task_fail(task, 9, "as it was told");
}

static pp_future *lend(pp_pool *pool, pp_function *function, size_t count, pp_call call)
{
    call.function = function;
    call.buffers = buffers;
    call.buffer_count = count;
    return submit_with(pool, call);
}

/* How many buffers it has; a descriptor goes back with that, and it takes all the room that a small result has. */
static int return_descriptor(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    int fd = dup(STDERR_FILENO), result[11] = {(int)pp_task_buffer_count(task)};
    if (fd < 0 || pp_task_return_fd(task, fd) != 0)
        return pp_task_fail(task, 1, "%s", pp_last_error());
    close(fd);
    return pp_task_return(task, result, sizeof result);
}

static void expect_descriptor_back(pp_pool *pool, size_t count)
{
    int result[11];
    pp_future *future = lend(pool, return_descriptor, count, (pp_call){0});
    CHECK_OK(pp_future_result(future, -1, result, sizeof result, NULL));
    CHECK_INT(result[0], count);
    CHECK_INT(pp_future_fd_count(future, -1), 1);
    pp_future_unref(future);
}

static int count_buffers(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    return pp_task_return(task, &(int){(int)pp_task_buffer_count(task)}, sizeof(int));
}

/* One buffer, two, and more than lie in the call's own memory. */
BOTH_WITHIN(however_it_ends_it_gives_its_buffers_back_once, 30)
{
    pp_pool *pool = open_workers(1, method);
    for (size_t count = 1; count <= 3; count++) {
        make_buffers(7);
        for (int again = 0; again < 3; again++) {
            drop_failed(lend(pool, fail_at_once, count, (pp_call){0}), PP_ERROR_TASK);
            drop_failed(lend(pool, fail_at_once, count, (pp_call){.retries = 2}), PP_ERROR_TASK);
            drop_failed(lend(pool, crash, count, (pp_call){.retries = 1}), PP_ERROR_CRASH);
            drop_failed(lend(pool, task_hang, count, (pp_call){.timeout = 20}), PP_ERROR_TIMEOUT);
            expect_descriptor_back(pool, count);
            CHECK_INT(take_int(lend(pool, count_buffers, count, (pp_call){0})), count);
            CHECK_INT(take_int(submit(pool, count_buffers, NULL, 0)), 0);
            CHECK_OK(pp_submit_call(
                pool, &(pp_call){.function = fail_at_once, .buffers = buffers, .buffer_count = count}, NULL));
            expect_usable(pool); /* what nobody waits for has ended too */
        }
        drop_buffers();
    }
    pp_pool_destroy(pool);
}

/* Pending, sent behind another one, and running. */
BOTH(a_pool_that_ends_gives_them_back)
{
    enum { CALLS = 50 };
    pp_future *futures[CALLS], *gate;
    make_buffers(0);
    pp_pool *pool = open_workers(1, method);
    occupy_at(pool, 0, 1, &gate);
    for (int i = 0; i < CALLS; i++)
        futures[i] = lend(pool, weave, 1 + (size_t)i % 3, (pp_call){0});
    for (int i = 0; i < CALLS; i += 7)
        CHECK_OK(pp_future_cancel(futures[i]));
    CHECK_INT(buffers[0]->refs, 1 + CALLS - (CALLS + 6) / 7);
    CHECK_OK(pp_pool_kill(pool));
    for (int i = 0; i < CALLS; i++) {
        CHECK_OK(pp_future_wait(futures[i], -1));
        pp_future_unref(futures[i]);
    }
    pp_future_unref(gate);
    drop_buffers();
    pp_pool_destroy(pool);
}

/* Cancelled before it submits, with buffers that are new to the worker. */
static void *lend_cancelled(void *argument)
{
    pp_call call = *(const pp_call *)argument;
    pp_buffer *fresh[3];
    for (int i = 0; i < 3; i++)
        CHECK_OK(pp_buffer_create(100, &fresh[i]));
    call.buffers = fresh;
    call.function = nothing;
    CHECK_INT(pthread_cancel(pthread_self()), 0);
    CHECK_OK(pp_submit_call(shared_pool, &call, NULL));
    for (int i = 0; i < 3; i++)
        pp_buffer_unref(fresh[i]);
    pthread_testcancel();
    return NULL;
}

BOTH(a_thread_that_is_cancelled_as_it_lends_leaves_nothing_locked)
{
    static const char bytes[200];
    void *end;
    shared_pool = open_workers(1, method);
    expect_usable(shared_pool);
    for (size_t i = 0; i < 60; i++) {
        const pp_call call = {.arg = bytes, .size = i % 4 * 30, .buffer_count = 1 + i % 3};
        CHECK_INT(pthread_join(start_thread(lend_cancelled, (void *)(uintptr_t)&call), &end), 0);
        CHECK(end == PTHREAD_CANCELED);
        expect_usable(shared_pool);
    }
    pp_pool_destroy(shared_pool);
}

/* ---------------------------------------------------------------------------------------- what a worker knows */

/* The id of the call that has brought it to the pool's only worker; 0: it has not got it. */
static uint64_t bringer_of(pp_pool *pool, const pp_buffer *buffer)
{
    uint64_t id = 0;
    pp__pool_lock(pool);
    const struct pp__known *known = &pool->workers[0]->known;
    for (unsigned i = 0; i < PP__KNOWN; i++)
        if (known->places[i].serial == buffer->serial)
            id = known->places[i].bringer;
    pp__pool_unlock(pool);
    return id;
}

/* Each new one takes the place of the one that was not used for longest. */
BOTH(a_buffer_that_is_used_stays_with_the_worker)
{
    pp_pool *pool = open_workers(1, method);
    make_buffers(0);
    expect_usable(pool);
    CHECK_INT(take_int(lend(pool, count_buffers, 2, (pp_call){0})), 2);
    uint64_t first = bringer_of(pool, buffers[0]);
    CHECK(first > 0 && bringer_of(pool, buffers[1]) == first);
    for (unsigned i = 0; i < 2 * PP__KNOWN; i++) {
        pp_buffer *fresh;
        CHECK_OK(pp_buffer_create(100, &fresh));
        pp_call call = {.function = count_buffers, .buffers = &fresh, .buffer_count = 1};
        CHECK_INT(take_int(submit_with(pool, call)), 1);
        CHECK_INT(take_int(lend(pool, count_buffers, 2, (pp_call){0})), 2);
        pp_buffer_unref(fresh);
    }
    CHECK_INT(bringer_of(pool, buffers[0]), first);
    CHECK_INT(bringer_of(pool, buffers[1]), first);
    drop_buffers();
    pp_pool_destroy(pool);
}
