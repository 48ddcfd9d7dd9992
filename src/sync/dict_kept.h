/* SPDX-License-Identifier: MIT */
/*
 * The files of kept dictionaries that this process has open. LMDB wants each file to be opened once in a process at
 * most, and by none for its forked children: so there is a table, by device and inode, and what a parent has opened is
 * left alone by the child, which opens the file for itself.
 */
#ifndef PP_SYNC_DICT_KEPT_H
#define PP_SYNC_DICT_KEPT_H

#include "sync/dict.h"
#include "sync/lmdb.h"

#include <pthread.h>
#include <signal.h>

/* Under the table's lock, but for what is behind `env`. */
struct pp__kept_process {
    const struct pp__lmdb *lmdb;
    MDB_env *env;
    MDB_dbi table;
    uint64_t owner; /* the generation of the process whose it is */
    dev_t device;
    ino_t inode;
    unsigned handles;
    uint64_t limit;        /* the largest max_bytes of its handles; changes only under `lock` for writing, too */
    bool no_flush;         /* all of its handles want that */
    pthread_rwlock_t lock; /* held for reading while a transaction is open, for writing while the map is moved */
    struct pp__kept_process *_Atomic next;
    int fd;               /* of the file; LMDB's */
    _Atomic int64_t size; /* the file's, when it was last seen; it never becomes less */
    pthread_mutex_t turns[2];
    int lock_file; /* PATH-lock */
    dev_t lock_device;
    ino_t lock_inode;
    bool fresh; /* nothing was there when it was opened */
};

/* What one thread of all processes does at a time: to change the file, or to begin to read it. */
enum pp__kept_turn { PP__KEPT_CHANGE, PP__KEPT_BEGIN };

/* The handle's file, opened for this process if it was not, and locked for a transaction. 0 or a negative errno. */
int pp__kept_enter(pp_dict *dict, struct pp__kept_process **process);
void pp__kept_leave(struct pp__kept_process *process);

/*
 * LMDB has robust mutexes for these turns, but one who is killed after it was woken, and before it has the mutex, can
 * leave others asleep for ever, though nobody has it. So they are waited for by a lock of the file's that the kernel
 * keeps, whose waiters it wakes whoever dies; then the mutex is free. Who can't have that lock goes on without it.
 */
void pp__kept_take_turn(struct pp__kept_process *process, enum pp__kept_turn turn);
void pp__kept_end_turn(struct pp__kept_process *process, enum pp__kept_turn turn);

/*
 * To be called before a transaction and in it. Whether the file is what it was: -EBADF, its descriptor was closed
 * behind the library's back, and may be another file's by now; -EPROTO, it was cut. What is cut off, and no longer than
 * that, is not seen if it was free, or added by others and never looked at here.
 */
int pp__kept_check(struct pp__kept_process *process);
int pp__kept_check_transaction(struct pp__kept_process *process, MDB_txn *transaction, uint64_t *used);

/*
 * A database of the file's that has a name, as other programs make them, is a record of the table's, too: no value, but
 * where that database is. PP__KEPT_FOREIGN if one is among the first `most` records, else a code of LMDB's. Only where
 * nobody else in this process does the same.
 */
int pp__kept_check_records(struct pp__kept_process *process, MDB_txn *transaction, size_t most);

#define PP__KEPT_FOREIGN (MDB_LAST_ERRCODE + 1) /* a code beside LMDB's: the file is another program's */
#define PP__KEPT_UNCHECKED 64                   /* keys of a walk, between two looks at the file's size */

/* A lock of the process's at byte `at` of a file, where LMDB has none. Who can't have it goes on without. */
void pp__kept_wait_for_lock(int fd, off_t at);
void pp__kept_unlock(int fd, off_t at);

#define PP__KEPT_LOCK_PATH_MAX (PATH_MAX + 8)
void pp__kept_lock_path(const struct pp__shared_kept *shared, char path[PP__KEPT_LOCK_PATH_MAX]);

/*
 * Before LMDB opens the two files: nobody else begins to, and the lock file is one (else it is left as it is: -EPROTO)
 * and on the disk, for so many readers. Then LMDB opens them, and tie sees to it that neither is in use together with
 * another one. 0 or a negative errno: -EBUSY.
 */
int pp__kept_open_lock(struct pp__kept_process *process, const struct pp__shared_kept *shared, uint64_t readers);
int pp__kept_tie(struct pp__kept_process *process, const struct pp__shared_kept *shared);

/* Behind LMDB's own closing: with it all locks of this process are gone. `failed`, or NULL: it could not be opened. */
void pp__kept_close_lock(struct pp__kept_process *process, const struct pp__shared_kept *failed);

/* How many bytes of the file are in use, as the transaction sees it. 0 or a negative errno. */
int pp__kept_used(const struct pp__kept_process *process, MDB_txn *transaction, uint64_t *used);

/*
 * SIGXFSZ, by which the kernel kills who writes beyond RLIMIT_FSIZE, is kept from this thread between the two, so that
 * the write fails; what came of it is gone afterwards. Neither touches errno.
 */
struct pp__kept_quiet {
    sigset_t before;
    bool pending; /* it was before */
};

void pp__kept_begin_quiet(struct pp__kept_quiet *quiet);
void pp__kept_end_quiet(const struct pp__kept_quiet *quiet);

/* The errno for a code with which LMDB ends a change: a short write, for which it has one word (EIO), is a full disk or
 * a full RLIMIT_FSIZE. */
int pp__kept_fail_change(const struct pp__kept_process *process, int code);

/* The handle has none any more. */
void pp__kept_forget(pp_dict *dict);

/* Takes the map to the size that others have made it. Not between enter and leave. 0 or a negative errno. */
int pp__kept_follow(struct pp__kept_process *process);

/* The same, and further, so that something can be deleted where all is full: in all by no more than PP__KEPT_TO_DELETE
 * beyond `limit`. Then -ENOSPC. */
int pp__kept_stretch(struct pp__kept_process *process);

#define PP__KEPT_TO_DELETE ((size_t)1 << 20)

/* The errno for a code of LMDB's, with its words. */
int pp__kept_fail(const struct pp__lmdb *lmdb, int code);

#endif
