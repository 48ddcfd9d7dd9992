/* SPDX-License-Identifier: MIT */
#include "pool/group.h"

#include "base/atomic.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/futex.h"
#include "base/interrupt.h"
#include "base/seam.h"
#include "pool/future.h"
#include "pool/inline.h"
#include "pool/loop.h"
#include "pool/pool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A sleeper looks again after so long, should its wake have been lost. */
#define SLEEP_BOUND (100 * PP__MILLISECOND)
/* Where one of the pools has no thread of its own, so often. */
#define LOOK_EACH PP__MILLISECOND
/* Futures are marked so many at a time, and the pool's lock is released in between. */
#define MARK_EACH 256

struct entry {
    pp_future *future; /* until it was given out; where the group holds its futures, a reference of its own */
    size_t index : 63; /* where it stands first in the caller's array */
    size_t noted : 1;  /* its end was seen */
};

/* What belongs to one pool. */
struct part {
    struct pp__link in_pool; /* under the pool's lock, as are `left` and `table` */
    size_t left;             /* its futures whose ends were not seen */
    pp_pool *pool;           /* a reference of its own */
    struct pp_completed *group;
    size_t most;                    /* so many futures, those that are there twice counted twice */
    uint64_t least_id, greatest_id; /* theirs */
    uint32_t *table;                /* of 2^bits places: 1 + number of an entry, or 0 */
    unsigned bits;
};

struct pp_completed {
    pp_when when;
    bool holds;            /* a reference to each; else the caller, who waits all the time, has one */
    struct entry *entries; /* each future once; where all are of one pool in the order of the array */
    struct part *parts;    /* those with several pools are waited for in their managers' care */
    size_t part_count;
    struct pp__subject subject; /* of the only part: under its pool's lock */

    /* Ends come from several pools. Taken within the pools' locks. */
    pthread_mutex_t lock;
    size_t count;    /* of entries; more than there can be, until all are there */
    uint32_t *ended; /* numbers of entries, in the order of their ends */
    size_t ended_count;
    size_t failed;         /* of them, those with an error; cancelled ones have none */
    size_t given;          /* of them, those that were given out */
    bool looks;            /* who waits for several parts looks after a pool without threads, too */
    bool asleep;           /* who waits for several parts is on its way to sleep on `word`, or does */
    _Atomic uint32_t word; /* its futex: grows when it is to look */
    int bell;              /* an eventfd that is rung in place of that; -1: none */
};

/* ------------------------------------------------------------------------------------------- table */

static size_t size_of(const struct part *part)
{
    return (size_t)1 << part->bits;
}

/* Futures that were submitted one behind the other have their places so, too: where all ids fit into the table each has
 * its own. */
static size_t place_of(const struct part *part, uint64_t id)
{
    const uint64_t factor = UINT64_C(0x9e3779b97f4a7c15);
    uint64_t from_first = id - part->least_id, mixed = from_first * factor;
    return part->greatest_id - part->least_id < size_of(part) ? from_first
                                                              : (mixed ^ mixed >> 32) * factor >> (64 - part->bits);
}

/* Where the future's number is, or would be; NULL: it is none of them. The table is never more than half full. */
static uint32_t *find(const struct part *part, const pp_future *future)
{
    const struct entry *entries = part->group->entries;
    if (future->item.id < part->least_id || future->item.id > part->greatest_id)
        return NULL;
    size_t place = place_of(part, future->item.id);
    while (part->table[place] && entries[part->table[place] - 1].future != future)
        place = (place + 1) & (size_of(part) - 1);
    return &part->table[place];
}

/* ------------------------------------------------------------------------------------------- noting */

/* Under the group's lock, or before anybody else knows it. */
static bool is_satisfied(const struct pp_completed *group)
{
    if (group->ended_count == group->count)
        return true;
    if (group->when == PP_FIRST_COMPLETED)
        return group->ended_count > group->given;
    return group->when == PP_FIRST_FAILED && group->failed > 0;
}

/* Under the locks of both. */
static void note(struct part *part, struct entry *entry)
{
    struct pp_completed *group = part->group;
    const struct pp__item *item = &entry->future->item;
    if (entry->noted)
        return;
    entry->noted = true;
    part->left--;
    group->ended[group->ended_count++] = (uint32_t)(entry - group->entries);
    group->failed += item->outcome.code != 0 && item->outcome.code != -ECANCELED;
}

/* Under the group's lock. */
static void wake_sleeper(struct pp_completed *group)
{
    if (!group->asleep)
        return;
    group->asleep = false;
    if (group->bell >= 0) {
        pp__fd_ring(group->bell);
        return;
    }
    pp__store_relaxed(&group->word, pp__load_relaxed(&group->word) + 1); /* what is to be seen is under the lock */
    pp__futex_wake(&group->word, 1, false);
}

static void note_in(struct part *part, pp_future *future)
{
    struct pp_completed *group = part->group;
    pthread_mutex_lock(&group->lock);
    const uint32_t *number = find(part, future);
    if (number && *number)
        note(part, &group->entries[*number - 1]);
    bool wake = number && *number && is_satisfied(group);
    if (wake)
        wake_sleeper(group);
    pthread_mutex_unlock(&group->lock);
    if (wake && group->part_count == 1)
        pp__subject_wake(&group->subject, part->pool, group);
}

void pp__groups_note(pp_pool *pool, struct pp__item *item)
{
    for (struct pp__link *link = pool->groups.next; link != &pool->groups; link = link->next)
        note_in(pp__container(link, struct part, in_pool), pp__container(item, pp_future, item));
}

void pp__groups_rouse(pp_pool *pool)
{
    for (struct pp__link *link = pool->groups.next; link != &pool->groups; link = link->next) {
        struct pp_completed *group = pp__container(link, struct part, in_pool)->group;
        pthread_mutex_lock(&group->lock);
        wake_sleeper(group);
        pthread_mutex_unlock(&group->lock);
    }
}

/* ---------------------------------------------------------------------------------------- the group */

/* The last one first: futures of one pool stand together, as a rule. */
static struct part *part_of(const struct pp_completed *group, const pp_pool *pool)
{
    for (size_t i = group->part_count; i > 0; i--)
        if (group->parts[i - 1].pool == pool)
            return &group->parts[i - 1];
    return NULL;
}

static struct part *add_part(struct pp_completed *group, pp_pool *pool)
{
    struct part *grown = PP_SYS(realloc)(group->parts, (group->part_count + 1) * sizeof *grown);
    if (!grown)
        return NULL;
    group->parts = grown;
    pp__pool_ref(pool);
    grown[group->part_count] = (struct part){.pool = pool, .group = group, .least_id = UINT64_MAX};
    return &grown[group->part_count++];
}

/* Counts it for its pool's part. */
static int count_in(struct pp_completed *group, const pp_future *future)
{
    uint64_t id = future->item.id;
    struct part *part = part_of(group, pp__future_pool(future));
    if (!part)
        part = add_part(group, pp__future_pool(future));
    if (!part)
        return -ENOMEM;
    part->least_id = id < part->least_id ? id : part->least_id;
    part->greatest_id = id > part->greatest_id ? id : part->greatest_id;
    part->most++;
    return 0;
}

/* Where all are of one pool the look has counted them. */
static int make_parts(struct pp_completed *group, const struct pp__look *look)
{
    if (look->pool) {
        struct part *part = add_part(group, look->pool);
        if (!part)
            return -ENOMEM;
        part->least_id = look->least_id;
        part->greatest_id = look->greatest_id;
        part->most = look->count;
        return 0;
    }
    int error = 0;
    for (size_t i = 0; i < look->count && !error; i++)
        error = count_in(group, look->futures[i]);
    return error;
}

static int make_table(struct part *part)
{
    for (part->bits = 4; part->most > size_of(part) / 2; part->bits++) {
    }
    part->table = PP_SYS(calloc)(size_of(part), sizeof *part->table);
    return part->table ? 0 : -ENOMEM;
}

void pp__group_close(struct pp_completed *group)
{
    for (size_t i = 0; i < group->part_count; i++) {
        struct part *part = &group->parts[i];
        pp__pool_lock(part->pool);
        if (part->in_pool.next)
            pp__list_remove(&part->in_pool);
        pp__pool_unlock(part->pool);
    }
    for (size_t i = 0; group->holds && i < group->count; i++)
        pp_future_unref(group->entries[i].future);
    for (size_t i = 0; i < group->part_count; i++) {
        pp__pool_unref(group->parts[i].pool);
        free(group->parts[i].table);
    }
    pthread_mutex_destroy(&group->lock);
    free(group->entries);
    free(group->parts);
    free(group->ended);
    free(group);
}

static struct pp_completed *create(size_t most, pp_when when, bool holds)
{
    struct pp_completed *group = PP_SYS(calloc)(1, sizeof *group);
    if (!group)
        return NULL;
    pthread_mutex_init(&group->lock, NULL);
    pp__subject_init(&group->subject);
    group->when = when;
    group->holds = holds;
    group->bell = -1;
    /* One more than there can be: for none, malloc may have nothing. */
    group->entries = most < UINT32_MAX ? PP_SYS(malloc)((most + 1) * sizeof *group->entries) : NULL;
    group->ended = PP_SYS(malloc)((most + 1) * sizeof *group->ended);
    if (group->entries && group->ended)
        return group;
    pp__group_close(group);
    return NULL;
}

/* An end between the part's announcement and the mark is seen here, one behind the mark is told. Under both locks. */
static void mark(struct part *part, pp_future *future, size_t index, size_t *entered)
{
    struct entry *entry = &part->group->entries[*entered];
    uint32_t *number = find(part, future);
    if (*number)
        return; /* it is there twice */
    *entry = (struct entry){.future = part->group->holds ? pp_future_ref(future) : future, .index = index};
    ++*entered;
    *number = (uint32_t)*entered;
    part->left++;
    future->item.waited_for = true;
    if (pp__future_is_done(future))
        note(part, entry);
}

static void lock_both(const struct part *part)
{
    pp__pool_lock(part->pool);
    pthread_mutex_lock(&part->group->lock);
}

static void unlock_both(const struct part *part)
{
    pthread_mutex_unlock(&part->group->lock);
    pp__pool_unlock(part->pool);
}

/* The futures of one pool become entries from *entered on. */
static void fill(struct part *part, pp_future *const *futures, size_t count, size_t *entered)
{
    lock_both(part);
    pp__list_init(&part->in_pool);
    pp__list_insert(&part->pool->groups, &part->in_pool);
    for (size_t i = 0, marked = 0; i < count; i++) {
        pp__look_ahead(futures, count, i);
        if (pp__future_pool(futures[i]) != part->pool)
            continue;
        mark(part, futures[i], i, entered);
        if (++marked % MARK_EACH == 0) {
            unlock_both(part);
            lock_both(part);
        }
    }
    unlock_both(part);
}

int pp__group_open(const struct pp__look *look, pp_when when, bool holds, struct pp_completed **result)
{
    struct pp_completed *group = create(look->count, when, holds);
    int error = group ? make_parts(group, look) : -ENOMEM;
    for (size_t i = 0; !error && i < group->part_count; i++)
        error = make_table(&group->parts[i]);
    if (error) {
        if (group)
            pp__group_close(group);
        return pp__fail(error, "no memory for a group of %zu futures", look->count);
    }
    size_t entered = 0;
    group->count = SIZE_MAX;
    for (size_t i = 0; i < group->part_count; i++)
        fill(&group->parts[i], look->futures, look->count, &entered);
    pthread_mutex_lock(&group->lock);
    group->count = entered;
    pthread_mutex_unlock(&group->lock);
    *result = group;
    return 0;
}

/* ------------------------------------------------------------------------------------------- waiting */

static bool is_satisfied_now(const void *group)
{
    struct pp_completed *g = (struct pp_completed *)(uintptr_t)group;
    pthread_mutex_lock(&g->lock);
    bool satisfied = is_satisfied(g);
    pthread_mutex_unlock(&g->lock);
    return satisfied;
}

/*
 * Runs one element of an inline pool that is waited for, if there is one: 1; 0 if not; -EDEADLK if nobody else could do
 * anything. Where nothing is left the group is satisfied, and the error is not looked at.
 */
static int step_inline(const struct pp_completed *group, struct pp__hold *hold)
{
    bool others = false;
    for (size_t i = 0; i < group->part_count; i++) {
        struct part *part = &group->parts[i];
        pp_pool *pool = part->pool;
        if (pool->is_inline)
            pp__hold_end(hold); /* its calls run here */
        pp__pool_lock(pool);
        bool some = part->left > 0 && pool->is_inline && pp__inline_step(pool);
        others |= part->left > 0 && !(pool->is_inline && pp__inline_is_stuck(pool));
        if (some)
            pp__wait_pass_inline(pool);
        pp__pool_unlock(pool);
        if (some)
            return 1;
    }
    return others ? 0 : pp__fail(-EDEADLK, "the task waits for what only its own thread could do");
}

/* True: from here on it is woken by the next end; *seen is its word before. False: it has no need to sleep. */
static bool fall_asleep(struct pp_completed *group, uint32_t *seen)
{
    pthread_mutex_lock(&group->lock);
    *seen = pp__load_relaxed(&group->word);
    bool asleep = group->asleep = !is_satisfied(group);
    pthread_mutex_unlock(&group->lock);
    return asleep;
}

static uint64_t bound_of(const struct pp_completed *group)
{
    return group->looks ? LOOK_EACH : SLEEP_BOUND;
}

/* Until some end satisfies the group, or for a while. */
static int sleep_apart(struct pp_completed *group, uint64_t deadline, struct pp__hold *hold)
{
    uint32_t seen;
    if (!fall_asleep(group, &seen))
        return 0;
    uint64_t bound = pp__now() + bound_of(group);
    int error = pp__hold_futex(hold, &group->word, seen, deadline < bound ? deadline : bound, false);
    PP_FAULT("group.between");
    if (error != -EINTR)
        error = pp__hold_look(hold);
    return error == -EINTR && !pp__wait_goes_on() ? error : 0;
}

/* Pools without a thread of their own are looked after by who waits. */
static void step_loops(struct pp_completed *group)
{
    group->looks = false;
    for (size_t i = 0; i < group->part_count; i++) {
        struct part *part = &group->parts[i];
        pp__pool_lock(part->pool);
        if (part->left > 0 && part->pool->loop && !part->pool->is_inline) {
            pp__loop_collect(part->pool);
            group->looks = true;
        }
        pp__pool_unlock(part->pool);
    }
}

static int step_apart(struct pp_completed *group, uint64_t deadline, struct pp__hold *hold)
{
    step_loops(group);
    int stepped = step_inline(group, hold);
    if (stepped != 0)
        return stepped < 0 ? stepped : 0;
    return sleep_apart(group, deadline, hold);
}

static void change_apart(const struct pp_completed *group, int change)
{
    for (size_t i = 0; i < group->part_count; i++)
        pp__wait_apart(group->parts[i].pool, change);
}

/* No thread can sleep where several pools' results arrive: their managers collect meanwhile. */
static int wait_apart(struct pp_completed *group, uint64_t deadline)
{
    struct pp__hold hold;
    int error = 0;
    pp__hold_begin(&hold);
    change_apart(group, 1);
    while (!is_satisfied_now(group) && !error) {
        error = step_apart(group, deadline, &hold);
        if (!error && pp__until(deadline) == 0)
            error = -ETIMEDOUT;
    }
    change_apart(group, -1);
    pp__hold_end(&hold);
    return is_satisfied_now(group) ? 0 : error;
}

int pp__group_wait(struct pp_completed *group, int timeout)
{
    uint64_t deadline = pp__deadline(timeout);
    int error;
    if (is_satisfied_now(group))
        return 0; /* what came before is had without a look at its pool */
    if (group->part_count == 1) {
        pp_pool *pool = group->parts[0].pool;
        pp__pool_lock(pool);
        error = pp__wait(pool, &group->subject, is_satisfied_now, group, deadline, false);
        pp__pool_unlock(pool);
    } else {
        error = wait_apart(group, deadline);
    }
    if (error == -ETIMEDOUT || error == -EINTR)
        pp__fail(error, "what was waited for of %zu futures is not done: %s", group->count, pp__strerror(-error));
    return error;
}

/* ------------------------------------------------------------------------------------------ what has ended */

size_t pp__group_ended(struct pp_completed *group, const struct pp__look *look, unsigned char *done)
{
    struct pp__look again;
    if (group->count < look->count) { /* some are there twice */
        pp__look(&again, look->futures, look->count, "pp_wait");
        return done ? pp__look_tell(&again, done) : again.done;
    }
    if (done)
        memset(done, 0, look->count);
    pthread_mutex_lock(&group->lock);
    for (size_t i = 0; done && i < group->ended_count; i++)
        done[group->entries[group->ended[i]].index] = 1;
    size_t sum = group->ended_count;
    pthread_mutex_unlock(&group->lock);
    return sum;
}

static void forget_given(struct pp_completed *group)
{
    pp_future *given = NULL;
    pthread_mutex_lock(&group->lock);
    if (group->given > 0) {
        struct entry *entry = &group->entries[group->ended[group->given - 1]];
        given = entry->future;
        entry->future = NULL;
    }
    pthread_mutex_unlock(&group->lock);
    pp_future_unref(given);
}

int pp__group_next(struct pp_completed *group, int timeout, pp_future **future, size_t *index)
{
    bool all_given = group->given == group->count;
    int error = all_given ? 0 : pp__group_wait(group, timeout);
    if (error)
        return error;
    forget_given(group);
    if (all_given)
        return 0;
    pthread_mutex_lock(&group->lock);
    const struct entry *entry = &group->entries[group->ended[group->given++]];
    pthread_mutex_unlock(&group->lock);
    *future = entry->future;
    *index = entry->index;
    return 1;
}

bool pp__group_is_own(const struct pp_completed *group)
{
    return group->part_count == 0 || pp__pool_is_own(group->parts[0].pool);
}

/* ------------------------------------------------------------------------------------------ for pp_select */

int pp__group_listen(pp_future *const *futures, size_t count, int bell, struct pp_completed **group)
{
    struct pp__look look;
    int error = pp__look(&look, futures, count, "pp_select");
    if (!error)
        error = pp__group_open(&look, PP_FIRST_COMPLETED, true, group);
    if (error)
        return error;
    (*group)->bell = bell; /* nobody rings before it is armed, which is under its lock */
    change_apart(*group, 1);
    step_loops(*group);
    return 0;
}

int pp__group_step(struct pp_completed *group, struct pp__hold *hold)
{
    step_loops(group);
    return step_inline(group, hold);
}

bool pp__group_arm(struct pp_completed *group, uint64_t *bound)
{
    uint32_t unused;
    *bound = bound_of(group);
    return !fall_asleep(group, &unused);
}

void pp__group_forget(struct pp_completed *group)
{
    change_apart(group, -1);
    pp__group_close(group);
}
