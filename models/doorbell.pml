/* SPDX-License-Identifier: MIT */
/*
 * Waking a worker: never does it sleep for ever while there is a record in its call ring.
 *
 *   orders  src/shm/doorbell.h
 *   worker  serve (src/pool/worker.c), pp__self_wait (src/pool/worker_publish.c), pp__futex_wait (src/base/futex.c)
 *   owner   pp__ring_publish (src/shm/ring.c), pp__worker_wake, pp__worker_sleeps, wake_sleeper (src/pool/send.c)
 *
 * That the worker waits for room in its result ring is the same: the owner releases a head instead of publishing a
 * tail. A worker that looks at the ring for a while before it says that it sleeps does what the loop here does anyway.
 *
 * The mark of a sleep is the bell's value on which the worker sleeps, so the owner can tell a mark for which it has rung: it
 * does not ring again for that. The bell is a plain store; the kernel's wake begins with a full barrier.
 *
 * The kernel compares and falls asleep in one step. A sleep may end for no reason, here once: such a reason must
 * not be what saves the worker.
 *
 * mutant 1: no fence in the worker (DOORBELL_SLEEPER_FENCE)
 * mutant 2: no fence in the owner (DOORBELL_RINGER_FENCE)
 * mutant 3: the owner clears the mark of the sleeper that it wakes
 * mutant 4: the worker reads the bell behind its look at the ring
 * mutant 5: all sleeps have the same mark, and the owner rings again only after it saw it cleared
 * mutant 6: the owner wakes first and then stores the bell
 */
#define CPUS 2
#define WORDS 3
#include "memory.pml"

#define OWNER 0
#define WORKER 1
#define TAIL 0
#define SLEEPING 1
#define BELL 2

#define RECORDS 4

#if MUTANT == 4 || MUTANT == 5
#define MARK 1
#else
#define MARK seen
#endif
#if MUTANT == 4
#define sleeps (mark != 0)
#elif MUTANT == 5
#define sleeps (mark != 0 && !rung_already)
#else
#define sleeps (mark != 0 && mark != rung_before)
#endif

bool asleep, roused;

inline futex_wait()
{
    if
    :: atomic { memory[BELL] == seen -> asleep = true };
        if
        :: !asleep
        :: atomic { asleep && !roused -> roused = true; asleep = false }
        fi
    :: memory[BELL] != seen
    fi
}

inline wait_for_owner()
{
#if MUTANT != 4
    load(WORKER, BELL, seen);
#endif
    store(WORKER, SLEEPING, MARK, RELAXED);
#if MUTANT != 1
    fence(WORKER);
#endif
    load(WORKER, TAIL, tail);
#if MUTANT == 4
    load(WORKER, BELL, seen);
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

inline futex_wake()
{
    fence(OWNER) -> asleep = false
}

inline wake()
{
    rung_before = rung;
    rung++;
#if MUTANT == 6
    futex_wake();
    store(OWNER, BELL, rung, RELAXED)
#else
    store(OWNER, BELL, rung, RELAXED);
    futex_wake()
#endif
}

proctype owner()
{
    byte published, mark, rung = 1, rung_before;
#if MUTANT == 5
    bool rung_already;
#endif
    do
    :: published == RECORDS -> break
    :: else ->
        published++;
        store(OWNER, TAIL, published, RELEASE);
#if MUTANT != 2
        fence(OWNER);
#endif
        load(OWNER, SLEEPING, mark);
#if MUTANT == 5
        rung_already = rung_already && mark != 0;
#endif
        if
        :: sleeps ->
            wake();
#if MUTANT == 5
            rung_already = true;
#endif
#if MUTANT == 3
            store(OWNER, SLEEPING, 0, RELAXED)
#endif
        :: else
        fi
    od
}

init
{
    atomic {
        memory[BELL] = 1;
        run drain(OWNER);
        run drain(WORKER);
        run owner();
        run worker()
    }
}
