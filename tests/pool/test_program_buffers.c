/* SPDX-License-Identifier: MIT */
/* Buffers that the program fills and calls take along: read in place, mapped once, and not for ever. */
#include "processes_kit.h"

#include "pool/known.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

static pp_buffer *make_buffer(size_t size, int first)
{
    pp_buffer *buffer;
    CHECK_OK(pp_buffer_create(size, &buffer));
    memcpy(pp_buffer_data(buffer), &first, sizeof first);
    return buffer;
}

static pp_future *submit_buffers(pp_pool *pool, pp_function *function, pp_buffer *const *buffers, size_t count)
{
    return submit_with(pool, (pp_call){.function = function, .buffers = buffers, .buffer_count = count});
}

static int first_in(const void *data)
{
    int first;
    memcpy(&first, data, sizeof first);
    return first;
}

/* The sum of the buffers' first numbers. */
static int task_sum(pp_task *task, const void *arg, size_t size)
{
    int sum = 0;
    (void)arg, (void)size;
    for (size_t i = 0; i < pp_task_buffer_count(task); i++)
        sum += first_in(pp_task_buffer(task, i, NULL));
    return pp_task_return(task, &sum, sizeof sum);
}

/* How many buffers of the program's a process has mapped. */
static int mapped_in(pid_t pid)
{
    char path[64], line[512];
    int count = 0;
    snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
    FILE *maps = fopen(path, "re");
    CHECK(maps != NULL);
    while (fgets(line, sizeof line, maps))
        count += strstr(line, "/memfd:procpool-shared") != NULL;
    fclose(maps);
    return count;
}

/* ------------------------------------------------------------------------------------------------ in place */

struct look {
    size_t size;
    uintptr_t at;
    long faults;
    unsigned char first, last;
};

static int task_look(pp_task *task, const void *arg, size_t size)
{
    struct rusage usage;
    struct look look = {0};
    (void)arg, (void)size;
    const unsigned char *data = pp_task_buffer(task, 0, &look.size);
    look.at = (uintptr_t)data;
    look.first = data[0];
    look.last = data[look.size - 1];
    getrusage(RUSAGE_SELF, &usage);
    look.faults = usage.ru_minflt;
    return pp_task_return(task, &look, sizeof look);
}

static struct look look_at(pp_pool *pool, pp_buffer *buffer)
{
    struct look look;
    pp_future *future = submit_buffers(pool, task_look, &buffer, 1);
    CHECK_OK(pp_future_result(future, -1, &look, sizeof look, NULL));
    pp_future_unref(future);
    return look;
}

EACH(a_buffer_is_read_in_place)
{
    static const size_t sizes[] = {1, 4095, 4096, 65536, 65537, MIB + 123, 20 * MIB};
    pp_pool *pool = open_workers(1, method);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        pp_buffer *buffer;
        CHECK_OK(pp_buffer_create(sizes[i], &buffer));
        CHECK_INT(pp_buffer_size(buffer), sizes[i]);
        unsigned char *data = pp_buffer_data(buffer);
        CHECK_INT((uintptr_t)data % 4096, 0);
        CHECK(data[0] == 0 && data[sizes[i] - 1] == 0);
        data[0] = 11;
        data[sizes[i] - 1] = 22;
        for (int round = 0; round < 3; round++) {
            struct look look = look_at(pool, buffer);
            CHECK_INT(look.size, sizes[i]);
            CHECK_INT(look.at % 4096, 0);
            CHECK_INT(look.first, sizes[i] > 1 ? 11 : 22);
            CHECK_INT(look.last, 22);
        }
        pp_buffer_unref(buffer);
    }
    pp_pool_destroy(pool);
}

/* What the owner writes between two calls the second one sees, at the same place. */
EACH(a_buffer_that_is_written_again_needs_no_new_mapping)
{
    pp_pool *pool = open_workers(1, method);
    pp_buffer *buffer = make_buffer(100 * KIB, 0);
    unsigned char *data = pp_buffer_data(buffer);
    uintptr_t at = look_at(pool, buffer).at;
    for (int i = 1; i < 50; i++) {
        data[0] = (unsigned char)i;
        data[100 * KIB - 1] = (unsigned char)(i + 1);
        struct look look = look_at(pool, buffer);
        CHECK_INT(look.first, i);
        CHECK_INT(look.last, i + 1);
        CHECK(look.at == at);
    }
    pp_buffer_unref(buffer);
    pp_pool_destroy(pool);
}

static long faults(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_minflt;
}

/* Pages that either side has to touch: a few, however many there are in the buffer. */
static void pass_for_little(pp_start_method method, size_t size)
{
    pp_pool *pool = open_workers(1, method);
    pp_buffer *small = make_buffer(4 * KIB, 1), *large = make_buffer(size, 2);
    look_at(pool, small);
    for (int round = 0; round < 3; round++) {
        look_at(pool, small);
        long there = look_at(pool, small).faults, here = faults();
        there = look_at(pool, large).faults - there;
        here = faults() - here;
        if (there > 500 || here > 500)
            harness_fail(__FILE__, __LINE__, "%ld page faults in the worker, %ld in the owner", there, here);
    }
    pp_buffer_unref(small);
    pp_buffer_unref(large);
    pp_pool_destroy(pool);
}

BOTH_WITHIN(what_a_call_costs_does_not_depend_on_the_size_of_its_buffer, 30)
{
    pass_for_little(method, 100 * MIB);
}

SLOW_TEST(a_gibibyte_costs_a_call_no_more)
{
    pass_for_little(PP_START_FORK, 1024 * MIB);
}

static int task_write(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    char *data = (char *)(uintptr_t)pp_task_buffer(task, 0, NULL);
    if (mprotect(data, 4096, PROT_READ | PROT_WRITE) == 0 || errno != EACCES)
        return pp_task_fail(task, -EPERM, "it can be made writable");
    *(volatile char *)data = 1;
    return 0;
}

BOTH(a_worker_can_not_write_to_a_buffer)
{
    pp_pool *pool = open_workers(1, method);
    pp_buffer *buffer = make_buffer(KIB, 7);
    const pp_error *error;
    pp_future *future = submit_buffers(pool, task_write, &buffer, 1);
    CHECK_OK(pp_future_error(future, -1, &error));
    CHECK(error != NULL);
    CHECK_INT(error->kind, PP_ERROR_CRASH);
    pp_future_unref(future);
    CHECK_INT(take_int(submit_buffers(pool, task_sum, &buffer, 1)), 7);
    pp_buffer_unref(buffer);
    pp_pool_destroy(pool);
}

/* --------------------------------------------------------------------------------------------- many of them */

static int task_order(pp_task *task, const void *arg, size_t size)
{
    int right = 0;
    for (size_t i = 0; i < pp_task_buffer_count(task); i++)
        right += first_in(pp_task_buffer(task, i, NULL)) == read_int(arg) + (int)i;
    (void)size;
    return pp_task_return(task, &right, sizeof right);
}

EACH(as_many_as_there_may_be_come_in_their_order)
{
    pp_buffer *buffers[PP_MAX_BUFFERS];
    pp_pool *pool = open_workers(1, method);
    for (int i = 0; i < PP_MAX_BUFFERS; i++)
        buffers[i] = make_buffer(KIB << i % 8, i);
    for (int first = 0; first < PP_MAX_BUFFERS; first++) {
        size_t count = (size_t)(PP_MAX_BUFFERS - first);
        pp_future *future = submit_with(pool, (pp_call){.function = task_order,
                                                        .arg = &first,
                                                        .size = sizeof first,
                                                        .buffers = buffers + first,
                                                        .buffer_count = count});
        CHECK_INT(take_int(future), count);
    }
    pp_buffer *twice[3] = {buffers[5], buffers[5], buffers[6]};
    CHECK_INT(take_int(submit_buffers(pool, task_sum, twice, 3)), 16);
    for (int i = 0; i < PP_MAX_BUFFERS; i++)
        pp_buffer_unref(buffers[i]);
    CHECK_INT(take_int(submit(pool, task_sum, NULL, 0)), 0);
    pp_pool_destroy(pool);
}

/* More than a worker has places for, in each combination of new ones and known ones. */
BOTH_WITHIN(a_worker_remembers_so_many_at_most, 30)
{
    enum { BUFFERS = 40 };
    unsigned seed = 1;
    pp_buffer *buffers[BUFFERS];
    pp_pool *pool = open_workers(1, method);
    for (int i = 0; i < BUFFERS; i++)
        buffers[i] = make_buffer(KIB, i);
    pid_t pid = take_int(submit(pool, task_pid, NULL, 0));
    for (int round = 0; round < 300; round++) {
        pp_buffer *some[PP_MAX_BUFFERS];
        int sum = 0, count = 1 + rand_r(&seed) % PP_MAX_BUFFERS;
        for (int i = 0; i < count; i++) {
            int which = rand_r(&seed) % BUFFERS;
            some[i] = buffers[which];
            sum += which;
        }
        CHECK_INT(take_int(submit_buffers(pool, task_sum, some, (size_t)count)), sum);
        if (round % 50 == 49)
            CHECK(mapped_in(pid) <= (int)PP__KNOWN);
    }
    for (int i = 0; i < BUFFERS; i++)
        pp_buffer_unref(buffers[i]);
    pp_pool_destroy(pool);
}

BOTH(a_worker_keeps_mappings_and_no_descriptors)
{
    pp_buffer *buffers[3];
    pp_pool *pool = open_workers(1, method);
    take_int(submit(pool, task_count_fds, NULL, 0));
    int before = take_int(submit(pool, task_count_fds, NULL, 0));
    for (int i = 0; i < 3; i++)
        buffers[i] = make_buffer(KIB, i);
    for (size_t i = 0; i < 3; i++) {
        CHECK_INT(take_int(submit_buffers(pool, task_count_fds, buffers, 1 + i)), before);
        CHECK_INT(take_int(submit(pool, task_count_fds, NULL, 0)), before);
    }
    for (int i = 0; i < 3; i++)
        pp_buffer_unref(buffers[i]);
    pp_pool_destroy(pool);
}

/* Without it the worker would keep the memory of all that the program has given up. */
SLOW_TEST(a_busy_worker_remembers_no_more_than_a_gibibyte)
{
    pp_pool *pool = open_workers(1, PP_START_FORK);
    pid_t pid = take_int(submit(pool, task_pid, NULL, 0));
    for (int i = 0; i < 6; i++) {
        pp_buffer *buffer = make_buffer(400 * MIB, i);
        CHECK_INT(take_int(submit_buffers(pool, task_sum, &buffer, 1)), i);
        pp_buffer_unref(buffer);
        CHECK(mapped_in(pid) <= 2);
    }
    pp_buffer *large = make_buffer(900 * MIB, 7); /* for which two make way */
    CHECK_INT(take_int(submit_buffers(pool, task_sum, &large, 1)), 7);
    CHECK_INT(mapped_in(pid), 1);
    pp_buffer_unref(large);
    pp_pool_destroy(pool);
}

EACH(buffers_descriptors_and_large_arguments_go_together)
{
    static const size_t sizes[] = {0, 100, 20 * KIB, 300 * KIB, 3 * MIB};
    char *data = calloc(1, 3 * MIB);
    int fds[3] = {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO};
    pp_pool *pool = open_workers(2, method);
    for (int i = 0; i < 60; i++) {
        pp_buffer *buffers[2] = {make_buffer(KIB, i), make_buffer(200 * KIB, 1000)};
        pp_future *futures[2];
        for (int k = 0; k < 2; k++)
            futures[k] = submit_with(pool, (pp_call){.function = task_sum,
                                                     .arg = data,
                                                     .size = sizes[i % 5],
                                                     .priority = i % 3 - 1,
                                                     .descriptors = fds,
                                                     .descriptor_count = (size_t)(i % 4),
                                                     .buffers = buffers,
                                                     .buffer_count = 2});
        for (int k = 0; k < 2; k++) {
            pp_buffer_unref(buffers[k]);
            CHECK_INT(take_int(futures[k]), 1000 + i);
        }
    }
    free(data);
    pp_pool_destroy(pool);
}

EACH(several_pools_share_a_buffer)
{
    pp_buffer *buffer = make_buffer(KIB, 9);
    share();
    for (int i = 0; i < 3; i++) {
        pp_pool *pool = open_workers(2, i ? PP_START_INLINE : method);
        CHECK_INT(take_int(submit_buffers(pool, task_sum, &buffer, 1)), 9);
        pp_pool_destroy(pool);
    }
    pp_buffer_unref(buffer);
}

/* ----------------------------------------------------------------------------------- references and the end */

EACH(a_call_has_its_buffers_until_it_has_ended)
{
    pp_pool *pool = open_workers(1, method);
    expect_usable(pool);
    int before = count_fds();
    for (int i = 0; i < 10; i++) {
        pp_buffer *buffer = make_buffer(KIB, i);
        CHECK(pp_buffer_ref(buffer) == buffer);
        pp_buffer_unref(buffer);
        pp_future *future = submit_buffers(pool, task_sum, &buffer, 1);
        pp_buffer_unref(buffer);
        CHECK_INT(take_int(future), i);
        CHECK_INT(count_fds(), before);
        CHECK_INT(mapped_in(getpid()), 0);
    }
    pp_pool_destroy(pool);
}

BOTH(a_cancelled_call_and_one_whose_worker_dies_give_theirs_back)
{
    pp_future *gate;
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 1, .standby = PP_STANDBY_NEVER}, method);
    pp_buffer *buffer = make_buffer(KIB, 3);
    occupy_at(pool, 0, 1, &gate);
    int before = count_fds();
    pp_future *future = submit_buffers(pool, task_sum, &buffer, 1);
    pp_buffer_unref(buffer);
    CHECK_OK(pp_future_cancel(future));
    drop_failed(future, PP_ERROR_CANCELLED);
    CHECK_INT(count_fds(), before - 1);
    gate_open(0);
    take_int(gate);
    buffer = make_buffer(KIB, 4);
    drop_failed(submit_buffers(pool, crash, &buffer, 1), PP_ERROR_CRASH);
    pp_buffer_unref(buffer);
    expect_usable(pool);
    CHECK_INT(count_fds(), before - 1);
    pp_pool_destroy(pool);
}

/* As often as the argument says it dies. */
static int task_at_last(pp_task *task, const void *arg, size_t size)
{
    if (++shared()->words[5] < read_int(arg))
        raise(SIGKILL);
    return task_sum(task, arg, size);
}

BOTH(a_call_that_is_tried_again_has_its_buffers_each_time)
{
    pp_pool *pool = open_workers(1, method);
    pp_buffer *buffer = make_buffer(KIB, 12);
    pp_future *future = submit_with(pool, (pp_call){.function = task_at_last,
                                                    .arg = &(int){3},
                                                    .size = sizeof(int),
                                                    .retries = 5,
                                                    .buffers = &buffer,
                                                    .buffer_count = 1});
    pp_buffer_unref(buffer);
    CHECK_INT(take_int(future), 12);
    CHECK_INT(shared()->words[5], 3);
    pp_pool_destroy(pool);
}

/* What waits behind a call that lasts goes to the other worker; and what was sent in vain is known all the same. */
BOTH(calls_that_move_to_another_worker_take_their_buffers_along)
{
    enum { CALLS = 30 };
    pp_future *futures[CALLS], *gates[2];
    pp_buffer *buffers[20];
    pp_pool *pool = open_workers(2, method);
    for (int i = 0; i < 20; i++)
        buffers[i] = make_buffer(KIB, i);
    for (int i = 0; i < 200; i++)
        expect_end(submit(pool, nothing, NULL, 0), 0);
    for (int round = 0; round < 6; round++) {
        shared()->gates[1] = shared()->gates[2] = shared()->arrived[1] = shared()->arrived[2] = 0;
        gates[0] = submit_int(pool, task_gate, 1);
        gates[1] = submit_int(pool, task_gate, 2);
        for (int i = 0; i < CALLS; i++)
            futures[i] = submit_buffers(pool, task_sum, &buffers[i % 20], 1);
        gate_wait_arrived(1, 1);
        gate_wait_arrived(2, 1);
        gate_open(1 + round % 2);
        for (int i = 0; i < CALLS; i++)
            CHECK_INT(take_int(futures[i]), i % 20);
        gate_open(2 - round % 2);
        for (int i = 0; i < 2; i++)
            take_int(gates[i]);
    }
    for (int i = 0; i < 20; i++)
        pp_buffer_unref(buffers[i]);
    pp_pool_destroy(pool);
}

/* In the worker itself, which forgets nothing while it has a call. */
static int task_count_mapped(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    int count = mapped_in(getpid());
    return pp_task_return(task, &count, sizeof count);
}

BOTH_WITHIN(a_worker_that_has_nothing_to_do_forgets_what_it_has_not_used_for_a_while, 30)
{
    pp_pool *pool = open_workers(1, method);
    pp_buffer *buffer = make_buffer(KIB, 1);
    pid_t pid = take_int(submit(pool, task_pid, NULL, 0));
    for (int i = 0; i < 2; i++) {
        CHECK_INT(take_int(submit_buffers(pool, task_sum, &buffer, 1)), 1);
        CHECK_INT(take_int(submit_buffers(pool, task_count_mapped, &buffer, 1)), 1);
        until(mapped_in(pid) == 0);
    }
    pp_buffer_unref(buffer);
    pp_pool_destroy(pool);
}

/* ------------------------------------------------------------------------------------------------- refusals */

EACH(what_is_no_buffer_or_too_many_is_refused)
{
    pp_future *future = NULL;
    pp_buffer *buffer = NULL, *many[PP_MAX_BUFFERS + 1];
    CHECK_INT(pp_buffer_create(0, &buffer), -EINVAL);
    CHECK_INT(pp_buffer_create(SIZE_MAX, &buffer), -EINVAL);
    CHECK_INT(pp_buffer_create((size_t)1 << 60, &buffer), -ENOMEM);
    CHECK_INT(pp_buffer_create(1, NULL), -EINVAL);
    CHECK(buffer == NULL);
    CHECK(pp_buffer_data(NULL) == NULL);
    CHECK_INT(pp_buffer_size(NULL), 0);
    CHECK(pp_buffer_ref(NULL) == NULL);
    pp_buffer_unref(NULL);
    pp_pool *pool = open_workers(1, method);
    buffer = make_buffer(1000, 1);
    for (int i = 0; i <= PP_MAX_BUFFERS; i++)
        many[i] = buffer;
    pp_call call = {.function = task_sum, .buffers = many, .buffer_count = PP_MAX_BUFFERS + 1};
    CHECK_INT(pp_submit_call(pool, &call, &future), -EINVAL);
    CHECK_HAS(pp_last_error(), "buffer_count is 17; it must be at most 16");
    call.buffer_count = PP_MAX_BUFFERS;
    call.descriptors = (int[PP_MAX_DESCRIPTORS]){0};
    call.descriptor_count = PP_MAX_DESCRIPTORS - PP_MAX_BUFFERS + 1;
    CHECK_INT(pp_submit_call(pool, &call, &future), -EINVAL);
    CHECK_HAS(pp_last_error(), "descriptor_count is 237; it must be at most 236");
    call.descriptor_count--;
    CHECK_INT(take_int(submit_with(pool, call)), PP_MAX_BUFFERS);
    many[3] = NULL;
    CHECK_INT(pp_submit_call(pool, &call, &future), -EINVAL);
    CHECK_HAS(pp_last_error(), "buffer 3 is NULL");
    call.buffers = NULL;
    CHECK_INT(pp_submit_call(pool, &call, &future), -EINVAL);
    CHECK_HAS(pp_last_error(), "buffers is NULL");
    pid_t child = fork();
    if (child == 0) {
        pp_buffer_unref(pp_buffer_ref(buffer));
        pp_buffer_unref(buffer);
        _exit(pp_buffer_data(buffer) == NULL && pp_buffer_create(1, &many[0]) == -EPERM ? 0 : 1);
    }
    CHECK_INT(wait_for(child), 0);
    CHECK_INT(first_in(pp_buffer_data(buffer)), 1);
    pp_buffer_unref(buffer);
    CHECK(future == NULL);
    pp_pool_destroy(pool);
}

static int task_ask(pp_task *task, const void *arg, size_t size)
{
    size_t bytes = 4711;
    (void)arg, (void)size;
    size_t count = pp_task_buffer_count(task);
    int wrong = pp_task_buffer(task, count, &bytes) != NULL || pp_task_buffer(task, SIZE_MAX, &bytes) != NULL ||
                bytes != 4711 || strstr(pp_last_error(), "there is no buffer") == NULL;
    int told = (int)count + 1000 * wrong;
    shared()->words[6] += told;
    return pp_task_return(task, &told, sizeof told);
}

EACH(elements_of_a_map_initializers_and_finalizers_have_none)
{
    int in[20] = {0}, out[20];
    pp_pool *pool =
        open_pool((pp_pool_options){.max_workers = 1, .initializer = task_ask, .finalizer = task_ask}, method);
    pp_buffer *buffer = make_buffer(KIB, 0);
    CHECK_INT(take_int(submit_buffers(pool, task_ask, &buffer, 1)), 1);
    for (size_t chunk = 1; chunk <= 10; chunk += 9) {
        CHECK_INT(
            pp_map_array(pool, task_ask, in, 20, sizeof *in, out, sizeof *out, &(pp_map_options){.chunk_size = chunk}),
            0);
        for (int i = 0; i < 20; i++)
            CHECK_INT(out[i], 0);
    }
    CHECK_INT(take_int(submit(pool, task_ask, NULL, 0)), 0);
    CHECK(pp_task_buffer(NULL, 0, NULL) == NULL);
    CHECK_INT(pp_task_buffer_count(NULL), 0);
    pp_buffer_unref(buffer);
    pp_pool_destroy(pool);
    CHECK_INT(shared()->words[6], 1);
}

/* --------------------------------------------------------------------------------------------------- wants */

static int task_without_numbers(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)size;
    limit_files(read_int(arg) ? 1000 : 3);
    return 0;
}

/* It is sent again then. */
BOTH(a_worker_without_descriptors_fails_the_calls_with_new_buffers_alone)
{
    pp_pool *pool = open_workers(1, method);
    pp_buffer *known = make_buffer(KIB, 5), *fresh = make_buffer(KIB, 6);
    pp_buffer *both[2] = {known, fresh};
    CHECK_INT(take_int(submit_buffers(pool, task_sum, &known, 1)), 5);
    for (int i = 0; i < 3; i++) {
        expect_end(submit_int(pool, task_without_numbers, 0), 0);
        pp_future *future = submit_buffers(pool, task_sum, &fresh, 1);
        CHECK_INT(error_of(future, PP_ERROR_TRAVEL)->task_code, -EMFILE);
        pp_future_unref(future);
        if (i == 0)
            CHECK_INT(take_int(submit_buffers(pool, task_sum, &known, 1)), 5);
        drop_failed(submit_buffers(pool, task_sum, both, 2), PP_ERROR_TRAVEL);
        expect_end(submit_int(pool, task_without_numbers, 1), 0);
        CHECK_INT(take_int(submit_buffers(pool, task_sum, both, 2)), 11);
        pp_buffer_unref(fresh);
        both[1] = fresh = make_buffer(KIB, 6);
    }
    pp_buffer_unref(known);
    pp_buffer_unref(fresh);
    pp_pool_destroy(pool);
}

/* Lets its worker receive no more descriptors, and waits. */
static int task_gate_without_numbers(pp_task *task, const void *arg, size_t size)
{
    limit_files(3);
    return task_gate(task, arg, size);
}

/* Nobody tells that its buffer has not arrived: the next call brings it. */
BOTH(a_call_that_is_taken_back_leaves_no_doubt_about_its_buffer)
{
    enum { ROUNDS = 10 };
    pp_pool *pool = open_workers(1, method);
    char *data = calloc(1, MIB);
    for (int i = 0; i < ROUNDS; i++) {
        pp_buffer *buffer = make_buffer(KIB, 5);
        for (int j = 0; j < 50; j++) /* of a duration that makes a queue at the worker */
            expect_end(submit(pool, nothing, NULL, 0), 0);
        pp_future *first = submit_int(pool, task_gate_without_numbers, i);
        for (int j = 0; j < 3; j++) /* behind so many it is queued however long the first one has lasted */
            CHECK_OK(pp_submit(pool, nothing, NULL, 0, NULL));
        pp_future *second = submit_with(
            pool,
            (pp_call){.function = task_sum, .arg = data, .size = i % 2 * MIB, .buffers = &buffer, .buffer_count = 1});
        gate_wait_arrived(i, 1);
        CHECK_OK(pp_future_cancel(second));
        pp_future_unref(second);
        gate_open(i);
        CHECK(take_int(first) > 0);
        expect_end(submit_int(pool, task_without_numbers, 1), 0);
        CHECK_INT(take_int(submit_buffers(pool, task_sum, &buffer, 1)), 5);
        expect_end(submit(pool, nothing, data, MIB), 0);
        pp_buffer_unref(buffer);
    }
    free(data);
    pp_pool_destroy(pool);
}

/* Both are begun, and the second brings nothing. */
BOTH(calls_behind_one_whose_buffer_has_not_arrived_fail_for_the_same_reason)
{
    pp_pool *pool = open_workers(1, method);
    pp_buffer *buffer = make_buffer(KIB, 5);
    for (int j = 0; j < 50; j++)
        expect_end(submit(pool, nothing, NULL, 0), 0);
    expect_end(submit_int(pool, task_without_numbers, 0), 0);
    pp_future *first = submit_buffers(pool, task_sum, &buffer, 1), *second = submit_buffers(pool, task_sum, &buffer, 1);
    CHECK_INT(error_of(first, PP_ERROR_TRAVEL)->task_code, -EMFILE);
    CHECK_INT(error_of(second, PP_ERROR_TRAVEL)->task_code, -EMFILE);
    pp_future_unref(first);
    pp_future_unref(second);
    expect_end(submit_int(pool, task_without_numbers, 1), 0);
    CHECK_INT(take_int(submit_buffers(pool, task_sum, &buffer, 1)), 5);
    pp_buffer_unref(buffer);
    pp_pool_destroy(pool);
}

/* Its owner does not rely on it after a call that could not run, and it does not keep it for ever. */
BOTH_WITHIN(a_buffer_that_a_worker_may_have_is_forgotten_too, 30)
{
    if (KIT_ASAN || KIT_TSAN || TEST_ON_VALGRIND)
        LEFT_OUT("the tool needs memory of its own");
    char *data = calloc(1, 3 * MIB);
    pp_pool *pool = open_workers(1, method);
    pid_t pid = take_int(submit(pool, task_pid, NULL, 0));
    pp_buffer *buffer = make_buffer(KIB, 5);
    CHECK_INT(take_int(submit_buffers(pool, task_sum, &buffer, 1)), 5);
    CHECK_INT(take_int(submit_buffers(pool, task_count_mapped, &buffer, 1)), 1);
    expect_end(submit_int(pool, task_limit_memory, 0), 0);
    drop_failed(
        submit_with(
            pool, (pp_call){.function = task_sum, .arg = data, .size = 3 * MIB, .buffers = &buffer, .buffer_count = 1}),
        PP_ERROR_TRAVEL);
    expect_end(submit_int(pool, task_limit_memory, 1), 0);
    CHECK(mapped_in(pid) <= 1);
    until(mapped_in(pid) == 0);
    CHECK_INT(take_int(submit_buffers(pool, task_sum, &buffer, 1)), 5);
    pp_buffer_unref(buffer);
    free(data);
    pp_pool_destroy(pool);
}

TEST_WITHIN(a_worker_that_a_command_starts_has_buffers_too, 30)
{
    static const char *const command[] = {"nice", "-n", "3", "{}", NULL};
    pp_launcher *launcher;
    share();
    const pp_launcher_options wanted = {.command = command, .inherit_fds = board_fds, .inherit_fd_count = 1};
    CHECK_OK(pp_launcher_create(&wanted, &launcher));
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 1, .launcher = launcher}, 0);
    pp_launcher_unref(launcher);
    pp_buffer *buffer = make_buffer(MIB, 8);
    for (int i = 0; i < 5; i++)
        CHECK_INT(take_int(submit_buffers(pool, task_sum, &buffer, 1)), 8);
    pp_buffer_unref(buffer);
    pp_pool_destroy(pool);
}
