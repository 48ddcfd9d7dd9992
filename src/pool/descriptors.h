/* SPDX-License-Identifier: MIT */
/*
 * Descriptors that travel beside a call's bytes, and back beside its result's. The owner has copies of a call's until
 * it has ended, so that they can be sent again; the worker has its own from the record that announces them to the
 * task's end. What goes back is copied when the task gives it, and belongs to the future until it is taken out.
 *
 * With the descriptor of a large payload, if that has one, they are one message, which is sent before the record is
 * published: all of it comes, or nothing.
 */
#ifndef PP_POOL_DESCRIPTORS_H
#define PP_POOL_DESCRIPTORS_H

#include "pool/item.h"

/* Owner: a call's, or those that came back. -1: it was taken out. */
struct pp__descriptors {
    uint32_t count;
    int fds[];
};

/* Copies of a call's. 0, or -EINVAL, -EBADF, -ENOMEM, -EMFILE, -ENFILE. */
int pp__descriptors_copy(const pp_call *call, struct pp__descriptors **made);

/* Takes those over. NULL without memory, and then they are closed. */
struct pp__descriptors *pp__descriptors_keep(const int *fds, uint32_t count);

/* Closes what is left. NULL is allowed. */
void pp__descriptors_free(struct pp__descriptors *descriptors);

/* Those that came back with the result of `item`, a call's, are its future's from now on: it is about to end. Nothing
 * needs its function any more. */
void pp__descriptors_bring_back(struct pp__item *item, struct pp__descriptors *descriptors);

/* What a task has of them, and of the program's buffers (buffer.h). */
struct pp__carried {
    const int *given;
    uint32_t given_count;
    uint32_t back_count;
    int back[PP_MAX_DESCRIPTORS];
    uint32_t buffer_count;
    struct {
        void *data;
        size_t size;
        bool shared; /* it may be written to */
    } buffers[PP_MAX_BUFFERS];
};

/* Closes those that the task was given, and takes its buffers out of its sight. */
void pp__carried_drop_given(struct pp__carried *carried);

/* Closes those that were to go back. */
void pp__carried_drop_back(struct pp__carried *carried);

/* Sends what is ahead of record `id`: the descriptor of its payload of `size` bytes, or -1, and `count` others. As
 * pp__fd_send. */
int pp__ahead_send(int socket, uint64_t id, uint64_t size, int fd, const int *fds, uint32_t count);

/* Receives it: *fd and *size are set if `fd` is not NULL. 0; -EPROTO: it is not what should have come; or why it is
 * lost. */
int pp__ahead_receive(int socket, uint64_t id, uint64_t *size, int *fd, int *fds, uint32_t count);

#endif
