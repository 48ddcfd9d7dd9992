/* SPDX-License-Identifier: MIT */
/*
 * Units of which processes hold some. What is free is not counted but follows from who holds how many, so that one
 * store takes a unit or gives it back, and what a dead process held is free as soon as its record is.
 */
#include "base/atomic.h"
#include "base/cancel.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/seam.h"
#include "procpool.h"
#include "sync/gate.h"
#include "sync/object.h"
#include "sync/participant.h"

#include <errno.h>

#define UNITS_MAX 65536
#define FREE_UNIT 0 /* the gate's place of those who wait for one */

/* `units`: written by the maker before anybody else has the descriptor, and by nobody afterwards; the rest inside the
 * gate. */
struct shared_semaphore {
    struct pp__object_head head;
    struct pp__gate gate;
    uint32_t units;
    struct pp__holders holders;
};

struct pp_semaphore {
    struct pp__object object;
    uint32_t units, capacity; /* checked; capacity: of records */
};

static struct shared_semaphore *shared(const pp_semaphore *semaphore)
{
    return semaphore->object.memory;
}

/* Each holder has one unit at least. */
static uint32_t records_for(uint32_t units)
{
    return units < PP__HOLDERS_MAX ? units : PP__HOLDERS_MAX;
}

static size_t segment_size(uint32_t units)
{
    return sizeof(struct shared_semaphore) + records_for(units) * sizeof(struct pp__holder);
}

static void fill_handle(pp_semaphore *semaphore, uint32_t units)
{
    semaphore->units = units;
    semaphore->capacity = records_for(units);
}

int pp_semaphore_create(int units, pp_semaphore **semaphore)
{
    PP__NO_CANCELLATION();
    struct pp__object *object;
    if (!semaphore)
        return pp__fail(-EINVAL, "pp_semaphore_create: no place for the semaphore");
    if (units < 1 || units > UNITS_MAX)
        return pp__fail(-EINVAL, "a semaphore of %d units; it must be 1 to %d", units, UNITS_MAX);
    int error = pp__object_create("procpool-semaphore", PP__KIND_SEMAPHORE, segment_size((uint32_t)units),
                                  sizeof **semaphore, &object);
    if (error)
        return error;
    pp_semaphore *made = (pp_semaphore *)object;
    error = pp__gate_init(&shared(made)->gate);
    if (error) {
        pp__object_unref(object);
        return error;
    }
    shared(made)->units = (uint32_t)units;
    fill_handle(made, (uint32_t)units);
    *semaphore = made;
    return 0;
}

int pp_semaphore_open(int fd, pp_semaphore **semaphore)
{
    PP__NO_CANCELLATION();
    struct pp__object *object;
    if (!semaphore)
        return pp__fail(-EINVAL, "pp_semaphore_open: no place for the semaphore");
    int error = pp__object_open(fd, PP__KIND_SEMAPHORE, segment_size(1), sizeof **semaphore, &object);
    if (error)
        return error;
    uint32_t units = shared((pp_semaphore *)object)->units;
    if (units < 1 || units > UNITS_MAX || segment_size(units) > object->size) {
        pp__object_unref(object);
        return pp__fail(-EINVAL, "descriptor %d is of a semaphore that does not fit its memory", fd);
    }
    fill_handle((pp_semaphore *)object, units);
    *semaphore = (pp_semaphore *)object;
    return 0;
}

int pp_semaphore_fd(const pp_semaphore *semaphore)
{
    return semaphore ? pp__object_fd(&semaphore->object) : pp__fail(-EINVAL, "pp_semaphore_fd: no semaphore");
}

pp_semaphore *pp_semaphore_ref(pp_semaphore *semaphore)
{
    if (semaphore)
        pp__object_ref(&semaphore->object);
    return semaphore;
}

void pp_semaphore_unref(pp_semaphore *semaphore)
{
    PP__NO_CANCELLATION();
    if (semaphore)
        pp__object_unref(&semaphore->object);
}

/* -------------------------------------------------------------------------------------------- units */

struct seeker {
    pp_semaphore *semaphore;
    bool looked;
};

static uint64_t count_free(const pp_semaphore *semaphore)
{
    uint64_t held = pp__holders_sum(&shared(semaphore)->holders, semaphore->capacity);
    return held < semaphore->units ? semaphore->units - held : 0;
}

/* Inside the gate. Takes one if there is one. */
static bool take(void *what)
{
    struct seeker *seeker = what;
    pp_semaphore *semaphore = seeker->semaphore;
    struct pp__holders *holders = &shared(semaphore)->holders;
    bool taken = count_free(semaphore) > 0 && pp__holders_add(holders, semaphore->capacity);
    if (!taken && pp__holders_sweep_at_times(holders, semaphore->capacity, &seeker->looked)) {
        taken = count_free(semaphore) > 0 && pp__holders_add(holders, semaphore->capacity);
        pp__gate_ring(&shared(semaphore)->gate, FREE_UNIT, (int)count_free(semaphore));
    }
    return taken;
}

/* Who can't come in for another reason than time or a signal. */
static int fail(int error)
{
    if (error == -EPROTO)
        return pp__fail(error, "the semaphore's memory was overwritten");
    if (error == -EDEADLK)
        return pp__fail(error, "a signal handler uses the semaphore that its thread was using");
    return pp__fail_errno(-error, "the semaphore");
}

int pp_semaphore_acquire(pp_semaphore *semaphore, int timeout)
{
    PP__NO_CANCELLATION();
    struct seeker seeker = {.semaphore = semaphore};
    if (!semaphore)
        return pp__fail(-EINVAL, "pp_semaphore_acquire: no semaphore");
    int error = pp__gate_enter_when(&shared(semaphore)->gate, FREE_UNIT, pp__deadline(timeout), take, &seeker);
    switch (error) {
    case 0:
        PP_FAULT("sync.semaphore.taken");
        pp__gate_leave(&shared(semaphore)->gate);
        return 0;
    case -ETIMEDOUT:
        return pp__fail(error, "no unit of the semaphore is free, for %d ms now", timeout);
    case -EINTR:
        return pp__fail(error, "waiting for a unit of the semaphore was interrupted by a signal");
    default:
        return fail(error);
    }
}

int pp_semaphore_release(pp_semaphore *semaphore)
{
    PP__NO_CANCELLATION();
    if (!semaphore)
        return pp__fail(-EINVAL, "pp_semaphore_release: no semaphore");
    struct pp__gate *gate = &shared(semaphore)->gate;
    int error = pp__gate_enter(gate, PP__NEVER);
    if (error)
        return fail(error);
    bool removed = pp__holders_remove(&shared(semaphore)->holders, semaphore->capacity);
    PP_FAULT("sync.semaphore.given");
    if (removed)
        pp__gate_ring(gate, FREE_UNIT, 1);
    pp__gate_leave(gate);
    return removed ? 0 : pp__fail(-EPERM, "the calling process holds no unit of the semaphore");
}

int pp_semaphore_value(pp_semaphore *semaphore)
{
    PP__NO_CANCELLATION();
    if (!semaphore)
        return pp__fail(-EINVAL, "pp_semaphore_value: no semaphore");
    struct pp__gate *gate = &shared(semaphore)->gate;
    int error = pp__gate_enter(gate, PP__NEVER);
    if (error)
        return fail(error);
    if (pp__holders_sweep(&shared(semaphore)->holders, semaphore->capacity))
        pp__gate_ring(gate, FREE_UNIT, semaphore->units);
    int value = (int)count_free(semaphore);
    pp__gate_leave(gate);
    return value;
}
