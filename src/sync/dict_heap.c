/* SPDX-License-Identifier: MIT */
/*
 * Words, journal and blocks of a dictionary.
 *
 * A block is a header of two words, the size of the block before it (0: it is the first) and its own size with bit 0
 * set if it is free, and its payload. Sizes count the header. A free block's first words link it with others of its
 * bin; two neighbours are never both free, and the last block never is.
 */
#include "sync/dict_heap.h"

#include "base/atomic.h"
#include "base/error.h"
#include "base/seam.h"

#include <errno.h>
#include <stddef.h>
#include <sys/mman.h>

#define HEADER 16u
#define LEAST 48u /* of a block */
#define FREE 1u
#define WALK_MOST 64 /* blocks of a bin that are looked at when all else is full */
#define GROWTH ((uint64_t)1 << 16)
#define MANY 4096u /* words of a change from which on each is noted once; the journal keeps memory for so many */

struct entry {
    _Atomic uint64_t offset, value;
};

/* Nothing moves across it in the compiler; a killed process's stores are in the order of its instructions anyway. */
static void in_order(void)
{
    atomic_signal_fence(memory_order_seq_cst);
}

static void fail(struct pp__heap *heap, int error)
{
    if (heap->error == 0)
        heap->error = error;
}

static void fail_garbage(struct pp__heap *heap)
{
    fail(heap, pp__fail(-EPROTO, "the dictionary's memory was overwritten"));
}

/* --------------------------------------------------------------------------------------------- journal */

static _Atomic uint64_t *word_at(struct pp__heap *heap, uint64_t offset)
{
    if (offset % sizeof(uint64_t) == 0 && offset > 0 && offset < heap->end &&
        (offset < heap->journal || offset >= heap->begin))
        return (_Atomic uint64_t *)(void *)(heap->base + offset);
    fail_garbage(heap);
    return &heap->nowhere;
}

uint64_t pp__heap_load(struct pp__heap *heap, uint64_t offset)
{
    return pp__load_relaxed(word_at(heap, offset));
}

static struct entry *entry_at(struct pp__heap *heap, uint64_t index)
{
    return (struct entry *)(void *)(heap->base + heap->journal) + index;
}

uint64_t pp__heap_journal_size(uint64_t size, uint64_t words)
{
    return (size / sizeof(uint64_t) + words) * sizeof(struct entry);
}

static size_t noted_size(const struct pp__heap *heap)
{
    return heap->end / (8 * sizeof(uint64_t)) + sizeof *heap->noted;
}

/* Whether the journal has the word, as from now on it does. */
static bool note_once(struct pp__heap *heap, uint64_t offset)
{
    uint64_t word = offset / sizeof(uint64_t), bit = UINT64_C(1) << word % 64;
    if (offset >= heap->end)
        return false;
    bool before = heap->noted[word / 64] & bit;
    heap->noted[word / 64] |= bit;
    return before;
}

/* Without memory for that words are noted again and again, until the journal is full. */
static void begin_noting_once(struct pp__heap *heap, uint64_t logged)
{
    void *bits = PP_SYS(mmap)(NULL, noted_size(heap), PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (bits == MAP_FAILED)
        return;
    heap->noted = bits;
    for (uint64_t i = 0; i < logged; i++)
        note_once(heap, pp__load_relaxed(&entry_at(heap, i)->offset));
}

/* The journal has no entries now; its memory beyond what most changes need goes. Who dies in between leaves some that
 * is unused. */
static void trim_journal(struct pp__heap *heap)
{
    uint64_t keep = heap->journal + MANY * sizeof(struct entry),
             memory = pp__load_relaxed(&heap->shared->journal_memory);
    if (memory <= keep || memory > heap->begin)
        return;
    pp__store_relaxed(&heap->shared->journal_memory, keep); /* before it goes */
    PP_FAULT("dict.trimming");
    PP_SYS(madvise)(heap->base + keep, memory - keep, MADV_REMOVE);
}

/* Of a change that is done or undone; what a fork has copied in the middle of one is the parent's affair. */
static void begin_change(struct pp__heap *heap)
{
    uint64_t *noted = heap->noted;
    heap->noted = NULL;
    atomic_signal_fence(memory_order_seq_cst); /* a child that is forked in between would unmap what is its own there */
    if (noted)
        munmap(noted, noted_size(heap));
    trim_journal(heap);
    heap->old_top = pp__load_relaxed(&heap->shared->top);
}

/* Whether the journal has memory for one more entry; it gets it by doubling. */
static bool has_room(struct pp__heap *heap, uint64_t logged)
{
    uint64_t memory = pp__load_relaxed(&heap->shared->journal_memory);
    uint64_t need = heap->journal + (logged + 1) * sizeof(struct entry);
    if (memory > heap->begin) {
        fail_garbage(heap);
        return false;
    }
    if (need <= memory)
        return true;
    uint64_t more = memory + (memory - heap->journal);
    if (more > heap->begin)
        more = heap->begin;
    if (need > more) {
        fail(heap, pp__fail(-ENOMEM, "no memory for noting what so large an update changes"));
        return false;
    }
    int error = heap->grow(heap, memory, more);
    if (error)
        fail(heap, error);
    else
        pp__store_relaxed(&heap->shared->journal_memory, more);
    return error == 0;
}

/* From now on the word is put back if the change is undone, by this one or the top's. */
static bool keep(struct pp__heap *heap, uint64_t offset)
{
    uint64_t logged = pp__load_relaxed(&heap->shared->logged);
    if (heap->error || offset >= heap->old_top)
        return heap->error == 0;
    if (logged == MANY && !heap->noted)
        begin_noting_once(heap, logged);
    if (heap->noted && note_once(heap, offset))
        return true;
    if (!has_room(heap, logged))
        return false;
    struct entry *entry = entry_at(heap, logged);
    pp__store_relaxed(&entry->offset, offset);
    pp__store_relaxed(&entry->value, pp__heap_load(heap, offset));
    PP_FAULT("dict.noting");
    pp__store_release(&heap->shared->logged,
                      logged + 1); /* pairs with the load in roll_back, which may be another process's */
    PP_FAULT("dict.noted");
    in_order();
    return heap->error == 0;
}

void pp__heap_store(struct pp__heap *heap, uint64_t offset, uint64_t value)
{
    if (pp__heap_load(heap, offset) == value || !keep(heap, offset))
        return;
    pp__store_relaxed(word_at(heap, offset), value);
    PP_FAULT("dict.stored");
    in_order();
}

static uint64_t get(struct pp__heap *heap, const _Atomic uint64_t *word)
{
    return pp__heap_load(heap, pp__heap_offset(heap, word));
}

static void set(struct pp__heap *heap, const _Atomic uint64_t *word, uint64_t value)
{
    pp__heap_store(heap, pp__heap_offset(heap, word), value);
}

/* Backwards, so that what was stored twice becomes what it was first. Who dies here has it begun again. */
static void roll_back(struct pp__heap *heap)
{
    uint64_t logged = pp__load_acquire(&heap->shared->logged); /* pairs with the store in keep */
    if (logged > (heap->begin - heap->journal) / sizeof(struct entry)) {
        fail_garbage(heap);
        return;
    }
    for (uint64_t i = logged; i-- > 0;) {
        struct entry *entry = entry_at(heap, i);
        pp__store_relaxed(word_at(heap, pp__load_relaxed(&entry->offset)), pp__load_relaxed(&entry->value));
        PP_FAULT("dict.undone");
    }
    in_order();
    pp__store_release(&heap->shared->logged, 0); /* all is as it was; pairs with the load above, of the next to come */
    in_order();                                  /* the next entry is written after that */
}

/* ---------------------------------------------------------------------------------------------- blocks */

static unsigned bin_of(uint64_t size)
{
    unsigned log = 63 - (unsigned)__builtin_clzll(size);
    unsigned quarter = (size >> (log - 2)) & 3, bin = (log - 5) * 4 + quarter;
    return bin < PP__HEAP_BINS ? bin : PP__HEAP_BINS - 1;
}

/* Each block of this bin, and of those above, has `size` bytes. */
static unsigned bin_that_suffices(uint64_t size)
{
    unsigned log = 63 - (unsigned)__builtin_clzll(size);
    return bin_of(size + ((uint64_t)1 << (log - 2)) - 1);
}

static uint64_t top_of(struct pp__heap *heap)
{
    return get(heap, &heap->shared->top);
}

static bool is_free(struct pp__heap *heap, uint64_t block)
{
    return pp__heap_load(heap, block + 8) & FREE;
}

/* Header included. */
static uint64_t whole_size(struct pp__heap *heap, uint64_t block)
{
    uint64_t size = pp__heap_load(heap, block + 8) & ~(uint64_t)FREE, top = top_of(heap);
    if (block >= heap->begin && block < top && size >= LEAST && size % 16 == 0 && size <= top - block)
        return size;
    fail_garbage(heap);
    return LEAST;
}

static void set_size(struct pp__heap *heap, uint64_t block, uint64_t size, unsigned state)
{
    pp__heap_store(heap, block + 8, size | state);
    if (block + size < top_of(heap))
        pp__heap_store(heap, block + size, size);
    else
        set(heap, &heap->shared->last, size);
}

static void link_free(struct pp__heap *heap, uint64_t block, uint64_t size)
{
    unsigned bin = bin_of(size);
    _Atomic uint64_t *head = &heap->shared->bins[bin], *map = &heap->shared->map[bin / 64];
    uint64_t first = get(heap, head);
    set_size(heap, block, size, FREE);
    pp__heap_store(heap, block + HEADER, first);
    pp__heap_store(heap, block + HEADER + 8, 0);
    if (first)
        pp__heap_store(heap, first + HEADER + 8, block);
    set(heap, head, block);
    set(heap, map, get(heap, map) | UINT64_C(1) << bin % 64);
}

static void unlink_free(struct pp__heap *heap, uint64_t block, uint64_t size)
{
    unsigned bin = bin_of(size);
    _Atomic uint64_t *head = &heap->shared->bins[bin], *map = &heap->shared->map[bin / 64];
    uint64_t next = pp__heap_load(heap, block + HEADER), previous = pp__heap_load(heap, block + HEADER + 8);
    if (next)
        pp__heap_store(heap, next + HEADER + 8, previous);
    if (previous) {
        pp__heap_store(heap, previous + HEADER, next);
        return;
    }
    set(heap, head, next);
    if (!next)
        set(heap, map, get(heap, map) & ~(UINT64_C(1) << bin % 64));
}

/* Takes `size` bytes of a free block, and leaves the rest free. Its links are kept, as the owner will write over them.
 */
static void take(struct pp__heap *heap, uint64_t block, uint64_t size)
{
    uint64_t whole = whole_size(heap, block), rest = whole - size;
    unlink_free(heap, block, whole);
    keep(heap, block + HEADER);
    keep(heap, block + HEADER + 8);
    if (rest < LEAST) {
        set_size(heap, block, whole, 0);
        return;
    }
    pp__heap_store(heap, block + size + 8, rest); /* so that it is one when its header is written */
    set_size(heap, block, size, 0);
    link_free(heap, block + size, rest);
}

static uint64_t find_in_bins(struct pp__heap *heap, unsigned bin)
{
    for (unsigned i = bin / 64; i < PP__HEAP_BINS / 64; i++) {
        uint64_t map = get(heap, &heap->shared->map[i]);
        if (i == bin / 64)
            map &= ~UINT64_C(0) << bin % 64;
        if (map)
            return get(heap, &heap->shared->bins[i * 64 + (unsigned)__builtin_ctzll(map)]);
    }
    return 0;
}

/* One that is not smaller, of the bin in which some may be. */
static uint64_t find_by_walk(struct pp__heap *heap, uint64_t size)
{
    uint64_t block = get(heap, &heap->shared->bins[bin_of(size)]);
    for (int i = 0; block && i < WALK_MOST; i++) {
        if (whole_size(heap, block) >= size)
            return block;
        block = pp__heap_load(heap, block + HEADER);
    }
    return 0;
}

/* Memory up to `end`, and some more than that. */
static bool has_memory(struct pp__heap *heap, uint64_t end)
{
    uint64_t memory = pp__load_relaxed(&heap->shared->memory);
    if (end <= memory)
        return true;
    uint64_t more = (end + (memory - heap->begin) / 8 + GROWTH) / GROWTH * GROWTH;
    if (more > heap->end)
        more = heap->end;
    if (heap->grow(heap, memory, more) != 0 && (heap->want = heap->grow(heap, memory, more = end)) != 0)
        return false;
    PP_FAULT("dict.grown");
    pp__store_relaxed(&heap->shared->memory, more);
    return true;
}

/* A new last block. */
static uint64_t append(struct pp__heap *heap, uint64_t size)
{
    uint64_t block = top_of(heap);
    heap->want = 0;
    if (block < heap->begin || block > heap->end || size > heap->end - block || !has_memory(heap, block + size))
        return 0;
    set(heap, &heap->shared->top, block + size);
    pp__heap_store(heap, block, get(heap, &heap->shared->last));
    set_size(heap, block, size, 0);
    return block;
}

uint64_t pp__heap_allocate(struct pp__heap *heap, uint64_t size)
{
    if (heap->error || size > heap->end)
        return 0;
    size = (size + HEADER + 15) / 16 * 16;
    if (size < LEAST)
        size = LEAST;
    uint64_t block = find_in_bins(heap, bin_that_suffices(size));
    if (!block && (block = append(heap, size)) != 0)
        return block + HEADER;
    if (!block && (block = find_by_walk(heap, size)) == 0)
        return 0;
    if (whole_size(heap, block) < size)
        fail_garbage(heap);
    if (heap->error)
        return 0;
    take(heap, block, size);
    return block + HEADER;
}

static uint64_t payload_size(struct pp__heap *heap, uint64_t block)
{
    return whole_size(heap, block - HEADER) - HEADER;
}

unsigned char *pp__heap_bytes(struct pp__heap *heap, uint64_t block, uint64_t offset, uint64_t size)
{
    uint64_t room = payload_size(heap, block);
    if (heap->error || offset > room || size > room - offset) {
        fail_garbage(heap);
        return NULL;
    }
    return heap->base + block + offset;
}

void pp__heap_free(struct pp__heap *heap, uint64_t block)
{
    pp__heap_store(heap, block, get(heap, &heap->shared->limbo));
    set(heap, &heap->shared->limbo, block);
}

/* With its free neighbours it becomes one, or, at the end, none. A list of garbage ends where a block is free already.
 */
static void give_back(struct pp__heap *heap, uint64_t block)
{
    if (is_free(heap, block)) {
        fail_garbage(heap);
        return;
    }
    uint64_t size = whole_size(heap, block), next = block + size, before = pp__heap_load(heap, block);
    if (next < top_of(heap) && is_free(heap, next)) {
        uint64_t more = whole_size(heap, next);
        unlink_free(heap, next, more);
        size += more;
    }
    if (before && is_free(heap, block - before)) {
        before = whole_size(heap, block - before);
        unlink_free(heap, block - before, before);
        block -= before;
        size += before;
    }
    if (block + size < top_of(heap)) {
        link_free(heap, block, size);
        return;
    }
    set(heap, &heap->shared->last, pp__heap_load(heap, block));
    set(heap, &heap->shared->top, block);
}

/* ---------------------------------------------------------------------------------------------- change */

static int finish(struct pp__heap *heap)
{
    int error = heap->error;
    if (error) {
        roll_back(heap);
        begin_change(heap);
        heap->error = 0;
        return error;
    }
    PP_FAULT("dict.commit");
    in_order();
    pp__store_release(&heap->shared->logged, 0); /* the store that does it; pairs with the load in roll_back */
    PP_FAULT("dict.committed");
    in_order(); /* the next change's first entry is written after that */
    begin_change(heap);
    return 0;
}

/* Block by block, each a change of its own. */
static void empty_limbo(struct pp__heap *heap)
{
    for (uint64_t block; heap->error == 0 && (block = get(heap, &heap->shared->limbo)) != 0;) {
        set(heap, &heap->shared->limbo, pp__heap_load(heap, block));
        give_back(heap, block - HEADER);
        if (finish(heap) != 0)
            return;
    }
}

int pp__heap_commit(struct pp__heap *heap)
{
    int error = finish(heap);
    empty_limbo(heap);
    return error;
}

void pp__heap_tidy(struct pp__heap *heap)
{
    heap->error = 0;
    if (pp__load_relaxed(&heap->shared->logged) != 0)
        roll_back(heap);
    begin_change(heap);
    if (pp__load_relaxed(&heap->shared->limbo) != 0)
        empty_limbo(heap);
}

void pp__heap_reset(struct pp__heap *heap)
{
    set(heap, &heap->shared->top, heap->begin);
    set(heap, &heap->shared->last, 0);
    set(heap, &heap->shared->limbo, 0);
    for (unsigned i = 0; i < PP__HEAP_BINS / 64; i++)
        set(heap, &heap->shared->map[i], 0);
    for (unsigned i = 0; i < PP__HEAP_BINS; i++)
        set(heap, &heap->shared->bins[i], 0);
}

void pp__heap_init(struct pp__heap *heap)
{
    pp__store_relaxed(&heap->shared->top, heap->begin);
    pp__store_relaxed(&heap->shared->memory, heap->begin);
}
