/* SPDX-License-Identifier: MIT */
/*
 * The file beside a kept dictionary's, PATH-lock, which is LMDB's and belongs to a path, where the table of open files
 * goes by inode. Two things that LMDB leaves to others are done here: the file is on the disk before it is mapped, and
 * it is used with one dictionary only, which is used with it only.
 */
#if __has_include(<lmdb.h>)
#include "base/error.h"
#include "base/fd.h"
#include "base/seam.h"
#include "sync/dict_kept.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

/* As LMDB lays it out: what is for all, then a line of the cache for each reader. */
#define HEAD 128
#define READER 64
#define LOOKED_AT 4096

/* Where a data file has the magic, behind the head of a page, with addresses of 32 or of 64 bits. In a lock file there
 * are zeros in a mutex that has never been locked, or before the mutexes, as versions differ. */
#define OTHERS_MAGIC 12
#define OTHERS_MAGIC_END 24

static const uint32_t magic = 0xBEEFC0DE;

/* Locks of ours, where the files have no bytes and LMDB no locks: who opens the two files, and with which other file
 * each is open. */
#define OPENING ((off_t)1 << 61)
#define TIES (OPENING + 1)
#define TIE_BITS 30

static int lock(int fd, int how, short type, off_t from, off_t count)
{
    struct flock wanted = {.l_type = type, .l_whence = SEEK_SET, .l_start = from, .l_len = count};
    int code = PP_SYS(fcntl)(fd, how, &wanted);
    return code != 0 ? -errno : how == F_GETLK && wanted.l_type != F_UNLCK;
}

/* Whether another process has a lock there. */
static bool is_locked(int fd, off_t from, off_t count)
{
    return count > 0 && lock(fd, F_GETLK, F_WRLCK, from, count) == 1;
}

/* What the kernel takes for a deadlock, of two processes of which threads wait for two of these, is none: nobody waits
 * for one while it has another. */
void pp__kept_wait_for_lock(int fd, off_t at)
{
    int error;
    while ((error = lock(fd, F_SETLKW, F_WRLCK, at, 1)) == -EINTR || error == -EDEADLK)
        if (error == -EDEADLK)
            nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
}

void pp__kept_unlock(int fd, off_t at)
{
    lock(fd, F_SETLK, F_UNLCK, at, 1);
}

void pp__kept_lock_path(const struct pp__shared_kept *shared, char path[PP__KEPT_LOCK_PATH_MAX])
{
    snprintf(path, PP__KEPT_LOCK_PATH_MAX, "%s-lock", shared->path);
}

/* A hole that is filled only when it is written to, through the map, is a SIGBUS where the disk is full. While others
 * have it open it keeps its length, by which they go. */
static int allocate(int fd, bool alone, off_t wanted)
{
    struct stat status;
    int code;
    if (PP_SYS(fstat)(fd, &status) != 0)
        return errno;
    off_t size = alone && status.st_size < wanted ? wanted : status.st_size;
    if (size == 0)
        return 0;
    do
        code = PP_SYS(fallocate)(fd, 0, 0, size) == 0 ? 0 : errno;
    while (code == EINTR);
    return code == EOPNOTSUPP || code == ENOSYS ? 0 : code;
}

static bool is_empty(const char *path)
{
    struct stat status;
    return PP_SYS(stat)(path, &status) != 0 || status.st_size == 0;
}

static bool is_zero(const unsigned char *bytes, size_t from, size_t to)
{
    while (from < to && bytes[from] == 0)
        from++;
    return from >= to;
}

/*
 * Whether a file is a lock file of LMDB's by its first bytes, behind which zeros stand for those that it has not. One
 * that is empty, or was cut, is. LMDB makes the mutexes, then stores the magic and the number of a format beside it:
 * until it has, there is nothing else.
 */
static bool is_lock_file(const unsigned char bytes[LOOKED_AT], size_t size)
{
    if (memcmp(bytes, &magic, size < sizeof magic ? size : sizeof magic) == 0)
        return true;
    return is_zero(bytes, 0, sizeof magic) && is_zero(bytes, OTHERS_MAGIC, OTHERS_MAGIC_END) &&
           is_zero(bytes, HEAD, LOOKED_AT);
}

/* LMDB takes whatever is there, and writes over it. */
static int check_is_lock_file(int fd, const char *path)
{
    unsigned char bytes[LOOKED_AT] = {0};
    ssize_t size = PP_SYS(pread)(fd, bytes, sizeof bytes, 0);
    if (size < 0)
        return pp__fail_errno(errno, "%s", path);
    return is_lock_file(bytes, (size_t)size) ? 0 : pp__fail(-EPROTO, "%s is there, and is no lock file", path);
}

/* Nobody else begins to open it meanwhile. */
static int prepare(struct pp__kept_process *process, int fd, const char *path, const char *file, uint64_t readers)
{
    struct stat status;
    int error = check_is_lock_file(fd, path);
    if (error)
        return error;
    bool alone = !is_locked(fd, 0, 1); /* LMDB's own lock, of all that have it open */
    process->fresh = alone && is_empty(file);
    int code = allocate(fd, alone, (off_t)(HEAD + readers * READER));
    if (code == 0 && PP_SYS(fstat)(fd, &status) != 0)
        code = errno;
    if (code)
        return pp__fail_errno(code, "%s", path);
    process->lock_file = fd;
    process->lock_device = status.st_dev;
    process->lock_inode = status.st_ino;
    return 0;
}

int pp__kept_open_lock(struct pp__kept_process *process, const struct pp__shared_kept *shared, uint64_t readers)
{
    char path[PP__KEPT_LOCK_PATH_MAX];
    pp__kept_lock_path(shared, path);
    int fd = pp__fd_adopt(PP_SYS(open)(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666), "a lock file");
    if (fd < 0)
        return fd;
    pp__kept_wait_for_lock(fd, OPENING);
    int error = prepare(process, fd, path, shared->path, readers);
    if (error)
        pp__fd_close(fd);
    return error;
}

static off_t tie_of(dev_t device, ino_t inode)
{
    uint64_t mixed = ((uint64_t)inode ^ (uint64_t)device << 48) * UINT64_C(0x9e3779b97f4a7c15);
    return TIES + (off_t)(mixed >> (64 - TIE_BITS));
}

/* Says with which other file this one is open; false: another process says otherwise. */
static bool tie(int fd, off_t at)
{
    lock(fd, F_SETLK, F_RDLCK, at, 1);
    return !is_locked(fd, TIES, at - TIES) && !is_locked(fd, at + 1, TIES + ((off_t)1 << TIE_BITS) - at - 1);
}

/* Both say so before they look: of two that open them crosswise one sees the other, or both do. */
int pp__kept_tie(struct pp__kept_process *process, const struct pp__shared_kept *shared)
{
    off_t by_lock = tie_of(process->lock_device, process->lock_inode),
          by_file = tie_of(process->device, process->inode);
    bool fine = tie(process->fd, by_lock);
    fine = tie(process->lock_file, by_file) && fine;
    pp__kept_unlock(process->lock_file, OPENING);
    return fine ? 0
                : pp__fail(-EBUSY,
                           "%s or its lock file was removed, replaced or renamed while another process has it open",
                           shared->path);
}

/* What LMDB made of a file that was not there, or empty, and could not end, nobody could open again. */
static void empty(const char *path)
{
    int fd = PP_SYS(open)(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    PP_SYS(ftruncate)(fd, 0);
    pp__fd_close(fd);
}

void pp__kept_close_lock(struct pp__kept_process *process, const struct pp__shared_kept *failed)
{
    struct stat status;
    if (failed && process->fresh)
        empty(failed->path);
    if (PP_SYS(fstat)(process->lock_file, &status) == 0 && status.st_dev == process->lock_device &&
        status.st_ino == process->lock_inode)
        pp__fd_close(process->lock_file);
}
#else
typedef int pp__kept_lock_is_empty; /* a translation unit needs a declaration */
#endif
