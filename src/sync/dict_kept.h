/* SPDX-License-Identifier: MIT */
/*
 * The files of kept dictionaries that this process has open. LMDB wants each file to be opened once in a process at most, and by none for its forked
 * children: so there is a table, by device and inode, and what a parent has opened is left alone by the child, which opens the file for itself.
 */
#ifndef PP_SYNC_DICT_KEPT_H
#define PP_SYNC_DICT_KEPT_H

#include "sync/dict.h"
#include "sync/lmdb.h"

#include <pthread.h>

/* Under the table's lock, but for what is behind `env`. */
struct pp__kept_process {
    const struct pp__lmdb *lmdb;
    MDB_env *env;
    MDB_dbi table;
    pid_t pid; /* whose it is */
    dev_t device;
    ino_t inode;
    unsigned handles;
    pthread_rwlock_t lock; /* held for reading while a transaction is open, for writing while the map is moved */
    struct pp__kept_process *_Atomic next;
};

/* The handle's file, opened for this process if it was not, and locked for a transaction. 0 or a negative errno. */
int pp__kept_enter(pp_dict *dict, struct pp__kept_process **process);
void pp__kept_leave(struct pp__kept_process *process);

/* The handle has none any more. */
void pp__kept_forget(pp_dict *dict);

/* Takes the map to the size that others have made it (more: 0), or `more` bytes beyond. Not between enter and leave. 0 or a negative errno. */
int pp__kept_move(struct pp__kept_process *process, size_t more);

/* The errno for a code of LMDB's, with its words. */
int pp__kept_fail(const struct pp__lmdb *lmdb, int code);

#endif
