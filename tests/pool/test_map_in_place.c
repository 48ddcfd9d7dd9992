/* SPDX-License-Identifier: MIT */
/* Maps whose elements and results lie in buffers: workers read and write them there, and nobody copies. */
#include "map_kit.h"

#include "memfd_kit.h"
#include "processes_kit.h"

#include <sys/resource.h>
#include <sys/wait.h>

enum { COUNT = 3000 };
static const uint32_t UNTOUCHED = 0xeeeeeeee;

/* Arrays in the middle of buffers. */
struct place {
    pp_buffer *in_buffer, *out_buffer;
    char *in, *out;
    size_t in_size, out_size, count;
};

#define MARGIN ((size_t)100)

static char *make_array(pp_buffer **buffer, int (*create)(size_t size, pp_buffer **buffer), size_t size)
{
    CHECK_OK(create(size + 2 * MARGIN, buffer));
    char *memory = pp_buffer_data(*buffer);
    memset(memory, 0xee, size + 2 * MARGIN);
    return memory + MARGIN;
}

static struct place make_place(size_t count, size_t in_size, size_t out_size)
{
    struct place place = {.in_size = in_size, .out_size = out_size, .count = count};
    place.in = make_array(&place.in_buffer, pp_buffer_create, count * in_size);
    place.out = make_array(&place.out_buffer, pp_buffer_create_shared, count * out_size);
    for (uint32_t i = 0; i < count; i++)
        memcpy(place.in + i * in_size, &i, sizeof i);
    return place;
}

static void drop_place(struct place *place)
{
    for (size_t i = 0; i < MARGIN; i++) {
        CHECK_INT(place->out[-(ptrdiff_t)i - 1] & 0xff, 0xee);
        CHECK_INT(place->out[place->count * place->out_size + i] & 0xff, 0xee);
    }
    pp_buffer_unref(place->in_buffer);
    pp_buffer_unref(place->out_buffer);
}

static ssize_t run_place(pp_pool *pool, pp_function *function, const struct place *place, size_t count,
                         pp_map_options options)
{
    options.in_buffer = place->in_buffer;
    options.out_buffer = place->out_buffer;
    return pp_map_array(pool, function, place->in, count, place->in_size, place->out, place->out_size, &options);
}

static uint32_t output_of(const struct place *place, size_t i)
{
    uint32_t value;
    memcpy(&value, place->out + i * place->out_size, sizeof value);
    return value;
}

/* Element i has its square, unless it failed. */
static void check_squares(const struct place *place, uint32_t from, uint32_t to, bool (*fails)(uint32_t i))
{
    for (uint32_t i = from; i < to; i++)
        if (output_of(place, i) != (fails && fails(i) ? UNTOUCHED : i * i))
            harness_fail(__FILE__, __LINE__, "output %u is %u", i, output_of(place, i));
}

EACH(results_are_written_where_they_are_to_be)
{
    static const size_t chunk_sizes[] = {0, 1, 7, 1024, 65536};
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    for (uint32_t i = 0; i < 5; i++) {
        struct place place = make_place(COUNT, 4, 4);
        CHECK_INT(run_place(pool, act, &place, COUNT - 1, (pp_map_options){.chunk_size = chunk_sizes[i]}), 0);
        check_squares(&place, 0, COUNT - 1, NULL);
        CHECK_INT(output_of(&place, COUNT - 1), UNTOUCHED);
        check_runs(0, COUNT - 1, i + 1);
        drop_place(&place);
    }
    pp_pool_destroy(pool);
}

BOTH(one_of_both_may_lie_elsewhere)
{
    static uint32_t in[COUNT], out[COUNT];
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    struct place place = make_place(COUNT, 4, 4);
    for (uint32_t i = 0; i < COUNT; i++)
        in[i] = i;
    CHECK_INT(pp_map_array(pool, act, place.in, COUNT, 4, out, 4, &(pp_map_options){.in_buffer = place.in_buffer}), 0);
    for (uint32_t i = 0; i < COUNT; i++)
        CHECK_INT(out[i], i * i);
    CHECK_INT(pp_map_array(pool, act, in, COUNT, 4, place.out, 4, &(pp_map_options){.out_buffer = place.out_buffer}),
              0);
    check_squares(&place, 0, COUNT, NULL);
    check_runs(0, COUNT, 2);
    drop_place(&place);
    pp_pool_destroy(pool);
}

static unsigned char byte_of(uint32_t number, size_t at)
{
    return (unsigned char)(number * 31 + at * 7);
}

struct sizes {
    uint32_t number, in, out;
    uint32_t at; /* where in a page of its buffer it lies, if it is to be read there */
};

#define ANYWHERE UINT32_MAX

/* The element's bytes behind its head, and an answer of as many bytes as it says. */
static int answer_pattern(pp_task *task, const void *arg, size_t size)
{
    struct sizes head;
    const unsigned char *bytes = arg;
    static unsigned char answer[60000];
    memcpy(&head, arg, sizeof head);
    CHECK_INT(size, head.in);
    if (size <= 256 || head.at == ANYWHERE)
        CHECK(is_aligned(arg) && bytes[size] == 0);
    else
        CHECK_INT((uintptr_t)arg % 4096, head.at);
    for (size_t k = sizeof head; k < size; k++)
        CHECK_INT(bytes[k], byte_of(head.number, k));
    for (size_t k = 0; k < head.out; k++)
        answer[k] = byte_of(head.number + 1, k);
    return pp_task_return(task, answer, head.out);
}

static void run_sizes(pp_pool *pool, uint32_t in_size, uint32_t out_size, size_t chunk_size, bool in_place)
{
    enum { ELEMENTS = 90 };
    struct place place = make_place(ELEMENTS, in_size, out_size);
    for (uint32_t i = 0; i < ELEMENTS; i++) {
        uint32_t at = (MARGIN + i * in_size) % 4096;
        struct sizes head = {i, in_size, out_size, in_place ? at : ANYWHERE};
        char *element = place.in + (size_t)i * in_size;
        memcpy(element, &head, sizeof head);
        for (size_t k = sizeof head; k < in_size; k++)
            element[k] = (char)byte_of(i, k);
    }
    CHECK_INT(run_place(pool, answer_pattern, &place, ELEMENTS, (pp_map_options){.chunk_size = chunk_size}), 0);
    for (uint32_t i = 0; i < ELEMENTS; i++)
        for (size_t k = 0; k < out_size; k++)
            CHECK_INT(place.out[(size_t)i * out_size + k] & 0xff, byte_of(i + 1, k));
    drop_place(&place);
}

EACH(elements_and_results_have_any_size)
{
    static const uint32_t ins[] = {16, 17, 255, 256, 257, 300, 5000, 20000},
                          outs[] = {0, 1, 4, 8, 16, 33, 1024, 1025, 60000};
    static const size_t chunk_sizes[] = {20, 1, 0};
    pp_pool *pool = kit_pool(method, 2);
    for (size_t k = 0; k < 3; k++) {
        for (size_t i = 0; i < sizeof ins / sizeof *ins; i++)
            run_sizes(pool, ins[i], outs[i], chunk_sizes[k], method != PP_START_INLINE);
        for (size_t i = 0; i < sizeof outs / sizeof *outs; i++)
            run_sizes(pool, 20, outs[i], chunk_sizes[k], method != PP_START_INLINE);
    }
    pp_pool_destroy(pool);
}

/* Each element's output is its own there. */
BOTH(a_pool_that_captures_output_copies)
{
    pp_pool *pool = kit_pool_with(method, (pp_pool_options){.max_workers = 2, .capture = PP_STDOUT});
    run_sizes(pool, 100, 8, 20, false);
    run_sizes(pool, 5000, 5000, 20, false);
    pp_pool_destroy(pool);
}

/* A chunk's results are given out when it has ended, and the owner copies none before. */
struct watcher {
    const struct place *place;
    uint32_t seen;
};

static void *watch(void *context)
{
    struct watcher *watcher = context;
    until(read_word(BEGUN) == 1);
    watcher->seen = output_of(watcher->place, 5);
    open_gate(GATE);
    return NULL;
}

BOTH(a_result_is_there_when_its_element_has_ended)
{
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    struct place place = make_place(100, 4, 4);
    struct watcher watcher = {.place = &place};
    behave(6, WAIT);
    pthread_t thread = start_thread(watch, &watcher);
    CHECK_INT(run_place(pool, act, &place, 100, (pp_map_options){.chunk_size = 100}), 0);
    join_thread(thread);
    CHECK_INT(watcher.seen, 25);
    check_squares(&place, 0, 100, NULL);
    drop_place(&place);
    pp_pool_destroy(pool);
}

/* ------------------------------------------------------------------------------------------- failures */

BOTH(failed_elements_are_counted_and_the_others_are_right)
{
    static const enum behaviour ways[] = {FAIL, CRASH, EXIT};
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    for (int way = 0; way < 3; way++) {
        uint32_t count = ways[way] == FAIL ? COUNT : 300, failures = 0;
        struct place place = make_place(count, 4, 4);
        for (uint32_t i = 0; i < count; i++) {
            behave(i, one_in_nine(i) ? ways[way] : ANSWER);
            failures += one_in_nine(i);
        }
        CHECK_INT(run_place(pool, act, &place, count, (pp_map_options){.chunk_size = 50}), failures);
        CHECK_HAS(pp_last_error(), "element 5: ");
        check_squares(&place, 0, count, one_in_nine);
        drop_place(&place);
    }
    behave_all(0, 300, CRASH_AT_FIRST);
    struct place place = make_place(40, 4, 4);
    for (uint32_t i = 0; i < 40; i++)
        atomic_store(word(FIRST_RUN + i), 0);
    CHECK_INT(run_place(pool, act, &place, 40, (pp_map_options){.chunk_size = 40, .retries = 1}), 0);
    check_squares(&place, 0, 40, NULL);
    check_runs(0, 40, 2);
    drop_place(&place);
    pp_pool_destroy(pool);
}

BOTH(a_result_of_another_size_is_a_failure_and_is_written_nowhere)
{
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    struct place place = make_place(COUNT, 4, 4);
    CHECK_INT(run_place(pool, misfit, &place, COUNT, (pp_map_options){.chunk_size = 100}), COUNT / 9);
    CHECK_HAS(pp_last_error(), "element 5: its result has 3 bytes and not 4");
    check_squares(&place, 0, COUNT, one_in_nine);
    drop_place(&place);
    pp_pool_destroy(pool);
}

TEST(arrays_that_do_not_lie_in_their_buffers_are_refused)
{
    pp_pool *pool = kit_pool(PP_START_FORK, 1);
    struct place place = make_place(10, 4, 4), other = make_place(10, 4, 4);
    pp_map_options options = {.in_buffer = place.in_buffer, .out_buffer = place.out_buffer};
    size_t most = (10 * 4 + 2 * MARGIN) / 4;
    char *in = pp_buffer_data(place.in_buffer), *out = pp_buffer_data(place.out_buffer);
    pp_map *map;
    CHECK_INT(pp_map_array(pool, nothing, in + 1, most, 4, out, 0, &options), -EINVAL);
    CHECK_HAS(pp_last_error(), "do not lie in their buffer, which has 240");
    CHECK_INT(pp_map_array(pool, nothing, in - 1, 1, 4, out, 0, &options), -EINVAL);
    CHECK_INT(pp_map_array(pool, nothing, other.in, 10, 4, out, 0, &options), -EINVAL);
    CHECK_INT(pp_map_array(pool, nothing, in, most, 4, out + 1, 4, &options), -EINVAL);
    CHECK_INT(pp_map_array(pool, nothing, in, most, 4, out - 1, 4, &options), -EINVAL);
    CHECK_INT(pp_map_array(pool, nothing, in, 0, 4, NULL, 4, &options), 0);
    options.out_buffer = place.in_buffer;
    CHECK_INT(pp_map_array(pool, nothing, in, 10, 4, in + 100, 4, &options), -EINVAL);
    CHECK_HAS(pp_last_error(), "pp_buffer_create_shared");
    options.out_buffer = place.out_buffer;
    CHECK_INT(pp_map_open_array(pool, nothing, in, 10, 4, &options, &map), -EINVAL);
    CHECK_INT(pp_map_open(pool, nothing, feed_next, &(struct feed){0}, &options, &map), -EINVAL);
    options.out_buffer = NULL;
    CHECK_INT(pp_map_open(pool, nothing, feed_next, &(struct feed){0}, &options, &map), -EINVAL);
    CHECK_HAS(pp_last_error(), "source");
    options = (pp_map_options){.in_buffer = place.out_buffer, .out_buffer = place.out_buffer};
    CHECK_INT(pp_map_array(pool, nothing, out, 10, 4, out + 39, 4, &options), -EINVAL);
    CHECK_INT(pp_map_array(pool, nothing, out + 39, 10, 4, out, 4, &options), -EINVAL);
    CHECK_HAS(pp_last_error(), "overlap");
    CHECK_INT(pp_map_array(pool, nothing, out, 10, 4, out + 40, 0, &options), 0);
    drop_place(&other);
    drop_place(&place);
    pp_pool_destroy(pool);
}

/* ------------------------------------------------------------------------------------------- lives */

BOTH(what_a_map_has_in_hand_are_the_elements_themselves)
{
    static const size_t sizes[] = {4, 301};
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    for (size_t k = 0; k < 2; k++) {
        struct place place = make_place(COUNT, sizes[k], 4);
        pp_map *map;
        CHECK_OK(pp_map_open_array(pool, act, place.in, COUNT, sizes[k],
                                   &(pp_map_options){.in_buffer = place.in_buffer, .chunk_size = 100}, &map));
        char *in = place.in;
        drop_place(&place); /* the map has the buffer as well */
        for (uint32_t i = 0; i < COUNT; i++) {
            pp_map_result result = next_of(map);
            CHECK(result.input == in + i * sizes[k]);
            CHECK_INT(value_of(&result), i * i);
        }
        CHECK_INT(end_of(map), 0);
        pp_map_close(map);
    }
    pp_pool_destroy(pool);
}

/* Element 3 fails when element 4 has begun. */
static int fail_behind(pp_task *task, const void *arg, size_t size)
{
    uint32_t i;
    memcpy(&i, arg, sizeof i);
    while (i == 3 && read_word(BEGUN) == 0)
        test_sleep_ms(1);
    return act(task, arg, size);
}

/* An element that goes on behind its map's end does not lose the memory that it writes to. */
BOTH(buffers_stay_as_long_as_an_element_runs)
{
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    struct place place = make_place(100, 4, 4);
    behave(3, FAIL);
    behave(4, WAIT);
    CHECK(run_place(pool, fail_behind, &place, 100, (pp_map_options){.chunk_size = 1, .fail_fast = 1}) > 0);
    CHECK_HAS(pp_last_error(), "element 3: ");
    CHECK_INT(read_word(BEGUN), 1);
    check_squares(&place, 0, 3, NULL);
    pp_buffer_unref(place.in_buffer);
    pp_buffer_unref(place.out_buffer);
    CHECK(kit_mappings_of("/memfd:procpool-shared") > 0);
    open_gate(GATE);
    expect_usable(pool);
    until(kit_mappings_of("/memfd:procpool-shared") == 0);
    pp_pool_destroy(pool);
}

/* The limit for files is that of a worker that has as many as it may. */
static int fill_descriptors(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    struct rlimit limit = {.rlim_cur = 0, .rlim_max = 4096};
    return setrlimit(RLIMIT_NOFILE, &limit);
}

BOTH(a_worker_that_cannot_have_a_buffer_fails_its_elements)
{
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    struct place place = make_place(10, 4, 4);
    pp_map_options options = {.in_buffer = place.in_buffer, .chunk_size = 5};
    pp_map *map;
    pp_future *future = submit(pool, fill_descriptors, NULL, 0);
    CHECK_OK(pp_future_wait(future, -1));
    pp_future_unref(future);
    CHECK_OK(pp_map_open_array(pool, act, place.in, 10, 4, &options, &map));
    for (uint32_t i = 0; i < 10; i++) {
        pp_map_result result = next_of(map);
        check_failed(&result, PP_ERROR_TRAVEL, -EBADMSG);
        CHECK_INT(result.error->task_code, -EMFILE);
    }
    CHECK_INT(end_of(map), 0);
    pp_map_close(map);
    expect_usable(pool);
    drop_place(&place);
    pp_pool_destroy(pool);
}

/* More than a worker remembers, so that each makes way for another, and chunks of several lie in its ring. */
BOTH(maps_of_many_buffers_take_turns)
{
    enum { MAPS = 12, ELEMENTS = 60 };
    struct place places[MAPS];
    pp_map *maps[MAPS];
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    for (int i = 0; i < MAPS; i++)
        places[i] = make_place(ELEMENTS, 4, 4);
    for (int i = 0; i < MAPS; i++)
        CHECK_OK(pp_map_open_array(pool, act, places[i].in, ELEMENTS, 4,
                                   &(pp_map_options){.in_buffer = places[i].in_buffer, .chunk_size = 7}, &maps[i]));
    for (uint32_t k = 0; k < ELEMENTS; k++)
        for (int i = 0; i < MAPS; i++) {
            pp_map_result result = next_of(maps[i]);
            check_square(&result, k);
        }
    for (int i = 0; i < MAPS; i++) {
        pp_map_close(maps[i]);
        CHECK_INT(run_place(pool, act, &places[i], ELEMENTS, (pp_map_options){.chunk_size = 7}), 0);
        check_squares(&places[i], 0, ELEMENTS, NULL);
        drop_place(&places[i]);
    }
    pp_pool_destroy(pool);
}

/* One that outlives its time costs its worker, and the others of its chunk go on in the next. */
BOTH(an_element_that_hangs_is_ended_and_the_others_go_on)
{
    board_make();
    pp_pool *pool = kit_pool_with(method, (pp_pool_options){.max_workers = 2, .max_tasks = 50});
    struct place place = make_place(300, 4, 4);
    for (uint32_t i = 0; i < 300; i++)
        behave(i, i % 90 == 5 ? HANG : ANSWER);
    CHECK_INT(run_place(pool, act, &place, 300, (pp_map_options){.chunk_size = 30, .timeout = 100}), 4);
    for (uint32_t i = 0; i < 300; i++)
        CHECK_INT(output_of(&place, i), i % 90 == 5 ? UNTOUCHED : i * i);
    drop_place(&place);
    pp_pool_destroy(pool);
}

TEST(a_forked_child_has_no_buffers_of_its_owner)
{
    pp_pool *pool = kit_pool(PP_START_FORK, 1);
    struct place place = make_place(10, 4, 4);
    pid_t child = fork();
    if (child == 0) {
        CHECK_INT(run_place(pool, nothing, &place, 10, (pp_map_options){0}), -EPERM);
        CHECK(pp_buffer_data(place.out_buffer) == NULL);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK_INT(status, 0);
    drop_place(&place);
    pp_pool_destroy(pool);
}

static int count_descriptors(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    int count = 0;
    for (int fd = 0; fd < 1024; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return pp_task_return(task, &count, sizeof count);
}

static uint32_t descriptors_of(pp_pool *pool)
{
    return take_u32(submit(pool, count_descriptors, NULL, 0));
}

static int count_buffers(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    uint32_t count = (uint32_t)pp_task_buffer_count(task);
    return pp_task_return(task, &count, sizeof count);
}

/* Buffers are sent once, and neither an element nor a call behind the map sees them. */
BOTH(chunks_leave_nothing_behind_in_a_worker)
{
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    uint32_t before = descriptors_of(pool);
    for (int round = 0; round < 3; round++) {
        struct place place = make_place(COUNT, 4, 4);
        CHECK_INT(run_place(pool, act, &place, COUNT, (pp_map_options){.chunk_size = 10}), 0);
        CHECK_INT(run_place(pool, count_buffers, &place, COUNT, (pp_map_options){.chunk_size = 10}), 0);
        CHECK_INT(output_of(&place, 7), 0);
        pp_future *future = submit(pool, count_buffers, NULL, 0);
        CHECK_INT(result_u32(future), 0);
        pp_future_unref(future);
        drop_place(&place);
        run_sizes(pool, 20, 60000, 20, true);
        CHECK_INT(descriptors_of(pool), before);
    }
    pp_pool_destroy(pool);
    CHECK_INT(kit_mappings_of("/memfd:procpool-shared"), 0);
}

/* ------------------------------------------------------------------------------------------- shared buffers */

/* Writes what its argument says to as many bytes as there are, if it may. */
static int fill(pp_task *task, const void *arg, size_t size)
{
    size_t room = 0;
    unsigned char *data = pp_task_shared_buffer(task, 0, &room);
    if (!data)
        return pp_task_fail(task, -EACCES, "%s", pp_last_error());
    CHECK_INT(size, 1);
    CHECK(pp_task_buffer(task, 0, NULL) == data);
    memset(data, *(const unsigned char *)arg, room);
    return 0;
}

/* NULL: it has filled the first buffer; else why not. */
static const pp_error *run_fill(pp_pool *pool, unsigned char value, pp_buffer *const *buffers, size_t count,
                                pp_future **future)
{
    const pp_error *error;
    *future = submit_with(
        pool, (pp_call){.function = fill, .arg = &value, .size = 1, .buffers = buffers, .buffer_count = count});
    CHECK(pp_future_error(*future, -1, &error) <= 0);
    return error;
}

EACH(a_task_writes_to_a_shared_buffer_and_to_no_other)
{
    enum { SIZE = 100000 };
    pp_pool *pool = kit_pool(method, 1);
    pp_buffer *shared, *own;
    pp_future *future;
    CHECK_OK(pp_buffer_create_shared(SIZE, &shared));
    CHECK_OK(pp_buffer_create(SIZE, &own));
    const unsigned char *bytes = pp_buffer_data(shared);
    for (unsigned char value = 1; value < 4; value++) {
        CHECK(run_fill(pool, value, (pp_buffer *const[]){shared, own}, 2, &future) == NULL);
        for (size_t i = 0; i < SIZE; i++)
            CHECK_INT(bytes[i], value);
        pp_future_unref(future);
        const pp_error *error = run_fill(pool, value, &own, 1, &future);
        CHECK_INT(error->task_code, -EACCES);
        CHECK_HAS(error->message, "pp_buffer_create_shared");
        pp_future_unref(future);
    }
    CHECK_INT(*(const unsigned char *)pp_buffer_data(own), 0);
    CHECK(pp_task_shared_buffer(NULL, 0, NULL) == NULL);
    CHECK(run_fill(pool, 1, NULL, 0, &future)->task_code == -EACCES); /* it looks for the first, and there is none */
    pp_future_unref(future);
    CHECK_INT(pp_buffer_create_shared(0, &shared), -EINVAL);
    pp_buffer_unref(shared);
    pp_buffer_unref(own);
    pp_pool_destroy(pool);
}
