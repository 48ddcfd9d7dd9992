/* SPDX-License-Identifier: MIT */
/*
 * The ring against a peer that writes what it likes: memory torn by hand, random programs, words that change between
 * two looks. As a reader we must end with -EPROTO, as a writer with NULL, and neither may touch a byte outside.
 */
#include "ring_property.h"

#include "base/atomic.h"

#include <ucontext.h>

#define CAPACITY 1024u
#define LARGEST (CAPACITY / 2 - 16)
#define PAD PP__RING_PAD

/* Offsets and the tail count from the start cursor's ring; `records` good ones are read first. */
struct torn_ring {
    const char *what;
    uint32_t start;
    uint64_t tail;
    int records;
    int end;
    struct {
        uint32_t offset, size, type;
    } headers[3];
};

static const struct torn_ring torn_rings[] = {
    {"should take a plain record", 0, 32, 1, 0, {{0, 16, 1}}},
    {"should take the largest record", 512, 1024, 1, 0, {{512, LARGEST, 1}}},
    {"should take a record behind padding", 960, 1056, 1, 0, {{960, 48, PAD}, {0, 16, 1}}},
    {"should take a record behind padding that is a header only", 1008, 1056, 1, 0, {{1008, 0, PAD}, {0, 16, 1}}},
    {"should take a full ring", 0, 1024, 2, 0, {{0, LARGEST, 1}, {512, LARGEST, 1}}},
    {"should refuse a tail beyond the capacity", 0, 1040, 0, -EPROTO, {{0, 16, 1}}},
    {"should refuse a tail far away", 0, UINT64_C(1) << 63, 0, -EPROTO, {{0, 16, 1}}},
    {"should refuse a tail behind", 64, 48, 0, -EPROTO, {{64, 16, 1}}},
    {"should refuse a tail just behind a whole ring", 64, UINT64_MAX - 959, 0, -EPROTO, {{64, 16, 1}}},
    {"should refuse a tail that is not at a record", 0, 40, 0, -EPROTO, {{0, 16, 1}}},
    {"should refuse a tail of one byte", 0, 1, 0, -EPROTO, {{0, 16, 1}}},
    {"should refuse a record that ends beyond the tail", 0, 32, 0, -EPROTO, {{0, 17, 1}}},
    {"should refuse a header alone with a size", 0, 16, 0, -EPROTO, {{0, 1, 1}}},
    {"should refuse a record larger than the largest", 0, 1024, 0, -EPROTO, {{0, LARGEST + 1, 1}}},
    {"should refuse a record of the whole ring", 0, 1024, 0, -EPROTO, {{0, CAPACITY - 16, 1}}},
    {"should refuse a size whose room overflows to 0", 0, 1024, 0, -EPROTO, {{0, UINT32_MAX - 15, 1}}},
    {"should refuse a size whose room overflows to 16", 0, 1024, 0, -EPROTO, {{0, UINT32_MAX, 1}}},
    {"should refuse a negative size", 0, 1024, 0, -EPROTO, {{0, UINT32_C(0x80000000), 1}}},
    {"should refuse a record over the end of the data", 960, 1088, 0, -EPROTO, {{960, 100, 1}}},
    {"should refuse a header at the end with a size", 1008, 1056, 0, -EPROTO, {{1008, 16, 1}}},
    {"should refuse padding that is too short", 960, 1056, 0, -EPROTO, {{960, 32, PAD}, {0, 16, 1}}},
    {"should refuse padding that is too long", 960, 1056, 0, -EPROTO, {{960, 64, PAD}, {0, 16, 1}}},
    {"should refuse padding with an odd size", 960, 1056, 0, -EPROTO, {{960, 47, PAD}, {0, 16, 1}}},
    {"should refuse padding with a huge size", 960, 1056, 0, -EPROTO, {{960, UINT32_MAX, PAD}, {0, 16, 1}}},
    {"should refuse padding that overflows", 960, 1056, 0, -EPROTO, {{960, UINT32_MAX - 15, PAD}, {0, 16, 1}}},
    {"should refuse padding of the whole ring", 0, 1024, 0, -EPROTO, {{0, CAPACITY - 16, PAD}}},
    {"should refuse padding of half the ring", 512, 1056, 0, -EPROTO, {{512, 496, PAD}, {0, 16, 1}}},
    {"should refuse padding that nothing follows", 960, 1024, 0, -EPROTO, {{960, 48, PAD}}},
    {"should refuse padding beyond the tail", 960, 1008, 0, -EPROTO, {{960, 48, PAD}}},
    {"should refuse padding behind padding", 960, 1984, 0, -EPROTO, {{960, 48, PAD}, {0, CAPACITY - 16, PAD}}},
    {"should refuse a bad record behind padding", 960, 1056, 0, -EPROTO, {{960, 48, PAD}, {0, 17, 1}}},
    {"should refuse a bad record behind a good one", 0, 64, 1, -EPROTO, {{0, 16, 1}, {32, 32, 1}}},
    {"should refuse bad padding behind a good record", 928, 1056, 1, -EPROTO, {{928, 16, 1}, {960, 0, PAD}}},
};

static void tear(struct kit *kit, const struct torn_ring *torn, uint64_t base)
{
    kit_start(kit, base + torn->start);
    memset(kit->data, 0, kit->capacity);
    for (size_t i = 0; i < 3; i++) {
        struct pp__record header = {.size = torn->headers[i].size, .type = torn->headers[i].type};
        if (header.type != 0)
            memcpy(kit->data + torn->headers[i].offset, &header, sizeof header);
    }
    atomic_store(&kit->words->tail, base + torn->tail);
}

static void expect_broken_for_good(struct kit *kit)
{
    struct pp__record record = {.id = 12345};
    const void *payload = NULL;
    CHECK_INT(pp__ring_next(&kit->reader, &record, &payload), -EPROTO);
    CHECK(record.id == 12345 && !payload);
    CHECK(pp__ring_waiting(&kit->reader));
    uint64_t head = atomic_load(&kit->words->head);
    pp__ring_release(&kit->reader);
    CHECK_INT(atomic_load(&kit->words->head), head);
    kit_start(kit, 0);
    kit->reader.poisoned = true; /* nothing that the peer repairs counts */
    CHECK(kit_put(kit, 1, 1));
    pp__ring_publish(&kit->writer);
    CHECK_INT(pp__ring_next(&kit->reader, &record, &payload), -EPROTO);
}

static void read_torn_ring(const struct torn_ring *torn, uint64_t base)
{
    struct kit kit;
    struct pp__record record;
    const void *payload;
    int records = 0, rc;
    kit_open(&kit, CAPACITY);
    tear(&kit, torn, base);
    while ((rc = pp__ring_next(&kit.reader, &record, &payload)) == 1)
        CHECK(++records <= 2);
    if (records != torn->records || rc != torn->end)
        printf("at %llx: %s\n", (unsigned long long)base, torn->what);
    CHECK_INT(records, torn->records);
    CHECK_INT(rc, torn->end);
    if (rc == -EPROTO)
        expect_broken_for_good(&kit);
    kit_close(&kit);
}

TEST(a_torn_ring_is_read_up_to_the_tear_and_no_further)
{
    for (size_t i = 0; i < sizeof torn_rings / sizeof *torn_rings; i++) {
        read_torn_ring(&torn_rings[i], 0);
        read_torn_ring(&torn_rings[i], UINT64_MAX - CAPACITY + 1);
        read_torn_ring(&torn_rings[i], UINT64_C(1) << 63);
    }
}

TEST(a_tail_that_goes_back_over_what_was_seen_breaks_the_ring)
{
    struct kit kit;
    struct pp__record record;
    const void *payload;
    kit_open(&kit, CAPACITY);
    for (uint64_t id = 0; id < 3; id++)
        CHECK(kit_put(&kit, id, 16));
    pp__ring_publish(&kit.writer);
    for (uint64_t id = 0; id < 3; id++)
        kit_expect(&kit, id, 16);
    atomic_store(&kit.words->tail, 64);
    CHECK_INT(pp__ring_next(&kit.reader, &record, &payload), -EPROTO);
    kit_close(&kit);
}

TEST(a_tail_that_covers_what_is_not_released_yet_breaks_the_ring)
{
    struct kit kit;
    struct pp__record record;
    const void *payload;
    kit_open(&kit, CAPACITY);
    CHECK(kit_put(&kit, 1, 16));
    pp__ring_publish(&kit.writer);
    kit_expect(&kit, 1, 16);
    atomic_store(&kit.words->tail, CAPACITY + 16);
    CHECK_INT(pp__ring_next(&kit.reader, &record, &payload), -EPROTO);
    kit_close(&kit);
}

/* `seen` is taken first, from a state with 512 bytes published from 0; then `head` must break it or not. */
struct torn_head {
    const char *what;
    uint64_t seen, head;
    bool broken;
};

static const struct torn_head torn_heads[] = {
    {"should take a head at the tail", 0, 512, false},
    {"should take a head in between", 128, 256, false},
    {"should take a head that stays", 128, 128, false},
    {"should refuse a head beyond the tail", 0, 528, true},
    {"should refuse a head a whole ring ahead", 0, CAPACITY, true},
    {"should refuse a head that goes back", 128, 112, true},
    {"should refuse a head before the start", 0, UINT64_MAX - 15, true},
    {"should refuse a head far away", 0, UINT64_C(1) << 63, true},
    {"should refuse a head that is not at a record", 0, 8, true},
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
    CHECK(kit_put(&kit, 1, LARGEST));
    CHECK(kit_put(&kit, 2, LARGEST));
    pp__ring_publish(&kit.writer);
    atomic_store(&kit.words->head, CAPACITY + 16);
    CHECK(!kit_put(&kit, 3, 0));
    CHECK(kit.writer.poisoned);
    kit_close(&kit);
}

#define PROGRAMS 30000

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
 * A child as the peer: it changes header and tail all the time, so that now and then a word changes between our looks
 * at it.
 */
static _Noreturn void change_words_for_ever(struct kit *kit, uint64_t seed)
{
    static const uint32_t sizes[] = {0, 16, LARGEST, LARGEST + 1, CAPACITY, UINT32_MAX};
    volatile uint32_t *header = (volatile uint32_t *)(void *)kit->data;
    for (;;) {
        header[0] = sizes[kit_below(&seed, 6)];
        header[1] = kit_below(&seed, 4) ? 1 : PAD;
        atomic_store_explicit(&kit->words->tail, kit_below(&seed, 5) * 512, memory_order_relaxed);
    }
}

static int read_while_it_changes(struct kit *kit)
{
    struct pp__record record;
    const void *payload;
    pp__ring_reader_init(&kit->reader, kit->data, CAPACITY, &kit->words->tail, &kit->words->head, 0);
    int rc = pp__ring_next(&kit->reader, &record, &payload);
    if (rc == 1) {
        CHECK(record.size <= LARGEST && record.type == 1);
        CHECK(payload == kit->data + 16);
        CHECK_INT(kit->reader.position, 16 + (record.size + 15) / 16 * 16);
        CHECK(kit->reader.position <= kit->reader.tail_seen && kit->reader.tail_seen <= CAPACITY);
    }
    return rc;
}

TEST(words_that_change_under_our_eyes_are_believed_as_first_read)
{
    struct kit kit;
    int records = 0, broken = 0;
    kit_open(&kit, CAPACITY);
    pid_t child = kit_fork();
    if (child == 0)
        change_words_for_ever(&kit, 1);
    for (int i = 0; i < 300000 || records == 0 || broken == 0; i++) {
        int rc = read_while_it_changes(&kit);
        records += rc == 1;
        broken += rc == -EPROTO;
    }
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

static void make_size_huge(void)
{
    ((struct pp__record *)(void *)watched.data)->size = UINT32_MAX - 15;
}

static void make_it_padding(void)
{
    *(struct pp__record *)(void *)watched.data = (struct pp__record){.size = CAPACITY - 16, .type = PAD};
}

static void make_cursors_huge(void)
{
    atomic_store(&watched.words->tail, UINT64_C(1) << 40);
    atomic_store(&watched.words->head, UINT64_C(1) << 40);
}

/* How many accesses it took. */
static int read_header_that_changes(void (*turn)(void), int patience)
{
    struct pp__record record;
    const void *payload;
    kit_open(&watched, KIT_PAGE);
    CHECK(kit_put(&watched, 1, 16));
    pp__ring_publish(&watched.writer);
    watch_begin(watched.data, turn, patience);
    int rc = pp__ring_next(&watched.reader, &record, &payload);
    watch_end();
    CHECK(rc == 1 ? record.size == 16 && watched.reader.position == 32 : rc == -EPROTO);
    kit_close(&watched);
    return watch.accesses;
}

TEST(a_header_that_changes_behind_any_of_our_looks_is_believed_once)
{
    int accesses;
    check_watch();
    for (int patience = 0; (accesses = read_header_that_changes(make_size_huge, patience)) > patience; patience++) {
    }
    CHECK(accesses > 0);
    for (int patience = 0; read_header_that_changes(make_it_padding, patience) > patience; patience++) {
    }
}

TEST(a_cursor_is_read_exactly_once)
{
    struct pp__record record;
    const void *payload;
    check_watch();
#ifdef PP_TSAN
    LEFT_OUT("thread sanitizer's atomic load reads twice, the second time under a lock");
#endif
    kit_open(&watched, KIT_PAGE);
    CHECK(kit_put(&watched, 1, 16));
    pp__ring_publish(&watched.writer);
    watch_begin(watched.base, make_cursors_huge, 0);
    int rc = pp__ring_next(&watched.reader, &record, &payload);
    int for_reader = watch.accesses;
    watch_end();
    CHECK_INT(rc, 1);
    CHECK_INT(for_reader, 1);
    CHECK_INT(watched.reader.tail_seen, 32);
    atomic_store(&watched.words->head, 16);
    watch_begin(watched.base, make_cursors_huge, 0);
    CHECK(!pp__ring_drained(&watched.writer));
    watch_end();
    CHECK_INT(watch.accesses, 1);
    CHECK_INT(watched.writer.head_seen, 16);
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
    struct {
        uint32_t offset, type;
    } headers[2];
};

static const struct torn_open torn_opens[] = {
    {"should take any type and all there is", 0, 0, 1, CAPACITY - 16, {{0, 0x1234}}},
    {"should end at the end of the data", 960, 0, 1, 48, {{960, 1}}},
    {"should end at what is not released", 512, 768, 1, 240, {{256, 1}}},
    {"should go on behind padding", 960, 0, 1, CAPACITY - 64 - 16, {{960, PAD}, {0, 1}}},
    {"should refuse padding behind padding", 960, 0, -EPROTO, 0, {{960, PAD}, {0, PAD}}},
    {"should refuse padding that takes all", 0, 0, -EPROTO, 0, {{0, PAD}}},
    {"should end behind padding at what is not released", 512, 256, 1, 496, {{768, PAD}, {0, 1}}},
    {"should refuse padding up to what is not released", 0, 768, -EPROTO, 0, {{768, PAD}, {0, 1}}},
    {"should refuse padding over what is not released", 128, 768, -EPROTO, 0, {{896, PAD}, {0, PAD}}},
    {"should take a header at the end of the data", 1008, 0, 1, 0, {{1008, 1}}},
    {"should refuse a record where none fits", 0, CAPACITY, -EPROTO, 0, {{0, 1}}},
};

static void look_at_torn_open(struct kit *kit, const struct torn_open *torn, uint64_t base)
{
    struct pp__record record = {0};
    const void *payload = NULL;
    kit_start(kit, base + torn->start);
    memset(kit->data, 0, kit->capacity);
    for (size_t i = 0; i < 2; i++)
        if (torn->headers[i].type != 0)
            memcpy(kit->data + torn->headers[i].offset + 4, &torn->headers[i].type, 4);
    atomic_store(&kit->words->tail, base + torn->start + torn->end);
    kit->reader.tail_seen = kit->reader.position = base + torn->start + torn->end;
    CHECK_INT(pp__ring_peek(&kit->reader, &record, &payload), torn->got);
    CHECK_INT(record.size, torn->size);
    if (torn->got < 0)
        expect_broken_for_good(kit);
    else
        CHECK(record.type < PAD && (const unsigned char *)payload + record.size <= kit->data + CAPACITY);
}

TEST(an_open_record_is_looked_at_within_what_its_writer_may_write)
{
    struct kit kit;
    kit_open(&kit, CAPACITY);
    for (size_t i = 0; i < sizeof torn_opens / sizeof *torn_opens; i++) {
        printf("%s\n", torn_opens[i].what);
        look_at_torn_open(&kit, &torn_opens[i], 0);
        look_at_torn_open(&kit, &torn_opens[i], UINT64_MAX - CAPACITY + 1);
    }
    kit_close(&kit);
}
