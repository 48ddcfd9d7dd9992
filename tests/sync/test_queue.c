/* SPDX-License-Identifier: MIT */
/* Queues: first in, first out, many to many, bounded, closed, joined. */
#include "queue_kit.h"

#include "base/seam.h"
#include "sync/queue.h"

#include <stddef.h>

/* ---------------------------------------------------------------------------------------------- order */

TEST(messages_of_all_sizes_come_out_whole_and_in_order)
{
    enum { BYTES = 1000, ROUNDS = 20000 };
    pp_queue *queue = kit_queue(7, BYTES);
    unsigned char bytes[BYTES];
    unsigned sizes = 1, turns = 2;
    size_t size, waiting[8];
    uint64_t put = 0, taken = 0;
    for (int i = 0; i < ROUNDS; i++) {
        bool fits = rand_r(&turns) % 2;
        if (fits) {
            size = (size_t)rand_r(&sizes) % (i % 16 ? 200 : BYTES + 1);
            kit_fill(bytes, size, put);
            fits = pp_queue_put(queue, bytes, size, 0) == 0;
            if (fits)
                waiting[put++ % 8] = size;
        }
        CHECK_INT(pp_queue_size(queue), put - taken);
        if (!fits && put != taken) {
            CHECK_OK(pp_queue_get(queue, 0, bytes, sizeof bytes, &size));
            CHECK_INT(size, waiting[taken % 8]);
            CHECK(kit_filled(bytes, size, taken++));
        }
    }
    CHECK(taken > 1000);
    pp_queue_unref(queue);
}

TEST(a_queue_holds_no_more_messages_than_it_may)
{
    pp_queue *queue = kit_queue(3, 0);
    CHECK_INT(pp_queue_empty(queue), 1);
    CHECK_INT(pp_queue_full(queue), 0);
    for (int i = 0; i < 3; i++)
        kit_put(queue, i);
    CHECK_INT(pp_queue_empty(queue), 0);
    CHECK_INT(pp_queue_full(queue), 1);
    CHECK_INT(pp_queue_size(queue), 3);
    CHECK_INT(pp_queue_put(queue, NULL, 0, 0), -ETIMEDOUT);
    CHECK_HAS(pp_last_error(), "no room");
    CHECK_INT(pp_queue_put(queue, NULL, 0, 120), -ETIMEDOUT);
    CHECK_INT(kit_get(queue), 0);
    CHECK_INT(pp_queue_full(queue), 0);
    kit_put(queue, 3);
    for (int i = 1; i < 4; i++)
        CHECK_INT(kit_get(queue), i);
    CHECK_INT(pp_queue_get(queue, 0, NULL, 0, NULL), -ETIMEDOUT);
    CHECK_HAS(pp_last_error(), "no message");
    CHECK_INT(pp_queue_get(queue, 120, NULL, 0, NULL), -ETIMEDOUT);
    pp_queue_unref(queue);
}

TEST(a_queue_holds_no_more_bytes_than_it_may)
{
    pp_queue *queue = kit_queue(100, 1000);
    unsigned char bytes[1000];
    size_t size;
    kit_fill(bytes, 1000, 5);
    CHECK_INT(pp_queue_put(queue, bytes, 1001, -1), -EMSGSIZE);
    for (int i = 0; i < 3; i++) {
        CHECK_OK(pp_queue_put(queue, bytes, 1000, 0));
        CHECK_OK(pp_queue_put(queue, NULL, 0, 0));
        CHECK_INT(pp_queue_put(queue, bytes, 1, 0), -ETIMEDOUT);
        memset(bytes, 0, sizeof bytes);
        CHECK_OK(pp_queue_get(queue, 0, bytes, sizeof bytes, &size));
        CHECK_INT(size, 1000);
        CHECK(kit_filled(bytes, size, 5));
        CHECK_OK(pp_queue_put(queue, bytes, 1, 0));
        CHECK_OK(pp_queue_get(queue, 0, NULL, 0, NULL));
        CHECK_OK(pp_queue_get(queue, 0, bytes, 1, NULL));
    }
    pp_queue_unref(queue);
}

TEST(a_queue_of_one_message_works)
{
    pp_queue *queue = kit_queue(1, 1);
    for (char i = 0; i < 10; i++) {
        char byte;
        CHECK_OK(pp_queue_put(queue, &i, 1, 0));
        CHECK_INT(pp_queue_put(queue, NULL, 0, 0), -ETIMEDOUT);
        CHECK_OK(pp_queue_get(queue, 0, &byte, 1, NULL));
        CHECK_INT(byte, i);
    }
    pp_queue_unref(queue);
}

/* --------------------------------------------------------------------------------------------- waiting */

static void put_a_hundred(void *queue)
{
    for (int i = 0; i < 100; i++)
        CHECK_OK(pp_queue_put(queue, &i, sizeof i, -1));
}

static void get_a_hundred(void *queue)
{
    int number;
    for (int i = 0; i < 100; i++) {
        CHECK_OK(pp_queue_get(queue, -1, &number, sizeof number, NULL));
        CHECK_INT(number, i);
    }
}

TEST(who_waits_for_room_or_a_message_goes_on_when_there_is)
{
    pp_queue *queue = kit_queue(1, 0);
    pid_t child = kit_fork(put_a_hundred, queue);
    for (int i = 0; i < 100; i++) {
        if (i < 3)
            test_sleep_ms(10);
        CHECK_INT(kit_get(queue), i);
    }
    kit_end_well(child);
    child = kit_fork(get_a_hundred, queue);
    for (int i = 0; i < 100; i++) {
        if (i < 3)
            test_sleep_ms(10);
        kit_put(queue, i);
    }
    kit_end_well(child);
    pp_queue_unref(queue);
}

struct exchange {
    pp_queue *queue;
    _Atomic long *sum, *count;
};

#define EACH 1500

static void *produce(void *argument)
{
    struct exchange *exchange = argument;
    for (int i = 1; i <= EACH; i++)
        CHECK_OK(pp_queue_put(exchange->queue, &i, sizeof i, -1));
    return NULL;
}

static void *consume(void *argument)
{
    struct exchange *exchange = argument;
    int number, error;
    while ((error = pp_queue_get(exchange->queue, -1, &number, sizeof number, NULL)) == 0) {
        atomic_fetch_add(exchange->sum, number);
        atomic_fetch_add(exchange->count, 1);
    }
    CHECK_INT(error, -EPIPE);
    return NULL;
}

static void produce_and_end(void *argument)
{
    pthread_t other;
    CHECK_INT(pthread_create(&other, NULL, produce, argument), 0);
    produce(argument);
    CHECK_INT(pthread_join(other, NULL), 0);
}

static void consume_and_end(void *argument)
{
    pthread_t other;
    CHECK_INT(pthread_create(&other, NULL, consume, argument), 0);
    consume(argument);
    CHECK_INT(pthread_join(other, NULL), 0);
}

TEST(many_threads_of_many_processes_put_and_get_each_message_once)
{
    _Atomic long *words = kit_shared(2 * sizeof(long));
    struct exchange exchange = {.queue = kit_queue(16, 0), .sum = words, .count = words + 1};
    pid_t producers[3], consumers[3];
    for (int i = 0; i < 3; i++) {
        producers[i] = kit_fork(produce_and_end, &exchange);
        consumers[i] = kit_fork(consume_and_end, &exchange);
    }
    produce_and_end(&exchange);
    for (int i = 0; i < 3; i++)
        kit_end_well(producers[i]);
    CHECK_OK(pp_queue_close(exchange.queue));
    for (int i = 0; i < 3; i++)
        kit_end_well(consumers[i]);
    CHECK_INT(*exchange.count, 8 * EACH);
    CHECK_INT(*exchange.sum, 8L * EACH * (EACH + 1) / 2);
    pp_queue_unref(exchange.queue);
}

static int get_for_long(void *queue)
{
    return pp_queue_get(queue, kit_wait, NULL, 0, NULL);
}

static int put_for_long(void *queue)
{
    return pp_queue_put(queue, NULL, 0, kit_wait);
}

TEST(a_signal_interrupts_the_wait_unless_handlers_restart)
{
    pp_queue *queue = kit_queue(1, 0);
    CHECK_INT(kit_interrupted(get_for_long, queue, 0), -EINTR);
    CHECK_INT(kit_interrupted(get_for_long, queue, SA_RESTART), -ETIMEDOUT);
    kit_put(queue, 1);
    CHECK_INT(kit_interrupted(put_for_long, queue, 0), -EINTR);
    CHECK_INT(kit_interrupted(put_for_long, queue, SA_RESTART), -ETIMEDOUT);
    pp_queue_unref(queue);
}

/* ------------------------------------------------------------------------------------- what is too large */

TEST(a_message_that_does_not_fit_stays_in_the_queue)
{
    pp_queue *queue = kit_queue(0, 0);
    char buffer[10] = "unchanged";
    size_t size = 1;
    CHECK_OK(pp_queue_put(queue, "twelve bytes", 12, 0));
    CHECK_INT(pp_queue_get(queue, 0, buffer, 10, &size), -EMSGSIZE);
    CHECK_INT(size, 12);
    CHECK_HAS(pp_last_error(), "12 bytes");
    CHECK_INT(pp_queue_get(queue, 0, buffer, 10, NULL), -EMSGSIZE);
    CHECK_STR(buffer, "unchanged");
    CHECK_OK(pp_queue_put(queue, "four", 4, 0));
    char room[12];
    CHECK_OK(pp_queue_get(queue, 0, room, 12, NULL));
    CHECK_INT(pp_queue_get(queue, 0, room, 12, NULL), -EMSGSIZE); /* it has not exactly so many */
    CHECK_OK(pp_queue_get(queue, 0, room, 12, &size));
    CHECK_INT(size, 4);
    pp_queue_unref(queue);
}

TEST(a_message_is_taken_with_memory_of_its_own)
{
    pp_queue *queue = kit_queue(0, 0);
    static unsigned char bytes[100000];
    const size_t sizes[] = {0, 1, 223, 224, 225, 100000};
    void *data;
    size_t size;
    kit_fill(bytes, sizeof bytes, 3);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        CHECK_OK(pp_queue_put(queue, bytes, sizes[i], 0));
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        CHECK_OK(pp_queue_take(queue, 0, &data, &size));
        CHECK_INT(size, sizes[i]);
        CHECK_INT((uintptr_t)data % 16, 0);
        CHECK_INT(memcmp(data, bytes, size), 0);
        CHECK_INT(((char *)data)[size], 0);
        pp_free(data);
    }
    CHECK_INT(pp_queue_take(queue, 0, &data, &size), -ETIMEDOUT);
    pp_queue_unref(queue);
}

/* As if another one slept until there is a message. */
static uint32_t sleep_beside(pp_queue *queue)
{
    struct pp__place *place = &pp__queue_shared(queue)->gate.places[PP__QUEUE_MESSAGE];
    place->sleepers = 1;
    return atomic_load(&place->sequence);
}

static bool was_rung(pp_queue *queue, uint32_t before)
{
    return atomic_load(&pp__queue_shared(queue)->gate.places[PP__QUEUE_MESSAGE].sequence) != before;
}

#ifdef PP_SEAMS
static void *(*whole_malloc)(size_t);

static void *small_malloc(size_t size)
{
    return size < 1000 ? whole_malloc(size) : NULL;
}

TEST(who_has_no_memory_for_a_message_leaves_it_to_another_who_waits)
{
    static char bytes[2000];
    pp_queue *queue = kit_queue(0, 0);
    void *data = bytes;
    size_t size;
    CHECK_OK(pp_queue_put(queue, bytes, sizeof bytes, 0));
    uint32_t before = sleep_beside(queue);
    whole_malloc = pp__sys.malloc;
    pp__sys.malloc = small_malloc;
    CHECK_INT(pp_queue_take(queue, 0, &data, &size), -ENOMEM);
    CHECK_HAS(pp_last_error(), "2000 bytes");
    pp__sys.malloc = whole_malloc;
    CHECK(was_rung(queue, before));
    CHECK(data == bytes);
    CHECK_INT(pp_queue_size(queue), 1);
    CHECK_OK(pp_queue_take(queue, 0, &data, &size));
    CHECK_INT(size, sizeof bytes);
    pp_free(data);
    pp_queue_unref(queue);
}
#endif

/* ----------------------------------------------------------------------------------------------- close */

static void get_till_the_end(void *queue)
{
    int number, error;
    while ((error = pp_queue_get(queue, -1, &number, sizeof number, NULL)) == 0) {
    }
    CHECK_INT(error, -EPIPE);
}

static void put_till_the_end(void *queue)
{
    int error;
    while ((error = pp_queue_put(queue, "x", 1, -1)) == 0) {
    }
    CHECK_INT(error, -EPIPE);
}

TEST(a_closed_queue_gives_what_is_left_and_then_its_end)
{
    pp_queue *queue = kit_queue(2, 0);
    kit_put(queue, 1);
    kit_put(queue, 2);
    CHECK_OK(pp_queue_close(queue));
    CHECK_OK(pp_queue_close(queue));
    CHECK_INT(pp_queue_put(queue, NULL, 0, -1), -EPIPE);
    CHECK_HAS(pp_last_error(), "closed");
    CHECK_INT(kit_get(queue), 1);
    CHECK_INT(pp_queue_put(queue, NULL, 0, -1), -EPIPE);
    CHECK_INT(kit_get(queue), 2);
    for (int i = 0; i < 2; i++)
        CHECK_INT(pp_queue_get(queue, -1, NULL, 0, NULL), -EPIPE);
    CHECK_HAS(pp_last_error(), "all was taken");
    pp_queue_unref(queue);
}

TEST(all_who_wait_see_that_a_queue_is_closed)
{
    pp_queue *empty = kit_queue(1, 0), *full = kit_queue(1, 0);
    pid_t children[6];
    for (int i = 0; i < 6; i++)
        children[i] = i % 2 ? kit_fork(get_till_the_end, empty) : kit_fork(put_till_the_end, full);
    test_sleep_ms(20);
    CHECK_OK(pp_queue_close(empty));
    CHECK_OK(pp_queue_close(full));
    for (int i = 0; i < 6; i++)
        kit_end_well(children[i]);
    pp_queue_unref(empty);
    pp_queue_unref(full);
}

/* ------------------------------------------------------------------------------------------------ join */

static void work_off(void *queue)
{
    int number, error;
    while ((error = pp_queue_get(queue, -1, &number, sizeof number, NULL)) == 0) {
        if (number % 10 == 0)
            test_sleep_ms(1);
        CHECK_OK(pp_queue_task_done(queue));
    }
    CHECK_INT(error, -EPIPE);
}

TEST(a_join_waits_until_all_messages_are_done)
{
    pp_queue *queue = kit_joinable(0);
    pid_t children[3];
    CHECK_OK(pp_queue_join(queue, 0));
    for (int i = 0; i < 100; i++)
        kit_put(queue, i);
    CHECK_INT(pp_queue_join(queue, 0), -ETIMEDOUT);
    CHECK_HAS(pp_last_error(), "not done");
    for (int i = 0; i < 3; i++)
        children[i] = kit_fork(work_off, queue);
    CHECK_OK(pp_queue_join(queue, KIT_ENOUGH));
    CHECK_INT(pp_queue_size(queue), 0);
    kit_put(queue, 1);
    CHECK_OK(pp_queue_join(queue, KIT_ENOUGH));
    CHECK_OK(pp_queue_close(queue));
    for (int i = 0; i < 3; i++)
        kit_end_well(children[i]);
    pp_queue_unref(queue);
}

TEST(what_is_taken_and_not_done_is_waited_for)
{
    pp_queue *queue = kit_joinable(0);
    kit_put(queue, 1);
    CHECK_INT(pp_queue_task_done(queue), -EPERM);
    CHECK_INT(kit_get(queue), 1);
    CHECK_INT(pp_queue_join(queue, 120), -ETIMEDOUT);
    CHECK_OK(pp_queue_task_done(queue));
    CHECK_OK(pp_queue_join(queue, -1));
    CHECK_INT(pp_queue_task_done(queue), -EPERM);
    CHECK_HAS(pp_last_error(), "not done");
    pp_queue_unref(queue);
}

static void take_two_and_stay(void *queue)
{
    kit_get(queue);
    kit_get(queue);
    for (;;)
        pause();
}

TEST(what_a_dead_process_had_taken_counts_as_done)
{
    pp_queue *queue = kit_joinable(0);
    kit_put(queue, 1);
    kit_put(queue, 2);
    pid_t child = kit_fork(take_two_and_stay, queue);
    wait_until(pp_queue_empty(queue), 5);
    CHECK_INT(pp_queue_join(queue, 60), -ETIMEDOUT);
    kit_kill(child);
    CHECK_OK(pp_queue_join(queue, KIT_ENOUGH));
    pp_queue_unref(queue);
}

/* Records as if so many processes that live had messages, all of them this one's parent. */
TEST(a_message_for_whose_taker_there_is_no_record_stays_in_the_queue)
{
    pp_queue *queue = kit_joinable(0);
    struct pp__holders *holders = &pp__queue_shared(queue)->holders;
    for (unsigned i = 0; i < PP__HOLDERS_MAX; i++) {
        holders->records[i].pid = (uint32_t)getppid();
        holders->records[i].units = 1;
    }
    holders->used = PP__HOLDERS_MAX;
    kit_put(queue, 1);
    CHECK_INT(pp_queue_get(queue, 0, &(int){0}, sizeof(int), NULL), -EUSERS);
    CHECK_HAS(pp_last_error(), "1024 processes");
    uint32_t before = sleep_beside(queue);
    CHECK_INT(pp_queue_take(queue, 0, &(void *){NULL}, &(size_t){0}), -EUSERS);
    CHECK(was_rung(queue, before)); /* another one might be no new taker */
    CHECK_INT(pp_queue_size(queue), 1);
    holders->records[1000].pid = INT32_MAX; /* one of them has died */
    CHECK_INT(kit_get(queue), 1);
    pp_queue_unref(queue);
}

static void join_it(void *queue)
{
    CHECK_OK(pp_queue_join(queue, -1));
}

TEST(many_who_join_go_on_together_when_the_last_message_is_done_or_its_taker_dead)
{
    pp_queue *queue = kit_joinable(0);
    pid_t joiners[3];
    for (int round = 0; round < 2; round++) {
        pid_t taker = -1;
        kit_put(queue, 1);
        kit_put(queue, 2);
        if (round == 0)
            taker = kit_fork(take_two_and_stay, queue);
        else
            kit_get(queue), kit_get(queue);
        for (int i = 0; i < 3; i++)
            joiners[i] = kit_fork(join_it, queue);
        wait_until(pp_queue_empty(queue), 5);
        test_sleep_ms(10);
        if (round == 0)
            kit_kill(taker);
        else
            for (int i = 0; i < 2; i++)
                CHECK_OK(pp_queue_task_done(queue));
        for (int i = 0; i < 3; i++)
            kit_end_well(joiners[i]);
    }
    pp_queue_unref(queue);
}

static int join_for_long(void *queue)
{
    return pp_queue_join(queue, kit_wait);
}

TEST(a_signal_interrupts_a_join)
{
    pp_queue *queue = kit_joinable(0);
    kit_put(queue, 1);
    CHECK_INT(kit_interrupted(join_for_long, queue, 0), -EINTR);
    CHECK_INT(kit_interrupted(join_for_long, queue, SA_RESTART), -ETIMEDOUT);
    pp_queue_unref(queue);
}

/* ------------------------------------------------------------------------------------------ descriptors */

static int open_queue(int fd)
{
    pp_queue *queue;
    int error = pp_queue_open(fd, &queue);
    if (!error)
        pp_queue_unref(queue);
    return error;
}

TEST(a_queue_goes_by_its_descriptor_and_nothing_else_is_taken_for_one)
{
    int descriptors = kit_open_descriptors(), mappings = kit_memfd_mappings();
    pp_queue *queue = kit_joinable(5), *again;
    CHECK_OK(pp_queue_open(pp_queue_fd(queue), &again));
    kit_put(again, 7);
    CHECK_INT(kit_get(queue), 7);
    CHECK_OK(pp_queue_task_done(again));
    for (int i = 0; i < 5; i++)
        kit_put(again, i);
    CHECK_INT(pp_queue_full(queue), 1);
    CHECK_INT(pp_queue_full(again), 1);
    kit_check_refusals(open_queue, pp_queue_fd(queue));
    CHECK(pp_queue_ref(queue) == queue);
    pp_queue_unref(queue);
    pp_queue_unref(queue);
    pp_queue_unref(again);
    CHECK_INT(kit_open_descriptors(), descriptors);
    CHECK_INT(kit_memfd_mappings(), mappings);
}

/* Offset of a word in the segment that has this value in a fresh queue. */
static size_t place_of(int fd, const void *value, size_t size)
{
    unsigned char bytes[1024];
    CHECK_INT(pread(fd, bytes, sizeof bytes, 0), sizeof bytes);
    unsigned char *at = memmem(bytes + 24, sizeof bytes - 24, value, size);
    CHECK(at != NULL);
    return (size_t)(at - bytes);
}

TEST(a_queue_that_does_not_fit_its_memory_is_refused)
{
    const uint64_t items = 12345, bytes = 0x123456, wrong[] = {0, 1 << 20, UINT64_MAX, UINT64_MAX / 2, UINT64_MAX / 16};
    pp_queue *queue = kit_queue(items, bytes);
    int fd = pp_queue_fd(queue);
    size_t at[] = {place_of(fd, &items, 8), place_of(fd, &bytes, 8)};
    for (int which = 0; which < 2; which++)
        for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
            if (which == 1 && wrong[i] == 1 << 20)
                continue; /* less than it has */
            int forged = kit_forged(fd, at[which], &wrong[i], 8);
            CHECK_INT(open_queue(forged), -EINVAL);
            CHECK_HAS(pp_last_error(), "does not fit");
            close(forged);
        }
    pp_queue_unref(queue);
}

/* Uses a queue in which one word is garbage: how often that was told. */
static int use_broken(pp_queue *broken)
{
    unsigned char buffer[4096];
    size_t size;
    int told = 0;
    for (int turn = 0; turn < 6; turn++) {
        told += pp_queue_get(broken, 0, buffer, sizeof buffer, &size) == -EPROTO;
        told += pp_queue_put(broken, buffer, 100, 0) == -EPROTO;
        pp_queue_task_done(broken);
        pp_queue_join(broken, 0);
        CHECK(pp_queue_size(broken) <= 4);
    }
    return told;
}

/* Counts, records, index and bytes, behind the limits and the gate, one word after the other. */
static void garble(pp_queue *queue)
{
    const uint64_t garbage[] = {UINT64_MAX, 0x7fffffff00000001, 0x100};
    pp_queue *broken;
    int told = 0;
    for (size_t word = offsetof(struct pp__shared_queue, counts); word < 1024; word += 8)
        for (size_t i = 0; i < sizeof garbage / sizeof garbage[0]; i++) {
            int forged = kit_forged(pp_queue_fd(queue), word, &garbage[i], 8);
            CHECK_OK(pp_queue_open(forged, &broken));
            close(forged);
            told += use_broken(broken);
            pp_queue_unref(broken);
        }
    CHECK(told > 0);
}

TEST(garbage_in_a_queues_memory_is_told_or_does_no_harm)
{
    pp_queue *queue = kit_queue(4, 4096), *joinable = kit_joinable(4);
    kit_put(queue, 1);
    kit_put(queue, 2);
    kit_put(joinable, 1);
    kit_put(joinable, 2);
    kit_get(joinable);
    garble(queue);
    garble(joinable);
    pp_queue_unref(queue);
    pp_queue_unref(joinable);
}

TEST(more_messages_than_there_can_be_are_told)
{
    pp_queue *queue = kit_queue(4, 4096);
    pp__queue_shared(queue)->counts.put = 5;
    CHECK_INT(pp_queue_get(queue, -1, NULL, 0, NULL), -EPROTO);
    CHECK_HAS(pp_last_error(), "overwritten");
    CHECK_INT(pp_queue_take(queue, -1, &(void *){NULL}, &(size_t){0}), -EPROTO);
    CHECK_INT(pp_queue_put(queue, NULL, 0, -1), -EPROTO);
    CHECK_INT(pp_queue_size(queue), 4);
    pp_queue_unref(queue);
}

/* ------------------------------------------------------------------------------------------ in workers */

static int work_by_descriptors(pp_task *task, const void *arg, size_t size)
{
    int number, error, fds[2];
    pp_queue *in, *out;
    CHECK_INT(size, sizeof fds);
    memcpy(fds, arg, sizeof fds);
    if (pp_queue_open(fds[0], &in) != 0 || pp_queue_open(fds[1], &out) != 0)
        return pp_task_fail(task, -EBADF, "%s", pp_last_error());
    while ((error = pp_queue_get(in, -1, &number, sizeof number, NULL)) == 0) {
        number *= number;
        CHECK_OK(pp_queue_put(out, &number, sizeof number, -1));
    }
    pp_queue_unref(in);
    pp_queue_unref(out);
    return error == -EPIPE ? 0 : error;
}

TEST(workers_of_a_pool_take_from_one_queue_and_put_into_another)
{
    pp_queue *in = kit_queue(0, 0), *out = kit_queue(0, 0);
    int fds[] = {pp_queue_fd(in), pp_queue_fd(out)}, sum = 0;
    pp_pool *pool;
    pp_future *futures[2];
    CHECK_OK(pp_pool_create(
        &(pp_pool_options){
            .max_workers = 2, .start_method = PP_START_FORKSERVER, .inherit_fds = fds, .inherit_fd_count = 2},
        &pool));
    for (int i = 0; i < 2; i++)
        CHECK_OK(pp_submit(pool, work_by_descriptors, fds, sizeof fds, &futures[i]));
    for (int i = 1; i <= 100; i++)
        kit_put(in, i);
    for (int i = 1; i <= 100; i++)
        sum += kit_get(out);
    CHECK_INT(sum, 338350);
    CHECK_OK(pp_queue_close(in));
    for (int i = 0; i < 2; i++) {
        CHECK_OK(pp_future_result(futures[i], -1, NULL, 0, NULL));
        pp_future_unref(futures[i]);
    }
    pp_pool_destroy(pool);
    pp_queue_unref(in);
    pp_queue_unref(out);
}

TEST(arguments_that_cannot_be_are_refused)
{
    pp_queue *queue = kit_queue(0, 0), *none;
    void *data;
    size_t size;
    char byte;
    CHECK_INT(pp_queue_create(NULL, NULL), -EINVAL);
    CHECK_INT(pp_queue_create(&(pp_queue_options){.reserved = {1}}, &none), -EINVAL);
    CHECK_INT(pp_queue_create(&(pp_queue_options){.joinable = 2}, &none), -EINVAL);
    CHECK_HAS(pp_last_error(), "joinable is 2");
    CHECK_INT(pp_queue_create(&(pp_queue_options){.max_items = (1 << 24) + 1}, &none), -EINVAL);
    CHECK_INT(pp_queue_create(&(pp_queue_options){.max_bytes = SIZE_MAX}, &none), -EINVAL);
    CHECK_INT(pp_queue_create(&(pp_queue_options){.max_bytes = (size_t)1 << 60}, &none), -ENOMEM);
    CHECK_INT(pp_queue_open(-1, NULL), -EINVAL);
    CHECK_INT(pp_queue_open(-1, &none), -EBADF);
    CHECK_INT(pp_queue_fd(NULL), -EINVAL);
    CHECK(pp_queue_ref(NULL) == NULL);
    pp_queue_unref(NULL);
    CHECK_INT(pp_queue_put(NULL, &byte, 1, 0), -EINVAL);
    CHECK_INT(pp_queue_put(queue, NULL, 1, 0), -EINVAL);
    CHECK_INT(pp_queue_get(NULL, 0, &byte, 1, NULL), -EINVAL);
    CHECK_INT(pp_queue_get(queue, 0, NULL, 1, NULL), -EINVAL);
    CHECK_INT(pp_queue_take(NULL, 0, &data, &size), -EINVAL);
    CHECK_INT(pp_queue_take(queue, 0, NULL, &size), -EINVAL);
    CHECK_INT(pp_queue_take(queue, 0, &data, NULL), -EINVAL);
    CHECK_INT(pp_queue_size(NULL), -EINVAL);
    CHECK_INT(pp_queue_empty(NULL), -EINVAL);
    CHECK_INT(pp_queue_full(NULL), -EINVAL);
    CHECK_INT(pp_queue_close(NULL), -EINVAL);
    CHECK_INT(pp_queue_task_done(NULL), -EINVAL);
    CHECK_INT(pp_queue_join(NULL, 0), -EINVAL);
    CHECK_INT(pp_queue_task_done(queue), -EINVAL);
    CHECK_INT(pp_queue_join(queue, 0), -EINVAL);
    CHECK_HAS(pp_last_error(), "not joinable");
    pp_queue_unref(queue);
}
