/* SPDX-License-Identifier: MIT */
/* The file of a kept dictionary as others may leave it: closed, cut, on a full disk, or at the limit of what a process
 * may write. */
#if __has_include(<lmdb.h>)
#include "base/atomic.h"
#include "base/error.h"
#include "base/seam.h"
#include "sync/dict_kept.h"

#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>

#define MARKS 2 /* the first pages, which say what the state is */

static bool is_own(const struct pp__kept_process *process, struct stat *status)
{
    return PP_SYS(fstat)(process->fd, status) == 0 && status->st_dev == process->device &&
           status->st_ino == process->inode;
}

int pp__kept_check(struct pp__kept_process *process)
{
    struct stat status;
    /* Pairs with the exchange below, of a thread that has looked before. */
    int64_t seen = pp__load_acquire(&process->size);
    if (!is_own(process, &status))
        return pp__fail(-EBADF, "the descriptors of the dictionary's file have been closed in this process");
    if (status.st_size < seen || status.st_size == 0)
        return pp__fail(-EPROTO, "the dictionary's file was cut to %lld bytes", (long long)status.st_size);
    /* Pairs with the load above, in another thread. */
    while (seen < status.st_size && !atomic_compare_exchange_weak_explicit(&process->size, &seen, status.st_size,
                                                                           memory_order_release, memory_order_relaxed))
        continue;
    return 0;
}

static size_t pages_of(const MDB_stat *status)
{
    return status->ms_branch_pages + status->ms_leaf_pages + status->ms_overflow_pages;
}

int pp__kept_used(const struct pp__kept_process *process, MDB_txn *transaction, uint64_t *used)
{
    MDB_stat keys, free_pages;
    int code = process->lmdb->mdb_stat(transaction, process->table, &keys);
    if (code == 0)
        code = process->lmdb->mdb_stat(transaction, 0, &free_pages);
    if (code)
        return pp__kept_fail(process->lmdb, code);
    *used = (uint64_t)(pages_of(&keys) + pages_of(&free_pages) + MARKS) * keys.ms_psize;
    return 0;
}

static bool is_long_enough(const struct pp__kept_process *process, uint64_t needed)
{
    return (uint64_t)pp__load_relaxed(&process->size) >= needed;
}

/*
 * The file is long enough for the pages that are in use. Not for the last one that was ever numbered: pages that are
 * free before they were ever written may be missing at its end.
 */
int pp__kept_check_transaction(struct pp__kept_process *process, MDB_txn *transaction, uint64_t *used)
{
    int error = pp__kept_used(process, transaction, used);
    if (error || is_long_enough(process, *used))
        return error;
    error = pp__kept_check(process); /* it may have grown in between */
    if (error == 0 && !is_long_enough(process, *used))
        error =
            pp__fail(-EPROTO, "the dictionary's file was cut; %llu bytes of it are needed", (unsigned long long)*used);
    return error;
}

#define PLACE (2 * sizeof(uint32_t) + 5 * sizeof(size_t)) /* where a database is: LMDB's MDB_db */

/* Which records are databases LMDB tells who opens one as such. */
static int check_record(const struct pp__lmdb *lmdb, MDB_txn *transaction, const MDB_val *key, const MDB_val *value)
{
    char name[PP_DICT_KEY_MAX + 1];
    MDB_dbi database;
    if (value->mv_size != PLACE || key->mv_size >= sizeof name || memchr(key->mv_data, '\0', key->mv_size))
        return 0;
    memcpy(name, key->mv_data, key->mv_size);
    name[key->mv_size] = '\0';
    int code = lmdb->mdb_dbi_open(transaction, name, 0, &database);
    return code == 0 ? PP__KEPT_FOREIGN : code == MDB_INCOMPATIBLE ? 0 : code;
}

int pp__kept_check_records(struct pp__kept_process *process, MDB_txn *transaction, size_t most)
{
    MDB_cursor *cursor;
    MDB_val key, value;
    int code = process->lmdb->mdb_cursor_open(transaction, process->table, &cursor);
    if (code)
        return code;
    for (size_t i = 0; code == 0 && i < most; i++) {
        if (i % PP__KEPT_UNCHECKED == 0 && pp__kept_check(process) != 0)
            code = MDB_CORRUPTED;
        if (code == 0)
            code = process->lmdb->mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
        if (code == 0)
            code = check_record(process->lmdb, transaction, &key, &value);
    }
    process->lmdb->mdb_cursor_close(cursor);
    return code == MDB_NOTFOUND ? 0 : code;
}

void pp__kept_begin_quiet(struct pp__kept_quiet *quiet)
{
    sigset_t limit, pending;
    sigemptyset(&limit);
    sigaddset(&limit, SIGXFSZ);
    pthread_sigmask(SIG_BLOCK, &limit, &quiet->before);
    quiet->pending = sigpending(&pending) == 0 && sigismember(&pending, SIGXFSZ) == 1;
}

void pp__kept_end_quiet(const struct pp__kept_quiet *quiet)
{
    int before = errno;
    sigset_t limit;
    sigemptyset(&limit);
    sigaddset(&limit, SIGXFSZ);
    if (!quiet->pending)
        while (sigtimedwait(&limit, NULL, &(struct timespec){0}) < 0 && errno == EINTR)
            continue;
    pthread_sigmask(SIG_SETMASK, &quiet->before, NULL);
    errno = before;
}

static bool is_at_limit(const struct stat *status)
{
    struct rlimit limit;
    return getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
           (uint64_t)status->st_size >= limit.rlim_cur / (uint64_t)status->st_blksize * (uint64_t)status->st_blksize;
}

int pp__kept_fail_change(const struct pp__kept_process *process, int code)
{
    struct stat status;
    struct statvfs disk;
    if (code == EIO && is_own(process, &status)) {
        if (is_at_limit(&status))
            code = EFBIG;
        else if (PP_SYS(fstatvfs)(process->fd, &disk) == 0 && disk.f_bavail == 0)
            code = ENOSPC;
    }
    return pp__kept_fail(process->lmdb, code);
}
#else
typedef int pp__kept_file_is_empty; /* a translation unit needs a declaration */
#endif
