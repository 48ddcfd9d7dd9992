/* SPDX-License-Identifier: MIT */
/*
 * Objects of one size, for a pool's calls: taken under the pool's lock, given back by any thread without it. What was
 * given back is used again; the memory goes back to the system with the slab. Under address sanitizer and valgrind each
 * is malloc's own, so that they see a use after the end.
 */
#ifndef PP_POOL_SLAB_H
#define PP_POOL_SLAB_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

struct pp__slab_chunk;

/* An object that lies here. */
struct pp__slab_free {
    struct pp__slab_free *next;
};

struct pp__slab {
    size_t size; /* of an object, a multiple of 16 */
    bool each_is_mallocs;
    struct pp__slab_free *free;             /* under the lock */
    struct pp__slab_free *_Atomic returned; /* pushed by any thread, taken whole under the lock */
    struct pp__slab_chunk *chunks;          /* the newest first */
    char *fresh, *fresh_end;                /* what of it was never handed out */
    size_t next_chunk;                      /* bytes */
};

void pp__slab_init(struct pp__slab *slab, size_t size);
void pp__slab_destroy(struct pp__slab *slab);

/* As pp__slab_take, where none is `free`. */
void *pp__slab_take_other(struct pp__slab *slab, bool *fresh);

/*
 * What an object keeps (a future its pool) it may keep while it lies here, for the next one: so it costs nothing to
 * have it again. `fresh` says that this one keeps nothing yet. NULL without memory; its bytes are anything.
 */
static inline void *pp__slab_take(struct pp__slab *slab, bool *fresh)
{
    struct pp__slab_free *object = slab->free;
    if (!object)
        return pp__slab_take_other(slab, fresh);
    slab->free = object->next;
    *fresh = false;
    return object;
}

/* False: it does not stay here, and is to let go of what it kept. */
bool pp__slab_give(struct pp__slab *slab, void *object);

/* From now on none stays. Under the lock. Returns those that lay here, and are to let go of what they keep: */
struct pp__slab_rest {
    const struct pp__slab_free *lists[2];
};
struct pp__slab_rest pp__slab_close(struct pp__slab *slab);

/* How many they are, which takes its time; not under the lock. */
size_t pp__slab_count(struct pp__slab_rest rest);

#endif
