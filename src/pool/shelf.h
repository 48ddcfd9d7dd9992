/* SPDX-License-Identifier: MIT */
/*
 * The buffers that one side of a channel writes to and the other knows: the worker's for results, the owner's for one
 * worker's arguments. Few, and together of a bounded size. A buffer that has to make way for another one loses its
 * place to that, which is how the reader learns of it.
 *
 * Not for several threads at once.
 */
#ifndef PP_POOL_SHELF_H
#define PP_POOL_SHELF_H

#include "pool/channel.h"

#include <stdbool.h>
#include <stddef.h>

struct pp__item;

/* Together, and so also the largest one, at least: payloads beyond have memory of their own. */
#define PP__SHELF_LEAST ((size_t)128 << 20)

enum pp__place_state {
    PP__PLACE_FREE,
    PP__PLACE_TAKEN,
    PP__PLACE_OUT /* worker: the owner has it; owner: a thread that submits writes to it without the lock */
};

struct pp__place {
    void *memory; /* NULL: there is none */
    size_t room;
    int fd; /* not yet sent; -1: the reader has it */
    enum pp__place_state state;
    bool guarded;          /* not writable */
    bool doubtful;         /* the reader may not have it after all */
    uint64_t bringer;      /* owner: the id of the item that its buffer was sent with */
    uint32_t count;        /* worker: results published here, in whatever buffer; owner: buffers sent for it */
    uint64_t used;         /* when it was last taken: the shelf's count then */
    struct pp__item *item; /* owner, taken: whose elements lie here and nowhere else, or NULL */
};

struct pp__shelf {
    struct pp__place places[PP__PLACES];
    const _Atomic uint32_t *returned; /* worker: what the owner gives back (channel.h) */
    const _Atomic uint64_t *most;     /* bytes that all buffers may have (channel.h), or NULL: the least */
    uint64_t own;                     /* worker: and as many by the memory that there is for itself; 0: not asked for */
    size_t size;                      /* bytes of all buffers */
    uint64_t uses;
    uint64_t tidied; /* what uses was when pp__shelf_tidy was last called */
};

/* `returned` is NULL for the owner's. */
void pp__shelf_init(struct pp__shelf *shelf, const _Atomic uint64_t *most, const _Atomic uint32_t *returned);

/* Owner: a payload of `size` bytes comes. If the least is too little for two like that, says how much each shelf of so
 * many workers may have: together a quarter of the memory that there is for this process. Once, until *most is
 * zeroed for another number of workers; takes 0.2 ms. */
void pp__shelf_widen(_Atomic uint64_t *most, size_t size, int workers);

/* What is out is left to who has it. */
void pp__shelf_destroy(struct pp__shelf *shelf);

/* Owner: whether a payload lies there, or comes to. */
bool pp__shelf_is_used(const struct pp__shelf *shelf);

/* A place whose buffer has room for `size` bytes and a NUL, or a negative errno: then there is none for it, for
 * whatever reason. */
int pp__shelf_take(struct pp__shelf *shelf, size_t size);

/* The same, but a new buffer is left to be made: the place then has a room and no memory. */
int pp__shelf_reserve(struct pp__shelf *shelf, size_t size);

/* Gives it back; a buffer that the reader never got goes. */
void pp__shelf_give(struct pp__shelf *shelf, int place);

/* The same, and its buffer goes in any case. */
void pp__shelf_discard(struct pp__shelf *shelf, int place);

/* Its buffer was sent. */
void pp__shelf_sent(struct pp__shelf *shelf, int place);

/* Owner: gives up what is free and was not used since it was last called, and says so to the reader (channel.h). True:
 * there was such; *left is set if something is still there. */
bool pp__shelf_tidy(struct pp__shelf *shelf, _Atomic uint32_t *discarded, bool *left);

/* Worker: nobody can write to it before it is taken again. 0 or a negative errno. */
int pp__shelf_guard(struct pp__shelf *shelf, int place);

/* Worker: the owner has what lies there, until `returned` says that it has not. To take in what was given back, or is
 * to be given up, is part of pp__shelf_take. */
void pp__shelf_put_out(struct pp__shelf *shelf, int place);

/* Worker, while it has nothing to do: takes in what was given back, and makes it ready to be written to. */
void pp__shelf_make_ready(struct pp__shelf *shelf);

#endif
