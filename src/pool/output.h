/* SPDX-License-Identifier: MIT */
/*
 * What calls write to standard output and standard error, in a pool that captures it: the owner's side; the worker's is
 * in capture.h.
 *
 * Each worker has a file for each stream (channel.h). A call's bytes are read out of it when the worker tells where
 * they lie, ahead of the result, or, of a call that gets no result any more, when that is known. The worker can write
 * to the file, and change its size, at any time: it is read by pread(2), a copy, and never more than capture_limit
 * bytes. What was read lies beside the call's wish (wish.h) until the call has ended, then in its future; or with who
 * receives a map's elements. All under the pool's lock.
 */
#ifndef PP_POOL_OUTPUT_H
#define PP_POOL_OUTPUT_H

#include "pool/pool.h"

#define PP__CAPTURE_LIMIT ((size_t)1 << 20) /* unless the program says another one */
#define PP__CAPTURE_MAX ((size_t)1 << 30)

/* What one call wrote, with its bytes in one allocation; or the word that there was no memory for that. */
struct pp__output;

/* NULL is allowed. */
void pp__output_free(struct pp__output *output);

/* 0, -EINVAL or -EFBIG: the options' capture. */
int pp__output_check(const pp_pool_options *options);

/* Makes the worker's files and sends them, with the order to write there: published with the next record. 0 or a
 * negative errno. */
int pp__output_order(struct pp__worker *worker);

/* The worker goes. */
void pp__output_close(struct pp__worker *worker);

/* What the worker tells of the item that it runs. NULL, or what is wrong with that. */
const char *pp__output_told(struct pp__worker *worker, struct pp__item *item, const struct pp__output_record *told);

/* The item, which the worker has begun, gets no result from it any more: what it has written until now is kept. */
void pp__output_salvage(struct pp__worker *worker, struct pp__item *item);

/* Empties the files of a ready worker without calls. True: it has some, into which processes that a call left behind
 * may write. */
bool pp__output_tidy(struct pp__worker *worker);

/* Of a worker with a call: lets go of what that has written beyond its limit. When to look again, or PP__NEVER. */
uint64_t pp__output_trim(struct pp__worker *worker, uint64_t now);

/* What there is of that stream, or that there was no memory: 0 or -ENOMEM. `output` NULL: nothing was written. */
int pp__output_show(const struct pp__output *output, pp_stream stream, pp_output *shown);

/* 0, or -EINVAL, -ENOTSUP: whether a pool captures that stream. */
int pp__output_is_captured(const pp_pool *pool, pp_stream stream);

#endif
