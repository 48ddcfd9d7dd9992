/* SPDX-License-Identifier: MIT */
/*
 * Waking a worker: never does it sleep for ever while there is a record in its call ring.
 *
 *   worker  serve, wait_for_owner (src/pool/worker.c), pp__futex_wait (src/base/futex.c)
 *   owner   pp__ring_publish (src/shm/ring.c), pp__worker_wake, wake (src/pool/workers.c)
 *
 * That the worker waits for room in its result ring is the same: the owner releases a head instead of publishing a
 * tail. A worker that looks at the ring for a while before it says that it sleeps does what the loop here does anyway.
 *
 * The kernel compares and falls asleep in one step. A sleep may end for no reason, here once: such a reason must
 * not be what saves the worker.
 *
 * mutant 1: no fence in the worker
 * mutant 2: no fence in the owner
 * mutant 3: the owner clears the mark of the sleeper that it wakes
 * mutant 4: the worker reads the bell behind its look at the ring
 */
#define CPUS 2
#define WORDS 2
#include "memory.pml"

#define OWNER 0
#define WORKER 1
#define TAIL 0
#define SLEEPING 1

#define RECORDS 4

byte bell; /* changed by read-modify-write only, so without a buffer */
bool asleep, roused;

inline futex_wait()
{
    if
    :: atomic { bell == seen -> asleep = true };
        if
        :: !asleep
        :: atomic { asleep && !roused -> roused = true; asleep = false }
        fi
    :: bell != seen
    fi
}

inline wait_for_owner()
{
#if MUTANT != 4
    seen = bell;
#endif
    store(WORKER, SLEEPING, 1, RELAXED);
#if MUTANT != 1
    fence(WORKER);
#endif
    load(WORKER, TAIL, tail);
#if MUTANT == 4
    seen = bell;
#endif
    if
    :: tail == position -> futex_wait()
    :: else
    fi;
    store(WORKER, SLEEPING, 0, RELAXED)
}

proctype worker()
{
    byte position, tail, seen;
    do
    :: position == RECORDS -> break
    :: position < tail -> position++
    :: position < RECORDS && position == tail ->
        load(WORKER, TAIL, tail);
        if
        :: position == tail -> wait_for_owner()
        :: else
        fi
    od
}

inline wake()
{
    fence(OWNER) -> bell++;
    asleep = false
}

proctype owner()
{
    byte published, sleeping;
    do
    :: published == RECORDS -> break
    :: else ->
        published++;
        store(OWNER, TAIL, published, RELEASE);
#if MUTANT != 2
        fence(OWNER);
#endif
        load(OWNER, SLEEPING, sleeping);
        if
        :: sleeping ->
            wake();
#if MUTANT == 3
            store(OWNER, SLEEPING, 0, RELAXED)
#endif
        :: else
        fi
    od
}

init
{
    atomic { run drain(OWNER); run drain(WORKER); run owner(); run worker() }
}
