/* SPDX-License-Identifier: MIT */
/* The ring between two ends that keep to the rules, in one thread. */
#include "ring_kit.h"

#define CAPACITY 1024u
#define LARGEST (CAPACITY / 16 * 5 + 48)
#define JUST_BELOW_THE_WRAP (UINT64_MAX - 2 * CAPACITY + 1)

static uint32_t room_of(uint32_t size)
{
    return (16 + size + 63) / 64 * 64;
}

static void pass_one_record(struct kit *kit, uint64_t start, uint32_t size)
{
    kit_start(kit, start);
    CHECK(kit_put(kit, size, size));
    kit_expect_none(kit);
    pp__ring_publish(&kit->writer);
    CHECK(pp__ring_waiting(&kit->reader));
    kit_expect(kit, size, size);
    kit_expect_none(kit);
    CHECK(!pp__ring_drained(&kit->writer));
    pp__ring_release(&kit->reader);
    CHECK(pp__ring_drained(&kit->writer));
}

static void pass_every_size_at_every_place(uint64_t base)
{
    struct kit kit;
    kit_open(&kit, CAPACITY);
    for (uint64_t start = base; start != base + CAPACITY; start += 64)
        for (uint32_t size = 0; size <= LARGEST; size++)
            pass_one_record(&kit, start, size);
    kit_close(&kit);
}

TEST(every_size_passes_at_every_place_of_the_ring)
{
    pass_every_size_at_every_place(0);
}

TEST(every_size_passes_when_the_cursors_pass_two_to_the_64)
{
    pass_every_size_at_every_place(UINT64_MAX - CAPACITY + 1);
}

TEST(what_is_larger_than_the_largest_is_refused_and_spoils_nothing)
{
    struct kit kit;
    kit_open(&kit, CAPACITY);
    CHECK_INT(pp__ring_largest(CAPACITY), LARGEST);
    static const uint32_t sizes[] = {LARGEST + 1, CAPACITY, UINT32_MAX - 31, UINT32_MAX - 15, UINT32_MAX};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        CHECK(!pp__ring_reserve(&kit.writer, 1, 1, sizes[i]));
    CHECK(kit_put(&kit, 7, LARGEST));
    pp__ring_publish(&kit.writer);
    kit_expect(&kit, 7, LARGEST);
    kit_close(&kit);
}

TEST(an_empty_ring_has_nothing_and_a_new_one_is_drained)
{
    struct kit kit;
    kit_open(&kit, CAPACITY);
    kit_expect_none(&kit);
    CHECK(pp__ring_drained(&kit.writer));
    CHECK_INT(pp__ring_used(&kit.writer), 0);
    pp__ring_publish(&kit.writer);
    pp__ring_release(&kit.reader);
    kit_expect_none(&kit);
    CHECK_INT(atomic_load(&kit.words->tail), 0);
    CHECK_INT(atomic_load(&kit.words->head), 0);
    kit_close(&kit);
}

/* One line is kept free, for the mark behind the last record. */
#define MOST (CAPACITY / 64 - 1)

static void fill_up(uint64_t start)
{
    struct kit kit;
    kit_open(&kit, CAPACITY);
    kit_start(&kit, start);
    for (uint64_t id = 0; id < MOST; id++)
        CHECK(kit_put(&kit, id, 48));
    CHECK(!kit_put(&kit, 99, 0));
    pp__ring_publish(&kit.writer);
    CHECK(!kit_put(&kit, 99, 0));
    CHECK_INT(pp__ring_used(&kit.writer), CAPACITY - 64);
    for (uint64_t id = 0; id < MOST; id++) {
        kit_expect(&kit, id, 48);
        CHECK(!kit_put(&kit, 99, 0));
    }
    kit_expect_none(&kit);
    pp__ring_release(&kit.reader);
    CHECK_INT(pp__ring_used(&kit.writer), 0);
    CHECK(kit_put(&kit, 99, 0));
    kit_close(&kit);
}

TEST(a_full_ring_takes_no_more_until_the_reader_releases)
{
    fill_up(0);
    fill_up(CAPACITY / 2 + 64);
    fill_up(JUST_BELOW_THE_WRAP + CAPACITY + 64);
}

TEST(a_full_ring_takes_as_much_as_the_reader_releases_and_no_more)
{
    struct kit kit;
    kit_open(&kit, CAPACITY);
    for (uint64_t id = 0; id < MOST; id++)
        CHECK(kit_put(&kit, id, 48));
    pp__ring_publish(&kit.writer);
    for (uint64_t id = 0; id < 5 * MOST; id++) {
        kit_expect(&kit, id, 48);
        pp__ring_release(&kit.reader);
        CHECK(!kit_put(&kit, id + MOST, 49));
        CHECK(kit_put(&kit, id + MOST, 48));
        CHECK(!kit_put(&kit, 99, 0));
        pp__ring_publish(&kit.writer);
    }
    kit_close(&kit);
}

TEST(a_refused_reservation_leaves_the_ring_as_it_was)
{
    struct kit kit;
    kit_open(&kit, CAPACITY);
    kit_start(&kit, CAPACITY - 64);
    CHECK(kit_put(&kit, 1, LARGEST));
    CHECK(kit_put(&kit, 2, LARGEST));
    uint64_t position = kit.writer.position;
    CHECK(!kit_put(&kit, 3, LARGEST));
    CHECK(!kit_put(&kit, 3, 177));
    CHECK_INT(kit.writer.position, position);
    CHECK(kit_put(&kit, 3, 176));
    pp__ring_publish(&kit.writer);
    kit_expect(&kit, 1, LARGEST);
    kit_expect(&kit, 2, LARGEST);
    kit_expect(&kit, 3, 176);
    kit_expect_none(&kit);
    kit_close(&kit);
}

TEST(a_batch_is_invisible_until_published_and_then_whole)
{
    struct kit kit;
    kit_open(&kit, CAPACITY);
    kit_start(&kit, JUST_BELOW_THE_WRAP + CAPACITY + 256);
    for (uint64_t id = 1; id <= 5; id++) {
        CHECK(kit_put(&kit, id, (uint32_t)id * 33));
        kit_expect_none(&kit);
    }
    pp__ring_publish(&kit.writer);
    CHECK(kit_put(&kit, 6, 1));
    for (uint64_t id = 1; id <= 5; id++)
        kit_expect(&kit, id, (uint32_t)id * 33);
    kit_expect_none(&kit);
    pp__ring_publish(&kit.writer);
    kit_expect(&kit, 6, 1);
    kit_close(&kit);
}

static void pass_batch_around_the_end(uint64_t start)
{
    struct kit kit;
    kit_open(&kit, CAPACITY);
    memset(kit.data, 0xff, CAPACITY);
    kit_start(&kit, start);
    for (uint64_t id = 1; id <= 3; id++) {
        uint64_t before = kit.writer.position;
        CHECK(kit_put(&kit, id, 100));
        CHECK_INT(kit.writer.position - before, 128);
        kit_expect_none(&kit);
    }
    pp__ring_publish(&kit.writer);
    for (uint64_t id = 1; id <= 3; id++) {
        CHECK(pp__ring_waiting(&kit.reader));
        kit_expect(&kit, id, 100);
    }
    kit_expect_none(&kit);
    CHECK_INT(kit.reader.position, kit.writer.position);
    pp__ring_release(&kit.reader);
    CHECK(pp__ring_drained(&kit.writer));
    kit_close(&kit);
}

TEST(a_batch_is_whole_whichever_of_its_records_crosses_the_end)
{
    pass_batch_around_the_end(CAPACITY - 64);
    pass_batch_around_the_end(CAPACITY - 192);
    pass_batch_around_the_end(CAPACITY - 320);
    pass_batch_around_the_end(CAPACITY - 384); /* none */
    pass_batch_around_the_end(UINT64_MAX - 63);
    pass_batch_around_the_end(UINT64_MAX - 319);
}

TEST(a_record_has_passed_when_it_and_all_before_it_are_released)
{
    struct kit kit;
    uint64_t ends[3];
    kit_open(&kit, CAPACITY);
    kit_start(&kit, UINT64_MAX - 63);
    for (uint32_t i = 0; i < 3; i++) {
        CHECK(kit_put(&kit, i, 20));
        ends[i] = kit.writer.position;
    }
    pp__ring_publish(&kit.writer);
    for (uint32_t i = 0; i < 3; i++) {
        kit_expect(&kit, i, 20);
        CHECK(!pp__ring_passed(&kit.writer, ends[i]));
        pp__ring_release(&kit.reader);
        CHECK(pp__ring_passed(&kit.writer, ends[i]));
        CHECK_INT(pp__ring_drained(&kit.writer), i == 2);
    }
    CHECK(pp__ring_passed(&kit.writer, ends[0]));
    kit_close(&kit);
}

TEST(used_is_exact_from_half_of_the_capacity_on)
{
    struct kit kit;
    kit_open(&kit, CAPACITY);
    for (uint64_t id = 0; id < 12; id++) {
        CHECK(kit_put(&kit, id, 0));
        CHECK_INT(pp__ring_used(&kit.writer), id * 64);
        pp__ring_publish(&kit.writer);
        CHECK_INT(pp__ring_used(&kit.writer), id * 64 + 64);
    }
    for (uint64_t id = 0; id < 10; id++)
        kit_expect(&kit, id, 0);
    pp__ring_release(&kit.reader);
    CHECK_INT(pp__ring_used(&kit.writer), 2 * 64);
    kit_close(&kit);
}

/* Against a model: what was put, in order, and reckoned by hand whether a record fits. */
struct model {
    struct kit kit;
    uint64_t seed, put, published, taken;
    uint64_t ends[512]; /* by id: where the record ends */
    uint32_t sizes[512];
};

static bool model_fits(const struct model *model, uint32_t size)
{
    uint64_t position = model->kit.writer.position, head = atomic_load(&model->kit.words->head);
    return position - head + room_of(size) + 64 <= CAPACITY;
}

static uint32_t model_size(struct model *model)
{
    return kit_below(&model->seed, kit_below(&model->seed, 2) ? 120 : LARGEST + 1);
}

static void model_put(struct model *model)
{
    uint32_t size = model_size(model);
    bool fits = model_fits(model, size);
    CHECK_INT(kit_put(&model->kit, model->put, size), fits);
    if (!fits)
        return;
    model->sizes[model->put % 512] = size;
    model->ends[model->put % 512] = model->kit.writer.position;
    model->put++;
}

/* As reserve_call (src/pool/send.c). */
static void model_give_up(struct model *model)
{
    struct pp__ring_writer *writer = &model->kit.writer;
    uint64_t before = writer->position;
    kit_put(&model->kit, model->put, model_size(model));
    pp__ring_give_up(writer, before);
}

static void model_take(struct model *model)
{
    if (model->taken == model->published) {
        kit_expect_none(&model->kit);
        return;
    }
    kit_expect(&model->kit, model->taken, model->sizes[model->taken % 512]);
    CHECK_INT(model->kit.reader.position, model->ends[model->taken % 512]);
    model->taken++;
}

static void model_step(struct model *model)
{
    switch (kit_below(&model->seed, 9)) {
    case 0:
        pp__ring_publish(&model->kit.writer);
        model->published = model->put;
        break;
    case 1:
        pp__ring_release(&model->kit.reader);
        CHECK_INT(atomic_load(&model->kit.words->head), model->kit.reader.position);
        break;
    case 2:
    case 3:
    case 4:
        model_put(model);
        break;
    case 5:
        model_give_up(model);
        break;
    default:
        model_take(model);
    }
}

TEST(any_order_of_steps_gives_what_a_plain_queue_would)
{
    struct model model;
    for (uint64_t round = 0; round < 40; round++) {
        model = (struct model){.seed = round};
        kit_open(&model.kit, CAPACITY);
        kit_start(&model.kit, UINT64_MAX - 16 * 1024 * round + 1);
        for (int i = 0; i < 5000; i++)
            model_step(&model);
        CHECK(model.taken > 300);
        kit_close(&model.kit);
    }
}

/* ------------------------------------------------------------------------ what is left of what was there before */

/* What the payloads of old say wherever a header could be looked for. */
static const struct {
    uint32_t size, type;
} old[] = {{0, 1}, {16, 1}, {LARGEST, 1}, {LARGEST + 1, 1}, {UINT32_MAX - 1, UINT32_MAX}};

#define OLD (sizeof old / sizeof *old)

static bool put_old(struct kit *kit, uint64_t id, uint32_t size, size_t kind)
{
    void *payload = pp__ring_reserve(&kit->writer, 7, id, size);
    if (payload)
        kit_fill_headers(payload, size, old[kind].size, old[kind].type);
    return payload != NULL;
}

static void expect_old(struct kit *kit, uint64_t id, uint32_t size)
{
    struct pp__record record = {0};
    const void *payload = NULL;
    CHECK_INT(pp__ring_next(&kit->reader, &record, &payload), 1);
    CHECK_INT(record.id, id);
    CHECK_INT(record.size, size);
}

/* Around the ring some times, in batches of one to three of many sizes, so that each line was at the head of a record,
 * within one and behind the last one. */
static void go_around(size_t kind, uint32_t step)
{
    struct kit kit;
    uint32_t size = 0;
    kit_open(&kit, CAPACITY);
    kit_start(&kit, JUST_BELOW_THE_WRAP);
    for (uint64_t id = 0; id < 500;) {
        uint32_t sizes[3];
        uint64_t first = id, batch = 1 + first % 3;
        for (uint64_t i = 0; i < batch; i++, id++) {
            sizes[i] = size = (size + step) % 300;
            if (!put_old(&kit, id, size, kind))
                break;
            kit_expect_none(&kit);
        }
        CHECK(id > first);
        pp__ring_publish(&kit.writer);
        for (uint64_t i = first; i < id; i++)
            expect_old(&kit, i, sizes[i - first]);
        kit_expect_none(&kit);
        pp__ring_release(&kit.reader);
        kit_expect_none(&kit);
    }
    kit_close(&kit);
}

TEST(what_looks_like_a_record_behind_the_last_one_is_none)
{
    for (size_t kind = 0; kind < OLD; kind++)
        for (uint32_t step = 1; step < 300; step += 14)
            go_around(kind, step);
}

/* With `before` records that stay, reserves another one and gives it up. */
static void give_up(struct kit *kit, uint64_t start, unsigned before, uint32_t given_up, uint32_t later)
{
    kit_fill_headers(kit->data, CAPACITY, 16, 1);
    kit_start(kit, start);
    for (unsigned id = 0; id < before; id++)
        CHECK(kit_put(kit, id, 20));
    uint64_t position = kit->writer.position;
    CHECK(put_old(kit, 99, given_up, 1));
    pp__ring_give_up(&kit->writer, position); /* as reserve_call (src/pool/send.c) */
    kit_expect_none(kit);
    if (later == UINT32_MAX)
        pp__ring_publish(&kit->writer);
    else
        CHECK(kit_put(kit, 50, later));
    if (before == 0 || later != UINT32_MAX)
        kit_expect_none(kit);
    pp__ring_publish(&kit->writer);
    for (unsigned id = 0; id < before; id++)
        kit_expect(kit, id, 20);
    if (later != UINT32_MAX)
        kit_expect(kit, 50, later);
    kit_expect_none(kit);
    CHECK_INT(kit->reader.position, kit->writer.published);
    CHECK(kit_put(kit, 51, 0));
    pp__ring_publish(&kit->writer);
    kit_expect(kit, 51, 0);
    kit_expect_none(kit);
}

TEST(a_reservation_that_is_given_up_leaves_nothing_at_every_place)
{
    static const uint32_t given_up[] = {0, 48, 49, 200, 300, LARGEST - 128};
    static const uint32_t later[] = {0, 48, 49, 200, 300, LARGEST - 192, UINT32_MAX}; /* and none */
    struct kit kit;
    kit_open(&kit, CAPACITY);
    for (uint64_t start = JUST_BELOW_THE_WRAP; start != JUST_BELOW_THE_WRAP + 2 * CAPACITY; start += 64)
        for (unsigned before = 0; before <= 2; before++)
            for (size_t i = 0; i < sizeof given_up / sizeof *given_up; i++)
                for (size_t j = 0; j < sizeof later / sizeof *later; j++)
                    give_up(&kit, start, before, given_up[i], later[j]);
    kit_close(&kit);
}

TEST(a_copy_takes_what_is_there_and_nothing_of_nothing)
{
    char from[] = "0123456789", to[] = "abcdefghij";
    pp__shm_copy(to, from, 4);
    CHECK_STR(to, "0123efghij");
    pp__shm_copy(NULL, NULL, 0);
    pp__shm_copy(to, from, 0);
    CHECK_STR(to, "0123efghij");
}

/* ------------------------------------------------------------------------ looked at before it is published */

static void look_at_open_record(struct kit *kit, uint64_t start, uint32_t reserved, uint32_t size)
{
    struct pp__record record = {0};
    const void *seen = NULL;
    kit_start(kit, start);
    void *payload = pp__ring_reserve(&kit->writer, 7, 7, reserved);
    kit_fill_headers(payload, reserved, 16, 1);
    kit_fill(payload, 7, size);
    kit_expect_none(kit);
    CHECK_INT(pp__ring_peek(&kit->reader, &record, &seen), 1);
    CHECK(seen == payload);
    CHECK_INT(record.type, 7);
    CHECK_INT(record.id, 7);
    CHECK(record.size >= reserved && record.size <= LARGEST);
    pp__ring_shrink(&kit->writer, payload, size);
    CHECK(kit_put(kit, 8, 24));
    kit_expect_none(kit);
    pp__ring_publish(&kit->writer);
    kit_expect(kit, 7, size);
    kit_expect(kit, 8, 24);
    kit_expect_none(kit);
}

TEST(a_record_is_seen_before_it_is_published_and_may_become_smaller_at_every_place)
{
    static const uint32_t sizes[] = {1, 47, 48, 49, 200, LARGEST};
    struct kit kit;
    kit_open(&kit, CAPACITY);
    for (uint64_t start = JUST_BELOW_THE_WRAP; start != JUST_BELOW_THE_WRAP + 2 * CAPACITY; start += 64)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
            for (uint32_t size = 0; size <= sizes[i]; size += size < 50 ? 1 : 40)
                look_at_open_record(&kit, start, sizes[i], size);
    kit_close(&kit);
}

TEST(what_is_written_over_an_open_record_does_not_move_its_writer)
{
    struct kit kit;
    struct pp__record record = {0};
    const void *seen = NULL;
    kit_open(&kit, CAPACITY);
    for (uint64_t start = 0; start < CAPACITY; start += 64) {
        kit_start(&kit, start);
        unsigned char *payload = pp__ring_reserve(&kit.writer, 7, 7, 200);
        uint64_t position = kit.writer.position;
        kit_fill_headers(payload - sizeof(struct pp__header), 216, 400, 1);
        pp__store_relaxed(&((struct pp__header *)(void *)payload - 1)->mark, 0); /* see test_ring_hostile.c */
        pp__ring_shrink(&kit.writer, payload, 20);
        CHECK_INT(kit.writer.position, position - 192);
        pp__ring_publish(&kit.writer);
        CHECK_INT(pp__ring_next(&kit.reader, &record, &seen), 1);
        CHECK(seen == payload);
        CHECK_INT(record.size, 20);
        CHECK_INT(kit.reader.position, kit.writer.position);
        kit_expect_none(&kit);
    }
    kit_close(&kit);
}

TEST(behind_records_that_are_not_released_an_open_record_has_what_they_leave)
{
    struct kit kit;
    struct pp__record record = {0};
    const void *seen = NULL;
    kit_open(&kit, CAPACITY);
    CHECK(kit_put(&kit, 1, LARGEST) && kit_put(&kit, 2, 300));
    pp__ring_publish(&kit.writer);
    kit_expect(&kit, 1, LARGEST);
    kit_expect(&kit, 2, 300);
    CHECK(pp__ring_reserve(&kit.writer, 3, 3, 200));
    CHECK_INT(pp__ring_peek(&kit.reader, &record, &seen), 1);
    CHECK_INT(record.size, CAPACITY - 384 - 320 - 16);
    kit_close(&kit);
}

TEST(how_much_lies_behind_a_record_is_known)
{
    struct kit kit;
    kit_open(&kit, CAPACITY);
    CHECK_INT(pp__ring_behind(&kit.reader), 0);
    CHECK(kit_put(&kit, 1, 16) && kit_put(&kit, 2, 49));
    CHECK_INT(pp__ring_behind(&kit.reader), 0);
    pp__ring_publish(&kit.writer);
    CHECK_INT(pp__ring_behind(&kit.reader), 192);
    kit_expect(&kit, 1, 16);
    CHECK_INT(pp__ring_behind(&kit.reader), 128);
    CHECK(kit_put(&kit, 3, 0));
    pp__ring_publish(&kit.writer);
    CHECK_INT(pp__ring_behind(&kit.reader), 192);
    kit_close(&kit);
}
