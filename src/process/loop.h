/* SPDX-License-Identifier: MIT */
/* The zygote's loop, for what is watched in it. Used by zygote.c, records.c and spawn.c only, in the zygote's one thread. */
#ifndef PP_PROCESS_LOOP_H
#define PP_PROCESS_LOOP_H

#include <stdint.h>

struct pp__source {
    void (*ready)(struct pp__source *source, uint32_t events);
    int fd;
};

/* As epoll_ctl. What can't be watched ends the zygote: one that is deaf on one side is worse than none. */
void pp__zygote_watch(struct pp__source *source, int operation, uint32_t events);

#endif
