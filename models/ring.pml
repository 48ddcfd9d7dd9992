/* SPDX-License-Identifier: MIT */
/*
 * The ring (src/shm/ring.c): a reader sees whole records, and a writer does not overwrite what is still read.
 *
 *   writer  pp__ring_reserve, look_at_head, pp__ring_publish
 *   reader  pp__ring_next, look_at_tail, pp__ring_release
 *
 * Records have two words each, and the data has room for two records. Cursors count records.
 *
 * mutant 1: the tail is stored relaxed (RING_PUBLISH_ORDER)
 * mutant 2: the tail is loaded relaxed (RING_TAIL_ORDER)
 * mutant 3: the head is stored relaxed (RING_RELEASE_ORDER)
 * mutant 4: the head is loaded relaxed (RING_HEAD_ORDER)
 */
#define CPUS 2
#define WORDS 6
#include "memory.pml"

#define WRITER 0
#define READER 1
#define TAIL 0
#define HEAD 1
#define DATA(position, word) (2 + (position) % CAPACITY * 2 + word)

#define CAPACITY 2
#define RECORDS 4

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

inline write_record()
{
    store(WRITER, DATA(position, 0), position + 1, RELAXED);
    store(WRITER, DATA(position, 1), position + 1, RELAXED)
}

proctype writer()
{
    byte position, published, head;
    do
    :: position == RECORDS && published == RECORDS -> break
    :: position < RECORDS && position - head < CAPACITY -> write_record(); position++
    :: position < RECORDS && position - head == CAPACITY -> load(WRITER, HEAD, head)
#if MUTANT == 4
    /* The stores come before the load that allows them. */
    :: position < RECORDS && position - head == CAPACITY ->
        write_record();
        position - memory[HEAD] < CAPACITY;
        load(WRITER, HEAD, head);
        position++
#endif
    :: published < position -> published = position; store(WRITER, TAIL, published, PUBLISH)
    od
}

inline look_at_tail()
{
    load(READER, TAIL, tail);
    assert(tail >= position && tail - released <= CAPACITY)
}

inline read_record()
{
    load(READER, DATA(position, 0), first);
    load(READER, DATA(position, 1), second)
}

proctype reader()
{
    byte position, released, tail, first, second;
    do
    :: position == RECORDS && released == RECORDS -> break
    :: position < RECORDS && position == tail -> look_at_tail()
#if MUTANT == 2
    /* The record is read before the load that allows it. */
    :: position < RECORDS && position == tail ->
        read_record();
        look_at_tail();
        if
        :: position < tail -> assert(first == position + 1 && second == position + 1); position++
        :: else
        fi
#endif
    :: position < tail ->
        read_record();
        assert(first == position + 1 && second == position + 1);
        position++
#if MUTANT == 3
    /* The record is read behind the store that gives it back. */
    :: position < tail ->
        released = position + 1;
        store(READER, HEAD, released, GIVE_BACK);
        read_record();
        assert(first == position + 1 && second == position + 1);
        position++
#endif
    :: released < position -> released = position; store(READER, HEAD, released, GIVE_BACK)
    od
}

init
{
    atomic { run drain(WRITER); run drain(READER); run writer(); run reader() }
}
