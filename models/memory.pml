/* SPDX-License-Identifier: MIT */
/*
 * Shared memory behind store buffers, for the models that include this. A model defines CPUS, the processes with a
 * buffer, and WORDS, the words of shared memory, all 0 at the start. It starts a `drain` for each buffer.
 *
 * A store goes into its process's buffer and reaches memory some time later, in any order (aarch64), but for two rules:
 * stores to one word stay in their order, and a release store reaches memory behind all stores that are older. What is younger
 * may pass it. A load sees the process's own youngest store, else memory. A fence waits until the buffer is empty, and so
 * does a compare-and-swap that wins, as it releases; a relaxed one waits for what the process has stored in that word. Loads are executed in their order: where an argument is about a load that
 * comes late or early, the model says so itself.
 *
 * Bytes are words that are stored relaxed.
 */
#ifndef MUTANT
#define MUTANT 0
#endif

#define DEPTH 6

typedef Store {
    byte at;
    byte value;
    bool release
}

typedef Buffer {
    Store entry[DEPTH];
    byte count
}

byte memory[WORDS];
Buffer buffer[CPUS];
hidden byte scan;

#define RELAXED false
#define RELEASE true

/* A full buffer makes a mutant wait. The model itself never fills one, so nothing that can happen is left out; but in
 * argument.pml the owner waits for room, too. */
#if MUTANT == 0
#define room(cpu) true
#else
#define room(cpu) (buffer[cpu].count < DEPTH)
#endif

inline store(cpu, word, what, order)
{
    d_step {
        room(cpu) ->
        assert(buffer[cpu].count < DEPTH);
        buffer[cpu].entry[buffer[cpu].count].at = word;
        buffer[cpu].entry[buffer[cpu].count].value = what;
        buffer[cpu].entry[buffer[cpu].count].release = order;
        buffer[cpu].count++
    }
}

inline load(cpu, word, result)
{
    d_step {
        result = memory[word];
        scan = 0;
        do
        :: scan < buffer[cpu].count ->
            if
            :: buffer[cpu].entry[scan].at == word -> result = buffer[cpu].entry[scan].value
            :: else
            fi;
            scan++
        :: else -> break
        od
    }
}

#define fence(cpu) (buffer[cpu].count == 0)

/* Whether a store to the word is still in the process's own buffer. */
#define holds(cpu, word) \
    (held_at(cpu, word, 0) || \
     held_at(cpu, word, 1) || \
     held_at(cpu, word, 2) || \
     held_at(cpu, word, 3) || \
     held_at(cpu, word, 4) || \
     held_at(cpu, word, 5))
#define held_at(cpu, word, place) (place < buffer[cpu].count && buffer[cpu].entry[place].at == word)

inline cas(cpu, word, expected, desired, won)
{
    if
    :: atomic { fence(cpu) && memory[word] == (expected) -> memory[word] = desired; won = true }
    :: atomic { !holds(cpu, word) && memory[word] != (expected) -> won = false }
    fi
}

inline relaxed_cas(cpu, word, expected, desired, won)
{
    if
    :: atomic { !holds(cpu, word) && memory[word] == (expected) -> memory[word] = desired; won = true }
    :: atomic { !holds(cpu, word) && memory[word] != (expected) -> won = false }
    fi
}

/* Whether the store at `place` stays behind the older one. */
#define behind(cpu, place, older) \
    (older < place && \
     (buffer[cpu].entry[place].release || buffer[cpu].entry[place].at == buffer[cpu].entry[older].at))
#define may_leave(cpu, place) \
    (place < buffer[cpu].count && !behind(cpu, place, 0) && !behind(cpu, place, 1) && \
     !behind(cpu, place, 2) && !behind(cpu, place, 3) && !behind(cpu, place, 4))

inline leave(cpu, place)
{
    memory[buffer[cpu].entry[place].at] = buffer[cpu].entry[place].value;
    scan = place + 1;
    do
    :: scan < buffer[cpu].count ->
        buffer[cpu].entry[scan - 1].at = buffer[cpu].entry[scan].at;
        buffer[cpu].entry[scan - 1].value = buffer[cpu].entry[scan].value;
        buffer[cpu].entry[scan - 1].release = buffer[cpu].entry[scan].release;
        scan++
    :: else -> break
    od;
    buffer[cpu].count--;
    buffer[cpu].entry[buffer[cpu].count].at = 0;
    buffer[cpu].entry[buffer[cpu].count].value = 0;
    buffer[cpu].entry[buffer[cpu].count].release = false
}

proctype drain(byte cpu)
{
end:
    do
    :: d_step { may_leave(cpu, 0) -> leave(cpu, 0) }
    :: d_step { may_leave(cpu, 1) -> leave(cpu, 1) }
    :: d_step { may_leave(cpu, 2) -> leave(cpu, 2) }
    :: d_step { may_leave(cpu, 3) -> leave(cpu, 3) }
    :: d_step { may_leave(cpu, 4) -> leave(cpu, 4) }
    :: d_step { may_leave(cpu, 5) -> leave(cpu, 5) }
    od
}
