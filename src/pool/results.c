/* SPDX-License-Identifier: MIT */
#include "pool/results.h"

#include "base/atomic.h"
#include "base/error.h"
#include "base/seam.h"
#include "pool/block.h"
#include "shm/buffer.h"
#include "shm/ring.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

/* Under the lock. Its buffer's memory goes with the place, or with who has it in hand. */
struct pp__results_place {
    struct pp__results *results;
    char *memory; /* NULL: there is none */
    size_t room;
    uint32_t count;  /* results that lay here, as the worker counts them */
    uint32_t tidied; /* what it was when pp__results_tidy was last called */
    bool shown;
};

struct pp__results {
    pthread_mutex_t lock;
    _Atomic uint32_t *returned; /* NULL: the worker is gone */
    unsigned shown;             /* places */
    struct pp__results_place places[PP__PLACES];
};

struct pp__results *pp__results_create(_Atomic uint32_t *returned)
{
    struct pp__results *results = PP_SYS(calloc)(1, sizeof *results);
    if (!results) {
        pp__fail(-ENOMEM, "no memory for a worker");
        return NULL;
    }
    pthread_mutex_init(&results->lock, NULL);
    results->returned = returned;
    for (unsigned i = 0; i < PP__PLACES; i++)
        results->places[i].results = results;
    return results;
}

/* Under the lock, when nobody has it. */
static void forget(struct pp__results_place *place)
{
    pp__buffer_unmap(place->memory, place->room, pp__block_before());
    place->memory = NULL;
    place->room = 0;
}

static void destroy(struct pp__results *results)
{
    pthread_mutex_unlock(&results->lock);
    pthread_mutex_destroy(&results->lock);
    free(results);
}

void pp__results_close(struct pp__results *results)
{
    if (!results)
        return;
    pthread_mutex_lock(&results->lock);
    results->returned = NULL;
    for (unsigned i = 0; i < PP__PLACES; i++)
        if (!results->places[i].shown)
            forget(&results->places[i]);
    if (results->shown == 0)
        destroy(results);
    else
        pthread_mutex_unlock(&results->lock);
}

/* Release: pairs with the load in take_in (shelf.c): the last byte was read before the worker writes the
 * next. */
static void set_returned(struct pp__results_place *place, bool gone)
{
    struct pp__results *results = place->results;
    if (results->returned)
        pp__store_release(&results->returned[place - results->places], place->count << 1 | gone);
}

int pp__results_receive(struct pp__results *results, uint32_t place, int fd, size_t room)
{
    struct pp__results_place *p = &results->places[place];
    void *memory;
    int error = -EPROTO;
    pthread_mutex_lock(&results->lock);
    if (!p->shown)
        error = pp__buffer_map(fd, room, pp__block_before(), &memory);
    if (!error) {
        forget(p);
        p->memory = memory;
        p->room = room;
    }
    pthread_mutex_unlock(&results->lock);
    return error;
}

void pp__results_refuse(struct pp__results *results, uint32_t place)
{
    struct pp__results_place *p = &results->places[place];
    pthread_mutex_lock(&results->lock);
    if (!p->shown) {
        forget(p);
        p->count++;
        set_returned(p, true);
    }
    pthread_mutex_unlock(&results->lock);
}

static int copy(const struct pp__results_place *place, size_t size, void **data)
{
    char *block = pp__block_allocate(size);
    if (!block)
        return pp__fail(-ENOMEM, "no memory for a result of %zu bytes", size);
    pp__shm_copy(block, place->memory, size);
    *data = block;
    return 0;
}

/* What is shown must have its NUL, which the worker has set before it made its mapping read-only. */
static int show(struct pp__results_place *place, size_t size, void **data)
{
    char end;
    pp__shm_copy(&end, place->memory + size, 1);
    if (end != '\0')
        return -EPROTO;
    pp__block_lend(place->memory, place->room, place);
    place->shown = true;
    place->results->shown++;
    *data = place->memory;
    return 0;
}

int pp__results_open(struct pp__results *results, uint32_t place, size_t size, void **data)
{
    struct pp__results_place *p = &results->places[place];
    int error = -EPROTO;
    pthread_mutex_lock(&results->lock);
    if (p->memory && !p->shown && size < p->room) {
        p->count++;
        error = size <= PP__COPIED_MAX ? copy(p, size, data) : show(p, size, data);
        if (!p->shown)
            set_returned(p, false);
    }
    pthread_mutex_unlock(&results->lock);
    return error;
}

/* What the worker would publish next comes behind its next call, and so behind its look at what is said here. */
bool pp__results_tidy(struct pp__results *results, bool *left)
{
    bool dropped = false;
    pthread_mutex_lock(&results->lock);
    for (unsigned i = 0; i < PP__PLACES; i++) {
        struct pp__results_place *place = &results->places[i];
        if (place->memory && !place->shown && place->count == place->tidied) {
            forget(place);
            set_returned(place, true);
            dropped = true;
        }
        place->tidied = place->count;
        *left |= place->memory != NULL;
    }
    pthread_mutex_unlock(&results->lock);
    return dropped;
}

/* The last one of a worker that is gone takes everything with it. */
static void end_show(struct pp__results_place *place)
{
    struct pp__results *results = place->results;
    place->shown = false;
    if (--results->shown == 0 && !results->returned)
        destroy(results);
    else
        pthread_mutex_unlock(&results->lock);
}

void pp__results_give_back(struct pp__results_place *place)
{
    pthread_mutex_lock(&place->results->lock);
    if (place->results->returned)
        set_returned(place, false);
    else
        forget(place);
    end_show(place);
}

int pp__results_part_with(struct pp__results_place *place)
{
    pthread_mutex_lock(&place->results->lock);
    int error = pp__buffer_own(place->memory, place->room, pp__block_before());
    if (error) {
        pthread_mutex_unlock(&place->results->lock);
        return error;
    }
    place->memory = NULL;
    place->room = 0;
    set_returned(place, true);
    end_show(place);
    return 0;
}
