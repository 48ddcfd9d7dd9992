/* SPDX-License-Identifier: MIT */
/*
 * The zygote's records: its connections, the children of each, and what is owed for each child. What an owner that does
 * not read is owed is kept here, at most one INVITED, STARTED and ENDED a child, and sent when the socket has room.
 * Used by zygote.c only, in the zygote's one thread.
 */
#ifndef PP_PROCESS_RECORDS_H
#define PP_PROCESS_RECORDS_H

#include "base/list.h"
#include "process/loop.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct pp__connection {
    struct pp__source source; /* first: the one is the other */
    struct pp__link link;
    struct pp__link records;
    size_t count;
    bool waits_for_room;
};

enum { PP__OWES_STARTED = 1, PP__OWES_FAILED = 2, PP__OWES_ENDED = 4, PP__OWES_INVITED = 8 };

/* A child, until it is reaped and its end is told. */
struct pp__child_record {
    struct pp__link link;              /* in its connection's list, or among those whose connection is gone */
    struct pp__connection *connection; /* NULL: nobody wants to know */
    uint64_t serial;
    pid_t pid; /* 0: reaped, or never there */
    pid_t told_pid;
    unsigned owes;
    int error, code, status;
    bool killed;            /* as somebody asked */
    bool watched, outlives; /* as its plan says */
    int pidfd; /* of one that is watched, until its start is told; negative: the errno for which there is none */
    uint64_t kills_before;       /* for want of memory, where its start left the count */
    struct pp__spawned *spawned; /* NULL: a fork of ours */
};

/* There are none, whatever a zygote above has had. */
void pp__records_init(void);

/* A new one on the socket `fd`, which is adopted; not watched yet. NULL without memory, and `fd` stays the caller's. */
struct pp__connection *pp__connection_create(int fd, void (*ready)(struct pp__source *source, uint32_t events));

/* It is gone: its children are killed, but for those that outlive their owner, and nobody hears of their ends. */
void pp__connection_drop(struct pp__connection *connection);

/* Sends what is owed until the socket is full, which is then watched for room, and frees the records of which nothing
 * more can come. */
void pp__connection_pay(struct pp__connection *connection);

/* A new child's. NULL: it can't be had, and as it can't wait, its failure was told now or has cost the connection. */
struct pp__child_record *pp__record_create(struct pp__connection *connection, uint64_t serial);

/* The one with that serial, or of that process, which is not reaped yet; NULL: there is none. */
struct pp__child_record *pp__record_find(struct pp__connection *connection, uint64_t serial);
struct pp__child_record *pp__record_find_pid(pid_t pid);

/* Whether this is so of some child that is not reaped yet. */
bool pp__records_some(bool (*is_so)(pid_t pid));

/* Owes its connection reports of these kinds, and pays if that has room. The record may be gone behind it. */
void pp__record_owe(struct pp__child_record *record, unsigned what);

/* Kills the child and its group, if it is there. */
void pp__record_kill(struct pp__child_record *record);

/* All that end with the zygote. */
void pp__records_kill_all(void);

/* For each connection. */
void pp__connections_visit(void (*visit)(struct pp__connection *connection));

/* Whether nothing more can come of it. */
bool pp__record_is_done(const struct pp__child_record *record);

void pp__record_free(struct pp__child_record *record);

#endif
