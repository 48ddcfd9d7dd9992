/* SPDX-License-Identifier: MIT */
/*
 * A dictionary of many processes: what its kinds share. Public functions check their arguments, and hand them to the
 * handle's kind: the table in shared memory (dict_table.c), or LMDB (dict_kept.c).
 */
#ifndef PP_SYNC_DICT_H
#define PP_SYNC_DICT_H

#include "procpool.h"
#include "sync/dict_heap.h"
#include "sync/mutex.h"
#include "sync/object.h"

#include <limits.h>
#include <stdalign.h>

/* What both begin with. Written by the maker before anybody else has the descriptor, and by nobody afterwards. */
struct pp__shared_dict {
    struct pp__object_head head;
    uint64_t max_bytes;
    uint32_t kept;
    uint32_t max_readers;
    uint32_t no_flush;
    uint32_t padding;
};

/* All that there is in memory of a kept one; written as above. */
struct pp__shared_kept {
    struct pp__shared_dict dict;
    char path[PATH_MAX];    /* absolute, without links, ends with a NUL */
    uint64_t device, inode; /* of the file that the maker opened; 0 while it does */
};

/* How a value goes to who asked. `give` may refuse it: then its error is the operation's. Called with the lock held, so
 * it calls nobody else. */
struct pp__dict_taker {
    int (*give)(struct pp__dict_taker *taker, const void *key, size_t key_size, const void *value, size_t size);
};

struct pp__kept_process;

struct pp_dict {
    struct pp__object object;
    const struct pp__dict_kind *kind;
    struct pp__heap heap;                    /* of the anonymous kind, under its mutex */
    struct pp__kept_process *_Atomic opened; /* of the kept kind, under its table's lock */
};

/* Changes and keys are checked. Each function: 0 or a negative errno. */
struct pp__dict_kind {
    int (*get)(pp_dict *dict, const void *key, size_t key_size, struct pp__dict_taker *taker);
    int (*update)(pp_dict *dict, pp_dict_change *changes, size_t count, size_t *failed); /* *failed: `count` before */
    int (*clear)(pp_dict *dict);
    int (*count)(pp_dict *dict, uint64_t *count);
    int (*walk)(pp_dict *dict, struct pp__dict_taker *taker);
    void (*leave)(pp_dict *dict); /* the handle's last reference goes */
};

extern const struct pp__dict_kind pp__dict_table, pp__dict_kept;

/* What a change comes to. */
struct pp__dict_outcome {
    enum { PP__DICT_LEAVE, PP__DICT_WRITE, PP__DICT_REMOVE } act;
    const void *value;
    size_t size;
};

/* Where a key has `present` of `present_size` bytes (NULL: no value): what is to be done, or the error of the change's
 * condition. */
int pp__dict_decide(pp_dict_change *change, const void *present, size_t present_size, struct pp__dict_outcome *outcome);

/* Both make the handle of one kind; `options` are checked. */
int pp__dict_table_create(const pp_dict_options *options, pp_dict **dict);
int pp__dict_kept_create(const pp_dict_options *options, pp_dict **dict);

/* What is mapped behind the handle is checked. 0 or -EINVAL. */
int pp__dict_table_adopt(pp_dict *dict);
int pp__dict_kept_adopt(pp_dict *dict);

#endif
