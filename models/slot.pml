/* SPDX-License-Identifier: MIT */
/*
 * Slots: whether an element is begun or taken back, exactly one wins; a worker begins an element, or both of a chunk's together,
 * for the record that it was given for and for no other, and its owner sees whether it has; each record's elements are begun or taken back in the end; results come in the owner's order; a
 * begin time that is read behind a slot that says BEGUN is that begin's or a later one's.
 *
 *   orders  src/shm/slot.h
 *   owner   find_slot, give_slot, pp__worker_send (src/pool/send.c); take, pp__worker_take_back, pp__worker_stop_chunk,
 *           pp__worker_running (src/pool/take_back.c); match, end_elements (src/pool/outcome.c)
 *   worker  serve (src/pool/worker.c), pp__run_call, pp__begin (src/pool/worker_run.[ch])
 *
 * There are two slots and two items, a chunk of the elements 1 and 2 and a call, element 3. The owner sends in any
 * order, as an item that was elsewhere meanwhile comes back behind a younger one. What a record says is whole once it is
 * seen (ring.pml), so records have no buffer here, and the tail is the mark of all that lie before it.
 *
 * mutant 1: a slot that was taken back is given out at once
 * mutant 2: the tail is published relaxed, so the slot may say READY behind it
 * mutant 3: the worker begins with a look and a store
 * mutant 4: the owner takes back with a look and a store
 * mutant 5: the worker's swap does not release (SLOT_BEGIN_ORDER)
 * mutant 6: the worker steps from element to element with a store
 * mutant 7: the slot is loaded relaxed before the begin time (SLOT_LOOK_ORDER)
 * mutant 8: a stop ends a chunk behind the first element that was begun, though the next one was with it
 * mutant 9: a slot that was taken back is not given again when its next record is sent
 * mutant 10: the worker starts a record whatever its slot says
 */
#define CPUS 2
#define WORDS 7
#include "memory.pml"

#define OWNER 0
#define WORKER 1

#define TAIL 0
#define HEAD 1
#define RESULT_TAIL 2
#define SLOT(i) (3 + (i))
#define BEGUN_AT(i) (5 + (i))

#define READY 0
#define BEGUN 1
#define TAKEN 2
#define WORD(id, state) ((id) * 4 + state)

#define ITEMS 2
#define SLOTS 2
#define SENDS 3
#define NOWHERE 255
#define ID(item) (item == 0 -> 1 : 3)
#define COUNT(item) (item == 0 -> 2 : 1)

/* What is written in the rings. Record r is at position r. */
typedef Record {
    byte item;
    byte slot;
    byte first
}
Record record[SENDS];
byte result_id[3]; /* each element runs to its end at most once */
byte result_slot[3];

/* What nobody reads but the assertions. */
byte given[ITEMS] = NOWHERE; /* the record by which the worker has the item; NOWHERE: it has not */
byte limit[ITEMS];           /* the element where a stop ends it */
bool begun[ITEMS];           /* by that record, some of it */
byte stamp[4];               /* an element's begin */
byte clock;

#if MUTANT == 2
#define PUBLISH RELAXED
#else
#define PUBLISH RELEASE
#endif

/* The worker ------------------------------------------------------------------------------------------------------- */

#define may_begin(item, element, position) (given[item] == position && element < limit[item])

#define starts (element == record[position].first)

inline swap_to_begun()
{
#if MUTANT == 3
    won = (memory[SLOT(slot)] == before);
    if
    :: won -> store(WORKER, SLOT(slot), WORD(id, BEGUN), RELEASE)
    :: else
    fi
#elif MUTANT == 5
    won = (memory[SLOT(slot)] == before);
    if
    :: won -> memory[SLOT(slot)] = WORD(id, BEGUN)
    :: else
    fi
#elif MUTANT == 6
    if
    :: starts -> cas(WORKER, SLOT(slot), before, WORD(id, BEGUN), won)
    :: else -> store(WORKER, SLOT(slot), WORD(id, BEGUN), RELEASE); won = true
    fi
#else
    cas(WORKER, SLOT(slot), before, WORD(id, BEGUN), won)
#endif
}

inline begin()
{
    if
    :: id = ID(item) + element
    :: id = ID(item) + COUNT(item) - 1
    fi;
    clock++;
    store(WORKER, BEGUN_AT(slot), clock, RELAXED);
    if
    :: starts -> load(WORKER, SLOT(slot), before)
    :: else -> before = WORD(ID(item) + element - 1, BEGUN)
    fi;
    atomic {
        if
        :: starts && before % 4 == TAKEN && MUTANT != 10 -> won = false
        :: else -> swap_to_begun()
        fi;
        assert(won == may_begin(item, element, position));
        if
        :: won -> begun[item] = true; assert(stamp[id] == 0); stamp[id] = clock; stamp[ID(item) + element] = clock; begun_end = id + 1 - ID(item)
        :: else
        fi
    }
}

proctype worker()
{
    byte position, tail, item, slot, element, begun_end, id, before, results;
    bool won;
end:
    do
    :: position == tail && memory[TAIL] != tail -> load(WORKER, TAIL, tail)
    :: position < tail ->
        d_step {
            item = record[position].item;
            slot = record[position].slot;
            element = record[position].first;
            begun_end = element
        };
        do
        :: element == COUNT(item) -> break
        :: else ->
            if
            :: element == begun_end -> begin()
            :: else
            fi;
            if
            :: won ->
                result_id[results] = ID(item) + element;
                result_slot[results] = slot;
                results++;
                store(WORKER, RESULT_TAIL, results, RELEASE);
                element++
            :: else -> break
            fi
        od;
        position++;
        store(WORKER, HEAD, position, RELEASE)
    od
}

/* The owner -------------------------------------------------------------------------------------------------------- */

/* The private side of items and slots. */
typedef Item {
    bool out;
    byte slot;
    byte next;
    byte end
}
Item items[ITEMS];
byte slot_end[SLOTS];
byte slot_before[SLOTS]; /* what it says until its record is begun, */
byte slot_after[SLOTS];  /* and when all of that was */
bool slot_taken[SLOTS], slot_used[SLOTS];

byte sent, taken_in, head;

#define ended(i) (items[i].next == COUNT(i))
#define next_id(i) (ID(i) + items[i].next)
#if MUTANT == 1
#define free(s) (!slot_used[s])
#else
#define free(s) (!slot_used[s] && (!slot_taken[s] || head >= slot_end[s]))
#endif

/* Whether the slot must say READY: what it says may be of this item, or was never said. */
#define may_mistake(i, s) (slot_after[s] == 0 || slot_after[s] / 4 >= next_id(i))
#if MUTANT == 9
#define must_give(i, s) may_mistake(i, s)
#else
#define must_give(i, s) (slot_taken[s] || may_mistake(i, s))
#endif

inline send(i, s)
{
    slot_before[s] = slot_after[s];
    if
    :: must_give(i, s) ->
        slot_before[s] = WORD(next_id(i), READY);
        store(OWNER, SLOT(s), WORD(next_id(i), READY), RELAXED)
    :: else
    fi;
    atomic {
        record[sent].item = i;
        record[sent].slot = s;
        record[sent].first = items[i].next;
        given[i] = sent;
        begun[i] = false;
        limit[i] = COUNT(i);
        items[i].out = true;
        items[i].slot = s;
        items[i].end = COUNT(i);
        sent++;
        slot_end[s] = sent;
        slot_after[s] = WORD(ID(i) + COUNT(i) - 1, BEGUN);
        slot_taken[s] = false;
        slot_used[s] = true
    }
    store(OWNER, TAIL, sent, PUBLISH)
}

inline detach(i)
{
    items[i].out = false;
    slot_used[items[i].slot] = false;
    given[i] = NOWHERE
}

inline swap_to_taken(i, from, to)
{
#if MUTANT == 4
    !holds(OWNER, SLOT(items[i].slot));
    won = (memory[SLOT(items[i].slot)] == from);
    if
    :: won -> store(OWNER, SLOT(items[i].slot), to, RELEASE)
    :: else
    fi
#else
    relaxed_cas(OWNER, SLOT(items[i].slot), from, to, won)
#endif
}

inline took_back(i)
{
    d_step {
        slot_taken[items[i].slot] = true;
        detach(i)
    }
}

inline take_back(i)
{
    atomic {
        swap_to_taken(i, slot_before[items[i].slot], WORD(next_id(i), TAKEN));
        if
        :: won -> took_back(i)
        :: else
        fi
    }
    if
    :: !won && items[i].next > 0 ->
        atomic {
            swap_to_taken(i, WORD(next_id(i) - 1, BEGUN), WORD(next_id(i) - 1, TAKEN));
            if
            :: won -> took_back(i)
            :: else
            fi
        }
    :: else
    fi;
    won = false
}

/* Behind what was begun: here it can only be the chunk's first, as else nothing is left. */
inline stop_chunk(i)
{
    atomic {
#if MUTANT == 8
        swap_to_taken(i, WORD(ID(i) + 1, BEGUN), WORD(ID(i) + 1, TAKEN));
#else
        swap_to_taken(i, WORD(ID(i), BEGUN), WORD(ID(i), TAKEN));
#endif
        if
        :: won -> slot_taken[items[i].slot] = true; items[i].end = 1; limit[i] = 1
        :: else
        fi;
        won = false
    }
}

/* What is at the front of the owner's list was sent first. */
#define front(i) (items[i].out && (!items[1 - i].out || slot_end[items[i].slot] < slot_end[items[1 - i].slot]))

inline take_result(i)
{
    load(OWNER, SLOT(items[i].slot), said);
    assert(result_slot[taken_in] == items[i].slot && result_id[taken_in] == next_id(i));
    assert(said != slot_before[items[i].slot]);
    d_step {
        said = 0;
        taken_in++;
        items[i].next++;
        if
        :: items[i].next == items[i].end -> detach(i)
        :: else
        fi
    }
}

inline look_at_begin(i)
{
#if MUTANT == 7
    load(OWNER, BEGUN_AT(items[i].slot), at);
    load(OWNER, SLOT(items[i].slot), said);
#else
    load(OWNER, SLOT(items[i].slot), said);
    load(OWNER, BEGUN_AT(items[i].slot), at);
#endif
    assert(said == slot_before[items[i].slot] || begun[i]);
    assert(said % 4 != BEGUN || said / 4 < ID(i) || at >= stamp[said / 4]);
    said = 0;
    at = 0
}

#define results_there (taken_in < memory[RESULT_TAIL])

proctype owner()
{
    byte said, at;
    bool won;
    do
    :: head != memory[HEAD] -> load(OWNER, HEAD, head)
    :: sent < SENDS && !items[0].out && !ended(0) && free(0) -> send(0, 0)
    :: sent < SENDS && !items[0].out && !ended(0) && free(1) -> send(0, 1)
    :: sent < SENDS && !items[1].out && !ended(1) && free(0) -> send(1, 0)
    :: sent < SENDS && !items[1].out && !ended(1) && free(1) -> send(1, 1)
    :: items[0].out -> take_back(0)
    :: items[1].out -> take_back(1)
    :: items[0].out && items[0].next == 0 && items[0].end == 2 -> stop_chunk(0)
    :: items[0].out -> look_at_begin(0)
    :: items[1].out -> look_at_begin(1)
    :: results_there ->
        assert(front(0) || front(1));
        if
        :: front(0) -> take_result(0)
        :: front(1) -> take_result(1)
        fi
    :: !items[0].out && !items[1].out && !results_there -> break
    od;
    /* What has begun and was not stopped has given a result, which was taken in. */
    memory[HEAD] == sent;
    assert(!results_there)
}

init
{
    atomic { run drain(OWNER); run drain(WORKER); run owner(); run worker() }
}
