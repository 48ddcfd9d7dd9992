/* SPDX-License-Identifier: MIT */
/*
 * What travels between a launcher and its zygote. All messages are single seqpacket messages of the size that the table
 * of their receiver demands; both ends are the same library in the same executable, so there is no version, but sizes
 * and counts are checked all the same.
 *
 *   control socket, owner to zygote: HELLO (forkserver: before the image starts), CONNECT (with one end of a new pair)
 *   control socket, zygote to owner: struct pp__wire_ready, any number with `done` 0, then one with `done` 1
 *   connection, owner to zygote:     START (with the plan's descriptors), KILL, TERMINATE
 *   connection, zygote to owner:     struct pp__report
 *   line, image to zygote:           KNOCK (where it has connected by an invitation), JOINED; or JOINED with an error,
 * from a failed exec line, zygote to image:           PLAN (with the plan's descriptors), or a refusal
 */
#ifndef PP_PROCESS_WIRE_H
#define PP_PROCESS_WIRE_H

#include "process/child.h"

#include <stddef.h>
#include <stdint.h>

enum pp__wire_type {
    PP__WIRE_HELLO = 1,
    PP__WIRE_CONNECT,
    PP__WIRE_START,
    PP__WIRE_KILL,
    PP__WIRE_TERMINATE,
    PP__WIRE_PLAN,
    PP__WIRE_KNOCK,
    PP__WIRE_JOINED
};

struct pp__wire_connect {
    uint32_t type;
    uint32_t reserved;
};

struct pp__wire_start {
    uint32_t type;
    uint32_t processor; /* on which its owner runs; a hint */
    struct pp__plan plan;
};

/* TERMINATE too. */
struct pp__wire_kill {
    uint32_t type;
    uint32_t reserved;
    uint64_t serial;
};

/* The zygote's word about its birth; the first one carries its pidfd, where there are pidfds. */
struct pp__wire_ready {
    int32_t
        error; /* 0, or the negative errno with which pp_launcher_create fails (-EAGAIN: a lock was held, fork again) */
    int32_t pid;
    uint32_t done; /* 0: it lives and goes on preparing itself */
    char text[452];
};

#define PP__INHERIT_MAX 64
#define PP__NONCE_SIZE 32
#define PP__PRELOAD_SIZE_MAX 65536 /* all paths together, with their NULs */

/* How every message begins that a fresh image finds at the descriptor of its marker. */
struct pp__wire_marked {
    uint32_t type;
    uint32_t reserved;
    char nonce[PP__NONCE_SIZE];
};

/* Followed by preload_count NUL-ended paths and the command_count words of a command, text_size bytes in all. Carries
 * the owner's pidfd, where there are pidfds. */
struct pp__wire_hello {
    uint32_t type;
    int32_t owner_pid;
    char nonce[PP__NONCE_SIZE];
    uint64_t owner_start; /* see pp__process_start */
    uint32_t inherit_count;
    int32_t inherit[PP__INHERIT_MAX];
    uint32_t preload_count;
    uint32_t command_count;
    uint32_t text_size;
    uint32_t spawn;   /* workers are fresh images */
    uint32_t invites; /* which the owner has started */
    uint32_t spares;  /* as in pp__zygote_setup */
    uint32_t reserved;
};

/* To a fresh image that is to be a child. */
struct pp__wire_plan {
    uint32_t type;
    uint32_t size; /* of this struct, in both builds */
    char nonce[PP__NONCE_SIZE];
    int32_t error;  /* a negative errno: it is refused, and nothing else counts */
    int32_t zygote; /* its parent, whom it follows; 0: it may have another one */
    uint32_t tied;  /* it keeps the line, and is killed when that ends */
    uint32_t inherit_count;
    int32_t inherit[PP__INHERIT_MAX];
    uint32_t close_all; /* as in pp__zygote_setup */
    uint32_t reserved;
    struct pp__plan plan;
};

struct pp__wire_knock {
    uint32_t type;
    uint32_t plan_size; /* of struct pp__wire_plan: another build's is refused */
    char nonce[PP__NONCE_SIZE];
};

struct pp__wire_joined {
    uint32_t type;
    int32_t error; /* 0, or the errno of the exec */
};

_Static_assert(offsetof(struct pp__wire_hello, nonce) == offsetof(struct pp__wire_marked, nonce) &&
                   offsetof(struct pp__wire_plan, nonce) == offsetof(struct pp__wire_marked, nonce),
               "a fresh image looks at the beginning first");

#define PP__MARKER "PROCPOOL_SPAWN" /* in the environment of a fresh image: "<control socket or line>:<nonce>" */
#define PP__INVITATION_MAX 144      /* bytes of such a text, its NUL included */
#define PP__INVITATION "PROCPOOL_INVITATION" /* in that of a command: "<name of an abstract socket>:<nonce>" */

#endif
