/* SPDX-License-Identifier: MIT */
/*
 * The open run: results of a chunk's elements are written into a record that is published later, and the owner reads those that are there all
 * the same. Each result is taken once, in order, as it was written, out of the open record or the published one.
 *
 *   orders  src/shm/open.h, src/shm/ring.h
 *   worker  open_run, append (src/pool/worker_chunk.c), pp__self_publish_run (src/pool/worker_publish.c)
 *   owner   pp__collect_worker, has_open, take_open, take_run (src/pool/outcome.c)
 *
 * A run has one or two elements, and the data has places for three records of that size, one of which is empty: it is used
 * again when the owner has given it back. Element i's result is the value i. The cursors count records; a mark says that
 * there is one.
 *
 * mutant 1: `open` is stored relaxed (OPEN_TELL_ORDER)
 * mutant 2: the mark is not looked at again behind `open`
 * mutant 3: the result is read before `open` is loaded (OPEN_LOOK_ORDER)
 * mutant 4: the place of a run that was looked into is given back before that was published
 */
#define CPUS 2
#define WORDS 17
#include "memory.pml"

#define OWNER 0
#define WORKER 1

#define HEAD 0
#define OPEN 1
#define CAPACITY 3
#define PLACE(position) (2 + (position) % CAPACITY * 5)
#define MARK(position) PLACE(position)
#define FIRST(position) (PLACE(position) + 1)
#define COUNT(position) (PLACE(position) + 2)
#define DATA(position, i) (PLACE(position) + 3 + (i))

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
    :: position - head < CAPACITY - 1 -> break
    :: position - head == CAPACITY - 1 -> load(WORKER, HEAD, head)
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
    put(MARK(position + 1), 0, RELAXED);
    put(MARK(position), 1, RELEASE);
    position++
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
    position++;
    mark = 0
}

/* Whether there is still no mark: the record at `position` is then the one of which `open` tells, if that tells anything new. */
inline look_again()
{
    load(OWNER, MARK(position), mark);
#if MUTANT == 2
    mark = 0
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
        :: mark == 0 ->
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
    byte position, released, mark, open, first, count, value, taken, looked_into;
    do
    :: mark != 0 -> take_published()
    :: mark == 0 -> load(OWNER, MARK(position), mark)
    :: mark == 0 && taken < ELEMENTS -> take_open()
    :: released < position -> released = position; store(OWNER, HEAD, released, RELEASE)
#if MUTANT == 4
    :: released == position && looked_into != 0 -> released = position + 1; store(OWNER, HEAD, released, RELEASE)
#endif
    :: taken == ELEMENTS && mark == 0 -> break
    od;
    assert(taken == ELEMENTS)
}

init
{
    atomic { run drain(OWNER); run drain(WORKER); run owner(); run worker() }
}
