/* SPDX-License-Identifier: MIT */
/*
 * A thread of the owner sleeps for results of calls that were there before, and another one comes that is about to sleep
 * for a younger one: the worker rings for that too, or it has been seen.
 *
 *   orders  src/shm/want.h
 *   owner   sleep_for_events, pp__collect_claim (src/pool/collect.c), step (src/pool/wait.c)
 *   worker  pp__self_ring_if_wanted (src/pool/worker_publish.c)
 *
 * The worker has two results, of the old call and of the young one. All that the owner's threads do is under their lock,
 * but the sleep; what one has written there the other writes over, and not the other way round.
 *
 * mutant 1: no fence behind the raise (WANT_SLEEPER_FENCE)
 * mutant 2: no look behind it
 * mutant 3: no fence in the worker (WANT_RINGER_FENCE)
 * mutant 4: the next sleep forgets for whom it is
 * mutant 5: the word is written ahead of its fence, what is below behind it
 */
#define CPUS 3
#define WORDS 3
#include "memory.pml"

#define SLEEPER 0
#define WORKER 1
#define OTHER 2

#define WANT 0
#define BELOW 1
#define TAIL 2

#define RESULTS 2
#define NEVER 63

bool bell, locked, asleep, claimed;
byte taken, asked;

inline lock()
{
    atomic { !locked -> locked = true }
}

inline unlock(cpu)
{
    atomic { fence(cpu) -> locked = false }
}

inline look(cpu)
{
    load(cpu, TAIL, taken)
}

inline ring_if_wanted(id)
{
#if MUTANT != 3
    fence(WORKER);
#endif
    if
    :: load(WORKER, WANT, want); load(WORKER, BELOW, below)
    :: load(WORKER, BELOW, below); load(WORKER, WANT, want)
    fi;
    if
    :: want % 2 == 1 && id < below && want / 2 != rung -> rung = want / 2; bell = true
    :: else
    fi;
    want = 0;
    below = 0
}

proctype worker()
{
    byte published, want, below, rung = NEVER;
    do
    :: published == RESULTS -> break
    :: else ->
        published++;
        store(WORKER, TAIL, published, RELEASE);
        ring_if_wanted(published - 1)
    od
}

inline ask()
{
    epoch++;
    assert(epoch < NEVER);
    asked = 1;
#if MUTANT != 4
    if :: claimed -> asked = RESULTS :: else fi;
#endif
    store(SLEEPER, WANT, epoch * 2 + 1, RELAXED);
#if MUTANT == 5
    fence(SLEEPER);
    store(SLEEPER, BELOW, asked, RELAXED)
#else
    store(SLEEPER, BELOW, asked, RELAXED);
    fence(SLEEPER)
#endif
}

proctype sleeper()
{
    byte epoch, before;
    do
    :: taken == RESULTS -> break
    :: else ->
        lock();
        before = taken;
        ask();
        look(SLEEPER);
        if
        :: taken != before
        :: else ->
            asleep = true;
            unlock(SLEEPER);
            atomic { bell || taken == RESULTS -> bell = false };
            lock();
            asleep = false;
            look(SLEEPER)
        fi;
        epoch++;
        store(SLEEPER, WANT, epoch * 2, RELAXED);
        unlock(SLEEPER)
    od
}

proctype other()
{
    lock();
    claimed = true;
    if
    :: asleep && asked < RESULTS ->
        store(OTHER, BELOW, RESULTS, RELAXED);
#if MUTANT != 1
        fence(OTHER);
#endif
#if MUTANT != 2
        look(OTHER)
#endif
    :: else
    fi;
    unlock(OTHER);
    taken == RESULTS
}

init
{
    atomic { run drain(SLEEPER); run drain(WORKER); run drain(OTHER); run sleeper(); run worker(); run other() }
}
