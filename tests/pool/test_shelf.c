/* SPDX-License-Identifier: MIT */
/* The shelf and what the owner has of it, both ends in one process: which buffer is taken, what makes way, and what
 * can't be. */
#include "harness.h"
#include "memfd_kit.h"

#include "base/fd.h"
#include "pool/block.h"
#include "pool/results.h"
#include "pool/shelf.h"
#include "shm/buffer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

static int count_buffers(void)
{
    return kit_mappings_of("/memfd:procpool-buffer");
}

/* ------------------------------------------------------------------------------------------- the shelf */

static struct pp__shelf shelf;

/* As if the reader had got it. */
static int take_sent(size_t size)
{
    int place = (int)CHECK_OK(pp__shelf_take(&shelf, size));
    CHECK(shelf.places[place].memory && shelf.places[place].room > size);
    pp__shelf_sent(&shelf, place);
    return place;
}

static _Atomic uint32_t discarded[PP__PLACES], returned[PP__PLACES];

TEST(the_smallest_buffer_that_fits_is_taken)
{
    pp__shelf_init(&shelf, NULL, NULL);
    int large = take_sent(MIB), small = take_sent(100 * KIB), middle = take_sent(300 * KIB);
    pp__shelf_give(&shelf, large);
    pp__shelf_give(&shelf, small);
    pp__shelf_give(&shelf, middle);
    CHECK_INT(take_sent(110 * KIB), small);
    CHECK_INT(take_sent(110 * KIB), middle);
    CHECK_INT(take_sent(300 * KIB), large);
    CHECK_INT(count_buffers(), 3);
    pp__shelf_destroy(&shelf);
    CHECK_INT(count_buffers(), 0);
}

TEST(a_small_payload_gets_a_buffer_of_its_own_where_others_are_much_larger)
{
    pp__shelf_init(&shelf, NULL, NULL);
    int large = take_sent(10 * MIB);
    pp__shelf_give(&shelf, large);
    CHECK(take_sent(20 * KIB) != large);
    CHECK_INT(count_buffers(), 2);
    pp__shelf_destroy(&shelf);
}

TEST(what_was_not_used_for_longest_makes_way)
{
    int places[PP__PLACES];
    pp__shelf_init(&shelf, NULL, NULL);
    for (size_t i = 0; i < PP__PLACES; i++)
        places[i] = take_sent((i + 1) * 100 * KIB);
    CHECK(pp__shelf_take(&shelf, 10 * KIB) < 0);
    for (size_t i = 0; i < PP__PLACES; i++)
        pp__shelf_give(&shelf, places[i]);
    pp__shelf_give(&shelf, take_sent(50 * KIB)); /* the first one again */
    CHECK_INT(take_sent(2 * MIB), places[1]);
    CHECK_INT(count_buffers(), PP__PLACES);
    pp__shelf_destroy(&shelf);
    CHECK_INT(count_buffers(), 0);
}

TEST(together_they_have_a_bounded_size)
{
    pp__shelf_init(&shelf, NULL, NULL);
    int first = take_sent(70 * MIB);
    CHECK(pp__shelf_take(&shelf, PP__SHELF_LEAST) < 0);
    CHECK(pp__shelf_take(&shelf, 70 * MIB) < 0);
    int second = take_sent(30 * MIB);
    pp__shelf_give(&shelf, first);
    CHECK(shelf.size <= PP__SHELF_LEAST);
    CHECK_INT(take_sent(80 * MIB), first); /* no other place makes room enough */
    CHECK(shelf.size <= PP__SHELF_LEAST);
    CHECK(second != first);
    pp__shelf_destroy(&shelf);
    CHECK_INT(shelf.size, 0);
}

static void check_share(int workers, uint64_t all)
{
    _Atomic uint64_t most = 0;
    pp__shelf_widen(&most, PP__SHELF_LEAST / 2, workers);
    CHECK_INT(most, 0);
    pp__shelf_widen(&most, PP__SHELF_LEAST / 2 + 1, workers);
    CHECK(most >= PP__SHELF_LEAST);
    CHECK(most == PP__SHELF_LEAST || most * 8 * (unsigned)workers <= all);
    uint64_t known = most;
    pp__shelf_widen(&most, SIZE_MAX, workers + 1);
    CHECK_INT(most, known);
}

TEST(a_wide_shelf_has_its_share_of_the_memory)
{
    struct sysinfo info;
    CHECK_OK(sysinfo(&info));
    for (int workers = 1; workers < 5000; workers *= 3)
        check_share(workers, (uint64_t)info.totalram * info.mem_unit);
}

TEST(a_wide_shelf_has_room_for_what_is_larger)
{
    _Atomic uint64_t most = 0;
    pp__shelf_init(&shelf, &most, NULL);
    CHECK_INT(pp__shelf_take(&shelf, PP__SHELF_LEAST), -EFBIG);
    most = 2 * PP__SHELF_LEAST;
    int first = take_sent(PP__SHELF_LEAST + MIB);
    CHECK(pp__shelf_take(&shelf, PP__SHELF_LEAST + MIB) < 0);
    pp__shelf_give(&shelf, first);
    CHECK_INT(take_sent(PP__SHELF_LEAST), first);
    CHECK_INT(count_buffers(), 1);
    pp__shelf_destroy(&shelf);
}

TEST(what_nobody_uses_makes_way_on_a_wide_shelf)
{
    _Atomic uint64_t most = 4 * PP__SHELF_LEAST;
    pp__shelf_init(&shelf, &most, NULL);
    pp__shelf_give(&shelf, take_sent(MIB));
    take_sent(60 * MIB);
    int place = take_sent(50 * MIB);
    CHECK_INT(count_buffers(), 3);
    pp__shelf_give(&shelf, place);
    CHECK_INT(take_sent(90 * MIB), 0); /* used longest ago */
    CHECK_INT(take_sent(100 * MIB), place);
    CHECK(take_sent(MIB) > place); /* nothing else was left */
    pp__shelf_destroy(&shelf);
}

TEST(a_worker_keeps_within_its_own_memory)
{
    _Atomic uint64_t most = UINT64_MAX;
    pp__shelf_init(&shelf, &most, returned);
    shelf.own = 2 * PP__SHELF_LEAST;
    CHECK_INT(pp__shelf_take(&shelf, 2 * PP__SHELF_LEAST), -EFBIG);
    shelf.own = 1;
    CHECK_INT(pp__shelf_take(&shelf, PP__SHELF_LEAST), -EFBIG);
    shelf.own = 0;
    struct sysinfo info;
    CHECK_OK(sysinfo(&info));
    CHECK_INT(pp__shelf_take(&shelf, SIZE_MAX / 4), -EFBIG);
    CHECK(shelf.own > 0 && shelf.own <= (uint64_t)info.totalram * info.mem_unit / 4 + 1);
    pp__shelf_destroy(&shelf);
}

TEST(a_buffer_that_the_reader_never_got_goes)
{
    pp__shelf_init(&shelf, NULL, NULL);
    int place = (int)CHECK_OK(pp__shelf_take(&shelf, MIB));
    pp__shelf_give(&shelf, place);
    CHECK_INT(count_buffers(), 0);
    CHECK_INT(shelf.size, 0);
    place = take_sent(MIB);
    shelf.places[place].doubtful = true;
    pp__shelf_give(&shelf, place);
    CHECK_INT(count_buffers(), 0);
    bool left = false;
    CHECK(pp__shelf_tidy(&shelf, discarded, &left)); /* in case it has it all the same */
    CHECK(!left);
    CHECK_INT(atomic_load(&discarded[place]), shelf.places[place].count);
    CHECK(!pp__shelf_tidy(&shelf, discarded, &left));
    pp__shelf_destroy(&shelf);
}

TEST(a_file_size_limit_counts_for_buffers_that_are_there)
{
    struct rlimit limit = {.rlim_cur = 100 * KIB, .rlim_max = RLIM_INFINITY};
    pp__shelf_init(&shelf, NULL, NULL);
    pp__shelf_give(&shelf, take_sent(300 * KIB));
    CHECK_INT(setrlimit(RLIMIT_FSIZE, &limit), 0);
    CHECK_INT(pp__shelf_take(&shelf, 100 * KIB), -EFBIG);
    pp__shelf_give(&shelf, (int)CHECK_OK(pp__shelf_take(&shelf, 100 * KIB - 1)));
    pp__shelf_destroy(&shelf);
}

/* --------------------------------------------------------------------------------------- both ends */

static struct pp__results *results;

static void open_both(void)
{
    pp__shelf_init(&shelf, NULL, returned);
    results = pp__results_create(returned);
    CHECK(results != NULL);
}

/* The worker's process ends. */
static void end_worker(void)
{
    pp__results_close(results);
    for (int i = 0; i < (int)PP__PLACES; i++)
        pp__shelf_discard(&shelf, i);
}

/* A result as the worker publishes it: `size` bytes of `fill`. */
static int publish(size_t size, char fill)
{
    int place = (int)CHECK_OK(pp__shelf_take(&shelf, size));
    struct pp__place *p = &shelf.places[place];
    memset(p->memory, fill, size);
    ((char *)p->memory)[size] = 0;
    if (p->fd >= 0)
        CHECK_INT(pp__results_receive(results, (uint32_t)place, p->fd, p->room), 0);
    pp__shelf_put_out(&shelf, place);
    return place;
}

static char *open_result(int place, size_t size)
{
    void *data = NULL;
    CHECK_INT(pp__results_open(results, (uint32_t)place, size, &data), 0);
    return data;
}

static void refused(int place, size_t size)
{
    void *data = NULL;
    CHECK_INT(pp__results_open(results, (uint32_t)place, size, &data), -EPROTO);
    CHECK(!data);
}

TEST(a_place_is_used_again_when_its_result_was_given_back)
{
    open_both();
    for (int i = 0; i < 10; i++) {
        int first = publish(MIB, 'a');
        char *shown = open_result(first, MIB);
        int second = publish(MIB, 'b');
        CHECK(second != first);
        CHECK_INT(shown[MIB - 1], 'a');
        char *other = open_result(second, MIB);
        pp__block_free(shown);
        CHECK_INT(publish(MIB, 'c'), first);
        CHECK_INT(other[0], 'b');
        pp__block_free(other);
        pp__block_free(open_result(first, MIB));
        CHECK_INT(count_buffers(), 4); /* two, on either side */
    }
    end_worker();
    CHECK_INT(count_buffers(), 0);
}

/* A guard would end the process that writes. */
TEST(what_was_guarded_can_be_written_to_when_it_is_taken_again)
{
    open_both();
    for (int fill = 'a'; fill < 'd'; fill++) {
        int place = publish(MIB, (char)fill);
        CHECK_INT(place, 0);
        CHECK_INT(pp__shelf_guard(&shelf, place), 0);
        char *shown = open_result(place, MIB);
        CHECK_INT(shown[0], fill);
        CHECK_INT(shown[MIB - 1], fill);
        pp__block_free(shown);
    }
    CHECK_INT(count_buffers(), 2);
    end_worker();
    CHECK_INT(count_buffers(), 0);
}

TEST(what_was_given_back_is_made_ready_and_what_is_shown_stays_guarded)
{
    open_both();
    int place = publish(MIB, 'a');
    CHECK_INT(pp__shelf_guard(&shelf, place), 0);
    char *shown = open_result(place, MIB);
    pp__shelf_make_ready(&shelf);
    CHECK(shelf.places[place].guarded);
    pp__block_free(shown);
    pp__shelf_make_ready(&shelf);
    CHECK(!shelf.places[place].guarded);
    memset(shelf.places[place].memory, 'b', MIB);
    end_worker();
}

TEST(a_small_result_is_copied_and_its_place_free_at_once)
{
    open_both();
    int place = publish(100 * KIB, 'a');
    char *copy = open_result(place, 100 * KIB);
    CHECK_INT(publish(100 * KIB, 'b'), place);
    CHECK_INT(copy[0], 'a');
    CHECK_INT(copy[100 * KIB], 0);
    pp__block_free(open_result(place, 100 * KIB));
    pp__block_free(copy);
    end_worker();
}

TEST(what_was_taken_is_no_buffer_any_more)
{
    open_both();
    int place = publish(MIB, 'a');
    char *data = open_result(place, MIB);
    CHECK_INT(pp__block_own(data), 0);
    memset(data, 'x', MIB);
    pp__shelf_make_ready(&shelf);
    CHECK(!shelf.places[place].memory);
    pp__block_free(open_result(publish(MIB, 'b'), MIB));
    CHECK_INT(data[0], 'x');
    pp__block_free(data);
    end_worker();
    CHECK_INT(count_buffers(), 0);
}

TEST(results_outlive_their_worker)
{
    open_both();
    char *kept = open_result(publish(MIB, 'a'), MIB), *taken = open_result(publish(MIB, 'b'), MIB);
    end_worker();
    CHECK_INT(kept[0], 'a');
    CHECK_INT(pp__block_own(taken), 0);
    taken[0] = 'x';
    pp__block_free(kept);
    pp__block_free(taken);
    CHECK_INT(count_buffers(), 0);
}

TEST(a_result_that_can_not_be_is_refused)
{
    void *memory;
    open_both();
    refused(0, 1000);
    int place = publish(MIB, 'a');
    refused(place, shelf.places[place].room);
    refused(place, SIZE_MAX);
    refused(place, MIB - 1); /* no NUL there */
    end_worker();
    open_both();
    char *shown = open_result(publish(MIB, 'a'), MIB);
    refused(0, MIB);
    int fd = (int)CHECK_OK(pp__buffer_create(MIB, &memory));
    CHECK_INT(pp__results_receive(results, 0, fd, MIB), -EPROTO);
    CHECK_INT(shown[0], 'a');
    CHECK_INT(pp__results_receive(results, 1, fd, 2 * MIB), -EPROTO);
    pp__fd_close(fd);
    pp__block_free(shown);
    end_worker();
    pp__buffer_unmap(memory, MIB, 0);
    CHECK_INT(count_buffers(), 0);
}

TEST(what_could_not_be_received_is_taken_from_the_worker)
{
    open_both();
    int place = (int)CHECK_OK(pp__shelf_take(&shelf, MIB));
    pp__shelf_put_out(&shelf, place);
    pp__results_refuse(results, (uint32_t)place);
    pp__shelf_make_ready(&shelf);
    CHECK(!shelf.places[place].memory);
    pp__block_free(open_result(publish(MIB, 'a'), MIB));
    end_worker();
}

TEST(what_is_not_used_between_two_looks_is_given_up)
{
    bool left = false;
    open_both();
    char *held = open_result(publish(MIB, 'a'), MIB);
    int place = publish(2 * MIB, 'b');
    pp__block_free(open_result(place, 2 * MIB));
    CHECK(!pp__results_tidy(results, &left));
    CHECK(left);
    CHECK(pp__results_tidy(results, &left));
    pp__shelf_make_ready(&shelf);
    CHECK(!shelf.places[place].memory);
    CHECK_INT(held[0], 'a');
    pp__block_free(held);
    left = false;
    CHECK(pp__results_tidy(results, &left));
    CHECK(!left);
    pp__shelf_make_ready(&shelf);
    CHECK_INT(count_buffers(), 0);
    end_worker();

    pp__shelf_init(&shelf, NULL, NULL);
    pp__shelf_give(&shelf, take_sent(MIB));
    take_sent(2 * MIB);
    CHECK(!pp__shelf_tidy(&shelf, discarded, &left));
    left = false;
    CHECK(pp__shelf_tidy(&shelf, discarded, &left));
    CHECK(left);
    CHECK_INT(count_buffers(), 1);
    CHECK_INT(atomic_load(&discarded[0]), 1);
    pp__shelf_destroy(&shelf);
}
