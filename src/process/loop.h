/* SPDX-License-Identifier: MIT */
/* The zygote's loop, for what is watched in it. Used by zygote.c, records.c and spawn.c only, in the zygote's one
 * thread. */
#ifndef PP_PROCESS_LOOP_H
#define PP_PROCESS_LOOP_H

#include <stdbool.h>
#include <stdint.h>

struct pp__source {
    void (*ready)(struct pp__source *source, uint32_t events);
    int fd;
};

/* As epoll_ctl. False: it can't be watched, for want of memory or of watches (fs.epoll.max_user_watches); what is
 * watched already always can. */
bool pp__zygote_watch(struct pp__source *source, int operation, uint32_t events);

#endif
