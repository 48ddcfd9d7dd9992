/* SPDX-License-Identifier: MIT */
/*
 * The open run: results of a chunk's elements are written into a record that is published later, and the owner reads those that are there all
 * the same. Each result is taken once, in order, as it was written, out of the open record or the published one.
 *
 *   orders  src/shm/open.h, src/shm/ring.h
 *   worker  open_run, append (src/pool/worker_chunk.c), pp__self_publish_run (src/pool/worker_publish.c)
 *   owner   pp__collect_worker, has_open, take_open, take_run (src/pool/outcome.c)
 *
 * A run has one or two elements, and the data has room for two records of that size: a place is used again when the owner has
 * given it back. Element i's result is the value i. The cursors count records.
 *
 * mutant 1: `open` is stored relaxed (OPEN_TELL_ORDER)
 * mutant 2: the tail is not looked at again behind `open`
 * mutant 3: the result is read before `open` is loaded (OPEN_LOOK_ORDER)
 * mutant 4: the place of a run that was looked into is given back before that was published
 */
#define CPUS 2
#define WORDS 11
#include "memory.pml"

#define OWNER 0
#define WORKER 1

#define TAIL 0
#define HEAD 1
#define OPEN 2
#define CAPACITY 2
#define PLACE(position) (3 + (position) % CAPACITY * 4)
#define FIRST(position) PLACE(position)
#define COUNT(position) (PLACE(position) + 1)
#define DATA(position, i) (PLACE(position) + 2 + (i))

#define ELEMENTS 5
#define MOST 2

#if MUTANT == 1
#define SAY RELAXED
#else
#define SAY RELEASE
#endif

/* The worker ------------------------------------------------------------------------------------------------------- */

/* It goes on while its stores are on their way, but not without end. */
#define has_store_room (buffer[WORKER].count < DEPTH)

inline put(word, what, order)
{
    atomic { has_store_room -> store(WORKER, word, what, order) }
}

inline open_run()
{
    do
    :: position - head < CAPACITY -> break
    :: position - head == CAPACITY -> load(WORKER, HEAD, head)
    od;
    put(FIRST(position), id, RELAXED);
    count = 0
}

inline append()
{
    put(DATA(position, count), id, RELAXED);
    put(OPEN, id, SAY);
    count++;
    id++
}

inline publish_run()
{
    put(COUNT(position), count, RELAXED);
    position++;
    put(TAIL, position, RELEASE)
}

proctype worker()
{
    byte position, head, id = 1, count;
    do
    :: id > ELEMENTS -> break
    :: else ->
        open_run();
        append();
        if
        :: id <= ELEMENTS -> append()
        :: true
        fi;
        publish_run()
    od
}

/* The owner -------------------------------------------------------------------------------------------------------- */

inline take(at, i)
{
    load(OWNER, DATA(at, i), value);
    assert(value == taken + 1);
    taken++
}

inline take_published()
{
    load(OWNER, FIRST(position), first);
    load(OWNER, COUNT(position), count);
    assert(count >= 1 && count <= MOST && first <= taken + 1);
    assert(taken == (looked_into == 0 -> first - 1 : looked_into));
    do
    :: taken + 1 < first + count -> take(position, taken + 1 - first)
    :: else -> break
    od;
    looked_into = 0;
    position++
}

/* Whether the tail is where it was: the record at `position` is then the one of which `open` tells, if that tells anything new. */
inline look_again()
{
    load(OWNER, TAIL, tail);
#if MUTANT == 2
    tail = position
#endif
}

inline take_open()
{
#if MUTANT == 3
    load(OWNER, DATA(position, 0), value);
#endif
    load(OWNER, OPEN, open);
    if
    :: open > taken ->
        look_again();
        if
        :: tail == position ->
            load(OWNER, FIRST(position), first);
            assert(first >= 1 && first <= taken + 1 && open < first + MOST);
#if MUTANT == 3
            assert(first != taken + 1 || value == first);
#endif
            do
            :: taken < open -> take(position, taken + 1 - first)
            :: else -> break
            od;
            looked_into = open
        :: else
        fi
    :: else
    fi
}

proctype owner()
{
    byte position, released, tail, open, first, count, value, taken, looked_into;
    do
    :: position < tail -> take_published()
    :: position == tail && taken < ELEMENTS -> load(OWNER, TAIL, tail)
    :: position == tail && taken < ELEMENTS -> take_open()
    :: released < position -> released = position; store(OWNER, HEAD, released, RELEASE)
#if MUTANT == 4
    :: released == position && looked_into != 0 -> released = position + 1; store(OWNER, HEAD, released, RELEASE)
#endif
    :: taken == ELEMENTS && position == tail -> break
    od;
    assert(taken == ELEMENTS)
}

init
{
    atomic { run drain(OWNER); run drain(WORKER); run owner(); run worker() }
}
