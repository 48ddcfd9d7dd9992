/* SPDX-License-Identifier: MIT */
#include "pool/shelf.h"

#include "base/atomic.h"
#include "base/cgroup.h"
#include "base/error.h"
#include "base/fd.h"
#include "shm/buffer.h"
#include "shm/segment.h"

#include <errno.h>
#include <sys/sysinfo.h>

/* A small payload is not put into a buffer so many times its size, as long as there is room for another. */
#define TOO_LARGE 8

/* A visit, with the least memory so far. */
static void lower(const char *directory, void *least)
{
    long long limit, unused;
    uint64_t *memory = least;
    if ((pp__cgroup_read(directory, "memory.max", &limit, &unused) >= 1 ||
         pp__cgroup_read(directory, "memory.limit_in_bytes", &limit, &unused) >= 1) &&
        (uint64_t)limit < *memory)
        *memory = (uint64_t)limit;
}

static uint64_t find_memory(void)
{
    struct pp__cgroup groups[PP__CGROUP_VERSIONS];
    struct sysinfo info;
    if (sysinfo(&info) != 0)
        return 0;
    uint64_t memory = (uint64_t)info.totalram * info.mem_unit;
    pp__cgroup_find_own("memory", groups);
    pp__cgroup_each(groups, lower, &memory);
    return memory;
}

void pp__shelf_widen(_Atomic uint64_t *most, size_t size, int workers)
{
    if (size <= PP__SHELF_LEAST / 2 || pp__load_relaxed(most) != 0)
        return;
    uint64_t share = find_memory() / 4 / 2 / (unsigned)workers; /* each has two */
    pp__store_relaxed(most, share > PP__SHELF_LEAST ? share : PP__SHELF_LEAST);
}

void pp__shelf_init(struct pp__shelf *shelf, const _Atomic uint64_t *most, const _Atomic uint32_t *returned)
{
    *shelf = (struct pp__shelf){.most = most, .returned = returned};
    for (unsigned i = 0; i < PP__PLACES; i++)
        shelf->places[i].fd = -1;
}

static void clear(struct pp__shelf *shelf, struct pp__place *place)
{
    pp__buffer_unmap(place->memory, place->room, 0);
    pp__fd_close(place->fd);
    shelf->size -= place->room;
    place->memory = NULL;
    place->room = 0;
    place->fd = -1;
    place->guarded = place->doubtful = false;
    place->state = PP__PLACE_FREE;
    place->item = NULL;
    place->used = 0;
}

void pp__shelf_destroy(struct pp__shelf *shelf)
{
    for (unsigned i = 0; i < PP__PLACES; i++)
        if (shelf->places[i].state != PP__PLACE_OUT)
            clear(shelf, &shelf->places[i]);
}

void pp__shelf_sent(struct pp__shelf *shelf, int place)
{
    struct pp__place *p = &shelf->places[place];
    if (p->fd < 0)
        return;
    pp__fd_close(p->fd);
    p->fd = -1;
    p->count++;
}

/* Release: pairs with the load in drop_given_up (receive.c), which needs to see nothing else. False: it was told
 * before. */
static bool tell_discarded(const struct pp__place *place, _Atomic uint32_t *discarded)
{
    if (pp__load_relaxed(discarded) == place->count)
        return false;
    pp__store_release(discarded, place->count);
    return true;
}

/* What was cleared at another time the reader may have, too. */
bool pp__shelf_tidy(struct pp__shelf *shelf, _Atomic uint32_t *discarded, bool *left)
{
    bool dropped = false;
    for (unsigned i = 0; i < PP__PLACES; i++) {
        struct pp__place *place = &shelf->places[i];
        if (place->memory && place->state == PP__PLACE_FREE && place->used <= shelf->tidied)
            clear(shelf, place);
        if (!place->memory && place->state == PP__PLACE_FREE)
            dropped |= tell_discarded(place, &discarded[i]);
        *left |= place->room > 0;
    }
    shelf->tidied = shelf->uses;
    return dropped;
}

void pp__shelf_put_out(struct pp__shelf *shelf, int place)
{
    struct pp__place *p = &shelf->places[place];
    pp__fd_close(p->fd);
    p->fd = -1;
    p->state = PP__PLACE_OUT;
    p->count++;
}

/* Acquire: pairs with the store in set_returned (results.c): who had the result has read its last byte. */
static void take_in(struct pp__shelf *shelf)
{
    for (unsigned i = 0; i < PP__PLACES && shelf->returned; i++) {
        struct pp__place *place = &shelf->places[i];
        if (!place->memory || place->state == PP__PLACE_TAKEN)
            continue;
        uint32_t word = pp__load_acquire(&shelf->returned[i]);
        if (word >> 1 != (place->count & UINT32_MAX >> 1))
            continue;
        if (word & 1)
            clear(shelf, place);
        else
            place->state = PP__PLACE_FREE;
    }
}

/* The smallest one that fits. */
static struct pp__place *find(struct pp__shelf *shelf, size_t size)
{
    struct pp__place *best = NULL;
    for (unsigned i = 0; i < PP__PLACES; i++) {
        struct pp__place *place = &shelf->places[i];
        if (place->state == PP__PLACE_FREE && place->room > size && (!best || place->room < best->room))
            best = place;
    }
    return best;
}

/* Relaxed: a number of its own. A worker may live in another control group than its owner. */
static size_t most_of(struct pp__shelf *shelf)
{
    uint64_t most = shelf->most ? pp__load_relaxed(shelf->most) : 0;
    if (most <= PP__SHELF_LEAST)
        return PP__SHELF_LEAST;
    if (shelf->returned && shelf->own == 0)
        shelf->own = find_memory() / 4 + 1;
    if (shelf->returned && shelf->own < most)
        most = shelf->own;
    return most > PP__SHELF_LEAST ? most : PP__SHELF_LEAST;
}

/* What was there longest goes first. Where all would be more than the least, what nobody uses makes way although there
 * are empty places. */
static uint64_t rank(const struct pp__place *place, bool is_much)
{
    return place->memory || !is_much ? place->used : UINT64_MAX;
}

/* Where a new one can stand: an empty place, or that of the one that was not used for longest. */
static struct pp__place *find_victim(struct pp__shelf *shelf, size_t room)
{
    struct pp__place *victim = NULL;
    size_t most = most_of(shelf);
    bool is_much = shelf->size + room > PP__SHELF_LEAST;
    for (unsigned i = 0; i < PP__PLACES; i++) {
        struct pp__place *place = &shelf->places[i];
        if (place->state == PP__PLACE_FREE && shelf->size - place->room + room <= most &&
            (!victim || rank(place, is_much) < rank(victim, is_much)))
            victim = place;
    }
    return victim;
}

bool pp__shelf_is_used(const struct pp__shelf *shelf)
{
    for (unsigned i = 0; i < PP__PLACES; i++)
        if (shelf->places[i].state != PP__PLACE_FREE)
            return true;
    return false;
}

int pp__shelf_guard(struct pp__shelf *shelf, int place)
{
    struct pp__place *p = &shelf->places[place];
    p->guarded = true;
    return pp__buffer_guard(p->memory, p->room);
}

static bool is_ready(struct pp__place *place)
{
    if (place->guarded && pp__buffer_unguard(place->memory, place->room) != 0)
        return false;
    place->guarded = false;
    return true;
}

/* One that can't be made ready now is tried again when it is wanted. */
void pp__shelf_make_ready(struct pp__shelf *shelf)
{
    take_in(shelf);
    for (unsigned i = 0; i < PP__PLACES; i++)
        if (shelf->places[i].state == PP__PLACE_FREE)
            is_ready(&shelf->places[i]);
}

/* The limit counts for what is written, wherever: what the caller sees must not depend on which buffers there are. */
int pp__shelf_reserve(struct pp__shelf *shelf, size_t size)
{
    if (size >= most_of(shelf) || pp__segment_check_limit(size + 1) != 0)
        return -EFBIG;
    take_in(shelf);
    struct pp__place *place = find(shelf, size), *victim = NULL;
    if (!place || place->room / TOO_LARGE > size)
        victim = find_victim(shelf, pp__buffer_room(size));
    if (victim) {
        clear(shelf, victim);
        victim->room = pp__buffer_room(size);
        shelf->size += victim->room;
        place = victim;
    }
    if (!place || !is_ready(place))
        return -ENOMEM;
    place->state = PP__PLACE_TAKEN;
    place->used = ++shelf->uses;
    return (int)(place - shelf->places);
}

int pp__shelf_take(struct pp__shelf *shelf, size_t size)
{
    int place = pp__shelf_reserve(shelf, size);
    if (place < 0 || shelf->places[place].memory)
        return place;
    struct pp__place *p = &shelf->places[place];
    p->fd = pp__buffer_create(p->room, &p->memory);
    if (p->fd >= 0)
        return place;
    int error = p->fd;
    pp__shelf_discard(shelf, place);
    return error;
}

void pp__shelf_give(struct pp__shelf *shelf, int place)
{
    struct pp__place *p = &shelf->places[place];
    p->state = PP__PLACE_FREE;
    p->item = NULL;
    if (p->fd >= 0 || p->doubtful)
        clear(shelf, p);
}

void pp__shelf_discard(struct pp__shelf *shelf, int place)
{
    clear(shelf, &shelf->places[place]);
}
