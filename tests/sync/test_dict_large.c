/* SPDX-License-Identifier: MIT */
/*
 * needs: seams. Updates of an anonymous dictionary that change very much at once: as whole as small ones, also if who
 * makes one dies, and none is too large.
 */
#include "dict_kit.h"
#include "kill_kit.h"

#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define BYTES ((size_t)1 << 20)
#define MOST 30000

static pp_dict_change changes[MOST + 1];
static uint32_t keys[MOST];

/* One change for each of `count` keys. */
static void change_all(pp_dict_act act, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        keys[i] = (uint32_t)i;
        changes[i] = (pp_dict_change){.act = act, .key = &keys[i], .key_size = sizeof keys[i], .by = 1};
    }
}

/* As many numbers as there is room for, all of them 1. */
static size_t fill(pp_dict *dict)
{
    size_t count = 0;
    change_all(PP_DICT_INCREMENT, MOST);
    for (int error = 0; error == 0 && count < MOST; count += error == 0)
        error = pp_dict_update(dict, &changes[count], 1, NULL);
    CHECK(count > 5000 && count < MOST);
    CHECK_INT(pp_dict_size(dict), count);
    return count;
}

static void check_all(pp_dict *dict, size_t count, int64_t number)
{
    CHECK_INT(pp_dict_size(dict), count);
    for (uint32_t i = 0; i < count; i++) {
        int64_t found;
        CHECK_OK(pp_dict_get(dict, &i, sizeof i, &found, sizeof found, NULL));
        CHECK_INT(found, number);
    }
}

TEST(one_update_may_change_all_there_is_and_fill_all_that_is_free)
{
    pp_dict *dict = kit_dict(BYTES);
    size_t count = fill(dict), failed = 4711;
    change_all(PP_DICT_INCREMENT, count);
    CHECK_OK(pp_dict_update(dict, changes, count, NULL));
    check_all(dict, count, 2);
    changes[count] = (pp_dict_change){.act = PP_DICT_EXPECT, .key = "none", .key_size = 4, .expected = ""};
    CHECK(pp_dict_update(dict, changes, count + 1, &failed) < 0);
    CHECK_INT(failed, count);
    check_all(dict, count, 2);
    change_all(PP_DICT_DELETE, count);
    CHECK_OK(pp_dict_update(dict, changes, count, NULL));
    CHECK_INT(pp_dict_size(dict), 0);
    change_all(PP_DICT_INCREMENT, count - count / 50); /* free blocks have their cost, too */
    CHECK_OK(pp_dict_update(dict, changes, count - count / 50, NULL));
    check_all(dict, count - count / 50, 1);
    pp_dict_unref(dict);
}

TEST(one_update_may_change_one_key_any_number_of_times)
{
    static pp_dict_change many[400000];
    pp_dict *dict = kit_dict(1 << 16);
    for (size_t i = 0; i < sizeof many / sizeof *many; i++)
        many[i] = (pp_dict_change){.act = PP_DICT_INCREMENT, .key = "key", .key_size = 3, .by = 1};
    CHECK_OK(pp_dict_update(dict, many, sizeof many / sizeof *many, NULL));
    CHECK_INT(kit_number(dict, "key"), sizeof many / sizeof *many);
    pp_dict_unref(dict);
}

/* ------------------------------------------------------------------------------------------------- deaths */

struct victim {
    pp_dict *dict;
    size_t count;
};

static void change_all_of(void *what)
{
    struct victim *victim = what;
    CHECK_OK(pp_dict_update(victim->dict, changes, victim->count, NULL));
}

static int64_t number_of_first(pp_dict *dict)
{
    int64_t number;
    CHECK_OK(pp_dict_get(dict, &(uint32_t){0}, 4, &number, sizeof number, NULL));
    return number;
}

/* Bytes of memory behind it. */
static long long memory_of(pp_dict *dict)
{
    struct stat status;
    CHECK_INT(fstat(pp_dict_fd(dict), &status), 0);
    return (long long)status.st_blocks * 512;
}

TEST(a_large_update_whose_maker_is_killed_is_whole_or_has_not_been)
{
    static const struct {
        const char *place;
        unsigned n;
    } places[] = {{"dict.noted", 100},    {"dict.noted", 4096},  {"dict.noted", 4097},  {"dict.noted", 5000},
                  {"dict.noting", 4098},  {"dict.stored", 5001}, {"dict.changed", 1},   {"dict.changed", 4500},
                  {"dict.changed", 5000}, {"dict.commit", 1},    {"dict.committed", 1}, {"dict.trimming", 1}};
    pp_dict *dict = kit_dict(BYTES);
    struct victim victim = {dict, fill(dict)};
    long long memory = memory_of(dict), number = 1;
    change_all(PP_DICT_INCREMENT, victim.count);
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        CHECK(killed_at(places[i].place, places[i].n, change_all_of, &victim));
        long long now = number_of_first(dict);
        CHECK(now == number || now == number + 1);
        CHECK(i + 2 < sizeof places / sizeof *places ? now == number : now == number + 1);
        number = now;
        check_all(dict, victim.count, number);
    }
    change_all_of(&victim);
    check_all(dict, victim.count, number + 1);
    CHECK(memory_of(dict) <= memory + (1 << 17));
    pp_dict_unref(dict);
}

/* In a thread that comes no further than half of it. */
static void *change_half(void *what)
{
    pp__fault_arm("dict.changed", 5000, PP__FAULT_HANG);
    change_all_of(what);
    return NULL;
}

static pid_t *forked;

/* The child of one that is in the middle of an update knows nothing of that. */
static void fork_in_the_middle(void *what)
{
    struct victim *victim = what;
    pthread_t thread;
    CHECK_INT(pthread_create(&thread, NULL, change_half, what), 0);
    wait_until(pp__fault_hits() == 5000, 10);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child > 0) {
        *forked = child;
        for (;;)
            pause();
    }
    size_t failed;
    changes[victim->count] = (pp_dict_change){.act = PP_DICT_EXPECT, .key = "none", .key_size = 4, .expected = ""};
    pp__fault_disarm();
    int error = pp_dict_update(victim->dict, changes, victim->count + 1, &failed); /* when its parent is dead */
    _exit(error < 0 && failed == victim->count ? 0 : 1);
}

TEST(a_child_that_is_forked_in_the_middle_of_a_large_update_can_make_one)
{
    pp_dict *dict = kit_dict(BYTES);
    struct victim victim = {dict, fill(dict)};
    forked = kit_shared(sizeof *forked);
    change_all(PP_DICT_INCREMENT, victim.count);
    pid_t child = kit_fork(fork_in_the_middle, &victim);
    wait_until(*(volatile pid_t *)forked != 0, 20);
    kit_kill(child);
    wait_until(!test_process_alive(*forked), 20);
    check_all(dict, victim.count, 1);
    pp_dict_unref(dict);
}

/* -------------------------------------------------------------------------------------------------- want */

static void *no_memory(void *address, size_t size, int protection, int flags, int fd, off_t at)
{
    (void)address, (void)size, (void)protection, (void)flags, (void)fd, (void)at;
    errno = ENOMEM;
    return MAP_FAILED;
}

/* The journal has room for each word once. */
TEST(without_memory_for_noting_once_an_update_that_repeats_itself_is_refused_whole)
{
    static pp_dict_change many[30000];
    pp_dict *dict = kit_dict(1 << 16);
    size_t failed = 0;
    struct pp__sys real = pp__sys;
    for (size_t i = 0; i < sizeof many / sizeof *many; i++)
        many[i] = (pp_dict_change){.act = PP_DICT_INCREMENT, .key = "key", .key_size = 3, .by = 1};
    CHECK_OK(pp_dict_update(dict, many, 1, NULL));
    pp__sys.mmap = no_memory;
    CHECK_INT(pp_dict_update(dict, many, sizeof many / sizeof *many, &failed), -ENOMEM);
    pp__sys = real;
    CHECK(failed > 5000 && failed < sizeof many / sizeof *many);
    CHECK_HAS(pp_last_error(), "so large an update");
    CHECK_INT(kit_number(dict, "key"), 1);
    CHECK_OK(pp_dict_update(dict, many, sizeof many / sizeof *many, NULL));
    CHECK_INT(kit_number(dict, "key"), 1 + sizeof many / sizeof *many);
    pp_dict_unref(dict);
}
