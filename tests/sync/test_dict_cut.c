/* SPDX-License-Identifier: MIT */
/*
 * needs: seams. The file of a kept dictionary is cut while a process is in a transaction, which stops at a fault point
 * for that: it is told, nothing is written, and nobody dies.
 */
#include "dict_kit.h"
#include "kill_kit.h"

#include <sys/stat.h>

#define KEYS 200

static pp_dict *dict;
static char *path;

static void make_dict(void)
{
    static const char bytes[3000];
    path = harness_keep(strdup(kit_path("kept")));
    int error = pp_dict_create(&(pp_dict_options){.path = path, .no_flush = 1}, &dict);
    if (error == -ENOTSUP) {
        kit_remove_directory();
        LEFT_OUT("LMDB is not here");
    }
    CHECK_OK(error);
    for (int i = 0; i < KEYS; i++)
        CHECK_OK(pp_dict_put(dict, &i, sizeof i, bytes, sizeof bytes));
}

static off_t size_of_file(void)
{
    struct stat status;
    CHECK_INT(stat(path, &status), 0);
    return status.st_size;
}

static void change_three(void *unused)
{
    pp_dict_change changes[3];
    int keys[3] = {5, 100, 195};
    (void)unused;
    for (int i = 0; i < 3; i++)
        changes[i] = (pp_dict_change){
            .act = PP_DICT_PUT, .key = &keys[i], .key_size = sizeof keys[i], .value = "other", .size = 5};
    CHECK_INT(pp_dict_update(dict, changes, 3, NULL), -EPROTO);
    CHECK_HAS(pp_last_error(), "was cut");
    CHECK_INT(pp_dict_size(dict), -EPROTO);
}

static void walk(void *unused)
{
    pp_dict_view *view;
    (void)unused;
    CHECK_INT(pp_dict_view_open(dict, &view), -EPROTO);
    CHECK_HAS(pp_last_error(), "was cut");
}

/* A child does it, and at the `n`th time that it comes to that place finds the file cut to `size`. */
static void cut_in(void (*run)(void *unused), const char *place, unsigned n, off_t size)
{
    make_dict();
    pp__fault_arm(place, n, PP__FAULT_STOP);
    pid_t child = kit_fork(run, NULL);
    wait_until(test_process_state(child, NULL, NULL) == 'T', 10);
    CHECK_INT(truncate(path, size), 0);
    kill(child, SIGCONT);
    kit_end_well(child);
    pp__fault_disarm();
    CHECK_INT(size_of_file(), size);
    CHECK_INT(pp_dict_size(dict), -EPROTO);
    pp_dict_unref(dict);
    kit_remove_directory();
}

TEST(a_file_that_is_cut_between_two_changes_fails_the_update)
{
    cut_in(change_three, "kept.changed", 1, 4096);
    cut_in(change_three, "kept.changed", 2, 8192);
}

TEST(a_file_that_is_cut_before_the_end_of_an_update_is_not_written)
{
    cut_in(change_three, "kept.commit", 1, 4096);
    cut_in(change_three, "kept.commit", 1, 65536);
}

TEST(a_file_that_is_cut_while_a_view_is_taken_fails_that)
{
    cut_in(walk, "kept.walk", 1, 4096);
    cut_in(walk, "kept.walk", 3, 65536);
}
