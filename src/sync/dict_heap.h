/* SPDX-License-Identifier: MIT */
/*
 * Memory of a dictionary that is changed whole or not at all: words at offsets of a segment, a journal, and blocks. All
 * is called under the dictionary's mutex.
 *
 * A change is any number of stores and a commit. A store first notes in the journal what the word was; the commit is
 * one store, of 0 to `logged`. Who dies before leaves a journal, and the next to come puts everything back as it was;
 * as does a change that fails. The order of the stores is that of the program: a process that is killed has done the
 * stores before some instruction, and none behind it.
 *
 * Words of a block's payload that nobody reads yet may be written past the journal. So a freed block must keep its
 * bytes until the commit: it is put in limbo by the change, and given back by changes of the heap's own after it. Words
 * of blocks that the change has appended are not noted: whoever undoes it takes the top back.
 *
 * The journal has addresses for each other word once, and a change of many words notes each once: so no change is too
 * large for it. Its memory comes when it is used, and goes after such a change.
 */
#ifndef PP_SYNC_DICT_HEAP_H
#define PP_SYNC_DICT_HEAP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define PP__HEAP_BINS 192u

/*
 * In the segment. Under the mutex only; all but the first two lines are changed through the journal. Atomic, so that
 * the compiler keeps the order. Offsets are from the segment's begin; 0: none.
 */
struct pp__heap_shared {
    _Atomic uint64_t logged; /* entries of the journal that count */
    _Atomic uint64_t journal_memory,
        memory;             /* where the memory of journal and blocks ends; what lies behind may have none */
    _Atomic uint64_t top;   /* where the blocks end; the last one is in use */
    _Atomic uint64_t last;  /* its size */
    _Atomic uint64_t limbo; /* freed blocks, a list through their first words */
    _Atomic uint64_t map[PP__HEAP_BINS / 64]; /* which bins have blocks */
    _Atomic uint64_t bins[PP__HEAP_BINS];
};

/* Private to each handle, and under the mutex. */
struct pp__heap {
    unsigned char *base;
    struct pp__heap_shared *shared;
    int (*grow)(struct pp__heap *heap, uint64_t from, uint64_t to); /* gives memory to these bytes: 0 or an errno */
    uint64_t journal, begin, end; /* where the journal and the blocks begin, and where the blocks must end */
    uint64_t old_top;             /* where the blocks ended when this change began */
    uint64_t *noted;              /* of a change of many words: a bit for each that the journal has; else NULL */
    int want;                     /* why there was no room: of the last try to get memory; 0: the heap's end */
    int error;                    /* of the first step that failed; a change with one is rolled back */
    _Atomic uint64_t nowhere;     /* stands for words that are no words of the segment's */
};

/* How large the journal has to be for `size` bytes of blocks, and `words` words elsewhere. */
uint64_t pp__heap_journal_size(uint64_t size, uint64_t words);

/* Once, in zeroed memory. */
void pp__heap_init(struct pp__heap *heap);

/* A word of the segment; `offset` is checked, -EPROTO is noted where it can't be. A store is of a change that has
 * begun. */
uint64_t pp__heap_load(struct pp__heap *heap, uint64_t offset);
void pp__heap_store(struct pp__heap *heap, uint64_t offset, uint64_t value);

/* Of a word in the structures at the segment's begin. */
static inline uint64_t pp__heap_offset(const struct pp__heap *heap, const _Atomic uint64_t *word)
{
    return (uint64_t)((const unsigned char *)word - heap->base);
}

/* A block of `size` bytes at least, aligned to 16, its bytes anything; 0: there is no room, which is no error yet. */
uint64_t pp__heap_allocate(struct pp__heap *heap, uint64_t size);

/* From the commit on it is no block. */
void pp__heap_free(struct pp__heap *heap, uint64_t block);

/* `size` bytes of a block at `offset` in it; NULL and -EPROTO noted where it has not so many. */
unsigned char *pp__heap_bytes(struct pp__heap *heap, uint64_t block, uint64_t offset, uint64_t size);

/* The change is done; if there was an error, it is undone and the error returned. */
int pp__heap_commit(struct pp__heap *heap);

/* What a dead process has left: a change to be undone, freed blocks. First thing under the mutex. */
void pp__heap_tidy(struct pp__heap *heap);

/* As part of a change: there are no blocks. */
void pp__heap_reset(struct pp__heap *heap);

#endif
