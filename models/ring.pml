/* SPDX-License-Identifier: MIT */
/*
 * The ring (src/shm/ring.c): a reader sees whole records, those that were published and no others, and a writer does not
 * overwrite what is still read.
 *
 *   writer  pp__ring_reserve, look_at_head, pp__ring_publish
 *   reader  pp__ring_next, pp__ring_release
 *
 * A record is its mark, which says how many words it has, and perhaps a word of payload; records lie one right behind the
 * other, so where a mark is looked for a payload may have lain. A payload is never 0, and no mark.
 *
 * mutant 1: the first mark is stored relaxed (RING_PUBLISH_ORDER)
 * mutant 2: the mark is loaded relaxed (RING_MARK_ORDER)
 * mutant 3: the head is stored relaxed (RING_RELEASE_ORDER)
 * mutant 4: the head is loaded relaxed (RING_HEAD_ORDER)
 * mutant 5: the mark behind the last record is not cleared
 * mutant 6: there need be no room for that
 * mutant 7: of records that are published together the first is marked when it is reserved
 * mutant 8: marks are cleared ahead where the reader has not given back
 */
#define CPUS 2
#define WORDS 5
#include "memory.pml"

#define WRITER 0
#define READER 1
#define HEAD 0
#define DATA(position) (1 + (position) % CAPACITY)

#define CAPACITY 4
#define RECORDS 5
#define PAYLOAD(id) (10 + (id))

#if MUTANT == 1
#define PUBLISH RELAXED
#else
#define PUBLISH RELEASE
#endif
#if MUTANT == 3
#define GIVE_BACK RELAXED
#else
#define GIVE_BACK RELEASE
#endif
#if MUTANT == 6
#define SPARE 0
#else
#define SPARE 1
#endif

/* What nobody reads but the assertions. */
byte size_of[RECORDS + 1];
byte published_id; /* up to which records are published */

/* The writer goes on while its stores are on their way, but not without end. */
#define has_store_room (buffer[WRITER].count < DEPTH)

inline put(at, what, order)
{
    atomic { has_store_room -> store(WRITER, at, what, order) }
}

#define fits(head) (position + size + SPARE - (head) <= CAPACITY)

inline write_record()
{
    if
    :: size == 2 -> put(DATA(position + 1), PAYLOAD(id), RELAXED)
    :: else
    fi;
    if
    :: position != published || MUTANT == 7 -> put(DATA(position), size, RELAXED)
    :: else
    fi
}

inline reserve()
{
    atomic {
        if
        :: position == published -> first = size
        :: else
        fi;
        size_of[id] = size;
        position = position + size;
        id++;
        size = 0
    }
}

/* Of some marks at once, as far as there is room. */
inline clear()
{
    put(DATA(position), 0, RELAXED);
    cleared = position + 1;
    if
    :: cleared - head < CAPACITY || MUTANT == 8 ->
        put(DATA(cleared), 0, RELAXED);
        cleared++
    :: else
    fi
}

inline publish()
{
#if MUTANT != 5
    if
    :: cleared <= position -> clear()
    :: else
    fi;
#endif
    published_id = id - 1;
    put(DATA(published), first, PUBLISH);
    published = position
}

proctype writer()
{
    byte position, published, cleared = 1, head, id = 1, size, first;
    do
    :: id > RECORDS && published == position -> break
    :: id <= RECORDS && size == 0 -> size = 1
    :: id <= RECORDS && size == 0 -> size = 2
    :: size > 0 && fits(head) -> write_record(); reserve()
    :: size > 0 && !fits(head) && head != memory[HEAD] -> load(WRITER, HEAD, head)
#if MUTANT == 4
    /* The stores come before the load that allows them. */
    :: size > 0 && !fits(head) ->
        write_record();
        fits(memory[HEAD]);
        load(WRITER, HEAD, head);
        reserve()
#endif
    :: published < position -> publish()
    od
}

inline read_payload()
{
    if
    :: mark == 2 -> load(READER, DATA(position + 1), payload)
    :: else
    fi
}

inline check()
{
    assert(mark == size_of[id] && (mark == 1 || payload == PAYLOAD(id)))
}

inline step()
{
    atomic { position = position + mark; id++; payload = 0; mark = 0 }
}

proctype reader()
{
    byte position, released, id = 1, mark, payload;
    do
    :: id > RECORDS && released == position -> break
    :: memory[DATA(position)] != 0 ->
        load(READER, DATA(position), mark);
        assert(id <= published_id);
        read_payload();
        check();
        step()
#if MUTANT == 2
    /* The payload is read before the load that allows it. */
    :: id <= RECORDS && memory[DATA(position)] == 0 ->
        load(READER, DATA(position + 1), payload);
        memory[DATA(position)] != 0;
        load(READER, DATA(position), mark);
        check();
        step()
#endif
#if MUTANT == 3
    /* The payload is read behind the store that gives it back. */
    :: memory[DATA(position)] != 0 ->
        load(READER, DATA(position), mark);
        released = position + mark;
        store(READER, HEAD, released, GIVE_BACK);
        read_payload();
        check();
        step()
#endif
    :: released < position -> released = position; store(READER, HEAD, released, GIVE_BACK)
    od
}

init
{
    atomic { run drain(WRITER); run drain(READER); run writer(); run reader() }
}
