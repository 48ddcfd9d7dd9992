/* SPDX-License-Identifier: MIT */
/*
 * An argument's buffer, used again: the last byte of what lay there was read before the owner writes the next; the worker
 * has the buffer that a record means, lets go of none from which the owner still sends, and in the end of all that the owner has given up.
 *
 *   owner   pp__shelf_reserve, pp__shelf_give, pp__shelf_sent, pp__shelf_tidy, tell_discarded (src/pool/shelf.c), send_kept
 *           (src/pool/send.c), pp__worker_take_back (src/pool/take_back.c), doubt (src/pool/outcome.c), tidy_worker (src/pool/tidy.c)
 *   worker  open_kept, take_buffer, drop_given_up (src/pool/receive.c)
 *
 * There is one place. What is read of a record is whole once it is seen (ring.pml), and whether its call has begun or is taken
 * back is one step (slot.pml), so neither has a buffer here. A buffer is a byte, which is the number of the call whose argument lies
 * there. That a buffer does not arrive the owner learns from the call's result.
 *
 * `discarded` is stored relaxed here: the counts alone say which buffer it is about, and who lets go of one reads nothing. So
 * it is with `forgotten`, of the program's buffers (src/pool/known.c).
 *
 * mutant 1: a result is published relaxed: the argument's last byte is read behind it (RING_PUBLISH_ORDER)
 * mutant 2: a result is looked for relaxed: the next argument is written before it (RING_MARK_ORDER)
 * mutant 3: the worker lets go of what it has, whichever buffer was given up
 * mutant 4: a buffer is given up whether or not a call is sent from it
 * mutant 5: what was given up for another buffer, or a doubt, is not told
 * mutant 6: a buffer is counted when it is made
 * mutant 7: the owner sends again from a buffer that did not arrive
 * mutant 8: the owner sends again from a buffer that a call brought which was taken back
 * mutant 9: the argument of a call is read before the call is begun
 * mutant 10: a call that is taken back brings no buffer
 */
#define CPUS 2
#define WORDS 7
#include "memory.pml"

#define OWNER 0
#define WORKER 1

#define CALL_TAIL 0
#define RESULT_TAIL 1
#define DISCARDED 2
#define BYTE(buffer) (2 + (buffer)) /* 1 and up: one for each call, and one more */

#define CALLS 3
#define NONE 0

#if MUTANT == 1
#define PUBLISH RELAXED
#else
#define PUBLISH RELEASE
#endif

/* What is written in the rings, and in a slot. */
typedef Call {
    byte in; /* the buffer */
    bool fresh;
    bool begun;
    bool back; /* taken back */
    bool lost; /* its result says: the buffer is not there */
}
Call call[CALLS + 1];

bool over; /* the owner has given up all */

/* The owner -------------------------------------------------------------------------------------------------------- */

/* It goes on while its stores are on their way, but not without end. */
#define has_store_room (buffer[OWNER].count < DEPTH)

inline put(at, what, order)
{
    atomic { has_store_room -> store(OWNER, at, what, order) }
}

inline clear()
{
    has = NONE;
    unsent = false;
    doubtful = false
}

/* A new one, where there is none or the one that is there does not fit. */
inline choose()
{
    if
    :: has != NONE
    :: made++;
        has = made;
        unsent = true;
#if MUTANT == 6
        count++
#endif
    fi
}

inline write()
{
    put(BYTE(has), sent + 1, RELAXED)
}

inline send()
{
    d_step {
        sent++;
        call[sent].in = has;
        call[sent].fresh = unsent;
#if MUTANT != 6
        count = count + (unsent -> 1 : 0);
#endif
        unsent = false;
        taken = true
    };
    put(CALL_TAIL, sent, RELEASE)
}

inline give()
{
    taken = false;
    if
    :: unsent || doubtful -> clear()
    :: else
    fi
}

/* Of the last call: there is one place, and it is taken. */
inline take_result()
{
#if MUTANT == 7
    doubtful = false;
#else
    doubtful = call[sent].lost;
#endif
    give()
}

inline take_back()
{
    atomic {
        if
        :: !call[sent].begun ->
            call[sent].back = true;
#if MUTANT != 8
            doubtful = call[sent].fresh;
#endif
            give()
        :: else
        fi
    }
}

inline tidy()
{
    if
#if MUTANT != 5
    :: has == NONE -> told = count
#endif
    :: has != NONE -> clear(); told = count
    :: MUTANT == 5 && has == NONE
    fi;
    put(DISCARDED, told, RELAXED)
}

#if MUTANT == 4
#define may_tidy (has != NONE || count != told)
#else
#define may_tidy (!taken && (has != NONE || count != told))
#endif

proctype owner()
{
    byte sent, has, made, count, told;
    bool taken, unsent, doubtful;
    do
    :: sent == CALLS && !taken -> break
    :: sent < CALLS && !taken ->
        choose();
        write();
        if
        :: send()
        :: made == 1 && sent == 0 -> give() /* it can't be sent now */
        fi
#if MUTANT == 2
    /* The next argument is written before the load that allows it. */
    :: taken && sent < CALLS ->
        write();
        memory[RESULT_TAIL] == sent && !call[sent].lost;
        send()
#endif
    :: taken && memory[RESULT_TAIL] == sent -> take_result()
    :: taken -> take_back()
    :: may_tidy && MUTANT != 5 -> tidy()
    :: may_tidy && MUTANT == 5 && has != NONE -> tidy()
    od;
    tidy();
    over = true
}

/* The worker ------------------------------------------------------------------------------------------------------- */

inline take_buffer()
{
    count++;
    if
    :: has = call[id].in
    :: has = NONE /* it could not be mapped */
    fi
}

inline receive()
{
    if
#if MUTANT == 10
    :: call[id].fresh && call[id].back
    :: call[id].fresh && !call[id].back -> take_buffer()
#else
    :: call[id].fresh -> take_buffer()
#endif
    :: else
    fi
}

inline read()
{
    load(WORKER, BYTE(has), value);
    assert(value == id);
    value = 0
}

inline publish()
{
    store(WORKER, RESULT_TAIL, id, PUBLISH)
}

inline run_call()
{
    id++;
    receive();
#if MUTANT == 9
    if
    :: has == call[id].in -> read()
    :: else
    fi;
#endif
    atomic { call[id].begun = !call[id].back };
    if
    :: call[id].begun ->
        assert(has == call[id].in || call[id].fresh && has == NONE);
        call[id].lost = has == NONE
    :: else
    fi;
    if
    :: call[id].begun && has != NONE -> read(); publish()
#if MUTANT == 1
    :: call[id].begun && has != NONE -> publish(); read()
#endif
    :: call[id].begun && has == NONE -> publish()
    :: !call[id].begun
    fi
}

inline drop_given_up()
{
    load(WORKER, DISCARDED, told);
    if
#if MUTANT == 3
    :: told != 0 -> has = NONE
#else
    :: told == count -> has = NONE
#endif
    :: else
    fi;
    told = 0
}

proctype worker()
{
    byte id, tail, has, count, told, value;
    do
    :: id == CALLS && id == tail -> break
    :: id < tail -> run_call()
    :: id == tail && id < CALLS ->
        if
        :: drop_given_up()
        :: true
        fi;
        memory[CALL_TAIL] != tail;
        load(WORKER, CALL_TAIL, tail);
        assert(tail > id)
    od;
    over && fence(OWNER);
    drop_given_up();
    assert(has == NONE)
}

init
{
    atomic { run drain(OWNER); run drain(WORKER); run owner(); run worker() }
}
