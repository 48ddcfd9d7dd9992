/* SPDX-License-Identifier: MIT */
/* What only kept dictionaries do: they are files. */
#include "dict_kit.h"

#include "sync/lmdb.h"

#include <linux/sched.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

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
    if (TEST_ON_VALGRIND)
        LEFT_OUT("valgrind takes what another thread had in hand at a fork for a leak in the fork, and changes its "
                 "exit status");
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

TEST(a_file_whose_descriptors_were_closed_is_told_and_anothers_left_alone)
{
    pp_dict *dict, *same;
    char value[8], name[24];
    int others[16];
    need_lmdb();
    char *path = harness_keep(strdup(kit_path("kept")));
    CHECK_OK(open_path(path, 0, &dict));
    kit_set(dict, "key", "value");
    CHECK_INT(close_range(3, ~0U, 0), 0);
    CHECK_INT(pp_dict_put(dict, "key", 3, "other", 5), -EBADF);
    for (int i = 0; i < 16; i++) {
        snprintf(name, sizeof name, "other%d", i);
        others[i] = open(kit_path(name), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        CHECK(others[i] >= 0);
    }
    CHECK_INT(pp_dict_put(dict, "key", 3, "other", 5), -EBADF);
    CHECK_HAS(pp_last_error(), "closed");
    CHECK_INT(pp_dict_get(dict, "key", 3, value, sizeof value, NULL), -EBADF);
    CHECK_INT(pp_dict_clear(dict), -EBADF);
    pp_dict_unref(dict);
    for (int i = 0; i < 16; i++) {
        CHECK_INT(lseek(others[i], 0, SEEK_END), 0);
        close(others[i]);
    }
    CHECK_OK(open_path(path, 0, &same));
    kit_has(same, "key", "value");
    pp_dict_unref(same);
    kit_remove_directory();
}

static void fill(pp_dict *dict, int from, int to)
{
    static const char bytes[3000];
    for (int i = from; i < to; i++)
        CHECK_OK(pp_dict_put(dict, &i, sizeof i, bytes, sizeof bytes));
}

static void find_it_cut(void *path)
{
    pp_dict *dict;
    CHECK_INT(open_path(path, 0, &dict), -EPROTO);
}

TEST(a_file_that_was_cut_kills_nobody)
{
    pp_dict *dict;
    pp_dict_view *view;
    char value[8];
    struct stat status;
    need_lmdb();
    char *path = harness_keep(strdup(kit_path("kept")));
    CHECK_OK(open_path(path, 0, &dict));
    fill(dict, 0, 100);
    CHECK_INT(stat(path, &status), 0);
    for (off_t size = status.st_size / 2; size >= 0; size = size > 8192 ? 8192 : size - 4096) {
        CHECK_INT(truncate(path, size), 0);
        CHECK_INT(pp_dict_get(dict, "key", 3, value, sizeof value, NULL), -EPROTO);
        CHECK_INT(pp_dict_view_open(dict, &view), -EPROTO);
        CHECK_INT(pp_dict_put(dict, "key", 3, "other", 5), -EPROTO);
        CHECK_INT(pp_dict_size(dict), -EPROTO);
        if (size > 0)
            kit_end_well(kit_fork(find_it_cut, path));
    }
    pp_dict_unref(dict);
    kit_remove_directory();
}

/* LMDB has numbered their pages, and never written them. */
TEST(pages_that_were_free_before_they_were_written_are_not_missed)
{
    static const char bytes[100000];
    pp_dict *dict;
    need_lmdb();
    char *path = harness_keep(strdup(kit_path("kept")));
    pp_dict_change changes[] = {
        {.act = PP_DICT_PUT, .key = "large", .key_size = 5, .value = bytes, .size = sizeof bytes},
        {.act = PP_DICT_PUT, .key = "small", .key_size = 5, .value = "value", .size = 5},
        {.act = PP_DICT_DELETE, .key = "large", .key_size = 5}};
    CHECK_OK(open_path(path, 0, &dict));
    CHECK_OK(pp_dict_update(dict, changes, 3, NULL));
    kit_has(dict, "small", "value");
    pp_dict_unref(dict);
    CHECK_OK(open_path(path, 0, &dict));
    kit_has(dict, "small", "value");
    pp_dict_unref(dict);
    kit_remove_directory();
}

static void fill_to_the_limit(void *path)
{
    static const char bytes[30000];
    pp_dict *dict;
    int error = 0, kept = 0;
    CHECK_INT(setrlimit(RLIMIT_FSIZE, &(struct rlimit){1000000, 1000000}), 0);
    CHECK_OK(open_path(path, 0, &dict));
    while (error == 0) {
        error = pp_dict_put(dict, &kept, sizeof kept, bytes, sizeof bytes);
        kept += error == 0;
    }
    CHECK_INT(error, -EFBIG);
    CHECK_INT(pp_dict_size(dict), kept);
    CHECK(kept > 10);
    CHECK_OK(pp_dict_get(dict, &(int){kept - 1}, sizeof kept, harness_keep(malloc(30000)), 30000, NULL));
    pp_dict_unref(dict);
}

TEST(a_limit_of_what_a_file_may_have_fails_and_does_not_kill)
{
    need_lmdb();
    kit_end_well(kit_fork(fill_to_the_limit, harness_keep(strdup(kit_path("kept")))));
    kit_remove_directory();
}

static void write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
        _exit(77);
    close(fd);
}

/* In a user namespace of its own, and another besides. 77: it may not have them. */
static void enter_namespace(int kind)
{
    char map[32];
    unsigned user = getuid(), group = getgid();
    if (unshare(CLONE_NEWUSER | kind) != 0)
        _exit(77);
    snprintf(map, sizeof map, "0 %u 1", user);
    write_text("/proc/self/uid_map", map);
    snprintf(map, sizeof map, "0 %u 1", group);
    write_text("/proc/self/setgroups", "deny");
    write_text("/proc/self/gid_map", map);
}

/* Of 1 MiB at the directory. */
static void make_disk(const char *directory)
{
    enter_namespace(CLONE_NEWNS);
    if (mount("disk", directory, "tmpfs", 0, "size=1m") != 0)
        _exit(77);
}

static void fill_a_disk(void *directory)
{
    static const char bytes[30000];
    char path[128];
    pp_dict *dict;
    int error = 0, kept = 0;
    make_disk(directory);
    snprintf(path, sizeof path, "%s/kept", (char *)directory);
    CHECK_OK(open_path(path, 0, &dict));
    while (error == 0) {
        error = pp_dict_put(dict, &kept, sizeof kept, bytes, sizeof bytes);
        kept += error == 0;
    }
    CHECK_INT(error, -ENOSPC);
    CHECK_INT(pp_dict_size(dict), kept);
    CHECK(kept > 10);
    pp_dict_unref(dict);
}

/* `run` is one that enters a namespace. */
static void in_a_namespace(void (*run)(void *directory))
{
    int status;
    need_lmdb();
    kit_path("kept");
    pid_t child = kit_fork(run, kit_directory);
    CHECK_INT(waitpid(child, &status, 0), child);
    kit_remove_directory();
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        LEFT_OUT("a namespace of one's own is not to be had");
    CHECK_INT(status, 0);
}

TEST(a_full_disk_is_told_as_one)
{
    in_a_namespace(fill_a_disk);
}

/* A hole in the lock file would be found by who writes to it through its map. */
static void fill_a_disk_before(void *directory)
{
    static const char bytes[4096];
    char path[128], other[128];
    pp_dict *dict;
    make_disk(directory);
    snprintf(path, sizeof path, "%s/kept", (char *)directory);
    snprintf(other, sizeof other, "%s/other", (char *)directory);
    int fd = open(other, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    while (write(fd, bytes, sizeof bytes) > 0)
        continue;
    for (int pages = 0, error = -ENOSPC; error != 0; pages++) {
        CHECK(pages < 10);
        CHECK_INT(ftruncate(fd, lseek(fd, 0, SEEK_END) - 4096), 0);
        error = open_path(path, 0, &dict);
        CHECK(error == 0 || error == -ENOSPC);
    }
    CHECK_INT(ftruncate(fd, lseek(fd, 0, SEEK_END) - 5 * 4096), 0);
    kit_set(dict, "key", "value");
    pp_dict_unref(dict);
    strcat(path, "-lock");
    CHECK_INT(unlink(path), 0);
    CHECK_INT(ftruncate(fd, 1 << 20), 0);
    lseek(fd, 0, SEEK_END);
    for (int at = 0; pwrite(fd, bytes, sizeof bytes, at) > 0; at += (int)sizeof bytes)
        continue;
    path[strlen(path) - strlen("-lock")] = 0;
    CHECK_INT(open_path(path, 0, &dict), -ENOSPC);
    CHECK_INT(ftruncate(fd, 0), 0);
    CHECK_OK(open_path(path, 0, &dict));
    kit_has(dict, "key", "value");
    pp_dict_unref(dict);
    close(fd);
}

TEST(on_a_full_disk_none_is_made_and_none_is_opened)
{
    in_a_namespace(fill_a_disk_before);
}

static void open_for_itself(pp_dict *dict)
{
    int descriptors = kit_open_descriptors();
    kit_has(dict, "key", "value");
    CHECK(kit_open_descriptors() > descriptors);
    pp_dict_unref(dict);
}

/* The child, whose parent has ended by the time, forks one with that one's pid. 77: it may not. */
static void fork_with_pid(pp_dict *dict, pid_t pid)
{
    int status;
    struct clone_args arguments = {.exit_signal = SIGCHLD, .set_tid = (uintptr_t)&pid, .set_tid_size = 1};
    pid_t child = (pid_t)syscall(SYS_clone3, &arguments, sizeof arguments);
    if (child == 0) {
        open_for_itself(dict);
        _exit(0);
    }
    if (child < 0)
        _exit(77);
    CHECK_INT(waitpid(child, &status, 0), pid);
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

static void open_and_leave_a_child(void *path)
{
    pp_dict *dict;
    pid_t self = getpid();
    CHECK_OK(open_path(path, 0, &dict));
    kit_set(dict, "key", "value");
    pid_t child = fork();
    CHECK(child >= 0);
    if (child > 0)
        _exit(0);
    wait_until(kill(self, 0) != 0, 10); /* it has been reaped */
    fork_with_pid(dict, self);
}

/* As the first process of a PID namespace, it gets the child that was left, and how that ended. */
static void get_what_is_left(void *directory)
{
    char path[128];
    int status;
    snprintf(path, sizeof path, "%s/kept", (char *)directory);
    pid_t child = kit_fork(open_and_leave_a_child, path);
    CHECK_INT(waitpid(child, &status, 0), child);
    CHECK_INT(status, 0);
    CHECK(waitpid(-1, &status, 0) > 0);
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

static void reuse_a_pid(void *directory)
{
    int status;
    enter_namespace(CLONE_NEWPID);
    pid_t first = kit_fork(get_what_is_left, directory);
    CHECK_INT(waitpid(first, &status, 0), first);
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

/* It has that one's memory, and none of its locks. */
TEST(a_process_with_the_pid_of_one_that_had_the_file_open_opens_it_for_itself)
{
    if (TEST_ON_VALGRIND)
        LEFT_OUT("valgrind does not know clone3, by which a process gets a pid that is asked for");
    in_a_namespace(reuse_a_pid);
}

static void expect_busy(void *path)
{
    pp_dict *dict;
    CHECK_INT(open_path(path, 0, &dict), -EBUSY);
    CHECK_HAS(pp_last_error(), "renamed");
}

/* LMDB's lock file goes by the path, so that each of two would be alone. */
TEST(a_file_that_others_have_open_under_another_name_is_not_opened)
{
    pp_dict *dict, *other;
    need_lmdb();
    char *path = harness_keep(strdup(kit_path("kept"))), *moved = harness_keep(strdup(kit_path("moved")));
    CHECK_OK(open_path(path, 0, &dict));
    kit_set(dict, "key", "value");
    CHECK_INT(rename(path, moved), 0);
    kit_end_well(kit_fork(expect_busy, moved));
    kit_end_well(kit_fork(expect_busy, path)); /* a new one under the old name, with the lock file of the old */
    CHECK_INT(open_path(path, 0, &other), -EBUSY);
    CHECK_OK(open_path(moved, 0, &other)); /* here it is known by what it is */
    kit_has(other, "key", "value");
    pp_dict_unref(other);
    kit_has(dict, "key", "value");
    pp_dict_unref(dict);
    CHECK_OK(open_path(moved, 0, &dict));
    kit_has(dict, "key", "value");
    pp_dict_unref(dict);
    kit_remove_directory();
}

/* Of another program, with other keys. */
TEST(a_file_of_lmdb_with_keys_of_another_kind_is_no_dictionary)
{
    static const unsigned kinds[] = {MDB_DUPSORT, MDB_INTEGERKEY, MDB_REVERSEKEY};
    pp_dict *dict;
    need_lmdb();
    const struct pp__lmdb *lmdb = pp__lmdb_load();
    char *path = harness_keep(strdup(kit_path("kept")));
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        MDB_env *env;
        MDB_txn *transaction;
        MDB_dbi table;
        CHECK_INT(lmdb->mdb_env_create(&env), 0);
        CHECK_INT(lmdb->mdb_env_open(env, path, MDB_NOSUBDIR, 0600), 0);
        CHECK_INT(lmdb->mdb_txn_begin(env, NULL, 0, &transaction), 0);
        CHECK_INT(lmdb->mdb_dbi_open(transaction, NULL, kinds[i], &table), 0);
        CHECK_INT(lmdb->mdb_txn_commit(transaction), 0);
        lmdb->mdb_env_close(env);
        CHECK_INT(open_path(path, 0, &dict), -EPROTO);
        CHECK_INT(unlink(path), 0);
    }
    kit_remove_directory();
}

/* Another program's file: `plain` keys, and after them, in the order of keys, a database with the name "zoo". */
static void make_databases(const char *path, int plain)
{
    const struct pp__lmdb *lmdb = pp__lmdb_load();
    char bytes[64] = "lion";
    MDB_env *env;
    MDB_txn *transaction;
    MDB_dbi table, zoo;
    MDB_val key = {4, bytes}, value = {48, bytes};
    CHECK_INT(lmdb->mdb_env_create(&env), 0);
    CHECK_INT(lmdb->mdb_env_set_maxdbs(env, 1), 0);
    CHECK_INT(lmdb->mdb_env_set_mapsize(env, 16 << 20), 0);
    CHECK_INT(lmdb->mdb_env_open(env, path, MDB_NOSUBDIR | MDB_NOSYNC, 0600), 0);
    CHECK_INT(lmdb->mdb_txn_begin(env, NULL, 0, &transaction), 0);
    CHECK_INT(lmdb->mdb_dbi_open(transaction, NULL, 0, &table), 0);
    CHECK_INT(lmdb->mdb_dbi_open(transaction, "zoo", MDB_CREATE, &zoo), 0);
    CHECK_INT(lmdb->mdb_put(transaction, zoo, &key, &key, 0), 0);
    for (int i = 0; i < plain; i++) {
        snprintf(bytes, sizeof bytes, "k%08d", i);
        key.mv_size = strlen(bytes);
        CHECK_INT(lmdb->mdb_put(transaction, table, &key, &value, 0), 0);
    }
    CHECK_INT(lmdb->mdb_txn_commit(transaction), 0);
    lmdb->mdb_env_close(env);
}

/* The database "zoo" has what was put into it. */
static void check_zoo(const char *path)
{
    const struct pp__lmdb *lmdb = pp__lmdb_load();
    MDB_env *env;
    MDB_txn *transaction;
    MDB_dbi zoo;
    MDB_val key = {4, "lion"}, value;
    CHECK_INT(lmdb->mdb_env_create(&env), 0);
    CHECK_INT(lmdb->mdb_env_set_maxdbs(env, 1), 0);
    CHECK_INT(lmdb->mdb_env_open(env, path, MDB_NOSUBDIR | MDB_RDONLY, 0600), 0);
    CHECK_INT(lmdb->mdb_txn_begin(env, NULL, MDB_RDONLY, &transaction), 0);
    CHECK_INT(lmdb->mdb_dbi_open(transaction, "zoo", 0, &zoo), 0);
    CHECK_INT(lmdb->mdb_get(transaction, zoo, &key, &value), 0);
    CHECK_INT(value.mv_size, 4);
    lmdb->mdb_txn_abort(transaction);
    lmdb->mdb_env_close(env);
}

TEST(a_file_of_lmdb_with_named_databases_is_no_dictionary_and_stays_as_it_is)
{
    static const int plain[] = {0, 1, 1000};
    pp_dict *dict;
    need_lmdb();
    char *path = harness_keep(strdup(kit_path("kept")));
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
        make_databases(path, plain[i]);
        CHECK_INT(open_path(path, 0, &dict), -EPROTO);
        CHECK_HAS(pp_last_error(), "named databases");
        check_zoo(path);
        CHECK_INT(unlink(path), 0);
    }
    kit_remove_directory();
}

/* When it is opened the first 4096 keys are looked at. */
TEST(a_named_database_behind_many_keys_is_not_lost_by_any_change)
{
    pp_dict *dict;
    need_lmdb();
    char *path = harness_keep(strdup(kit_path("kept")));
    make_databases(path, 10000);
    CHECK_OK(open_path(path, 0, &dict));
    CHECK_INT(pp_dict_put(dict, "zoo", 3, "value", 5), -EPROTO);
    CHECK_INT(pp_dict_delete(dict, "zoo", 3), -EPROTO);
    CHECK_INT(pp_dict_clear(dict), -EPROTO);
    CHECK_HAS(pp_last_error(), "named databases");
    CHECK_INT(pp_dict_size(dict), 10001);
    pp_dict_unref(dict);
    check_zoo(path);
    kit_remove_directory();
}

/* As long as what LMDB has of a database. */
static void check_no_file(const char *path, int error)
{
    pp_dict *dict = NULL;
    struct stat status;
    char *lock;
    CHECK(asprintf(&lock, "%s-lock", path) > 0);
    CHECK_INT(open_path(path, 0, &dict), error);
    CHECK_HAS(pp_last_error(), path);
    CHECK(dict == NULL);
    CHECK_INT(stat(lock, &status), -1);
    free(lock);
}

TEST(what_is_no_regular_file_is_refused_and_has_no_lock_file)
{
    need_lmdb();
    char *path = harness_keep(strdup(kit_path("other")));
    CHECK_INT(mkfifo(path, 0600), 0);
    check_no_file(path, -EINVAL);
    CHECK_INT(unlink(path), 0);
    CHECK_INT(mkdir(path, 0700), 0);
    check_no_file(path, -EISDIR);
    CHECK_INT(rmdir(path), 0);
    check_no_file("/dev/null", -EINVAL);
    kit_remove_directory();
}

TEST(values_of_any_length_are_not_taken_for_databases)
{
    static const char bytes[128];
    pp_dict *dict;
    need_lmdb();
    char *path = harness_keep(strdup(kit_path("kept")));
    CHECK_OK(open_path(path, 0, &dict));
    for (int i = 0; i < 128; i++) {
        char key[8];
        CHECK_OK(pp_dict_put(dict, key, (size_t)snprintf(key, sizeof key, "%d", i), bytes, (size_t)i));
        CHECK_OK(pp_dict_put(dict, &i, sizeof i, bytes, (size_t)i));
    }
    pp_dict_unref(dict);
    CHECK_OK(open_path(path, 0, &dict));
    CHECK_INT(pp_dict_size(dict), 256);
    CHECK_OK(pp_dict_clear(dict));
    pp_dict_unref(dict);
    kit_remove_directory();
}

static size_t fill_until_full(pp_dict *dict, unsigned *seed)
{
    static const char bytes[3000];
    size_t added = 0;
    int error = 0;
    for (; error == 0; added += error == 0) {
        int key = rand_r(seed);
        error = pp_dict_put(dict, &key, sizeof key, bytes, 100 + (size_t)rand_r(seed) % 2900);
    }
    CHECK_INT(error, -ENOSPC);
    return added;
}

static void delete_some(pp_dict *dict, size_t count)
{
    pp_dict_view *view;
    const void *key;
    size_t size;
    CHECK_OK(pp_dict_view_open(dict, &view));
    for (size_t i = 0; i < count && pp_dict_view_next(view, &key, &size, NULL, NULL) == 1; i++)
        CHECK_OK(pp_dict_delete(dict, key, size));
    pp_dict_view_close(view);
}

/* What deleting gets beyond it is not eaten by what is put next. */
TEST(a_kept_one_stays_within_its_limit_however_often_it_was_full)
{
    pp_dict *dict;
    struct stat status;
    unsigned seed = 1;
    need_lmdb();
    char *path = harness_keep(strdup(kit_path("kept")));
    CHECK_OK(open_path(path, 1 << 20, &dict));
    CHECK(fill_until_full(dict, &seed) > 100);
    for (int round = 0; round < 40; round++) {
        delete_some(dict, 30);
        fill_until_full(dict, &seed);
    }
    CHECK_INT(stat(path, &status), 0);
    CHECK(status.st_size <= 2 << 20);
    CHECK_OK(pp_dict_clear(dict));
    CHECK(fill_until_full(dict, &seed) > 100);
    pp_dict_unref(dict);
    kit_remove_directory();
}

TEST(the_largest_limit_of_a_processs_handles_is_that_of_all)
{
    static const char bytes[3 << 20];
    pp_dict *small, *large;
    need_lmdb();
    char *path = harness_keep(strdup(kit_path("kept")));
    CHECK_OK(open_path(path, 1 << 20, &small));
    CHECK_INT(pp_dict_put(small, "key", 3, bytes, sizeof bytes), -ENOSPC);
    CHECK_OK(open_path(path, 64 << 20, &large));
    CHECK_OK(pp_dict_put(large, "key", 3, bytes, sizeof bytes));
    CHECK_OK(pp_dict_put(small, "other", 5, bytes, sizeof bytes));
    pp_dict_unref(large);
    pp_dict_unref(small);
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
