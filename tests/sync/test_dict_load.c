/* SPDX-License-Identifier: MIT */
/*
 * Writers that are killed at random moments under load, and replaced. Each update moves money between accounts, and
 * notes itself; whatever dies when, the sum is what it was, in each view, and in the end no update whose function
 * returned is missing.
 */
#include "dict_kit.h"

#define ACCOUNTS 100
#define WRITERS 3

static struct shared {
    _Atomic uint64_t returned, kills;
    _Atomic bool enough;
} * shared;

static pp_dict *dict;

static size_t name(char key[16], int account)
{
    return (size_t)snprintf(key, 16, "a%d", account);
}

/* An update of four keys; the last has a value of another size each time, so that blocks come and go. */
static void move_money(unsigned *seed)
{
    static const char note[700];
    char from[16], to[16], place[16];
    int amount = rand_r(seed) % 100;
    pp_dict_change changes[] = {
        {.act = PP_DICT_INCREMENT, .key = from, .key_size = name(from, rand_r(seed) % ACCOUNTS), .by = -amount},
        {.act = PP_DICT_INCREMENT, .key = to, .key_size = name(to, rand_r(seed) % ACCOUNTS), .by = amount},
        {.act = PP_DICT_INCREMENT, .key = "updates", .key_size = 7, .by = 1},
        {.act = PP_DICT_PUT,
         .key = place,
         .key_size = (size_t)snprintf(place, sizeof place, "note%d", rand_r(seed) % 20),
         .value = note,
         .size = (size_t)rand_r(seed) % sizeof note},
    };
    CHECK_OK(pp_dict_update(dict, changes, 4, NULL));
    atomic_fetch_add(&shared->returned, 1);
}

static void move_on(void *argument)
{
    unsigned seed = (unsigned)getpid();
    (void)argument;
    while (!atomic_load(&shared->enough))
        move_money(&seed);
}

/* The sum of all accounts is 0, in a view. */
static void check_sum(void)
{
    pp_dict_view *view;
    const void *key, *value;
    size_t size;
    int64_t sum = 0, number;
    CHECK_OK(pp_dict_view_open(dict, &view));
    while (pp_dict_view_next(view, &key, NULL, &value, &size) == 1)
        if (((const char *)key)[0] == 'a') {
            CHECK_INT(size, sizeof number);
            memcpy(&number, value, sizeof number);
            sum += number;
        }
    pp_dict_view_close(view);
    CHECK_INT(sum, 0);
}

static void kill_and_replace(pid_t *child)
{
    int status;
    uint64_t before = atomic_load(&shared->returned);
    CHECK_INT(kill(*child, SIGKILL), 0);
    CHECK_INT(waitpid(*child, &status, 0), *child);
    CHECK(WIFSIGNALED(status)); /* one that has ended by itself has failed a check */
    atomic_fetch_add(&shared->kills, 1);
    *child = kit_fork(move_on, NULL);
    wait_until(atomic_load(&shared->returned) > before, 5);
}

static void load(double seconds)
{
    pid_t children[WRITERS];
    unsigned seed = 5;
    shared = kit_shared(sizeof *shared);
    for (int i = 0; i < WRITERS; i++)
        children[i] = kit_fork(move_on, NULL);
    for (double end = test_seconds() + seconds; test_seconds() < end;) {
        usleep((useconds_t)(rand_r(&seed) % 3000));
        kill_and_replace(&children[rand_r(&seed) % WRITERS]);
        check_sum();
    }
    atomic_store(&shared->enough, true);
    for (int i = 0; i < WRITERS; i++)
        kit_end_well(children[i]);
    check_sum();
    uint64_t updates = (uint64_t)kit_number(dict, "updates");
    CHECK(shared->kills > 0);
    CHECK(updates >= shared->returned && updates <= shared->returned + shared->kills);
    printf("%llu updates, %llu kills\n", (unsigned long long)updates, (unsigned long long)shared->kills);
}

static void load_anonymous(double seconds)
{
    dict = kit_dict((size_t)1 << 20);
    load(seconds);
    CHECK_OK(pp_dict_clear(dict));
    pp_dict_unref(dict);
}

static void load_kept(double seconds)
{
    dict = kit_kept((size_t)16 << 20);
    if (!dict)
        LEFT_OUT("LMDB is not here");
    load(seconds);
    pp_dict_unref(dict);
    kit_remove_directory();
}

TEST(deaths_under_load_leave_whole_updates)
{
    load_anonymous(1);
}

TEST(deaths_under_load_leave_whole_updates_of_a_kept_one)
{
    load_kept(1);
}

SLOW_TEST(deaths_under_load_for_long_leave_whole_updates)
{
    load_anonymous(50);
}

SLOW_TEST(deaths_under_load_for_long_leave_whole_updates_of_a_kept_one)
{
    load_kept(50);
}
