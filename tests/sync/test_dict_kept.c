/* SPDX-License-Identifier: MIT */
/* What only kept dictionaries do: they are files. */
#include "dict_kit.h"

#include <sys/stat.h>

static void need_lmdb(void)
{
    pp_dict *dict = kit_kept(0);
    if (!dict)
        LEFT_OUT("LMDB is not here");
    pp_dict_unref(dict);
    kit_remove_directory();
}

static int open_path(const char *path, size_t max_bytes, pp_dict **dict)
{
    return pp_dict_create(&(pp_dict_options){.path = path, .max_bytes = max_bytes, .no_flush = 1}, dict);
}

TEST(a_kept_dictionary_is_there_when_it_is_opened_again)
{
    pp_dict *dict;
    need_lmdb();
    CHECK_OK(pp_dict_create(&(pp_dict_options){.path = kit_path("kept")}, &dict)); /* flushed */
    kit_set(dict, "key", "value");
    pp_dict_unref(dict);
    CHECK_OK(open_path(kit_path("kept"), 0, &dict));
    kit_has(dict, "key", "value");
    CHECK_INT(pp_dict_size(dict), 1);
    pp_dict_unref(dict);
    kit_remove_directory();
}

static void set_and_end(void *path)
{
    pp_dict *dict;
    CHECK_OK(open_path(path, 0, &dict));
    kit_set(dict, "from", "another");
    raise(SIGKILL);
}

TEST(processes_that_know_only_the_path_share_a_kept_one)
{
    pp_dict *dict;
    int status;
    need_lmdb();
    char *path = harness_keep(strdup(kit_path("kept")));
    pid_t child = kit_fork(set_and_end, path);
    CHECK_INT(waitpid(child, &status, 0), child);
    CHECK(WIFSIGNALED(status));
    CHECK_OK(open_path(path, 0, &dict));
    kit_has(dict, "from", "another");
    pp_dict_unref(dict);
    kit_remove_directory();
}

/* LMDB breaks its locks if a process opens a file twice, so it must not. */
TEST(a_process_opens_a_file_once_however_many_handles_it_has)
{
    pp_dict *first, *second, *third;
    need_lmdb();
    CHECK_OK(open_path(kit_path("kept"), 0, &first));
    int descriptors = kit_open_descriptors();
    CHECK_OK(open_path(kit_path("./kept"), 0, &second));
    CHECK_OK(pp_dict_open(pp_dict_fd(first), &third));
    CHECK_INT(kit_open_descriptors(), descriptors + 2); /* what handles are passed on with */
    kit_set(first, "key", "value");
    pp_dict_unref(first);
    kit_has(second, "key", "value");
    pp_dict_unref(second);
    kit_has(third, "key", "value");
    pp_dict_unref(third);
    kit_remove_directory();
}

static void use_in_fork(void *dict)
{
    kit_has(dict, "who", "parent");
    kit_set(dict, "who", "child");
    pp_dict_unref(dict);
}

/* The parent holds a handle, and transactions of other threads, while it forks; each child opens for itself. */
TEST(forked_children_open_the_file_for_themselves)
{
    pp_dict *dict;
    need_lmdb();
    CHECK_OK(open_path(kit_path("kept"), 0, &dict));
    for (int i = 0; i < 5; i++) {
        kit_set(dict, "who", "parent");
        kit_end_well(kit_fork(use_in_fork, dict));
        kit_has(dict, "who", "child");
    }
    pp_dict_unref(dict);
    kit_remove_directory();
}

static _Atomic bool enough;

static void *use_all_the_time(void *dict)
{
    while (!atomic_load(&enough)) {
        CHECK_OK(pp_dict_increment(dict, "n", 1, 1, NULL));
        CHECK(kit_number(dict, "n") > 0);
    }
    return NULL;
}

static void use_some_times(void *dict)
{
    for (int i = 0; i < 10; i++) {
        CHECK_OK(pp_dict_increment(dict, "n", 1, 1, NULL));
        CHECK(kit_number(dict, "n") > 0);
    }
}

TEST(forks_in_the_middle_of_other_threads_transactions_do_no_harm)
{
    pp_dict *dict;
    pthread_t threads[2];
    need_lmdb();
    CHECK_OK(open_path(kit_path("kept"), 0, &dict));
    for (int i = 0; i < 2; i++)
        CHECK_INT(pthread_create(&threads[i], NULL, use_all_the_time, dict), 0);
    for (int i = 0; i < 50; i++)
        kit_end_well(kit_fork(use_some_times, dict));
    atomic_store(&enough, true);
    for (int i = 0; i < 2; i++)
        CHECK_INT(pthread_join(threads[i], NULL), 0);
    pp_dict_unref(dict);
    kit_remove_directory();
}

TEST(a_relative_path_is_one_of_the_moment_when_it_was_given)
{
    pp_dict *dict, *same;
    need_lmdb();
    char *path = harness_keep(strdup(kit_path("kept")));
    CHECK_INT(chdir(kit_directory), 0);
    CHECK_OK(open_path("kept", 0, &dict));
    CHECK_INT(chdir("/"), 0);
    CHECK_OK(pp_dict_open(pp_dict_fd(dict), &same));
    kit_set(dict, "key", "value");
    kit_has(same, "key", "value");
    CHECK_INT(access(path, F_OK), 0);
    pp_dict_unref(dict);
    pp_dict_unref(same);
    kit_remove_directory();
}

/* Its lock lies beside it under the name by which it is opened. */
TEST(a_file_is_locked_under_one_name_whichever_link_leads_to_it)
{
    pp_dict *dict, *same;
    need_lmdb();
    char *path = harness_keep(strdup(kit_path("kept")));
    CHECK_OK(open_path(path, 0, &dict));
    kit_set(dict, "key", "value");
    pp_dict_unref(dict);
    CHECK_INT(symlink("kept", kit_path("link")), 0);
    CHECK_OK(open_path(kit_path("link"), 0, &same));
    CHECK_INT(access(kit_path("link-lock"), F_OK), -1);
    kit_has(same, "key", "value");
    pp_dict_unref(same);
    CHECK_INT(symlink("nothing", kit_path("stray")), 0);
    CHECK_INT(open_path(kit_path("stray"), 0, &dict), -ENOENT);
    CHECK_INT(link(path, kit_path("second")), 0);
    CHECK_INT(open_path(path, 0, &dict), -EMLINK);
    CHECK_INT(open_path(kit_path("second"), 0, &dict), -EMLINK);
    kit_remove_directory();
}

static void find_nothing(void *dict)
{
    char value[8];
    pp_dict *same;
    CHECK_INT(pp_dict_get(dict, "key", 3, value, sizeof value, NULL), -ENOENT);
    CHECK_HAS(pp_last_error(), "not the file any more");
    CHECK_INT(pp_dict_put(dict, "key", 3, "other", 5), -ENOENT);
    CHECK_INT(pp_dict_open(pp_dict_fd(dict), &same), -ENOENT);
}

TEST(a_child_does_not_take_another_file_for_that_of_its_handle)
{
    pp_dict *dict, *same;
    need_lmdb();
    char *path = harness_keep(strdup(kit_path("kept")));
    CHECK_OK(open_path(path, 0, &dict));
    kit_set(dict, "key", "value");
    CHECK_INT(rename(path, kit_path("moved")), 0);
    kit_end_well(kit_fork(find_nothing, dict));
    CHECK_INT(access(path, F_OK), -1);
    FILE *file = fopen(path, "we");
    CHECK(file != NULL);
    fclose(file);
    kit_end_well(kit_fork(find_nothing, dict));
    CHECK_OK(pp_dict_open(pp_dict_fd(dict), &same)); /* this process has it open still */
    kit_has(same, "key", "value");
    pp_dict_unref(same);
    pp_dict_unref(dict);
    kit_remove_directory();
}

static void add_much(void *path)
{
    static const char bytes[100000];
    char key[16];
    pp_dict *dict;
    CHECK_OK(open_path(path, (size_t)64 << 20, &dict));
    for (int i = 0; i < 100; i++)
        CHECK_OK(pp_dict_put(dict, key, (size_t)snprintf(key, sizeof key, "%d", i), bytes, sizeof bytes));
    pp_dict_unref(dict);
}

TEST(a_process_sees_what_another_with_a_larger_limit_has_added)
{
    pp_dict *dict;
    need_lmdb();
    char *path = harness_keep(strdup(kit_path("kept")));
    CHECK_OK(open_path(path, 1 << 20, &dict));
    kit_set(dict, "0", "small");
    kit_end_well(kit_fork(add_much, path));
    CHECK_INT(pp_dict_size(dict), 100);
    kit_set(dict, "0", "small");
    kit_has(dict, "0", "small");
    pp_dict_unref(dict);
    kit_remove_directory();
}

TEST(a_path_at_which_no_dictionary_can_be_is_told)
{
    pp_dict *dict = NULL;
    char path[5000];
    need_lmdb();
    CHECK_INT(open_path("/nowhere/at/all", 0, &dict), -ENOENT);
    CHECK_HAS(pp_last_error(), "/nowhere/at/all");
    CHECK_INT(open_path("/", 0, &dict), -EISDIR);
    memset(path, 'x', sizeof path);
    path[0] = '/';
    path[4999] = '\0';
    CHECK_INT(open_path(path, 0, &dict), -ENAMETOOLONG);
    CHECK_INT(open_path(kit_path("x"), SIZE_MAX, &dict), -EINVAL);
    FILE *file = fopen(kit_path("text"), "we");
    CHECK(file != NULL);
    for (int i = 0; i < 1000; i++)
        fprintf(file, "This is no dictionary.\n");
    fclose(file);
    CHECK_INT(open_path(kit_path("text"), 0, &dict), -EPROTO);
    CHECK(dict == NULL);
    kit_remove_directory();
}

TEST(a_descriptor_whose_path_is_none_is_refused)
{
    pp_dict *dict, *none = NULL;
    char forged_path[4096];
    need_lmdb();
    CHECK_OK(open_path(kit_path("kept"), 0, &dict));
    memset(forged_path, 'x', sizeof forged_path);
    int forged = kit_forged(pp_dict_fd(dict), 96, forged_path, sizeof forged_path);
    CHECK_INT(pp_dict_open(forged, &none), -EINVAL);
    close(forged);
    forged = kit_forged(pp_dict_fd(dict), 96, "/nowhere/at/all", 16);
    pp_dict_unref(dict); /* else it would be the file that is open */
    CHECK_INT(pp_dict_open(forged, &none), -ENOENT);
    close(forged);
    CHECK(none == NULL);
    kit_remove_directory();
}

/* What the loader finds first is no library. The test runs once more, in an image for which that is so. */
TEST(where_lmdb_is_not_only_kept_ones_are_missing)
{
    pp_dict *dict = NULL;
    if (getenv("LD_LIBRARY_PATH") && strstr(getenv("LD_LIBRARY_PATH"), "procpool-dict-")) {
        strcpy(kit_directory, getenv("LD_LIBRARY_PATH"));
        CHECK_INT(open_path(kit_path("kept"), 0, &dict), -ENOTSUP);
        CHECK_HAS(pp_last_error(), "LMDB");
        dict = kit_dict(0);
        kit_set(dict, "key", "value");
        pp_dict_unref(dict);
        kit_remove_directory();
        return;
    }
    FILE *file = fopen(kit_path("liblmdb.so.0"), "we");
    CHECK(file != NULL);
    fprintf(file, "This is no library.\n");
    fclose(file);
    setenv("LD_LIBRARY_PATH", kit_directory, 1);
    execl(PP_TEST_BUILD "/tests/test_sync_dict_kept", "test", "--run", "where_lmdb_is_not_only_kept_ones_are_missing",
          NULL);
    CHECK(false);
}
