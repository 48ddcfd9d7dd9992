/* SPDX-License-Identifier: MIT */
/*
 * The slab's list of what was given back: nothing is lost, nobody gets what another one has, what was written before the return
 * is not written later; and a pool whose handle goes is destroyed once, when all has come back.
 *
 *   orders  src/pool/slab.c
 *   givers  destroy (src/pool/future.c), pp__slab_give
 *   taker   pp__future_create (src/pool/future.c), pp__slab_take, take_returned
 *   closer  pp_pool_destroy, release, drop_handle (src/pool/pool.c), pp__slab_close, pp__slab_count
 *
 * The givers give back without the lock, the taker with it or without; take and close are under it. Each object keeps
 * the pool, whether it lies in the slab or not, until the slab is closed: then it lets go of it when it is given back, or the closer
 * does so for all that lay there, which it counts when it holds the lock no more. A take may come behind the close.
 *
 * Of the count of references one step is whole, and waits for what its process has stored: it releases. Who finds, with
 * acquire, that its own reference is the only one does without the step: nobody else is there who could change it. A compare-and-swap that
 * is weak may fail for nothing, which is not modelled: the loop does the same again.
 *
 * mutant 1: the push does not release (pp__slab_give)
 * mutant 2: the list is taken relaxed: the link is read before the head (take_returned)
 * mutant 3: the list is taken with a look and a store
 * mutant 4: a take does not look whether the list is closed
 * mutant 5: a push does not look whether the list is closed
 * mutant 6: the link is not set again when the push has failed
 * mutant 7: a close leaves the list empty, and not closed
 * mutant 8: a close forgets what lies in the taker's own list
 * mutant 9: the push is a look and a store
 * mutant 10: what finds the list closed keeps the pool
 * mutant 11: the link is set behind the push
 * mutant 12: an object is written to behind the push
 */
#define CPUS 3
#define WORDS 7
#include "memory.pml"

#define GIVER(i) (i) /* 0 and 1, which have the objects 1 and 2 */
#define TAKER 2

#define NONE 0
#define OBJECTS 3
#define CLOSED 9

#define RETURNED 0
#define NEXT(object) (object)
#define CONTENT(object) (3 + (object))

#define TAKES 1

bool locked;
byte own;         /* slab->free, under the lock */
byte objects = 2; /* that were ever handed out, under the lock */

byte references = 4; /* of the pool: its handle, the taker, two objects */
bool destroyed;

/* What nobody reads but the assertions. */
bool lies[OBJECTS + 1];
byte last[OBJECTS + 1]; /* who wrote there last */

inline lock()
{
    atomic { !locked -> locked = true }
}

inline unlock(cpu)
{
    atomic { fence(cpu) -> locked = false }
}

inline let_go(many)
{
    d_step {
        assert(!destroyed && references >= (many));
        references = references - (many);
        destroyed = references == 0
    }
}

inline drop(cpu)
{
    atomic { fence(cpu) -> let_go(1) }
}

/* An object ------------------------------------------------------------------------------------------------------- */

inline write(cpu, object)
{
    atomic {
        assert(!lies[object]);
        last[object] = cpu + 1;
        store(cpu, CONTENT(object), cpu + 1, RELAXED)
    }
}

/* That it is what the last one has written. */
inline read(cpu, object)
{
    load(cpu, CONTENT(object), value);
    assert(value == last[object]);
    value = 0
}

inline push(cpu, object)
{
#if MUTANT == 1
    relaxed_cas(cpu, RETURNED, head, object, won)
#elif MUTANT == 9
    load(cpu, RETURNED, value);
    if
    :: value == head -> store(cpu, RETURNED, object, RELEASE); won = true
    :: else
    fi;
    value = 0
#else
    cas(cpu, RETURNED, head, object, won)
#endif
}

#if MUTANT == 5
#define is_closed false
#else
#define is_closed (head == CLOSED)
#endif

inline give(cpu, object)
{
    assert(!destroyed && !lies[object]);
    won = false;
    load(cpu, RETURNED, head);
#if MUTANT == 6
    store(cpu, NEXT(object), head, RELAXED);
#endif
    do
    :: won || is_closed -> break
    :: !won && !is_closed ->
#if MUTANT != 6 && MUTANT != 11
        store(cpu, NEXT(object), head, RELAXED);
#endif
        lies[object] = true;
        push(cpu, object);
        if
        :: won
        :: !won -> load(cpu, RETURNED, head); lies[object] = false
        fi
    od;
#if MUTANT == 11
    if
    :: won -> store(cpu, NEXT(object), head, RELAXED)
    :: else
    fi;
#endif
#if MUTANT == 12
    if
    :: won -> store(cpu, CONTENT(object), cpu + 1, RELAXED)
    :: else
    fi;
#endif
    if
#if MUTANT != 10
    :: !won -> drop(cpu)
#endif
    :: else
    fi;
    head = 0;
    won = false
}

proctype giver(byte me)
{
    byte head, value;
    bool won;
    write(me, me + 1);
    give(me, me + 1)
}

/* The list -------------------------------------------------------------------------------------------------------- */

/* Nobody who does this has a store to the word on its way. */
inline exchange(what, result)
{
#if MUTANT == 3
    result = memory[RETURNED];
    memory[RETURNED] = what
#else
    atomic { result = memory[RETURNED]; memory[RETURNED] = what }
#endif
}

inline take_returned(what, result)
{
    if
#if MUTANT != 4
    :: memory[RETURNED] == CLOSED /* for good */
#endif
    :: memory[RETURNED] != CLOSED || MUTANT == 4 -> exchange(what, result)
    fi
}

proctype taker()
{
    byte takes, object, head, value;
    bool won;
    do
    :: takes == TAKES -> break
    :: else ->
        takes++;
        lock();
#if MUTANT == 2
        /* The link comes before the head that leads to it: the language allows it, though no processor that we know does it. */
        load(TAKER, NEXT(1), value);
#endif
        if
        :: own == NONE -> take_returned(NONE, own)
        :: else
        fi;
        assert(own <= OBJECTS);
        object = own;
        if
        :: object != NONE ->
#if MUTANT == 2
            if
            :: object == 1 -> own = value
            :: else -> load(TAKER, NEXT(object), own)
            fi;
            value = 0;
#else
            load(TAKER, NEXT(object), own);
#endif
            assert(lies[object] && own <= OBJECTS);
            lies[object] = false;
            read(TAKER, object)
        :: object == NONE && objects < OBJECTS ->
            objects++;
            object = objects;
            references++
        :: object == NONE && objects == OBJECTS
        fi;
        if
        :: object != NONE ->
            write(TAKER, object);
            if
            :: unlock(TAKER); read(TAKER, object); give(TAKER, object)
            :: give(TAKER, object); unlock(TAKER)
            fi
        :: else -> unlock(TAKER)
        fi;
        object = 0
    od;
    drop(TAKER)
}

inline walk(list)
{
    do
    :: list == NONE -> break
    :: else ->
        assert(list <= OBJECTS && lies[list] && !destroyed);
        lies[list] = false;
        rest++;
        list = memory[NEXT(list)]
    od
}

proctype closer()
{
    byte first, second, rest;
    lock();
#if MUTANT != 8
    first = own;
#endif
    own = NONE;
#if MUTANT == 7
    take_returned(NONE, second);
#else
    take_returned(CLOSED, second);
#endif
    locked = false;
    walk(first);
    walk(second);
    let_go(1 + rest)
}

proctype monitor()
{
    destroyed
}

init
{
    atomic {
        run drain(GIVER(0));
        run drain(GIVER(1));
        run drain(TAKER);
        run giver(GIVER(0));
        run giver(GIVER(1));
        run taker();
        run closer();
        run monitor()
    }
}
