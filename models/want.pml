/* SPDX-License-Identifier: MIT */
/*
 * Waking the owner: never does it sleep for ever while a result is there that it sleeps for.
 *
 *   orders  src/shm/want.h
 *   owner   sleep_for_events, ask, pp__collect (src/pool/collect.c)
 *   worker  pp__run_call (src/pool/worker_run.c), serve (src/pool/worker.c), pp__self_ring_if_wanted (src/pool/worker_publish.c)
 *
 * A worker publishes, and asks whether to ring, for each result; and when it has run dry, which it does at any time, and
 * has done in the end. The bells are eventfds that are told by edges: the kernel orders them, so they have no buffer, and
 * what was told is gone. That the owner looks at
 * the rings for a while before it stores `want` is what its loop here does anyway. EVERY stands for results of all ids; of
 * sleeps that ask for some is claim.pml.
 *
 * mutant 1: no fence in the owner (WANT_SLEEPER_FENCE)
 * mutant 2: no fence in the workers (WANT_RINGER_FENCE)
 * mutant 3: a sleep has the epoch of the one before
 * mutant 4: a worker takes a sleep for rung that did not ask for its ring
 */
#define CPUS 3
#define WORDS 3
#include "memory.pml"

#define OWNER 0
#define WANT 0
#define TAIL(worker) (worker) /* of the workers 1 and 2 */

#define NOTHING 0
#define ATTENTION 1
#define EVERY 2

#define RESULTS(worker) (3 - (worker))
#define NEVER 63

bool bell[CPUS];

inline ring_if_wanted(asked)
{
#if MUTANT != 2
    fence(me);
#endif
    load(me, WANT, want);
    if
#if MUTANT == 4
    :: want / 4 != rung -> rung = want / 4; if :: want % 4 >= asked -> bell[me] = true :: else fi
#else
    :: want % 4 >= asked && want / 4 != rung -> rung = want / 4; bell[me] = true
#endif
    :: else
    fi;
    want = 0
}

proctype worker(byte me)
{
    byte published, want, rung = NEVER;
    do
    :: published == RESULTS(me) -> break
    :: else ->
        published++;
        store(me, TAIL(me), published, RELEASE);
        ring_if_wanted(EVERY);
        if
        :: ring_if_wanted(ATTENTION)
        :: published < RESULTS(me)
        fi
    od
}

inline ask(mode)
{
#if MUTANT != 3
    epoch++;
#endif
    assert(epoch < NEVER);
    store(OWNER, WANT, epoch * 4 + mode, RELAXED)
}

inline look()
{
    load(OWNER, TAIL(1), tail[1]);
    load(OWNER, TAIL(2), tail[2])
}

#define waiting (tail[1] != taken[1] || tail[2] != taken[2])

inline collect()
{
    look();
    d_step { taken[1] = tail[1]; taken[2] = tail[2] }
}

inline sleep_for_events()
{
    if
    :: ask(EVERY)
    :: ask(ATTENTION)
    fi;
#if MUTANT != 1
    fence(OWNER);
#endif
    look();
    if
    :: waiting -> ask(NOTHING)
    :: else ->
        atomic { bell[1] || bell[2] -> bell[1] = false; bell[2] = false };
        ask(NOTHING)
    fi
}

proctype owner()
{
    byte epoch, tail[CPUS], taken[CPUS];
    do
    :: taken[1] == RESULTS(1) && taken[2] == RESULTS(2) -> break
    :: else -> sleep_for_events(); collect()
    od
}

init
{
    atomic { run drain(OWNER); run drain(1); run drain(2); run owner(); run worker(1); run worker(2) }
}
