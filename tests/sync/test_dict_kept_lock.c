/* SPDX-License-Identifier: MIT */
/* The file beside a kept dictionary's, PATH-lock: what else may lie there, and what has become of it. */
#include "dict_kit.h"

static int open_path(const char *path, pp_dict **dict)
{
    return pp_dict_create(&(pp_dict_options){.path = path, .no_flush = 1}, dict);
}

static char *keep_path(const char *name)
{
    return harness_keep(strdup(kit_path(name)));
}

static void write_file(const char *path, const void *bytes, size_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    CHECK_INT(write(fd, bytes, size), size);
    close(fd);
}

/* All of it; with a size of at most 64 KiB. */
static size_t read_file(const char *path, unsigned char bytes[1 << 16])
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    ssize_t size = read(fd, bytes, 1 << 16);
    CHECK(size >= 0);
    close(fd);
    return (size_t)size;
}

/* No dictionary is made at the path, for what lies beside it, which is as it was afterwards. */
static void check_refused(const char *path, const char *beside)
{
    static unsigned char before[1 << 16], after[1 << 16];
    pp_dict *dict = NULL;
    size_t size = read_file(beside, before);
    CHECK_INT(open_path(path, &dict), -EPROTO);
    CHECK_HAS(pp_last_error(), beside);
    CHECK(dict == NULL);
    CHECK_INT(access(path, F_OK), -1);
    CHECK_INT(read_file(beside, after), size);
    CHECK_INT(memcmp(before, after, size), 0);
}

TEST(a_dictionary_with_the_name_of_anothers_lock_file_is_not_overwritten)
{
    pp_dict *dict;
    need_lmdb();
    char *path = keep_path("kept"), *beside = keep_path("kept-lock");
    CHECK_OK(open_path(beside, &dict));
    kit_set(dict, "key", "value");
    pp_dict_unref(dict);
    check_refused(path, beside);
    CHECK_OK(open_path(beside, &dict));
    kit_has(dict, "key", "value");
    pp_dict_unref(dict);
    kit_remove_directory();
}

TEST(a_file_that_is_no_lock_file_is_not_made_one)
{
    static const uint64_t numbers[4000] = {0, 0, 3}, later[4000] = {[100] = 1};
    need_lmdb();
    char *path = keep_path("notes"), *beside = keep_path("notes-lock");
    write_file(beside, "These are notes.\n", 17);
    check_refused(path, beside);
    write_file(beside, "1", 1);
    check_refused(path, beside);
    write_file(beside, "\0\0\0\0\0\0\0\0\0\0\0\0#", 13);
    check_refused(path, beside);
    write_file(beside, numbers, sizeof numbers);
    check_refused(path, beside);
    write_file(beside, later, sizeof later);
    check_refused(path, beside);
    kit_remove_directory();
}

/* With these bytes beside it the dictionary is there. */
static void check_taken(const char *path, const char *beside, const void *bytes, size_t size)
{
    pp_dict *dict;
    write_file(beside, bytes, size);
    CHECK_OK(open_path(path, &dict));
    kit_has(dict, "key", "value");
    kit_set(dict, "other", "value");
    pp_dict_unref(dict);
}

/* LMDB makes the mutexes first, and what tells the file last. */
TEST(a_lock_file_that_a_crash_has_left_is_taken)
{
    static const unsigned char zeros[1 << 16];
    static const size_t cuts[] = {0, 1, 2, 3, 4, 5, 8, 12, 16, 23, 24, 25, 64, 128, 129, 192, 4095, 4096, 4097};
    unsigned char table[1 << 16];
    pp_dict *dict;
    need_lmdb();
    char *path = keep_path("kept"), *beside = keep_path("kept-lock");
    CHECK_OK(open_path(path, &dict));
    kit_set(dict, "key", "value");
    size_t size = read_file(beside, table);
    CHECK(size > 4097);
    pp_dict_unref(dict);
    check_taken(path, beside, table, size);
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        check_taken(path, beside, table, cuts[i]);
        check_taken(path, beside, zeros, cuts[i]);
    }
    check_taken(path, beside, zeros, size);
    memset(table + 128, 0, size - 128); /* no reader has been there */
    memset(table + 8, 0, 16);
    memset(table, 0, 4);
    check_taken(path, beside, table, size);
    memset(table, 0, 8);
    check_taken(path, beside, table, size);
    memset(table, 0, 128);
    check_taken(path, beside, table, size);
    kit_remove_directory();
}

/* In a process that has no locks on it: whether another has one, at byte `from` or behind. */
static bool is_locked(const char *path, off_t from, off_t count)
{
    struct flock wanted = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = from, .l_len = count};
    int fd = open(path, O_RDWR | O_CLOEXEC);
    CHECK(fd >= 0);
    CHECK_INT(fcntl(fd, F_GETLK, &wanted), 0);
    close(fd);
    return wanted.l_type != F_UNLCK;
}

/* LMDB's own lock, and that of the dictionary that the file belongs to. */
static void find_lock_file_locked(void *beside)
{
    CHECK(is_locked(beside, 0, 1));
    CHECK(is_locked(beside, 1, 0));
}

static void find_locked(void *path)
{
    CHECK(is_locked(path, 0, 0));
}

static void use_besides(void *path)
{
    pp_dict *dict;
    CHECK_OK(open_path(path, &dict));
    kit_has(dict, "key", "value");
    kit_set(dict, "key", "other");
    pp_dict_unref(dict);
}

/* Nor does looking at it let go of the locks on it. */
TEST(the_lock_file_of_an_open_dictionary_is_no_dictionary)
{
    pp_dict *dict, *other = NULL;
    need_lmdb();
    char *path = keep_path("kept"), *beside = keep_path("kept-lock");
    CHECK_OK(open_path(path, &dict));
    kit_set(dict, "key", "value");
    CHECK_INT(symlink("kept-lock", kit_path("link")), 0);
    kit_end_well(kit_fork(find_lock_file_locked, beside));
    for (int i = 0; i < 2; i++) {
        CHECK_INT(open_path(i ? kit_path("link") : beside, &other), -EPROTO);
        CHECK_HAS(pp_last_error(), beside);
        CHECK(other == NULL);
        CHECK_INT(access(kit_path("kept-lock-lock"), F_OK), -1);
        kit_end_well(kit_fork(find_lock_file_locked, beside));
    }
    kit_end_well(kit_fork(use_besides, path));
    kit_has(dict, "key", "other");
    pp_dict_unref(dict);
    kit_remove_directory();
}

TEST(an_open_dictionary_is_no_lock_file_of_another)
{
    static const char *const names[] = {"kept", "link"};
    pp_dict *dict, *other = NULL;
    need_lmdb();
    char *path = keep_path("kept-lock");
    CHECK_OK(open_path(path, &dict));
    kit_set(dict, "key", "value");
    CHECK_INT(symlink("kept-lock", kit_path("link-lock")), 0);
    kit_end_well(kit_fork(find_locked, path));
    for (size_t i = 0; i < 2; i++) {
        CHECK_INT(open_path(kit_path(names[i]), &other), -EPROTO);
        CHECK_HAS(pp_last_error(), names[i]);
        CHECK(other == NULL);
        CHECK_INT(access(kit_path(names[i]), F_OK), -1);
        kit_end_well(kit_fork(find_locked, path));
    }
    kit_end_well(kit_fork(use_besides, path));
    kit_has(dict, "key", "other");
    pp_dict_unref(dict);
    kit_remove_directory();
}
