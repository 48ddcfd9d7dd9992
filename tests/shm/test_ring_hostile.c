/* SPDX-License-Identifier: MIT */
/*
 * The ring against a peer that writes what it likes: memory torn by hand, random programs, words that change between
 * two looks. As a reader we must end with -EPROTO, as a writer with NULL, and neither may touch a byte outside.
 */
#include "ring_property.h"

#include "base/atomic.h"
#include "procpool.h"

#include <ucontext.h>

#define CAPACITY 1024u
#define LARGEST (CAPACITY / 16 * 5 + 48) /* which takes 384 bytes */

/* Offsets count from the start cursor's ring; `records` good ones are read first, none of which is released. */
struct torn_ring {
    const char *what;
    uint32_t start;
    int records;
    int end;
    struct {
        uint32_t offset, size, type;
    } headers[4];
};

static const struct torn_ring torn_rings[] = {
    {"should take a plain record", 0, 1, 0, {{0, 16, 1}}},
    {"should take a header alone", 0, 1, 0, {{0, 0, 1}}},
    {"should take a record of any type", 0, 1, 0, {{0, 16, UINT32_MAX}}},
    {"should take the largest record", 512, 1, 0, {{512, LARGEST, 1}}},
    {"should take a record that ends with the data", 960, 1, 0, {{960, 48, 1}}},
    {"should take a record that goes on in the slack", 960, 1, 0, {{960, 49, 1}}},
    {"should take the largest that goes on there", 960, 1, 0, {{960, LARGEST, 1}}},
    {"should take a record behind one that goes on there", 960, 2, 0, {{960, 100, 1}, {64, 16, 1}}},
    {"should take a ring as full as it gets", 0, 3, 0, {{0, LARGEST, 1}, {384, LARGEST, 1}, {768, 176, 1}}},
    {"should take a mark of 0 for none", 0, 0, 0, {{0, UINT32_MAX, 1}}},
    {"should refuse more than the whole ring", 0, 3, -EPROTO, {{0, LARGEST, 1}, {384, LARGEST, 1}, {768, 240, 1}}},
    {"should refuse a record larger than the largest", 0, 0, -EPROTO, {{0, LARGEST + 1, 1}}},
    {"should refuse a record over the end of the slack", 960, 0, -EPROTO, {{960, LARGEST + 1, 1}}},
    {"should refuse a record of the whole ring", 0, 0, -EPROTO, {{0, CAPACITY - 16, 1}}},
    {"should refuse a size whose room overflows to 0", 0, 0, -EPROTO, {{0, UINT32_MAX - 15, 1}}},
    {"should refuse a size whose room just overflows", 0, 0, -EPROTO, {{0, UINT32_MAX - 78, 1}}},
    {"should refuse a size whose room just does not overflow", 0, 0, -EPROTO, {{0, UINT32_MAX - 79, 1}}},
    {"should refuse a size whose room overflows to 64", 0, 0, -EPROTO, {{0, UINT32_MAX - 14, 1}}},
    {"should refuse the largest size", 0, 0, -EPROTO, {{0, UINT32_MAX - 1, 1}}},
    {"should refuse a negative size", 0, 0, -EPROTO, {{0, UINT32_C(0x80000000), 1}}},
    {"should take a record up to what is not released, and no other",
     512,
     3,
     -EPROTO,
     {{512, LARGEST, 1}, {896, LARGEST, 1}, {256, 240, 1}}},
    {"should refuse a record over what is not released",
     512,
     2,
     -EPROTO,
     {{512, LARGEST, 1}, {896, LARGEST, 1}, {256, 241, 1}}},
    {"should refuse a large record over what is not released",
     512,
     2,
     -EPROTO,
     {{512, LARGEST, 1}, {896, LARGEST, 1}, {256, LARGEST, 1}}},
    {"should refuse a bad record behind a good one", 0, 1, -EPROTO, {{0, 16, 1}, {64, LARGEST + 1, 1}}},
};

/* From the start cursor: none of them says anything to who reads. */
static const uint64_t tails[] = {0, 64, 40, CAPACITY, CAPACITY + 64, UINT64_MAX - 63, UINT64_C(1) << 63, UINT64_MAX};

#define TAILS (sizeof tails / sizeof *tails)

static void tear(struct kit *kit, const struct torn_ring *torn, uint64_t base, uint64_t tail)
{
    kit_start(kit, base + torn->start);
    memset(kit->data, 0, kit->capacity);
    for (size_t i = 0; i < sizeof torn->headers / sizeof *torn->headers; i++)
        if (torn->headers[i].type != 0)
            kit_forge(kit, torn->headers[i].offset, torn->headers[i].size, torn->headers[i].type);
    atomic_store(&kit->words->tail, base + torn->start + tail);
}

static void expect_broken_for_good(struct kit *kit)
{
    struct pp__record record = {.id = 12345};
    const void *payload = NULL;
    CHECK_INT(pp__ring_next(&kit->reader, &record, &payload), -EPROTO);
    CHECK(record.id == 12345 && !payload);
    CHECK(pp__ring_waiting(&kit->reader));
    CHECK_INT(pp__ring_behind(&kit->reader), 0);
    uint64_t head = atomic_load(&kit->words->head);
    pp__ring_release(&kit->reader);
    CHECK_INT(atomic_load(&kit->words->head), head);
    kit_start(kit, 0);
    kit->reader.poisoned = true; /* nothing that the peer repairs counts */
    CHECK(kit_put(kit, 1, 1));
    pp__ring_publish(&kit->writer);
    CHECK_INT(pp__ring_next(&kit->reader, &record, &payload), -EPROTO);
}

static void read_torn_ring(const struct torn_ring *torn, uint64_t base, uint64_t tail)
{
    struct kit kit;
    struct pp__record record = {0};
    const void *payload = NULL;
    int records = 0, rc;
    kit_open(&kit, CAPACITY);
    tear(&kit, torn, base, tail);
    while ((rc = pp__ring_next(&kit.reader, &record, &payload)) == 1)
        CHECK(++records <= 3);
    if (records != torn->records || rc != torn->end)
        printf("at %llx: %s\n", (unsigned long long)base, torn->what);
    CHECK_INT(records, torn->records);
    CHECK_INT(rc, torn->end);
    CHECK(kit.reader.position - kit.reader.released <= CAPACITY);
    if (rc == -EPROTO)
        expect_broken_for_good(&kit);
    kit_close(&kit);
}

TEST(a_torn_ring_is_read_up_to_the_tear_and_no_further)
{
    for (size_t i = 0; i < sizeof torn_rings / sizeof *torn_rings; i++) {
        for (size_t j = 0; j < TAILS; j++)
            read_torn_ring(&torn_rings[i], 0, tails[j]);
        read_torn_ring(&torn_rings[i], UINT64_MAX - CAPACITY + 1, 0);
        read_torn_ring(&torn_rings[i], UINT64_C(1) << 63, 0);
    }
}

/* Records of this room on every line, all marked: those that are over what was not released are the first ones again.
 */
static void read_round_and_round(uint64_t start, uint32_t room)
{
    struct kit kit;
    struct pp__record record = {0};
    const void *payload = NULL;
    int records = 0, rc;
    kit_open(&kit, CAPACITY);
    kit_start(&kit, start);
    for (uint32_t offset = 0; offset < CAPACITY; offset += room)
        kit_forge(&kit, offset, room - 16, 1);
    while ((rc = pp__ring_next(&kit.reader, &record, &payload)) == 1 && records < 1000)
        if (++records < 500) /* from there on, it is not released any more */
            pp__ring_release(&kit.reader);
    CHECK_INT(rc, -EPROTO);
    CHECK_INT(records, 499 + CAPACITY / room);
    CHECK(kit.reader.position - kit.reader.released <= CAPACITY);
    expect_broken_for_good(&kit);
    kit_close(&kit);
}

TEST(records_that_go_round_without_a_release_break_the_ring_when_it_is_used_up)
{
    for (uint32_t room = 64; room <= CAPACITY / 4; room *= 2)
        for (uint64_t start = UINT64_MAX - CAPACITY + 1; start != CAPACITY; start += room)
            read_round_and_round(start, room);
}

/* What a reader was led to by somebody else's records, no writer of the ring can know but by its head. What was
 * published and is not read stays. */
TEST(a_spoilt_ring_is_broken_wherever_its_reader_is)
{
    struct kit kit;
    struct pp__record record = {0};
    const void *payload = NULL;
    kit_open(&kit, CAPACITY);
    for (uint64_t position = 0; position < CAPACITY; position += PP__RING_ALIGN) {
        kit_start(&kit, 0);
        CHECK(kit_put(&kit, 1, 200));
        pp__ring_publish(&kit.writer);
        kit.reader.position = kit.reader.released = position;
        atomic_store(&kit.words->head, position);
        pp__ring_spoil(&kit.writer);
        if (position == 0)
            CHECK_INT(pp__ring_next(&kit.reader, &record, &payload), 1);
        CHECK_INT(pp__ring_next(&kit.reader, &record, &payload), -EPROTO);
    }
    kit_close(&kit);
}

/* What was published and is not there is missed by the tail; a tail that no writer can have says nothing. */
TEST(a_record_that_was_erased_is_missed)
{
    struct kit kit;
    kit_open(&kit, CAPACITY);
    CHECK(!pp__ring_misses(&kit.reader));
    CHECK(kit_put(&kit, 1, 200));
    CHECK(!pp__ring_misses(&kit.reader));
    pp__ring_publish(&kit.writer);
    CHECK(!pp__ring_misses(&kit.reader));
    kit_expect(&kit, 1, 200);
    CHECK(!pp__ring_misses(&kit.reader));
    const uint64_t impossible[] = {0, kit.reader.position - 64, kit.reader.position + CAPACITY + 64, UINT64_MAX};
    for (size_t i = 0; i < sizeof impossible / sizeof *impossible; i++) {
        atomic_store(&kit.words->tail, impossible[i]);
        CHECK(!pp__ring_misses(&kit.reader));
    }
    CHECK(kit_put(&kit, 2, 10));
    pp__ring_publish(&kit.writer);
    ((struct pp__header *)(void *)(kit.data + kit.reader.position))->mark = 0;
    kit_expect_none(&kit);
    CHECK(pp__ring_misses(&kit.reader));
    kit_close(&kit);
}

TEST(a_tail_that_says_nonsense_moves_nothing)
{
    struct kit kit;
    kit_open(&kit, CAPACITY);
    for (size_t i = 0; i < TAILS; i++) {
        kit_start(&kit, 64);
        CHECK(kit_put(&kit, 1, 16) && kit_put(&kit, 2, 300));
        pp__ring_publish(&kit.writer);
        for (uint64_t id = 1; id <= 3; id++) {
            uint64_t position = kit.reader.position;
            atomic_store(&kit.words->tail, position + tails[i]);
            CHECK_INT(pp__ring_behind(&kit.reader), tails[i] <= CAPACITY ? tails[i] : 0);
            CHECK_INT(pp__ring_waiting(&kit.reader), id < 3);
            CHECK_INT(kit.reader.position, position);
            CHECK(!kit.reader.poisoned);
            if (id < 3)
                kit_expect(&kit, id, id == 1 ? 16 : 300);
        }
        kit_expect_none(&kit);
        pp__ring_release(&kit.reader);
        CHECK_INT(atomic_load(&kit.words->head), 64 + 64 + 320);
        CHECK(pp__ring_drained(&kit.writer) && kit_put(&kit, 3, 16)); /* it is not read back either */
        pp__ring_publish(&kit.writer);
        CHECK_INT(atomic_load(&kit.words->tail), 64 + 64 + 320 + 64);
    }
    kit_close(&kit);
}

/* `seen` is taken first, from a state with 384 bytes published from 0; then `head` must break it or not. */
struct torn_head {
    const char *what;
    uint64_t seen, head;
    bool broken;
};

static const struct torn_head torn_heads[] = {
    {"should take a head at the tail", 0, 384, false},
    {"should take a head in between", 128, 256, false},
    {"should take a head that stays", 128, 128, false},
    {"should refuse a head beyond the tail", 0, 448, true},
    {"should refuse a head a whole ring ahead", 0, CAPACITY, true},
    {"should refuse a head that goes back", 128, 64, true},
    {"should refuse a head before the start", 0, UINT64_MAX - 63, true},
    {"should refuse a head far away", 0, UINT64_C(1) << 63, true},
    {"should refuse a head that is not at a record", 0, 8, true},
    {"should refuse a head within a line", 0, 352, true},
};

static void expect_writer(struct kit *kit, bool broken)
{
    CHECK_INT(kit->writer.poisoned, broken);
    CHECK_INT(kit_put(kit, 1, 16), !broken);
    CHECK(pp__ring_used(&kit->writer) <= CAPACITY);
    if (!broken)
        return;
    uint64_t tail = atomic_load(&kit->words->tail);
    atomic_store(&kit->words->head, tail);
    CHECK(!pp__ring_drained(&kit->writer));
    CHECK(!kit_put(kit, 1, 0));
    pp__ring_publish(&kit->writer);
    CHECK_INT(atomic_load(&kit->words->tail), tail);
    kit_expect(kit, 1, LARGEST);
    kit_expect_none(kit);
}

static void write_against_torn_head(const struct torn_head *torn, uint64_t base)
{
    struct kit kit;
    kit_open(&kit, CAPACITY);
    kit_start(&kit, base);
    CHECK(kit_put(&kit, 1, LARGEST));
    pp__ring_publish(&kit.writer);
    CHECK(kit_put(&kit, 2, 16)); /* reserved and not published: the head may not reach it */
    atomic_store(&kit.words->head, base + torn->seen);
    CHECK(!pp__ring_drained(&kit.writer));
    CHECK(!kit.writer.poisoned);
    atomic_store(&kit.words->head, base + torn->head);
    pp__ring_drained(&kit.writer);
    if (kit.writer.poisoned != torn->broken)
        printf("at %llx: %s\n", (unsigned long long)base, torn->what);
    expect_writer(&kit, torn->broken);
    kit_close(&kit);
}

TEST(a_head_that_cannot_be_breaks_the_writer_for_good)
{
    for (size_t i = 0; i < sizeof torn_heads / sizeof *torn_heads; i++) {
        write_against_torn_head(&torn_heads[i], 0);
        write_against_torn_head(&torn_heads[i], UINT64_MAX - CAPACITY + 1);
        write_against_torn_head(&torn_heads[i], UINT64_C(1) << 63);
    }
}

TEST(a_false_head_is_found_when_room_is_looked_for)
{
    struct kit kit;
    kit_open(&kit, CAPACITY);
    CHECK(kit_put(&kit, 1, LARGEST) && kit_put(&kit, 2, LARGEST) && kit_put(&kit, 3, 176));
    pp__ring_publish(&kit.writer);
    atomic_store(&kit.words->head, CAPACITY);
    CHECK(!kit_put(&kit, 4, 0));
    CHECK(kit.writer.poisoned);
    kit_close(&kit);
}

#define PROGRAMS 30000

/* A task writes to the ring that its worker publishes in. */
TEST(what_was_written_where_the_next_record_is_to_be_is_not_published_over)
{
    struct kit kit;
    kit_open(&kit, CAPACITY);
    for (uint64_t start = 0; start < CAPACITY; start += 64) {
        kit_start(&kit, start);
        CHECK(pp__ring_reserve(&kit.writer, 1, 1, 20) != NULL);
        pp__ring_publish(&kit.writer);
        uint64_t published = kit.writer.published;
        struct pp__header *next = (struct pp__header *)(void *)(kit.data + published % CAPACITY);
        CHECK(pp__ring_reserve(&kit.writer, 2, 2, 20) != NULL);
        pp__store_relaxed(&next->mark, 33);
        pp__ring_publish(&kit.writer);
        CHECK(kit.writer.poisoned);
        CHECK_INT(kit.writer.published, published);
        CHECK_INT(pp__load_relaxed(&next->mark), 33);
        CHECK(pp__ring_reserve(&kit.writer, 3, 3, 20) == NULL);
        CHECK_HAS(pp_last_error(), "a record lies where the next is to be published");
    }
    kit_close(&kit);
}

TEST(no_program_of_a_peer_leads_us_outside)
{
    static uint8_t input[512];
    struct property property = {0};
    kit_open(&property.in, KIT_PAGE);
    kit_open(&property.out, KIT_PAGE);
    int broken = 0;
    for (uint64_t round = 0; round < PROGRAMS; round++) {
        uint64_t seed = round;
        for (size_t i = 0; i < sizeof input; i += 8)
            memcpy(input + i, &(uint64_t){kit_random(&seed)}, 8);
        property_run(&property, input, 16 + round % (sizeof input - 16));
        broken += property.in.reader.poisoned + property.out.writer.poisoned;
    }
    CHECK(broken > PROGRAMS / 10 && broken < PROGRAMS * 2);
}

/*
 * A child as the peer: it changes two headers and the tail all the time, so that now and then a word changes between
 * our looks at it. A record at the second one goes on in the slack.
 */
#define LAST_LINE (CAPACITY - 64)

static _Noreturn void change_words_for_ever(struct kit *kit, uint64_t seed)
{
    static const uint32_t marks[] = {0, 1, 17, 49, LARGEST + 1, LARGEST + 2, CAPACITY + 1, UINT32_MAX};
    for (;;) {
        volatile uint32_t *header = (volatile uint32_t *)(void *)(kit->data + kit_below(&seed, 2) * LAST_LINE);
        header[0] = marks[kit_below(&seed, 8)];
        header[1] = kit_below(&seed, 4) ? 1 : 2;
        atomic_store_explicit(&kit->words->tail, kit_below(&seed, 5) * 512, memory_order_relaxed);
    }
}

/* In which of these ways it ended. */
enum { NONE, BROKEN, WHOLE, WAYS };

static int read_while_it_changes(struct kit *kit, uint32_t start)
{
    struct pp__record record = {0};
    const void *payload = NULL;
    pp__ring_reader_init(&kit->reader, kit->data, CAPACITY, &kit->words->tail, &kit->words->head, start);
    int rc = pp__ring_next(&kit->reader, &record, &payload);
    CHECK(pp__ring_behind(&kit->reader) <= CAPACITY);
    if (rc != 1) {
        CHECK(rc == 0 || rc == -EPROTO);
        CHECK(rc != 0 || kit->reader.position == start);
        return rc == 0 ? NONE : BROKEN;
    }
    CHECK(record.size <= LARGEST && (record.type == 1 || record.type == 2));
    CHECK(payload == kit->data + start + 16);
    CHECK_INT(kit->reader.position, start + (record.size + 16 + 63) / 64 * 64);
    return WHOLE;
}

TEST(words_that_change_under_our_eyes_are_believed_as_first_read)
{
    struct kit kit;
    int ways[2][WAYS] = {0};
    kit_open(&kit, CAPACITY);
    pid_t child = kit_fork();
    if (child == 0)
        change_words_for_ever(&kit, 1);
    for (int i = 0; i < 300000 || ways[0][NONE] == 0 || ways[0][BROKEN] == 0 || ways[0][WHOLE] == 0 ||
                    ways[1][NONE] == 0 || ways[1][BROKEN] == 0 || ways[1][WHOLE] == 0;
         i++)
        ways[i % 2][read_while_it_changes(&kit, i % 2 * LAST_LINE)]++;
    kill(child, SIGKILL);
    kit_wait(child);
    kit_close(&kit);
}

/*
 * The same for certain: the words lie in a page without access, each access is let through alone (by the trap flag),
 * and behind it the peer has its turn. Only x86 has the flag in reach of a signal handler, and valgrind does not play
 * along.
 */
#if defined(__x86_64__)

static struct {
    unsigned char *page;
    void (*turn)(void);
    int patience; /* accesses before the peer takes its turn */
    volatile int accesses;
    volatile int lines[KIT_PAGE / 64]; /* of those, such to the first word of each line */
} watch;

#define TRAP_FLAG 0x100

static void let_one_through(int signal, siginfo_t *info, void *context)
{
    ucontext_t *machine = context;
    unsigned char *at = info->si_addr;
    if (at < watch.page || at >= watch.page + KIT_PAGE) {
        raise(SIGABRT);
        return;
    }
    (void)signal;
    watch.accesses++;
    watch.lines[(at - watch.page) / 64] += (at - watch.page) % 64 < 4;
    mprotect(watch.page, KIT_PAGE, PROT_READ | PROT_WRITE);
    machine->uc_mcontext.gregs[REG_EFL] |= TRAP_FLAG;
}

static void give_the_peer_its_turn(int signal, siginfo_t *info, void *context)
{
    ucontext_t *machine = context;
    (void)signal, (void)info;
    machine->uc_mcontext.gregs[REG_EFL] &= ~TRAP_FLAG;
    if (watch.accesses > watch.patience)
        watch.turn();
    mprotect(watch.page, KIT_PAGE, PROT_NONE);
}

static void watch_begin(unsigned char *page, void (*turn)(void), int patience)
{
    watch.page = page;
    watch.turn = turn;
    watch.patience = patience;
    watch.accesses = 0;
    memset((void *)watch.lines, 0, sizeof watch.lines);
    CHECK(sigaction(SIGSEGV, &(struct sigaction){.sa_sigaction = let_one_through, .sa_flags = SA_SIGINFO}, NULL) == 0);
    CHECK(sigaction(SIGTRAP, &(struct sigaction){.sa_sigaction = give_the_peer_its_turn, .sa_flags = SA_SIGINFO},
                    NULL) == 0);
    mprotect(page, KIT_PAGE, PROT_NONE);
}

static void watch_end(void)
{
    mprotect(watch.page, KIT_PAGE, PROT_READ | PROT_WRITE);
    signal(SIGSEGV, SIG_DFL);
    signal(SIGTRAP, SIG_DFL);
}

static void no_turn(void)
{
}

/* Two looks must be two accesses: else the machine (valgrind's, say) has no trap flag. */
static void check_watch(void)
{
    volatile unsigned char *page = mmap(NULL, KIT_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK((void *)page != MAP_FAILED);
    watch_begin((unsigned char *)page, no_turn, 0);
    (void)page[0];
    (void)page[0];
    int accesses = watch.accesses;
    watch_end();
    munmap((void *)page, KIT_PAGE);
    if (accesses != 2)
        LEFT_OUT("accesses cannot be let through one by one here");
}

static struct kit watched;

/* Of each line: the mark of whatever record is there. */
static void set_marks(uint32_t mark)
{
    for (size_t at = 0; at < KIT_PAGE; at += 64)
        pp__store_relaxed(&((struct pp__header *)(void *)(watched.data + at))->mark, mark);
}

static void make_marks_huge(void)
{
    set_marks(UINT32_MAX - 14);
}

static void make_marks_other(void)
{
    set_marks(2);
}

static void make_marks_none(void)
{
    set_marks(0);
}

static void make_headers_other(void)
{
    for (uint32_t at = 0; at < KIT_PAGE; at += 64)
        kit_forge(&watched, at, 16, 1);
}

static void make_cursors_huge(void)
{
    atomic_store(&watched.words->tail, UINT64_C(1) << 40);
    atomic_store(&watched.words->head, UINT64_C(1) << 40);
}

/* A record of 100 bytes, from `start` on; what came of reading it while it changed. */
static int read_what_changes(uint64_t start, void (*turn)(void), int patience)
{
    struct pp__record record = {0};
    const void *payload = NULL;
    kit_open_at_page(&watched, KIT_PAGE);
    kit_start(&watched, start);
    CHECK(kit_put(&watched, 1, 100));
    pp__ring_publish(&watched.writer);
    watch_begin(watched.data, turn, patience);
    int rc = pp__ring_next(&watched.reader, &record, &payload);
    watch_end();
    if (rc == 1) {
        CHECK_INT(watched.reader.position - pp__ring_room(record.size), start);
        CHECK(record.type == 1 && record.size <= 112);
        CHECK(payload == watched.data + start + 16);
    } else {
        CHECK(rc == 0 || rc == -EPROTO);
    }
    kit_close(&watched);
    return rc == 1 ? (int)record.size : rc;
}

static void change_at_every_access(uint64_t start, void (*turn)(void))
{
    int patience = 0;
    do
        read_what_changes(start, turn, patience);
    while (watch.accesses > patience++);
    CHECK(patience > 1);
}

TEST(a_header_that_changes_behind_any_of_our_looks_is_believed_once)
{
    static void (*const turns[])(void) = {make_marks_huge, make_marks_other, make_marks_none, make_headers_other};
    check_watch();
    for (size_t i = 0; i < sizeof turns / sizeof *turns; i++) {
        change_at_every_access(0, turns[i]);
        change_at_every_access(KIT_PAGE - 64, turns[i]); /* it goes on in the slack */
    }
}

/* The peer takes its turn behind our look at the record's mark, or later. */
static void read_mark_that_changes(uint64_t start, void (*turn)(void))
{
    int patience = 0;
    do {
        CHECK_INT(read_what_changes(start, turn, patience), 100);
        CHECK_INT(watch.lines[start / 64], 1);
    } while (watch.accesses > patience++);
}

TEST(a_mark_is_read_exactly_once)
{
    static void (*const turns[])(void) = {make_marks_huge, make_marks_other, make_marks_none};
    check_watch();
#ifdef PP_TSAN
    LEFT_OUT("thread sanitizer's atomic load reads twice, the second time under a lock");
#endif
    for (size_t i = 0; i < sizeof turns / sizeof *turns; i++) {
        read_mark_that_changes(0, turns[i]);
        read_mark_that_changes(KIT_PAGE - 64, turns[i]);
    }
}

TEST(a_cursor_is_read_exactly_once)
{
    struct pp__record record = {0};
    const void *payload = NULL;
    check_watch();
#ifdef PP_TSAN
    LEFT_OUT("thread sanitizer's atomic load reads twice, the second time under a lock");
#endif
    kit_open_at_page(&watched, KIT_PAGE);
    CHECK(kit_put(&watched, 1, 16) && kit_put(&watched, 2, 16));
    pp__ring_publish(&watched.writer);
    watch_begin(watched.base, make_cursors_huge, 0);
    int rc = pp__ring_next(&watched.reader, &record, &payload);
    int to_read = watch.accesses;
    uint32_t behind = pp__ring_behind(&watched.reader);
    int in_all = watch.accesses;
    watch_end();
    CHECK_INT(rc, 1);
    CHECK_INT(to_read, 0);
    CHECK_INT(in_all, 1);
    CHECK_INT(behind, 64);
    atomic_store(&watched.words->head, 64);
    watch_begin(watched.base, make_cursors_huge, 0);
    CHECK(!pp__ring_drained(&watched.writer));
    watch_end();
    CHECK_INT(watch.accesses, 1);
    CHECK_INT(watched.writer.head_seen, 64);
    kit_close(&watched);
}

#endif

/* ------------------------------------------------------------------------ a record that is not published yet */

struct torn_open {
    const char *what;
    uint32_t start;
    uint32_t end; /* of what was read and not released, from `start` on */
    int got;
    uint32_t size;
    uint32_t type;
};

static const struct torn_open torn_opens[] = {
    {"should take any type and as much as a record can be", 0, 0, 1, LARGEST, 0x1234},
    {"should take the largest type", 0, 0, 1, LARGEST, UINT32_MAX},
    {"should go on in the slack", 960, 0, 1, LARGEST, 1},
    {"should end at what is not released", 512, 768, 1, 240, 1},
    {"should end in the slack at what is not released", 512, 704, 1, 304, 1},
    {"should end after a line at what is not released", 512, 960, 1, 48, 1},
    {"should refuse a record where none fits", 0, CAPACITY, -EPROTO, 0, 1},
};

/* Bytes of `mark` are where no type is. */
static void look_at_torn_open(struct kit *kit, const struct torn_open *torn, uint64_t base, unsigned char mark)
{
    struct pp__record record = {0};
    const void *payload = NULL;
    kit_start(kit, base + torn->start);
    memset(kit->data, mark, kit->capacity);
    kit->reader.position = base + torn->start + torn->end;
    unsigned char *place = kit->data + pp__ring_offset(kit->reader.position, CAPACITY);
    memcpy(place + offsetof(struct pp__header, type), &torn->type, sizeof torn->type);
    CHECK_INT(pp__ring_peek(&kit->reader, &record, &payload), torn->got);
    CHECK_INT(record.size, torn->size);
    if (torn->got < 0) {
        expect_broken_for_good(kit);
        return;
    }
    CHECK_INT(record.type, torn->type);
    CHECK(payload == place + sizeof(struct pp__header));
}

TEST(an_open_record_is_looked_at_within_what_its_writer_may_write)
{
    struct kit kit;
    kit_open(&kit, CAPACITY);
    for (size_t i = 0; i < sizeof torn_opens / sizeof *torn_opens; i++) {
        printf("%s\n", torn_opens[i].what);
        look_at_torn_open(&kit, &torn_opens[i], 0, 0);
        look_at_torn_open(&kit, &torn_opens[i], 0, 0xee);
        look_at_torn_open(&kit, &torn_opens[i], UINT64_MAX - CAPACITY + 1, 0);
    }
    kit_close(&kit);
}
