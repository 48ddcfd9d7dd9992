/* SPDX-License-Identifier: MIT */
/*
 * Waking the owner in the way that it sleeps: never does it sleep for ever on the bells while a worker wakes its futex, nor the
 * other way round.
 *
 *   orders  src/shm/want.h, and the fence in pp__self_ring (src/pool/worker_publish.c)
 *   owner   sleep_for_events, pp__collect_leave, pp__collect (src/pool/collect.c), doze (src/pool/wait.c)
 *   worker  pp__self_ring_if_wanted, pp__self_ring, pp__self_reserve (src/pool/worker_publish.c)
 *
 * A worker publishes a result and asks whether to ring, as in want.pml. Or it has no room for the next one: then it rings
 * whatever is wanted, without having asked, and waits until its results are taken (how it learns that is in ring.pml): for that it has
 * the fence in pp__self_ring. Behind pp__want_unrung, which has fenced and read the same word, it forbids nothing more.
 *
 * A bell is kept until the owner is told of it. By its futex it is woken only by what comes behind its word; what comes before it
 * has fallen asleep there is kept here, as the nap ends by itself then.
 *
 * mutant 1: no fence in the owner (WANT_SLEEPER_FENCE)
 * mutant 2: no fence before the way is read (pp__self_ring)
 * mutant 3: the way is read before that fence
 * mutant 4: a worker rings the bell whatever the way
 * mutant 5: a worker calls whatever the way
 * mutant 6: the way is written behind the owner's fence, the mode before it
 * mutant 7: the owner sleeps in another way without a new word
 */
#define CPUS 2
#define WORDS 2
#include "memory.pml"

#define OWNER 0
#define WORKER 1
#define WANT 0
#define TAIL 1

#define NOTHING 0
#define ATTENTION 1
#define EVERY 2

#define BELL 0
#define CALL 4
#define WAY(word) ((word) & CALL)

#define RESULTS 3
#define NEVER 31

bool bell, called;
byte taken;

inline ring()
{
#if MUTANT == 3
    load(WORKER, WANT, want);
#endif
#if MUTANT != 2
    fence(WORKER);
#endif
#if MUTANT != 3
    load(WORKER, WANT, want);
#endif
    if
#if MUTANT == 4
    :: bell = true
#elif MUTANT == 5
    :: called = true
#else
    :: WAY(want) == BELL -> bell = true
    :: WAY(want) == CALL -> called = true
#endif
    fi
}

inline ring_if_wanted(asked)
{
    fence(WORKER);
    load(WORKER, WANT, want);
    if
    :: want % 4 >= asked && want / 8 != rung -> rung = want / 8; ring()
    :: else
    fi
}

proctype worker()
{
    byte published, want, rung = NEVER;
    do
    :: published == RESULTS -> break
    :: else ->
        published++;
        store(WORKER, TAIL, published, RELEASE);
        if
        :: ring_if_wanted(EVERY);
            if
            :: ring_if_wanted(ATTENTION)
            :: published < RESULTS
            fi
        :: ring(); taken == published
        fi;
        want = 0
    od
}

inline say(mode, way)
{
    store(OWNER, WANT, epoch * 8 + (mode) + (way), RELAXED)
}

inline ask(mode, way)
{
    epoch++;
    assert(epoch < NEVER);
    called = false;
#if MUTANT == 6
    say(mode, last);
    fence(OWNER);
    say(mode, way);
    last = way
#elif MUTANT == 7
    if
    :: epoch == 1 -> say(mode, way); last = way
    :: else -> say(mode, last)
    fi;
    fence(OWNER)
#elif MUTANT == 1
    say(mode, way)
#else
    say(mode, way);
    fence(OWNER)
#endif
}

inline sleep(mode, way, told)
{
    ask(mode, way);
    load(OWNER, TAIL, tail);
    if
    :: tail != taken
    :: tail == taken -> atomic { told -> told = false }
    fi
}

proctype owner()
{
    byte epoch, tail;
#if MUTANT == 6 || MUTANT == 7
    byte last;
#endif
    do
    :: taken == RESULTS -> break
    :: else ->
        if
        :: sleep(EVERY, BELL, bell)
        :: sleep(ATTENTION, BELL, bell)
        :: sleep(ATTENTION, CALL, called)
        fi;
        epoch++;
        say(NOTHING, BELL);
        load(OWNER, TAIL, tail);
        taken = tail
    od
}

init
{
    atomic { run drain(OWNER); run drain(WORKER); run owner(); run worker() }
}
