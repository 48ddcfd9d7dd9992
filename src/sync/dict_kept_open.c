/* SPDX-License-Identifier: MIT */
/* Opening the files of kept dictionaries, once in each process. */
#if __has_include(<lmdb.h>)
#include "base/atomic.h"
#include "base/error.h"
#include "base/seam.h"
#include "sync/dict_kept.h"
#include "sync/participant.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define DEAD_READERS 16
#define RECORDS_CHECKED 4096 /* when a file is opened, so that this takes no longer for a larger one */

static struct pp__kept_process *_Atomic first;

/*
 * The table's lock: the generation of the process that has it, or 0. A fork may leave it, in the child, to a thread
 * that is not there: so what belongs to another process is free. The list is whole at every instruction: whatever leads
 * to an entry (`first`, `next`, a handle's `opened`) is stored when the entry is whole (lead), and followed by the next
 * to have the lock or by a child that was forked in the middle.
 */
static _Atomic uint64_t holder;

static void lock_table(uint64_t self)
{
    uint64_t found = 0;
    /* Pairs with the store in unlock_table: all that was done before it is seen. And release, for a child that finds
     * the generation here: it does not draw the same. */
    while (
        !atomic_compare_exchange_strong_explicit(&holder, &found, self, memory_order_acq_rel, memory_order_relaxed)) {
        if (found == self) {
            nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
            found = 0;
        }
    }
}

static void unlock_table(void)
{
    pp__store_release(&holder, 0); /* pairs with the exchange of lock_table */
}

static void lead(struct pp__kept_process *_Atomic *place, struct pp__kept_process *to)
{
    pp__store_release(place, to); /* pairs with the load in follow */
}

static struct pp__kept_process *follow(struct pp__kept_process *const _Atomic *place)
{
    return pp__load_acquire(place); /* pairs with the store in lead */
}

int pp__kept_fail(const struct pp__lmdb *lmdb, int code)
{
    int error = code > 0 ? -code : -EIO;
    switch (code) {
    case MDB_NOTFOUND:
        return pp__fail(-ENOENT, "the dictionary has no such key");
    case MDB_MAP_FULL:
    case MDB_TXN_FULL:
        return pp__fail(-ENOSPC,
                        "the dictionary's file has no room within max_bytes; a reader that is stopped takes some, too");
    case MDB_READERS_FULL:
        return pp__fail(-EUSERS, "more processes and threads read the dictionary than max_readers");
    case PP__KEPT_FOREIGN:
        return pp__fail(-EPROTO, "the file is another program's and no dictionary: it has named databases, or keys of "
                                 "another kind");
    case MDB_CORRUPTED:
    case MDB_INVALID:
    case MDB_VERSION_MISMATCH:
    case MDB_INCOMPATIBLE:
    case MDB_PAGE_NOTFOUND:
    case MDB_PANIC:
        error = -EPROTO;
        break;
    default:
        break;
    }
    return pp__fail(error, "the dictionary's file: %s", lmdb->mdb_strerror(code));
}

/* ----------------------------------------------------------------------------------------------- turns */

/* Beyond what a file can have; no other program locks there. One of the process's, so that forked children do not hold
 * it on. */
#define TURNS ((off_t)1 << 62)

void pp__kept_take_turn(struct pp__kept_process *process, enum pp__kept_turn turn)
{
    pthread_mutex_lock(&process->turns[turn]);
    pp__kept_wait_for_lock(process->fd, TURNS + (off_t)turn);
}

void pp__kept_end_turn(struct pp__kept_process *process, enum pp__kept_turn turn)
{
    pp__kept_unlock(process->fd, TURNS + (off_t)turn);
    pthread_mutex_unlock(&process->turns[turn]);
}

/* --------------------------------------------------------------------------------------------- opening */

static int configure(struct pp__kept_process *process, const struct pp__shared_kept *shared)
{
    int code = process->lmdb->mdb_env_set_mapsize(process->env, shared->dict.max_bytes);
    if (code == 0)
        code = process->lmdb->mdb_env_set_maxreaders(process->env, shared->dict.max_readers + DEAD_READERS);
    if (code == 0)
        code = process->lmdb->mdb_env_set_maxdbs(process->env, 1); /* for pp__kept_check_records */
    return code;
}

static int open_table_in_turn(struct pp__kept_process *process)
{
    uint64_t used;
    MDB_txn *transaction;
    int code = process->lmdb->mdb_txn_begin(process->env, NULL, MDB_RDONLY, &transaction);
    if (code == MDB_READERS_FULL && process->lmdb->mdb_reader_check(process->env, NULL) == 0)
        code = process->lmdb->mdb_txn_begin(process->env, NULL, MDB_RDONLY, &transaction);
    if (code == MDB_MAP_RESIZED) {
        process->lmdb->mdb_env_set_mapsize(process->env, 0);
        code = process->lmdb->mdb_txn_begin(process->env, NULL, MDB_RDONLY, &transaction);
    }
    if (code)
        return code;
    unsigned flags = 0;
    code = process->lmdb->mdb_dbi_open(transaction, NULL, 0, &process->table);
    if (code == 0)
        code = process->lmdb->mdb_dbi_flags(transaction, process->table, &flags);
    if (code == 0 && flags != 0)
        code = PP__KEPT_FOREIGN; /* its keys are numbers, or have several values */
    if (code == 0 && pp__kept_check_transaction(process, transaction, &used) != 0)
        code = MDB_CORRUPTED;
    if (code == 0)
        code = pp__kept_check_records(process, transaction, RECORDS_CHECKED);
    if (code) {
        process->lmdb->mdb_txn_abort(transaction);
        return code;
    }
    return process->lmdb->mdb_txn_commit(transaction);
}

static int open_table(struct pp__kept_process *process)
{
    struct stat status;
    int code = process->lmdb->mdb_env_get_fd(process->env, &process->fd);
    if (code == 0 && PP_SYS(fstat)(process->fd, &status) != 0)
        code = errno;
    if (code)
        return code;
    process->device = status.st_dev;
    process->inode = status.st_ino;
    pp__kept_take_turn(process, PP__KEPT_BEGIN);
    code = open_table_in_turn(process);
    pp__kept_end_turn(process, PP__KEPT_BEGIN);
    return code;
}

/* LMDB's own locks tell dead writers; threads are free to read where they are (NOTLS). */
static int open_environment(struct pp__kept_process *process, const struct pp__shared_kept *shared)
{
    unsigned flags = MDB_NOSUBDIR | MDB_NOTLS | (shared->dict.no_flush ? MDB_NOSYNC : 0);
    int code = process->lmdb->mdb_env_create(&process->env);
    if (code)
        return code;
    code = configure(process, shared);
    if (code == 0)
        code = process->lmdb->mdb_env_open(process->env, shared->path, flags, 0666);
    if (code == 0)
        code = open_table(process);
    if (code)
        process->lmdb->mdb_env_close(process->env);
    return code;
}

static int fail_replaced(const struct pp__shared_kept *shared)
{
    return pp__fail(-ENOENT, "%s is not the file any more that the dictionary was", shared->path);
}

static bool is_file_of(const struct pp__kept_process *process, const struct stat *status)
{
    return process->device == status->st_dev && process->inode == status->st_ino;
}

static bool is_lock_file_of(const struct pp__kept_process *process, const struct stat *status)
{
    return process->lock_device == status->st_dev && process->lock_inode == status->st_ino;
}

/* A file that is not there is NULL. `file` itself is not open here. */
static int check_against(const struct pp__kept_process *process, const char *path, const struct stat *file,
                         const char *lock_path, const struct stat *lock_file)
{
    if (lock_file && is_lock_file_of(process, lock_file))
        return pp__fail(-EBUSY, "%s was removed or replaced while this process has it open", path);
    if (lock_file && is_file_of(process, lock_file))
        return pp__fail(-EPROTO, "%s is there, and is a dictionary", lock_path);
    if (file && is_lock_file_of(process, file))
        return pp__fail(-EPROTO, "%s is the lock file of a dictionary", path);
    return 0;
}

/* Whoever closes a descriptor of a file lets go of all locks that its process has on it: what is in use here with
 * another file, or as one of the other kind, can't even be looked into. */
static int check_in_use(const struct pp__shared_kept *shared)
{
    char lock_path[PP__KEPT_LOCK_PATH_MAX];
    struct stat file, lock_file;
    int error = 0;
    pp__kept_lock_path(shared, lock_path);
    bool has_file = PP_SYS(stat)(shared->path, &file) == 0, has_lock_file = PP_SYS(stat)(lock_path, &lock_file) == 0;
    for (struct pp__kept_process *p = follow(&first); p && !error; p = follow(&p->next))
        if (p->owner == pp__participant_generation())
            error =
                check_against(p, shared->path, has_file ? &file : NULL, lock_path, has_lock_file ? &lock_file : NULL);
    return error;
}

/* What was opened is what a handle is of, and has no other name, under which others would have other locks. */
static int check_file(struct pp__kept_process *process, const struct pp__shared_kept *shared)
{
    struct stat status;
    if (PP_SYS(fstat)(process->fd, &status) != 0)
        return pp__fail_errno(errno, "%s", shared->path);
    if (shared->inode && (status.st_dev != shared->device || status.st_ino != shared->inode))
        return fail_replaced(shared);
    if (status.st_nlink > 1)
        return pp__fail(-EMLINK, "%s has other names (hard links), so that it could be locked under each of them",
                        shared->path);
    return 0;
}

/* LMDB makes what is not there, and only the first who opens may. */
static int check_path(const struct pp__shared_kept *shared)
{
    struct stat status;
    bool same = shared->inode == 0 || (PP_SYS(stat)(shared->path, &status) == 0 && status.st_dev == shared->device &&
                                       status.st_ino == shared->inode);
    return same ? 0 : fail_replaced(shared);
}

/* LMDB would wait for ever for what a pipe has to say, for one; and a lock file beside it would stay. */
static int check_kind(const char *path)
{
    struct stat status;
    if (PP_SYS(stat)(path, &status) != 0 || S_ISREG(status.st_mode))
        return 0; /* one that can't be had is told when it is opened */
    return S_ISDIR(status.st_mode) ? pp__fail(-EISDIR, "%s is a directory", path)
                                   : pp__fail(-EINVAL, "%s is no regular file", path);
}

static int open_files(struct pp__kept_process *process, const struct pp__shared_kept *shared)
{
    int code, error = check_kind(shared->path);
    if (!error)
        error = pp__kept_open_lock(process, shared, shared->dict.max_readers + DEAD_READERS);
    if (error)
        return error;
    code = open_environment(process, shared);
    if (code) {
        error = code > 0 ? pp__fail_errno(code, "%s", shared->path) : pp__kept_fail(process->lmdb, code);
        pp__kept_close_lock(process, shared);
        return error;
    }
    error = check_file(process, shared);
    if (error == 0)
        error = pp__kept_tie(process, shared);
    if (error) {
        process->lmdb->mdb_env_close(process->env);
        pp__kept_close_lock(process, NULL);
    }
    return error;
}

/* *process is written only on success. */
static int open_process(const struct pp__shared_kept *shared, struct pp__kept_process **process)
{
    const struct pp__lmdb *lmdb = pp__lmdb_load();
    if (!lmdb)
        return pp__fail(-ENOTSUP, "kept dictionaries need LMDB, liblmdb.so.0, which is not here (Debian: liblmdb0)");
    int error = check_path(shared);
    if (!error)
        error = check_in_use(shared);
    if (error)
        return error;
    struct pp__kept_process *made = PP_SYS(calloc)(1, sizeof *made);
    if (!made)
        return pp__fail(-ENOMEM, "no memory for a dictionary");
    made->lmdb = lmdb;
    pthread_mutex_init(&made->turns[PP__KEPT_CHANGE], NULL);
    pthread_mutex_init(&made->turns[PP__KEPT_BEGIN], NULL);
    struct pp__kept_quiet quiet;
    pp__kept_begin_quiet(&quiet);
    error = open_files(made, shared);
    pp__kept_end_quiet(&quiet);
    if (error) {
        free(made);
        return error;
    }
    pthread_rwlock_init(&made->lock, NULL);
    made->owner = pp__participant_generation();
    made->limit = shared->dict.max_bytes;
    made->no_flush = shared->dict.no_flush != 0;
    lead(&made->next, follow(&first));
    lead(&first, made);
    *process = made;
    return 0;
}

/* The handle's file if this process has it open, be it under another name by now. */
static struct pp__kept_process *find(const struct pp__shared_kept *shared)
{
    struct stat status = {.st_dev = shared->device, .st_ino = shared->inode};
    struct pp__kept_process *process = follow(&first);
    uint64_t self = pp__participant_generation();
    if (shared->inode == 0 && PP_SYS(stat)(shared->path, &status) != 0)
        return NULL;
    while (process && (process->owner != self || process->device != status.st_dev || process->inode != status.st_ino))
        process = follow(&process->next);
    return process;
}

/* LMDB's code. */
static int raise_limit(struct pp__kept_process *process, uint64_t limit)
{
    MDB_envinfo info;
    int code = process->lmdb->mdb_env_info(process->env, &info);
    if (code == 0 && info.me_mapsize < limit)
        code = process->lmdb->mdb_env_set_mapsize(process->env, limit);
    if (code == 0)
        process->limit = limit;
    return code;
}

/* All handles of a process have one map: the larger limit is that of all, and one that wants changes to be flushed has
 * all of them flushed. */
static int attach(struct pp__kept_process *process, const struct pp__shared_kept *shared)
{
    bool larger = shared->dict.max_bytes > process->limit, flush = process->no_flush && !shared->dict.no_flush;
    int code = 0;
    if (!larger && !flush)
        return 0;
    pthread_rwlock_wrlock(&process->lock);
    if (larger)
        code = raise_limit(process, shared->dict.max_bytes);
    if (code == 0 && flush)
        code = process->lmdb->mdb_env_set_flags(process->env, MDB_NOSYNC, 0);
    if (code == 0 && flush)
        process->no_flush = false;
    pthread_rwlock_unlock(&process->lock);
    return code ? pp__kept_fail(process->lmdb, code) : 0;
}

int pp__kept_enter(pp_dict *dict, struct pp__kept_process **process)
{
    const struct pp__shared_kept *shared = dict->object.memory;
    uint64_t self = pp__participant_generation();
    int error = 0;
    if (self == 0)
        return pp__fail(-ENOMEM, "no memory for a dictionary");
    lock_table(self);
    struct pp__kept_process *opened = follow(&dict->opened);
    if (!opened || opened->owner != self) {
        opened = find(shared);
        error = opened ? attach(opened, shared) : open_process(shared, &opened);
        if (error)
            opened = NULL;
        if (opened) {
            opened->handles++;
            lead(&dict->opened, opened);
        }
    }
    if (opened)
        pthread_rwlock_rdlock(&opened->lock);
    unlock_table();
    *process = opened;
    return error;
}

void pp__kept_leave(struct pp__kept_process *process)
{
    pthread_rwlock_unlock(&process->lock);
}

/* Under the table's lock. Only so that what is kept can be reached. */
static struct pp__kept_process *given_up;

/* Where LMDB's descriptors have become another's, closing them would be worse than to keep its memory. */
static void close_process(struct pp__kept_process *process)
{
    struct pp__kept_process *_Atomic *place = &first;
    for (struct pp__kept_process *at; (at = follow(place)) != process;)
        place = &at->next;
    lead(place, follow(&process->next));
    if (pp__kept_check(process) == -EBADF) {
        lead(&process->next, given_up);
        given_up = process;
        return;
    }
    process->lmdb->mdb_env_close(process->env);
    pp__kept_close_lock(process, NULL);
    pthread_rwlock_destroy(&process->lock);
    free(process);
}

void pp__kept_forget(pp_dict *dict)
{
    uint64_t self = pp__participant_generation();
    if (self == 0)
        return; /* it has opened nothing */
    lock_table(self);
    struct pp__kept_process *opened = follow(&dict->opened);
    if (opened && opened->owner == self && --opened->handles == 0)
        close_process(opened);
    unlock_table();
}

int pp__kept_follow(struct pp__kept_process *process)
{
    pthread_rwlock_wrlock(&process->lock);
    int code = process->lmdb->mdb_env_set_mapsize(process->env, 0);
    pthread_rwlock_unlock(&process->lock);
    return code ? pp__kept_fail(process->lmdb, code) : 0;
}

/* A quarter of it each time. A file that is longer still is one that others, with another limit, have made so. */
static int stretch(struct pp__kept_process *process)
{
    MDB_envinfo info;
    MDB_stat status;
    uint64_t most = process->limit + PP__KEPT_TO_DELETE;
    int code = process->lmdb->mdb_env_info(process->env, &info);
    if (code == 0)
        code = process->lmdb->mdb_env_stat(process->env, &status);
    if (code == 0 && info.me_mapsize >= most && (info.me_last_pgno + 1) * status.ms_psize <= most)
        code = MDB_MAP_FULL;
    return code ? code : process->lmdb->mdb_env_set_mapsize(process->env, info.me_mapsize + PP__KEPT_TO_DELETE / 4);
}

int pp__kept_stretch(struct pp__kept_process *process)
{
    pthread_rwlock_wrlock(&process->lock);
    int code = stretch(process);
    pthread_rwlock_unlock(&process->lock);
    return code ? pp__kept_fail(process->lmdb, code) : 0;
}
#else
typedef int pp__kept_open_is_empty; /* a translation unit needs a declaration */
#endif
