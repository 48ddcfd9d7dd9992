/* SPDX-License-Identifier: MIT */
/*
 * For tests of maps: a source that counts what is pulled, and a task whose behaviour the test sets for each element.
 * How often each element was begun is counted on the board (call_kit.h), so it is known also when its worker has died.
 */
#ifndef PP_TESTS_POOL_MAP_KIT_H
#define PP_TESTS_POOL_MAP_KIT_H

#include "call_kit.h"

enum { BEGUN, GATE, FIRST_BEHAVIOUR = 1 << 16, FIRST_RUN = 1 << 17, MOST_ELEMENTS = 1 << 16 };

enum behaviour {
    ANSWER, /* the square of the element */
    WAIT,   /* the same, behind GATE; BEGUN counts those who have come to it */
    FAIL,
    CRASH,
    CRASH_AT_FIRST, /* answers at the second try */
    EXIT,           /* with status 0 */
    HANG
};

static inline void behave(uint32_t element, enum behaviour how)
{
    atomic_store(word(FIRST_BEHAVIOUR + element), how);
}

static inline void behave_all(uint32_t from, uint32_t to, enum behaviour how)
{
    for (uint32_t i = from; i < to; i++)
        behave(i, how);
}

static inline uint32_t runs_of(uint32_t element)
{
    return read_word(FIRST_RUN + element);
}

static inline uint32_t runs_between(uint32_t from, uint32_t to)
{
    uint32_t sum = 0;
    for (uint32_t i = from; i < to; i++)
        sum += runs_of(i);
    return sum;
}

static inline void check_runs(uint32_t from, uint32_t to, uint32_t expected)
{
    for (uint32_t i = from; i < to; i++)
        if (runs_of(i) != expected)
            harness_fail(__FILE__, __LINE__, "element %u was begun %u times, not %u", i, runs_of(i), expected);
}

/* The argument begins with the element's number. */
static inline int act(pp_task *task, const void *arg, size_t size)
{
    uint32_t i;
    CHECK(size >= sizeof i);
    memcpy(&i, arg, sizeof i);
    uint32_t before = atomic_fetch_add(word(FIRST_RUN + i), 1);
    switch (read_word(FIRST_BEHAVIOUR + i)) {
    case WAIT:
        add(BEGUN);
        wait_at(GATE);
        break;
    case FAIL:
        return pp_task_fail(task, -EDOM, "element %u refuses", i);
    case CRASH_AT_FIRST:
        if (before > 0)
            break;
        raise(SIGKILL);
        break;
    case CRASH:
        raise(SIGKILL);
        break;
    case EXIT:
        exit(0);
    case HANG:
        for (;;)
            pause();
    default:
        break;
    }
    uint32_t square = i * i;
    return pp_task_return(task, &square, sizeof square);
}

static inline bool one_in_nine(uint32_t i)
{
    return i % 9 == 5;
}

/* Answers those with too little or too much, and the others with their squares. */
static inline int misfit(pp_task *task, const void *arg, size_t size)
{
    uint32_t i, square[2] = {0, 1};
    CHECK_INT(size, sizeof i);
    memcpy(&i, arg, sizeof i);
    add(FIRST_RUN + i);
    square[0] = i * i;
    size_t wrong = i % 2 ? 3 : 8;
    return pp_task_return(task, square, one_in_nine(i) ? wrong : 4);
}

/* ------------------------------------------------------------------------------------------- results */

static inline uint32_t value_of(const pp_map_result *result)
{
    uint32_t value;
    CHECK_INT(result->size, sizeof value);
    memcpy(&value, result->data, sizeof value);
    return value;
}

static inline bool is_aligned(const void *data)
{
    return (uintptr_t)data % 16 == 0;
}

/* A good result of `act` for an element that came as a number alone. */
static inline void check_square(const pp_map_result *result, uint32_t element)
{
    uint32_t input;
    if (result->code)
        harness_fail(__FILE__, __LINE__, "element %u failed: %s", element, result->error->message);
    CHECK(result->error == NULL);
    CHECK_INT(value_of(result), element * element);
    CHECK(is_aligned(result->data));
    CHECK_INT(((const char *)result->data)[result->size], 0);
    CHECK_INT(result->input_size, sizeof input);
    memcpy(&input, result->input, sizeof input);
    CHECK_INT(input, element);
}

static inline void check_failed(const pp_map_result *result, pp_error_kind kind, int code)
{
    CHECK(result->error != NULL);
    if (result->error->kind != kind)
        harness_fail(__FILE__, __LINE__, "input %llu failed with kind %d, not %d: %s",
                     (unsigned long long)result->index, (int)result->error->kind, (int)kind, result->error->message);
    CHECK_INT(result->code, code);
    CHECK_INT(result->error->code, code);
    CHECK(*result->error->message);
}

/* The next result, which there must be. */
static inline pp_map_result next_of(pp_map *map)
{
    pp_map_result result = {0};
    int got = pp_map_next(map, -1, &result);
    if (got != 1)
        harness_fail(__FILE__, __LINE__, "pp_map_next is %d: %s", got, pp_last_error());
    return result;
}

static inline int end_of(pp_map *map)
{
    pp_map_result result;
    return pp_map_next(map, -1, &result);
}

/* -------------------------------------------------------------------------------------------- sources */

/* Gives the numbers from 0 on, all from the same place, which must have been read before the next one is asked for. */
struct feed {
    uint32_t count;    /* how many, then the end */
    int end;           /* what it returns then */
    uint32_t pulled;   /* so far */
    uint32_t given;    /* results given out so far: the test counts */
    uint32_t most;     /* the most that was pulled and not given */
    uint32_t asked;    /* how often it was asked */
    uint32_t pauses;   /* it says -EAGAIN so often ... */
    uint32_t pause_at; /* ... when so many were pulled */
    uint32_t number;
};

static inline int feed_next(void *context, pp_map_input *input)
{
    struct feed *feed = context;
    CHECK(input->data == NULL && input->size == 0 && input->tag == NULL);
    feed->asked++;
    if (feed->pauses > 0 && feed->pulled == feed->pause_at) {
        feed->pauses--;
        return -EAGAIN;
    }
    if (feed->pulled == feed->count)
        return feed->end;
    feed->number = feed->pulled++;
    if (feed->pulled - feed->given > feed->most)
        feed->most = feed->pulled - feed->given;
    *input = (pp_map_input){
        .data = &feed->number, .size = sizeof feed->number, .tag = (void *)(uintptr_t)(feed->number + 1000)};
    return 1;
}

static inline pp_map *open_feed(pp_pool *pool, struct feed *feed, pp_map_options options)
{
    pp_map *map = NULL;
    CHECK_OK(pp_map_open(pool, act, feed_next, feed, &options, &map));
    CHECK(map != NULL);
    return map;
}

/* The next result of such a map, counted as given. */
static inline pp_map_result next_fed(pp_map *map, struct feed *feed)
{
    pp_map_result result = next_of(map);
    CHECK_INT((uintptr_t)result.tag, result.index + 1000);
    feed->given++;
    return result;
}

static inline uint32_t *make_numbers(uint32_t count)
{
    uint32_t *numbers = malloc(count * sizeof *numbers);
    CHECK(numbers != NULL);
    for (uint32_t i = 0; i < count; i++)
        numbers[i] = i;
    return numbers;
}

/* A thread that maps numbers to their squares. */
struct mapper {
    pp_pool *pool;
    pp_map_options options;
    uint32_t count;
};

static inline void *map_squares(void *context)
{
    struct mapper *mapper = context;
    struct feed feed = {.count = mapper->count};
    pp_map *map = open_feed(mapper->pool, &feed, mapper->options);
    for (uint32_t i = 0; i < mapper->count; i++) {
        pp_map_result result = next_fed(map, &feed);
        check_square(&result, (uint32_t)result.index);
        CHECK(mapper->options.unordered || result.index == i);
    }
    CHECK_INT(end_of(map), 0);
    pp_map_close(map);
    return NULL;
}

#endif
