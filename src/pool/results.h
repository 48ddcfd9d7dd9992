/* SPDX-License-Identifier: MIT */
/*
 * The buffers of one worker's results, as its owner has them mapped: what lies on that worker's shelf (shelf.h). A
 * large result is shown in place, and its buffer belongs to who has it until it is freed; the worker, which has made
 * its mapping read-only, writes there again only when it was told of that.
 *
 * Any thread may give a result back, at any time: it outlives worker and pool. Everything else under the pool's lock.
 */
#ifndef PP_POOL_RESULTS_H
#define PP_POOL_RESULTS_H

#include "pool/channel.h"

#include <stdbool.h>
#include <stddef.h>

struct pp__results;
struct pp__results_place;

/* `returned`: the worker's. NULL without memory. */
struct pp__results *pp__results_create(_Atomic uint32_t *returned);

/* The worker is gone, and `returned` is not written to any more. What is still shown goes when it is given back. NULL
 * is allowed. */
void pp__results_close(struct pp__results *results);

/* A buffer of `room` bytes that has come for this place. 0, or an errno: -EPROTO poisons the worker; else the place is
 * to be refused. */
int pp__results_receive(struct pp__results *results, uint32_t place, int fd, size_t room);

/* The buffer for this place, and so the result in it, could not be received: the worker is to have it no more. */
void pp__results_refuse(struct pp__results *results, uint32_t place);

/* A result in this place, as a block (block.h). 0, -ENOMEM: this result alone is lost. -EPROTO: there can't be such a
 * result. */
int pp__results_open(struct pp__results *results, uint32_t place, size_t size, void **data);

/* Gives up buffers in which nothing lay since it was last called. The worker must have no calls. True: there were such;
 * *left is set if others are still there. */
bool pp__results_tidy(struct pp__results *results, bool *left);

/* For block.c: a block's memory is given back, or is to become its holder's own: 0 or -ENOMEM. */
void pp__results_give_back(struct pp__results_place *place);
int pp__results_part_with(struct pp__results_place *place);

#endif
