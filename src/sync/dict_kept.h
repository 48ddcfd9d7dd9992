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
    int fd; /* of the file; LMDB's */
    pthread_mutex_t turns[2];
};

/* What one thread of all processes does at a time: to change the file, or to begin to read it. */
enum pp__kept_turn { PP__KEPT_CHANGE, PP__KEPT_BEGIN };

/* The handle's file, opened for this process if it was not, and locked for a transaction. 0 or a negative errno. */
int pp__kept_enter(pp_dict *dict, struct pp__kept_process **process);
void pp__kept_leave(struct pp__kept_process *process);

/*
 * LMDB has robust mutexes for these turns, but one who is killed after it was woken, and before it has the mutex, can leave others asleep for ever, though
 * nobody has it. So they are waited for by a lock of the file's that the kernel keeps, whose waiters it wakes whoever dies; then the mutex is free.
 * Who can't have that lock goes on without it.
 */
void pp__kept_take_turn(struct pp__kept_process *process, enum pp__kept_turn turn);
void pp__kept_end_turn(struct pp__kept_process *process, enum pp__kept_turn turn);

/* The handle has none any more. */
void pp__kept_forget(pp_dict *dict);

/* Takes the map to the size that others have made it (more: 0), or `more` bytes beyond. Not between enter and leave. 0 or a negative errno. */
int pp__kept_move(struct pp__kept_process *process, size_t more);

/* The errno for a code of LMDB's, with its words. */
int pp__kept_fail(const struct pp__lmdb *lmdb, int code);

#endif
