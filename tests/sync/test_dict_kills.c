/* SPDX-License-Identifier: MIT */
/*
 * needs: seams. A process is killed at each step of each change, at each fault point the first, second, third... time
 * that it comes there; what it leaves is the state before or the one after, whole, and a dictionary that works and has
 * lost no memory.
 */
#include "dict_kit.h"
#include "kill_kit.h"

static const char *const table_places[] = {
    "dict.noting",    "dict.noted",     "dict.stored", "dict.bytes", "dict.changed",  "dict.commit",
    "dict.committed", "dict.shrinking", "dict.grown",  "dict.leave", "sync.released", "dict.left",
};
static const char *const kept_places[] = {"kept.begun", "kept.changed", "kept.commit", "kept.committed"};

/* Before a change, and after: `stage` keys of which each has a value that tells the stage. */
static unsigned char bytes[40000];

static void put_stage(pp_dict *dict, int stage)
{
    pp_dict_change changes[24];
    char keys[24][8];
    memset(bytes, 'a' + stage, sizeof bytes);
    for (int i = 0; i < 24; i++)
        changes[i] = (pp_dict_change){.act = PP_DICT_PUT,
                                      .key = keys[i],
                                      .key_size = (size_t)snprintf(keys[i], sizeof keys[i], "%d", i),
                                      .value = bytes,
                                      .size = (size_t)(i * 37 + (i % 5 > 1 ? stage * 100 : 0))};
    changes[3].act = stage ? PP_DICT_DELETE : PP_DICT_PUT;
    CHECK_OK(pp_dict_update(dict, changes, 24, NULL));
}

/* Which stage it is; it is one of them whole. */
static int check_stage(pp_dict *dict)
{
    pp_dict_view *view;
    const void *key, *value;
    size_t size;
    int stage = -1, count = 0;
    CHECK_OK(pp_dict_view_open(dict, &view));
    for (; pp_dict_view_next(view, &key, NULL, &value, &size) == 1; count++) {
        int i = atoi(key);
        if (i == 0) /* its value is empty */
            continue;
        if (stage < 0)
            stage = ((const char *)value)[0] - 'a';
        CHECK_INT(size, i * 37 + (i % 5 > 1 ? stage * 100 : 0));
        CHECK(kit_all(value, size, (unsigned char)('a' + stage)));
    }
    pp_dict_view_close(view);
    CHECK(stage == 0 || stage == 1);
    CHECK_INT(count, stage ? 23 : 24);
    CHECK_INT(pp_dict_size(dict), count);
    return stage;
}

static void go_to_stage_one(void *dict)
{
    put_stage(dict, 1);
}

/* All memory is there still: one value as large as nearly all of it fits. The few buckets that are in use take none. */
static void check_memory(pp_dict *dict, size_t max_bytes)
{
    void *large = calloc(1, max_bytes);
    CHECK_OK(pp_dict_clear(dict));
    CHECK_OK(pp_dict_put(dict, "large", 5, large, max_bytes - 100));
    CHECK_OK(pp_dict_delete(dict, "large", 5));
    free(large);
}

static int kill_updates(pp_dict *dict, const char *place, int *outcomes)
{
    int kills = 0;
    for (unsigned n = 1;; n++) {
        put_stage(dict, 0);
        bool killed = killed_at(place, n, go_to_stage_one, dict);
        outcomes[check_stage(dict)] += killed;
        if (!killed)
            return kills;
        kills++;
    }
}

TEST_WITHIN(a_writer_killed_at_any_step_of_an_update_leaves_the_last_whole_state, 30)
{
    pp_dict *dict = kit_dict(1 << 20);
    int outcomes[2] = {0}, kills = 0;
    for (size_t i = 0; i < sizeof table_places / sizeof table_places[0]; i++)
        kills += kill_updates(dict, table_places[i], outcomes);
    CHECK(kills > 300 && outcomes[0] > 100 && outcomes[1] > 20);
    for (int i = 0; i < 24; i++) {
        char key[8];
        pp_dict_delete(dict, key, (size_t)snprintf(key, sizeof key, "%d", i));
    }
    CHECK_INT(pp_dict_size(dict), 0);
    void *large = harness_keep(calloc(1, 1 << 20));
    CHECK_OK(pp_dict_put(dict, "large", 5, large, (1 << 20) - 100)); /* no block was lost */
    check_memory(dict, 1 << 20);
    pp_dict_unref(dict);
}

TEST(a_writer_killed_at_any_step_of_an_update_of_a_kept_one_leaves_the_last_whole_state)
{
    pp_dict *dict = kit_kept(0);
    int outcomes[2] = {0}, kills = 0;
    if (!dict)
        LEFT_OUT("LMDB is not here");
    for (size_t i = 0; i < sizeof kept_places / sizeof kept_places[0]; i++)
        kills += kill_updates(dict, kept_places[i], outcomes);
    CHECK(kills > 20 && outcomes[0] > 20 && outcomes[1] > 0);
    pp_dict_unref(dict);
    kit_remove_directory();
}

static void clear_it(void *dict)
{
    CHECK_OK(pp_dict_clear(dict));
}

TEST(who_is_killed_at_any_step_of_a_clear_has_deleted_all_or_nothing)
{
    pp_dict *dict = kit_dict(1 << 20);
    int kills = 0, cleared = 0;
    for (size_t i = 0; i < sizeof table_places / sizeof table_places[0]; i++)
        for (unsigned n = 1;; n++) {
            put_stage(dict, 0);
            CHECK_OK(pp_dict_put(dict, "0", 1, bytes, sizeof bytes)); /* so that there is memory to be given back */
            CHECK_OK(pp_dict_put(dict, "0", 1, NULL, 0));
            bool killed = killed_at(table_places[i], n, clear_it, dict);
            if (pp_dict_size(dict) == 0)
                cleared += killed;
            else
                CHECK_INT(check_stage(dict), 0);
            if (!killed)
                break;
            kills++;
        }
    CHECK(kills > 40 && cleared > 3 && cleared < kills);
    check_memory(dict, 1 << 20);
    pp_dict_unref(dict);
}

/* ------------------------------------------------------------------------------------------- of others */

/* So many that buckets are split, and their words lie in blocks. */
#define MANY 200

static void add_one(void *dict)
{
    static const char value[100];
    char key[16];
    int64_t n = pp_dict_size(dict);
    CHECK_OK(pp_dict_put(dict, key, (size_t)snprintf(key, sizeof key, "%d", (int)n), value, sizeof value));
}

TEST(who_is_killed_while_the_table_grows_leaves_all_its_keys)
{
    pp_dict *dict = kit_dict(1 << 20);
    char key[16], value[100];
    unsigned turn = 0;
    while (pp_dict_size(dict) < MANY) {
        const char *place = table_places[turn % 7];
        killed_at(place, turn / 7 % 25 + 1, add_one, dict);
        turn++;
        for (int i = 0; i < pp_dict_size(dict); i++)
            CHECK_OK(pp_dict_get(dict, key, (size_t)snprintf(key, sizeof key, "%d", i), value, sizeof value, NULL));
    }
    CHECK(turn > MANY);
    pp_dict_unref(dict);
}

static void fail_update(void *dict)
{
    pp_dict_change changes[3] = {
        {.act = PP_DICT_PUT, .key = "1", .key_size = 1, .value = bytes, .size = 5000},
        {.act = PP_DICT_DELETE, .key = "2", .key_size = 1},
        {.act = PP_DICT_DELETE, .key = "none", .key_size = 4},
    };
    CHECK_INT(pp_dict_update(dict, changes, 3, NULL), -ENOENT);
}

TEST(who_is_killed_while_a_failed_update_is_undone_leaves_it_to_the_next)
{
    pp_dict *dict = kit_dict(1 << 20);
    unsigned n = 1;
    put_stage(dict, 0);
    while (killed_at("dict.undone", n, fail_update, dict)) {
        n++;
        CHECK_INT(check_stage(dict), 0);
    }
    CHECK(n > 8);
    check_memory(dict, 1 << 20);
    pp_dict_unref(dict);
}

static void look(void *dict)
{
    pp_dict_size(dict);
}

/* The second one dies as it undoes what the first left, at each step. */
TEST(who_is_killed_while_it_undoes_what_a_dead_one_left_leaves_it_to_the_next)
{
    pp_dict *dict = kit_dict(1 << 20);
    bool killed = true;
    for (unsigned n = 1; killed; n += 3) {
        put_stage(dict, 0);
        CHECK(killed_at("dict.commit", 1, go_to_stage_one, dict));
        killed = killed_at("dict.undone", n, look, dict);
        CHECK_INT(check_stage(dict), 0);
    }
    check_memory(dict, 1 << 20);
    pp_dict_unref(dict);
}

static void get_one(void *dict)
{
    char buffer[512];
    size_t size;
    CHECK_OK(pp_dict_get(dict, "1", 1, buffer, sizeof buffer, &size));
}

/* And 16 that may be dead. */
static pp_dict *dict_for_one_reader(void)
{
    pp_dict *dict = NULL;
    int error = pp_dict_create(&(pp_dict_options){.path = kit_path("kept"), .max_readers = 1, .no_flush = 1}, &dict);
    if (error == -ENOTSUP) {
        kit_remove_directory();
        LEFT_OUT("LMDB is not here");
    }
    CHECK_OK(error);
    return dict;
}

/* More than there are places of readers, so that those of the dead are used again. */
TEST(readers_of_a_kept_one_that_were_killed_keep_nobody_out)
{
    pp_dict *dict = dict_for_one_reader();
    put_stage(dict, 0);
    for (int i = 0; i < 40; i++)
        CHECK(killed_at("kept.begun", 1, get_one, dict));
    get_one(dict);
    CHECK_INT(check_stage(dict), 0);
    pp_dict_unref(dict);
    kit_remove_directory();
}

TEST(more_readers_of_a_kept_one_than_it_may_have_are_told)
{
    pp_dict *dict = dict_for_one_reader();
    pid_t children[17];
    put_stage(dict, 0);
    for (int i = 0; i < 17; i++) {
        pp__fault_arm("kept.begun", 1, PP__FAULT_HANG);
        children[i] = kit_fork(get_one, dict);
        wait_until(pp__fault_hits() == 1, 5);
        pp__fault_disarm();
    }
    CHECK_INT(pp_dict_size(dict), -EUSERS);
    CHECK_HAS(pp_last_error(), "max_readers");
    kit_kill(children[0]);
    CHECK_INT(check_stage(dict), 0);
    for (int i = 1; i < 17; i++)
        kit_kill(children[i]);
    pp_dict_unref(dict);
    kit_remove_directory();
}

static void find_stage_zero(void *dict)
{
    CHECK_INT(check_stage(dict), 0);
}

/* One that has begun to take a view, and is stopped. */
static pid_t stopped_reader(pp_dict *dict)
{
    pp__fault_arm("kept.walk", 1, PP__FAULT_STOP);
    pid_t child = kit_fork(find_stage_zero, dict);
    wait_until(test_process_state(child, NULL, NULL) == 'T', 10);
    pp__fault_disarm();
    return child;
}

/* Changes the same values until there is no room; `most` times, if that does not happen. How often it did. */
static int change_until_full(pp_dict *dict, int most)
{
    int error = 0, changes = 0;
    for (; error == 0 && changes < most; changes += error == 0)
        error = pp_dict_put(dict, "0", 1, bytes, sizeof bytes);
    CHECK(error == 0 || error == -ENOSPC);
    return changes;
}

static void change_often(void *dict)
{
    CHECK_INT(change_until_full(dict, 1000), 1000);
}

/* One that changes, until it finds no room for the n-th time. */
static pid_t stopped_writer(pp_dict *dict, unsigned n)
{
    pp__fault_arm("kept.lacks", n, PP__FAULT_STOP);
    pid_t child = kit_fork(change_often, dict);
    wait_until(test_process_state(child, NULL, NULL) == 'T', 10);
    pp__fault_disarm();
    return child;
}

/* Where several find no room at once, the first to look finds the dead reader, and the others none. */
TEST(who_finds_no_room_in_a_kept_one_tries_again_where_somebody_else_has_buried_the_reader)
{
    pp_dict *dict = kit_kept(1 << 20);
    if (!dict)
        LEFT_OUT("LMDB is not here");
    put_stage(dict, 0);
    pid_t reader = stopped_reader(dict);
    kit_kill(reader);
    pid_t writer = stopped_writer(dict, 1);
    CHECK_INT(change_until_full(dict, 100), 100);
    kill(writer, SIGCONT);
    kit_end_well(writer);
    pp_dict_unref(dict);
    kit_remove_directory();
}

/* One that reads, when it finds no room for the first time, and no more the second time. */
TEST(who_finds_no_room_in_a_kept_one_waits_for_who_reads_it)
{
    pp_dict *dict = kit_kept(1 << 20);
    if (!dict)
        LEFT_OUT("LMDB is not here");
    put_stage(dict, 0);
    pid_t reader = stopped_reader(dict), writer = stopped_writer(dict, 2);
    kill(reader, SIGCONT);
    kit_end_well(reader);
    kill(writer, SIGCONT);
    kit_end_well(writer);
    pp_dict_unref(dict);
    kit_remove_directory();
}

TEST(a_stopped_reader_of_a_kept_one_takes_room_until_it_goes_on_or_is_killed)
{
    pp_dict *dict = kit_kept(1 << 20);
    if (!dict)
        LEFT_OUT("LMDB is not here");
    for (int killed = 0; killed < 2; killed++) {
        put_stage(dict, 0);
        pid_t reader = stopped_reader(dict);
        CHECK(change_until_full(dict, 1000) < 1000);
        CHECK_OK(pp_dict_get(dict, "0", 1, bytes, sizeof bytes, NULL));
        if (killed) {
            kit_kill(reader);
        } else {
            kill(reader, SIGCONT);
            kit_end_well(reader); /* it has seen what was there when it began */
        }
        CHECK_INT(change_until_full(dict, 1000), 1000);
    }
    pp_dict_unref(dict);
    kit_remove_directory();
}

/* ---------------------------------------------------------------------------------------------- want */

static int no_fallocate(int fd, off_t at, off_t size)
{
    (void)fd, (void)at, (void)size;
    return ENOMEM;
}

static void *no_memory(void *old, size_t size)
{
    (void)old, (void)size;
    return NULL;
}

TEST(want_of_memory_is_told_and_what_is_there_stays)
{
    pp_dict *dict = kit_dict(0);
    pp_dict_view *view;
    struct pp__sys real = pp__sys;
    static const char large[1 << 20];
    put_stage(dict, 0);
    pp__sys.posix_fallocate = no_fallocate;
    CHECK_INT(pp_dict_put(dict, "large", 5, large, sizeof large), -ENOMEM);
    pp__sys = real;
    CHECK_INT(check_stage(dict), 0);
    pp__sys.realloc = no_memory;
    CHECK_INT(pp_dict_view_open(dict, &view), -ENOMEM);
    pp__sys = real;
    CHECK_OK(pp_dict_put(dict, "large", 5, large, sizeof large));
    pp_dict_unref(dict);
}
