/* SPDX-License-Identifier: MIT */
/*
 * A result's buffer, used again: the last byte of what lay there was read before the worker writes the next; and where a record
 * says that a result lies in a buffer that the owner knows, the owner has that one.
 *
 *   worker  pp__shelf_reserve, take_in, pp__shelf_put_out (src/pool/shelf.c), send_kept (src/pool/worker_publish.c)
 *   owner   set_returned, pp__results_receive, pp__results_refuse, pp__results_open, pp__results_tidy, pp__results_give_back,
 *           pp__results_part_with (src/pool/results.c), tidy_worker (src/pool/tidy.c)
 *
 * There is one place. What the owner's threads do there is under a lock, so they are one process here. A record is
 * whole once it is seen (ring.pml), so records have no buffer here; a buffer is a byte, which is the number of the result that lies
 * there. While the place is out, a result goes another way.
 *
 * The owner copies a result, or shows it to the program, which gives it back or parts with it: then it stays as it is. It gives
 * up what the worker has free, at any time at which that one has no call.
 *
 * mutant 1: `returned` is stored relaxed: the last byte is read behind it (set_returned)
 * mutant 2: `returned` is loaded relaxed: the next byte is written before it (take_in)
 * mutant 3: the worker does not look of which result `returned` is
 * mutant 4: the worker goes on writing to a buffer that the owner has no more
 * mutant 5: what the program has parted with is given back
 * mutant 6: buffers are given up while the worker has calls
 * mutant 7: what is given up is not told
 * mutant 8: a call is published relaxed, so what was given up before it may be told behind it (RING_PUBLISH_ORDER)
 * mutant 9: a result that was refused is not counted
 */
#define CPUS 2
#define WORDS 7
#include "memory.pml"

#define OWNER 0
#define WORKER 1

#define CALL_TAIL 0
#define RESULT_TAIL 1
#define RETURNED 2
#define BYTE(buffer) (2 + (buffer)) /* 1 and up, one for each result */

#define CALLS 4
#define AHEAD 2
#define NONE 0

#if MUTANT == 1
#define SAY RELAXED
#else
#define SAY RELEASE
#endif
#if MUTANT == 8
#define PUBLISH RELAXED
#else
#define PUBLISH RELEASE
#endif

/* What is written in the result ring: the buffer, NONE for a result that goes another way. */
typedef Record {
    byte in;
    bool fresh
}
Record record[CALLS + 1];

/* The worker ------------------------------------------------------------------------------------------------------- */

#if MUTANT == 3
#define is_of_last(said) true
#else
#define is_of_last(said) ((said) / 2 == count)
#endif
#if MUTANT == 4
#define is_gone(said) false
#else
#define is_gone(said) ((said) % 2 == 1)
#endif

inline take_in()
{
    load(WORKER, RETURNED, said);
    atomic {
        if
        :: has != NONE && is_of_last(said) && is_gone(said) -> has = NONE; out = false
        :: has != NONE && is_of_last(said) && !is_gone(said) -> out = false
        :: else
        fi;
        said = 0
    }
}

/* A new one, where there is none or the one that is there does not fit. */
inline choose()
{
    if
    :: has != NONE
    :: made++; has = made; fresh = true
    fi
}

inline put_out()
{
    d_step {
        record[id].in = has;
        record[id].fresh = fresh;
        fresh = false;
        out = true;
        count++
    }
}

inline run_call()
{
    id++;
    take_in();
    if
    :: !out -> choose(); store(WORKER, BYTE(has), id, RELAXED); put_out()
    :: true
#if MUTANT == 2
    :: out ->
        store(WORKER, BYTE(has), id, RELAXED);
        is_of_last(memory[RETURNED]) && !is_gone(memory[RETURNED]);
        put_out()
#endif
    fi;
    store(WORKER, RESULT_TAIL, id, RELEASE)
}

proctype worker()
{
    byte id, tail, has, made, count, said;
    bool fresh, out;
    do
    :: id == CALLS -> break
    :: id < tail -> run_call()
    :: id == tail && id < CALLS ->
        if
        :: take_in()
        :: true
        fi;
        memory[CALL_TAIL] != tail;
        load(WORKER, CALL_TAIL, tail);
        assert(tail > id)
    od;
    !out || is_of_last(memory[RETURNED])
}

/* The owner -------------------------------------------------------------------------------------------------------- */

inline set_returned(gone)
{
    store(OWNER, RETURNED, count * 2 + gone, SAY)
}

inline read(buffer_id, what)
{
    load(OWNER, BYTE(buffer_id), value);
    assert(value == what);
    value = 0
}

inline open()
{
    assert(has == record[id].in && shown == 0);
    count++;
    if
    :: read(has, id); set_returned(0)
#if MUTANT == 1
    :: set_returned(0); read(has, id)
#endif
    :: shown = id
    fi
}

inline refuse()
{
    has = NONE;
#if MUTANT != 9
    count++;
#endif
    set_returned(1)
}

inline take_result()
{
    id++;
    if
    :: record[id].in == NONE
    :: record[id].in != NONE && record[id].fresh ->
        assert(shown == 0);
        if
        :: has = record[id].in; open()
        :: refuse()
        fi
    :: record[id].in != NONE && !record[id].fresh ->
        if
        :: open()
        :: refuse()
        fi
    fi
}

inline part_with()
{
    parted = has;
    parted_id = shown;
    has = NONE;
    shown = 0;
#if MUTANT == 5
    set_returned(0)
#else
    set_returned(1)
#endif
}

#if MUTANT == 6
#define may_give_up (has != NONE && shown == 0)
#else
#define may_give_up (has != NONE && shown == 0 && id == sent)
#endif

inline give_up()
{
    has = NONE;
#if MUTANT != 7
    set_returned(1)
#endif
}

proctype owner()
{
    byte sent, id, tail, has, count, value;
    byte shown;             /* which result; 0: none */
    byte parted, parted_id; /* the last one */
    do
    :: id == CALLS && shown == 0 -> break
    :: sent < CALLS && sent - id < AHEAD -> sent++; store(OWNER, CALL_TAIL, sent, PUBLISH)
    :: id < tail -> take_result()
    :: id == tail && memory[RESULT_TAIL] != tail -> load(OWNER, RESULT_TAIL, tail); assert(tail > id)
    :: shown != 0 -> read(has, shown); shown = 0; set_returned(0)
    :: shown != 0 -> part_with()
    :: may_give_up -> give_up()
    od;
    if
    :: parted != NONE -> read(parted, parted_id)
    :: else
    fi
}

init
{
    atomic { run drain(OWNER); run drain(WORKER); run owner(); run worker() }
}
