/* SPDX-License-Identifier: MIT */
#include "pool/slab.h"

#include "base/atomic.h"
#include "base/seam.h"
#include "process/sanitizer.h"

#include <stdlib.h>
#include <sys/mman.h>

#define FIRST_CHUNK ((size_t)64 << 10)
#define LARGEST_CHUNK ((size_t)8 << 20)
/* From here on the kernel is asked for huge pages: they cost a fault each as well, and there are fewer. */
#define HUGE_CHUNK ((size_t)4 << 20)

struct pp__slab_chunk {
    struct pp__slab_chunk *next;
    size_t size;
};

static bool each_is_mallocs(void)
{
#ifdef PP_ASAN
    return true;
#else
    return PP_ON_VALGRIND;
#endif
}

void pp__slab_init(struct pp__slab *slab, size_t size)
{
    *slab = (struct pp__slab){.size = size, .each_is_mallocs = each_is_mallocs(), .next_chunk = FIRST_CHUNK};
}

void pp__slab_destroy(struct pp__slab *slab)
{
    while (slab->chunks) {
        struct pp__slab_chunk *chunk = slab->chunks;
        slab->chunks = chunk->next;
        munmap(chunk, chunk->size);
    }
}

static bool open_chunk(struct pp__slab *slab)
{
    size_t size = slab->next_chunk;
    struct pp__slab_chunk *chunk = PP_SYS(mmap)(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (chunk == MAP_FAILED)
        return false;
    if (size >= HUGE_CHUNK)
        PP_SYS(madvise)(chunk, size, MADV_HUGEPAGE); /* a wish */
    *chunk = (struct pp__slab_chunk){.next = slab->chunks, .size = size};
    slab->chunks = chunk;
    slab->fresh = (char *)chunk + slab->size; /* the head takes the place of an object */
    slab->fresh_end = (char *)chunk + size;
    if (slab->next_chunk < LARGEST_CHUNK)
        slab->next_chunk *= 2;
    return true;
}

/* What lies in `returned` once none stays. */
static struct pp__slab_free closed;

/* Pairs with the push in pp__slab_give. */
static struct pp__slab_free *take_returned(struct pp__slab *slab, struct pp__slab_free *leave)
{
    if (pp__load_relaxed(&slab->returned) == &closed) /* which it is for good */
        return NULL;
    return atomic_exchange_explicit(&slab->returned, leave, memory_order_acquire);
}

void *pp__slab_take_other(struct pp__slab *slab, bool *fresh)
{
    *fresh = true;
    if (slab->each_is_mallocs)
        return PP_SYS(malloc)(slab->size);
    slab->free = take_returned(slab, NULL);
    if (slab->free)
        return pp__slab_take(slab, fresh);
    if ((size_t)(slab->fresh_end - slab->fresh) < slab->size && !open_chunk(slab))
        return NULL;
    void *object = slab->fresh;
    slab->fresh += slab->size;
    return object;
}

/* Nobody pops single ones from this list, so it knows no ABA. The push pairs with the exchange in take_returned. */
bool pp__slab_give(struct pp__slab *slab, void *object)
{
    if (slab->each_is_mallocs) {
        free(object);
        return false;
    }
    struct pp__slab_free *given = object, *head = pp__load_relaxed(&slab->returned);
    do {
        if (head == &closed)
            return false;
        given->next = head;
    } while (!atomic_compare_exchange_weak_explicit(&slab->returned, &head, given, memory_order_release,
                                                    memory_order_relaxed));
    return true;
}

static size_t length(const struct pp__slab_free *object)
{
    size_t count = 0;
    for (; object; object = object->next)
        count++;
    return count;
}

struct pp__slab_rest pp__slab_close(struct pp__slab *slab)
{
    struct pp__slab_rest rest = {{slab->free, take_returned(slab, &closed)}};
    slab->free = NULL;
    return rest;
}

size_t pp__slab_count(struct pp__slab_rest rest)
{
    return length(rest.lists[0]) + length(rest.lists[1]);
}
