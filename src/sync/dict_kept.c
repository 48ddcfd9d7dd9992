/* SPDX-License-Identifier: MIT */
/*
 * The kept kind of dictionary: a file of LMDB's. Its changes go to pages that nothing names yet, and become the state
 * by one page that is written last, so that who dies in the middle has changed nothing; its lock is a robust one.
 */
#include "base/error.h"
#include "base/seam.h"
#include "sync/dict.h"

#include <errno.h>
#include <string.h>

#if __has_include(<lmdb.h>)
#include "sync/dict_kept.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define DEFAULT_BYTES ((uint64_t)1 << 28)
#define DEFAULT_READERS 126
#define TRIES 5
#define READING 4000000L /* ns, which reading takes; four times as long at each next try */

/* One transaction of a handle. */
struct step {
    pp_dict *dict;
    struct pp__kept_process *process;
    const struct pp__lmdb *lmdb;
    MDB_txn *transaction;
    bool changes;  /* so it has that turn until its end */
    int code;      /* LMDB's, of the first function that failed */
    uint64_t used; /* bytes of the file, when it began */
    bool unread;   /* when it last found no room, there was no reader; or no place, none that was dead */
    int waits;     /* for readers */
};

/* The operation's error; what can be mended is in step->code. */
static int fail(struct step *step, int code)
{
    step->code = code;
    return step->changes ? pp__kept_fail_change(step->process, code) : pp__kept_fail(step->lmdb, code);
}

static void leave(struct step *step)
{
    if (step->changes)
        pp__kept_end_turn(step->process, PP__KEPT_CHANGE);
    pp__kept_leave(step->process);
}

static void abandon(struct step *step)
{
    step->lmdb->mdb_txn_abort(step->transaction);
    leave(step);
}

static int begin(struct step *step, unsigned flags)
{
    int error = pp__kept_enter(step->dict, &step->process);
    if (error)
        return error;
    step->lmdb = step->process->lmdb;
    step->changes = !(flags & MDB_RDONLY);
    error = pp__kept_check(step->process);
    if (error) {
        pp__kept_leave(step->process);
        return error;
    }
    pp__kept_take_turn(step->process, step->changes ? PP__KEPT_CHANGE : PP__KEPT_BEGIN);
    int code = step->lmdb->mdb_txn_begin(step->process->env, NULL, flags, &step->transaction);
    if (code || !step->changes)
        pp__kept_end_turn(step->process, step->changes ? PP__KEPT_CHANGE : PP__KEPT_BEGIN);
    if (code == 0) {
        PP_FAULT("kept.begun");
        error = pp__kept_check_transaction(step->process, step->transaction, &step->used);
        if (error)
            abandon(step);
        return error;
    }
    error = fail(step, code);
    pp__kept_leave(step->process);
    return error;
}

/* A file that was cut since this began is not added to: what it has lost would be missed by the state that the commit
 * names. */
static int commit(struct step *step)
{
    PP_FAULT("kept.commit");
    int cut = pp__kept_check(step->process);
    if (cut) {
        abandon(step);
        return cut;
    }
    int code = step->lmdb->mdb_txn_commit(step->transaction);
    PP_FAULT("kept.committed");
    int error = code ? fail(step, code) : 0;
    leave(step);
    return error;
}

/* How many dead readers had places, which are free now. */
static int check_readers(struct step *step)
{
    int dead = 0;
    pp__kept_take_turn(step->process, PP__KEPT_BEGIN);
    if (step->lmdb->mdb_reader_check(step->process->env, &dead) != 0)
        dead = 0;
    pp__kept_end_turn(step->process, PP__KEPT_BEGIN);
    return dead;
}

/* A line of mdb_reader_list's: process, thread, and what it reads, or "-"; above them a heading. */
static int look_at_reader(const char *line, void *reads)
{
    const char *what = strrchr(line, ' ');
    *(bool *)reads |= what && what[1] >= '0' && what[1] <= '9';
    return 0;
}

static bool is_read(const struct step *step)
{
    bool reads = false;
    step->lmdb->mdb_reader_list(step->process->env, look_at_reader, &reads);
    return reads;
}

/*
 * What was changed is room again when nobody reads the state before. Who is dead reads no more; who reads will soon be
 * done, but for one that is stopped; and where neither is to be seen somebody else may have seen to it since this found
 * no room: so it is out of room only if that comes twice.
 */
static bool find_room(struct step *step, bool deletes)
{
    PP_FAULT("kept.lacks");
    if (check_readers(step) > 0 || (deletes && pp__kept_stretch(step->process) == 0))
        return true;
    bool reads = is_read(step), was_unread = step->unread;
    step->unread = !reads;
    if (reads)
        nanosleep(&(struct timespec){.tv_nsec = READING << (2 * step->waits++)}, NULL);
    return reads || !was_unread;
}

/* A place for a reader, likewise. */
static bool find_place(struct step *step)
{
    bool was_unread = step->unread;
    step->unread = check_readers(step) == 0;
    return !step->unread || !was_unread;
}

/* Whether the step is to be tried again, what kept it being out of the way. `deletes`: it makes room, so it gets some.
 */
static bool mend(struct step *step, bool deletes)
{
    int code = step->code;
    step->code = 0;
    switch (code) {
    case MDB_MAP_RESIZED:
        return pp__kept_follow(step->process) == 0;
    case MDB_READERS_FULL:
        return find_place(step);
    case MDB_MAP_FULL:
        return find_room(step, deletes);
    default:
        return false;
    }
}

/* ------------------------------------------------------------------------------------------ operations */

static MDB_val bytes(const void *data, size_t size)
{
    return (MDB_val){.mv_size = size, .mv_data = (void *)(uintptr_t)data};
}

static int read_with(pp_dict *dict, int (*run)(struct step *step, void *what), void *what)
{
    struct step step = {.dict = dict};
    int error, tries = TRIES;
    do {
        error = begin(&step, MDB_RDONLY);
        if (error == 0) {
            error = run(&step, what);
            abandon(&step);
        }
    } while (error && --tries > 0 && mend(&step, false));
    return error;
}

/* What deleting has got beyond the limit is not for more keys and values. */
static int check_limit(struct step *step)
{
    uint64_t used;
    int error = pp__kept_used(step->process, step->transaction, &used);
    return error == 0 && used > step->process->limit && used > step->used ? fail(step, MDB_MAP_FULL) : error;
}

static int write_with(pp_dict *dict, int (*run)(struct step *step, void *what), void *what, bool deletes)
{
    struct step step = {.dict = dict};
    struct pp__kept_quiet quiet;
    int error, tries = TRIES;
    pp__kept_begin_quiet(&quiet);
    do {
        error = begin(&step, 0);
        if (error)
            continue;
        error = run(&step, what);
        if (error == 0 && !deletes)
            error = check_limit(&step);
        if (error)
            abandon(&step);
        else
            error = commit(&step);
    } while (error && --tries > 0 && mend(&step, deletes));
    pp__kept_end_quiet(&quiet);
    return error;
}

struct question {
    const void *key;
    size_t key_size;
    struct pp__dict_taker *taker;
};

static int run_get(struct step *step, void *what)
{
    const struct question *question = what;
    MDB_val key = bytes(question->key, question->key_size), value;
    int code = step->lmdb->mdb_get(step->transaction, step->process->table, &key, &value);
    return code ? fail(step, code)
                : question->taker->give(question->taker, question->key, question->key_size, value.mv_data,
                                        value.mv_size);
}

static int kept_get(pp_dict *dict, const void *key, size_t key_size, struct pp__dict_taker *taker)
{
    return read_with(dict, run_get, &(struct question){key, key_size, taker});
}

struct changes {
    pp_dict_change *changes;
    size_t count;
    size_t *failed;
};

static int change_one(struct step *step, pp_dict_change *change)
{
    struct pp__dict_outcome outcome;
    MDB_val key = bytes(change->key, change->key_size), value;
    int cut = pp__kept_check(step->process);
    if (cut)
        return cut;
    int code = step->lmdb->mdb_get(step->transaction, step->process->table, &key, &value);
    if (code && code != MDB_NOTFOUND)
        return fail(step, code);
    const void *present = code ? NULL : value.mv_data ? value.mv_data : "";
    int error = pp__dict_decide(change, present, code ? 0 : value.mv_size, &outcome);
    if (error || outcome.act == PP__DICT_LEAVE)
        return error;
    value = bytes(outcome.value, outcome.size);
    if (outcome.act == PP__DICT_WRITE)
        code = step->lmdb->mdb_put(step->transaction, step->process->table, &key, &value, 0);
    else
        code = step->lmdb->mdb_del(step->transaction, step->process->table, &key, NULL);
    return code ? fail(step, code) : 0;
}

static int run_update(struct step *step, void *what)
{
    const struct changes *changes = what;
    *changes->failed = changes->count;
    for (size_t i = 0; i < changes->count; i++) {
        int error = change_one(step, &changes->changes[i]);
        if (error) {
            *changes->failed = i;
            return error;
        }
        PP_FAULT("kept.changed");
    }
    return 0;
}

static int kept_update(pp_dict *dict, pp_dict_change *changes, size_t count, size_t *failed)
{
    bool deletes = true;
    for (size_t i = 0; i < count; i++)
        deletes = deletes && (changes[i].act == PP_DICT_DELETE || changes[i].act == PP_DICT_EXPECT);
    return write_with(dict, run_update, &(struct changes){changes, count, failed}, deletes);
}

static int run_clear(struct step *step, void *what)
{
    (void)what;
    /* With the record of a database all that is in it would be lost. Other changes of such a record LMDB refuses. */
    int code = pp__kept_check_records(step->process, step->transaction, SIZE_MAX);
    if (code == 0)
        code = step->lmdb->mdb_drop(step->transaction, step->process->table, 0);
    return code ? fail(step, code) : 0;
}

static int kept_clear(pp_dict *dict)
{
    return write_with(dict, run_clear, NULL, true);
}

static int run_count(struct step *step, void *what)
{
    MDB_stat status;
    int code = step->lmdb->mdb_stat(step->transaction, step->process->table, &status);
    if (code)
        return fail(step, code);
    *(uint64_t *)what = status.ms_entries;
    return 0;
}

static int kept_count(pp_dict *dict, uint64_t *count)
{
    return read_with(dict, run_count, count);
}

static int check_walk(struct step *step)
{
    PP_FAULT("kept.walk");
    return pp__kept_check(step->process);
}

static int run_walk(struct step *step, void *what)
{
    struct pp__dict_taker *taker = what;
    MDB_cursor *cursor;
    MDB_val key, value;
    int code = step->lmdb->mdb_cursor_open(step->transaction, step->process->table, &cursor), error = 0;
    if (code)
        return fail(step, code);
    for (size_t i = 0; error == 0; i++) {
        if (i % PP__KEPT_UNCHECKED == 0)
            error = check_walk(step);
        if (error || (code = step->lmdb->mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) != 0)
            break;
        error = taker->give(taker, key.mv_data, key.mv_size, value.mv_data, value.mv_size);
    }
    step->lmdb->mdb_cursor_close(cursor);
    if (error == 0 && code != MDB_NOTFOUND)
        error = fail(step, code);
    return error;
}

static int kept_walk(pp_dict *dict, struct pp__dict_taker *taker)
{
    return read_with(dict, run_walk, taker);
}

const struct pp__dict_kind pp__dict_kept = {kept_get, kept_update, kept_clear, kept_count, kept_walk, pp__kept_forget};

/* --------------------------------------------------------------------------------------------- handles */

/* A file that is not there yet: the real name of its directory, and its own. A link that leads nowhere would be made
 * under the name that it leads to. */
static int resolve_new(const char *path, char real[PATH_MAX])
{
    char directory[PATH_MAX];
    struct stat status;
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    size_t length = slash ? (size_t)(slash - path) : 1;
    if (!*name || length >= sizeof directory || PP_SYS(lstat)(path, &status) == 0)
        return pp__fail(-ENOENT, "%s", path);
    memcpy(directory, slash ? path : ".", length);
    directory[length] = '\0';
    if (!PP_SYS(realpath)(length > 0 ? directory : "/", real))
        return pp__fail_errno(errno, "%s", path);
    length = strlen(real);
    int written = snprintf(real + length, PATH_MAX - length, "%s%s", length > 1 ? "/" : "", name);
    return written < 0 || (size_t)written >= PATH_MAX - length ? -ENAMETOOLONG : 0;
}

/* LMDB's locks lie beside the file, under the name by which it is opened with "-lock" behind it; so that has to be one
 * for all. */
static int resolve(const char *path, char real[PATH_MAX])
{
    int error = 0;
    if (!PP_SYS(realpath)(path, real))
        error = errno == ENOENT ? resolve_new(path, real) : pp__fail_errno(errno, "%s", path);
    if (error == -ENAMETOOLONG || (error == 0 && strlen(real) >= PATH_MAX - 8))
        return pp__fail(-ENAMETOOLONG, "the path of a dictionary is too long");
    return error;
}

int pp__dict_kept_create(const pp_dict_options *options, pp_dict **dict)
{
    char path[PATH_MAX];
    struct pp__object *object;
    if (options->max_bytes > PTRDIFF_MAX / 2)
        return pp__fail(-EINVAL, "max_bytes is %zu, more than an address space", options->max_bytes);
    int error = resolve(options->path, path);
    if (error == 0)
        error =
            pp__object_create("procpool-dict", PP__KIND_DICT, sizeof(struct pp__shared_kept), sizeof **dict, &object);
    if (error)
        return error;
    struct pp__shared_kept *shared = object->memory;
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), size = options->max_bytes ? options->max_bytes : DEFAULT_BYTES;
    shared->dict.max_bytes = (size + page - 1) / page * page;
    shared->dict.kept = 1;
    shared->dict.max_readers = options->max_readers ? (uint32_t)options->max_readers : DEFAULT_READERS;
    shared->dict.no_flush = options->no_flush != 0;
    memcpy(shared->path, path, strlen(path) + 1);
    struct pp__kept_process *process;
    pp_dict *made = (pp_dict *)object;
    made->kind = &pp__dict_kept;
    error = pp__kept_enter(made, &process);
    if (error) {
        pp__object_unref(object);
        return error;
    }
    shared->device = process->device;
    shared->inode = process->inode;
    pp__kept_leave(process);
    *dict = made;
    return 0;
}

int pp__dict_kept_adopt(pp_dict *dict)
{
    const struct pp__shared_kept *shared = dict->object.memory;
    if (dict->object.size < sizeof *shared || !memchr(shared->path, '\0', sizeof shared->path) ||
        shared->dict.max_readers > 65536)
        return pp__fail(-EINVAL, "the descriptor is of a dictionary whose path is none");
    struct pp__kept_process *process;
    dict->kind = &pp__dict_kept;
    int error = pp__kept_enter(dict, &process);
    if (error == 0)
        pp__kept_leave(process);
    return error;
}

#else
int pp__dict_kept_create(const pp_dict_options *options, pp_dict **dict)
{
    (void)options, (void)dict;
    return pp__fail(-ENOTSUP, "this build of the library has no kept dictionaries, which need LMDB");
}

int pp__dict_kept_adopt(pp_dict *dict)
{
    (void)dict;
    return pp__fail(-ENOTSUP, "this build of the library has no kept dictionaries, which need LMDB");
}
#endif
