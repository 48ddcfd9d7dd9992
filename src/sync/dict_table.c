/* SPDX-License-Identifier: MIT */
/*
 * The anonymous kind of dictionary: a hash table with chains in a heap whose changes are whole or not at all. It grows
 * bucket by bucket (linear hashing), so that no insert moves more than one chain.
 *
 * The segment: struct shared_table, the journal, the heap. Its size is fixed, and so each process maps all at once;
 * memory comes on demand.
 */
#include "base/atomic.h"
#include "base/error.h"
#include "base/seam.h"
#include "shm/segment.h"
#include "sync/dict.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

#define FIRST_BUCKETS 64u
#define SEGMENTS 40u
#define LARGEST ((uint64_t)1 << 44)
#define DEFAULT_BYTES ((uint64_t)1 << 28)
#define JOURNAL_LEAST                                                                                                  \
    ((uint64_t)1 << 14) /* enough for each change of one key and for a clear; it has memory from the begin */
#define GRAIN ((uint64_t)1 << 16)
#define IN_PLACE 64u /* values up to this are overwritten by ones of their size */

/*
 * Under the mutex. Bucket i of the first FIRST_BUCKETS is first[i]; those of segments[k] are FIRST_BUCKETS << k to
 * twice that. All but the seed: through the journal.
 */
struct table {
    uint64_t seed[2];
    _Atomic uint64_t count, buckets;
    _Atomic uint64_t segments[SEGMENTS]; /* blocks of bucket words */
    _Atomic uint64_t first[FIRST_BUCKETS];
};

struct shared_table {
    struct pp__shared_dict dict;
    alignas(64) struct pp__mutex mutex;
    alignas(64) struct pp__heap_shared heap;
    struct table table;
};

/* An entry is a block: these words, the key, filled up to a word, and the value, likewise. */
enum { NEXT = 0, HASH = 8, SIZES = 16, KEY = 24 };

struct found {
    uint64_t link;  /* the word that names the entry, or that would */
    uint64_t entry; /* 0: there is none */
    uint64_t hash;
    const unsigned char *value;
    uint64_t size;
};

static struct shared_table *shared_of(const pp_dict *dict)
{
    return dict->object.memory;
}

/* ------------------------------------------------------------------------------------------------ hash */

static uint64_t rotate(uint64_t word, unsigned by)
{
    return word << by | word >> (64 - by);
}

static void stir(uint64_t v[4])
{
    v[0] += v[1], v[1] = rotate(v[1], 13) ^ v[0], v[0] = rotate(v[0], 32);
    v[2] += v[3], v[3] = rotate(v[3], 16) ^ v[2];
    v[0] += v[3], v[3] = rotate(v[3], 21) ^ v[0];
    v[2] += v[1], v[1] = rotate(v[1], 17) ^ v[2], v[2] = rotate(v[2], 32);
}

/* SipHash-1-3: who chooses keys but does not know the seed can't make chains long. */
static uint64_t hash(const uint64_t seed[2], const unsigned char *key, size_t size)
{
    uint64_t v[4] = {seed[0] ^ UINT64_C(0x736f6d6570736575), seed[1] ^ UINT64_C(0x646f72616e646f6d),
                     seed[0] ^ UINT64_C(0x6c7967656e657261), seed[1] ^ UINT64_C(0x7465646279746573)};
    for (size_t done = 0; done <= size; done += 8) {
        uint64_t word = 0;
        if (size - done >= 8)
            memcpy(&word, key + done, 8);
        else {
            memcpy(&word, key + done, size - done);
            word |= (uint64_t)size << 56;
        }
        v[3] ^= word;
        stir(v);
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++)
        stir(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* --------------------------------------------------------------------------------------------- entries */

static uint64_t get(pp_dict *dict, const _Atomic uint64_t *word)
{
    return pp__heap_load(&dict->heap, pp__heap_offset(&dict->heap, word));
}

static void set(pp_dict *dict, const _Atomic uint64_t *word, uint64_t value)
{
    pp__heap_store(&dict->heap, pp__heap_offset(&dict->heap, word), value);
}

static uint64_t padded(uint64_t size)
{
    return (size + 7) / 8 * 8;
}

/* The number of the segment in which a bucket beyond the first lies. */
static unsigned segment_of(uint64_t bucket)
{
    return 63 - (unsigned)__builtin_clzll(bucket / FIRST_BUCKETS);
}

/* Where the word of a bucket is. Numbers that are garbage lead to offsets that the heap refuses. */
static uint64_t bucket_word(pp_dict *dict, uint64_t bucket)
{
    struct table *table = &shared_of(dict)->table;
    if (bucket < FIRST_BUCKETS)
        return pp__heap_offset(&dict->heap, &table->first[bucket]);
    unsigned segment = segment_of(bucket);
    uint64_t block = segment < SEGMENTS ? get(dict, &table->segments[segment]) : 0;
    return block ? block + (bucket - ((uint64_t)FIRST_BUCKETS << segment)) * 8 : 0;
}

/* How many there are; never more than words that fit. */
static uint64_t count_buckets(pp_dict *dict)
{
    uint64_t buckets = get(dict, &shared_of(dict)->table.buckets);
    if (buckets >= FIRST_BUCKETS && buckets <= FIRST_BUCKETS + dict->heap.end / 8)
        return buckets;
    dict->heap.error = pp__fail(-EPROTO, "the dictionary's memory was overwritten");
    return FIRST_BUCKETS;
}

/* The buckets that this one and those behind it, as far as they are there, were split from. */
static uint64_t half_of(uint64_t buckets)
{
    uint64_t half = FIRST_BUCKETS;
    while (half * 2 <= buckets)
        half *= 2;
    return half;
}

static uint64_t bucket_of(pp_dict *dict, uint64_t hashed)
{
    uint64_t buckets = count_buckets(dict), half = half_of(buckets);
    uint64_t bucket = hashed & (half * 2 - 1);
    return bucket < buckets ? bucket : bucket - half;
}

/* Key and value of an entry, if it fits its block; else NULL, and the error is noted. */
static const unsigned char *look_into(pp_dict *dict, uint64_t entry, uint64_t *key_size, struct found *found)
{
    uint64_t sizes = pp__heap_load(&dict->heap, entry + SIZES);
    *key_size = sizes >> 32;
    found->size = (uint32_t)sizes;
    const unsigned char *key = pp__heap_bytes(&dict->heap, entry, KEY, padded(*key_size) + found->size);
    found->value = key ? key + padded(*key_size) : NULL;
    return key;
}

/* A chain has no more entries than the table. */
static struct found find(pp_dict *dict, const void *key, size_t key_size)
{
    struct found found = {.hash = hash(shared_of(dict)->table.seed, key, key_size)};
    uint64_t most = get(dict, &shared_of(dict)->table.count), size;
    found.link = bucket_word(dict, bucket_of(dict, found.hash));
    while ((found.entry = pp__heap_load(&dict->heap, found.link)) != 0) {
        if (most-- == 0 || dict->heap.error) {
            dict->heap.error = pp__fail(-EPROTO, "the dictionary's memory was overwritten");
            break;
        }
        if (pp__heap_load(&dict->heap, found.entry + HASH) == found.hash) {
            const unsigned char *there = look_into(dict, found.entry, &size, &found);
            if (there && size == key_size && memcmp(there, key, size) == 0)
                return found;
        }
        found.link = found.entry + NEXT;
    }
    return (struct found){.link = found.link, .hash = found.hash};
}

/* Makes the words of a segment, all empty; nobody reads them before the segment is there. */
static bool make_segment(pp_dict *dict, unsigned segment)
{
    _Atomic uint64_t *word = &shared_of(dict)->table.segments[segment];
    if (segment >= SEGMENTS)
        return false;
    if (get(dict, word))
        return true;
    uint64_t size = ((uint64_t)FIRST_BUCKETS << segment) * 8, block = pp__heap_allocate(&dict->heap, size);
    unsigned char *bytes = block ? pp__heap_bytes(&dict->heap, block, 0, size) : NULL;
    if (!bytes)
        return false;
    memset(bytes, 0, size);
    set(dict, word, block);
    return true;
}

/* Adds one bucket, to which those of another's entries go that belong there. Without memory for it chains become
 * longer, that is all. */
static void split(pp_dict *dict)
{
    struct table *table = &shared_of(dict)->table;
    uint64_t bucket = count_buckets(dict), half = half_of(bucket), most = get(dict, &table->count);
    if (!make_segment(dict, segment_of(bucket)))
        return;
    uint64_t stays = bucket_word(dict, bucket - half), goes = bucket_word(dict, bucket);
    uint64_t entry = pp__heap_load(&dict->heap, stays);
    while (entry && most-- > 0 && dict->heap.error == 0) {
        bool moves = pp__heap_load(&dict->heap, entry + HASH) & half;
        pp__heap_store(&dict->heap, moves ? goes : stays, entry);
        *(moves ? &goes : &stays) = entry + NEXT;
        entry = pp__heap_load(&dict->heap, entry + NEXT);
    }
    pp__heap_store(&dict->heap, stays, 0);
    pp__heap_store(&dict->heap, goes, 0);
    set(dict, &table->buckets, bucket + 1);
}

/* --------------------------------------------------------------------------------------------- changes */

/* Word by word through the journal. */
static void overwrite(pp_dict *dict, const struct found *found, const void *value)
{
    uint64_t at = (uint64_t)(found->value - dict->heap.base);
    for (uint64_t done = 0; done < found->size; done += 8) {
        uint64_t word = pp__heap_load(&dict->heap, at + done), left = found->size - done;
        memcpy(&word, (const unsigned char *)value + done, left < 8 ? left : 8);
        pp__heap_store(&dict->heap, at + done, word);
    }
}

/* An entry that nobody sees yet. 0: there is no room, or the heap has an error. */
static uint64_t make_entry(pp_dict *dict, const pp_dict_change *change, uint64_t hashed, uint64_t next,
                           const struct pp__dict_outcome *outcome)
{
    uint64_t whole = KEY + padded(change->key_size) + padded(outcome->size);
    uint64_t entry = pp__heap_allocate(&dict->heap, whole);
    unsigned char *bytes = entry ? pp__heap_bytes(&dict->heap, entry, 0, whole) : NULL;
    if (!bytes)
        return 0;
    uint64_t words[] = {next, hashed, (uint64_t)change->key_size << 32 | outcome->size};
    static_assert(sizeof words == KEY, "the key follows them");
    memcpy(bytes, words, sizeof words);
    memcpy(bytes + KEY, change->key, change->key_size);
    PP_FAULT("dict.bytes");
    if (outcome->size > 0)
        memcpy(bytes + KEY + padded(change->key_size), outcome->value, outcome->size);
    return entry;
}

static int fail_room(pp_dict *dict, size_t size)
{
    if (dict->heap.error || dict->heap.want)
        return dict->heap.error ? dict->heap.error : dict->heap.want;
    return pp__fail(-ENOSPC, "the dictionary has no room for %zu bytes; max_bytes is %llu", size,
                    (unsigned long long)shared_of(dict)->dict.max_bytes);
}

static int write_value(pp_dict *dict, const pp_dict_change *change, const struct found *found,
                       const struct pp__dict_outcome *outcome)
{
    struct table *table = &shared_of(dict)->table;
    if (found->entry && found->size == outcome->size && found->size <= IN_PLACE) {
        overwrite(dict, found, outcome->value);
        return dict->heap.error;
    }
    uint64_t next = found->entry ? pp__heap_load(&dict->heap, found->entry + NEXT) : 0;
    uint64_t entry = make_entry(dict, change, found->hash, next, outcome);
    if (!entry)
        return fail_room(dict, change->key_size + outcome->size);
    pp__heap_store(&dict->heap, found->link, entry);
    if (found->entry) {
        pp__heap_free(&dict->heap, found->entry);
        return dict->heap.error;
    }
    set(dict, &table->count, get(dict, &table->count) + 1);
    if (get(dict, &table->count) > count_buckets(dict))
        split(dict);
    return dict->heap.error;
}

static int remove_entry(pp_dict *dict, const struct found *found)
{
    struct table *table = &shared_of(dict)->table;
    pp__heap_store(&dict->heap, found->link, pp__heap_load(&dict->heap, found->entry + NEXT));
    pp__heap_free(&dict->heap, found->entry);
    set(dict, &table->count, get(dict, &table->count) - 1);
    return dict->heap.error;
}

static int change_one(pp_dict *dict, pp_dict_change *change)
{
    struct pp__dict_outcome outcome;
    struct found found = find(dict, change->key, change->key_size);
    if (dict->heap.error)
        return dict->heap.error;
    int error = pp__dict_decide(change, found.entry ? found.value : NULL, found.size, &outcome);
    if (error || outcome.act == PP__DICT_LEAVE)
        return error;
    return outcome.act == PP__DICT_WRITE ? write_value(dict, change, &found, &outcome) : remove_entry(dict, &found);
}

/* ------------------------------------------------------------------------------------------ operations */

/* Whoever held the mutex last and died: what it left is tidied whether the kernel tells of it or not. */
static int enter(pp_dict *dict)
{
    int error = pp__mutex_acquire(&shared_of(dict)->mutex, PP__NEVER, NULL);
    if (error == -EDEADLK)
        return pp__fail(error, "a signal handler uses the dictionary that its thread was using");
    if (error && error != -EOWNERDEAD) /* what a mutex has of errors besides these comes of garbage in its memory */
        return pp__fail(-EPROTO, "the dictionary's memory was overwritten");
    pp__heap_tidy(&dict->heap);
    error = dict->heap.error;
    if (error)
        pp__mutex_release(&shared_of(dict)->mutex);
    return error;
}

/* Gives the error of what was only read. */
static int leave(pp_dict *dict, int error)
{
    if (error == 0)
        error = dict->heap.error;
    PP_FAULT("dict.leave");
    pp__mutex_release(&shared_of(dict)->mutex);
    PP_FAULT("dict.left");
    return error;
}

static int commit(pp_dict *dict, int error)
{
    if (error && dict->heap.error == 0)
        dict->heap.error = error;
    error = pp__heap_commit(&dict->heap);
    dict->heap.error = 0; /* of giving blocks back: the change is done, and the next to come tries it again */
    return leave(dict, error);
}

static int table_get(pp_dict *dict, const void *key, size_t key_size, struct pp__dict_taker *taker)
{
    int error = enter(dict);
    if (error)
        return error;
    struct found found = find(dict, key, key_size);
    if (dict->heap.error == 0)
        error = found.entry ? taker->give(taker, key, key_size, found.value, found.size)
                            : pp__fail(-ENOENT, "the dictionary has no such key");
    return leave(dict, error);
}

static int table_update(pp_dict *dict, pp_dict_change *changes, size_t count, size_t *failed)
{
    int error = enter(dict);
    if (error)
        return error;
    for (size_t i = 0; i < count; i++) {
        error = change_one(dict, &changes[i]);
        if (error) {
            *failed = i;
            break;
        }
        PP_FAULT("dict.changed");
    }
    return commit(dict, error);
}

/* Where the descriptor is closed, as in a worker that was forked with `close_fds`: Linux 5.14 allocates through the
 * mapping. */
static int populate(struct pp__heap *heap, uint64_t from, uint64_t to)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    from = from / page * page;
    if (PP_SYS(madvise)(heap->base + from, to - from, MADV_POPULATE_WRITE) == 0)
        return 0;
    if (errno == EINVAL)
        return pp__fail(-EBADF,
                        "the dictionary's descriptor, by which it gets memory, has been closed in this process");
    return pp__fail(-ENOMEM, "no memory for a dictionary");
}

static int grow(struct pp__heap *heap, uint64_t from, uint64_t to)
{
    const pp_dict *dict = (const pp_dict *)(const void *)((const char *)heap - offsetof(pp_dict, heap));
    int fd = pp__object_fd(&dict->object);
    return fd >= 0 ? pp__segment_allocate(fd, from, to - from) : populate(heap, from, to);
}

/* What lies behind the first piece has no memory any more; nothing of it is in use. */
static void give_memory_back(pp_dict *dict)
{
    struct pp__heap_shared *heap = &shared_of(dict)->heap;
    uint64_t keep = dict->heap.begin + GRAIN, memory = pp__load_relaxed(&heap->memory);
    if (memory <= keep || memory > dict->heap.end)
        return;
    pp__store_relaxed(&heap->memory, keep); /* before it goes; who dies in between leaves memory that is unused */
    PP_FAULT("dict.shrinking");
    PP_SYS(madvise)(dict->heap.base + keep, memory - keep, MADV_REMOVE);
}

static int table_clear(pp_dict *dict)
{
    struct table *table = &shared_of(dict)->table;
    int error = enter(dict);
    if (error)
        return error;
    for (unsigned i = 0; i < FIRST_BUCKETS; i++)
        set(dict, &table->first[i], 0);
    for (unsigned i = 0; i < SEGMENTS; i++)
        set(dict, &table->segments[i], 0);
    set(dict, &table->buckets, FIRST_BUCKETS);
    set(dict, &table->count, 0);
    pp__heap_reset(&dict->heap);
    error = pp__heap_commit(&dict->heap);
    if (error == 0)
        give_memory_back(dict);
    return leave(dict, error);
}

static int table_count(pp_dict *dict, uint64_t *count)
{
    int error = enter(dict);
    if (error)
        return error;
    *count = get(dict, &shared_of(dict)->table.count);
    return leave(dict, 0);
}

static int walk_chain(pp_dict *dict, uint64_t bucket, struct pp__dict_taker *taker, uint64_t *most)
{
    struct found found;
    uint64_t entry = pp__heap_load(&dict->heap, bucket_word(dict, bucket)), key_size;
    int error = 0;
    while (entry && error == 0) {
        const unsigned char *key = look_into(dict, entry, &key_size, &found);
        if (!key || (*most)-- == 0)
            return pp__fail(-EPROTO, "the dictionary's memory was overwritten");
        error = taker->give(taker, key, key_size, found.value, found.size);
        entry = pp__heap_load(&dict->heap, entry + NEXT);
    }
    return error;
}

static int table_walk(pp_dict *dict, struct pp__dict_taker *taker)
{
    int error = enter(dict);
    if (error)
        return error;
    uint64_t most = get(dict, &shared_of(dict)->table.count), buckets = count_buckets(dict);
    for (uint64_t bucket = 0; error == 0 && dict->heap.error == 0 && bucket < buckets; bucket++)
        error = walk_chain(dict, bucket, taker, &most);
    return leave(dict, error);
}

static void table_leave(pp_dict *dict)
{
    (void)dict;
}

const struct pp__dict_kind pp__dict_table = {table_get,   table_update, table_clear,
                                             table_count, table_walk,   table_leave};

/* --------------------------------------------------------------------------------------------- handles */

struct layout {
    uint64_t journal, begin, end;
};

static struct layout lay_out(uint64_t max_bytes)
{
    struct layout layout = {.journal = (sizeof(struct shared_table) + 4095) / 4096 * 4096};
    uint64_t journal = pp__heap_journal_size(max_bytes, layout.journal / 8);
    layout.begin = layout.journal + (journal + GRAIN - 1) / GRAIN * GRAIN;
    layout.end = layout.begin + max_bytes / 16 * 16;
    return layout;
}

static void fill_handle(pp_dict *dict, struct layout layout)
{
    dict->kind = &pp__dict_table;
    dict->heap.base = dict->object.memory;
    dict->heap.shared = &shared_of(dict)->heap;
    dict->heap.grow = grow;
    dict->heap.journal = layout.journal;
    dict->heap.begin = layout.begin;
    dict->heap.end = layout.end;
}

static void fill_segment(pp_dict *dict, uint64_t max_bytes)
{
    struct shared_table *shared = shared_of(dict);
    shared->dict.max_bytes = max_bytes;
    if (PP_SYS(getrandom)(shared->table.seed, sizeof shared->table.seed, GRND_NONBLOCK) < 0)
        shared->table.seed[0] = pp__now();
    pp__store_relaxed(&shared->table.buckets, FIRST_BUCKETS);
    pp__store_relaxed(&shared->heap.journal_memory, dict->heap.journal + JOURNAL_LEAST);
    pp__heap_init(&dict->heap);
}

int pp__dict_table_create(const pp_dict_options *options, pp_dict **dict)
{
    struct pp__object *object;
    uint64_t bytes = options->max_bytes ? options->max_bytes : DEFAULT_BYTES;
    if (bytes > LARGEST)
        return pp__fail(-EINVAL, "max_bytes is %zu, more than an address space", options->max_bytes);
    struct layout layout = lay_out(bytes);
    int error = pp__object_create_growing("procpool-dict", PP__KIND_DICT, layout.end, layout.journal + JOURNAL_LEAST,
                                          sizeof **dict, &object);
    if (error)
        return error;
    error = pp__mutex_init(&((struct shared_table *)object->memory)->mutex);
    if (error) {
        pp__object_unref(object);
        return error;
    }
    *dict = (pp_dict *)object;
    fill_handle(*dict, layout);
    fill_segment(*dict, bytes);
    return 0;
}

int pp__dict_table_adopt(pp_dict *dict)
{
    uint64_t bytes = shared_of(dict)->dict.max_bytes;
    if (dict->object.size < sizeof(struct shared_table) || bytes > LARGEST || lay_out(bytes).end > dict->object.size)
        return pp__fail(-EINVAL, "the descriptor is of a dictionary that does not fit its memory");
    fill_handle(dict, lay_out(bytes));
    return 0;
}
