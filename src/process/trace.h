/* SPDX-License-Identifier: MIT */
/*
 * A raw trace: the program counters of a stack, and of each module in which one of them lies the name, the build-id and
 * the place. It is written in a worker, by a signal handler too, and made words by the owner (symbols.h).
 *
 *     struct pp__trace, `count` times a uint64_t, then modules up to the end
 *
 * A module is a struct pp__trace_module, its build-id, its name with a NUL, and padding to 8.
 */
#ifndef PP_PROCESS_TRACE_H
#define PP_PROCESS_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PP__TRACE_MAX 3840u  /* bytes */
#define PP__TRACE_FRAMES 64u /* the innermost ones */

struct pp__trace {
    uint32_t signal;  /* that was caught; 0: none */
    uint32_t count;   /* of pcs */
    uint64_t address; /* with that signal: what was accessed, or where; 0: unknown */
    uint32_t exact;   /* 1: the first pc is that of an instruction; all others are where a call returns to */
    uint32_t reserved;
    uint64_t pcs[];
};

struct pp__trace_module {
    uint64_t start, end; /* its addresses */
    uint64_t base;       /* what is to be added to the addresses of its file */
    uint32_t id_size;    /* of its build-id; 0: it has none */
    uint32_t name_size;  /* with the NUL; the main program's name is empty */
};

/* What one pc is a call or instruction of: an address inside of it. */
static inline uint64_t pp__trace_place(const struct pp__trace *trace, uint32_t i)
{
    return trace->pcs[i] - !(trace->exact && i == 0);
}

static inline size_t pp__trace_modules(const struct pp__trace *trace)
{
    return sizeof *trace + trace->count * sizeof *trace->pcs;
}

/* What a writer has done so far. Each step leaves a whole trace of `used` bytes, whatever happens inside the next one.
 */
struct pp__tracer {
    struct pp__trace *trace;
    size_t room;
    size_t used;
    uintptr_t from; /* the first pc wanted; those of the frames inside of it are passed over */
    bool inside;    /* it was met */
};

/* In this order. `room` is aligned to 8 and holds at least a struct pp__trace with PP__TRACE_FRAMES pcs, of which two
 * may be added by hand, before or in place of the unwinding, which adds all that it finds. No locks, no memory. */
void pp__trace_begin(struct pp__tracer *tracer, void *room, size_t size);
void pp__trace_add(struct pp__tracer *tracer, uintptr_t pc);
void pp__trace_unwind(struct pp__tracer *tracer, uintptr_t from);
void pp__trace_name(struct pp__tracer *tracer);

/* All of it, of the calling thread, from the return address `from` on. The bytes used. */
size_t pp__trace_here(void *room, size_t size, uintptr_t from);

/* The frames outside of the one at `frame`, up to a page further, are of no interest: those in which a worker was born.
 */
void pp__trace_set_bottom(const void *frame);

/* Whether `address` is in the memory of a loaded module. */
bool pp__trace_is_code(uintptr_t address);

/* For the reader, of a copy that nobody can write to: whether it is one, in every part. */
bool pp__trace_is_sound(const struct pp__trace *trace, size_t size);

/* The module behind `module`, or the first for NULL; NULL: there are no more. Of a sound trace. */
const struct pp__trace_module *pp__trace_next(const struct pp__trace *trace, size_t size,
                                              const struct pp__trace_module *module);

static inline const unsigned char *pp__trace_id(const struct pp__trace_module *module)
{
    return (const unsigned char *)(module + 1);
}

static inline const char *pp__trace_name_of(const struct pp__trace_module *module)
{
    return (const char *)(module + 1) + module->id_size;
}

#endif
