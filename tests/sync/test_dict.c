/* SPDX-License-Identifier: MIT */
/* What a dictionary does, in one process and in many; all on both kinds. */
#include "dict_kit.h"

#include <sys/stat.h>

/* ---------------------------------------------------------------------------------------- one process */

static void keep_all_sizes(pp_dict *dict)
{
    static unsigned char bytes[300000], back[sizeof bytes];
    size_t sizes[] = {0, 1, 7, 8, 9, 63, 64, 65, 100, 511, 4095, 4096, 4097, 65536, 300000}, size;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        char key[600];
        size_t key_size = 1 + i * 36;
        memset(key, 'k', sizeof key);
        memset(bytes, (int)i + 1, sizes[i]);
        CHECK_OK(pp_dict_put(dict, key, key_size, sizes[i] ? bytes : NULL, sizes[i]));
    }
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        char key[600];
        void *copy;
        memset(key, 'k', sizeof key);
        CHECK_OK(pp_dict_get(dict, key, 1 + i * 36, back, sizeof back, &size));
        CHECK_INT(size, sizes[i]);
        CHECK(kit_all(back, size, (unsigned char)(i + 1)));
        CHECK_OK(pp_dict_copy(dict, key, 1 + i * 36, &copy, &size));
        CHECK_INT(size, sizes[i]);
        CHECK(kit_all(copy, size, (unsigned char)(i + 1)));
        CHECK_INT(((char *)copy)[size], 0);
        CHECK_INT((uintptr_t)copy % 16, 0);
        pp_free(copy);
    }
    CHECK_INT(pp_dict_size(dict), sizeof sizes / sizeof sizes[0]);
}

TEST(values_of_all_sizes_come_back_whole)
{
    kit_both(keep_all_sizes, 0);
}

static void get_with_room(pp_dict *dict)
{
    char buffer[8] = "unread";
    void *copy = NULL;
    size_t size = 77;
    kit_set(dict, "key", "value");
    CHECK_OK(pp_dict_get(dict, "key", 3, buffer, 5, NULL));
    CHECK_INT(memcmp(buffer, "valued", 6), 0);
    CHECK_INT(pp_dict_get(dict, "key", 3, buffer, 6, NULL), -EMSGSIZE);
    CHECK_INT(pp_dict_get(dict, "key", 3, buffer, 4, &size), -EMSGSIZE);
    CHECK_INT(size, 5);
    size = 77;
    CHECK_INT(pp_dict_get(dict, "ke", 2, buffer, 8, &size), -ENOENT);
    CHECK_INT(pp_dict_get(dict, "keys", 4, buffer, 8, &size), -ENOENT);
    CHECK_INT(pp_dict_copy(dict, "keys", 4, &copy, &size), -ENOENT);
    CHECK_INT(size, 77);
    CHECK(copy == NULL);
    kit_set(dict, "key", "");
    CHECK_OK(pp_dict_get(dict, "key", 3, NULL, 0, NULL));
}

TEST(a_value_is_copied_where_there_is_room_and_its_size_told)
{
    kit_both(get_with_room, 0);
}

static void change_by_condition(pp_dict *dict)
{
    CHECK_INT(pp_dict_delete(dict, "a", 1), -ENOENT);
    CHECK_INT(pp_dict_replace(dict, "a", 1, "1", 1, "2", 1), -ENOENT);
    CHECK_OK(pp_dict_add(dict, "a", 1, "1", 1));
    CHECK_INT(pp_dict_add(dict, "a", 1, "2", 1), -EEXIST);
    CHECK_INT(pp_dict_replace(dict, "a", 1, "2", 1, "3", 1), -ESTALE);
    CHECK_INT(pp_dict_replace(dict, "a", 1, "12", 2, "3", 1), -ESTALE);
    CHECK_INT(pp_dict_replace(dict, "a", 1, NULL, 0, "3", 1), -ESTALE);
    kit_has(dict, "a", "1");
    CHECK_OK(pp_dict_replace(dict, "a", 1, "1", 1, "three", 5));
    kit_has(dict, "a", "three");
    kit_set(dict, "a", "3");
    kit_has(dict, "a", "3");
    CHECK_OK(pp_dict_delete(dict, "a", 1));
    kit_has(dict, "a", NULL);
    CHECK_INT(pp_dict_size(dict), 0);
    kit_set(dict, "a", "");
    CHECK_INT(pp_dict_add(dict, "a", 1, "2", 1), -EEXIST);
    CHECK_OK(pp_dict_replace(dict, "a", 1, NULL, 0, "x", 1));
    CHECK_INT(pp_dict_size(dict), 1);
    CHECK_OK(pp_dict_clear(dict));
    CHECK_INT(pp_dict_size(dict), 0);
    kit_has(dict, "a", NULL);
    CHECK_OK(pp_dict_clear(dict));
}

TEST(a_change_whose_condition_does_not_hold_changes_nothing)
{
    kit_both(change_by_condition, 0);
}

static void count_up(pp_dict *dict)
{
    int64_t result = 77, most = INT64_MAX;
    CHECK_OK(pp_dict_increment(dict, "n", 1, 5, &result));
    CHECK_INT(result, 5);
    CHECK_OK(pp_dict_increment(dict, "n", 1, -7, NULL));
    CHECK_INT(kit_number(dict, "n"), -2);
    kit_set(dict, "text", "seven");
    CHECK_INT(pp_dict_increment(dict, "text", 4, 1, &result), -EMSGSIZE);
    CHECK_OK(pp_dict_put(dict, "n", 1, &most, sizeof most));
    CHECK_INT(pp_dict_increment(dict, "n", 1, 1, &result), -EOVERFLOW);
    CHECK_INT(result, 5);
    CHECK_INT(kit_number(dict, "n"), INT64_MAX);
}

TEST(numbers_are_counted_up_and_down)
{
    kit_both(count_up, 0);
}

#define CHANGE(what, name, ...)                                                                                        \
    {                                                                                                                  \
        .act = (what), .key = (name), .key_size = strlen(name), __VA_ARGS__                                            \
    }

static void update_many(pp_dict *dict)
{
    kit_set(dict, "old", "there");
    pp_dict_change changes[] = {
        CHANGE(PP_DICT_EXPECT, "new"),
        CHANGE(PP_DICT_ADD, "new", .value = "one", .size = 3),
        CHANGE(PP_DICT_REPLACE, "new", .expected = "one", .expected_size = 3, .value = "two", .size = 3),
        CHANGE(PP_DICT_INCREMENT, "n", .by = 3),
        CHANGE(PP_DICT_INCREMENT, "n", .by = 4),
        CHANGE(PP_DICT_DELETE, "old"),
        CHANGE(PP_DICT_PUT, "old", .value = "again", .size = 5),
        CHANGE(PP_DICT_EXPECT, "old", .expected = "again", .expected_size = 5),
    };
    size_t failed = 99;
    CHECK_OK(pp_dict_update(dict, changes, 8, &failed));
    CHECK_INT(failed, 99);
    CHECK_INT(changes[3].result, 3);
    CHECK_INT(changes[4].result, 7);
    kit_has(dict, "new", "two");
    kit_has(dict, "old", "again");
    CHECK_INT(kit_number(dict, "n"), 7);
    CHECK_OK(pp_dict_update(dict, NULL, 0, NULL));
    CHECK_INT(pp_dict_size(dict), 3);
}

TEST(changes_of_one_update_see_those_before_them)
{
    kit_both(update_many, 0);
}

static void fail_at_each_place(pp_dict *dict)
{
    static const struct {
        pp_dict_change change;
        int error;
    } bad[] = {
        {CHANGE(PP_DICT_ADD, "kept", .value = "x", .size = 1), -EEXIST},
        {CHANGE(PP_DICT_DELETE, "none"), -ENOENT},
        {CHANGE(PP_DICT_REPLACE, "none", .expected = "", .value = "x", .size = 1), -ENOENT},
        {CHANGE(PP_DICT_REPLACE, "kept", .expected = "other", .expected_size = 5), -ESTALE},
        {CHANGE(PP_DICT_INCREMENT, "kept", .by = 1), -EMSGSIZE},
        {CHANGE(PP_DICT_EXPECT, "kept"), -EEXIST},
        {CHANGE(PP_DICT_EXPECT, "none", .expected = ""), -ENOENT},
        {CHANGE(PP_DICT_EXPECT, "kept", .expected = "x", .expected_size = 1), -ESTALE},
        {{.act = PP_DICT_PUT, .key = NULL}, -EINVAL},
        {{.act = (pp_dict_act)7, .key = "k", .key_size = 1}, -EINVAL},
        {{.act = PP_DICT_PUT, .key = "k", .key_size = 1, .reserved = {0, 1}}, -EINVAL},
        {{.act = PP_DICT_PUT, .key = "k", .key_size = 512}, -EMSGSIZE},
        {{.act = PP_DICT_PUT, .key = "k", .key_size = 1, .value = "", .size = (size_t)PP_DICT_VALUE_MAX + 1},
         -EMSGSIZE},
        {{.act = PP_DICT_PUT, .key = "k", .key_size = 1, .size = 1}, -EINVAL},
        {{.act = PP_DICT_EXPECT, .key = "k", .key_size = 1, .expected_size = 1}, -EINVAL},
    };
    kit_set(dict, "kept", "as it was");
    kit_set(dict, "gone", "too");
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        for (size_t at = 0; at < 5; at++) {
            pp_dict_change changes[5] = {
                CHANGE(PP_DICT_PUT, "a", .value = "1", .size = 1), CHANGE(PP_DICT_DELETE, "gone"),
                CHANGE(PP_DICT_PUT, "b", .value = "2", .size = 1), CHANGE(PP_DICT_PUT, "a", .value = "22", .size = 2),
                CHANGE(PP_DICT_INCREMENT, "c", .by = 1)};
            size_t failed = 99;
            changes[at] = bad[i].change;
            CHECK_INT(pp_dict_update(dict, changes, 5, &failed), bad[i].error);
            CHECK_INT(failed, at);
            CHECK_INT(pp_dict_size(dict), 2);
            kit_has(dict, "kept", "as it was");
            kit_has(dict, "gone", "too");
        }
}

TEST(an_update_that_fails_at_any_place_changes_nothing)
{
    kit_both(fail_at_each_place, 0);
}

/* ---------------------------------------------------------------------------------------- many keys */

#define KEYS 2000

/* What must be there: for each key a size, -1 for none, and the byte of which it is. */
static struct {
    int size;
    unsigned char byte;
} expected[KEYS];

static void check_all(pp_dict *dict)
{
    pp_dict_view *view;
    const void *key, *value;
    size_t key_size, size;
    int left = 0;
    for (int i = 0; i < KEYS; i++)
        left += expected[i].size >= 0;
    CHECK_INT(pp_dict_size(dict), left);
    CHECK_OK(pp_dict_view_open(dict, &view));
    while (pp_dict_view_next(view, &key, &key_size, &value, &size) == 1) {
        int i = atoi(key);
        CHECK_INT(strlen(key), key_size);
        CHECK_INT((uintptr_t)value % 8, 0);
        CHECK_INT(size, expected[i].size);
        CHECK(kit_all(value, size, expected[i].byte));
        CHECK_INT(((const char *)value)[size], 0);
        left--;
    }
    CHECK_INT(left, 0);
    CHECK_INT(pp_dict_view_next(view, NULL, NULL, NULL, NULL), 0);
    pp_dict_view_close(view);
}

static void change_at_random(pp_dict *dict, unsigned *seed)
{
    unsigned char bytes[3000];
    char key[16];
    int i = rand_r(seed) % KEYS, size = rand_r(seed) % (rand_r(seed) % 8 ? 100 : 3000);
    int length = snprintf(key, sizeof key, "%d", i);
    if (rand_r(seed) % 3 == 0) {
        CHECK_INT(pp_dict_delete(dict, key, (size_t)length), expected[i].size < 0 ? -ENOENT : 0);
        expected[i].size = -1;
        return;
    }
    expected[i].size = size;
    expected[i].byte = (unsigned char)rand_r(seed);
    memset(bytes, expected[i].byte, sizeof bytes);
    CHECK_OK(pp_dict_put(dict, key, (size_t)length, bytes, (size_t)size));
}

static void change_many(pp_dict *dict)
{
    unsigned seed = 7;
    for (int i = 0; i < KEYS; i++)
        expected[i].size = -1;
    for (int i = 0; i < 20000; i++) {
        change_at_random(dict, &seed);
        if (i % 2000 == 1999)
            check_all(dict);
    }
    CHECK_OK(pp_dict_clear(dict));
    for (int i = 0; i < KEYS; i++)
        expected[i].size = -1;
    check_all(dict);
    for (int i = 0; i < 2000; i++)
        change_at_random(dict, &seed);
    check_all(dict);
}

TEST(many_keys_come_change_and_go)
{
    kit_both(change_many, (size_t)16 << 20);
}

static void view_while_changing(pp_dict *dict)
{
    pp_dict_view *view;
    const void *value;
    size_t size;
    kit_set(dict, "key", "before");
    CHECK_OK(pp_dict_view_open(dict, &view));
    kit_set(dict, "key", "after");
    kit_set(dict, "more", "after");
    CHECK_INT(pp_dict_view_next(view, NULL, NULL, &value, &size), 1);
    CHECK_INT(size, 6);
    CHECK_STR((const char *)value, "before");
    CHECK_INT(pp_dict_view_next(view, NULL, NULL, &value, &size), 0);
    pp_dict_view_close(view);
}

TEST(a_view_stays_as_it_was_when_it_was_taken)
{
    kit_both(view_while_changing, 0);
}

/* ---------------------------------------------------------------------------------------------- room */

/* Puts values of this size until there is no room. How many went in. */
static int fill(pp_dict *dict, size_t size)
{
    static unsigned char bytes[1 << 16];
    char key[16];
    int i = 0, error;
    do {
        memset(bytes, i, size);
        error = pp_dict_put(dict, key, (size_t)snprintf(key, sizeof key, "%d", i), bytes, size);
    } while (error == 0 && ++i < 1000000);
    CHECK_INT(error, -ENOSPC);
    return i;
}

static void check_filled(pp_dict *dict, int count, size_t size)
{
    static unsigned char back[1 << 16];
    char key[16];
    CHECK_INT(pp_dict_size(dict), count);
    for (int i = 0; i < count; i++) {
        CHECK_OK(pp_dict_get(dict, key, (size_t)snprintf(key, sizeof key, "%d", i), back, size, NULL));
        CHECK(kit_all(back, size, (unsigned char)i));
    }
}

static void become_full(pp_dict *dict)
{
    const size_t sizes[] = {100, 3000, 10, 20000, 600};
    for (size_t s = 0; s < 5; s++) {
        int count = fill(dict, sizes[s]);
        char key[16];
        pp_dict_change changes[] = {CHANGE(PP_DICT_DELETE, "0"),
                                    CHANGE(PP_DICT_PUT, "x", .value = key, .size = 1 << 24)};
        size_t failed;
        CHECK(count > 10);
        check_filled(dict, count, sizes[s]);
        changes[1].value = harness_keep(calloc(1, 1 << 24));
        CHECK_INT(pp_dict_update(dict, changes, 2, &failed), -ENOSPC);
        CHECK_INT(failed, 1);
        check_filled(dict, count, sizes[s]);
        for (int i = count; i-- > 0;)
            CHECK_OK(pp_dict_delete(dict, key, (size_t)snprintf(key, sizeof key, "%d", i)));
        CHECK_INT(pp_dict_size(dict), 0);
    }
}

TEST(a_full_dictionary_loses_nothing_and_what_is_deleted_makes_room)
{
    kit_both(become_full, 1 << 20);
}

static long memory_of(pp_dict *dict)
{
    struct stat status;
    CHECK_INT(fstat(pp_dict_fd(dict), &status), 0);
    return (long)status.st_blocks * 512;
}

TEST(an_anonymous_one_has_no_name_in_any_file_system)
{
    char link[64], target[256] = "";
    pp_dict *dict = kit_dict(0);
    snprintf(link, sizeof link, "/proc/self/fd/%d", pp_dict_fd(dict));
    CHECK(readlink(link, target, sizeof target - 1) > 0);
    CHECK_STR(target, "/memfd:procpool-dict (deleted)");
    pp_dict_unref(dict);
}

TEST(memory_of_an_anonymous_one_comes_with_what_is_put_and_goes_with_a_clear)
{
    pp_dict *dict = kit_dict(0);
    long first = memory_of(dict), much;
    static const char bytes[100000];
    char key[16];
    CHECK(first < 200000);
    for (int i = 0; i < 100; i++)
        CHECK_OK(pp_dict_put(dict, key, (size_t)snprintf(key, sizeof key, "%d", i), bytes, sizeof bytes));
    much = memory_of(dict);
    CHECK(much > 10000000 && much < 15000000);
    CHECK_OK(pp_dict_clear(dict));
    CHECK(memory_of(dict) < first + 200000);
    kit_set(dict, "key", "value");
    kit_has(dict, "key", "value");
    pp_dict_unref(dict);
}

TEST(an_anonymous_one_that_was_emptied_has_room_for_one_value_as_large_as_all)
{
    static const char bytes[(1 << 20) - 100];
    pp_dict *dict = kit_dict(1 << 20);
    unsigned seed = 3;
    char key[16];
    for (int i = 0; i < 20000; i++) {
        size_t size = (size_t)snprintf(key, sizeof key, "%d", rand_r(&seed) % 50);
        CHECK_OK(pp_dict_put(dict, key, size, bytes, (size_t)rand_r(&seed) % 5000));
    }
    for (int i = 0; i < 50; i++)
        CHECK_OK(pp_dict_delete(dict, key, (size_t)snprintf(key, sizeof key, "%d", i)));
    CHECK_OK(pp_dict_put(dict, "all", 3, bytes, sizeof bytes));
    pp_dict_unref(dict);
}

/* ------------------------------------------------------------------------------------ many processes */

#define ROUNDS 2000

static void *count_in_thread(void *dict)
{
    for (int i = 0; i < ROUNDS; i++)
        CHECK_OK(pp_dict_increment(dict, "n", 1, 1, NULL));
    return NULL;
}

static void count_in_child(void *dict)
{
    pthread_t other;
    CHECK_INT(pthread_create(&other, NULL, count_in_thread, dict), 0);
    count_in_thread(dict);
    pthread_join(other, NULL);
}

static void count_together(pp_dict *dict)
{
    pid_t children[3];
    for (int i = 0; i < 3; i++)
        children[i] = kit_fork(count_in_child, dict);
    count_in_child(dict);
    for (int i = 0; i < 3; i++)
        kit_end_well(children[i]);
    CHECK_INT(kit_number(dict, "n"), 8 * ROUNDS);
}

TEST(many_threads_of_many_processes_change_one_value_and_no_change_is_lost)
{
    kit_both(count_together, 0);
}

static void grow_in_child(void *dict)
{
    static const char bytes[1 << 20] = "begin";
    char key[16];
    for (int i = 0; i < 20; i++)
        CHECK_OK(pp_dict_put(dict, key, (size_t)snprintf(key, sizeof key, "%d", i), bytes, sizeof bytes));
}

static void see_growth(pp_dict *dict)
{
    pp_dict *second;
    void *copy;
    size_t size;
    kit_set(dict, "0", "small");
    CHECK_OK(pp_dict_open(pp_dict_fd(dict), &second));
    kit_end_well(kit_fork(grow_in_child, dict));
    for (int i = 0; i < 2; i++) {
        CHECK_OK(pp_dict_copy(i ? second : dict, "19", 2, &copy, &size));
        CHECK_INT(size, 1 << 20);
        CHECK_STR((char *)copy, "begin");
        pp_free(copy);
    }
    pp_dict_unref(second);
}

TEST(what_one_process_adds_however_much_all_others_see)
{
    kit_both(see_growth, 0);
}

static void without_descriptor(void *dict)
{
    close(pp_dict_fd(dict));
    CHECK_INT(pp_dict_fd(dict), -EBADF);
    grow_in_child(dict);
}

TEST(a_process_whose_descriptor_was_closed_still_adds_what_it_wants)
{
    pp_dict *dict = kit_dict(0);
    kit_end_well(kit_fork(without_descriptor, dict));
    CHECK_INT(pp_dict_size(dict), 20);
    pp_dict_unref(dict);
}

static int count_by_descriptor(pp_task *task, const void *arg, size_t size)
{
    int fd;
    pp_dict *dict;
    CHECK_INT(size, sizeof fd);
    memcpy(&fd, arg, size);
    if (pp_dict_open(fd, &dict) != 0)
        return pp_task_fail(task, -EBADF, "%s", pp_last_error());
    CHECK_OK(pp_dict_increment(dict, "calls", 5, 1, NULL));
    pp_dict_unref(dict);
    return 0;
}

static void count_in_pool(pp_dict *dict)
{
    int fd = pp_dict_fd(dict);
    pp_pool *pool;
    pp_future *futures[20];
    CHECK_OK(pp_pool_create(
        &(pp_pool_options){
            .max_workers = 2, .start_method = PP_START_FORKSERVER, .inherit_fds = &fd, .inherit_fd_count = 1},
        &pool));
    for (int i = 0; i < 20; i++)
        CHECK_OK(pp_submit(pool, count_by_descriptor, &fd, sizeof fd, &futures[i]));
    for (int i = 0; i < 20; i++) {
        CHECK_OK(pp_future_result(futures[i], -1, NULL, 0, NULL));
        pp_future_unref(futures[i]);
    }
    pp_pool_destroy(pool);
    CHECK_INT(kit_number(dict, "calls"), 20);
}

TEST(workers_of_a_pool_share_a_dictionary_by_its_descriptor)
{
    kit_both(count_in_pool, 0);
}

/* -------------------------------------------------------------------------------------------- refusals */

static int open_and_close(int fd)
{
    pp_dict *dict = NULL;
    int error = pp_dict_open(fd, &dict);
    CHECK((dict != NULL) == (error == 0));
    pp_dict_unref(dict);
    return error;
}

TEST(what_is_no_dictionary_is_not_opened)
{
    pp_dict *dict = kit_dict(1 << 16);
    uint64_t bytes = UINT64_MAX;
    kit_check_refusals(open_and_close, pp_dict_fd(dict));
    int forged = kit_forged(pp_dict_fd(dict), 64, &bytes, sizeof bytes); /* max_bytes */
    CHECK_INT(open_and_close(forged), -EINVAL);
    close(forged);
    pp_dict_unref(dict);
}

TEST(arguments_that_cannot_be_are_refused)
{
    pp_dict *dict = kit_dict(0), *none = NULL;
    pp_dict_view *view = NULL;
    void *copy;
    size_t size, failed = 99;
    char byte;
    CHECK_INT(pp_dict_create(NULL, NULL), -EINVAL);
    CHECK_INT(pp_dict_create(&(pp_dict_options){.reserved = {0, 0, 0, 1}}, &none), -EINVAL);
    CHECK_INT(pp_dict_create(&(pp_dict_options){.max_bytes = SIZE_MAX}, &none), -EINVAL);
    CHECK_INT(pp_dict_create(&(pp_dict_options){.max_readers = -1}, &none), -EINVAL);
    CHECK_INT(pp_dict_create(&(pp_dict_options){.no_flush = 2}, &none), -EINVAL);
    CHECK_HAS(pp_last_error(), "no_flush is 2");
    CHECK_INT(pp_dict_create(&(pp_dict_options){.path = ""}, &none), -EINVAL);
    CHECK_INT(pp_dict_open(-1, NULL), -EINVAL);
    CHECK_INT(pp_dict_open(-1, &none), -EBADF);
    CHECK(none == NULL);
    CHECK_INT(pp_dict_fd(NULL), -EINVAL);
    CHECK(pp_dict_ref(NULL) == NULL);
    pp_dict_unref(NULL);
    CHECK_INT(pp_dict_get(NULL, "k", 1, &byte, 1, &size), -EINVAL);
    CHECK_INT(pp_dict_get(dict, "k", 1, NULL, 1, &size), -EINVAL);
    CHECK_INT(pp_dict_get(dict, NULL, 1, &byte, 1, &size), -EINVAL);
    CHECK_INT(pp_dict_get(dict, "k", 0, &byte, 1, &size), -EINVAL);
    CHECK_INT(pp_dict_get(dict, "k", PP_DICT_KEY_MAX + 1, &byte, 1, &size), -EMSGSIZE);
    CHECK_INT(pp_dict_copy(NULL, "k", 1, &copy, &size), -EINVAL);
    CHECK_INT(pp_dict_copy(dict, "k", 1, NULL, &size), -EINVAL);
    CHECK_INT(pp_dict_copy(dict, "k", 1, &copy, NULL), -EINVAL);
    CHECK_INT(pp_dict_copy(dict, "k", 0, &copy, &size), -EINVAL);
    CHECK_INT(pp_dict_put(NULL, "k", 1, "v", 1), -EINVAL);
    CHECK_INT(pp_dict_put(dict, "k", 1, NULL, 1), -EINVAL);
    CHECK_INT(pp_dict_add(NULL, "k", 1, "v", 1), -EINVAL);
    CHECK_INT(pp_dict_replace(dict, "k", 1, NULL, 1, "v", 1), -EINVAL);
    CHECK_INT(pp_dict_increment(NULL, "k", 1, 1, NULL), -EINVAL);
    CHECK_INT(pp_dict_delete(NULL, "k", 1), -EINVAL);
    CHECK_INT(pp_dict_update(dict, NULL, 3, &failed), -EINVAL);
    CHECK_INT(failed, 3);
    CHECK_INT(pp_dict_update(NULL, NULL, 0, NULL), -EINVAL);
    CHECK_INT(pp_dict_clear(NULL), -EINVAL);
    CHECK_INT(pp_dict_size(NULL), -EINVAL);
    CHECK_INT(pp_dict_view_open(NULL, &view), -EINVAL);
    CHECK_INT(pp_dict_view_open(dict, NULL), -EINVAL);
    CHECK_INT(pp_dict_view_next(NULL, NULL, NULL, NULL, NULL), -EINVAL);
    pp_dict_view_close(NULL);
    CHECK_INT(pp_dict_size(dict), 0);
    pp_dict_unref(pp_dict_ref(dict));
    CHECK_INT(pp_dict_size(dict), 0);
    pp_dict_unref(dict);
}

/* Uses a dictionary in which one word is garbage: how often that was told. */
static int use_broken(int fd)
{
    static char buffer[1 << 16];
    pp_dict *broken;
    pp_dict_view *view;
    char key[16];
    size_t size;
    int told = 0;
    if (pp_dict_open(fd, &broken) != 0)
        return 1;
    for (int i = 0; i < 100; i += 7) {
        size_t key_size = (size_t)snprintf(key, sizeof key, "%d", i);
        told += pp_dict_get(broken, key, key_size, buffer, sizeof buffer, &size) == -EPROTO;
        told += pp_dict_put(broken, key, key_size, buffer, (size_t)i * 10) == -EPROTO;
        told += pp_dict_delete(broken, key, key_size) == -EPROTO;
    }
    told += pp_dict_view_open(broken, &view) == -EPROTO ? 1 : (pp_dict_view_close(view), 0);
    told += pp_dict_clear(broken) == -EPROTO;
    pp_dict_unref(broken);
    return told;
}

/* The words of the table's head, the journal's first, and some of the blocks'. The mutex is left alone. */
TEST_WITHIN(garbage_in_a_dictionarys_memory_is_told_or_does_no_harm, 60)
{
    const uint64_t garbage[] = {UINT64_MAX, 8, 0x7fffffff00000008, 0x10018};
    pp_dict *dict = kit_dict(1 << 17);
    char key[16];
    int told = 0;
    for (int i = 0; i < 100; i++)
        CHECK_OK(pp_dict_put(dict, key, (size_t)snprintf(key, sizeof key, "%d", i), garbage, sizeof garbage));
    for (int i = 0; i < 100; i += 3)
        CHECK_OK(pp_dict_delete(dict, key, (size_t)snprintf(key, sizeof key, "%d", i)));
    const size_t blocks = 4096 + (5 << 16); /* behind a journal of 16 bytes for each word */
    for (size_t word = 192; word < blocks + 4096; word = word == 4096 ? blocks : word + 8)
        for (size_t i = 0; i < sizeof garbage / sizeof garbage[0]; i++) {
            int forged = kit_forged(pp_dict_fd(dict), word, &garbage[i], 8);
            told += use_broken(forged);
            close(forged);
        }
    CHECK(told > 0);
    pp_dict_unref(dict);
}

static void leave_nothing(pp_dict *dict)
{
    (void)dict;
}

TEST(nothing_is_left_of_a_dictionary_but_a_kept_ones_file)
{
    int descriptors = kit_open_descriptors(), mappings = kit_memfd_mappings();
    kit_both(leave_nothing, 0);
    CHECK_INT(kit_open_descriptors(), descriptors);
    CHECK_INT(kit_memfd_mappings(), mappings);
}
