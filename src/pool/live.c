/* SPDX-License-Identifier: MIT */
#include "pool/live.h"

#include "base/atomic.h"
#include "base/error.h"
#include "base/seam.h"
#include "pool/exit_start.h"
#include "process/owner.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>

/* The handler is registered again with so many objects, so that it runs before what the program registered between
 * them. */
#define REGISTRATIONS 32

/* Of one owner. */
struct pp__live_list {
    uint32_t owner;
    struct pp__live_list *inherited; /* of who forked this process; never freed, for another thread may look at it */
    pthread_mutex_t lock;
    struct pp__link objects;
    int registrations;
    bool exiting, ending;
    unsigned round; /* of looks at all of them */
};

static bool is_ours(const struct pp__live_list *list)
{
    return list && list->owner == pp__owner_token();
}

/* That of this process, or NULL. */
static struct pp__live_list *find(struct pp__live *live)
{
    struct pp__live_list *have = pp__load_acquire(&live->list); /* pairs with the exchange in find_or_make */
    return is_ours(have) ? have : NULL;
}

/* What is replaced is what was looked at: never another thread's list of this process, with objects in it. */
static struct pp__live_list *find_or_make(struct pp__live *live)
{
    struct pp__live_list *before = pp__load_acquire(&live->list), *made; /* pairs with the exchange below */
    if (is_ours(before))
        return before;
    made = PP_SYS(calloc)(1, sizeof *made);
    if (!made)
        return NULL;
    made->owner = pp__owner_token();
    made->inherited = before;
    pthread_mutex_init(&made->lock, NULL);
    pp__list_init(&made->objects);
    /* Pairs with the load in find, and with itself in another thread. */
    if (atomic_compare_exchange_strong_explicit(&live->list, &before, made, memory_order_acq_rel, memory_order_acquire))
        return made;
    pthread_mutex_destroy(&made->lock);
    free(made);
    return before; /* of another thread, which was first */
}

/* Under the list's lock. The first registration is needed, others are only better. */
static int prepare(const struct pp__live *live, struct pp__live_list *list)
{
    if (list->exiting)
        return pp__fail(-ESHUTDOWN, "the program exits");
    if (list->registrations == REGISTRATIONS)
        return 0;
    if (PP_SYS(atexit)(live->at_exit) == 0)
        list->registrations++;
    return list->registrations > 0 ? 0 : pp__fail(-ENOMEM, "no memory for a handler of the program's exit");
}

int pp__live_prepare(struct pp__live *live)
{
    struct pp__live_list *list = find_or_make(live);
    if (!list)
        return pp__fail(-ENOMEM, "no memory for a list of %s", live->name);
    pp__exit_watch();
    pthread_mutex_lock(&list->lock);
    int error = prepare(live, list);
    pthread_mutex_unlock(&list->lock);
    return error;
}

bool pp__live_enter(struct pp__live *live, struct pp__link *link)
{
    struct pp__live_list *list = find(live);
    pthread_mutex_lock(&list->lock);
    pp__list_insert(&list->objects, link);
    bool exiting = list->exiting;
    pthread_mutex_unlock(&list->lock);
    return !exiting;
}

void pp__live_leave(struct pp__live *live, struct pp__link *link)
{
    struct pp__live_list *list = find(live);
    if (!list)
        return;
    pthread_mutex_lock(&list->lock);
    if (link->next) /* else it was never made whole */
        pp__list_remove(link);
    pthread_mutex_unlock(&list->lock);
}

static bool is_first(struct pp__live_list *list, bool *done)
{
    pthread_mutex_lock(&list->lock);
    bool first = !*done;
    *done = true;
    pthread_mutex_unlock(&list->lock);
    return first;
}

bool pp__live_begin_exit(struct pp__live *live)
{
    struct pp__live_list *list = find_or_make(live);
    return list && is_first(list, &list->exiting);
}

bool pp__live_begin_end(struct pp__live *live)
{
    struct pp__live_list *list = find(live);
    return list && is_first(list, &list->ending);
}

unsigned pp__live_begin_round(struct pp__live *live)
{
    struct pp__live_list *list = find(live);
    pthread_mutex_lock(&list->lock);
    unsigned round = ++list->round;
    pthread_mutex_unlock(&list->lock);
    return round;
}

struct pp__link *pp__live_next(struct pp__live *live, unsigned round)
{
    struct pp__live_list *list = find(live);
    struct pp__link *link;
    pthread_mutex_lock(&list->lock);
    for (link = list->objects.next; link != &list->objects; link = link->next)
        if (live->take(link, round))
            break;
    pthread_mutex_unlock(&list->lock);
    return link != &list->objects ? link : NULL;
}
