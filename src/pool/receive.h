/* SPDX-License-Identifier: MIT */
/*
 * In the worker: what comes ahead of a call's record, or lies where something that came before was kept. Elements that
 * are large, a call's descriptors, and the program's buffers. Called between the take of a record and the begin of its
 * call, and when nothing is to be done; a call that brings nothing does not come here.
 */
#ifndef PP_POOL_RECEIVE_H
#define PP_POOL_RECEIVE_H

#include "pool/channel.h"
#include "pool/descriptors.h"

/* A buffer. NULL: there is none, or it could not be received. */
struct pp__received_place {
    void *memory;
    size_t room;
    uint64_t serial; /* of one of the program's, and how many bytes of it a task sees, and whether it may write there */
    size_t size;
    bool shared;
    uint32_t count; /* buffers sent for this place */
    int error;      /* why the last one did not arrive */
};

struct pp__received {
    int socket;
    struct pp__carried *carried; /* what a call has, as its task sees it */
    int given[PP_MAX_DESCRIPTORS];
    struct pp__received_place arguments[PP__PLACES]; /* of large arguments, by their places on the owner's shelf */
    struct pp__received_place known[PP__KNOWN]; /* the program's, by the places that the owner gave them (known.h) */
    bool keeps;                                 /* there may be some, of either kind */
    /* Where the last chunk's results, of `each` bytes, are to lie, if that was said (USE_RESULTS). */
    char *results;
    uint64_t each;
};

/* Once; the rest of it begins as zeroes. */
void pp__received_init(struct pp__received *received, int socket, struct pp__carried *carried);

/*
 * Receives what goes with a call: its descriptors and buffers are in `carried`, and *elements points to its elements
 * unless they are in the record; `results` says where the chunk's are to be written; *mapped is set where they are to
 * be unmapped behind the call, by pp__payload_unmap with the record's size. 0, or a negative errno, with its text: the
 * call can't be run, and the descriptors that did come are in `carried` all the same.
 */
int pp__receive(struct pp__received *received, const struct pp__call_record *call, uint64_t id, const char **elements,
                const void **mapped);

/* The same of a call with a plain record, which has nothing but buffers that came before (channel.h). */
int pp__receive_lent(struct pp__received *received, const uint64_t *words, uint32_t count);

/* Lets go of buffers that the owner does not send from any more. To be called if it `keeps` some. */
void pp__received_tidy(struct pp__received *received, const struct pp__call_side *call_side);

#endif
