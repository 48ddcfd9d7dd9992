/* SPDX-License-Identifier: MIT */
#include "pool/argument.h"

#include "base/atomic.h"
#include "base/error.h"
#include "base/fd.h"
#include "pool/dispatch.h"
#include "pool/known.h"
#include "pool/send.h"
#include "pool/wish.h"
#include "pool/workers.h"
#include "shm/buffer.h"
#include "shm/segment.h"

#include <errno.h>
#include <string.h>

/* -------------------------------------------------------------------------------------------- loans */

/* Too large to be copied under the lock when its home is busy after all. */
static bool is_very_large(uint64_t size)
{
    return size > PP__SHELF_LEAST;
}

/* A pool that takes no calls any more lends nothing, and when it has ended its page is gone. */
static bool borrow(pp_pool *pool, uint64_t size, struct pp__loan *loan)
{
    if (pool->shut || pool->broken)
        return false;
    struct pp__worker *worker = pp__dispatch_idle(pool);
    pp__shelf_widen(&pool->page->shelf_most, size, pool->max_workers);
    if (worker && is_very_large(size) && pp__shelf_is_used(&worker->arguments))
        return false; /* that one may get another call first */
    int place = worker ? pp__shelf_reserve(&worker->arguments, PP__ELEMENTS_AT + size) : -1;
    if (place < 0)
        return false;
    struct pp__place *p = &worker->arguments.places[place];
    p->state = PP__PLACE_OUT;
    *loan = (struct pp__loan){.worker = worker->serial,
                              .place = place,
                              .memory = p->memory,
                              .room = p->room,
                              .fd = p->fd,
                              .ahead = worker->spins && pp__load_relaxed(&pool->page->spin) ? pool->wake_cost : 0};
    return true;
}

bool pp__loan_open(pp_pool *pool, uint64_t size, struct pp__loan *loan)
{
    pp__pool_lock(pool);
    bool lent = !pool->is_inline && borrow(pool, size, loan);
    pp__pool_unlock(pool);
    if (!lent || loan->memory)
        return lent;
    loan->fd = pp__buffer_create(loan->room, &loan->memory);
    if (loan->fd >= 0)
        return true;
    pp__pool_lock(pool);
    pp__loan_close(pool, loan);
    pp__pool_unlock(pool);
    return false;
}

void *pp__loan_elements(const struct pp__loan *loan)
{
    return (char *)loan->memory + PP__ELEMENTS_AT;
}

/* Not where it has slept on this thread's processor: it would get that only when this thread sleeps, behind the submit.
 */
void pp__loan_announce(pp_pool *pool, const struct pp__loan *loan)
{
    pp__pool_lock(pool);
    struct pp__worker *worker = pp__worker_by_serial(pool, loan->worker);
    if (worker && worker->idle && !pp__worker_slept_here(worker))
        pp__worker_wake(worker);
    pp__pool_unlock(pool);
}

bool pp__loan_stands(pp_pool *pool, const struct pp__loan *loan)
{
    const struct pp__worker *worker = pp__worker_by_serial(pool, loan->worker);
    return worker && (worker->idle || !is_very_large(loan->room));
}

/* Back on the shelf, with its memory. */
static struct pp__place *put_back(struct pp__worker *worker, const struct pp__loan *loan)
{
    struct pp__place *place = &worker->arguments.places[loan->place];
    place->memory = loan->memory;
    place->fd = loan->fd;
    place->state = PP__PLACE_TAKEN;
    return place;
}

void pp__loan_turn_over(pp_pool *pool, const struct pp__loan *loan, struct pp__item *item, uint64_t size)
{
    struct pp__worker *worker = pp__worker_by_serial(pool, loan->worker);
    put_back(worker, loan)->item = item;
    item->x =
        (struct pp__arguments){.elements = pp__loan_elements(loan), .size = size, .home = worker, .fd = -1, .count = 1};
    item->place = (loan->place + 1) & PP__PLACE_MASK;
}

/* The shelf of a worker that is gone has left the memory to us. */
void pp__loan_close(pp_pool *pool, const struct pp__loan *loan)
{
    struct pp__worker *worker = pp__worker_by_serial(pool, loan->worker);
    if (worker) {
        bool made = put_back(worker, loan)->memory != NULL;
        if (made)
            pp__shelf_give(&worker->arguments, loan->place);
        else
            pp__shelf_discard(&worker->arguments, loan->place);
        return;
    }
    pp__buffer_unmap(loan->memory, loan->room, 0);
    pp__fd_close(loan->fd);
}

/* --------------------------------------------------------------------------------------- from the home */

void pp__argument_leave(struct pp__item *item)
{
    pp__shelf_give(&item->x.home->arguments, item->place - 1);
    item->x.home = NULL;
    item->place = 0;
    item->x.elements = NULL;
}

/* Into a memfd of its own. Without one it has nothing left, and fails when it is to be sent. */
static int move_out(struct pp__item *item)
{
    void *memory;
    int fd = pp__payload_create(item->x.size, &memory);
    if (fd >= 0)
        memcpy(memory, item->x.elements, item->x.size);
    pp__argument_leave(item);
    if (fd < 0)
        return fd;
    item->x.fd = fd;
    return pp__payload_seal(fd, memory, item->x.size);
}

void pp__argument_evacuate(struct pp__worker *worker)
{
    for (unsigned i = 0; i < PP__PLACES; i++)
        if (worker->arguments.places[i].item)
            move_out(worker->arguments.places[i].item);
}

/* ------------------------------------------------------------------------------------------- at a worker */

static int copy_in(struct pp__worker *worker, struct pp__item *item)
{
    int place = pp__shelf_take(&worker->arguments, PP__ELEMENTS_AT + item->x.size);
    if (place < 0)
        return 0;
    memcpy((char *)worker->arguments.places[place].memory + PP__ELEMENTS_AT, item->x.elements, item->x.size);
    item->place = (place + 1) & PP__PLACE_MASK;
    return 1;
}

int pp__argument_arrange(struct pp__worker *worker, struct pp__item *item)
{
    struct pp__worker *home = pp__item_home(item);
    if (home && home == worker && !worker->arguments.places[item->place - 1].doubtful)
        return 1;
    int error = home ? move_out(item) : 0;
    if (error)
        return error;
    if (item->x.fd >= 0)
        return 0;
    return item->x.elements ? copy_in(worker, item)
                            : pp__fail(-ENOMEM, "there was no memory for its argument when its worker had ended");
}

void pp__argument_withdraw(struct pp__worker *worker, struct pp__item *item)
{
    if (pp__item_home(item))
        return;
    pp__shelf_give(&worker->arguments, item->place - 1);
    item->place = 0;
}

void pp__argument_doubt_brought(struct pp__worker *worker, const struct pp__item *item)
{
    if (item->place && worker->arguments.places[item->place - 1].bringer == item->id)
        pp__argument_doubt(worker, item);
    struct pp__lent lent;
    if (pp__item_buffers(item, &lent))
        pp__known_doubt_brought(&worker->known, item->id);
}

void pp__argument_doubt(struct pp__worker *worker, const struct pp__item *item)
{
    if (item->place)
        worker->arguments.places[item->place - 1].doubtful = true;
}
