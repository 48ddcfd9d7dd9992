/* SPDX-License-Identifier: MIT */
#include "pool/known.h"

#include "base/atomic.h"
#include "pool/buffer.h"

static struct pp__known_place *find(struct pp__known *known, uint64_t serial)
{
    for (unsigned i = 0; i < PP__KNOWN; i++)
        if (known->places[i].serial == serial)
            return &known->places[i];
    return NULL;
}

static void forget(struct pp__known *known, struct pp__known_place *place)
{
    known->size -= place->room;
    place->serial = 0;
    place->room = 0;
}

/* The one that was not used for longest, but by a call whose uses began with `begun`. NULL: there is none. */
static struct pp__known_place *oldest(struct pp__known *known, uint64_t begun)
{
    struct pp__known_place *best = NULL;
    for (unsigned i = 0; i < PP__KNOWN; i++) {
        struct pp__known_place *place = &known->places[i];
        if (place->serial != 0 && place->used <= begun && (!best || place->used < best->used))
            best = place;
    }
    return best;
}

static void drop(struct pp__known_plan *plan, struct pp__known_place *place)
{
    plan->dropped |= 1u << (place - plan->after.places);
    forget(&plan->after, place);
}

/* An empty place, or one that is made empty: a call has no more buffers than there are. */
static struct pp__known_place *make_place(struct pp__known_plan *plan, size_t room, uint64_t begun)
{
    struct pp__known_place *victim;
    while (plan->after.size + room > PP__KNOWN_MAX && (victim = oldest(&plan->after, begun)))
        drop(plan, victim);
    if (!find(&plan->after, 0))
        drop(plan, oldest(&plan->after, begun));
    return find(&plan->after, 0);
}

static struct pp__known_place *add(struct pp__known_plan *plan, const pp_buffer *buffer, uint64_t begun)
{
    struct pp__known_place *place = make_place(plan, buffer->room, begun);
    place->serial = buffer->serial;
    place->room = buffer->room;
    place->count++;
    place->doubtful = false;
    plan->after.size += buffer->room;
    plan->fds[plan->fresh++] = buffer->fd;
    return place;
}

/* Field by field, where it is to lie: a struct that is made and copied at once would be loaded before its stores have
 * reached the cache. */
static inline void enter(struct pp__buffer_record *entry, const struct pp__passed *passed, size_t place, bool fresh)
{
    const pp_buffer *buffer = passed->buffer;
    entry->serial = buffer->serial;
    entry->size = buffer->size;
    entry->room = buffer->room;
    entry->at = passed->at;
    entry->each = passed->each;
    entry->place = (uint32_t)place;
    entry->use = (uint8_t)passed->use;
    entry->fresh = fresh;
    entry->shared = buffer->shared;
    entry->reserved = 0;
}

bool pp__known_has(struct pp__known *known, const struct pp__buffers *buffers, struct pp__buffer_record *entries)
{
    for (uint32_t i = 0; i < buffers->count; i++) {
        struct pp__known_place *place = find(known, buffers->each[i].buffer->serial);
        if (!place)
            return false;
        place->used = ++known->uses;
        enter(&entries[i], &buffers->each[i], (size_t)(place - known->places), false);
    }
    return true;
}

bool pp__known_words(struct pp__known *known, const struct pp__buffers *buffers, uint64_t *words)
{
    struct pp__known_place *places[PP_MAX_BUFFERS];
    for (uint32_t i = 0; i < buffers->count; i++)
        if (!(places[i] = find(known, buffers->each[i].buffer->serial)))
            return false;
    for (uint32_t i = 0; i < buffers->count; i++) {
        places[i]->used = ++known->uses;
        words[i] = pp__lent_word(places[i]->serial, (uint64_t)(places[i] - known->places));
    }
    return true;
}

/* Those that it knows are used first, so that none of them goes for another one. */
void pp__known_plan(const struct pp__known *known, const struct pp__buffers *buffers, uint64_t id,
                    struct pp__known_plan *plan, struct pp__buffer_record *entries)
{
    const uint64_t begun = known->uses;
    struct pp__known_place *place;
    plan->after = *known;
    plan->dropped = plan->fresh = 0;
    for (uint32_t i = 0; i < buffers->count; i++)
        if ((place = find(&plan->after, buffers->each[i].buffer->serial)))
            place->used = ++plan->after.uses;
    for (uint32_t i = 0; i < buffers->count; i++) {
        const pp_buffer *buffer = buffers->each[i].buffer;
        bool fresh = !(place = find(&plan->after, buffer->serial));
        if (fresh) {
            place = add(plan, buffer, begun);
            place->bringer = id;
        }
        place->used = ++plan->after.uses;
        enter(&entries[i], &buffers->each[i], (size_t)(place - plan->after.places), fresh);
    }
}

/* The worker may have it all the same. */
static void doubt(struct pp__known *known, struct pp__known_place *place)
{
    forget(known, place);
    place->doubtful = true;
}

void pp__known_doubt(struct pp__known *known, const struct pp__buffers *buffers)
{
    for (uint32_t i = 0; i < buffers->count; i++) {
        struct pp__known_place *place = find(known, buffers->each[i].buffer->serial);
        if (place)
            doubt(known, place);
    }
}

void pp__known_doubt_brought(struct pp__known *known, uint64_t id)
{
    for (unsigned i = 0; i < PP__KNOWN; i++) {
        struct pp__known_place *place = &known->places[i];
        if (place->serial != 0 && place->bringer == id)
            doubt(known, place);
    }
}

/* Release: pairs with the load in drop_given_up (receive.c), which needs to see nothing else. */
bool pp__known_tidy(struct pp__known *known, _Atomic uint32_t *forgotten, bool *left)
{
    bool dropped = false;
    for (unsigned i = 0; i < PP__KNOWN; i++) {
        struct pp__known_place *place = &known->places[i];
        if (place->doubtful || (place->serial != 0 && place->used <= known->tidied)) {
            forget(known, place);
            place->doubtful = false;
            pp__store_release(&forgotten[i], place->count);
            dropped = true;
        }
        *left |= place->serial != 0;
    }
    known->tidied = known->uses;
    return dropped;
}
