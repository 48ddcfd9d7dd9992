/* SPDX-License-Identifier: MIT */
/*
 * LMDB, loaded when the first kept dictionary is made, and never unloaded: the library is not linked against it. To be
 * included where <lmdb.h> is there.
 */
#ifndef PP_SYNC_LMDB_H
#define PP_SYNC_LMDB_H

#include <lmdb.h>

#define PP__LMDB_FUNCTIONS(F)                                                                                          \
    F(mdb_env_create)                                                                                                  \
    F(mdb_env_open)                                                                                                    \
    F(mdb_env_close)                                                                                                   \
    F(mdb_env_get_fd)                                                                                                  \
    F(mdb_env_set_flags)                                                                                               \
    F(mdb_env_stat)                                                                                                    \
    F(mdb_env_info)                                                                                                    \
    F(mdb_env_set_mapsize)                                                                                             \
    F(mdb_env_set_maxreaders)                                                                                          \
    F(mdb_env_set_maxdbs)                                                                                              \
    F(mdb_reader_check)                                                                                                \
    F(mdb_reader_list)                                                                                                 \
    F(mdb_txn_begin)                                                                                                   \
    F(mdb_txn_commit)                                                                                                  \
    F(mdb_txn_abort)                                                                                                   \
    F(mdb_dbi_open)                                                                                                    \
    F(mdb_dbi_flags)                                                                                                   \
    F(mdb_stat)                                                                                                        \
    F(mdb_get)                                                                                                         \
    F(mdb_put)                                                                                                         \
    F(mdb_del)                                                                                                         \
    F(mdb_drop)                                                                                                        \
    F(mdb_cursor_open)                                                                                                 \
    F(mdb_cursor_get)                                                                                                  \
    F(mdb_cursor_close)                                                                                                \
    F(mdb_strerror)

#define PP__LMDB_MEMBER(name) __typeof__(name) *(name);
struct pp__lmdb {
    PP__LMDB_FUNCTIONS(PP__LMDB_MEMBER)
};

/* NULL: it is not on this machine. Called with a lock held that keeps other threads out. */
const struct pp__lmdb *pp__lmdb_load(void);

#endif
